"""Which channels to remove: the least relevant, until the budget is met."""

import copy
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from stages.errors import InputError
from stages.networks.size import Size, measure
from stages.pruning.surgery import Group, remove

COUPLED = {
    "sum": lambda scores: scores.sum(0),
    "mean": lambda scores: scores.mean(0),
    "max": lambda scores: scores.amax(0),
    "first": lambda scores: scores[0],
}


@dataclass(frozen=True)
class Candidate:
    """A channel of a group that may be removed, with its score."""

    group: Group
    channel: int
    score: float


def rank(groups: list[Group], scores: dict[str, torch.Tensor], coupled: str, min_channels: int) -> list[Candidate]:
    """Return what may be removed, least relevant first; ties go by the network's order.

    The score of a channel is taken together over the layers of its group. The `min_channels` best of each group
    are no candidates.

    Parameters
    ----------
    scores : dict
        Layer name to one score a channel.
    coupled : {"sum", "mean", "max", "first"}
        Over the layers of a group. `first` takes the first layer alone: what random scores need, because a sum of
        several draws would be larger than one draw.
    """
    candidates = []
    for group in groups:
        members = torch.stack([scores[name][indices] for name, indices in group.layers.items()])
        together = COUPLED[coupled](members.double())
        ascending = torch.argsort(together, stable=True).tolist()
        removable = ascending[: max(0, group.channels - min_channels)]
        candidates += [Candidate(group, channel, together[channel].item()) for channel in sorted(removable)]
    return sorted(candidates, key=lambda candidate: candidate.score)


def by_group(candidates: list[Candidate]) -> dict[str, list[int]]:
    """Return the candidates' channels by the root of their group, as `surgery.remove` takes them."""
    channels: dict[str, list[int]] = {}
    for candidate in candidates:
        channels.setdefault(candidate.group.root, []).append(candidate.channel)
    return channels


def size_without(shapes: nn.Module, image_size: int, candidates: list[Candidate]) -> Size:
    """Return the exact size after removal, from the same surgery on a copy of `shapes` (on the meta device)."""
    smaller = copy.deepcopy(shapes)
    remove(smaller, image_size, by_group(candidates))
    return measure(smaller, image_size)


def rounded(candidates: list[Candidate], round_to: int) -> list[Candidate]:
    """Return the candidates less the best of each group, so that what is left of a group is a multiple of `round_to`.

    Processors compute some numbers of channels as fast as the next multiple of 8, 16 or 32. A group of which too few
    candidates are there for that keeps all.

    Parameters
    ----------
    candidates : list of Candidate
        Least relevant first.
    """
    if round_to == 1:
        return candidates
    spared: dict[str, int] = {}
    for root, channels in by_group(candidates).items():
        group = next(candidate.group for candidate in candidates if candidate.group.root == root)
        spared[root] = min(len(channels), -(group.channels - len(channels)) % round_to)
    kept = []
    for candidate in reversed(candidates):
        if spared[candidate.group.root] > 0:
            spared[candidate.group.root] -= 1
        else:
            kept.append(candidate)
    return kept[::-1]


def select(
    network: nn.Module,
    image_size: int,
    candidates: list[Candidate],
    unit: str,
    original: Size,
    fraction: float,
    round_to: int = 1,
) -> list[Candidate]:
    """Return the fewest of the least relevant candidates whose removal meets the budget; see `select_each`."""
    return select_each(network, image_size, candidates, unit, original, [fraction], round_to)[0]


def select_each(
    network: nn.Module,
    image_size: int,
    candidates: list[Candidate],
    unit: str,
    original: Size,
    fractions: list[float],
    round_to: int = 1,
) -> list[list[Candidate]]:
    """Return, for each budget, the fewest of the least relevant candidates whose removal meets it.

    Parameters
    ----------
    network : nn.Module
        As it is now; earlier steps may have removed a part.
    candidates : list of Candidate
        Least relevant first.
    unit : {"filters", "params", "macs"}
        What the budgets count.
    original : Size
        Of the network before any pruning.
    fractions : list of float
        Of `original` to be gone, what earlier steps removed included.
    round_to : int
        Each group loses only so many channels that a multiple of it is left; see `rounded`.

    Raises
    ------
    InputError
        Even all candidates are too few; the message names the largest fraction that is reachable.
    """
    shapes = copy.deepcopy(network).to("meta")
    now = measure(network, image_size)

    @cache
    def gone(count: int) -> float:
        some = rounded(candidates[:count], round_to)
        if unit == "filters":  # known without surgery
            lost = sum(len(candidate.group.layers) for candidate in some)
            return 1 - (now.filters - lost) / original.filters
        return 1 - getattr(size_without(shapes, image_size, some), unit) / getattr(original, unit)

    reachable = gone(len(candidates))
    chosen = []
    for fraction in fractions:
        needed = fraction - 1e-9  # the fraction may be a rounded product
        if reachable < needed:
            raise InputError(
                f"{fraction:.4g} of the {unit} cannot be removed: min_channels, round_to and prune.layers allow "
                f"{int(reachable * 1e4) / 1e4:g} at most; ask for less, or allow more"
            )
        count = bisect_left(range(len(candidates)), needed, key=gone)
        chosen.append(rounded(candidates[:count], round_to))
    return chosen
