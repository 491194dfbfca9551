"""Is the speed-up of a pruned network what its MACs promise? ResNet18 at 64 pixels with half of its MACs.

`make bench-deployment` writes metrics/bench/deployment.json. A forward pass in PyTorch and onnxruntime and a training
step, each by turns with the unpruned network; `ratio` is pruned / unpruned time, `promise` the MACs that are left.
"""

import copy
import os
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn.functional import cross_entropy

from benchmarks.timing import machine, medians, use_threads
from stages import as_onnx, command
from stages.files import write_json
from stages.networks.architectures import build, filters, scored_layers
from stages.networks.checkpoint import Architecture
from stages.networks.size import measure
from stages.pruning import selection, surgery

PIXELS, RUNS, CLASSES = 64, 15, 7


def pruned(network: torch.nn.Module, pixels: int, round_to: int) -> torch.nn.Module:
    """Return a copy without half of its MACs, by filter norms, each layer left with a multiple of `round_to`."""
    small = copy.deepcopy(network)
    scores = {name: layer.weight.flatten(1).norm(dim=1) for name, layer in scored_layers(small).items()}
    scores = {name: values / values.norm() for name, values in scores.items()}
    groups = surgery.prunable_groups(small, pixels, ["*"], [])
    candidates = selection.rank(groups, scores, "mean", 8)
    chosen = selection.select(small, pixels, candidates, "macs", measure(small, pixels), 0.5, round_to)
    surgery.remove(small, pixels, selection.by_group(chosen))
    return small


def main() -> None:
    """Run the benchmark."""
    threads = use_threads()
    torch.manual_seed(0)
    whole = build("resnet18", "imagenet", CLASSES, PIXELS).eval()
    architecture = Architecture("resnet18", "imagenet", ["a"] * CLASSES, PIXELS, [0.5] * 3, [0.2] * 3, False)
    rows = []
    for round_to in (1, 8, 32):
        small = pruned(whole, PIXELS, round_to)
        left = measure(small, PIXELS).macs / measure(whole, PIXELS).macs
        widths = sorted({filters(layer) for layer in scored_layers(small).values()})
        print(f"round_to {round_to}: {left:.1%} of the MACs left; widths {widths}")
        with TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("small.onnx", "whole.onnx")]
            for network, file in zip((small, whole), files, strict=True):
                as_onnx.write(as_onnx.Deployed(network, architecture).eval(), PIXELS, file)
            sessions = [as_onnx.session(file, threads) for file in files]
            for batch in (1, 32):
                images = torch.rand(batch, 3, PIXELS, PIXELS)
                cases = {"onnxruntime": [lambda each=each, images=images: each.run(None, {"images": images.numpy()})
                                         for each in sessions],
                         "PyTorch": [lambda each=each, images=images: forward(each, images)
                                     for each in (small, whole)]}  # fmt: skip
                if batch > 1:
                    labels = torch.arange(batch) % CLASSES
                    cases["training step"] = [
                        lambda each=each, images=images, labels=labels: training(each, images, labels)
                        for each in (small, whole)
                    ]
                for engine, (ours, peer) in cases.items():
                    seconds = medians({"ours": ours, "peer": peer}, RUNS)
                    row = {"case": f"{engine}, batch of {batch}, round_to {round_to}", "ours_s": seconds["ours"],
                           "peer": "unpruned", "peer_s": seconds["peer"], "runs": RUNS, "promise": left,
                           "ratio": seconds["ours"] / seconds["peer"]}  # fmt: skip
                    rows.append(row | {"speed_up_of_promise": left / row["ratio"]})
                    print(f"  {engine}, batch of {batch}: {row['ratio']:.2f} of the time, "
                          f"{left / row['ratio']:.2f} of the speed-up that MACs promise")  # fmt: skip
    where = {"machine": machine(), "cores": os.cpu_count(), "threads": threads}
    versions = {name: version(name) for name in ("torch", "onnxruntime")}
    write_json(Path("metrics/bench/deployment.json"), {"rows": rows, **where, "versions": versions})


@torch.no_grad()
def forward(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return logits."""
    return network.eval()(images)


def training(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Do a forward and a backward pass."""
    network.train()
    network.zero_grad()
    cross_entropy(network(images), labels).backward()


if __name__ == "__main__":
    command.run(main)
