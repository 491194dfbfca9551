"""Which concepts of a network a pruned copy of it still has: matched by their relevance for the same images.

A concept is a channel; what it does is told by its share of the relevance in each of N images. Two concepts match where
these go together among the images of one class: shares less the class's mean are correlated (Pearson), so that two
concepts that merely serve the same class do not match.
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment


@dataclass(frozen=True)
class Matched:
    """What became of the concepts of a layer.

    Attributes
    ----------
    silent, kept, moved, lost : bool tensors, C
        Of each concept before: it had no relevance in any image; its own channel still does the same; another one does
        (it was removed or does something else now); none does, or only one that does what another concept did.
    gained : bool tensor, C'
        Of each concept afterwards that has relevance: it does nothing that a concept did before.
    to : int tensor, C
        The concept afterwards that it was matched with; -1: none.
    likeness : tensor, C
        Their correlation; NaN: none.
    """

    silent: torch.Tensor
    kept: torch.Tensor
    moved: torch.Tensor
    lost: torch.Tensor
    gained: torch.Tensor
    to: torch.Tensor
    likeness: torch.Tensor


def match(
    before: torch.Tensor, after: torch.Tensor, labels: torch.Tensor, origin: torch.Tensor, least: float
) -> Matched:
    """Match the concepts of a layer before and after pruning.

    Parameters
    ----------
    before, after : tensors, N x C and N x C'
        Shares of relevance of each concept in each of the same images.
    labels : int tensor, N
    origin : int tensor, C'
        The channel that each one left was before.
    least : float
        Correlation from which two concepts match.

    Returns
    -------
    Matched
        Own channels first; of the others the one-to-one assignment with the highest sum (Hungarian method).
    """
    likeness = correlation(before, after, labels)
    own = likeness[origin, torch.arange(len(origin))] >= least
    silent, taken = (before == 0).all(0), own.clone()
    kept, to = torch.zeros_like(silent), torch.full(silent.shape, -1)
    kept[origin[own]] = True
    to[origin[own]] = own.nonzero().flatten()
    moved = torch.zeros_like(kept)
    here, there = (~kept).nonzero().flatten(), (~taken).nonzero().flatten()
    free = likeness[here][:, there]
    free = torch.where(free >= least, free, 0.0)  # else a match would be given up for two that are none
    for row, column in zip(*linear_sum_assignment(free, maximize=True), strict=True):
        if free[row, column]:
            moved[here[row]] = taken[there[column]] = True
            to[here[row]] = there[column]
    matched = likeness[torch.arange(len(to)), to.clamp(min=0)].where(to >= 0, torch.nan)
    lost, gained = ~(silent | kept | moved), ~(taken | (after == 0).all(0))
    return Matched(silent, kept, moved, lost, gained, to, matched)


def correlation(before: torch.Tensor, after: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the correlation, within classes, of each concept before with each afterwards, C x C'; 0 for constants."""
    first, second = (_unit(_less_class_means(shares.double(), labels)) for shares in (before, after))
    return first.T @ second


def _less_class_means(shares: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    of_class = torch.nn.functional.one_hot(labels).to(shares)
    return shares - of_class @ (of_class.T @ shares / of_class.sum(0).clamp(min=1)[:, None])


def _unit(columns: torch.Tensor) -> torch.Tensor:
    size = columns.norm(dim=0, keepdim=True)
    return torch.where(size > 1e-12, columns / size, 0.0)
