"""How a network does on the validation split, and which epoch is the best there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn.functional import cross_entropy

from stages.datasets.store import Prepared
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.reporting.metrics import balanced_accuracy

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def validate(
    network: nn.Module, architecture: Architecture, data: Prepared, batch_size: int, fabric: Fabric | None = None
) -> dict[str, float]:
    """Return val_loss (mean cross-entropy, nats), val_accuracy and val_balanced_accuracy of a network in eval mode.

    The processes of `fabric`, if any, take a part of the images each, and all return the same.
    """
    logits, labels = predict(network, architecture, data, data.rows("val"), batch_size, fabric)
    predicted = logits.argmax(1)
    return {
        "val_loss": cross_entropy(logits, labels).item(),
        "val_accuracy": (predicted == labels).double().mean().item(),
        "val_balanced_accuracy": balanced_accuracy(labels.numpy(), predicted.numpy(), len(data.classes)),
    }


def row_of_untrained(
    network: nn.Module, architecture: Architecture, data: Prepared, batch_size: int
) -> dict[str, float | None]:
    """Return the one row of history of a network that is taken as it is: epoch 0, validation alone."""
    row: dict[str, float | None] = dict.fromkeys(("epoch", "learning_rate", "train_loss", "train_accuracy"))
    return row | {"epoch": 0} | validate(network, architecture, data, batch_size)


def chosen(history: list[dict[str, float]], select: str) -> dict[str, float]:
    """Return the row of the epoch whose weights are kept; of equals the last.

    Parameters
    ----------
    select : {"best", "best-balanced", "last"}
        By validation loss; by balanced accuracy on the validation split; the last epoch.
    """
    if select == "last":
        return history[-1]
    key, sign = ("val_loss", -1) if select == "best" else ("val_balanced_accuracy", 1)
    return max(reversed(history), key=lambda row: sign * row[key])
