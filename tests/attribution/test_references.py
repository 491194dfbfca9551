import numpy as np
import pytest
import torch
from crp.attribution import CondAttribution
from crp.concepts import ChannelConcept
from crp.visualization import FeatureVisualization

from stages.attribution.canonical import canonical
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


def test_reference_images_are_those_of_zennit_crp(build, tmp_path):
    form, layer, rules = canonical(build("resnet8")), "layer2.0.conv1", ByGraph(Rules())
    images = torch.randn(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24) % 10
    theirs = FeatureVisualization(
        CondAttribution(form, no_param_grad=False), Labelled(images, labels), {layer: ChannelConcept()},
        max_target="sum", abs_norm=True, path=str(tmp_path),
    )  # fmt: skip
    theirs.run(rules, 0, 24, batch_size=8)
    by_relevance, by_activation = Highest(5), Highest(5)
    for rows in torch.arange(24).split(6):
        with propagated(form, [layer], images[rows], labels[rows], from_class("true", "logit"), rules) as found:
            by_relevance.add({layer: shares(found.relevance[layer])}, rows)
            by_activation.add({layer: shares(found.outputs[layer].detach())}, rows)
    for ours, folder in ((by_relevance, "RelMax_sum_normed"), (by_activation, "ActMax_sum_normed")):
        values = np.load(tmp_path / folder / f"{layer}_rel.npy")[:5]
        expected = np.load(tmp_path / folder / f"{layer}_data.npy")[:5]
        found = torch.stack([ours.of(layer, concept)[0] for concept in range(expected.shape[1])], 1).numpy()
        distinct = values != 0  # concepts that no further image has are in any order
        assert distinct.mean() > 0.5
        assert (found == expected)[distinct].all()


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
