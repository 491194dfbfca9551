"""Networks for deployment: as ONNX, checked against PyTorch, and timed in both engines beside the unpruned network."""

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from stages.networks import timing
from stages.networks.checkpoint import Architecture
from stages.networks.size import measure
from stages.params.measuring import Latency


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


def write_and_compare(
    network: nn.Module,
    architecture: Architecture,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    settings: Latency,
    path: Path,
) -> dict:
    """Write a network as ONNX; return how far it is from PyTorch, and how fast both are beside the unpruned network.

    Parameters
    ----------
    batches : iterable of (images, labels)
        On which logits are compared: N x 3 x H x W, in [0, 1].

    Returns
    -------
    dict
        What `agreement` returns; macs, macs_ratio (of the unpruned network to this one) and threads; and `times`, those
        of `speeds`.
    """
    torch.set_num_threads(settings.threads)
    deployed = Deployed(network.to(memory_format=torch.contiguous_format), architecture).eval()
    unpruned = Deployed(architecture.unpruned().rebuilt(), architecture).eval()
    macs, whole = (measure(each.network, architecture.image_size).macs for each in (deployed, unpruned))
    write(deployed, architecture.image_size, path)
    found = agreement(deployed, path, batches) | {"macs": macs, "macs_ratio": whole / macs, "threads": settings.threads}
    with TemporaryDirectory() as folder:
        other = Path(folder) / "unpruned.onnx"
        write(unpruned, architecture.image_size, other)
        return found | {"times": speeds(deployed, unpruned, path, other, architecture.image_size, settings)}


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
def agreement(network: nn.Module, path: Path, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
    """Return images, identical (predicted classes) and max_abs_difference (of logits) over batches of images."""
    other = session(path, torch.get_num_threads())
    images = identical = 0
    largest = 0.0
    for batch, _ in batches:
        ours = network(batch).numpy()
        theirs = other.run(None, {"images": batch.numpy()})[0]
        images += len(batch)
        identical += int((ours.argmax(1) == theirs.argmax(1)).sum())
        difference = float(np.abs(ours - theirs).max())
        largest = difference if np.isnan(difference) else max(largest, difference)
    return {"images": images, "identical": identical, "max_abs_difference": largest}


def speeds(
    network: nn.Module, unpruned: nn.Module, path: Path, unpruned_path: Path, image_size: int, settings: Latency
) -> list[dict]:
    """Return, by engine and batch size, milliseconds, images_per_second, those of the unpruned network, and speed_up.

    The two networks take turns; each time is the median of the rounds, so that other load on the machine cancels.
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
            rounds = timing.by_turns(ours, whole, images, settings.threads, settings.seconds)
            pruned, unpruned_time = map(median, zip(*rounds, strict=True))
            rows.append(
                {"engine": engine, "batch": batch, "milliseconds": pruned, "unpruned_milliseconds": unpruned_time}
                | {"images_per_second": 1e3 * batch / pruned, "unpruned_images_per_second": 1e3 * batch / unpruned_time}
                | {"speed_up": unpruned_time / pruned}
            )
    return rows
