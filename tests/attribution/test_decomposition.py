import torch

from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.concepts import propagated
from stages.attribution.decomposition import decompose
from stages.attribution.filters import from_class

LABELS = torch.arange(6)


def test_sub_concepts_are_those_that_relevance_goes_to_layer_by_layer(build, images):
    layers = ["features.0", "features.4", "features.8"]
    form = canonical(build("vgg11_bn"))
    with propagated(form, layers, images, LABELS, from_class("true", "one"), ByGraph(Rules())) as found:
        edges = decompose(found, ("features.8", 3), layers, [3, 2])
        part = found.of("features.8", [3], at=["features.4"])["features.4"].sum((0, 2, 3))
        first = (part / found.relevance["features.8"][:, 3].sum((1, 2)).abs().sum()).sort(descending=True)
    assert [edge.below for edge in edges[:3]] == [("features.4", channel) for channel in first.indices[:3].tolist()]
    assert torch.allclose(torch.tensor([edge.share for edge in edges[:3]]), first.values[:3])
    assert [edge.above for edge in edges[3:]] == [edge.below for edge in edges[:3] for _ in range(2)]
    assert {edge.below[0] for edge in edges[3:]} == {"features.0"}
    assert len(edges) == 3 + 3 * 2


def test_layers_that_no_relevance_of_a_concept_reaches_are_passed_over(build, images):
    layers = ["layer1.0.conv2", "layer2.0.conv2", "layer2.0.downsample.0"]  # the last two are parallel
    form = canonical(build("resnet8"))
    with propagated(form, layers, images, LABELS, from_class("true", "one"), ByGraph(Rules())) as found:
        edges = decompose(found, ("layer2.0.downsample.0", 1), layers, [1])
    assert [(edge.above[0], edge.below[0]) for edge in edges] == [("layer2.0.downsample.0", "layer1.0.conv2")]
