"""What training minimises."""

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from stages.params.training import Distillation


def loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    taught: torch.Tensor | None = None,
    distillation: Distillation | None = None,
    weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Return cross-entropy, mixed with the distance to what a teacher says (Hinton et al., 2015, arXiv 1503.02531).

    (1 - w) CE(p, y) + w T² KL(teacher at temperature T || student at T), mean over images; the factor T² keeps the
    gradients of both parts of one size.

    Parameters
    ----------
    logits : tensor, N x classes
    labels : int tensor, N, or tensor, N x classes
        Probabilities, where images are mixed.
    taught : tensor, N x classes, optional
        Logits of the teacher; with `distillation`.
    weights : tensor, classes, optional
        Of the classes in the cross-entropy.
    """
    of_labels = cross_entropy(logits, labels, weights, label_smoothing=label_smoothing)
    if taught is None or distillation is None:
        return of_labels
    hot = distillation.temperature
    distance = kl_div(log_softmax(logits / hot, 1), softmax(taught / hot, 1), reduction="batchmean")
    return (1 - distillation.weight) * of_labels + distillation.weight * hot**2 * distance
