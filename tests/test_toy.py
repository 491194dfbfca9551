import copy

import numpy as np
import pandas as pd
import pytest
import torch

from stages import toy, toy_problem
from stages.networks.architectures import Mlp, scored_layers
from stages.reporting import plots, tables


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Mlp(2, 4, width=30).eval()


@pytest.fixture
def references():
    inputs, labels = toy_problem.points("multi", 5, 0)
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def positive(weights):
    return weights.clamp(min=0)


def test_relevance_is_that_of_the_published_protocol(network, references):
    """Matrix form: z+ from the logit of the true class, at each hidden layer before its ReLU, summed with its sign."""
    inputs, labels = references
    linear = [network[place] for place in (1, 4, 6, 8)]
    with torch.no_grad():
        activations = [inputs]
        for layer in linear[:3]:
            activations.append(layer(activations[-1]).relu())
        relevance = linear[3](activations[3]) * torch.nn.functional.one_hot(labels, 4)
        expected = {}
        for place in (3, 2, 1):
            weights = positive(linear[place].weight)
            relevance = activations[place] * ((relevance / (activations[place] @ weights.T)) @ weights)
            expected[place] = relevance.sum(0)
    found = toy_problem.scored("lrp", network, references, 0)
    for place, values in zip((1, 2, 3), found.values(), strict=True):
        assert torch.allclose(values, expected[place], rtol=1e-3, atol=1e-6)


def test_taylor_is_the_absolute_sum_over_references(network, references):
    inputs, labels = references
    layers = list(network)
    hidden = torch.nn.Sequential(*layers[:5])(inputs).detach().requires_grad_()
    torch.nn.functional.cross_entropy(torch.nn.Sequential(*layers[5:])(hidden), labels).backward()
    expected = (hidden * hidden.grad).sum(0).abs()
    found = list(toy_problem.scored("taylor", network, references, 0).values())[1]
    assert torch.allclose(found, expected / expected.norm(), rtol=1e-3, atol=1e-6)


def test_the_lowest_units_of_all_layers_are_removed_for_good(network):
    scores = {name: torch.rand(30, generator=torch.Generator().manual_seed(2)) for name in scored_layers(network)}
    first = next(iter(scores))
    scores[first] += 0.3
    pruned = toy_problem.without_lowest(network, scores, 40)
    assert sum(layer.out_features for layer in scored_layers(pruned).values()) == 90 - 40
    masked = copy.deepcopy(network)
    limit = torch.cat(list(scores.values())).sort().values[40]
    for name, values in scores.items():
        layer = masked.get_submodule(name)
        layer.weight.data[values < limit] = 0
        layer.bias.data[values < limit] = 0
    inputs = torch.randn(7, 2)
    assert torch.allclose(pruned(inputs), masked(inputs), atol=1e-6)
    assert pruned.get_submodule(first).out_features > 20


def test_spirals_are_four_arms_of_as_many_points():
    inputs, labels = toy_problem.points("multi", 500, 3)
    assert np.bincount(labels).tolist() == [500] * 4
    radius = np.linalg.norm(inputs, axis=1)
    assert radius.max() == pytest.approx(1)
    angle = np.arctan2(inputs[:, 0], inputs[:, 1])  # from 4 j to 4 (j + 1), plus noise
    off = (angle - 4 * (labels + radius) + np.pi) % (2 * np.pi) - np.pi
    assert off[radius > 0].std() == pytest.approx(0.2, rel=0.1)


def test_one_reference_a_class_lies_on_its_arm():
    inputs, _ = toy_problem.points("multi", 1, 0)
    assert len(np.unique(inputs.round(3), axis=0)) == 4


@pytest.fixture
def toy_rows():
    common = {"problem": "moons", "network": 0, "test_accuracy": 0.5, "overlap": None}
    common |= {"units1": 10, "units2": 20, "units3": 30}
    keys = ["criterion", "references_per_class", "seed", "train_accuracy"]
    values = [("unpruned", 0, 0, 1.0), ("lrp", 1, 0, 0.5), ("lrp", 1, 1, 0.7), ("lrp", 10, 0, 0.9), ("lrp", 10, 1, 1.0)]
    values += [("weight", 0, 0, 0.8)]
    return pd.DataFrame([common | dict(zip(keys, row, strict=True)) for row in values])


def test_the_toy_studys_tables(toy_rows):
    means = toy.means(toy_rows)
    main = toy.in_words(means, 10)
    assert main["criterion"].tolist() == ["unpruned", "lrp", "weight"]
    assert main["accuracy"].tolist() == ["100.0", "95.0 ± 7.1", "80.0"]
    assert main["units left"].tolist() == ["10 20 30"] * 3
    text = tables.as_markdown(toy.by_references(means))
    assert text.splitlines() == [
        "| problem | criterion | 1 | 10 |", "| --- | --- | --- | --- |", "| moons | lrp | 60.0 ± 14.1 | 95.0 ± 7.1 |"
    ]  # fmt: skip


def test_the_toy_studys_figure(toy_rows, tmp_path):
    side = np.linspace(0, 1, 200)
    grid = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    regions = {name: (grid[:, 0] > 0.5).astype(int) for name in ("unpruned", "lrp", "weight")}
    found = {"grid": grid, "points": grid[::100], "labels": regions["lrp"][::100], **regions}
    plots.save(toy.figure(toy.means(toy_rows), {"moons": found}, ["lrp", "weight"]), tmp_path / "a.svg")
    assert all(f">{name}</text>" in (tmp_path / "a.svg").read_text() for name in ("unpruned", "lrp", "weight", "moons"))
