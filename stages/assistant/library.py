"""The folder of papers: which there are, by a manifest, where they are downloaded from, and their digests."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import requests
from pydantic import Field, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from stages.assistant import pdf
from stages.errors import InputError, naming
from stages.files import replacing, sha256
from stages.params.reading import read
from stages.params.section import Digest, Section

MANIFEST = "manifest.yaml"
AGENT = {"User-Agent": "pruning-by-explanation"}
SECONDS = (10, 60)  # to connect, and between two pieces of a file
NULL = "tag:yaml.org,2002:null"
UPLOADING = threading.Lock()  # two sessions of the app may add a file of one name


class Paper(Section):
    """A PDF in the folder, and where it comes from. Without a `sha256` the first file that is seen decides it."""

    file: Annotated[str, Field(pattern=r"^\w[\w.-]*\.pdf$")]
    title: Annotated[str, Field(min_length=1)]
    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    sha256: Digest | None


class Manifest(Section):
    """The schema of manifest.yaml."""

    papers: list[Paper]

    @field_validator("papers")
    @classmethod
    def _files_differ(cls, papers):
        files = [paper.file for paper in papers]
        if repeated := sorted({file for file in files if files.count(file) > 1}):
            raise ValueError(f"{', '.join(repeated)} is there more than once")
        return papers


def manifest(folder: Path) -> list[Paper]:
    """Return the papers that `folder/manifest.yaml` lists; `stages.params.reading.read` says what is raised."""
    return read(Path(folder) / MANIFEST, Manifest).papers


def download(folder: Path, log: Callable[[str], None]) -> None:
    """Download what the manifest lists and the folder lacks, and check all of it by its SHA-256.

    A paper without a digest is trusted at first use: that of its first file is written to the manifest. Papers before
    one that fails stay.

    Raises
    ------
    InputError
        A file, there or downloaded, has another digest; or it cannot be downloaded, is no PDF or above 50 MiB. Nothing
        of a failed download is kept.
    """
    folder = Path(folder)
    for paper in manifest(folder):
        path = folder / paper.file
        if path.exists():
            _refuse_another(path, paper, str(path))
        else:
            log(f"{path}: downloading {paper.url}")
            with replacing(path) as temporary:
                _fetch(paper.url, temporary)
                _refuse_another(temporary, paper, f"{path}, downloaded from {paper.url}")
        if paper.sha256 is None:
            found = sha256(path)
            _write_digest(folder / MANIFEST, paper.file, found)
            log(f"{path}: trusted at first use, its SHA-256 {found} is in {MANIFEST} from now on")


def keep_upload(folder: Path, name: str, content: bytes) -> Path:
    """Keep an uploaded PDF in the folder of papers, if it can be read; a name that is taken by another gets a number.

    Raises
    ------
    InputError
        It is above 50 MiB, no PDF, or none that can be read; nothing is kept then.
    """
    shown = re.sub(r"[^\w.-]+", "-", Path(name).name).strip("-.")[:100] or "upload"
    if len(content) > pdf.MAX_BYTES:
        raise InputError(f"{shown}: {len(content) / 2**20:.0f} MiB, at most {pdf.MAX_BYTES >> 20} MiB are read")
    with UPLOADING:
        stem = shown.removesuffix(".pdf").removesuffix(".PDF")
        path = Path(folder) / f"{stem}.pdf"
        number = 1
        while path.exists() and path.read_bytes() != content:
            number += 1
            path = path.with_name(f"{stem}-{number}.pdf")
        with naming(shown), replacing(path) as temporary:
            temporary.write_bytes(content)
            pdf.read(temporary, shown)
    return path


def _fetch(url: str, path: Path) -> None:
    """Write what is at a URL, redirects followed, to a file."""
    try:
        with requests.get(url, stream=True, timeout=SECONDS, headers=AGENT) as answer:
            if answer.status_code != 200:
                raise InputError(f"{url}: cannot be downloaded: the server says {answer.status_code} {answer.reason}")
            written = 0
            with path.open("wb") as stream:
                for piece in answer.iter_content(2**16):
                    written += len(piece)
                    if written > pdf.MAX_BYTES:
                        raise InputError(f"{url}: more than {pdf.MAX_BYTES / 2**20:g} MiB, which no paper has")
                    stream.write(piece)
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be downloaded: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return what is at the bottom of an error of requests, such as `Connection refused`."""
    while below := error.__cause__ or error.__context__:
        error = below
    return getattr(error, "strerror", None) or str(error)


def _refuse_another(path: Path, paper: Paper, name: str) -> None:
    """Raise an InputError, which says `name`, if a file is not the paper."""
    with path.open("rb") as stream:
        if stream.read(5) != b"%PDF-":
            raise InputError(f"{name}: no PDF: does not begin with %PDF-")
    if paper.sha256 not in (None, found := sha256(path)):
        raise InputError(
            f"{name}: has the SHA-256 {found}, but {MANIFEST} says {paper.sha256}; correct which of them is wrong"
        )


class _Representer(RoundTripRepresenter):
    """Writes null as such, not as nothing."""


_Representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(NULL, "null"))


def _write_digest(path: Path, file: str, digest: str) -> None:
    """Write a digest to the manifest, and leave everything else there as it is, comments too."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    content = yaml.load(path.read_text())
    next(entry for entry in content["papers"] if entry["file"] == file)["sha256"] = digest
    with replacing(path) as temporary, temporary.open("w") as stream:
        yaml.dump(content, stream)
