"""How long a forward pass takes."""

from statistics import median

import torch
from torch import nn

from stages.networks.checkpoint import Architecture
from stages.params.measuring import Latency

ROUNDS = 5  # in which two networks are timed by turns


@torch.no_grad()
def measure(network: nn.Module, images: torch.Tensor, threads: int, seconds: float) -> tuple[float, float]:
    """Return the median and the interquartile range, in milliseconds, of forward passes that take `seconds` together.

    Parameters
    ----------
    images : tensor, N x 3 x H x W
        Normalised; on the network's device.
    """
    from torch.utils.benchmark import Timer

    timer = Timer("network(images)", globals={"network": network, "images": images}, num_threads=threads)
    timer.timeit(1)
    times = timer.blocked_autorange(min_run_time=seconds)
    return times.median * 1e3, times.iqr * 1e3


def times(network: nn.Module, architecture: Architecture, settings: Latency, where: torch.device) -> list[dict]:
    """Return, for each batch size, how long a forward pass of black images takes, as columns of a table."""
    network.to(where)
    rows = []
    for batch in settings.batch_sizes:
        images = torch.zeros(batch, 3, architecture.image_size, architecture.image_size, device=where)
        middle, spread = measure(network, architecture.normalise(images), settings.threads, settings.seconds)
        rows.append(
            {"batch": batch, "threads": settings.threads, "milliseconds": round(middle, 4), "spread": round(spread, 4)}
        )
    return rows


def in_words(rows: list[dict]) -> str:
    """Return what `times` found in words."""
    return ", ".join(f"{row['milliseconds']:.2f} ms at batch {row['batch']}" for row in rows)


def relative(network: nn.Module, other: nn.Module, images: torch.Tensor, threads: int, seconds: float) -> float:
    """Return the time of a network's forward pass as a share of another's.

    The two take turns, so that other load on the machine cancels.

    Parameters
    ----------
    images : tensor, N x 3 x H x W
        Normalised; on the device of both networks.
    seconds : float
        Of measuring each network in each of the rounds, of whose ratios the median counts.
    """
    return median(
        measure(network, images, threads, seconds)[0] / measure(other, images, threads, seconds)[0]
        for _ in range(ROUNDS)
    )
