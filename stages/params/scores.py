"""Section prune.scores: criteria, and how what they say becomes a score."""

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from stages.params.section import Positive, Section, Share

Reduced = Literal["lrp", "activation", "gradient", "taylor", "integrated-gradients"]  # over images
OfConcepts = Literal["crp", "crp-class", "crp-contrast", "crp-region"]
Seeing = Literal[Reduced, OfConcepts]  # what looks at images
Criterion = Literal[Seeing, "weight", "weight-l2", "bn-scale", "random"]
Reduction = Literal["sum", "abs-sample", "abs-pixel"]
Normalisation = Literal["none", "l1", "l2", "mean"]
Coupled = Literal["sum", "mean", "max", "first"]
LayerRule = Literal["z", "epsilon", "zplus", "alpha-beta", "gamma"]
Composite = Literal[
    "epsilon-plus", "epsilon-plus-flat", "epsilon-plus-box", "epsilon-gamma-box",
    "z", "epsilon", "zplus", "alpha-beta", "gamma",
]  # fmt: skip


class LayerGroups(Section):
    """The LRP rule of each group of layers."""

    low: LayerRule
    middle: LayerRule
    high: LayerRule
    linear: LayerRule
    first: Literal["box", "flat", "wsquare", "none"]


class Lrp(Section):
    """Rules of LRP and where relevance starts."""

    composite: Composite | LayerGroups
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    gamma: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    alpha: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    start: Literal["true-class", "predicted-class"]
    amount: Literal["one", "logit"]


class Region(Section):
    """A part of an image, in fractions of its sides from the top left corner: a box or a disc."""

    box: Annotated[list[Share], Field(min_length=4, max_length=4)] | None = None  # left, top, right, bottom
    disc: Annotated[list[Share], Field(min_length=3, max_length=3)] | None = None  # x, y of the centre, radius

    @model_validator(mode="after")
    def _hold_something(self):
        if (self.box is None) == (self.disc is None):
            raise ValueError("name either box: [left, top, right, bottom] or disc: [x, y, radius]")
        if self.box and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            raise ValueError(f"box {self.box}: left must be below right, and top below bottom")
        if self.disc and not self.disc[2]:
            raise ValueError(f"disc {self.disc}: the radius must be above 0")
        return self


RegionOrMasks = Region | Literal["masks"]  # the same of each image, or the mask that it has in the data


class Crp(Section):
    """What the criteria crp-class, crp-contrast and crp-region ask for."""

    class_name: str | None
    contrast: Annotated[list[str], Field(min_length=2, max_length=2)] | None
    region: RegionOrMasks | None

    @field_validator("contrast")
    @classmethod
    def _differ(cls, contrast):
        if contrast and contrast[0] == contrast[1]:
            raise ValueError(f"{contrast} must name two classes")
        return contrast

    def classes(self) -> list[str]:
        """Return the names of classes that are asked for."""
        return [*([self.class_name] if self.class_name else []), *(self.contrast or [])]

    def asked_by(self, criterion: Criterion) -> str | None:
        """Return the key that a criterion needs, if any."""
        return {"crp-class": "class_name", "crp-contrast": "contrast", "crp-region": "region"}.get(criterion)


class Scores(Section):
    """How the values of a criterion become one score a prunable unit."""

    references_per_class: Positive
    batch_size: Positive
    reduction: dict[Reduced, Reduction]
    normalisation: dict[Criterion, Normalisation]
    coupled: dict[Criterion, Coupled]
    classes: Annotated[list[str], Field(min_length=1)] | None
    correct_only: bool
    lrp: Lrp
    crp: Crp
    integration_steps: Positive

    def read_by(self, criterion: Criterion) -> dict:
        """Return the values that decide what a criterion scores, and nothing of the others."""
        values = {name: getattr(self, name).get(criterion) for name in ("reduction", "normalisation", "coupled")}
        if criterion in get_args(Seeing):
            values |= self.model_dump(include={"references_per_class", "batch_size", "classes", "correct_only"})
        if criterion == "lrp" or criterion in get_args(OfConcepts):
            starts = {"start", "amount"} if criterion != "lrp" else None  # of concepts: one at the true class
            values["lrp"] = self.lrp.model_dump(exclude=starts)
        if asked := self.crp.asked_by(criterion):
            values[asked] = self.crp.model_dump()[asked]
        if criterion == "integrated-gradients":
            values["integration_steps"] = self.integration_steps
        return values

    def refuse_missing(self, criteria: list[Criterion]) -> None:
        """Raise a ValueError if a choice that is made by criterion was not made for one of these."""
        for criterion in criteria:
            for name in ("reduction", "normalisation", "coupled"):
                needed = name != "reduction" or criterion in get_args(Reduced)
                if needed and criterion not in getattr(self, name):
                    raise ValueError(f"prune.scores.{name} has no entry for {criterion}")
            asked = self.crp.asked_by(criterion)
            if asked and getattr(self.crp, asked) is None:
                raise ValueError(f"prune.scores.crp.{asked} is null, but {criterion} needs it")
