import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d
from zennit.attribution import Gradient

from stages.attribution.canonical import canonical
from stages.attribution.composites import epsilon_plus_box
from stages.attribution.filters import loss_gradients, reduce, relevance
from stages.networks.architectures import scored_layers


def without_bias(network):
    network = canonical(network)
    for module in network.modules():
        if getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
    return network


def box(images):
    return images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn"])
def test_relevance_is_conserved_in_every_layer_of_a_chain_without_biases(build, images, name):
    network = without_bias(build(name))
    labels = torch.arange(6)
    (values,) = relevance(network, scored_layers(network), [(images, labels)], box(images))
    for name, value in values.items():
        assert value.flatten(1).sum(1) == pytest.approx(torch.ones(6).numpy(), abs=2e-3), name


def test_relevance_of_the_branches_of_a_residual_block_adds_up(build, images):
    """To 5 %: where the branches cancel, zennit's stabiliser takes a share."""
    network = without_bias(build("resnet8"))
    (values,) = relevance(network, scored_layers(network), [(images, torch.arange(6))], box(images))
    total = {name: value.flatten(1).sum(1) for name, value in values.items()}
    assert total["conv1"] == pytest.approx(torch.ones(6).numpy(), abs=5e-2)
    for stage in ("layer2", "layer3"):
        both = total[f"{stage}.0.conv2"] + total[f"{stage}.0.downsample.0"]
        assert both == pytest.approx(torch.ones(6).numpy(), abs=5e-2)
        assert (total[f"{stage}.0.conv2"] - 1).abs().min() > 0.1  # neither branch has it all


def test_relevance_equals_a_slow_twin_written_from_the_rules():
    """conv - relu - conv - relu - sum pool - linear; z+ and epsilon from Montavon et al. (2019), table 1."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(5 * 4 * 4, 3),
    ).double().eval()  # fmt: skip
    images, labels = torch.rand(2, 3, 8, 8).double(), torch.tensor([2, 0])
    layers = {"0": network[0], "2": network[2]}
    low, high = torch.zeros(1, 3, 1, 1).double(), torch.ones(1, 3, 1, 1).double()
    (values,) = relevance(network, layers, [(images, labels)], (low, high))

    activations = [images]
    for module in network:
        activations.append(module(activations[-1]))
    start = torch.eye(3).double()[labels]
    hidden, z = activations[5], activations[6]
    share = start / (z + 1e-6 * torch.where(z >= 0, 1.0, -1.0))
    at_second = (hidden * (share @ network[5].weight)).view_as(activations[4])
    positive, bias = network[2].weight.clamp(min=0), network[2].bias.clamp(min=0)
    z = conv2d(activations[2], positive, bias, stride=2, padding=1)
    share = at_second / (z + 1e-6)
    back = conv_transpose2d(share, positive, stride=2, padding=1, output_padding=1)
    at_first = activations[2] * back
    assert torch.allclose(values["2"], at_second, rtol=1e-6, atol=1e-9)
    assert torch.allclose(values["0"], at_first, rtol=1e-4, atol=1e-7)


def test_gradients_are_those_of_each_images_own_loss(build, images):
    network = canonical(build("resnet8"))
    layers = scored_layers(network)
    labels = torch.arange(6)
    (together,) = loss_gradients(network, layers, [(images.clone(), labels)])
    for number in (0, 4):
        one = images[number : number + 1].clone()
        (alone,) = loss_gradients(network, layers, [(one, labels[number : number + 1])])
        for name, (z, slope) in alone.items():
            assert torch.allclose(z[0], together[name][0][number], atol=1e-5)
            assert torch.allclose(slope[0], together[name][1][number], atol=1e-5)


def test_reductions_are_what_they_say():
    values = torch.tensor([[[[1.0, -2.0]], [[3.0, 3.0]]], [[[4.0, 0.0]], [[-9.0, 1.0]]]])  # 2 x 2 x 1 x 2
    assert reduce(values, "sum").tolist() == [3, -2]
    assert reduce(values, "abs-sample").tolist() == [5, 14]
    assert reduce(values, "abs-pixel").tolist() == [7, 16]
    assert reduce(values, "abs-sample", "mean").tolist() == [2.5, 7]
    assert reduce(torch.tensor([[1.0, -2.0], [3.0, -4.0]]), "abs-sample").tolist() == [4, 6]


def test_the_first_convolution_spreads_relevance_by_the_box_rule():
    """z^B (Montavon et al., 2017, table 1). It decides heat maps; filters are scored at outputs, so no score."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 36, 2)).double().eval()
    images, labels = torch.rand(2, 3, 8, 8).double(), torch.tensor([0, 1])
    low, high = torch.zeros(1, 3, 1, 1).double() - 1, torch.ones(1, 3, 1, 1).double() * 2
    composite = epsilon_plus_box(low.expand_as(images[:1]), high.expand_as(images[:1]))
    with Gradient(network, composite) as attributor:
        _, found = attributor(images, torch.eye(2).double()[labels])
    (values,) = relevance(network, {"0": network[0]}, [(images, labels)], (low, high))
    weight = network[0].weight
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    bottom, top = low.expand_as(images), high.expand_as(images)
    z = conv2d(images, weight) - conv2d(bottom, positive) - conv2d(top, negative)
    share = values["0"] / z
    expected = images * conv_transpose2d(share, weight)
    expected = expected - bottom * conv_transpose2d(share, positive) - top * conv_transpose2d(share, negative)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)
