"""Build fashion-mnist.npz from the files of Debian's package dataset-fashion-mnist.

    python data/embedded/build_fashion_mnist.py /usr/share/datasets/fashion-mnist

Draws 600 images a class from the published training set and 200 a class from the
published test set, with a fixed seed, and keeps where each one came from.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]
PER_CLASS = {"train": 600, "t10k": 200}


def read_idx(path: Path, header: int) -> np.ndarray:
    """Return the bytes of a gzipped IDX file after its header."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=header)


def main(folder: Path) -> None:
    """Write fashion-mnist.npz beside this script."""
    rng = np.random.default_rng(0)
    images, labels, sources, rows = [], [], [], []
    for source, count in PER_CLASS.items():
        pixels = read_idx(folder / f"{source}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
        classes = read_idx(folder / f"{source}-labels-idx1-ubyte.gz", 8)
        drawn = [rng.choice(np.flatnonzero(classes == label), count, replace=False) for label in range(10)]
        chosen = np.sort(np.concatenate(drawn))
        images.append(pixels[chosen])
        labels.append(classes[chosen])
        sources += [source] * len(chosen)
        rows.append(chosen)
    np.savez_compressed(
        Path(__file__).with_name("fashion-mnist.npz"),
        images=np.concatenate(images),
        labels=np.concatenate(labels),
        source=np.array(sources),
        row=np.concatenate(rows),
        classes=np.array(CLASSES),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
