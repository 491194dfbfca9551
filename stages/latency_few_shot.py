"""Stage latency_few_shot: how long a forward pass of the networks takes that were pruned with few images.

By hand::

    python -m stages.latency_few_shot --params params.yaml --architectures k10/lrp/seed0.architectures.json … \
        --latency metrics/few_shot_latency/latency.csv

Their weights were not kept: networks of the same layers are timed with others. Alone on the machine: it claims every
core.
"""

import json
from functools import partial
from pathlib import Path

from torch import nn

from stages import command, device
from stages.errors import naming
from stages.files import write_rows
from stages.networks.checkpoint import Architecture
from stages.params import load
from stages.timed import in_rounds


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.latency_few_shot", __doc__, latency="table to write")
    parser.add_argument("--architectures", type=Path, nargs="+", required=True, help="of `stages.few_shot`")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate.latency
    log = command.logger("latency_few_shot")
    where = device.prepare(params.threads)
    networks = {}
    for path in arguments.architectures:
        with naming(path):
            chain = json.loads(path.read_text())
        for made in chain:
            architecture = Architecture(**made.pop("architecture"))
            networks.setdefault(tuple(made.values()), (made, partial(built, architecture)))  # each has the unpruned one
    write_rows(arguments.latency, in_rounds(list(networks.values()), params, where, log))


def built(architecture: Architecture) -> tuple[nn.Module, Architecture]:
    """Return a network of these layers, with random weights, as it is timed."""
    return architecture.rebuilt().to(memory_format=architecture.memory_format), architecture


if __name__ == "__main__":
    command.run(main)
