import copy
import dataclasses
import itertools

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_post_hook

from stages.errors import InputError
from stages.networks.predict import predict
from stages.params.training import Balance, Distillation
from stages.training import loss as losses
from stages.training import taps
from stages.training.loop import fit


def alone(settings):
    return Fabric(accelerator="cpu", devices=1, precision=settings.precision, plugins=[LightningEnvironment()])


@pytest.fixture
def settings(params):
    def make(**changes):
        return params.train.model_copy(update={"epochs": 4, "batch_size": 32, "learning_rate": 0.05, **changes})

    return make


def train(network, architecture, prepared, settings, state_file, seed=0):
    network = copy.deepcopy(network)
    history = list(fit(network, architecture, prepared, settings, seed, alone(settings), state_file))
    return network, history


def equal(first, second):
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("changes", [{}, {"optimiser": "adamw", "learning_rate": 0.01}, {"optimiser": "lamb"}])
def test_a_network_learns_and_every_parameter_moves(build, architecture, prepared, settings, tmp_path, changes):
    network = build("resnet8")
    trained, history = train(network, architecture, prepared, settings(epochs=6, **changes), tmp_path / "state")
    assert history[-1]["train_loss"] < 0.7 * history[0]["train_loss"]
    assert history[-1]["val_accuracy"] > 0.3
    assert [row["epoch"] for row in history] == [1, 2, 3, 4, 5, 6]
    assert all(not torch.equal(a, b) for a, b in zip(network.parameters(), trained.parameters(), strict=True))
    assert not trained.training
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "best"},
        {"select": "last", "schedule": "cosine"},
        {"channels_last": True, "precision": "bf16-mixed"},
        {"select": "last", "ema": 0.9, "mixup": 0.2},
        {"optimiser": "adamw", "learning_rate": 1e-3},
        {"optimiser": "lamb", "learning_rate": 1e-2},
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(build, architecture, prepared, settings, tmp_path, changes):
    network = build("resnet8")
    architecture = dataclasses.replace(architecture, channels_last=changes.get("channels_last", False))
    whole, history = train(network, architecture, prepared, settings(**changes), tmp_path / "whole")

    changed = settings(**changes)
    killed = fit(copy.deepcopy(network), architecture, prepared, changed, 0, alone(changed), tmp_path / "state")
    list(itertools.islice(killed, 2))
    killed.close()
    assert (tmp_path / "state").exists()
    resumed = copy.deepcopy(network)
    again = fit(resumed, architecture, prepared, changed, 0, alone(changed), tmp_path / "state")
    torch.rand(17)  # the global generator is somewhere else than it was
    assert list(again) == history
    assert equal(resumed, whole)


def test_the_moving_average_of_the_weights_is_what_is_validated_and_kept(
    build, architecture, prepared, settings, tmp_path
):
    network, after_each_update = build("resnet8"), []
    hook = register_optimizer_step_post_hook(
        lambda optimiser, *_: after_each_update.append(
            [w.detach().clone() for w in optimiser.param_groups[0]["params"]]
        )
    )
    changes = settings(epochs=2, ema=0.9, select="last")
    trained, history = train(network, architecture, prepared, changes, tmp_path / "state")
    hook.remove()
    average = after_each_update[0]
    for weights in after_each_update[1:]:
        average = [0.9 * old + 0.1 * new for old, new in zip(average, weights, strict=True)]
    for expected, found in zip(average, trained.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(after_each_update[-1][0], next(trained.parameters()))
    logits, labels = predict(trained, architecture, prepared, prepared.rows("val"), 32)
    assert history[-1]["val_loss"] == pytest.approx(cross_entropy(logits, labels).item(), rel=1e-5)


def test_mixup_mixes_pairs_of_images_and_the_loss_of_their_labels(
    build, architecture, prepared, settings, tmp_path, monkeypatch
):
    still = settings(epochs=1).augment.model_copy(update={"flip": False, "shift": 0})
    network, drawn, seen, said = build("resnet8"), [], [], []
    batch = prepared.batch

    def spied_batch(rows):
        images, labels = batch(rows)
        if network.training:
            drawn.append((images.clone(), labels))
        return images, labels

    def spy(module, inputs, output):
        if module.training:
            seen.append(inputs[0].detach().clone())
            said.append(output.detach())

    monkeypatch.setattr(type(prepared), "batch", lambda self, rows: spied_batch(rows))
    hook = network.register_forward_hook(spy)
    changes = settings(epochs=1, augment=still, mixup=0.4, label_smoothing=0.0)
    history = list(fit(network, architecture, prepared, changes, 0, alone(changes), tmp_path / "state"))
    hook.remove()
    shares, costs = [], []
    for (images, labels), mixed, logits in zip(drawn, seen, said, strict=True):
        assert torch.equal(images[0], images[-1])
        every = architecture.normalise(images).flatten(1)  # the last, then all
        own, other = every[1:], every[:-1]
        share = ((mixed.flatten(1) - other) * (own - other)).sum() / (own - other).square().sum()
        torch.testing.assert_close(mixed.flatten(1), share * own + (1 - share) * other, rtol=1e-4, atol=1e-4)
        two = cross_entropy(logits, labels[1:]), cross_entropy(logits, labels[:-1])
        shares.append(share.item())
        costs.append((share * two[0] + (1 - share) * two[1]).item())
    assert len(set(shares)) == len(shares) and all(0 <= share <= 1 + 1e-6 for share in shares)
    assert history[0]["train_loss"] == pytest.approx(sum(costs) / len(costs), rel=1e-4)


def test_a_state_of_another_training_or_a_broken_one_is_not_used(build, architecture, prepared, settings, tmp_path):
    network = build("resnet8")
    whole, history = train(network, architecture, prepared, settings(), tmp_path / "state")
    killed = fit(copy.deepcopy(network), architecture, prepared, settings(), 1, alone(settings()), tmp_path / "state")
    next(killed)
    again, same = train(network, architecture, prepared, settings(), tmp_path / "state")
    assert same == history
    assert equal(again, whole)
    (tmp_path / "state").write_bytes(b"cut short")
    again, same = train(network, architecture, prepared, settings(), tmp_path / "state")
    assert equal(again, whole)


def test_the_seed_decides(build, architecture, prepared, settings, tmp_path):
    network = build("resnet8")
    first, second, other = (
        train(network, architecture, prepared, settings(epochs=1), tmp_path / "s", seed)[0] for seed in (0, 0, 1)
    )
    assert equal(first, second)
    assert not equal(first, other)


def test_the_best_epoch_is_kept_when_asked_for(build, architecture, prepared, params, settings, tmp_path):
    from stages.training.validation import validate

    settings = settings(
        epochs=25, batch_size=16, learning_rate=0.1, weight_decay=0.0,
        augment=params.train.augment.model_copy(update={"flip": False, "shift": 0}),
    )  # fmt: skip
    network = build("resnet8")
    best, history = train(network, architecture, prepared, settings, tmp_path / "s")
    lowest = min(row["val_loss"] for row in history)
    assert lowest < history[-1]["val_loss"] - 0.01  # it overfits in the end
    assert validate(best, architecture, prepared, 32)["val_loss"] == pytest.approx(lowest, abs=1e-6)
    balanced, history = train(
        network, architecture, prepared, settings.model_copy(update={"select": "best-balanced"}), tmp_path / "s"
    )
    highest = max(row["val_balanced_accuracy"] for row in history)
    assert highest > history[-1]["val_balanced_accuracy"]
    assert validate(balanced, architecture, prepared, 32)["val_balanced_accuracy"] == highest
    last, history = train(
        network, architecture, prepared, settings.model_copy(update={"select": "last", "epochs": 3}), tmp_path / "s"
    )
    assert validate(last, architecture, prepared, 32)["val_loss"] == pytest.approx(history[-1]["val_loss"], abs=1e-6)


def test_the_schedules_end_at_zero_and_peak_at_the_learning_rate(build, architecture, prepared, settings, tmp_path):
    for schedule in ("one-cycle", "cosine"):
        chosen = settings(schedule=schedule, epochs=6)
        rates = [
            row["learning_rate"] for row in train(build("resnet8"), architecture, prepared, chosen, tmp_path / "s")[1]
        ]
        assert rates[-1] < 5e-4
        assert 0.03 < max(rates) <= 0.05


def test_no_epochs_leave_the_network_as_it_is(build, architecture, prepared, settings, tmp_path):
    network = build("resnet8")
    same, history = train(network, architecture, prepared, settings(epochs=0), tmp_path / "s")
    assert equal(same, network)
    assert [row["epoch"] for row in history] == [0]
    assert history[0]["train_loss"] is None
    assert 0 <= history[0]["val_accuracy"] <= 1


def test_a_diverging_training_is_named(build, architecture, prepared, settings, tmp_path):
    with pytest.raises(InputError, match="learning_rate: 1e.06 let the training diverge in epoch 1"):
        train(build("resnet8"), architecture, prepared, settings(learning_rate=1e6), tmp_path / "s")


def test_what_was_drawn_and_weighed_is_in_the_history(build, architecture, prepared, params, settings, tmp_path):
    few = dataclasses.replace(prepared, index=prepared.index.drop(prepared.index.query("label == 3").index[3:]))
    counts = few.index.query("split == 'train'")["label"].value_counts().sort_index().tolist()
    names = few.classes
    for sampling, loss in ((1.0, 0.0), (dict.fromkeys(names, 1) | {names[3]: 7}, 0.5)):
        balance = Balance(sampling=sampling, loss=loss)
        row = train(build("resnet8"), architecture, few, settings(epochs=1, balance=balance), tmp_path / "s")[1][0]
        drawn = [row[f"drawn_{name}"] for name in names]
        if loss:
            times = [7 * count if label == 3 else count for label, count in enumerate(counts)]
            assert all(some <= all_of_them for some, all_of_them in zip(drawn, times, strict=True))
            assert sum(drawn) == sum(times) // 32 * 32 > sum(times) - 32
            weights = torch.tensor([row[f"loss_weight_{name}"] for name in names])
            assert torch.allclose(weights * torch.tensor(counts).sqrt(), weights[3] * counts[3] ** 0.5)
        else:
            assert sum(drawn) == sum(counts) // 32 * 32  # whole batches
            assert drawn[3] > 4 * counts[3]
            assert f"loss_weight_{names[3]}" not in row


def test_the_weights_of_classes_are_those_of_the_loss(build, architecture, prepared, settings, tmp_path, monkeypatch):
    seen = []

    def spy(logits, labels, weights=None, **others):
        seen.append(None if weights is None else weights.tolist())
        return cross_entropy(logits, labels, weights, **others)

    monkeypatch.setattr(losses, "cross_entropy", spy)
    balance = Balance(sampling=0.0, loss=1.0)
    ((row,),) = train(build("resnet8"), architecture, prepared, settings(epochs=1, balance=balance), tmp_path / "s")[1:]
    assert seen and all(each == [row[f"loss_weight_{name}"] for name in prepared.classes] for each in seen)
    train(build("resnet8"), architecture, prepared, settings(epochs=1), tmp_path / "s")
    assert seen[-1] is None


def test_a_teacher_is_followed_where_labels_say_something_else(build, architecture, prepared, settings, tmp_path):
    network = build("resnet8")
    teacher, _ = train(network, architecture, prepared, settings(epochs=6), tmp_path / "state")
    rows = prepared.rows("val")
    wrong = dataclasses.replace(prepared, index=prepared.index.assign(label=(prepared.index["label"] + 1) % 10))

    def agreement(distillation):
        student = copy.deepcopy(teacher)
        short = settings(epochs=2)
        list(fit(student, architecture, wrong, short, 1, alone(short), tmp_path / "s", teacher, distillation))
        answers = [predict(each, architecture, prepared, rows, 50)[0].argmax(1) for each in (teacher, student)]
        return (answers[0] == answers[1]).double().mean().item()

    assert agreement(Distillation(weight=1.0, temperature=4.0)) > agreement(None) + 0.2


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine"])
def test_rewinding_takes_the_learning_rates_of_the_last_epochs(
    build, architecture, prepared, settings, tmp_path, schedule
):
    whole = settings(epochs=4, schedule=schedule, learning_rate=0.03)
    _, history = train(build("resnet8"), architecture, prepared, whole, tmp_path / "state")
    rewinds = settings(epochs=2, schedule="rewind", learning_rate=0.5)
    network = build("resnet8")
    again = list(fit(network, architecture, prepared, rewinds, 0, alone(rewinds), tmp_path / "state", rewound=whole))
    expected = [row["learning_rate"] for row in history[2:]]
    assert [row["learning_rate"] for row in again] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert expected[0] > expected[1]


def test_all_convolutions_of_training_leave_out_what_meets_nothing(
    build, architecture, prepared, settings, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        taps, "_forward", lambda layer, *given: seen.append(layer) or layer.__class__._conv_forward(layer, *given)
    )
    network = build("resnet8")
    train(network, architecture, prepared, settings(epochs=1), tmp_path / "state")
    convolutions = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert len(set(seen)) == len(convolutions) > 1
