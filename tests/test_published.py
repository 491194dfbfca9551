"""How far the study is from what others report."""

import pandas as pd
import pytest

from stages import published
from stages.errors import InputError

ENTRY = {"said_by": "A et al. (2020)", "of": "a network", "balanced_accuracy": 0.8}


def test_the_distance_is_that_of_the_unpruned_networks():
    rows = {"phase": ["baseline", "baseline", "finetuned"], "balanced_accuracy": [0.7, 0.72, 0.1]}
    said = published.beside(pd.DataFrame(rows), [ENTRY, ENTRY | {"of": "another"}])
    first, second = said.split("\n\n")
    assert first == (
        "Published by A et al. (2020): a network: balanced accuracy 0.8 there, 0.7100 ± 0.0141 here unpruned "
        "(-9.0 points)."
    )
    assert second == first.replace("a network", "another")
    one = published.beside(pd.DataFrame(rows)[:1], [ENTRY])
    assert "0.7000 here unpruned (-10.0 points)" in one
    assert published.beside(pd.DataFrame(rows), []) == ""


def test_the_entries_are_those_of_the_source(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FILE", tmp_path / "published.yaml")
    assert published.of("data/mine") == []
    (tmp_path / "published.yaml").write_text("mine:\n  - {said_by: A, of: b, auroc: 0.9}\n")
    assert published.of("data/mine") == [{"said_by": "A", "of": "b", "auroc": 0.9}]
    assert published.of("data/yours") == []
    (tmp_path / "published.yaml").write_text("mine: [")
    with pytest.raises(InputError, match="not valid YAML"):
        published.of("data/mine")


def test_the_metrics_of_the_file_are_columns_of_the_table():
    entries = published.of("data/ami-br")
    assert {"balanced_accuracy", "auroc"} == set(entries[0]) - {"said_by", "of"}
