"""What the sections of params.yaml have in common."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from stages.files import sha256

Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A mapping in params.yaml: types are not coerced (a quoted "False" is no boolean), unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def refuse_repeats(key: str, values: list) -> None:
    """Raise a ValueError that names what stands more than once in the list of a key."""
    repeated = {value for value in values if values.count(value) > 1}
    if repeated:
        raise ValueError(f"{key} names {', '.join(map(str, sorted(repeated)))} more than once")


def refuse_bare_path(value: object) -> object:
    """Return the value; raise a ValueError that says what to write if it is a path without its digest."""
    if isinstance(value, str) and Path(value).exists():
        raise ValueError(f"{value} is a path; write {{path: {value}, sha256: {sha256(Path(value))}, …}} (see README)")
    return value
