"""The concept atlas: which concepts of a layer a class relies on, streamed over images.

A concept is a channel (`stages.attribution.concepts`). Everything is accumulated batch by batch; what is kept depends
on the number of channels and classes, never on that of the images.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import one_hot
from zennit.core import Composite

from stages.attribution.canonical import activations_after, bottlenecks, facts
from stages.attribution.concepts import shares
from stages.attribution.filters import at_outputs
from stages.attribution.regions import within

VOTES = 5  # an image votes for so many concepts of a layer
TIED = 1e-6  # of a layer's largest share: what differs by less is the same


@dataclass(frozen=True)
class Found:
    """What is seen of a batch in one layer.

    Attributes
    ----------
    relevance : tensor, N x C
        Summed over space.
    activation : tensor, N x C
        Mean over space, after the activation function.
    inside : tensor, N x C, optional
        Sum over space of |relevance| within a region of the image.
    absolute : tensor, N x C, optional
        Sum over space of |relevance|; with `inside`.
    """

    relevance: torch.Tensor
    activation: torch.Tensor
    inside: torch.Tensor | None = None
    absolute: torch.Tensor | None = None

    def of(self, images: torch.Tensor) -> "Found":
        """Return what is seen of some of the images, chosen by a mask (N)."""
        return Found(*(values if values is None else values[images] for values in vars(self).values()))


@dataclass(frozen=True)
class Entry:
    """What the atlas says of the concepts of one layer for one class; each tensor (C,).

    Attributes
    ----------
    images : int
    share, low, high : tensor
        Mean share of relevance, and its 95 % bootstrap interval.
    rank : int tensor
        1 is the most relevant; concepts with equal shares have equal ranks.
    votes : tensor
        How many images have the concept among their five most relevant; where several tie for the last places, they
        share these.
    activation : tensor
    inside, inside_low, inside_high : tensor, optional
        Share of the concept's |relevance| within the region, and its interval; not a number where it has none.
    """

    images: int
    share: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    rank: torch.Tensor
    votes: torch.Tensor
    activation: torch.Tensor
    inside: torch.Tensor | None
    inside_low: torch.Tensor | None
    inside_high: torch.Tensor | None


class Atlas:
    """Statistics of concepts by layer and class.

    Intervals are of the Poisson bootstrap: an image counts, in each replicate, as often as a Poisson variable with mean
    one says, so that no image needs to be kept (Hanley and MacGibbon, 2006, doi 10.1016/j.cmpb.2006.04.006; Chamandy et
    al., 2012).

    Parameters
    ----------
    classes : int
    resamples : int
        Replicates.
    seed : int
    """

    def __init__(self, classes: int, resamples: int = 200, seed: int = 0):
        self.classes = classes
        self.resamples = resamples
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = torch.zeros(classes, 1 + resamples, dtype=torch.float64)  # the first counts each image once
        self.sums: dict[tuple[str, str], torch.Tensor] = {}

    def add(self, found: dict[str, Found], labels: torch.Tensor) -> None:
        """Take a batch in; by layer what was seen, and the class of each image (N)."""
        drawn = torch.poisson(torch.ones(len(labels), self.resamples), generator=self.generator)
        weights = torch.cat([torch.ones(len(labels), 1), drawn], 1).double()
        member = one_hot(labels.cpu(), self.classes).double()
        self.weights += member.T @ weights
        replicates = torch.einsum("nk,nb->kbn", member, weights)
        for layer, values in found.items():
            share = shares(values.relevance).double().cpu()
            self._add(layer, "share", replicates @ share)
            self._add(layer, "votes", member.T @ votes(share))
            self._add(layer, "activation", member.T @ values.activation.double().cpu())
            if values.inside is not None:
                self._add(layer, "inside", replicates @ values.inside.double().cpu())
                self._add(layer, "absolute", replicates @ values.absolute.double().cpu())

    def _add(self, layer: str, what: str, values: torch.Tensor) -> None:
        self.sums[layer, what] = self.sums.get((layer, what), 0) + values

    def entry(self, layer: str, label: int | None = None) -> Entry:
        """Return what there is of a layer for a class, or for all images together.

        Raises
        ------
        ValueError
            There is no image of the class.
        """

        def of(what: str) -> torch.Tensor | None:
            values = self.sums.get((layer, what))
            return values if values is None else values.sum(0) if label is None else values[label]

        weights = self.weights.sum(0) if label is None else self.weights[label]
        images = int(weights[0])
        if not images:
            raise ValueError(f"no image of class {label}")
        share, low, high = _interval(of("share"), weights[:, None])
        region = (None, None, None) if of("inside") is None else _interval(of("inside"), of("absolute"))
        return Entry(images, share, low, high, ranks(share), of("votes"), of("activation") / images, *region)


def votes(share: torch.Tensor, places: int = VOTES) -> torch.Tensor:
    """Return which concepts are among the `places` most relevant of each image, N x C.

    1 for each; concepts that are equal and too many for the last places share them evenly, so that each image has the
    same number of votes.
    """
    places = min(places, share.shape[1])
    last = share.topk(places, dim=1).values[:, -1:]
    above, tied = share > last, share == last
    left = places - above.sum(1, keepdim=True)
    return above + tied * (left.to(share) / tied.sum(1, keepdim=True))


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the rank of each value, 1 the highest; those within `TIED` of the largest magnitude are tied."""
    order = values.argsort(descending=True, stable=True)
    ordered = values[order]
    starts = torch.ones_like(order, dtype=torch.bool)
    starts[1:] = ordered[:-1] - ordered[1:] > TIED * values.abs().max()
    place = torch.arange(1, len(values) + 1)
    result = torch.empty_like(order)
    result[order] = torch.where(starts, place, 0).cummax(0).values
    return result


def _interval(sums: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mean and its 95 % interval, given sums and weights of the replicates (B x C), the first the data's."""
    means = sums / weights
    low, high = torch.nanquantile(means[1:], torch.tensor([0.025, 0.975], dtype=means.dtype), dim=0)
    return means[0], low, high


def survey(
    form: nn.Module,
    layers: list[str],
    batches: Iterable[tuple[torch.Tensor, ...]],
    composite: Composite,
    take: Callable[[dict[str, Found], torch.Tensor, torch.Tensor], None],
) -> dict[str, float]:
    """See what a network makes of the images it gets right; one LRP pass.

    Relevance starts with one at the true class.

    Parameters
    ----------
    form : nn.Module
        A network in canonical form.
    layers : list of str
    batches : iterable of (images, labels) or (images, labels, masks)
        Normalised images N x 3 x H x W, labels N, and the region of each image, N x H x W in [0, 1].
    composite : zennit composite
    take : function of (found, labels, right)
        Called for each batch with what was seen by layer, and the labels, of the images that are right; and a mask (N)
        of these among the batch's. `Atlas.add` takes the first two.

    Returns
    -------
    dict of layer name to float
        Relevance lost or gained on the way to a layer: mean over images of |sum of relevance - 1|. Where parallel
        paths lead past a layer, that of the nearest modules before and after it that all paths lead through.
    """
    guards = _guards(form, layers)
    watched = {name: form.get_submodule(name) for name in dict.fromkeys([*layers, *sum(guards.values(), [])])}
    following = activations_after(form)
    right: torch.Tensor
    truth: torch.Tensor
    masks: torch.Tensor | None

    def pictures() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        nonlocal truth, masks
        for images, truth, *rest in batches:
            masks = rest[0] if rest else None
            yield images, truth

    def start(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal right
        right = logits.argmax(1) == labels
        return one_hot(labels, logits.shape[1])

    def measure(name: str, z: torch.Tensor) -> Callable[[torch.Tensor], Found | torch.Tensor]:
        if name not in layers:
            return lambda relevance: _total(relevance)
        activation = _positions(_computed(following[name], z) if name in following else z).mean(2)

        def of_relevance(relevance: torch.Tensor) -> Found:
            inside = (None, None) if masks is None or relevance.ndim < 4 else within(masks, relevance)
            return Found(_positions(relevance).sum(2), activation, *inside)

        return of_relevance

    lost: dict[str, float] = dict.fromkeys(watched, 0.0)
    images = 0
    for batch in at_outputs(form, watched, pictures(), start, measure, composite):
        for name, found in batch.items():
            total = found.relevance.sum(1) if isinstance(found, Found) else found
            lost[name] += (total - 1)[right].abs().sum().item()
        images += int(right.sum())
        take({name: batch[name].of(right) for name in layers}, truth[right], right)
    return {name: max(lost[guard] for guard in guards[name]) / max(images, 1) for name in layers}


def _guards(form: nn.Module, layers: list[str]) -> dict[str, list[str]]:
    """Return, by layer, itself if all paths lead through it; or else the nearest such modules on both sides."""
    order, whole = facts(form).order, bottlenecks(form)
    guards = {}
    for layer in layers:
        place = order.index(layer)
        before = [name for name in order[:place] if name in whole][-1:]
        after = [name for name in order[place:] if name in whole][:1]
        guards[layer] = after if after == [layer] else before + after
    return guards


def _computed(module: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Return a module's output without calling the hooks of those that watch it."""
    return type(module).forward(module, values)


def _positions(values: torch.Tensor) -> torch.Tensor:
    """Return N x C x P, whatever the dimensions of space."""
    return values.flatten(2) if values.ndim > 2 else values.unsqueeze(2)


def _total(relevance: torch.Tensor) -> torch.Tensor:
    return relevance.flatten(1).sum(1)
