"""Checkpoints: weights and everything needed to rebuild the network, in one safetensors file without pickles."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from stages.errors import InputError
from stages.files import write_tensors
from stages.networks import digests
from stages.networks.protopnet import ProtoPNet, Prototypes

KEY = "checkpoint"  # several metadata keys would be written in random order and change the file's digest


@dataclass(frozen=True)
class Architecture:
    """What a network is, apart from its weights.

    Attributes
    ----------
    name, stem : str
        See `stages.networks.architectures.build`.
    classes : list of str
        Class names in the order of the logits.
    image_size : int
        Pixels a side.
    mean, std : list of float
        Of each colour channel, for images in [0, 1]; the network takes (image - mean) / std.
    channels_last : bool
        Memory format of the weights in use.
    history : list of [layer, is_output, channels]
        What was pruned, in order, as torch-pruning records it; channel numbers are those of the moment.
    masked : bool
        Whether that is still there, as zeros; see `stages.pruning.masking`.
    prototypes : Prototypes, optional
        Of a ProtoPNet, whose backbone `name` and `stem` name.
    centre : float
        The share of a picture's sides that the network sees of it, around its centre.
    """

    name: str
    stem: str
    classes: list[str]
    image_size: int
    mean: list[float]
    std: list[float]
    channels_last: bool
    history: list[list] = field(default_factory=list)
    masked: bool = False
    prototypes: Prototypes | None = None
    centre: float = 1.0

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format as torch names it."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def unpruned(self) -> "Architecture":
        """Return the architecture before anything was removed."""
        return dataclasses.replace(self, history=[], masked=False)

    def effective(self) -> "Architecture":
        """Return the architecture without what is masked."""
        return dataclasses.replace(self, masked=False)

    def shape(self) -> nn.Module:
        """Return the network on the meta device (shapes without values), with the history replayed if not masked."""
        return self.rebuilt("meta")

    def rebuilt(self, where: str = "cpu") -> nn.Module:
        """Return the network as it is before training, with the history replayed if not masked."""
        from stages.networks.architectures import build

        with torch.device(where):
            network = build(self.name, self.stem, len(self.classes), self.image_size)
            if self.prototypes:
                network = ProtoPNet(network, self.prototypes, len(self.classes))
            network.eval()
        if self.history and not self.masked:
            replay(network, self.image_size, self.history)
        return network

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Return images in [0, 1], N x 3 x H x W, as the network takes them."""
        shape = (1, 3, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        std = torch.tensor(self.std, device=images.device).view(shape)
        return ((images - mean) / std).to(memory_format=self.memory_format)


def replay(network: nn.Module, image_size: int, history: list[list]) -> None:
    """Remove from a network, in place, what a pruning history says."""
    from stages.networks.dependencies import dependency_graph

    dependency_graph(network, image_size).load_pruning_history(history)


def save(path: Path, network: nn.Module, architecture: Architecture) -> None:
    """Write a checkpoint; equal content gives an equal file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    document = dataclasses.asdict(architecture)
    document["sha256"] = _digest(document, tensors)
    write_tensors(path, tensors, {KEY: json.dumps(document, sort_keys=True)})


def load(path: Path) -> tuple[nn.Module, Architecture]:
    """Read a checkpoint: rebuild the network from code, replay what was pruned, load and check the weights.

    Returns
    -------
    network : nn.Module
        On the CPU, in evaluation mode.
    architecture : Architecture

    Raises
    ------
    InputError
        The file is missing, truncated, altered, or no checkpoint of this project.
    """
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {}).get(KEY, "null"))
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: not a readable checkpoint ({error}); make it again") from None
    if document is None:
        raise InputError(f"{path}: a safetensors file without this project's metadata; give it as train.checkpoint")
    if not isinstance(document, dict) or document.pop("sha256", None) != _digest(document, tensors):
        raise InputError(f"{path}: the content does not have the recorded SHA-256; the file is damaged, make it again")
    if prototypes := document.pop("prototypes", None):
        document["prototypes"] = Prototypes.read(prototypes)
    architecture = Architecture(**document)
    network = architecture.shape()
    network.load_state_dict(tensors, assign=True)
    return network.to(memory_format=architecture.memory_format).eval(), architecture


def _digest(document: dict, tensors: dict[str, torch.Tensor]) -> str:
    return digests.of_tensors(tensors, json.dumps(document, sort_keys=True).encode())
