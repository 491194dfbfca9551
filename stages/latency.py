"""Stage latency: how long a forward pass takes. Alone on the machine: it claims every core.

By hand::

    python -m stages.latency --params params.yaml --latency metrics/latency.csv \
        --checkpoints models/baseline/seed0.safetensors models/pruned/lrp/seed0/step1.safetensors
"""

from pathlib import Path

import torch

from stages import command, device
from stages.files import write_rows
from stages.names import identify, without_repeats
from stages.networks import checkpoint
from stages.networks.timing import measure
from stages.params import load


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.latency", __doc__, latency="table to write")
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="named as `stages.names` reads them")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate.latency
    log = command.logger("latency")
    where = device.prepare(params.threads)
    rows = []
    for path in without_repeats(arguments.checkpoints):
        identity = identify(path)
        network, architecture = checkpoint.load(path)
        network.to(where)
        for batch in params.batch_sizes:
            images = torch.zeros(batch, 3, architecture.image_size, architecture.image_size, device=where)
            median, spread = measure(network, architecture.normalise(images), params.threads, params.seconds)
            rows.append(
                {
                    "criterion": identity.criterion,
                    "seed": identity.seed,
                    "step": identity.step,
                    "batch": batch,
                    "threads": params.threads,
                    "milliseconds": round(median, 4),
                    "spread": round(spread, 4),
                }
            )
        log.info("%s seed %d step %d: %s", *identity[:3], _in_words(rows, params.batch_sizes))
    write_rows(arguments.latency, rows)


def _in_words(rows: list[dict], batch_sizes: list[int]) -> str:
    latest = rows[-len(batch_sizes) :]
    return ", ".join(f"{row['milliseconds']:.2f} ms at batch {row['batch']}" for row in latest)


if __name__ == "__main__":
    command.run(main)
