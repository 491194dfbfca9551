"""One cut of the stage prune, and what its plan says."""

import pytest
import torch

from stages.params.pruning import Until
from stages.prune import repeated, undone
from stages.pruning.cut import cut


@pytest.fixture
def one_cut(build, architecture, params):
    """Return a function that prunes a network of the same weights and scores once and returns it and its plan."""

    def make(per_step, unit, until=None):
        network = build("resnet8", image_size=16)
        generator = torch.Generator().manual_seed(1)
        scores = {
            name: torch.rand(layer.out_channels, generator=generator)
            for name, layer in network.named_modules()
            if isinstance(layer, torch.nn.Conv2d)
        }
        settings = params.prune.model_copy(
            update={"per_step": per_step, "unit": unit, "until": until, "min_channels": 2}
        )
        network, _, plan = cut(network, architecture, scores, settings, "sum", 1)
        return network, plan

    return make


def share(plan, unit, when="after"):
    return plan[when][unit] / plan["original"][unit]


@pytest.mark.parametrize("unit", ["filters", "params", "macs"])
def test_a_target_ends_the_cut_with_the_channel_that_reaches_it(one_cut, unit):
    _, plan = one_cut(0.5, "filters", Until(unit=unit, left=0.8))
    _, without = one_cut(0.5, "filters")
    assert plan["stopped_by"] == unit
    assert without["stopped_by"] is None
    assert plan["removed"] == without["removed"][: len(plan["removed"])]
    assert share(plan, unit) <= 0.8
    almost = plan["removed"][:-1]
    lost = sum(len(each["layers"]) for each in almost)
    _, shorter = one_cut(lost / plan["original"]["filters"], "filters")
    assert shorter["removed"] == almost
    assert share(shorter, unit) > 0.8


def test_a_target_that_is_far_changes_nothing(one_cut):
    _, plan = one_cut(0.1, "filters", Until(unit="macs", left=0.3))
    _, without = one_cut(0.1, "filters")
    assert plan == without


def test_a_step_after_the_end_removes_nothing_and_says_why(one_cut):
    _, plan = one_cut(0.5, "macs", Until(unit="macs", left=0.8))
    after = repeated(plan)
    assert after["removed"] == []
    assert after["repeats"]
    assert after["stopped_by"] == "macs"
    assert after["before"] == after["after"] == plan["after"]
    assert {name: widths["before"] for name, widths in after["layers"].items()} == {
        name: widths["after"] for name, widths in plan["layers"].items()
    }


def test_an_undone_step_has_the_sizes_it_began_with_and_keeps_what_it_tried(one_cut):
    plan = one_cut(0.3, "macs")[1] | {"recalibration": {"images": 96, "largest_shift": 0.5}}
    back = undone(plan)
    assert back["recalibration"]["images"] == 0
    assert back["after"] == back["before"] == plan["before"]
    assert all(widths["after"] == widths["before"] for widths in back["layers"].values())
    assert back["reached"] == 0
    assert back["removed"] == []
    assert back["undone"]["removed"] == plan["removed"]
    assert back["undone"]["after"] == plan["after"]
