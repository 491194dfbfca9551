"""Which image goes to which split."""

import numpy as np
import pandas as pd

from stages.datasets.source import SPLITS
from stages.errors import InputError


def assign(records: pd.DataFrame, classes: list[str], fractions: dict[str, float], seed: int) -> pd.Series:
    """Return the split of each row: what `records.split` says, else drawn by group and stratified by class.

    Groups of several images come first, the largest before all; each goes where its classes are needed most: to the
    split with the largest sum, over its images, of the share of their class that is still to come. Groups of one
    image, shuffled within their class, then fill what is missing exactly.

    Parameters
    ----------
    records : DataFrame
        Columns `label`, `group`, `split`; see `Source`.
    classes : list of str
        Class names, for messages.
    fractions : dict
        `val` and `test` as shares of all images of a class; at least one image each. Of a split that is given for some
        images, none is drawn.
    seed : int
        Of the shuffle.

    Raises
    ------
    InputError
        A class has no image in some split.
    """
    rng = np.random.default_rng(seed)
    labels = records["label"].to_numpy()
    codes, _ = pd.factorize(records["group"], sort=True)
    split = records["split"].replace("", None).groupby(codes).transform("first").to_numpy(dtype=object)
    of_class = np.bincount(labels, minlength=len(classes))
    wanted = {part: np.maximum(1, np.round(fractions[part] * of_class)) for part in ("test", "val")}
    for part in wanted:
        if (split == part).any():
            wanted[part] = np.bincount(labels[split == part], minlength=len(classes))
    wanted["train"] = np.maximum(1, of_class - wanted["test"] - wanted["val"])
    missing = {
        part: count - np.bincount(labels[split == part], minlength=len(classes)) for part, count in wanted.items()
    }
    free = np.flatnonzero(pd.isna(split))
    sizes = np.bincount(codes[free], minlength=codes.max() + 1)
    grouped = free[sizes[codes[free]] > 1]
    rows_of = pd.Series(grouped).groupby(codes[grouped]).indices
    several = rng.permutation(np.flatnonzero(sizes > 1))
    for group in several[np.argsort(-sizes[several], kind="stable")]:
        rows = grouped[rows_of[group]]
        own = labels[rows]
        part = max(wanted, key=lambda part: (missing[part][own] / wanted[part][own]).sum())
        split[rows] = part
        np.subtract.at(missing[part], own, 1)
    single = free[sizes[codes[free]] == 1]
    single = single[np.lexsort((codes[single], labels[single]))]
    ends = np.cumsum(np.bincount(labels[single], minlength=len(classes)))
    for label, of_label in enumerate(np.split(single, ends[:-1])):
        rows = of_label.tolist()
        rng.shuffle(rows)
        for part in ("test", "val"):
            count = max(0, int(missing[part][label]))
            kept = max(0, len(rows) - count)
            split[rows[kept:]] = part
            del rows[kept:]
        split[rows] = "train"
    for part in SPLITS:
        reached = np.bincount(labels[split == part], minlength=len(classes))
        for label, name in enumerate(classes):
            if not reached[label]:
                groups = records.loc[labels == label, "group"].nunique()
                raise InputError(
                    f"data.fractions: class {name} has no image in the {part} split: it has {of_class[label]} images "
                    f"in {groups} groups, too few for these splits; take others, or try another data.split_seed"
                )
    return pd.Series(split, index=records.index, name="split").astype(str)


def limit(records: pd.DataFrame, per_class: int, seed: int) -> np.ndarray:
    """Return sorted positions of about `per_class` rows of each class, with the same share of each split."""
    rng = np.random.default_rng(seed)
    kept = []
    for _, rows in sorted(records.groupby("label").indices.items()):
        share = min(1.0, per_class / len(rows))
        of_split = records["split"].to_numpy()[rows]
        for part in SPLITS:
            candidates = rows[of_split == part]
            kept.append(rng.permutation(candidates)[: max(1, round(share * len(candidates)))])
    return np.sort(np.concatenate(kept))
