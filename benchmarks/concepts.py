"""What concepts cost: the atlas, and conditional heat maps, against one pass of LRP over the same images.

By hand: `make bench-concepts`. Runs are interleaved in one process, the median of some after one that does not count.
Writes metrics/bench/concepts.json. STUDY_DEVICE (cpu, cuda) chooses where.
"""

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.timing import machine, medians, use_threads
from stages import command, device
from stages.attribution.atlas import Atlas, survey
from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import propagated
from stages.attribution.filters import at_outputs, from_class, reduce
from stages.files import write_json
from stages.networks.architectures import build, scored_layers

PIXELS, BATCH, BATCHES = 64, 25, 40
LAYERS, CONCEPTS = 8, 5
START = from_class("true", "one")


def prepare(composite: str) -> dict[str, tuple[int, dict[str, Callable[[], object]]]]:
    """Return what is compared, and how often, by case."""
    where = device.chosen()
    torch.manual_seed(0)
    network = build("vgg16_bn", "imagenet", 10, PIXELS).eval()
    form = canonical(network.to(where))
    layers = list(scored_layers(network))
    of_form = {layer: form.get_submodule(layer) for layer in layers}
    images = torch.randn(BATCH, 3, PIXELS, PIXELS, device=where)
    with torch.no_grad():
        labelled = [(images, form(images).argmax(1))] * BATCHES  # all right, so that all count
    rules = ByGraph(Rules.named(composite))

    def one_pass() -> None:
        for _ in at_outputs(form, of_form, labelled, START, lambda _, z: lambda r: reduce(r, "sum"), rules):
            pass

    def atlas() -> None:
        seen = Atlas(10)
        survey(form, layers, labelled, rules, lambda found, labels, _: seen.add(found, labels, range(BATCH)))

    few = labelled[0][0][:4], labelled[0][1][:4]

    def to_pixels() -> None:
        with propagated(form, [], *few, START, rules):
            pass

    def heat_maps() -> None:
        shown = layers[-LAYERS:]
        for image, label in zip(*few, strict=True):
            repeated = image.expand(CONCEPTS, -1, -1, -1), label.expand(CONCEPTS)
            with propagated(form, shown, *repeated, START, rules) as found:
                for layer in shown:
                    found.heat_map_each(layer, range(CONCEPTS))

    return {
        f"atlas of {BATCH * BATCHES:,} images": (1, {"ours": atlas, "a pass": one_pass}),
        f"{CONCEPTS} heat maps of {LAYERS} layers": (3, {"ours": heat_maps, "a pass": to_pixels}),
    }


def main() -> None:
    """Run the benchmark."""
    threads = use_threads()
    rows = []
    for composite in ("epsilon-plus", "alpha-beta"):
        for case, (count, runs) in prepare(composite).items():
            median = medians(runs, count)
            ratio = median["ours"] / median["a pass"]
            print(f"vgg16_bn, {PIXELS} px, {composite}, {case}: {median['ours']:.2f} s, {ratio:.2f} passes", flush=True)
            rows.append(
                {"case": f"vgg16_bn {PIXELS} px, {composite}, {case}", "ours_s": median["ours"], "peer": "a pass"}
                | {"peer_s": median["a pass"], "ratio": ratio, "runs": count}
            )
    write_json(Path("metrics/bench/concepts.json"), [row | {"threads": threads, "machine": machine()} for row in rows])


if __name__ == "__main__":
    command.run(main)
