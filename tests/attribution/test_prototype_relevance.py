"""Relevance through a ProtoPNet: the prototype layer's rule against loops, and what the whole network conserves."""

import itertools
import math

import pytest
import torch

from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import from_class
from stages.attribution.rules import NearestPatch
from stages.networks.architectures import filters, scored_layers
from stages.networks.protopnet import PrototypeLayer
from stages.pruning import surgery
from stages.pruning.criteria import References, score
from tests.attribution.test_rules import propagate
from tests.conftest import protopnet

LABELS = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def small():
    return torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def slow_nearest_patch(layer, latent, relevance):
    """Return relevance at patches: each prototype's goes to its nearest, in proportion to similarity by channel."""
    found = torch.zeros_like(latent)
    for image, number in itertools.product(range(len(latent)), range(len(layer.vectors))):
        prototype, best, place = layer.vectors[number], math.inf, None
        for row, column in itertools.product(range(latent.shape[2]), range(latent.shape[3])):
            distance = (latent[image, :, row, column] - prototype).square().sum().item()
            if distance < best:
                best, place = distance, (row, column)
        apart = [(z - p).item() ** 2 for z, p in zip(latent[image, :, *place], prototype, strict=True)]
        like = [math.log((d + 1) / (d + 1e-4)) for d in apart]
        for channel, value in enumerate(like):
            found[image, channel, *place] += value / sum(like) * relevance[image, number]
    return found


@pytest.fixture
def example():
    """Return a prototype layer, patches and relevance of prototypes; two of them are nearest to one patch."""
    torch.manual_seed(0)
    layer = PrototypeLayer(5, 6, "log")
    latent = torch.rand(3, 6, 3, 4)
    layer.vectors.data[1] = layer.vectors.data[0] + 0.01
    layer.vectors.data[2] = latent[0, :, 2, 1]  # at no distance
    return layer, latent, torch.randn(3, 5)


@pytest.mark.parametrize("similarity", ["log", "linear"])
def test_the_rule_of_prototypes_equals_its_slow_twin(example, similarity):
    layer, latent, relevance = example
    layer.similarity = similarity
    (found,) = propagate(NearestPatch(), layer, [latent], relevance)
    torch.testing.assert_close(found, slow_nearest_patch(layer, latent, relevance), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.sum((1, 2, 3)), relevance.sum(1))


def test_patches_that_are_nearest_to_no_prototype_get_no_relevance(example):
    layer, latent, relevance = example
    (found,) = propagate(NearestPatch(), layer, [latent], relevance)
    nearest = layer.distances(latent).flatten(2).argmin(2)
    for image in range(3):
        got = found[image].flatten(1).abs().sum(0).nonzero().flatten()
        assert got.tolist() == sorted(set(nearest[image].tolist()))
        assert len(got) < 5


@pytest.mark.parametrize("similarity", ["log", "linear"])
def test_the_canonical_form_computes_the_same(small, similarity):
    network, _ = protopnet(similarity=similarity)
    torch.testing.assert_close(canonical(network)(small), network(small), rtol=1e-4, atol=1e-4)


def test_only_the_last_layer_takes_the_rule_of_layers_without_positions():
    form = canonical(protopnet()[0])
    composite = ByGraph(Rules())
    with composite.context(form):
        groups = composite.group
        assert [name for name, group in groups.items() if group == "linear"] == ["last"]
        assert groups["features.conv1"] == "low"
        assert groups["add_on.0"] == groups["add_on.2"] == "high"
        assert {"add_on.0", "add_on.2"} <= composite.nonnegative


@pytest.mark.parametrize("rules", [Rules(), Rules.named("alpha-beta"), Rules(linear="z")])
@pytest.mark.parametrize("amount", ["one", "logit"])
@pytest.mark.parametrize("similarity", ["log", "linear"])
def test_pixels_get_the_relevance_that_started_at_the_logits(small, rules, amount, similarity):
    network, _ = protopnet(similarity=similarity)
    small.requires_grad_()
    form = canonical(network)
    with ByGraph(rules).context(form):
        logits = form(small)
        started = from_class("true", amount)(logits.detach(), LABELS).float()
        (found,) = torch.autograd.grad(logits, small, started)
    torch.testing.assert_close(found.sum((1, 2, 3)), started.sum(1), rtol=1e-3, atol=0)


def references(images):
    bounds = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    return References(iter([(images, LABELS)]), bounds, "abs-sample", 0)


@pytest.mark.parametrize("pruned", [False, True])
def test_every_layer_of_the_backbone_is_scored(small, pruned):
    network, _ = protopnet()
    groups = surgery.prunable_groups(network, 16, ["features.*"], [])
    if pruned:
        surgery.remove(network, 16, {group.root: [0, 2] for group in groups})
    layers = {name: layer for name, layer in scored_layers(network).items() if name.startswith("features.")}
    scores = score("lrp", network, references(small), "none", list(layers))
    assert {name: len(values) for name, values in scores.items()} == {n: filters(layer) for n, layer in layers.items()}
    assert all(values.isfinite().all() and values.sum() > 0 for values in scores.values())
    assert list(score("lrp", network, references(small), "none")) == [*layers, "add_on.0", "add_on.2"]


def test_a_filter_that_no_patch_depends_on_has_no_score(small):
    network, _ = protopnet()
    network.add_on[0].weight.data[:, 5] = 0
    (scores,) = score("lrp", network, references(small), "none", ["features.layer3.0.conv2"]).values()
    assert scores[5] == 0
    assert scores.count_nonzero() > len(scores) / 2
