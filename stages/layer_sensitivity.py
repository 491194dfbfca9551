"""Stage layer_sensitivity: accuracy of a baseline when one layer alone is pruned, without fine-tuning or recalibration.

Layers that lose channels only together, such as those of a residual stream, are pruned together. So are, once more, the
lower third of them and the upper third, each layer at the same rate. Validation split.

By hand::

    python -m stages.layer_sensitivity --params params.yaml --data data/prepared \
        --checkpoint models/baseline/seed0.safetensors --criterion lrp --seed 0 --rows lrp.csv
"""

import copy
from typing import get_args

from torch import Tensor

from stages import command, device
from stages.datasets import store
from stages.errors import naming
from stages.files import write_rows
from stages.names import PARTS, outer_thirds
from stages.networks import checkpoint
from stages.networks.architectures import scored_layers
from stages.networks.predict import predict
from stages.params import load
from stages.params.scores import Criterion
from stages.pruning import selection, surgery
from stages.pruning.ranking import ranked
from stages.reporting.metrics import balanced_accuracy, recalls


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
    labels = data.labels(data.rows("val"))

    def answers(without: list[selection.Candidate]) -> Tensor:
        """Return the class that the network says each image is, without some of its filters."""
        pruned = copy.deepcopy(network)
        surgery.remove(pruned, architecture.image_size, selection.by_group(without))
        return predict(pruned, architecture, data, data.rows("val"), params.evaluate.batch_size)[0].argmax(1)

    rows, whole = [], answers([])
    order = list(scored_layers(network))
    groups = dict(sorted(of_each_group(candidates).items(), key=lambda item: order.index(item[0])))
    for name, together in ({root: [root] for root in groups} | parts(list(groups))).items():
        for rate in [0.0, *params.sensitivity.rates]:
            some = [one for root in together for one in lowest(groups[root], rate)]
            predicted = answers(some) if some else whole
            row = {"criterion": arguments.criterion, "seed": arguments.seed, "group": name, "rate": rate}
            row |= {"layers": " ".join(layer for root in together for layer in groups[root][0].group.layers)}
            row |= {"removed": len(some), "accuracy": (predicted == labels).double().mean().item()}
            row["balanced_accuracy"] = balanced_accuracy(labels.numpy(), predicted.numpy(), len(data.classes))
            of_class = recalls(labels.numpy(), predicted.numpy(), len(data.classes))
            row |= {f"recall_{each}": recall for each, recall in zip(data.classes, of_class, strict=True)}
            rows.append(row)
        log.info("%s: accuracy %.4f when most is removed", name, rows[-1]["accuracy"])
    write_rows(arguments.rows, rows)


def parts(roots: list[str]) -> dict[str, list[str]]:
    """Return the first and the last third of the groups, by the name of the part."""
    return dict(zip(PARTS, outer_thirds(roots), strict=True))


def lowest(candidates: list[selection.Candidate], rate: float) -> list[selection.Candidate]:
    """Return the least relevant of a group's candidates, a part of the group."""
    return candidates[: round(rate * candidates[0].group.channels)]


def of_each_group(candidates: list[selection.Candidate]) -> dict[str, list[selection.Candidate]]:
    """Return the candidates of each group, least relevant first, by its root."""
    groups: dict[str, list[selection.Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group.root, []).append(candidate)
    return groups


if __name__ == "__main__":
    command.run(main)
