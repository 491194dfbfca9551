"""Stage layer_sensitivity: accuracy of a baseline when one layer alone is pruned, without fine-tuning or recalibration.

Layers that lose channels only together, such as those of a residual stream, are pruned together. Validation split.

By hand::

    python -m stages.layer_sensitivity --params params.yaml --data data/prepared \
        --checkpoint models/baseline/seed0.safetensors --criterion lrp --seed 0 --rows lrp.csv
"""

import copy
from typing import get_args

from stages import command, device
from stages.datasets import store
from stages.errors import naming
from stages.files import write_rows
from stages.networks import checkpoint
from stages.networks.architectures import scored_layers
from stages.networks.predict import predict
from stages.params import Criterion, load
from stages.pruning import selection, surgery
from stages.pruning.ranking import ranked
from stages.reporting.metrics import balanced_accuracy


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.layer_sensitivity", __doc__, data="prepared data", checkpoint="baseline", rows="to write"
    )
    parser.add_argument("--criterion", choices=get_args(Criterion), required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the reference images")
    arguments = parser.parse_args()
    params = load(arguments.params)
    log = command.logger("sensitivity", arguments.criterion, "seed", arguments.seed)
    where = device.prepare(params.evaluate.threads)
    data = store.load(arguments.data)
    network, architecture = checkpoint.load(arguments.checkpoint)
    network.to(where)
    with naming(arguments.checkpoint):
        candidates = ranked(
            arguments.criterion, network, architecture, data, params.prune.layers, params.prune.scores, arguments.seed,
            min_channels=1,
        )  # fmt: skip
    rows = []
    order = list(scored_layers(network))
    for root, lowest in sorted(of_each_group(candidates).items(), key=lambda item: order.index(item[0])):
        for rate in [0.0, *params.sensitivity.rates]:
            some = lowest[: round(rate * lowest[0].group.channels)]
            pruned = copy.deepcopy(network)
            surgery.remove(pruned, architecture.image_size, selection.by_group(some))
            logits, labels = predict(pruned, architecture, data, data.rows("val"), params.evaluate.batch_size)
            predicted = logits.argmax(1)
            row = {"criterion": arguments.criterion, "seed": arguments.seed, "group": root, "rate": rate}
            row |= {"layers": " ".join(lowest[0].group.layers), "removed": len(some)}
            row["accuracy"] = (predicted == labels).double().mean().item()
            row["balanced_accuracy"] = balanced_accuracy(labels.numpy(), predicted.numpy(), len(data.classes))
            rows.append(row)
        log.info("%s: accuracy %.4f when most is removed", root, rows[-1]["accuracy"])
    write_rows(arguments.rows, rows)


def of_each_group(candidates: list[selection.Candidate]) -> dict[str, list[selection.Candidate]]:
    """Return the candidates of each group, least relevant first, by its root."""
    groups: dict[str, list[selection.Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group.root, []).append(candidate)
    return groups


if __name__ == "__main__":
    command.run(main)
