"""ProtoPNet against a slow twin, written from the paper with loops, and what surgery, sizes and files make of it."""

import dataclasses
import itertools
import math
import warnings

import pytest
import torch

from stages.errors import InputError
from stages.files import sha256
from stages.networks import architectures, checkpoint
from stages.networks.dependencies import dependency_graph
from stages.networks.protopnet import ProtoPNet, PrototypeLayer, Prototypes, Source
from stages.networks.size import measure
from stages.pruning import surgery
from tests.conftest import CLASSES, DIMENSION, protopnet

POSITIONS = 4 * 4  # patches of an image of 16 pixels


@pytest.fixture
def small():
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def slow_logits(network, images, similarity):
    """Return logits as section 2.1 of the paper defines them, patch by patch and prototype by prototype."""
    first, second = network.add_on[0], network.add_on[2]
    latent = torch.sigmoid(second(torch.relu(first(network.features(images)))))
    logits = torch.zeros(len(images), 10)
    for image, patches in enumerate(latent):
        for number, prototype in enumerate(network.prototypes.vectors):
            most = -math.inf
            for row, column in itertools.product(range(patches.shape[1]), range(patches.shape[2])):
                distance = sum((z - p) ** 2 for z, p in zip(patches[:, row, column], prototype, strict=True)).item()
                like = math.log((distance + 1) / (distance + 1e-4)) if similarity == "log" else -distance
                most = max(most, like)
            logits[image] += most * network.last.weight[:, number]
    return logits


@pytest.mark.parametrize("similarity", ["log", "linear"])
@torch.no_grad()
def test_logits_equal_the_slow_twin(small, similarity):
    network, _ = protopnet(similarity=similarity)
    network.last.weight.normal_()
    torch.testing.assert_close(network(small), slow_logits(network, small, similarity), rtol=1e-4, atol=1e-4)


def test_training_mode_returns_the_same_logits_and_the_least_distances(small):
    network, _ = protopnet()
    logits, latent = network(small), network.latent(small)
    network.training = True  # but not its batch norms
    found = network(small)
    assert torch.equal(found.logits, logits)
    for image, number in itertools.product(range(3), range(len(CLASSES))):
        apart = latent[image].flatten(1) - network.prototypes.vectors[number][:, None]
        assert found.distances[image, number].item() == pytest.approx(apart.square().sum(0).min().item(), abs=1e-5)


def test_at_the_start_a_prototype_speaks_for_its_class_and_half_as_much_against_others():
    weight = protopnet()[0].last.weight
    for label, number in itertools.product(range(10), range(len(CLASSES))):
        assert weight[label, number] == (1.0 if CLASSES[number] == label else -0.5)


def test_a_patch_is_at_no_distance_from_itself_and_no_distance_is_negative():
    layer = PrototypeLayer(200, 64, "log")
    distances = layer.distances(layer.vectors.T.reshape(1, 64, 10, 20)).flatten(2)[0]
    assert distances.min() >= 0
    assert distances.diagonal().max() < 1e-4
    assert layer.of_distances(torch.zeros(1)).item() == pytest.approx(math.log(1e4), rel=1e-4)


@torch.no_grad()
def test_rounding_is_not_taken_for_likeness():
    """Near a prototype the logarithm has a slope of 10,000; there ‖z‖² - 2 z·p + ‖p‖² has lost most of its digits."""
    layer = PrototypeLayer(20, 64, "log")
    latent = (layer.vectors + 1e-3 * torch.randn(20, 64)).T.reshape(1, 64, 4, 5)
    patches = latent[0].flatten(1).T.double()
    least = (layer.vectors.double()[:, None] - patches).square().sum(2).amin(1)
    expected = ((least + 1) / (least + 1e-4)).log()
    torch.testing.assert_close(layer(latent)[0].double(), expected, rtol=1e-6, atol=0)


def test_distances_are_computed_in_float32_under_bfloat16(small):
    network, _ = protopnet()
    latent = network.latent(small).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = network.prototypes.distances(latent)
        assert network(small).dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert torch.equal(found, network.prototypes.distances(latent.float()))


@pytest.mark.parametrize(
    ("name", "layer", "last"),
    [
        ("resnet8", None, "layer3"),
        ("resnet8", "layer1", "layer1"),
        ("resnet18", None, "layer4"),
        ("resnet50", "layer2", "layer2"),
        ("vgg11_bn", None, "28"),
        ("vgg16", "features.4", "4"),
    ],
)
def test_the_backbone_is_the_layers_up_to_the_named_one(name, layer, last):
    with torch.device("meta"):
        network = architectures.build(name, "imagenet", 10, 32)
        made = ProtoPNet(network, Prototypes(layer, DIMENSION, "log", CLASSES), 10)
    children = dict((network.features if name.startswith("vgg") else network).named_children())
    taken = dict(made.features.named_children())
    assert list(taken) == list(children)[: list(children).index(last) + 1]
    assert all(taken[child] is children[child] for child in taken)
    assert made(torch.zeros(2, 3, 32, 32, device="meta")).logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "layer", "words"),
    [
        ("densenet121", None, "model.name: a DenseNet has no prototypes"),
        ("mlp", None, "model.name: a Mlp has no prototypes"),
        ("resnet8", "layer9", "prototypes.layer: 'layer9' is none of layer1, layer2, layer3$"),
        ("resnet18", "fc", "prototypes.layer: 'fc' is none of layer1, layer2"),
        ("vgg11", "features.21", "prototypes.layer: 'features.21' is none of features.0, .*, features.20$"),
    ],
)
def test_a_backbone_that_does_not_exist_is_refused(name, layer, words):
    with torch.device("meta"):
        network = architectures.build(name, "imagenet", 10, 32)
    with pytest.raises(InputError, match=words):
        ProtoPNet(network, Prototypes(layer, DIMENSION, "log", CLASSES), 10)


@torch.no_grad()
def test_removed_prototypes_are_gone_and_the_others_say_what_they_said(small):
    network, architecture = protopnet()
    network.last.weight.normal_()
    gone, kept = [1, 5], [0, 2, 3, 4, 6]
    parts = network.last.weight * network.prototypes(network.latent(small))[:, None]  # N x classes x prototypes
    vectors = network.prototypes.vectors.clone()
    network.remove(gone)
    torch.testing.assert_close(network(small), parts[:, :, kept].sum(2))
    assert torch.equal(network.prototypes.vectors, vectors[kept])
    assert network.own.nonzero()[:, 0].tolist() == sorted(architecture.prototypes.without(gone).classes)
    assert network.own[2].tolist() == [False, False, True, True, False]


def test_sources_stay_with_their_prototypes():
    sources = [Source(f"image {n}", "g", "0", [0, 0], [0, 0, 1, 1]) for n in range(len(CLASSES))]
    left = dataclasses.replace(protopnet()[1].prototypes, sources=sources).without([0, 3])
    assert left.classes == [0, 1, 2, 3, 9]
    assert [source.image for source in left.sources] == ["image 1", "image 2", "image 4", "image 5", "image 6"]


def test_the_digest_is_of_what_makes_patches_alone():
    network, _ = protopnet()
    before = network.digest()
    with torch.no_grad():
        network.last.weight += 1
        network.prototypes.vectors += 1
    assert network.digest() == before
    for tensor in (network.add_on[2].bias.data, network.features.bn1.running_mean):
        tensor[0] += 1
        assert network.digest() != before
        before = network.digest()


@pytest.fixture
def pruned():
    """Return a ProtoPNet without some filters of its backbone and some prototypes, and its architecture."""
    network, architecture = protopnet()
    source = Source("an image", "its group", "0" * 64, [1, 2], [0, 4, 8, 12])
    prototypes = dataclasses.replace(architecture.prototypes, sources=[source] * len(CLASSES), backbone_sha256="1" * 64)
    groups = surgery.prunable_groups(network, 16, ["features.*"], [])
    history = surgery.remove(network, 16, {groups[0].root: [1, 3], groups[-1].root: [0]})
    history += surgery.remove(network, 16, {groups[-1].root: [5, 6]})
    network.remove([1, 5])
    return network, dataclasses.replace(architecture, history=history, prototypes=prototypes.without([1, 5]))


def test_filters_of_the_backbone_can_be_removed_and_patches_keep_their_channels():
    network, _ = protopnet()
    groups = surgery.prunable_groups(network, 16, ["features.*"], [])
    members = {name for group in groups for name in group.layers}
    assert members == {name for name in architectures.scored_layers(network) if name.startswith("features.")}
    surgery.remove(network, 16, {group.root: [0] for group in groups})
    assert network.add_on[0].in_channels == 64 - 1
    assert network.latent(torch.zeros(1, 3, 16, 16)).shape == (1, DIMENSION, 4, 4)


def test_a_pruned_protopnet_is_loaded_as_it_was_saved(pruned, small, tmp_path):
    network, architecture = pruned
    for name in ("a", "b"):
        checkpoint.save(tmp_path / name, network, architecture)
    loaded, read = checkpoint.load(tmp_path / "a")
    checkpoint.save(tmp_path / "c", loaded, read)
    assert read == architecture
    assert torch.equal(loaded(small), network(small))
    assert torch.equal(loaded.own, network.own)
    assert (loaded.digest(), measure(loaded, 16)) == (network.digest(), measure(network, 16))
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b") == sha256(tmp_path / "c")


def test_torch_pruning_knows_the_dimension_of_prototypes():
    network, _ = protopnet()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        graph = dependency_graph(network, 16)
    layer = network.add_on[2]
    graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, [3]).prune()
    assert network.prototypes.vectors.shape == (len(CLASSES), DIMENSION - 1)


def test_macs_count_distances_and_the_last_layer():
    whole, _ = protopnet()
    fewer, _ = protopnet()
    fewer.remove([0, 4, 5])
    before, after = measure(whole, 16), measure(fewer, 16)
    assert before.macs - after.macs == 3 * (DIMENSION * POSITIONS + 10)
    assert before.params - after.params == 3 * (DIMENSION + 10)
    assert before.filters == after.filters
