"""Stage latency_few_shot: how long a forward pass of the networks takes that were pruned with few images.

By hand::

    python -m stages.latency_few_shot --params params.yaml --architectures k10/lrp/seed0.architectures.json … \
        --latency metrics/few_shot_latency/latency.csv

Their weights were not kept: networks of the same layers are timed with others. Alone on the machine: it claims every
core.
"""

import json
from pathlib import Path

from stages import command, device
from stages.errors import naming
from stages.files import write_rows
from stages.networks.checkpoint import Architecture
from stages.networks.timing import in_words, times
from stages.params import load


def main() -> None:
    """Run the stage."""
    parser = command.parser("stages.latency_few_shot", __doc__, latency="table to write")
    parser.add_argument("--architectures", type=Path, nargs="+", required=True, help="of `stages.few_shot`")
    arguments = parser.parse_args()
    params = load(arguments.params).evaluate.latency
    log = command.logger("latency_few_shot")
    where = device.prepare(params.threads)
    rows = {}
    for path in arguments.architectures:
        with naming(path):
            chain = json.loads(path.read_text())
        for made in chain:
            architecture = Architecture(**made.pop("architecture"))
            key = tuple(made.values())
            if key in rows:
                continue  # each chain has the unpruned network, too
            network = architecture.rebuilt().to(memory_format=architecture.memory_format)
            found = times(network, architecture, params, where)
            rows[key] = [made | measured for measured in found]
            log.info("%s: %s", ", ".join(f"{name} {value}" for name, value in made.items()), in_words(found))
    write_rows(arguments.latency, [row for found in rows.values() for row in found])


if __name__ == "__main__":
    command.run(main)
