"""Stage evaluate: the test split, once, for the checkpoints of one chain of pruning steps (or the baseline).

By hand::

    python -m stages.evaluate --params params.yaml --data data/prepared \
        --checkpoints lrp/seed0/step1.pruned.safetensors lrp/seed0/step1.safetensors \
        --rows lrp.csv --predictions lrp.parquet
"""

from pathlib import Path

import pandas as pd
import torch

from stages import command, device
from stages.datasets import store
from stages.errors import InputError
from stages.files import replacing, write_rows
from stages.names import Identity, identify, without_repeats
from stages.networks import checkpoint
from stages.networks.predict import predict
from stages.networks.size import measure
from stages.params import load
from stages.reporting.metrics import classification


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.evaluate", __doc__, data="prepared data", rows="metrics to write", predictions="predictions to write"
    )
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="named as `stages.names` reads them")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate
    log = command.logger("evaluate")
    where = device.prepare(params.threads)
    data = store.load(arguments.data)
    test = data.rows("test")
    rows, predictions = [], []
    for path in without_repeats(arguments.checkpoints):
        identity = identify(path)
        network, architecture = checkpoint.load(path)
        if architecture.classes != data.classes:
            raise InputError(f"{path}: its classes are not those of {arguments.data}")
        logits, labels = predict(network.to(where), architecture, data, test, params.batch_size)
        probabilities = logits.double().softmax(1).numpy()
        size = measure(network, architecture.image_size)
        rows.append(identity._asdict() | vars(size) | classification(labels.numpy(), probabilities, data.classes))
        predictions.append(_table(identity, data, test, probabilities))
        log.info("%s seed %d step %d %s: accuracy %.4f", *identity, rows[-1]["accuracy"])
    write_rows(arguments.rows, rows)
    with replacing(arguments.predictions) as temporary:
        pd.concat(predictions, ignore_index=True).to_parquet(temporary, index=False)


def _table(identity: Identity, data: store.Prepared, rows, probabilities) -> pd.DataFrame:
    table = data.index.iloc[rows][["image_id", "label"]].reset_index(drop=True)
    table.insert(0, "step", identity.step)
    table.insert(1, "phase", identity.phase)
    columns = [f"probability_{name}" for name in data.classes]
    return table.join(pd.DataFrame(torch.from_numpy(probabilities).float().numpy(), columns=columns))


if __name__ == "__main__":
    command.run(main)
