"""Stage latency: how long a forward pass takes. Alone on the machine: it claims every core.

By hand::

    python -m stages.latency --params params.yaml --latency metrics/latency.csv \
        --checkpoints models/baseline/seed0.safetensors models/pruned/lrp/seed0/step1.safetensors
"""

from pathlib import Path

from stages import command, device
from stages.files import write_rows
from stages.names import identify, without_repeats
from stages.networks import checkpoint
from stages.networks.timing import in_words, times
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
        found = times(*checkpoint.load(path), params, where)
        rows += [
            {"criterion": identity.criterion, "seed": identity.seed, "step": identity.step} | measured
            for measured in found
        ]
        log.info("%s seed %d step %d: %s", *identity[:3], in_words(found))
    write_rows(arguments.latency, rows)


if __name__ == "__main__":
    command.run(main)
