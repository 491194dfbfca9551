"""Concepts before and after pruning, matched by their relevance for the same images."""

import numpy as np
import pandas as pd
import pytest
import torch

from stages.attribution.matching import correlation, match
from stages.concept_changes import _others, changes, fates

LABELS = torch.arange(90) % 3


@pytest.fixture
def shares():
    """Shares of six concepts in 90 images of three classes."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(90, 6, generator=generator) + 5 * torch.nn.functional.one_hot(LABELS % 3, 6)


def changed(before, after, labels, origin, least):
    return changes(match(before, after, labels, origin, least), before, after, labels, origin, least)


def test_each_concept_is_kept_moved_lost_or_gained(shares):
    noise = torch.rand(90, generator=torch.Generator().manual_seed(1))
    after = torch.stack([shares[:, 0], shares[:, 1], 3 * shares[:, 3] + 1, noise], 1)
    found = match(shares, after, LABELS, origin=torch.tensor([0, 2, 3, 5]), least=0.5)
    assert found.kept.nonzero().flatten().tolist() == [0, 3]
    assert found.moved.nonzero().flatten().tolist() == [1]  # its relevance is now in what was channel 2
    assert found.lost.nonzero().flatten().tolist() == [2, 4, 5]
    assert found.gained.tolist() == [False, False, False, True]
    assert found.to.tolist() == [0, 1, -1, 2, -1, -1]
    assert found.likeness[[0, 1, 3]].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert found.likeness[[2, 4, 5]].isnan().all()


def test_concepts_of_one_class_do_not_match_for_that_alone(shares):
    other = torch.rand(90, 6, generator=torch.Generator().manual_seed(2)) + 5 * torch.nn.functional.one_hot(LABELS, 6)
    assert np.corrcoef(shares[:, 0], other[:, 0])[0, 1] > 0.9
    assert correlation(shares, other, LABELS).abs().max() < 0.4
    assert match(shares, other, LABELS, torch.arange(6), 0.5).lost.all()


def test_the_correlation_is_pearsons_of_what_is_left_without_the_means_of_classes(shares):
    after = shares[:, [2, 4]] + torch.rand(90, 2, generator=torch.Generator().manual_seed(3))
    after[:, 1] = 0.25  # a constant
    less = [
        pd.DataFrame(each.numpy()).groupby(LABELS.numpy()).transform(lambda x: x - x.mean()) for each in (shares, after)
    ]
    expected = [np.corrcoef(less[0][n], less[1][0])[0, 1] for n in range(6)]
    found = correlation(shares, after, LABELS)
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[:, 1].tolist() == [0] * 6


def test_a_network_that_is_as_it_was_keeps_everything_and_chance_keeps_little(shares):
    row = changed(shares, shares.clone(), LABELS, torch.arange(6), 0.5)
    expected = {"concepts": 6, "left": 6, "kept": 6, "moved": 0, "lost": 0, "gained": 0, "by_chance": 0}
    assert row.items() >= expected.items()
    assert row["share_kept"] == pytest.approx(1) and row["share_lost"] == row["share_gained"] == 0


def test_shares_of_relevance_add_up(shares):
    row = changed(shares, shares[:, [1, 2]], LABELS, torch.tensor([0, 2]), 0.5)
    weight = shares.mean(0) / shares.mean(0).sum()
    assert row["share_moved"] == pytest.approx(weight[1].item())
    assert row["share_kept"] + row["share_moved"] + row["share_lost"] == pytest.approx(1)


def test_silent_channels_are_neither_lost_nor_gained(shares):
    shares[:, 3] = 0
    found = match(shares, shares, LABELS, torch.arange(6), 0.5)
    assert found.silent.nonzero().flatten().tolist() == [3]
    assert not found.lost.any() and not found.gained.any() and found.kept.sum() == 5


def test_a_match_is_not_given_up_for_two_that_are_none(monkeypatch):
    likeness = torch.tensor([[0.55, 0.49], [0.49, -0.9]])
    monkeypatch.setattr("stages.attribution.matching.correlation", lambda *_: likeness[:, [1, 0]])
    found = match(torch.ones(9, 2), torch.ones(9, 2), LABELS[:9], torch.arange(2), 0.5)
    assert found.moved.tolist() == [True, False] and found.gained.tolist() == [True, False]


def test_chance_compares_no_image_with_itself_and_none_of_another_class():
    labels = torch.tensor([2, 0, 0, 1, 1, 1, 0])
    for seed in range(20):
        others = _others(labels, torch.Generator().manual_seed(seed))
        assert sorted(others.tolist()) == list(range(7))
        assert (labels[others] == labels).all()
        assert (others == torch.arange(7)).nonzero().flatten().tolist() == [0]  # alone in its class


def test_the_fate_of_each_concept_is_told_in_the_numbers_of_the_unpruned_network(shares):
    noise = torch.rand(90, generator=torch.Generator().manual_seed(1))
    before = torch.cat([shares, torch.zeros(90, 1)], 1)  # channel 6 was silent
    after = torch.stack([shares[:, 0], shares[:, 1], 3 * shares[:, 3] + 1, noise], 1)
    origin = torch.tensor([0, 2, 3, 5])
    table = fates(match(before, after, LABELS, origin, 0.5), before, after, origin)
    lost = table[table["fate"] != "gained"].set_index("concept")
    assert lost["fate"].tolist() == ["kept", "moved", "lost", "kept", "lost", "lost", "silent"]
    assert lost["removed"].tolist() == [False, True, False, False, True, False, True]
    assert lost["to"].fillna(-1).tolist() == [0, 2, -1, 3, -1, -1, -1]  # what channel 1 did, channel 2 does now
    assert lost["share"].tolist() == pytest.approx(before.mean(0).tolist())
    assert lost.loc[[0, 1, 3], "correlation"].tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    gained = table[table["fate"] == "gained"]
    assert gained["concept"].tolist() == [5] and gained["share"].tolist() == pytest.approx([noise.mean().item()])
