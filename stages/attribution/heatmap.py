"""Heat maps: relevance at the pixels."""

import torch
from torch import nn
from zennit.core import Composite

from stages.attribution.canonical import canonical
from stages.attribution.filters import Start


def heat_maps(
    network: nn.Module, images: torch.Tensor, labels: torch.Tensor, start: Start, composite: Composite
) -> torch.Tensor:
    """Return the relevance of each pixel, summed over its colours.

    Parameters
    ----------
    network : nn.Module
        In eval mode; it is left as it was.
    images : tensor, N x 3 x H x W
        Normalised; on the network's device.
    labels : int tensor, N
        The classes that `start` may ask for.
    start : function of (logits, labels)
        See `stages.attribution.filters.from_class`.

    Returns
    -------
    tensor, N x H x W
        What was started is conserved, but for the epsilon of the rules.
    """
    form = canonical(network)
    pixels = images.detach().requires_grad_()
    with composite.context(form):
        logits = form(pixels)
        (relevance,) = torch.autograd.grad(logits, pixels, start(logits.detach(), labels).to(logits))
    return relevance.sum(1)
