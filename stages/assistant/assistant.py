"""The assistant as the terminal and the app use it: sources read, a question answered."""

import hashlib
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from stages.assistant import language_model, sources
from stages.assistant.answer import Answer, quote
from stages.assistant.encoders import make
from stages.assistant.index import Changes, Index, Progress
from stages.assistant.language_model import Claim
from stages.assistant.passages import Kind
from stages.assistant.search import Found, Search
from stages.assistant.settings import Settings


class Response(NamedTuple):
    """What was found, what of it answers, and what a language model says of it.

    `claims` is None where none was asked, or where `trouble` says in a line why it did not answer.
    """

    found: Found
    answer: Answer
    claims: list[Claim] | None
    trouble: str


class Assistant:
    """The index of a project's sources, open for questions.

    Parameters
    ----------
    root : Path
        Folder of the project: its docs and results are read, and paths are shown relative to it.
    settings : Settings
        Of assistant.yaml.
    log : callable
        Gets a line where something is not as asked for, such as an encoder that is not installed.
    """

    def __init__(self, root: Path, settings: Settings, log: Callable[[str], None]):
        self.root, self.settings = Path(root), settings
        folder = self.root / settings.index
        encoder = make(settings.encoder, folder, settings.threads, log)
        self.index = Index(folder, encoder, settings.passage_tokens)
        self.search = Search(self.index)
        self._updating = threading.Lock()

    @property
    def version(self) -> str:
        """What answers depend on: another version may answer otherwise."""
        documents = sorted({(passage.source, passage.digest) for passage in self.search.passages})
        return hashlib.sha256(repr((self.settings, documents)).encode()).hexdigest()

    @property
    def papers(self) -> Path:
        """The folder of PDFs."""
        return self.root / self.settings.papers

    def update(self, progress: Progress) -> Changes:
        """Bring the index to what the sources are now."""
        with self._updating:
            changes = self.index.update(sources.of(self.root, self.papers), progress)
            if changes.read or changes.removed:
                self.search = Search(self.index)
        return changes

    def ask(self, question: str, shown: int, kinds: Collection[Kind] | None = None) -> Response:
        """Find passages and quote what answers; with a language model in the settings let it answer as well."""
        found = self.search.find(question, shown, kinds)
        answer = quote(self.search, found)
        if self.settings.language_model is None or not answer.quotes:
            return Response(found, answer, None, "")
        try:
            passages = [hit.passage for hit in found.shown]
            claims = language_model.ask(question, passages, self.settings.language_model, self._similarity)
        except language_model.Unavailable as error:
            return Response(found, answer, None, str(error))
        return Response(found, answer, claims, "")

    def _similarity(self, sentence: str, others: Sequence[str]) -> Sequence[float]:
        encoder = self.index.encoder
        return encoder.passages(others) @ encoder.passages([sentence])[0]
