"""Regions of an image as masks, given in fractions of its sides, and what of the relevance lies within them."""

import torch
from torch.nn.functional import adaptive_avg_pool2d


def box(size: int, left: float, top: float, right: float, bottom: float) -> torch.Tensor:
    """Return a size x size mask, 1 where a pixel's centre is in the box (0 0 is the image's top left corner)."""
    down, across = _centres(size)
    return ((across >= left) & (across < right) & (down >= top) & (down < bottom)).float()


def disc(size: int, x: float, y: float, radius: float) -> torch.Tensor:
    """Return a size x size mask, 1 where a pixel's centre is in the disc around (x, y)."""
    down, across = _centres(size)
    return ((across - x).square() + (down - y).square() <= radius**2).float()


def within(masks: torch.Tensor, relevance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how much |relevance| of each channel lies within a mask, and how much there is.

    Parameters
    ----------
    masks : tensor, N x H x W in [0, 1]
        Of each image; at the resolution of the relevance a position counts by the part of it that is covered.
    relevance : tensor, N x C x h x w

    Returns
    -------
    inside, all : tensors, N x C
    """
    size = relevance.abs()
    covered = adaptive_avg_pool2d(masks.to(size).unsqueeze(1), size.shape[2:])
    return (size * covered).sum((2, 3)), size.sum((2, 3))


def _centres(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    places = (torch.arange(size) + 0.5) / size
    return places[:, None], places[None, :]
