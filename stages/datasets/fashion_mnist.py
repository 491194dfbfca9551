"""The embedded 8,000 images of Fashion-MNIST (Xiao, Rasul & Vollgraf, 2017, arXiv 1708.07747)."""

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.datasets.source import Source
from stages.errors import InputError

PADDING = 2  # pixels a side: 28 to 32


def read(path: Path) -> Source:
    """Read fashion-mnist.npz; images of the published test set are the test split.

    Raises
    ------
    InputError
        The file is missing or not the embedded one.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = {name: archive[name] for name in ("images", "labels", "source", "row", "classes")}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not the embedded fashion-mnist.npz: {error}") from None
    padded = np.pad(content["images"], ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
    image_id = [f"{source}-{row:05d}" for source, row in zip(content["source"], content["row"], strict=True)]
    records = pd.DataFrame(
        {
            "image_id": image_id,
            "label": content["labels"].astype(np.int64),
            "group": image_id,
            "split": np.where(content["source"] == "t10k", "test", ""),
        }
    )
    return Source(content["classes"].tolist(), records, lambda row: Image.fromarray(padded[row]).convert("RGB"))
