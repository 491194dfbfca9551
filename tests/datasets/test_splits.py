import numpy as np
import pandas as pd
import pytest

from stages.datasets import splits
from stages.errors import InputError

FRACTIONS = {"val": 0.2, "test": 0.3}


def records(groups_per_class=60, classes=3, seed=0):
    """Return images in groups of one to six, each group of one class."""
    rng = np.random.default_rng(seed)
    rows = [
        {"image_id": f"{label}-{group}-{image}", "label": label, "group": f"{label}-{group}", "split": ""}
        for label in range(classes)
        for group in range(groups_per_class)
        for image in range(rng.integers(1, 7))
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=seed, ignore_index=True)


def test_a_group_never_spans_two_splits():
    table = records()
    split = splits.assign(table, list("abc"), FRACTIONS, 0)
    assert table.assign(split=split).groupby("group")["split"].nunique().max() == 1


def test_each_class_is_divided_by_the_fractions():
    table = records()
    table["split"] = splits.assign(table, list("abc"), FRACTIONS, 0)
    shares = table.groupby("label")["split"].value_counts(normalize=True).unstack()
    assert np.abs(shares["val"] - 0.2).max() < 0.04
    assert np.abs(shares["test"] - 0.3).max() < 0.04


def test_single_images_are_divided_exactly():
    table = records()
    table["group"] = table["image_id"]
    table["split"] = splits.assign(table, list("abc"), FRACTIONS, 0)
    for _, rows in table.groupby("label"):
        assert (rows["split"] == "test").sum() == round(0.3 * len(rows))
        assert (rows["split"] == "val").sum() == round(0.2 * len(rows))


def test_the_seed_decides():
    table = records()
    first, again, other = (splits.assign(table, list("abc"), FRACTIONS, seed) for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_published_split_stays():
    table = records()
    given = table["group"].isin(table["group"].unique()[:40])
    table.loc[given, "split"] = "test"
    split = splits.assign(table, list("abc"), FRACTIONS, 0)
    assert (split[given] == "test").all()
    assert not (split[~given] == "test").any()  # none is added to it
    assert (split == "val").sum() == pytest.approx(0.2 * len(table), abs=3)


def test_a_class_too_small_for_its_splits_is_named():
    table = pd.concat([records(classes=2), records(1, 1).assign(label=2, group="lonely")], ignore_index=True)
    with pytest.raises(InputError, match="class c has no image in the"):
        splits.assign(table, list("abc"), FRACTIONS, 0)


def test_a_limit_keeps_the_shares():
    table = records()
    table["group"] = table["image_id"]
    table["split"] = splits.assign(table, list("abc"), FRACTIONS, 0)
    chosen = table.iloc[splits.limit(table, 20, 0)]
    assert chosen.groupby(["label", "split"]).size().unstack().to_numpy().tolist() == [[6, 10, 4]] * 3


def test_groups_of_several_classes_are_divided_by_the_fractions_too():
    rng = np.random.default_rng(0)
    slides = rng.zipf(1.5, 200).clip(max=100)
    table = pd.DataFrame({"group": np.repeat(np.arange(200), slides).astype(str)})
    table["label"] = (rng.random(len(table)) < 0.2).astype(int)
    table["image_id"], table["split"] = [f"image{row}" for row in range(len(table))], ""
    table["split"] = splits.assign(table, list("ab"), FRACTIONS, 0)
    assert table.groupby("group")["split"].nunique().max() == 1
    shares = table.groupby("label")["split"].value_counts(normalize=True).unstack()
    assert np.abs(shares[["val", "test"]] - [0.2, 0.3]).to_numpy().max() < 0.01


def test_the_rest_of_a_group_follows_those_that_have_a_split():
    table = records()
    table.loc[table.groupby("group").head(1).index[:40], "split"] = "test"
    given = table.groupby("group")["split"].transform("max") == "test"
    assert (splits.assign(table, list("abc"), FRACTIONS, 0)[given] == "test").all()
