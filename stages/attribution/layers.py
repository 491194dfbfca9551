"""Operations of a canonical network as modules, so that rules can be attached to them."""

import torch
from torch import nn


class Sum(nn.Module):
    """Sum of two tensors, as at the end of a residual block."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return `first + second`."""
        return first + second


class Gate(nn.Module):
    """Product of a signal and what gates it, as in squeeze-and-excitation (Hu et al., 2018, arXiv 1709.01507)."""

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Return `first * second`."""
        return first * second


class Scale(nn.Module):
    """Channels times constants, as in layer scale (Touvron et al., 2021, arXiv 2103.17239).

    Parameters
    ----------
    factors : tensor, broadcast to the input
    """

    def __init__(self, factors: torch.Tensor):
        super().__init__()
        self.register_buffer("factors", factors)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return `factors * values`."""
        return self.factors * values
