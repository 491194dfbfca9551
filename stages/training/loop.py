"""Training: batches from the prepared array, stochastic gradient descent, one row of history an epoch."""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms.v2 import MixUp

from stages.datasets.store import Prepared, derived_seed
from stages.errors import InputError
from stages.networks.checkpoint import Architecture
from stages.params import Distillation, Training
from stages.training import balance, resume
from stages.training.augment import augment
from stages.training.loss import loss
from stages.training.validation import chosen, row_of_untrained, validate


def fit(
    network: nn.Module,
    architecture: Architecture,
    data: Prepared,
    settings: Training,
    seed: int,
    device: torch.device,
    state_file: Path,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    rewound: Training | None = None,
) -> Iterator[dict[str, float]]:
    """Train a network in place, yielding a row of history after each epoch; at the end it holds the chosen weights.

    All that is random in an epoch comes from `seed` and the epoch's number, and the state after each epoch is kept
    in `state_file`: a run that was killed goes on after its last whole epoch and ends with the same weights. Rows
    of epochs that an earlier run finished are yielded again, first. With `settings.ema`, a decay, the exponential
    moving average of the weights over updates (after Polyak and Juditsky, 1992) is what is validated, chosen and kept.
    With `settings.mixup`, pairs of images and their labels are mixed (Zhang et al., 2018, arXiv 1710.09412); an image
    then counts as one of the class that has the larger share.

    Parameters
    ----------
    network : nn.Module
        As built or loaded; moved to `device` and back to the CPU.
    state_file : Path
        Deleted when training ends. A state of another training (other settings, weights, data or seed) is not used.
    teacher, distillation : optional
        A network, in evaluation mode, that the loss is to follow, too; see `stages.training.loss`.
    rewound : optional
        With the schedule `rewind`: the training of which the learning rates of the last epochs are taken (Renda et al.,
        2020, arXiv 2003.02389, learning-rate rewinding).

    Raises
    ------
    InputError
        The training diverged.

    Yields
    ------
    dict
        epoch (from 1), learning_rate (at its end), train_loss, train_accuracy, val_loss, val_accuracy,
        val_balanced_accuracy; training values are running means over the epoch, with augmentation. With no epochs,
        one row of epoch 0 without training values. Where classes are brought up, `drawn_<class>`: its images in the
        epoch, and `loss_weight_<class>`.
    """
    if not settings.epochs:
        yield row_of_untrained(network.eval(), architecture, data, settings.batch_size)
        return
    rows, sampling = data.rows("train"), settings.balance.sampling
    of_rows = torch.from_numpy(data.index["label"].to_numpy()[rows])
    steps = max(1, len(balance.epoch(of_rows, data.classes, sampling)) // settings.batch_size)
    weights = balance.loss_weights(of_rows, settings.balance.loss)
    weights = None if weights is None else weights.float().to(device)
    network.to(device, memory_format=architecture.memory_format).train()
    optimiser = torch.optim.SGD(
        network.parameters(),
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=True,
    )
    schedule = _schedule(optimiser, settings, steps, rewound)
    sections = [section and section.model_dump() for section in (settings, distillation, rewound)]
    fingerprint = _fingerprint(network, data, seed, *sections)
    mix = MixUp(alpha=settings.mixup, num_classes=len(data.classes)) if settings.mixup else None
    averaged = _average(network, settings.ema)
    kept = averaged.module if averaged else network
    history, best = resume.load(state_file, fingerprint, network, optimiser, schedule, averaged)
    yield from history

    alone = LightningEnvironment()  # one process, also where a job of SLURM's may have more
    fabric = Fabric(accelerator=device.type, devices=1, precision=settings.precision, plugins=[alone])
    model, fabric_optimiser = fabric.setup(network, optimiser)

    @torch.no_grad()
    def taught_by(batch: torch.Tensor) -> torch.Tensor | None:
        if teacher is None:
            return None
        with fabric.autocast():
            return teacher(batch).float()

    for epoch in range(len(history) + 1, settings.epochs + 1):
        torch.manual_seed(derived_seed(seed, epoch))
        drawn = balance.epoch(of_rows, data.classes, sampling)[: steps * settings.batch_size]
        order = rows[drawn.numpy()]
        model.train()
        loss_sum = correct = seen = 0
        for step in range(steps):
            images, labels = data.batch(order[step * settings.batch_size : (step + 1) * settings.batch_size])
            images = augment(images.to(device), settings.augment)
            labels = labels.to(device)
            images, targets = mix(images, labels) if mix else (images, labels)
            batch = architecture.normalise(images)
            logits = model(batch)
            cost = loss(logits.float(), targets, taught_by(batch), distillation, weights, settings.label_smoothing)
            fabric_optimiser.zero_grad()
            fabric.backward(cost)
            fabric_optimiser.step()
            schedule.step()
            if averaged:
                averaged.update_parameters(network)
            loss_sum += cost.item() * len(labels)
            of_class = targets.argmax(1) if mix else labels
            correct += (logits.argmax(1) == of_class).sum().item()
            seen += len(labels)
        kept.eval()
        with fabric.autocast():
            validation = validate(kept, architecture, data, settings.batch_size)
        row = {
            "epoch": epoch,
            "learning_rate": schedule.get_last_lr()[0],
            "train_loss": loss_sum / seen,
            "train_accuracy": correct / seen,
            **validation,
        }
        if sampling:
            counts = of_rows[drawn].bincount(minlength=len(data.classes)).tolist()
            row |= {f"drawn_{name}": count for name, count in zip(data.classes, counts, strict=True)}
        if weights is not None:
            row |= {f"loss_weight_{name}": weight for name, weight in zip(data.classes, weights.tolist(), strict=True)}
        if not math.isfinite(row["val_loss"]):
            raise InputError(
                f"learning_rate: {settings.learning_rate:g} let the training diverge in epoch {epoch}; lower it"
            )
        history.append(row)
        if settings.select != "last" and chosen(history, settings.select) is row:
            best = {name: tensor.detach().cpu().clone() for name, tensor in kept.state_dict().items()}
        if epoch < settings.epochs:
            resume.save(state_file, fingerprint, network, optimiser, schedule, history, best, averaged)
        yield row
    network.load_state_dict(best or kept.state_dict())
    network.to("cpu").eval()
    state_file.unlink(missing_ok=True)


def _average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Return what keeps the exponential moving average of weights and batch norms' statistics, if any."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def _schedule(
    optimiser: torch.optim.Optimizer, settings: Training, steps: int, rewound: Training | None
) -> LRScheduler:
    if settings.schedule == "rewind":
        if rewound is None:
            raise ValueError("the schedule rewind needs the training that is to be rewound")
        schedule = _schedule(optimiser, rewound, steps, None)
        with warnings.catch_warnings():  # no update belongs to these steps
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            for _ in range((rewound.epochs - settings.epochs) * steps):
                schedule.step()
        return schedule
    total = settings.epochs * steps
    if settings.schedule == "one-cycle":
        return OneCycleLR(optimiser, settings.learning_rate, total_steps=total, cycle_momentum=False)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate
    return CosineAnnealingLR(optimiser, total)


def _fingerprint(network: nn.Module, data: Prepared, *settings: object) -> str:
    """Return a digest of all that decides how training goes."""
    parts = [data.description, *settings]
    total = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
