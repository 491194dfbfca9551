"""Stage relevance: one score a filter, by one criterion, on the network as it is now.

By hand::

    python -m stages.relevance --params params.yaml --data data/prepared --criterion lrp --seed 0 --step 1 \
        --checkpoint models/baseline/seed0.safetensors --scores step1.scores.npz --diagnostics step1.diagnostics.json
"""

import numpy as np

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import naming
from stages.files import replacing, write_json
from stages.networks import checkpoint
from stages.networks.architectures import prunable_layers
from stages.params import load
from stages.pruning import masking
from stages.pruning.criteria import CRITERIA, UNSEEING, Relevance, Scores
from stages.pruning.diagnostics import conservation, dead, lowest_overlap
from stages.pruning.scoring import scored

REDRAWN = 1  # distinguishes the seed of the second draw


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.relevance", __doc__, data="prepared data", checkpoint="network to score", scores="scores to write",
        diagnostics="what is to be known of them, to write",
    )  # fmt: skip
    parser.add_argument("--criterion", choices=CRITERIA, required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the reference images and of random scores")
    parser.add_argument("--step", type=int, required=True, help="of the study, from 1")
    arguments = parser.parse_args()
    params = load(arguments.params).prune
    threads = params.finetune.threads
    fabric = device.fabric(threads) if device.processes() != (1, 1) else None
    where = fabric.device if fabric else device.prepare(threads)
    data = store.load(arguments.data)
    network, architecture = masking.smaller(*checkpoint.load(arguments.checkpoint))
    network = network.to(where)
    names = prunable_layers(network, params.layers.include, params.layers.exclude)

    def drawn_by(seed: int) -> tuple[Scores, Relevance | None]:
        own_seed = derived_seed(seed, arguments.step)
        with naming(arguments.checkpoint):
            return scored(
                arguments.criterion, network, architecture, data, names, params.scores, seed, own_seed, fabric
            )

    scores, relevance = drawn_by(arguments.seed)
    found = {"overlap": None, "layers": dead(scores)}
    if arguments.criterion not in UNSEEING:
        found["overlap"] = lowest_overlap(scores, drawn_by(derived_seed(arguments.seed, REDRAWN))[0])
    if fabric and not fabric.is_global_zero:
        return
    if relevance:
        for name, values in conservation(relevance).items():
            found["layers"][name] |= values
    write_json(arguments.diagnostics, found)
    with replacing(arguments.scores) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: values.numpy() for name, values in scores.items()})
    log = command.logger("relevance", arguments.criterion, "seed", arguments.seed, "step", arguments.step)
    log.info("%d filters in %d layers scored", sum(map(len, scores.values())), len(scores))
    log.info("%d of them have a score of zero", sum(layer["dead"] for layer in found["layers"].values()))
    if found["overlap"] is not None:
        log.info("other reference images would have given %.0f %% of the lowest tenth", 100 * found["overlap"])


if __name__ == "__main__":
    command.run(main)
