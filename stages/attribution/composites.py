"""Composites: which LRP rule each layer of a network takes, by name."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torchvision.ops import StochasticDepth
from torchvision.ops.misc import Permute
from zennit.composites import Composite
from zennit.core import Hook
from zennit.layer import Sum as StackedSum
from zennit.rules import Flat, Norm, ZBox
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear

from stages.attribution.canonical import facts
from stages.attribution.layers import Gate, Scale, Sum
from stages.attribution.rules import AlphaBeta, Epsilon, Gamma, Halve, NearestPatch, Pass, Proportional, WSquare, ZPlus
from stages.networks.protopnet import PrototypeLayer

LAYER_RULES = ("z", "epsilon", "zplus", "alpha-beta", "gamma")
WEIGHTLESS: list[tuple[type | tuple[type, ...], Hook]] = [
    ((Activation, BatchNorm, nn.LayerNorm, Scale), Pass()),
    ((AvgPool, Sum), Proportional()),
    (StackedSum, Norm()),
    (Gate, Halve()),
    (PrototypeLayer, NearestPatch()),
]
GRADIENT = (  # what moves or selects values: its gradient sends relevance where it came from
    nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d,
    Permute, StochasticDepth, nn.Sequential,
)  # fmt: skip


@dataclass(frozen=True)
class Rules:
    """The rule of each group of layers, by name, as Hatefi et al. (2024, arXiv 2408.12568, section 3.2) group them.

    Attributes
    ----------
    low, middle, high : {"z", "epsilon", "zplus", "alpha-beta", "gamma"}
        The first, second and last third of the convolutions, in the order of the forward pass; a linear layer that
        works at every position counts as one.
    linear : the same
        Linear layers after the positions have been taken together.
    first : {"box", "flat", "wsquare", "none"}
        The first layer; "none" is the rule of its group.
    epsilon, gamma, alpha : float
        Values of the rules; beta is alpha - 1.
    """

    low: str = "zplus"
    middle: str = "zplus"
    high: str = "zplus"
    linear: str = "epsilon"
    first: str = "none"
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0

    @classmethod
    def named(cls, composite: str, **values: float) -> "Rules":
        """Return the rules of one of `COMPOSITES`, with these values of epsilon, gamma and alpha."""
        return cls(**COMPOSITES[composite], **values)


def _everywhere(rule: str) -> dict[str, str]:
    return dict.fromkeys(("low", "middle", "high", "linear"), rule)


COMPOSITES: dict[str, dict[str, str]] = {
    "epsilon-plus": {},
    "epsilon-plus-flat": {"first": "flat"},
    "epsilon-plus-box": {"first": "box"},
    "epsilon-gamma-box": _everywhere("gamma") | {"linear": "epsilon", "first": "box"},
    **{rule: _everywhere(rule) for rule in LAYER_RULES},
}


class ByGraph(Composite):
    """A zennit composite that learns from the network's graph which rule each layer takes and which inputs are signed.

    Parameters
    ----------
    rules : Rules
    bounds : (low, high), optional
        Smallest and largest value of each normalised colour channel, 1 x 3 x 1 x 1; for the first rule "box".

    Raises
    ------
    ValueError
        From `register`: the network has a module that no rule is known for.
    """

    def __init__(self, rules: Rules, bounds: tuple[torch.Tensor, torch.Tensor] | None = None):
        super().__init__(self._rule)
        self.rules = rules
        self.bounds = bounds

    def register(self, module: nn.Module) -> None:
        """Attach a rule to every layer of a network, best one in canonical form."""
        known = facts(module)
        self.nonnegative = known.nonnegative
        layers = {name: module.get_submodule(name) for name in dict.fromkeys(known.order)}
        layers = {name: layer for name, layer in layers.items() if isinstance(layer, Linear)}
        spatial = [name for name, layer in layers.items() if isinstance(layer, Convolution) or name not in known.flat]
        self.group = dict.fromkeys(layers, "linear") | {
            name: ("low", "middle", "high")[3 * place // len(spatial)] for place, name in enumerate(spatial)
        }
        self.first = next(iter(layers), None)
        try:
            super().register(module)
        except BaseException:
            self.remove()
            raise

    def _rule(self, context: dict, name: str, module: nn.Module) -> Hook | None:
        if name in self.group:
            first = self.rules.first if name == self.first else "none"
            return self._first(first, module) if first != "none" else self._of_layer(name)
        for types, rule in WEIGHTLESS:
            if isinstance(module, types):
                return rule
        if any(module.children()) or not _computes(module) or isinstance(module, (*GRADIENT, Linear)):
            return None  # a linear layer that is in no group is never called
        raise ValueError(f"no LRP rule is known for layer {name}, a {type(module).__name__}")

    def _of_layer(self, name: str) -> Hook:
        rules, nonnegative = self.rules, name in self.nonnegative
        make: dict[str, Callable[[], Hook]] = {
            "z": lambda: Epsilon(0.0),
            "epsilon": lambda: Epsilon(rules.epsilon),
            "zplus": lambda: ZPlus(nonnegative),
            "alpha-beta": lambda: AlphaBeta(rules.alpha, nonnegative),
            "gamma": lambda: Gamma(rules.gamma),
        }
        return make[getattr(rules, self.group[name])]()

    def _first(self, rule: str, layer: nn.Module) -> Hook:
        if rule == "box":
            if self.bounds is None:
                raise ValueError("the box rule needs the bounds of the pixels")
            flat = isinstance(layer, nn.Linear)  # which takes the pixels in a row
            return ZBox(*(bound.flatten(1) if flat else bound for bound in self.bounds))
        return {"flat": Flat, "wsquare": WSquare}[rule]()


def _computes(module: nn.Module) -> bool:
    """Return whether a module has a forward pass of its own (containers that only hold others have none)."""
    return type(module).forward is not nn.Module.forward
