"""Stage few_shot: the study's cuts with k images of each class and no other training data.

What a user has who was given a trained network and a handful of images: scores, batch-norm statistics and updates of
the weights come from the same k training images of each class, after every cut. The budget is that of `prune`.

By hand::

    python -m stages.few_shot --params params.yaml --data data/prepared --criterion lrp --seed 0 --images 10 \
        --checkpoint models/baseline/seed0.safetensors --rows lrp.csv --predictions lrp.parquet \
        --architectures lrp.architectures.json
"""

import copy
import dataclasses
from typing import get_args

import numpy as np
import pandas as pd

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import InputError, naming
from stages.files import replacing, write_json, write_rows
from stages.measuring import measured
from stages.names import Identity
from stages.networks import checkpoint
from stages.networks.architectures import prunable_layers
from stages.params import load
from stages.params.scores import Criterion
from stages.pruning import masking
from stages.pruning.cut import cut
from stages.pruning.recalibration import recalibrate
from stages.pruning.scoring import scored
from stages.training.tune import tune


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.few_shot",
        __doc__,
        data="prepared data",
        checkpoint="baseline",
        rows="metrics to write",
        predictions="predictions to write",
        architectures="what is left of the network after each step, to write",
    )
    parser.add_argument("--criterion", choices=get_args(Criterion), required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the images that are drawn")
    parser.add_argument("--images", type=int, required=True, help="of each class")
    arguments = parser.parse_args()
    params = load(arguments.params)
    settings, until = params.few_shot, params.prune.until
    prune = params.prune.model_copy(update={"until": until if until and until.unit != "latency" else None})
    # With correct_only other images than these would be looked at.
    few = {"references_per_class": arguments.images, "correct_only": False}
    scores_settings = prune.scores.model_copy(update=few)
    criterion, seed = arguments.criterion, arguments.seed
    coupled = prune.scores.coupled[criterion]
    log = command.logger("few_shot", criterion, "seed", seed, "with", arguments.images)
    where = device.prepare(settings.threads)
    data = store.load(arguments.data)
    rows = data.references(arguments.images, seed)
    network, architecture = checkpoint.load(arguments.checkpoint)
    if architecture.classes != data.classes:
        raise InputError(f"{arguments.checkpoint}: its classes are not those of {arguments.data}")
    found, left = [], []

    def measure(step: int, phase: str) -> None:
        identity = Identity("baseline" if step == 0 else criterion, seed, step, phase)
        seen, shape = masking.as_asked(network, architecture, prune.removal)
        found.append(measured(identity, seen, shape, data, params.evaluate.batch_size))
        if phase != "pruned":
            who = {"images_per_class": arguments.images, "criterion": identity.criterion, "seed": seed, "step": step}
            left.append(who | {"architecture": dataclasses.asdict(shape)})

    teacher = copy.deepcopy(network.to(where))
    measure(0, "baseline")
    for step in range(1, prune.steps + 1):
        own_seed = derived_seed(seed, step)
        names = prunable_layers(network, prune.layers.include, prune.layers.exclude)
        with naming(arguments.checkpoint):
            scores, _ = scored(criterion, network, architecture, data, names, scores_settings, seed, own_seed)
        try:
            network, architecture, plan = cut(network, architecture, scores, prune, coupled, step)
        except InputError as error:  # the study's own chains may have been ended before, by a guard or a time
            if step == 1:
                raise
            log.info("the chain ends: %s", error)
            break
        if settings.prior is not None:
            parts = np.array_split(rows, max(1, len(rows) // settings.batch_size))
            batches = (architecture.normalise(data.batch(part)[0].to(where)) for part in parts)
            recalibrate(network, batches, settings.prior)
        measure(step, "pruned")
        with naming(arguments.params):
            tune(network, teacher, architecture, data, rows, settings, prune.finetune.augment, own_seed)
        measure(step, "finetuned")
        after = [row["accuracy"] for row, _ in found[-2:]]
        log.info("step %d, %.1f %% of the %s gone: accuracy %.4f after the cut, %.4f after tuning", step,
                 100 * plan["reached"], plan["unit"], *after)  # fmt: skip
        if plan["stopped_by"]:
            log.info("the chain ends: %s", plan["stopped_by"])
            break
    metrics, predictions = zip(*found, strict=True)
    write_json(arguments.architectures, left)
    write_rows(arguments.rows, [{"images_per_class": arguments.images} | row for row in metrics])
    with replacing(arguments.predictions) as temporary:
        pd.concat(predictions, ignore_index=True).to_parquet(temporary, index=False)


if __name__ == "__main__":
    command.run(main)
