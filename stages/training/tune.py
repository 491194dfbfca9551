"""Tuning a network with so few images that its batch norms must stay as they are."""

import math

import torch
from torch import nn

from stages.networks.checkpoint import Architecture
from stages.params import Augment, FewShot
from stages.training.augment import augment
from stages.training.loss import loss

LARGEST = 1.0  # norm of a gradient: right after a cut a single image may have a huge one


def tune(
    network: nn.Module,
    teacher: nn.Module,
    architecture: Architecture,
    images: torch.Tensor,
    labels: torch.Tensor,
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
    images : tensor, N x 3 x H x W
        In [0, 1], on that device.
    labels : int tensor, N

    Raises
    ------
    ValueError
        The loss is not finite: the learning rate is too high.
    """
    torch.manual_seed(seed)
    optimiser = torch.optim.SGD(network.parameters(), settings.learning_rate, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, settings.updates))
    order: list[int] = []
    size = min(settings.batch_size, len(images))
    for _ in range(settings.updates):
        if len(order) < size:
            order = torch.randperm(len(images)).tolist()
        chosen, order = order[:size], order[size:]
        batch = architecture.normalise(augment(images[chosen], changes))
        with torch.no_grad():
            taught = teacher(batch) if settings.distillation else None
        cost = loss(network(batch), labels[chosen], taught, settings.distillation)
        if not math.isfinite(cost.item()):
            raise ValueError(f"few_shot.learning_rate: {settings.learning_rate:g} let the tuning diverge; lower it")
        optimiser.zero_grad()
        cost.backward()
        nn.utils.clip_grad_norm_(network.parameters(), LARGEST)
        optimiser.step()
        schedule.step()
