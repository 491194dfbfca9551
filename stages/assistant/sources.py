"""Which files the assistant reads: papers, the project's docs, and the tables of its studies."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from stages.assistant import markdown, pdf, report
from stages.assistant.index import Source
from stages.files import sha256


def of(root: Path, papers: Path) -> list[Source]:
    """Return all sources below a project's folder; `papers` may lie elsewhere. None need be there."""
    return [*_papers(root, papers), *_docs(root), *_results(root)]


def _papers(root: Path, papers: Path) -> Iterator[Source]:
    for path in sorted(papers.rglob("*.pdf")):
        name = _below(root, path)
        yield Source(name, sha256(path), partial(pdf.read, path, name))


def _docs(root: Path) -> Iterator[Source]:
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        if path.exists():
            name = _below(root, path)
            yield Source(name, sha256(path), partial(markdown.read, path, name))


def _results(root: Path) -> Iterator[Source]:
    from stages.assistant import results  # pandas, for which the app would wait at its start

    for folder, study, commit in results.studies(root):
        for path in map(folder.joinpath, results.TABLES):
            if path.exists():
                name = _below(root, path)
                yield Source(name, results.digest(path, commit), partial(results.read, folder, name, study, commit))
    path = root / "metrics/report.html"
    if path.exists():
        name = _below(root, path)
        yield Source(name, sha256(path), partial(report.read, path, name))


def _below(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
