"""Regions of an image as masks, given in fractions of its sides, and what of the relevance lies within them."""

import torch
from torch.nn.functional import adaptive_avg_pool2d


def box(size: int, left: float, top: float, right: float, bottom: float) -> torch.Tensor:
    """Return a size x size mask, 1 where a pixel's centre is in the box (0 0 is the image's top left corner).

    Raises
    ------
    ValueError
        It holds no pixel, or all.
    """
    down, across = _centres(size)
    return _some((across >= left) & (across < right) & (down >= top) & (down < bottom))


def disc(size: int, x: float, y: float, radius: float) -> torch.Tensor:
    """Return a size x size mask, 1 where a pixel's centre is in the disc around (x, y).

    Raises
    ------
    ValueError
        It holds no pixel, or all.
    """
    down, across = _centres(size)
    return _some((across - x).square() + (down - y).square() <= radius**2)


def _some(mask: torch.Tensor) -> torch.Tensor:
    if mask.all() or not mask.any():
        raise ValueError(f"holds {'all' if mask.any() else 'none'} of the {len(mask)} x {len(mask)} pixels")
    return mask.float()


def within(masks: torch.Tensor, relevance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Return how much |relevance| of each channel lies within a mask, and how much there is.

    None, where a layer has no positions; zeros for images of which it cannot tell: all positions are covered alike.

    Parameters
    ----------
    masks : tensor, N x H x W in [0, 1]
        Of each image; at the resolution of the relevance a position counts by the part of it that is covered.
    relevance : tensor, N x C or N x C x h x w

    Returns
    -------
    inside, all : tensors, N x C
    area : tensor, N
        The part of the positions that is covered.
    """
    if relevance.ndim < 4:
        return None
    size = relevance.abs()
    covered = adaptive_avg_pool2d(masks.to(size).unsqueeze(1), size.shape[2:])
    told = (covered.amax((1, 2, 3)) - covered.amin((1, 2, 3)) > 1e-6).to(size)[:, None]
    area = covered.mean((2, 3)) * told
    return (size * covered).sum((2, 3)) * told, size.sum((2, 3)) * told, area[:, 0]


def _centres(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    places = (torch.arange(size) + 0.5) / size
    return places[:, None], places[None, :]
