"""What is said of the concepts of classifiers, as numbers of the networks of a study.

That lower layers are uniform and middle and upper ones decide, that concepts decompose into those below, and that
relevance is centred was reported of a classifier of mitoses whose relevance was not conserved.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.names import PARTS, outer_thirds
from stages.reporting.comparison import seeds_interval

Graphs = dict[str, list[dict]]


def sentences(layers: pd.DataFrame, graphs: dict[int, Graphs]) -> list[str]:
    """Return each claim with its number and, of several seeds, the 95 % interval of its mean over them.

    Parameters
    ----------
    layers : DataFrame
        Columns of `stages.concepts`' layers.csv and seed; layers in the network's order.
    graphs : dict
        Seed to the graphs of its classes, from graphs.json.
    """
    found = [decisive(layers), uniform(layers), decomposed(layers, graphs), within(layers)]
    return [sentence for sentence in found if sentence]


def upper_decide(harm: pd.DataFrame, seeds: Sequence[int]) -> list[str]:
    """Return for each criterion how much more of the lower layers than of the upper can go at the same harm.

    Parameters
    ----------
    harm : DataFrame
        criterion, part (of `PARTS`), seed, rate: the lowest that costs so much; where none does there is no row, and
        all of the part's filters count as what can go.
    seeds : sequence of int
        Of the networks that were pruned.
    """
    lower, upper = PARTS
    found = []
    for criterion, of_criterion in harm.groupby("criterion", sort=False):
        rates = of_criterion.pivot(index="seed", columns="part", values="rate").reindex(index=seeds, columns=PARTS)
        never = rates.isna().to_numpy().sum()
        rates = rates.fillna(1.0)
        difference = 100 * (rates[lower] - rates[upper])
        note = f" ({never} of {rates.size} thirds never lost so much: all their filters are counted)" if never else ""
        found.append(
            f"**Upper layers decide** (by {criterion}): so much is lost where {rates[lower].mean():.0%} of the lower "
            f"third's filters go, or {rates[upper].mean():.0%} of the upper third's{note}; a difference of "
            f"{difference.mean():.0f} points{_over_seeds(difference, '{:.0f}')}. {verdict(difference)}"
        )
    return found


def lower_hurt_several(harm: pd.DataFrame, classes: int) -> list[str]:
    """Return for each criterion how many more classes bear it when lower layers are pruned than when upper ones are.

    Parameters
    ----------
    harm : DataFrame
        criterion, part, seed and `classes`, the effective number that bears the loss; seeds that lack a part are left
        out.
    classes : int
        Of the data set: two cannot tell, as one rises where the other falls.
    """
    if classes < 3:
        return []
    lower, upper = PARTS
    found = []
    for criterion, of_criterion in harm.groupby("criterion", sort=False):
        borne = of_criterion.pivot(index="seed", columns="part", values="classes").reindex(columns=PARTS).dropna()
        if borne.empty:
            continue
        difference = borne[lower] - borne[upper]
        found.append(
            f"**Lower layers hurt several classes, upper ones one** (by {criterion}): effectively "
            f"{borne[lower].mean():.1f} classes bear the loss where the lower third's filters go, "
            f"{borne[upper].mean():.1f} where the upper third's do; a difference of {difference.mean():.1f}"
            f"{_over_seeds(difference, '{:.1f}')}. {verdict(difference)}"
        )
    return found


def decisive(layers: pd.DataFrame) -> str:
    """Return what conservation says of layers that decide more than others."""
    reported = layers[layers["reported"]]
    others = f"; {len(layers) - len(reported)} are left out" if len(reported) < len(layers) else ""
    return (
        "**Some layers decide more than others**: relevance cannot say so. All of it arrives at each of the "
        f"{len(reported)} layers reported (each baseline's counted{others}), parallel branches together (at most "
        f"{reported['lost'].max():.1e} is lost, gained or spread over silent concepts on the way); what a network "
        "loses without filters of its lower or upper layers is asked by the stage `sensitivity`. As a claim on "
        "relevance it does not hold."
    )


def uniform(layers: pd.DataFrame) -> str:
    """Return over which part of the concepts relevance is spread, in the lower and the upper third of the layers.

    A third is that of all layers, its mean that of those reported; networks of which one has none are left out.
    """
    part = (layers["effective_concepts"] / layers["concepts"]).where(layers["reported"]).groupby(layers["seed"])
    thirds = pd.DataFrame([[third.mean() for third in outer_thirds(each)] for _, each in part], columns=PARTS).dropna()
    if thirds.empty:
        return ""
    lower, upper = thirds.to_numpy().T
    where = f" of {len(thirds)} of {len(part)} networks" if len(thirds) < len(part) else ""
    return (
        f"**Lower layers are uniform**: relevance is spread over {lower.mean():.0%} of the concepts of the lower third "
        f"of the layers (effective number by number; of those reported{where}), and over {upper.mean():.0%} of the "
        f"upper third's; a difference of {100 * (lower - upper).mean():.0f} points"
        f"{_over_seeds(100 * (lower - upper), '{:.0f}')}. {verdict(lower - upper)}"
    )


def decomposed(layers: pd.DataFrame, graphs: dict[int, Graphs]) -> str:
    """Return which share of a concept its sub-concepts in the graphs bring, and what as many others would."""
    widths = layers.set_index("layer")["concepts"].to_dict()
    brought, alike, concepts = [], [], 0
    for of_class in graphs.values():
        if not (edges := [edge for graph in of_class.values() for edge in graph]):
            continue
        table = pd.DataFrame(
            {
                "above": [tuple(edge["above"]) for edge in edges],
                "share": [edge["share"] for edge in edges],
                "alike": [1 / widths[edge["below"][0]] for edge in edges],
                "graph": [number for number, graph in enumerate(of_class.values()) for _ in graph],
            }
        )
        sums = table.groupby(["graph", "above"], sort=False)[["share", "alike"]].sum()
        concepts += len(sums)
        brought.append(sums["share"].mean())
        alike.append(sums["alike"].mean())
    if not concepts:
        return ""
    return (
        f"**Concepts decompose**: the one to three sub-concepts that the graphs name bring {np.mean(brought):.0%} of a "
        f"concept's relevance{_over_seeds(100 * np.array(brought), '{:.0f}')}, mean over {concepts} concepts; were all "
        f"alike, as many would bring {np.mean(alike):.1%}. {verdict(np.array(brought) - np.array(alike))}"
    )


def within(layers: pd.DataFrame) -> str:
    """Return which part of the relevance lies within the region that was asked about, if one was."""
    if "inside" not in layers or layers["inside"].isna().all():
        return ""
    told = layers[layers["inside"].notna()]
    inside, area = told.groupby("seed")["inside"].mean().to_numpy(), told["area"].mean()
    above, below = (told["inside_low"] > told["area"]).sum(), (told["inside_high"] < told["area"]).sum()
    return (
        f"**Relevance lies in the region** of `concepts.region`: {inside.mean():.0%} of it"
        f"{_over_seeds(100 * inside, '{:.0f}')}, where the region is {area:.0%} of the image; by the interval over "
        f"images more than its area in {above} of {len(told)} layers (each baseline's counted), less in {below}. "
        f"{verdict(inside - area)}"
    )


def verdict(differences: Sequence[float]) -> str:
    """Return whether a claim holds that says that these differences, one a seed, are positive."""
    low, high = seeds_interval(np.asarray(differences))
    if np.isnan(low):
        return f"In this one network it {'holds' if np.mean(differences) > 0 else 'does not hold'}."
    if low <= 0 <= high:
        return "Whether it holds, these networks do not show: the interval includes zero."
    return "It holds." if low > 0 else "It does not hold."


def _over_seeds(values: np.ndarray, form: str) -> str:
    low, high = seeds_interval(np.asarray(values))
    return "" if np.isnan(low) else f" ({form.format(low)} to {form.format(high)})"
