"""Pruning with few images: the job, by its command."""

import shutil

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages.datasets import store
from stages.networks import checkpoint
from tests.conftest import ROOT, in_process


@pytest.fixture
def few_shot(tmp_path, build, architecture):
    """Return a function that runs the job on a prepared folder, and the rows it wrote."""
    checkpoint.save(tmp_path / "seed0.safetensors", build("resnet8", image_size=16), architecture)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["prune"] |= {"steps": 2, "per_step": 0.2, "min_channels": 2}
    params["few_shot"] |= {"updates": 5}

    def run(folder, criterion, images, status=0, **few):
        params["few_shot"] |= few
        with (tmp_path / "params.yaml").open("w") as stream:
            YAML().dump(params, stream)
        rows = tmp_path / "rows.csv"
        given = ["--params", tmp_path / "params.yaml", "--data", folder, "--criterion", criterion, "--seed", 0]
        given += ["--images", images, "--checkpoint", tmp_path / "seed0.safetensors", "--rows", rows]
        answer = in_process("few_shot", *given, "--predictions", tmp_path / "p.parquet")
        assert answer.returncode == status, answer.stderr
        return pd.read_csv(rows) if status == 0 else answer.stderr

    return run


@pytest.mark.parametrize("criterion", ["lrp", "weight"])
def test_no_other_image_than_the_few_is_looked_at(few_shot, prepared_folder, tmp_path, criterion):
    rows = few_shot(prepared_folder, criterion, 2)
    assert rows[["step", "phase"]].to_records(index=False).tolist() == [
        (0, "baseline"), (1, "pruned"), (1, "finetuned"), (2, "pruned"), (2, "finetuned"),
    ]  # fmt: skip
    shutil.copytree(prepared_folder, tmp_path / "noise")
    data = store.load(prepared_folder)
    images = np.array(data.images)
    others = np.setdiff1d(np.arange(len(images)), np.concatenate([data.rows("test"), data.references(2, 0)]))
    images[others] = np.random.default_rng(0).integers(0, 256, images[others].shape, dtype=np.uint8)
    np.save(tmp_path / "noise" / "images.npy", images)
    pd.testing.assert_frame_equal(few_shot(tmp_path / "noise", criterion, 2), rows)
    few = data.references(2, 0)
    images[few] = images[few][:, ::-1]
    np.save(tmp_path / "noise" / "images.npy", images)
    assert few_shot(tmp_path / "noise", criterion, 2)["loss"].tolist()[1:] != rows["loss"].tolist()[1:]


def test_a_learning_rate_that_is_too_high_is_said_in_one_line(few_shot, prepared_folder):
    said = few_shot(prepared_folder, "weight", 2, status=2, learning_rate=1e30)
    assert said.splitlines()[0].endswith("few_shot.learning_rate: 1e+30 let the tuning diverge; lower it")
    assert len(said.splitlines()) == 1
