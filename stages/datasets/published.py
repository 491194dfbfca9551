"""Published sets that torchvision reads: CIFAR-10, CIFAR-100 (Krizhevsky, 2009) and ImageNet (ILSVRC 2012)."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.datasets import pictures
from stages.datasets.source import Source
from stages.errors import InputError

CIFAR = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def read_cifar(name: str, folder: Path, download: bool = False) -> Source:
    """Read CIFAR-10 or CIFAR-100, 32 x 32 pixels; the published test images are the test split.

    Parameters
    ----------
    name : {"cifar10", "cifar100"}
    folder : Path
        Holds the archive, or what is in it; torchvision checks it.
    download : bool
        Whether to download the archive into the folder if it is not there.

    Raises
    ------
    InputError
        The folder does not hold the set, or it cannot be downloaded.
    """
    from torchvision import datasets

    kind = getattr(datasets, CIFAR[name])
    unpack = download or (Path(folder) / kind.filename).is_file()  # an archive that is there is not downloaded
    try:
        parts = {"train": kind(folder, train=True, download=unpack), "test": kind(folder, train=False)}
    except (RuntimeError, OSError, EOFError) as error:
        hint = f"put {kind.url} there by hand" if download else "`python -m stages.fetch` downloads it"
        raise InputError(f"{folder}: not {CIFAR[name]} ({error}); {hint}") from None
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
        Holds the three archives of ILSVRC 2012, which torchvision unpacks, or what it made of them: `meta.bin`,
        `train/<wnid>/*.JPEG`, `val/<wnid>/*.JPEG`.

    Notes
    -----
    Classes are WordNet ids (`n01440764`): the published names are not unique.
    """
    from torchvision.datasets import ImageNet

    try:
        parts = {"": ImageNet(folder, "train"), "test": ImageNet(folder, "val")}
    except (RuntimeError, OSError, EOFError) as error:
        raise InputError(f"{folder}: not ImageNet: {error}; see docs/data.md") from None
    files = [(Path(path), label, split) for split, part in parts.items() for path, label in part.samples]
    records = pd.DataFrame(
        {
            "image_id": [path.relative_to(folder).as_posix() for path, _, _ in files],
            "label": [label for _, label, _ in files],
        }
    )
    records["group"] = records["image_id"]
    records["split"] = [split for _, _, split in files]
    return Source(list(parts[""].wnids), records, lambda row: pictures.decode(files[row][0]))
