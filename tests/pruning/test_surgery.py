import copy
from itertools import product

import pytest
import torch
from torch import nn

from stages.attribution import regions
from stages.networks import checkpoint
from stages.networks.architectures import logits_layer
from stages.networks.checkpoint import Architecture
from stages.networks.size import measure
from stages.pruning import selection, surgery
from stages.pruning.criteria import CRITERIA, References, score

NETWORKS = ["resnet8", "resnet18", "resnet50", "vgg11", "vgg11_bn", "mlp"]


def plan(network, criterion, images, fraction=0.3):
    bounds = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
    references = References(
        [(images, torch.arange(6))],
        bounds,
        "abs-sample",
        0,
        label=2,
        contrast=(1, 4),
        region=regions.box(32, 0, 0, 0.5, 1),
    )
    scores = score(criterion, network, references, "l2")
    groups = surgery.prunable_groups(network, 32, ["*"], [])
    candidates = selection.rank(groups, scores, "mean", 2)
    chosen = selection.select(network, 32, candidates, "filters", measure(network, 32), fraction)
    return selection.by_group(chosen)


def masked(network, channels):
    """Return the network with the channels set to zero at every output of their groups, never made smaller."""
    network = copy.deepcopy(network)
    graph = surgery.dependency_graph(network, 32)
    gone = {}
    for root, chosen in channels.items():
        layer = network.get_submodule(root)
        for item in graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, chosen):
            module = item.dep.target.module
            if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d) and graph.is_out_channel_pruning_fn(
                item.dep.handler
            ):
                gone.setdefault(module, set()).update(item.idxs)

    def mask(chosen):
        def hook(module, inputs, output):
            output = output.clone()
            output[:, sorted(chosen)] = 0
            return output

        return hook

    for module, chosen in gone.items():
        module.register_forward_hook(mask(chosen))
    return network


@pytest.mark.parametrize("name", ["alexnet", "densenet121", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "mlp"])
def test_torchvisions_other_networks_are_scored_cut_saved_and_loaded(build, tmp_path, name):
    network = build(name, image_size=64)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    references = References([(images, torch.arange(2))], (images.amin(), images.amax()), "abs-sample", 0)
    scores = score("lrp", network, references, "none")
    groups = surgery.prunable_groups(network, 64, ["*"], [])
    assert {layer for group in groups for layer in group.layers} == set(scores)
    original = measure(network, 64)
    chosen = selection.select(network, 64, selection.rank(groups, scores, "sum", 4), "filters", original, 0.1)
    history = surgery.remove(network, 64, selection.by_group(chosen))
    assert measure(network, 64).filters <= 0.9 * original.filters
    classes = [str(number) for number in range(10)]
    architecture = Architecture(
        name, "imagenet", classes, 64, [0.5] * 3, [0.5] * 3, channels_last=False, history=history
    )
    checkpoint.save(tmp_path / "a.safetensors", network, architecture)
    again, _ = checkpoint.load(tmp_path / "a.safetensors")
    assert torch.equal(again(images), network(images))


@pytest.mark.parametrize(
    ("name", "criterion"),
    [
        ("resnet8", "crp-region"),  # the others have layers that are too small for it
        *product(["resnet8", "resnet18"], [name for name in CRITERIA if name != "crp-region"]),
        *product(["vgg11_bn", "mobilenet_v2", "mlp"], ["lrp", "random"]),
    ],
)
def test_removal_equals_masking(build, images, name, criterion):
    network = build(name)
    channels = plan(network, criterion, images)
    smaller = copy.deepcopy(network)
    surgery.remove(smaller, 32, channels)
    assert measure(smaller, 32).filters < 0.71 * measure(network, 32).filters
    expected = masked(network, channels)(images)
    assert (smaller(images) - expected).abs().max() < 1e-5
    if criterion == "random":  # the others may find filters that are silent on these images
        assert (network(images) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_but_the_logits_is_in_one_group(build, name):
    from stages.networks.architectures import scored_layers

    network = build(name)
    groups = surgery.prunable_groups(network, 32, ["*"], [])
    members = [layer for group in groups for layer in group.layers]
    assert sorted(members) == sorted(scored_layers(network))


def test_residual_streams_are_groups(build):
    groups = {group.root: list(group.layers) for group in surgery.prunable_groups(build("resnet18"), 32, ["*"], [])}
    assert groups["conv1"] == ["conv1", "layer1.0.conv2", "layer1.1.conv2"]
    assert groups["layer2.0.conv2"] == ["layer2.0.conv2", "layer2.0.downsample.0", "layer2.1.conv2"]
    assert groups["layer4.1.conv1"] == ["layer4.1.conv1"]


def test_patterns_choose_layers_and_a_group_needs_all_of_its_own(build):
    network = build("resnet18")
    only = {group.root for group in surgery.prunable_groups(network, 32, ["layer4.*"], ["*.1.conv1"])}
    assert only == {"layer4.0.conv1", "layer4.0.conv2"}
    without = {group.root for group in surgery.prunable_groups(network, 32, ["*"], ["layer1.0.conv2"])}
    assert "conv1" not in without
    assert "layer1.0.conv1" in without


def test_the_history_repeats_the_surgery_on_a_fresh_network(build):
    from stages.networks.checkpoint import replay

    network, fresh = build("vgg11"), build("vgg11")
    history = surgery.remove(network, 32, {"features.0": [3, 1], "classifier.0": [0, 4000], "features.18": [511]})
    history += surgery.remove(network, 32, {"features.0": [0, 61]})
    replay(fresh, 32, history)
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (network, fresh)]
    assert shapes[0] == shapes[1]
    assert network.features[0].out_channels == 60
    assert network.get_submodule(logits_layer(network)).out_features == 10


def test_an_optimiser_made_after_surgery_trains_every_parameter(build, images):
    network = build("resnet18")
    stale = torch.optim.SGD(network.parameters(), lr=0.05)
    surgery.remove(network, 32, {"conv1": [0, 1], "layer4.0.conv1": list(range(100))})
    live = {id(parameter) for parameter in network.parameters()}
    assert any(id(parameter) not in live for parameter in stale.param_groups[0]["params"])

    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    losses = []
    for _ in range(5):
        loss = nn.functional.cross_entropy(network(images), torch.arange(6))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
