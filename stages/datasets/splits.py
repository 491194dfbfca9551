"""Which image goes to which split."""

import numpy as np
import pandas as pd

from stages.errors import InputError


def assign(records: pd.DataFrame, classes: list[str], fractions: dict[str, float], seed: int) -> pd.Series:
    """Return the split of each row: what `records.split` says, else drawn by group and stratified by class.

    A group takes the class most of its images have. Within each class the groups are shuffled and go to `test`, then
    to `val`, until the split holds its fraction of the class; the rest trains. Groups of one image give exact counts.

    Parameters
    ----------
    records : DataFrame
        Columns `label`, `group`, `split`; see `Source`.
    classes : list of str
        Class names, for messages.
    fractions : dict
        `val` and `test` as shares of all images of a class.
    seed : int
        Of the shuffle.

    Raises
    ------
    InputError
        A class has no image in some split.
    """
    rng = np.random.default_rng(seed)
    split = records["split"].to_numpy(dtype=object, copy=True)
    label_of_group = records.groupby("group")["label"].agg(lambda labels: labels.mode().iat[0])
    rows_of_group = records.groupby("group").indices
    given = set(records.loc[records["split"] != "", "group"])
    for label in range(len(classes)):
        groups = [group for group in label_of_group.index[label_of_group == label] if group not in given]
        rng.shuffle(groups)
        of_class = records["label"].to_numpy() == label
        for name in ("test", "val"):
            missing = round(fractions[name] * of_class.sum()) - int((of_class & (split == name)).sum())
            while missing > 0 and groups:
                rows = rows_of_group[groups.pop()]
                split[rows] = name
                missing -= int(of_class[rows].sum())
        for group in groups:
            split[rows_of_group[group]] = "train"
    for label, name in enumerate(classes):
        for part in ("train", "val", "test"):
            if not ((records["label"].to_numpy() == label) & (split == part)).any():
                raise InputError(f"data.fractions: class {name} has no image in the {part} split; it needs more images")
    return pd.Series(split, index=records.index, name="split").astype(str)


def limit(records: pd.DataFrame, per_class: int, seed: int) -> np.ndarray:
    """Return sorted positions of at most `per_class` rows of each class, with the same share of each split."""
    rng = np.random.default_rng(seed)
    kept = []
    for _, rows in sorted(records.groupby("label").indices.items()):
        share = min(1.0, per_class / len(rows))
        of_split = records["split"].to_numpy()[rows]
        for part in ("train", "val", "test"):
            candidates = rows[of_split == part]
            kept.append(rng.permutation(candidates)[: max(1, round(share * len(candidates)))])
    return np.sort(np.concatenate(kept))
