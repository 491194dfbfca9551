"""Scores by a criterion as params.yaml describes it: reference images drawn, rules chosen, layers normalised."""

import numpy as np
import torch
from torch import nn

from stages.attribution.composites import Rules
from stages.attribution.filters import Start, from_class
from stages.datasets.store import Prepared
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.params import Lrp
from stages.params import Scores as Settings
from stages.pruning.criteria import UNSEEING, References, Relevance, Scores, finish, relevance, score


def scored(
    criterion: str,
    network: nn.Module,
    architecture: Architecture,
    data: Prepared,
    names: list[str],
    settings: Settings,
    seed: int,
    own_seed: int,
) -> tuple[Scores, Relevance | None]:
    """Return one score a filter of the named layers, and for LRP what it found.

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
    drawn = () if criterion in UNSEEING else _reference_images(network, architecture, data, settings, seed)
    device = next(network.parameters()).device
    references = References(
        drawn,
        pixel_bounds(architecture, device),
        settings.reduction.get(criterion, "sum"),
        own_seed,
        rules(settings.lrp),
        start(settings.lrp),
        settings.integration_steps,
    )
    normalisation = settings.normalisation[criterion]
    if criterion != "lrp":
        return score(criterion, network, references, normalisation, names), None
    found = relevance(network, names, references)
    return finish(criterion, found.scores, normalisation), found


def _reference_images(network, architecture, data, settings, seed):
    device = next(network.parameters()).device

    def correct(rows: np.ndarray) -> np.ndarray:
        logits, labels = predict(network, architecture, data, rows, settings.batch_size)
        return (logits.argmax(1) == labels).numpy()

    accept = correct if settings.correct_only else None
    rows = data.references(settings.references_per_class, seed, settings.classes, accept)
    for images, labels in data.batches(rows, settings.batch_size):
        yield architecture.normalise(images.to(device)), labels.to(device)


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


def start(lrp: Lrp) -> Start:
    """Return where relevance starts."""
    return from_class(lrp.start.removesuffix("-class"), lrp.amount)
