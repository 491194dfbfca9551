"""What prototypes cost: a forward pass of a ProtoPNet against its backbone alone, the layers below its patches.

By hand: `make bench-prototypes`. Runs are interleaved in one process, the median of RUNS after one that does not count.
Writes metrics/bench/prototypes.json. STUDY_DEVICE (cpu, cuda) chooses where.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import machine, medians, use_threads
from stages import command, device
from stages.files import write_json
from stages.networks import architectures
from stages.networks.protopnet import ProtoPNet, Prototypes

RUNS = 15
CLASSES, PER_CLASS, DIMENSION, PIXELS = 7, 10, 64, 64
NETWORKS = {"resnet18": "layer3", "resnet50": "layer3", "vgg11_bn": None, "vgg16_bn": None}
BATCHES = [1, 32]


def prepare(name: str, batch: int) -> dict[str, Callable[[], object]]:
    """Return what is compared."""
    where = device.chosen()
    torch.manual_seed(0)
    of_classes = [label for label in range(CLASSES) for _ in range(PER_CLASS)]
    prototypes = Prototypes(NETWORKS[name], DIMENSION, "log", of_classes)
    classifier = architectures.build(name, "imagenet", CLASSES, PIXELS)
    network = ProtoPNet(classifier, prototypes, CLASSES).to(where).eval()
    images = torch.randn(batch, 3, PIXELS, PIXELS, device=where)

    def run(part: torch.nn.Module) -> Callable[[], None]:
        @torch.no_grad()
        def once() -> None:
            for _ in range(max(1, 32 // batch)):
                part(images)

        return once

    return {"ours": run(network), "backbone": run(network.features)}


def main() -> None:
    """Run the benchmark."""
    threads = use_threads()
    rows = []
    for name in NETWORKS:
        for batch in BATCHES:
            median = medians(prepare(name, batch), RUNS)
            ratio = median["ours"] / median["backbone"]
            case = f"{name} to {NETWORKS[name] or 'its end'}, {PIXELS} px, batch of {batch}"
            print(f"{case}: {ratio:.3f} times the backbone", flush=True)
            rows.append(
                {"case": case, "ours_s": median["ours"], "peer": "backbone alone", "peer_s": median["backbone"]}
                | {"ratio": ratio, "runs": RUNS, "threads": threads, "machine": machine()}
            )
    write_json(Path("metrics/bench/prototypes.json"), rows)


if __name__ == "__main__":
    command.run(main)
