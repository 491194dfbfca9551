"""Section concepts."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.params.pruning import Layers
from stages.params.scores import RegionOrMasks
from stages.params.section import Fraction, Positive, Section


class Strategies(Section):
    """Of which layer, and from how many images, the strategies of a class are found."""

    layer: str | None
    images: Annotated[int, Field(ge=2)]
    most: Positive


class Chosen(Section):
    """Images, by id, and concepts, such as `conv1:0,3`, that are drawn beside those that the stage finds."""

    images: list[str]
    concepts: list[str]


class Concepts(Section):
    """What `stages.concepts` looks at, and how much of it is written."""

    split: Literal["train", "val", "test"]
    layers: Layers
    kept: Positive
    resamples: Annotated[int, Field(ge=40)]
    lost: Fraction
    region: RegionOrMasks | None
    references: Positive
    examples: Positive
    pictured_layers: Positive
    pictured_concepts: Positive
    chosen: Chosen
    strategies: Strategies
    matched_images: Positive
    alike: Fraction
    batch_size: Positive
    threads: Positive

    @model_validator(mode="after")
    def _picture_what_is_kept(self):
        if self.pictured_concepts > self.kept:
            raise ValueError(f"pictured_concepts is {self.pictured_concepts}, more than kept, {self.kept}")
        return self
