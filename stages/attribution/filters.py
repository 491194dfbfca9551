"""Values at the outputs of layers, and their reduction to one number a filter."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from zennit.attribution import Gradient

from stages.attribution.composites import epsilon_plus_box

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


@contextmanager
def recorded_outputs(layers: dict[str, nn.Module]) -> Iterator[dict[str, torch.Tensor]]:
    """Yield a dict that each forward pass fills with the layers' outputs, whose gradients are kept."""
    outputs: dict[str, torch.Tensor] = {}

    def record(name: str) -> Callable:
        def hook(module, inputs, output):
            output.retain_grad()
            outputs[name] = output

        return hook

    handles = [layer.register_forward_hook(record(name)) for name, layer in layers.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def relevance(
    network: nn.Module, layers: dict[str, nn.Module], batches: Batches, bounds: tuple[torch.Tensor, torch.Tensor]
) -> Iterator[dict[str, torch.Tensor]]:
    """Yield, for each batch, the relevance at each layer's output (N x C x ...), by `epsilon_plus_box`.

    It starts with 1 at the true class and 0 elsewhere.

    Parameters
    ----------
    network : nn.Module
        In canonical form.
    batches : iterable of (images, labels)
        Normalised images N x 3 x H x W and labels N.
    bounds : (low, high)
        Smallest and largest value of each normalised colour channel, 1 x 3 x 1 x 1.
    """
    low, high = bounds
    for images, labels in batches:
        composite = epsilon_plus_box(low.expand_as(images[:1]), high.expand_as(images[:1]))
        with Gradient(network, composite) as attributor, recorded_outputs(layers) as outputs:
            attributor(images, lambda logits, labels=labels: one_hot(labels, logits.shape[1]).to(logits))
            yield {name: output.grad for name, output in outputs.items()}


def loss_gradients(
    network: nn.Module, layers: dict[str, nn.Module], batches: Batches
) -> Iterator[dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Yield, for each batch, each layer's output and the gradient of every image's cross-entropy at it."""
    for images, labels in batches:
        with recorded_outputs(layers) as outputs:
            loss = cross_entropy(network(images.detach().clone().requires_grad_()), labels, reduction="sum")
            loss.backward()
            yield {name: (output.detach(), output.grad) for name, output in outputs.items()}
        network.zero_grad()


def reduce(values: torch.Tensor, reduction: str, space: str = "sum") -> torch.Tensor:
    """Reduce values at a layer's output to one number a filter.

    Parameters
    ----------
    values : tensor, N x C or N x C x H x W
    reduction : {"sum", "abs-sample", "abs-pixel"}
        `sum`: sum over images and space. `abs-sample`: absolute value of each image's sum over space, then the sum
        over images (Hatefi et al., 2024, arXiv 2408.12568). `abs-pixel`: sum of absolute values.
    space : {"sum", "mean"}
        How values are taken together over space.

    Returns
    -------
    tensor, C
    """
    positions = values.flatten(2) if values.ndim > 2 else values.unsqueeze(2)
    if reduction == "abs-pixel":
        positions = positions.abs()
    of_image = positions.sum(2) if space == "sum" else positions.mean(2)
    return (of_image.abs() if reduction == "abs-sample" else of_image).sum(0)
