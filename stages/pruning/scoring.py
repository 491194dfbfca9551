"""Scores by a criterion as params.yaml describes it: reference images drawn, rules chosen, layers normalised."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from stages.attribution import regions
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import Start, from_class
from stages.datasets.store import Prepared
from stages.errors import InputError
from stages.networks import sharing
from stages.networks.architectures import filters
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.params.scores import Lrp, Region
from stages.params.scores import Scores as Settings
from stages.pruning.criteria import CRITERIA, UNSEEING, References, Relevance, Scores, finish, relevance

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def scored(
    criterion: str,
    network: nn.Module,
    architecture: Architecture,
    data: Prepared,
    names: list[str],
    settings: Settings,
    seed: int,
    own_seed: int,
    fabric: Fabric | None = None,
) -> tuple[Scores, Relevance | None]:
    """Return one score a filter of the named layers, and for LRP what it found.

    The processes of `fabric`, if any, look at a part of the reference images each, and all return the sums.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on its device; it is left as it was.
    seed : int
        Of the reference images.
    own_seed : int
        Of what the criterion itself draws.

    Raises
    ------
    ValueError
        A score is not finite, or the criterion does not exist for the network.
    """
    device = next(network.parameters()).device
    if settings.crp.asked_by(criterion):
        data.refuse_unknown(settings.crp.classes(), "prune.scores.crp")
    rows = np.empty(0, int)
    if criterion not in UNSEEING:
        rows = _reference_rows(criterion, network, architecture, data, settings, seed)
    asked, mine = _asked(criterion, settings, data, rows, architecture.image_size), sharing.part(len(rows), fabric)
    rows = rows[mine]
    if "region" in asked:
        asked["region"] = asked["region"][mine]
    batches = data.batches(rows, settings.batch_size)
    references = References(
        ((architecture.normalise(images.to(device)), labels.to(device)) for images, labels in batches),
        pixel_bounds(architecture, device),
        settings.reduction.get(criterion, "sum"),
        own_seed,
        rules(settings.lrp),
        start(settings.lrp),
        settings.integration_steps,
        **asked,
    )
    normalisation = settings.normalisation[criterion]
    if criterion in UNSEEING:
        return finish(criterion, CRITERIA[criterion](network, names, references), normalisation), None

    def total(scores: Scores) -> Scores:
        nothing = {name: torch.zeros(filters(network.get_submodule(name))) for name in names}  # of no reference image
        return {name: sharing.total(values, fabric) for name, values in (nothing | scores).items()}

    if criterion != "lrp":
        return finish(criterion, total(CRITERIA[criterion](network, names, references)), normalisation), None
    found = relevance(network, names, references)
    found = replace(
        found,
        scores=total(found.scores),
        signed=total(found.signed),
        absolute=total(found.absolute),
        started=sharing.total(torch.tensor(found.started, dtype=torch.float64), fabric).item(),
    )
    return finish(criterion, found.scores, normalisation), found


def _reference_rows(criterion, network, architecture, data, settings, seed):
    """Return which images of the data are looked at."""

    def correct(rows: np.ndarray) -> np.ndarray:
        logits, labels = predict(network, architecture, data, rows, settings.batch_size)
        return (logits.argmax(1) == labels).numpy()

    accept = correct if settings.correct_only else None
    rows = data.references(settings.references_per_class, seed, _classes(criterion, settings), accept)
    if criterion == "crp-contrast":  # as many of both
        labels = data.labels(rows).numpy()
        least = min(np.unique(labels, return_counts=True)[1])
        rows = np.concatenate([rows[labels == label][:least] for label in np.unique(labels)])
    return rows


def _classes(criterion: str, settings: Settings) -> list[str] | None:
    """Return the classes whose images a criterion looks at; None: all."""
    crp = settings.crp
    return {"crp-class": [crp.class_name], "crp-contrast": crp.contrast}.get(criterion, settings.classes)


def _asked(criterion: str, settings: Settings, data: Prepared, rows: np.ndarray, size: int) -> dict:
    """Return the class, the contrast or the images' regions that a criterion asks for, as `References` takes them."""
    crp = settings.crp
    if crp.asked_by(criterion) is None:
        return {}
    if criterion == "crp-class":
        return {"label": data.classes.index(crp.class_name)}
    if criterion == "crp-contrast":
        return {"contrast": tuple(map(data.classes.index, crp.contrast))}
    masks = masks_of(crp.region, data, rows, size, "prune.scores.crp.region")
    if not (masks.amax((1, 2)) > masks.amin((1, 2))).any():
        raise InputError(f"prune.scores.crp.region: none of {len(rows)} reference images has one; ask for more of them")
    return {"region": masks}


def region(given: Region, size: int, key: str) -> torch.Tensor:
    """Return the mask, size x size, of a region of params.yaml.

    Raises
    ------
    InputError
        It holds no pixel, or all.
    """
    try:
        return regions.box(size, *given.box) if given.box else regions.disc(size, *given.disc)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from None


def masks_of(asked: Region | str, data: Prepared, rows: np.ndarray, size: int, key: str) -> torch.Tensor:
    """Return the region of each image, N x size x size in [0, 1]: one of params.yaml, or `masks`, those of the data.

    Raises
    ------
    InputError
        The data have no masks, or the region holds no pixel, or all.
    """
    if asked != "masks":
        return region(asked, size, key).expand(len(rows), -1, -1)
    if data.masks is None:
        raise InputError(f"{key}: masks, but the prepared data have none; data.masks names them")
    return torch.from_numpy(data.masks[rows]).float() / 255


def pixel_bounds(architecture: Architecture, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest and largest value of each normalised pixel, 1 x 3 x H x W."""
    shape = (1, 3, architecture.image_size, architecture.image_size)
    low, high = (architecture.normalise(torch.full(shape, value, device=device)) for value in (0.0, 1.0))
    return low, high


def rules(lrp: Lrp) -> Rules:
    """Return the rules that params.yaml names."""
    values = {"epsilon": lrp.epsilon, "gamma": lrp.gamma, "alpha": lrp.alpha}
    if isinstance(lrp.composite, str):
        return Rules.named(lrp.composite, **values)
    return Rules(**lrp.composite.model_dump(), **values)


def composite(lrp: Lrp, architecture: Architecture, device: torch.device) -> ByGraph:
    """Return what propagates relevance through a network of this architecture by the rules that params.yaml names."""
    return ByGraph(rules(lrp), pixel_bounds(architecture, device))


def start(lrp: Lrp) -> Start:
    """Return where relevance starts."""
    return from_class(lrp.start.removesuffix("-class"), lrp.amount)
