"""LRP rules that leave the bias out and, but for epsilon's own share, conserve what they propagate.

They are zennit hooks: a zennit composite registers, copies and removes them. Where zennit's rules let autograd compute
the layer's own gradient and then replace it, these put themselves in its place, and neither that gradient nor that of
the weights is ever computed: a rule costs one forward and one transposed pass for each term of its sums, most have one.

Notation: x the input, w the weight, R the relevance at the output, all of one layer; a sum over inputs is the layer
itself, a sum over outputs its transpose (Montavon et al., 2019, "Layer-wise relevance propagation: an overview").
"""

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import one_hot
from zennit.core import Hook, RemovableHandle, RemovableHandleList, stabilize

from stages.networks.protopnet import log_similarity

Weight = Callable[[torch.Tensor], torch.Tensor]
_spreads: list[list[torch.Tensor]] = []  # of all threads: on a GPU autograd has its own


@contextmanager
def counting_spread() -> Iterator[list[torch.Tensor]]:
    """Yield a list that gets, each time a rule spreads relevance evenly over inputs of which none contributed, N sums.

    Of |R| by image: it is conserved, but says nothing of the inputs.
    """
    _spreads.append([])
    try:
        yield _spreads[-1]
    finally:
        _spreads.pop()


class _Propagate(torch.autograd.Function):
    """The module's own output in the forward pass, the rule's relevance in the backward pass."""

    @staticmethod
    def forward(ctx, rule: "Rule", *inputs: torch.Tensor) -> torch.Tensor:
        ctx.rule = rule
        device = inputs[0].device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        output, kept = rule.forward(*inputs)
        ctx.save_for_backward(*kept)
        return output

    @staticmethod
    def backward(ctx, relevance: torch.Tensor) -> tuple:
        device, dtype, enabled = ctx.autocast
        with torch.autocast(device, dtype, enabled):
            inputs = ctx.rule.propagate(relevance, *ctx.saved_tensors)
        return None, *inputs


class Rule(Hook):
    """A rule takes the place of a module's forward pass while it is registered."""

    def register(self, module: nn.Module) -> RemovableHandleList:
        """Take the place of `module.forward`, and return what gives it back."""
        self.module = module
        self.own = vars(module).get("forward")  # of another rule or a patch; its class has the usual one
        self.original = module.forward
        module.forward = self._in_place
        return RemovableHandleList([RemovableHandle(self)])

    def _in_place(self, *inputs: torch.Tensor) -> torch.Tensor:
        if any(x.requires_grad for x in inputs):
            return _Propagate.apply(self, *inputs)
        with torch.no_grad():  # below the lowest layer that is looked at
            return self.original(*inputs)

    def remove(self) -> None:
        """Give the module its own forward pass back."""
        if self.own is None:
            vars(self.module).pop("forward", None)
        else:
            self.module.forward = self.own
        super().remove()

    def copy(self) -> "Rule":
        """Return a rule with the same parameters for another module."""
        return copy.copy(self)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Return the module's output, and what to keep for `propagate`: the inputs, unless a rule says otherwise."""
        return self.original(*inputs), inputs

    def propagate(self, relevance: torch.Tensor, *kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the relevance at each input, given that at the output and what was kept."""
        raise NotImplementedError


class Pass(Rule):
    """R as it is, for what works element by element: activations, diagonal maps, normalisations."""

    def forward(self, *inputs):
        """See `Rule.forward`."""
        return self.original(*inputs), ()

    def propagate(self, relevance):
        """See `Rule.propagate`."""
        return (relevance,)


class Weighted(Rule):
    """A rule of convolutions (1, 2 or 3 dimensions, any stride, padding, dilation, groups) and linear layers."""

    def register(self, module: nn.Module) -> RemovableHandleList:
        """See `Rule.register`."""
        self.layers: dict[Weight, nn.Module] = {}
        return super().register(module)

    def layer(self, weight: Weight) -> nn.Module:
        """Return the layer without its bias and with `weight` of its weights, as they were when first asked for."""
        if weight not in self.layers:
            layer = copy.copy(self.module)
            vars(layer).pop("forward")  # this rule's
            layer._parameters = {"weight": weight(self.module.weight.detach()), "bias": None}
            self.layers[weight] = layer
        return self.layers[weight]

    def remove(self) -> None:
        """See `Rule.remove`."""
        self.layers.clear()
        super().remove()

    def term(self, x: torch.Tensor, weight: Weight) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x and the layer's sums over it with `weight` of its weights, to be differentiated by x."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return x, self.layer(weight).forward(x)

    def share(self, relevance: torch.Tensor, terms: list[tuple[torch.Tensor, torch.Tensor]], epsilon: float = 0.0):
        """Return sum_j x_i w_ij R_j / z_j with z_j = sum_i x_i w_ij, summed over the terms (`term`).

        With epsilon, z is moved away from zero by it. Where nothing contributes (z = 0), R is spread evenly over the
        inputs of that output, as by the flat rule: nothing is lost.
        """
        inputs, outputs = zip(*terms, strict=True)
        z = _total([output.detach() for output in outputs])
        ratio, lost = (relevance / stabilize(z, epsilon), None) if epsilon else _ratio(relevance, z)
        gradients = torch.autograd.grad(outputs, inputs, [ratio.to(z)] * len(terms), retain_graph=True)
        shares = _total([gradient.mul_(x.detach()) for x, gradient in zip(inputs, gradients, strict=True)])
        return shares if lost is None else shares + self.spread(lost, shares)

    def biased(self, z: torch.Tensor) -> torch.Tensor:
        """Return the layer's output, given its sums."""
        bias = self.module.bias
        if bias is None:
            return z
        positions = 0 if isinstance(self.module, nn.Linear) else z.ndim - 2
        return z + bias.to(z).view(-1, *[1] * positions)

    def spread(self, relevance: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Return relevance spread evenly over the inputs of each output (shaped as `like`): the flat rule."""
        x, z = self.term(torch.ones_like(like), torch.ones_like)
        return torch.autograd.grad(z, x, (relevance / z.detach()).to(z))[0]


class Epsilon(Weighted):
    """R_i = sum_j x_i w_ij R_j / (z_j + epsilon sign z_j): LRP-epsilon.

    Bach et al. (2015, doi 10.1371/journal.pone.0130140), equation 58. With epsilon 0 it is the
    simple rule `z` (LRP-0), equation 56, which conserves.
    """

    def __init__(self, epsilon: float = 1e-6):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x):
        """See `Rule.forward`; what is kept is the input and z, which is the output but for the bias."""
        x, z = self.term(x, _unchanged)
        return self.biased(z.detach()), (x, z)

    def propagate(self, relevance, x, z):
        """See `Rule.propagate`."""
        return (self.share(relevance, [(x, z)], self.epsilon),)


class Gamma(Weighted):
    """R_i = sum_j x_i (w_ij + gamma w_ij^+) R_j / sum_i (the same): LRP-gamma (Montavon et al., 2019).

    For inputs that are not negative; it leads from LRP-0 (gamma 0) to z+ (gamma without bound).
    """

    def __init__(self, gamma: float = 0.25):
        super().__init__()
        self.weight = lambda weight: weight + gamma * weight.clamp(min=0)

    def propagate(self, relevance, x):
        """See `Rule.propagate`."""
        return (self.share(relevance, [self.term(x, self.weight)]),)


class ZPlus(Weighted):
    """R_i = sum_j (x_i w_ij)^+ R_j / sum_i (x_i w_ij)^+ (Bach et al., 2015, equation 60 with alpha 1, beta 0).

    Parameters
    ----------
    nonnegative : bool
        Whether no input can be negative: then (x w)^+ = x w^+, and one term is enough.
    """

    def __init__(self, nonnegative: bool = False):
        super().__init__()
        self.nonnegative = nonnegative

    def propagate(self, relevance, x):
        """See `Rule.propagate`."""
        return (self.share(relevance, [self.term(part, weight) for part, weight, _ in self.parts(x)]),)

    def parts(self, x: torch.Tensor) -> list[tuple[torch.Tensor, Weight, Weight]]:
        """Return parts of x, each with the weights that it takes to (x w)^+ and to (x w)^-."""
        if self.nonnegative:
            return [(x, _positive, _negative)]
        return [(x.clamp(min=0), _positive, _negative), (x.clamp(max=0), _negative, _positive)]


class AlphaBeta(ZPlus):
    """R_i = sum_j (alpha (x_i w_ij)^+ / z_j^+ - beta (x_i w_ij)^- / z_j^-) R_j, alpha - beta = 1.

    Bach et al. (2015), equation 60. For an output to which nothing negative contributes beta is 0, so that it conserves
    too.
    """

    def __init__(self, alpha: float = 2.0, nonnegative: bool = False):
        super().__init__(nonnegative)
        if alpha < 1:
            raise ValueError(f"alpha is {alpha}, must be at least 1: beta is alpha - 1")
        self.beta = alpha - 1

    def forward(self, x):
        """See `Rule.forward`; what is kept are all terms, which sum to the output but for the bias."""
        parts = self.parts(x)
        terms = [self.term(part, favours) for part, favours, _ in parts]
        terms += [self.term(part, against) for part, _, against in parts]
        kept = tuple(tensor for term in terms for tensor in term)
        if torch.is_autocast_enabled(x.device.type):
            return self.original(x), kept  # of terms rounded to 8 bits, a small difference would have few left
        return self.biased(_total([z.detach() for _, z in terms])), kept

    def propagate(self, relevance, *kept):
        """See `Rule.propagate`."""
        terms = list(zip(kept[::2], kept[1::2], strict=True))
        favours, against = terms[: len(terms) // 2], terms[len(terms) // 2 :]
        opposed = _total([z.detach() for _, z in against]) != 0
        inhibited = relevance * opposed * self.beta
        return (self.share(relevance + inhibited, favours) - self.share(inhibited, against),)


class WSquare(Weighted):
    """R_i = sum_j w_ij^2 R_j / sum_i w_ij^2: the w^2-rule (Montavon et al., 2017, arXiv 1512.02479)."""

    def propagate(self, relevance, x):
        """See `Rule.propagate`."""
        return (self.share(relevance, [self.term(torch.ones_like(x), torch.square)]),)


class Proportional(Rule):
    """R_i = x_i R / sum_i x_i over the inputs of a sum or an average, in the parts in which they make it up.

    Where they sum to zero, R is spread evenly. It is LRP-0 with weights of one (zennit's `Norm`).
    """

    def propagate(self, relevance, *inputs):
        """See `Rule.propagate`."""
        with torch.enable_grad():
            inputs = [x.detach().requires_grad_() for x in inputs]
            output = self.original(*inputs)
        ratio, lost = _ratio(relevance, output.detach())
        gradients = torch.autograd.grad(output, inputs, ratio.to(output), retain_graph=lost is not None)
        shares = [x.detach() * gradient for x, gradient in zip(inputs, gradients, strict=True)]
        if lost is not None:
            with torch.no_grad():
                count = self.original(*map(torch.ones_like, inputs))
            even = torch.autograd.grad(output, inputs, (lost / count).to(output))
            shares = [share + part for share, part in zip(shares, even, strict=True)]
        return tuple(shares)


class Halve(Rule):
    """R / 2 to the signal and R / 2 to the gate of a product.

    "LRP-half" of Arras et al. (2019, doi 10.1007/978-3-030-28954-6_11). Both get some, so that the
    layers that compute a gate have scores; what was broadcast gets the sum of its copies.
    """

    def propagate(self, relevance, first, second):
        """See `Rule.propagate`."""
        return tuple((relevance / 2).sum_to_size(factor.shape) for factor in (first, second))


class NearestPatch(Rule):
    """R_c = sum_j a_jc R_j / sum_c a_jc at the patch z that is nearest to prototype j, 0 elsewhere.

    a_jc = log((d_jc + 1) / (d_jc + 1e-4)), d_jc = (z_c - p_jc)^2: the similarity of ProtoPNet, channel by channel. As
    in prototypical relevance propagation (Gautam et al., 2023, arXiv 2108.12204), what speaks for a prototype came
    from where it was found, and there from the channels in which patch and prototype agree. For a `PrototypeLayer`.
    """

    def propagate(self, relevance, latent):
        """See `Rule.propagate`."""
        layer = self.module
        patches, nearest = layer.nearest_patches(latent)
        alike = log_similarity((patches - layer.vectors.detach().float().T) ** 2)
        shares = relevance[:, None] * alike / alike.sum(1, keepdim=True)
        there = one_hot(nearest, latent.shape[2:].numel()).to(shares)
        return ((shares @ there).view_as(latent).to(latent),)


def _ratio(relevance: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return R / z where z is not zero, 0 elsewhere; and R where z is zero, which is to be spread, or None."""
    ratio = relevance / z
    if ratio.sum().isfinite():
        return ratio, None
    empty = z.abs() < torch.finfo(z.dtype).tiny
    lost = relevance * empty
    if not lost.any():
        return ratio.masked_fill(empty, 0.0), None
    for counted in _spreads:
        counted.append(lost.abs().flatten(1).sum(1))
    return ratio.masked_fill(empty, 0.0), lost


def _total(values: list[torch.Tensor]) -> torch.Tensor:
    return functools.reduce(torch.add, values)


def _unchanged(weight: torch.Tensor) -> torch.Tensor:
    return weight


def _positive(weight: torch.Tensor) -> torch.Tensor:
    return weight.clamp(min=0)


def _negative(weight: torch.Tensor) -> torch.Tensor:
    return weight.clamp(max=0)
