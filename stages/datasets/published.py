"""Published sets that torchvision reads: CIFAR-10, CIFAR-100 (Krizhevsky, 2009) and ImageNet (ILSVRC 2012)."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.datasets import pictures
from stages.datasets.source import Source
from stages.errors import InputError

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}
IMAGENET = "https://image-net.org/download.php"


def fetch(name: str, folder: Path) -> None:
    """Download and unpack CIFAR into a folder, or unpack the archives of ImageNet that are there.

    Raises
    ------
    InputError
        An archive is not there and cannot be downloaded, or is not the published one.
    """
    from torchvision import datasets

    try:
        if name == "imagenet":
            for split in ("train", "val"):
                datasets.ImageNet(folder, split)
        else:
            getattr(datasets, CIFAR[name])(folder, download=True)
    except (RuntimeError, OSError, EOFError) as error:
        url = IMAGENET if name == "imagenet" else getattr(datasets, CIFAR[name]).url
        raise InputError(f"{folder}: {error}; put what {url} has there by hand") from None


def read_cifar(name: str, folder: Path) -> Source:
    """Read CIFAR-10 or CIFAR-100, 32 x 32 pixels; the published test images are the test split.

    Parameters
    ----------
    name : {"cifar10", "cifar100"}
    folder : Path
        Holds the unpacked archive; torchvision checks it.

    Raises
    ------
    InputError
        The folder does not hold the set.
    """
    from torchvision import datasets

    kind = getattr(datasets, CIFAR[name])
    try:
        parts = {"train": kind(folder, train=True), "test": kind(folder, train=False)}
    except (RuntimeError, OSError, EOFError) as error:
        raise InputError(f"{folder}: not {CIFAR[name]} ({error}); `python -m stages.fetch` gets it") from None
    pixels = np.concatenate([part.data for part in parts.values()])
    image_id = [f"{split}-{row:05d}" for split, part in parts.items() for row in range(len(part.data))]
    records = pd.DataFrame({"image_id": image_id, "label": np.concatenate([part.targets for part in parts.values()])})
    records["group"] = records["image_id"]
    records["split"] = np.where(records["image_id"].str.startswith("test"), "test", "")
    return Source(list(parts["train"].classes), records, lambda row: Image.fromarray(pixels[row]))


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
