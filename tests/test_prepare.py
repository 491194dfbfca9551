"""The stage as its command: what it writes, and one line with status 2 for what it refuses."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages.datasets import store
from stages.files import sha256
from tests.conftest import in_process


@pytest.fixture
def source(tmp_path):
    """Forty pictures of two classes, twenty patients, in one folder with a table."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        name = f"{number}.png"
        rows.append([name, "ab"[number % 2], f"patient{number // 4}", 30 + number])
        path = tmp_path / "source" / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
    table = pd.DataFrame(rows, columns=["file", "diagnosis", "patient", "age"])
    table.to_csv(tmp_path / "source/table.csv", index=False)
    return tmp_path / "source"


@pytest.fixture
def prepare(tmp_path, source):
    def run(**changes):
        yaml = YAML()
        with open("params.yaml") as stream:
            content = yaml.load(stream)
        table = {"file": "table.csv", "image": "file", "label": "diagnosis", "group": "patient", "subgroups": ["age"]}
        content["data"] |= {"name": "csv", "table": table, "image_size": 16} | changes
        with (tmp_path / "params.yaml").open("w") as stream:
            yaml.dump(content, stream)
        arguments = ["--params", tmp_path / "params.yaml", "--source", source, "--prepared", tmp_path / "prepared"]
        return in_process("prepare", *arguments, "--threads", "2")

    return run


def test_a_table_becomes_an_array_with_splits_by_patient_and_subgroups(prepare, tmp_path):
    answer = prepare()
    assert answer.returncode == 0, answer.stderr
    index = pd.read_csv(tmp_path / "prepared/index.csv")
    assert list(index) == ["image_id", "label", "group", "split", "age"]
    assert index.groupby("group")["split"].nunique().max() == 1
    assert np.load(tmp_path / "prepared/images.npy").shape == (40, 16, 16, 3)
    assert json.loads((tmp_path / "prepared/dataset.json").read_text())["classes"] == ["a", "b"]
    told = [int(line.split()[1]) for line in answer.stdout.splitlines() if line.endswith("of 40 pictures")]
    assert told == [*range(4, 41, 4)]


def test_a_file_in_place_of_the_folder_is_refused_and_stays(prepare, tmp_path):
    (tmp_path / "prepared").write_text("mine")
    answer = prepare()
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "prepared: is no folder; name one" in answer.stderr
    assert (tmp_path / "prepared").read_text() == "mine"


def replace_by(content):
    return lambda source: (source / "5.png").write_bytes(content)


def copy_to_every_patient(source):
    for number in range(4, 40, 4):
        (source / f"{number}.png").write_bytes((source / "0.png").read_bytes())


def of_two_patients(source):
    table = pd.read_csv(source / "table.csv")
    table.assign(patient=table.index % 4 // 2).to_csv(source / "table.csv", index=False)


@pytest.mark.parametrize(
    ("break_it", "changes", "message"),
    [
        (replace_by(b""), {}, "table.csv: row 7: .*5.png: is empty"),
        (
            lambda source: (source / "5.png").unlink(),
            {},
            "1 rows without a picture and 0 pictures without a row: row 7",
        ),
        (lambda source: (source / "table.csv").unlink(), {}, "table.csv: no such file"),
        (copy_to_every_patient, {}, "pictures are the same as one in another split: 0.png"),
        (of_two_patients, {}, "data.fractions: class a has no image in the train split: it has 20 images in 2 groups"),
        (lambda source: None, {"classes": ["a", "c"]}, "row 3: label 'b' is none of a, c"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(prepare, source, tmp_path, break_it, changes, message):
    break_it(source)
    answer = prepare(**changes)
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if not line.startswith(("\r", "prepare:"))]
    assert len(lines) == 1, answer.stderr
    assert re.search(message, lines[0]), lines
    assert not list(tmp_path.glob("prepared/*"))


@pytest.fixture
def masked(tmp_path, source):
    """Return a function that makes masks, the left third of each image inside, breaks one, and names them."""

    def make(break_it=lambda folder: None):
        folder = tmp_path / "masks"
        folder.mkdir()
        inside = np.zeros((20, 30), np.uint8)
        inside[:, :10] = 200
        for path in source.glob("*.png"):
            Image.fromarray(inside).save(folder / f"{path.stem}_lesion.png")
        break_it(folder)
        return {"path": str(folder), "suffix": "_lesion.png", "sha256": sha256(folder)}

    return make


def test_masks_become_an_array_beside_the_images(prepare, masked, tmp_path):
    assert prepare().returncode == 0
    without = json.loads((tmp_path / "prepared/dataset.json").read_text())["content_sha256"]
    answer = prepare(masks=masked())
    assert answer.returncode == 0, answer.stderr
    data = store.load(tmp_path / "prepared")
    assert data.masks.shape == (40, 16, 16)
    assert (data.masks[..., :5] == 255).all() and (data.masks[..., 6:] == 0).all()
    assert data.masks.mean() / 255 == pytest.approx(1 / 3, abs=0.01)
    assert data.description["content_sha256"] != without
    assert prepare().returncode == 0
    assert store.load(tmp_path / "prepared").masks is None


def test_the_centre_of_a_mask_is_that_of_its_image(prepare, masked, tmp_path):
    answer = prepare(masks=masked(), centre=0.5)
    assert answer.returncode == 0, answer.stderr
    masks = store.load(tmp_path / "prepared").masks
    assert masks.mean() / 255 == pytest.approx(1 / 7, abs=0.01)  # of pixels 8 to 21, those below 10
    assert (masks[..., :2] == 255).all() and (masks[..., 4:] == 0).all()


def test_masks_may_be_empty_if_that_is_allowed(prepare, masked, tmp_path):
    answer = prepare(masks=masked(save_mask(0)) | {"allow_empty": True})
    assert answer.returncode == 0, answer.stderr
    data = store.load(tmp_path / "prepared")
    assert (data.masks.reshape(40, -1).max(1) == 0).tolist() == (data.index["image_id"] == "5.png").tolist()


def save_mask(value, shape=(20, 30)):
    return lambda folder: Image.fromarray(np.full(shape, value, np.uint8)).save(folder / "5_lesion.png")


@pytest.mark.parametrize(
    ("break_it", "changes", "message"),
    [
        (lambda folder: (folder / "5_lesion.png").unlink(), {}, r"5_lesion.png: no such mask \(1 images of 40"),
        (save_mask(0), {}, "5_lesion.png: holds none of the image"),
        (save_mask(255), {}, "5_lesion.png: holds all of the image"),
        (save_mask(255, (16, 16)), {}, "5_lesion.png: has 16 x 16 pixels, its image 30 x 20"),
        (lambda folder: (folder / "5_lesion.png").write_bytes(b"x"), {}, "5_lesion.png: is no picture"),
        (lambda folder: None, {"sha256": "0" * 64}, "masks: has SHA-256 .* data.masks.sha256 says 0000"),
        (lambda folder: None, {"path": "nowhere"}, "data.masks.path: nowhere: no such folder"),
        (lambda folder: None, {"suffix": ".png"}, r"0.png: no such mask \(40 images of 40"),
    ],
)
def test_masks_that_do_not_fit_are_one_line(prepare, masked, tmp_path, break_it, changes, message):
    answer = prepare(masks=masked(break_it) | changes)
    assert answer.returncode == 2
    lines = [line for line in answer.stderr.splitlines() if not line.startswith(("\r", "prepare:"))]
    assert len(lines) == 1, answer.stderr
    assert re.search(message, lines[0]), lines
    assert not list(tmp_path.glob("prepared/*"))


def test_allowed_gaps_and_duplicates_are_recorded(prepare, source, tmp_path):
    (source / "5.png").unlink()
    copy_to_every_patient(source)
    answer = prepare(allow_missing=True, duplicates="keep")
    assert answer.returncode == 0, answer.stderr
    description = json.loads((tmp_path / "prepared/dataset.json").read_text())
    assert description["left_out"] == ["row 7: 5.png has no picture"]
    assert description["duplicates"]
    assert all(pair[0] == "0.png" for pair in description["duplicates"])
