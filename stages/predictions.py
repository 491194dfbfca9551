"""Reading what `stages.evaluate` predicted: `<criterion>/seed<s>.parquet`, a row an image and checkpoint."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stages.errors import InputError
from stages.names import Identity


def each(files: list[Path]) -> Iterator[tuple[Identity, pd.DataFrame, np.ndarray]]:
    """Yield, for every checkpoint in every file, who it is, the images, and their probabilities.

    Yields
    ------
    identity : Identity
    images : DataFrame
        image_id and label (the number of its class); the same object each time.
    probabilities : float32 array, N x classes

    Raises
    ------
    InputError
        A file cannot be read, or its images are not those of the first in their order.
    """
    images = None
    for file in files:
        try:
            rows = pd.read_parquet(file)
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: not predictions of `stages.evaluate`: {error}") from None
        for (step, phase), group in rows.groupby(["step", "phase"], sort=False):
            mine = group[["image_id", "label"]].reset_index(drop=True)
            images = mine if images is None else images
            if not mine.equals(images):
                raise InputError(f"{file}: step {step} {phase}: not the images of {files[0]} in their order")
            criterion = "baseline" if phase == "baseline" else file.parent.name
            identity = Identity(criterion, int(file.stem.removeprefix("seed")), int(step), phase)
            yield identity, images, group.filter(like="probability_").to_numpy()


def classes(file: Path) -> list[str]:
    """Return the names of the classes in a file of predictions, in order."""
    from pyarrow.parquet import read_schema

    names = read_schema(file).names
    return [name.removeprefix("probability_") for name in names if name.startswith("probability_")]
