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
import torch_pruning
from torch import nn
from torch.nn.functional import cross_entropy

from stages import command, device
from stages.attribution.composites import Rules
from stages.attribution.filters import from_class
from stages.datasets import points
from stages.datasets.store import derived_seed
from stages.files import replacing, write_rows
from stages.networks.architectures import Mlp, scored_layers
from stages.params import Toy, load
from stages.pruning.criteria import UNSEEING, References, Scores, score
from stages.pruning.diagnostics import lowest_overlap

NORMALISATION = {"lrp": "l1", "weight": "l1", "gradient": "l2", "taylor": "l2", "random": "none"}
PER_CLASS = 1000  # points of the training set, and as many to test
TRAINING, TEST, REFERENCES = range(3)  # what a seed is for
GRID = 200  # points a side at which the regions of the classes are drawn


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.toy_problem", __doc__, rows="accuracies to write", regions="predicted classes on a grid, to write"
    )
    parser.add_argument("--problem", choices=points.CLASSES, required=True)
    arguments = parser.parse_args()
    params = load(arguments.params).toy
    log = command.logger("toy", arguments.problem)
    device.prepare(params.threads)
    training = _drawn(arguments.problem, PER_CLASS, TRAINING)
    test = _drawn(arguments.problem, PER_CLASS, TEST)
    grid = _grid(training[0])
    rows, regions = [], {}
    for number in range(params.networks):
        torch.manual_seed(derived_seed(TRAINING, number))
        network = train(points.CLASSES[arguments.problem], training, params)
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

    LRP: the signed sum of relevance by z+ in every layer, started with the logit of the true class. Gradient and
    Taylor: the absolute value of the sum over the references. Each layer is divided by its l1 norm (LRP, weight) or
    its l2 norm (gradient, Taylor).
    """
    rules = Rules(linear="zplus")
    given = References([references], None, "sum", seed, rules, from_class("true", "logit"))
    values = score(criterion, network, given, NORMALISATION[criterion])
    return values if criterion == "lrp" else {name: each.abs() for name, each in values.items()}


def without_lowest(network: nn.Module, scores: Scores, count: int) -> nn.Module:
    """Return a copy from which the units with the lowest scores over all layers were physically removed."""
    units = [(value, name, unit) for name, values in scores.items() for unit, value in enumerate(values.tolist())]
    lowest = sorted(units, key=lambda unit: unit[0])[:count]
    pruned = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(pruned, torch.zeros(1, network[1].in_features))
    for name in scores:
        chosen = [unit for _, layer, unit in lowest if layer == name]
        if chosen:
            layer = pruned.get_submodule(name)
            graph.get_pruning_group(layer, torch_pruning.prune_linear_out_channels, chosen).prune()
    return pruned


@torch.no_grad()
def classes_of(network: nn.Module, inputs: torch.Tensor) -> np.ndarray:
    """Return the predicted class of each point."""
    return network(inputs).argmax(1).numpy()


def accuracy(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of points whose class is predicted."""
    return float((classes_of(network, inputs) == labels.numpy()).mean())


def _drawn(problem: str, per_class: int, *seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = points.draw(problem, per_class, derived_seed(*seed))
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def _grid(inputs: torch.Tensor) -> torch.Tensor:
    """Return the points of a grid over the inputs, row by row."""
    low, high = inputs.amin(0) - 0.2, inputs.amax(0) + 0.2
    sides = [torch.linspace(low[axis], high[axis], GRID) for axis in (0, 1)]
    return torch.cartesian_prod(*sides)


if __name__ == "__main__":
    command.run(main)
