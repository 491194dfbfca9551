import base64

from stages.reporting import page


def test_a_page_holds_all_it_shows_and_tags_in_texts_are_shown(tmp_path):
    (tmp_path / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    blocks = [page.figure(tmp_path / "a.svg", 'of "<b>"'), page.markdown("| <script>x</script> |\n| --- |\n| 1 |")]
    text = page.assemble("A <title>", "", {"First part": blocks, "Empty": []})
    assert base64.b64encode((tmp_path / "a.svg").read_bytes()).decode() in text
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "A &lt;title&gt;" in text and "<b>" not in text
    assert text.count("<h2>") == 1 and 'href="#first-part"' in text and 'id="first-part"' in text
