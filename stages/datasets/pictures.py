"""Picture files: which there are, and what is in them."""

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from stages.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def below(folder: Path) -> dict[str, Path]:
    """Return the pictures below a folder by their relative paths, in the order of these."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; data.source must name the folder of the pictures")
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES}
    return dict(sorted(found.items()))


def decode(path: Path) -> np.ndarray:
    """Return a picture as RGB, uint8 of shape (H, W, 3), turned as its EXIF data say; transparency is dropped.

    Raises
    ------
    InputError
        The file is empty, truncated, no picture, or has grey values of more than 8 bits.
    """
    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: is empty (0 bytes); it must be a picture")
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise InputError(
                    f"{path}: has {picture.mode} pixels of more than 8 bits; save it with 8 bits a channel"
                )
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture: {error}") from None
