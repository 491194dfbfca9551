"""Stage prune_prototypes: remove the prototypes of a ProtoPNet that do not stand for their class, tune its last layer.

By hand::

    python -m stages.prune_prototypes --params params.yaml --data data/prepared --seed 0 \
        --checkpoint trained.safetensors --pruned pruned.safetensors --tuned tuned.safetensors --plan plan.json
"""

import numpy as np
import torch

from stages import command, device
from stages.datasets import store
from stages.datasets.store import Prepared, derived_seed
from stages.errors import InputError, naming, within
from stages.files import write_json
from stages.networks import checkpoint, projection
from stages.networks.checkpoint import Architecture
from stages.networks.projection import EXACT, deviation, distinct, nearest_patches
from stages.networks.protopnet import ProtoPNet
from stages.params import load
from stages.params.prototypes import PrototypeRules
from stages.pruning import prototypes
from stages.pruning.scoring import masks_of
from stages.training.prototypes import tune_last_layer

TUNING = 100  # what the seed of the last layer's tuning is derived with


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.prune_prototypes",
        __doc__,
        data="prepared data",
        checkpoint="projected ProtoPNet",
        pruned="ProtoPNet with fewer prototypes, to write",
        tuned="the same after its last layer was tuned, to write",
        plan="what was removed and why, to write",
    )
    parser.add_argument("--seed", type=int, required=True, help="of the order of images in tuning")
    arguments = parser.parse_args()
    params = load(arguments.params)
    study = params.prototypes
    log = command.logger("prune_prototypes", "seed", arguments.seed)
    where = device.prepare(study.threads)
    data = store.load(arguments.data)
    network, before = projection.load(arguments.checkpoint, data)
    network.to(where)
    with within(arguments.checkpoint):
        off = deviation(network, before, data)
    if off > EXACT:
        raise InputError(
            f"{arguments.checkpoint}: prototypes are up to {off:.1g} off their patches; project them again"
        )
    with naming("prototypes.prune.neighbours"):
        found = evidence(network, before, data, study.prune, study.batch_size)
    merged, removed = decide(found, network.prototypes.vectors.detach().cpu(), before, study.prune)
    prototypes.merge(network, merged)
    architecture = prototypes.remove(network, before, sorted(removed))
    checkpoint.save(arguments.pruned, network, architecture)
    log.info("%d of %d prototypes removed", len(removed), len(found["purity"]))
    tune_last_layer(network, architecture, data, study, params.train.balance, derived_seed(arguments.seed, TUNING))
    checkpoint.save(arguments.tuned, network, architecture)
    write_json(arguments.plan, plan(found, merged, removed, data, before))


def evidence(
    network: ProtoPNet, architecture: Architecture, data: Prepared, rules: PrototypeRules, batch_size: int
) -> dict[str, np.ndarray]:
    """Return what the rules look at, of each prototype, on the training split.

    Returns
    -------
    dict of arrays
        neighbours (prototypes x k, classes), purity and purity_prior (`own_share`), and inside, where a region is asked
        about.

    Raises
    ------
    ValueError
        There are fewer groups of images than neighbours.
    """
    classes = architecture.prototypes.classes
    rows = distinct(data, data.rows("train"))
    labels, groups = data.labels(rows).numpy(), data.index["group"].to_numpy()[rows]
    nearest = nearest_patches(network, architecture, data, rows, batch_size)
    near = prototypes.neighbours(nearest, groups, labels, rules.neighbours)
    of_class = [len(set(groups[labels == label])) for label in range(len(data.classes))]  # one patch of a group counts
    found = {
        "neighbours": near,
        "purity": prototypes.own_share(near, classes),
        "purity_prior": prototypes.own_share(near, classes, 1 / np.maximum(of_class, 1)),
    }
    if rules.region is not None:
        masks = masks_of(rules.region, data, rows, architecture.image_size, "prototypes.prune.region")
        found["inside"] = prototypes.inside(network, architecture, data, rows, masks, batch_size)
    return found


def decide(
    found: dict[str, np.ndarray], vectors: torch.Tensor, architecture: Architecture, rules: PrototypeRules
) -> tuple[dict[int, int], dict[int, list[str]]]:
    """Return which prototypes stand for which (removed: kept), and for each that is removed the rules that say so.

    Duplicates are looked for among those that the other rules leave.

    Parameters
    ----------
    vectors : tensor, prototypes x D

    Raises
    ------
    InputError
        A class would lose all, and `last_of_class` is `refuse`.
    """
    least = rules.own / rules.neighbours - 1e-9
    says = {"nearest": found["purity"] < least, "nearest-prior": found["purity_prior"] < least}
    if "inside" in found:
        says["region"] = found["inside"] < rules.inside
    classes = np.array(architecture.prototypes.classes)
    reasons = {
        number: [rule for rule in rules.rules if rule in says and says[rule][number]] for number in range(len(classes))
    }
    removed = {number: named for number, named in reasons.items() if named}
    for label, name in enumerate(architecture.classes):
        own = np.flatnonzero(classes == label)
        if set(own) - set(removed):
            continue
        if rules.last_of_class == "refuse":
            raise InputError(
                f"prototypes.prune: class {name!r} would lose all its prototypes; milder rules, or last_of_class: keep"
            )
        purity = found["purity_prior" if "nearest-prior" in rules.rules else "purity"]
        best = own[np.lexsort((own, -found["inside"][own] if "inside" in found else own, -purity[own]))[0]]
        del removed[int(best)]
    merged = {}
    if "duplicates" in rules.rules:
        left = [number for number in range(len(classes)) if number not in removed]
        of_left = prototypes.duplicates(vectors[left], classes[left].tolist(), rules.alike)
        merged = {left[gone]: left[kept] for gone, kept in of_left.items()}
    return merged, dict(sorted((removed | {number: ["duplicates"] for number in merged}).items()))


def plan(
    found: dict[str, np.ndarray],
    merged: dict[int, int],
    removed: dict[int, list[str]],
    data: Prepared,
    before: Architecture,
) -> dict:
    """Return what was removed and what is known of every prototype, by its number before."""
    settings = before.prototypes
    rows = [
        {
            "prototype": number,
            "class": data.classes[settings.classes[number]],
            "image": settings.sources[number].image,
            "neighbours": [data.classes[label] for label in found["neighbours"][number]],
            "purity": round(float(found["purity"][number]), 6),
            "purity_prior": round(float(found["purity_prior"][number]), 6),
            "inside": round(float(found["inside"][number]), 6) if "inside" in found else None,
            "removed_by": removed.get(number, []),
            "merged_into": merged.get(number),
        }
        for number in range(len(settings.classes))
    ]
    return {"before": len(rows), "after": len(rows) - len(removed), "prototypes": rows}


if __name__ == "__main__":
    command.run(main)
