"""How long forward passes of many networks take, so that the times can be compared."""

from collections.abc import Callable
from logging import Logger
from statistics import median

import torch
from torch import nn

from stages.networks.checkpoint import Architecture
from stages.networks.timing import measure
from stages.params.measuring import Latency

ROUNDS = 3


def in_rounds(
    networks: list[tuple[dict, Callable[[], tuple[nn.Module, Architecture]]]],
    settings: Latency,
    where: torch.device,
    log: Logger,
) -> list[dict]:
    """Return how long forward passes take, a row a network and batch size.

    All networks are timed one after another, and that in rounds: what slows the machine for a while falls on one round
    of a network, which the median leaves out.

    Parameters
    ----------
    networks : list of (dict, function)
        What a network is called, as columns; and what loads it, with its architecture, once a round.

    Returns
    -------
    list of dict
        These columns, then batch, threads, milliseconds (median of the rounds) and spread (largest less smallest).
    """
    settings = settings.model_copy(update={"seconds": settings.seconds / ROUNDS})
    rounds = [[] for _ in networks]
    for _ in range(ROUNDS):
        for (columns, loaded), found in zip(networks, rounds, strict=True):
            found.append(times(*loaded(), settings, where))
            words = ", ".join(f"{value:.2f} ms at batch {batch}" for batch, value in found[-1].items())
            log.info("%s: %s", ", ".join(f"{name} {value}" for name, value in columns.items()), words)
    rows = []
    for (columns, _), found in zip(networks, rounds, strict=True):
        for batch in settings.batch_sizes:
            measured = [of_round[batch] for of_round in found]
            middle, spread = round(median(measured), 4), round(max(measured) - min(measured), 4)
            rows.append(
                columns | {"batch": batch, "threads": settings.threads, "milliseconds": middle, "spread": spread}
            )
    return rows


def times(network: nn.Module, architecture: Architecture, settings: Latency, where: torch.device) -> dict[int, float]:
    """Return, by batch size, how many milliseconds a forward pass of black images takes."""
    network.to(where)
    found = {}
    for batch in settings.batch_sizes:
        images = torch.zeros(batch, 3, architecture.image_size, architecture.image_size, device=where)
        found[batch] = measure(network, architecture.normalise(images), settings.threads, settings.seconds)
    return found
