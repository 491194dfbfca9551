from pathlib import Path

import pytest

from stages.errors import InputError
from stages.params import load
from stages.preset import apply


@pytest.fixture
def path(tmp_path):
    copy = tmp_path / "params.yaml"
    text = Path("params.yaml").read_text().replace("momentum: 0.9", "momentum: 0.8   # by hand", 1)
    copy.write_text(text)
    return copy


def each():
    """Return every preset; that of concepts needs classes to ask about, which a data set has."""
    names = [f"{file.parent.name}={file.stem}" for file in sorted(Path("presets").glob("*/*.yaml"))]
    return [[name, *(["dataset=mitosis"] if name == "budget=concepts" else [])] for name in names]


def test_the_preset_of_concepts_says_what_it_needs_and_writes_nothing(path):
    before = path.read_text()
    with pytest.raises(InputError, match="prune.scores.crp.class_name is null, but crp-class needs it"):
        apply(path, ["budget=concepts"])
    assert path.read_text() == before


def test_a_preset_keeps_comments_and_hand_edits(path):
    before, original = path.read_text(), load(path)
    apply(path, ["budget=smoke", "model=vgg16"])
    changed = load(path)
    assert (changed.model.name, changed.prune.criteria, changed.train.momentum) == ("vgg16", ["lrp", "random"], 0.8)
    for line in before.splitlines():
        if "#" in line:
            assert line.split("#")[1] in path.read_text()
    apply(path, ["budget=default", "model=resnet18"])
    assert load(path) == original


def test_going_back_to_the_defaults_leaves_nothing_of_other_presets(path):
    original = load(path)
    for names in each():
        apply(path, names)
    apply(path, ["dataset=fashion-mnist", "budget=default", "model=resnet18"])
    assert load(path) == original


def test_the_columns_of_another_table_are_not_kept(path):
    apply(path, ["dataset=mitosis"])
    table = "{file: x.csv, image: id, label: dx, subgroups: [age]}"
    path.write_text(path.read_text().replace(path.read_text().split("table: ")[1].split("}")[0] + "}", table))
    assert load(path).data.table.subgroups == ["age"]
    apply(path, ["dataset=mitosis"])
    assert load(path).data.table.columns() == {"image_id": "image", "group": "slide"}


def test_the_chosen_concepts_of_another_network_are_not_kept(path):
    path.write_text(path.read_text().replace("concepts: []}", "concepts: ['layer2.0.conv1:7']}"))
    assert load(path).concepts.chosen.concepts
    apply(path, ["model=vgg16"])
    assert load(path).concepts.chosen.concepts == []


def test_every_preset_gives_a_valid_file(path):
    for names in each():
        apply(path, names)
        load(path)


def test_a_near_miss_is_suggested_and_nothing_is_written(path):
    before = path.read_text()
    with pytest.raises(InputError, match="budget=smke: no such preset; did you mean budget=smoke?"):
        apply(path, ["model=vgg16", "budget=smke"])
    assert path.read_text() == before
