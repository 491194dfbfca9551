"""Which prototypes go: every measure against brute force, and what removal leaves."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from stages.errors import InputError
from stages.networks.checkpoint import Architecture
from stages.networks.projection import Nearest
from stages.networks.protopnet import PrototypeLayer, Prototypes, Source
from stages.prune_prototypes import decide
from stages.pruning.prototypes import duplicates, inside, merge, neighbours, own_share, remove
from tests.conftest import protopnet

CLASSES = [0, 1, 2, 1]


def nearest(distances):
    """Return what `neighbours` takes, for distances images x prototypes."""
    distances = torch.as_tensor(distances, dtype=torch.float32)
    return Nearest(np.arange(len(distances)), distances, torch.zeros(distances.shape, dtype=torch.int64))


def slow_neighbours(distances, groups, labels, count):
    found = []
    for of_prototype in distances.T.tolist():
        best = {}
        for distance, group, label in zip(of_prototype, groups, labels, strict=True):
            best[group] = min(best.get(group, (np.inf, -1)), (distance, label))
        found.append([label for _, label in sorted(best.values())[:count]])
    return found


@pytest.fixture
def found():
    """Return distances, groups and labels of thirty images in nine groups, numbered in no order."""
    rng = np.random.default_rng(0)
    groups = np.array([f"g{n}" for n in rng.integers(0, 9, 30)])
    return rng.random((30, len(CLASSES))).astype(np.float32), groups, rng.integers(0, 3, 30)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_neighbours_equal_their_slow_twin(found, count):
    distances, groups, labels = found
    near = neighbours(nearest(distances), groups, labels, count)
    assert near.tolist() == slow_neighbours(distances, groups, labels, count)


def test_a_group_is_one_neighbour_however_many_images_it_has():
    distances = [[0.1], [0.11], [0.12], [0.2], [0.3]]
    near = neighbours(nearest(distances), np.array(list("aaabc")), np.array([0, 0, 0, 1, 2]), 3)
    assert near.tolist() == [[0, 1, 2]]


def test_more_neighbours_than_groups_are_refused(found):
    distances, groups, labels = found
    with pytest.raises(ValueError, match="10 nearest patches are asked for, but training images have 9 groups"):
        neighbours(nearest(distances), groups, labels, 10)


@pytest.mark.parametrize("weights", [None, np.array([1.0, 4.0, 0.5])])
def test_the_own_share_equals_its_slow_twin(found, weights):
    distances, groups, labels = found
    near = neighbours(nearest(distances), groups, labels, 5)
    counts = [1, 1, 1] if weights is None else weights
    for of_prototype, own, share in zip(near, CLASSES, own_share(near, CLASSES, weights), strict=True):
        total = sum(counts[label] for label in of_prototype)
        assert share == pytest.approx(sum(counts[label] for label in of_prototype if label == own) / total)


def test_the_prior_corrected_share_is_that_among_classes_copied_to_equal_size():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [12, 6, 2])
    copies = np.array([1, 2, 6])
    distances, groups = rng.random((20, len(CLASSES))), np.arange(20)
    near = neighbours(nearest(distances), groups, labels, 7)
    corrected = own_share(near, CLASSES, 20 / np.bincount(labels))
    copied = np.repeat(np.arange(20), copies[labels])
    assert np.bincount(labels[copied]).tolist() == [12, 12, 12]
    for number, own in enumerate(CLASSES):
        count = copies[near[number]].sum()  # all copies of the seven
        among = neighbours(nearest(distances[copied]), np.arange(36), labels[copied], count)[number]
        assert corrected[number] == pytest.approx((among == own).mean())
    assert not np.allclose(corrected, own_share(near, CLASSES))


def test_the_first_of_like_prototypes_of_a_class_stands_for_the_others():
    vectors = torch.tensor([[0.0], [0.0], [0.3], [0.0], [0.6], [1.0], [1.0]])
    classes = [0, 1, 0, 0, 0, 1, 1]
    assert duplicates(vectors, classes, 0.0) == {3: 0, 6: 5}
    assert duplicates(vectors, classes, 0.1) == {2: 0, 3: 0, 6: 5}  # 4 is like 2, which is itself gone
    assert duplicates(vectors, classes, 0.36 + 1e-6) == {2: 0, 3: 0, 4: 0, 6: 5}


@torch.no_grad()
def test_merging_equal_prototypes_leaves_logits_as_they_are_and_so_does_their_removal(images):
    network, architecture = protopnet([0, 0, 1, 0, 2])
    network.last.weight.normal_()
    network.prototypes.vectors[1] = network.prototypes.vectors[3] = network.prototypes.vectors[0]
    before = network(images)
    merged = duplicates(network.prototypes.vectors, architecture.prototypes.classes, 0.0)
    merge(network, merged)
    torch.testing.assert_close(network(images), before)
    architecture = remove(network, architecture, sorted(merged))
    torch.testing.assert_close(network(images), before)
    assert architecture.prototypes.classes == [0, 1, 2]
    assert network.prototypes.vectors.shape[0] == network.last.in_features == 3


def test_removal_keeps_the_sources_of_those_that_stay():
    network, architecture = protopnet([4, 5, 6])
    sources = [Source(name, name, "0", [0, 0], [0, 0, 1, 1]) for name in "abc"]
    prototypes = dataclasses.replace(architecture.prototypes, sources=sources)
    vectors = network.prototypes.vectors.detach().clone()
    left = remove(network, dataclasses.replace(architecture, prototypes=prototypes), [1])
    assert [source.image for source in left.prototypes.sources] == ["a", "c"]
    assert torch.equal(network.prototypes.vectors, vectors[[0, 2]])


def slow_inside(network, architecture, data, rows, masks):
    shares = {number: [] for number in range(len(architecture.prototypes.classes))}
    for row, mask in zip(rows, masks, strict=True):
        images, label = data.batch(np.array([row]))
        patches = network.latent(architecture.normalise(images))
        for number, of_class in enumerate(architecture.prototypes.classes):
            if of_class == label:
                apart = (patches - network.prototypes.vectors[number][:, None, None]).square().sum(1, keepdim=True)
                large = interpolate(network.prototypes.of_distances(apart), (16, 16), mode="bicubic")[0, 0].double()
                response = (large - large.min()) * (large >= np.quantile(large, 0.95))
                shares[number].append((response * mask).sum() / response.sum())
    return [float(np.mean(values)) for values in shares.values()]


@torch.no_grad()
def test_the_share_inside_a_region_equals_its_slow_twin_and_parts_sum_to_one(prepared):
    network, architecture = protopnet([0, 1, 1, 2])
    rows = np.concatenate([prepared.rows("val")[prepared.labels(prepared.rows("val")) == label] for label in range(3)])
    rows = np.random.default_rng(0).permutation(rows)
    masks = torch.rand(len(rows), 16, 16, generator=torch.Generator().manual_seed(0)).round()
    found = inside(network, architecture, prepared, rows, masks, 4)
    assert found == pytest.approx(slow_inside(network, architecture, prepared, rows, masks), rel=1e-3)
    assert found + inside(network, architecture, prepared, rows, 1 - masks, 32) == pytest.approx(np.ones(4))
    assert inside(network, architecture, prepared, rows, torch.ones_like(masks), 32) == pytest.approx(np.ones(4))


class Brightness(nn.Module):
    """A ProtoPNet whose patches are the mean colours of 4 x 4 pixels, and whose only prototype is white."""

    def __init__(self):
        super().__init__()
        self.latent = nn.AvgPool2d(4)
        self.prototypes = PrototypeLayer(1, 3, "log")
        self.prototypes.vectors.data.fill_(1.0)


def test_a_prototype_that_looks_at_the_corner_is_inside_of_it_and_not_of_the_rest(prepared):
    images = np.zeros_like(prepared.images)
    images[:, :4, 12:] = 255
    data = dataclasses.replace(prepared, images=images)
    architecture = Architecture("none", "imagenet", prepared.classes, 16, [0.0] * 3, [1.0] * 3, False)
    architecture = dataclasses.replace(architecture, prototypes=Prototypes(None, 3, "log", [3]))
    rows = prepared.rows("val")[prepared.labels(prepared.rows("val")) == 3]
    corner = torch.zeros(len(rows), 16, 16)
    corner[:, :4, 12:] = 1
    assert inside(Brightness(), architecture, data, rows, corner, 32).item() > 0.99
    assert inside(Brightness(), architecture, data, rows, 1 - corner, 32).item() < 0.01


@pytest.fixture
def chosen(params):
    """Return a function of what the rules look at and of values of the rules: what stands for what, and what goes."""

    def choose(classes=(0, 0, 1, 1), vectors=None, inside=None, **values):
        purity, prior = (np.array(values.pop(name, [1.0] * len(classes))) for name in ("purity", "purity_prior"))
        found = {"purity": purity, "purity_prior": prior}
        vectors = torch.arange(len(classes)).float() if vectors is None else torch.tensor(vectors)
        found |= {} if inside is None else {"inside": np.array(inside)}
        names = [f"class {label}" for label in range(max(classes) + 1)]
        prototypes = Prototypes(None, 8, "log", list(classes))
        architecture = Architecture(
            "resnet8", "imagenet", names, 16, [0.2] * 3, [0.3] * 3, False, prototypes=prototypes
        )
        asked = {"rules": ["nearest"], "neighbours": 6, "own": 3, "inside": 0.5, "last_of_class": "keep"} | values
        return decide(found, vectors[:, None], architecture, params.prototypes.prune.model_copy(update=asked))

    return choose


def test_prototypes_with_too_few_neighbours_of_their_class_go(chosen):
    asked = {"classes": (0, 0, 0, 1, 1), "purity": [2 / 6, 3 / 6, 6 / 6, 0.0, 4 / 6]}
    assert chosen(**asked) == ({}, {0: ["nearest"], 3: ["nearest"]})
    assert set(chosen(**asked, own=4)[1]) == {0, 1, 3}
    assert chosen(**asked, rules=[]) == ({}, {})


def test_a_share_at_the_threshold_is_enough_however_it_is_rounded(chosen):
    share = own_share(np.array([[0, 1, 2, 0, 1, 2]]), [0], np.array([0.3, 0.1, 0.2]))
    assert 0.5 - 1e-12 < share.item() < 0.5
    assert chosen(classes=(0,), purity_prior=share, rules=["nearest-prior"], last_of_class="refuse") == ({}, {})


def test_the_prior_corrected_rule_looks_at_the_corrected_share_alone(chosen):
    both = {"purity": [1.0, 0.0, 1.0, 1.0], "purity_prior": [0.0, 1.0, 1.0, 1.0]}
    assert chosen(**both, rules=["nearest-prior"]) == ({}, {0: ["nearest-prior"]})
    assert chosen(**both, rules=["nearest"]) == ({}, {1: ["nearest"]})


def test_prototypes_that_respond_outside_of_the_region_go(chosen):
    response = [0.4, 0.5, 0.9, 0.1]
    assert chosen(inside=response, rules=["region"])[1] == {0: ["region"], 3: ["region"]}
    assert chosen(inside=response)[1] == {}


def test_every_rule_that_says_so_is_named_in_the_order_asked_for(chosen):
    asked = {"rules": ["region", "duplicates", "nearest"], "vectors": [1.0, 1.0, 2.0, 3.0]}
    _, removed = chosen(purity=[1.0, 0.0, 1.0, 0.0], inside=[1.0, 0.0, 1.0, 1.0], **asked)
    assert removed == {1: ["region", "nearest"], 3: ["nearest"]}


@pytest.mark.parametrize(
    ("purity", "inside", "best"),
    [
        ([0.1, 0.3, 0.2], None, 1),
        ([0.2, 0.1, 0.2], None, 0),
        ([0.2, 0.1, 0.2], [0.1, 0.9, 0.3], 2),
        ([0.2, 0.2, 0.2], [0.3, 0.1, 0.3], 0),
    ],
)
def test_of_a_class_that_would_lose_all_the_purest_stays(chosen, purity, inside, best):
    """Of equally pure ones, that which responds most inside of the region, then the first."""
    inside = inside and [1.0, *inside]
    merged, removed = chosen(classes=(1, 0, 0, 0), purity=[1.0, *purity], inside=inside)
    assert merged == {}
    assert set(removed) == {1, 2, 3} - {1 + best}


def test_the_purest_is_so_by_the_rule_that_is_asked_for(chosen):
    shares = {"purity": [0.2, 0.1], "purity_prior": [0.1, 0.2], "classes": (0, 0)}
    assert set(chosen(**shares, rules=["nearest"])[1]) == {1}
    assert set(chosen(**shares, rules=["nearest-prior"])[1]) == {0}


def test_a_class_that_would_lose_all_is_refused_if_asked_for(chosen):
    with pytest.raises(InputError, match="class 'class 1' would lose all its prototypes; .* last_of_class: keep"):
        chosen(purity=[1.0, 0.0, 0.0, 0.0], last_of_class="refuse")


def test_duplicates_are_merged_into_the_first(chosen):
    vectors = [1.0, 1.0, 2.0, 2.0]
    assert chosen(vectors=vectors, rules=["duplicates"]) == (
        {1: 0, 3: 2},
        {1: ["duplicates"], 3: ["duplicates"]},
    )
    assert chosen(vectors=vectors) == ({}, {})


def test_nothing_is_merged_into_a_prototype_that_goes_too(chosen):
    asked = {"classes": (0, 0, 0, 1), "vectors": [1.0, 1.0, 2.0, 3.0], "rules": ["nearest", "duplicates"]}
    merged, removed = chosen(purity=[0.0, 0.0, 1.0, 1.0], **asked)
    assert merged == {}
    assert set(removed) == {0, 1}


def test_a_pure_prototype_stays_if_the_one_that_would_stand_for_it_goes(chosen):
    """They are alike, not equal, and their neighbours differ."""
    asked = {"classes": (0, 0, 0, 1), "vectors": [1.0, 1.0, 2.0, 3.0], "rules": ["nearest", "duplicates"]}
    _, removed = chosen(purity=[0.0, 1.0, 1.0, 1.0], **asked)
    assert set(removed) == {0}
