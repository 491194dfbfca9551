"""Random changes of training images, drawn for each image of a batch, computed for the whole batch at once.

torchvision's transforms v2 draw once for a whole batch, which would turn, crop and colour all of its images alike;
called image by image they are slow (`make bench-data`). The definitions are theirs, and the tests compare with them
image by image.
"""

import math
from dataclasses import dataclass, field

import torch
from torch.nn.functional import affine_grid, grid_sample, pad

from stages.params.training import Augment

RATIO = math.log(4 / 3)  # of width to height, of a random crop, at most
GREY = 0.2989, 0.587, 0.114  # of red, green and blue


@dataclass(frozen=True)
class Draws:
    """Random numbers for the images of a batch.

    Drawn for all of them and on the CPU, they are the same on every device and however many processes share the batch.

    Attributes
    ----------
    count : int
        Images of the whole batch.
    own : slice or int64 tensor
        Those that this process has.
    """

    count: int
    own: slice | torch.Tensor = field(default_factory=lambda: slice(None))

    def uniform(self, low: float, high: float, like: torch.Tensor) -> torch.Tensor:
        """Return a number for each own image, on the device of `like`."""
        return torch.empty(self.count).uniform_(low, high)[self.own].to(like.device)

    def integers(self, low: int, high: int, like: torch.Tensor) -> torch.Tensor:
        """Return two of low, …, high for each own image, 2 x N, on the device of `like`."""
        return torch.randint(low, high + 1, (2, self.count))[:, self.own].to(like.device)

    def half(self, like: torch.Tensor) -> torch.Tensor:
        """Return which half of the own images, each by its own draw, is to be changed."""
        return self.uniform(0, 1, like) < 0.5


def augment(images: torch.Tensor, settings: Augment, draws: Draws | None = None) -> torch.Tensor:
    """Return images mirrored, moved, turned, cropped and coloured at random.

    Parameters
    ----------
    images : tensor, N x 3 x H x W
        In [0, 1]; what a move or a turn uncovers is black.
    draws : Draws, optional
        Where the images are a part of a batch.
    settings : Augment
        `flip` (left-right) and `flip_vertical` with probability one half each; `shift` by up to so many pixels;
        `rotate` by up to so many degrees; `crop` a part of at least this share of the area and 3/4 to 4/3 of the
        proportions, resized to the whole (RandomResizedCrop); `colour` as ColorJitter, in the order in which its parts
        are listed.
    """
    draws = draws or Draws(len(images))
    interpolates = settings.rotate or settings.crop < 1
    mapped = _mapped(images, settings, draws) if interpolates else _moved(images, settings, draws)
    return _coloured(mapped, settings, draws)


def _moved(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    """Mirror and move by whole pixels: no value changes."""
    count, _, height, width = images.shape
    for wanted, axis in ((settings.flip, 3), (settings.flip_vertical, 2)):
        if wanted:
            images = torch.where(draws.half(images).view(-1, 1, 1, 1), images.flip(axis), images)
    if shift := settings.shift:
        top, left = draws.integers(0, 2 * shift, images).unsqueeze(2)
        rows = (top + torch.arange(height, device=images.device)).view(count, 1, height, 1)
        columns = (left + torch.arange(width, device=images.device)).view(count, 1, 1, width)
        number = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
        channel = torch.arange(images.shape[1], device=images.device).view(1, -1, 1, 1)
        images = pad(images, (shift,) * 4)[number, channel, rows, columns]
    return images


def _mapped(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    """Mirror, move, crop and turn by one affine map an image, interpolated once (bilinear).

    A point (x, y) of the result, in [-1, 1], shows the point R(S (x, y) + c) of the image: S scales to the crop and
    mirrors, c is its centre, R turns.
    """
    height, width = images.shape[2:]
    area = draws.uniform(settings.crop, 1, images)
    widest = (-area.log()).clamp(max=RATIO)  # of a part of this area that fits into the image
    ratio = (draws.uniform(-1, 1, images) * widest).exp()
    across, down = (area * ratio).sqrt(), (area / ratio).sqrt()
    x = draws.uniform(-1, 1, images) * (1 - across)
    y = draws.uniform(-1, 1, images) * (1 - down)
    if settings.shift:
        moves = draws.integers(-settings.shift, settings.shift, images)
        x, y = x + 2 * moves[0] / width, y + 2 * moves[1] / height
    signs = [
        1 - 2 * draws.half(images).float() if wanted else torch.ones_like(area)
        for wanted in (settings.flip, settings.flip_vertical)
    ]
    angle = draws.uniform(-settings.rotate, settings.rotate, images).deg2rad()
    cos, sin = angle.cos(), angle.sin()
    stretch = height / width  # in [-1, 1] a turn of a picture that is not square is none
    theta = torch.stack(
        [
            torch.stack([cos * across * signs[0], sin * stretch * down * signs[1], cos * x + sin * stretch * y], 1),
            torch.stack([-sin / stretch * across * signs[0], cos * down * signs[1], -sin / stretch * x + cos * y], 1),
        ],
        1,
    )
    uncovers = "zeros" if settings.rotate or settings.shift else "border"
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode=uncovers, align_corners=False)


def _coloured(images: torch.Tensor, settings: Augment, draws: Draws) -> torch.Tensor:
    colour = settings.colour

    def factor(amount: float) -> torch.Tensor:
        return draws.uniform(1 - amount, 1 + amount, images).view(-1, 1, 1, 1)

    if colour.brightness:
        images = (images * factor(colour.brightness)).clamp(0, 1)
    if colour.contrast:
        images = images.lerp(_grey(images).mean((1, 2, 3), keepdim=True), 1 - factor(colour.contrast)).clamp(0, 1)
    if colour.saturation:
        images = images.lerp(_grey(images).expand_as(images), 1 - factor(colour.saturation)).clamp(0, 1)
    if colour.hue:
        images = _turned_hue(images, draws.uniform(-colour.hue, colour.hue, images).view(-1, 1, 1))
    return images


def _grey(images: torch.Tensor) -> torch.Tensor:
    return (images * images.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)


def _turned_hue(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Turn the hue of the HSV model by a share of the circle; value and saturation stay."""
    value = images.amax(1)
    chroma = value - images.amin(1)
    red, green, blue = images.unbind(1)
    safe = chroma.clamp(min=torch.finfo(images.dtype).tiny)
    of_green_or_blue = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sixth = torch.where(value == red, (green - blue) / safe, of_green_or_blue) + 6 * turn
    return torch.stack([_channel(offset, sixth, value, chroma) for offset in (5, 3, 1)], 1)


def _channel(offset: int, sixth: torch.Tensor, value: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Return V - C max(0, min(k, 4 - k, 1)) with k = (offset + hue in sixths) mod 6: HSV to one of RGB."""
    k = (offset + sixth) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
