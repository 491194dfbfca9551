"""Every rule against a matrix-form twin, written from the papers with loops over positions."""

import itertools

import pytest
import torch
from torch import nn
from zennit.attribution import Gradient
from zennit.composites import LayerMapComposite
from zennit.rules import AlphaBeta as ZennitAlphaBeta
from zennit.rules import ZBox

from stages.attribution.layers import Gate, Sum
from stages.attribution.rules import AlphaBeta, Epsilon, Gamma, Halve, Pass, Proportional, WSquare, ZPlus

LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "plain": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "strided and padded": (lambda: nn.Conv2d(3, 4, 3, stride=2, padding=1), (3, 6, 5)),
    "dilated": (lambda: nn.Conv2d(3, 4, (2, 3), dilation=2, padding=(0, 2)), (3, 6, 5)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=(1, 2)), (4, 5, 6)),
    "depthwise": (lambda: nn.Conv2d(3, 3, 3, groups=3, padding=1), (3, 4, 4)),
}


def matrix(layer, shape):
    """Return the layer's weights as a matrix, outputs x inputs, entry by entry."""
    if isinstance(layer, nn.Linear):
        return layer.weight.detach().clone()
    channels, height, width = shape
    kernel = layer.weight.detach()
    (sy, sx), (py, px), (dy, dx) = layer.stride, layer.padding, layer.dilation
    rows = (height + 2 * py - dy * (kernel.shape[2] - 1) - 1) // sy + 1
    columns = (width + 2 * px - dx * (kernel.shape[3] - 1) - 1) // sx + 1
    dense = torch.zeros(kernel.shape[0], rows, columns, channels, height, width, dtype=kernel.dtype)
    of_group, from_group = kernel.shape[0] // layer.groups, channels // layer.groups
    for out, row, column in itertools.product(range(kernel.shape[0]), range(rows), range(columns)):
        first = (out // of_group) * from_group
        for into, ky, kx in itertools.product(range(from_group), range(kernel.shape[2]), range(kernel.shape[3])):
            y, x = row * sy - py + ky * dy, column * sx - px + kx * dx
            if 0 <= y < height and 0 <= x < width:
                dense[out, row, column, first + into, y, x] = kernel[out, into, ky, kx]
    return dense.view(kernel.shape[0] * rows * columns, -1)


def shares(contributions, reach):
    """Return what part of each output each input makes up; where nothing contributes, all that it reaches alike."""
    z = contributions.sum(1, keepdim=True)
    return torch.where(z == 0, reach / reach.sum(1, keepdim=True), contributions / z)


def parts(contributions, reach, relevance):
    return shares(contributions, reach).T @ relevance


def alpha_beta(alpha):
    def twin(w, reach, x, r):
        positive, negative = (w * x).clamp(min=0), (w * x).clamp(max=0)
        beta = (alpha - 1) * (negative.sum(1) != 0).to(r)
        return parts(positive, reach, (1 + beta) * r) - parts(negative, reach, beta * r)

    return twin


def epsilon(value):
    def twin(w, reach, x, r):
        z = w @ x
        return x * (w.T @ (r / (z + value * torch.where(z >= 0, 1.0, -1.0).to(z))))

    return twin


TWINS = {
    "z": (lambda: Epsilon(0.0), lambda w, reach, x, r: parts(w * x, reach, r)),
    "epsilon": (lambda: Epsilon(0.1), epsilon(0.1)),
    "zplus": (lambda: ZPlus(), lambda w, reach, x, r: parts((w * x).clamp(min=0), reach, r)),
    "alpha-beta": (lambda: AlphaBeta(1.7), alpha_beta(1.7)),
    "gamma": (lambda: Gamma(0.3), lambda w, reach, x, r: parts((w + 0.3 * w.clamp(min=0)) * x, reach, r)),
    "wsquare": (lambda: WSquare(), lambda w, reach, x, r: parts(w**2, reach, r)),
}


def propagate(rule, module, inputs, relevance):
    """Return the relevance at the inputs."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    handle = rule.register(module)
    try:
        return torch.autograd.grad(module(*inputs), inputs, relevance)
    finally:
        handle.remove()


def example(kind, nonnegative):
    torch.manual_seed(3)
    make, shape = LAYERS[kind]
    layer = make().double()
    x = torch.randn(2, *shape).double()
    x = x.abs() + 0.1 if nonnegative else x
    return layer, shape, x, torch.randn_like(layer(x))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("nonnegative", [True, False])
def test_a_rule_equals_its_matrix_twin(name, kind, nonnegative):
    layer, shape, x, relevance = example(kind, nonnegative)
    make, twin = TWINS[name]
    (found,) = propagate(make(), layer, [x], relevance)
    dense = matrix(layer, shape)
    reach = (dense != 0).double()
    assert torch.allclose((dense @ x[0].flatten()), (layer(x) - layer(torch.zeros_like(x)))[0].flatten())
    for image, from_above, got in zip(x, relevance, found, strict=True):
        expected = twin(dense, reach, image.flatten(), from_above.flatten())
        assert torch.allclose(got.flatten(), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize("nonnegative", [True, False])
def test_under_a_rule_a_layer_computes_the_same_with_its_bias(name, kind, nonnegative):
    layer, _, x, _ = example(kind, nonnegative)
    assert layer.bias.abs().min() > 1e-4
    before = layer(x)
    handle = TWINS[name][0]().register(layer)
    assert torch.allclose(layer(x.requires_grad_()), before, rtol=1e-12, atol=1e-12)
    handle.remove()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("rule", [ZPlus, AlphaBeta])
def test_one_term_is_enough_where_no_input_is_negative(kind, rule):
    layer, _, x, relevance = example(kind, nonnegative=True)
    (one,) = propagate(rule(nonnegative=True), layer, [x], relevance)
    (two,) = propagate(rule(), layer, [x], relevance)
    assert torch.allclose(one, two, rtol=1e-10)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("name", ["z", "zplus", "alpha-beta", "gamma", "wsquare"])
def test_a_rule_conserves_with_biases_and_where_nothing_contributes(name, kind):
    layer, _, x, relevance = example(kind, nonnegative=True)
    layer.weight.data[:2] = -layer.weight.data[:2].abs()  # no positive weight at all
    layer.weight.data[2] = layer.weight.data[2].abs()  # no negative one
    x[1] = 0  # nothing but the bias
    (found,) = propagate(TWINS[name][0](), layer, [x], relevance)
    assert torch.allclose(found.flatten(1).sum(1), relevance.flatten(1).sum(1), rtol=1e-9)


def test_an_output_without_negative_contributions_gives_all_to_the_positive_ones():
    layer = nn.Linear(2, 1)
    layer.weight.data = torch.tensor([[1.0, 3.0]])
    (found,) = propagate(AlphaBeta(2.0), layer, [torch.ones(1, 2)], torch.ones(1, 1))
    assert found.tolist() == [[0.25, 0.75]]


def test_alpha_beta_equals_zennits_where_both_signs_contribute_and_there_is_no_bias():
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 4, 3, bias=False).double()
    x, relevance = torch.rand(2, 8, 6, 6).double(), torch.randn(2, 4, 4, 4).double()
    (found,) = propagate(AlphaBeta(2.0, nonnegative=True), layer, [x], relevance)
    with Gradient(nn.Sequential(layer), LayerMapComposite([(nn.Conv2d, ZennitAlphaBeta(2.0, 1.0))])) as attributor:
        _, expected = attributor(x, relevance)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


def test_the_box_rule_of_zennit_leaves_the_bias_out_and_equals_its_matrix_twin():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).double()
    x, relevance = torch.rand(1, 3, 6, 5).double(), torch.rand(1, 4, 4, 3).double()
    low, high = torch.full((1, 3, 1, 1), -1.0).double(), torch.full((1, 3, 1, 1), 2.0).double()
    with Gradient(nn.Sequential(layer), LayerMapComposite([(nn.Conv2d, ZBox(low, high))])) as attributor:
        _, found = attributor(x, relevance)
    w = matrix(layer, (3, 6, 5))
    contributions = w * x.flatten() - w.clamp(min=0) * -1.0 - w.clamp(max=0) * 2.0
    expected = (contributions / contributions.sum(1, keepdim=True) * relevance.flatten()[:, None]).sum(0)
    assert torch.allclose(found.flatten(), expected, rtol=1e-5)
    assert found.sum().item() == pytest.approx(relevance.sum().item(), rel=1e-5)


@pytest.mark.parametrize("module", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2), nn.AvgPool2d(2)])
def test_an_average_shares_in_proportion_and_evenly_where_it_is_zero(module):
    x = torch.tensor([[[[1.0, 3.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    fine = module.output_size == 2 if isinstance(module, nn.AdaptiveAvgPool2d) else False
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3) if fine else x
    relevance = torch.ones_like(module(x))
    (found,) = propagate(Proportional(), module, [x], relevance)
    if fine:
        assert found[0, 0].tolist() == [[0.25] * 4] * 4  # each of the four averages over 2 x 2 equal values
    else:
        assert found[0, 0].tolist() == [[0.25, 0.75], [0.0, 0.0]]
    assert (found[0, 1] == 0.25).all()  # a sum of zero: evenly


def test_a_sum_shares_in_proportion_to_its_branches():
    first, second = torch.tensor([[3.0, -1.0, 1.0]]), torch.tensor([[1.0, 3.0, -1.0]])
    one, other = propagate(Proportional(), Sum(), [first, second], torch.ones(1, 3))
    assert one.tolist() == [[0.75, -0.5, 0.5]]
    assert other.tolist() == [[0.25, 1.5, 0.5]]


def test_a_gate_and_its_signal_get_half_each():
    signal, gate = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 1, 1)
    relevance = torch.rand(2, 3, 4, 4)
    to_gate, to_signal = propagate(Halve(), Gate(), [gate, signal], relevance)
    assert torch.equal(to_signal, relevance / 2)
    assert torch.allclose(to_gate, relevance.sum((2, 3), keepdim=True) / 2)


def test_an_activation_passes_relevance_on():
    relevance = torch.randn(2, 3)
    assert torch.equal(propagate(Pass(), nn.SiLU(), [torch.randn(2, 3)], relevance)[0], relevance)


def test_alpha_below_one_is_refused():
    with pytest.raises(ValueError, match=r"alpha is 0.5, must be at least 1"):
        AlphaBeta(0.5)


def test_a_rule_gives_the_module_its_own_forward_pass_back():
    layer = nn.Linear(2, 2)
    before = dict(vars(layer))
    propagate(ZPlus(), layer, [torch.rand(1, 2)], torch.ones(1, 2))
    assert vars(layer) == before


@pytest.mark.parametrize("name", TWINS)
def test_relevance_can_be_propagated_twice_through_the_same_graph(name):
    layer, _, x, relevance = example("plain", nonnegative=True)
    x.requires_grad_()
    handle = TWINS[name][0]().register(layer)
    output = layer(x)
    (first,) = torch.autograd.grad(output, x, relevance, retain_graph=True)
    (again,) = torch.autograd.grad(output, x, 2 * relevance)
    handle.remove()
    assert torch.allclose(again, 2 * first)


def test_a_rule_gives_back_a_forward_pass_that_was_there_before():
    layer = nn.Linear(2, 2)
    outer, inner = ZPlus().register(layer), Epsilon(0.0)
    taken = layer.forward
    inner.register(layer).remove()
    assert layer.forward is taken
    outer.remove()
    assert "forward" not in vars(layer)
