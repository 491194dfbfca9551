"""Pictures in one folder a class: `SOURCE/<class>/**/*.jpg`."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.datasets.source import Source
from stages.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def read(folder: Path) -> Source:
    """List the pictures of `folder`; the classes are its sub-folders in alphabetical order.

    Raises
    ------
    InputError
        The folder is missing, has fewer than two classes, or a class has no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; data.source must hold one folder a class")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if len(classes) < 2:
        raise InputError(f"{folder}: has {len(classes)} class folders; at least 2 are needed")
    paths: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        found = sorted(path for path in (folder / name).rglob("*") if path.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{folder / name}: no picture ({', '.join(sorted(SUFFIXES))}) in this class folder")
        paths += [(path.relative_to(folder).as_posix(), label) for path in found]
    records = pd.DataFrame(paths, columns=["image_id", "label"])
    records["group"] = records["image_id"]
    records["split"] = ""
    return Source(classes, records, lambda row: _decode(folder / records["image_id"].iat[row]))


def _decode(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise InputError(
                    f"{path}: has {picture.mode} pixels of more than 8 bits; save it with 8 bits a channel"
                )
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture: {error}") from None
