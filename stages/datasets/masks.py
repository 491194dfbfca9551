"""A mask for each image: which of its pixels are of the region that is asked about, such as a lesion."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pandas as pd
from PIL import Image

from stages.datasets import pictures
from stages.errors import InputError
from stages.files import sha256
from stages.params.data import Masks

KEY = "data.masks"


def reader(given: Masks, records: pd.DataFrame) -> Callable[[int, tuple[int, int]], Image.Image]:
    """Return a function from a row of the records and the size of its image to its mask: 255 inside, 0 outside.

    The mask of the image `a/b.jpg` or `a/b` is the picture `a/b` with the suffix of the masks; what is lighter than
    middle grey is inside.

    Raises
    ------
    InputError
        The folder is missing or not the one that was meant, or an image has no mask; the function: a mask cannot be
        read, has another size than the image, or holds all of it, or none if that is not allowed.
    """
    folder = Path(given.path)
    if not folder.is_dir():
        raise InputError(f"{KEY}.path: {folder}: no such folder; it must hold a mask of each image")
    if (found := sha256(folder)) != given.sha256:
        raise InputError(f"{folder}: has SHA-256 {found}, {KEY}.sha256 says {given.sha256}")
    files = []
    for name in records["image_id"]:
        path = PurePosixPath(name)
        stem = path.with_suffix("") if path.suffix.lower() in pictures.SUFFIXES else path
        files.append(folder / f"{stem}{given.suffix}")
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such mask ({len(missing)} images of {len(files)} have none)")

    def mask(row: int, size: tuple[int, int]) -> Image.Image:
        path = files[row]
        picture = pictures.decode(path).convert("L").point(lambda value: 255 if value > 127 else 0)
        if picture.size != size:
            ours, its = (" x ".join(map(str, each)) for each in (picture.size, size))
            raise InputError(f"{path}: has {ours} pixels, its image {its}; they must be the same")
        low, high = picture.getextrema()
        if low or not (high or given.allow_empty):
            hint = "some must be outside" if low else f"some must be inside, or {KEY}.allow_empty true"
            raise InputError(f"{path}: holds {'all' if low else 'none'} of the image; {hint}")
        return picture

    return mask
