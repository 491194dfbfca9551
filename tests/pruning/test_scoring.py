import shutil
from typing import get_args

import numpy as np
import torch

from stages.attribution.composites import COMPOSITES, LAYER_RULES, Rules
from stages.datasets import store
from stages.networks import checkpoint
from stages.params import load
from stages.params import scores as settings
from stages.pruning.criteria import CRITERIA, UNSEEING, References
from stages.pruning.scoring import rules, scored, start
from tests import forkserver


def lrp(**values):
    given = {"composite": "epsilon-plus-box", "epsilon": 0.1, "gamma": 0.2, "alpha": 3.0}
    return settings.Lrp(**{**given, "start": "true-class", "amount": "one", **values})


def test_rules_are_those_of_params():
    assert set(get_args(settings.Composite)) == set(COMPOSITES)
    assert set(get_args(settings.LayerRule)) == set(LAYER_RULES)
    assert rules(lrp()) == Rules(first="box", epsilon=0.1, gamma=0.2, alpha=3.0)
    groups = {"low": "gamma", "middle": "zplus", "high": "alpha-beta", "linear": "z", "first": "flat"}
    assert rules(lrp(composite=groups)) == Rules(**groups, epsilon=0.1, gamma=0.2, alpha=3.0)


def test_the_criteria_of_params_are_those_there_are():
    assert set(get_args(settings.Criterion)) == set(CRITERIA)
    assert set(get_args(settings.Criterion)) - set(get_args(settings.Seeing)) == UNSEEING


def test_relevance_starts_where_params_say():
    logits, labels = torch.tensor([[1.0, 3.0, -2.0]]), torch.tensor([2])
    assert start(lrp())(logits, labels).tolist() == [[0, 0, 1]]
    assert start(lrp(start="predicted-class", amount="logit"))(logits, labels).tolist() == [[0, 3, 0]]


def test_the_masks_of_the_reference_images_are_looked_at(tmp_path, build, architecture, prepared_folder, prepared):
    rng = np.random.default_rng(0)
    folder = shutil.copytree(prepared_folder, tmp_path / "with_masks")
    masks = np.zeros(prepared.images.shape[:3], np.uint8)
    side = rng.integers(2, 12, len(masks))
    for mask, size in zip(masks, side, strict=True):
        mask[:size, :8] = 255
    np.save(folder / "masks.npy", masks)
    data, network = store.load(folder), build("resnet8", image_size=16)
    given = load("params.yaml").prune.scores
    asked = {"crp": given.crp.model_copy(update={"region": "masks"}), "references_per_class": 3, "batch_size": 7}
    found, _ = scored("crp-region", network, architecture, data, ["conv1"], given.model_copy(update=asked), 0, 0)
    rows = data.references(3, 0)
    images = architecture.normalise(data.batch(rows)[0])
    region = torch.from_numpy(masks[rows]).float() / 255
    whole = References(iter([(images, data.labels(rows))]), None, "sum", 0, rules(given.lrp), region=region)
    expected = CRITERIA["crp-region"](network, ["conv1"], whole)
    assert torch.allclose(found["conv1"], expected["conv1"], atol=1e-5)
    assert len(set(side[rows])) > 3 and expected["conv1"].abs().max() > 1e-3


def test_scores_that_are_not_finite_end_with_status_2_and_one_line(tmp_path, build, architecture, prepared_folder):
    network = build("resnet8")
    network.layer1[0].conv1.weight.data[0] = float("nan")
    checkpoint.save(tmp_path / "a.safetensors", network, architecture)
    answer = forkserver.run(
        "stages.relevance", "--criterion", "lrp", "--seed", 0, "--step", 1,
        "--data", prepared_folder, "--checkpoint", tmp_path / "a.safetensors",
        "--scores", tmp_path / "scores.npz", "--diagnostics", tmp_path / "diagnostics.json",
    )  # fmt: skip
    assert answer.returncode == 2
    assert "lrp gives scores that are not finite in layer" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]
