import json
import shutil
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.datasets import fashion_mnist, splits, store
from stages.datasets.source import Source
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
    picture = np.asarray(fashion_mnist.read(embedded).image(17))
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


def test_preparing_twice_gives_identical_bytes_with_any_number_of_threads(tmp_path, embedded):
    source = fashion_mnist.read(embedded)
    source.records["split"] = "train"
    for name, threads in (("a", 1), ("b", 3)):
        store.write(tmp_path / name, "x", source, range(50), 20, threads=threads)
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    assert len(list((tmp_path / "a").iterdir())) == 3


def test_an_incomplete_store_is_refused(tmp_path, prepared_folder):
    shutil.copytree(prepared_folder, tmp_path / "p")
    (tmp_path / "p" / "index.csv").unlink()
    with pytest.raises(InputError, match="not a prepared data set"):
        store.load(tmp_path / "p")


def made(pictures, splits):
    """Return a source of pictures in memory; one of None cannot be read."""

    def image(row):
        if pictures[row] is None:
            raise InputError("broken.jpg: cannot be read")
        return Image.fromarray(pictures[row])

    names = [f"image{row}" for row in range(len(pictures))]
    records = pd.DataFrame({"image_id": names, "label": 0, "group": names, "split": splits})
    return Source(["a", "b"], records, image)


def noise(count, size=8):
    return list(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_left_when_a_picture_cannot_be_read(tmp_path, threads):
    with pytest.raises(InputError, match="broken.jpg"):
        store.write(tmp_path / "p", "x", made([*noise(30), None], ["train"] * 31), range(31), 8, threads=threads)
    assert list((tmp_path / "p").iterdir()) == []


def test_equal_pictures_in_two_splits_are_refused_or_recorded(tmp_path):
    one, two, three = noise(3)
    source = made([one, two, two, three, one], ["train", "train", "train", "test", "val"])
    with pytest.raises(InputError, match=r"1 pictures are .*: image0 \(train\) = image4 \(val\);"):
        store.write(tmp_path / "p", "x", source, range(5), 8)
    assert list((tmp_path / "p").iterdir()) == []
    store.write(tmp_path / "p", "x", source, range(5), 8, keep_duplicates=True)
    assert store.load(tmp_path / "p").description["duplicates"] == [["image0", "image4"]]


def test_pictures_are_resized_with_antialiasing(tmp_path):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    pictures = [np.repeat(board[..., None], 3, axis=2).astype(np.uint8), *noise(1)]
    store.write(tmp_path / "p", "x", made(pictures, ["train"] * 2), range(2), 16)
    stored = store.load(tmp_path / "p").images[0][1:-1, 1:-1]
    assert stored.min() > 120
    assert stored.max() < 135


def test_the_part_around_the_centre_is_stored_as_it_is(tmp_path):
    pictures = noise(2, 64)
    store.write(tmp_path / "p", "x", made(pictures, ["train"] * 2), range(2), 16, centre=0.25)
    data = store.load(tmp_path / "p")
    assert np.array_equal(data.images, np.stack(pictures)[:, 24:40, 24:40])
    assert data.description["centre"] == 0.25


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path):
    picture = noise(1, 64)[0]

    def peak(count):
        source = made([picture] * count, ["train"] * count)
        tracemalloc.start()
        store.write(tmp_path / "p", "x", source, range(count), 64, threads=2)
        return (tracemalloc.get_traced_memory()[1], tracemalloc.stop())[0]

    assert peak(1600) - peak(200) < 700_000  # the pixels of 1,400 pictures more are 17 MB; an index row is 200 bytes


WRITE = """
import resource, signal
from pathlib import Path
from tests.datasets.test_store import made, noise
from stages import command
from stages.datasets import store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
command.run(lambda: store.write(Path({folder!r}), "x", made(noise(20, 64), ["train"] * 20), range(20), 64))
"""


def test_a_write_that_fails_in_the_middle_leaves_nothing_complete_and_one_line(tmp_path, prepared_folder):
    shutil.copytree(prepared_folder, tmp_path / "p")
    answer = subprocess.run(
        [sys.executable, "-c", WRITE.format(folder=str(tmp_path / "p"))], capture_output=True, text=True
    )
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1), answer.stderr
    assert "File too large" in answer.stderr
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["images.npy", "index.csv"]
    with pytest.raises(InputError, match="not a prepared data set"):
        store.load(tmp_path / "p")


def test_a_folder_that_cannot_be_written_and_a_disk_too_small_are_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/p: .*Not a directory"):
        store.write(tmp_path / "file/p", "x", made(noise(2), ["train"] * 2), range(2), 8)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(InputError, match="the images need 0.1 GB, 0.0 GB are free"):
        store.write(tmp_path / "p", "x", made(noise(2), ["train"] * 2), [0, 1] * 1000, 128)


@pytest.mark.parametrize("content", [b"nothing", b""])
def test_a_wrong_embedded_file_is_refused(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match="not the embedded"):
        fashion_mnist.read(tmp_path / "x.npz")


def test_the_description_counts_every_class_and_split(prepared):
    assert json.dumps(prepared.description["counts"]["val"], sort_keys=True).count(": 5") == 10
