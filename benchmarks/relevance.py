"""What relevance costs: our composites against a training step of the same batch, and against zennit's.

By hand: `make bench-relevance`. Runs are interleaved in one process, the median of RUNS after one that does not count;
peak memory is that of a process of its own for each. Writes metrics/bench/relevance.json. STUDY_DEVICE (cpu, cuda) and
STUDY_PRECISION (32-true, bf16-mixed) choose how.
"""

import copy
import multiprocessing
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from torch.nn.functional import cross_entropy
from torchvision import models
from zennit.attribution import Gradient
from zennit.composites import LAYER_MAP_BASE, EpsilonPlus, LayerMapComposite
from zennit.rules import AlphaBeta
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Linear

from benchmarks.timing import machine, medians, precision, use_threads
from stages import command, device
from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import at_outputs, from_class, reduce
from stages.files import write_json
from stages.networks.architectures import scored_layers

RUNS = 7
THEIRS = {
    "epsilon-plus": EpsilonPlus,
    "alpha-beta": lambda: LayerMapComposite([*LAYER_MAP_BASE, (Linear, AlphaBeta(2, 1))]),
}
NETWORKS = [("resnet18", 64, 32), ("vgg16_bn", 64, 16), ("resnet18", 224, 8), ("vgg16_bn", 224, 4)]
CASES = [(composite, *network) for composite in THEIRS for network in NETWORKS]


def prepare(composite: str, name: str, pixels: int, batch: int) -> dict[str, Callable[[], object]]:
    """Return what is compared, each on the same network and batch."""
    where = device.chosen()
    torch.manual_seed(0)
    network = getattr(models, name)(num_classes=10).to(where)
    images = torch.randn(batch, 3, pixels, pixels, device=where)
    labels = torch.arange(batch, device=where) % 10
    layers = scored_layers(network)
    form = canonical(network)
    of_form = {layer: form.get_submodule(layer) for layer in layers}
    theirs = copy.deepcopy(network).eval()  # canonised once, as ours is
    (VGGCanonizer() if name.startswith("vgg") else ResNetCanonizer()).apply(theirs)

    def autocast() -> torch.autocast:
        return torch.autocast(where.type, torch.bfloat16, enabled=precision() == "bf16-mixed")

    def training() -> None:
        network.train()
        with autocast():
            loss = cross_entropy(network(images), labels)
        loss.backward()
        network.zero_grad()

    def zennit() -> dict[str, torch.Tensor]:
        start = torch.eye(10, device=where)[labels]
        outputs: dict[str, torch.Tensor] = {}

        def record(layer: str) -> Callable:
            def hook(module, inputs, output) -> None:
                output.retain_grad()
                outputs[layer] = output

            return hook

        handles = [module.register_forward_hook(record(layer)) for layer, module in scored_layers(theirs).items()]
        with Gradient(theirs, THEIRS[composite]()) as attributor, autocast():
            attributor(images, lambda logits: start.to(logits))
        for handle in handles:
            handle.remove()
        return {layer: reduce(output.grad, "abs-sample") for layer, output in outputs.items()}

    def ours() -> dict[str, torch.Tensor]:
        with autocast():
            (scores,) = at_outputs(
                form, of_form, [(images, labels)], from_class("true", "one"),
                lambda _, z: lambda relevance: reduce(relevance, "abs-sample"), ByGraph(Rules.named(composite)),
            )  # fmt: skip
        return scores

    return {"ours": ours, "training step": training, "zennit": zennit}


def peak(case: tuple[str, str, int, int], which: str) -> int:
    """Return the bytes that one run needs at most, beyond those of the network and the batch."""
    run = prepare(*case)[which]
    if device.chosen().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    before = psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # the kernel's high-water mark starts again from here
    run()
    high = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(high.split()[1]) * 1024 - before


def main() -> None:
    """Run the benchmark."""
    threads = use_threads()
    rows = []
    for case in CASES:
        runs = prepare(*case)
        median = medians(runs, RUNS)
        context = multiprocessing.get_context("spawn")
        memory = {}
        for name in runs:
            with context.Pool(1) as pool:
                memory[name] = pool.apply(peak, (case, name))
        for peer in ("training step", "zennit"):
            text = "{}: {} at {} px, batch of {}".format(*case)
            row = {"case": text, "ours_s": median["ours"], "peer": peer, "peer_s": median[peer]}
            row |= {"ratio": median["ours"] / median[peer], "ours_bytes": memory["ours"], "peer_bytes": memory[peer]}
            row |= {"runs": RUNS, "precision": precision(), "threads": threads, "machine": machine()}
            rows.append(row | {"torch": version("torch"), "zennit": version("zennit")})
            print(
                f"{text}: {row['ratio']:.2f} of the time and {memory['ours'] / memory[peer]:.2f} of the memory of "
                f"{'a ' if peer != 'zennit' else ''}{peer} ({median['ours']:.3f} s against {median[peer]:.3f} s)",
                flush=True,
            )
    write_json(Path("metrics/bench/relevance.json"), rows)


if __name__ == "__main__":
    command.run(main)
