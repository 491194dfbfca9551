import os
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pypdfium2 as pdfium
import pytest
from reportlab.pdfgen.canvas import Canvas

from stages.assistant import pdf
from stages.assistant.passages import Box
from stages.files import sha256
from tests.assistant import papers
from tests.assistant.papers import FONT, HEIGHT, PROSE, QUESTIONS, WIDTH


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("papers")
    papers.write(folder)
    return folder


@pytest.fixture(scope="module")
def documents(library):
    return {path.name: pdf.read(path, path.name) for path in library.glob("*.pdf")}


def made(path, *pages, size=(WIDTH, HEIGHT)):
    """Write a PDF of lines of text, each (x, y from the bottom, size, text), and return its path."""
    canvas = Canvas(str(path), size, invariant=1)
    for page in pages:
        for x, y, points, text in page:
            canvas.setFont(FONT, points)
            canvas.drawString(x, y, text)
        canvas.showPage()
    canvas.save()
    return path


def column(*texts, x=54, y=500, points=10, pitch=13):
    return [(x, y - pitch * row, points, text) for row, text in enumerate(texts)]


def read(path):
    return [sentence.text for sentence in pdf.read(path, "a.pdf").sentences]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_an_answer_is_one_sentence_on_its_page(documents, question):
    found = [sentence for sentence in documents[question.source].sentences if sentence.text == question.answer]
    assert [sentence.place for sentence in found] == [f"p. {question.page}"]
    elsewhere = [name for name, other in documents.items() if question.answer in (s.text for s in other.sentences)]
    assert elsewhere == [question.source]


@pytest.mark.parametrize("name", PROSE)
def test_every_word_is_read_once_and_in_order(documents, name):
    assert " ".join(sentence.text for sentence in documents[name].sentences) == papers.running_text(name)


def test_the_papers_are_what_they_are_there_to_be():
    asked = [(question.language, question.crosses) for question in QUESTIONS]
    assert [asked.count(kind) for kind in (("en", False), ("de", False), ("en", True), ("de", True))] == [19, 7, 7, 7]
    pages = {name: papers._layout(name)[-1].page for name in PROSE}
    assert sum(2 <= number <= 5 for number in pages.values()) >= 10
    assert len({question.page for question in QUESTIONS}) > 2
    hyphenated = [line.text for name in papers.HYPHENATED for line in papers._layout(name) if line.text.endswith("-")]
    assert len(hyphenated) > 10
    assert len(set(papers.OFF_TOPIC)) >= 24


def test_the_papers_are_the_same_bytes_each_time(library, tmp_path):
    papers.write(tmp_path)
    assert {path.name: sha256(path) for path in tmp_path.iterdir()} == {p.name: sha256(p) for p in library.iterdir()}


def test_language_digest_kind_and_source(library, documents):
    assert {name for name, document in documents.items() if document.language == "de"} == papers.GERMAN
    assert {document.kind for document in documents.values()} == {"paper"}
    assert all(document.digest == sha256(library / name) for name, document in documents.items())
    assert all(document.source == name for name, document in documents.items())


def test_a_title_is_the_given_one_else_that_of_the_metadata_else_the_name(library, documents):
    assert pdf.read(library / "haut.pdf", "x", "Given").title == "Given"
    assert documents["haut.pdf"].title == PROSE["haut.pdf"][0]
    assert documents["saliency.pdf"].title == "saliency"


def test_a_copy_has_the_digest_and_the_sentences_of_the_original(documents):
    original, copy = documents["saliency.pdf"], documents[papers.COPY]
    assert (original.digest, original.sentences) == (copy.digest, copy.sentences)
    assert original.source != copy.source


def test_a_heading_is_a_sentence_of_its_own(documents):
    for name, (_, sections) in PROSE.items():
        texts = [sentence.text for sentence in documents[name].sentences]
        assert [heading for heading, _ in sections if heading not in texts] == []


def test_columns_are_read_one_after_the_other_though_drawn_row_by_row(library, documents):
    with pdf._opened(library / "concepts.pdf") as file:
        drawn = file[0].get_textpage().get_text_range()
    sentences = [sentence for sentence in documents["concepts.pdf"].sentences if sentence.place == "p. 1"]
    assert sum(sentence.text[:25] in drawn for sentence in sentences) > 10
    assert sum(sentence.text in " ".join(drawn.split()) for sentence in sentences) < len(sentences) / 3
    sides = [box.left > 0.5 for sentence in sentences[2:] for box in sentence.boxes if box.page == 1]
    assert sides == sorted(sides)
    assert 10 < sum(sides) < len(sides) - 10


def test_a_line_over_both_columns_parts_what_is_above_from_what_is_below(tmp_path):
    def columns(y, word):
        left = [(54, y - 13 * row, 10, f"Left {word} {row} is a line.") for row in range(6)]
        return left + [(220, y - 13 * row - 4, 10, f"Right {word} {row} is a line.") for row in range(6)]

    wide = [(54, 420, 10, "Between them is one line that is as wide as the whole page.")]
    (texts,) = [read(made(tmp_path / "a.pdf", sorted(columns(500, "above") + wide + columns(400, "below"))))]
    rows = range(6)
    assert texts == [
        *(f"{side} above {row} is a line." for side in ("Left", "Right") for row in rows),
        "Between them is one line that is as wide as the whole page.",
        *(f"{side} below {row} is a line." for side in ("Left", "Right") for row in rows),
    ]


def test_wide_spaces_in_a_line_of_one_column_do_not_make_two(tmp_path):
    lines = column(
        "The first line goes from one side of the page to the other one and", "then the second does the same"
    )
    lines.append((230, 487, 10, "after a space, and so"))
    lines += column("does the third line of the text, up to its very end.", y=474)
    assert read(made(tmp_path / "a.pdf", lines)) == [
        "The first line goes from one side of the page to the other one and then the second does the same after a "
        "space, and so does the third line of the text, up to its very end."
    ]


def test_parts_of_a_line_that_are_not_quite_level_are_read_from_left_to_right(tmp_path):
    line = [(54, 500, 10, "The left part of a line that goes on well past it"), (320, 501, 10, "and its right part.")]
    (text,) = read(made(tmp_path / "a.pdf", line))
    assert text == "The left part of a line that goes on well past it and its right part."


@pytest.mark.parametrize(
    ("line", "after", "word"),
    [
        ("a very pop-", "ular choice.", "popular"),
        ("a rule that is LRP-", "based here.", "LRP-based"),
        ("a network, ResNet50-", "like at least.", "ResNet50like"),
        ("the year 2021-", "like style.", "2021-like"),
        ("the zero-", "shot case and zero-shot again.", "zero-shot"),
        ("the Zero-", "shot case and zero-shot again.", "Zero-shot"),
        ("in the non-", "Gaussian case.", "non-Gaussian"),
        ("the top-", "5 error.", "top-5"),
        ("die Vor-", "und Nachteile.", "Vor- und"),
        ("a soft hy\xad", "phen here.", "hyphen"),
        ("a soft hy\xadphen within and", "one not.", "hyphen"),
        ("a proper hy\u2010", "phen here.", "hyphen"),
        ("a dash -", "with words around.", "dash - with"),
        ("the zero\u2010shot one in", "a line.", "zero-shot"),
    ],
)
def test_hyphens_at_the_ends_of_lines_are_mended(tmp_path, line, after, word):
    (text,) = read(made(tmp_path / "a.pdf", column(f"This is about {line}", after)))
    assert word in text.rstrip(".").split(" ") or f" {word} " in text
    assert text.count("hy") == line.count("hy")


def test_a_soft_hyphen_at_the_end_of_a_page_goes_in_any_word(tmp_path):
    pages = column("These are GROSS\xad"), column("BUCHSTABEN in German.")
    assert read(made(tmp_path / "a.pdf", *pages)) == ["These are GROSSBUCHSTABEN in German."]


def test_running_headers_footers_and_page_numbers_are_left_out(tmp_path):
    body = "The text of page {} has the number 7 alone on a line and ends."

    def page(number, header):
        return [
            (54, 570, 8, f"{header}, p. {number}"),
            (54, 300, 10, body.format(number)),
            (54, 280, 10, "7"),
            (54, 260, 10, "Repeated in the middle."),
            (200, 20, 8, f"- {number} -"),
            (54, 20, 8, "© 2024 An Institute"),
        ]

    names = ["A. Author", "A Long Title", "A. Author", "A Long Title", "A Long Title"]
    texts = read(made(tmp_path / "a.pdf", *(page(number, name) for number, name in enumerate(names, 1))))
    assert [text for text in texts if "text of" in text] == [body.format(number) for number in range(1, 6)]
    assert sum("7" in text and "Repeated in the middle." in text for text in texts) == 5
    assert not any(word in " ".join(texts) for word in ("Author", "Title", "Institute", "-"))


@pytest.mark.parametrize("number", ["7", "- 7 -", "xii", "Page 7", "Seite 7 von 9", "7/9"])
def test_a_page_number_alone_is_left_out_at_the_edge_only(tmp_path, number):
    page = [(54, 300, 10, "A page of text."), (200, 200, 10, number), (200, 20, 10, number)]
    assert " ".join(read(made(tmp_path / "a.pdf", page))) == f"A page of text. {number}"


def test_a_line_at_the_edge_that_does_not_repeat_is_kept(tmp_path):
    pages = [[(54, 570, 10, f"{word} stands at the top of its page.")] for word in ("One", "Two", "Three")]
    assert len(read(made(tmp_path / "a.pdf", *pages))) == 3


def test_the_title_of_a_chapter_is_left_out_where_only_its_pages_have_it(tmp_path):
    chapters = ["Preface", "Methods", "Methods", "Methods", "Results", "Results", "Discussion"]
    pages = [
        [(54, 570, 8, f"{chapter} {number}"), (54, 300, 10, "A page of text.")]
        for number, chapter in enumerate(chapters)
    ]
    texts = " ".join(read(made(tmp_path / "a.pdf", *pages)))
    assert "Methods" not in texts
    assert "Results" not in texts
    assert texts.count("A page of text.") == 7


def test_a_scan_with_a_stamp_on_every_page_is_a_scan(tmp_path):
    canvas = Canvas(str(tmp_path / "a.pdf"), (WIDTH, HEIGHT), invariant=1)
    for _ in range(3):
        canvas.drawInlineImage(papers._scan(), 54, 54, 300, 400)
        canvas.drawString(54, 20, "Downloaded from a library")
        canvas.showPage()
    canvas.save()
    with pytest.raises(ValueError, match="OCR"):
        read(tmp_path / "a.pdf")


def test_references_are_left_out_up_to_an_appendix(documents):
    texts = " ".join(sentence.text for sentence in documents["pruning.pdf"].sentences)
    assert "Yeom" not in texts
    assert "References" not in texts
    assert texts.endswith(f"Appendix {papers.APPENDIX}")


@pytest.mark.parametrize(
    "heading", ["References", "7. Literatur", "BIBLIOGRAPHY", "Literaturverzeichnis", "R EFERENCES"]
)
def test_a_heading_begins_references_only_in_the_last_part_of_a_document(tmp_path, heading):
    sentence = "This is a sentence, and no more than that."
    late = column(*[sentence] * 6, heading, "[1] An entry of 2021.")
    early = column(heading, "[1] An entry of 2021.", *[sentence] * 6)
    assert read(made(tmp_path / "late.pdf", late)) == [sentence] * 6
    assert "[1] An entry of 2021." in " ".join(read(made(tmp_path / "early.pdf", early)))


def test_a_heading_of_the_size_of_the_text_is_not_glued_to_it(tmp_path):
    text = [
        "The sentence before the heading is as wide as the text is,",
        "and it ends on a second line of the text here.",
    ]
    after = ["What follows it is a sentence of its own, and it is wide", "enough to have two lines of text."]
    numbered = column(*text, "3.1 Related work", *after)
    spaced = column(*text) + column("Related work", y=464) + column(*after, y=445)
    assert read(made(tmp_path / "a.pdf", numbered)) == [" ".join(text), "3.1 Related work", " ".join(after)]
    assert read(made(tmp_path / "b.pdf", spaced)) == [" ".join(text), "Related work", " ".join(after)]


def test_a_numbered_heading_is_not_parted_from_its_number(tmp_path):
    texts = read(made(tmp_path / "a.pdf", column("1. Introduction", y=520, points=14) + column("A sentence is here.")))
    assert texts == ["1. Introduction", "A sentence is here."]


def test_points_of_a_list_are_not_glued_to_each_other(tmp_path):
    assert read(made(tmp_path / "a.pdf", column("• apples from trees", "• pears from there", "• nuts"))) == [
        "• apples from trees",
        "• pears from there",
        "• nuts",
    ]


def test_a_caption_on_top_of_a_page_does_not_stand_in_a_sentence(tmp_path):
    first = column("The sentence begins on a page and", "then it goes on")
    second = column("Table 2: What there is to see.") + column("after a table, and", "there it ends.", y=460)
    assert read(made(tmp_path / "a.pdf", first, second)) == [
        "The sentence begins on a page and then it goes on after a table, and there it ends.",
        "Table 2: What there is to see.",
    ]


def test_a_title_does_not_go_on_in_a_text_that_begins_with_a_small_letter(tmp_path):
    page = [
        (54, 500, 16, "The Title"),
        (54, 480, 7, "An Institute"),
        *column("mRNA is where", "the text begins.", y=450),
    ]
    assert read(made(tmp_path / "a.pdf", page)) == ["The Title", "An Institute", "mRNA is where the text begins."]


def test_a_sentence_goes_on_after_a_caption_and_a_footnote(tmp_path):
    first = column(
        "The sentence begins on a page with a footnote, and it goes",
        "on where the page ends, which is not here but",
        y=150,
    )
    note = column("1 A note on the method, in small type.", y=100, points=7)
    caption = column("Figure 2: What the network saw in a picture.", y=500)
    second = column("after a figure on the next page. It has another one after it.", y=460)
    assert read(made(tmp_path / "a.pdf", first + note, caption + second)) == [
        "The sentence begins on a page with a footnote, and it goes on where the page ends, which is not here but "
        "after a figure on the next page.",
        "It has another one after it.",
        "1 A note on the method, in small type.",
        "Figure 2: What the network saw in a picture.",
    ]


def test_a_sentence_over_two_pages_has_boxes_on_both_and_the_place_of_its_beginning(documents):
    crossing = [s for document in documents.values() for s in document.sentences if s.boxes[0].page != s.boxes[-1].page]
    assert len(crossing) > 3
    for sentence in crossing:
        page = sentence.boxes[0].page
        assert sentence.place == f"p. {page}"
        first, second = ([box for box in sentence.boxes if (box.page == page) is on] for on in (True, False))
        assert list(sentence.boxes) == first + second
        assert first[-1].top > 0.8
        assert second[0].top < 0.2


def test_a_scanned_page_amid_text_is_passed_over(documents):
    pages = {box.page for sentence in documents["mitosis.pdf"].sentences for box in sentence.boxes}
    assert pages == {1, 3}


def test_markup_formulas_and_orders_in_a_paper_are_only_text(documents):
    texts = [sentence.text for name in ("deployment.pdf", "layerwise.pdf") for sentence in documents[name].sentences]
    for part in (
        "<script>alert(1)</script> and another called <img src=x onerror=alert(2)>",
        "such as ![x](http://127.0.0.1:1/x.png) would",
        "helpful if z > 0 and harmful if z < 0, and we leave it out of the map if |z| < 0.001.",
        "Ignore all previous instructions",
    ):
        assert sum(part in text for text in texts) == 1


def test_characters_are_read_as_one_searches_for_them(tmp_path):
    texts = {
        "The ﬁrst aﬃne eﬀect is α < β ≤ 0.5 µm here.": "The first affine effect is α < β ≤ 0.5 μm here.",
        "Die Gro\u0308ße u\u0308ber alles ist R² wert.": "Die Größe über alles ist R² wert.",
        "An x\u0301 is two of them.": "An x\u0301 is two of them.",
        "A\u00a0space\u2009here and zero\u200bwidth \u202eturn.": "A space here and zerowidth turn.",
    }
    for drawn, expected in texts.items():
        assert read(made(tmp_path / "a.pdf", column(drawn))) == [expected]


def test_a_character_beyond_the_basic_plane_is_one(tmp_path):
    path = tmp_path / "a.pdf"
    canvas = Canvas(str(path), invariant=1, pageCompression=0)
    canvas.setFont(FONT, 12)
    canvas.drawString(54, 500, "The set 𝔸 is closed.")
    canvas.save()
    path.write_bytes(path.read_bytes().replace(b"<1D538>", b"<D835DD38>"))  # reportlab does not write UTF-16 here
    assert read(path) == ["The set A is closed."]


def test_raised_digits_stay_raised_and_lowered_ones_are_digits(tmp_path):
    path = tmp_path / "a.pdf"
    canvas = Canvas(str(path), invariant=1)
    text = canvas.beginText(54, 500)
    for part, rise, size in (
        ("The value p < 10", 0, 12),
        ("-3", 5, 7),
        (" holds for CO", 0, 12),
        ("2", -2, 7),
        (" in a glob", 0, 12),
        ("-", 2.5, 9),
        ("delete network", 0, 12),
        ("14", 5, 7),
        (".", 0, 12),
    ):
        text.setFont("Times-Roman", size)
        text.setRise(rise)
        text.textOut(part)
    canvas.drawText(text)
    canvas.save()
    assert read(path) == ["The value p < 10⁻³ holds for CO2 in a glob-delete network¹⁴."]


def test_accents_that_were_drawn_on_their_letters_are_part_of_them(tmp_path):
    canvas = Canvas(str(tmp_path / "a.pdf"), invariant=1)
    canvas.setFont("Times-Roman", 12)
    font = canvas._doc.getInternalFontName("Times-Roman")
    canvas._code.append(rf"BT {font} 12 Tf 54 500 Td [(Das ist f) -80 (\250) 413 (ur alle da.)] TJ ET")  # as TeX does
    canvas.save()
    assert read(tmp_path / "a.pdf") == ["Das ist für alle da."]


def test_text_that_runs_up_the_margin_or_is_off_the_page_is_left_out(tmp_path):
    canvas = Canvas(str(tmp_path / "a.pdf"), (WIDTH, HEIGHT), invariant=1)
    canvas.drawString(54, 500, "This is what one reads.")
    canvas.drawString(54, HEIGHT + 50, "This is above the page.")
    canvas.rotate(90)
    canvas.drawString(200, -30, "arXiv:2101.00001v1")
    canvas.save()
    assert read(tmp_path / "a.pdf") == ["This is what one reads."]


def words_in(file, box):
    page = file[box.page - 1]
    width, height = page.get_size()
    bounds = (box.left * width, (1 - box.bottom) * height, box.right * width, (1 - box.top) * height)
    text = page.get_textpage().get_text_bounded(*bounds)
    return "".join(unicodedata.normalize("NFKC", text).replace("\x02", "-").replace("\ufffe", "-").split())


def test_boxes_have_in_them_the_words_of_their_sentence(library, documents):
    for name in PROSE:
        with pdf._opened(library / name) as file:
            for sentence in documents[name].sentences:
                drawn = "".join(words_in(file, box) for box in sentence.boxes)
                assert drawn.replace("-", "") == "".join(sentence.text.split()).replace("-", "")


def test_boxes_of_a_page_are_in_order_and_inside_it(documents):
    for document in documents.values():
        for sentence in document.sentences:
            assert sentence.boxes
            for box in sentence.boxes:
                assert 0 < box.left < box.right < 1
                assert 0 < box.top < box.bottom < 1
            assert all(a.page < b.page or a.bottom < b.bottom or a.right < b.left for a, b in pairwise(sentence.boxes))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_boxes_are_where_the_words_are_shown_on_turned_and_cropped_pages(tmp_path, rotation):
    canvas = Canvas(str(tmp_path / "plain.pdf"), (WIDTH, HEIGHT), invariant=1)
    canvas.translate(WIDTH * (rotation in (90, 180)), HEIGHT * (rotation in (180, 270)))
    canvas.rotate(rotation)
    canvas.drawString(80, 350, "The first line of a page that was turned or")
    canvas.drawString(80, 335, "cropped, and its second.")
    canvas.save()
    with pdfium.PdfDocument(tmp_path / "plain.pdf") as file:
        file[0].set_cropbox(50, 60, 400, 560)
        file[0].set_rotation(rotation)
        file.save(tmp_path / "a.pdf")
    (sentence,) = pdf.read(tmp_path / "a.pdf", "a.pdf").sentences
    assert sentence.text == "The first line of a page that was turned or cropped, and its second."
    ink = np.array(pdf.picture(tmp_path / "a.pdf", 1, []).convert("L")) < 128
    assert ink.shape == ((750, 525) if rotation % 180 == 0 else (525, 750))
    for box in sentence.boxes:
        marked = slice_of(ink.shape, box, 1)
        assert ink[marked].mean() > 0.05
        ink[marked] = False
    assert not ink.any()


def slice_of(shape, box, margin=0):
    rows = slice(int(box.top * shape[0]) - margin, int(np.ceil(box.bottom * shape[0])) + margin)
    return rows, slice(int(box.left * shape[1]) - margin, int(np.ceil(box.right * shape[1])) + margin)


def test_a_picture_is_marked_in_the_boxes_of_its_page_and_nowhere_else(library, documents):
    path = library / "concepts.pdf"
    boxes = [box for sentence in documents["concepts.pdf"].sentences[3:9] for box in sentence.boxes]
    boxes.append(Box(2, 0.1, 0.1, 0.9, 0.9))
    plain, marked = (np.array(pdf.picture(path, 1, chosen)).astype(int) for chosen in ([], boxes))
    inside = np.zeros(plain.shape[:2], bool)
    for box in boxes[:-1]:
        inside[slice_of(inside.shape, box)] = True
        middle = round((box.top + box.bottom) / 2 * len(plain)), round((box.left + box.right) / 2 * plain.shape[1])
        assert (marked[middle] != plain[middle]).any()
    changed = (plain != marked).any(axis=2)
    assert not (changed & ~inside).any()
    assert changed.sum() > 0.9 * inside.sum()
    paper, ink = (plain.min(axis=2) == 255) & changed, (plain.max(axis=2) < 60) & changed
    assert marked[paper].mean(axis=0) == pytest.approx([255, 231, 159], abs=1)
    assert marked[ink].mean() < 130


def test_the_scale_of_a_picture_is_pixels_a_point_up_to_a_limit(library, tmp_path):
    assert pdf.picture(library / "haut.pdf", 1, [], 2.0).size == (2 * WIDTH, 2 * HEIGHT)
    poster = made(tmp_path / "poster.pdf", column("A poster."), size=(14_000, 7_000))
    assert pdf.picture(poster, 1, []).size == (3000, 1500)


@pytest.mark.parametrize("page", [0, -1, 99])
def test_a_picture_of_a_page_that_is_not_there_is_refused(library, page):
    with pytest.raises(ValueError, match=rf"^has no page {page}; it has 2$"):
        pdf.picture(library / "haut.pdf", page, [])


def no_page(path):
    with pdfium.PdfDocument.new() as file:
        file.save(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (papers.encrypted, "is encrypted: save it without its password"),
        (papers.broken, "is broken or not a PDF"),
        (lambda path: path.write_bytes(b""), "is broken or not a PDF"),
        (lambda path: path.write_text("<html>no PDF</html>"), "is broken or not a PDF"),
        (papers.empty, "is empty: no page has text"),
        (no_page, "is empty: it has no page"),
        (papers.image_only, "has pages but no text: .*OCR"),
        (papers.long, "has 2000 pages; at most 500 are read"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, write, message):
    write(tmp_path / "a.pdf")
    with pytest.raises(ValueError, match=f"^{message}") as error:
        pdf.read(tmp_path / "a.pdf", "a.pdf")
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_a_file_that_is_too_large_is_refused_before_it_is_opened(tmp_path):
    with (tmp_path / "a.pdf").open("wb") as file:
        os.truncate(file.fileno(), 51 * 2**20)
    with pytest.raises(ValueError, match="^has 51 MiB; at most 50 are read$"):
        pdf.read(tmp_path / "a.pdf", "a.pdf")


def test_more_characters_than_a_paper_has_are_refused(library, monkeypatch):
    monkeypatch.setattr(pdf, "MAX_CHARACTERS", 1000)
    with pytest.raises(ValueError, match="^has more than 1000 characters"):
        pdf.read(library / "haut.pdf", "haut.pdf")


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        pdf.read(tmp_path / "a.pdf", "a.pdf")


def test_threads_take_turns(library, documents):
    with ThreadPoolExecutor(1) as pool:
        with pdf._opened(library / "concepts.pdf"):
            other = pool.submit(pdf.read, library / "haut.pdf", "haut.pdf")
            with pytest.raises(TimeoutError):
                other.result(timeout=0.3)
        assert other.result() == documents["haut.pdf"]
