import pytest
import torch

from stages.attribution.filters import from_class
from stages.networks.architectures import scored_layers
from stages.pruning.criteria import References, relevance
from stages.pruning.diagnostics import conservation, dead, lowest_overlap


def test_all_relevance_passes_the_first_layer_and_branches_share_it(build, images):
    network = build("resnet8")
    bounds = (images.amin(), images.amax())
    for amount in ("one", "logit"):
        batches = [(images[:4], torch.arange(4)), (images[4:], torch.arange(2))]
        references = References(batches, bounds, "sum", 0, start=from_class("predicted", amount))
        found = conservation(relevance(network, list(scored_layers(network)), references))
        assert found["conv1"]["conservation"] == pytest.approx(1, abs=1e-3)
        both = found["layer2.0.conv2"]["conservation"] + found["layer2.0.downsample.0"]["conservation"]
        assert both == pytest.approx(1, abs=1e-3)
        assert all(0 <= values["negative"] <= 1 for values in found.values())
        assert any(values["negative"] > 0.05 for values in found.values())


def test_overlap_counts_the_lowest_over_all_layers_together():
    scores = {"a": torch.arange(10.0), "b": torch.arange(10.0) + 100}
    again = {"a": torch.tensor([5.0, 0, 9, 9, 9, 9, 9, 9, 9, 9]), "b": torch.tensor([1.0, *[200.0] * 9])}
    assert lowest_overlap(scores, scores) == 1
    assert lowest_overlap(scores, again) == 0.5  # the lowest two: a0, a1 against a1, b0


def test_dead_filters_have_a_score_of_zero():
    assert dead({"a": torch.tensor([0.0, -1.0, 0.0]), "b": torch.ones(2)}) == {
        "a": {"filters": 3, "dead": 2},
        "b": {"filters": 2, "dead": 0},
    }
