"""Stage prune_backbone: remove filters of a ProtoPNet's backbone by a criterion, train on and project again.

By hand::

    python -m stages.prune_backbone --params params.yaml --data data/prepared --criterion lrp --seed 0 \
        --checkpoint tuned.safetensors --finetuned lrp.safetensors --plan lrp.plan.json
"""

from typing import get_args

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import naming
from stages.files import write_json
from stages.networks import checkpoint, projection
from stages.networks.architectures import prunable_layers
from stages.params import load
from stages.params.pruning import Layers
from stages.params.scores import Criterion
from stages.pruning.cut import cut
from stages.pruning.recalibration import recalibrate_on_some
from stages.pruning.scoring import scored
from stages.training.prototypes import fit_patches, joint_groups, settle

CUT = 200  # what the seeds of this stage are derived with
BACKBONE = ["features.*"]  # the 1 x 1 convolutions keep their channels: prototypes have as many


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.prune_backbone",
        __doc__,
        data="prepared data",
        checkpoint="projected ProtoPNet",
        finetuned="ProtoPNet with fewer filters, to write",
        plan="what was removed, to write",
    )
    parser.add_argument("--criterion", choices=get_args(Criterion), required=True, help="that scores the filters")
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    params = load(arguments.params)
    study, scores = params.prototypes, params.prune.scores
    log = command.logger("prune_backbone", arguments.criterion, "seed", arguments.seed)
    data = store.load(arguments.data)
    fabric = device.fabric(study.threads, params.train.precision)
    network, architecture = projection.load(arguments.checkpoint, data)
    network.to(fabric.device)
    names = prunable_layers(network, BACKBONE, [])
    seed = derived_seed(arguments.seed, CUT)
    with naming(f"{arguments.checkpoint}: {arguments.criterion}"):
        values, _ = scored(
            arguments.criterion, network, architecture, data, names, scores, arguments.seed, seed, fabric
        )
    asked = params.prune.model_copy(
        update={
            "unit": study.backbone.unit,
            "per_step": 1 - study.backbone.left,
            "layers": Layers(include=BACKBONE, exclude=[]),
            "until": None,
        }
    )
    network, architecture, plan = cut(
        network.cpu(), architecture, values, asked, scores.coupled[arguments.criterion], step=1
    )
    network.to(fabric.device)
    recalibrate_on_some(network, architecture, data, params.prune.recalibrate, study.batch_size, seed)
    log.info("%d channels removed, %.1f %% of the %s gone", len(plan["removed"]), 100 * plan["reached"], plan["unit"])
    groups = joint_groups(study.backbone.learning_rate, study.learning_rate.prototypes)
    state_file = arguments.finetuned.with_suffix(".training")
    for row in fit_patches(
        network, architecture, data, study, params.train, study.backbone.epochs, seed, fabric, state_file, groups
    ):
        log.info("epoch %d: validation accuracy %.4f", row["epoch"], row["val_accuracy"])
    architecture = settle(network, architecture, data, study, params.train.balance, seed, fabric.device)
    if fabric.is_global_zero:
        write_json(arguments.plan, plan | {"criterion": arguments.criterion, "seed": arguments.seed})
        checkpoint.save(arguments.finetuned, network, architecture)


if __name__ == "__main__":
    command.run(main)
