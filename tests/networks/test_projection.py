"""Projection against brute force over all training patches."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
import torch

from stages.errors import InputError
from stages.networks.projection import box, deviation, distinct, enlarged, highest, project, refuse_few
from tests.conftest import protopnet


def regrouped(data, group_of):
    """Return the data with another group for each image, a function of its row and label."""
    groups = [str(group_of(row, label)) for row, label in enumerate(data.index["label"])]
    return dataclasses.replace(data, index=data.index.assign(group=groups))


def repainted(data, changes):
    """Return the data with the pixels of some rows taken from others."""
    images = np.array(data.images)
    for row, other in changes.items():
        images[row] = data.images[other]
    return dataclasses.replace(data, images=images)


def patches(network, architecture, data, row):
    """Return the patches of an image, D x h x w."""
    with torch.no_grad():
        return network.latent(architecture.normalise(data.batch(np.array([row]))[0]))[0]


def row_of(data, image):
    return data.index["image_id"].tolist().index(image)


def train_rows(data, label):
    return [row for row in data.rows("train") if data.index["label"][row] == label]


def least_distances(network, architecture, data, rows):
    """Return the squared distance of each prototype to the nearest patch of each image, rows x prototypes."""
    vectors, found = network.prototypes.vectors.detach(), []
    for row in rows:
        latent = patches(network, architecture, data, row).flatten(1)
        found.append([(latent - vector[:, None]).square().sum(0).min().item() for vector in vectors])
    return np.array(found)


def test_without_conflicts_each_prototype_becomes_the_nearest_patch_of_its_class(prepared):
    network, architecture = protopnet(range(10))
    near = {n: least_distances(network, architecture, prepared, train_rows(prepared, n))[:, n] for n in range(10)}
    before = network.prototypes.vectors.detach().clone()
    projected = project(network, architecture, prepared, 32)
    for label, (vector, source) in enumerate(
        zip(network.prototypes.vectors.detach(), projected.prototypes.sources, strict=True)
    ):
        row, (down, across) = row_of(prepared, source.image), source.position
        assert row in train_rows(prepared, label)
        assert (vector - patches(network, architecture, prepared, row)[:, down, across]).abs().max() <= 1e-5
        assert (vector - before[label]).square().sum().item() == pytest.approx(near[label].min(), abs=1e-5)
    assert deviation(network, projected, prepared) <= 1e-5


def test_a_source_names_image_group_pixels_patch_and_weights(prepared):
    network, architecture = protopnet([4, 7])
    projected = project(network, architecture, prepared, 32)
    assert projected.prototypes.backbone_sha256 == network.digest()
    for number, source in enumerate(projected.prototypes.sources):
        row = row_of(prepared, source.image)
        assert source.group == prepared.index["group"][row]
        assert source.image_sha256 == hashlib.sha256(prepared.images[row].tobytes()).hexdigest()
        apart = patches(network, architecture, prepared, row) - network.prototypes.vectors[number][:, None, None]
        similarity = network.prototypes.of_distances(apart.square().sum(0)).detach()
        assert divmod(similarity.argmax().item(), 4) == tuple(source.position)
        left, top, right, bottom = source.box
        down, across = (4 * place + 2 for place in source.position)
        assert left <= across <= right and top <= down <= bottom


@pytest.mark.parametrize("per_class", [1, 3])
def test_no_two_prototypes_come_from_one_group(prepared, per_class):
    shared = regrouped(prepared, lambda row, label: row % 12 if per_class == 1 else f"{label}-{row % 4}")
    network, architecture = protopnet(np.repeat(range(10), per_class).tolist())
    network.prototypes.vectors.data[:] = network.prototypes.vectors.data[0]
    sources = project(network, architecture, shared, 32).prototypes.sources
    assert len({source.group for source in sources}) == 10 * per_class
    labels = [shared.index["label"][row_of(shared, source.image)] for source in sources]
    assert labels == architecture.prototypes.classes
    assert all(shared.index["group"][row_of(shared, source.image)] == source.group for source in sources)


@pytest.mark.parametrize("seed", range(4))
def test_with_conflicts_the_sum_of_distances_is_the_least(prepared, seed):
    few = regrouped(prepared, lambda row, label: row % 5)
    network, architecture = protopnet([3, 3, 3])
    torch.manual_seed(seed)
    rows = train_rows(few, 3)
    middle = patches(network, architecture, few, rows[seed]).mean((1, 2))
    network.prototypes.vectors.data[:] = middle + 0.02 * torch.randn(3, len(middle))
    of_image = least_distances(network, architecture, few, rows)
    of_group = np.stack([of_image[few.index["group"][rows] == str(group)].min(0) for group in range(5)])
    ways = [of_group[list(way), range(3)].sum() for way in itertools.permutations(range(5), 3)]
    before = network.prototypes.vectors.detach().clone()
    project(network, architecture, few, 32)
    moved = (network.prototypes.vectors.detach() - before).square().sum(1)
    assert moved.sum().item() == pytest.approx(min(ways), rel=1e-3)
    assert len(set(of_group.argmin(0))) < 3


def test_equal_pixels_count_once(prepared):
    rows = train_rows(prepared, 6)
    network, architecture = protopnet([6, 6])
    network.prototypes.vectors.data[1] = network.prototypes.vectors.data[0]
    nearest = rows[least_distances(network, architecture, prepared, rows)[:, 0].argmin()]
    copied = repainted(prepared, {row: nearest for row in rows[:5] if row != nearest})
    assert distinct(copied, np.array(rows)).tolist() == [rows[0], *(row for row in rows[5:] if row != nearest)]
    sources = project(network, architecture, copied, 32).prototypes.sources
    assert len({source.image_sha256 for source in sources}) == 2


@pytest.fixture
def projected(prepared):
    network, architecture = protopnet([0, 1, 1])
    return network, project(network, architecture, prepared, 32)


def test_the_deviation_is_that_of_the_prototype_which_is_furthest_off(projected, prepared):
    network, architecture = projected
    network.last.weight.data += 1  # is trained on after a projection
    network.prototypes.vectors.data[1, 3] += 0.5
    network.prototypes.vectors.data[2, 0] -= 0.25
    assert deviation(network, architecture, prepared) == pytest.approx(0.5, abs=1e-5)


def test_prototypes_of_another_backbone_are_refused(projected, prepared):
    network, architecture = projected
    network.features.conv1.weight.data[0, 0, 0, 0] += 1e-3
    with pytest.raises(InputError, match="were projected with another backbone; project them again"):
        deviation(network, architecture, prepared)


def test_prototypes_that_were_never_projected_are_refused(prepared):
    with pytest.raises(InputError, match="were never projected onto training patches"):
        deviation(*protopnet([0, 1]), prepared)


def test_prototypes_of_images_that_changed_or_are_gone_are_refused(projected, prepared):
    network, architecture = projected
    image = architecture.prototypes.sources[2].image
    row = row_of(prepared, image)
    changed = repainted(prepared, {row: row - 1})
    renamed = dataclasses.replace(prepared, index=prepared.index.replace({"image_id": {image: "another"}}))
    for data in (changed, renamed):
        with pytest.raises(InputError, match=f"image {image}, of which one is a patch, is not in the data as it was"):
            deviation(network, architecture, data)


def test_more_prototypes_of_a_class_than_groups_are_refused(prepared):
    few = regrouped(prepared, lambda row, label: row % 2 if label == 5 else row)
    refuse_few(few, [5, 5, 4, 4, 4], 1)
    with pytest.raises(InputError, match=rf"3 prototypes of class '{prepared.classes[5]}', .* of 2 groups"):
        refuse_few(few, [5, 5, 4, 5], 1)
    network, architecture = protopnet([5, 5, 5])
    with pytest.raises(InputError, match="prototypes.per_class: 3 prototypes"):
        project(network, architecture, few, 32)


@pytest.mark.parametrize(
    "group_of",
    [
        pytest.param(lambda row, label: row % 2 if label < 2 else row, id="other classes have more"),
        pytest.param(lambda row, label: row % 2, id="there are no more"),
    ],
)
def test_classes_that_share_too_few_groups_are_refused(prepared, group_of):
    """Each of the two classes has two groups, but they are the same."""
    network, architecture = protopnet([0, 0, 1, 1])
    with pytest.raises(InputError, match="classes share so many groups"):
        project(network, architecture, regrouped(prepared, group_of), 32)


@pytest.mark.parametrize("size", [16, 64])
def test_the_box_holds_the_highest_five_per_cent_of_pixels(size):
    maps = torch.rand(7, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    high, large = highest(maps, size), enlarged(maps, size)
    assert high.shape == large.shape == (7, 2, size, size)
    for of_map, values, similarity in zip(high.flatten(0, 1), large.flatten(0, 1), maps.flatten(0, 1), strict=True):
        count = of_map.sum().item()
        assert count == pytest.approx(0.05 * size**2, abs=1)
        assert values[of_map].min() > values[~of_map].max()
        left, top, right, bottom = box(similarity, size)
        assert 0 <= left < right <= size and 0 <= top < bottom <= size
        assert of_map[top:bottom, left:right].sum() == count
        edges = of_map[top], of_map[bottom - 1], of_map[:, left], of_map[:, right - 1]
        assert all(edge.any() for edge in edges)


def test_the_box_of_one_patch_is_around_it():
    similarity = torch.zeros(4, 4)
    similarity[1, 3] = 1.0
    left, top, right, bottom = box(similarity, 16)
    assert 12 <= left < 14 < right <= 16
    assert 4 <= top < 6 < bottom <= 8
