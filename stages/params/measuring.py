"""Sections evaluate, sensitivity, few_shot and drift."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.params.scores import Criterion
from stages.params.section import Count, Positive, Section, refuse_repeats
from stages.params.training import Distillation


class Latency(Section):
    """How the time of a forward pass is measured."""

    batch_sizes: Annotated[list[Positive], Field(min_length=1)]
    seconds: Annotated[float, Field(gt=0)]
    threads: Positive


class Comparison(Section):
    """At which sizes criteria are compared, and how often intervals and tests draw."""

    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
    resamples: Annotated[int, Field(ge=100)]

    @model_validator(mode="after")
    def _shares_differ(self):
        refuse_repeats("shares", self.shares)
        return self


class Evaluate(Section):
    """How checkpoints are measured."""

    batch_size: Positive
    threads: Positive
    comparison: Comparison
    latency: Latency
    onnx: Literal["none", "first", "all"]


class Sensitivity(Section):
    """Each layer pruned alone, without fine-tuning."""

    criteria: list[Criterion]
    rates: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _nothing_twice(self):
        refuse_repeats("criteria", self.criteria)
        refuse_repeats("rates", self.rates)
        return self


class FewShot(Section):
    """Pruning with k images of each class and no other training data."""

    images_per_class: Annotated[list[Positive], Field(min_length=1)]
    prior: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    updates: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    distillation: Distillation | None
    threads: Positive

    @model_validator(mode="after")
    def _numbers_differ(self):
        refuse_repeats("images_per_class", self.images_per_class)
        return self


class Drift(Section):
    """Of how many test images heat maps are compared."""

    images_per_class: Positive
    batch_size: Positive
    threads: Positive
