"""Composites of LRP rules, made of zennit's."""

import torch
from zennit.composites import LAYER_MAP_BASE, SpecialFirstLayerMapComposite
from zennit.rules import Epsilon, ZBox, ZPlus
from zennit.types import Convolution


def epsilon_plus_box(low: torch.Tensor, high: torch.Tensor) -> SpecialFirstLayerMapComposite:
    """Return epsilon in linear layers, z+ in convolutions and z^B in the first one.

    z+ and z^B are those of Montavon et al. (2017, arXiv 1512.02479), epsilon that of Bach et al. (2015,
    doi 10.1371/journal.pone.0130140); the combination is the usual one of Montavon et al. (2019, "Layer-wise
    relevance propagation: an overview").

    Parameters
    ----------
    low, high : tensor, 1 x 3 x H x W
        Smallest and largest value of each pixel.
    """
    return SpecialFirstLayerMapComposite(
        layer_map=[*LAYER_MAP_BASE, (Convolution, ZPlus()), (torch.nn.Linear, Epsilon())],
        first_map=[(Convolution, ZBox(low, high))],
    )
