"""Stage prune: remove the least relevant filters (or mask them), recalibrate batch norms, fine-tune.

By hand::

    python -m stages.prune --params params.yaml --data data/prepared --criterion lrp --seed 0 --step 1 \
        --unpruned models/baseline/seed0.safetensors --checkpoint models/baseline/seed0.safetensors \
        --scores step1.scores.npz \
        --plan step1.plan.json --pruned step1.pruned.safetensors \
        --finetuned step1.safetensors --history step1.history.csv
"""

import json
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import InputError, naming
from stages.files import write_json, write_rows
from stages.networks import checkpoint
from stages.networks.architectures import prunable_layers, scored_layers, widths
from stages.networks.size import sparsity
from stages.params import load
from stages.params.pruning import Prune
from stages.params.scores import Criterion
from stages.pruning import limits, masking
from stages.pruning.cut import cut
from stages.pruning.recalibration import recalibrate_on_some
from stages.training.loop import fit
from stages.training.validation import row_of_untrained


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.prune",
        __doc__,
        data="prepared data",
        unpruned="network before any pruning",
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
    parser.add_argument("--before", type=Path, nargs="?", help="plan of the step before (from step 2 on)")
    arguments = parser.parse_args()
    study = load(arguments.params)
    params = study.prune
    log = command.logger("prune", arguments.criterion, "seed", arguments.seed, "step", arguments.step)
    data = store.load(arguments.data)
    data.refuse_unknown(params.guarded_classes(), "prune.guard.metric")
    fabric = device.fabric(params.finetune.threads, params.finetune.precision)
    where = fabric.device
    seed = derived_seed(arguments.seed, arguments.step)
    network, architecture = masking.smaller(*checkpoint.load(arguments.checkpoint))
    named = {"criterion": arguments.criterion, "seed": arguments.seed, "step": arguments.step}
    if arguments.before and (before := _read_plan(arguments.before))["stopped_by"]:
        if fabric.is_global_zero:
            log.info("the chain ended before: %s", before["stopped_by"])
            write_json(arguments.plan, repeated(before) | named)
            _publish_again(arguments, network, architecture, data, params)
        return
    scores = _load_scores(arguments.scores, network, params)

    coupled = params.scores.coupled[arguments.criterion]
    network, architecture, plan = cut(network, architecture, scores, params, coupled, arguments.step)
    batch = params.finetune.batch_size
    recalibration = recalibrate_on_some(network.to(where), architecture, data, params.recalibrate, batch, seed)
    plan |= {**named, "recalibration": recalibration}
    if fabric.is_global_zero:
        checkpoint.save(arguments.pruned, *masking.as_asked(network, architecture, params.removal))
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
    teacher = checkpoint.load(arguments.unpruned)[0].to(where) if params.distillation else None
    for row in fit(
        network, architecture, data, params.finetune, seed, fabric, state_file,
        teacher=teacher, distillation=params.distillation, rewound=study.train,
    ):  # fmt: skip
        history.append(row)
        log.info("epoch %d of %d: validation accuracy %.4f", row["epoch"], params.finetune.epochs, row["val_accuracy"])
    if not fabric.is_global_zero:
        return
    plan |= _limits(network.to(where), arguments.unpruned, data, params, plan)
    finished = masking.as_asked(network, architecture, params.removal)
    if plan["stopped_by"]:
        log.info("the chain ends: %s", plan["stopped_by"])
    if plan["stopped_by"] == "guard":
        before = checkpoint.load(arguments.checkpoint)
        write_json(arguments.plan, undone(_with_sparsity(plan, before[0])))
        _publish_again(arguments, *masking.smaller(*before), data, params)
        return
    write_json(arguments.plan, _with_sparsity(plan, finished[0]))
    checkpoint.save(arguments.finetuned, *finished)
    write_rows(arguments.history, history)  # last: where the history is, the whole step is


def repeated(before: dict) -> dict:
    """Return the plan of a step after a chain's end: it removes nothing, and says what ended the chain."""
    after = {"before": before["after"], "after": before["after"]}
    layers = {layer: widths | {"before": widths["after"]} for layer, widths in before["layers"].items()}
    nothing = {"images": 0, "largest_shift": 0.0}
    return before | after | {"layers": layers, "removed": [], "recalibration": nothing, "repeats": True}


def undone(plan: dict) -> dict:
    """Return the plan of a step that broke the guard: it removes nothing; `undone` keeps what it tried."""
    tried = {name: plan[name] for name in ("reached", "removed", "after", "recalibration")}
    layers = {layer: widths | {"after": widths["before"]} for layer, widths in plan["layers"].items()}
    gone = 1 - plan["before"][plan["unit"]] / plan["original"][plan["unit"]]
    return repeated(plan | {"after": plan["before"], "layers": layers, "reached": gone, "undone": tried})


def _with_sparsity(plan: dict, network: torch.nn.Module) -> dict:
    """Return a plan whose layers have the share of their weights that is zero."""
    of_layer = {name: round(sparsity([layer]), 6) for name, layer in scored_layers(network).items()}
    return plan | {"layers": {name: found | {"sparsity": of_layer[name]} for name, found in plan["layers"].items()}}


def _limits(network: torch.nn.Module, unpruned_file: Path, data, params: Prune, plan: dict) -> dict:
    """Return `guard` and `until` of a plan (what was measured), and `stopped_by`: the guard before all."""
    found = {"guard": None, "until": None, "stopped_by": plan["stopped_by"]}
    timed = params.until and params.until.unit == "latency"
    if not params.guard and not timed:
        return found
    unpruned, architecture = checkpoint.load(unpruned_file)
    unpruned.to(next(network.parameters()).device)
    if timed:
        verdict = limits.time_left(params.until, network, unpruned, architecture, params.finetune.threads)
        found["until"] = params.until.model_dump() | {"now": verdict.now}
        found["stopped_by"] = "latency" if verdict.reached else None
    if params.guard:
        verdict = limits.guarded(params.guard, network, unpruned, architecture, data, params.finetune.batch_size)
        found["guard"] = params.guard.model_dump() | {"unpruned": verdict.unpruned, "now": verdict.now}
        found["stopped_by"] = "guard" if verdict.reached else found["stopped_by"]
    return found


def _publish_again(arguments, network, architecture, data, params: Prune) -> None:
    """Write the network a step began with as what it ends with, and one row of history, of epoch 0."""
    for path in (arguments.pruned, arguments.finetuned):
        checkpoint.save(path, *masking.as_asked(network, architecture, params.removal))
    write_rows(arguments.history, [row_of_untrained(network, architecture, data, params.finetune.batch_size)])


def _read_plan(path: Path) -> dict:
    with naming(path):
        return json.loads(path.read_text())


def _load_scores(path, network: torch.nn.Module, params: Prune) -> dict[str, torch.Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            scores = {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of scores: {error}") from None
    names = prunable_layers(network, params.layers.include, params.layers.exclude)
    expected = widths(network)
    if {name: len(values) for name, values in scores.items()} != {name: expected[name] for name in names}:
        raise InputError(f"{path}: the scores are not those of this network's layers; score it again")
    return scores


if __name__ == "__main__":
    command.run(main)
