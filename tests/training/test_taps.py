import itertools
import subprocess
import sys

import pytest
import torch
from torch import nn

from stages.errors import InputError
from stages.training import taps


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_a_convolution_of_what_meets_its_input_is_the_whole_one(size):
    torch.manual_seed(0)
    shorter = 0
    for kernel, stride, padding, dilation in itertools.product((1, 2, 3, 5, 7), (1, 2, 3), (0, 1, 2, 3), (1, 2)):
        if size + 2 * padding < dilation * (kernel - 1) + 1:
            continue
        layer = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups=2).double()
        x = torch.randn(3, 4, size, size + 1, dtype=torch.float64, requires_grad=True)
        wanted = layer(x)
        by_hand = torch.randn_like(wanted)
        gradients = torch.autograd.grad((wanted * by_hand).sum(), [x, *layer.parameters()])
        with taps.used_alone(layer):
            found = layer(x)
        assert torch.allclose(found, wanted, atol=1e-12)
        for one, other in zip(torch.autograd.grad((found * by_hand).sum(), [x, *layer.parameters()]), gradients,
                              strict=True):  # fmt: skip
            assert torch.allclose(one, other, atol=1e-12)
        first, end, less = taps.used(size, kernel, stride, padding, dilation)
        shorter += end - first < kernel
        assert 0 <= less <= padding
    assert shorter > 0


def test_on_one_pixel_the_middle_of_a_kernel_is_all_that_is_computed_with(monkeypatch):
    computed = []

    def record(x, weight, *others):
        computed.append(tuple(weight.shape))
        return torch.nn.functional.conv2d(x, weight, *others)

    monkeypatch.setattr(taps, "conv2d", record)
    layer = nn.Conv2d(2, 3, 3, padding=1)
    with taps.used_alone(layer):
        layer(torch.ones(1, 2, 1, 1))
        layer(torch.ones(1, 2, 8, 8))
    assert computed == [(3, 2, 1, 1), (3, 2, 3, 3)]


def test_a_network_is_left_as_it_was_also_where_something_failed(build):
    network = build("resnet8")
    before = [dict(vars(module)) for module in network.modules()]
    with pytest.raises(InputError), taps.used_alone(network):
        assert any("_conv_forward" in vars(module) for module in network.modules())
        raise InputError("it diverged")
    assert all(vars(module) == old for module, old in zip(network.modules(), before, strict=True))


def test_padding_that_is_no_zeros_is_left_alone():
    layer = nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate")
    x = torch.randn(1, 2, 1, 1)
    with taps.used_alone(layer):
        assert torch.equal(layer(x), nn.functional.conv2d(x.expand(1, 2, 3, 3), layer.weight, layer.bias))


STRIDED = """
import torch
from torch import nn
from stages.training import taps

torch.manual_seed(0)
layer = nn.Conv2d(4, 24, 1, 2, bias=False)
x, by_hand = torch.randn(32, 4, 16, 16), torch.randn(32, 24, 8, 8)
(wanted,) = torch.autograd.grad((layer(x) * by_hand).sum(), layer.parameters())
layer.to(memory_format=torch.channels_last)
for _ in range(20):
    with taps.used_alone(layer):
        answer = layer(x.contiguous(memory_format=torch.channels_last))
    (found,) = torch.autograd.grad((answer * by_hand).sum(), layer.parameters())
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-3), (found - wanted).abs().max()
"""


def test_the_gradient_of_few_channels_with_a_stride_is_right_in_both_memory_formats():
    """In a process of its own: without `taps`, oneDNN destroys its memory."""
    subprocess.run([sys.executable, "-c", STRIDED], check=True, timeout=120)
