"""Where tensors live and how many processes share a job: no parameters of the study, but from the environment."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import torch

from stages.errors import InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

VARIABLE = "STUDY_DEVICE"
PROCESSES = "STUDY_PROCESSES"


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


def processes() -> tuple[int, int]:
    """Return how many processes a node share this job, and how many nodes.

    Several tasks of one `srun` are such processes; without it, STUDY_PROCESSES says how many to start on this machine.

    Raises
    ------
    InputError
        STUDY_PROCESSES is no number, or more than there are GPUs.
    """
    if (tasks := int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
        nodes = int(os.environ["SLURM_STEP_NUM_NODES"])
        return tasks // nodes, nodes
    given = os.environ.get(PROCESSES, "1")
    if not given.isdecimal() or not int(given):
        raise InputError(f"{PROCESSES}: {given!r} is no number of processes; 1 or more would be")
    if chosen().type == "cuda" and int(given) > torch.cuda.device_count():
        raise InputError(f"{PROCESSES}: {given} processes, one a GPU, and torch finds {torch.cuda.device_count()} here")
    return int(given), 1


def fabric(threads: int, precision: str = "32-true") -> Fabric:
    """Do as `prepare`; return Lightning Fabric, launched, for this process or all that share the job.

    From here on every process runs the same code, each on its device (`fabric.device`); only the first writes and logs.

    Parameters
    ----------
    threads : int
        Of each process.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

    where = chosen()
    per_node, nodes = processes()
    by_srun = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
    made = Fabric(
        accelerator=where.type,
        devices=per_node,
        num_nodes=nodes,
        strategy="ddp" if per_node * nodes > 1 else "auto",
        precision=precision,
        plugins=[SLURMEnvironment() if by_srun else LightningEnvironment()],
    )
    made.launch()
    prepare(threads)
    if not made.is_global_zero:
        logging.disable(logging.INFO)
    return made
