import torch

from stages.training.augment import augment


def test_each_image_is_mirrored_or_not_on_its_own():
    torch.manual_seed(0)
    images = torch.rand(200, 3, 8, 8)
    changed = augment(images, flip=True, shift=0)
    mirrored = (changed == images.flip(3)).flatten(1).all(1)
    kept = (changed == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 70 < mirrored.sum() < 130


def test_each_image_is_moved_by_at_most_shift_and_uncovers_black():
    torch.manual_seed(0)
    images = torch.zeros(300, 1, 9, 9)
    images[:, :, 4, 4] = 1
    moved = augment(images, flip=False, shift=2)
    rows, columns = moved[:, 0].flatten(1).argmax(1) // 9, moved[:, 0].flatten(1).argmax(1) % 9
    assert moved.sum() == 300
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4, 5, 6}
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == 25


def test_nothing_asked_for_changes_nothing():
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(augment(images, flip=False, shift=0), images)
