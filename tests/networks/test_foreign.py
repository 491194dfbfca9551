import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import ResNet18_Weights

from stages.errors import InputError
from stages.files import sha256
from stages.networks import architectures, foreign


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".wrapped.pth"])
def test_a_users_own_network_is_adopted(tmp_path, build, images, suffix):
    theirs, ours = build("resnet8", seed=1), build("resnet8", seed=2)
    path = tmp_path / f"mine{suffix}"
    state = theirs.state_dict()
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        state = {f"module.{name}": tensor for name, tensor in state.items()}  # as DataParallel saves
        torch.save({"state_dict": state, "epoch": 3} if "wrapped" in suffix else state, path)
    foreign.adopt(ours, foreign.read(path, sha256(path), "train.checkpoint"), str(path), new_head=False)
    assert torch.equal(ours.eval()(images), theirs(images))


def test_densenets_older_names_are_understood(build):
    theirs, ours = build("densenet121", seed=1), build("densenet121", seed=2)
    older = {re.sub(r"(denselayer\d+\.[a-z]+)([12])\.", r"\1.\2.", name): v for name, v in theirs.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    foreign.adopt(ours, older, "torchvision's", new_head=True)
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_a_changed_file_is_refused(tmp_path):
    torch.save({}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a.pth: has SHA-256 [0-9a-f]{64}, train.checkpoint.sha256 says 0000"):
        foreign.read(tmp_path / "a.pth", "0" * 64, "train.checkpoint")


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "a.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match="a.pth: cannot be read as weights alone"):
        foreign.read(tmp_path / "a.pth", sha256(tmp_path / "a.pth"), "k")
    assert not (tmp_path / "sprung").exists()


def test_wrong_tensors_are_named(build):
    network = build("resnet8")
    state = network.state_dict()
    with pytest.raises(InputError, match="mine: tensor fc.bias is missing"):
        foreign.adopt(network, {k: v for k, v in state.items() if k != "fc.bias"}, "mine", new_head=False)
    with pytest.raises(InputError, match="mine: tensor extra is not part of the declared architecture"):
        foreign.adopt(network, state | {"extra": torch.zeros(1)}, "mine", new_head=False)
    with pytest.raises(InputError, match=r"mine: tensor fc.bias has shape \[3\].* needs \[10\]"):
        foreign.adopt(network, state | {"fc.bias": torch.zeros(3)}, "mine", new_head=False)


def test_a_new_head_replaces_one_of_other_classes():
    theirs, ours = (architectures.build("resnet8", "imagenet", classes, 32) for classes in (1000, 10))
    head = ours.fc.weight.clone()
    foreign.adopt(ours, theirs.state_dict(), "theirs", new_head=True)
    assert torch.equal(ours.conv1.weight, theirs.conv1.weight)
    assert torch.equal(ours.fc.weight, head)


def test_a_failed_download_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="model.pretrained: .* cannot be downloaded"):
        foreign.published("resnet18")


def test_a_cached_download_that_would_run_code_is_refused_and_not_run(monkeypatch, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save({"fc.bias": Trap()}, tmp_path / "hub/checkpoints" / name)
    with pytest.raises(InputError, match="torch's cache of it holds more than weights"):
        foreign.published("resnet18")
    assert not (tmp_path / "sprung").exists()
