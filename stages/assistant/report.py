"""The study's report as sentences under its headings, and its tables as rows."""

import re
from html.parser import HTMLParser
from pathlib import Path

from stages.assistant.passages import BELOW, Document, Sentence
from stages.assistant.text import language, sentences
from stages.files import sha256

COMMIT = re.compile(r"\bCommit ([0-9a-f]{40})\b")
UNREAD = {"head", "pre", "script", "style", "svg", "template"}
BLOCKS = {"p", "li", "figcaption", "summary", "dt", "dd", "div", "td", "th", "h1", "h2", "h3", "h4"}


def read(path: Path, source: str) -> Document:
    """Read a `report.html`; places are its headings and the commit that it says made it.

    Raises
    ------
    ValueError
        The file is not UTF-8 text.
    OSError
        The file cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    page = _Page(path.stem)
    page.feed(text)
    page.close()
    made = COMMIT.search(" ".join(each for _, each in page.found))
    commit = f"commit {made[1][:7] if made else 'unknown'}"
    found = tuple(Sentence(each, f"{place}, {commit}") for place, each in page.found)
    return Document(source, "results", page.title, sha256(path), language(" ".join(each.text for each in found)), found)


class _Page(HTMLParser):
    """Gathers (place, sentence) of blocks of text, and of table rows as `column: value; column: value.`."""

    def __init__(self, stem: str):
        super().__init__()
        self.title, self.found = stem, []
        self._headings = {0: stem}
        self._unread, self._text, self._row, self._columns = 0, [], None, []

    def handle_starttag(self, tag: str, attributes: list) -> None:
        """Begin a block or a row; what stands before a block within another is one of its own."""
        self._unread += tag in UNREAD
        if tag in BLOCKS:
            self._end("div")
        if tag == "table":
            self._columns = []
        elif tag == "tr":
            self._row = []

    def handle_endtag(self, tag: str) -> None:
        """End a block or a row."""
        if tag in BLOCKS:
            self._end(tag)
        elif tag == "tr" and self._row is not None:
            row, self._row = self._row, None
            if not self._columns:
                self._columns = row
            elif any(row):
                cells = zip(self._columns, row, strict=False)  # a cell may span the rest of its row
                self._say("; ".join(f"{name}: {value}" if name else value for name, value in cells if value) + ".")
        self._unread -= tag in UNREAD

    def handle_data(self, data: str) -> None:
        """Gather text."""
        if not self._unread:
            self._text.append(data)

    def _end(self, tag: str) -> None:
        text, self._text = " ".join("".join(self._text).split()), []
        if tag in ("td", "th") and self._row is not None:
            self._row.append(text)
        elif text and tag in ("h1", "h2", "h3", "h4"):
            level = int(tag[1])
            self._headings = {above: each for above, each in self._headings.items() if above < level}
            if level == 1:
                self.title = text
            else:
                self._headings[level] = text
        elif text:
            for sentence in sentences(text, "en"):
                self._say(sentence)

    def _say(self, text: str) -> None:
        self.found.append((BELOW.join(self._headings.values()), text))
