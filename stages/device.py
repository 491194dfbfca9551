"""Where tensors live. The device is no parameter of the study: it comes from the environment."""

import os

import torch

from stages.errors import InputError

VARIABLE = "STUDY_DEVICE"


def chosen() -> torch.device:
    """Return the device that STUDY_DEVICE names (`cpu`, `cuda`); without it, CUDA where there is one.

    Raises
    ------
    InputError
        Another name, or CUDA where there is none.
    """
    name = os.environ.get(VARIABLE, "cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"{VARIABLE}: {name!r} is none of cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(f"{VARIABLE}: cuda asked for, torch finds none here")
    return torch.device(name)


def prepare(threads: int) -> torch.device:
    """Fix the number of threads and deterministic kernels; return the chosen device."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return chosen()
