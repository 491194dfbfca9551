"""Interleaved timing, and where it was done."""

import os
import platform
import statistics
import time
from collections.abc import Callable

import torch

from stages import device
from stages.errors import InputError


def medians(runs: dict[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Return the median seconds of each of `count` interleaved runs, after one of each that does not count."""
    synchronise = torch.cuda.synchronize if device.chosen().type == "cuda" else lambda: None
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(count + 1):
        for name, run in runs.items():
            synchronise()
            begin = time.perf_counter()
            run()
            synchronise()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def use_threads() -> int:
    """Let torch use two threads, or one where there is one core; return how many."""
    threads = min(2, os.cpu_count() or 1)
    torch.set_num_threads(threads)
    return threads


def precision() -> str:
    """Return the STUDY_PRECISION that is asked for.

    Raises
    ------
    InputError
        There is no such precision.
    """
    asked = os.environ.get("STUDY_PRECISION", "32-true")
    if asked not in ("32-true", "bf16-mixed"):
        raise InputError(f"STUDY_PRECISION: {asked!r} is none of 32-true, bf16-mixed")
    return asked


def machine() -> str:
    """Return what the benchmark runs on."""
    return torch.cuda.get_device_name() if device.chosen().type == "cuda" else platform.machine()
