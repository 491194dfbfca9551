"""Stage concept_changes: what became of a network's concepts in a chain of pruning steps, layer by layer.

By hand::

    python -m stages.concept_changes --params params.yaml --data data/prepared \
        --unpruned models/baseline/seed0.safetensors --checkpoint models/pruned/lrp/seed0/step4.safetensors \
        --plans models/pruned/lrp/seed0/step*.plan.json --rows lrp.csv --fates lrp.fates.csv
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from stages import command, device
from stages.attribution.atlas import LEFT_OUT, Found, survey
from stages.attribution.canonical import canonical
from stages.attribution.concepts import shares
from stages.attribution.matching import Matched, match
from stages.datasets import store
from stages.datasets.store import Prepared
from stages.errors import InputError, naming
from stages.files import replacing
from stages.names import identify
from stages.networks import checkpoint
from stages.networks.architectures import prunable_layers
from stages.params import Params, load
from stages.pruning import masking
from stages.pruning.scoring import composite

STATES = ["kept", "moved", "lost", "silent", "gained"]
COUNTS = ["concepts", "left", *STATES, "by_chance"]
SHUFFLES = 5  # of the images, for what chance would match
SHARES = ["share_kept", "share_moved", "share_lost", "share_gained"]
FATES = ["concept", "share", "fate", "removed", "to", "correlation"]


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.concept_changes",
        __doc__,
        data="prepared data",
        unpruned="network before any pruning",
        checkpoint="network of the last step of a chain",
        rows="what became of each layer's concepts, to write",
        fates="what became of each concept, to write",
    )
    parser.add_argument("--plans", type=Path, nargs="+", required=True, help="of all steps of the chain")
    arguments = parser.parse_args()
    params = load(arguments.params)
    settings = params.concepts
    log = command.logger("concept_changes")
    where = device.prepare(settings.threads)
    data = store.load(arguments.data)
    there = data.labels(data.rows(settings.split)).unique().tolist()
    classes = [data.classes[label] for label in there]
    chosen = data.references(settings.matched_images, params.data.split_seed, classes, split=settings.split)
    before, after = (_Looked(path, data, chosen, params, where) for path in (arguments.unpruned, arguments.checkpoint))
    removed = _removed(arguments.plans)
    right = ~(before.wrong | after.wrong)
    labels = data.labels(chosen)[right]
    identity = identify(arguments.checkpoint)
    keys = {"criterion": identity.criterion, "seed": identity.seed, "step": identity.step, "images": int(right.sum())}
    if not keys["images"]:
        log.warning("no image is classified correctly before and after pruning; nothing can be compared")
    rows, of_concepts = [], []
    for layer, first in before.shares.items() if keys["images"] else ():
        lost = before.lost[layer], after.lost[layer]
        if not max(lost) <= settings.lost:
            log.warning(f"{LEFT_OUT}, after pruning %.2g", layer, *lost)
            continue
        origin = torch.tensor([n for n in range(first.shape[1]) if n not in removed.get(layer, ())])
        if len(origin) != after.shares[layer].shape[1]:
            raise InputError(
                f"{arguments.plans[-1]}: is not of {arguments.checkpoint}: layer {layer} has other channels"
            )
        found = match(first[right], after.shares[layer][right], labels, origin, settings.alike)
        row = changes(found, first[right], after.shares[layer][right], labels, origin, settings.alike)
        rows.append(keys | {"layer": layer} | row)
        of_concepts.append(fates(found, first[right], after.shares[layer][right], origin).assign(**keys, layer=layer))
    with replacing(arguments.rows) as temporary:
        columns = [*keys, "layer", *COUNTS, *SHARES]
        pd.DataFrame(rows, columns=columns).to_csv(temporary, index=False, float_format="%.6g")
    with replacing(arguments.fates) as temporary:
        columns = [*keys, "layer", *FATES]
        table = pd.concat(of_concepts) if of_concepts else pd.DataFrame(columns=columns)
        table[columns].to_csv(temporary, index=False, float_format="%.6g")
    log.info("%s seed %d: %d layers, %d images", identity.criterion, identity.seed, len(rows), keys["images"])


class _Looked:
    """A network's shares of relevance for some images, N x C by layer; which it gets wrong; and what is lost."""

    def __init__(self, path: Path, data: Prepared, chosen: np.ndarray, params: Params, where: torch.device):
        network, architecture = masking.smaller(*checkpoint.load(path))
        if architecture.classes != data.classes:
            raise InputError(f"{path}: its classes are not those of the data")
        settings = params.concepts
        layers = prunable_layers(network, settings.layers.include, settings.layers.exclude, "concepts.layers")
        self.wrong = torch.ones(len(chosen), dtype=torch.bool)
        parts: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}
        places = iter(torch.arange(len(chosen)).split(settings.batch_size))

        def batches():
            for images, labels in data.batches(chosen, settings.batch_size):
                yield architecture.normalise(images.to(where)), labels.to(where)

        def take(found: dict[str, Found], labels: torch.Tensor, right: torch.Tensor) -> None:
            place = next(places)
            self.wrong[place[right.cpu()]] = False
            for layer, each in found.items():
                of_batch = torch.zeros(len(place), each.relevance.shape[1])
                of_batch[right.cpu()] = shares(each.relevance).cpu()
                parts[layer].append(of_batch)

        with naming(path):
            form = canonical(network.to(where))
            propagating = composite(params.prune.scores.lrp, architecture, where)
            self.lost = survey(form, layers, batches(), propagating, take)
        self.shares = {layer: torch.cat(of_layer) for layer, of_layer in parts.items()}


def changes(
    found: Matched,
    before: torch.Tensor,
    after: torch.Tensor,
    labels: torch.Tensor,
    origin: torch.Tensor,
    least: float,
) -> dict[str, float]:
    """Return how many of a layer's concepts are kept, moved, lost and gained, and their shares of |relevance|.

    `by_chance` is how many would be kept or moved, were the images afterwards others of the same class.
    """
    generator = torch.Generator().manual_seed(0)
    by_chance = 0
    for _ in range(SHUFFLES):
        chance = match(before, after[_others(labels, generator)], labels, origin, least)
        by_chance += int((chance.kept | chance.moved).sum())
    weight, weight_after = (shares.abs().mean(0) for shares in (before, after))
    numbers = {"concepts": before.shape[1], "left": after.shape[1]}
    numbers |= {state: int(getattr(found, state).sum()) for state in STATES}
    numbers["by_chance"] = by_chance / SHUFFLES
    parts = {state: weight[getattr(found, state)].sum() / weight.sum() for state in ("kept", "moved", "lost")}
    parts["gained"] = weight_after[found.gained].sum() / weight_after.sum()
    return numbers | {f"share_{state}": part.item() for state, part in parts.items()}


def fates(found: Matched, before: torch.Tensor, after: torch.Tensor, origin: torch.Tensor) -> pd.DataFrame:
    """Return what became of each concept of a layer, and below which concepts were gained.

    Returns
    -------
    DataFrame
        concept (channel of the unpruned network), share (of |relevance|, mean over images; of a gained one
        afterwards), fate (`STATES`), removed (whether the channel is gone), to (the channel that does the same
        afterwards, as numbered in the unpruned network; none: missing) and their correlation.
    """
    fate = np.select([getattr(found, state) for state in STATES[:-1]], STATES[:-1], default="")
    to = origin[found.to.clamp(min=0)].double().where(found.to >= 0, torch.nan)
    left = torch.zeros(before.shape[1], dtype=torch.bool)
    left[origin] = True
    rows = {"concept": range(before.shape[1]), "share": before.abs().mean(0), "fate": fate, "removed": ~left}
    rows |= {"to": to, "correlation": found.likeness}
    gained = {"concept": origin[found.gained], "share": after.abs().mean(0)[found.gained], "fate": STATES[-1]}
    parts = [pd.DataFrame(rows), pd.DataFrame(gained | {"removed": False})]
    return pd.concat([part for part in parts if len(part)], ignore_index=True).astype({"to": "Int64"})


def _others(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return for each image another one of its class, drawn, each once; itself where the class has no other."""
    others = torch.empty(len(labels), dtype=torch.long)
    for label in labels.unique():
        of_class = (labels == label).nonzero().flatten()
        drawn = of_class[torch.randperm(len(of_class), generator=generator)]
        others[drawn] = drawn.roll(1)
    return others


def _removed(plans: list[Path]) -> dict[str, set[int]]:
    """Return the channels, as numbered before any pruning, that a chain's steps removed, by layer."""
    removed: dict[str, set[int]] = {}
    for plan in plans:
        with naming(plan):
            entries = json.loads(plan.read_text())["removed"]
        for entry in entries:
            for layer in entry["layers"]:
                removed.setdefault(layer, set()).add(entry["original_channel"])
    return removed


if __name__ == "__main__":
    command.run(main)
