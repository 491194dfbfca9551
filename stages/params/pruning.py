"""Sections prune and models: what is removed, how far, what follows each cut, and what of it is kept."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from stages.params.scores import Criterion, Scores
from stages.params.section import Fraction, Positive, Section, refuse_repeats
from stages.params.training import Distillation, FineTuning

GUARDED = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")


class Layers(Section):
    """Name patterns (`*`, `?`, `[…]`) of the layers that may be pruned."""

    include: Annotated[list[str], Field(min_length=1)]
    exclude: list[str]


class Guard(Section):
    """What pruning may cost: a step that leaves `metric` more than `max_drop` below the unpruned network is undone."""

    metric: str
    max_drop: Fraction

    @field_validator("metric")
    @classmethod
    def _falls_when_harm_is_done(cls, metric):
        if metric not in GUARDED and not metric.startswith("recall_"):
            raise ValueError(f"{metric!r} is none of {', '.join(GUARDED)}, recall_<class>")
        return metric


class Until(Section):
    """The share of the unpruned network's size, or time of a forward pass, at which pruning stops."""

    unit: Literal["filters", "params", "macs", "latency"]
    left: Annotated[float, Field(gt=0, lt=1)]
    batch_size: Positive = 1


class Prune(Section):
    """Criteria, budget and what follows each cut."""

    criteria: Annotated[list[Criterion], Field(min_length=1)]
    steps: Positive
    unit: Literal["filters", "params", "macs"]
    per_step: Annotated[float, Field(gt=0, lt=1)]
    min_channels: Positive
    round_to: Positive
    layers: Layers
    removal: Literal["physical", "mask"]
    scores: Scores
    recalibrate: Literal[0] | Annotated[int, Field(ge=2)]
    finetune: FineTuning
    distillation: Distillation | None
    guard: Guard | None
    until: Until | None

    def guarded_classes(self) -> list[str]:
        """Return the class whose recall the guard watches, if it does."""
        metric = self.guard.metric if self.guard else ""
        return [metric.removeprefix("recall_")] if metric.startswith("recall_") else []

    @model_validator(mode="after")
    def _be_possible(self):
        if self.steps * self.per_step >= 1:
            raise ValueError(f"steps × per_step is {self.steps * self.per_step:g}, must be below 1")
        if self.removal == "mask" and self.until and self.until.unit == "latency":
            raise ValueError("until.unit is latency, but with removal mask a network stays as slow as it is")
        refuse_repeats("criteria", self.criteria)
        return self


class Models(Section):
    """What of models/pruned is versioned."""

    keep: Literal["all", "accepted", "last"]

    def keeps(self, step: int, steps: int, phase: str) -> bool:
        """Say whether the network of a step is versioned, as it is after the cut (`pruned`) or after fine-tuning."""
        return self.keep == "all" or (phase == "finetuned" and (self.keep == "accepted" or step == steps))
