"""Concept relevance propagation: relevance of channels, and relevance started again at channels.

A concept is a channel of a layer, as in CRP (Achtibat et al., 2023, doi 10.1038/s42256-023-00711-8). Its relevance for
an image is that of its output, summed over space; a conditional heat map is what becomes of this part of the relevance
alone on its way to the pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from zennit.core import Composite

from stages.attribution.filters import Start, channels_second, positions

PIXELS = "pixels"  # the name of the input among the layers


def shares(relevance: torch.Tensor) -> torch.Tensor:
    """Return each concept's share of an image's relevance in a layer, with its sign.

    Parameters
    ----------
    relevance : tensor, N x C or N x C x H x W

    Returns
    -------
    tensor, N x C
        sum_hw R_c / sum_c' |sum_hw R_c'|; 0 where nothing of an image's relevance is in the layer.
    """
    of_concept = positions(relevance).sum(2)
    total = of_concept.abs().sum(1, keepdim=True)
    return torch.where(total == 0, 0.0, of_concept / total)


class Propagated:
    """A batch after one forward and one backward pass, from which relevance can be started again at channels.

    Attributes
    ----------
    relevance : dict of layer name to tensor, N x C x ...
        At the layers' outputs; at `PIXELS` N x 3 x H x W.
    """

    def __init__(self, logits: torch.Tensor, outputs: dict[str, torch.Tensor], started: torch.Tensor):
        self.outputs = outputs
        found = torch.autograd.grad(logits, list(outputs.values()), started, retain_graph=True)
        self.relevance = dict(zip(outputs, found, strict=True))

    def of(
        self,
        layer: str,
        channels: Sequence[int],
        at: Sequence[str] = (PIXELS,),
        where: torch.Tensor | None = None,
        started: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return what becomes, in lower layers, of the relevance that some channels of a layer have.

        One backward pass from the layer down to the lowest of those asked for; the forward pass is not repeated.

        Parameters
        ----------
        layer : str
        channels : sequence of int
            The condition: relevance of all other channels is set to zero.
        at : sequence of str
            Layers below, or `PIXELS`.
        where : tensor, N x H x W of the layer's output, optional
            What the relevance at each position is multiplied by: a mask of neurons.
        started : tensor, as the layer's output, optional
            In place of the relevance that the channels have.

        Returns
        -------
        dict of name to tensor, as `relevance`
            Summed over conditions that hold each channel once, it is `relevance` if all paths lead through the layer.

        Raises
        ------
        ValueError
            A layer of `at` is not below the layer.
        """
        output, relevance = self.outputs[layer], self.relevance[layer] if started is None else started
        kept = torch.zeros_like(relevance)
        kept[:, channels] = relevance[:, channels] if where is None else relevance[:, channels] * where.unsqueeze(1)
        below = [self.outputs[name] for name in at]
        found = torch.autograd.grad(output, below, kept, retain_graph=True, allow_unused=True)
        missing = [name for name, values in zip(at, found, strict=True) if values is None]
        if missing:
            raise ValueError(f"{missing[0]} is not below {layer}")
        return dict(zip(at, found, strict=True))

    def heat_maps(self, layer: str, channel: int, **options: torch.Tensor | None) -> torch.Tensor:
        """Return the conditional heat map of a channel for each image, summed over colours: N x H x W.

        The options are those of `of`.
        """
        return self.of(layer, [channel], **options)[PIXELS].sum(1)

    def heat_map_each(self, layer: str, channels: Sequence[int]) -> torch.Tensor:
        """Return, for image n, the conditional heat map of `channels[n]`: len(channels) x H x W.

        One backward pass for all: of one image, repeated, it is a batch over conditions.
        """
        images, relevance = list(range(len(channels))), self.relevance[layer]
        started = torch.zeros_like(relevance)
        started[images, list(channels)] = relevance[images, list(channels)]
        return self.of(layer, range(relevance.shape[1]), started=started)[PIXELS].sum(1)[: len(channels)]

    def captioned(self, concepts: Mapping[str, Sequence[int]]) -> dict[str, list[tuple[str, np.ndarray]]]:
        """Return, by layer, each concept's channel and share of relevance as a caption, and its heat map.

        Of one image, repeated as often at least as the layer with the most concepts has some.
        """
        return {layer: self._captioned(layer, channels) for layer, channels in concepts.items()}

    def _captioned(self, layer: str, channels: Sequence[int]) -> list[tuple[str, np.ndarray]]:
        share = shares(self.relevance[layer])[0]
        maps = self.heat_map_each(layer, channels).cpu().numpy()
        return [(f"{n}: {100 * share[n]:.1f} %", heat) for n, heat in zip(channels, maps, strict=True)]


@contextmanager
def propagated(
    form: nn.Module,
    layers: Sequence[str],
    images: torch.Tensor,
    labels: torch.Tensor,
    start: Start,
    composite: Composite,
) -> Iterator[Propagated]:
    """Propagate relevance to layers and pixels, and keep what it takes to start it again at their channels.

    Parameters
    ----------
    form : nn.Module
        A network in canonical form.
    layers : sequence of str
    images : tensor, N x 3 x H x W
        Normalised, on the network's device. What is kept grows with their number.
    labels : int tensor, N
    start : function of (logits, labels)
        See `stages.attribution.filters.from_class`.
    composite : zennit composite
    """
    pixels = images.detach().requires_grad_()
    outputs = {PIXELS: pixels}

    def keep(name: str):
        def hook(module, inputs, output):
            outputs[name] = channels_second(module, output)
            return outputs[name].movedim(1, -1) if outputs[name] is not output else output

        return hook

    with composite.context(form):
        handles = [form.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
        try:
            logits = form(pixels)
        finally:
            for handle in handles:
                handle.remove()
        yield Propagated(logits, outputs, start(logits.detach(), labels).to(logits))
