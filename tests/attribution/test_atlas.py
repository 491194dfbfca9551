import gc

import numpy as np
import pytest
import torch
from torch import nn

from stages.attribution import regions
from stages.attribution.atlas import Atlas, Found, ranks, survey, votes
from stages.attribution.canonical import activations_after, bottlenecks, canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import propagated, shares
from stages.attribution.filters import from_class


def predicted(form, images):
    with torch.no_grad():
        return form(images).argmax(1)


def counted(labels):
    """Number images so that each is a group of its own."""
    counted.number = getattr(counted, "number", 0) + len(labels)
    return list(range(counted.number - len(labels), counted.number))


def atlas_of(form, layers, batches, rules=None, classes=10):
    atlas = Atlas(classes)

    def take(found, labels, _):
        atlas.add(found, labels, counted(labels))

    return atlas, survey(form, layers, batches, ByGraph(rules or Rules()), take)


def test_the_atlas_is_the_mean_over_the_images_of_a_class_that_the_network_gets_right(build, images):
    form, layers = canonical(build("vgg11_bn")), ["features.4", "features.8"]
    labels = predicted(form, images)
    labels[-1] = (labels[-1] + 1) % 10
    right = predicted(form, images) == labels
    batches = [(images[:4], labels[:4]), (images[4:], labels[4:])]
    atlas, _ = atlas_of(form, layers, batches)
    label = int(labels[0])
    chosen = right & (labels == label)
    assert chosen.any() and not right.all()
    outputs = {}
    for name in layers:
        activations_after(form)[name].register_forward_hook(lambda m, x, y, name=name: outputs.update({name: y}))
    with propagated(form, layers, images, labels, from_class("true", "one"), ByGraph(Rules())) as found:
        relevance = dict(found.relevance)
    for name in layers:
        entry, of_images = atlas.entry(name, label), shares(relevance[name])[chosen]
        assert entry.images == chosen.sum()
        assert torch.allclose(entry.share.float(), of_images.mean(0), atol=1e-6)
        assert torch.allclose(entry.activation.float(), outputs[name][chosen].mean((0, 2, 3)), atol=1e-5)
        first = [set(row.topk(5).indices.tolist()) for row in of_images]
        assert entry.votes.tolist() == [sum(channel in each for each in first) for channel in range(len(entry.votes))]
    assert atlas.entry(layers[0]).images == right.sum()
    with pytest.raises(ValueError, match="no image of class"):
        atlas.entry(layers[0], next(label for label in range(10) if label not in labels))


def bytes_of_tensors():
    """Return how many bytes the process's tensors hold on the processor."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), torch.Tensor)]
    there = [each for each in tensors if each.layout is torch.strided and each.device.type == "cpu"]
    storages = [each.untyped_storage() for each in there]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_memory_does_not_grow_with_the_number_of_images(build, images):
    form, held = canonical(build("resnet8")), []
    labels = predicted(form, images)

    def batches():
        for _ in range(4):
            held.append(bytes_of_tensors())
            yield images.clone(), labels

    atlas_of(form, ["conv1", "layer3.0.conv2"], batches())
    assert held[0] < held[1] == held[2] == held[3]  # the first batch makes the sums


def test_intervals_are_those_of_the_bootstrap():
    values = torch.from_numpy(np.random.default_rng(0).normal([0.1, 0.5], [0.02, 0.1], (400, 2))).clamp(min=1e-3)
    relevance = torch.cat([values, 1 - values.sum(1, keepdim=True)], 1)
    atlas = Atlas(1, resamples=2000)
    for part in relevance.split(50):
        atlas.add({"layer": Found(part, part)}, torch.zeros(len(part), dtype=torch.int64), counted(part))
    entry, share = atlas.entry("layer", 0), shares(relevance)
    drawn = np.random.default_rng(1).integers(0, 400, (2000, 400))
    low, high = np.quantile(share.numpy()[drawn].mean(1), [0.025, 0.975], axis=0)
    assert torch.allclose(entry.share, share.mean(0))
    width = high - low
    assert (np.abs(entry.low.numpy() - low) < 0.1 * width).all()
    assert (np.abs(entry.high.numpy() - high) < 0.1 * width).all()


def test_images_of_one_group_are_resampled_together():
    values = torch.rand(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(240, dtype=torch.int64)
    four_times, alone = Atlas(1), Atlas(1)
    four_times.add({"layer": Found(values.repeat(4, 1), values.repeat(4, 1))}, labels, list(range(60)) * 4)
    alone.add({"layer": Found(values, values)}, labels[:60], list(range(60)))
    assert torch.allclose(four_times.entry("layer", 0).low, alone.entry("layer", 0).low)
    assert torch.allclose(four_times.entry("layer", 0).high, alone.entry("layer", 0).high)
    single = Atlas(1)
    single.add({"layer": Found(values[:9], values[:9])}, labels[:9], [3] * 9)
    assert single.entry("layer", 0).low.isnan().all()


def test_ties_are_ties():
    uniform = torch.full((3, 8), 1 / 8)
    assert votes(uniform).tolist() == [[5 / 8] * 8] * 3
    assert ranks(uniform[0]).tolist() == [1] * 8
    assert ranks(torch.tensor([0.2, 0.5, 0.2 + 1e-9, -0.1])).tolist() == [2, 1, 2, 4]
    assert votes(torch.tensor([[0.5, 0.1, 0.1, 0.3]]), places=3).tolist() == [[1, 0.5, 0.5, 1]]
    assert votes(torch.tensor([[0.6, 0.4]])).tolist() == [[1, 1]]
    assert votes(torch.tensor([[0.6, 0.4, 0, 0, 0, 0, -0.1]])).tolist() == [[1, 1, 0, 0, 0, 0, 0]]
    near = torch.tensor([[0.3, 0.2, 0.1, 0.1, 0.1 + 3e-8, 0.1 - 3e-8, 0.1]], dtype=torch.float64)
    assert votes(near)[0].tolist() == pytest.approx([1, 1, 0.6, 0.6, 0.6, 0.6, 0.6])
    assert ranks(near[0]).tolist() == [1, 2, 3, 3, 3, 3, 3]
    assert ranks(torch.linspace(1, 1 - 9e-6, 10, dtype=torch.float64))[-1] > 1  # what is near what is near is not near


@pytest.mark.parametrize(
    ("name", "layers"),
    [("vgg11_bn", ["features.0", "features.25"]), ("resnet8", ["conv1", "layer1.0.conv1", "layer2.0.downsample.0"])],
)
def test_what_is_lost_is_found_also_beside_parallel_paths(build, images, name, layers):
    form = canonical(build(name)).double()
    batches = [(images.double(), predicted(form, images.double()))]
    _, kept = atlas_of(form, layers, batches, Rules.named("zplus"))
    _, lost = atlas_of(form, layers, batches, Rules.named("epsilon", epsilon=1.0))
    assert all(value < 1e-3 for value in kept.values())  # some is spread evenly
    with propagated(form, layers[:1], *batches[0], from_class("true", "one"), ByGraph(Rules.named("zplus"))) as found:
        arrived = found.relevance[layers[0]].flatten(1).sum(1)
    torch.testing.assert_close(arrived, torch.ones_like(arrived), atol=1e-12, rtol=0)
    assert all(value > 0.1 for value in lost.values())


def test_what_no_concept_brought_is_lost_though_it_is_spread_over_all(build, images):
    network = build("vgg11")
    with torch.no_grad():
        network.get_submodule("features.11").bias.fill_(-1e3)  # the activation after it is silent
        for name in ("features.13", "features.16", "features.18"):
            network.get_submodule(name).bias.fill_(0.1)  # what comes after it is not
    form, layers = canonical(network), ["features.8", "features.11", "features.13", "features.16"]
    labels = predicted(form, images)
    _, lost = atlas_of(form, layers, [(images[:3], labels[:3]), (images[3:], labels[3:])])
    assert lost["features.16"] < 1e-3 and lost["features.13"] < 1e-3
    assert lost["features.11"] > 0.9 and lost["features.8"] > 0.9


def test_all_paths_lead_through_bottlenecks(build):
    found = bottlenecks(canonical(build("resnet8")))
    assert {"conv1", "relu", "avgpool", "fc"} < found  # layer1.0.relu and its like are used twice
    assert sum(name.startswith("sum_") for name in found) == 3
    assert not any("conv" in name and name != "conv1" or "downsample" in name for name in found)
    form = canonical(build("vgg11_bn"))
    assert {name for name, module in form.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)} < bottlenecks(
        form
    )


def test_relevance_within_a_region_is_counted_where_it_is(build, images):
    form, layer = canonical(build("vgg11_bn")), "features.4"
    labels = predicted(form, images)
    masks = torch.zeros(6, 32, 32)
    masks[:, :, :8] = 1
    atlas, _ = atlas_of(form, [layer, "classifier.0"], [(images, labels, masks)])
    with propagated(form, [layer], images, labels, from_class("true", "one"), ByGraph(Rules())) as found:
        relevance = found.relevance[layer].abs()  # N x C x 16 x 16: the region is its first four columns
    entry = atlas.entry(layer)
    expected = relevance[..., :4].sum((0, 2, 3)) / relevance.sum((0, 2, 3))
    assert torch.allclose(entry.inside.float(), expected, atol=1e-6, equal_nan=True)
    assert (entry.inside_low <= entry.inside_high)[~entry.inside.isnan()].all()
    assert atlas.entry("classifier.0").inside is None
    assert entry.area == pytest.approx(0.25)


def test_each_image_may_have_a_region_of_its_own_and_those_a_layer_cannot_tell_are_not_counted(build, images):
    form, layer = canonical(build("vgg11_bn")), "features.4"
    labels = predicted(form, images)
    masks = torch.zeros(6, 32, 32)
    masks[:3, :, :8] = 1
    masks[3:5, 16:] = 1
    masks[5] = 0.5  # the same everywhere
    atlas, _ = atlas_of(form, [layer], [(images[:4], labels[:4], masks[:4]), (images[4:], labels[4:], masks[4:])])
    with propagated(form, [layer], images, labels, from_class("true", "one"), ByGraph(Rules())) as found:
        relevance = found.relevance[layer].abs()
    inside = relevance[:3, ..., :4].sum((0, 2, 3)) + relevance[3:5, :, 8:].sum((0, 2, 3))
    entry = atlas.entry(layer)
    expected = inside / relevance[:5].sum((0, 2, 3))
    assert torch.allclose(entry.inside.float(), expected, atol=1e-6, equal_nan=True)
    assert entry.area == pytest.approx((3 * 0.25 + 2 * 0.5) / 5)
    whole, low, high, area = atlas.region(layer)
    assert whole == pytest.approx((inside.sum() / relevance[:5].sum()).item(), abs=1e-6) and area == entry.area
    assert low <= whole <= high
    share = entry.share.abs() / entry.share.abs().sum()
    effective, low, high = atlas.spread(layer)
    assert effective == pytest.approx((-share * share.clamp(min=1e-30).log()).sum().exp().item(), rel=1e-6)
    assert 1 < low <= high <= len(share)


def test_a_layer_that_cannot_tell_a_region_says_nothing_of_it(build, images):
    form = canonical(build("vgg11_bn"))
    labels = predicted(form, images)
    disc = regions.disc(32, 0.5, 0.5, 0.25).expand(6, -1, -1)
    atlas, _ = atlas_of(form, ["features.4", "features.22"], [(images, labels, disc)])  # 16 x 16, 2 x 2
    assert atlas.entry("features.22").inside is None
    assert atlas.region("features.22") is None
    assert atlas.entry("features.4").inside is not None
