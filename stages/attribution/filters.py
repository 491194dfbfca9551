"""Values at the outputs of layers, and their reduction to one number a filter."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.functional import one_hot
from zennit.core import Composite

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
Start = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Value = TypeVar("Value")
Measure = Callable[[str, torch.Tensor], Callable[[torch.Tensor], Value]]


def at_outputs(
    network: nn.Module,
    layers: dict[str, nn.Module],
    batches: Batches,
    start: Start,
    measure: Measure[Value],
    composite: Composite | None = None,
) -> Iterator[dict[str, Value]]:
    """Yield, for each batch, what `measure` makes of the gradient, or relevance, at each layer's output.

    One forward and one backward pass, which ends at the lowest of the layers. A gradient is measured as it arrives and
    kept no longer.

    Parameters
    ----------
    network : nn.Module
        In canonical form: no parameter takes gradients.
    layers : dict of name to nn.Module
        Those of the network whose outputs are looked at.
    batches : iterable of (images, labels)
        Normalised images N x 3 x H x W and labels N.
    start : function of (logits N x K, labels N)
        Returns what is sent back from the logits, N x K.
    measure : function of (name, output)
        Called in the forward pass with a layer's name and output, N x C x ...; returns a function of the gradient
        there.
    composite : zennit composite, optional
        Makes the gradient relevance.
    """
    with composite.context(network) if composite else contextlib.nullcontext():
        for images, labels in batches:
            with _watched(layers, measure) as (lowest, found):
                logits = network(images)
                torch.autograd.grad(logits, lowest, start(logits.detach(), labels).to(logits))
            yield {name: found[name] for name in layers}


@contextmanager
def _watched(layers: dict[str, nn.Module], measure: Measure) -> Iterator[tuple[list[torch.Tensor], dict]]:
    """Yield a list of the outputs where the backward pass ends, and what it leaves by the layer's name."""
    lowest: list[torch.Tensor] = []
    found: dict = {}

    def watch(name: str) -> Callable:
        def hook(module, inputs, output):
            if not output.requires_grad:
                output = output.detach().requires_grad_()
                lowest.append(output)
            of_gradient = measure(name, channels_second(module, output.detach()))
            output.register_hook(lambda gradient: found.update({name: of_gradient(channels_second(module, gradient))}))
            return output

        return hook

    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield lowest, found
    finally:
        for handle in handles:
            handle.remove()


def channels_second(layer: nn.Module, values: torch.Tensor) -> torch.Tensor:
    """Return N x C x ... for a layer's output; a linear layer that works at every position has its channels last."""
    return values.movedim(-1, 1) if isinstance(layer, nn.Linear) else values


def positions(values: torch.Tensor) -> torch.Tensor:
    """Return N x C x P for N x C (one position) or N x C x H x W."""
    return values.flatten(2) if values.ndim > 2 else values.unsqueeze(2)


def from_class(target: str, amount: str) -> Start:
    """Return where relevance starts.

    Parameters
    ----------
    target : {"true", "predicted"}
        The logit of the true or of the predicted class; 0 elsewhere.
    amount : {"one", "logit"}
        What it starts with.
    """

    def start(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chosen = one_hot(labels if target == "true" else logits.argmax(1), logits.shape[1])
        return chosen * logits if amount == "logit" else chosen

    return start


TRUE_CLASS = from_class("true", "one")


def of_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the gradient of each image's cross-entropy at the logits: softmax less one-hot label."""
    return logits.softmax(1) - one_hot(labels, logits.shape[1])


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
    places = positions(values)
    if reduction == "abs-pixel":
        places = places.abs()
    of_image = places.sum(2) if space == "sum" else places.mean(2)
    return (of_image.abs() if reduction == "abs-sample" else of_image).sum(0)
