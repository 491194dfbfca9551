"""How long forward passes of many networks take, so that the times can be compared."""

from collections.abc import Callable
from logging import Logger
from statistics import median

import torch
from torch import nn

from stages.networks.checkpoint import Architecture
from stages.networks.timing import in_words, times
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
            log.info("%s: %s", ", ".join(f"{name} {value}" for name, value in columns.items()), in_words(found[-1]))
    rows = []
    for (columns, _), found in zip(networks, rounds, strict=True):
        for of_batch in zip(*found, strict=True):
            measured = [row["milliseconds"] for row in of_batch]
            known = {"batch": of_batch[0]["batch"], "threads": of_batch[0]["threads"]}
            spread = round(max(measured) - min(measured), 4)
            rows.append(columns | known | {"milliseconds": median(measured), "spread": spread})
    return rows
