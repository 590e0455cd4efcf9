"""From gathered arrays to what a framework takes. Nothing is copied that need not be."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.schema import Array

__all__ = ["Batch", "Convert", "Use", "distributed_ranks", "mapped", "to_numpy", "to_torch"]

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


Use = Callable[[Iterator[tuple[Array, ...]]], Iterator[Batch]]
"""Makes batches of gathered arrays, one for one."""


def mapped(convert: Convert) -> Use:
    """Return a function that makes each batch when it is asked for."""
    return partial(map, convert)


def to_torch(names: Names, device: Any = None, pin_memory: bool = False, prefetch: int = 2) -> Use:
    """Return a function that makes torch tensors.

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

    Raises
    ------
    ArgumentError
        Where torch is not installed.
    """
    torch = _torch()
    wanted = None if device is None else torch.device(device)
    if wanted is not None and wanted.type == "cuda" and prefetch > 0:
        return CopiedAhead(names, wanted, prefetch)
    return mapped(ToTorch(names, wanted, pin_memory))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ArgumentError(
            "batches for torch need PyTorch, which is not installed: pip install 'rootfeed[torch]'."
        ) from error
    return torch


def distributed_ranks() -> tuple[int, int] | None:
    """Return rank and world size of torch.distributed; None where it is not initialised."""
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()


class ToTorch:
    """Makes torch tensors; it can be pickled."""

    def __init__(self, names: Names, device: Any, pin_memory: bool) -> None:
        self.names = names
        self.device = device
        self.pin_memory = pin_memory

    def __call__(self, arrays: tuple[Array, ...]) -> Batch:
        torch = _torch()
        tensors = [torch.from_numpy(array) for array in arrays]
        if self.pin_memory:
            tensors = [tensor.pin_memory() for tensor in tensors]
        if self.device is not None:
            tensors = [tensor.to(self.device) for tensor in tensors]
        return _nested(self.names, tensors)


class CopiedAhead:
    """Copies batches to a CUDA device on a stream of its own, some of them ahead; it can be pickled."""

    def __init__(self, names: Names, device: Any, prefetch: int) -> None:
        self.names = names
        self.device = device
        self.prefetch = prefetch

    def __call__(self, batches: Iterator[tuple[Array, ...]]) -> Iterator[Batch]:
        torch = _torch()
        stream = torch.cuda.Stream(self.device)
        waiting: deque[tuple[list[Any], Any]] = deque()
        for arrays in batches:
            # Page-locked memory is given out again only when the copies from it have ended.
            pinned = [torch.from_numpy(array).pin_memory() for array in arrays]
            with torch.cuda.stream(stream):
                tensors = [tensor.to(self.device, non_blocking=True) for tensor in pinned]
                waiting.append((tensors, stream.record_event()))
            if len(waiting) > self.prefetch:
                yield self._ready(torch, *waiting.popleft())
        while waiting:
            yield self._ready(torch, *waiting.popleft())

    def _ready(self, torch: Any, tensors: list[Any], copied: Any) -> Batch:
        """Let the consumer's stream wait for the copies, and keep their memory until it is done."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copied)
        for tensor in tensors:
            tensor.record_stream(current)
        return _nested(self.names, tensors)
