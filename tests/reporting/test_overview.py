from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.reporting import overview
from stages.reporting.comparison import at_macs

RESULTS = sorted(path.parent for path in Path("docs/results").glob("*/levels.csv"))
PARAMS = {
    "seeds": [0, 1],
    "data": {"name": "image-folder", "source": "data/mine", "image_size": 64},
    "model": {"name": "vgg16"},
    "few_shot": {"updates": 30},
    "prune": {"scores": {"reduction": {"lrp": "abs-sample"}}},
}


def rows():
    """Return chains of two criteria and seeds: lrp goes from 1000 to 400 MACs, random stays above half."""
    made = []
    for seed in (0, 1):
        made.append({"criterion": "baseline", "step": 0, "phase": "baseline", "macs": 1000, "seed": seed, "found": 0.8})
        for criterion, macs in (("lrp", (600, 400)), ("random", (900, 700))):
            for step, size in enumerate(macs, start=1):
                for phase, found in (("pruned", 0.4), ("finetuned", 0.6)):
                    made.append(
                        {"criterion": criterion, "step": step, "phase": phase, "macs": size, "seed": seed}
                        | {"found": found - 0.1 * step + 0.02 * seed}
                    )
    return (
        pd.DataFrame(made)
        .rename(columns={"found": "balanced_accuracy"})
        .assign(filters=1, params=1, recall_a=0, recall_b=0)
    )


def pairs(p):
    rows = [("lrp", "random", 0.5, 0.1, p), ("lrp", "random", 0.8, 0.1, 0.0)]
    table = pd.DataFrame(rows, columns=["criterion", "other", "share", "difference", "p_holm"])
    return table.assign(axis="macs", metric="balanced_accuracy", phase="finetuned", low=0.0, high=0.2)


def test_a_chain_is_interpolated_where_it_has_so_many_macs_and_nan_beyond_its_end():
    of_seed = rows().query("seed == 0")
    found = at_macs(of_seed, 500, "finetuned", "balanced_accuracy")
    assert found["lrp"] == pytest.approx((0.5 + 0.4) / 2)
    assert np.isnan(found["random"])
    assert at_macs(of_seed, 800, "pruned", "balanced_accuracy")["lrp"] == pytest.approx((0.8 + 0.3) / 2)
    assert at_macs(of_seed, 1000, "pruned", "balanced_accuracy")["lrp"] == pytest.approx(0.8)
    assert np.isnan(at_macs(of_seed, 1001, "pruned", "balanced_accuracy")["lrp"])  # larger than the unpruned network


def test_a_study_is_a_line_in_each_table_and_what_it_did_not_reach_is_no_number():
    few = pd.concat([rows().assign(images_per_class=10), rows().assign(images_per_class=1, balanced_accuracy=0)])
    tuned, cut, few = overview.lines("[mine](mine.md)", PARAMS, rows(), pairs(0.01), few).values()
    about = {"study": "[mine](mine.md)", "data": "data/mine", "network": "vgg16", "pixels": "64", "seeds": "2"}
    sizes = {"unpruned": "0.800", "always one class": "0.500", "lrp": "0.460, -0.340", "random": "–"}
    assert tuned == about | {"sums of lrp": "absolute"} | sizes | {overview.LAST: "lrp"}
    assert cut == {"study": "[mine](mine.md)"} | sizes | {"lrp": "0.260, -0.540"}
    assert few == {"study": "[mine](mine.md)", "updates": "30"} | sizes
    assert overview.lines("a", PARAMS, rows(), pairs(0.1), None)[overview.TUNED][overview.LAST] == "none"
    assert len(overview.lines("a", PARAMS, rows(), pairs(0.1), None)) == 2


def test_tables_hold_all_criteria_and_a_dash_where_a_study_has_one_not():
    one = overview.lines("one", PARAMS, rows(), pairs(0.1), None)
    other = overview.lines("other", PARAMS, rows().replace({"lrp": "crp"}), pairs(0.1), None)
    text = overview.page([one, other])
    assert "| one | 0.800 | 0.500 | 0.260, -0.540 | – | – |\n| other | 0.800 | 0.500 | – | – | 0.260, -0.540 |" in text
    assert "| unpruned | always one class | lrp | random | crp | better than random |" in text


@pytest.mark.parametrize("folder", RESULTS, ids=lambda folder: folder.name)
def test_numbers_are_those_of_the_studys_own_comparison(folder):
    params = YAML(typ="safe").load((folder / "params.yaml").read_text())
    pruning, compared = pd.read_csv(folder / "pruning.csv"), pd.read_csv(folder / "pairs.csv")
    found = overview.lines(folder.name, params, pruning, compared, None)
    levels = pd.read_csv(folder / "levels.csv").query(
        "axis == 'macs' and share == 0.5 and metric == 'balanced_accuracy'"
    )
    for line, phase in zip(found.values(), ("finetuned", "pruned"), strict=True):
        of_phase = levels[levels["phase"] == phase].set_index("criterion")
        means, less = of_phase["mean"], of_phase["difference"]
        criteria = pruning.query("criterion != 'baseline'")["criterion"].unique()
        assert {name: line[name] for name in criteria} == {
            name: f"{means[name]:.3f}, {less[name]:+.3f}" if name in means else "–" for name in criteria
        }
