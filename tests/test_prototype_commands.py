"""The stages of ProtoPNets as commands: what they write, and what they refuse in one line."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from stages.networks import architectures, checkpoint
from stages.networks.checkpoint import Architecture
from tests import forkserver
from tests.conftest import ROOT, in_process, lively

TINY = {"layer": "layer2", "per_class": 2, "dimension": 4, "warm_up": 1, "joint": 1, "threads": 1}


def write_params(path, rules=None, **changes):
    content = YAML().load(ROOT / "params.yaml")
    content["model"]["name"] = "resnet8"
    content["prototypes"].update(TINY | changes)
    content["prototypes"]["prune"].update(rules or {})
    with path.open("w") as stream:
        YAML().dump(content, stream)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prepared_folder, prepared):
    """Return a folder with a classifier and the ProtoPNet that the command made of it."""
    folder = tmp_path_factory.mktemp("prototypes")
    architecture = Architecture("resnet8", "imagenet", prepared.classes, 16, [0.2] * 3, [0.3] * 3, False)
    network = lively(architectures.build("resnet8", "imagenet", 10, 16))
    checkpoint.save(folder / "seed0.safetensors", network, architecture)
    params = write_params(folder / "params.yaml")
    answer = train(params, prepared_folder, folder / "seed0.safetensors", folder)
    assert answer.returncode == 0, answer.stderr
    return folder


def train(params, data, backbone, folder):
    files = ["--checkpoint", folder / "trained.safetensors", "--history", folder / "trained.csv"]
    return in_process("prototypes", "--params", params, "--data", data, "--seed", 0, "--backbone", backbone, *files)


def prune(params, data, network, folder):
    files = [f"--{name}={folder / name}.safetensors" for name in ("pruned", "tuned")]
    given = ["--params", params, "--data", data, "--seed", 0, "--checkpoint", network]
    return in_process("prune_prototypes", *given, *files, "--plan", folder / "plan.json")


def refused(answer, *words):
    assert answer.returncode == 2, answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert all(word in answer.stderr for word in words), answer.stderr


def test_a_protopnet_is_trained_in_its_phases_and_again_the_same(folder, prepared_folder, tmp_path):
    history = pd.read_csv(folder / "trained.csv")
    assert history["phase"].tolist() == ["warm-up", "joint", "projected, last layer"]
    network, architecture = checkpoint.load(folder / "trained.safetensors")
    assert architecture.prototypes.classes == [label for label in range(10) for _ in range(2)]
    assert architecture.prototypes.backbone_sha256 == network.digest()
    answer = train(folder / "params.yaml", prepared_folder, folder / "seed0.safetensors", tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "trained.safetensors").read_bytes() == (folder / "trained.safetensors").read_bytes()


def test_what_the_plan_says_is_gone_from_the_network_and_its_backbone_stays(folder, prepared_folder, tmp_path):
    params = write_params(tmp_path / "params.yaml", {"neighbours": 5, "own": 5})
    answer = prune(params, prepared_folder, folder / "trained.safetensors", tmp_path)
    assert answer.returncode == 0, answer.stderr
    plan = json.loads((tmp_path / "plan.json").read_text())
    kept = [each for each in plan["prototypes"] if not each["removed_by"]]
    assert 10 <= len(kept) == plan["after"] < plan["before"] == 20
    before, pruned, tuned = (
        checkpoint.load(path)
        for path in (folder / "trained.safetensors", tmp_path / "pruned.safetensors", tmp_path / "tuned.safetensors")
    )
    for network, architecture in (pruned, tuned):
        assert network.digest() == before[0].digest()
        assert [source.image for source in architecture.prototypes.sources] == [each["image"] for each in kept]
        assert len(network.prototypes.vectors) == network.last.in_features == plan["after"]
    numbers = [each["prototype"] for each in kept]
    assert (pruned[0].last.weight == before[0].last.weight[:, numbers]).all()
    assert (tuned[0].last.weight != pruned[0].last.weight).any()


def test_filters_go_and_prototypes_are_patches_of_what_is_left(folder, prepared_folder, tmp_path):
    files = ["--finetuned", tmp_path / "lrp.safetensors", "--plan", tmp_path / "lrp.plan.json"]
    given = ["--params", folder / "params.yaml", "--data", prepared_folder, "--seed", 0, "--criterion", "lrp"]
    answer = in_process("prune_backbone", *given, "--checkpoint", folder / "trained.safetensors", *files)
    assert answer.returncode == 0, answer.stderr
    network, architecture = checkpoint.load(tmp_path / "lrp.safetensors")
    plan = json.loads((tmp_path / "lrp.plan.json").read_text())
    assert plan["after"]["macs"] <= 0.5 * plan["original"]["macs"]
    assert architecture.prototypes.backbone_sha256 == network.digest()
    assert {layer for each in plan["removed"] for layer in each["layers"]} <= {
        layer for layer in plan["layers"] if layer.startswith("features.")
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"per_class": 50}, ["prototypes.per_class: 50 prototypes of class 't-shirt'", "of 25 groups"]),
        ({"layer": "layer9"}, ["prototypes.layer: 'layer9' is none of layer1, layer2, layer3"]),
    ],
)
def test_what_cannot_be_trained_is_refused(folder, prepared_folder, tmp_path, changes, words):
    params = write_params(tmp_path / "params.yaml", **changes)
    refused(train(params, prepared_folder, folder / "seed0.safetensors", tmp_path), *words)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_refusal_is_one_line_and_status_2(folder, prepared_folder, tmp_path):
    params = write_params(tmp_path / "params.yaml", per_class=50)
    files = [f"--{name}={folder / name}" for name in ("checkpoint", "history")]
    given = ["--params", params, "--data", prepared_folder, "--seed", "0", "--backbone", folder / "seed0.safetensors"]
    refused(forkserver.run("stages.prototypes", *given, *files), "prototypes.per_class")


def test_more_neighbours_than_training_images_are_refused(folder, prepared_folder, tmp_path):
    params = write_params(tmp_path / "params.yaml", {"neighbours": 1000})
    answer = prune(params, prepared_folder, folder / "trained.safetensors", tmp_path)
    refused(answer, "prototypes.prune.neighbours: 1000 nearest patches", "have 250 groups")

    backbone = folder / "seed0.safetensors"
    refused(train(params, prepared_folder, backbone, tmp_path), "prune.neighbours: 1000", "250 or less would be right")


def test_a_class_left_without_prototypes_is_refused_if_asked(folder, prepared_folder, tmp_path):
    params = write_params(tmp_path / "params.yaml", {"neighbours": 100, "own": 100, "last_of_class": "refuse"})
    answer = prune(params, prepared_folder, folder / "trained.safetensors", tmp_path)
    refused(answer, "prototypes.prune: class 't-shirt' would lose all its prototypes")


def test_prototypes_of_another_backbone_are_refused_by_all_that_read_them(folder, prepared_folder, tmp_path):
    network, architecture = checkpoint.load(folder / "trained.safetensors")
    network.features.conv1.weight.data.mul_(1.01)
    checkpoint.save(other := tmp_path / "other.safetensors", network, architecture)
    params, before = folder / "params.yaml", set(tmp_path.iterdir())
    given = ["--params", params, "--data", prepared_folder, "--seed", 0]
    files = ["--checkpoint", other, "--finetuned", tmp_path / "lrp.safetensors", "--plan", tmp_path / "lrp.plan.json"]
    classifier, trained = ["--classifier", folder / "seed0.safetensors"], folder / "trained.safetensors"
    networks = [*classifier, "--checkpoints", other, "--pictured", trained]
    drawn = [*classifier, "--checkpoints", trained, "--pictured", other]
    for answer in (
        prune(params, prepared_folder, other, tmp_path),
        in_process("prune_backbone", *given, "--criterion", "lrp", *files),
        in_process("evaluate_prototypes", *given, *networks, "--folder", tmp_path / "out"),
        in_process("evaluate_prototypes", *given, *drawn, "--folder", tmp_path / "out"),
        in_process("predict", "--params", params, "--checkpoint", other, tmp_path / "a.png"),
    ):
        refused(answer, "other.safetensors: prototypes", "projected with another backbone; project them again")
    assert set(tmp_path.iterdir()) == before


def test_vectors_that_are_no_patches_are_refused(folder, prepared_folder, tmp_path):
    network, architecture = checkpoint.load(folder / "trained.safetensors")
    network.prototypes.vectors.data[3] += 0.001
    checkpoint.save(tmp_path / "off.safetensors", network, architecture)
    answer = prune(folder / "params.yaml", prepared_folder, tmp_path / "off.safetensors", tmp_path)
    refused(answer, "off.safetensors: prototypes are up to 0.001 off their patches")


def test_a_classifier_is_no_protopnet_and_the_other_way_round(folder, prepared_folder, tmp_path):
    params = folder / "params.yaml"
    refused(prune(params, prepared_folder, folder / "seed0.safetensors", tmp_path), "seed0", "is no ProtoPNet")
    refused(
        train(params, prepared_folder, folder / "trained.safetensors", tmp_path), "trained", "no unpruned classifier"
    )


def test_measures_and_pictures_of_every_class_are_written(folder, prepared_folder, prepared, tmp_path):
    params = write_params(tmp_path / "params.yaml", {"region": {"disc": [0.5, 0.5, 0.3]}}, examples=1, noise=0.0)
    given = ["--params", params, "--data", prepared_folder, "--seed", 0, "--folder", tmp_path / "out"]
    networks = ["--classifier", folder / "seed0.safetensors", "--checkpoints", folder / "trained.safetensors"]
    answer = in_process("evaluate_prototypes", *given, *networks, "--pictured", folder / "trained.safetensors")
    assert answer.returncode == 0, answer.stderr
    rows = pd.read_csv(tmp_path / "out/rows.csv").set_index("network")
    assert list(rows.index) == ["classifier", "trained"]
    trained = rows.loc["trained"]
    assert (trained["prototypes"], trained["fewest_of_class"], trained["groups"]) == (20, 2, 20)
    assert 0 < trained["inside"] < 1 and 0 < trained["purity"] <= 1
    assert (trained["strongest_kept"], trained["patch_stays"]) == (1, 1)  # without noise
    assert trained["off_patch"] <= 1e-5
    assert rows.loc["classifier"][["prototypes", "purity", "inside"]].isna().all()
    told = json.loads((tmp_path / "out/explanations.json").read_text())
    network, architecture = checkpoint.load(folder / "trained.safetensors")
    row = prepared.index.index[prepared.index["image_id"] == told[0]["image"]]
    logits = network(architecture.normalise(prepared.batch(np.array(row))[0]))[0]
    assert told[0]["logit"] == pytest.approx(logits.max().item(), abs=1e-4)
    assert told[0]["called"] == prepared.classes[logits.argmax()]
    pictures = {path.name for path in (tmp_path / "out/prototypes").iterdir()}
    assert pictures == {f"{name}.png" for name in prepared.classes}
    assert len(list((tmp_path / "out/explanations").iterdir())) == 10


def test_a_picture_is_explained_by_the_prototypes_it_looks_like(folder, prepared_folder, prepared, tmp_path):
    row = prepared.rows("test")[0]
    Image.fromarray(prepared.images[row]).save(tmp_path / "one.png")
    given = ["--checkpoint", folder / "trained.safetensors", "--params", ROOT / "params.yaml", tmp_path / "one.png"]
    told = in_process("predict", *given, "--class", prepared.classes[3], "--data", prepared_folder)
    assert told.returncode == 0, told.stderr
    assert (tmp_path / "one.prototypes.png").stat().st_size > 1000
    network, architecture = checkpoint.load(folder / "trained.safetensors")
    with torch.no_grad():
        similar = network.prototypes(network.latent(architecture.normalise(prepared.batch([row])[0])))[0]
    added = (network.last.weight[3] * similar).sort(descending=True)
    lines = [line for line in told.stdout.splitlines() if f" for {prepared.classes[3]}: similarity" in line]
    assert [float(line.split()[0]) for line in lines] == pytest.approx(added.values[:5].tolist(), abs=1e-3)
    numbers = [int(re.search(r"prototype (\d+)", line)[1]) for line in lines]
    assert numbers == added.indices[:5].tolist()
    source = architecture.prototypes.sources[numbers[0]]
    assert f"from {source.image})" in lines[0]


def test_data_without_the_images_of_prototypes_and_classifiers_with_data_are_refused(
    folder, prepared_folder, prepared, tmp_path
):
    Image.fromarray(prepared.images[0]).save(tmp_path / "one.png")
    shutil.copytree(prepared_folder, tmp_path / "other")
    index = prepared.index.assign(image_id="x" + prepared.index["image_id"])
    index.to_csv(tmp_path / "other/index.csv", index=False)
    given = ["--params", ROOT / "params.yaml", tmp_path / "one.png"]
    network = ["--checkpoint", folder / "trained.safetensors"]
    answer = in_process("predict", *given, *network, "--data", tmp_path / "other")
    refused(answer, "other: prototypes: image ", "is not in the data as it was")
    network = ["--checkpoint", folder / "seed0.safetensors"]
    refused(in_process("predict", *given, *network, "--data", prepared_folder), "--data: ", "is no ProtoPNet")
    assert not list(tmp_path.glob("*.heatmap.png"))


def test_the_table_says_where_filter_pruning_stands_at_the_same_size(tmp_path):
    sizes = {"filters": [100, 80, 50], "params": [1000, 800, 500], "macs": [1000, 800, 400]}
    pruning = pd.DataFrame(
        {"criterion": ["baseline", "lrp", "lrp"], "seed": 0, "step": [0, 1, 2]}
        | {"phase": ["baseline", "finetuned", "finetuned"], **sizes, "balanced_accuracy": [0.9, 0.8, 0.6]}
    )
    of = {"accuracy": 0.8, "auroc": 0.9, "params": 500, "purity": 0.5, "fewest_of_class": 1, "images": 2, "groups": 2}
    of |= {"strongest_kept": 1.0, "patch_stays": 1.0, "inside": np.nan, "seed": 0}
    names, macs, accuracy = (
        ["classifier", "trained", "pruned", "tuned", "lrp"],
        [1000, 900, 900, 900, 300],
        [0.9, 0.87, 0.8, 0.868, 0.7],
    )
    rows = pd.DataFrame(
        {"network": names, "macs": macs, "balanced_accuracy": accuracy, "prototypes": [np.nan, 4, 3, 3, 3]}
    )
    rows.assign(**of).to_csv(tmp_path / "rows.csv", index=False)
    pruning.assign(accuracy=0.8, auroc=0.9).to_csv(tmp_path / "pruning.csv", index=False)
    plan = {"prototypes": [{"class": "a", "purity": 0.5, "removed_by": rules} for rules in ([], [], [], ["nearest"])]}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    files = ["--rows", tmp_path / "rows.csv", "--plans", tmp_path / "plan.json", "--pruning", tmp_path / "pruning.csv"]
    answer = in_process("compare_prototypes", "--params", ROOT / "params.yaml", *files, "--folder", tmp_path / "out")
    assert answer.returncode == 0, answer.stderr
    page = (tmp_path / "out/page.md").read_text()
    assert "Without 25% of its prototypes (3 of 4 are left)" in page
    assert "by -7.00 points right after, and by -0.20 points once the last layer is tuned. That a quarter" in page
    assert "at a loss of 0.5 points at most is true of this seed." in page
    assert "| ProtoPNet, projected | 900 | 0.8700 | 0.8500 (lrp) | +2.00 |" in page
    assert "| also less filters by lrp | 300 | 0.7000 | no chain has that size |  |" in page
    assert "| a | 4.0 | 3.0 | 0.50 | nearest |" in page
