"""Stage toy_problem: the toy study of Yeom et al. (2021, arXiv 1912.08881, section 4.1) on one of its three problems.

A network of three hidden layers of 1,000 units is trained on points of the plane. Its lowest units are removed at once,
without fine-tuning, by each criterion and for several numbers of reference points, which each seed draws anew.

By hand::

    python -m stages.toy_problem --params params.yaml --problem moons --rows moons.csv --regions moons.npz
"""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from stages import command, device
from stages.attribution.composites import Rules
from stages.attribution.filters import from_class
from stages.datasets.store import derived_seed
from stages.errors import naming
from stages.files import replacing, write_rows
from stages.networks.architectures import Mlp, scored_layers
from stages.params import load
from stages.params.beside import Toy
from stages.pruning import selection, surgery
from stages.pruning.criteria import UNSEEING, References, Scores, score
from stages.pruning.diagnostics import lowest_overlap

CLASSES = {"moons": 2, "circles": 2, "multi": 4}
NORMALISATION = {"lrp": "none", "weight": "l1", "gradient": "l2", "taylor": "l2", "random": "none"}
TRAINING, TEST, REFERENCES = range(3)  # what a seed is for
POINT = (2,)  # the shape of an input
GRID = 200  # points a side at which the regions of the classes are drawn


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.toy_problem", __doc__, rows="accuracies to write", regions="predicted classes on a grid, to write"
    )
    parser.add_argument("--problem", choices=CLASSES, required=True)
    arguments = parser.parse_args()
    params = load(arguments.params).toy
    log = command.logger("toy", arguments.problem)
    device.prepare(params.threads)
    training = _drawn(arguments.problem, params.points, TRAINING)
    test = _drawn(arguments.problem, params.points, TEST)
    grid = _grid(training[0])
    rows, regions = [], {}
    for number in range(params.networks):
        torch.manual_seed(derived_seed(TRAINING, number))
        network = train(CLASSES[arguments.problem], training, params)
        for criterion, references, seed, pruned, overlap in pruned_networks(network, arguments.problem, params):
            row = {"problem": arguments.problem, "network": number, "criterion": criterion}
            row |= {"references_per_class": references, "seed": seed}
            row |= {"train_accuracy": accuracy(pruned, *training), "test_accuracy": accuracy(pruned, *test)}
            units = [layer.out_features for layer in scored_layers(pruned).values()]
            rows.append(row | {"overlap": overlap} | {f"units{place}": left for place, left in enumerate(units, 1)})
            if number == seed == 0 and references in (0, params.shown):
                regions[criterion] = classes_of(pruned, grid)
        log.info(
            "network %d of %d pruned: accuracy %.4f before", number + 1, params.networks, accuracy(network, *training)
        )
    with replacing(arguments.regions) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, grid=grid.numpy(), points=training[0], labels=training[1], **regions)
    write_rows(arguments.rows, rows)


def pruned_networks(
    network: nn.Module, problem: str, params: Toy
) -> Iterator[tuple[str, int, int, nn.Module, float | None]]:
    """Yield the network as it is and, pruned, by each criterion and number of reference points and for each draw.

    Yields
    ------
    criterion, references a class (0 where none are looked at), seed of the draw, the pruned network, and the overlap
    of the lowest units with those of the first draw (None for the first).
    """
    yield "unpruned", 0, 0, network, None
    for criterion in params.criteria:
        for references in [0] if criterion in UNSEEING else params.references_per_class:
            first = None
            for seed in range(1 if criterion == "weight" else params.seeds):
                drawn = _drawn(problem, references, REFERENCES, references, seed)
                with naming(f"{problem}, {criterion}"):
                    scores = scored(criterion, network, drawn, seed)
                first = first or scores
                overlap = lowest_overlap(first, scores, params.overlap / sum(map(len, scores.values())))
                pruned = without_lowest(network, scores, params.removed)
                yield criterion, references, seed, pruned, overlap if seed else None


def train(classes: int, training: tuple[torch.Tensor, torch.Tensor], params: Toy) -> nn.Module:
    """Return a network trained with Adam from torch's random state, in evaluation mode."""
    network = Mlp(2, classes)
    optimiser = torch.optim.Adam(network.parameters(), lr=params.learning_rate)
    inputs, labels = training
    for _ in range(params.updates):
        batch = torch.randint(len(labels), (params.batch_size,))
        optimiser.zero_grad()
        cross_entropy(network(inputs[batch]), labels[batch]).backward()
        optimiser.step()
    return network.eval()


def scored(criterion: str, network: nn.Module, references: tuple[torch.Tensor, torch.Tensor], seed: int) -> Scores:
    """Return the scores of the published protocol.

    LRP: the signed sum of relevance by z+ in every layer, started with the logit of the true class. (The published
    code divides it by the layer's sum, which is the same for all: relevance is conserved.) Gradient and Taylor: the
    absolute value of the sum over the references, divided by the layer's l2 norm; weight: by its l1 norm.
    """
    rules = Rules(linear="zplus")
    given = References([references], None, "sum", seed, rules, from_class("true", "logit"))
    values = score(criterion, network, given, NORMALISATION[criterion])
    return values if criterion == "lrp" else {name: each.abs() for name, each in values.items()}


def without_lowest(network: nn.Module, scores: Scores, count: int) -> nn.Module:
    """Return a copy without the units that have the lowest scores over all layers; one a layer stays."""
    pruned = copy.deepcopy(network)
    groups = surgery.prunable_groups(pruned, POINT, ["*"], [])
    lowest = selection.rank(groups, scores, "sum", min_channels=1)[:count]
    surgery.remove(pruned, POINT, selection.by_group(lowest))
    return pruned


def points(problem: str, per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points (float32, N x 2) and labels (int64, N), `per_class` points of each class.

    `moons` and `circles` are scikit-learn's with noise 0.1 (circles: factor 0.3). `multi` are four spiral arms: the
    radius runs from 0 to 1, the angle from 4 j to 4 (j + 1) radians for class j, plus normal noise of 0.2. (A single
    point a class lies anywhere on its arm; in the published code all four lie at the centre.)
    """
    from sklearn.datasets import make_circles, make_moons

    if problem == "multi":
        return _spirals(per_class, seed)
    count = (per_class, per_class)
    if problem == "moons":
        points, labels = make_moons(count, noise=0.1, random_state=seed)
    else:
        points, labels = make_circles(count, noise=0.1, factor=0.3, random_state=seed)
    return points.astype(np.float32), labels.astype(np.int64)


def _spirals(per_class: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES["multi"]), per_class)
    along = np.tile(np.linspace(0, 1, per_class), CLASSES["multi"])
    if per_class == 1:
        along += rng.uniform(size=len(along))
    angle = 4 * (labels + along) + 0.2 * rng.normal(size=len(labels))
    points = along[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return points.astype(np.float32), labels


@torch.no_grad()
def classes_of(network: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Return the predicted class of each point."""
    return network(inputs).argmax(1).numpy()


def accuracy(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of points whose class is predicted."""
    return float((classes_of(network, inputs) == labels.numpy()).mean())


def _drawn(problem: str, per_class: int, *seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = points(problem, per_class, derived_seed(*seed))
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def _grid(inputs: torch.Tensor) -> torch.Tensor:
    """Return the points of a grid over the inputs, row by row."""
    low, high = inputs.amin(0) - 0.2, inputs.amax(0) + 0.2
    sides = [torch.linspace(low[axis], high[axis], GRID) for axis in (0, 1)]
    return torch.cartesian_prod(*sides)


if __name__ == "__main__":
    command.run(main)
