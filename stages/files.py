"""Writing files so that a file that exists is complete, and digests of files and folders."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well, else delete it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.chmod(0o644)  # safetensors makes files that only their owner reads
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
