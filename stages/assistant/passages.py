"""What is read and what is found: boxes, sentences, documents, and the passages that documents are cut into."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["paper", "docs", "results"]
Language = Literal["en", "de"]
BELOW = " › "  # between the headings of a place


@dataclass(frozen=True)
class Box:
    """Where a line stands on a page: 1-based page; left, top, right, bottom as shares of its width and height."""

    page: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Sentence:
    """A whole sentence on one line, hyphenation mended.

    `place` says where it stands in words fit for a citation: `p. 3`, the heading of a page of docs, the commit of a
    table. `boxes`, one a line, are there for PDFs alone.
    """

    text: str
    place: str
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Document:
    """A file that was read. `source` is its path below the project; `digest` the SHA-256 of its content."""

    source: str
    kind: Kind
    title: str
    digest: str
    language: Language
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Passage:
    """Neighbouring sentences of a document, as many as the encoder reads at once."""

    source: str
    kind: Kind
    title: str
    language: Language
    digest: str
    sentences: tuple[Sentence, ...]

    @property
    def text(self) -> str:
        """The sentences with a space between them."""
        return " ".join(sentence.text for sentence in self.sentences)

    @property
    def searched(self) -> str:
        """What is encoded and searched: the text, after the headings it stands under where they are known."""
        return f"{self.places}: {self.text}" if BELOW in self.places else self.text

    @property
    def name(self) -> str:
        """A name that the same content of the same document has again, and no other."""
        content = "\0".join([self.digest, *(sentence.text + sentence.place for sentence in self.sentences)])
        return hashlib.sha256(content.encode()).hexdigest()[:32]

    @property
    def places(self) -> str:
        """The place of the first sentence, and that of the last where it is another."""
        first, last = self.sentences[0].place, self.sentences[-1].place
        return first if first == last else f"{first} to {last}"


def cut(document: Document, tokens: Callable[[str], int], most: int) -> Iterator[Passage]:
    """Cut a document into passages of at most `most` tokens.

    Sentences stay whole and in order, and each is in one passage; a passage may cross a page, but no heading or commit
    (the place of docs and results). A sentence that alone has more tokens is a passage of its own.
    """
    held, size = [], 0
    for sentence in document.sentences:
        length = tokens(sentence.text)
        elsewhere = held and document.kind != "paper" and held[-1].place != sentence.place
        if held and (size + length > most or elsewhere):
            yield _of(document, held)
            held, size = [], 0
        held.append(sentence)
        size += length
    if held:
        yield _of(document, held)


def _of(document: Document, sentences: list[Sentence]) -> Passage:
    return Passage(document.source, document.kind, document.title, document.language, document.digest, tuple(sentences))
