import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stages.networks.size import measure


def resnet18_macs(size, classes):
    """Count by hand: stem 7x7/2 and max-pool/2, four stages of two basic blocks, 64 to 512 channels."""
    total = (size // 2) ** 2 * 64 * 3 * 49
    side, width_in = size // 4, 64
    for stage, width in enumerate((64, 128, 256, 512)):
        side = side if stage == 0 else side // 2
        total += side**2 * (width * width_in * 9 + 3 * width * width * 9)
        total += 0 if stage == 0 else side**2 * width * width_in
        width_in = width
    return total + 512 * classes


def vgg16_macs(size, classes):
    """Count by hand: thirteen 3x3 convolutions in five stages, each halved by a max-pool, and three linear layers."""
    total, side, width_in = 0, size, 3
    for width, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            total += side**2 * width * width_in * 9
            width_in = width
        side //= 2
    return total + 512 * 49 * 4096 + 4096 * 4096 + 4096 * classes


@pytest.mark.parametrize(("name", "by_hand"), [("resnet18", resnet18_macs), ("vgg16", vgg16_macs)])
@pytest.mark.parametrize("size", [32, 64, 224])
def test_macs_are_those_of_the_formula(build, name, by_hand, size):
    assert measure(build(name), size).macs == pytest.approx(by_hand(size, 10), rel=5e-3)


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet50", "vgg11", "vgg16_bn"])
def test_macs_are_half_of_torchs_flops(build, name):
    network = build(name).to("meta")
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 64, 64, device="meta"))
    assert measure(network, 64).macs == pytest.approx(counter.get_total_flops() / 2, rel=5e-3)


@pytest.mark.parametrize(("name", "filters", "params"), [("resnet18", 4800, 11689512), ("resnet50", 26560, 25557032)])
def test_filters_and_parameters_are_the_published_ones(name, filters, params):
    from stages.networks.architectures import build

    with torch.device("meta"):
        network = build(name, "imagenet", 1000, 224)
    size = measure(network, 224)
    assert (size.filters, size.params) == (filters, params)


def test_measuring_leaves_the_network_alone(build):
    network = build("resnet8").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measure(network, 32)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules() if isinstance(module, nn.Module))
