"""Section data: which images, how large, and how they are split."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from stages.params.section import Count, Digest, Section, refuse_bare_path, refuse_repeats

OF_THE_USER = ("image-folder", "csv")  # data sets that their source names, not their kind


class Fractions(Section):
    """Shares of the images that go to validation and test; the rest trains."""

    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _leave_some_to_train(self):
        if self.val + self.test >= 1:
            raise ValueError(f"val + test is {self.val + self.test:g}, must be below 1")
        return self


class Table(Section):
    """A CSV file below data.source, a row an image, and which of its columns say what."""

    file: str
    image: str
    label: str | None = None
    group: str | None = None
    split: str | None = None
    subgroups: list[str] = []

    def columns(self) -> dict[str, str]:
        """Return what a column is used as to its name in the file."""
        roles = {"image_id": self.image, "label": self.label, "group": self.group, "split": self.split}
        return {role: name for role, name in roles.items() if name} | {name: name for name in self.subgroups}

    @model_validator(mode="after")
    def _fit_the_source(self):
        if Path(self.file).is_absolute() or ".." in Path(self.file).parts:
            raise ValueError(f"file: {self.file} must lie below data.source, which DVC watches")
        for name in self.subgroups:
            if name in ("image_id", "label", "group", "split"):
                raise ValueError(f"subgroups: {name} is a column of its own; rename it in {self.file}")
        return self


class Masks(Section):
    """A folder of masks, a picture for each image with the image's name and this suffix, and the folder's SHA-256.

    With `allow_empty` they may hold nothing of an image, such as that of a mark that most images do not have.
    """

    path: str
    suffix: str = ".png"
    sha256: Digest
    allow_empty: bool = False


class Data(Section):
    """Which images, how large, and how they are split."""

    name: Literal["fashion-mnist", "ham10000", "cifar10", "cifar100", "imagenet", "image-folder", "csv"]
    source: str
    table: Table | None
    classes: Annotated[list[str], Field(min_length=2)] | None
    image_size: Annotated[int, Field(ge=8)]
    centre: Annotated[float, Field(gt=0, le=1)]
    split_seed: Count
    fractions: Fractions
    limit_per_class: Annotated[int, Field(ge=4)] | None
    allow_missing: bool
    duplicates: Literal["refuse", "keep"]
    masks: Annotated[Masks | None, BeforeValidator(refuse_bare_path)]

    @model_validator(mode="after")
    def _fit_together(self):
        own = self.name in OF_THE_USER
        if self.table and not own:
            raise ValueError(f"table: {self.name} has its own; null, or name: image-folder | csv")
        if self.classes and not own:
            raise ValueError(f"classes: {self.name} has its own; null, or name: image-folder | csv")
        if self.name == "csv" and not (self.table and self.table.label):
            raise ValueError("table: csv needs {file: …, image: …, label: …}, a CSV file and its columns")
        if self.allow_missing and self.name != "ham10000" and not self.table:
            raise ValueError("allow_missing: only a data set with a table can have missing pictures; false")
        if self.classes:
            refuse_repeats("classes", self.classes)
        return self
