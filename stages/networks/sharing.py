"""What the processes that share a job do together: take their parts of a list, and add up what they found.

Every function takes Lightning Fabric, launched, or None for a process that is alone; then it changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric  # takes as long to import as torch


def part(count: int, fabric: Fabric | None) -> slice:
    """Return which of `count` things are this process's: a consecutive part, of equal size where that divides."""
    if fabric is None:
        return slice(0, count)
    rank, size = fabric.global_rank, fabric.world_size
    return slice(count * rank // size, count * (rank + 1) // size)


def total(tensor: torch.Tensor, fabric: Fabric | None) -> torch.Tensor:
    """Return the sum over processes of a tensor that has the same shape in each, where it was."""
    if fabric is None or fabric.world_size == 1:
        return tensor
    return fabric.all_reduce(tensor.to(fabric.device), reduce_op="sum").to(tensor.device)


def take_buffers_of_first(network: nn.Module, fabric: Fabric) -> None:
    """Give the network of every process the first one's buffers, such as batch norms' statistics."""
    if fabric.world_size > 1:
        for buffer in network.buffers():
            torch.distributed.broadcast(buffer, 0)
