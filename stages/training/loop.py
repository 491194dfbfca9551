"""Training: batches from the prepared array, updates of the weights, one row of history an epoch."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.transforms.v2 import MixUp

from stages.datasets.store import Prepared, derived_seed
from stages.errors import InputError
from stages.networks import sharing
from stages.networks.checkpoint import Architecture
from stages.params.training import Distillation, Training
from stages.training import balance, optimisers, resume, taps
from stages.training.augment import Draws, augment
from stages.training.loss import loss
from stages.training.validation import chosen, row_of_untrained, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fit(
    network: nn.Module,
    architecture: Architecture,
    data: Prepared,
    settings: Training,
    seed: int,
    fabric: Fabric,
    state_file: Path,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    rewound: Training | None = None,
    groups: Callable[[nn.Module], list[dict]] | None = None,
    costs: Callable[[Any, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None,
    about: dict | None = None,
) -> Iterator[dict[str, float]]:
    """Train a network in place, yielding a row of history after each epoch; at the end it holds the chosen weights.

    All that is random in an epoch comes from `seed` and the epoch's number, and the state after each epoch is kept
    in `state_file`: a run that was killed goes on after its last whole epoch and ends with the same weights. Rows
    of epochs that an earlier run finished are yielded again, first. With `settings.ema`, a decay, the exponential
    moving average of the weights over updates (after Polyak and Juditsky, 1992) is what is validated, chosen and kept.
    With `settings.mixup`, pairs of images and their labels are mixed (Zhang et al., 2018, arXiv 1710.09412); an image
    then counts as one of the class that has the larger share.

    The processes of `fabric` share each batch evenly (DistributedDataParallel: Li et al., 2020, arXiv 2006.15704): what
    is drawn for an image, its partner in mixup and the mean gradient are those of one process, up to rounding. On GPUs
    batch norms see the whole batch (SyncBatchNorm); elsewhere each process normalises its own part, and the statistics
    of the first are kept. Each draws its own dropout, and `settings.balance.loss` weighs each part by itself.

    Parameters
    ----------
    network : nn.Module
        As built or loaded, the same in every process; moved to the device of `fabric` and back to the CPU.
    fabric : Fabric
        Launched, with the precision of the training; see `stages.device.fabric`.
    state_file : Path
        Deleted when training ends. A state of another training (other settings, weights, data or seed) is not used.
    teacher, distillation : optional
        A network, in evaluation mode, that the loss is to follow, too; see `stages.training.loss`.
    rewound : optional
        With the schedule `rewind`: the training of which the learning rates of the last epochs are taken (Renda et al.,
        2020, arXiv 2003.02389, learning-rate rewinding).
    groups : function of the network, optional
        Returns the groups of parameters that are trained, as torch's optimisers take them; `scale` of a group is what
        the learning rate is multiplied by. All parameters alike by default.
    costs : function of (what the network returns in training mode, labels), optional
        Returns the logits in it, and what is added to their loss; no mixup then.
    about : dict, optional
        What decides `groups` and `costs`: the state of a training by others is not used.

    Raises
    ------
    InputError
        The training diverged, or its batches cannot be shared evenly.

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
    of_rows = data.labels(rows)
    images_an_epoch = len(balance.epoch(of_rows, data.classes, sampling))
    steps, size = max(1, images_an_epoch // settings.batch_size), min(settings.batch_size, images_an_epoch)
    if size % fabric.world_size:
        raise InputError(f"batch_size: {size} images cannot be shared evenly by {fabric.world_size} processes")
    device = fabric.device
    weights = balance.loss_weights(of_rows, settings.balance.loss)
    weights = None if weights is None else weights.float().to(device)
    trained = _for_training(network, fabric).to(device, memory_format=architecture.memory_format).train()
    optimiser = optimisers.optimiser(groups(trained) if groups else trained.parameters(), settings)
    schedule = _schedule(optimiser, settings, steps, rewound)
    sections = [section and section.model_dump() for section in (settings, distillation, rewound)]
    sections += [about] if about else []
    fingerprint = _fingerprint(trained, data, seed, *sections)
    mix = MixUp(alpha=settings.mixup, num_classes=len(data.classes)) if settings.mixup else None
    averaged = _average(trained, settings.ema)
    kept = averaged.module if averaged else trained
    history, best = resume.load(state_file, fingerprint, trained, optimiser, schedule, averaged)
    if history:
        words = "goes on after epoch %d of %s, which an earlier run left"
        logging.getLogger("study").info(words, len(history), state_file.name)
    yield from history
    model, fabric_optimiser = fabric.setup(trained, optimiser)
    ahead = 1 if mix else 0  # the partner of the first own image is the one before it, or the last
    share = sharing.part(size, fabric)
    own = torch.arange(share.start - ahead, share.stop) % size

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
        with taps.used_alone(trained):
            for step in range(steps):
                images, labels = data.batch(order[step * size : (step + 1) * size][own.numpy()])
                images = augment(images.to(device), settings.augment, Draws(size, own))
                labels = labels.to(device)
                images, targets = (part[ahead:] for part in mix(images, labels)) if mix else (images, labels)
                batch = architecture.normalise(images)
                with _own_randomness(fabric, seed, epoch, step):
                    found = model(batch)
                logits, more = costs(found, targets) if costs else (found, 0.0)
                cost = loss(logits.float(), targets, taught_by(batch), distillation, weights, settings.label_smoothing)
                cost = cost + more
                fabric_optimiser.zero_grad()
                fabric.backward(cost)
                fabric_optimiser.step()
                schedule.step()
                if averaged:
                    averaged.update_parameters(trained)
                loss_sum += cost.item() * len(batch)
                of_class = targets.argmax(1) if mix else labels
                correct += (logits.argmax(1) == of_class).sum().item()
                seen += len(batch)
        sums = torch.tensor([loss_sum, correct, seen], dtype=torch.float64)
        loss_sum, correct, seen = sharing.total(sums, fabric).tolist()
        sharing.take_buffers_of_first(kept.eval(), fabric)
        with fabric.autocast():
            validation = validate(kept, architecture, data, settings.batch_size, fabric)
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
        if epoch < settings.epochs and fabric.is_global_zero:
            resume.save(state_file, fingerprint, trained, optimiser, schedule, history, best, averaged)
        yield row
    network.load_state_dict(best or kept.state_dict())
    network.to("cpu").eval()
    if fabric.is_global_zero:
        state_file.unlink(missing_ok=True)


def _for_training(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Return what is trained: the network, or a copy whose batch norms see what all processes have (CUDA alone can)."""
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(network))
    return network


@contextlib.contextmanager
def _own_randomness(fabric: Fabric, *parts: int) -> Iterator[None]:
    """Let each of several processes draw its own dropout, and leave what they draw together as it is."""
    if fabric.world_size == 1:
        yield
        return
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(derived_seed(*parts, fabric.global_rank))
        yield


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
    rates = [settings.learning_rate * group.get("scale", 1.0) for group in optimiser.param_groups]
    if settings.schedule == "one-cycle":
        return OneCycleLR(optimiser, rates, total_steps=total, cycle_momentum=False)
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    return CosineAnnealingLR(optimiser, total)


def _fingerprint(network: nn.Module, data: Prepared, *settings: object) -> str:
    """Return a digest of all that decides how training goes."""
    parts = [data.description, *settings]
    total = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
