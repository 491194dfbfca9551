"""How a ProtoPNet learns: its costs against loops, which parts move in which phase, and that a kill changes nothing."""

import copy
import itertools

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch.nn.functional import cross_entropy
from torch.optim.optimizer import register_optimizer_step_pre_hook

from stages.errors import InputError
from stages.networks.projection import deviation, nearest_patches
from stages.networks.protopnet import Learning
from stages.params.prototypes import LastLayer, PatchCosts, PrototypeRates
from stages.params.training import Balance
from stages.training.loop import fit
from stages.training.prototypes import (
    fit_last_layer,
    fit_patches,
    joint_costs,
    joint_groups,
    patch_costs,
    settle,
    tune_last_layer,
    warm_up_groups,
)
from tests.conftest import protopnet

CLASSES = [label for label in range(10) for _ in range(2)]
NAMES = [f"class {label}" for label in range(10)]
LEVEL = Balance(sampling=0.0, loss=0.0)


def alone():
    return Fabric(accelerator="cpu", devices=1, precision="32-true", plugins=[LightningEnvironment()])


def tensors(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def parts_that_differ(network, before):
    """Return the parts, such as features and last, of which any parameter changed, and those of which all did."""
    changed = {name: not torch.equal(before[name], values) for name, values in network.named_parameters()}
    parts = {name.partition(".")[0] for name in changed}
    return {
        some: {part for part in parts if some(new for name, new in changed.items() if name.startswith(f"{part}."))}
        for some in (any, all)
    }


def test_patch_costs_equal_loops():
    torch.manual_seed(0)
    own = torch.tensor(CLASSES) == torch.arange(10)[:, None]
    distances, labels = torch.rand(6, len(CLASSES)), torch.tensor([0, 3, 3, 9, 5, 0])
    to_own, to_others = [], []
    for of_image, label in zip(distances.tolist(), labels.tolist(), strict=True):
        to_own.append(min(d for d, of_class in zip(of_image, CLASSES, strict=True) if of_class == label))
        to_others.append(min(d for d, of_class in zip(of_image, CLASSES, strict=True) if of_class != label))
    cluster, separation = patch_costs(distances, own, labels)
    assert cluster.item() == pytest.approx(sum(to_own) / 6)
    assert separation.item() == pytest.approx(sum(to_others) / 6)
    logits = torch.rand(6, 10)
    same, cost = joint_costs(own, PatchCosts(cluster=0.8, separation=0.08))(Learning(logits, distances), labels)
    assert same is logits
    assert cost.item() == pytest.approx(0.8 * sum(to_own) / 6 - 0.08 * sum(to_others) / 6)


@pytest.fixture
def similar():
    """Return similarities that tell classes apart, with noise, and labels."""
    torch.manual_seed(0)
    labels = torch.arange(10).repeat(12)
    return torch.rand(120, len(CLASSES)) + (labels[:, None] == torch.tensor(CLASSES)), labels


def last_layer(**changes):
    return LastLayer(**{"epochs": 30, "batch_size": 40, "learning_rate": 0.01, "l1": 1e-3} | changes)


def fitted(similar, balanced=LEVEL, seed=0, **changes):
    """Return a ProtoPNet whose last layer was trained, and the cost of each epoch."""
    network, _ = protopnet(CLASSES)
    history = fit_last_layer(network, *similar, last_layer(**changes), NAMES, balanced, seed)
    return network, history


def test_the_last_layer_alone_is_trained_and_its_cost_falls(similar):
    before = tensors(protopnet(CLASSES)[0])
    network, history = fitted(similar)
    assert len(history) == 30
    assert history[-1] < 0.8 * history[0]
    assert [name for name, values in network.state_dict().items() if not torch.equal(values, before[name])] == [
        "last.weight"
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_its_cost_is_the_cross_entropy_and_the_weights_between_prototypes_and_other_classes(similar, temperature):
    similarities, labels = similar[0], similar[1].clone()
    labels[30:] = 0
    weight = protopnet(CLASSES)[0].last.weight.detach()
    between = sum(
        abs(weight[label, number].item())
        for number, label in itertools.product(range(len(CLASSES)), range(10))
        if CLASSES[number] != label
    )
    of_class = labels.bincount() ** -temperature
    expected = cross_entropy(similarities @ weight.T, labels, of_class).item() + 0.3 * between
    balanced = Balance(sampling=0.0, loss=temperature)
    _, history = fitted((similarities, labels), balanced, epochs=1, batch_size=120, l1=0.3)
    assert history == [pytest.approx(expected, rel=1e-5)]


def test_l1_drives_the_weights_of_other_classes_towards_zero_and_leaves_those_of_the_own(similar):
    (free, _), (sparse, _) = fitted(similar, l1=0.0, epochs=60), fitted(similar, l1=0.1, epochs=60)
    own = free.own
    assert free.last.weight[~own].abs().mean() > 0.4
    assert sparse.last.weight[~own].abs().mean() < 0.05
    assert sparse.last.weight[own].min() > 0.9


def test_the_seed_of_the_last_layer_decides(similar):
    first, second, other = (fitted(similar, seed=seed)[0].last.weight for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_last_layer_that_diverges_is_refused(similar):
    with pytest.raises(InputError, match=r"prototypes.last_layer.learning_rate: 1e\+37 diverges; lower it"):
        fitted(similar, learning_rate=1e37)


@torch.no_grad()
def test_the_last_layer_learns_from_training_images_as_evaluation_sees_them(prepared, study):
    network, architecture = protopnet(CLASSES)
    twin, rows = copy.deepcopy(network), prepared.rows("train")
    images, labels = prepared.batch(rows)
    similarities = twin.prototypes(twin.latent(architecture.normalise(images)))
    with torch.enable_grad():
        fit_last_layer(twin, similarities, labels, study().last_layer, NAMES, LEVEL, 3)
        tune_last_layer(network, architecture, prepared, study(), LEVEL, 3)
    torch.testing.assert_close(network.last.weight, twin.last.weight)
    assert not torch.equal(network.last.weight, protopnet(CLASSES)[0].last.weight)


def test_settled_prototypes_are_patches_and_the_backbone_is_what_it_was(prepared, study):
    network, architecture = protopnet(CLASSES)
    before, made_by = tensors(network), network.digest()
    architecture = settle(network, architecture, prepared, study(), LEVEL, 0, torch.device("cpu"))
    assert deviation(network, architecture, prepared) <= 1e-5
    assert network.digest() == made_by
    assert parts_that_differ(network, before)[any] == {"prototypes", "last"}


@pytest.fixture
def study(params):
    def make(**changes):
        usual = {"batch_size": 32, "weight_decay": 0.001, "last_layer": last_layer(epochs=3)}
        return params.prototypes.model_copy(update=usual | changes)

    return make


@pytest.fixture
def phase(prepared, params, study, tmp_path):
    """Return a function that makes a ProtoPNet and a phase of its training, an iterator of history."""

    def make(groups, epochs=1, state="state", **changes):
        network, architecture = protopnet(CLASSES)
        asked = study(**changes), params.train, epochs, 0, alone(), tmp_path / state, groups
        return network, fit_patches(network, architecture, prepared, *asked)

    return make


def trained(phase, *arguments, **changes):
    network, epochs = phase(*arguments, **changes)
    return network, list(epochs)


def test_warm_up_moves_the_convolutions_after_the_backbone_and_the_prototypes(phase):
    network, history = trained(phase, warm_up_groups)
    moved = {"add_on", "prototypes"}
    assert parts_that_differ(network, tensors(protopnet(CLASSES)[0])) == {any: moved, all: moved}
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert [row["epoch"] for row in history] == [1]


def test_joint_training_moves_all_but_the_last_layer(phase):
    network, _ = trained(phase, joint_groups(1e-3, 3e-3))
    moved = {"features", "add_on", "prototypes"}
    assert parts_that_differ(network, tensors(protopnet(CLASSES)[0])) == {any: moved, all: moved}


def test_the_cluster_cost_brings_prototypes_near_patches_of_their_class(phase, prepared):
    def cluster(weight):
        network, _ = trained(phase, warm_up_groups, epochs=2, costs=PatchCosts(cluster=weight, separation=0.0))
        rows = prepared.rows("train")
        distances = nearest_patches(network, protopnet(CLASSES)[1], prepared, rows, 32).distances
        return patch_costs(distances, network.own, prepared.labels(rows))[0]

    assert cluster(20.0) < 0.9 * cluster(0.0)


@pytest.mark.parametrize("groups", [warm_up_groups, joint_groups(1e-3, 3e-3)])
def test_a_killed_phase_goes_on_to_the_same_weights(phase, groups):
    whole, history = trained(phase, groups, epochs=3, state="whole")
    _, killed = phase(groups, epochs=3)
    list(itertools.islice(killed, 2))
    killed.close()
    torch.rand(17)  # the global generator is somewhere else than it was
    resumed, again = trained(phase, groups, epochs=3)
    assert again == history
    assert all(torch.equal(values, whole.state_dict()[name]) for name, values in resumed.state_dict().items())


@pytest.mark.parametrize(
    "other",
    [
        {"groups": joint_groups(1e-3, 3e-3), "costs": PatchCosts(cluster=5.0, separation=0.0)},
        {"groups": joint_groups(1e-4, 3e-3)},
    ],
    ids=["costs", "learning rate of the backbone"],
)
def test_the_state_of_a_phase_with_other_settings_is_not_used(phase, other):
    whole, history = trained(phase, **other, epochs=2, state="whole")
    _, killed = phase(joint_groups(1e-3, 3e-3), epochs=2)
    next(killed)
    killed.close()
    network, again = trained(phase, **other, epochs=2)
    assert again == history
    assert torch.equal(network.prototypes.vectors, whole.prototypes.vectors)


@pytest.fixture
def updates():
    """Return a list that receives learning rate and weight decay of every group of parameters at every update."""
    seen = []
    hook = register_optimizer_step_pre_hook(
        lambda optimiser, *_: seen.append([(group["lr"], group["weight_decay"]) for group in optimiser.param_groups])
    )
    yield seen
    hook.remove()


def test_the_backbone_has_a_learning_rate_of_its_own_and_prototypes_do_not_decay(phase, updates):
    rates = PrototypeRates(backbone=1e-4, prototypes=2e-3)
    trained(phase, joint_groups(1e-4, 2e-3), learning_rate=rates, weight_decay=0.03)
    backbone, convolutions, prototypes = updates[0]
    assert backbone == (pytest.approx(1e-4), 0.03)
    assert convolutions == (2e-3, 0.03)
    assert prototypes == (2e-3, 0.0)
    assert all(update[0][0] == pytest.approx(update[2][0] / 20) for update in updates)
    assert updates[-1][2][0] < 1e-4


def test_groups_peak_at_rates_of_their_own_in_one_cycle_too(build, architecture, prepared, params, tmp_path, updates):
    settings = params.train.model_copy(update={"epochs": 1, "batch_size": 16, "schedule": "one-cycle"})

    def groups(network):
        return [{"params": network.layer1.parameters()}, {"params": network.fc.parameters(), "scale": 0.25}]

    network = build("resnet8")
    before = tensors(network)
    list(fit(network, architecture, prepared, settings, 0, alone(), tmp_path / "state", groups=groups))
    peaks = [max(update[number][0] for update in updates) for number in (0, 1)]
    assert peaks[0] == pytest.approx(settings.learning_rate, rel=0.1)
    assert peaks[1] == pytest.approx(peaks[0] / 4)
    assert parts_that_differ(network, before)[any] == {"layer1", "fc"}
