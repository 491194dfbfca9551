"""Projection: every prototype becomes a training patch of its class, and says which (Chen et al., 2019)."""

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from stages.datasets.store import Prepared
from stages.errors import InputError, within
from stages.networks import checkpoint
from stages.networks.checkpoint import Architecture
from stages.networks.protopnet import ProtoPNet, Prototypes, Source

HIGHEST = 0.95  # the box of a patch holds what lies above this quantile of its similarity, as the authors' code has it
EXACT = 1e-5  # a prototype is a patch that was computed anew within so much


@dataclass(frozen=True)
class Nearest:
    """The patch of each image that is nearest to each prototype.

    Attributes
    ----------
    rows : int array, N
        Positions of the images in the data set.
    distances : tensor, N x prototypes
        Squared.
    places : int tensor, N x prototypes
        Of the patch in the latent map, counted row by row.
    """

    rows: np.ndarray
    distances: torch.Tensor
    places: torch.Tensor

    def by_group(self, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each group and prototype, the nearest image's place in `rows`, and its distance.

        Parameters
        ----------
        groups : array, N
            The group of each image of `rows`.

        Returns
        -------
        int array, float array, groups x prototypes
        """
        numbers, distances = np.unique(groups, return_inverse=True)[1], self.distances.numpy()
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
        parts = np.split(order, starts[1:])
        nearest = np.stack([part[distances[part].argmin(0)] for part in parts])
        return nearest, np.take_along_axis(distances, nearest, axis=0)


def load(path: Path, data: Prepared) -> tuple[ProtoPNet, Architecture]:
    """Read a checkpoint that is a projected ProtoPNet of the classes of a data set.

    Raises
    ------
    InputError
        It is not, its prototypes are patches of another backbone, or it is no readable checkpoint.
    """
    network, architecture = checkpoint.load(path)
    if architecture.prototypes is None or architecture.classes != data.classes:
        raise InputError(f"{path}: is no ProtoPNet of the classes of the prepared data")
    with within(path):
        refuse_unprojected(network, architecture.prototypes)
    return network, architecture


@torch.no_grad()
def nearest_patches(
    network: ProtoPNet, architecture: Architecture, data: Prepared, rows: np.ndarray, batch_size: int
) -> Nearest:
    """Return the patches of images, as evaluation sees them, that are nearest to the prototypes."""
    device = next(network.parameters()).device
    distances, places = [], []
    for images, _ in data.batches(rows, batch_size):
        latent = network.latent(architecture.normalise(images.to(device)))
        least = network.prototypes.nearest(latent)
        distances.append(least.distances.cpu())
        places.append(least.places.cpu())
    return Nearest(rows, torch.cat(distances), torch.cat(places))


def distinct(data: Prepared, rows: np.ndarray) -> np.ndarray:
    """Return the rows less those whose pixels are those of an earlier one."""
    first = {}
    for row in rows:
        first.setdefault(hashlib.blake2b(np.ascontiguousarray(data.images[row]).data).digest(), row)
    return np.array(list(first.values()), dtype=rows.dtype)


def refuse_few(data: Prepared, classes: list[int], neighbours: int) -> None:
    """Raise an InputError if training images have too few groups for a ProtoPNet and its pruning.

    Parameters
    ----------
    classes : list of int
        Of the prototypes; a class needs a group of different images for each of its own.
    neighbours : int
        Patches that are looked at in pruning, each of another group.
    """
    rows = distinct(data, data.rows("train"))
    _refuse_few(data, rows, classes)
    if (groups := data.index["group"].iloc[rows].nunique()) < neighbours:
        raise InputError(
            f"prototypes.prune.neighbours: {neighbours} nearest patches are asked for, but training images have "
            f"{groups} groups; {groups} or less would be right"
        )


def _refuse_few(data: Prepared, rows: np.ndarray, classes: list[int]) -> None:
    there = data.index.iloc[rows].groupby("label")["group"].nunique()
    for label, count in sorted(Counter(classes).items()):
        if there.get(label, 0) < count:
            raise InputError(
                f"prototypes.per_class: {count} prototypes of class {data.classes[label]!r}, which has different "
                f"training images of {there.get(label, 0)} groups (lesions, slides, patients); at most so many can be"
            )


@torch.no_grad()
def project(network: ProtoPNet, architecture: Architecture, data: Prepared, batch_size: int) -> Architecture:
    """Replace every prototype, in place, by a training patch of its class; no two come from one group of images.

    Images are those of the training split without augmentation, equal ones once. Of all ways to give each prototype a
    group of its own, the one with the least sum of squared distances is taken (`linear_sum_assignment`); where no two
    prototypes want the same group, each becomes its nearest patch, as published.

    Returns
    -------
    Architecture
        With the sources of the prototypes.

    Raises
    ------
    InputError
        There are not enough groups.
    """
    from scipy.optimize import linear_sum_assignment

    settings = architecture.prototypes
    rows = distinct(data, data.rows("train"))
    _refuse_few(data, rows, settings.classes)
    found = nearest_patches(network, architecture, data, rows, batch_size)
    labels, groups = data.labels(rows).numpy(), data.index["group"].to_numpy()[rows]
    foreign = torch.from_numpy(labels)[:, None] != torch.tensor(settings.classes)
    own = dataclasses.replace(found, distances=found.distances.masked_fill(foreign, torch.inf))
    images, distances = own.by_group(groups)
    try:
        if len(distances) < len(settings.classes):
            raise ValueError("fewer groups than prototypes")
        chosen = linear_sum_assignment(distances.T)[1]  # of each prototype a group
    except ValueError:
        raise InputError(
            "prototypes.per_class: classes share so many groups of training images that not every prototype can have "
            "one of its own; fewer prototypes can"
        ) from None
    device, sources = next(network.parameters()).device, []
    for number, group in enumerate(chosen):
        at = images[group, number]
        row, place = rows[at], found.places[at, number].item()
        latent = _latent(network, architecture, data, row, device)
        network.prototypes.vectors[number] = latent.flatten(1)[:, place]
        near = network.prototypes.similarities(latent[None])[0, number]
        sources.append(
            Source(
                image=data.index["image_id"].iloc[row],
                group=str(groups[at]),
                image_sha256=_sha256(data, row),
                position=list(divmod(place, latent.shape[2])),
                box=box(near.cpu(), architecture.image_size),
            )
        )
    made = dataclasses.replace(settings, sources=sources, backbone_sha256=network.digest())
    return dataclasses.replace(architecture, prototypes=made)


@torch.no_grad()
def deviation(network: ProtoPNet, architecture: Architecture, data: Prepared) -> float:
    """Return by how much a prototype's vector differs, at most, from its patch computed anew: below 1e-5 if projected.

    Raises
    ------
    InputError
        The prototypes were projected by other weights, or their images are not in the data set as they were.
    """
    settings = architecture.prototypes
    refuse_unprojected(network, settings)
    rows = source_rows(data, settings)
    device, largest = next(network.parameters()).device, 0.0
    for vector, source in zip(network.prototypes.vectors, settings.sources, strict=True):
        row = rows[source.image]
        patch = _latent(network, architecture, data, row, device)[:, source.position[0], source.position[1]]
        largest = max(largest, (vector - patch).abs().max().item())
    return largest


def source_rows(data: Prepared, settings: Prototypes) -> dict[str, int]:
    """Return the position of each image that a prototype is a patch of, by its id.

    Raises
    ------
    InputError
        One is not in the data set as it was.
    """
    row_of, found = data.positions(), {}
    for source in settings.sources:
        row = row_of.get(source.image)
        if row is None or _sha256(data, row) != source.image_sha256:
            raise InputError(f"prototypes: image {source.image}, of which one is a patch, is not in the data as it was")
        found[source.image] = row
    return found


def refuse_unprojected(network: ProtoPNet, settings: Prototypes) -> None:
    """Raise an InputError unless the prototypes are patches of this very backbone."""
    if not settings.sources:
        raise InputError("prototypes: they were never projected onto training patches; stages.prototypes does that")
    if settings.backbone_sha256 != network.digest():
        raise InputError("prototypes: they were projected with another backbone; project them again")


def box(similarity: torch.Tensor, image_size: int) -> list[int]:
    """Return left, top, right and bottom, in pixels, of the part of an image where a prototype is found.

    Parameters
    ----------
    similarity : tensor, h x w
        To the patches of the image; enlarged to the image by cubic interpolation, of which the highest 5 % are boxed.
    """
    high = highest(similarity, image_size)
    down, across = (torch.nonzero(high.any(side)).flatten() for side in (1, 0))
    return [across[0].item(), down[0].item(), across[-1].item() + 1, down[-1].item() + 1]


def highest(similarity: torch.Tensor, image_size: int) -> torch.Tensor:
    """Return which pixels have the highest 5 % of similarity, bool, ... x H x W, for maps ... x h x w."""
    maps = enlarged(similarity, image_size)
    return maps >= maps.flatten(-2).quantile(HIGHEST, dim=-1)[..., None, None]


def enlarged(similarity: torch.Tensor, image_size: int) -> torch.Tensor:
    """Return maps, ... x h x w, at the size of the image, ... x H x W, by cubic interpolation."""
    maps = similarity.reshape(-1, 1, *similarity.shape[-2:])
    large = interpolate(maps, (image_size, image_size), mode="bicubic", align_corners=False)
    return large.view(*similarity.shape[:-2], image_size, image_size)


def _latent(network, architecture, data: Prepared, row: int, device: torch.device) -> torch.Tensor:
    """Return the patches of one image, D x h x w: alone, so that it is computed the same way again."""
    images, _ = data.batch(np.array([row]))
    return network.latent(architecture.normalise(images.to(device)))[0]


def _sha256(data: Prepared, row: int) -> str:
    return hashlib.sha256(np.ascontiguousarray(data.images[row]).data).hexdigest()
