"""Stages by hand, with wrong input: exit status 2, one line on stderr, nothing written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import command
from stages.networks import checkpoint
from stages.networks.architectures import filters, scored_layers
from tests import forkserver


def refused(*arguments, named):
    answer = forkserver.run(*arguments)
    assert answer.returncode == 2, answer.stderr
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    for part in named:
        assert str(part) in answer.stderr


@pytest.fixture
def out(tmp_path):
    yield tmp_path / "out"
    assert not (tmp_path / "out").exists() or not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


@pytest.fixture
def baseline(tmp_path, build, architecture):
    path = tmp_path / "seed0.safetensors"
    checkpoint.save(path, build("resnet8"), architecture)
    return path


def test_what_a_command_starts_is_of_its_environment_where_this_is_not_activated(monkeypatch):
    monkeypatch.setenv("PATH", os.defpath)
    found = []
    command.run(lambda: found.extend(shutil.which(name) for name in ("dvc", "snakemake", "python")))
    assert [Path(path).parent for path in found] == [Path(sys.executable).parent] * 3


def test_a_missing_data_folder(out):
    refused("stages.prepare", "--source", "nowhere", "--prepared", out, named=["nowhere", "no such file or folder"])


def test_a_missing_option(out):
    refused("stages.prepare", "--prepared", out, named=["stages.prepare", "--source"])


def test_data_that_were_not_prepared(out, tmp_path):
    refused(
        "stages.train", "--data", tmp_path, "--seed", 0, "--checkpoint", out / "a", "--history", out / "b",
        named=[tmp_path, "not a prepared data set"],
    )  # fmt: skip


def test_an_unknown_criterion(out, prepared_folder, baseline):
    refused(
        "stages.relevance", "--data", prepared_folder, "--checkpoint", baseline, "--scores", out / "s.npz",
        "--criterion", "grad", "--seed", 0, "--step", 1, named=["--criterion", "'grad'", "gradient"],
    )  # fmt: skip


def test_a_corrupt_checkpoint(out, prepared_folder, baseline):
    content = bytearray(baseline.read_bytes())
    content[-9] ^= 4
    baseline.write_bytes(content)
    refused(
        "stages.evaluate", "--data", prepared_folder, "--checkpoints", baseline, "--rows", out / "r.csv",
        "--predictions", out / "p.parquet", named=[baseline, "SHA-256", "damaged"],
    )  # fmt: skip


def test_a_checkpoint_with_another_name(out, prepared_folder, baseline):
    other = baseline.rename(baseline.with_name("mine.safetensors"))
    refused(
        "stages.evaluate", "--data", prepared_folder, "--checkpoints", other, "--rows", out / "r.csv",
        "--predictions", out / "p.parquet", named=[other, "must be named"],
    )  # fmt: skip


@pytest.mark.parametrize("problem", ["other network", "no scores", "budget"])
def test_pruning_that_cannot_be(out, tmp_path, prepared_folder, baseline, build, problem):
    network = build("resnet18" if problem == "other network" else "resnet8")
    scores = {name: torch.rand(filters(layer)).numpy() for name, layer in scored_layers(network).items()}
    np.savez(tmp_path / "s.npz", **scores)
    if problem == "no scores":
        (tmp_path / "s.npz").write_text("no")
    named = {
        "other network": ["s.npz", "score it again"],
        "no scores": ["s.npz", "not a file of scores"],
        "budget": ["0.9 of the filters cannot be removed", "at most"],
    }[problem]
    refused(
        "stages.prune", "--data", prepared_folder, "--unpruned", baseline, "--checkpoint", baseline,
        "--scores", tmp_path / "s.npz",
        "--criterion", "lrp", "--seed", 0, "--step", 6, "--plan", out / "p.json", "--pruned", out / "a",
        "--finetuned", out / "b", "--history", out / "h", named=named,
    )  # fmt: skip


def test_a_guard_of_an_unknown_class(out, tmp_path, prepared_folder):
    text = Path("params.yaml").read_text().replace("guard: null", "guard: {metric: recall_cat, max_drop: 0.1}")
    (tmp_path / "guard.yaml").write_text(text)
    refused(
        "stages.train", "--params", tmp_path / "guard.yaml", "--data", prepared_folder, "--seed", 0,
        "--checkpoint", out / "a", "--history", out / "b", named=["prune.guard.metric: 'cat' is none of", "bag"],
    )  # fmt: skip


def test_images_too_small_for_the_network(out, tmp_path, prepared_folder):
    text = Path("params.yaml").read_text().replace("name: resnet18", "name: vgg16")
    (tmp_path / "vgg.yaml").write_text(text)
    refused(
        "stages.train", "--params", tmp_path / "vgg.yaml", "--data", prepared_folder, "--seed", 0,
        "--checkpoint", out / "a", "--history", out / "b", named=["data.image_size: 16 pixels", "vgg16"],
    )  # fmt: skip


def test_an_unknown_device(out, prepared_folder, baseline, monkeypatch):
    monkeypatch.setenv("STUDY_DEVICE", "gpu0")
    refused(
        "stages.evaluate", "--data", prepared_folder, "--checkpoints", baseline, "--rows", out / "r.csv",
        "--predictions", out / "p.parquet", named=["STUDY_DEVICE", "'gpu0'", "cpu, cuda"],
    )  # fmt: skip


def test_a_missing_venv_is_one_line_that_says_what_to_install(tmp_path):
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; *version_info*) exit 0;; esac\n')
    python.chmod(0o755)
    answer = subprocess.run(["make", "env", f"PYTHON={python}", f"VENV={tmp_path}/env"], capture_output=True, text=True)
    assert answer.returncode == 2
    assert "apt-get install python3-venv" in answer.stderr
    assert not (tmp_path / "env").exists()


def test_make_alone_lists_the_targets():
    output = subprocess.run(["make"], capture_output=True, text=True, check=True).stdout
    assert {"run", "test", "status", "clean"} <= {line.split()[0] for line in output.splitlines()}
