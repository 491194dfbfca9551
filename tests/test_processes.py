"""Two processes that share a job, over gloo, against one: run as a module, this file is what they run."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import batch_norm
from torchvision.ops import FrozenBatchNorm2d

from stages import device
from stages.datasets import store
from stages.networks import architectures
from stages.networks.checkpoint import Architecture
from stages.params import load
from stages.pruning.scoring import scored
from stages.training.loop import _for_training, _own_randomness, fit
from tests.conftest import ROOT, lively

CRITERIA = ["lrp", "crp", "crp-region", "gradient", "taylor", "activation", "integrated-gradients", "weight"]
TRAININGS = {
    "without norms": {},
    "mixup, average, weights of classes drawn": {"mixup": 0.4, "ema": 0.9, "sampling": 0.5},
    "frozen norms": {"schedule": "cosine"},
    "norms": {},
}


class HalfByHalf(nn.BatchNorm2d):
    """Normalises each half of a batch by itself; the first one's statistics are kept."""

    def forward(self, images):
        if not self.training:
            return super().forward(images)
        first, second = images.chunk(2)
        alone = batch_norm(second, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return torch.cat([super().forward(first), alone])


def network_for(name):
    torch.manual_seed(0)
    if "norms" in name and "without" not in name:
        network = lively(architectures.build("resnet8", "imagenet", 10, 16))
        return replaced(network, lambda norm: FrozenBatchNorm2d(norm.num_features)) if "frozen" in name else network
    widths = [3, 8, 16]
    layers = [
        part
        for width, following in zip(widths, widths[1:], strict=False)
        for part in (nn.Conv2d(width, following, 3, 2, 1), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 4 * 4, 10))


def replaced(network, make):
    """Replace batch norms by what `make` makes of them, with their weights and statistics."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            new = make(module)
            new.load_state_dict(module.state_dict(), strict=False)
            network.set_submodule(name, new)
    return network


def trained(name, network, data, folder, fabric):
    params = load(ROOT / "params.yaml").train
    changes = dict(TRAININGS[name])
    balance = params.balance.model_copy(update={"sampling": changes.pop("sampling", 0.0)})
    changes |= {"epochs": 2, "batch_size": 32, "learning_rate": 0.002, "select": "last", "balance": balance}
    settings = params.model_copy(update=changes)
    history = list(fit(network, architecture_of(data), data, settings, 0, fabric, folder / f"{name}.state"))
    return network, history


def scores(data, fabric):
    params = load(ROOT / "params.yaml").prune.scores
    of_masks = params.crp.model_copy(update={"region": "masks"})
    params = params.model_copy(update={"references_per_class": 3, "crp": of_masks})
    masks = np.zeros(data.images.shape[:3], np.uint8)
    masks[data.index["label"] < 4, :6, :6] = 255  # of none of the second process's images
    data = replace(data, masks=masks)
    torch.manual_seed(0)
    network = lively(architectures.build("resnet8", "imagenet", 10, 16))
    layers = list(architectures.scored_layers(network))
    found = {}
    for criterion in CRITERIA:
        names = layers[:3] if criterion == "crp-region" else layers
        of_layers, relevance = scored(
            criterion, network, architecture_of(data), data, names, params, seed=1, own_seed=2, fabric=fabric
        )
        found |= {f"{criterion}:{name}": values for name, values in of_layers.items()}
        if relevance:
            found["started"] = torch.tensor([relevance.started])
            found |= {f"signed:{name}": values.cpu() for name, values in relevance.signed.items()}
    return found


def architecture_of(data):
    return Architecture("resnet8", "imagenet", data.classes, 16, [0.2] * 3, [0.3] * 3, channels_last=False)


def main():
    """Do everything as one of several processes; the first writes what came out."""
    data, folder = store.load(Path(sys.argv[1])), Path(sys.argv[2])
    fabric = device.fabric(1)
    torch.manual_seed(0)
    with _own_randomness(fabric, 0, 1, 0):
        own = torch.rand(3)
    drawn = fabric.all_gather(torch.stack([own, torch.rand(3)]))
    found = scores(data, fabric)
    for name in TRAININGS:
        network, history = trained(name, network_for(name), data, folder, fabric)
        if fabric.is_global_zero:
            save_file(network.state_dict(), folder / f"{name}.safetensors")
            (folder / f"{name}.json").write_text(json.dumps(history))
    if fabric.is_global_zero:
        save_file({"drawn": drawn.contiguous()} | found, folder / "found.safetensors")
        (folder / "size").write_text(str(fabric.world_size))


@pytest.fixture(scope="module")
def together(prepared_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    environment = os.environ | {"STUDY_PROCESSES": "2", "STUDY_DEVICE": "cpu"}
    command = [sys.executable, "-m", "tests.test_processes", str(prepared_folder), str(folder)]
    subprocess.run(command, env=environment, cwd=ROOT, check=True, timeout=300)
    assert (folder / "size").read_text() == "2"
    return folder


@pytest.fixture(scope="module")
def alone():
    return device.fabric(1)


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_train_as_one_does(together, alone, prepared, tmp_path, name):
    network = network_for(name)
    if name == "norms":
        replaced(network, lambda norm: HalfByHalf(norm.num_features))
    start = copy.deepcopy(network.state_dict())
    network, history = trained(name, network, prepared, tmp_path, alone)
    shared = json.loads((together / f"{name}.json").read_text())
    assert len(shared) == 2
    for row, other in zip(history, shared, strict=True):
        assert other == pytest.approx(row, rel=1e-4, abs=1e-6)
    weights = load_file(together / f"{name}.safetensors")
    assert any(not torch.allclose(start[key], tensor, atol=1e-4) for key, tensor in weights.items())
    for key, tensor in network.state_dict().items():
        torch.testing.assert_close(weights[key], tensor, rtol=1e-4, atol=1e-5)


def test_two_processes_score_as_one_does(together, prepared):
    shared = load_file(together / "found.safetensors")
    expected = scores(prepared, None)
    assert {name.partition(":")[0] for name in expected} == {*CRITERIA, "signed", "started"}
    for name, values in expected.items():
        torch.testing.assert_close(shared[name], values, rtol=0, atol=1e-6 * values.abs().max().item())


@pytest.mark.parametrize(
    ("kind", "processes", "synchronised"), [("cuda", 2, True), ("cuda", 1, False), ("cpu", 2, False)]
)
def test_batch_norms_see_the_whole_batch_on_several_gpus(kind, processes, synchronised):
    network, fabric = network_for("norms"), SimpleNamespace(world_size=processes, device=torch.device(kind))
    made = _for_training(network, fabric)
    norms = [module for module in made.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) == synchronised for norm in norms)
    assert made.state_dict().keys() == network.state_dict().keys()
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())


def test_each_process_draws_its_own_dropout_and_what_is_drawn_together_is_one(together):
    first, second = load_file(together / "found.safetensors")["drawn"]
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("given", ["none", "0", "-1", "1.5", ""])
def test_a_wrong_number_of_processes_is_refused(monkeypatch, given):
    monkeypatch.setenv("STUDY_PROCESSES", given)
    with pytest.raises(device.InputError, match="STUDY_PROCESSES: .* is no number of processes"):
        device.processes()


def test_tasks_of_one_srun_are_the_processes_of_a_job(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "6")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "3")
    assert device.processes() == (2, 3)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert device.processes() == (1, 1)


if __name__ == "__main__":
    main()
