"""Sections model and train: the unpruned network; and what trains a pruned one."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from stages.params.section import Count, Digest, Fraction, Positive, Section, refuse_bare_path

Network = Literal[
    "resnet8", "resnet20", "resnet56", "resnet18", "resnet34", "resnet50",
    "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
    "alexnet", "densenet121", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "mlp",
]  # fmt: skip


class Weights(Section):
    """A file of weights and its SHA-256, so that a changed file is a changed parameter."""

    path: str
    sha256: Digest


class Model(Section):
    """The network before pruning."""

    name: Network
    stem: Literal["imagenet", "small"]
    pretrained: Annotated[Literal["imagenet"] | Weights | None, BeforeValidator(refuse_bare_path)]


class Checkpoint(Weights):
    """A user's own trained network, with what its file does not say."""

    classes: Annotated[list[str], Field(min_length=2)]
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class Colour(Section):
    """By how much the colours of a training image may change."""

    brightness: Annotated[float, Field(ge=0, le=1)]
    contrast: Annotated[float, Field(ge=0, le=1)]
    saturation: Annotated[float, Field(ge=0, le=1)]
    hue: Annotated[float, Field(ge=0, le=0.5)]


class Augment(Section):
    """Random changes of each training image."""

    flip: bool
    flip_vertical: bool
    shift: Count
    rotate: Annotated[float, Field(ge=0, le=180)]
    crop: Annotated[float, Field(gt=0, le=1)]
    colour: Colour


class Balance(Section):
    """How classes with few images are brought up."""

    sampling: Annotated[float, Field(ge=0, le=1)] | dict[str, Positive]
    loss: Annotated[float, Field(ge=0, le=1)]

    @field_validator("sampling", mode="before")
    @classmethod
    def _count(cls, value):
        for name, times in value.items() if isinstance(value, dict) else ():
            if not isinstance(times, int) or times < 1:
                raise ValueError(f"{name}: {times!r} must be a whole number of at least 1")
        return value


class Training(Section):
    """How weights are trained."""

    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    schedule: Literal["one-cycle", "cosine"]
    optimiser: Literal["sgd", "adamw", "lamb"]
    momentum: Annotated[float, Field(gt=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Fraction
    ema: Fraction
    select: Literal["best", "best-balanced", "last"]
    mixup: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    augment: Augment
    balance: Balance
    precision: Literal["32-true", "bf16-mixed"]
    threads: Positive


class FineTuning(Training):
    """Tuning of a network that has just lost filters; `rewind` takes the learning rates of the last epochs of train."""

    schedule: Literal["one-cycle", "cosine", "rewind"]


class Train(Training):
    """The baseline: trained, or taken from `checkpoint`. Its memory format is that of all networks made of it."""

    channels_last: bool
    checkpoint: Annotated[Checkpoint | None, BeforeValidator(refuse_bare_path)]


class Distillation(Section):
    """How much the unpruned network teaches while a pruned one is tuned."""

    weight: Annotated[float, Field(gt=0, le=1)]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
