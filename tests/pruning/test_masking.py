import copy
import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from stages import prune, relevance
from stages.networks import checkpoint
from stages.networks.checkpoint import Architecture
from stages.networks.size import measure, sparsity
from stages.pruning import masking, selection, surgery


def cut(network, architecture, share, seed=0):
    """Remove some of the channels, drawn."""
    size = architecture.image_size
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: torch.rand(layer.weight.shape[0], generator=generator)
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    candidates = selection.rank(surgery.prunable_groups(network, size, ["*"], []), scores, "first", 2)
    chosen = selection.by_group(candidates[: round(share * len(candidates))])
    history = surgery.remove(network, size, chosen)
    return network, dataclasses.replace(architecture, history=architecture.history + history)


def of(name, size):
    return Architecture(name, "imagenet", [str(n) for n in range(10)], size, [0.5] * 3, [0.5] * 3, channels_last=False)


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet8", 32), ("resnet50", 32), ("mlp", 32), ("mobilenet_v2", 32), ("efficientnet_b0", 64), ("alexnet", 64)],
)
def test_a_masked_network_answers_as_the_smaller_one_and_becomes_it_again(build, tmp_path, name, size):
    whole = build(name, image_size=size)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    small, architecture = cut(*cut(copy.deepcopy(whole), of(name, size), 0.3), 0.2, seed=1)
    dense, masked = masking.masked(small, architecture)
    assert {key: value.shape for key, value in dense.state_dict().items()} == {
        key: value.shape for key, value in whole.state_dict().items()
    }
    assert (small(images) - dense(images)).abs().max() < 1e-5
    assert (small(images) - whole(images)).abs().max() > 1e-3
    checkpoint.save(tmp_path / "a.safetensors", dense, masked)
    loaded, again = checkpoint.load(tmp_path / "a.safetensors")
    assert again.masked and measure(loaded, size) == measure(whole, size)
    assert measure(again.effective().shape(), size) == measure(small, size)
    back, unmasked = masking.smaller(loaded, again)
    assert unmasked == architecture
    assert all(torch.equal(a, b) for a, b in zip(back.state_dict().values(), small.state_dict().values(), strict=True))


def test_what_is_kept_of_a_tensor_is_where_it_was_and_the_rest_is_zero(build):
    whole = build("resnet8")
    small, architecture = cut(copy.deepcopy(whole), of("resnet8", 32), 0.4)
    dense, _ = masking.masked(small, architecture)
    zeros = elements = 0
    for (name, before), after in zip(whole.state_dict().items(), dense.state_dict().values(), strict=True):
        gone = 1.0 if name.endswith("running_var") else 0.0
        assert torch.equal(after, torch.where(after == gone, gone, before)), name
        if before.ndim > 1:
            zeros, elements = zeros + int((after == 0).sum()), elements + before.numel()
    assert sparsity(dense.modules()) == pytest.approx(zeros / elements)
    left = sum(weight.numel() for weight in small.state_dict().values() if weight.ndim > 1)
    assert zeros == elements - left
    assert sparsity(whole.modules()) == sparsity(small.modules()) == 0


def test_layer_norms_cannot_be_masked(build):
    small, architecture = cut(build("convnext_tiny", image_size=64), of("convnext_tiny", 64), 0.1)
    with pytest.raises(ValueError, match="LayerNorms"):
        masking.masked(small, architecture)


@pytest.fixture
def run_stage(monkeypatch):
    def run(stage, **options):
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        monkeypatch.setattr("sys.argv", [stage.__name__, *words])
        stage.main()

    return run


def test_a_mask_survives_fine_tuning_and_the_chain_is_that_of_surgery(
    build, architecture, prepared_folder, tmp_path, run_stage
):
    network, unpruned = build("resnet8", image_size=16), tmp_path / "seed0.safetensors"
    checkpoint.save(unpruned, network, architecture)
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["prune"] |= {"min_channels": 2}
    content["prune"]["scores"]["references_per_class"] = 2
    content["prune"]["finetune"] |= {"batch_size": 16, "weight_decay": 0.01}
    sparse = [0]
    for step in (1, 2):
        networks = {}
        for removal in ("physical", "mask"):
            folder = tmp_path / removal / "lrp" / "seed0"
            folder.mkdir(parents=True, exist_ok=True)
            content["prune"]["removal"] = removal
            params = tmp_path / f"{removal}.yaml"
            params.write_text(yaml.safe_dump(content))
            made = folder / f"step{step}"
            given = {"params": params, "data": prepared_folder, "criterion": "lrp", "seed": 0, "step": step}
            given |= {"checkpoint": folder / "step1.safetensors" if step == 2 else unpruned}
            given |= {"scores": f"{made}.scores.npz"}
            run_stage(relevance, **given, diagnostics=f"{made}.diagnostics.json")
            given |= {"before": folder / "step1.plan.json"} if step == 2 else {}
            given |= {"plan": f"{made}.plan.json", "pruned": f"{made}.pruned.safetensors"}
            given |= {"finetuned": f"{made}.safetensors", "history": f"{made}.history.csv"}
            run_stage(prune, **given, unpruned=unpruned)
            networks[removal] = checkpoint.load(made.with_suffix(".safetensors"))
        dense, masked = networks["mask"]
        assert measure(dense, 16) == measure(network, 16)
        sparse.append(sparsity(dense.modules()))
        assert sparse[-1] > sparse[-2]
        layers = json.loads(made.with_suffix(".plan.json").read_text())["layers"]
        assert layers["conv1"]["sparsity"] == pytest.approx(sparsity([dense.conv1]), abs=1e-6)
        small, again = networks["physical"][0], masking.smaller(dense, masked)[0]
        for one, other in zip(small.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(one, other)
