"""Convolutions without what meets nothing: weights that see padding alone, and pixels that no weight sees."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache, partial

import torch
from torch import nn
from torch.nn.functional import conv2d


@contextlib.contextmanager
def used_alone(network: nn.Module) -> Iterator[None]:
    """Let each convolution compute with those weights of its kernels alone that meet its input.

    A kernel of 3 x 3 on a map of one pixel, padded by one, meets it with the weight in its middle; the other eight are
    multiplied with zeros, and their gradient is zero. At 32 pixels the last stage of a ResNet has such maps, and most
    of its weights: `make bench-taps` measures what that costs. What is computed is the same, up to rounding; weight
    decay reaches all weights, as before.

    A kernel of one weight with a stride is given the pixels that it sees. With a stride, and fewer input channels than
    a register holds, oneDNN's gradient of such weights writes beyond its memory in the format channels_last
    (https://github.com/uxlfoundation/oneDNN/issues/6035, torch 2.14.1): pruned networks have such layers.
    """
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d) and _is_padded_with_zeros(each)]
    for convolution in convolutions:
        convolution._conv_forward = partial(_forward, convolution)
    try:
        yield
    finally:
        for convolution in convolutions:
            del convolution._conv_forward


@cache
def used(size: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, int, int]:
    """Return the first weight along one side of a kernel that meets its input, the one after the last, and the padding.

    Parameters
    ----------
    size : int
        Of the input along that side, at least so that there is an output.

    Returns
    -------
    int, int, int
        With that part of the kernel and that padding the output is as large; where it would not be, the whole kernel.
    """
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    meets = [
        tap
        for tap in range(kernel)
        if any(0 <= output * stride - padding + tap * dilation < size for output in range(outputs))
    ]
    if not meets:
        return 0, kernel, padding
    first, end = meets[0], meets[-1] + 1
    less = padding - first * dilation
    if less < 0 or (size + 2 * less - dilation * (end - first - 1) - 1) // stride + 1 != outputs:
        return 0, kernel, padding
    return first, end, less


def _forward(convolution: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    stride, padding, dilation = convolution.stride, convolution.padding, convolution.dilation
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    (top, bottom, down), (left, right, across) = (used(*side) for side in sides)
    if (bottom - top, right - left) != weight.shape[2:]:
        weight = weight[:, :, top:bottom, left:right]
    if weight.shape[2:] == (1, 1) and (down, across) == (0, 0):
        x, stride = x[:, :, :: stride[0], :: stride[1]], (1, 1)
    return conv2d(x, weight, bias, stride, (down, across), dilation, convolution.groups)


def _is_padded_with_zeros(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)
