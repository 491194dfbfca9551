"""Classes with few images: how often their images are drawn, and how much they weigh in the loss."""

import torch

from stages.errors import InputError

Sampling = float | dict[str, int]


def refuse_unknown(sampling: Sampling, classes: list[str], key: str) -> None:
    """Raise an InputError that names `key` if a class has no multiplier, or a multiplier no class."""
    if isinstance(sampling, dict) and set(sampling) != set(classes):
        odd = sorted(set(sampling) ^ set(classes))[0]
        raise InputError(f"{key}: {odd}: there must be one number for each of {', '.join(classes)}")


def epoch(labels: torch.Tensor, classes: list[str], sampling: Sampling) -> torch.Tensor:
    """Return positions of the images of an epoch in random order.

    Parameters
    ----------
    labels : int64 tensor, N
    classes : list of str
        Names, in the order of the labels.
    sampling : float or dict
        A temperature t in [0, 1]: N images are drawn, each with a probability proportional to n^-t for the n images
        of its class: 0 takes every image once, 1 draws all classes alike, 0.5 lies between (square-root sampling,
        Mahajan et al., 2018, arXiv 1805.00932). Or how many times each image of a class is taken, by its name.
    """
    if isinstance(sampling, dict):
        repeated = torch.arange(len(labels)).repeat_interleave(
            torch.tensor([sampling[name] for name in classes])[labels]
        )
        return repeated[torch.randperm(len(repeated))]
    if not sampling:
        return torch.randperm(len(labels))
    return torch.multinomial(_inverse(labels, sampling)[labels], len(labels), replacement=True)


def loss_weights(labels: torch.Tensor, temperature: float) -> torch.Tensor | None:
    """Return a weight for each class, proportional to n^-temperature and 1 on average over the images; None for 0.

    Parameters
    ----------
    labels : int64 tensor, N
        Of the training images; every class has some.
    """
    if not temperature:
        return None
    weights = _inverse(labels, temperature)
    return weights / weights[labels].mean()


def _inverse(labels: torch.Tensor, temperature: float) -> torch.Tensor:
    return labels.bincount().double() ** -temperature
