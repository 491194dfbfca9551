"""One cut: what the budget of a step asks for, removed from a network, and the plan that says so."""

import dataclasses

import torch

from stages.networks.architectures import widths
from stages.networks.checkpoint import Architecture
from stages.networks.size import Size, measure
from stages.params.pruning import Prune
from stages.pruning import selection, surgery


def cut(
    network: torch.nn.Module,
    architecture: Architecture,
    scores: dict[str, torch.Tensor],
    params: Prune,
    coupled: str,
    step: int,
) -> tuple[torch.nn.Module, Architecture, dict]:
    """Remove what the budget of this step asks for, in place.

    Returns
    -------
    network, architecture
        The smaller network, its history extended.
    plan : dict
        unit, asked, reached (fractions of the original network that are gone), stopped_by (None, or the unit of
        `params.until` if that size is reached), sizes `original`, `before` and `after`, filters of each layer in the
        same three, each channel removed: group (its root layer), layers, channel (now), original_channel, score; and
        repeats (False).
    """
    size = architecture.image_size
    unpruned = architecture.unpruned().shape()
    original, before = measure(unpruned, size), measure(network, size)
    filters = {"original": widths(unpruned), "before": widths(network)}
    groups = surgery.prunable_groups(network, size, params.layers.include, params.layers.exclude)
    candidates = selection.rank(groups, scores, coupled, params.min_channels)
    asked = step * params.per_step
    budgets = {params.unit: asked}
    if params.until and params.until.unit != "latency":
        enough = 1 - params.until.left
        budgets[params.until.unit] = min(enough, budgets.get(params.until.unit, enough))
    chosen = min(
        (
            selection.select(network, size, candidates, unit, original, gone, params.round_to)
            for unit, gone in budgets.items()
        ),
        key=len,
    )
    present = {group.root: _present(group.root, filters["original"][group.root], architecture) for group in groups}
    removed = [
        {
            "group": candidate.group.root,
            "layers": list(candidate.group.layers),
            "channel": candidate.channel,
            "original_channel": present[candidate.group.root][candidate.channel],
            "score": candidate.score,
        }
        for candidate in chosen
    ]
    history = surgery.remove(network, size, selection.by_group(chosen))
    architecture = dataclasses.replace(architecture, history=architecture.history + history)
    after = measure(network, size)
    filters["after"] = widths(network)
    plan = {
        "unit": params.unit,
        "asked": asked,
        "reached": 1 - getattr(after, params.unit) / getattr(original, params.unit),
        "stopped_by": _size_reached(params, original, after),
        "repeats": False,
        "original": dataclasses.asdict(original),
        "before": dataclasses.asdict(before),
        "after": dataclasses.asdict(after),
        "layers": {layer: {when: filters[when][layer] for when in filters} for layer in filters["original"]},
        "removed": removed,
    }
    return network, architecture, plan


def _size_reached(params: Prune, original: Size, after: Size) -> str | None:
    until = params.until
    if not until or until.unit == "latency":
        return None
    left = getattr(after, until.unit) / getattr(original, until.unit)
    return until.unit if left <= until.left + 1e-9 else None


def _present(root: str, original: int, architecture: Architecture) -> list[int]:
    """Return, for each channel a layer has now, its number in the unpruned network."""
    channels = list(range(original))
    for layer, _, gone in architecture.history:
        if layer == root:
            channels = [channel for position, channel in enumerate(channels) if position not in set(gone)]
    return channels
