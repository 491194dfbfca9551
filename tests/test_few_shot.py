"""Pruning with few images: the job, by its command."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from stages.datasets import store
from stages.networks import checkpoint
from stages.networks.size import measure
from stages.training import taps
from tests.conftest import ROOT, in_process


@pytest.fixture
def few_shot(tmp_path, build, architecture):
    """Return a function that runs the job on a prepared folder, and the rows it wrote."""
    checkpoint.save(tmp_path / "seed0.safetensors", build("resnet8", image_size=16), architecture)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["prune"] |= {"steps": 2, "per_step": 0.2, "min_channels": 2}
    params["few_shot"] |= {"updates": 5}

    params["evaluate"]["latency"] |= {"seconds": 0.01}

    def run(folder, criterion, images, status=0, removal="physical", **few):
        params["few_shot"] |= few
        params["prune"]["removal"] = removal
        with (tmp_path / "params.yaml").open("w") as stream:
            YAML().dump(params, stream)
        rows = tmp_path / "rows.csv"
        given = ["--params", tmp_path / "params.yaml", "--data", folder, "--criterion", criterion, "--seed", 0]
        given += ["--images", images, "--checkpoint", tmp_path / "seed0.safetensors", "--rows", rows]
        given += ["--architectures", tmp_path / "architectures.json"]
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


@pytest.mark.parametrize("removal", ["physical", "mask"])
def test_networks_that_were_not_kept_are_timed_by_their_layers(few_shot, prepared_folder, tmp_path, removal):
    rows = few_shot(prepared_folder, "weight", 2, removal=removal)
    made = json.loads((tmp_path / "architectures.json").read_text())
    assert [(each["criterion"], each["step"]) for each in made] == [("baseline", 0), ("weight", 1), ("weight", 2)]
    for each in made:
        architecture = checkpoint.Architecture(**each["architecture"])
        size = measure(architecture.rebuilt(), 16)
        row = rows[(rows["step"] == each["step"]) & (rows["phase"] != "pruned")].iloc[0]
        assert (size.params, size.macs) == (row["params"], row["macs"])
        assert architecture.rebuilt()(torch.zeros(1, 3, 16, 16)).isfinite().all()
    (tmp_path / "again.json").write_text(json.dumps([each | {"images_per_class": 3} for each in made[:1]]))
    files = [tmp_path / "architectures.json", tmp_path / "architectures.json", tmp_path / "again.json"]
    given = ["--params", tmp_path / "params.yaml", "--latency", tmp_path / "latency.csv", "--architectures", *files]
    answer = in_process("latency_few_shot", *given)
    assert answer.returncode == 0, answer.stderr
    found = pd.read_csv(tmp_path / "latency.csv")
    assert found["images_per_class"].tolist() == [2] * 6 + [3] * 2
    assert found["criterion"].tolist() == ["baseline"] * 2 + ["weight"] * 4 + ["baseline"] * 2
    assert found["batch"].tolist() == [1, 32] * 4
    assert (found["milliseconds"] > 0).all()


def test_a_learning_rate_that_is_too_high_is_said_in_one_line(few_shot, prepared_folder):
    said = few_shot(prepared_folder, "weight", 2, status=2, learning_rate=1e30)
    assert said.splitlines()[0].endswith("few_shot.learning_rate: 1e+30 let the tuning diverge; lower it")
    assert len(said.splitlines()) == 1


def test_tuning_leaves_out_what_meets_nothing(few_shot, prepared_folder, monkeypatch):
    seen = []
    monkeypatch.setattr(taps, "conv2d", lambda x, *given: seen.append(len(x)) or torch.nn.functional.conv2d(x, *given))
    few_shot(prepared_folder, "weight", 2)
    assert set(seen) == {20}  # two images of each class
