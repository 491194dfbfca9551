"""What `train.channels_last` is worth here: the channels of a pixel side by side in memory, or each channel by itself.

`make bench-formats` writes metrics/bench/formats.json. A forward pass, scoring by LRP and a training step of the same
batch in both formats by turns, for networks whole and without half of their MACs; `ratio` is the time of
channels_last divided by the other. STUDY_DEVICE (cpu, cuda) and STUDY_PRECISION (32-true, bf16-mixed) choose how.
"""

import copy
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from benchmarks.deployment import forward, pruned, training
from benchmarks.timing import machine, medians, precision, use_threads
from stages import command, device
from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import at_outputs, from_class, reduce
from stages.files import write_json
from stages.networks.architectures import build, scored_layers
from stages.training import taps

RUNS, CLASSES = 7, 10
CASES = [("resnet18", 32, 64), ("resnet18", 64, 32), ("vgg16_bn", 32, 32), ("mobilenet_v2", 64, 32)]


def work(network: nn.Module, images: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Return what a study does with a network."""
    labels = torch.arange(len(images), device=images.device) % CLASSES
    form = canonical(network.eval())
    layers = {name: form.get_submodule(name) for name in scored_layers(network)}

    def autocast() -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=precision() == "bf16-mixed")

    def passing() -> None:
        with autocast():
            forward(network, images)

    def scoring() -> None:
        with autocast():
            list(at_outputs(
                form, layers, [(images, labels)], from_class("true", "logit"),
                lambda _, z: lambda relevance: reduce(relevance, "abs-sample"), ByGraph(Rules.named("alpha-beta")),
            ))  # fmt: skip

    def step() -> None:
        with autocast(), taps.used_alone(network):
            training(network, images, labels)

    return {"forward pass": passing, "scoring by LRP": scoring, "training step": step}


def main() -> None:
    """Run the benchmark."""
    threads, where = use_threads(), device.chosen()
    rows = []
    for name, pixels, batch in CASES:
        torch.manual_seed(0)
        whole = build(name, "imagenet", CLASSES, pixels).eval()
        for part, network in (("whole", whole), ("half of the MACs", pruned(whole, pixels, 1))):
            both = []
            for form in (torch.channels_last, torch.contiguous_format):
                own = copy.deepcopy(network).to(where, memory_format=form)
                both.append(work(own, torch.rand(batch, 3, pixels, pixels, device=where).to(memory_format=form)))
            for what in both[0]:
                seconds = medians({"ours": both[0][what], "peer": both[1][what]}, RUNS)
                row = {"case": f"{what}: {name} at {pixels} px, {part}, batch of {batch}", "ours_s": seconds["ours"],
                       "peer": "contiguous", "peer_s": seconds["peer"], "ratio": seconds["ours"] / seconds["peer"],
                       "runs": RUNS, "precision": precision(), "threads": threads, "cores": os.cpu_count(),
                       "machine": machine(), "torch": version("torch")}  # fmt: skip
                rows.append(row)
                print(f"{row['case']}: {row['ratio']:.2f} of the time", flush=True)
    write_json(Path("metrics/bench/formats.json"), rows)


if __name__ == "__main__":
    command.run(main)
