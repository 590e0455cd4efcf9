"""Large memory that is used again: chunks from epoch to epoch, scratch from block to block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from rootfeed.engine import ForkLock
from rootfeed.sources import Scratch

__all__ = ["Pool", "Slot"]


class Slot:
    """Memory of one chunk.

    Attributes
    ----------
    rows : ndarray of uint8, shape (capacity, row_bytes)
    order : ndarray of uint32, shape (order_rows,)
    """

    def __init__(self, capacity: int, order_rows: int, row_bytes: int) -> None:
        self.rows = np.empty((capacity, row_bytes), np.uint8)
        self.order = np.empty(order_rows, np.uint32)


class Pool:
    """Spare slots and scratches. Iterators that run at once get memory of their own."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []
        self._scratches: list[Scratch] = []
        self._lock = ForkLock()

    def take_slots(self, count: int, capacity: int, row_bytes: int) -> list[Slot]:
        """Return slots of one size, spare ones first."""
        with self._lock:
            taken, self._slots = self._slots[:count], self._slots[count:]
        return taken + [Slot(capacity, capacity, row_bytes) for _ in range(count - len(taken))]

    def give_slots(self, slots: Sequence[Slot]) -> None:
        """Return slots that nobody writes to any more; two are kept."""
        with self._lock:
            self._slots = [*self._slots, *slots][:2]

    @contextmanager
    def scratch(self) -> Iterator[Scratch]:
        """Lend a scratch to one thread."""
        with self._lock:
            scratch = self._scratches.pop() if self._scratches else Scratch()
        try:
            yield scratch
        finally:
            with self._lock:
                self._scratches.append(scratch)

    def close(self) -> None:
        """Let everything spare go."""
        with self._lock:
            scratches, self._scratches, self._slots = self._scratches, [], []
        for scratch in scratches:
            scratch.close()
