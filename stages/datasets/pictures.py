"""Picture files: which there are, and what is in them."""

import struct
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from stages.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


def below(folder: Path) -> dict[str, Path]:
    """Return the pictures below a folder by their relative paths, in the order of these; no hidden files."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; data.source must name the folder of the pictures")
    found = [path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES]
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def decode(path: Path) -> Image.Image:
    """Return a picture in RGB, turned as its EXIF data say; transparency is dropped.

    Raises
    ------
    InputError
        The file is empty, truncated, no picture, or has grey values of more than 8 bits.
    """
    try:
        with Image.open(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise InputError(
                    f"{path}: has {picture.mode} pixels of more than 8 bits; save it with 8 bits a channel"
                )
            ImageOps.exif_transpose(picture, in_place=True)  # which reads the whole file
            return picture if picture.mode == "RGB" else picture.convert("RGB")
    except UnidentifiedImageError:
        what = "no picture of a kind that Pillow reads" if path.stat().st_size else "empty (0 bytes)"
        raise InputError(f"{path}: is {what}; data.source must hold pictures") from None
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be read as a picture: {error}") from None


def central(picture: Image.Image, share: float) -> Image.Image:
    """Return the part of a picture around its centre that has this share of its sides."""
    left, top = (round(side * (1 - share) / 2) for side in picture.size)
    return picture if share == 1 else picture.crop((left, top, picture.width - left, picture.height - top))


def square(picture: Image.Image, size: int) -> Image.Image:
    """Return a picture resized to `size` x `size` pixels, with antialiasing."""
    return picture if picture.size == (size, size) else picture.resize((size, size), Image.Resampling.BILINEAR)
