"""What the names of the study's checkpoints say, which of them are steps of their own, and names in its tables."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.errors import InputError, naming
from stages.files import sha256

ALL_CLASSES = "(all)"  # in place of a class: all images together
PARTS = ["lower third", "upper third"]  # in place of a layer: those nearest the image, and the logits
BASELINE = re.compile(r"(^|/)seed(?P<seed>\d+)\.\w+(\.\w+)?$")
STEP = re.compile(r"(^|/)(?P<criterion>[^/]+)/seed(?P<seed>\d+)/step(?P<step>\d+)(?P<pruned>\.pruned)?\.\w+(\.\w+)?$")


def file_name(name: str) -> str:
    """Return the name of a class, or an image's id, as part of a file's name; two never have the same."""
    return name.replace("%", "%25").replace("/", "%2F")


def outer_thirds(layers: Sequence) -> tuple[Sequence, Sequence]:
    """Return what `PARTS` name: the first and the last third of layers in the network's order, one at least."""
    third = max(1, len(layers) // 3)
    return layers[:third], layers[-third:]


class Identity(NamedTuple):
    """Which network of the study a file belongs to; the baseline's criterion and phase are `baseline`, its step 0."""

    criterion: str
    seed: int
    step: int
    phase: str


def identify(path: Path) -> Identity:
    """Read an identity from `…/seed<s>.safetensors` or `…/<criterion>/seed<s>/step<n>[.pruned].…`.

    Raises
    ------
    InputError
        The path is named otherwise.
    """
    text = Path(path).as_posix()
    if match := STEP.search(text):
        phase = "pruned" if match["pruned"] else "finetuned"
        return Identity(match["criterion"], int(match["seed"]), int(match["step"]), phase)
    if match := BASELINE.search(text):
        return Identity("baseline", int(match["seed"]), 0, "baseline")
    raise InputError(f"{path}: must be named seed<s>.safetensors or <criterion>/seed<s>/step<n>[.pruned].safetensors")


def without_repeats(paths: list[Path]) -> list[Path]:
    """Return the checkpoints of chains, in order, less those of steps after a chain's end.

    These are published too, as copies of the network that the chain ended with: steps whose fine-tuned network equals
    that of the step before. Step 1 stays, also where it could remove nothing.
    """
    identities = {path: identify(path) for path in paths}
    finetuned = {}
    for path, identity in identities.items():
        if identity.phase == "finetuned":
            with naming(path):
                finetuned[identity[:3]] = sha256(path)

    def repeats(criterion: str, seed: int, step: int) -> bool:
        before = finetuned.get((criterion, seed, step - 1))
        return before is not None and finetuned.get((criterion, seed, step)) == before

    return [path for path, identity in identities.items() if not repeats(*identity[:3])]
