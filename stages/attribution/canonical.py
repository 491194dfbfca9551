"""The canonical form of a network: its graph as modules, with every batch norm folded that can be.

In it a filter is a convolution with its batch norm, as surgery removes the two together; and LRP rules, which attach to
modules, find one at every operation that is not its own gradient: activations, residual sums, gates.
"""

import copy
import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torchvision.ops import StochasticDepth
from zennit.types import Activation

from stages.attribution.layers import Gate, Scale, Sum
from stages.networks.protopnet import PrototypeLayer

NORMS = nn.BatchNorm1d | nn.BatchNorm2d
IDLE = (nn.Dropout, nn.Dropout2d, StochasticDepth, nn.Identity)  # what does nothing in evaluation mode
ACTIVATIONS = {
    torch.relu: nn.ReLU, functional.relu: nn.ReLU, functional.relu_: nn.ReLU, functional.relu6: nn.ReLU6,
    functional.silu: nn.SiLU, functional.gelu: nn.GELU, torch.sigmoid: nn.Sigmoid, torch.tanh: nn.Tanh,
    functional.hardswish: nn.Hardswish, functional.hardsigmoid: nn.Hardsigmoid, functional.leaky_relu: nn.LeakyReLU,
}  # fmt: skip
POOLS = {
    functional.avg_pool2d: nn.AvgPool2d, functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    functional.max_pool2d: nn.MaxPool2d, functional.adaptive_max_pool2d: nn.AdaptiveMaxPool2d,
}  # fmt: skip
SUMS = {torch.add, operator.add, operator.iadd}
PRODUCTS = {torch.mul, operator.mul, operator.imul}


class Tracer(fx.Tracer):
    """Every module of torch or torchvision.ops without layers of its own is one node; so are ours."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """Return whether a module stays one node of the graph."""
        return not any(module.children()) and not isinstance(module, nn.Sequential)


def canonical(network: nn.Module) -> fx.GraphModule:
    """Return a copy in canonical form, in evaluation mode; the network itself is not touched.

    Batch norms are folded into the convolution or linear layer before them; functions, sums and products become
    modules; activations work out of place (so that outputs can be kept). Layers keep their names; no parameter takes
    gradients.

    Raises
    ------
    ValueError
        The network's forward pass depends on its input's values, or holds an operation that no rule is known for.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    try:
        graph = Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{type(network).__name__} has no canonical form: its graph cannot be traced: {error}"
        ) from None
    form = fx.GraphModule(network, graph)
    for node in list(graph.nodes):
        _rewrite(form, node)
    graph.eliminate_dead_code()
    form.delete_all_unused_submodules()
    form.recompile()
    return form.eval().requires_grad_(False)


@dataclass
class Facts:
    """What the graph of a network says of the inputs of its modules, by name.

    Attributes
    ----------
    order : list of str
        Modules in the order of the forward pass.
    nonnegative : set of str
        Modules whose inputs cannot be negative.
    flat : set of str
        Modules whose inputs have lost their spatial dimensions, if they ever had some.
    """

    order: list[str]
    nonnegative: set[str]
    flat: set[str]


def batch_norms_after(network: nn.Module) -> dict[str, nn.Module]:
    """Return, by name of the layer, the batch norm that takes nothing but its output."""
    graph, modules = Tracer().trace(network), dict(network.named_modules())
    norms = {node: modules[node.target] for node in graph.nodes if node.op == "call_module"}
    before = {node.args[0]: norm for node, norm in norms.items() if isinstance(norm, NORMS)}
    return {node.target: norm for node, norm in before.items() if node.op == "call_module" and len(node.users) == 1}


def activations_after(form: fx.GraphModule) -> dict[str, nn.Module]:
    """Return, by name of the module, the activation function that alone takes its output, in canonical form."""
    calls = {node: form.get_submodule(node.target) for node in form.graph.nodes if node.op == "call_module"}
    following = {node.args[0]: module for node, module in calls.items() if isinstance(module, Activation)}
    return {node.target: following[node] for node in calls if node in following and len(node.users) == 1}


def facts(network: nn.Module) -> Facts:
    """Return what the graph of a network says; of one that cannot be traced, nothing but the order of definition."""
    modules = dict(network.named_modules())
    try:
        graph = network.graph if isinstance(network, fx.GraphModule) else Tracer().trace(network)
    except (fx.proxy.TraceError, TypeError, RuntimeError):
        return Facts(list(modules), set(), {name for name, module in modules.items() if isinstance(module, nn.Linear)})
    known = Facts([], set(), set())
    nonnegative: set[fx.Node] = set()
    flat: set[fx.Node] = set()
    signed: set[str] = set()
    spatial = any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in modules.values())
    for node in graph.nodes:
        operands = node.all_input_nodes
        operation = type(modules[node.target]) if node.op == "call_module" else node.target
        holds = bool(operands) and all(operand in nonnegative for operand in operands)
        if operation in SUMS | PRODUCTS and not _of_two_tensors(node):
            holds = False
        is_flat = any(operand in flat for operand in operands)
        if operation in MAKE or (operation in KEEP and holds):
            nonnegative.add(node)
        if is_flat or operation in FLATTEN or (node.op == "placeholder" and not spatial):
            flat.add(node)
        if node.op == "call_module":
            known.order.append(node.target)
            if is_flat:
                known.flat.add(node.target)
            (known.nonnegative if holds else signed).add(node.target)
    known.nonnegative -= signed  # a module that is used twice
    return known


def bottlenecks(form: fx.GraphModule) -> set[str]:
    """Return the modules, used once, that all paths from a canonical form's input to its output lead through."""
    uses = Counter(node.target for node in form.graph.nodes)
    last = {operand: node for node in form.graph.nodes for operand in node.all_input_nodes}
    live: set[fx.Node] = set()
    found = set()
    for node in form.graph.nodes:
        if node.op == "get_attr":
            continue  # a constant
        live = {value for value in live if last.get(value) is not node} | {node}
        if live == {node} and node.op == "call_module" and uses[node.target] == 1:
            found.add(node.target)
    return found


# Modules, functions and methods whose outputs cannot be negative; cannot where their inputs cannot; lose the space.
MAKE = {
    nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus,
    torch.relu, functional.relu, functional.relu_, functional.relu6, torch.sigmoid, "relu", "sigmoid",
}  # fmt: skip
KEEP = {
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d, nn.Flatten, Sum, Gate, *IDLE, *SUMS, *PRODUCTS, *POOLS, functional.dropout,
    torch.cat, torch.flatten, torch.permute, torch.reshape, "flatten", "view", "reshape", "permute", "contiguous",
}  # fmt: skip
FLATTEN = {nn.Flatten, PrototypeLayer, torch.flatten, torch.reshape, "flatten", "view", "reshape", "mean"}


def _rewrite(form: fx.GraphModule, node: fx.Node) -> None:
    """Fold, drop, or make a module of one node, if it needs that."""
    if node.op == "call_module":
        module = form.get_submodule(node.target)
        if isinstance(module, IDLE):
            node.replace_all_uses_with(node.args[0])
            form.graph.erase_node(node)
        elif isinstance(module, NORMS):
            _fold(form, node, module)
    elif node.op in ("call_function", "call_method"):
        _as_module(form, node)


def _fold(form: fx.GraphModule, node: fx.Node, norm: nn.Module) -> None:
    before = node.args[0]
    if before.op != "call_module" or len(before.users) > 1:
        return
    layer = form.get_submodule(before.target)
    fuse = {nn.Conv2d: fuse_conv_bn_eval, nn.Linear: fuse_linear_bn_eval}.get(type(layer))
    if fuse and sum(other.target == before.target for other in form.graph.nodes) == 1:
        form.set_submodule(before.target, fuse(layer, norm))
        node.replace_all_uses_with(before)
        form.graph.erase_node(node)


def _as_module(form: fx.GraphModule, node: fx.Node) -> None:
    operands = node.all_input_nodes
    target = node.target
    if target in SUMS and _of_two_tensors(node):
        _replace(form, node, "sum", Sum(), operands)
    elif target in PRODUCTS and _of_two_tensors(node):
        constant = next((operand for operand in operands if operand.op == "get_attr"), None)
        if constant is None:
            _replace(form, node, "gate", Gate(), operands)
        else:
            factors = operator.attrgetter(constant.target)(form).detach()
            _replace(form, node, "scale", Scale(factors), [operand for operand in operands if operand is not constant])
    elif target in ACTIVATIONS:
        kept = {name: value for name, value in node.kwargs.items() if name not in ("inplace", "input")}
        activation = ACTIVATIONS[target](*node.args[1:2], **kept)
        if hasattr(activation, "inplace"):
            activation.inplace = False
        _replace(form, node, "activation", activation, operands)
    elif target in POOLS:
        kept = {name: value for name, value in node.kwargs.items() if name != "input"}
        _replace(form, node, "pool", POOLS[target](*node.args[1:], **kept), operands)
    elif target == functional.dropout:
        node.replace_all_uses_with(operands[0])
        form.graph.erase_node(node)
    elif target not in LINEAR_IN_VALUES:
        raise ValueError(f"no rule is known for {getattr(target, '__name__', target)} (at {node.name}) of this network")


# Operations whose gradient sends relevance where it came from: they move values, or take them apart.
LINEAR_IN_VALUES: set[Callable | str] = {
    torch.flatten, torch.cat, torch.permute, torch.reshape, "flatten", "view", "reshape", "permute", "contiguous",
    "size", getattr, operator.getitem,
}  # fmt: skip


def _of_two_tensors(node: fx.Node) -> bool:
    """Return whether a sum or product takes two tensors, and neither a constant nor a factor (`alpha`)."""
    return len(node.args) == 2 and all(isinstance(operand, fx.Node) for operand in node.args) and not node.kwargs


def _replace(form: fx.GraphModule, node: fx.Node, kind: str, module: nn.Module, operands: list[fx.Node]) -> None:
    name = f"{kind}_{node.name}"
    form.add_submodule(name, module)
    with form.graph.inserting_after(node):
        new = form.graph.call_module(name, tuple(operands))
    node.replace_all_uses_with(new)
    form.graph.erase_node(node)
