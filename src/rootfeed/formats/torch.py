"""Batches as torch tensors. Imports torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from rootfeed.errors import ArgumentError
from rootfeed.formats.batch import Batch, Format, Names, each, nested
from rootfeed.schema import Array

__all__ = ["hand_out", "page_locked", "torch_format"]

_COPY_BYTES = 2 << 20
"""Of batches that are copied together, where more than one are as small."""

_ALIGNED_BYTES = 256

_BEGUN = 2
"""Copies that were handed out, and that the device may not have come to while another one begins."""

Batches = Sequence[tuple[Array, ...]]


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
        Batches that are copied to a CUDA device ahead, at the least: small ones are copied together.
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
        if self.pin_memory or (self.device is not None and self.device.type != "cpu"):
            _refuse_workers()
        tensors = [
            page_locked(array) if self.pin_memory else torch.from_numpy(array) for array in arrays
        ]
        if self.device is not None:
            tensors = [tensor.to(self.device) for tensor in tensors]
        return nested(self.names, tensors)


class CopiedAhead:
    """Copies batches to a CUDA device, on a stream for it, some of them ahead; it can be pickled."""

    def __init__(self, names: Names, device: Any, prefetch: int) -> None:
        self.names = names
        self.device = device
        self.prefetch = prefetch

    def __call__(self, batches: Iterator[tuple[Array, ...]]) -> Iterator[Batch]:
        """Yield batches on the device; an error, after the batches before it."""
        _refuse_workers()
        device = self.device
        if device.index is None:
            device = torch.device(device.type, torch.cuda.current_device())
        waiting: deque[_Copied] = deque()
        begun: deque[Any] = deque()
        try:
            for group in _together(batches):
                while len(begun) >= _BEGUN:  # copies would pile up where the device is far behind
                    begun.popleft().synchronize()
                waiting.append(_Copied(group, device))
                while sum(map(len, waiting)) - len(waiting[0]) >= self.prefetch:
                    begun.append(torch.cuda.current_stream(device).record_event())
                    yield from waiting.popleft().handed_out(self.names)
        except Exception:
            while waiting:
                yield from waiting.popleft().handed_out(self.names)
            raise
        while waiting:
            yield from waiting.popleft().handed_out(self.names)


class _Copied:
    """Batches that are copied to a device in one piece of memory."""

    def __init__(self, group: Batches, device: Any) -> None:
        # Page-locked memory is given out again only when the copies from it have ended.
        memory, places = _packed(group)
        stream = _stream(device)
        with torch.inference_mode(False), torch.cuda.stream(stream):
            storage = memory.to(device, non_blocking=True).untyped_storage()
            self._copied = stream.record_event()
            self._batches = deque(
                [_placed(storage, next(places), array) for array in arrays] for arrays in group
            )

    def __len__(self) -> int:
        return len(self._batches)

    def handed_out(self, names: Names) -> Iterator[Batch]:
        while self._batches:
            tensors = self._batches.popleft()
            hand_out(tensors, self._copied)
            yield nested(names, tensors)


def hand_out(tensors: Sequence[Any], made: Any) -> None:
    """Let the consumer's stream wait for tensors, and keep their memory until it is done with them.

    Parameters
    ----------
    tensors : sequence of torch.Tensor
        On a CUDA device.
    made : torch.cuda.Event
        After which they are there.
    """
    current = torch.cuda.current_stream(tensors[0].device)
    current.wait_event(made)
    for tensor in tensors:
        tensor.record_stream(current)


def page_locked(array: Array) -> Any:
    """Return an array as a tensor in page-locked memory."""
    memory, _ = _packed([(array,)])
    return _placed(memory.untyped_storage(), 0, array)


@cache
def _stream(device: Any) -> Any:
    """Return the stream of all copies to a device: memory is not given out again to other streams."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch gives it no type


def _together(batches: Iterator[tuple[Array, ...]]) -> Iterator[Batches]:
    """Yield batches that are copied together; before an error, those that came before it."""
    group: list[tuple[Array, ...]] = []
    size = 0
    try:
        for arrays in batches:
            group.append(arrays)
            size += sum(array.nbytes for array in arrays)
            if size >= _COPY_BYTES:
                yield group
                group, size = [], 0
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def _packed(group: Batches) -> tuple[Any, Iterator[int]]:
    """Return page-locked memory that holds the arrays of batches, and where each of them lies."""
    arrays = [array for each in group for array in each]
    places = [0, *accumulate(-(-array.nbytes // _ALIGNED_BYTES) * _ALIGNED_BYTES for array in arrays)]
    memory = _page_locked_bytes(places[-1])
    into: Array = memory.numpy()
    for place, array in zip(places, arrays, strict=False):
        # By NumPy: torch wakes threads for it, which takes longer than to copy.
        np.copyto(into[place : place + array.nbytes].view(array.dtype).reshape(array.shape), array)
    return memory, iter(places)


def _page_locked_bytes(count: int) -> Any:
    return torch.empty(count, dtype=torch.uint8, device="cpu", pin_memory=True)


def _placed(storage: Any, place: int, array: Array) -> Any:
    """Return a tensor like an array, in memory of a device; it is no view of another tensor.

    Views would know of each other's changes, and gradients be refused for them.
    """
    like = torch.from_numpy(array)
    made = torch.empty(0, dtype=like.dtype, device=storage.device)
    # Its stubs want strides, too.
    return made.set_(storage, place // like.itemsize, like.shape)  # type: ignore[call-overload]


def _refuse_workers() -> None:
    """Refuse to use a device in a worker of a DataLoader: with the worker ends what it has there."""
    if get_worker_info() is not None:
        raise ArgumentError(
            "workers of a DataLoader hand on batches in memory that they share, not on a device nor "
            "page-locked: write DataLoader(loader.torch(), batch_size=None, num_workers=2, "
            "pin_memory=True), and copy what comes from it. Or iterate over loader.torch('cuda') "
            "itself: threads decode, and batches are copied ahead."
        )
