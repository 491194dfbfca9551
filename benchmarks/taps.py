"""What weights cost that meet nothing but padding: a training step with them and without, see `stages.training.taps`.

`make bench-taps` writes metrics/bench/taps.json: both by turns on the same network and batch; `ratio` is the time
without them divided by that with them.
"""

import os
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.deployment import training
from benchmarks.timing import machine, medians, use_threads
from stages import command, device
from stages.files import write_json
from stages.networks.architectures import build
from stages.training import taps

RUNS, CLASSES = 7, 10
CASES = [("resnet18", 32, 64), ("resnet50", 32, 32), ("resnet18", 64, 32), ("vgg16_bn", 32, 32)]


def main() -> None:
    """Run the benchmark."""
    threads, where = use_threads(), device.chosen()
    rows = []
    for name, pixels, batch in CASES:
        torch.manual_seed(0)
        network = build(name, "imagenet", CLASSES, pixels).to(where)
        images = torch.rand(batch, 3, pixels, pixels, device=where)
        labels = torch.arange(batch, device=where) % CLASSES

        def step(network=network, images=images, labels=labels) -> None:
            training(network, images, labels)

        def without(network=network, step=step) -> None:
            with taps.used_alone(network):
                step()

        seconds = medians({"ours": without, "peer": step}, RUNS)
        row = {"case": f"training step: {name} at {pixels} px, batch of {batch}", "ours_s": seconds["ours"],
               "peer": "all weights", "peer_s": seconds["peer"], "ratio": seconds["ours"] / seconds["peer"],
               "runs": RUNS, "threads": threads, "cores": os.cpu_count(), "machine": machine(),
               "torch": version("torch")}  # fmt: skip
        rows.append(row)
        print(f"{row['case']}: {row['ratio']:.2f} of the time", flush=True)
    write_json(Path("metrics/bench/taps.json"), rows)


if __name__ == "__main__":
    command.run(main)
