"""How far scores can be trusted: what was conserved, what is dead, what another draw would have removed."""

import torch

from stages.pruning.criteria import Relevance, Scores


def conservation(found: Relevance) -> dict[str, dict[str, float | None]]:
    """Return, by layer, how much of the relevance that was started arrives at its output, and how much is negative.

    Returns
    -------
    dict of layer name to
        conservation : float
            Sum of relevance over the sum started; None where that is zero. 1 where all paths lead through the layer;
            the layers of parallel branches share it.
        negative : float
            Share of negative relevance in the sum of absolute values.
    """
    layers = {}
    for name in found.scores:
        signed, total = found.signed[name].sum().item(), found.absolute[name].sum().item()
        layers[name] = {
            "conservation": signed / found.started if found.started else None,
            "negative": (total - signed) / (2 * total) if total else 0.0,
        }
    return layers


def lowest_overlap(scores: Scores, again: Scores, share: float = 0.1) -> float:
    """Return which part of the lowest `share` of all filters is the lowest by other scores of the same filters, too.

    Over all layers together, as in Yeom et al. (2021, arXiv 1912.08881, section 4.1). By chance it is `share`.
    """
    lowest = []
    for each in (scores, again):
        together = torch.cat([each[name] for name in scores])
        count = max(1, round(share * len(together)))
        lowest.append(set(torch.argsort(together, stable=True)[:count].tolist()))
    return len(lowest[0] & lowest[1]) / len(lowest[0])


def dead(scores: Scores) -> dict[str, dict[str, float]]:
    """Return, by layer, how many `filters` there are, and how many are `dead`.

    A dead filter has a score of exactly zero. (Relevance that is spread evenly can keep a silent filter from that.)
    """
    return {name: {"filters": len(values), "dead": int((values == 0).sum())} for name, values in scores.items()}
