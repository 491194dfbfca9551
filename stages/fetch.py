"""Put the data set that params.yaml names into data.source: download CIFAR, unpack the archives of ImageNet.

By hand::

    python -m stages.fetch
"""

from pathlib import Path

from stages import command
from stages.datasets import published
from stages.errors import InputError
from stages.params import load


def main() -> None:
    """Download and unpack."""
    data = load(command.parser("stages.fetch", __doc__).parse_args().params).data
    if data.name not in (*published.CIFAR, "imagenet"):
        raise InputError(f"data.name: {data.name} cannot be fetched; docs/data.md says where data sets are had")
    published.fetch(data.name, Path(data.source))
    print(f"{data.source}: {data.name} is there")


if __name__ == "__main__":
    command.run(main)
