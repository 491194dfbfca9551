"""Weights from elsewhere: a user's own file, or those torchvision publishes. Pickled code is never run."""

import pickle
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from stages.errors import InputError
from stages.files import sha256
from stages.networks.architectures import logits_layer


def read(path: Path, digest: str, key: str) -> dict[str, torch.Tensor]:
    """Read a state dict from a `.safetensors`, `.pth` or `.pt` file.

    Parameters
    ----------
    digest : str
        The file's SHA-256 as declared.
    key : str
        The key of params.yaml that names the file, for messages.

    Raises
    ------
    InputError
        The file is missing, has another digest, or holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; {key}.path names it")
    found = sha256(path)
    if found != digest:
        raise InputError(f"{path}: has SHA-256 {found}, {key}.sha256 says {digest}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as weights alone: {str(error).splitlines()[0]}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{path}: is no state dict (names to tensors); save network.state_dict()")
    return content


def published(name: str) -> dict[str, torch.Tensor]:
    """Download torchvision's ImageNet weights of a network (checked against their digest; cached by torch).

    Raises
    ------
    InputError
        There are none for this network, or they cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    try:
        weights = get_model_weights(name).IMAGENET1K_V1
    except ValueError:
        raise InputError(f"model.pretrained: torchvision has no ImageNet weights for {name}") from None
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"model.pretrained: {weights.url}: torch's cache of it holds more than weights") from None
    except (OSError, RuntimeError) as error:
        raise InputError(f"model.pretrained: {weights.url} cannot be downloaded: {error}") from None


def adopt(network: nn.Module, tensors: dict[str, torch.Tensor], origin: str, new_head: bool) -> None:
    """Load tensors into a network, in place, after checking every name and shape.

    Parameters
    ----------
    origin : str
        Where the tensors are from, for messages.
    new_head : bool
        Keep the network's own logits layer where the file's has another shape (other classes).

    Raises
    ------
    InputError
        A tensor is missing, left over, or of another shape; the message names the first.
    """
    tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    # torchvision's own DenseNet files have the names of an older version: denselayer1.norm.1.weight.
    tensors = {re.sub(r"(denselayer\d+\.[a-z]+)\.([12])\.", r"\1\2.", name): values for name, values in tensors.items()}
    own = network.state_dict()
    if new_head:
        head = logits_layer(network)
        for name in (f"{head}.weight", f"{head}.bias"):
            if name in tensors and tensors[name].shape != own[name].shape:
                tensors[name] = own[name]
    for name in own.keys() - tensors.keys():
        if name.endswith("num_batches_tracked"):
            tensors[name] = own[name]
    for name in sorted(own.keys() ^ tensors.keys()):
        problem = "is missing" if name in own else "is not part of the declared architecture"
        raise InputError(f"{origin}: tensor {name} {problem}; check model.name and model.stem")
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            shapes = f"{list(tensors[name].shape)}, the declared architecture needs {list(tensor.shape)}"
            raise InputError(f"{origin}: tensor {name} has shape {shapes}")
    network.load_state_dict(tensors)
