"""Batch-norm statistics of a network that has just lost channels."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from stages.datasets.store import Prepared
from stages.networks.checkpoint import Architecture


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[torch.Tensor], prior: float = 0.0) -> float:
    """Re-estimate running means and variances, in place, as plain averages over the batches.

    Only batch norms work in training mode; weights do not change.

    Parameters
    ----------
    batches : iterable of tensors
        Normalised images, N x 3 x H x W, N > 1.
    prior : float
        How many images the statistics from before count as: they are mixed with the new ones, m images, as
        (prior * before + m * new) / (prior + m). Few images alone would give noise (after Schneider et al., 2020,
        arXiv 2006.16971, equation 2; there the pass itself uses the mixture, here the new ones are those of plain
        batches, as without a prior).

    Returns
    -------
    float
        Largest change of a running mean, in running standard deviations before.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [(norm.running_mean.clone(), norm.running_var.clone(), norm.momentum) for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    seen = 0
    for images in batches:
        network(images)
        seen += len(images)
    network.eval()
    largest = 0.0
    known = prior / (prior + seen)
    for norm, (mean, variance, momentum) in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.running_mean.lerp_(mean, known)
        norm.running_var.lerp_(variance, known)
        shift = (norm.running_mean - mean).abs() / (variance + norm.eps).sqrt()
        largest = max(largest, shift.max().item())
    return largest


def recalibrate_on_some(
    network: nn.Module, architecture: Architecture, data: Prepared, count: int, batch_size: int, seed: int
) -> dict[str, float]:
    """Recalibrate on training images that `seed` draws, about `count` of them: whole batches, which weigh the same.

    Returns
    -------
    dict
        images (0 where `count` is, and nothing is done), and largest_shift as `recalibrate` returns it.
    """
    if not count:
        return {"images": 0, "largest_shift": 0.0}
    rows = np.random.default_rng(seed).permutation(data.rows("train"))[:count]
    whole = rows[: max(batch_size, len(rows) // batch_size * batch_size)]
    where = next(network.parameters()).device
    batches = (architecture.normalise(images.to(where)) for images, _ in data.batches(whole, batch_size))
    return {"images": len(whole), "largest_shift": recalibrate(network, batches)}
