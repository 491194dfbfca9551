"""Pictures below one folder: classes are its sub-folders, or stand in a CSV file."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.datasets import pictures, table
from stages.datasets.source import Source
from stages.errors import InputError

SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test"}


def read(folder: Path, classes: Sequence[str] | None = None) -> Source:
    """List the pictures `FOLDER/<class>/**/*.jpg`; every picture is a group of its own.

    Parameters
    ----------
    classes : sequence of str, optional
        The sub-folders in the order of their labels; alphabetical by default.

    Raises
    ------
    InputError
        The folder is missing, has fewer than two classes, not those named, or a class has no picture; its folders are
        named like splits, and `classes` does not name them.
    """
    files = pictures.below(folder)
    folders = sorted(entry.name for entry in Path(folder).iterdir() if entry.is_dir())
    if len(folders) < 2:
        raise InputError(f"{folder}: has {len(folders)} class folders; at least 2 are needed")
    if not classes and {name.lower() for name in folders} <= SPLITS:
        raise InputError(
            f"{folder}: its folders {', '.join(folders)} are splits, not classes; name one of them as data.source "
            "(data.fractions splits it), or let data.table say the split of each picture"
        )
    if classes and set(classes) != set(folders):
        odd = sorted(set(classes) ^ set(folders))[0]
        raise InputError(f"{Path(folder) / odd}: data.classes and the class folders must be the same")
    classes = list(classes or folders)
    images = list(files)
    for name in images:
        if "/" not in name:
            raise InputError(f"{files[name]}: is in no class folder")
    records = pd.DataFrame({"image_id": images, "label": [classes.index(name.split("/")[0]) for name in images]})
    for label, name in enumerate(classes):
        if not (records["label"] == label).any():
            raise InputError(
                f"{Path(folder) / name}: no picture ({', '.join(sorted(pictures.SUFFIXES))}) in this class folder"
            )
    records["group"] = records["image_id"]
    records["split"] = ""
    return Source(classes, records, lambda row: pictures.decode(files[images[row]]))


def read_with_table(
    folder: Path,
    file: str,
    columns: dict[str, str],
    classes: Sequence[str] | None = None,
    allow_missing: bool = False,
) -> Source:
    """Read pictures whose groups, splits and subgroups, and if given labels, stand in a CSV file.

    Parameters
    ----------
    file : str
        The CSV file, relative to the folder.
    columns : dict
        `image_id` (the picture's path, relative to the folder), and any of `label` (by default the picture's
        class folder), `group`, `split` and subgroups, to the column's name in the file.
    classes, allow_missing
        See `table.to_source`.
    """
    files = pictures.below(folder)
    path = Path(folder) / file
    rows = table.read(path, columns)
    if "label" not in rows:
        for line in rows.index[~rows["image_id"].str.contains("/")][:1]:
            raise InputError(f"{path}: row {line}: {rows.at[line, 'image_id']} is in no class folder")
        rows["label"] = rows["image_id"].str.split("/").str[0]
    return table.to_source(path, rows, files, classes, allow_missing)
