import re
from pathlib import Path

import pytest

from stages.assistant import markdown
from stages.assistant.text import WORD

PAGES = [Path("README.md"), *sorted(Path("docs").glob("*.md"))]


@pytest.fixture
def read(tmp_path):
    def written(text, name="Guide.md"):
        (tmp_path / name).write_text(text)
        return markdown.read(tmp_path / name, f"docs/{name}")

    return written


def texts(document):
    return [sentence.text for sentence in document.sentences]


def places(document):
    return [sentence.place for sentence in document.sentences]


def test_the_place_of_a_sentence_is_the_path_of_headings_above_it(read):
    document = read(
        "Before.\n\n# A *guide*\n\nOne.\n\n## Your `data`\n\nTwo. Three.\n\n### Masks\n\nFour.\n\n## Cost\n\nFive.\n"
    )
    assert document.title == "A guide"
    assert (document.kind, document.source, document.language) == ("docs", "docs/Guide.md", "en")
    assert [(sentence.text, sentence.place) for sentence in document.sentences] == [
        ("Before.", "Guide"),
        ("One.", "Guide"),
        ("Two.", "Guide › Your data"),
        ("Three.", "Guide › Your data"),
        ("Four.", "Guide › Your data › Masks"),
        ("Five.", "Guide › Cost"),
    ]


def test_a_page_without_a_title_is_called_after_its_file(read):
    assert read("Text.\n\n## Part\n\nMore.\n", "NOTES.md").title == "NOTES"
    assert texts(read("")) == []


def test_markup_goes_and_what_it_marks_stays(read):
    document = read(
        "Use **bold** and _thin_ and ~~old~~ [the *docs*](docs/a.md), `a_b*c` and <https://x.org/a_b>;\nnext\\\nlast.\n"
    )
    assert texts(document) == ["Use bold and thin and old the docs, a_b*c and https://x.org/a_b; next last."]


def test_signs_that_look_like_html_are_kept_and_comments_are_not(read):
    document = read(
        "Where p < 0.05 and x > 3 &lt; 4, data/<class>/**/*.jpg and `<criterion>` stay, <b>so</b>.<!-- no -->\n\n"
        "<!-- faults\n\nhidden -->\n\n<details>\nMore & more.\n</details>\n\nLast <!-- not this -->one.\n"
    )
    assert " ".join(texts(document)) == (
        "Where p < 0.05 and x > 3 < 4, data/<class>/**/*.jpg and <criterion> stay, <b>so</b>. "
        "<details> More & more. </details> Last one."
    )


def test_a_table_is_a_sentence_a_row(read):
    document = read(
        "## Cost\n\nWhat it costs.\n\n"
        "| what | | `n` |\n|---|---|--:|\n| a \\| b | **x** | 1 |\n| c | | |\n| | | |\n| `p<q` | done. | |\n"
    )
    assert texts(document) == ["What it costs.", "what: a | b; x; n: 1.", "what: c.", "what: p<q; done."]
    assert set(places(document)) == {"Guide › Cost"}


def test_a_sentence_that_introduces_a_table_is_the_place_of_its_rows(read):
    document = read(
        "## Recall\n\nMeans. Recall of each class:\n\n| a |\n|---|\n| 1 |\n\nSo:\n\nText.\n\n| b |\n|---|\n| 2 |\n"
    )
    assert list(zip(texts(document), places(document), strict=True))[1:] == [
        ("Recall of each class:", "Guide › Recall"),
        ("a: 1.", "Guide › Recall › Recall of each class"),
        ("So:", "Guide › Recall"),
        ("Text.", "Guide › Recall"),
        ("b: 2.", "Guide › Recall"),
    ]
    long = read(f"{'word ' * 40}end:\n\n| a |\n|---|\n| 1 |\n")
    assert len(places(long)[-1]) < 100
    assert places(long)[-1].endswith("word …")


def test_tables_of_a_generated_page_are_below_what_they_show_of_which_images(read):
    table = "| k |\n|---|\n| {} |\n\n"
    document = read(
        "# Results: a\n\nMade at commit 0123 by `dvc repro`.\n\n## With few images\n\n![a](a.svg)\n\n"
        f"With 1 image:\n\nAccuracy:\n\n{table.format(1)}Less random (p < 1). At 50% none.\n\n{table.format(2)}"
        f"With 10 images:\n\nAccuracy:\n\n{table.format(3)}## Every step\n\n{table.format(4)}",
        "results-a.md",
    )
    assert (document.title, document.sentences[0].text) == ("Results: a", "Made at commit 0123 by dvc repro.")
    few = "results-a › With few images"
    assert {each.text: each.place for each in document.sentences if each.text.startswith("k")} == {
        "k: 1.": f"{few} › With 1 image › Accuracy",
        "k: 2.": f"{few} › With 1 image › Less random (p < 1)",
        "k: 3.": f"{few} › With 10 images › Accuracy",
        "k: 4.": "results-a › Every step",
    }


@pytest.mark.parametrize("page", sorted(Path("docs").glob("results-*.md")), ids=str)
def test_every_published_page_of_results_says_its_commit_first(page):
    first = markdown.read(page, str(page)).sentences[0]
    assert re.match(r"Made at commit [0-9a-f]{40} by (dvc repro|make \w+), with these parameters, on ", first.text)
    assert first.place.split(" › ")[0] == page.stem  # a page of several studies: below the name of the first


def test_a_list_of_a_generated_page_is_not_below_the_sentence_before_it(read):
    document = read("Made at commit 0.\n\nWhat was lost:\n\n- a\n\nWith 1 image:\n\nSo much.\n\n## Next\n\nEnd.\n")
    assert places(document) == [*["Guide"] * 4, "Guide › With 1 image", "Guide › Next"]


def test_items_of_lists_and_quotations_are_sentences_of_their_own(read):
    document = read("- one\n- two, over\n  lines. And more.\n  1. deeper\n\n> Quoted.\n")
    assert texts(document) == ["one", "two, over lines.", "And more.", "deeper", "Quoted."]


def test_short_code_is_kept_line_by_line_and_a_listing_is_not(read):
    document = read(
        "Type:\n\n    make run      # everything\n    make test\n\n```sh\ndvc repro && make x\n```\n\n"
        "```yaml\na: 1\nb: 2\nc: 3\n```\n\nDone.\n"
    )
    assert texts(document) == ["Type:", "make run # everything", "make test", "dvc repro && make x", "Done."]


def test_a_picture_alone_is_no_sentence_and_in_a_sentence_it_is_its_words(read):
    assert texts(read("![curves](a.svg)\n\nSee ![the plot](b.svg) here.\n")) == ["See the plot here."]


def test_a_german_page_is_german(read):
    document = read("# Anleitung\n\nDas ist z. B. eine Seite und die andere ist nicht hier. Sie wird gelesen.\n")
    assert document.language == "de"
    assert texts(document) == ["Das ist z. B. eine Seite und die andere ist nicht hier.", "Sie wird gelesen."]


def test_a_changed_page_has_another_digest(read):
    assert read("One.").digest == read("One.").digest != read("Two.").digest


def test_what_is_not_text_is_refused(tmp_path):
    (tmp_path / "a.md").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="^not UTF-8 text$"):
        markdown.read(tmp_path / "a.md", "a.md")
    with pytest.raises(FileNotFoundError):
        markdown.read(tmp_path / "b.md", "b.md")


@pytest.mark.parametrize(
    ("page", "place", "sentence"),
    [
        ("README.md", "README", "The environment goes to .venv (one to three minutes)."),
        ("README.md", "README", "make test # every test"),
        (
            "README.md",
            "README › Your own data",
            "The pictures are decoded once into data/prepared/, with splits stratified by class.",
        ),
        (
            "README.md",
            "README › A criterion of your own",
            "criterion: weight, weight-l2; score of a filter; z is its output after the batch norm, n a reference "
            "image: Σ |w|, √Σ w² of the folded filter; source: Li et al. 2017; He et al. 2018.",
        ),
        (
            "README.md",
            "README › What comes out",
            "MACs are multiply-accumulates of convolutions and linear layers for one image.",
        ),
        ("docs/data.md", "data › A table", "Images of one group (patient, lesion, slide) are never in two splits."),
        (
            "docs/data.md",
            "data",
            "data.name: image-folder; what data.source holds: <class>/**/*.jpg (png, bmp, webp, tif), with or "
            "without a table; group: image, or a column; test split: drawn, or a column.",
        ),
    ],
)
def test_known_sentences_are_read_word_for_word(page, place, sentence):
    document = markdown.read(Path(page), page)
    assert (sentence, place) in [(each.text, each.place) for each in document.sentences]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_word_of_a_page_is_lost_or_out_of_order(page):
    """Compare with the page's text without code blocks, headings, link targets, comments and rules of tables."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->|^!\[.*$|^#+ .*$", "", text, flags=re.MULTILINE)
    head, rows = None, []
    for line in text.splitlines():
        if not line.startswith("|"):
            head = None
        elif head is None:
            head, line = line, ""  # names of columns: said again in every row
        rows.append(line)
    text = re.sub(r"\]\([^)]*\)", "]", "\n".join(rows))
    expected = WORD.findall(text)
    read = iter(WORD.findall(" ".join(texts(markdown.read(page, str(page))))))
    lost = [word for word in expected if word not in read]  # in order: `in` goes on from the last word found
    assert lost == []
    assert len(expected) > 150
