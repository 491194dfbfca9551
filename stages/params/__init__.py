"""The schema of params.yaml. Every number of the study is a key here; wrong or unknown keys are refused by name."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from stages.params.beside import Curves, Toy
from stages.params.concepts import Concepts
from stages.params.data import Data
from stages.params.measuring import Drift, Evaluate, FewShot, Sensitivity
from stages.params.prototypes import PrototypeStudy
from stages.params.pruning import Models, Prune
from stages.params.reading import read
from stages.params.section import Count, Section, refuse_repeats
from stages.params.training import Model, Train


class Params(Section):
    """The whole of params.yaml."""

    seeds: Annotated[list[Count], Field(min_length=1)]
    data: Data
    model: Model
    train: Train
    prune: Prune
    models: Models
    evaluate: Evaluate
    sensitivity: Sensitivity
    few_shot: FewShot
    drift: Drift
    concepts: Concepts
    prototypes: PrototypeStudy
    curves: Curves
    toy: Toy

    @model_validator(mode="after")
    def _be_consistent(self):
        refuse_repeats("seeds", self.seeds)
        epochs = self.prune.finetune.epochs
        if self.prune.finetune.schedule == "rewind" and epochs > self.train.epochs:
            raise ValueError(f"prune.finetune.epochs is {epochs}, more than train.epochs, which rewind repeats")
        if self.prune.removal == "mask" and self.model.name.startswith("convnext"):
            raise ValueError(
                f"prune.removal: mask, but LayerNorms of {self.model.name} count zeros; physical would be right"
            )
        for key, asked in (
            ("concepts", self.concepts.region),
            ("prune.scores.crp", self.prune.scores.crp.region),
            ("prototypes.prune", self.prototypes.prune.region),
        ):
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
