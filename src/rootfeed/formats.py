"""From gathered arrays to what a framework takes. Nothing is copied that need not be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.schema import Array

__all__ = ["Batch", "Convert", "to_numpy", "to_torch"]

Batch = Any
"""``x``; ``(x, y)`` with a target; ``(x, y, w)`` with a target and weights."""

Convert = Callable[[tuple[Array, ...]], Batch]


def to_numpy(arrays: tuple[Array, ...]) -> Batch:
    """Return the arrays themselves: one alone, or a tuple."""
    return arrays[0] if len(arrays) == 1 else arrays


def to_torch(device: Any = None) -> Convert:
    """Return a function that makes torch tensors.

    Parameters
    ----------
    device : torch.device, str or None
        None gives tensors on the CPU that share memory with the gathered arrays. Another device
        costs one copy.

    Raises
    ------
    ArgumentError
        Where torch is not installed.
    """
    convert = ToTorch(device)
    convert.load()
    return convert


class ToTorch:
    """Makes torch tensors; it can be pickled."""

    def __init__(self, device: Any) -> None:
        self.device = device

    def load(self) -> Any:
        """Import torch."""
        try:
            import torch
        except ImportError as error:
            raise ArgumentError(
                "batches for torch need PyTorch, which is not installed: pip install 'rootfeed[torch]'."
            ) from error
        return torch

    def __call__(self, arrays: tuple[Array, ...]) -> Batch:
        torch = self.load()
        tensors = tuple(torch.from_numpy(array) for array in arrays)
        if self.device is not None:
            tensors = tuple(tensor.to(self.device) for tensor in tensors)
        return tensors[0] if len(tensors) == 1 else tensors
