"""From gathered arrays to what a framework takes. Nothing is copied that need not be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.schema import Array

__all__ = ["Batch", "Convert", "to_numpy", "to_torch"]

Batch = Any
"""``x``; ``(x, y)`` with a target; ``(x, y, w)`` with a target and weights; ``x`` may be a dict."""

Convert = Callable[[tuple[Array, ...]], Batch]


Names = Sequence[str] | None
"""Names of the first arrays, which ``x`` is a dict of; None where ``x`` is the first array."""


def to_numpy(names: Names) -> Convert:
    """Return a function that nests arrays as a batch: ``x``, ``(x, y)`` or ``(x, y, w)``."""
    return partial(_nested, names)


def _nested(names: Names, arrays: Sequence[Any]) -> Batch:
    if names is not None:
        count = len(names)
        arrays = [dict(zip(names, arrays, strict=False)), *arrays[count:]]
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def to_torch(names: Names, device: Any = None) -> Convert:
    """Return a function that makes torch tensors.

    Parameters
    ----------
    names : sequence of str or None
    device : torch.device, str or None
        None gives tensors on the CPU that share memory with the gathered arrays. Another device
        costs one copy.

    Raises
    ------
    ArgumentError
        Where torch is not installed.
    """
    convert = ToTorch(names, device)
    convert.load()
    return convert


class ToTorch:
    """Makes torch tensors; it can be pickled."""

    def __init__(self, names: Names, device: Any) -> None:
        self.names = names
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
        tensors = [torch.from_numpy(array) for array in arrays]
        if self.device is not None:
            tensors = [tensor.to(self.device) for tensor in tensors]
        return _nested(self.names, tensors)
