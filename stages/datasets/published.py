"""Published sets that torchvision knows: CIFAR-10, CIFAR-100 (Krizhevsky, 2009) and ImageNet (ILSVRC 2012)."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.datasets import pictures
from stages.datasets.source import Source
from stages.errors import InputError

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
IMAGENET = "https://image-net.org/download.php"
OF_ARRAYS = {  # what a pickle of NumPy arrays names
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


def fetch(name: str, folder: Path) -> None:
    """Download and unpack CIFAR into a folder, or unpack the archives of ImageNet that are there.

    Raises
    ------
    InputError
        An archive is not there and cannot be downloaded, or is not the published one.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    try:
        if name == "imagenet":
            for split in ("train", "val"):
                datasets.ImageNet(folder, split)
        else:
            kind = getattr(datasets, CIFAR[name])
            if not all(check_integrity(path, digest) for path, digest in _files(kind, folder)):
                download_and_extract_archive(kind.url, str(folder), filename=kind.filename, md5=kind.tgz_md5)
    except (RuntimeError, OSError, EOFError) as error:
        url = IMAGENET if name == "imagenet" else getattr(datasets, CIFAR[name]).url
        raise InputError(f"{folder}: {error}; put what {url} has there by hand") from None


def read_cifar(name: str, folder: Path) -> Source:
    """Read CIFAR-10 or CIFAR-100, 32 x 32 pixels; the published test images are the test split.

    Parameters
    ----------
    name : {"cifar10", "cifar100"}
    folder : Path
        Holds the unpacked archive, whose files have the digests that torchvision knows.

    Raises
    ------
    InputError
        The folder does not hold the set.
    """
    from torchvision import datasets

    kind = getattr(datasets, CIFAR[name])
    try:
        contents = {path.name: _read(path, digest) for path, digest in _files(kind, folder)}
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{folder}: not {CIFAR[name]} ({error}); `python -m stages.fetch` gets it") from None
    parts = {"train": kind.train_list, "test": kind.test_list}
    batches = {split: [contents[file] for file, _ in files] for split, files in parts.items()}
    pixels = np.concatenate([batch["data"] for split in batches for batch in batches[split]])
    pixels = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = {split: [label for batch in batches[split] for label in _labels(batch)] for split in batches}
    image_id = [f"{split}-{row:05d}" for split in batches for row in range(len(labels[split]))]
    records = pd.DataFrame({"image_id": image_id, "label": labels["train"] + labels["test"]})
    records["group"] = records["image_id"]
    records["split"] = np.where(records["image_id"].str.startswith("test"), "test", "")
    classes = contents[kind.meta["filename"]][kind.meta["key"]]
    return Source(list(classes), records, lambda row: Image.fromarray(pixels[row]))


class Arrays(pickle.Unpickler):
    """Reads numbers, texts, lists and NumPy arrays, all that CIFAR's files hold; runs nothing that a pickle names."""

    def find_class(self, module: str, name: str):
        """Return what is needed for an array; refuse the rest."""
        if (module, name) not in OF_ARRAYS:
            raise pickle.UnpicklingError(f"names {module}.{name}")
        return super().find_class(module, name)


def _files(kind: type, folder: Path) -> list[tuple[Path, str]]:
    """Return the files of a set that torchvision knows, and their MD5 digests."""
    meta = (kind.meta["filename"], kind.meta["md5"])
    return [(Path(folder) / kind.base_folder / file, md5) for file, md5 in [*kind.train_list, *kind.test_list, meta]]


def _read(path: Path, digest: str) -> dict:
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(path, digest):
        raise OSError(f"{path.name}: {'not the published one' if path.exists() else 'not there'}")
    with path.open("rb") as file:
        return Arrays(file, encoding="latin1").load()


def _labels(batch: dict) -> list[int]:
    return batch["labels"] if "labels" in batch else batch["fine_labels"]


def read_imagenet(folder: Path) -> Source:
    """Read ImageNet's 1.3 million images; the published validation images are the test split.

    Parameters
    ----------
    folder : Path
        Holds what torchvision makes of the archives of ILSVRC 2012: `meta.bin`, `train/<wnid>/*.JPEG`,
        `val/<wnid>/*.JPEG`.

    Raises
    ------
    InputError
        The folder does not hold the set, or a class has no folder in both parts.

    Notes
    -----
    Classes are WordNet ids (`n01440764`): the published names are not unique.
    """
    from torchvision.datasets import ImageNet
    from torchvision.datasets.imagenet import load_meta_file

    folder = Path(folder)
    missing = [name for name in ("meta.bin", "train", "val") if not (folder / name).exists()]
    if missing:  # torchvision would unpack here, and so change what DVC watches
        raise InputError(f"{folder / missing[0]}: not there; `python -m stages.fetch` unpacks ImageNet's archives")
    try:
        wnids = sorted(load_meta_file(folder)[0])
        parts = {"": ImageNet(folder, "train"), "test": ImageNet(folder, "val")}
    except (RuntimeError, OSError, EOFError) as error:
        raise InputError(f"{folder}: not ImageNet: {error}; see docs/data.md") from None
    for split, part in parts.items():
        odd = sorted(set(wnids) ^ set(part.wnids))
        if odd:
            name = "val" if split else "train"
            raise InputError(f"{folder / name / odd[0]}: not unpacked to the end; delete {folder / name}, fetch again")
    files = [(Path(path), label, split) for split, part in parts.items() for path, label in part.samples]
    records = pd.DataFrame(
        {
            "image_id": [path.relative_to(folder).as_posix() for path, _, _ in files],
            "label": [label for _, label, _ in files],
        }
    )
    records["group"] = records["image_id"]
    records["split"] = [split for _, _, split in files]
    return Source(wnids, records, lambda row: pictures.decode(files[row][0]))
