"""Why a ProtoPNet calls an image so: this part looks like that prototype (Chen et al., 2019, section 2.3)."""

from typing import NamedTuple

import numpy as np
import torch

from stages.networks.checkpoint import Architecture
from stages.networks.projection import box, enlarged
from stages.networks.protopnet import ProtoPNet

STRONGEST = 5  # prototypes of an explanation


class Likeness(NamedTuple):
    """How much an image is like each prototype: what the network counts, and patch by patch, prototypes x h x w."""

    similar: torch.Tensor
    maps: torch.Tensor


@torch.no_grad()
def likeness(network: ProtoPNet, architecture: Architecture, image: torch.Tensor) -> Likeness:
    """Return how much an image, 3 x H x W in [0, 1], is like each prototype, on the processor."""
    image = image.to(next(network.parameters()).device)
    latent = network.latent(architecture.normalise(image[None]))
    return Likeness(network.prototypes(latent)[0].cpu(), network.prototypes.similarities(latent)[0].cpu())


def explanation(found: Likeness, weight: torch.Tensor, architecture: Architecture, of_class: int | None = None) -> dict:
    """Return what an image is called, and the prototypes that speak most for a class.

    Parameters
    ----------
    found : Likeness
        Of the image.
    weight : tensor, classes x prototypes
        Of the last layer.
    of_class : int, optional
        The class that is explained; without it, the one that the image is called.

    Returns
    -------
    dict
        called, its probability and logit, explained (the class), and strongest: of each prototype its number, class,
        image and box there, its box in this image, similarity, weight, and contributions (similarity x weight) to the
        logit of each class.
    """
    settings, classes = architecture.prototypes, architecture.classes
    similar = found.similar
    contributions = weight * similar
    logits = weight @ similar
    called = logits.argmax().item()
    explained = called if of_class is None else of_class
    strongest = contributions[explained].topk(min(STRONGEST, len(similar))).indices.tolist()
    return {
        "called": classes[called],
        "probability": round(logits.double().softmax(0)[called].item(), 6),
        "logit": round(logits[called].item(), 6),
        "explained": classes[explained],
        "strongest": [
            {
                "prototype": number,
                "of_class": classes[settings.classes[number]],
                "image": settings.sources[number].image,
                "prototype_box": settings.sources[number].box,
                "box": box(found.maps[number], architecture.image_size),
                "similarity": round(similar[number].item(), 6),
                "weight": round(weight[explained, number].item(), 6),
                "contributions": {
                    name: round(part, 6) for name, part in zip(classes, contributions[:, number].tolist(), strict=True)
                },
            }
            for number in strongest
        ],
    }


def maps_at(maps: torch.Tensor, told: dict, size: int) -> list[np.ndarray]:
    """Return the similarity to each of the strongest prototypes of an explanation at the size of the image, H x W."""
    return [enlarged(maps[part["prototype"]], size).clamp(min=0).numpy() for part in told["strongest"]]
