"""What a concept is made of: the concepts of the layers before it that its relevance goes to, down to the first."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stages.attribution.concepts import Propagated
from stages.attribution.filters import positions

Node = tuple[str, int]  # layer and channel


@dataclass(frozen=True)
class Edge:
    """A concept and one of its sub-concepts.

    Attributes
    ----------
    above, below : (layer, channel)
    share : float
        The sub-concept's part of the concept's relevance, over all images together. What the layer has none of, because
        a parallel path leads past it, is in no edge.
    """

    above: Node
    below: Node
    share: float


def decompose(found: Propagated, root: Node, layers: Sequence[str], widths: Sequence[int]) -> list[Edge]:
    """Return the graph of a concept's sub-concepts: at each layer down the most relevant ones, for the images together.

    Relevance is started again at each concept of the graph alone, with all that it has in the images (Achtibat et al.,
    2023, "attribution graph", where it is only what came along the path). One backward pass a concept, to the layer
    before.

    Parameters
    ----------
    found : Propagated
    root : (layer, channel)
    layers : sequence of str
        Those to go down through, in the order of the forward pass: from a concept to the last layer before it that
        its relevance reaches.
    widths : sequence of int
        How many sub-concepts a concept has at the first, second, … layer down; the last goes on to the end.

    Returns
    -------
    list of Edge
        From the root downwards; a concept that several lead to is decomposed once.
    """
    edges: list[Edge] = []
    level, depth, seen = [root], 0, {root}
    while level:
        width = widths[min(depth, len(widths) - 1)]
        below = [edge for node in level for edge in _sub_concepts(found, node, layers, width)]
        edges += below
        level = [node for node in dict.fromkeys(edge.below for edge in below) if node not in seen]
        seen.update(level)
        depth += 1
    return edges


def _sub_concepts(found: Propagated, node: Node, layers: Sequence[str], width: int) -> list[Edge]:
    layer, channel = node
    whole = positions(found.relevance[layer])[:, channel].sum(1).abs().sum()
    for lower in reversed(layers[: layers.index(layer)]):
        try:
            relevance = found.of(layer, [channel], at=[lower])[lower]
        except ValueError:
            continue  # on a parallel path
        share = positions(relevance).sum((0, 2)) / whole
        order = torch.argsort(share, descending=True, stable=True)[:width]
        edges = [Edge(node, (lower, int(each)), share[each].item()) for each in order if share[each] > 0]
        if edges:
            return edges
    return []
