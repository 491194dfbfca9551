"""Random changes of training images, drawn for each image of a batch, computed for the whole batch at once."""

import torch
from torch.nn.functional import pad


def augment(images: torch.Tensor, flip: bool, shift: int) -> torch.Tensor:
    """Mirror each image left-right with probability one half and move it by up to `shift` pixels.

    Parameters
    ----------
    images : tensor, N x C x H x W
        In [0, 1]; what a move uncovers is black.
    """
    count, _, height, width = images.shape
    if flip:
        mirrored = torch.rand(count, device="cpu").to(images.device) < 0.5
        images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    if shift:
        top, left = torch.randint(0, 2 * shift + 1, (2, count, 1), device="cpu").to(images.device)
        rows = (top + torch.arange(height, device=images.device)).view(count, 1, height, 1)
        columns = (left + torch.arange(width, device=images.device)).view(count, 1, 1, width)
        number = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
        channel = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
        images = pad(images, (shift,) * 4)[number, channel, rows, columns]
    return images
