"""The app of the assistant in a real browser, on a small library."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from PIL import Image
from reportlab.pdfgen.canvas import Canvas
from ruamel.yaml import YAML

from stages.assistant import pdf
from tests.assistant import papers
from tests.assistant.endpoint import Script, serving
from tests.browser import BROWSER, CONTRAST

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not BROWSER, reason="no chromium here to open the app with")

LIBRARY = ["deployment.pdf", "haut.pdf", "layerwise.pdf", "saliency.pdf", papers.COPY]
README = "# A small study\n\nThe quokka baseline of this study reaches 71 % without any pruning.\n"
ASKED = "Wie groß ist der Anteil der Nävi und der Melanome in HAM10000?"
SAID = "HAM10000 enthält 10015 dermatoskopische Aufnahmen von sieben Arten von Hautveränderungen."
NAME = "www.evil.example *b* [c](d).pdf"
TITLE = "www.evil.example <b>b</b> ![x](http://evil.example/x.png) :material/home: https://evil.example/ $x^2$"
HOSTILE = "Which picture names and captions of hostile input did we upload to test our own page?"
WAIT = 120_000  # ms: the machine may be busy


@contextmanager
def running(folder, **settings):
    """Yield the URL of the app of a project that is made in a folder."""
    yaml = YAML()
    content = yaml.load(ROOT / "assistant.yaml")
    yaml.dump(content | {"threads": 1} | settings, folder / "assistant.yaml")
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = ROOT / "stages/assistant/app/page.py"
    command = [sys.executable, "-m", "streamlit", "run", str(page), "--server.port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + WAIT / 1000
        while not listens(port):
            assert server.poll() is None and time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


def listens(port, address="127.0.0.1"):
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex((address, port)) == 0


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    papers.write(folder)
    return folder


def project(folder, library, names):
    (folder / "papers").mkdir()
    for name in names:
        shutil.copy(library / name, folder / "papers")
    canvas = Canvas(str(folder / "papers" / NAME), invariant=1)
    canvas.setTitle(TITLE)
    canvas.drawString(60, 700, "The stripes of zebras confuse the flies that bite them in the savanna.")
    canvas.save()
    (folder / "README.md").write_text(README)


@pytest.fixture(scope="module")
def app(tmp_path_factory, library):
    """Return the folder of a project and the URL of its app."""
    folder = tmp_path_factory.mktemp("project")
    project(folder, library, LIBRARY)
    with running(folder) as url:
        yield folder, url


@pytest.fixture
def run():
    """Return a function as `running`, whose apps end after the pages that a test opens."""
    with ExitStack() as stack:
        yield lambda folder, **settings: stack.enter_context(running(folder, **settings))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, tmp_path):
    """Return a function that opens an app.

    What must not happen in any test is seen to here: an error on the console, a request to another host, a traceback.
    A screenshot of each page is left in tmp_path.
    """
    opened = []

    def opening(url, theme="light", width=1400):
        page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=theme)
        page.set_default_timeout(WAIT)
        errors, hosts = [], set()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        page.goto(url)
        page.get_by_label("Question").wait_for()
        settled(page)
        opened.append((page, errors, hosts, urlsplit(url).netloc))
        return page

    yield opening
    for number, (page, errors, hosts, own) in enumerate(opened):
        height = page.get_by_test_id("stMain").evaluate("e => e.scrollHeight")
        page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
        page.screenshot(path=tmp_path / f"{number}.png")
        assert errors == []
        assert hosts - {""} == {own}
        assert page.get_by_test_id("stException").count() == 0
        page.close()


def settled(page):
    """Wait until the page is drawn, and nothing of what was drawn before is left."""
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")
    page.wait_for_function("!document.querySelector('[data-stale=true], [data-testid=stProgress]')")
    before = None
    while before != (before := text(page)):  # what has arrived is drawn a little later
        page.wait_for_timeout(300)


def ask(page, question):
    page.get_by_label("Question").fill(question)
    page.get_by_test_id("stApp").evaluate(  # else the answer before, which stands until the server hears of this one
        "e => { window.heard = false; new MutationObserver(() => { window.heard = true })"
        ".observe(e, {attributeFilter: ['data-test-script-state']}) }"
    )
    page.get_by_role("button", name="Ask").click()
    page.wait_for_function("window.heard")
    page.get_by_text("Draw it").wait_for()
    settled(page)


def text(page):
    return " ".join(page.get_by_test_id("stMain").inner_text().split())


def passages(page):
    """Return the labels of the passages shown."""
    labels = page.locator("summary").all_inner_texts()
    return [label[label.index("[") :].replace("\N{WORD JOINER}", "") for label in labels]


def answer(page):
    """Return what stands between the headings Answer and Passages."""
    return re.search("Answer (.*) Passages, and why they were found", text(page))[1]


def test_a_question_is_answered_with_sentences_of_the_sources_and_where_they_stand(app, open_page):
    page = open_page(app[1])
    ask(page, ASKED)
    quotes = re.findall(r"“([^”]+)” \[(\d)\] (\S+), p\. (\d)", answer(page))
    assert quotes
    assert SAID in [sentence for sentence, *_ in quotes]
    for sentence, number, source, place in quotes:
        assert sentence in papers.running_text(Path(source).name)
        assert papers.page_of(Path(source).name, sentence) == int(place)
        assert passages(page)[int(number) - 1].startswith(f"[{number}] {source}")


def test_each_passage_is_explained_by_sentence_by_term_and_against_the_next(app, open_page):
    page = open_page(app[1])
    ask(page, ASKED)
    assert len(passages(page)) == 5
    for opened in page.get_by_test_id("stExpander").locator("summary").all()[1:]:
        opened.click()
    for number, passage in enumerate(page.get_by_test_id("stExpander").all(), 1):
        said = " ".join(passage.inner_text().split())
        spans = passage.locator("span[title*=BM25]").all()
        assert spans
        strongest = 0.0
        for span in spans:
            change = float(span.locator("sup").inner_text())
            red, _, _, *alpha = map(float, re.findall(r"[\d.]+", span.evaluate("e => getComputedStyle(e).background")))
            assert change == 0 or (red == 255) == (change < 0)  # amber where the passage is worse without it
            assert alpha[0] == pytest.approx(0.5 * min(1, abs(change) / 0.2), abs=0.011)
            strongest = max(strongest, abs(change))
        assert strongest > 0.02
        assert "without it the cosine changes by +0.2 or more -0.2 or less" in said
        assert "BM25 by term: " in said or "Words that meet: " in said or "found by its meaning alone" in said
        assert (f"Before [{number + 1}], since " in said) == (number < 5)
    first = " ".join(page.get_by_test_id("stExpander").first.inner_text().split())
    (whole,) = re.findall(r"\(BM25 ([\d.]+)\)", first)
    shares = re.search(r"BM25 by term: ((?:\S+ [\d.]+,? ?)+)", first)[1]
    assert sum(map(float, re.findall(r" ([\d.]+)", shares))) == pytest.approx(float(whole), abs=0.05)


def test_the_page_of_the_pdf_is_shown_with_the_passage_marked(app, open_page, tmp_path):
    page = open_page(app[1])
    ask(page, ASKED)
    passage = page.get_by_test_id("stExpander").first
    source, number = re.search(r"(papers/\S+), p\. (\d)", passages(page)[0]).groups()
    assert f"Page {number}" in passage.inner_text()
    shown = passage.locator("img")
    assert shown.count() == 1
    shown.screenshot(path=tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as marked:
        colours = marked.convert("RGB").getcolors(2**24)
    of_page = Image.Image.getcolors(pdf.picture(app[0] / source, int(number), []), 2**24)
    amber = sum(count for count, (red, green, blue) in colours if red > 240 and green > 210 and blue < 190)
    assert amber > 5000
    assert not any(red > 240 and green > 210 and blue < 190 for _, (red, green, blue) in of_page)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_all_text_can_be_read_in_both_themes_and_on_a_phone(app, open_page, theme, width):
    page = open_page(app[1], theme, width)
    ask(page, ASKED)
    contrast, worst = page.get_by_test_id("stMain").evaluate(CONTRAST)
    assert contrast >= 4.5, worst
    below = page.get_by_test_id("stApp").evaluate("e => getComputedStyle(e).backgroundColor")
    assert (int(re.findall(r"\d+", below)[0]) < 50) == (theme == "dark")
    assert page.get_by_test_id("stMain").evaluate("e => e.scrollWidth <= e.clientWidth")
    right = max(box["x"] + box["width"] for box in (e.bounding_box() for e in page.locator("img").all()) if box)
    assert right <= width


def test_text_of_documents_is_shown_and_never_run_or_fetched(app, open_page):
    page = open_page(app[1])
    ask(page, HOSTILE)
    for literal in ("<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "![x](http://127.0.0.1:1/x.png)"):
        assert literal in text(page)
    main = page.get_by_test_id("stMain")
    assert main.locator("script, img[onerror], img[src*=x], a:not([href^='#'])").count() == 0


def test_names_and_titles_of_documents_are_no_markdown_either(app, open_page):
    page = open_page(app[1])
    ask(page, "Which flies do the stripes of zebras confuse in the savanna?")
    assert passages(page)[0].startswith(f"[1] papers/{NAME}, p. 1")
    assert TITLE in text(page)
    main = page.get_by_test_id("stMain")
    assert main.locator("a:not([href^='#']), b, strong, em, .katex").count() == 0


def test_a_question_beside_the_subject_is_not_answered(app, open_page):
    page = open_page(app[1])
    ask(page, papers.OFF_TOPIC[0])
    assert answer(page).startswith("Not in the sources.")
    assert len(passages(page)) == 5


def test_only_the_chosen_sources_and_as_many_passages_as_wanted_are_shown(app, open_page):
    page = open_page(app[1])
    ask(page, "What does the quokka baseline of this study reach?")
    assert passages(page)[0].startswith("[1] README.md")
    assert "reaches 71 % without any pruning" in answer(page)
    page.get_by_role("button", name="Remove Docs of the project").click()
    page.get_by_text("README.md").first.wait_for(state="detached")
    settled(page)
    assert len(passages(page)) == 5
    assert not any("README" in label for label in passages(page))
    page.get_by_role("slider", name="Passages").press("ArrowLeft")
    page.get_by_text("[5]").first.wait_for(state="detached")
    settled(page)
    assert len(passages(page)) == 4


def test_only_the_chosen_explanations_are_shown(app, open_page):
    page = open_page(app[1])
    ask(page, ASKED)
    for name, gone in [
        ("Sentences (heat map)", "without it the cosine"),
        ("Terms", "BM25 by term"),
        ("Why not the next", "Before [2], since"),
    ]:
        assert gone in text(page)
        page.get_by_role("button", name=f"Remove {name}").click()
        page.get_by_text(gone).first.wait_for(state="detached")
        settled(page)
    assert page.locator("img").count() >= 1
    assert SAID in page.get_by_test_id("stExpander").first.inner_text()


def upload(page, *paths):
    page.locator("input[type=file]").set_input_files(paths)
    for path in paths:
        page.get_by_test_id("stFileChipName").get_by_text(path.name).wait_for()
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_test_id("stFileChipName").first.wait_for(state="detached")
    settled(page)


def test_an_uploaded_paper_answers_what_was_not_in_the_sources_before(app, open_page, library):
    (question,) = [each for each in papers.QUESTIONS if each.text.startswith("On how many units")]
    page, other = open_page(app[1]), open_page(app[1])
    for each in (page, other):
        ask(each, question.text)
        assert question.source not in text(each)
    upload(page, library / question.source)
    assert (app[0] / "papers" / question.source).read_bytes() == (library / question.source).read_bytes()
    page.locator("summary").first.filter(has_text=f"[1] papers/{question.source}").wait_for()  # asked again by itself
    settled(page)
    assert f"papers/{question.source}, p. 1" in answer(page)
    ask(other, f"{question.text} ")
    assert passages(other) == passages(page)


def test_an_upload_that_is_no_readable_pdf_is_refused_in_a_line_and_not_kept(app, open_page, tmp_path, library):
    kept = sorted((app[0] / "papers").rglob("*"))
    bad = {
        papers.encrypted: "is encrypted: save it without its password",
        papers.broken: "is broken or not a PDF",
        papers.empty: "",
        papers.image_only: "",
        partial(papers.long, pages=2000): "has 2000 pages; at most 500 are read",
    }
    paths = []
    for number, write in enumerate(bad):
        paths.append(tmp_path / f"bad{number}.pdf")
        write(paths[-1])
    page = open_page(app[1])
    upload(page, *paths, library / "haut.pdf")
    page.get_by_test_id("stAlertContainer").nth(len(bad) - 1).wait_for()
    errors = page.get_by_test_id("stAlertContainer").all_inner_texts()
    assert len(errors) == len(bad)
    for path, error, why in zip(paths, errors, bad.values(), strict=True):
        assert error.startswith(f"{path.name}: ") and why in error and "\n" not in error
    assert sorted((app[0] / "papers").rglob("*")) == kept


def test_a_file_of_another_type_cannot_be_uploaded(app, open_page, tmp_path):
    (tmp_path / "page.html").write_text("<script>alert(3)</script>")
    page = open_page(app[1])
    page.locator("input[type=file]").set_input_files(tmp_path / "page.html")
    page.get_by_text("text/html files are not allowed").wait_for()


def test_the_same_content_twice_is_one_document_and_is_said(app, open_page):
    page = open_page(app[1])
    side_bar = " ".join(page.get_by_test_id("stSidebar").inner_text().split())
    assert "papers/saliency.pdf has the same content as papers/saliency-copy.pdf" in side_bar
    assert "Answers are quoted, word for word." in side_bar


def test_nobody_else_on_the_network_can_reach_it(app):
    port = urlsplit(app[1]).port
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        if Path(table).exists()
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{port:04X}"]
    with urlopen(f"{app[1]}/_stcore/health") as health:
        assert health.read() == b"ok"


@pytest.mark.slow  # laying out compiles for half a minute
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_map_has_all_passages_the_question_and_lines_to_its_neighbours(app, open_page, tmp_path, theme):
    page = open_page(app[1], theme)
    ask(page, ASKED)
    page.get_by_text("Draw it").click()
    page.locator(".js-plotly-plot .scatterlayer").wait_for()
    settled(page)
    drawn = page.locator(".js-plotly-plot").evaluate(
        "e => e.data.map(t => ({name: t.name, mode: t.mode, marker: t.marker?.symbol,"
        " x: Array.from(t._fullInput?.x ?? e._fullData[t.index ?? e.data.indexOf(t)].x)}))"
    )
    (star,) = [trace for trace in drawn if trace["marker"] == "star"]
    lines = [trace for trace in drawn if trace["mode"] == "lines"]
    assert len(lines) == 10
    assert all(line["x"][0] == pytest.approx(star["x"][0]) for line in lines)
    dots = [trace for trace in drawn if trace["mode"] == "markers" and trace is not star]
    count = int(re.search(r"(\d+) passages", page.get_by_test_id("stSidebar").inner_text())[1])
    assert sum(len(trace["x"]) for trace in dots) == count
    assert [len(trace["x"]) for trace in dots if trace["name"] == "shown"] == [5]
    assert 0.5 < float(re.search(r"trustworthiness is ([\d.]+)", text(page))[1]) <= 1
    page.locator(".js-plotly-plot").screenshot(path=tmp_path / "map.png")


@pytest.mark.slow
def test_what_a_language_model_says_is_checked_and_where_it_fails_the_sources_are_quoted(
    run, open_page, tmp_path, library
):
    project(tmp_path, library, LIBRARY)
    script = Script(text=f"{SAID[:-1]} [1]. Pruning <b>cures</b> 97 % of all melanomas [1].")
    with serving(script) as endpoint:
        page = open_page(
            run(tmp_path, language_model={"url": endpoint, "model": "a-model", "key": None, "timeout": 20})
        )
        assert "Answers are written by a-model." in page.get_by_test_id("stSidebar").inner_text()
        ask(page, ASKED)
        assert answer(page) == (
            f"{SAID} [1] Pruning <b>cures</b> 97 % of all melanomas. [1] ⚠ unsupported: 97 % is not in [1]"
        )
        script.text = "NOT IN THE SOURCES"
        ask(page, f"{ASKED} Wie groß?")
        assert answer(page).startswith("Not in the sources.")
        script.status, script.body = 503, {"error": {"message": "<b>no</b> room"}}
        ask(page, f"{ASKED} Wie?")
        assert answer(page).startswith("The language model does not answer: ")
        assert "is out of order (503)" in answer(page) and f"“{SAID}” [1] papers/haut.pdf, p. 1" in answer(page)


@pytest.mark.slow
def test_without_any_source_it_says_what_to_do(run, open_page, tmp_path):
    open_page(run(tmp_path)).get_by_text("Nothing is indexed yet").wait_for()
