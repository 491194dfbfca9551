"""Which prototypes do not stand for their class, and their physical removal."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from stages.datasets.store import Prepared
from stages.networks.checkpoint import Architecture
from stages.networks.projection import Nearest, enlarged, highest
from stages.networks.protopnet import ProtoPNet


def neighbours(found: Nearest, groups: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the classes of the patches nearest to each prototype, one patch of a group of images.

    The published rule takes one patch of an image; copies of an image, or images of one lesion, would then count
    several times.

    Parameters
    ----------
    found : Nearest
        Of images of all classes.
    groups, labels : arrays, N
        Of these images.
    count : int
        k.

    Returns
    -------
    int array, prototypes x k
        From the nearest on.

    Raises
    ------
    ValueError
        There are fewer than k groups.
    """
    images, distances = found.by_group(groups)
    if len(images) < count:
        raise ValueError(f"{count} nearest patches are asked for, but training images have {len(images)} groups")
    order = np.argsort(distances, axis=0, kind="stable")[:count]
    return labels[np.take_along_axis(images, order, axis=0)].T


def own_share(near: np.ndarray, classes: Sequence[int], weights: np.ndarray | None = None) -> np.ndarray:
    """Return the share of the nearest patches that are of a prototype's own class: its purity.

    Parameters
    ----------
    near : int array, prototypes x k
        See `neighbours`.
    classes : sequence of int
        Of the prototypes.
    weights : array, classes, optional
        What a patch of each class counts: 1 as published. With one over the class's share of the images, a patch of a
        rare class counts as much as it would if classes were alike: the share estimates P(own class | near) under equal
        priors, and a prototype of a rare class is not removed because its class is rare.

    Returns
    -------
    float array, prototypes
    """
    counts = np.ones_like(near, float) if weights is None else weights[near]
    return (counts * (near == np.asarray(classes)[:, None])).sum(1) / counts.sum(1)


def duplicates(vectors: torch.Tensor, classes: Sequence[int], distance: float) -> dict[int, int]:
    """Return, by number, the prototypes that another of their class stands for, and which: the first of the like.

    Parameters
    ----------
    vectors : tensor, prototypes x D
    distance : float
        The largest squared distance of two that are alike; 0: equal vectors.
    """
    apart = ((vectors[:, None] - vectors[None]) ** 2).sum(2)
    merged: dict[int, int] = {}
    for number, of_class in enumerate(classes):
        for first in range(number):
            if first not in merged and classes[first] == of_class and apart[first, number] <= distance:
                merged[number] = first
                break
    return merged


@torch.no_grad()
def merge(network: ProtoPNet, merged: dict[int, int]) -> None:
    """Add the weights of prototypes to those that stand for them, in place: of equal ones, logits stay as they are.

    The prototypes themselves are still there; see `remove`.
    """
    for gone, kept in merged.items():
        network.last.weight[:, kept] += network.last.weight[:, gone]
        network.last.weight[:, gone] = 0


@torch.no_grad()
def inside(
    network: ProtoPNet,
    architecture: Architecture,
    data: Prepared,
    rows: np.ndarray,
    masks: torch.Tensor,
    batch_size: int,
) -> np.ndarray:
    """Return which share of a prototype's response lies in a region, mean over the images of its class.

    The response is the similarity of the 5 % of pixels that are most like the prototype, as in its box: elsewhere
    the similarity of ProtoPNet is positive too.

    Parameters
    ----------
    rows : int array, N
        Positions of the images; every prototype's class has some.
    masks : tensor, N x H x W
        The region of each image, in [0, 1].

    Returns
    -------
    float array, prototypes
    """
    classes = torch.tensor(architecture.prototypes.classes)
    device, size = next(network.parameters()).device, architecture.image_size
    total, count = torch.zeros(len(classes), dtype=torch.float64), torch.zeros(len(classes))
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        images, labels = data.batch(some)
        latent = network.latent(architecture.normalise(images.to(device)))
        near = network.prototypes.similarities(latent).cpu()
        for of_image, label, mask in zip(near, labels, masks[start : start + batch_size], strict=True):
            own = torch.nonzero(classes == label).flatten()
            found = response(of_image[own], size)
            total[own] += ((found * mask).sum((1, 2)) / found.sum((1, 2))).double()
            count[own] += 1
    return (total / count).numpy()


def response(similarity: torch.Tensor, image_size: int) -> torch.Tensor:
    """Return where prototypes are found and how much: similarity above its least, ... x H x W, 0 outside of the box."""
    maps = enlarged(similarity, image_size)
    above = maps - maps.amin((-2, -1), keepdim=True) + torch.finfo(maps.dtype).tiny
    return above * highest(similarity, image_size)


def remove(network: ProtoPNet, architecture: Architecture, gone: Sequence[int]) -> Architecture:
    """Remove prototypes physically, in place, and return the architecture without them."""
    network.remove(gone)
    return dataclasses.replace(architecture, prototypes=architecture.prototypes.without(gone))
