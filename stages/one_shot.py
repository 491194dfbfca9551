"""Stage one_shot: accuracy against what is removed at once from a baseline, without fine-tuning or recalibration.

The protocol of Hatefi et al. (2024, arXiv 2408.12568, section 4): the baseline is scored once, and at each rate its
lowest filters are removed; here physically, at equal filters and at equal MACs. A criterion is measured on the test
split, a setting of LRP on the validation split, which may choose.

By hand::

    python -m stages.one_shot --params params.yaml --data data/prepared \
        --checkpoint models/baseline/seed0.safetensors --criterion lrp --seed 0 --rows lrp.csv
"""

import copy
from typing import get_args

from stages import command, device
from stages.datasets import store
from stages.errors import InputError, naming
from stages.files import write_rows
from stages.networks import checkpoint
from stages.networks.predict import predict
from stages.networks.size import measure
from stages.params import Params, load
from stages.params.scores import Criterion, Scores
from stages.pruning import selection, surgery
from stages.pruning.ranking import ranked
from stages.reporting.metrics import balanced_accuracy


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.one_shot", __doc__, data="prepared data", checkpoint="baseline", rows="to write")
    variant = parser.add_mutually_exclusive_group(required=True)
    variant.add_argument("--criterion", choices=get_args(Criterion), help="as in prune.scores, on the test split")
    variant.add_argument("--setting", help="of curves.settings: lrp, on the validation split")
    parser.add_argument("--seed", type=int, required=True, help="of the reference images")
    arguments = parser.parse_args()
    params = load(arguments.params)
    criterion, settings = _variant(params, arguments.criterion, arguments.setting)
    name = arguments.criterion or arguments.setting
    log = command.logger("curves", name, "seed", arguments.seed)
    where = device.prepare(params.evaluate.threads)
    data = store.load(arguments.data)
    network, architecture = checkpoint.load(arguments.checkpoint)
    network, size = network.to(where), architecture.image_size
    with naming(arguments.checkpoint):
        candidates = ranked(
            criterion, network, architecture, data, params.prune.layers, settings, arguments.seed,
            params.curves.min_channels,
        )  # fmt: skip
    split = data.rows("test" if arguments.criterion else "val")
    rates = [step / params.curves.rates for step in range(params.curves.rates)]
    rows = []
    for unit in ("filters", "macs"):
        chosen = selection.select_each(network, size, candidates, unit, measure(network, size), rates)
        for rate, some in zip(rates, chosen, strict=True):
            pruned = copy.deepcopy(network)
            surgery.remove(pruned, size, selection.by_group(some))
            logits, labels = predict(pruned, architecture, data, split, params.evaluate.batch_size)
            predicted = logits.argmax(1)
            row = {"variant": name, "seed": arguments.seed, "unit": unit, "rate": rate} | vars(measure(pruned, size))
            row["accuracy"] = (predicted == labels).double().mean().item()
            row["balanced_accuracy"] = balanced_accuracy(labels.numpy(), predicted.numpy(), len(data.classes))
            rows.append(row)
        accuracies = [row["accuracy"] for row in rows if row["unit"] == unit]
        log.info("mean accuracy over the rates of %s: %.4f", unit, sum(accuracies) / len(accuracies))
    write_rows(arguments.rows, rows)


def _variant(params: Params, criterion: str | None, name: str | None) -> tuple[str, Scores]:
    """Return a criterion and the scores' settings."""
    scores = params.prune.scores
    if criterion:
        return criterion, scores
    if name not in params.curves.settings:
        raise InputError(f"--setting: {name!r} is none of curves.settings: {', '.join(params.curves.settings)}")
    values = scores.model_dump()
    for key, value in params.curves.settings[name].model_dump(exclude_none=True).items():
        if key in ("reduction", "normalisation", "coupled"):
            values[key] |= {"lrp": value}
        else:
            values["lrp"][key] = value
    return "lrp", Scores.model_validate(values)


if __name__ == "__main__":
    command.run(main)
