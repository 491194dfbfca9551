"""A network on the test split: its metrics, and what it said to every image."""

import pandas as pd
import torch

from stages.datasets.store import Prepared
from stages.names import Identity
from stages.networks.checkpoint import Architecture
from stages.networks.predict import predict
from stages.networks.size import measure, sparsity
from stages.reporting.metrics import classification


def measured(
    identity: Identity, network: torch.nn.Module, architecture: Architecture, data: Prepared, batch_size: int
) -> tuple[dict, pd.DataFrame]:
    """Return a row of metrics/pruning.csv, and predictions: step, phase, image_id, label, probability_<class>.

    The row has the size of the tensors, for a masked network also `effective_<size>`, without what is masked; and the
    `sparsity` of its convolutions and linear layers.
    """
    rows = data.rows("test")
    logits, labels = predict(network, architecture, data, rows, batch_size)
    probabilities = logits.double().softmax(1).numpy()
    sizes = vars(measure(network, architecture.image_size))
    if architecture.masked:
        left = measure(architecture.effective().shape(), architecture.image_size)
        sizes |= {f"effective_{name}": value for name, value in vars(left).items()}
    sizes["sparsity"] = round(sparsity(network.modules()), 6)
    row = identity._asdict() | sizes | classification(labels.numpy(), probabilities, data.classes)
    table = data.index.iloc[rows][["image_id", "label"]].reset_index(drop=True)
    table.insert(0, "step", identity.step)
    table.insert(1, "phase", identity.phase)
    columns = [f"probability_{name}" for name in data.classes]
    return row, table.join(pd.DataFrame(probabilities.astype("float32"), columns=columns))
