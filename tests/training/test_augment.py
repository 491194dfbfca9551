"""Each image has a change of its own; what the changes are is checked against torchvision, image by image."""

import math

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from stages.params.training import Augment
from stages.training import augment as module
from stages.training.augment import augment

NONE = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)


def settings(colour=None, **changes):
    keep = {"flip": False, "flip_vertical": False, "shift": 0, "rotate": 0.0, "crop": 1.0}
    return Augment.model_validate(keep | changes | {"colour": NONE | (colour or {})})


@pytest.mark.parametrize(("name", "axis"), [("flip", 3), ("flip_vertical", 2)])
def test_each_image_is_mirrored_or_not_on_its_own(name, axis):
    torch.manual_seed(0)
    images = torch.rand(200, 3, 8, 8)
    changed = augment(images, settings(**{name: True}))
    mirrored = (changed == images.flip(axis)).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_each_image_is_moved_by_at_most_shift_and_uncovers_black():
    torch.manual_seed(0)
    images = torch.zeros(300, 1, 9, 9)
    images[:, :, 4, 4] = 1
    moved = augment(images, settings(shift=2))
    rows, columns = moved[:, 0].flatten(1).argmax(1) // 9, moved[:, 0].flatten(1).argmax(1) % 9
    assert moved.sum() == 300
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 25


def test_nothing_asked_for_changes_nothing():
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(images, settings()), images)


@pytest.fixture
def drawn(monkeypatch):
    """Replace what is drawn: one list of numbers for each draw, in order."""

    def give(*draws):
        waiting = iter(draws)
        monkeypatch.setattr(module.Draws, "uniform", lambda self, low, high, like: torch.tensor(next(waiting)))

    return give


def test_a_turn_is_that_of_torchvision(drawn):
    images, angles = torch.rand(3, 3, 12, 20), [30.0, -77.0, 180.0]
    drawn([1.0] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3, angles)
    turned = augment(images, settings(rotate=180.0))
    for image, angle, found in zip(images, angles, turned, strict=True):
        assert (found - functional.rotate(image, -angle, InterpolationMode.BILINEAR)).abs().max() < 1e-4


def test_a_crop_is_resized_as_torchvision_does(drawn):
    images = torch.rand(2, 3, 16, 16)
    # parts of 8 x 8 and of 10 x 8 (height x width) pixels with their upper left corners at (4, 2) and (4, 8)
    boxes = [(4, 2, 8, 8), (4, 8, 10, 8)]
    area = [height * width / 256 for _, _, height, width in boxes]
    ratio = [math.log(width / height) / math.log(4 / 3) for _, _, height, width in boxes]
    drawn(
        area, ratio,
        [(2 * left + width - 16) / (16 - width) for _, left, _, width in boxes],
        [(2 * top + height - 16) / (16 - height) for top, _, height, _ in boxes],
        [0.0, 0.0],
    )  # fmt: skip
    for image, box, found in zip(images, boxes, augment(images, settings(crop=0.2)), strict=True):
        wanted = functional.resized_crop(image, *box, [16, 16], InterpolationMode.BILINEAR, antialias=False)
        assert (found - wanted)[:, 1:-1, 1:-1].abs().max() < 1e-5  # at the border ours looks beyond the crop


def test_a_turn_comes_before_the_crop(drawn):
    torch.manual_seed(0)
    images = functional.resize(torch.rand(2, 3, 4, 6), [48, 80])  # smooth: ours are interpolated once, theirs twice
    angles, top, left, height, width = [20.0, -35.0], 24, 8, 12, 20
    area = [height * width / (48 * 80)] * 2
    drawn(area, [0.0] * 2, [2 * left / (80 - width) - 1] * 2, [2 * top / (48 - height) - 1] * 2, angles)
    for image, angle, found in zip(images, angles, augment(images, settings(crop=0.05, rotate=40.0)), strict=True):
        turned = functional.rotate(image, -angle, InterpolationMode.BILINEAR)
        wanted = functional.resized_crop(turned, top, left, height, width, [48, 80], antialias=False)
        assert (found - wanted)[:, 4:-4, 4:-4].abs().max() < 0.02  # at the border ours looks beyond the crop


@pytest.mark.parametrize("least", [0.3, 0.9])
def test_crops_have_at_least_the_area_asked_for_and_lie_inside(least):
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 64)
    across, down = ramp.expand(64, 64), ramp.view(-1, 1).expand(64, 64)
    images = torch.stack([across, down, torch.ones(64, 64)]).repeat(500, 1, 1, 1)
    cropped = augment(images, settings(crop=least))
    assert cropped[:, 2].min() > 0.999  # no black from outside
    inner = cropped[:, :2, 2:-2, 2:-2].flatten(2)  # a ramp is flat beyond its ends
    across, down = ((inner.amax(2) - inner.amin(2)) * 63 / 59).T
    assert least * 0.99 < (across * down).min() < least + 0.05
    assert (across * down).max() > 0.98
    assert max((across / down).max(), (down / across).max()) < 4 / 3 + 0.01


@pytest.mark.parametrize(
    ("name", "adjust", "factors", "amount"),
    [
        ("brightness", functional.adjust_brightness, [0.4, 1.0, 1.7], 0.7),
        ("contrast", functional.adjust_contrast, [0.4, 1.0, 1.7], 0.7),
        ("saturation", functional.adjust_saturation, [0.4, 1.0, 1.7], 0.7),
        ("hue", functional.adjust_hue, [-0.5, 0.0, 0.23], 0.5),
    ],
)
def test_a_change_of_colour_is_that_of_torchvision(drawn, name, adjust, factors, amount):
    images = torch.rand(3, 3, 8, 8)
    images[:, :, 0, 0] = 0.5  # grey
    images[:, :, 0, 1] = 0  # black
    images[:, :, 1, 0] = torch.tensor([1.0, 1.0, 0.0])
    drawn(factors)
    coloured = augment(images, settings(colour={name: amount}))
    for image, factor, found in zip(images, factors, coloured, strict=True):
        assert (found - adjust(image, factor)).abs().max() < 1e-5


def test_all_together_stay_in_range_and_differ_from_image_to_image():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 16, 16).repeat(8, 1, 1, 1)
    every = settings(
        colour=dict.fromkeys(NONE, 0.3), flip=True, flip_vertical=True, shift=2, rotate=20.0, crop=0.5
    )  # fmt: skip
    changed = augment(images, every)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in changed}) == 8
