"""The concept atlas: which concepts of a layer a class relies on, streamed over images.

A concept is a channel (`stages.attribution.concepts`). Everything is accumulated batch by batch; what is kept depends
on the number of channels and classes, never on that of the images.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from zennit.core import Composite

from stages.attribution.canonical import activations_after, bottlenecks, facts
from stages.attribution.concepts import shares
from stages.attribution.filters import TRUE_CLASS, at_outputs, positions
from stages.attribution.regions import within
from stages.attribution.rules import counting_spread

LEFT_OUT = "%s is left out: %.2g of the relevance is lost, gained or spread over silent concepts on the way to it"
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
        Mean over space, after the activation function; of the output itself, where none follows that alone.
    inside, absolute : tensor, N x C, optional
        Sums over space of |relevance|, within a region of the image and everywhere; zeros where the layer cannot tell.
    area : tensor, N, optional
        The region's part of the layer's positions; 0 where it cannot tell.
    """

    relevance: torch.Tensor
    activation: torch.Tensor
    inside: torch.Tensor | None = None
    absolute: torch.Tensor | None = None
    area: torch.Tensor | None = None

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
        Mean share of relevance, and its 95 % bootstrap interval; of a single group of images there is none (nan).
    rank : int tensor
        1 is the most relevant; concepts with equal shares have equal ranks.
    votes : tensor
        How many images have the concept among their five most relevant; where several tie for the last places, they
        share these. One that speaks against the class, or says nothing, has none.
    activation : tensor
    inside, inside_low, inside_high : tensor, optional
        Share of the concept's |relevance| within the region, and its interval; not a number where it has none.
    area : float, optional
        What `inside` would be, were relevance everywhere alike.
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
    area: float | None


class Atlas:
    """Statistics of concepts by layer and class.

    Intervals are of the Poisson bootstrap: a group of images that belong together (a slide, a patient) counts, in each
    replicate, as often as a Poisson variable with mean one says, so that no image needs to be kept (Hanley and
    MacGibbon, 2006, doi 10.1016/j.cmpb.2006.04.006; Chamandy et al., 2012).

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
        self.seed = seed
        self.weights = torch.zeros(classes, 1 + resamples, dtype=torch.float64)  # the first counts each image once
        self.groups: list[set[int]] = [set() for _ in range(classes)]  # two at most: enough to know that there are
        self.sums: dict[tuple[str, str], torch.Tensor] = {}

    def add(self, found: dict[str, Found], labels: torch.Tensor, groups: Sequence[int]) -> None:
        """Take a batch in: by layer what was seen, and of each image the class and the number of its group (N)."""
        drawn = [np.random.default_rng([self.seed, group]).poisson(1.0, self.resamples) for group in groups]
        for label in labels.unique().tolist():
            chosen = (labels == label).cpu()
            weights = torch.ones(int(chosen.sum()), 1 + self.resamples, dtype=torch.float64)
            weights[:, 1:] = torch.from_numpy(np.stack([drawn[n] for n in chosen.nonzero().flatten()]))
            self.weights[label] += weights.sum(0)
            for n in chosen.nonzero().flatten():
                if len(self.groups[label]) < 2:
                    self.groups[label].add(groups[n])
            for layer, values in found.items():
                each = values.of(chosen.to(labels.device))
                share = shares(each.relevance).double().cpu()
                self._add(layer, "share", label, weights.T @ share)
                self._add(layer, "votes", label, votes(share).sum(0))
                self._add(layer, "activation", label, each.activation.double().cpu().sum(0))
                if each.inside is not None:
                    self._add(layer, "inside", label, weights.T @ each.inside.double().cpu())
                    self._add(layer, "absolute", label, weights.T @ each.absolute.double().cpu())
                    self._add(layer, "area", label, each.area.double().cpu().sum())
                    self._add(layer, "told", label, (each.area > 0).double().cpu().sum())

    def _add(self, layer: str, what: str, label: int, values: torch.Tensor) -> None:
        if (layer, what) not in self.sums:
            self.sums[layer, what] = torch.zeros(self.classes, *values.shape, dtype=torch.float64)
        self.sums[layer, what][label] += values

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
            raise ValueError("no image" if label is None else f"no image of class {label}")
        groups = set().union(*self.groups) if label is None else self.groups[label]
        share, low, high = _interval(of("share"), weights[:, None], len(groups))
        region = (None,) * 4
        if of("inside") is not None and of("told"):
            area = (of("area") / of("told")).item()
            region = (*_interval(of("inside"), of("absolute"), len(groups)), area)
        return Entry(images, share, low, high, ranks(share), of("votes"), of("activation") / images, *region)

    def spread(self, layer: str) -> tuple[float, float, float]:
        """Return over how many concepts of a layer the relevance of all images is spread, and its interval.

        The effective number: the exponential of the entropy of the concepts' absolute mean shares.
        """
        means = (self.sums[layer, "share"].sum(0) / self.weights.sum(0)[:, None]).abs()
        part = means / means.sum(1, keepdim=True)
        effective = torch.exp(-torch.xlogy(part, part).sum(1, keepdim=True))
        return tuple(each.item() for each in _of_replicates(effective, len(set().union(*self.groups))))

    def region(self, layer: str) -> tuple[float, float, float, float] | None:
        """Return which part of a layer's |relevance| is within the region, its interval, and the region's area.

        None, where the layer can tell it of no image, or no region was asked about.
        """
        told = self.sums.get((layer, "told"))
        if told is None or not told.sum():
            return None
        inside, every = (self.sums[layer, what].sum((0, 2))[:, None] for what in ("inside", "absolute"))
        found = _of_replicates(inside / every, len(set().union(*self.groups)))
        return *(each.item() for each in found), (self.sums[layer, "area"].sum() / told.sum()).item()


def votes(share: torch.Tensor, places: int = VOTES) -> torch.Tensor:
    """Return which concepts are among the `places` most relevant of each image, N x C.

    1 for each; concepts that tie and are too many for the last places share them evenly. One whose share is not above
    zero has none.
    """
    places = min(places, share.shape[1])
    last = share.topk(places, dim=1).values[:, -1:]
    near = TIED * share.abs().amax(1, keepdim=True)
    above = (share > last + near) & (share > 0)
    tied = ((share - last).abs() <= near) & (share > 0)
    left = (places - above.sum(1, keepdim=True)).to(share)
    return above + tied * (left / tied.sum(1, keepdim=True).clamp(min=1)).clamp(max=1)


def ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the rank of each value, 1 the highest; values that differ from the first of a tie by little are tied."""
    order = values.argsort(descending=True, stable=True)
    near = TIED * values.abs().max().item()
    place, first = 0, float("inf")
    result = torch.empty_like(order)
    for number, (index, value) in enumerate(zip(order.tolist(), values[order].tolist(), strict=True), 1):
        if first - value > near:
            place, first = number, value
        result[index] = place
    return result


def _interval(
    sums: torch.Tensor, weights: torch.Tensor, groups: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the mean and its 95 % interval, given sums and weights of the replicates (B x C), the first the data's."""
    return _of_replicates(sums / weights, groups)


def _of_replicates(means: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the first of the replicates (B x C), and the others' 95 % interval; of a single group there is none."""
    if groups < 2:
        return means[0], *(torch.full_like(means[0], torch.nan) for _ in range(2))
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
        of these among the batch's.

    Returns
    -------
    dict of layer name to float
        Relevance lost or gained on the way to a layer, mean over images of |sum of relevance - 1|, and what was spread
        evenly on the way because nothing had contributed (see `rules.counting_spread`), at each layer that did: it
        arrives, but any concept may have it. Where parallel paths lead past a layer, the larger of that at the nearest
        modules before and after it that all lead through.
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
        spread.clear()
        return TRUE_CLASS(logits, labels)

    def off(relevance: torch.Tensor) -> torch.Tensor:
        """Return, as it arrives, what of each image's was lost or gained, and what was spread evenly so far."""
        return (relevance.flatten(1).sum(1) - 1).abs() + sum(spread, relevance.new_zeros(len(relevance)))

    def measure(name: str, z: torch.Tensor) -> Callable[[torch.Tensor], tuple[torch.Tensor, Found | None]]:
        if name not in layers:
            return lambda relevance: (off(relevance), None)
        activation = positions(_computed(following[name], z) if name in following else z).mean(2)

        def of_relevance(relevance: torch.Tensor) -> tuple[torch.Tensor, Found]:
            inside = None if masks is None else within(masks, relevance)
            return off(relevance), Found(positions(relevance).sum(2), activation, *(inside or ()))

        return of_relevance

    lost: dict[str, float] = dict.fromkeys(watched, 0.0)
    images = 0
    with counting_spread() as spread:
        for batch in at_outputs(form, watched, pictures(), start, measure, composite):
            for name, (of_images, _) in batch.items():
                lost[name] += of_images[right].sum().item()
            images += int(right.sum())
            take({name: batch[name][1].of(right) for name in layers}, truth[right], right)
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
