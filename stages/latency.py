"""Stage latency: how long a forward pass of each network takes. Alone on the machine: it claims every core.

By hand::

    python -m stages.latency --params params.yaml --latency metrics/latency.csv \
        --checkpoints models/baseline/seed0.safetensors models/pruned/lrp/seed0/step1.safetensors
"""

from functools import partial
from pathlib import Path

from stages import command, device
from stages.files import write_rows
from stages.names import identify, without_repeats
from stages.networks import checkpoint
from stages.params import load
from stages.timed import in_rounds


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.latency", __doc__, latency="table to write")
    parser.add_argument("--checkpoints", type=Path, nargs="+", required=True, help="named as `stages.names` reads them")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate.latency
    log = command.logger("latency")
    where = device.prepare(params.threads)
    networks = []
    for path in without_repeats(arguments.checkpoints):
        criterion, seed, step, _ = identify(path)
        columns = {"criterion": criterion, "seed": seed, "step": step}
        networks.append((columns, partial(checkpoint.load, path)))
    write_rows(arguments.latency, in_rounds(networks, params, where, log))


if __name__ == "__main__":
    command.run(main)
