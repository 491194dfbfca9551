import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from stages.errors import InputError
from stages.params import load
from stages.params.scores import Criterion, OfConcepts, Seeing


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("taylor, random]", "taylor, grad]", ["prune.criteria.5", "'grad'", "did you mean gradient?"]),
        ("min_channels:", "min_chanels:", ["prune.min_chanels", "unknown key", "did you mean min_channels?"]),
        ("per_step: 0.15", "per_step: 1.5", ["prune.per_step", "1.5", "less than 1"]),
        ("flip: true", 'flip: "False"', ["train.augment.flip", "'False'", "boolean"]),
        ("epochs: 10", "epochs: ten", ["train.epochs", "'ten'", "integer"]),
        ("epochs: 10", "epochs: true", ["train.epochs", "integer"]),
        ("epochs: 10", "epochs: -1", ["train.epochs", "-1"]),
        ("name: resnet18", "name: resnet19", ["model.name", "'resnet19'", "did you mean resnet18?"]),
        ("steps: 4", "steps: 9", ["prune", "1.35", "below 1"]),
        ("seeds: [0]", "seeds: [0, 0]", ["seeds", "more than once"]),
        ("lrp, weight", "lrp, lrp", ["criteria", "lrp", "more than once"]),
        ("pretrained: null", "pretrained: imagnet", ["model.pretrained", "did you mean imagenet?"]),
        ("checkpoint: null", "checkpoint: {path: a.pth, sha256: abc}", ["train.checkpoint.sha256", "'abc'"]),
        ("pretrained: null", "pretrained: {path: a.pth}", ["model.pretrained.sha256", "missing"]),
        (
            "pretrained: null",
            "pretrained: LICENSE",
            ["model.pretrained", "LICENSE is a path", "sha256: cfc7749b96f6"],
        ),
        ("checkpoint: null", "checkpoint: LICENSE", ["train.checkpoint", "LICENSE is a path"]),
        ("recalibrate: 1000", "recalibrate: 1", ["prune.recalibrate"]),
        ("guard: null", "guard: {metric: loss, max_drop: 0.1}", ["prune.guard.metric: 'loss' is none of accuracy"]),
        ("guard: null", "guard: {metric: recall_cat}", ["prune.guard.max_drop: missing"]),
        ("schedule: one-cycle             #", "schedule: rewind #", ["train.schedule: 'rewind' is none of one-cycle"]),
        ("until: null", "until: {unit: flops, left: 0.5}", ["prune.until.unit: 'flops' is none of filters, params"]),
        ("until: null", "until: {unit: macs, left: 40}", ["prune.until.left: 40", "less than 1"]),
        ("seeds: [0]", "seeds: [0]\nx: 2020-13-45", ["not valid YAML"]),
        ("test: 0.25", "test: 0.9", ["data.fractions", "1.025", "below 1"]),
        ("momentum: 0.9", "momentum: 0.9\n  momentum: 0.8", ["line", "duplicate key"]),
        ("seeds: [0]", "seeds: [0", ["line", "not valid YAML"]),
        (
            "composite: alpha-beta",
            "composite: epsilon-pluss ",
            ["prune.scores.lrp.composite", "did you mean epsilon-plus?"],
        ),
        ("alpha: 2.0", "alpha: 0.5", ["prune.scores.lrp.alpha", "0.5", "greater than or equal to 1"]),
        ("start: true-class", "start: true", ["prune.scores.lrp.start", "True"]),
        ("classes: null                 # names", "classes: cat # names", ["prune.scores.classes", "'cat'", "list"]),
        ("name: fashion-mnist", "name: fashion-mist", ["data.name", "fashion-mist", "did you mean fashion-mnist?"]),
        ("name: fashion-mnist", "name: csv", ["data: table: csv needs {file: …, image: …, label: …}"]),
        ("table: null", "table: {file: a.csv, image: image}", ["data: table: fashion-mnist has its own"]),
        ("table: null", "table: {file: a.csv}", ["data.table.image: missing"]),
        ("table: null", "table: {file: ../a.csv, image: b}", ["data.table: file: ../a.csv must lie below data.source"]),
        ("sampling: 0.0 ", "sampling: {a: 1.5} ", ["train.balance.sampling: a: 1.5 must be a whole number"]),
        ("sampling: 0.0 ", "sampling: 1.5 ", ["train.balance.sampling", "1.5", "less than or equal to 1"]),
        ("table: null", "table: {file: a.csv, image: image, grp: x}", ["data.table.grp", "did you mean group?"]),
        ("table: null", "table: {file: a, image: b, subgroups: [split]}", ["data.table: subgroups: split is a column"]),
        ("allow_missing: false", "allow_missing: true", ["data: allow_missing: only a data set with a table"]),
        ("duplicates: refuse", "duplicates: drop", ["data.duplicates: 'drop' is none of refuse, keep"]),
        (
            "composite: alpha-beta",
            "composite: {low: zplus, middle: gama, high: epsilon, linear: z, first: none} ",
            ["prune.scores.lrp.composite.middle: 'gama'", "did you mean gamma?"],
        ),
        ("model:\n", "model2:\n", ["model2", "unknown key"]),
        ("criteria: [lrp,", "criteria: [crp-class,", ["prune.scores.crp.class_name is null, but crp-class needs it"]),
        ("contrast: null", "contrast: [bag]", ["prune.scores.crp.contrast", "at least 2 items"]),
        ("region: null", "region: {disc: [0.5, 2.0, 0.1]}", ["prune.scores.crp.region.disc", "2.0"]),
        (
            "region: null",
            "region: {box: [0.5, 0.0, 0.5, 1.0]}",
            ["prune.scores.crp.region", "left must be below right"],
        ),
        ("contrast: null", "contrast: [bag, bag]", ["prune.scores.crp.contrast", "two classes"]),
        ("pictured_concepts: 5", "pictured_concepts: 50", ["concepts: pictured_concepts is 50, more than kept, 10"]),
        ("region: null", "region: masks", ["prune.scores.crp.region is masks, but data.masks is null"]),
        ("region: null", "region: {}", ["prune.scores.crp.region", "name either box: [left, top, right, bottom]"]),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(tmp_path, old, new, named):
    text = Path("params.yaml").read_text()
    assert old in text
    path = tmp_path / "params.yaml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError) as error:
        load(path)
    for part in [str(path), *named]:
        assert part in str(error.value)
    assert "\n" not in str(error.value).strip()


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("name: resnet18", "name: convnext_tiny", "removal: mask, but LayerNorms of convnext_tiny"),
        ("until: null", "until: {unit: latency, left: 0.4}", "until.unit is latency, but with removal mask"),
    ],
)
def test_a_mask_is_refused_where_it_cannot_be(tmp_path, old, new, named):
    text = Path("params.yaml").read_text().replace("removal: physical ", "removal: mask ")
    (tmp_path / "params.yaml").write_text(text)
    load(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=named):
        load(tmp_path / "params.yaml")


def test_the_shipped_file_is_valid_and_exponents_are_numbers(tmp_path):
    text = Path("params.yaml").read_text().replace("weight_decay: 0.0005", "weight_decay: 5e-4")
    (tmp_path / "params.yaml").write_text(text)
    assert load(tmp_path / "params.yaml").train.weight_decay == load("params.yaml").train.weight_decay == 5e-4


def test_a_command_answers_bad_input_with_status_2_and_one_line(tmp_path):
    (tmp_path / "params.yaml").write_text("seeds: 3")
    answer = subprocess.run(
        [sys.executable, "-m", "stages.prepare", "--params", tmp_path / "params.yaml", "--source", "x"]
        + ["--prepared", tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert "params.yaml" in answer.stderr
    assert not (tmp_path / "out").exists()


def test_the_settings_of_one_criterion_are_not_read_by_another(params):
    scores = params.prune.scores
    every = get_args(Criterion)
    before = {criterion: scores.read_by(criterion) for criterion in every}

    def change(**values):
        changed = scores.model_copy(update=values)
        return {criterion for criterion in every if changed.read_by(criterion) != before[criterion]}

    of_concepts = set(get_args(OfConcepts))
    assert change(lrp=scores.lrp.model_copy(update={"amount": "one"})) == {"lrp"}
    assert change(lrp=scores.lrp.model_copy(update={"alpha": 3.0})) == {"lrp", *of_concepts}
    assert change(crp=scores.crp.model_copy(update={"class_name": "bag"})) == {"crp-class"}
    assert change(crp=scores.crp.model_copy(update={"contrast": ["bag", "coat"]})) == {"crp-contrast"}
    assert change(coupled=scores.coupled | {"weight": "max"}) == {"weight"}
    assert change(integration_steps=7) == {"integrated-gradients"}
    assert change(references_per_class=3) == set(get_args(Seeing))


def test_no_more_epochs_can_be_rewound_than_were_trained(tmp_path):
    text = Path("params.yaml").read_text().replace("schedule: one-cycle           # |", "schedule: rewind  # |")
    (tmp_path / "params.yaml").write_text(text)
    assert load(tmp_path / "params.yaml").prune.finetune.schedule == "rewind"
    (tmp_path / "params.yaml").write_text(text.replace("    epochs: 1\n", "    epochs: 11\n", 1))
    with pytest.raises(InputError, match="prune.finetune.epochs is 11, more than train.epochs, which rewind repeats"):
        load(tmp_path / "params.yaml")
