import gc
import weakref

import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.attribution.canonical import canonical
from stages.attribution.composites import ByGraph, Rules
from stages.attribution.filters import at_outputs, from_class, of_cross_entropy, reduce
from stages.networks.architectures import scored_layers


def both(name, output):
    """Measure the output and its gradient as they are."""
    return lambda gradient: (output, gradient)


def test_gradients_are_those_of_each_images_own_loss(build, images):
    network = canonical(build("resnet8"))
    layers = scored_layers(network)
    labels = torch.arange(6)
    (together,) = at_outputs(network, layers, [(images, labels)], of_cross_entropy, both)
    for number in (0, 4):
        one = [(images[number : number + 1], labels[number : number + 1])]
        (alone,) = at_outputs(network, layers, one, of_cross_entropy, both)
        for name, (z, slope) in alone.items():
            assert torch.allclose(z[0], together[name][0][number], atol=1e-5)
            assert torch.allclose(slope[0], together[name][1][number], atol=1e-5)


def test_the_gradient_of_cross_entropy_is_autograds():
    logits, labels = torch.randn(4, 3, requires_grad=True), torch.tensor([0, 2, 1, 1])
    cross_entropy(logits, labels, reduction="sum").backward()
    assert torch.allclose(of_cross_entropy(logits.detach(), labels), logits.grad, atol=1e-6)


def test_relevance_starts_where_it_is_told_to():
    logits, labels = torch.tensor([[1.0, 3.0, -2.0]]), torch.tensor([2])
    assert from_class("true", "one")(logits, labels).tolist() == [[0, 0, 1]]
    assert from_class("true", "logit")(logits, labels).tolist() == [[0, 0, -2]]
    assert from_class("predicted", "one")(logits, labels).tolist() == [[0, 1, 0]]
    assert from_class("predicted", "logit")(logits, labels).tolist() == [[0, 3, 0]]


def test_nothing_is_computed_below_the_lowest_layer(build, images):
    network = canonical(build("resnet18"))
    chosen = {"layer4.1.conv2": network.get_submodule("layer4.1.conv2")}
    seen = []
    for name, module in network.named_modules():
        module.register_forward_hook(lambda m, x, y, name=name: seen.append((name, y.requires_grad)))
    (found,) = at_outputs(
        network, chosen, [(images, torch.arange(6))], from_class("true", "one"), both, ByGraph(Rules())
    )
    with_graph = [name for name, requires_grad in seen if requires_grad]
    assert set(found) == {"layer4.1.conv2"}
    assert with_graph == ["sum_add_7", "layer4.1.relu", "avgpool", "fc", ""]


def test_a_gradient_is_kept_no_longer_than_it_takes_to_measure_it(build, images):
    network = canonical(build("resnet8"))
    gradients = []

    def measure(name, output):
        def of_gradient(gradient):
            gc.collect()
            alive = sum(reference() is not None for reference in gradients)
            gradients.append(weakref.ref(gradient))
            return alive

        return of_gradient

    (found,) = at_outputs(network, scored_layers(network), [(images, torch.arange(6))], of_cross_entropy, measure)
    assert len(found) > 8
    assert max(found.values()) <= 3  # of a block's branches


@pytest.mark.parametrize("composite", [None, ByGraph(Rules())])
def test_nothing_is_left_on_the_network_when_a_measure_raises(build, images, composite):
    network = canonical(build("resnet8"))
    before = [(sorted(vars(module)), len(module._forward_hooks)) for module in network.modules()]

    def measure(name, output):
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        list(
            at_outputs(
                network, scored_layers(network), [(images, torch.arange(6))], of_cross_entropy, measure, composite
            )
        )
    assert [(sorted(vars(module)), len(module._forward_hooks)) for module in network.modules()] == before


def test_reductions_are_what_they_say():
    values = torch.tensor([[[[1.0, -2.0]], [[3.0, 3.0]]], [[[4.0, 0.0]], [[-9.0, 1.0]]]])  # 2 x 2 x 1 x 2
    assert reduce(values, "sum").tolist() == [3, -2]
    assert reduce(values, "abs-sample").tolist() == [5, 14]
    assert reduce(values, "abs-pixel").tolist() == [7, 16]
    assert reduce(values, "abs-sample", "mean").tolist() == [2.5, 7]
    assert reduce(torch.tensor([[1.0, -2.0], [3.0, -4.0]]), "abs-sample").tolist() == [4, 6]
