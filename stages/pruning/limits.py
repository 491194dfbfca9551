"""What ends a chain of pruning steps before its steps run out: a metric that fell too far, a size or time reached."""

from dataclasses import dataclass

import torch
from torch import nn

from stages.datasets.store import Prepared
from stages.networks import timing
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.params.pruning import Guard, Until
from stages.reporting.metrics import classification

SECONDS = 0.2  # of measuring a network at a time


@dataclass(frozen=True)
class Verdict:
    """What a limit found: the value of the unpruned network, that of this one, and whether the chain ends."""

    unpruned: float
    now: float
    reached: bool


def guarded(
    guard: Guard, network: nn.Module, unpruned: nn.Module, architecture: Architecture, data: Prepared, batch_size: int
) -> Verdict:
    """Compare a network with the unpruned one on the validation split; reached: more than `max_drop` was lost.

    Parameters
    ----------
    network, unpruned : nn.Module
        In eval mode, on one device.
    """
    values = []
    for each in (unpruned, network):
        logits, labels = predict(each, architecture, data, data.rows("val"), batch_size)
        probabilities = logits.double().softmax(1).numpy()
        values.append(classification(labels.numpy(), probabilities, data.classes)[guard.metric])
    return Verdict(*values, reached=values[0] - values[1] > guard.max_drop + 1e-9)


def time_left(
    until: Until, network: nn.Module, unpruned: nn.Module, architecture: Architecture, threads: int
) -> Verdict:
    """Compare the times of a forward pass; reached: at most the share `until.left` of the time is left."""
    where = next(network.parameters()).device
    size = architecture.image_size
    images = architecture.normalise(torch.zeros(until.batch_size, 3, size, size, device=where))
    share = timing.relative(network, unpruned, images, threads, SECONDS)
    return Verdict(1.0, share, reached=share <= until.left)
