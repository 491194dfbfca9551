import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from crp.concepts import ChannelConcept
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stages.attribution import regions
from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import propagated
from stages.attribution.filters import from_class
from stages.networks.architectures import filters, scored_layers
from stages.pruning.criteria import CRITERIA, References, score

LABELS = torch.arange(6)


def references(images, seed=0, reduction="abs-sample"):
    bounds = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    halves = [(images[:3], LABELS[:3]), (images[3:], LABELS[3:])]
    region = regions.box(32, 0, 0, 0.5, 0.5)
    return References(iter(halves), bounds, reduction, seed, label=2, contrast=(1, 4), region=region)


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


EVERYWHERE = [name for name in CRITERIA if name != "crp-region"]  # in layers of any size


@pytest.mark.parametrize(
    ("name", "criterion"),
    [("resnet8", "crp-region"), *product(["resnet8", "resnet18", "vgg11_bn"], EVERYWHERE)],
)
def test_every_layer_is_scored_and_the_network_is_left_as_it_was(build, images, criterion, name):
    network = build(name).train()
    if (name, criterion) == ("vgg11_bn", "bn-scale"):
        network.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512 * 49, 10))  # nothing to score without a norm
    network.fc.weight.requires_grad_(False) if name == "resnet8" else None
    before = state(network)
    scores = score(criterion, network, references(images), "none")
    assert_same(before, state(network))
    assert {layer: len(values) for layer, values in scores.items()} == {
        layer: filters(module) for layer, module in scored_layers(network).items()
    }
    assert all(values.dtype == torch.float32 and values.isfinite().all() for values in scores.values())


@pytest.mark.parametrize("criterion", ["lrp", "activation", "gradient", "taylor", "integrated-gradients"])
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


def test_weight_l2_is_the_euclidean_norm_of_the_folded_filter(build, images):
    network = build("resnet8")
    expected = (folded(network).weight ** 2).sum((1, 2, 3)).sqrt()
    assert torch.allclose(score("weight-l2", network, references(images), "none")["conv1"], expected, rtol=1e-5)


def test_bn_scale_is_that_of_the_norm_behind_the_layer(build, images):
    network = build("resnet18")
    network.layer1[0].bn2.weight.data[3] = -7
    scores = score("bn-scale", network, references(images), "none")
    assert scores["layer1.0.conv2"][3] == 7
    assert torch.equal(scores["layer2.0.downsample.0"], network.layer2[0].downsample[1].weight.detach().abs())


def test_bn_scale_needs_a_norm_unless_the_layer_is_left_out(build, images):
    network = build("vgg11_bn")
    with pytest.raises(ValueError, match=r"batch norm after layer classifier.0; prune.layers may exclude it"):
        score("bn-scale", network, references(images), "none")
    names = [name for name in scored_layers(network) if name.startswith("features")]
    assert list(score("bn-scale", network, references(images), "none", names)) == names


def test_activation_is_that_of_the_function_behind_the_layer(build, images):
    """A residual block's second convolution has none: its own mean, of each image, counts."""
    network = build("resnet8")
    block = network.layer1[0]
    with torch.no_grad():
        hidden = network.relu(network.bn1(network.conv1(images)))
        first = block.bn1(block.conv1(hidden)).relu()
        second = block.bn2(block.conv2(first))
    scores = score("activation", network, references(images), "none")
    assert torch.allclose(scores["layer1.0.conv1"], first.mean((2, 3)).sum(0), rtol=1e-4)
    assert torch.allclose(scores["layer1.0.conv2"], second.mean((2, 3)).abs().sum(0), rtol=1e-4)


def test_integrated_gradients_sum_to_what_the_image_adds_to_the_logit(build, images):
    """Completeness (Dhamdhere et al., 2019, section 3), at every layer of a chain and at the cuts of a ResNet."""
    for name, layers in (("mlp", None), ("resnet8", ["conv1"])):
        network = build(name)
        black = torch.full((1, 3, 1, 1), -0.4)
        one = References([(images[:2], LABELS[:2])], (black, black + 1), "sum", 0, integration_steps=400)
        scores = score("integrated-gradients", network, one, "none", layers)
        with torch.no_grad():
            change = network(images[:2]) - network(black.expand(2, 3, 32, 32))
        change = change.gather(1, LABELS[:2, None])
        limit = 1e-2 * change.abs().sum()
        assert change.sum().abs() > 10 * limit
        assert all((values.sum() - change.sum()).abs() < limit for values in scores.values())


@pytest.mark.parametrize("criterion", [name for name in EVERYWHERE if name != "random"])
def test_a_layer_has_the_same_score_whichever_others_are_scored(build, images, criterion):
    network = build("resnet18")
    every = score(criterion, network, references(images), "none")
    some = score(criterion, network, references(images), "none", ["layer3.0.conv1", "layer4.1.conv2"])
    assert list(some) == ["layer3.0.conv1", "layer4.1.conv2"]
    for name, values in some.items():
        assert torch.allclose(values, every[name], rtol=1e-4, atol=1e-7)


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


def relevance_of(network, images, name):
    with propagated(canonical(network), [name], images, LABELS, from_class("true", "one"), ByGraph(Rules())) as found:
        return found.relevance[name]


def test_relevance_of_concepts_is_zennit_crps(build, images):
    network, name = build("vgg11_bn"), "features.8"
    share = ChannelConcept().attribute(relevance_of(network, images, name))

    def scores(criterion):
        return score(criterion, network, references(images), "none", [name])[name]

    assert torch.allclose(scores("crp"), share.abs().sum(0), atol=1e-6)
    assert torch.allclose(scores("crp-class"), share[2].abs(), atol=1e-6)
    assert torch.allclose(scores("crp-contrast"), share[1] - share[4], atol=1e-6)
    network.classifier[-1].bias.data -= 100  # what is relevant does not depend on the sign of a logit
    assert torch.allclose(scores("crp-contrast"), share[1] - share[4], atol=1e-6)
    assert scores("crp-contrast").min() < -1e-4 < 1e-4 < scores("crp-contrast").max()


def test_what_is_about_a_region_goes_first(build, images):
    network, name = build("resnet8"), "conv1"
    size = relevance_of(network, images, name).abs()  # 32 x 32, as the images
    corner = size[:, :, :16, :16].sum((2, 3)) - size.sum((2, 3)) / 4
    expected = -(corner / size.sum((1, 2, 3))[:, None]).sum(0)
    scores = score("crp-region", network, references(images), "none", [name, "layer1.0.conv1"])
    assert torch.allclose(scores[name], expected, atol=1e-5)
    assert scores[name].abs().max() > 1e-3
    for other, layer in (("mlp", "1"), ("resnet18", "layer4.0.conv1")):
        with pytest.raises(ValueError, match=r"crp-region: layer .* positions: too few; prune.layers may exclude it"):
            score("crp-region", build(other), references(images), "none", [layer])


def test_each_image_may_have_a_region_of_its_own(build, images):
    network, names = build("resnet8"), ["conv1", "layer1.0.conv1"]
    masks = torch.zeros(len(images), 32, 32)
    masks[:2, :16] = 1
    masks[2:, :, 24:] = 0.5
    masks[5] = 1.0  # all of the image: counts nothing

    def scores(region):
        return score("crp-region", network, replace(references(images), region=region), "none", names)

    size = relevance_of(network, images, "conv1").abs()  # 32 x 32, as the images
    size = size / size.sum((1, 2, 3), keepdim=True)
    inside, area = (size * masks[:, None]).sum((2, 3)), masks.mean((1, 2))[:, None]
    expected = -(inside - area * size.sum((2, 3)))[:5].sum(0)
    found = scores(masks)
    assert torch.allclose(found["conv1"], expected, atol=1e-5)
    assert expected.abs().max() > 1e-3
    box = references(images).region
    for name, values in scores(box.expand(len(images), -1, -1)).items():
        assert torch.equal(values, scores(box)[name])


def test_an_image_whose_region_a_layer_cannot_tell_counts_nothing(build, images):
    network, name = build("resnet18"), "layer3.1.conv1"  # 2 x 2
    masks = torch.zeros(len(images), 32, 32)
    masks[:, :16] = 1
    masks[0] = 0
    masks[0, 12:20, 12:20] = 1

    def scores(region):
        return score("crp-region", network, replace(references(images), region=region), "none", [name])[name]

    without = masks.clone()
    without[0] = 0
    assert torch.equal(scores(masks), scores(without))
    assert scores(masks).abs().max() > 1e-3
    with pytest.raises(ValueError, match="layer layer3.1.conv1 has 2 x 2 positions: too few"):
        scores(masks[:1].expand(len(images), -1, -1))


@pytest.mark.parametrize("criterion", ["crp-class", "crp-contrast", "crp-region"])
def test_what_is_not_said_is_not_guessed(build, images, criterion):
    with pytest.raises(ValueError, match=f"{criterion} needs"):
        score(criterion, build("resnet8"), References(iter([(images, LABELS)]), None, "sum", 0), "none")
