"""Networks for deployment: the command, and what onnxruntime makes of its file."""

import dataclasses
import json
import time

import numpy as np
import onnxruntime
import pytest
import torch

from stages import as_onnx
from stages.networks import checkpoint
from stages.params.measuring import Latency
from stages.pruning import masking, surgery
from tests.conftest import ROOT, in_process, protopnet


def run(*arguments):
    return in_process("export", *arguments)


@pytest.fixture
def pruned(tmp_path, build, architecture):
    network = build("resnet8", image_size=16)
    history = surgery.remove(network, 16, {"layer1.0.conv1": [0, 3], "conv1": [1]})
    architecture.history.extend(history)
    checkpoint.save(tmp_path / "step1.safetensors", network, architecture)
    return tmp_path / "step1.safetensors"


def test_the_file_gives_the_logits_of_the_checkpoint_for_any_batch(pruned, prepared, prepared_folder, tmp_path):
    text, measured = (ROOT / "params.yaml").read_text(), "latency: {batch_sizes: [1, 32], seconds: 0.2,"
    assert measured in text
    (tmp_path / "params.yaml").write_text(text.replace(measured, "latency: {batch_sizes: [1], seconds: 0.01,"))
    given = ["--params", tmp_path / "params.yaml", "--checkpoint", pruned, "--data", prepared_folder]
    answer = run(*given, "--onnx", tmp_path / "network.onnx")
    assert answer.returncode == 0, answer.stderr
    network, architecture = checkpoint.load(pruned)
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images, _ = prepared.batch(np.arange(count))
        with torch.no_grad():
            expected = network(architecture.normalise(images)).numpy()
        found = session.run(None, {"images": images.numpy()})[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    said = json.loads((tmp_path / "network.onnx.json").read_text())
    assert said["identical"] == said["images"] == len(prepared.rows("test"))
    assert said["max_abs_difference"] < 1e-4
    assert said["macs_ratio"] > 1
    assert {row["engine"] for row in said["times"]} == {"PyTorch", "onnxruntime"}
    assert all(row["milliseconds"] > 0 and row["unpruned_milliseconds"] > 0 for row in said["times"])
    assert f"{said['images']} of {said['images']} test images are classed as by PyTorch" in answer.stdout


@pytest.mark.parametrize("kind", ["ProtoPNet", "masked"])
def test_checkpoints_of_every_kind_can_be_written(build, architecture, prepared, tmp_path, kind):
    if kind == "ProtoPNet":
        network, architecture = protopnet()
    else:
        network = build("resnet8", image_size=16)
        architecture.history.extend(surgery.remove(network, 16, {"layer1.0.conv1": [0, 3]}))
        network, architecture = masking.masked(network, architecture)
    checkpoint.save(tmp_path / "network.safetensors", network, architecture)
    deployed = as_onnx.Deployed(*checkpoint.load(tmp_path / "network.safetensors")).eval()
    as_onnx.write(deployed, 16, tmp_path / "network.onnx")
    found = as_onnx.agreement(deployed, tmp_path / "network.onnx", prepared.batches(prepared.rows("test"), 50))
    assert found["identical"] == found["images"] > 0
    assert found["max_abs_difference"] < 1e-4


def test_another_network_is_told_apart(build, architecture, prepared, tmp_path):
    one, other = (as_onnx.Deployed(build("resnet8", image_size=16), architecture).eval() for _ in range(2))
    batches = list(prepared.batches(prepared.rows("test"), 50))
    other.network.fc.weight.data.neg_()
    as_onnx.write(one, 16, tmp_path / "one.onnx")
    assert as_onnx.agreement(one, tmp_path / "one.onnx", batches)["max_abs_difference"] < 1e-4
    found = as_onnx.agreement(other, tmp_path / "one.onnx", batches)
    assert found["identical"] < found["images"]
    assert found["max_abs_difference"] > 1e-3


def test_a_network_is_as_many_times_as_fast_as_the_unpruned_one_takes_its_time(build, architecture, tmp_path):
    class Slower(torch.nn.Module):
        def forward(self, images):
            time.sleep(0.05)
            return network(images)

    network = as_onnx.Deployed(build("resnet8", image_size=16), architecture).eval()
    as_onnx.write(network, 16, file := tmp_path / "network.onnx")
    settings = Latency(batch_sizes=[1], seconds=0.02, threads=1)
    in_torch, in_onnx = as_onnx.speeds(network, Slower().eval(), file, file, 16, settings)
    assert in_torch["unpruned_milliseconds"] > 50 and in_torch["speed_up"] > 2
    for row in (in_torch, in_onnx):
        assert row["speed_up"] == pytest.approx(row["unpruned_milliseconds"] / row["milliseconds"])
    assert in_torch["images_per_second"] == pytest.approx(1000 / in_torch["milliseconds"])
    assert in_torch["unpruned_images_per_second"] == pytest.approx(1000 / in_torch["unpruned_milliseconds"])
    assert in_onnx["speed_up"] < in_torch["speed_up"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11_bn", "mobilenet_v2", "efficientnet_b0", "convnext_tiny"])
def test_other_architectures_can_be_written(build, architecture, images, tmp_path, name):
    deployed = as_onnx.Deployed(build(name), architecture).eval()
    as_onnx.write(deployed, 32, tmp_path / "network.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = deployed(images).numpy()
    np.testing.assert_allclose(session.run(None, {"images": images.numpy()})[0], expected, rtol=1e-3, atol=1e-3)


def test_data_of_other_classes_are_refused_and_nothing_is_written(
    pruned, tmp_path, prepared_folder, build, architecture
):

    other = dataclasses.replace(architecture, classes=["a", *architecture.classes[1:]], history=[])
    checkpoint.save(tmp_path / "other.safetensors", build("resnet8", image_size=16), other)
    answer = run(
        "--checkpoint", tmp_path / "other.safetensors", "--data", prepared_folder, "--onnx", tmp_path / "o.onnx"
    )
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert "other.safetensors: its classes or image size are not those of" in answer.stderr
    assert not (tmp_path / "o.onnx").exists()
