"""Running a network over a split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from stages.datasets.store import Prepared
from stages.networks import sharing
from stages.networks.checkpoint import Architecture

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@torch.no_grad()
def predict(
    network: nn.Module,
    architecture: Architecture,
    data: Prepared,
    rows: np.ndarray,
    batch_size: int,
    fabric: Fabric | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (float32, N x classes) and labels (N) of images, on the CPU; the network must be in eval mode.

    The processes of `fabric`, if any, take a part of the images each, and all return the whole.
    """
    device = next(network.parameters()).device
    mine = sharing.part(len(rows), fabric)
    logits = torch.zeros(len(rows), len(architecture.classes))
    found = [network(architecture.normalise(images.to(device))) for images, _ in data.batches(rows[mine], batch_size)]
    if found:
        logits[mine] = torch.cat([each.float().cpu() for each in found])
    return sharing.total(logits, fabric), data.labels(rows)
