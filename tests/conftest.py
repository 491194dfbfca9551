"""A small prepared data set and small trained-looking networks, shared by the tests."""

import copy
import functools
import importlib
import io
import logging
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from stages.datasets import fashion_mnist, splits, store
from stages.errors import InputError
from stages.networks import architectures
from stages.networks.checkpoint import Architecture
from stages.networks.protopnet import ProtoPNet, Prototypes
from stages.params import load

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def embedded():
    return ROOT / "data" / "embedded" / "fashion-mnist.npz"


@pytest.fixture(scope="session")
def params():
    return load(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def prepared_folder(tmp_path_factory, embedded):
    folder = tmp_path_factory.mktemp("prepared")
    source = fashion_mnist.read(embedded)
    split = splits.assign(source.records, source.classes, {"val": 0.125, "test": 0.25}, 0)
    source = replace(source, records=source.records.assign(split=split))
    store.write(folder, "fashion-mnist", source, splits.limit(source.records, 40, 0), 16)
    return folder


@pytest.fixture(scope="session")
def prepared(prepared_folder):
    return store.load(prepared_folder)


def lively(network, seed=0):
    """Give batch norms statistics and weights as training would leave them: none of them trivial."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(uniform(module.running_mean, -0.3, 0.3))
            module.running_var.copy_(uniform(module.running_var, 0.5, 2))
            module.weight.data.copy_(uniform(module.weight, 0.5, 1.5))
            module.bias.data.copy_(uniform(module.bias, -0.3, 0.3))
    return network.eval()


@functools.lru_cache(maxsize=4)  # a VGG takes seconds, and is half a gigabyte
def built(name, stem, seed, image_size):
    """Return a lively network of ten classes, and the state of the random numbers after it was made."""
    torch.manual_seed(seed)
    return lively(architectures.build(name, stem, 10, image_size), seed), torch.get_rng_state()


@pytest.fixture
def build():
    """Return a function that makes a lively network of ten classes."""

    def make(name, stem="imagenet", seed=0, image_size=32):
        network, state = built(name, stem, seed, image_size)
        torch.set_rng_state(state)
        return copy.deepcopy(network)

    return make


@pytest.fixture
def architecture(prepared):
    return Architecture("resnet8", "imagenet", prepared.classes, 16, [0.2] * 3, [0.3] * 3, channels_last=False)


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(6, 3, 32, 32)).astype(np.float32))


CLASSES = [0, 0, 1, 2, 2, 3, 9]
DIMENSION = 8  # of the prototypes of `protopnet`


def protopnet(classes=CLASSES, similarity="log", layer=None):
    """Return a lively ProtoPNet of ten classes for images of 16 pixels, and its architecture."""
    torch.manual_seed(0)
    prototypes = Prototypes(layer, DIMENSION, similarity, list(classes))
    network = ProtoPNet(lively(architectures.build("resnet8", "imagenet", 10, 16)), prototypes, 10).eval()
    names = [f"class {label}" for label in range(10)]
    return network, Architecture(
        "resnet8", "imagenet", names, 16, [0.2] * 3, [0.3] * 3, channels_last=False, prototypes=prototypes
    )


def in_process(stage, *arguments):
    """Run a stage in this process and return what its command would: status, what it prints, its refusal.

    The imports of a process of its own take longer than most tests' networks.
    """
    main = importlib.import_module(f"stages.{stage}").main
    log, printed, refusal = logging.getLogger("study"), io.StringIO(), None
    handler = logging.StreamHandler(printed)
    before = log.level, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with mock.patch.object(sys, "argv", [stage, *map(str, arguments)]), redirect_stdout(printed):
            main()
    except InputError as error:
        refusal = " ".join(str(error).split())
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        torch.set_num_threads(before[1])
        torch.use_deterministic_algorithms(before[2])
    return SimpleNamespace(
        returncode=2 if refusal else 0, stdout=printed.getvalue(), stderr=f"{refusal}\n" if refusal else ""
    )
