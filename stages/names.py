"""What the names of the study's checkpoints say."""

import re
from pathlib import Path
from typing import NamedTuple

from stages.errors import InputError

BASELINE = re.compile(r"(^|/)seed(?P<seed>\d+)\.\w+(\.\w+)?$")
STEP = re.compile(r"(^|/)(?P<criterion>[^/]+)/seed(?P<seed>\d+)/step(?P<step>\d+)(?P<pruned>\.pruned)?\.\w+(\.\w+)?$")


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
