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
    # Parameters of no layer: those of layer scale, C x 1 x 1, in ConvNeXt.
    bare = [(values, 0) for name, values in network.named_parameters() if name.endswith("layer_scale")]
    like = next(network.parameters())
    example = torch.zeros(1, *shape, device=like.device, dtype=like.dtype)
    return torch_pruning.DependencyGraph().build_dependency(network, example, unwrapped_parameters=bare)
