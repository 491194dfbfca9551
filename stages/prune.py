"""Stage prune: remove the least relevant filters physically, recalibrate batch norms, fine-tune.

By hand::

    python -m stages.prune --params params.yaml --data data/prepared --criterion lrp --seed 0 --step 1 \
        --checkpoint models/baseline/seed0.safetensors --scores step1.scores.npz \
        --plan step1.plan.json --pruned step1.pruned.safetensors \
        --finetuned step1.safetensors --history step1.history.csv
"""

import dataclasses
import zipfile
from typing import get_args

import numpy as np
import torch

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import InputError
from stages.files import write_json, write_rows
from stages.networks import checkpoint
from stages.networks.architectures import filters, prunable_layers, scored_layers
from stages.networks.size import Size, measure
from stages.params import Criterion, Prune, load
from stages.pruning import selection, surgery
from stages.pruning.recalibration import recalibrate
from stages.training.loop import fit


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.prune",
        __doc__,
        data="prepared data",
        checkpoint="network to prune",
        scores="its scores",
        plan="what was removed, to write",
        pruned="checkpoint after surgery and recalibration, to write",
        finetuned="checkpoint after fine-tuning, to write",
        history="of the fine-tuning, to write",
    )
    parser.add_argument("--criterion", choices=get_args(Criterion), required=True, help="that gave the scores")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--step", type=int, required=True, help="of the study, from 1")
    arguments = parser.parse_args()
    params = load(arguments.params).prune
    log = command.logger("prune", arguments.criterion, "seed", arguments.seed, "step", arguments.step)
    data = store.load(arguments.data)
    where = device.prepare(params.finetune.threads)
    seed = derived_seed(arguments.seed, arguments.step)
    network, architecture = checkpoint.load(arguments.checkpoint)
    scores = _load_scores(arguments.scores, network, params)

    coupled = params.scores.coupled[arguments.criterion]
    network, architecture, plan = cut(network, architecture, scores, params, coupled, arguments.step)
    recalibration = _recalibrate(network.to(where), architecture, data, params, seed)
    plan |= {
        "criterion": arguments.criterion,
        "seed": arguments.seed,
        "step": arguments.step,
        "recalibration": recalibration,
    }
    checkpoint.save(arguments.pruned, network, architecture)
    log.info(
        "%d channels removed, %.1f %% of the %s gone; %d params and %d MACs are left",
        len(plan["removed"]), 100 * plan["reached"], plan["unit"], plan["after"]["params"], plan["after"]["macs"],
    )  # fmt: skip

    log.info(
        "batch norms recalibrated on %d images; largest shift %.2f standard deviations",
        recalibration["images"],
        recalibration["largest_shift"],
    )

    history = []
    state_file = arguments.finetuned.with_suffix(".training")
    for row in fit(network, architecture, data, params.finetune, seed, where, state_file):
        history.append(row)
        log.info("epoch %d of %d: validation accuracy %.4f", row["epoch"], params.finetune.epochs, row["val_accuracy"])
    write_json(arguments.plan, plan)
    checkpoint.save(arguments.finetuned, network, architecture)
    write_rows(arguments.history, history)  # last: where the history is, the whole step is


def cut(
    network: torch.nn.Module,
    architecture: checkpoint.Architecture,
    scores: dict[str, torch.Tensor],
    params: Prune,
    coupled: str,
    step: int,
) -> tuple[torch.nn.Module, checkpoint.Architecture, dict]:
    """Remove what the budget of this step asks for, in place.

    Returns
    -------
    network, architecture
        The smaller network, its history extended.
    plan : dict
        unit, asked, reached (fractions of the original network that are gone), stopped_by (None), sizes `original`,
        `before` and `after`, filters of each layer in the same three, and each channel removed: group (its root
        layer), layers, channel (now), original_channel, score.
    """
    size = architecture.image_size
    unpruned = architecture.unpruned().shape()
    original, before = measure(unpruned, size), measure(network, size)
    widths = {"original": _widths(unpruned), "before": _widths(network)}
    groups = surgery.prunable_groups(network, size, params.layers.include, params.layers.exclude)
    candidates = selection.rank(groups, scores, coupled, params.min_channels)
    asked = step * params.per_step
    chosen = selection.select(network, size, candidates, params.unit, original, asked)
    present = {group.root: _present(group.root, widths["original"][group.root], architecture) for group in groups}
    removed = [
        {
            "group": candidate.group.root,
            "layers": list(candidate.group.layers),
            "channel": candidate.channel,
            "original_channel": present[candidate.group.root][candidate.channel],
            "score": candidate.score,
        }
        for candidate in chosen
    ]
    history = surgery.remove(network, size, selection.by_group(chosen))
    architecture = dataclasses.replace(architecture, history=architecture.history + history)
    after = measure(network, size)
    widths["after"] = _widths(network)
    plan = {
        "unit": params.unit,
        "asked": asked,
        "reached": 1 - getattr(after, params.unit) / getattr(original, params.unit),
        "stopped_by": None,
        **{name: dataclasses.asdict(value) for name, value in _named(original, before, after)},
        "layers": {layer: {when: widths[when][layer] for when in widths} for layer in widths["original"]},
        "removed": removed,
    }
    return network, architecture, plan


def _named(original: Size, before: Size, after: Size) -> list[tuple[str, Size]]:
    return [("original", original), ("before", before), ("after", after)]


def _widths(network: torch.nn.Module) -> dict[str, int]:
    return {name: filters(layer) for name, layer in scored_layers(network).items()}


def _present(root: str, original: int, architecture: checkpoint.Architecture) -> list[int]:
    """Return, for each channel a layer has now, its number in the unpruned network."""
    channels = list(range(original))
    for layer, _, gone in architecture.history:
        if layer == root:
            channels = [channel for position, channel in enumerate(channels) if position not in set(gone)]
    return channels


def _recalibrate(network, architecture, data, params: Prune, seed: int) -> dict[str, float]:
    if not params.recalibrate:
        return {"images": 0, "largest_shift": 0.0}
    rows = np.random.default_rng(seed).permutation(data.rows("train"))[: params.recalibrate]
    size = params.finetune.batch_size
    whole = rows[: max(size, len(rows) // size * size)]  # batches of one size weigh the same
    where = next(network.parameters()).device
    batches = (architecture.normalise(images.to(where)) for images, _ in data.batches(whole, size))
    return {"images": len(whole), "largest_shift": recalibrate(network, batches)}


def _load_scores(path, network: torch.nn.Module, params: Prune) -> dict[str, torch.Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            scores = {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of scores: {error}") from None
    names = prunable_layers(network, params.layers.include, params.layers.exclude)
    widths = _widths(network)
    if {name: len(values) for name, values in scores.items()} != {name: widths[name] for name in names}:
        raise InputError(f"{path}: the scores are not those of this network's layers; score it again")
    return scores


if __name__ == "__main__":
    command.run(main)
