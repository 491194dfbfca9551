import pytest
import torch

from stages.errors import InputError
from stages.networks.architectures import filters, scored_layers
from stages.networks.size import measure
from stages.pruning import selection, surgery


@pytest.fixture
def ranked(build):
    """Return a function: network, its groups, and candidates by random scores."""

    def make(name, min_channels=2, coupled="sum"):
        network = build(name)
        generator = torch.Generator().manual_seed(0)
        scores = {
            name: torch.rand(filters(layer), generator=generator) for name, layer in scored_layers(network).items()
        }
        groups = surgery.prunable_groups(network, 32, ["*"], [])
        return network, groups, scores, selection.rank(groups, scores, coupled, min_channels)

    return make


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "vgg11_bn"])
@pytest.mark.parametrize("unit", ["filters", "params", "macs"])
def test_the_budget_is_met_within_one_group(ranked, name, unit):
    network, _, _, candidates = ranked(name)
    original = measure(network, 32)
    for fraction in (0.15, 0.5):
        chosen = selection.select(network, 32, candidates, unit, original, fraction)
        shapes = network.to("meta")

        def gone(some, shapes=shapes):
            return 1 - getattr(selection.size_without(shapes, 32, some), unit) / getattr(original, unit)

        assert gone(chosen) >= fraction > gone(chosen[:-1])
        assert chosen == candidates[: len(chosen)]


def test_the_budget_counts_what_earlier_steps_removed(ranked):
    network, groups, scores, candidates = ranked("resnet8")
    original = measure(network, 32)
    first = selection.select(network, 32, candidates, "filters", original, 0.2)
    surgery.remove(network, 32, selection.by_group(first))
    scores = {name: torch.rand(filters(layer)) for name, layer in scored_layers(network).items()}
    groups = surgery.prunable_groups(network, 32, ["*"], [])
    candidates = selection.rank(groups, scores, "sum", 2)
    second = selection.select(network, 32, candidates, "filters", original, 0.4)
    surgery.remove(network, 32, selection.by_group(second))
    assert 0.6 - 3 / original.filters <= measure(network, 32).filters / original.filters <= 0.6


def test_the_lowest_go_first_and_the_best_of_each_group_stay(ranked):
    _, groups, scores, candidates = ranked("resnet18", min_channels=5)
    values = [candidate.score for candidate in candidates]
    assert values == sorted(values)
    for group in groups:
        together = sum(scores[name] for name in group.layers)
        best = set(together.topk(5).indices.tolist())
        removable = {candidate.channel for candidate in candidates if candidate.group == group}
        assert removable == set(range(group.channels)) - best


@pytest.mark.parametrize(("coupled", "expected"), [("sum", 6.0), ("mean", 2.0), ("max", 3.0), ("first", 1.0)])
def test_scores_of_coupled_layers_are_taken_together(ranked, coupled, expected):
    _, groups, scores, _ = ranked("resnet18")
    constant = {name: torch.zeros_like(values) for name, values in scores.items()}
    for value, name in enumerate(["conv1", "layer1.0.conv2", "layer1.1.conv2"], start=1):
        constant[name] += value
    candidates = selection.rank(groups[:1], constant, coupled, 2)
    assert {candidate.score for candidate in candidates} == {expected}
    assert [candidate.channel for candidate in candidates] == list(range(62))  # ties go by order


def test_random_scores_remove_the_same_share_of_every_group(build):
    """A group of three layers must not be safer than one layer: one draw counts, not the sum of three."""
    network = build("resnet18")
    groups = surgery.prunable_groups(network, 32, ["*"], [])
    shares = {group.root: [] for group in groups}
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        scores = {
            name: torch.rand(filters(layer), generator=generator) for name, layer in scored_layers(network).items()
        }
        candidates = selection.rank(groups, scores, "first", 1)
        chosen = selection.by_group(candidates[: len(candidates) // 2])
        for group in groups:
            shares[group.root].append(len(chosen.get(group.root, [])) / group.channels)
    for root, share in shares.items():
        assert sum(share) / 5 == pytest.approx(0.5, abs=0.1), root


def test_an_unreachable_budget_names_the_largest_that_is_reachable(ranked):
    network, _, _, candidates = ranked("resnet8", min_channels=12)
    with pytest.raises(InputError, match=r"0.7 of the filters cannot be removed: .* allow 0\.\d+ at most"):
        selection.select(network, 32, candidates, "filters", measure(network, 32), 0.7)


@pytest.mark.parametrize("unit", ["filters", "macs"])
def test_what_is_left_of_each_pruned_layer_is_a_multiple(ranked, unit):
    network, groups, _, candidates = ranked("resnet18")
    original = measure(network, 32)
    chosen = selection.select(network, 32, candidates, unit, original, 0.4, round_to=16)
    lost = {root: len(channels) for root, channels in selection.by_group(chosen).items()}
    assert {(group.channels - lost.get(group.root, 0)) % 16 for group in groups} == {0}
    assert len(lost) > 3
    left = selection.size_without(network.to("meta"), 32, chosen)
    assert 0.4 <= 1 - getattr(left, unit) / getattr(original, unit) < 0.45
    for root in lost:  # of each group the lowest go
        mine = [candidate.score for candidate in candidates if candidate.group.root == root]
        assert [candidate.score for candidate in chosen if candidate.group.root == root] == mine[: lost[root]]


def test_groups_that_cannot_be_rounded_stay_whole(ranked):
    _, groups, _, candidates = ranked("resnet18")
    assert selection.rounded([each for each in candidates if each.group == groups[0]][:5], 32) == []
    assert selection.rounded(candidates[:9], 1) == candidates[:9]
