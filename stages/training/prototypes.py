"""How a ProtoPNet learns: the costs of its patches, and its last layer alone (Chen et al., 2019, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stages.datasets.store import Prepared
from stages.errors import InputError
from stages.networks.checkpoint import Architecture
from stages.networks.projection import nearest_patches, project
from stages.networks.protopnet import Learning, ProtoPNet
from stages.params.prototypes import LastLayer, PatchCosts, PrototypeStudy
from stages.params.training import Balance, Training
from stages.training import balance
from stages.training.loop import fit

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def patch_costs(distances: torch.Tensor, own: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cluster and the separation cost of a batch.

    Clst = mean_n min_{j of class y_n} d_nj and Sep = mean_n min_{j of another class} d_nj (section 2.2, where Sep has
    the opposite sign), d the squared distance of prototype j to the nearest patch of image n.

    Parameters
    ----------
    distances : tensor, N x prototypes
    own : bool tensor, classes x prototypes
        Whose prototypes they are.
    labels : int tensor, N
    """
    of_class = own[labels]
    cluster = distances.masked_fill(~of_class, torch.inf).amin(1).mean()
    separation = distances.masked_fill(of_class, torch.inf).amin(1).mean()
    return cluster, separation


def joint_costs(own: torch.Tensor, weights: PatchCosts):
    """Return what `stages.training.loop.fit` adds to the cross-entropy: cluster · Clst - separation · Sep.

    Parameters
    ----------
    own : bool tensor, classes x prototypes
    """

    def costs(found: Learning, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cluster, separation = patch_costs(found.distances, own.to(labels.device), labels)
        return found.logits, weights.cluster * cluster - weights.separation * separation

    return costs


def warm_up_groups(network: ProtoPNet) -> list[dict]:
    """Return what is trained while the backbone's weights stay: the 1 x 1 convolutions and the prototypes."""
    return [
        {"params": list(network.add_on.parameters())},
        {"params": [network.prototypes.vectors], "weight_decay": 0.0},
    ]


def joint_groups(backbone: float, prototypes: float) -> Callable[[ProtoPNet], list[dict]]:
    """Return a function of the network: all but its last layer, with these learning rates."""
    scale = backbone / prototypes

    def groups(network: ProtoPNet) -> list[dict]:
        return [{"params": list(network.features.parameters()), "scale": scale}, *warm_up_groups(network)]

    return groups


def fit_patches(
    network: ProtoPNet,
    architecture: Architecture,
    data: Prepared,
    study: PrototypeStudy,
    usual: Training,
    epochs: int,
    seed: int,
    fabric: Fabric,
    state_file: Path,
    groups: Callable[[ProtoPNet], list[dict]],
) -> Iterator[dict[str, float]]:
    """Train what is below the last layer, in place, yielding rows of history as `stages.training.loop.fit`.

    With AdamW and learning rates that fall to zero along half a cosine (the authors': Adam, divided by ten every five
    epochs). Mixup, label smoothing and averaging of weights are left out.

    Parameters
    ----------
    usual : Training
        Whose sampling, augmentation, precision and memory format are kept.
    groups : function of the network
        See `fit`, and `warm_up_groups` and `joint_groups`.
    """
    if not epochs:
        return
    settings = usual.model_copy(
        update={
            "epochs": epochs, "batch_size": study.batch_size, "threads": study.threads, "schedule": "cosine",
            "optimiser": "adamw", "learning_rate": study.learning_rate.prototypes, "momentum": 0.9,
            "weight_decay": study.weight_decay, "label_smoothing": 0.0, "mixup": 0.0, "ema": 0.0, "select": "last",
        }
    )  # fmt: skip
    costs = joint_costs(network.own, study.costs)
    about = {"costs": study.costs.model_dump(), "groups": [_without_tensors(group) for group in groups(network)]}
    network.requires_grad_(False)
    for group in groups(network):
        for parameter in group["params"]:
            parameter.requires_grad_(True)
    yield from fit(
        network, architecture, data, settings, seed, fabric, state_file, groups=groups, costs=costs, about=about
    )
    network.requires_grad_(True)


def _without_tensors(group: dict) -> dict:
    return {name: value for name, value in group.items() if name != "params"} | {"tensors": len(group["params"])}


def settle(
    network: ProtoPNet,
    architecture: Architecture,
    data: Prepared,
    study: PrototypeStudy,
    balanced: Balance,
    seed: int,
    device: torch.device,
) -> Architecture:
    """Project the prototypes, then train the last layer, in place; return the architecture with their sources."""
    network.to(device).eval()
    architecture = project(network, architecture, data, study.batch_size)
    tune_last_layer(network, architecture, data, study, balanced, seed)
    return architecture


def tune_last_layer(
    network: ProtoPNet,
    architecture: Architecture,
    data: Prepared,
    study: PrototypeStudy,
    balanced: Balance,
    seed: int,
) -> None:
    """Train the last layer, in place, on the training images without augmentation."""
    rows = data.rows("train")
    found = nearest_patches(network, architecture, data, rows, study.batch_size)
    similarities = network.prototypes.of_distances(found.distances)
    fit_last_layer(network, similarities, data.labels(rows), study.last_layer, data.classes, balanced, seed)


def fit_last_layer(
    network: ProtoPNet,
    similarities: torch.Tensor,
    labels: torch.Tensor,
    settings: LastLayer,
    classes: list[str],
    balanced: Balance,
    seed: int,
) -> list[float]:
    """Train the last layer alone, in place: cross-entropy + l1 · sum of |w| between prototypes and other classes.

    What is below it stays as it is, so similarities are computed once; they are of images without augmentation. With
    Adam, in batches.

    Parameters
    ----------
    similarities : tensor, N x prototypes
    labels : int tensor, N
    classes : list of str
    balanced : Balance
        How classes with few images are brought up, as in other training.

    Returns
    -------
    list of float
        The cost of each epoch, mean over its batches.

    Raises
    ------
    InputError
        The learning rate is too high.
    """
    torch.manual_seed(seed)
    layer = nn.Linear(similarities.shape[1], network.last.out_features, bias=False)
    layer.load_state_dict({"weight": network.last.weight.detach().cpu()})
    other, weights = ~network.own.cpu(), balance.loss_weights(labels, balanced.loss)
    weights = None if weights is None else weights.float()
    optimiser = torch.optim.Adam(layer.parameters(), settings.learning_rate)
    history = []
    for _ in range(settings.epochs):
        costs = []
        for batch in balance.epoch(labels, classes, balanced.sampling).split(settings.batch_size):
            sparse = (layer.weight * other).abs().sum()
            cost = cross_entropy(layer(similarities[batch]), labels[batch], weights) + settings.l1 * sparse
            optimiser.zero_grad()
            cost.backward()
            optimiser.step()
            costs.append(cost.item())
        history.append(float(np.mean(costs)))
        if not math.isfinite(history[-1]):
            raise InputError(f"prototypes.last_layer.learning_rate: {settings.learning_rate:g} diverges; lower it")
    with torch.no_grad():
        network.last.weight.copy_(layer.weight)
    return history
