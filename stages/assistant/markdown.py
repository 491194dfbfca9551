"""A page of the project's docs, from Markdown to sentences with the headings above them.

What a line of the page says is kept letter by letter; what only shapes it (emphasis, the targets of links, comments,
pictures that stand alone) goes. Of code, blocks of at most two lines are kept, each line a sentence: they are the
commands that answer "how do I …?", to be quoted one by one. Longer ones are listings, which no sentence quotes.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.tree import SyntaxTreeNode

from stages.assistant.passages import BELOW, Document, Language, Sentence
from stages.assistant.text import language, sentences

COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
GENERATED = re.compile(r"^Made at commit ", re.MULTILINE)  # a page of `make results-NAME`
COMMAND_LINES = 2  # of code that is kept
LOWEST = 6  # level of headings
CAPTION = 80  # signs, at most, of a sentence in a place
BLOCKS = {"heading", "paragraph", "table", "fence", "code_block", "html_block"}


def read(path: Path, source: str) -> Document:
    """Read a page of docs.

    Places are heading paths that begin with the file's stem, such as `README › Your own data`. Where a sentence ending
    in a colon introduces a table, the place of its rows ends with the beginning of that sentence.

    Raises
    ------
    ValueError
        The file is not UTF-8 text.
    OSError
        The file cannot be read.
    """
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text") from None
    root = SyntaxTreeNode(MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text))
    titles = [_plain(block) for block in root.children if block.type == "heading" and block.tag == "h1"]
    found = tuple(_sentences(root, path.stem, language(text), bool(GENERATED.search(text))))
    digest = hashlib.sha256(content).hexdigest()
    return Document(source, "docs", (titles or [path.stem])[0], digest, language(text), found)


def _sentences(root: SyntaxTreeNode, stem: str, of_language: Language, generated: bool) -> Iterator[Sentence]:
    """Yield the sentences of a page in order.

    A generated page also has sentences ending in a colon in place of headings (`With 10 images of each class:`), and
    its tables stand below a paragraph that begins with what they show.
    """
    headings = {0: stem}
    said = []  # the paragraph before this block, if that was one
    for block in _blocks(root):
        before, said = said, []
        if generated and block.type == "paragraph" and block.parent == root and before and before[-1].endswith(":"):
            headings[LOWEST + 1] = _short(before[-1][:-1])
        place = BELOW.join(headings.values())
        if block.type == "heading":
            level = int(block.tag[1:])
            headings = {above: text for above, text in headings.items() if above < level}
            if level > 1:
                headings[level] = _plain(block)
        elif block.type == "table":
            caption = _caption(before, generated)
            yield from (Sentence(row, BELOW.join([place, *caption])) for row in _rows(block))
        elif block.type in ("fence", "code_block"):
            lines = [" ".join(line.split()) for line in block.content.splitlines() if line.strip()]
            yield from (Sentence(line, place) for line in lines if len(lines) <= COMMAND_LINES)
        elif not _is_picture(block):
            said = sentences(_plain(block), of_language)
            yield from (Sentence(text, place) for text in said)


def _blocks(node: SyntaxTreeNode) -> Iterator[SyntaxTreeNode]:
    """Yield headings, paragraphs, tables, code and HTML in order, out of lists and quotations."""
    for child in node.children:
        if child.type in BLOCKS:
            yield child
        else:
            yield from _blocks(child)


def _caption(before: list[str], generated: bool) -> list[str]:
    if before and before[-1].endswith(":"):
        return [_short(before[-1][:-1])]
    return [_short(before[0].rstrip("."))] if before and generated else []


def _short(text: str) -> str:
    return shorten(text, CAPTION, placeholder=" …")


def _rows(table: SyntaxTreeNode) -> Iterator[str]:
    """Yield each row as `column: value; column: value.`; a value without a column's name stands alone."""
    head, *bodies = table.children
    columns = [_plain(cell) for cell in head.children[0].children]
    for row in (row for body in bodies for row in body.children):
        cells = zip(columns, map(_plain, row.children), strict=True)
        text = "; ".join(f"{column}: {value}" if column else value for column, value in cells if value)
        if text:
            yield text if text.endswith(".") else f"{text}."


def _is_picture(block: SyntaxTreeNode) -> bool:
    (inline,) = block.children or [None]
    return inline is not None and {child.type for child in inline.children} <= {"image", "softbreak"}


def _plain(block: SyntaxTreeNode) -> str:
    """Return a block's text on one line: of links and pictures their words, of code and HTML every sign."""
    if block.type == "html_block":
        return " ".join(COMMENT.sub(" ", block.content).split())
    return " ".join("".join(_signs(inline.token.children or []) for inline in block.children).split())


def _signs(tokens: list[Token]) -> str:
    spaces = {"softbreak", "hardbreak"}
    return "".join(" " if token.type in spaces else token.content for token in tokens if not _is_comment(token))


def _is_comment(token: Token) -> bool:
    return token.type == "html_inline" and token.content.startswith("<!--")
