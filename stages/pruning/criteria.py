"""The criteria: one score a filter, higher means keep.

A filter is a convolution with its batch norm, as surgery removes the two together: z is the output of a layer of the
network in canonical form (batch norms folded), n a reference image with cross-entropy L. To add one: write a function
with the same arguments, name it in `CRITERIA` and in `stages.params.scores.Criterion`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from stages.attribution.canonical import activations_after, batch_norms_after, canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import shares
from stages.attribution.filters import (
    TRUE_CLASS,
    Batches,
    Start,
    at_outputs,
    channels_second,
    of_cross_entropy,
    reduce,
)
from stages.attribution.regions import within
from stages.networks.architectures import filters, scored_layers

Scores = dict[str, torch.Tensor]


@dataclass(frozen=True)
class References:
    """What criteria may look at.

    Attributes
    ----------
    batches : iterable of (images, labels)
        Normalised reference images N x 3 x H x W and labels N; iterable once.
    bounds : (low, high), optional
        Smallest and largest value of each normalised colour channel, 1 x 3 x 1 x 1; LRP's rule "box" and integrated
        gradients need them.
    reduction : {"sum", "abs-sample", "abs-pixel"}
        See `stages.attribution.filters.reduce`.
    seed : int
        Of whatever a criterion draws.
    rules : Rules
        Of LRP.
    start : function of (logits, labels)
        Where relevance starts; see `stages.attribution.filters.from_class`.
    integration_steps : int
        Of integrated gradients.
    label : int, optional
        The class of `crp-class`.
    contrast : (int, int), optional
        The classes of `crp-contrast`: filters of the first are kept.
    region : tensor, H x W or N x H x W in [0, 1], optional
        Of `crp-region`: the same for all images, or of each, in their order.
    """

    batches: Batches
    bounds: tuple[torch.Tensor, torch.Tensor] | None
    reduction: str
    seed: int
    rules: Rules = Rules()
    start: Start = TRUE_CLASS
    integration_steps: int = 20
    label: int | None = None
    contrast: tuple[int, int] | None = None
    region: torch.Tensor | None = None


@dataclass(frozen=True)
class Relevance:
    """What LRP found at the outputs of layers, by name: for each filter (C,), over all reference images.

    Attributes
    ----------
    scores : dict
        The reduction that the references ask for.
    signed, absolute : dict
        Sums of relevance and of its absolute values.
    started : float
        Sum of the relevance that was started at the logits.
    """

    scores: Scores
    signed: Scores
    absolute: Scores
    started: float


def relevance(network: nn.Module, names: list[str], references: References) -> Relevance:
    """Propagate relevance from the logits to the outputs of the named layers."""
    started = 0.0

    def start(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal started
        values = references.start(logits, labels)
        started += values.sum().item()
        return values

    def measure(_: str, z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda relevance: torch.stack(
            [reduce(relevance.float(), reduction) for reduction in (references.reduction, "sum", "abs-pixel")]
        )

    composite = ByGraph(references.rules, references.bounds)
    sums = _sum(at_outputs(*_canonical_layers(network, names), references.batches, start, measure, composite))
    return Relevance(*({name: values[row] for name, values in sums.items()} for row in range(3)), started)


def lrp(network: nn.Module, names: list[str], references: References) -> Scores:
    """Layer-wise relevance: sum_n sum_hw R, or what the references reduce it to.

    Yeom et al. (2021, arXiv 1912.08881, section 3.2) sum it with its sign, their code |sum_hw R| or |R|; Hatefi et al.
    (2024, arXiv 2408.12568) |sum_hw R|.
    """
    return relevance(network, names, references).scores


def crp(network: nn.Module, names: list[str], references: References) -> Scores:
    """Relevance of concepts: sum_n |r_nc|, r_nc = sum_hw R_nc / sum_c' |sum_hw R_nc'|.

    r is a channel's share of the relevance that an image has in a layer, as in Concept Relevance Propagation
    (Achtibat et al., 2023, doi 10.1038/s42256-023-00711-8): each image counts alike, however large its logit.
    """
    return _of_relevance(network, names, references, lambda _, relevance, __: shares(relevance).abs().sum(0))


def crp_class(network: nn.Module, names: list[str], references: References) -> Scores:
    """Relevance of concepts for one class a: sum_{n: y_n = a} |r_nc|, r as for `crp`.

    Raises
    ------
    ValueError
        The references name no class.
    """
    if references.label is None:
        raise ValueError("crp-class needs a class")
    return _of_relevance(
        network, names, references, lambda _, relevance, y: shares(relevance)[y == references.label].abs().sum(0)
    )


def crp_contrast(network: nn.Module, names: list[str], references: References) -> Scores:
    """Contrast of two classes a and b: sum_{n: y_n = a} r_nc - sum_{n: y_n = b} r_nc, r as for `crp`.

    For as many reference images of both: what speaks for b, and not for a, goes first.

    Raises
    ------
    ValueError
        The references name no two classes.
    """
    if references.contrast is None:
        raise ValueError("crp-contrast needs two classes")
    kept, removed = references.contrast

    def contrast(_: str, relevance: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        share = shares(relevance)
        return share[labels == kept].sum(0) - share[labels == removed].sum(0)

    return _of_relevance(network, names, references, contrast)


def crp_region(network: nn.Module, names: list[str], references: References) -> Scores:
    """How little a concept is about a region M: -sum_n (sum_hw |R_nc| M - |M| / HW sum_hw |R_nc|) / sum_c'hw |R_nc'|.

    |R| within the region (at the layer's resolution) beyond the region's part of the image. What is most about it,
    such as an artefact in a corner, goes first. Images without a region, or all of which it is, count nothing.

    Raises
    ------
    ValueError
        The references name no region, or a layer cannot tell it from the rest in any image.
    """
    if references.region is None:
        raise ValueError("crp-region needs a region")
    known = bool((references.region.amax((-2, -1)) > references.region.amin((-2, -1))).any())
    seen, told = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    shapes: dict[str, torch.Size] = {}

    def elsewhere(name: str, relevance: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        masks, shapes[name] = references.region, relevance.shape[2:]
        if masks.ndim == 3:
            masks = masks[seen[name] : seen[name] + len(relevance)]
        seen[name] += len(relevance)
        found = within(masks.expand(len(relevance), -1, -1).to(relevance), relevance)
        if found is None:
            return torch.zeros(relevance.shape[1], device=relevance.device)
        inside, absolute, area = found
        told[name] += int((area > 0).sum())
        total = absolute.sum(1, keepdim=True)
        return -torch.where(total == 0, 0.0, (inside - area[:, None] * absolute) / total).sum(0)

    scores = _of_relevance(network, names, references, elsewhere)
    if blind := next((name for name in names if known and not told[name]), None):
        shape = " x ".join(map(str, shapes[blind])) or "no"
        raise ValueError(f"crp-region: layer {blind} has {shape} positions: too few; prune.layers may exclude it")
    return scores


def _of_relevance(
    network: nn.Module,
    names: list[str],
    references: References,
    value: Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor],
) -> Scores:
    """Sum over batches what `value` makes of a layer's name, the relevance at its output (N x C x ...) and the labels.

    Relevance starts with one at the true class: a share would have the other sign, were its logit negative.
    """
    batch_labels: torch.Tensor

    def start(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal batch_labels
        batch_labels = labels
        return TRUE_CLASS(logits, labels)

    def measure(name: str, _: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda relevance: value(name, relevance.float(), batch_labels)

    composite = ByGraph(references.rules, references.bounds)
    return _sum(at_outputs(*_canonical_layers(network, names), references.batches, start, measure, composite))


def weight(network: nn.Module, names: list[str], references: References) -> Scores:
    """Weight magnitude: sum |w| of the folded filter (Li et al., 2017, arXiv 1608.08710, section 3.1)."""
    _, layers = _canonical_layers(network, names)
    return {name: layer.weight.flatten(1).abs().sum(1) for name, layer in layers.items()}


def weight_l2(network: nn.Module, names: list[str], references: References) -> Scores:
    """Weight magnitude: sqrt(sum w^2) of the folded filter (He et al., 2018, arXiv 1808.06866, equation 2, p = 2)."""
    _, layers = _canonical_layers(network, names)
    return {name: layer.weight.flatten(1).norm(dim=1) for name, layer in layers.items()}


def bn_scale(network: nn.Module, names: list[str], references: References) -> Scores:
    """Batch-norm scale: |gamma| of the batch norm after the layer (Liu et al., 2017, arXiv 1708.06519, section 3.2).

    Raises
    ------
    ValueError
        A layer has no batch norm right after it.
    """
    norms = batch_norms_after(network)
    for name in names:
        if name not in norms or norms[name].weight is None:
            raise ValueError(f"bn-scale needs a batch norm after layer {name}; prune.layers may exclude it")
    return {name: norms[name].weight.detach().abs() for name in names}


def activation(network: nn.Module, names: list[str], references: References) -> Scores:
    """Mean activation: sum_n |mean_hw a|, a = f(z) (Molchanov et al., 2017, arXiv 1611.06440, section 2.2).

    f is the activation function right after the layer, or the identity where there is none (before a residual sum).
    """
    form, layers = _canonical_layers(network, names)
    following = activations_after(form)
    total: Scores = {}

    def add(name: str, layer: nn.Module, inputs: tuple, z: torch.Tensor) -> None:
        activated = channels_second(layer, following[name](z) if name in following else z)
        total[name] = total.get(name, 0) + reduce(activated, references.reduction, "mean")

    for name, layer in layers.items():
        layer.register_forward_hook(partial(add, name))
    with torch.no_grad():
        for images, _ in references.batches:
            form(images)
    return total


def gradient(network: nn.Module, names: list[str], references: References) -> Scores:
    """Sensitivity: sum_n |mean_hw dL/dz| (Sun et al., 2017, arXiv 1706.06197, as compared by Yeom et al., 2021)."""

    def measure(_: str, z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda slope: reduce(slope, references.reduction, "mean")

    return _sum(at_outputs(*_canonical_layers(network, names), references.batches, of_cross_entropy, measure))


def taylor(network: nn.Module, names: list[str], references: References) -> Scores:
    """First-order Taylor: sum_n |mean_hw z dL/dz| (Molchanov et al., 2017, arXiv 1611.06440, equation 8)."""

    def measure(_: str, z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda slope: reduce(z * slope, references.reduction, "mean")

    return _sum(at_outputs(*_canonical_layers(network, names), references.batches, of_cross_entropy, measure))


def integrated_gradients(network: nn.Module, names: list[str], references: References) -> Scores:
    """Integrated gradients of hidden units: sum_n |sum_hw I|, I the integral of (df/dz) dz from black to the image.

    f is the logit of the true class, the path a straight line (Sundararajan et al., 2017, arXiv 1703.01365; for hidden
    units, where it is called conductance: Dhamdhere et al., 2019, arXiv 1805.12233, equation 3). The sum of I over a
    layer that all paths lead through is f(image) - f(black). Trapezoidal rule.
    """
    points = references.integration_steps + 1

    def measure(_: str, z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        along = z.unflatten(0, (points, -1)).diff(dim=0)

        def of_gradient(slope: torch.Tensor) -> torch.Tensor:
            slopes = slope.unflatten(0, (points, -1))
            return reduce(((slopes[1:] + slopes[:-1]) / 2 * along).sum(0), references.reduction)

        return of_gradient

    paths = _paths(references.batches, references.bounds[0], points)
    return _sum(at_outputs(*_canonical_layers(network, names), paths, TRUE_CLASS, measure))


def _paths(batches: Batches, black: torch.Tensor, points: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield points on the line from black to each image, point by point, at least one whole line a batch."""
    for images, labels in batches:
        share = torch.linspace(0, 1, points, device=images.device).view(-1, 1, 1, 1, 1)
        size = max(1, len(images) // points)
        for some, truth in zip(images.split(size), labels.split(size), strict=True):
            yield (black + share * (some - black)).flatten(0, 1), truth.repeat(points)


def random(network: nn.Module, names: list[str], references: References) -> Scores:
    """Uniform noise: what any criterion must beat."""
    generator = torch.Generator().manual_seed(references.seed)
    return {name: torch.rand(filters(network.get_submodule(name)), generator=generator) for name in names}


CRITERIA: dict[str, Callable[[nn.Module, list[str], References], Scores]] = {
    "lrp": lrp,
    "crp": crp,
    "crp-class": crp_class,
    "crp-contrast": crp_contrast,
    "crp-region": crp_region,
    "weight": weight,
    "weight-l2": weight_l2,
    "bn-scale": bn_scale,
    "activation": activation,
    "gradient": gradient,
    "taylor": taylor,
    "integrated-gradients": integrated_gradients,
    "random": random,
}


UNSEEING = {"weight", "weight-l2", "bn-scale", "random"}  # criteria that look at no reference image


def score(
    criterion: str, network: nn.Module, references: References, normalisation: str, names: list[str] | None = None
) -> Scores:
    """Return one score a filter for every layer that has filters, or for those named; the network is left as it was.

    Parameters
    ----------
    criterion : str
        A key of `CRITERIA`.
    normalisation : {"none", "l1", "l2", "mean"}
        See `finish`.

    Returns
    -------
    dict of layer name to float32 tensor (C,), on the CPU

    Raises
    ------
    ValueError
        A score is not finite, or the criterion does not exist for the network.
    """
    names = list(scored_layers(network)) if names is None else names
    return finish(criterion, CRITERIA[criterion](network, names, references), normalisation)


def finish(criterion: str, values: Scores, normalisation: str) -> Scores:
    """Normalise what a criterion found within each layer.

    Parameters
    ----------
    normalisation : {"none", "l1", "l2", "mean"}
        What the scores of each layer are divided by: nothing, their sum of absolute values, their Euclidean norm
        (Molchanov et al., 2017, equation 10), or the mean of their absolute values.

    Raises
    ------
    ValueError
        A score is not finite.
    """
    scores = {name: _normalise(each.detach().float().cpu(), normalisation) for name, each in values.items()}
    for name, each in scores.items():
        if not each.isfinite().all():
            raise ValueError(f"{criterion} gives scores that are not finite in layer {name}")
    return scores


def _canonical_layers(network: nn.Module, names: list[str]) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Return a network's canonical form, and the named layers in it."""
    form = canonical(network)
    return form, {name: form.get_submodule(name) for name in names}


def _normalise(values: torch.Tensor, normalisation: str) -> torch.Tensor:
    if normalisation == "none":
        return values
    magnitude = {"l1": values.abs().sum(), "l2": values.norm(), "mean": values.abs().mean()}[normalisation]
    return values / magnitude if magnitude > 0 else values


def _sum(batches) -> Scores:
    total: Scores = {}
    for batch in batches:
        total = {name: total[name] + values if total else values for name, values in batch.items()}
    return total
