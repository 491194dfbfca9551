"""Running a network over a split."""

import numpy as np
import torch
from torch import nn

from stages.datasets.store import Prepared
from stages.networks.checkpoint import Architecture


@torch.no_grad()
def predict(
    network: nn.Module, architecture: Architecture, data: Prepared, rows: np.ndarray, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits (float32, N x classes) and labels (N) of images, on the CPU; the network must be in eval mode."""
    device = next(network.parameters()).device
    logits, labels = [], []
    for images, truth in data.batches(rows, batch_size):
        logits.append(network(architecture.normalise(images.to(device))).float().cpu())
        labels.append(truth)
    return torch.cat(logits), torch.cat(labels)
