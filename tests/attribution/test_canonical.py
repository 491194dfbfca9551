import copy

import pytest
import torch
from torch import nn
from torchvision import models

from stages.attribution.canonical import canonical, facts
from stages.attribution.layers import Gate, Scale, Sum
from stages.networks.architectures import scored_layers
from tests.conftest import lively

OTHERS = ["alexnet", "densenet121", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"]


def torchvision_network(name):
    torch.manual_seed(0)
    return lively(getattr(models, name)(num_classes=10))


@pytest.fixture
def large():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50", "vgg11_bn", "vgg11"])
def test_the_canonical_form_computes_the_same(build, images, name):
    network = build(name).double()
    logits = network(images.double())
    assert torch.allclose(canonical(network)(images.double()), logits, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_the_canonical_form_of_torchvisions_other_networks_computes_the_same(large, name):
    network = torchvision_network(name).double()
    logits = network(large.double())
    assert torch.allclose(canonical(network)(large.double()), logits, rtol=1e-10, atol=1e-12)


def test_layers_keep_their_names_and_the_network_its_state(build):
    network = build("resnet18").train()
    state = copy.deepcopy(network.state_dict())
    form = canonical(network)
    assert list(scored_layers(form)) == list(scored_layers(network))
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(("name", "left"), [("resnet18", 0), ("vgg11_bn", 0), ("mobilenet_v2", 0), ("densenet121", 62)])
def test_batch_norms_are_folded_where_a_layer_is_right_before_them(name, left):
    """DenseNet normalises concatenations; those of its 121 that cannot be folded are elementwise and stay."""
    form = canonical(torchvision_network(name))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in form.modules()) == left


def test_operations_become_modules():
    kinds = [type(module) for module in canonical(torchvision_network("efficientnet_b0")).modules()]
    assert (kinds.count(Sum), kinds.count(Gate)) == (9, 16)  # residual blocks, squeeze-and-excitation
    kinds = [type(module) for module in canonical(torchvision_network("convnext_tiny")).modules()]
    assert (kinds.count(Sum), kinds.count(Scale)) == (18, 18)


@pytest.mark.parametrize("name", ["resnet18", "vgg11", *OTHERS])
def test_inputs_said_to_be_nonnegative_are(large, name):
    form = canonical(torchvision_network(name))
    known = facts(form).nonnegative
    smallest = {}
    for layer, module in form.named_modules():
        module.register_forward_pre_hook(lambda _, x, layer=layer: smallest.update({layer: min(v.min() for v in x)}))
    form(large)
    assert all(smallest[layer] >= 0 for layer in known)
    convolutions = [layer for layer in scored_layers(form) if layer not in known]
    if name in ("resnet18", "vgg11", "alexnet", "densenet121"):
        assert convolutions == list(scored_layers(form))[:1]  # all but the first follow a ReLU
    assert all(smallest[layer] < 0 for layer in convolutions)


def test_a_module_used_on_signed_values_too_is_not_said_to_be_nonnegative():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.layer(self.layer(x).relu())

    assert facts(Twice()).nonnegative == set()


@pytest.mark.parametrize(
    "operation", [lambda a: a * -1, lambda a: a + -3, lambda a: torch.add(a, a, alpha=-1), lambda a: a - a]
)
def test_constants_and_factors_are_not_said_to_keep_values_nonnegative(operation):
    class Arithmetic(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            return self.layer(operation(torch.relu(x)))

    assert facts(Arithmetic()).nonnegative == set()
    with pytest.raises(ValueError, match="no rule is known"):
        canonical(Arithmetic())


def test_an_operation_without_a_rule_is_named():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.cumsum(x, 1)

    with pytest.raises(ValueError, match="no rule is known for cumsum"):
        canonical(Odd())


def test_a_network_whose_graph_depends_on_its_input_is_refused():
    class Untraceable(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match="Untraceable has no canonical form"):
        canonical(Untraceable())
