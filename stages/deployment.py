"""Stage deployment: the last networks of chains as ONNX, checked against PyTorch, and how fast both engines are.

By hand::

    python -m stages.deployment --params params.yaml --data data/prepared --folder metrics/deployment \
        --checkpoints models/pruned/lrp/seed0/step4.safetensors

Alone on the machine, and on its processor: it claims every core. The files themselves are made by `stages.export`.
"""

from logging import Logger
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from stages import command
from stages.files import replacing
from stages.names import identify
from stages.params import load
from stages.params.measuring import Evaluate
from stages.reporting import deployment, plots


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.deployment", __doc__, data="prepared data", folder="of a table and page, to write")
    parser.add_argument("--checkpoints", type=Path, nargs="*", required=True, help="of `stages.prune`; may be none")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate
    log = command.logger("deployment")
    rows = compared(arguments.checkpoints, arguments.data, params, log) if arguments.checkpoints else []
    table = pd.DataFrame(rows, columns=deployment.COLUMNS)
    with replacing(arguments.folder / "deployment.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    if rows:
        plots.save(plots.speed_ups(table), arguments.folder / "deployment.svg")
    with replacing(arguments.folder / "page.md") as temporary:
        temporary.write_text(deployment.page(table))


def compared(checkpoints: list[Path], prepared: Path, params: Evaluate, log: Logger) -> list[dict]:
    """Return rows of the table: a network, engine and batch size each."""
    from stages import as_onnx  # seconds, and most studies ask for no network
    from stages.datasets import store
    from stages.networks import checkpoint

    data = store.load(prepared)
    rows = []
    for path in checkpoints:
        criterion, seed, *_ = identify(path)
        batches = data.batches(data.rows("test"), params.batch_size)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "network.onnx"
            found = as_onnx.write_and_compare(*checkpoint.load(path), batches, params.latency, file)
        times = found.pop("times")
        rows += [{"criterion": criterion, "seed": seed} | measured | found for measured in times]
        log.info("%s seed %d: %s", criterion, seed, deployment.agreement_in_words(found))
    return rows


if __name__ == "__main__":
    command.run(main)
