"""The prepared array store: `images.npy`, `index.csv` and `dataset.json` in one folder."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from stages.errors import InputError
from stages.files import replacing, write_json


@dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes
    ----------
    images : uint8 array, N x H x W x 3
        Memory-mapped; nothing is read before it is used.
    index : DataFrame
        `image_id`, `label`, `group`, `split`, one row an image, in the order of `images`.
    description : dict
        `dataset.json`: name, classes, counts, mean and std of the training split, image_size, source_sha256.
    """

    images: np.ndarray
    index: pd.DataFrame
    description: dict[str, Any]

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their labels."""
        return self.description["classes"]

    def rows(self, split: str) -> np.ndarray:
        """Return the positions of the images of a split, ascending."""
        return np.flatnonzero(self.index["split"].to_numpy() == split)

    def batch(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images as float32 in [0, 1], N x 3 x H x W, and their labels, int64, N."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        labels = torch.from_numpy(self.index["label"].to_numpy()[rows])
        return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255), labels

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield `batch` for consecutive `size` of the rows."""
        for start in range(0, len(rows), size):
            yield self.batch(rows[start : start + size])

    def refuse_unknown(self, classes: Sequence[str] | None) -> None:
        """Raise an InputError if one of the classes whose images are to be scored does not exist."""
        for name in classes or []:
            if name not in self.classes:
                raise InputError(f"prune.scores.classes: {name!r} is none of {', '.join(self.classes)}")

    def references(
        self,
        per_class: int,
        seed: int,
        classes: Sequence[str] | None = None,
        accept: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return positions of training images, `per_class` of each class (all, where a class has fewer).

        Parameters
        ----------
        classes : sequence of str, optional
            Those to draw from; all by default. One more or less changes nothing of what is drawn from the others.
        accept : function of positions, optional
            Returns which of them may be drawn, as booleans.

        Raises
        ------
        InputError
            A class does not exist, or none of its images is accepted.
        """
        self.refuse_unknown(classes)
        rng = np.random.default_rng(seed)
        train = self.rows("train")
        labels = self.index["label"].to_numpy()[train]
        drawn = []
        for label, name in enumerate(self.classes):
            order = rng.permutation(train[labels == label])
            if classes is not None and name not in classes:
                continue
            found = order[:per_class] if accept is None else _first(order, per_class, accept)
            if not len(found):
                raise InputError(
                    f"prune.scores: no training image of class {name!r} may be a reference (correct_only?)"
                )
            drawn.append(found)
        return np.concatenate(drawn)


def _first(order: np.ndarray, count: int, accept: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the first `count` that are accepted, asking for `2 * count` at a time."""
    found = order[:0]
    for start in range(0, len(order), 2 * count):
        some = order[start : start + 2 * count]
        found = np.concatenate([found, some[accept(some)]])
        if len(found) >= count:
            break
    return found[:count]


def derived_seed(*parts: int) -> int:
    """Return a seed that is a function of all parts, such as a study's seed and a step."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def write(
    folder: Path,
    name: str,
    classes: list[str],
    records: pd.DataFrame,
    pictures: Iterable[np.ndarray],
    size: int,
    source_sha256: str,
) -> None:
    """Write the store; each file appears complete or not at all.

    Parameters
    ----------
    records : DataFrame
        `image_id`, `label`, `group`, `split`, in the order to store.
    pictures : iterable of uint8 arrays (H, W, 3)
        One for each row of `records`; resized to `size` pixels squared with antialiasing.

    Notes
    -----
    Mean and standard deviation are those of the training split, from exact integer sums.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    train = (records["split"] == "train").to_numpy()
    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    with replacing(folder / "images.npy") as temporary:
        shape = (len(records), size, size, 3)
        images = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        for row, picture in zip(range(len(records)), pictures, strict=True):
            pixels = _resize(picture, size)
            images[row] = pixels
            if train[row]:
                wide = pixels.reshape(-1, 3).astype(np.int64)
                total += wide.sum(axis=0)
                squares += (wide**2).sum(axis=0)
        images.flush()
        del images
    count = int(train.sum()) * size * size
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    if (std == 0).any():
        raise InputError(f"{folder}: a colour channel has the same value in every training image")
    with replacing(folder / "index.csv") as temporary:
        records[["image_id", "label", "group", "split"]].to_csv(temporary, index=False)
    counts = {
        part: {
            class_name: int(((records["split"] == part) & (records["label"] == label)).sum())
            for label, class_name in enumerate(classes)
        }
        for part in ("train", "val", "test")
    }
    write_json(
        folder / "dataset.json",
        {
            "name": name,
            "classes": classes,
            "counts": counts,
            "mean": (mean / 255).tolist(),
            "std": (std / 255).tolist(),
            "image_size": size,
            "source_sha256": source_sha256,
        },
    )


def load(folder: Path) -> Prepared:
    """Open a prepared data set.

    Raises
    ------
    InputError
        The folder is not a complete prepared data set.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / "dataset.json").read_text())
        index = pd.read_csv(folder / "index.csv", dtype={"image_id": str, "group": str, "split": str})
        images = np.load(folder / "images.npy", mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder}: not a prepared data set ({error}); `dvc repro prepare` makes it") from None
    if len(images) != len(index):
        raise InputError(f"{folder}: images.npy has {len(images)} images, index.csv {len(index)}; prepare it again")
    return Prepared(images, index, description)


def _resize(pixels: np.ndarray, size: int) -> np.ndarray:
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, reducing_gap=None))
