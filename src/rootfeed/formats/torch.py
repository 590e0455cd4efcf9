"""Batches as torch tensors. Imports torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from rootfeed.formats.batch import Batch, Format, Names, each, nested
from rootfeed.schema import Array

__all__ = ["torch_format"]


def torch_format(
    names: Names, device: Any = None, pin_memory: bool = False, prefetch: int = 2
) -> Format:
    """Return the format of torch tensors.

    Parameters
    ----------
    names : sequence of str or None
    device : torch.device, str or None
        None gives tensors on the CPU that share memory with the gathered arrays. Another device
        costs one copy.
    pin_memory : bool
        Give tensors on the CPU in page-locked memory.
    prefetch : int
        Batches that are copied to a CUDA device ahead.
    """
    wanted = None if device is None else torch.device(device)
    if wanted is not None and wanted.type == "cuda" and prefetch > 0:
        return CopiedAhead(names, wanted, prefetch)
    return each(ToTorch(names, wanted, pin_memory))


class ToTorch:
    """Makes torch tensors; it can be pickled."""

    def __init__(self, names: Names, device: Any, pin_memory: bool) -> None:
        self.names = names
        self.device = device
        self.pin_memory = pin_memory

    def __call__(self, arrays: tuple[Array, ...]) -> Batch:
        tensors = [torch.from_numpy(array) for array in arrays]
        if self.pin_memory:
            tensors = [tensor.pin_memory() for tensor in tensors]
        if self.device is not None:
            tensors = [tensor.to(self.device) for tensor in tensors]
        return nested(self.names, tensors)


class CopiedAhead:
    """Copies batches to a CUDA device on a stream of its own, some of them ahead; it can be pickled."""

    def __init__(self, names: Names, device: Any, prefetch: int) -> None:
        self.names = names
        self.device = device
        self.prefetch = prefetch

    def __call__(self, batches: Iterator[tuple[Array, ...]]) -> Iterator[Batch]:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]  # torch gives it no type
        waiting: deque[tuple[list[Any], Any]] = deque()
        for arrays in batches:
            # Page-locked memory is given out again only when the copies from it have ended.
            pinned = [torch.from_numpy(array).pin_memory() for array in arrays]
            with torch.cuda.stream(stream):
                tensors = [tensor.to(self.device, non_blocking=True) for tensor in pinned]
                waiting.append((tensors, stream.record_event()))
            if len(waiting) > self.prefetch:
                yield self._ready(*waiting.popleft())
        while waiting:
            yield self._ready(*waiting.popleft())

    def _ready(self, tensors: list[Any], copied: Any) -> Batch:
        """Let the consumer's stream wait for the copies, and keep their memory until it is done."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for tensor in tensors:
            tensor.record_stream(current)
        return nested(self.names, tensors)
