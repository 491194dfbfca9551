"""Writing files so that a file that exists is complete, and digests of files and folders."""

import csv
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else delete it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o644)  # safetensors makes files that only their owner reads
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())  # else the name may reach the disk before the content
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing does not name it
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path, folders: set[str], tables: set[str]) -> Iterator[Path]:
    """Yield a new folder that takes the place of this one once it is whole: it has these folders and files, no others.

    Raises
    ------
    InputError
        The folder is there and holds something else.
    """
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - folders - tables):
        raise InputError(f"{folder}: exists, and holds other things; name a folder for these results alone")
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    new.mkdir(parents=True)
    try:
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        try:
            new.rename(folder)
        except OSError:  # another copy of the study, which shares the work folder, was first
            if not all((folder / table).exists() for table in tables):
                raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON with sorted keys."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write `rows` as CSV; the columns are the keys of the first row."""
    with replacing(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tensors(path: Path, tensors: dict, metadata: dict[str, str]) -> None:
    """Write tensors of torch by name as safetensors.

    Raises
    ------
    OSError
        As other writing does, with `errno` (safetensors has an error of its own).
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            if not (number := re.search(r"os error (\d+)", str(error))):
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def is_whole(path: Path) -> bool:
    """Say whether a file has its end: a machine that went down may have left less than was written.

    By what each kind of file says of its size: safetensors, npy, npz, parquet, JSON, and text that ends with its line.
    """
    import numpy as np
    from safetensors import SafetensorError, safe_open

    try:
        match path.suffix:
            case ".safetensors":
                with safe_open(path, "np"):
                    return True
            case ".npy":
                return np.load(path, mmap_mode="r") is not None
            case ".npz":
                return zipfile.is_zipfile(path)
            case ".json":
                json.loads(path.read_text())
                return True
    except (ValueError, EOFError, SafetensorError):  # not OSError: what cannot be read now may be whole
        return False
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 4))
        end = stream.read()
    return end == b"PAR1" if path.suffix == ".parquet" else end.endswith(b"\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or that of the relative names and digests of all files below a folder."""
    return digest(path, _sha256_of_file)


def digest(path: Path, of_file: Callable[[Path], str]) -> str:
    """Return `of_file(path)`, or a SHA-256 of the relative names and such digests of all files below a folder."""
    path = Path(path)
    if not path.is_dir():
        return of_file(path)
    total = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts):
        total.update(f"{file.relative_to(path).as_posix()}\0{of_file(file)}\0".encode())
    return total.hexdigest()


def _sha256_of_file(path: Path) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
