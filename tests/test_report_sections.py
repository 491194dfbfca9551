from types import SimpleNamespace

import pytest
from PIL import Image

from stages.report import _concepts, _folded

GRAPH = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'


@pytest.mark.parametrize("has_graph", [True, False])
def test_a_class_whose_concept_has_nothing_below_it_is_shown_without_a_graph(tmp_path, has_graph):
    pictures = tmp_path / "plots/concepts/seed0"
    for folder in (tmp_path / "concepts", pictures / "heatmaps", pictures / "graphs"):
        folder.mkdir(parents=True)
    (tmp_path / "concepts/page.md").write_text("Said.")
    (tmp_path / "concepts/changes.svg").write_text(GRAPH)
    (tmp_path / "concepts/layers.csv").write_text("layer\nconv1\n")
    Image.new("RGB", (2, 2)).save(pictures / "heatmaps/mel.png")
    if has_graph:
        (pictures / "graphs/mel.svg").write_text(GRAPH)
    text = "".join(_concepts(tmp_path, SimpleNamespace(seeds=[0]), {"classes": ["mel"]}))
    assert "mel: an image" in text
    assert ("Sub-concepts of" in text) == has_graph


def test_nothing_is_folded_where_there_is_no_table():
    assert _folded("Sizes", []) == []
    (block,) = _folded("Sizes", ["One.", "Two."])
    assert "Sizes" in block and "<p>One.</p>" in block and "<p>Two.</p>" in block
