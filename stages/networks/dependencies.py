"""Which parameters of a network depend on which channels (torch-pruning's dependency graph)."""

import torch
import torch_pruning
from torch import nn


def dependency_graph(network: nn.Module, image_size: int | tuple[int, ...]) -> torch_pruning.DependencyGraph:
    """Trace a network.

    Parameters
    ----------
    image_size : int or tuple of int
        Pixels a side of what it takes, or the shape of one input where that is no image.
    """
    shape = (3, image_size, image_size) if isinstance(image_size, int) else image_size
    # Parameters of no layer, and their channels' dimension: layer scale, C x 1 x 1, in ConvNeXt; prototypes, M x D.
    dimensions = {"layer_scale": 0, "vectors": 1}
    named = {values: name.rpartition(".")[2] for name, values in network.named_parameters()}
    bare = [(values, dimensions[name]) for values, name in named.items() if name in dimensions]
    like = next(network.parameters())
    example = torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
    return torch_pruning.DependencyGraph().build_dependency(network, example, unwrapped_parameters=bare)
