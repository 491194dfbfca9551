"""How long a forward pass takes."""

from statistics import median

import torch
from torch import nn

ROUNDS = 5  # in which two networks are timed by turns


@torch.no_grad()
def measure(network: nn.Module, images: torch.Tensor, threads: int, seconds: float) -> float:
    """Return the median, in milliseconds, of forward passes that take `seconds` together.

    Parameters
    ----------
    images : tensor, N x 3 x H x W
        Normalised; on the network's device.
    """
    from torch.utils.benchmark import Timer

    timer = Timer("network(images)", globals={"network": network, "images": images}, num_threads=threads)
    timer.timeit(1)
    return timer.blocked_autorange(min_run_time=seconds).median * 1e3


def by_turns(
    network: nn.Module, other: nn.Module, images: torch.Tensor, threads: int, seconds: float
) -> list[tuple[float, float]]:
    """Return milliseconds of a network's forward pass and of another's, a pair a round.

    The two take turns, so that other load on the machine falls on both.

    Parameters
    ----------
    images : tensor, N x 3 x H x W
        Normalised; on the device of both networks.
    seconds : float
        Of measuring each network in each of the rounds.
    """
    return [
        (measure(network, images, threads, seconds), measure(other, images, threads, seconds)) for _ in range(ROUNDS)
    ]


def relative(network: nn.Module, other: nn.Module, images: torch.Tensor, threads: int, seconds: float) -> float:
    """Return the time of a network's forward pass as a share of another's: the median over the rounds of `by_turns`."""
    return median(ours / theirs for ours, theirs in by_turns(network, other, images, threads, seconds))
