"""Masking: what a pruning history removes stays in the network, as zeros that nothing changes.

A masked network has the shapes of the unpruned one. All of a channel is zero: the weights that make it, its batch norm,
and the weights that read it. So it equals the network that surgery leaves, and that one is what is scored, cut and
tuned: no gradient, weight decay or momentum can bring a masked weight back.
"""

import dataclasses

import torch
from torch import nn

from stages.networks.checkpoint import Architecture, replay


def as_asked(network: nn.Module, architecture: Architecture, removal: str) -> tuple[nn.Module, Architecture]:
    """Return a network that surgery made smaller as `prune.removal` asks for it: so, or `masked`."""
    return masked(network, architecture) if removal == "mask" else (network, architecture)


def masked(network: nn.Module, architecture: Architecture) -> tuple[nn.Module, Architecture]:
    """Return a new network of the unpruned shapes with the weights of a smaller one, and zeros where it has none.

    Raises
    ------
    ValueError
        The network has LayerNorms, whose means are others where channels are zero than where they are gone.
    """
    if any(isinstance(module, nn.LayerNorm) for module in network.modules()):
        raise ValueError(f"{architecture.name} has LayerNorms, which count what is masked")
    positions, kept, weights = _positions(architecture), network.state_dict(), {}
    architecture = dataclasses.replace(architecture, masked=True)
    dense = architecture.shape()
    for name, shape in dense.state_dict().items():
        small = kept[name].detach()
        fill = torch.ones if name.endswith("running_var") else torch.zeros
        whole = fill(shape.shape, dtype=small.dtype, device=small.device)
        whole.view(-1)[positions[name].flatten().to(small.device)] = small.flatten()
        weights[name] = whole
    dense.load_state_dict(weights, assign=True)
    return dense.to(memory_format=architecture.memory_format).train(network.training), architecture


def smaller(network: nn.Module, architecture: Architecture) -> tuple[nn.Module, Architecture]:
    """Return a network without what is masked in it, in place; one that has no mask as it is."""
    if not architecture.masked:
        return network, architecture
    replay(network, architecture.image_size, architecture.history)
    return network, architecture.effective()


def _positions(architecture: Architecture) -> dict[str, torch.Tensor]:
    """Return, for each element of the smaller network's tensors, where in the unpruned network's tensor it was."""
    from stages.networks.dependencies import dependency_graph

    numbers = architecture.unpruned().shape().double().to_empty(device="cpu")
    graph = dependency_graph(numbers, architecture.image_size)
    for tensor in numbers.state_dict(keep_vars=True).values():
        tensor.data = torch.arange(tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
    graph.load_pruning_history(architecture.history)
    return {name: tensor.detach().long() for name, tensor in numbers.state_dict().items()}
