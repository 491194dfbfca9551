import json
import shutil

import numpy as np
import pytest
from PIL import Image

from stages.datasets import fashion_mnist, image_folder, splits, store
from stages.errors import InputError
from stages.files import sha256


def test_the_embedded_set_has_the_promised_splits(embedded):
    source = fashion_mnist.read(embedded)
    split = splits.assign(source.records, source.classes, {"val": 0.125, "test": 0.25}, 0)
    assert split.value_counts().to_dict() == {"train": 5000, "val": 1000, "test": 2000}
    assert source.records.assign(split=split).groupby(["split", "label"]).size().unstack().nunique(axis=1).eq(1).all()
    assert source.records["image_id"].is_unique
    published = source.records["image_id"].str.startswith("t10k")
    assert (split[published] == "test").all()


def test_an_embedded_picture_is_the_padded_original_in_three_equal_channels(embedded):
    picture = fashion_mnist.read(embedded).image(17)
    original = np.load(embedded)["images"][17]
    assert picture.shape == (32, 32, 3)
    assert (picture[2:-2, 2:-2] == original[..., None]).all()
    assert picture.sum() == 3 * original.astype(int).sum()


def test_mean_and_std_are_those_of_the_training_split(prepared):
    pixels = prepared.images[prepared.rows("train")] / 255.0
    assert np.allclose(prepared.description["mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-12)
    assert np.allclose(prepared.description["std"], pixels.std(axis=(0, 1, 2)), atol=1e-12)


def test_a_batch_is_the_stored_images_as_fractions(prepared):
    rows = np.array([5, 3])
    images, labels = prepared.batch(rows)
    assert (images.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8).tolist() == prepared.images[
        rows
    ].tolist()
    assert labels.tolist() == prepared.index["label"].to_numpy()[rows].tolist()


def test_references_are_balanced_training_images_and_follow_the_seed(prepared):
    rows = prepared.references(3, 0)
    assert np.isin(rows, prepared.rows("train")).all()
    assert np.bincount(prepared.index["label"].to_numpy()[rows]).tolist() == [3] * 10
    assert rows.tolist() == prepared.references(3, 0).tolist() != prepared.references(3, 1).tolist()


def test_references_of_chosen_classes_are_those_drawn_with_all(prepared):
    some = prepared.classes[2], prepared.classes[5]
    labels = prepared.index["label"].to_numpy()
    rows = prepared.references(3, 0)
    assert prepared.references(3, 0, some).tolist() == [row for row in rows if labels[row] in (2, 5)]
    with pytest.raises(InputError, match="prune.scores.classes: 'cat' is none of"):
        prepared.references(3, 0, ["cat"])


def test_only_accepted_images_become_references(prepared):
    even = prepared.references(3, 0, accept=lambda rows: rows % 2 == 0)
    assert len(even) == 3 * len(prepared.classes)
    assert (even % 2 == 0).all()
    every = prepared.references(10_000, 0, accept=lambda rows: rows % 2 == 0)
    assert sorted(every) == [row for row in prepared.rows("train") if row % 2 == 0]
    with pytest.raises(InputError, match="no training image of class"):
        prepared.references(3, 0, accept=lambda rows: rows < 0)


def test_preparing_twice_gives_identical_bytes(tmp_path, embedded):
    digests = []
    for name in ("a", "b"):
        source = fashion_mnist.read(embedded)
        records = source.records.iloc[:50].assign(split="train")
        store.write(tmp_path / name, "x", source.classes, records, map(source.image, range(50)), 20, "0")
        digests.append(sha256(tmp_path / name))
    assert digests[0] == digests[1]


def test_an_incomplete_store_is_refused(tmp_path, prepared_folder):
    shutil.copytree(prepared_folder, tmp_path / "p")
    (tmp_path / "p" / "index.csv").unlink()
    with pytest.raises(InputError, match="not a prepared data set"):
        store.load(tmp_path / "p")


def test_nothing_is_left_when_a_picture_cannot_be_read(tmp_path, embedded):
    source = fashion_mnist.read(embedded)

    def pictures():
        yield source.image(0)
        raise InputError("broken.jpg: cannot be read")

    with pytest.raises(InputError):
        store.write(tmp_path / "p", "x", source.classes, source.records.iloc[:2], pictures(), 32, "0")
    assert list((tmp_path / "p").iterdir()) == []


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a"):
        for number in range(3):
            path = tmp_path / "pictures" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L" if number else "RGBA", (20, 10), 30 * number + 5).save(path)
    return tmp_path / "pictures"


def test_an_image_folder_is_read_in_order_as_rgb(folder):
    source = image_folder.read(folder)
    assert source.classes == ["a", "b"]
    assert source.records["image_id"].tolist() == ["a/0.png", "a/1.png", "a/2.png", "b/0.png", "b/1.png", "b/2.png"]
    assert source.image(1).shape == (10, 20, 3)
    assert (source.image(1) == 35).all()


def test_wrong_image_folders_are_named(folder):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        image_folder.read(folder / "nowhere")
    (folder / "c").mkdir()
    with pytest.raises(InputError, match="c: no picture"):
        image_folder.read(folder)
    shutil.rmtree(folder / "c")
    shutil.rmtree(folder / "b")
    with pytest.raises(InputError, match="has 1 class folders"):
        image_folder.read(folder)
    (folder / "a" / "0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="0.png: cannot be read"):
        (folder / "b").mkdir()
        (folder / "a" / "1.png").rename(folder / "b" / "1.png")
        image_folder.read(folder).image(0)


@pytest.mark.parametrize("content", [b"nothing", b""])
def test_a_wrong_embedded_file_is_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match="not the embedded"):
        fashion_mnist.read(tmp_path / "x.npz")


def test_a_picture_of_more_than_8_bits_is_refused(folder):
    Image.new("I;16", (8, 8), 40000).save(folder / "a" / "0.png")
    with pytest.raises(InputError, match="0.png: has I;16 pixels of more than 8 bits"):
        image_folder.read(folder).image(0)


def test_the_description_counts_every_class_and_split(prepared):
    assert json.dumps(prepared.description["counts"]["val"], sort_keys=True).count(": 5") == 10
