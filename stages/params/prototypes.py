"""Section prototypes."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.params.scores import Reduced, RegionOrMasks
from stages.params.section import Count, Positive, Section, Share, refuse_repeats


class PatchCosts(Section):
    """What the costs of patches weigh beside the cross-entropy."""

    cluster: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    separation: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LastLayer(Section):
    """Training of the last layer of a ProtoPNet alone."""

    epochs: Count
    batch_size: Positive
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    l1: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class PrototypeRules(Section):
    """Which prototypes are removed."""

    rules: list[Literal["nearest", "nearest-prior", "duplicates", "region"]]
    neighbours: Positive
    own: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    alike: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    region: RegionOrMasks | None
    inside: Share
    last_of_class: Literal["refuse", "keep"]

    @model_validator(mode="after")
    def _be_possible(self):
        refuse_repeats("rules", self.rules)
        if {"nearest", "nearest-prior"} <= set(self.rules):
            raise ValueError("rules: nearest and nearest-prior are two versions of one rule; name one")
        if self.own > self.neighbours:
            raise ValueError(f"own is {self.own:g}, more than the {self.neighbours} neighbours")
        if "region" in self.rules and self.region is None:
            raise ValueError("region is null, but the rule region needs it")
        return self


class PrunedBackbone(Section):
    """Filter pruning of the backbone of a ProtoPNet, at once, and what follows."""

    criteria: list[Literal[Reduced, "weight", "weight-l2", "bn-scale", "random"]]
    unit: Literal["filters", "params", "macs"]
    left: Annotated[float, Field(gt=0, lt=1)]
    epochs: Count
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _criteria_differ(self):
        refuse_repeats("criteria", self.criteria)
        return self


class PrototypeRates(Section):
    """Learning rates of a ProtoPNet's parts."""

    backbone: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    prototypes: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PrototypeStudy(Section):
    """A ProtoPNet on the backbone of each baseline: trained, projected, its prototypes and its backbone pruned."""

    layer: str | None
    per_class: Count
    dimension: Positive
    similarity: Literal["log", "linear"]
    warm_up: Count
    joint: Count
    rounds: Positive
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: PrototypeRates
    weight_decay: Annotated[float, Field(ge=0)]
    costs: PatchCosts
    last_layer: LastLayer
    prune: PrototypeRules
    backbone: PrunedBackbone
    noise: Annotated[float, Field(ge=0, le=1)]
    examples: Positive
    threads: Positive
