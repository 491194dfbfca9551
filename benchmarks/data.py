"""What data cost: preparing them against a bare decode-and-resize loop, and loading them against a training step.

By hand: `make bench-data`. Runs are interleaved in one process, the median of RUNS after one that does not count. The
pictures are those of HAM10000 in ../shared/data if they are there, else JPEGs of noise of the published set's size.
Writes metrics/bench/data.json.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torchvision import models
from torchvision.transforms import v2

from benchmarks.timing import machine, medians, use_threads
from stages import command, device
from stages.datasets import pictures, store
from stages.datasets.source import Source
from stages.files import write_json
from stages.params.training import Augment
from stages.training.augment import augment

RUNS = 5
COUNT = 1000  # pictures
PIXELS = 64
BATCH = 64
SHARED = Path("../shared/data/ham10000/HAM10000_images_part1")
EVERY = {
    "flip": True, "flip_vertical": True, "shift": 0, "rotate": 20.0, "crop": 0.7,
    "colour": {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.05},
}  # fmt: skip


def files(folder: Path) -> list[Path]:
    """Return COUNT JPEG files."""
    if SHARED.is_dir():
        return sorted(SHARED.glob("*.jpg"))[:COUNT]
    rng = np.random.default_rng(0)
    made = []
    for number in range(COUNT):
        small = Image.fromarray(rng.integers(0, 256, (45, 60, 3), dtype=np.uint8))
        made.append(folder / f"{number}.jpg")
        small.resize((600, 450), Image.Resampling.BICUBIC).save(made[-1], quality=95)
    return made


def preparing(folder: Path, threads: int) -> dict[str, Callable[[], object]]:
    """Return our preparation, and a bare loop over the same files on as many threads."""
    paths = files(folder)
    names = [path.stem for path in paths]
    records = pd.DataFrame({"image_id": names, "label": np.arange(len(names)) % 2, "group": names, "split": "train"})
    source = Source(["a", "b"], records, lambda row: pictures.decode(paths[row]))

    def bare_one(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").resize((PIXELS, PIXELS), Image.Resampling.BILINEAR))

    def bare() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(bare_one, paths):
                pass

    def ours() -> None:
        store.write(folder / "prepared", "x", source, range(len(paths)), PIXELS, threads=threads)

    return {"ours": ours, "bare decode and resize": bare}


def loading(folder: Path) -> dict[str, Callable[[], object]]:
    """Return our loading and augmenting of a batch, the same image by image with torchvision, and a training step."""
    where = device.chosen()
    data, settings = store.load(folder / "prepared"), Augment.model_validate(EVERY)
    rng = np.random.default_rng(0)
    network = models.resnet18(num_classes=7).to(where)
    optimiser = torch.optim.SGD(network.parameters(), 1e-4, momentum=0.9)
    batch = augment(data.batch(rng.permutation(COUNT)[:BATCH])[0].to(where), settings)
    labels = torch.arange(BATCH, device=where) % 7
    transforms = v2.Compose(
        [
            v2.RandomResizedCrop(PIXELS, (0.7, 1), antialias=True), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(),
            v2.RandomRotation(20, v2.InterpolationMode.BILINEAR), v2.ColorJitter(0.1, 0.1, 0.1, 0.05),
        ]
    )  # fmt: skip

    def ours() -> None:
        augment(data.batch(rng.permutation(COUNT)[:BATCH])[0].to(where), settings)

    def image_by_image() -> None:
        images = data.batch(rng.permutation(COUNT)[:BATCH])[0].to(where)
        torch.stack([transforms(image) for image in images])

    def step() -> None:
        loss = cross_entropy(network(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return {"ours": ours, f"ResNet18 training step at {PIXELS} px": step, "torchvision image by image": image_by_image}


def main() -> None:
    """Run the benchmark."""
    threads = use_threads()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pixels = "224 x 224" if SHARED.is_dir() else "600 x 450"
        cases = {
            f"preparing {COUNT} JPEGs of {pixels} at {PIXELS} px": lambda: preparing(folder, threads),
            f"loading and augmenting a batch of {BATCH} at {PIXELS} px": lambda: loading(folder),
        }
        for case, make in cases.items():
            median = medians(make(), RUNS)
            for peer in list(median)[1:]:
                row = {"case": case, "ours_s": median["ours"], "peer": peer, "peer_s": median[peer]}
                row |= {"ratio": median["ours"] / median[peer], "runs": RUNS, "threads": threads, "machine": machine()}
                rows.append(row | {"torch": version("torch"), "pillow": version("pillow")})
                print(f"{case}: {row['ratio']:.2f} of {peer} ({row['ours_s']:.3f} s against {row['peer_s']:.3f} s)")
    write_json(Path("metrics/bench/data.json"), rows)


if __name__ == "__main__":
    command.run(main)
