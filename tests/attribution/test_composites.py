"""Composites on whole networks: against zennit's where definitions coincide, and what they conserve."""

import copy
from dataclasses import replace

import pytest
import torch
import zennit
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import EpsilonGammaBox, EpsilonPlus, EpsilonPlusFlat
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from stages.attribution.canonical import canonical
from stages.attribution.composites import COMPOSITES, LAYER_RULES, ByGraph, Rules
from stages.attribution.filters import at_outputs, from_class
from stages.networks.architectures import build, filters, scored_layers
from tests.conftest import lively

LABELS = torch.arange(6) % 3
CONSERVING = ["resnet18", "resnet50", "vgg11", "vgg13_bn", "alexnet", "mobilenet_v2", "mlp"]
OURS_ALONE = ["densenet121", "efficientnet_b0", "convnext_tiny"]


def make(name):
    torch.manual_seed(0)
    network = lively(build(name, "imagenet", 10, 64))
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.bias.data.uniform_(-0.1, 0.1)
            module.weight.data += module.weight.std() / 2  # sums away from zero, where epsilon and LRP-0 are ill-posed
    for name, parameter in network.named_parameters():
        if name.endswith("layer_scale"):
            parameter.data.fill_(0.5)
    return network


def pixels(count=6, size=64):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def cuts(form):
    """Return the modules through which all relevance must pass: the first layer and the sums of residual blocks."""
    names = [name for name, module in form.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)][:1]
    return {name: form.get_submodule(name) for name in names + [n for n, _ in form.named_modules() if "sum_" in n]}


def at(network, layers, rules, images, bounds=None):
    """Return the relevance at the layers' outputs, started with one at the label."""
    composite = ByGraph(rules, bounds)
    batches = [(images, LABELS[: len(images)])]
    (values,) = at_outputs(network, layers, batches, from_class("true", "one"), lambda _, z: _same, composite)
    return values


def _same(values):
    return values


def off(values):
    """Return by how much the sum of each image's relevance misses one, at most."""
    return max((value.float().flatten(1).sum(1) - 1).abs().max().item() for value in values.values())


@pytest.mark.parametrize("name", CONSERVING + OURS_ALONE)
def test_relevance_is_conserved_with_biases_in_float32(name):
    form = canonical(make(name))
    for rules in (Rules(), Rules(linear="z"), Rules.named("alpha-beta")):
        assert off(at(form, cuts(form), rules, pixels(2))) < 1e-3


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("vgg") else name
        for name in CONSERVING + OURS_ALONE
    ],
)  # VGGs take a minute each where the processor has no bfloat16
def test_relevance_is_conserved_under_bfloat16(name):
    form = canonical(make(name))
    for rules in (Rules(), Rules(linear="zplus"), Rules.named("alpha-beta")):
        with torch.autocast("cpu", torch.bfloat16):
            values = at(form, cuts(form), rules, pixels(2))
        assert off(values) < (0.2 if (name, rules) == ("convnext_tiny", Rules()) else 2e-2)  # epsilon in one layer


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "alexnet", "mlp"])
def test_relevance_is_conserved_at_every_layer_of_a_chain(name):
    form = canonical(make(name))
    assert off(at(form, scored_layers(form), Rules(linear="z"), pixels(2))) < 1e-4


@pytest.mark.parametrize("name", CONSERVING + OURS_ALONE)
def test_every_scored_layer_gets_relevance(name):
    network = make(name)
    form = canonical(network)
    names = list(scored_layers(network))
    values = at(form, {name: form.get_submodule(name) for name in names}, Rules(), pixels(2))
    assert list(values) == names
    assert {n: v.shape[1] for n, v in values.items()} == {n: filters(m) for n, m in scored_layers(network).items()}
    assert all(value.isfinite().all() and value.abs().sum() > 0 for value in values.values())


def without_biases(network):
    """Let batch norms fold to no bias, and have no eps, which zennit 0.4.6 leaves behind when it merges."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var += module.eps
            module.eps = 0.0
            module.running_mean.zero_()
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    return network


THEIRS = {"epsilon-plus": EpsilonPlus, "epsilon-plus-flat": EpsilonPlusFlat, "epsilon-gamma-box": EpsilonGammaBox}


@pytest.mark.parametrize(
    ("name", "ours"),
    [*(("resnet18", ours) for ours in THEIRS), ("resnet50", "epsilon-plus"), ("vgg13_bn", "epsilon-plus")],
)
def test_a_composite_equals_zennits_where_there_are_no_biases(monkeypatch, name, ours):
    """Zennit adds 1e-6 to every denominator, which takes a share of what is small; here it adds less."""
    monkeypatch.setattr(zennit.rules, "stabilize", lambda z, epsilon=1e-12: zennit.core.stabilize(z, epsilon))
    network = without_biases(make(name).double())
    form = canonical(network)
    images = pixels(2).double()
    low, high = images.amin().view(1, 1, 1, 1), images.amax().view(1, 1, 1, 1)
    layers = scored_layers(network)
    found = {}
    for layer, module in layers.items():
        module.register_forward_hook(lambda module, inputs, output, layer=layer: keep(found, layer, output))
    images.requires_grad_()
    canonizers = [ResNetCanonizer() if name.startswith("resnet") else VGGCanonizer()]
    bounds = [low, high] if ours.endswith("box") else []
    with Gradient(network, THEIRS[ours](*bounds, canonizers=canonizers)) as attributor:
        _, at_pixels = attributor(images, torch.eye(10).double()[LABELS[:2]])
    rules = Rules(**COMPOSITES[ours])
    mine = at(form, {layer: form.get_submodule(layer) for layer in layers}, rules, images.detach(), (low, high))
    for layer, value in mine.items():
        expected = found[layer].grad
        assert (value - expected).norm() <= 1e-4 * expected.norm(), layer
    with ByGraph(rules, (low, high)).context(form):
        x = images.clone().requires_grad_()
        (heat_map,) = torch.autograd.grad(form(x), x, torch.eye(10).double()[LABELS[:2]])
    assert (heat_map - at_pixels).norm() <= 1e-4 * at_pixels.norm()


def keep(found, layer, output):
    output.retain_grad()
    found[layer] = output


def test_the_fast_composite_works_in_zennits_attributor_and_leaves_nothing_behind():
    form = canonical(make("resnet18"))
    before = [sorted(vars(module)) for module in form.modules()]
    with Gradient(form, ByGraph(Rules())) as attributor:
        _, heat_map = attributor(pixels(2), torch.eye(10)[LABELS[:2]])
    assert heat_map.flatten(1).sum(1).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert [sorted(vars(module)) for module in form.modules()] == before


def test_it_works_on_a_network_that_only_has_modules_with_zennits_canonizers():
    network = make("resnet18")
    state = copy.deepcopy(network.state_dict())
    composite = ByGraph(Rules())
    composite.canonizers = [ResNetCanonizer()]
    with Gradient(network, composite) as attributor:
        _, heat_map = attributor(pixels(2), torch.eye(10)[LABELS[:2]])
    assert heat_map.flatten(1).sum(1).tolist() == pytest.approx([1, 1], abs=5e-2)  # zennit's sum stabilises
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("rule", LAYER_RULES)
def test_a_network_that_cannot_be_traced_takes_the_rules_for_signed_inputs(rule):
    class Untraceable(nn.Sequential):
        def forward(self, x):
            return super().forward(x if x.sum() > -1e9 else -x)

    torch.manual_seed(0)
    network = Untraceable(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10))
    traceable = nn.Sequential(*copy.deepcopy(list(network)))
    low = torch.tensor(-3.0)
    heat_maps = []
    for each in (network, traceable):
        with Gradient(each.double(), ByGraph(Rules(**COMPOSITES[rule]), (low, -low))) as attributor:
            heat_maps.append(attributor(pixels(2, 6).double(), torch.eye(10).double()[LABELS[:2]])[1])
    assert torch.allclose(*heat_maps, rtol=1e-8)
    assert heat_maps[0].abs().sum() > 0


def test_channels_last_gives_the_same():
    form = canonical(make("resnet18"))
    contiguous = at(form, cuts(form), Rules(), pixels(2))
    last = at(form.to(memory_format=torch.channels_last), cuts(form), Rules(), pixels(2).contiguous(
        memory_format=torch.channels_last))  # fmt: skip
    for name, value in contiguous.items():
        assert (value - last[name]).norm() <= 1e-4 * value.norm()


def test_groups_take_their_own_rules():
    """The rules of low, middle, high and linear layers, each changed alone, change what is below them and no more."""
    form = canonical(make("vgg11"))
    layers = scored_layers(form)
    names = list(layers)
    plain = Rules(*["zplus"] * 4)
    base = at(form, layers, plain, pixels(2))
    changed = {
        group: [n for n, v in at(form, layers, replace(plain, **{group: "gamma"}), pixels(2)).items()
                if not torch.allclose(v, base[n], rtol=1e-4, atol=1e-9)]
        for group in ("low", "middle", "high", "linear")
    }  # fmt: skip
    # 8 convolutions in thirds of 3, 3 and 2, then linear layers: outputs below the highest changed one differ
    assert changed == {"low": names[:2], "middle": names[:5], "high": names[:7], "linear": names}


def test_a_layer_without_a_rule_is_named():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="no LRP rule is known for layer 1, a Softmax"):
        ByGraph(Rules()).register(network)
    assert all("forward" not in vars(module) for module in network.modules())


def test_the_box_rule_needs_bounds():
    with pytest.raises(ValueError, match="needs the bounds"):
        ByGraph(Rules(first="box")).register(canonical(make("mlp")))
