"""Stage evaluate: the test split, once, for the checkpoints of one chain of pruning steps (or the baseline).

By hand::

    python -m stages.evaluate --params params.yaml --data data/prepared \
        --checkpoints lrp/seed0/step1.pruned.safetensors lrp/seed0/step1.safetensors \
        --rows lrp.csv --predictions lrp.parquet
"""

from pathlib import Path

import pandas as pd

from stages import command, device
from stages.datasets import store
from stages.errors import InputError
from stages.files import replacing, write_rows
from stages.measuring import measured
from stages.names import identify, without_repeats
from stages.networks import checkpoint
from stages.params import load


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
    rows, tables = [], []
    for path in without_repeats(arguments.checkpoints):
        identity = identify(path)
        network, architecture = checkpoint.load(path)
        if architecture.classes != data.classes:
            raise InputError(f"{path}: its classes are not those of {arguments.data}")
        row, table = measured(identity, network.to(where), architecture, data, params.batch_size)
        rows.append(row)
        tables.append(table)
        log.info("%s seed %d step %d %s: accuracy %.4f", *identity, rows[-1]["accuracy"])
    write_rows(arguments.rows, rows)
    with replacing(arguments.predictions) as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)


if __name__ == "__main__":
    command.run(main)
