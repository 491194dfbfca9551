"""Digests of tensors."""

import hashlib

import torch


def of_tensors(tensors: dict[str, torch.Tensor], before: bytes = b"") -> str:
    """Return the SHA-256 of some bytes and of tensors with their names, types and shapes, in the order of names."""
    total = hashlib.sha256(before)
    for name, tensor in sorted(tensors.items()):
        values = tensor.detach().cpu().contiguous()
        total.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        total.update(values.reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()
