"""The concepts of a checkpoint: the command, with real files."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from stages.networks import checkpoint
from stages.networks.architectures import scored_layers
from stages.networks.predict import predict
from stages.pruning import masking, surgery
from tests.conftest import in_process, protopnet


@pytest.fixture
def network_file(tmp_path, build, architecture):
    checkpoint.save(tmp_path / "seed0.safetensors", build("resnet8", image_size=16), architecture)
    return tmp_path / "seed0.safetensors"


@pytest.fixture
def concepts(tmp_path, prepared_folder, network_file):
    """Return a function that runs the command with changed parameters."""

    def run(lrp=None, data=prepared_folder, masks=None, **changes):
        yaml = YAML()
        content = yaml.load(Path("params.yaml").read_text())
        content["concepts"] |= {"references": 2, "examples": 2, "pictured_layers": 3, "pictured_concepts": 2} | changes
        content["prune"]["scores"]["lrp"] |= lrp or {}
        content["data"]["masks"] = masks
        yaml.dump(content, tmp_path / "params.yaml")
        options = {"params": tmp_path / "params.yaml", "data": data, "checkpoint": network_file}
        options["folder"] = tmp_path / "concepts"
        return in_process("concepts", *(part for name, value in options.items() for part in (f"--{name}", value)))

    return run


def test_masks_that_are_the_same_box_say_what_the_box_says(concepts, tmp_path, prepared_folder, prepared):
    few = {"layers": {"include": ["conv1", "layer1*"], "exclude": []}, "pictured_layers": 1}
    assert concepts(region={"box": [0.0, 0.25, 0.5, 1.0]}, **few).returncode == 0
    expected = pd.read_csv(tmp_path / "concepts/atlas.csv")
    names = {"path": "masks", "sha256": "0" * 64}
    answer = concepts(region="masks", masks=names, **few)
    assert answer.returncode == 2
    assert "concepts.region: masks, but the prepared data have none" in answer.stderr
    answer = concepts(region="masks", **few)
    assert answer.returncode == 2
    assert "concepts.region is masks, but data.masks is null" in answer.stderr
    with_masks = shutil.copytree(prepared_folder, tmp_path / "with_masks")
    masks = np.zeros(prepared.images.shape[:3], np.uint8)
    masks[:, 4:, :8] = 255
    np.save(with_masks / "masks.npy", masks)
    answer = concepts(region="masks", masks=names, data=with_masks, **few)
    assert answer.returncode == 0, answer.stderr
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "concepts/atlas.csv"), expected)
    assert expected["inside"].notna().any()


def test_the_atlas_pictures_and_graphs_of_a_checkpoint_are_written(concepts, tmp_path, network_file, prepared):
    answer = concepts(region={"box": [0.0, 0.0, 0.5, 1.0]})
    assert answer.returncode == 0, answer.stderr
    network, architecture = checkpoint.load(network_file)
    logits, labels = predict(network, architecture, prepared, prepared.rows("test"), 50)
    right = (logits.argmax(1) == labels).sum()
    classes = [name for n, name in enumerate(prepared.classes) if ((logits.argmax(1) == labels) & (labels == n)).any()]
    assert 0 < len(classes) < 10
    atlas = pd.read_csv(tmp_path / "concepts/atlas.csv")
    assert list(atlas["layer"].unique()) == list(scored_layers(network))
    assert list(atlas["class"].unique()) == ["(all)", *classes]
    assert (atlas.groupby(["layer", "class"])["rank"].apply(list).map(lambda ranks: ranks == sorted(ranks))).all()
    several = atlas[atlas["images"] > 1]
    assert (several["low"] <= several["share"] + 1e-6).all() and (several["share"] <= several["high"] + 1e-6).all()
    assert atlas[atlas["images"] == 1]["low"].isna().all()
    assert (atlas[atlas["class"] == "(all)"]["images"] == right.item()).all()
    assert (atlas[atlas["class"] == "(all)"]["votes"] <= right.item()).all()
    assert atlas["inside"].dropna().between(0, 1).all() and (atlas["area"] == 0.5).all()
    layers = pd.read_csv(tmp_path / "concepts/layers.csv")
    assert (layers["lost"] < 1e-4).all() and layers["reported"].all()
    assert (layers["effective_concepts"] <= layers["concepts"]).all()
    assert (layers["effective_low"] <= layers["effective_high"]).all()
    assert layers["inside"].dropna().between(0, 1).all() and (layers["area"].dropna() == 0.5).all()
    for name in prepared.classes:
        assert (tmp_path / "concepts/heatmaps" / f"{name}.png").exists() == (name in classes)
        assert (f"no image of class {name} " in answer.stdout) == (name not in classes)
    heights = []
    for layer in ("conv1", "layer3.0.downsample.0"):
        with Image.open(tmp_path / "concepts/references" / f"{layer}.png") as sheet:
            assert min(sheet.size) > 200
            heights.append(sheet.size[1])
    of_last = atlas[atlas["layer"] == "layer3.0.downsample.0"].groupby("class", sort=False)["concept"]
    shown = set(of_last.get_group("(all)").head(2)).union(*(of_last.get_group(name).head(3) for name in classes))
    assert heights[1] / heights[0] == pytest.approx(len(shown) / 2, rel=0.1)
    graphs = json.loads((tmp_path / "concepts/graphs.json").read_text())
    assert set(graphs) == set(classes)
    for edges in graphs.values():
        assert edges[0]["above"][0] == "layer3.0.downsample.0"
        assert edges[-1]["below"][0] == "conv1"
        assert all(0 < edge["share"] <= 1 for edge in edges)
    told = json.loads((tmp_path / "concepts/strategies.json").read_text())
    count = atlas.groupby("class")["images"].first()
    assert set(told) == {name for name in classes if count[name] > 1}
    for name, of_class in told.items():
        assert of_class["layer"] == "layer3.0.downsample.0"
        assert sum(strategy["images"] for strategy in of_class["strategies"]) == of_class["images"] == count[name]
        shown = set(of_class["outliers"]).union(*(strategy["typical"] for strategy in of_class["strategies"]))
        assert shown <= set(prepared.index.query("split == 'test'")["image_id"])
        assert (tmp_path / "concepts/strategies" / f"{name}.png").exists()


def test_classes_without_strategies_are_named(concepts, tmp_path, prepared_folder, prepared):
    few = {"layers": {"include": ["conv1"], "exclude": []}, "pictured_layers": 1, "split": "val"}
    assert "no strategies" not in concepts(**few).stdout
    (name,) = json.loads((tmp_path / "concepts/strategies.json").read_text())  # what the network takes all images for
    data = shutil.copytree(prepared_folder, tmp_path / "data")
    index = pd.read_csv(data / "index.csv")
    others = index[(index["split"] == "val") & (index["label"] == prepared.classes.index(name))].index[1:]
    index.loc[others, "split"] = "train"
    index.to_csv(data / "index.csv", index=False)
    answer = concepts(data=data, **few)
    assert f"no strategies of class {name}: its correctly classified images are too few" in answer.stdout
    assert json.loads((tmp_path / "concepts/strategies.json").read_text()) == {}


def test_layers_on_the_way_to_which_relevance_is_lost_are_left_out(concepts, tmp_path):
    lossy = {"low": "epsilon", "middle": "epsilon", "high": "zplus", "linear": "zplus", "first": "none"}
    answer = concepts(lrp={"composite": lossy, "epsilon": 1.0})
    assert answer.returncode == 0, answer.stderr
    layers = pd.read_csv(tmp_path / "concepts/layers.csv").set_index("layer")
    assert not layers["reported"]["conv1"] and layers["reported"]["layer3.0.conv2"]
    assert set(pd.read_csv(tmp_path / "concepts/atlas.csv")["layer"]) == set(layers.index[layers["reported"]])
    assert "conv1 is left out: " in answer.stdout
    answer = concepts(lrp={"composite": "epsilon", "epsilon": 1e6})
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "concepts.lost: 0.01: every layer loses more" in answer.stderr


@pytest.fixture
def described(concepts, tmp_path, network_file):
    """Return a function that gives what is said of a network: its atlas, its strategies, and a concept's graph."""

    def describe(network, architecture, layer, channel):
        checkpoint.save(network_file, network, architecture)
        answer = concepts(kept=100, chosen={"images": [], "concepts": [f"{layer}:{channel}"]})
        assert answer.returncode == 0, answer.stderr
        folder = tmp_path / "concepts"
        graph = json.loads((folder / f"chosen/concept-{layer}-{channel}.json").read_text())
        return pd.read_csv(folder / "atlas.csv"), json.loads((folder / "strategies.json").read_text()), graph

    return describe


def test_a_masked_network_has_the_concepts_of_the_pruned_one(described, build, architecture):
    """The two compute the same: but for the channels' numbers all is the same, and what is masked is no concept."""
    network = build("resnet8", image_size=16)
    history = surgery.remove(network, 16, {"layer1.0.conv1": [0, 3], "conv1": [1], "layer2.0.conv1": [2]})
    pruned = dataclasses.replace(architecture, history=history)
    masked = masking.masked(network, pruned)
    left = {
        name: torch.nonzero(masked[0].get_submodule(name).weight.flatten(1).any(1)).flatten().tolist()
        for name in scored_layers(network)
    }
    assert [len(left[name]) for name in ("conv1", "layer1.0.conv1", "layer2.0.conv1")] == [15, 14, 31]
    atlas, strategies, graph = described(network, pruned, "layer2.0.conv1", 4)
    of_masked, as_masked, its_graph = described(*masked, "layer2.0.conv1", left["layer2.0.conv1"][4])
    atlas["concept"] = [left[layer][number] for layer, number in zip(atlas["layer"], atlas["concept"], strict=True)]
    keys = ["layer", "class", "concept"]
    pd.testing.assert_frame_equal(
        atlas[atlas["share"] > 0].sort_values(keys, ignore_index=True)[[*keys, "share", "votes"]],
        of_masked[of_masked["share"] > 0].sort_values(keys, ignore_index=True)[[*keys, "share", "votes"]],
        atol=2e-6,
    )
    assert {name: told["images"] for name, told in strategies.items()} == {
        name: told["images"] for name, told in as_masked.items()
    }

    def drawn(edges, numbers):
        ends = [tuple((layer, numbers(layer)[n]) for layer, n in (edge["above"], edge["below"])) for edge in edges]
        return dict(zip(ends, (edge["share"] for edge in edges), strict=True))

    of_pruned = drawn(graph, lambda layer: left[layer])
    assert len(of_pruned) > 2
    assert drawn(its_graph, lambda layer: range(1000)) == pytest.approx(of_pruned, abs=2e-6)


def test_a_protopnet_has_concepts(described, prepared):
    network, architecture = protopnet()
    named = dataclasses.replace(architecture, classes=prepared.classes)
    atlas, strategies, graph = described(network, named, "features.layer2.0.conv1", 4)
    assert {"features.conv1", "features.layer3.0.conv2"} < set(atlas["layer"])
    assert strategies and graph


def test_a_layer_that_does_not_exist_is_answered_with_the_near_ones(concepts, tmp_path):
    answer = concepts(layers={"include": ["layer2.0.conv3"], "exclude": []})
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "concepts.layers: 'layer2.0.conv3' is no layer; did you mean layer2.0.conv" in answer.stderr
    for include, exclude, name in ((["conv1", "bogus"], [], "bogus"), (["*"], ["layer4*"], r"layer4*")):
        answer = concepts(layers={"include": include, "exclude": exclude})
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert f"concepts.layers: '{name}' is no layer; it has conv1, layer1.0.conv1" in answer.stderr
    for layer, like in (("fc", "it has conv1, layer1"), ("layer2.0.conv3", "did you mean layer2.0.conv")):
        answer = concepts(strategies={"layer": layer, "images": 300, "most": 4})
        assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
        assert f"concepts.strategies.layer: '{layer}' is no layer; {like}" in answer.stderr
    assert not (tmp_path / "concepts").exists()


def test_the_same_network_gives_the_same_files(concepts, tmp_path):
    def files():
        assert concepts().returncode == 0
        return {path: path.read_bytes() for path in (tmp_path / "concepts").rglob("*.*") if path.is_file()}

    torch.manual_seed(1)
    assert files() == files()


def test_a_folder_with_other_things_is_not_replaced(concepts, tmp_path):
    (tmp_path / "concepts").mkdir()
    (tmp_path / "concepts/thesis.txt").write_text("years of work")
    answer = concepts()
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert "holds other things" in answer.stderr
    assert [path.name for path in (tmp_path / "concepts").iterdir()] == ["thesis.txt"]
    assert not list(tmp_path.glob(".concepts*"))


def test_chosen_images_and_concepts_are_drawn(concepts, tmp_path, prepared, network_file):
    test = prepared.index[prepared.index["split"] == "test"]["image_id"].astype(str)
    assert concepts().returncode == 0
    atlas = pd.read_csv(tmp_path / "concepts/atlas.csv").query("`class` == '(all)'").groupby("layer")["concept"]
    (one, other), lower = atlas.apply(list)["layer3.0.conv1"][:2], atlas.first()["layer2.0.conv1"]
    named = [f"layer3.0.conv1:{one},{other}", f"layer2.0.conv1:{lower}"]
    wanted = {"images": [test.iloc[5], test.iloc[-1]], "concepts": named}
    answer = concepts(chosen=wanted)
    assert answer.returncode == 0, answer.stderr
    made = sorted(path.name for path in (tmp_path / "concepts/chosen").glob("image-*"))
    assert made == sorted(f"image-{name}.png" for name in wanted["images"])
    for name in made:
        with Image.open(tmp_path / "concepts/chosen" / name) as picture:
            assert np.asarray(picture.convert("RGB")).std() > 5
    stems = [f"concept-layer2.0.conv1-{lower}", *sorted(f"concept-layer3.0.conv1-{n}" for n in (one, other))]
    graphs = tmp_path / "concepts/chosen"
    assert sorted(path.stem for path in graphs.glob("concept-*.svg")) == stems
    found = {stem: json.loads((graphs / f"{stem}.json").read_text()) for stem in stems}
    assert found[stems[1]] != found[stems[2]]
    for stem, edges in found.items():
        layer, channel = stem.removeprefix("concept-").rsplit("-", 1)
        assert all(edge["above"] == [layer, int(channel)] for edge in edges[:1])
        assert all(0 < edge["share"] <= 1 + 1e-6 for edge in edges)
    assert sum(map(len, found.values())) > 3
    network, architecture = checkpoint.load(network_file)
    network.layer2[0].bn1.weight.data[lower] = network.layer2[0].bn1.bias.data[lower] = 0.0  # a dead channel
    checkpoint.save(network_file, network, architecture)
    answer = concepts(chosen={"images": [], "concepts": named[1:]})
    assert (answer.returncode, f"no graph of {named[1]}: none" in answer.stdout) == (0, True), answer.stderr
    assert json.loads((graphs / f"{stems[0]}.json").read_text()) == [] and not list(graphs.glob("*.svg"))


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"images": ["no-such"]}, "concepts.chosen.images: 'no-such' is none of the split test; its first is "),
        ({"concepts": ["layer9:1"]}, "concepts.chosen.concepts: 'layer9' is no layer; it has conv1"),
        ({"concepts": ["layer3.0.conv1:99"]}, "concepts.chosen.concepts: layer3.0.conv1 has the channels 0 to "),
        ({"concepts": ["conv1:1"]}, "concepts.chosen.concepts: conv1 is the first of concepts.layers, or none"),
        (
            {"concepts": ["layer3.0.conv1"]},
            "concepts.chosen.concepts: 'layer3.0.conv1' must be a layer and its",
        ),
    ],
)
def test_what_cannot_be_chosen_is_said(concepts, tmp_path, chosen, said):
    answer = concepts(chosen={"images": [], "concepts": []} | chosen)
    assert (answer.returncode, answer.stderr.count("\n")) == (2, 1)
    assert said in answer.stderr
    assert not (tmp_path / "concepts").exists()
