"""Tuning a network with so few images that its batch norms must stay as they are."""

import math

import numpy as np
import torch
from torch import nn

from stages.datasets.store import Prepared
from stages.networks.checkpoint import Architecture
from stages.params.measuring import FewShot
from stages.params.training import Augment
from stages.training import taps
from stages.training.augment import augment
from stages.training.loss import loss

LARGEST = 1.0  # norm of a gradient: right after a cut a single image may have a huge one


def tune(
    network: nn.Module,
    teacher: nn.Module,
    architecture: Architecture,
    data: Prepared,
    rows: np.ndarray,
    settings: FewShot,
    changes: Augment,
    seed: int,
) -> None:
    """Update the weights `settings.updates` times, in place, by stochastic gradient descent with Nesterov momentum.

    Batch norms keep their statistics: those of a batch of few images would be noise. The learning rate falls to zero
    along half a cosine; gradients of a norm above 1 are shortened to it. Each update takes `batch_size` of the images
    (all, where there are fewer), augmented.

    Parameters
    ----------
    network, teacher : nn.Module
        In evaluation mode, on one device; they stay so. The teacher is asked with `settings.distillation`.
    rows : int array
        Positions of the few images.

    Raises
    ------
    ValueError
        The loss is not finite: the learning rate is too high.
    """
    torch.manual_seed(seed)
    optimiser = torch.optim.SGD(network.parameters(), settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, settings.updates))
    device = next(network.parameters()).device
    order = rows[:0]
    size = min(settings.batch_size, len(rows))
    with taps.used_alone(network):
        for _ in range(settings.updates):
            if len(order) < size:
                order = rows[torch.randperm(len(rows)).numpy()]
            images, labels = (part.to(device) for part in data.batch(order[:size]))
            order = order[size:]
            batch = architecture.normalise(augment(images, changes))
            with torch.no_grad():
                taught = teacher(batch) if settings.distillation else None
            cost = loss(network(batch), labels, taught, settings.distillation)
            if not math.isfinite(cost.item()):
                raise ValueError(f"few_shot.learning_rate: {settings.learning_rate:g} let the tuning diverge; lower it")
            optimiser.zero_grad()
            cost.backward()
            nn.utils.clip_grad_norm_(network.parameters(), LARGEST)
            optimiser.step()
            schedule.step()
