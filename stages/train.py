"""Stage train: a trained baseline for one seed, or the user's own network as a checkpoint of the study.

By hand::

    python -m stages.train --params params.yaml --data data/prepared --seed 0 \
        --checkpoint models/baseline/seed0.safetensors --history models/baseline/seed0.history.csv
"""

import torch

from stages import command, device
from stages.datasets import store
from stages.errors import InputError
from stages.files import write_rows
from stages.networks import architectures, checkpoint, foreign
from stages.params import Params, load
from stages.training import balance
from stages.training.validation import chosen, row_of_untrained


def main() -> None:
    """Run the stage."""
    parser = command.parser(
        "stages.train", __doc__, data="prepared data", checkpoint="weights to write", history="history to write"
    )
    parser.add_argument("--seed", type=int, required=True, help="of the initial weights and everything drawn")
    arguments = parser.parse_args()
    params = load(arguments.params)
    log = command.logger("train", "seed", arguments.seed)
    data = store.load(arguments.data)
    data.refuse_unknown(params.prune.scores.classes)  # now rather than when the baseline is trained
    data.refuse_unknown(params.prune.scores.crp.classes(), "prune.scores.crp")
    data.refuse_unknown(params.prune.guarded_classes(), "prune.guard.metric")
    for key, section in (("train", params.train), ("prune.finetune", params.prune.finetune)):
        balance.refuse_unknown(section.balance.sampling, data.classes, f"{key}.balance.sampling")
    fabric = device.fabric(params.train.threads, params.train.precision)
    torch.manual_seed(arguments.seed)
    architecture = _architecture(params, data)
    network = architectures.build(architecture.name, architecture.stem, len(data.classes), architecture.image_size)
    _refuse_small_images(architecture)
    if params.train.checkpoint:
        given = params.train.checkpoint
        tensors = foreign.read(given.path, given.sha256, "train.checkpoint")
        foreign.adopt(network, tensors, given.path, new_head=False)
        log.info("starts from %s", given.path)
        history = [row_of_untrained(network.eval(), architecture, data, params.train.batch_size)]
    else:
        _pretrain(network, params)
        history = _train(network, architecture, data, params, arguments, fabric, log)
    if not fabric.is_global_zero:
        return
    checkpoint.save(arguments.checkpoint, network, architecture)
    write_rows(arguments.history, history)
    kept = chosen(history, params.train.select)
    log.info("done: epoch %d with validation accuracy %.4f", kept["epoch"], kept["val_accuracy"])


def _architecture(params: Params, data: store.Prepared) -> checkpoint.Architecture:
    given = params.train.checkpoint
    if given and given.classes != data.classes:
        raise InputError(
            f"train.checkpoint.classes: {', '.join(given.classes)}; the data set's are {', '.join(data.classes)}, "
            "and the order must be the same"
        )
    return checkpoint.Architecture(
        name=params.model.name,
        stem=params.model.stem,
        classes=data.classes,
        image_size=data.description["image_size"],
        centre=data.description["centre"],
        mean=given.mean if given else data.description["mean"],
        std=given.std if given else data.description["std"],
        channels_last=params.train.channels_last,
    )


def _refuse_small_images(architecture: checkpoint.Architecture) -> None:
    size = architecture.image_size
    try:
        architecture.shape()(torch.zeros(1, 3, size, size, device="meta"))
    except RuntimeError:
        raise InputError(f"data.image_size: {size} pixels are too few for {architecture.name}") from None


def _pretrain(network: torch.nn.Module, params: Params) -> None:
    pretrained = params.model.pretrained
    if pretrained == "imagenet":
        foreign.adopt(network, foreign.published(params.model.name), "torchvision's ImageNet weights", new_head=True)
    elif pretrained:
        tensors = foreign.read(pretrained.path, pretrained.sha256, "model.pretrained")
        foreign.adopt(network, tensors, pretrained.path, new_head=True)


def _train(network, architecture, data, params, arguments, fabric, log) -> list[dict[str, float]]:
    from stages.training.loop import fit

    state_file = arguments.checkpoint.with_suffix(".training")
    if fabric.world_size > 1:
        log.info("%d processes share each batch of %d", fabric.world_size, params.train.batch_size)
    history = []
    for row in fit(network, architecture, data, params.train, arguments.seed, fabric, state_file):
        history.append(row)
        log.info(
            "epoch %d of %d: train loss %.3f, validation loss %.3f, accuracy %.4f",
            row["epoch"], params.train.epochs, row["train_loss"], row["val_loss"], row["val_accuracy"],
        )  # fmt: skip
    return history


if __name__ == "__main__":
    command.run(main)
