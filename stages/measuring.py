"""A network on the test split: its metrics, and what it said to every image."""

import pandas as pd
import torch

from stages.datasets.store import Prepared
from stages.names import Identity
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.networks.size import measure
from stages.reporting.metrics import classification


def measured(
    identity: Identity, network: torch.nn.Module, architecture: Architecture, data: Prepared, batch_size: int
) -> tuple[dict, pd.DataFrame]:
    """Return a row of metrics/pruning.csv, and predictions: step, phase, image_id, label, probability_<class>."""
    rows = data.rows("test")
    logits, labels = predict(network, architecture, data, rows, batch_size)
    probabilities = logits.double().softmax(1).numpy()
    size = measure(network, architecture.image_size)
    row = identity._asdict() | vars(size) | classification(labels.numpy(), probabilities, data.classes)
    table = data.index.iloc[rows][["image_id", "label"]].reset_index(drop=True)
    table.insert(0, "step", identity.step)
    table.insert(1, "phase", identity.phase)
    columns = [f"probability_{name}" for name in data.classes]
    return row, table.join(pd.DataFrame(probabilities.astype("float32"), columns=columns))
