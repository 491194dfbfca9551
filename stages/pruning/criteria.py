"""The criteria: one score a filter, higher means keep.

Each is computed on the network in canonical form (batch norms folded), at the outputs z of its layers, over
reference images n with cross-entropy L. To add one: write a function with the same arguments, name it in `CRITERIA`
and in `stages.params.Criterion`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import Batches, Start, at_outputs, from_class, of_cross_entropy, reduce
from stages.networks.architectures import filters, scored_layers

Scores = dict[str, torch.Tensor]


@dataclass(frozen=True)
class References:
    """What criteria may look at.

    Attributes
    ----------
    batches : iterable of (images, labels)
        Normalised reference images N x 3 x H x W and labels N; iterable once.
    bounds : (low, high)
        Smallest and largest value of each normalised colour channel, 1 x 3 x 1 x 1.
    reduction : {"sum", "abs-sample", "abs-pixel"}
        See `stages.attribution.filters.reduce`.
    seed : int
        Of whatever a criterion draws.
    rules : Rules
        Of LRP.
    start : function of (logits, labels)
        Where relevance starts; see `stages.attribution.filters.from_class`.
    """

    batches: Batches
    bounds: tuple[torch.Tensor, torch.Tensor]
    reduction: str
    seed: int
    rules: Rules = Rules()
    start: Start = from_class("true", "one")


def lrp(network: nn.Module, layers: dict[str, nn.Module], references: References) -> Scores:
    """Layer-wise relevance: sum_n |sum_hw R| (Yeom et al., 2021, arXiv 1912.08881, section 3.2)."""
    return {name: sums[0] for name, sums in relevance_sums(network, layers, references).items()}


def relevance_sums(network: nn.Module, layers: dict[str, nn.Module], references: References) -> Scores:
    """Return, by layer, 3 x C: each filter's score, the sum of its relevance, and the sum of its absolute relevance."""
    composite = ByGraph(references.rules, references.bounds)

    def measure(z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda relevance: torch.stack(
            [reduce(relevance.float(), reduction) for reduction in (references.reduction, "sum", "abs-pixel")]
        )

    return _sum(at_outputs(network, layers, references.batches, references.start, measure, composite))


def weight(network: nn.Module, layers: dict[str, nn.Module], references: References) -> Scores:
    """Weight magnitude: sum |w| of the filter (Li et al., 2017, arXiv 1608.08710, section 3.1)."""
    return {name: layer.weight.detach().abs().flatten(1).sum(1) for name, layer in layers.items()}


def gradient(network: nn.Module, layers: dict[str, nn.Module], references: References) -> Scores:
    """Sensitivity: sum_n |mean_hw dL/dz| (Sun et al., 2017, arXiv 1706.06197, as compared by Yeom et al., 2021)."""

    def measure(z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda slope: reduce(slope, references.reduction, "mean")

    return _sum(at_outputs(network, layers, references.batches, of_cross_entropy, measure))


def taylor(network: nn.Module, layers: dict[str, nn.Module], references: References) -> Scores:
    """First-order Taylor: sum_n |mean_hw z dL/dz| (Molchanov et al., 2017, arXiv 1611.06440, equation 8)."""

    def measure(z: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda slope: reduce(z * slope, references.reduction, "mean")

    return _sum(at_outputs(network, layers, references.batches, of_cross_entropy, measure))


def random(network: nn.Module, layers: dict[str, nn.Module], references: References) -> Scores:
    """Uniform noise: what any criterion must beat."""
    generator = torch.Generator().manual_seed(references.seed)
    return {name: torch.rand(filters(layer), generator=generator) for name, layer in layers.items()}


CRITERIA: dict[str, Callable[[nn.Module, dict[str, nn.Module], References], Scores]] = {
    "lrp": lrp,
    "weight": weight,
    "gradient": gradient,
    "taylor": taylor,
    "random": random,
}


UNSEEING = {"weight", "random"}  # criteria that look at no reference image


def canonical_layers(network: nn.Module) -> tuple[nn.Module, dict[str, nn.Module]]:
    """Return a network's canonical form, and in it the layers that have filters, by name."""
    form = canonical(network)
    return form, {name: form.get_submodule(name) for name in scored_layers(network)}


def score(criterion: str, network: nn.Module, references: References, normalisation: str) -> Scores:
    """Return one score a filter for every layer that has filters; the network is left as it was.

    Parameters
    ----------
    criterion : str
        A key of `CRITERIA`.
    normalisation : {"none", "l1", "l2", "mean"}
        What the scores of each layer are divided by: nothing, their sum of absolute values, their Euclidean norm
        (Molchanov et al., 2017, equation 10), or the mean of their absolute values.

    Returns
    -------
    dict of layer name to float32 tensor (C,), on the CPU

    Raises
    ------
    ValueError
        A score is not finite.
    """
    scores = CRITERIA[criterion](*canonical_layers(network), references)
    scores = {name: _normalise(values.float().cpu(), normalisation) for name, values in scores.items()}
    for name, values in scores.items():
        if not values.isfinite().all():
            raise ValueError(f"{criterion} gives scores that are not finite in layer {name}")
    return scores


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
