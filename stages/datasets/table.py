"""Data sets whose labels, groups and splits stand in a CSV file."""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.datasets import pictures
from stages.datasets.source import COLUMNS, SPLITS, Source
from stages.errors import InputError, within

SHOWN = 10  # of a list, in a message
NOTHING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null"]  # how tables say that a value is not known


def read(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Return columns of a CSV file as text, renamed; the index is each row's line in the file (the header's is 1).

    Parameters
    ----------
    columns : dict
        New name to the name in the file. `image_id`, `label` and `group` must have a value in every row.

    Raises
    ------
    InputError
        The file or a column is missing, a row has too many or too few values or lacks one that every image needs, an
        image is named twice, or there is none.
    """
    lines, rows = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            header = reader.fieldnames or []
            for row in reader:
                if any(row.pop(None, [])) or None in row.values():
                    raise InputError(f"{path}: row {reader.line_num}: must have {len(header)} values, as row 1 has")
                lines.append(reader.line_num)
                rows.append(row)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; it must list the images") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from None
    for name in columns.values():
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            known = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(header)}"
            raise InputError(f"{path}: row 1: no column {name}; {known}")
    if not rows:
        raise InputError(f"{path}: lists no image; every image needs a row")
    table = pd.DataFrame({new: [row[old].strip() for row in rows] for new, old in columns.items()}, lines)
    for new in {"image_id", "label", "group"} & columns.keys():
        for line in table.index[table[new].isin(NOTHING)][:1]:
            value = table.at[line, new] or "empty"
            raise InputError(f"{path}: row {line}: {columns[new]} is {value}; every image needs one")
    for line in table.index[table["image_id"].duplicated()][:1]:
        name = table.at[line, "image_id"]
        first = table.index[table["image_id"] == name][0]
        raise InputError(f"{path}: row {line}: image {name} is already in row {first}; each may have one row")
    return table


def to_source(
    path: Path, table: pd.DataFrame, files: dict[str, Path], classes: Sequence[str] | None, allow_missing: bool
) -> Source:
    """Return the data set that a table and picture files make.

    Parameters
    ----------
    path : Path
        The table's file, for messages.
    table : DataFrame
        As `read` returns it: `image_id`, `label` (the class's name), and if known `group` (else each image is one),
        `split`, subgroups.
    files : dict
        Image id to its file.
    classes : sequence of str, optional
        The classes in their order; by default those of the table in alphabetical order.
    allow_missing : bool
        Whether rows without a picture and pictures without a row are left out and recorded, rather than refused.

    Raises
    ------
    InputError
        A label or split is unknown, a group is in two splits, something is missing, or there are too few classes.
    """
    classes = list(classes or sorted(table["label"].unique()))
    _refuse_unknown(path, table, "label", classes)
    if "split" in table:
        _refuse_unknown(path, table, "split", ["", *SPLITS])
    without_file = table.index[~table["image_id"].isin(files.keys())]
    left_out = [f"row {line}: {name} has no picture" for line, name in table["image_id"].loc[without_file].items()]
    known = set(table["image_id"])
    left_out += [f"{file} has no row" for name, file in files.items() if name not in known]
    if left_out and not allow_missing:
        raise InputError(
            f"{path}: {len(without_file)} rows without a picture and {len(left_out) - len(without_file)} pictures "
            f"without a row: {_some(left_out)}; `data.allow_missing: true` leaves them out"
        )
    table = table.drop(without_file)
    present = set(table["label"])
    for name in classes:
        if name not in present:
            raise InputError(f"{path}: class {name} has no image; every class needs some")
    if len(classes) < 2:
        raise InputError(f"{path}: all images are of class {classes[0]}; at least 2 classes are needed")
    records = pd.DataFrame({"image_id": table["image_id"], "label": table["label"].map(classes.index)})
    records["group"] = table.get("group", table["image_id"])
    records["split"] = table.get("split", "")
    records = pd.concat([records, table.drop(columns=[*COLUMNS], errors="ignore")], axis=1)
    splits = records[records["split"] != ""].groupby("group")["split"].nunique()
    for group in splits.index[splits > 1][:1]:
        lines = records.index[records["group"] == group]
        raise InputError(f"{path}: row {lines[0]}: group {group} is in more than one split (rows {_some(lines)})")
    lines, records = list(records.index), records.reset_index(drop=True)

    def image(row: int):
        with within(f"{path}: row {lines[row]}"):
            return pictures.decode(files[records["image_id"].iat[row]])

    return Source(classes, records, image, left_out)


def _refuse_unknown(path: Path, table: pd.DataFrame, column: str, known: list[str]) -> None:
    unknown = ~table[column].isin(known)
    for line in table.index[unknown][:1]:
        raise InputError(
            f"{path}: row {line}: {column} {table.at[line, column]!r} is none of {', '.join(filter(None, known))}"
            + (f" (and {unknown.sum() - 1} rows more)" if unknown.sum() > 1 else "")
        )


def _some(items: Sequence) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(map(str, items[:SHOWN])) + more
