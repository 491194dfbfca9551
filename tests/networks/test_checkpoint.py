import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch

from stages.errors import InputError
from stages.files import sha256
from stages.networks import checkpoint
from stages.networks.size import measure
from stages.pruning import surgery


@pytest.fixture
def saved(tmp_path, build, architecture):
    """Return a pruned network, its architecture and its file."""
    network = build("resnet8")
    history = surgery.remove(network, 16, {"conv1": [1, 3], "layer2.0.conv1": [0]})
    history += surgery.remove(network, 16, {"conv1": [0], "layer3.0.conv2": [5, 6]})
    architecture = dataclasses.replace(architecture, history=history)
    checkpoint.save(tmp_path / "a.safetensors", network, architecture)
    return network, architecture, tmp_path / "a.safetensors"


def test_a_checkpoint_gives_the_same_logits_bit_for_bit_in_a_fresh_process(saved, images, tmp_path):
    network, architecture, path = saved
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, torch; from stages.networks import checkpoint; torch.set_num_threads(1);"
        "network, architecture = checkpoint.load(sys.argv[1]);"
        "images = torch.load(sys.argv[2], weights_only=True);"
        "torch.save(network(architecture.normalise(images)).detach(), sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", code, path, tmp_path / "images.pt", tmp_path / "out.pt"], check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = network(architecture.normalise(images))
    torch.set_num_threads(threads)
    assert torch.equal(torch.load(tmp_path / "out.pt", weights_only=True), expected)


@pytest.mark.parametrize("channels_last", [False, True])
def test_saving_again_gives_the_same_file(saved, tmp_path, channels_last):
    network, architecture, _ = saved
    architecture = dataclasses.replace(architecture, channels_last=channels_last)
    checkpoint.save(tmp_path / "b.safetensors", network, architecture)
    loaded, read = checkpoint.load(tmp_path / "b.safetensors")
    assert read == architecture
    checkpoint.save(tmp_path / "c.safetensors", loaded, read)
    assert sha256(tmp_path / "b.safetensors") == sha256(tmp_path / "c.safetensors")


def test_the_loaded_network_is_really_smaller(saved):
    network, architecture, path = saved
    loaded, _ = checkpoint.load(path)
    assert measure(loaded, 16) == measure(network, 16)
    assert measure(loaded, 16).params < measure(architecture.unpruned().shape(), 16).params
    assert loaded.conv1.out_channels == 16 - 3


def test_a_truncated_file_is_refused(saved):
    path = saved[2]
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(InputError, match="a.safetensors: not a readable checkpoint"):
        checkpoint.load(path)


def test_one_flipped_bit_is_refused(saved):
    path = saved[2]
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="a.safetensors: the content does not have the recorded SHA-256"):
        checkpoint.load(path)


def test_a_flipped_bit_in_the_description_is_refused_too(saved):
    path = saved[2]
    content = path.read_bytes()
    start, end = content.index(b"checkpoint"), 8 + int.from_bytes(content[:8], "little")
    for position in range(start, end, 7):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        with pytest.raises(InputError, match="a.safetensors"):
            checkpoint.load(path)


def test_missing_and_foreign_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(InputError, match="nothing.safetensors: not a readable checkpoint"):
        checkpoint.load(tmp_path / "nothing.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(InputError, match="without this project's metadata"):
        checkpoint.load(tmp_path / "foreign.safetensors")


def test_the_file_holds_no_pickle_and_one_metadata_key(saved):
    content = saved[2].read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == ["checkpoint"]
    assert b"torch" not in content
