"""The prepared array store: `images.npy`, `index.csv`, `dataset.json` and perhaps `masks.npy` in one folder."""

import hashlib
import json
import math
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import torch

from stages.datasets.pictures import central, square
from stages.datasets.source import SPLITS, Source
from stages.errors import InputError, naming
from stages.files import replacing, write_json

CHUNK = 16  # pictures that a thread prepares at a time


@dataclass(frozen=True)
class Prepared:
    """A prepared data set.

    Attributes
    ----------
    images : uint8 array, N x H x W x 3
        Memory-mapped; nothing is read before it is used.
    index : DataFrame
        `image_id`, `label`, `group`, `split`, then subgroups such as `age`; one row an image, in the order of `images`.
    description : dict
        `dataset.json`: name, classes, counts by split and class, mean and std of the training split, image_size,
        centre (the share of a picture's sides that is stored), left_out (missing rows and pictures), duplicates
        (equal pictures in different splits), content_sha256.
    masks : uint8 array, N x H x W, optional
        255 inside, 0 outside, between these where a pixel is in part inside. Memory-mapped.
    """

    images: np.ndarray
    index: pd.DataFrame
    description: dict[str, Any]
    masks: np.ndarray | None = None

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their labels."""
        return self.description["classes"]

    def rows(self, split: str) -> np.ndarray:
        """Return the positions of the images of a split, ascending."""
        return np.flatnonzero(self.index["split"].to_numpy() == split)

    def labels(self, rows: np.ndarray) -> torch.Tensor:
        """Return the labels of images, int64, N."""
        return torch.from_numpy(self.index["label"].to_numpy()[rows])

    def positions(self) -> dict[str, int]:
        """Return the position of each image by its id."""
        return {image: row for row, image in enumerate(self.index["image_id"])}

    def batch(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images as float32 in [0, 1], N x 3 x H x W, and their labels, int64, N."""
        pixels = torch.from_numpy(np.ascontiguousarray(self.images[rows]))
        return pixels.permute(0, 3, 1, 2).contiguous().float().div_(255), self.labels(rows)

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield `batch` for consecutive `size` of the rows."""
        for start in range(0, len(rows), size):
            yield self.batch(rows[start : start + size])

    def refuse_unknown(self, classes: Sequence[str] | None, key: str = "prune.scores.classes") -> None:
        """Raise an InputError if one of the classes that a key of params.yaml names does not exist."""
        for name in classes or []:
            if name not in self.classes:
                raise InputError(f"{key}: {name!r} is none of {', '.join(self.classes)}")

    def references(
        self,
        per_class: int,
        seed: int,
        classes: Sequence[str] | None = None,
        accept: Callable[[np.ndarray], np.ndarray] | None = None,
        split: str = "train",
    ) -> np.ndarray:
        """Return positions of images of a split, `per_class` of each class (all, where a class has fewer).

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
        rows = self.rows(split)
        labels = self.index["label"].to_numpy()[rows]
        drawn = []
        for label, name in enumerate(self.classes):
            order = rng.permutation(rows[labels == label])
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
    source: Source,
    rows: Sequence[int],
    size: int,
    *,
    centre: float = 1.0,
    threads: int = 1,
    keep_duplicates: bool = False,
    track: Callable[[Iterable], Iterable] = iter,
) -> None:
    """Write the store; each file appears complete or not at all, `dataset.json` last.

    Parameters
    ----------
    source : Source
        With the split of every record.
    rows : sequence of int
        Which records to store, in this order; each picture is decoded once and resized to `size` pixels squared with
        antialiasing, and so is its mask, if there is one.
    centre : float
        The share of a picture's sides that is stored, around its centre; of its mask too.
    threads : int
        How many pictures are worked on at a time; changes no byte. Memory does not grow with the number of pictures.
    keep_duplicates : bool
        Whether equal pictures in different splits are recorded, rather than refused.
    track : function of an iterable
        Returns it, showing progress.

    Raises
    ------
    InputError
        A picture cannot be read, equal ones are in different splits, a colour channel is constant, or the store cannot
        be written.

    Notes
    -----
    Mean and standard deviation are those of the training split, from its exact histogram. Pictures are equal when what
    is stored of them is.
    """
    folder = Path(folder)
    records = source.records.iloc[rows].reset_index(drop=True)
    splits = records["split"].tolist()
    histogram = np.zeros(3 * 256, np.int64)  # of the training split's red, green and blue
    total, first, repeated = hashlib.sha256(), {}, []
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is no folder; name one that is to hold the prepared data")
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for written_before in ("dataset.json", "masks.npy"):
            (folder / written_before).unlink(missing_ok=True)
        shape = (len(records), size, size)
        _refuse_full_disk(folder, math.prod(shape) * (4 if source.mask else 3))
        with ExitStack() as stack:
            stream = stack.enter_context(_array(folder / "images.npy", (*shape, 3)))
            masks = stack.enter_context(_array(folder / "masks.npy", shape)) if source.mask else None
            stored = track(_stored(source, rows, size, centre, threads))
            for row, (pixels, mask, digest, of_picture) in zip(range(len(records)), stored, strict=True):
                stream.write(pixels.data)  # not through a memory map: a full disk would end the process by a signal
                if masks:
                    masks.write(mask.data)
                    total.update(mask.data)
                if splits[row] == "train":
                    histogram += of_picture
                total.update(digest)
                same = first.setdefault(digest, row)
                if splits[same] != splits[row]:
                    repeated.append((same, row))
            if repeated and not keep_duplicates:
                raise InputError(_in_two_splits(records, repeated))
        with replacing(folder / "index.csv") as temporary:
            records.to_csv(temporary, index=False)
        total.update((folder / "index.csv").read_bytes())
    histogram, values, count = histogram.reshape(3, 256), np.arange(256), splits.count("train") * size * size
    mean = histogram @ values / count
    std = np.sqrt(histogram @ values**2 / count - mean**2)
    if (std == 0).any():
        raise InputError(f"{folder}: a colour channel has the same value in every training image")
    found = records.groupby(["split", "label"]).size().to_dict()
    counts = {
        part: {class_name: found.get((part, label), 0) for label, class_name in enumerate(source.classes)}
        for part in SPLITS
    }
    names = records["image_id"].tolist()
    with naming(folder):
        write_json(
            folder / "dataset.json",
            {
                "name": name,
                "classes": source.classes,
                "counts": counts,
                "mean": (mean / 255).tolist(),
                "std": (std / 255).tolist(),
                "image_size": size,
                "centre": centre,
                "left_out": source.left_out,
                "duplicates": [[names[one], names[other]] for one, other in repeated],
                "content_sha256": total.hexdigest(),
            },
        )


@contextmanager
def _array(path: Path, shape: tuple[int, ...]) -> Iterator[IO[bytes]]:
    """Open what becomes a uint8 array, to write its elements to."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        yield stream


Stored = tuple[np.ndarray, np.ndarray | None, bytes, np.ndarray]


def _stored(source: Source, rows: Sequence[int], size: int, centre: float, threads: int) -> Iterator[Stored]:
    """Yield in order what is stored of each picture and its mask, the picture's digest and its histogram."""

    def one(row: int) -> Stored:
        whole = source.image(row)
        picture = square(central(whole, centre), size)
        mask = square(central(source.mask(row, whole.size), centre), size) if source.mask else None
        pixels = np.asarray(picture)
        mask = None if mask is None else np.asarray(mask)
        return pixels, mask, hashlib.blake2b(pixels.data, digest_size=16).digest(), np.array(picture.histogram())

    def some(start: int) -> list[Stored]:
        return [one(row) for row in rows[start : start + CHUNK]]

    pool = ThreadPoolExecutor(threads)  # Pillow decodes and resizes without the interpreter's lock
    waiting: deque = deque()
    try:
        for start in range(0, len(rows), CHUNK):
            waiting.append(pool.submit(some, start))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_full_disk(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{folder}: the images need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _in_two_splits(records: pd.DataFrame, pairs: list[tuple[int, int]]) -> str:
    def words(row: int) -> str:
        return f"{records['image_id'].iat[row]} ({records['split'].iat[row]})"

    shown = ", ".join(f"{words(one)} = {words(other)}" for one, other in pairs[:10])
    return (
        f"{len(pairs)} pictures are the same as one in another split: {shown}{' …' if len(pairs) > 10 else ''}; give "
        "such pictures one group, remove one, or set data.duplicates to keep"
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
        masks = np.load(folder / "masks.npy", mmap_mode="r") if (folder / "masks.npy").exists() else None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder}: not a prepared data set ({error}); `dvc repro prepare` makes it") from None
    if len(images) != len(index):
        raise InputError(f"{folder}: images.npy has {len(images)} images, index.csv {len(index)}; prepare it again")
    return Prepared(images, index, description, masks)
