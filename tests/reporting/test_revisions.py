"""Criteria of several revisions at equal MACs, beside sums by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

from stages.reporting import revisions

SEEDS = 0, 1, 2


def study(rows, macs=100):
    """Return a metrics/pruning.csv: unpruned 0.9, then a step a row of (criterion, macs, balanced accuracy by seed)."""
    unpruned = [["baseline", seed, 0, "baseline", macs, 0.9] for seed in SEEDS]
    steps = [
        [name, seed, step, "finetuned", left, value]
        for step, (name, left, values) in enumerate(rows, start=1)
        for seed, value in zip(SEEDS, values, strict=False)
    ]
    return pd.DataFrame(unpruned + steps, columns=["criterion", "seed", "step", "phase", "macs", "balanced_accuracy"])


def at_half(levels, revision, criterion="lrp"):
    return levels.set_index(["revision", "criterion", "share"]).loc[(revision, criterion, 0.5)]


def compared(studies, shares=(1, 0.5)):
    return revisions.at_equal_macs(studies, "balanced_accuracy", "finetuned", list(shares))


def test_a_difference_is_that_of_seeds_at_the_same_macs():
    before, after = [0.80, 0.82, 0.84], [0.84, 0.85, 0.90]
    levels = compared({"old": study([("lrp", 50, before)]), "new": study([("lrp", 40, after)])})
    between = 0.9 + (np.array(after) - 0.9) * 50 / 60  # on the line from 100 MACs to 40
    expected = between - before
    found = at_half(levels, "new")
    assert found["mean"] == pytest.approx(between.mean())
    assert found["difference"] == pytest.approx(expected.mean())
    interval = ttest_1samp(expected, 0).confidence_interval()
    assert list(found[["low", "high"]]) == pytest.approx(list(interval))
    assert at_half(levels, "old")["mean"] == pytest.approx(0.82)
    whole = levels[levels["share"] == 1]
    assert list(whole["mean"]) == pytest.approx([0.9, 0.9])


def test_sizes_are_those_of_the_first_revisions_network():
    small, large = study([("lrp", 50, [0.8] * 3)]), study([("lrp", 50, [0.7] * 3)], macs=200)
    assert at_half(compared({"small": small, "large": large}), "large")["mean"] == pytest.approx(0.7)
    levels = compared({"large": large, "small": small})
    assert at_half(levels, "small")["mean"] == pytest.approx(0.9)  # 100 MACs are all of the small network
    assert levels[(levels["revision"] == "small") & (levels["share"] == 1)]["mean"].isna().all()


def test_only_what_all_have_is_compared():
    one = study([("lrp", 50, [0.8, 0.8, 0.1]), ("weight", 50, [0.7] * 3)])
    two = study([("random", 50, [0.6] * 3), ("lrp", 50, [0.9, 0.9])])
    two = two[two["seed"] < 2]
    levels = compared({"one": one, "two": two})
    assert set(levels["criterion"]) == {"lrp"}
    assert at_half(levels, "one")["mean"] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="no criterion is in all of them: one has lrp, weight; three has random"):
        compared({"one": one, "three": study([("random", 50, [0.6] * 3)])})
    with pytest.raises(ValueError, match="no seed is in all of them: one has 2; two has 0, 1"):
        compared({"one": one[one["seed"] == 2], "two": two})


def test_what_a_seed_does_not_reach_is_a_dash_and_one_seed_has_no_interval():
    one, two = study([("lrp", 50, [0.8] * 3)]), study([("lrp", 60, [0.85] * 3)])
    assert revisions.markdown(compared({"one": one, "two": two})).splitlines() == [
        "| lrp | 100% | 50% |",
        "| --- | --- | --- |",
        "| one | 0.9000 | 0.8000 |",
        "| two | 0.9000, +0.0000 (+0.0000 to +0.0000) | – |",
    ]
    assert revisions.markdown(compared({"two": two, "one": one})).splitlines()[2:] == [
        "| two | 0.9000 | – |",
        "| one | 0.9000, +0.0000 (+0.0000 to +0.0000) | 0.8000 |",
    ]
    first = {name: rows[rows["seed"] == 0] for name, rows in {"one": one, "two": study([("lrp", 50, [0.7])])}.items()}
    assert revisions.markdown(compared(first)).splitlines()[3] == "| two | 0.9000, +0.0000 | 0.7000, -0.1000 |"


def test_each_criterion_has_its_table():
    rows = study([("lrp", 50, [0.8] * 3), ("weight", 50, [0.7] * 3)])
    tables = revisions.markdown(compared({"one": rows, "two": rows})).split("\n\n")
    assert [table.partition(" |")[0] for table in tables] == ["| lrp", "| weight"]
