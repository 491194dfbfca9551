import pytest
import torch

from stages.errors import InputError
from stages.training import balance

LABELS = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
CLASSES = list("abc")


@pytest.mark.parametrize(
    ("temperature", "shares"), [(0.0, [0.9, 0.09, 0.01]), (0.5, [30, 90**0.5, 10**0.5]), (1.0, [1, 1, 1])]
)
def test_a_temperature_gives_each_class_its_share_of_an_epoch(temperature, shares):
    torch.manual_seed(0)
    drawn = torch.stack([LABELS[balance.epoch(LABELS, CLASSES, temperature)].bincount(minlength=3) for _ in range(50)])
    assert (drawn.sum(1) == 1000).all()
    wanted = torch.tensor(shares) / sum(shares)
    assert torch.allclose(drawn.double().mean(0) / 1000, wanted.double(), atol=0.01)


def test_without_sampling_every_image_is_drawn_once_as_before():
    torch.manual_seed(0)
    order = balance.epoch(LABELS, CLASSES, 0.0)
    torch.manual_seed(0)
    assert torch.equal(order, torch.randperm(1000))


def test_multipliers_repeat_the_images_of_a_class():
    order = balance.epoch(LABELS, CLASSES, {"c": 50, "a": 1, "b": 5})
    times = order.bincount()
    assert times.tolist() == [1] * 900 + [5] * 90 + [50] * 10
    assert not torch.equal(order, order.sort().values)


def test_multipliers_of_other_classes_are_refused():
    for wrong in ({}, {"a": 1, "b": 5}, {"a": 1, "b": 5, "c": 1, "d": 2}):
        with pytest.raises(InputError, match="x.sampling: [acd]: there must be one number for each of a, b, c"):
            balance.refuse_unknown(wrong, CLASSES, "x.sampling")
    balance.refuse_unknown({"c": 1, "b": 1, "a": 1}, CLASSES, "x.sampling")
    balance.refuse_unknown(0.5, CLASSES, "x.sampling")


def test_loss_weights_are_one_on_average_and_balance_the_classes():
    assert balance.loss_weights(LABELS, 0.0) is None
    weights = balance.loss_weights(LABELS, 1.0)
    assert weights[LABELS].mean() == pytest.approx(1)
    assert (weights * LABELS.bincount()).tolist() == pytest.approx([1000 / 3] * 3)
