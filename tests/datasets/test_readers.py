"""Readers of data sets: what they find, and what they refuse in one line that names file and row."""

import hashlib
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import datasets

from stages.datasets import ham10000, image_folder, pictures, published, splits
from stages.errors import InputError

SHARED = Path("../shared/data")
shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is not there")


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
    assert (source.image(1).mode, source.image(1).size) == ("RGB", (20, 10))
    assert (np.asarray(source.image(1)) == 35).all()


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


def test_folders_of_splits_are_not_taken_for_classes(folder):
    (folder / "a").rename(folder / "train")
    (folder / "b").rename(folder / "Test")
    with pytest.raises(InputError, match="its folders Test, train are splits, not classes"):
        image_folder.read(folder)
    assert image_folder.read(folder, ["train", "Test"]).classes == ["train", "Test"]


def test_a_picture_outside_the_class_folders_is_named_and_a_hidden_one_is_none(folder):
    shutil.copy(folder / "a/0.png", folder / "a/._0.png")
    assert len(image_folder.read(folder).records) == 6
    shutil.copy(folder / "a/0.png", folder / "top.png")
    with pytest.raises(InputError, match="top.png: is in no class folder"):
        image_folder.read(folder)


def test_the_classes_of_a_folder_may_be_put_in_order(folder):
    source = image_folder.read(folder, ["b", "a"])
    assert source.records.loc[source.records["image_id"] == "b/0.png", "label"].tolist() == [0]
    with pytest.raises(InputError, match="c: data.classes and the class folders must be the same"):
        image_folder.read(folder, ["a", "b", "c"])


# Pictures


def test_a_picture_becomes_rgb_and_upright(tmp_path):
    grey, colour = tmp_path / "grey.png", np.zeros((4, 6, 3), np.uint8)
    colour[0, 0] = 200, 100, 50
    Image.fromarray(colour[..., 0]).save(grey)
    assert pictures.decode(grey).getpixel((0, 0)) == (200, 200, 200)
    cmyk = tmp_path / "cmyk.tif"
    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(cmyk)
    assert pictures.decode(cmyk).getpixel((0, 0)) == (255, 0, 0)
    turned, exif = tmp_path / "turned.png", Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(colour).save(turned, exif=exif)
    upright = pictures.decode(turned)
    assert upright.size == (4, 6)
    assert upright.getpixel((3, 0)) == (200, 100, 50)


def test_what_cannot_be_decoded_is_named(tmp_path):
    path = tmp_path / "x.png"
    Image.new("I;16", (8, 8), 40000).save(path)
    with pytest.raises(InputError, match="x.png: has I;16 pixels of more than 8 bits"):
        pictures.decode(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="x.png: is empty"):
        pictures.decode(path)
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="x.png: is no picture"):
        pictures.decode(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="x.png: cannot be read as a picture: .*truncated"):
        pictures.decode(path)
    path.unlink()
    with pytest.raises(InputError, match="x.png: cannot be read as a picture: .*No such file"):
        pictures.decode(path)


# HAM10000


@pytest.fixture(params=["HAM10000_images_part", "HAM10000_images_part_"])
def archive(tmp_path, request):
    """An archive as the published one is, of 140 lesions with one to six images."""
    rng = np.random.default_rng(0)
    rows = []
    for lesion in range(140):
        for _ in range(rng.integers(1, 7)):
            dx = ham10000.CLASSES[lesion % 7]
            rows.append([f"HAM_{lesion:07d}", f"ISIC_{len(rows):07d}", dx, "histo", 45.0, "male", "back"])
    names = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]
    metadata = pd.DataFrame(rows, columns=names).sample(frac=1, random_state=0)
    metadata.to_csv(tmp_path / ham10000.METADATA, index=False)
    for number, name in enumerate(metadata["image_id"]):
        path = tmp_path / f"{request.param}{number % 2 + 1}" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4), (number % 256, number // 256, 0)).save(path)
    return tmp_path


def test_no_lesion_is_in_two_splits(archive):
    source = ham10000.read(archive)
    assert source.classes == ["nv", "mel", "bkl", "bcc", "akiec", "vasc", "df"]
    assert list(source.records) == ["image_id", "label", "group", "split", "age", "sex", "site"]
    split = splits.assign(source.records, source.classes, {"val": 0.15, "test": 0.2}, 0)
    found = source.records.assign(split=split)
    sizes = found.groupby("group").size()
    assert (sizes.min(), sizes.max()) == (1, 6)
    assert found.groupby("group")["split"].nunique().max() == 1
    assert set(found.groupby("label")["split"].nunique()) == {3}


def test_rows_and_images_that_do_not_match_are_counted_and_listed_or_left_out(archive):
    parts = sorted(path for path in archive.iterdir() if path.is_dir())
    gone = sorted(parts[0].glob("*.jpg"))[:12]
    rows = {line.split(",")[1]: row for row, line in enumerate((archive / ham10000.METADATA).open(), 1)}
    for path in gone:
        path.unlink()
    shutil.copy(sorted(parts[1].glob("*.jpg"))[0], parts[1] / "ISIC_9999999.jpg")
    with pytest.raises(InputError) as error:
        ham10000.read(archive)
    message = str(error.value)
    assert "HAM10000_metadata.csv: 12 rows without a picture and 1 pictures without a row: " in message
    assert message.count("has no picture") == 10
    assert "and 3 more; `data.allow_missing: true` leaves them out" in message
    source = ham10000.read(archive, allow_missing=True)
    assert len(source.records) == len(rows) - 1 - 12
    assert len(source.left_out) == 13
    assert f"row {rows[gone[0].stem]}: {gone[0].stem} has no picture" in source.left_out
    assert source.image(0).size == (4, 4)


def in_row(row, old, new):
    """Return a function that changes one line of a file."""
    return lambda lines: [line.replace(old, new) if number == row else line for number, line in enumerate(lines, 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (in_row(5, ",histo", "x,histo"), "row 5: label '.*x' is none of nv, mel"),
        (lambda lines: [*lines, lines[7]], "row [0-9]+: image ISIC_[0-9]+ is already in row 8; each may have one row"),
        (lambda lines: [*lines[:2], " ," + lines[2].split(",", 1)[1], *lines[3:]], "row 3: lesion_id is empty"),
        (in_row(1, "lesion_id", "lesion"), "row 1: no column lesion_id; did you mean lesion?"),
        (in_row(4, ",45.0", ",45,0"), "row 4: must have 7 values, as row 1 has"),
        (in_row(4, ",45.0", ""), "row 4: must have 7 values"),
        (in_row(3, "HAM_0", '"HAM_0'), "cannot be read as CSV"),
        (lambda lines: lines[:1], "lists no image"),
        (lambda lines: [*lines[:2], "", "NA," + lines[2].split(",", 1)[1], *lines[3:]], "row 4: lesion_id is NA;"),
    ],
)
def test_wrong_metadata_are_named_with_their_row(archive, change, message):
    path = archive / ham10000.METADATA
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(InputError, match=f"{ham10000.METADATA}: {message}"):
        ham10000.read(archive)


def test_a_class_without_images_is_named(archive):
    path = archive / ham10000.METADATA
    path.write_text("".join(line for line in path.open() if ",df," not in line))
    with pytest.raises(InputError, match="class df has no image"):
        ham10000.read(archive, allow_missing=True)


def test_an_unreadable_image_is_named_with_its_row(archive):
    source = ham10000.read(archive)
    name = source.records["image_id"][6]
    next(archive.glob(f"*/{name}.jpg")).write_bytes(b"")
    with pytest.raises(InputError, match=f"metadata.csv: row 8: .*{name}.jpg: is empty"):
        source.image(6)


def test_a_folder_that_is_none_of_ham10000_and_an_image_in_both_parts_are_named(archive):
    parts = sorted(path for path in archive.iterdir() if path.is_dir())
    name = sorted(parts[0].glob("*.jpg"))[0].name
    shutil.copy(parts[0] / name, parts[1] / name)
    with pytest.raises(InputError, match=f"{name}: image .* is also .*{name}; keep one"):
        ham10000.read(archive)
    for part in parts:
        shutil.rmtree(part)
    with pytest.raises(InputError, match="has no folder HAM10000_images_part1 or HAM10000_images_part_1"):
        ham10000.read(archive)
    with pytest.raises(InputError, match="HAM10000_metadata.csv: no such file"):
        ham10000.read(archive / "elsewhere")


@shared
def test_the_images_at_hand_are_read():
    source = ham10000.read(SHARED / "ham10000")
    counts = source.records["label"].value_counts().sort_index().tolist()
    assert dict(zip(source.classes, counts, strict=True)) == {
        "nv": 4323, "mel": 491, "bkl": 583, "bcc": 264, "akiec": 183, "vasc": 80, "df": 60
    }  # fmt: skip


# Tables


def test_a_table_gives_group_split_and_subgroups_of_class_folders(folder):
    rows = ["picture,patient,part,age", "b/0.png,p1,test,30", "a/1.png,p2,,40", "a/0.png,p2,,40", "b/1.png,p1,test,"]
    (folder / "list.csv").write_text("\n".join(rows))
    columns = {"image_id": "picture", "group": "patient", "split": "part", "age": "age"}
    with pytest.raises(InputError, match="list.csv: 0 rows without a picture and 2 pictures without a row: .*2.png"):
        image_folder.read_with_table(folder, "list.csv", columns)
    source = image_folder.read_with_table(folder, "list.csv", columns, allow_missing=True)
    assert source.classes == ["a", "b"]
    assert source.records.to_numpy().tolist() == [
        ["b/0.png", 1, "p1", "test", "30"],
        ["a/1.png", 0, "p2", "", "40"],
        ["a/0.png", 0, "p2", "", "40"],
        ["b/1.png", 1, "p1", "test", ""],
    ]
    assert len(source.left_out) == 2


def test_a_table_gives_labels_and_their_order(folder):
    rows = ["image,kind", *(f"{name}/{number}.png,{'xyz'[number]}" for name in "ab" for number in range(3))]
    (folder / "list.csv").write_text("\ufeff" + "\r\n".join(rows))
    columns = {"image_id": "image", "label": "kind"}
    assert image_folder.read_with_table(folder, "list.csv", columns).classes == ["x", "y", "z"]
    source = image_folder.read_with_table(folder, "list.csv", columns, ["z", "y", "x"])
    assert source.records["label"].tolist() == [2, 1, 0, 2, 1, 0]
    with pytest.raises(InputError, match=r"list.csv: row 4: label 'z' is none of x, y \(and 1 rows more\)"):
        image_folder.read_with_table(folder, "list.csv", columns, ["x", "y"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a/0.png,p,train", "a/1.png,p,test", "b/0.png,q,"],
            r"row 2: group p is in more than one split \(rows 2, 3\)",
        ),
        (["a/0.png,p,training", "b/0.png,q,"], "row 2: split 'training' is none of train, val, test"),
        (["a/0.png,p,", "top.png,q,"], "row 3: top.png is in no class folder"),
        (["a/0.png,p,", "a/1.png,q,"], "all images are of class a"),
    ],
)
def test_wrong_tables_are_named_with_their_row(folder, rows, message):
    (folder / "list.csv").write_text("\n".join(["image,patient,part", *rows]))
    columns = {"image_id": "image", "group": "patient", "split": "part"}
    with pytest.raises(InputError, match=f"list.csv: {message}"):
        image_folder.read_with_table(folder, "list.csv", columns, allow_missing=True)


@shared
def test_patches_of_one_slide_stay_together():
    columns = {"image_id": "image", "label": "label", "group": "slide"}
    source = image_folder.read_with_table(SHARED / "ami-br", "patches.csv", columns, ["normal", "atypical"])
    assert source.records["label"].value_counts().tolist() == [2888, 832]
    split = splits.assign(source.records, source.classes, {"val": 0.15, "test": 0.2}, 0)
    found = source.records.assign(split=split)
    assert found["group"].nunique() == 202
    assert found.groupby("group")["split"].nunique().max() == 1


# torchvision's own classes


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """An archive as the published one is, of 26 images."""
    published_set, batches = datasets.CIFAR10, tmp_path / datasets.CIFAR10.base_folder
    batches.mkdir()
    rng = np.random.default_rng(0)
    for name, count in [*((f"data_batch_{number}", 4) for number in range(1, 6)), ("test_batch", 6)]:
        content = {"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8), "labels": [*range(count)]}
        (batches / name).write_bytes(pickle.dumps(content))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    with tarfile.open(tmp_path / published_set.filename, "w:gz") as archive:
        archive.add(batches, published_set.base_folder)
    digests = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in batches.iterdir()}
    whole = hashlib.md5((tmp_path / published_set.filename).read_bytes()).hexdigest()
    monkeypatch.setattr(published_set, "tgz_md5", whole)
    train = [[name, digests[name]] for name in sorted(digests) if name.startswith("data_batch")]
    monkeypatch.setattr(published_set, "train_list", train)
    monkeypatch.setattr(published_set, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(published_set, "meta", published_set.meta | {"md5": digests["batches.meta"]})
    shutil.rmtree(batches)
    return tmp_path


def test_cifar_is_unpacked_and_read(cifar):
    published.fetch("cifar10", cifar)
    source = published.read_cifar("cifar10", cifar)
    assert source.classes == list("abcdefghij")
    assert source.records["split"].value_counts().to_dict() == {"": 20, "test": 6}
    assert source.records["label"].tolist() == [*range(4)] * 5 + [*range(6)]
    first = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)[0]
    assert (np.asarray(source.image(0)) == first.reshape(3, 32, 32).transpose(1, 2, 0)).all()


def test_the_fine_classes_of_cifar100_are_read(tmp_path, monkeypatch):
    kind, folder = datasets.CIFAR100, tmp_path / datasets.CIFAR100.base_folder
    folder.mkdir()
    rng, digests = np.random.default_rng(0), {}
    contents = {"meta": {"fine_label_names": [f"fine{n}" for n in range(100)], "coarse_label_names": ["coarse"]}}
    for name, count in (("train", 7), ("test", 3)):
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        contents[name] = {"data": pixels, "fine_labels": [90 + n for n in range(count)], "coarse_labels": [0] * count}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        digests[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    monkeypatch.setattr(kind, "train_list", [["train", digests["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", digests["test"]]])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": digests["meta"]})
    source = published.read_cifar("cifar100", tmp_path)
    assert source.classes == [f"fine{n}" for n in range(100)]
    assert source.records["label"].tolist() == [90, 91, 92, 93, 94, 95, 96, 90, 91, 92]
    assert source.records["split"].tolist() == [""] * 7 + ["test"] * 3
    last = contents["test"]["data"][2].reshape(3, 32, 32).transpose(1, 2, 0)
    assert (np.asarray(source.image(9)) == last).all()


def test_cifar_that_is_packed_damaged_or_absent_is_refused_and_left_alone(cifar):
    for folder in (cifar, cifar / "elsewhere"):
        with pytest.raises(InputError, match="not CIFAR10 .*`python -m stages.fetch` gets it"):
            published.read_cifar("cifar10", folder)
    assert [path.name for path in cifar.iterdir()] == [datasets.CIFAR10.filename]
    published.fetch("cifar10", cifar)
    (cifar / datasets.CIFAR10.base_folder / "test_batch").write_bytes(b"")
    with pytest.raises(InputError, match="not CIFAR10"):
        published.read_cifar("cifar10", cifar)


class Trap:
    """What runs a function where it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


def test_what_a_pickle_of_cifar_names_is_never_run(cifar, monkeypatch):
    published.fetch("cifar10", cifar)
    batch, sprung = cifar / datasets.CIFAR10.base_folder / "test_batch", cifar / "sprung"
    batch.write_bytes(pickle.dumps({"data": Trap(sprung), "labels": []}))
    pickle.loads(batch.read_bytes())
    assert sprung.exists()
    sprung.unlink()
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", hashlib.md5(batch.read_bytes()).hexdigest()]])
    with pytest.raises(InputError, match="not CIFAR10 .names pathlib.Path.touch|not CIFAR10 .names builtins.getattr"):
        published.read_cifar("cifar10", cifar)
    assert not sprung.exists()


def test_imagenet_is_read_as_torchvision_unpacks_it(tmp_path):
    wnids = ["n01", "n02"]
    torch.save(({"n01": ("tench",), "n02": ("crane", "bird")}, ["n02", "n01"]), tmp_path / "meta.bin")
    for part, count in (("train", 3), ("val", 2)):
        for wnid in wnids:
            for number in range(count):
                path = tmp_path / part / wnid / f"{number}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("CMYK" if number else "L", (9, 5)).save(path)
    source = published.read_imagenet(tmp_path)
    assert source.classes == wnids
    assert source.records["split"].tolist() == [""] * 6 + ["test"] * 4
    assert source.records["label"].tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert (source.image(9).mode, source.image(9).size) == ("RGB", (9, 5))
    with pytest.raises(InputError, match="elsewhere/meta.bin: not there; `python -m stages.fetch` unpacks"):
        published.read_imagenet(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="elsewhere: .*devkit.*; put what https://image-net.org/.* there"):
        published.fetch("imagenet", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "train/n02")
    with pytest.raises(InputError, match="train/n02: not unpacked to the end"):
        published.read_imagenet(tmp_path)
