"""What is published of the studies says what the rows beside it say."""

import re
from pathlib import Path

import pandas as pd
import pytest

from stages import study
from stages.reporting import tables, verdicts

RESULTS = {path.parent.name: path.parent for path in sorted(Path("docs/results").glob("*/levels.csv"))}
OLDER = {"fashion-mnist"}  # its page has other columns, in words of its time


def lines_of(text):
    """Return lines without the majority class, which some pages lack; some call the first criterion `it`."""
    text = re.sub(r"Clearly behind [\w-]+,", "Clearly behind it,", text)
    return [line for line in text.splitlines() if line and not line.startswith("| always ")]


def page_of(name):
    return Path(f"docs/results-{name}.md").read_text()


def test_the_readme_has_the_tables_of_what_is_published(tmp_path, monkeypatch):
    copy = tmp_path / "README.md"
    copy.write_bytes(study.README.read_bytes())
    monkeypatch.setattr(study, "README", copy)
    study.overview()
    assert copy.read_text() == Path("README.md").read_text()


@pytest.mark.parametrize("name", sorted(RESULTS.keys() - OLDER))
def test_a_page_has_the_tables_and_sentences_of_its_rows(name):
    page, folder = lines_of(page_of(name)), RESULTS[name]
    pruning, latency, levels, pairs, stability = (
        pd.read_csv(folder / f"{each}.csv") for each in ("pruning", "latency", "levels", "pairs", "stability")
    )
    classes = [column.removeprefix("recall_") for column in pruning if column.startswith("recall_")]
    any_majority = tables.majority(dict.fromkeys(classes, 1))
    criteria = [criterion for criterion in pruning["criterion"].unique() if criterion != "baseline"]
    for part in (
        tables.markdown(pruning, any_majority),
        tables.difference_markdown(pruning, any_majority),
        tables.classes_markdown(pruning, any_majority),
        tables.latency_markdown(pruning, latency),
        tables.calibration_markdown(pruning, any_majority) if tables.CALIBRATION in page else "",  # not on older ones
        *verdicts.sentences(levels, pairs, stability, criteria),
    ):
        missing = [line for line in lines_of(part) if line not in page]
        assert not missing


@pytest.mark.parametrize("name", RESULTS)
def test_a_page_has_the_balanced_accuracy_of_its_rows_at_equal_macs(name):
    rows = [line.split(" | ") for line in page_of(name).splitlines() if line.startswith("| ")]
    levels = pd.read_csv(RESULTS[name] / "levels.csv")
    of_table = "axis == 'macs' and metric == 'balanced_accuracy' and phase == 'finetuned'"
    for _, level in levels.query(of_table).iterrows():
        cells = [cell for row in rows if row[0] == f"| {level['criterion']}" for cell in row[1:]]
        unsigned = [list(map(float, re.findall(r"(?<![-+.\d])\d\.\d{4}", cell))) for cell in cells]
        expected = level[["mean", "low", "high"]].dropna().tolist()
        assert any(numbers == pytest.approx(expected, abs=6e-5) for numbers in unsigned)


@pytest.mark.parametrize("page", sorted(Path("docs").glob("results-*.md")), ids=lambda page: page.stem)
def test_every_file_that_a_page_shows_is_there(page):
    shown = re.findall(r"\]\((?:<([^>]+)>|([^)<]+))\)", page.read_text())
    assert shown
    missing = [link for link in map("".join, shown) if "://" not in link and not (page.parent / link).exists()]
    assert not missing
