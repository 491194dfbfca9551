"""Sections of the targets beside the study: curves and toy."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.params.scores import Composite, Coupled, Criterion, LayerGroups, Normalisation, Reduction
from stages.params.section import Positive, Section, refuse_repeats


class Setting(Section):
    """Values of prune.scores to use in place of those there, for lrp."""

    reduction: Reduction | None = None
    normalisation: Normalisation | None = None
    coupled: Coupled | None = None
    composite: Composite | LayerGroups | None = None
    start: Literal["true-class", "predicted-class"] | None = None
    amount: Literal["one", "logit"] | None = None


class Curves(Section):
    """Pruning at once, without fine-tuning, at several rates."""

    rates: Annotated[int, Field(ge=2)]
    min_channels: Positive
    criteria: Annotated[list[Criterion], Field(min_length=1)]
    settings: Annotated[dict[Annotated[str, Field(pattern="^[a-z0-9-]+$")], Setting], Field(min_length=1)]
    kept: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _criteria_differ(self):
        refuse_repeats("criteria", self.criteria)
        return self


class Toy(Section):
    """The toy study of Yeom et al. (2021): units of a small network removed at once."""

    criteria: Annotated[list[Literal["lrp", "weight", "gradient", "taylor", "random"]], Field(min_length=1)]
    references_per_class: Annotated[list[Positive], Field(min_length=1)]
    shown: Positive
    networks: Positive
    seeds: Annotated[int, Field(ge=2)]
    removed: Annotated[int, Field(ge=1, lt=3000)]
    overlap: Annotated[int, Field(ge=1, le=3000)]
    updates: Positive
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    points: Positive
    threads: Positive

    @model_validator(mode="after")
    def _show_what_is_measured(self):
        refuse_repeats("criteria", self.criteria)
        refuse_repeats("references_per_class", self.references_per_class)
        if self.shown not in self.references_per_class:
            raise ValueError(f"shown is {self.shown}, none of references_per_class")
        return self
