import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.networks.architectures import filters, scored_layers
from stages.pruning.criteria import CRITERIA, References, score

LABELS = torch.arange(6)


def references(images, seed=0, reduction="abs-sample"):
    bounds = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    halves = [(images[:3], LABELS[:3]), (images[3:], LABELS[3:])]
    return References(iter(halves), bounds, reduction, seed)


def state(network):
    return {
        "tensors": {name: tensor.clone() for name, tensor in network.state_dict().items()},
        "objects": [id(parameter) for parameter in network.parameters()],
        "grad": [(parameter.requires_grad, parameter.grad) for parameter in network.parameters()],
        "modes": [module.training for module in network.modules()],
        "hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in network.modules()
        ],
        "attributes": [sorted(vars(module)) for module in network.modules()],
    }


def assert_same(before, after):
    for name, tensor in before.pop("tensors").items():
        assert torch.equal(tensor, after["tensors"][name]), name
    after.pop("tensors")
    assert before == after


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("name", ["resnet8", "resnet18", "vgg11_bn"])
def test_every_layer_is_scored_and_the_network_is_left_as_it_was(build, images, criterion, name):
    network = build(name).train()
    network.fc.weight.requires_grad_(False) if name == "resnet8" else None
    before = state(network)
    scores = score(criterion, network, references(images), "none")
    assert_same(before, state(network))
    assert {layer: len(values) for layer, values in scores.items()} == {
        layer: filters(module) for layer, module in scored_layers(network).items()
    }
    assert all(values.dtype == torch.float32 and values.isfinite().all() for values in scores.values())


@pytest.mark.parametrize("criterion", ["lrp", "gradient", "taylor"])
def test_the_network_is_left_as_it_was_when_scoring_raises_half_way(build, images, criterion):
    def batches():
        yield images[:3], LABELS[:3]
        raise RuntimeError("half-way")

    network = build("resnet18").train()
    before = state(network)
    with pytest.raises(RuntimeError, match="half-way"):
        score(criterion, network, References(batches(), (images.min(), images.max()), "sum", 0), "none")
    assert_same(before, state(network))


def folded(network):
    """Fold the stem's batch norm by torch's own function."""
    return fuse_conv_bn_eval(copy.deepcopy(network.conv1), copy.deepcopy(network.bn1))


def test_weight_is_the_l1_norm_of_the_folded_filter(build, images):
    network = build("resnet8")
    expected = folded(network).weight.abs().sum((1, 2, 3))
    assert torch.allclose(score("weight", network, references(images), "none")["conv1"], expected, rtol=1e-5)


@pytest.mark.parametrize("criterion", ["gradient", "taylor"])
def test_gradient_and_taylor_equal_a_slow_twin(build, images, criterion):
    """Image by image, with a gate of ones multiplied onto the stem's output after its batch norm."""
    network = build("resnet8")
    expected = torch.zeros(16)
    for image, label in zip(images, LABELS, strict=True):
        z = network.bn1(network.conv1(image[None])).detach().requires_grad_()
        hidden = network.layer3(network.layer2(network.layer1(z.relu())))
        loss = cross_entropy(network.fc(network.avgpool(hidden).flatten(1)), label[None])
        (slope,) = torch.autograd.grad(loss, z)
        value = slope if criterion == "gradient" else z * slope
        expected += value.mean((0, 2, 3)).abs().detach()
    assert torch.allclose(
        score(criterion, network, references(images), "none")["conv1"], expected, rtol=1e-3, atol=1e-7
    )


def test_lrp_sums_absolute_relevance_over_images(build, images):
    network = build("resnet8")
    whole = score("lrp", network, references(images), "none")["layer1.0.conv1"]
    parts = 0
    for number in range(6):
        bounds = references(images).bounds
        one = References([(images[number : number + 1], LABELS[number : number + 1])], bounds, "sum", 0)
        parts = parts + score("lrp", network, one, "none")["layer1.0.conv1"].abs()
    assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_random_follows_its_seed(build, images):
    network = build("resnet8")
    first, again, other = (score("random", network, references(images, seed), "none")["conv1"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("normalisation", "norm"),
    [("l1", lambda v: v.abs().sum()), ("l2", lambda v: v.norm()), ("mean", lambda v: v.mean())],
)
def test_normalisation_is_within_a_layer(build, images, normalisation, norm):
    scores = score("weight", build("resnet8"), references(images), normalisation)
    assert all(norm(values).item() == pytest.approx(1, rel=1e-5) for values in scores.values())


def test_scores_that_are_not_finite_are_an_error(build, images):
    network = build("resnet8")
    network.conv1.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite in layer"):
        score("weight", network, references(images), "none")
