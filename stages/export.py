"""A network of the study for deployment: ONNX, checked against PyTorch on the test split, and timed.

::

    python -m stages.export --checkpoint models/pruned/lrp/seed0/step4.safetensors --onnx lrp.onnx

The graph takes images in [0, 1] (N x 3 x H x W, any N; the normalisation is part of it) and returns logits. Beside it,
`lrp.onnx.json` says how far it is from PyTorch and how fast both are, against an unpruned network of the same kind.
"""

import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from stages import command
from stages.datasets import store
from stages.datasets.store import Prepared
from stages.errors import InputError, naming
from stages.files import replacing, write_json
from stages.networks import checkpoint, timing
from stages.networks.checkpoint import Architecture
from stages.networks.size import measure
from stages.params import load

TOLERANCE = 1e-3  # of logits; float32 sums in another order differ by less


class Deployed(nn.Module):
    """A network that takes images as they are in a file, divided by 255."""

    def __init__(self, network: nn.Module, architecture: Architecture):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, N x classes, of images in [0, 1]."""
        return self.network((images - self.mean) / self.std)


def main() -> None:
    """Run the command."""
    parser = command.parser("stages.export", __doc__, checkpoint="network of the study", onnx="file to write")
    parser.add_argument("--data", type=Path, default=Path("data/prepared"), help="prepared data (default: the study's)")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate
    network, architecture = checkpoint.load(arguments.checkpoint)
    data = store.load(arguments.data)
    if architecture.classes != data.classes or architecture.image_size != data.description["image_size"]:
        raise InputError(f"{arguments.checkpoint}: its classes or image size are not those of {arguments.data}")
    torch.set_num_threads(params.latency.threads)
    deployed = Deployed(network.to(memory_format=torch.contiguous_format), architecture).eval()
    unpruned = Deployed(architecture.unpruned().rebuilt(), architecture).eval()
    with naming(arguments.onnx), replacing(arguments.onnx) as temporary:
        write(deployed, architecture.image_size, temporary)
        found = agreement(deployed, temporary, data, params.batch_size)
        if not found["max_abs_difference"] <= TOLERANCE:
            raise InputError(
                f"{arguments.onnx}: its logits differ from PyTorch's by up to {found['max_abs_difference']:.2g}, more "
                f"than {TOLERANCE:g}; not written"
            )
        with TemporaryDirectory() as folder:
            other = Path(folder) / "unpruned.onnx"
            write(unpruned, architecture.image_size, other)
            times = speeds(deployed, unpruned, temporary, other, architecture.image_size, params.latency)
    sizes = [measure(each.network, architecture.image_size) for each in (deployed, unpruned)]
    found |= {"macs": sizes[0].macs, "macs_ratio": sizes[1].macs / sizes[0].macs, "threads": params.latency.threads}
    write_json(arguments.onnx.with_name(f"{arguments.onnx.name}.json"), found | {"times": times})
    print(
        f"{arguments.onnx}: {found['identical']} of {found['images']} test images are classed as by PyTorch, logits "
        f"differ by at most {found['max_abs_difference']:.1e}; {found['macs_ratio']:.2f} times fewer MACs than unpruned"
    )
    for row in times:
        print(
            f"  {row['engine']}, batch of {row['batch']}: {row['milliseconds']:.2f} ms, "
            f"{row['images_per_second']:.0f} images/s; "
            f"{row['speed_up']:.2f} times as fast as unpruned ({row['unpruned_milliseconds']:.2f} ms)"
        )


def write(network: nn.Module, image_size: int, path: Path) -> None:
    """Write a network as ONNX with a batch of any size; nothing is kept beside the file."""
    for talkative in ("torch.onnx", "torch.utils.cpp_extension", "onnxscript", "onnx_ir"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    example = torch.zeros(2, 3, image_size, image_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network, (example,), dynamo=True, verbose=False, input_names=["images"], output_names=["logits"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1, max=2**20)}},
        )  # fmt: skip
        program.save(str(path), external_data=False)


def session(path: Path, threads: int):
    """Return onnxruntime's session of a file, on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@torch.no_grad()
def agreement(network: nn.Module, path: Path, data: Prepared, batch_size: int) -> dict[str, float]:
    """Return images, identical (predicted classes) and max_abs_difference (of logits) over the test split."""
    other = session(path, torch.get_num_threads())
    images = identical = 0
    largest = 0.0
    for batch, _ in data.batches(data.rows("test"), batch_size):
        ours = network(batch).numpy()
        theirs = other.run(None, {"images": batch.numpy()})[0]
        images += len(batch)
        identical += int((ours.argmax(1) == theirs.argmax(1)).sum())
        difference = float(np.abs(ours - theirs).max())
        largest = difference if np.isnan(difference) else max(largest, difference)
    return {"images": images, "identical": identical, "max_abs_difference": largest}


def speeds(
    network: nn.Module, unpruned: nn.Module, path: Path, unpruned_path: Path, image_size: int, settings
) -> list[dict]:
    """Return, by engine and batch size, milliseconds and images_per_second, also those of the unpruned network.

    In speed_up, how much faster a network is, it and the unpruned one took turns.
    """
    sessions = [session(each, settings.threads) for each in (path, unpruned_path)]
    engines = {
        "PyTorch": [network, unpruned],
        "onnxruntime": [lambda images, each=each: each.run(None, {"images": images.numpy()}) for each in sessions],
    }
    rows = []
    for engine, (ours, whole) in engines.items():
        for batch in settings.batch_sizes:
            images = torch.zeros(batch, 3, image_size, image_size)
            share = timing.relative(ours, whole, images, settings.threads, settings.seconds)
            alone, of_whole = (
                timing.measure(each, images, settings.threads, settings.seconds)[0] for each in (ours, whole)
            )
            rows.append(
                {"engine": engine, "batch": batch, "milliseconds": alone, "unpruned_milliseconds": of_whole}
                | {"images_per_second": 1e3 * batch / alone, "unpruned_images_per_second": 1e3 * batch / of_whole}
                | {"speed_up": 1 / share}
            )
    return rows


if __name__ == "__main__":
    command.run(main)
