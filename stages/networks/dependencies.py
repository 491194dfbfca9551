"""Which parameters of a network depend on which channels (torch-pruning's dependency graph)."""

import torch
import torch_pruning
from torch import nn


def dependency_graph(network: nn.Module, image_size: int) -> torch_pruning.DependencyGraph:
    """Trace a network."""
    # Parameters of no layer: those of layer scale, C x 1 x 1, in ConvNeXt.
    bare = [(values, 0) for name, values in network.named_parameters() if name.endswith("layer_scale")]
    example = torch.zeros(1, 3, image_size, image_size, device=next(network.parameters()).device)
    return torch_pruning.DependencyGraph().build_dependency(network, example, unwrapped_parameters=bare)
