"""Memory that a thread reuses from page to page, and files that it keeps open meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from rootfeed.schema import Array

__all__ = ["Scratch"]


class Scratch:
    """Buffers by name, grown when needed and never shrunk.

    Touching fresh memory costs ten times a copy, so that a buffer for each page would dominate.
    One thread uses a scratch at a time. What it hands out is valid until the next request of that name.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}
        self._kept: tuple[Any, Any, ExitStack] | None = None
        self._beside: dict[int, Scratch] = {}

    def beside(self, number: int) -> Scratch:
        """Return one of others that go with this one: what all of them hand out is valid together."""
        return self._beside.setdefault(number, Scratch())

    def array(self, name: str, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return an uninitialized array, in the same memory as the last one of this name.

        Parameters
        ----------
        name : str
        shape : int or tuple of int
        dtype : dtype-like
        """
        dtype = np.dtype(dtype)
        size = (shape if isinstance(shape, int) else math.prod(shape)) * dtype.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            self._buffers.pop(name, None)  # let it go before the larger one comes
            buffer = self._buffers[name] = np.empty(-(-size // 4096) * 4096, np.uint8)
        array: Array = buffer[:size].view(dtype).reshape(shape)
        return array

    def grown(self, name: str, kept: int, size: int, dtype: Any) -> Array:
        """Return an array whose first items are those of the last one of this name.

        Parameters
        ----------
        name : str
        kept, size : int
            Items to keep, and items in all.
        dtype : dtype-like
        """
        dtype = np.dtype(dtype)
        before = self._buffers.get(name)
        if before is None or len(before) < size * dtype.itemsize:
            # Half as much again, so that many small pages are not copied for each of them.
            self.array(name, size + (size // 2 if kept else 0), dtype)
            if kept and before is not None:
                self._buffers[name][: kept * dtype.itemsize] = before[: kept * dtype.itemsize]
        return self.array(name, size, dtype)

    def keep(self, key: Any, open_: Callable[[ExitStack], Any]) -> Any:
        """Return what `open_` opened for this key; only the last one is kept open."""
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        self.close()
        stack = ExitStack()
        value = open_(stack)
        self._kept = (key, value, stack)
        return value

    def close(self) -> None:
        """Close what is kept open; the buffers stay."""
        if self._kept is not None:
            stack = self._kept[2]
            self._kept = None
            stack.close()
        for other in self._beside.values():
            other.close()
