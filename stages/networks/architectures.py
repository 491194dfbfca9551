"""Networks by name: torchvision's, with a stem for small images, the small ResNets of He et al. for CIFAR, an MLP."""

import difflib
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

from stages.errors import InputError


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 with 16, 32 and 64 channels (He et al., 2016, arXiv 1512.03385, section 4.2).

    The shortcut where the width changes is a 1 x 1 convolution (option B).
    """

    def __init__(self, depth: int, classes: int):
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        shortcut = None
        if width_in != width:
            shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        first = BasicBlock(width_in, width, stride, shortcut)
        return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(blocks - 1)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits, N x classes, for images, N x 3 x H x W."""
        hidden = self.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.fc(self.avgpool(hidden).flatten(1))


class Mlp(nn.Sequential):
    """Three hidden layers of one width, dropout after the first (Yeom et al., 2021, arXiv 1912.08881, section 4.1).

    Parameters
    ----------
    inputs : int
        Numbers of one input, of whatever shape.
    """

    def __init__(self, inputs: int, classes: int, width: int = 1000):
        super().__init__(
            nn.Flatten(),
            nn.Linear(inputs, width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )


def build(name: str, stem: str, classes: int, image_size: int) -> nn.Module:
    """Return a freshly initialised network.

    Parameters
    ----------
    name : str
        `mlp` (`Mlp`), `resnet8`, `resnet20`, `resnet56` (`CifarResNet`), or torchvision's name of a network.
    stem : {"imagenet", "small"}
        `small` replaces the 7 x 7 convolution of stride 2 and the max-pool of a torchvision ResNet by one 3 x 3
        convolution of stride 1.
    classes : int
        Number of logits.
    image_size : int
        Pixels a side; decides the first layer of an MLP.

    Raises
    ------
    InputError
        The stem does not exist for this network.
    """
    if name in ("resnet8", "resnet20", "resnet56"):
        return CifarResNet(int(name.removeprefix("resnet")), classes)
    if name == "mlp":
        return Mlp(3 * image_size**2, classes)
    network = getattr(models, name)(weights=None, num_classes=classes)
    if stem == "small":
        if not name.startswith("resnet"):
            raise InputError(f"model.stem: {name} has no small stem; use imagenet")
        network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return network


def logits_layer(network: nn.Module) -> str:
    """Return the name of the layer that computes the logits: the last linear layer."""
    return [name for name, module in network.named_modules() if isinstance(module, nn.Linear)][-1]


def scored_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return, by name, every convolution and linear layer but the logits: the layers that have filters."""
    head = logits_layer(network)
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and name != head
    }


def prunable_layers(network: nn.Module, include: list[str], exclude: list[str], key: str = "prune.layers") -> list[str]:
    """Return the names of the scored layers that match a pattern (`fnmatch`) of `include` and none of `exclude`.

    Raises
    ------
    InputError
        There are none, or a pattern matches none: what it was to keep in or out is not what it does.
    """

    def matches(name: str, patterns: list[str]) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    layers = scored_layers(network)
    for pattern in [*include, *exclude]:
        if not any(matches(name, [pattern]) for name in layers):
            raise InputError(f"{key}: {no_layer(pattern, layers)}")
    names = [name for name in layers if matches(name, include) and not matches(name, exclude)]
    if not names:
        raise InputError(f"{key}: include {include} and exclude {exclude} leave none of the layers {', '.join(layers)}")
    return names


def named_channels(network: nn.Module, words: Sequence[str], key: str) -> dict[str, list[int]]:
    """Return, by layer, the channels that words such as `layer4.1.conv2:7,31` name.

    Raises
    ------
    InputError
        A word is none such, or names no layer, or a channel that it has not.
    """
    layers = scored_layers(network)
    found: dict[str, list[int]] = {}
    for word in words:
        layer, _, channels = word.rpartition(":")
        if not re.fullmatch(r"\d+(,\d+)*", channels):
            raise InputError(f"{key}: {word!r} must be a layer and its channels, such as {next(iter(layers))}:0,3")
        if layer not in layers:
            raise InputError(f"{key}: {no_layer(layer, layers)}")
        for channel in map(int, channels.split(",")):
            if channel >= (count := filters(layers[layer])):
                raise InputError(f"{key}: {layer} has the channels 0 to {count - 1}, not {channel}")
            found.setdefault(layer, []).append(channel)
    return found


def _near(name: str, layers: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, layers, n=2)


def no_layer(name: str, layers: Iterable[str]) -> str:
    """Return that a name is none of these layers, and which would be right."""
    like = _near(name, layers)
    return f"{name!r} is no layer; " + (f"did you mean {' or '.join(like)}?" if like else f"it has {', '.join(layers)}")


def filters(layer: nn.Module) -> int:
    """Return the number of output channels of a convolution or linear layer."""
    return layer.weight.shape[0]


def widths(network: nn.Module) -> dict[str, int]:
    """Return the number of filters of every layer but the logits."""
    return {name: filters(layer) for name, layer in scored_layers(network).items()}
