from pathlib import Path

import pytest

from stages.errors import InputError
from stages.params import load
from stages.preset import apply


@pytest.fixture
def path(tmp_path):
    copy = tmp_path / "params.yaml"
    text = Path("params.yaml").read_text().replace("batch_size: 64", "batch_size: 96   # by hand", 1)
    copy.write_text(text)
    return copy


def test_a_preset_keeps_comments_and_hand_edits(path):
    before, original = path.read_text(), load(path)
    apply(path, ["budget=smoke", "model=vgg16"])
    changed = load(path)
    assert (changed.model.name, changed.prune.criteria, changed.train.batch_size) == ("vgg16", ["lrp", "random"], 96)
    for line in before.splitlines():
        if "#" in line:
            assert line.split("#")[1] in path.read_text()
    apply(path, ["budget=default", "model=resnet18"])
    assert load(path) == original


def test_every_preset_gives_a_valid_file(path):
    for file in sorted(Path("presets").glob("*/*.yaml")):
        apply(path, [f"{file.parent.name}={file.stem}"])
        load(path)


def test_a_near_miss_is_suggested_and_nothing_is_written(path):
    before = path.read_text()
    with pytest.raises(InputError, match="budget=smke: no such preset; did you mean budget=smoke?"):
        apply(path, ["model=vgg16", "budget=smke"])
    assert path.read_text() == before
