"""Stage relevance: one score a filter, by one criterion, on the network as it is now.

By hand::

    python -m stages.relevance --params params.yaml --data data/prepared --criterion lrp --seed 0 --step 1 \
        --checkpoint models/baseline/seed0.safetensors --scores step1.scores.npz --diagnostics step1.diagnostics.json
"""

import numpy as np
import torch

from stages import command, device
from stages.attribution.composites import Rules
from stages.attribution.filters import Start, from_class
from stages.datasets import store
from stages.datasets.store import derived_seed
from stages.errors import InputError
from stages.files import replacing, write_json
from stages.networks import checkpoint
from stages.networks.architectures import prunable_layers
from stages.networks.predict import predict
from stages.params import Lrp, load
from stages.pruning.criteria import CRITERIA, UNSEEING, References, Relevance, Scores, finish, relevance
from stages.pruning.diagnostics import conservation, dead, lowest_overlap

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
    where = device.prepare(params.finetune.threads)
    data = store.load(arguments.data)
    network, architecture = checkpoint.load(arguments.checkpoint)
    network.eval()
    low, high = (architecture.normalise(torch.full((1, 3, 1, 1), value)).to(where) for value in (0.0, 1.0))
    network = network.to(where)

    def correct(rows: np.ndarray) -> np.ndarray:
        logits, labels = predict(network, architecture, data, rows, params.scores.batch_size)
        return (logits.argmax(1) == labels).numpy()

    def draw(seed: int) -> References:
        batches = ()
        if arguments.criterion not in UNSEEING:
            accept = correct if params.scores.correct_only else None
            rows = data.references(params.scores.references_per_class, seed, params.scores.classes, accept)
            batches = (
                (architecture.normalise(images.to(where)), labels.to(where))
                for images, labels in data.batches(rows, params.scores.batch_size)
            )
        return References(
            batches,
            (low, high),
            params.scores.reduction,
            derived_seed(seed, arguments.step),
            rules(params.scores.lrp),
            start(params.scores.lrp),
            params.scores.integration_steps,
        )

    def scored(references: References) -> tuple[Scores, Relevance | None]:
        criterion = arguments.criterion
        try:
            found = relevance(network, names, references) if criterion == "lrp" else None
            values = found.scores if found else CRITERIA[criterion](network, names, references)
            return finish(criterion, values, params.scores.normalisation[criterion]), found
        except ValueError as error:
            raise InputError(f"{arguments.checkpoint}: {error}") from None

    names = prunable_layers(network, params.layers.include, params.layers.exclude)
    scores, relevance_found = scored(draw(arguments.seed))
    found = {"overlap": None, "layers": dead(scores)}
    if arguments.criterion not in UNSEEING:
        again, _ = scored(draw(derived_seed(arguments.seed, REDRAWN)))
        found["overlap"] = lowest_overlap(scores, again)
    if relevance_found:
        for name, values in conservation(relevance_found).items():
            found["layers"][name] |= values
    write_json(arguments.diagnostics, found)
    with replacing(arguments.scores) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **{name: values.numpy() for name, values in scores.items()})
    log = command.logger("relevance", arguments.criterion, "seed", arguments.seed, "step", arguments.step)
    log.info("%d filters in %d layers scored", sum(map(len, scores.values())), len(scores))
    log.info("%d of them have a score of zero", sum(layer["dead"] for layer in found["layers"].values()))
    if found["overlap"] is not None:
        log.info("other reference images would have given %.0f %% of the lowest tenth", 100 * found["overlap"])


def rules(lrp: Lrp) -> Rules:
    """Return the rules that params.yaml names."""
    values = {"epsilon": lrp.epsilon, "gamma": lrp.gamma, "alpha": lrp.alpha}
    if isinstance(lrp.composite, str):
        return Rules.named(lrp.composite, **values)
    return Rules(**lrp.composite.model_dump(), **values)


def start(lrp: Lrp) -> Start:
    """Return where relevance starts."""
    return from_class(lrp.start.removesuffix("-class"), lrp.amount)


if __name__ == "__main__":
    command.run(main)
