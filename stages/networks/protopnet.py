"""ProtoPNet: a classifier that compares patches of an image with prototypes (Chen et al., 2019, arXiv 1806.10574)."""

import dataclasses
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from stages.errors import InputError
from stages.networks import digests

OWN, OTHER = 1.0, -0.5  # weights of the last layer at the start (section 2.2)
SMALL = 1e-4  # what keeps the similarity of a patch with itself finite (section 2.1)


@dataclass(frozen=True)
class Source:
    """The training patch that a prototype is.

    Attributes
    ----------
    image : str
        The image's id.
    group : str
        Its lesion, slide or patient.
    image_sha256 : str
        Of its prepared pixels.
    position : [int, int]
        Row and column of the patch in the latent map.
    box : [int, int, int, int]
        Left, top, right, bottom of the patch in pixels; see `stages.networks.projection.box`.
    """

    image: str
    group: str
    image_sha256: str
    position: list[int]
    box: list[int]


@dataclass(frozen=True)
class Prototypes:
    """What makes a network a ProtoPNet, apart from its weights.

    Attributes
    ----------
    layer : str or None
        The module of the backbone whose output has the patches; None: its last before the classifier.
    dimension : int
        Channels of a patch.
    similarity : {"log", "linear"}
        See `PrototypeLayer`.
    classes : list of int
        The class of each prototype.
    sources : list of Source
        Where each was projected; empty before a projection.
    backbone_sha256 : str
        Of the weights that made the patches, `ProtoPNet.digest`, when they were projected.
    """

    layer: str | None
    dimension: int
    similarity: str
    classes: list[int]
    sources: list[Source] = dataclasses.field(default_factory=list)
    backbone_sha256: str = ""

    @classmethod
    def read(cls, document: dict) -> "Prototypes":
        """Return what `dataclasses.asdict` made a dictionary of."""
        return cls(**document | {"sources": [Source(**source) for source in document["sources"]]})

    def without(self, gone: Sequence[int]) -> "Prototypes":
        """Return the same less some prototypes, by number."""
        kept = _others(len(self.classes), gone)
        sources = [self.sources[n] for n in kept] if self.sources else []
        return dataclasses.replace(self, classes=[self.classes[n] for n in kept], sources=sources)


class Least(NamedTuple):
    """Squared distances to the nearest patches, and their places, counted row by row; both N x prototypes."""

    distances: torch.Tensor
    places: torch.Tensor


class PrototypeLayer(nn.Module):
    """Similarity of each prototype to the patch of an image that is most like it.

    max over patches z of log((d + 1) / (d + 1e-4)) for `log`, of -d for `linear`; d = ‖z - p‖² (equation in section
    2.1; `linear` is an option of the authors' code). Distances are computed in float32, under autocast too.

    Parameters
    ----------
    count : int
        Prototypes.
    dimension : int
        Channels of a patch.
    similarity : {"log", "linear"}
    """

    def __init__(self, count: int, dimension: int, similarity: str):
        super().__init__()
        self.vectors = nn.Parameter(torch.rand(count, dimension))
        self.similarity = similarity

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Return similarities, N x prototypes, for patches, N x D x h x w."""
        return self.of_distances(self.nearest(latent).distances)

    def nearest(self, latent: torch.Tensor) -> Least:
        """Return how far each prototype is from the patch nearest to it, and where that is.

        Where little is between them `distances` has that little as a difference of large numbers, and the logarithm
        takes its rounding for likeness; so the patch is subtracted.
        """
        patches, places = self.nearest_patches(latent)
        with _precise(latent):
            return Least((patches - _at_least_float32(self.vectors).T).square().sum(1), places)

    def nearest_patches(self, latent: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patch nearest to each prototype, N x D x prototypes, and its place, N x prototypes."""
        with torch.no_grad():
            places = self.distances(latent).flatten(2).argmin(2)
        patches = _at_least_float32(latent).flatten(2)
        return patches.gather(2, places[:, None].expand(-1, patches.shape[1], -1)), places

    def distances(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the squared distance of each prototype to each patch, N x prototypes x h x w, never negative."""
        with _precise(latent):
            latent, vectors = _at_least_float32(latent), _at_least_float32(self.vectors)
            products = functional.conv2d(latent, vectors[:, :, None, None])
            lengths = (vectors**2).sum(1)[None, :, None, None]
            return functional.relu((latent**2).sum(1, keepdim=True) - 2 * products + lengths)

    def similarities(self, latent: torch.Tensor) -> torch.Tensor:
        """Return the similarity of each prototype to each patch, N x prototypes x h x w."""
        return self.of_distances(self.distances(latent))

    def of_distances(self, distances: torch.Tensor) -> torch.Tensor:
        """Return the similarity that belongs to each distance."""
        return -distances if self.similarity == "linear" else log_similarity(distances)

    def keep(self, numbers: Sequence[int]) -> None:
        """Remove all prototypes but these, in place: parameters are replaced by smaller ones."""
        self.vectors = nn.Parameter(self.vectors.detach()[list(numbers)].clone())


class Learning(NamedTuple):
    """What a ProtoPNet returns in training mode: logits, N x classes, and squared distances, N x prototypes."""

    logits: torch.Tensor
    distances: torch.Tensor


class ProtoPNet(nn.Module):
    """A backbone, two 1 x 1 convolutions with ReLU and sigmoid, the prototypes, and a linear layer without bias.

    Parameters
    ----------
    network : nn.Module
        A classifier of `stages.networks.architectures` that is a ResNet or VGG; its layers are taken, not copied.
    prototypes : Prototypes
    classes : int
        Number of logits.

    Raises
    ------
    InputError
        The network is none of these, or has not the layer.
    """

    def __init__(self, network: nn.Module, prototypes: Prototypes, classes: int):
        super().__init__()
        self.features = backbone(network, prototypes.layer)
        channels = [module for module in self.features.modules() if isinstance(module, nn.Conv2d)][-1].out_channels
        self.add_on = nn.Sequential(
            nn.Conv2d(channels, prototypes.dimension, 1),
            nn.ReLU(),
            nn.Conv2d(prototypes.dimension, prototypes.dimension, 1),
            nn.Sigmoid(),
        )
        for layer in (self.add_on[0], self.add_on[2]):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        of_class = torch.tensor(prototypes.classes)
        self.prototypes = PrototypeLayer(len(of_class), prototypes.dimension, prototypes.similarity)
        self.last = nn.Linear(len(of_class), classes, bias=False)
        own = of_class == torch.arange(classes)[:, None]
        self.register_buffer("own", own)  # classes x prototypes: whose prototypes they are
        with torch.no_grad():
            self.last.weight.copy_(torch.where(own, OWN, OTHER))

    def latent(self, images: torch.Tensor) -> torch.Tensor:
        """Return the patches, N x D x h x w in [0, 1], of normalised images, N x 3 x H x W."""
        return self.add_on(self.features(images))

    def forward(self, images: torch.Tensor) -> "torch.Tensor | Learning":
        """Return logits, N x classes; in training mode with the distances that its costs are made of."""
        if not self.training:
            return self.last(self.prototypes(self.latent(images)))
        distances = self.prototypes.nearest(self.latent(images)).distances
        return Learning(self.last(self.prototypes.of_distances(distances)), distances)

    @torch.no_grad()
    def remove(self, gone: Sequence[int]) -> None:
        """Remove prototypes physically, in place: their vectors and their columns of the last layer."""
        kept = _others(len(self.prototypes.vectors), gone)
        self.prototypes.keep(kept)
        last = nn.Linear(len(kept), self.last.out_features, bias=False, device=self.last.weight.device)
        last.weight.copy_(self.last.weight[:, kept])
        self.last, self.own = last, self.own[:, kept]

    def digest(self) -> str:
        """Return the SHA-256 of the weights that make patches: of backbone and 1 x 1 convolutions."""
        made = {name: values for name, values in self.state_dict().items() if name.startswith(("features.", "add_on."))}
        return digests.of_tensors(made)


def _precise(values: torch.Tensor) -> torch.autocast:
    """Return a context without autocast on the values' device."""
    return torch.autocast("cpu" if values.is_meta else values.device.type, enabled=False)


def _at_least_float32(values: torch.Tensor) -> torch.Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _others(count: int, gone: Sequence[int]) -> list[int]:
    """Return the numbers below `count` that are not among those gone."""
    return sorted(set(range(count)) - set(gone))


def log_similarity(distances: torch.Tensor) -> torch.Tensor:
    """Return log((d + 1) / (d + 1e-4)): 9.2 at no distance, and 0 in the limit of a large one."""
    return torch.log((distances + 1) / (distances + SMALL))


def backbone(network: nn.Module, layer: str | None) -> nn.Sequential:
    """Return the layers of a ResNet or VGG up to one, by the names they have in the network.

    Parameters
    ----------
    layer : str or None
        A module such as `layer3`, or `features.20` of a VGG; None: the last before the classifier.

    Raises
    ------
    InputError
        The network is none of these, or has not the layer.
    """
    children = dict(network.named_children())
    if "layer1" in children:
        names = [name for name in children if name not in ("avgpool", "fc")]
        prefix, ends = "", [name for name in names if name.startswith("layer")]
    elif isinstance(children.get("features"), nn.Sequential) and type(network).__name__ == "VGG":
        children, prefix = dict(children["features"].named_children()), "features."
        names = ends = list(children)
    else:
        raise InputError(f"model.name: a {type(network).__name__} has no prototypes here; a ResNet or VGG has")
    last = ends[-1] if layer is None else layer.removeprefix(prefix)
    if layer is not None and layer not in [prefix + name for name in ends]:
        raise InputError(f"prototypes.layer: {layer!r} is none of {', '.join(prefix + name for name in ends)}")
    return nn.Sequential(OrderedDict((name, children[name]) for name in names[: names.index(last) + 1]))
