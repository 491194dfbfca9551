"""Download the data set that params.yaml names, where torchvision can: CIFAR-10 and CIFAR-100.

By hand::

    python -m stages.fetch
"""

from pathlib import Path

from stages import command
from stages.datasets import published
from stages.errors import InputError
from stages.params import load

ELSEWHERE = {
    "ham10000": "https://doi.org/10.7910/DVN/DBW86T",
    "imagenet": "https://image-net.org/download.php",
}


def main() -> None:
    """Download."""
    parser = command.parser("stages.fetch", __doc__)
    data = load(parser.parse_args().params).data
    if data.name in published.CIFAR:
        published.read_cifar(data.name, Path(data.source), download=True)
        print(f"{data.source}: {data.name} is there")
    elif data.name in ELSEWHERE:
        raise InputError(f"data.name: {data.name} must be downloaded by hand: {ELSEWHERE[data.name]} (docs/data.md)")
    else:
        raise InputError(f"data.name: {data.name} is nothing to download; cifar10 and cifar100 are")


if __name__ == "__main__":
    command.run(main)
