"""The state of a training between two epochs, in one file that is complete or absent. No pickle."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from stages.files import write_tensors

Weights = dict[str, torch.Tensor]


def save(
    path: Path,
    fingerprint: str,
    network: nn.Module,
    optimiser: Optimizer,
    schedule: LRScheduler,
    history: list[dict[str, float]],
    best: Weights,
    averaged: nn.Module | None,
) -> None:
    """Write weights, the optimiser's state, schedule, history, the best weights so far and the average of weights."""
    groups = {"now": network.state_dict(), "best": best, "optimiser": _of_parameters(network, optimiser)}
    groups["average"] = averaged.state_dict() if averaged else {}
    tensors = {
        f"{group}:{name}": tensor.detach().cpu().contiguous().clone()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    document = {"fingerprint": fingerprint, "schedule": schedule.state_dict(), "history": history}
    write_tensors(path, tensors, {"training": json.dumps(document)})


def load(
    path: Path,
    fingerprint: str,
    network: nn.Module,
    optimiser: Optimizer,
    schedule: LRScheduler,
    averaged: nn.Module | None,
) -> tuple[list[dict[str, float]], Weights]:
    """Restore a training in place; return its history and best weights, both empty where there is none to resume.

    A file that is absent, unreadable, or of another training leaves everything as it is.
    """
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {}).get("training", "{}"))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return [], {}
    if document.get("fingerprint") != fingerprint:
        return [], {}
    groups: dict[str, Weights] = {"now": {}, "best": {}, "optimiser": {}, "average": {}}
    for key, tensor in tensors.items():
        group, name = key.split(":", 1)
        groups[group][name] = tensor
    network.load_state_dict(groups["now"])
    if averaged:
        averaged.load_state_dict(groups["average"])
    parameters = dict(network.named_parameters())
    for key, tensor in groups["optimiser"].items():
        name, kind = key.split(":")
        of_parameter = tensor.shape == parameters[name].shape
        tensor = torch.empty_like(parameters[name]).copy_(tensor) if of_parameter else tensor
        optimiser.state[parameters[name]][kind] = tensor
    schedule.load_state_dict(document["schedule"])
    for group, rate in zip(optimiser.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    return document["history"], groups["best"]


def _of_parameters(network: nn.Module, optimiser: Optimizer) -> Weights:
    """Return what an optimiser keeps for each parameter, such as its momentum."""
    return {
        f"{name}:{kind}": tensor
        for name, parameter in network.named_parameters()
        for kind, tensor in optimiser.state[parameter].items()
    }
