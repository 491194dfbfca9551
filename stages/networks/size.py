"""How large a network is: filters, parameters and multiply-accumulates."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from ptflops import get_model_complexity_info
from torch import nn

from stages.networks.architectures import filters, scored_layers


@dataclass(frozen=True)
class Size:
    """The size of a network.

    Attributes
    ----------
    filters : int
        Output channels of all convolutions and linear layers but the logits.
    params : int
        Elements of all parameters.
    macs : int
        Multiply-accumulates of convolutions and linear layers for one image (ptflops, `aten` backend).
    """

    filters: int
    params: int
    macs: int


def measure(network: nn.Module, image_size: int) -> Size:
    """Count filters, parameters and multiply-accumulates for one image of `image_size` pixels squared.

    Nothing is computed: the network is copied to the meta device, where tensors have shapes and no values.
    """
    shapes = copy.deepcopy(network).to("meta", torch.float32)
    macs, params = get_model_complexity_info(
        shapes, (3, image_size, image_size), as_strings=False, print_per_layer_stat=False, backend="aten"
    )
    if macs is None:
        raise ValueError(f"ptflops cannot count a network of type {type(network).__name__}")
    return Size(sum(filters(layer) for layer in scored_layers(network).values()), int(params), int(macs))


def sparsity(modules: Iterable[nn.Module]) -> float:
    """Return the share of zeros among the weights of those modules that are convolutions or linear layers."""
    weights = [module.weight for module in modules if isinstance(module, nn.Conv2d | nn.Linear)]
    return 1 - sum(weight.count_nonzero().item() for weight in weights) / sum(weight.numel() for weight in weights)
