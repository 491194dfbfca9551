"""PDFs: their sentences, with the places where they stand, and pictures of their pages with places marked.

A page is read in steps, each a function below: characters become pieces of lines, pieces become lines in reading order,
lines become blocks (paragraphs, headings, captions), and blocks become sentences. What a PDF says is data: no script,
form or link of it is run.
"""

import ctypes
import math
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from threading import RLock
from typing import TYPE_CHECKING

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from stages.assistant.passages import Box, Document, Language, Sentence
from stages.assistant.text import language, sentences
from stages.files import sha256

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PAGES = 500
MAX_BYTES = 50 * 2**20
MAX_CHARACTERS = 10_000 * MAX_PAGES
MAX_PIXELS = 3000  # a side of a picture: a page may be 5 m wide
AMBER = (255, 191, 0, 96)
EDGE = 0.12  # share of a page's height, at the top and at the bottom, that running headers and footers stand in

HYPHENS = "-\x02\ufffe\xad\u2010"  # U+0002 or U+FFFE is what PDFium makes of a hyphen at the end of a line
ACCENTS = {"¨": "\u0308", "´": "\u0301", "ˆ": "\u0302", "˜": "\u0303", "¸": "\u0327"}
RAISED = str.maketrans("0123456789-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
FINAL = re.compile(r"[.!?:;…][\"'”“’»)\]⁰¹²³⁴⁵⁶⁷⁸⁹]*$")
PAGE_NUMBER = re.compile(r"\W*(?:(?:page|seite|p\.|s\.)\s*)?(?:\d{1,4}|[ivxl]+)(?:\s*(?:of|von|/)\s*\d{1,4})?\W*", re.I)
NUMBERED = re.compile(r"(?:\d+(?:\.\d+)*|[A-Z](?:\.\d+)+|[IVX]+\.)\.?\s+[^\W\d_]")
BULLET = re.compile(r"[•◦▪‣∙●■]")
CAPTION = re.compile(r"(?:Figure|Fig\.|Table|Tab\.|Abbildung|Abb\.|Tabelle|Algorithm)\s*\d+\s*[.:]")
REFERENCES = re.compile(r"(?:\d+\.?|[IVX]+\.)?(?:References|Bibliography|Literatur|Literaturverzeichnis)", re.I)
APPENDIX = re.compile(r"(?:[A-Z]\.?\s+)?(?:Appendix|Appendices|Anhang)\b[^.]{0,60}", re.I)
AND = ("und ", "oder ", "bzw. ", "and ", "or ")

_ALONE = RLock()  # PDFium is not safe for threads


@dataclass
class Line:
    """A line, or a piece of one, as it is read. Lengths in points from the top left of the page as it is shown."""

    page: int
    text: str
    edges: list[tuple[float, float]]  # left and right of every character of the text
    top: float
    bottom: float

    @property
    def left(self) -> float:
        """Where its first character begins."""
        return self.edges[0][0]

    @property
    def right(self) -> float:
        """Where its last character ends."""
        return self.edges[-1][1]

    @property
    def size(self) -> float:
        """The height of its characters."""
        return self.bottom - self.top


@dataclass
class Block:
    """Lines of one paragraph, heading or caption.

    `text` is on one line; `origin` is the line of each of its characters and the index in that line.
    """

    lines: list[Line]
    text: str = ""
    origin: list[tuple[Line, int]] = field(default_factory=list)


def read(path: Path, source: str, title: str | None = None) -> Document:
    """Read the sentences of a PDF, without headers, footers, page numbers and references.

    Parameters
    ----------
    path
        The file.
    source
        What the document is called by, as `Document.source`.
    title
        Its title; without one that of the file's metadata, else the file's name without its ending.

    Raises
    ------
    ValueError
        If it is larger than MAX_BYTES, broken, encrypted, has no page, more than MAX_PAGES, or no text.
    OSError
        If it cannot be opened.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise ValueError(f"has {size / 2**20:.0f} MiB; at most {MAX_BYTES // 2**20} are read")
    with _opened(path) as pdf:
        if len(pdf) > MAX_PAGES:
            raise ValueError(f"has {len(pdf)} pages; at most {MAX_PAGES} are read")
        pages, sizes, images, count = [], [], False, 0
        for number in range(1, len(pdf) + 1):
            with _page(pdf, number) as page, closing(page.get_textpage()) as text:
                if (count := count + text.count_chars()) > MAX_CHARACTERS:
                    raise ValueError(f"has more than {MAX_CHARACTERS} characters; at most so many are read")
                pages.append(list(_pieces(page, text, number)))
                sizes.append(page.get_size())
                images = images or next(page.get_objects([raw.FPDF_PAGEOBJ_IMAGE], max_depth=3), None) is not None
        title = title or _title(pdf) or path.stem
    pages = _without_running_lines(pages, [height for _, height in sizes])
    lines = [line for page, (width, _) in zip(pages, sizes, strict=True) for line in _in_reading_order(page, width)]
    blocks = _blocks(_without_references(lines))
    of_language = language(" ".join(block.text for block in blocks))
    found = tuple(sentence for block in blocks for sentence in _sentences(block, of_language, sizes))
    if not found and images:
        raise ValueError("has pages but no text: it is a scan; run OCR on it first")
    if not found:
        raise ValueError("is empty: no page has text")
    return Document(source, "paper", title, sha256(path), of_language, found)


def picture(path: Path, page: int, boxes: Sequence[Box], scale: float = 1.5) -> "Image":
    """Render a page, with those of the boxes that are on it marked in translucent amber.

    Parameters
    ----------
    path
        A PDF.
    page
        Its number, from 1.
    boxes
        What to mark; boxes of other pages are left out.
    scale
        Pixels a point; less where a side of the picture would have more than MAX_PIXELS.

    Raises
    ------
    ValueError
        If the file is broken or encrypted, or has no such page.
    OSError
        If it cannot be opened.
    """
    from PIL import Image, ImageDraw

    with _opened(path) as pdf, _page(pdf, page) as found:
        scale = min(scale, MAX_PIXELS / max(found.get_size()))
        rendered = found.render(scale=scale).to_pil().convert("RGBA")
    marks = Image.new("RGBA", rendered.size)
    draw, (width, height) = ImageDraw.Draw(marks), rendered.size
    for box in boxes:
        if box.page == page:
            corners = (box.left * width, box.top * height, box.right * width - 1, box.bottom * height - 1)
            left, top, right, bottom = (round(corner) for corner in corners)
            draw.rectangle((left, top, max(left, right), max(top, bottom)), fill=AMBER)
    return Image.alpha_composite(rendered, marks).convert("RGB")


@contextmanager
def _opened(path: Path) -> Iterator[pdfium.PdfDocument]:
    """Open a PDF, alone in PDFium until the block ends."""
    path.open("rb").close()  # raises an OSError that says why, which PDFium does not
    with _ALONE:
        handle = raw.FPDF_LoadDocument(os.fsencode(path), None)
        if not handle:
            locked = raw.FPDF_GetLastError() == raw.FPDF_ERR_PASSWORD
            raise ValueError("is encrypted: save it without its password" if locked else "is broken or not a PDF")
        pdf = pdfium.PdfDocument(handle)
        try:
            if not len(pdf):
                raise ValueError("is empty: it has no page")
            yield pdf
        finally:
            pdf.close()


@contextmanager
def _page(pdf: pdfium.PdfDocument, number: int) -> Iterator[pdfium.PdfPage]:
    """Open a page by its number from 1."""
    if not 1 <= number <= len(pdf):
        raise ValueError(f"has no page {number}; it has {len(pdf)}")
    try:
        page = pdf[number - 1]
    except pdfium.PdfiumError:
        raise ValueError(f"page {number} is broken") from None
    try:
        yield page
    finally:
        page.close()


def _title(pdf: pdfium.PdfDocument) -> str | None:
    title = " ".join("".join(map(_readable, word)) for word in pdf.get_metadata_value("Title").split())
    return None if title.lower() in ("", "untitled") else title


def _pieces(page: pdfium.PdfPage, text: pdfium.PdfTextPage, number: int) -> Iterator[Line]:
    """Yield what stands together on a line, in the order of the page's content.

    A piece ends where the next character is on another line or more than the height of a character away, so that no
    piece is in two columns. Text that does not run from left to right as the page is shown (stamps on the margin, axes
    of figures), and text off the page, is left out.
    """
    width, height = page.get_size()
    shown = _as_shown(page)
    handle, box = text.raw, raw.FS_RECTF()
    place, held, space, last = ctypes.byref(box), [], False, None
    for index, character in _characters(handle, text.count_chars()):
        if character.isspace():
            space = True
            continue
        if not raw.FPDFText_GetLooseCharBox(handle, index, place) or not (readable := _readable(character)):
            continue
        left, top, right, bottom = shown(box.left, box.top, box.right, box.bottom)
        if not (right >= 0 and bottom >= 0 and left <= width and top <= height and top < bottom):
            continue
        if last:
            size = max(bottom - top, last[3] - last[1])
            overlap = min(bottom, last[3]) - max(top, last[1])
            if overlap < min(bottom - top, last[3] - last[1]) / 2 or not last[0] - size / 2 < left < last[2] + size:
                yield from _piece(number, held)
                held, last = [], None
        if last is None and not _upright(handle, index, page.get_rotation()):
            continue
        # PDFium supposes a space after a raised character as well
        space = space and last is not None and left - last[2] > 0.05 * (bottom - top)
        held.append((readable, left, top, right, bottom, space))
        last, space = (left, top, right, bottom), False
    yield from _piece(number, held)


def _characters(handle: raw.FPDF_TEXTPAGE, count: int) -> Iterator[tuple[int, str]]:
    """Yield the index and the character of each, halves of a UTF-16 pair as one."""
    codes = (ctypes.c_ushort * (count + 1))()
    if raw.FPDFText_GetText(handle, 0, count, codes) != count + 1:  # it leaves some out: ask for each
        codes = [raw.FPDFText_GetUnicode(handle, index) for index in range(count)]
    high = 0
    for index, code in enumerate(codes[:count]):
        if 0xD800 <= code < 0xDC00:
            high = code
        elif 0xDC00 <= code < 0xE000:
            yield index, chr(0x10000 + ((high - 0xD800) << 10) + code - 0xDC00) if high else ""
            high = 0
        else:
            yield index, chr(code)


def _piece(number: int, held: list[tuple]) -> Iterator[Line]:
    """Yield the line that characters are, if they are any: accents on their letters, small raised digits as such."""
    if not held:
        return
    top, bottom = median(each[2] for each in held), median(each[4] for each in held)
    size, text, edges = bottom - top, [], []
    raised = [down - up < 0.85 * size and bottom - down > 0.1 * size for _, _, up, _, down, _ in held]
    for index, (readable, left, _, right, _, space) in enumerate(held):
        digits = held[index + 1 : index + 2] if readable in "-−" else held[index : index + 1]
        if raised[index] and digits and digits[0][0].isdigit():
            readable = readable.translate(RAISED)
        plain = readable.isascii() and (not text or text[-1].isascii())  # as almost all are: spares a call
        if text and not plain and (accented := _accented(text[-1], edges[-1], readable, (left, right))):
            text[-1], edges[-1] = accented, (min(left, edges[-1][0]), max(right, edges[-1][1]))
            continue
        if space:
            text.append(" ")
            edges.append((edges[-1][1], left))
        text.extend(readable)
        edges.extend([(left, right)] * len(readable))
    yield Line(number, "".join(text), edges, top, bottom)


def _accented(before: str, its: tuple[float, float], after: str, own: tuple[float, float]) -> str | None:
    """Return two characters as the one letter with an accent that they are drawn as, if they are (TeX's `¨u`)."""
    composed = ""
    if unicodedata.category(after[0]) == "Mn":
        composed = unicodedata.normalize("NFC", before + after)
    elif min(its[1], own[1]) - max(its[0], own[0]) > (its[1] - its[0]) / 2:
        letter, accent = (after, before) if before in ACCENTS else (before, after)
        composed = unicodedata.normalize("NFC", letter + ACCENTS.get(accent, ""))
    return composed if len(composed) == 1 and composed not in (before, after) else None


@cache
def _readable(character: str) -> str:
    """Return a character as it is searched for: ligatures as letters, raised digits as they are, no control codes."""
    if character in HYPHENS:
        return character
    if unicodedata.category(character or "\0") in ("Cc", "Cf", "Cn", "Co", "Cs"):
        return ""
    if character in ACCENTS or unicodedata.decomposition(character).startswith(("<super>", "<sub>", "<fraction>")):
        return character
    return unicodedata.normalize("NFKC", character).replace(" ", "")


def _as_shown(page: pdfium.PdfPage) -> Callable[[float, float, float, float], tuple[float, float, float, float]]:
    """Return a function from a box in the page's own units to one on the page as it is shown, cropped and rotated."""
    width, height = page.get_size()
    grid = 10**6

    def device(x: float, y: float) -> tuple[float, float]:
        across, down = ctypes.c_int(), ctypes.c_int()
        raw.FPDF_PageToDevice(page, 0, 0, grid, grid, 0, x, y, across, down)
        return across.value / grid * width, down.value / grid * height

    (x0, y0), (x1, y1), (x2, y2) = device(0, 0), device(1000, 0), device(0, 1000)
    turned = abs(x1 - x0) < abs(x2 - x0)
    across, down = ((x2 - x0) / 1000, (y1 - y0) / 1000) if turned else ((x1 - x0) / 1000, (y2 - y0) / 1000)
    sides = ([3, 1], [0, 2]) if turned else ([0, 2], [3, 1])  # the ones that are across, and down, from low to high
    (left, right), (top, bottom) = (
        side[:: 1 if step > 0 else -1] for side, step in zip(sides, (across, down), strict=True)
    )

    def shown(*box: float) -> tuple[float, float, float, float]:
        return across * box[left] + x0, down * box[top] + y0, across * box[right] + x0, down * box[bottom] + y0

    return shown


def _upright(handle: raw.FPDF_TEXTPAGE, index: int, rotation: int) -> bool:
    """Say whether a character stands upright on a page that is shown turned by `rotation` degrees clockwise."""
    return math.cos(raw.FPDFText_GetCharAngle(handle, index) + math.radians(rotation)) > 0.9


def _without_running_lines(pages: list[list[Line]], heights: list[float]) -> list[list[Line]]:
    """Leave out headers, footers and page numbers.

    They are numbers alone in the outer EDGE of a page, and lines there whose text, digits aside, is on at least two
    pages and on half of those from the first to the last that it is on: as a chapter has it, or every other page.
    """

    def running(line: Line) -> str:
        return re.sub(r"\d+", "#", line.text)

    def at_the_edge(line: Line) -> bool:
        height = heights[line.page - 1]
        return line.bottom < EDGE * height or line.top > (1 - EDGE) * height

    on = defaultdict(set)
    for line in (line for page in pages for line in page if at_the_edge(line)):
        on[running(line)].add(line.page)
    repeated = {text for text, found in on.items() if 1 < len(found) >= (max(found) - min(found) + 1) / 2}

    def left_out(line: Line) -> bool:
        return at_the_edge(line) and (running(line) in repeated or bool(PAGE_NUMBER.fullmatch(line.text)))

    return [[line for line in page if not left_out(line)] for page in pages]


def _in_reading_order(pieces: list[Line], width: float) -> Iterator[Line]:
    """Yield the lines of a page as they are read, whatever the order they were drawn in.

    The gutter is where, in the middle 30 % of the page, the fewest pieces cross a vertical line. Pieces on the same row
    become one line unless the gutter is between them. A line that crosses the gutter spans both columns: what is above
    it is read before it, the left column and then the right one. On a page of one column almost all lines cross any
    such line, and what remains is read from top to bottom by the same rule.
    """
    middle = [width * (0.35 + 0.005 * step) for step in range(61)]
    crossed = [sum(piece.left < x < piece.right for piece in pieces) for x in middle]
    clear = [x for x, number in zip(middle, crossed, strict=True) if number == min(crossed)]
    gutter = min(clear, key=lambda x: abs(x - median(clear)))
    columns = [], []
    for line in sorted(_joined(pieces, gutter), key=lambda line: line.top):
        if line.left < gutter < line.right:
            yield from (each for column in columns for each in column)
            yield line
            columns = [], []
        else:
            columns[line.left >= gutter].append(line)
    yield from (each for column in columns for each in column)


def _joined(pieces: list[Line], gutter: float) -> list[Line]:
    """Join the pieces that stand on the same row on the same side of the gutter."""
    lines = []
    for piece in sorted(pieces, key=lambda piece: piece.top):
        for index in range(len(lines) - 1, max(-1, len(lines) - 9), -1):
            line = lines[index]
            overlap = min(piece.bottom, line.bottom) - max(piece.top, line.top)
            first, second = (piece, line) if piece.left < line.left else (line, piece)
            apart = first.right <= gutter <= second.left
            if overlap > min(piece.size, line.size) / 2 and not apart:
                lines[index] = _side_by_side(first, second, max(piece, line, key=lambda each: len(each.text)))
                break
        else:
            lines.append(piece)
    return lines


def _side_by_side(first: Line, second: Line, main: Line) -> Line:
    between = second.left - first.right > 0.15 * main.size
    text = first.text + " " * between + second.text
    edges = first.edges + [(first.right, second.left)] * between + second.edges
    return Line(main.page, text, edges, main.top, main.bottom)


def _without_references(lines: list[Line]) -> list[Line]:
    """Leave out the references, if their heading is in the last 60 % of the lines, up to an appendix or the end."""
    for start in range(len(lines) * 2 // 5, len(lines)):
        if REFERENCES.fullmatch("".join(lines[start].text.split())):
            appendix = (end for end in range(start, len(lines)) if APPENDIX.fullmatch(lines[end].text))
            return lines[:start] + lines[next(appendix, len(lines)) :]
    return lines


def _blocks(lines: list[Line]) -> list[Block]:
    """Put lines together to paragraphs, headings and captions, each with its text on one line.

    A paragraph goes on over columns and pages, and after captions and footnotes that stand in between.
    """
    if not lines:
        return []
    body = _usual((round(line.size, 1), len(line.text)) for line in lines)
    pitch = _usual((round(after.top - line.top, 1), 1) for line, after in pairwise(lines) if after.top > line.top)
    blocks = [Block([lines[0]])]
    for line, after in pairwise(lines):
        if _ends(line, after, pitch):
            blocks.append(Block([]))
        blocks[-1].lines.append(after)
    blocks = _gathered(blocks, body)
    compounds = _compounds(blocks)
    for block in blocks:
        _write(block, compounds)
    return blocks


def _usual(values: Iterable[tuple[float, int]]) -> float:
    """Return the value with the most weight; 0 where there is none."""
    weights = Counter()
    for value, weight in values:
        weights[value] += weight
    return max(weights, key=weights.get, default=0.0)


def _ends(line: Line, after: Line, pitch: float) -> bool:
    """Say whether a block ends between two lines.

    It does where the size of the type changes, before bullets, and where more than the usual space follows: after what
    ends a sentence, before what may begin one, and after a line that is short. A numbered heading needs no such space.
    """
    if abs(after.size / line.size - 1) > 0.12 or BULLET.match(after.text):
        return True
    short = line.right - line.left < 0.8 * (after.right - after.left)
    if short and NUMBERED.match(line.text) and not FINAL.search(line.text):
        return True
    if line.page != after.page or after.top < line.top:
        return bool(CAPTION.match(after.text))
    gap = after.top - line.top > 1.2 * pitch
    return gap and (short or bool(FINAL.search(line.text)) or not after.text[0].islower())


def _gathered(blocks: list[Block], body: float) -> list[Block]:
    """Join paragraphs that a caption or a footnote interrupts, and put what interrupts them after them."""
    gathered, unfinished = [], None
    for block in blocks:
        size = median(line.size for line in block.lines)
        aside = size < 0.92 * body or CAPTION.match(block.lines[0].text)
        if aside:
            gathered.append(block)
            continue
        goes_on = unfinished is not None and unfinished is not gathered[-1] and block.lines[0].text[0].islower()
        if goes_on:
            unfinished.lines.extend(block.lines)
        else:
            gathered.append(block)
            unfinished = block
        if size > 1.08 * body or FINAL.search(unfinished.lines[-1].text):
            unfinished = None
    return gathered


def _compounds(blocks: list[Block]) -> set[str]:
    """Return the words with a hyphen that stand within a line, in small letters."""
    words = re.compile(rf"[^\W_]+(?:[{HYPHENS}][^\W_]+)+")
    lines = (line.text for block in blocks for line in block.lines)
    return {re.sub(f"[{HYPHENS}]", "-", word).lower() for line in lines for word in words.findall(line)}


def _write(block: Block, compounds: set[str]) -> None:
    """Fill in the text of a block and the origin of its characters: hyphens at ends of lines mended, or a space."""
    text, origin = [], []
    for line, after in zip(block.lines, [*block.lines[1:], None], strict=True):
        for index, character in enumerate(line.text):
            if character != "\xad" or index == len(line.text) - 1:
                text.append("-" if character in HYPHENS else character)
                origin.append((line, index))
        if after is None:
            continue
        match _hyphen(line.text, after.text, compounds):
            case "none":
                del text[-1], origin[-1]
            case "space":
                text.append(" ")
                origin.append((line, len(line.text) - 1))
    block.text, block.origin = "".join(text), origin


def _hyphen(line: str, after: str, compounds: set[str]) -> str:
    """Say what becomes of the end of a line: "none" (its hyphen goes), "kept" (it stays) or "space" (one follows).

    The hyphen goes unless what is before it is all capitals or digits, what is after it begins with neither a small
    letter, or the word stands with its hyphen within a line of the document. "Vor-" and "und" stay two words.
    """
    if line[-1] not in HYPHENS or len(line) < 2 or not line[-2].isalnum() or after.startswith(AND):
        return "space"
    before = re.search(r"[^\W_]+(?=.$)", line)[0]
    rest = re.match(r"[^\W_]*", after)[0]
    if line[-1] == "\xad":
        return "none"
    if not rest:
        return "space"
    if before == before.upper() or not rest[0].islower() or f"{before}-{rest}".lower() in compounds:
        return "kept"
    return "none"


def _sentences(block: Block, of_language: Language, sizes: list[tuple[float, float]]) -> Iterator[Sentence]:
    """Yield the sentences of a block with their page and the boxes of their lines; a numbered heading stays whole."""
    heading = len(block.lines) == 1 and NUMBERED.match(block.text) and not FINAL.search(block.text)
    texts = [block.text] if heading else sentences(block.text, of_language)
    letters = [index for index, character in enumerate(block.text) if character != " "]
    start = 0
    for text in texts:
        end = start + len(text.replace(" ", ""))
        boxes = []
        places = (block.origin[index] for index in letters[start:end])
        for _, group in groupby(places, key=lambda place: id(place[0])):
            (line, first), *_, (_, last) = [*(group := list(group)), group[-1]]
            width, height = sizes[line.page - 1]
            sides = (line.edges[first][0] / width, line.top / height, line.edges[last][1] / width, line.bottom / height)
            boxes.append(Box(line.page, *(round(min(max(side, 0.0), 1.0), 5) for side in sides)))
        start = end
        yield Sentence(text, f"p. {boxes[0].page}", tuple(boxes))
