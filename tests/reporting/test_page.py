import base64
import re

import pytest

from stages.reporting import page
from tests.browser import BROWSER, CONTRAST, opened

DRAWN = "() => [...document.images].filter(image => image.naturalWidth > 0).length"
WIDE = (
    "| "
    + " | ".join(f"criterion {n}" for n in range(40))
    + " |\n"
    + "| --- " * 40
    + "|\n"
    + "| 0.1234 ± 0.0123 " * 40
    + "|"
)


@pytest.fixture
def report(tmp_path):
    """Return a page with a wide table, a wide figure, code and what is folded."""
    picture = tmp_path / "a.svg"
    picture.write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' width='1600' height='300'><rect width='9' height='9'/></svg>"
    )
    blocks = [
        page.markdown(f"> A sentence.\n\nText with `code.of_{'many' * 30}_letters`, of commit {'f0' * 40}.\n\n{WIDE}"),
        page.figure(picture, "A wide figure."),
        page.folded("More", page.figure(picture, "Another.") + page.markdown(f"```\n{'key: ' * 200}\n```")),
    ]
    (tmp_path / "report.html").write_text(
        page.assemble("A title", page.markdown("Words."), {"One": blocks, "Two": blocks})
    )
    return tmp_path / "report.html"


@pytest.mark.skipif(not BROWSER, reason="no chromium or playwright here to open the page with")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_a_browser_shows_the_page_in_both_themes_and_on_a_phone(report, theme, width):
    with opened(report, width, theme) as (shown, complaints):
        assert shown.evaluate(DRAWN) == 4
        assert shown.evaluate("() => document.documentElement.scrollWidth") <= width
        assert shown.evaluate("() => document.querySelector('figure img').width") >= 600  # on a phone one scrolls
        contrast, worst = shown.evaluate_handle("() => document.body").evaluate(CONTRAST)
        assert contrast >= 4.5, worst
        red = re.search(r"\d+", shown.evaluate("() => getComputedStyle(document.body).backgroundColor"))[0]
        assert (int(red) < 50) == (theme == "dark")
        shown.click("summary >> nth=0")
        assert shown.locator("figcaption", has_text="Another.").first.is_visible()
        assert shown.evaluate("() => document.documentElement.scrollWidth") <= width
    assert complaints == []


@pytest.mark.skipif(not BROWSER, reason="no chromium or playwright here to print the page with")
def test_the_page_can_be_printed(report):
    with opened(report) as (shown, _):
        assert shown.locator("nav").is_visible()
        shown.emulate_media(media="print")
        assert not shown.locator("nav").is_visible()
        shown.set_viewport_size({"width": 794, "height": 1123})  # A4
        tables = (
            "() => [...document.querySelectorAll('table')].map(one => [one.scrollWidth, one.parentNode.clientWidth])"
        )
        assert all(inner <= outer for inner, outer in shown.evaluate(tables))
        assert shown.locator("figcaption", has_text="Another.").first.is_visible()  # what is folded is printed, too
        printed = shown.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF") and 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) < 20


def test_a_page_holds_all_it_shows_and_tags_in_texts_are_shown(tmp_path):
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    blocks = [page.figure(tmp_path / "a.svg", 'of "<b>"'), page.markdown("| <script>x</script> |\n| --- |\n| 1 |")]
    text = page.assemble("A <title>", "", {"First part": blocks, "Empty": []})
    assert base64.b64encode((tmp_path / "a.svg").read_bytes()).decode() in text
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "A &lt;title&gt;" in text and "<b>" not in text
    assert text.count("<h2>") == 1 and 'href="#first-part"' in text and 'id="first-part"' in text
