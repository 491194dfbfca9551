import numpy as np
import pandas as pd
import pytest

from stages import curves, toy
from stages.reporting import plots, tables


def curve(variant, seed, accuracies, unit="macs"):
    rates = [step / len(accuracies) for step in range(len(accuracies))]
    columns = {"variant": variant, "unit": unit, "seed": seed, "rate": rates, "accuracy": accuracies}
    return pd.DataFrame(columns)


def test_a_pr_is_the_mean_and_top_pr_the_last_rate_before_the_first_fall():
    summary = curves.by_seed(curve("lrp", 0, [0.8, 0.78, 0.5, 0.79]), kept=0.95)
    assert summary["a_pr"].item() == pytest.approx(0.7175)
    assert summary["top_pr"].item() == 0.25


def test_variants_are_listed_by_mean_over_seeds_at_equal_macs():
    some = [curve(name, seed, [0.8, low + 0.1 * seed]) for name, low in (("a", 0.2), ("b", 0.4)) for seed in (0, 1)]
    table = curves.in_words(curves.by_seed(pd.concat(some), kept=0.5))
    assert table.iloc[:, 0].tolist() == ["b", "a"]
    assert table["A_PR, equal MACs"].tolist() == ["62.5 ± 3.5", "52.5 ± 3.5"]
    assert table["Top-PR, equal MACs"].tolist() == ["50.0 ± 0.0", "0.0 ± 0.0"]


def test_more_variants_than_colours_are_drawn(tmp_path):
    rows = [curve(f"v{number}", 0, [0.8, 0.1], unit) for number in range(25) for unit in ("filters", "macs")]
    plots.save(curves.figure(pd.concat(rows)), tmp_path / "a.svg")
    assert all(f">v{number}</text>" in (tmp_path / "a.svg").read_text() for number in range(25))


@pytest.fixture
def toy_rows():
    common = {"problem": "moons", "network": 0, "test_accuracy": 0.5, "overlap": None}
    common |= {"units1": 10, "units2": 20, "units3": 30}
    keys = ["criterion", "references_per_class", "seed", "train_accuracy"]
    values = [("unpruned", 0, 0, 1.0), ("lrp", 1, 0, 0.5), ("lrp", 1, 1, 0.7), ("lrp", 10, 0, 0.9), ("lrp", 10, 1, 1.0)]
    values += [("weight", 0, 0, 0.8)]
    return pd.DataFrame([common | dict(zip(keys, row, strict=True)) for row in values])


def test_the_toy_studys_tables(toy_rows):
    means = toy.means(toy_rows)
    main = toy.in_words(means, 10)
    assert main["criterion"].tolist() == ["unpruned", "lrp", "weight"]
    assert main["accuracy"].tolist() == ["100.0", "95.0 ± 7.1", "80.0"]
    assert main["units left"].tolist() == ["10 20 30"] * 3
    text = tables.as_markdown(toy.by_references(means))
    assert text.splitlines() == [
        "| problem | criterion | 1 | 10 |", "| --- | --- | --- | --- |", "| moons | lrp | 60.0 ± 14.1 | 95.0 ± 7.1 |"
    ]  # fmt: skip


def test_the_toy_studys_figure(toy_rows, tmp_path):
    side = np.linspace(0, 1, 200)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    regions = {name: (grid[:, 0] > 0.5).astype(int) for name in ("unpruned", "lrp", "weight")}
    found = {"grid": grid, "points": grid[::100], "labels": regions["lrp"][::100], **regions}
    plots.save(toy.figure(toy.means(toy_rows), {"moons": found}, ["lrp", "weight"]), tmp_path / "a.svg")
    assert all(f">{name}</text>" in (tmp_path / "a.svg").read_text() for name in ("unpruned", "lrp", "weight", "moons"))
