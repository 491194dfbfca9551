"""What unpruned networks rely on and pruned ones still have, put together by the command."""

import json

import pandas as pd
import pytest

from stages.concept_changes import COUNTS, FATES, SHARES
from tests import forkserver

ATLAS = ["layer", "class", "concept", "rank", "images", "share", "low", "high", "votes", "activation"]


def written(path, rows, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)
    return path


@pytest.fixture
def compared(tmp_path):
    """Return a function that compares these chains of two layers, of which one seed has an atlas."""
    rows = [["conv", "cat", 3, 1, 9, 0.25, 0.2, 0.3, 8, 1.0], ["conv", "dog", 1, 1, 1, 0.5, None, None, 1, 2.0]]
    written(tmp_path / "seed0/atlas.csv", rows, ATLAS)
    layers = [["conv", 4, 1e-7, True, 2.5, 0.4, 0.3, 0.25, 0.35, 0.2], ["top", 8, 0.5, False, *[None] * 6]]
    columns = ["layer", "concepts", "lost", "reported", "effective_concepts", "largest_share"]
    columns += ["inside", "inside_low", "inside_high", "area"]
    edges = [{"above": ["top", 1], "below": ["conv", n], "share": share} for n, share in ((0, 0.5), (3, 0.3))]
    (tmp_path / "seed0/graphs.json").write_text(json.dumps({"cat": edges}))
    written(tmp_path / "seed0/layers.csv", layers, columns)

    def compare(**chains):
        columns = ["criterion", "seed", "step", "images", "layer", *COUNTS, *SHARES]
        files = [written(tmp_path / f"{name}.csv", rows, columns) for name, rows in chains.items()]
        of_concepts = [["lrp", 0, 4, 20, "conv", *each] for each in LOST]
        columns = [*columns[:5], *FATES]
        fates = [
            written(tmp_path / f"{name}.fates.csv", of_concepts if chains[name] else [], columns) for name in chains
        ]
        answer = forkserver.run(
            "stages.compare_concepts", "--atlases", tmp_path / "seed0", "--changes", *files, "--fates", *fates,
            "--folder", tmp_path / "out",
        )  # fmt: skip
        assert answer.returncode == 0, answer.stderr
        return (tmp_path / "out/page.md").read_text()

    return compare


ROWS = [
    ["lrp", 0, 4, 20, "conv", 4, 3, 2, 1, 1, 0, 0, 0.2, 0.5, 0.3, 0.2, 0.0],
    ["lrp", 0, 4, 20, "top", 8, 3, 1, 0, 6, 1, 2, 1.0, 0.1, 0.0, 0.9, 0.5],
]


LOST = [
    [0, 0.5, "kept", False, 0, 0.9], [1, 0.1, "lost", True, None, None], [2, 0.3, "lost", False, None, None],
    [3, 0.1, "moved", True, 0, 0.7],
]  # fmt: skip


def test_changes_are_summed_over_layers_and_relevance_is_a_mean(compared, tmp_path):
    page = compared(lrp=ROWS)
    assert "| lrp | 2 | 20 | 50.0% | 25.0% | 8.3% | 10.0% | 58.3% | 33.3% | 30.0% | 15.0% | 55.0% |" in page
    assert "| conv | 4 | 2.5 | 40.0% | 1.0e-07 | 30.0% of 20.0% |" in page
    assert "| top | 8 | not reported | not reported | 5.0e-01 |  |" in page
    assert "| cat | 3: 25.0% (20.0% to 30.0%; 8 of 9) |" in page
    assert "| dog | 1: 50.0% (1 of 1) |" in page
    assert "| lrp | conv 2 (30.0%, not removed), conv 1 (10.0%) |" in page
    assert len(pd.read_csv(tmp_path / "out/fates.csv")) == 4
    assert (tmp_path / "out/changes.svg").exists()


def test_a_chain_of_which_nothing_can_be_compared_leaves_the_others(compared, tmp_path):
    assert "| lrp | 2 | 20 |" in compared(random=[], lrp=ROWS)
    assert pd.read_csv(tmp_path / "out/changes.csv")["criterion"].tolist() == ["lrp", "lrp"]
    compared(random=[], weight=[])
    assert pd.read_csv(tmp_path / "out/changes.csv").empty
