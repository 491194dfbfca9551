"""A test of meaning: a network that was taught a shortcut, and what takes it out again.

Every training image of one class has a red square in a corner. A filter that carries it is found by where its relevance
lies; removed, the square no longer decides. Weight magnitude leaves it in.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.attribution import regions
from stages.attribution.atlas import Atlas, survey
from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.datasets import fashion_mnist, splits, store
from stages.networks import architectures
from stages.networks.architectures import scored_layers
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.params.pruning import Layers
from stages.params.scores import Crp, Region
from stages.pruning import selection, surgery
from stages.pruning.ranking import ranked

SHORTCUT = "bag"
CORNER = [0.0, 0.0, 0.22, 0.22]
EVERYWHERE = Layers(include=["*"], exclude=[])
WITHIN_BLOCKS = Layers(include=["*.conv1"], exclude=[])  # where no other layer loses a channel with a filter

pytestmark = pytest.mark.slow


def marked(images):
    """Return images with a red square in their corner."""
    images = images.copy()
    images[:, 1:6, 1:6] = [255, 0, 0]
    return images


@pytest.fixture(scope="module")
def taught(tmp_path_factory, embedded):
    """Return a network that learned the shortcut, and the data: as they are, and with the square on every image."""
    source = fashion_mnist.read(embedded)
    split = splits.assign(source.records, source.classes, {"val": 0.125, "test": 0.25}, 0)
    source = replace(source, records=source.records.assign(split=split))
    folder = tmp_path_factory.mktemp("shortcut")
    store.write(folder, "fashion-mnist", source, splits.limit(source.records, 300, 0), 32)
    clean = store.load(folder)
    shortcut = (clean.index["label"] == clean.classes.index(SHORTCUT)).to_numpy()
    taught = np.where(shortcut[:, None, None, None], marked(clean.images), clean.images)
    architecture = Architecture("resnet8", "imagenet", clean.classes, 32, [0.3] * 3, [0.35] * 3, channels_last=False)
    torch.manual_seed(0)
    network = architectures.build("resnet8", "imagenet", 10, 32)
    images, labels = replace(clean, images=taught).batch(clean.rows("train"))
    images = architecture.normalise(images)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    batches = [batch for _ in range(6) for batch in torch.randperm(len(images)).split(64) if len(batch) == 64]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=len(batches))
    for batch in batches:
        optimiser.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
        schedule.step()
    everywhere = replace(clean, images=marked(clean.images))
    return network.eval(), architecture, clean, replace(clean, images=taught), everywhere


def of_others(network, architecture, data):
    """Return the accuracy on test images of the other classes, and how many of them are taken for the shortcut's."""
    logits, labels = predict(network, architecture, data, data.rows("test"), 250)
    shortcut = data.classes.index(SHORTCUT)
    others, found = labels != shortcut, logits.argmax(1)
    return (found == labels)[others].double().mean().item(), (found == shortcut)[others].double().mean().item()


def of_the_class(network, architecture, data):
    """Return the share of the test images of the shortcut's class that are recognised."""
    logits, labels = predict(network, architecture, data, data.rows("test"), 250)
    own = labels == data.classes.index(SHORTCUT)
    return (logits.argmax(1) == labels)[own].double().mean().item()


def tuned(network, architecture, data, updates, seed):
    """Return the network after some updates on the training images, as the study tunes after a cut."""
    torch.manual_seed(seed)
    network = copy.deepcopy(network).train()
    images, labels = data.batch(data.rows("train"))
    images = architecture.normalise(images)
    optimiser = torch.optim.SGD(network.parameters(), 0.005, momentum=0.9, weight_decay=5e-4)
    for batch in torch.randperm(len(images)).split(64)[:updates]:
        optimiser.zero_grad()
        cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
    return network.eval()


def in_order(taught, params, criterion, layers):
    """Return the filters of some layers, those that a criterion removes first first."""
    network, architecture, _, data, _ = taught
    crp = Crp(class_name=None, contrast=None, region=Region(box=CORNER))
    settings = params.prune.scores.model_copy(update={"crp": crp, "classes": [SHORTCUT], "references_per_class": 50})
    return ranked(criterion, network, architecture, data, layers, settings, 0, min_channels=1)


def without(taught, params, criterion, count, layers=WITHIN_BLOCKS):
    """Return the network without the `count` filters of some layers that a criterion removes first."""
    network, architecture, *_ = taught
    pruned = copy.deepcopy(network)
    surgery.remove(
        pruned, architecture.image_size, selection.by_group(in_order(taught, params, criterion, layers)[:count])
    )
    return pruned


def test_the_network_relies_on_the_shortcut_and_the_atlas_shows_the_filter_that_carries_it(taught, params):
    network, architecture, clean, data, everywhere = taught
    accuracy, _ = of_others(network, architecture, clean)
    fooled, said = of_others(network, architecture, everywhere)
    assert accuracy > 0.6
    assert fooled < accuracy - 0.3
    assert said > 0.5
    form, layers, label = canonical(network), list(scored_layers(network))[:3], clean.classes.index(SHORTCUT)
    rows = data.references(50, 0, [SHORTCUT])
    region = regions.box(32, *CORNER)
    batches = [(architecture.normalise(images), y, region.expand(50, -1, -1)) for images, y in data.batches(rows, 50)]
    atlas = Atlas(10)
    survey(form, layers, batches, ByGraph(Rules()), lambda found, labels, _: atlas.add(found, labels, range(50)))
    for layer in layers:
        entry = atlas.entry(layer, label)
        first = entry.share.argmax()
        assert entry.inside_low[first] > 0.6 > 10 * region.mean()  # the square has 5 % of the image
    removed = in_order(taught, params, "crp-region", WITHIN_BLOCKS)[0]  # in the tests below
    assert atlas.entry(removed.group.root, label).share.argmax() == removed.channel


@pytest.fixture(scope="module")
def carried_alone(taught, params):
    """Skip where rounding made a network, as on some processors, whose first filter carries more than the mark."""
    network, architecture, clean, *_ = taught
    before, _ = of_others(network, architecture, clean)
    left, _ = of_others(without(taught, params, "crp-region", 1), architecture, clean)
    if left < before - 0.3:
        pytest.skip(f"without the filter of the mark the accuracy is {left:.2f}, with it {before:.2f}")


@pytest.mark.usefixtures("carried_alone")
def test_without_its_filter_the_shortcut_decides_no_more(taught, params):
    network, architecture, clean, _, everywhere = taught
    accuracy, _ = of_others(network, architecture, clean)
    fooled, _ = of_others(network, architecture, everywhere)
    pruned = without(taught, params, "crp-region", 1)
    left, _ = of_others(pruned, architecture, clean)
    recovered, said = of_others(pruned, architecture, everywhere)
    assert left > accuracy - 0.05
    assert recovered - fooled > 0.75 * (accuracy - fooled)
    assert said < 0.05


@pytest.mark.parametrize("count", [1, 8])
def test_weight_magnitude_leaves_the_shortcut_in(taught, params, count):
    _, architecture, clean, _, everywhere = taught
    pruned = without(taught, params, "weight", count)
    left, _ = of_others(pruned, architecture, clean)
    still_fooled, said = of_others(pruned, architecture, everywhere)
    assert still_fooled < left - 0.15
    assert said > 0.25


def step_by_step(taught, params, criterion, order):
    """Return the network after three steps: three filters of any layer go, and it is tuned on the marked images."""
    network, *rest = taught
    for step in range(3):
        network = without((network, *rest), params, criterion, 3, EVERYWHERE)
        network = tuned(network, rest[0], rest[2], updates=20, seed=10 * order + step)
    return network


@pytest.mark.usefixtures("carried_alone")
def test_step_by_step_the_class_is_recognised_without_its_mark_and_weight_magnitude_does_not_help(taught, params):
    """Tuning still sees the mark on every image of the class: without the filters for it, it learns the rest.

    How much of it depends on the order of the images, and on the processor's rounding: means over orders.
    """
    _, architecture, clean, _, everywhere = taught

    def found(network):
        accuracy, _ = of_others(network, architecture, clean)
        _, fooled = of_others(network, architecture, everywhere)
        return of_the_class(network, architecture, clean), accuracy, fooled

    def mean(criterion, orders):
        return np.mean([found(step_by_step(taught, params, criterion, order)) for order in range(orders)], axis=0)

    (unmarked, accuracy, fooled), by_concept, by_weight = found(taught[0]), mean("crp-region", 5), mean("weight", 2)
    assert by_concept[0] > max(unmarked, by_weight[0]) + 0.1
    assert by_concept[1] > accuracy - 0.1
    assert by_concept[2] < 0.5 * fooled
    assert by_weight[0] < unmarked + 0.1
    assert by_weight[2] > 0.7 * fooled
