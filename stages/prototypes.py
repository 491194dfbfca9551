"""Stage prototypes: a ProtoPNet on the backbone of a trained classifier, projected onto training patches.

By hand::

    python -m stages.prototypes --params params.yaml --data data/prepared --seed 0 \
        --backbone models/baseline/seed0.safetensors --checkpoint trained.safetensors --history trained.history.csv

A run that was killed goes on after its last whole epoch; the phases before are trained again and end with the same
weights.
"""

import dataclasses

import pandas as pd
import torch

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import InputError
from stages.files import replacing
from stages.networks import checkpoint
from stages.networks.projection import refuse_few
from stages.networks.protopnet import ProtoPNet, Prototypes
from stages.params import load
from stages.training.prototypes import fit_patches, joint_groups, settle, warm_up_groups
from stages.training.validation import validate


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.prototypes",
        __doc__,
        data="prepared data",
        backbone="trained classifier whose layers are taken",
        checkpoint="ProtoPNet to write",
        history="of its training, to write",
    )
    parser.add_argument("--seed", type=int, required=True, help="of the new weights and everything drawn")
    arguments = parser.parse_args()
    params = load(arguments.params)
    study, usual = params.prototypes, params.train
    log = command.logger("prototypes", "seed", arguments.seed)
    data = store.load(arguments.data)
    made = [label for label in range(len(data.classes)) for _ in range(study.per_class)]
    refuse_few(data, made, study.prune.neighbours)
    fabric = device.fabric(study.threads, usual.precision)
    classifier, architecture = checkpoint.load(arguments.backbone)
    if architecture.classes != data.classes:
        raise InputError(f"{arguments.backbone}: its classes are not those of {arguments.data}")
    if architecture.prototypes or architecture.history:
        raise InputError(f"{arguments.backbone}: is no unpruned classifier; name one of models/baseline")
    prototypes = Prototypes(study.layer, study.dimension, study.similarity, made)
    torch.manual_seed(derived_seed(arguments.seed, 0))
    network = ProtoPNet(classifier, prototypes, len(data.classes))
    architecture = dataclasses.replace(architecture, prototypes=prototypes)
    phases = [("warm-up", 0, study.warm_up)] + [("joint", n, study.joint) for n in range(1, study.rounds + 1)]
    history = []

    def note(phase: str, turn: int, row: dict) -> None:
        history.append({"phase": phase, "round": turn} | row)
        log.info("%s: validation accuracy %.4f", phase, row["val_accuracy"])

    for phase, turn, epochs in phases:
        seed = derived_seed(arguments.seed, 1 + turn)
        rates = study.learning_rate
        groups = warm_up_groups if phase == "warm-up" else joint_groups(rates.backbone, rates.prototypes)
        state_file = arguments.checkpoint.with_suffix(f".{phase}{turn}.training")
        for row in fit_patches(network, architecture, data, study, usual, epochs, seed, fabric, state_file, groups):
            note(phase, turn, row)
        if phase == "joint":
            architecture = settle(network, architecture, data, study, usual.balance, seed, fabric.device)
            note("projected, last layer", turn, validate(network, architecture, data, study.batch_size))
    if not fabric.is_global_zero:
        return
    checkpoint.save(arguments.checkpoint, network, architecture)
    with replacing(arguments.history) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)


if __name__ == "__main__":
    command.run(main)
