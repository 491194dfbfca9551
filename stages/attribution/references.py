"""Reference images of concepts: those that a concept is most relevant for (RelMax), or most active in (ActMax).

Achtibat et al. (2023, doi 10.1038/s42256-023-00711-8) look at concepts through the first kind.
"""

import torch
from torch.nn.functional import one_hot

from stages.attribution.concepts import Propagated


class Highest:
    """The images with the highest values of each concept, kept while images stream by.

    Parameters
    ----------
    count : int
        How many of each concept; what is kept does not grow with the images.
    """

    def __init__(self, count: int):
        self.count = count
        self.kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def add(self, values: dict[str, torch.Tensor], rows: torch.Tensor) -> None:
        """Take a batch in: by layer a value of each image and concept, N x C; and the number of each image, N."""
        for layer, each in values.items():
            each, numbers = each.cpu(), rows.unsqueeze(1).expand_as(each)
            if layer in self.kept:
                each, numbers = (torch.cat(both) for both in zip(self.kept[layer], (each, numbers), strict=True))
            order = each.argsort(dim=0, descending=True, stable=True)[: self.count]  # of equals the first seen
            self.kept[layer] = each.gather(0, order), numbers.gather(0, order)

    def of(self, layer: str, concept: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the numbers of a concept's images and their values, the highest first."""
        values, numbers = self.kept[layer]
        return numbers[:, concept], values[:, concept]


def fields(
    found: Propagated, layer: str, concept: int, positions: torch.Tensor, started: torch.Tensor | None = None
) -> list[tuple[tuple[slice, slice], torch.Tensor]]:
    """Return the part of each image that the relevance of one neuron of a concept goes to, and that relevance.

    Parameters
    ----------
    found : Propagated
        The images.
    positions : int tensor, N
        Which neuron of each image, counted along rows: where the concept is most relevant, or most active. 0 in a
        layer without positions, whose neurons see all of an image.
    started : tensor, as the layer's output, optional
        In place of the relevance that the neurons have, which may be zero where they are most active.

    Returns
    -------
    list of ((rows, columns), tensor H x W)
        The smallest box around the pixels with relevance; the whole image, where there are none.
    """
    relevance, where = found.relevance[layer], None
    if relevance.ndim > 2:
        height, width = relevance.shape[2:]
        where = one_hot(positions, height * width).view(-1, height, width).to(relevance)
    heat = found.heat_maps(layer, concept, where=where, started=started)
    return [(_box(image != 0), image) for image in heat]


def _box(mask: torch.Tensor) -> tuple[slice, slice]:
    if not mask.any():
        return slice(None), slice(None)
    rows, columns = (mask.any(dim).nonzero().flatten().tolist() for dim in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
