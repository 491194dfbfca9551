import numpy as np
import pytest
import torch
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.visualization import FeatureVisualization

from stages.attribution.atlas import survey
from stages.attribution.canonical import activations_after, canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import propagated, shares
from stages.attribution.filters import from_class
from stages.attribution.references import Highest, fields


class Labelled(torch.utils.data.Dataset):
    """Images and their labels, as zennit-crp wants them."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, row):
        return self.images[row], int(self.labels[row])


def of_zennit_crp(form, layer, images, labels, folder, abs_norm):
    """Return zennit-crp's reference images of a layer: a folder with its rankings."""
    theirs = FeatureVisualization(
        CondAttribution(form, no_param_grad=False), Labelled(images, labels), {layer: ChannelConcept()},
        max_target="sum", abs_norm=abs_norm, path=str(folder),
    )  # fmt: skip
    theirs.run(ByGraph(Rules()), 0, len(images), batch_size=8)
    return folder


def same(ours, layer, folder, named):
    """Assert that the images are zennit-crp's, of each concept that has so many."""
    values, expected = (np.load(folder / f"{named}_{kind}.npy")[:5] for kind in ("rel", "data"))
    found = torch.stack([ours.of(layer, concept)[0] for concept in range(expected.shape[1])], 1).numpy()
    distinct = values != 0  # concepts that no further image has are in any order
    assert distinct.mean() > 0.5
    assert (found == expected)[distinct].all()


def test_reference_images_are_those_of_zennit_crp(build, tmp_path):
    form, layer = canonical(build("vgg11_bn")), "features.8"
    activation = {module: name for name, module in form.named_modules()}[activations_after(form)[layer]]
    images = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = form(images).argmax(1)
    by_relevance, by_activation = Highest(5), Highest(5)
    parts = torch.arange(24).split(6)
    rows = iter(parts)

    def take(found, *_):
        numbers = next(rows)
        by_relevance.add({layer: shares(found[layer].relevance)}, numbers)
        by_activation.add({layer: found[layer].activation}, numbers)

    survey(form, [layer], [(images[part], labels[part]) for part in parts], ByGraph(Rules()), take)
    theirs = of_zennit_crp(form, layer, images, labels, tmp_path / "relevance", abs_norm=True)
    same(by_relevance, layer, theirs / "RelMax_sum_normed", layer)
    theirs = of_zennit_crp(form, activation, images, labels, tmp_path / "activation", abs_norm=False)
    same(by_activation, layer, theirs / "ActMax_sum_unnormed", activation)


def test_images_with_equal_values_are_kept_in_their_order():
    highest = Highest(2)
    highest.add({"layer": torch.tensor([[1.0, 0.0], [1.0, 3.0]])}, torch.tensor([7, 8]))
    highest.add({"layer": torch.tensor([[1.0, 2.0], [0.0, 3.0]])}, torch.tensor([9, 10]))
    assert [values.tolist() for values in highest.of("layer", 0)] == [[7, 8], [1, 1]]
    assert [values.tolist() for values in highest.of("layer", 1)] == [[8, 10], [3, 3]]


def test_a_neuron_sees_its_receptive_field(build, images):
    form, layer = canonical(build("vgg11_bn")), "features.4"
    form.get_submodule("features.0").weight.data.abs_()
    form.get_submodule(layer).weight.data.abs_()
    labels = torch.arange(6)
    with propagated(
        form,
        [layer],
        images,
        labels,
        from_class("true", "one"),
        ByGraph(Rules.named("zplus")),
    ) as found:
        concept = int(found.relevance[layer].abs().sum((0, 2, 3)).argmax())
        positions = found.relevance[layer][:, concept].flatten(1).abs().argmax(1)
        parts = fields(found, layer, concept, positions)
    for position, ((rows, columns), heat) in zip(positions.tolist(), parts, strict=True):
        row, column = divmod(position, 16)  # 3 x 3 at half the resolution over 2 x 2 over 3 x 3: 8 x 8 pixels
        assert rows == slice(max(2 * row - 3, 0), min(2 * row + 5, 32))
        assert columns == slice(max(2 * column - 3, 0), min(2 * column + 5, 32))
        assert heat.abs().sum() > 0


def test_a_neuron_of_a_linear_layer_sees_the_whole_image(build, images):
    form, layer = canonical(build("vgg11")), "classifier.0"
    rules, first = ByGraph(Rules.named("zplus")), torch.zeros(6, dtype=torch.int64)
    with propagated(form, [layer], images, torch.arange(6), from_class("true", "one"), rules) as found:
        concept = int(found.relevance[layer].abs().sum(0).argmax())
        expected = found.heat_maps(layer, concept)
        parts = fields(found, layer, concept, first)
        started = fields(found, layer, concept, first, torch.ones_like(found.relevance[layer]))
    for ((rows, columns), heat), image in zip(parts, expected, strict=True):
        assert torch.equal(heat, image)
        assert rows == slice(0, 32) and columns == slice(0, 32)
    assert all(heat.sum() == pytest.approx(1.0, rel=1e-3) for _, heat in started)
