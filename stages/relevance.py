"""Stage relevance: one score a filter, by one criterion, on the network as it is now.

By hand::

    python -m stages.relevance --params params.yaml --data data/prepared --criterion lrp --seed 0 --step 1 \
        --checkpoint models/baseline/seed0.safetensors --scores step1.scores.npz
"""

import numpy as np
import torch

from stages import command, device
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.files import replacing
from stages.networks import checkpoint
from stages.params import load
from stages.pruning.criteria import CRITERIA, References, score


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.relevance", __doc__, data="prepared data", checkpoint="network to score", scores="scores to write"
    )
    parser.add_argument("--criterion", choices=CRITERIA, required=True)
    parser.add_argument("--seed", type=int, required=True, help="of the reference images and of random scores")
    parser.add_argument("--step", type=int, required=True, help="of the study, from 1")
    arguments = parser.parse_args()
    params = load(arguments.params).prune
    where = device.prepare(params.finetune.threads)
    data = store.load(arguments.data)
    network, architecture = checkpoint.load(arguments.checkpoint)
    rows = data.references(params.scores.references_per_class, arguments.seed)
    low, high = (architecture.normalise(torch.full((1, 3, 1, 1), value)).to(where) for value in (0.0, 1.0))
    references = References(
        (
            (architecture.normalise(images.to(where)), labels.to(where))
            for images, labels in data.batches(rows, params.scores.batch_size)
        ),
        (low, high),
        params.scores.reduction,
        seed=derived_seed(arguments.seed, arguments.step),
    )
    scores = score(arguments.criterion, network.to(where), references, params.scores.normalisation[arguments.criterion])
    with replacing(arguments.scores) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: values.numpy() for name, values in scores.items()})
    command.logger("relevance", arguments.criterion, "seed", arguments.seed, "step", arguments.step).info(
        "%d filters in %d layers scored on %d images", sum(map(len, scores.values())), len(scores), len(rows)
    )


if __name__ == "__main__":
    command.run(main)
