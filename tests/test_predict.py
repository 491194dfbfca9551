"""What a network says to pictures: the command, with real files."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from stages.networks import checkpoint
from stages.predict import beside
from tests.conftest import in_process


@pytest.fixture
def network_file(tmp_path, build, architecture):
    checkpoint.save(tmp_path / "seed0.safetensors", build("resnet8", image_size=16), architecture)
    return tmp_path / "seed0.safetensors"


@pytest.fixture
def pictures(tmp_path, prepared):
    """Return files that hold images of the prepared data set, pixel by pixel, and those images."""
    (tmp_path / "mine").mkdir()
    files = [tmp_path / "mine" / f"{row}.png" for row in (0, 7)]
    for row, file in zip((0, 7), files, strict=True):
        Image.fromarray(np.asarray(prepared.images[row])).save(file)
    return files, prepared.batch(np.array([0, 7]))[0]


def predict(*arguments):
    return in_process("predict", *arguments)


def test_probabilities_are_those_of_the_network_and_maps_lie_beside_the_pictures(network_file, pictures):
    files, images = pictures
    answer = predict("--checkpoint", network_file, *files)
    assert answer.returncode == 0, answer.stderr
    network, architecture = checkpoint.load(network_file)
    with torch.no_grad():
        expected = network(architecture.normalise(images)).softmax(1)
    found = re.findall(r"^  (0\.\d{4})  (.+)$", answer.stdout, re.M)
    for n, file in enumerate(files):
        said = {name: float(value) for value, name in found[10 * n : 10 * n + 10]}
        assert [said[name] for name in architecture.classes] == pytest.approx(expected[n].tolist(), abs=1e-4)
        assert list(said.values()) == sorted(said.values(), reverse=True)
        with Image.open(file.with_name(f"{file.stem}.heatmap.png")) as both:
            assert both.size == (512, 256)
            left = np.asarray(both)[8:256:16, 8:256:16]
            assert np.array_equal(left, np.asarray(Image.open(file)))
    assert f"relevance for {next(iter(said))}: {files[1].with_name('7.heatmap.png')}" in answer.stdout


def test_a_network_that_saw_the_centre_of_pictures_is_shown_it(tmp_path, network_file, pictures):
    (file, _), _ = pictures
    framed = Image.new("RGB", (32, 32), (200, 30, 30))
    framed.paste(Image.open(file), (8, 8))
    framed.save(tmp_path / "framed.png")
    network, architecture = checkpoint.load(network_file)
    checkpoint.save(tmp_path / "seed1.safetensors", network, replace(architecture, centre=0.5))
    said = [
        predict("--checkpoint", network_file, file),
        predict("--checkpoint", tmp_path / "seed1.safetensors", tmp_path / "framed.png"),
    ]
    one, other = ([line for line in answer.stdout.splitlines() if line.startswith("  0.")] for answer in said)
    assert one == other != []
    with Image.open(tmp_path / "framed.heatmap.png") as both:
        assert np.array_equal(np.asarray(both)[8:256:16, 8:256:16], np.asarray(Image.open(file)))


def test_another_class_is_explained_in_another_folder(network_file, pictures, tmp_path):
    (file, _), _ = pictures
    for name in ("bag", "coat"):
        answer = predict("--checkpoint", network_file, "--class", name, "--folder", tmp_path / name, file)
        assert f"relevance for {name}: {tmp_path / name / '0.heatmap.png'}" in answer.stdout
    maps = [(tmp_path / name / "0.heatmap.png").read_bytes() for name in ("bag", "coat")]
    assert maps[0] != maps[1]
    assert not file.with_name("0.heatmap.png").exists()


def test_concepts_that_are_named_have_conditional_heat_maps(network_file, pictures):
    (file, other), _ = pictures
    answer = predict("--checkpoint", network_file, "--concepts", "conv1:0,3", "--concepts", "layer2.0.conv1:5", file)
    assert answer.returncode == 0, answer.stderr
    with Image.open(file.with_name("0.concepts.png")) as sheet:
        assert min(sheet.size) > 200
        shown = np.asarray(sheet.convert("RGB")).reshape(-1, 3).astype(int)
    assert (shown[:, 0] - shown[:, 2] > 200).any()  # red: the largest relevance of each map is for the class, or blue
    assert not other.with_name("7.concepts.png").exists()


def test_red_is_for_and_blue_against():
    heat = np.zeros((2, 2))
    heat[0, 0], heat[1, 1] = 1, -1
    both = np.asarray(beside(Image.new("RGB", (256, 256)), heat))
    assert both[10, 256 + 10].tolist() == [255, 0, 0]
    assert both[250, 256 + 250].tolist() == [0, 0, 255]
    assert both[10, 500].min() >= 254


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--class", "cat", "0.png"], ["--class: 'cat' is none of", "bag"]),
        (["--concepts", "conv2:1", "0.png"], ["--concepts: 'conv2' is no layer; did you mean conv1"]),
        (["--concepts", "conv1:16", "0.png"], ["--concepts: conv1 has the channels 0 to 15, not 16"]),
        (["--concepts", "conv1", "0.png"], ["--concepts: 'conv1' must be a layer and its channels, such as conv1:0,3"]),
        (["0.png", "none.png"], ["none.png", "No such file"]),
        (["0.png", "text.png"], ["text.png", "no picture"]),
        (["0.png", "again/0.png", "--folder", "below.png"], ["below.png/0.heatmap.png: would be written for two"]),
        (["--folder", "text.png/below", "0.png"], ["text.png/below/0.heatmap.png", "Not a directory"]),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(network_file, pictures, arguments, named):
    folder = pictures[0][0].parent
    (folder / "text.png").write_text("no picture")
    before = set(folder.iterdir())
    arguments = [str(folder / text) if ".png" in text else text for text in arguments]
    answer = predict("--checkpoint", network_file, *arguments)
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert all(part in answer.stderr for part in named)
    assert set(folder.iterdir()) == before
