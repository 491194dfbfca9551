"""The schema of params.yaml. Every number of the study is a key here; wrong or unknown keys are refused by name."""

import difflib
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.errors import InputError
from stages.files import sha256

Reduced = Literal["lrp", "activation", "gradient", "taylor", "integrated-gradients"]  # over images
OfConcepts = Literal["crp", "crp-class", "crp-contrast", "crp-region"]
Seeing = Literal[Reduced, OfConcepts]  # what looks at images
Criterion = Literal[Seeing, "weight", "weight-l2", "bn-scale", "random"]
Reduction = Literal["sum", "abs-sample", "abs-pixel"]
Normalisation = Literal["none", "l1", "l2", "mean"]
Coupled = Literal["sum", "mean", "max", "first"]
Network = Literal[
    "resnet8", "resnet20", "resnet56", "resnet18", "resnet34", "resnet50",
    "vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn",
    "alexnet", "densenet121", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "mlp",
]  # fmt: skip
LayerRule = Literal["z", "epsilon", "zplus", "alpha-beta", "gamma"]
Composite = Literal[
    "epsilon-plus", "epsilon-plus-flat", "epsilon-plus-box", "epsilon-gamma-box",
    "z", "epsilon", "zplus", "alpha-beta", "gamma",
]  # fmt: skip
GUARDED = ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
OF_THE_USER = ("image-folder", "csv")  # data sets that their source names, not their kind
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Section(BaseModel):
    """A mapping in params.yaml: types are not coerced (a quoted "False" is no boolean), unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


SchemaT = TypeVar("SchemaT", bound=Section)


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


def _refuse_bare_path(value):
    """Say what to write for a path without its digest."""
    if isinstance(value, str) and Path(value).exists():
        raise ValueError(f"{value} is a path; write {{path: {value}, sha256: {sha256(Path(value))}, …}} (see README)")
    return value


class Masks(Section):
    """A folder of masks, a picture for each image with the image's name and this suffix, and the folder's SHA-256."""

    path: str
    suffix: str = ".png"
    sha256: Digest


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
    masks: Annotated[Masks | None, BeforeValidator(_refuse_bare_path)]

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
            _refuse_repeats("classes", self.classes)
        return self


class Weights(Section):
    """A file of weights and its SHA-256, so that a changed file is a changed parameter."""

    path: str
    sha256: Digest


class Model(Section):
    """The network before pruning."""

    name: Network
    stem: Literal["imagenet", "small"]
    pretrained: Annotated[Literal["imagenet"] | Weights | None, BeforeValidator(_refuse_bare_path)]


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
    channels_last: bool
    threads: Positive


class FineTuning(Training):
    """Tuning of a network that has just lost filters; `rewind` takes the learning rates of the last epochs of train."""

    schedule: Literal["one-cycle", "cosine", "rewind"]


class Train(Training):
    """The baseline: trained, or taken from `checkpoint`."""

    checkpoint: Annotated[Checkpoint | None, BeforeValidator(_refuse_bare_path)]


class Layers(Section):
    """Name patterns (`*`, `?`, `[…]`) of the layers that may be pruned."""

    include: Annotated[list[str], Field(min_length=1)]
    exclude: list[str]


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


class Crp(Section):
    """What the criteria crp-class, crp-contrast and crp-region ask for."""

    class_name: str | None
    contrast: Annotated[list[str], Field(min_length=2, max_length=2)] | None
    region: Region | None

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


class Distillation(Section):
    """How much the unpruned network teaches while a pruned one is tuned."""

    weight: Annotated[float, Field(gt=0, le=1)]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]


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
        _refuse_repeats("criteria", self.criteria)
        return self


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
        _refuse_repeats("shares", self.shares)
        return self


class Models(Section):
    """What of models/pruned is versioned."""

    keep: Literal["all", "accepted", "last"]

    def keeps(self, step: int, steps: int, phase: str) -> bool:
        """Say whether the network of a step is versioned, as it is after the cut (`pruned`) or after fine-tuning."""
        return self.keep == "all" or (phase == "finetuned" and (self.keep == "accepted" or step == steps))


class Evaluate(Section):
    """How checkpoints are measured."""

    batch_size: Positive
    threads: Positive
    comparison: Comparison
    latency: Latency


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
        _refuse_repeats("images_per_class", self.images_per_class)
        return self


class Drift(Section):
    """Of how many test images heat maps are compared."""

    images_per_class: Positive
    batch_size: Positive
    threads: Positive


class Strategies(Section):
    """Of which layer, and from how many images, the strategies of a class are found."""

    layer: str | None
    images: Annotated[int, Field(ge=2)]
    most: Positive


class Concepts(Section):
    """What `stages.concepts` looks at, and how much of it is written."""

    split: Literal["train", "val", "test"]
    layers: Layers
    kept: Positive
    resamples: Annotated[int, Field(ge=40)]
    lost: Fraction
    region: Region | Literal["masks"] | None
    references: Positive
    examples: Positive
    pictured_layers: Positive
    pictured_concepts: Positive
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


class Setting(Section):
    """Values of prune.scores to use in place of those there, for lrp."""

    reduction: Reduction | None = None
    normalisation: Normalisation | None = None
    coupled: Coupled | None = None
    composite: Composite | LayerGroups | None = None
    start: Literal["true-class", "predicted-class"] | None = None
    amount: Literal["one", "logit"] | None = None


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
    region: Region | Literal["masks"] | None
    inside: Share
    last_of_class: Literal["refuse", "keep"]

    @model_validator(mode="after")
    def _be_possible(self):
        _refuse_repeats("rules", self.rules)
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
        _refuse_repeats("criteria", self.criteria)
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


class Curves(Section):
    """Pruning at once, without fine-tuning, at several rates."""

    rates: Annotated[int, Field(ge=2)]
    min_channels: Positive
    criteria: Annotated[list[Criterion], Field(min_length=1)]
    settings: Annotated[dict[Annotated[str, Field(pattern="^[a-z0-9-]+$")], Setting], Field(min_length=1)]
    kept: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _criteria_differ(self):
        _refuse_repeats("criteria", self.criteria)
        return self


class Sensitivity(Section):
    """Each layer pruned alone, without fine-tuning."""

    criteria: Annotated[list[Criterion], Field(min_length=1)]
    rates: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _nothing_twice(self):
        _refuse_repeats("criteria", self.criteria)
        _refuse_repeats("rates", self.rates)
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
        _refuse_repeats("criteria", self.criteria)
        _refuse_repeats("references_per_class", self.references_per_class)
        if self.shown not in self.references_per_class:
            raise ValueError(f"shown is {self.shown}, none of references_per_class")
        return self


class Params(Section):
    """The whole of params.yaml."""

    seeds: Annotated[list[Count], Field(min_length=1)]
    data: Data
    model: Model
    train: Train
    prune: Prune
    models: Models
    evaluate: Evaluate
    few_shot: FewShot
    drift: Drift
    concepts: Concepts
    prototypes: PrototypeStudy
    curves: Curves
    sensitivity: Sensitivity
    toy: Toy

    @model_validator(mode="after")
    def _be_consistent(self):
        _refuse_repeats("seeds", self.seeds)
        epochs = self.prune.finetune.epochs
        if self.prune.finetune.schedule == "rewind" and epochs > self.train.epochs:
            raise ValueError(f"prune.finetune.epochs is {epochs}, more than train.epochs, which rewind repeats")
        if self.prune.removal == "mask" and self.model.name.startswith("convnext"):
            raise ValueError(
                f"prune.removal: mask, but LayerNorms of {self.model.name} count zeros; physical would be right"
            )
        for key, asked in (("concepts", self.concepts.region), ("prototypes.prune", self.prototypes.prune.region)):
            if asked == "masks" and not self.data.masks:
                raise ValueError(f"{key}.region is masks, but data.masks is null")
        if self.prototypes.per_class and not self.model.name.startswith(("resnet", "vgg")):
            raise ValueError(
                f"prototypes.per_class: {self.prototypes.per_class}, but {self.model.name} is no ResNet or VGG, which "
                "alone become ProtoPNets; 0 would be right"
            )
        self.prune.scores.refuse_missing(
            [
                *self.prune.criteria,
                *self.curves.criteria,
                *self.sensitivity.criteria,
                *self.prototypes.backbone.criteria,
                "lrp",
            ]
        )
        return self


def load(path: Path) -> Params:
    """Read and check a params.yaml, as `read` does."""
    return read(path, Params)


def read(path: Path, schema: type[SchemaT]) -> SchemaT:
    """Read a YAML file and check it against the schema of its sections.

    Raises
    ------
    InputError
        The file is missing or no YAML mapping, or a key is unknown, missing or out of range; the message names it.
    """
    try:
        content = YAML(typ="safe").load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except MarkedYAMLError as error:
        raise InputError(f"{path}: line {error.problem_mark.line + 1}: not valid YAML: {error.problem}") from None
    except (YAMLError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping with the sections {', '.join(schema.model_fields)}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = sorted(error.errors(), key=_rank)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"{path}: {_describe(problems[0], schema)}{more}") from None


def _refuse_repeats(key: str, values: list) -> None:
    repeated = {value for value in values if values.count(value) > 1}
    if repeated:
        raise ValueError(f"{key} names {', '.join(map(str, sorted(repeated)))} more than once")


def _rank(problem: dict) -> int:
    """Put an unknown key first, and last that a section is not the word it could be instead."""
    if problem["type"] == "extra_forbidden":
        return 0
    return 2 if problem["type"] == "literal_error" and isinstance(problem["input"], dict) else 1


def _describe(problem: dict, schema: type[Section]) -> str:
    """Return `key: what is wrong: what would be right` for one error of pydantic."""
    names = [str(part) for part in problem["loc"]]
    key = ".".join(
        name for name in names if name.replace("_", "").isalnum() and name not in ("Weights", "LayerGroups", "str")
    )
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key{_suggest(names[-1], _siblings(names[:-1], schema))}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "literal_error":
        allowed = problem["ctx"]["expected"]
        choices = [choice.strip(" '") for choice in allowed.replace(" or ", ", ").split(",")]
        return f"{key}: {problem['input']!r} is none of {', '.join(choices)}{_suggest(str(problem['input']), choices)}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = problem["msg"].replace("Input should be", "must be").replace("String should", "must")
    return f"{key}: {problem['input']!r} {message}"


def _siblings(names: list[str], section: type[BaseModel]) -> list[str]:
    """Return the keys of the section at `names`."""
    for name in names:
        if name in section.model_fields:
            annotation = section.model_fields[name].annotation
            options = [annotation, *getattr(annotation, "__args__", ())]
            section = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(section.model_fields)


def _suggest(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(choices)}"
