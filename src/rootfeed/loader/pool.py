"""Large memory that is used again: touching fresh memory costs ten times a copy.

Chunks are used again from epoch to epoch, scratch from block to block, and what batches lie in when
the last of them was dropped.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rootfeed.engine import ForkLock
from rootfeed.sources import Scratch

__all__ = ["Lent", "Pool", "Slot"]

Rows = npt.NDArray[np.uint8]


class Slot:
    """Memory of one chunk.

    Attributes
    ----------
    rows : ndarray of uint8, shape (capacity, row_bytes)
    order : ndarray of uint32, shape (uses,)
    carried : ndarray of int64
        Rows that travel into the next chunk.
    """

    def __init__(self, capacity: int, uses: int, row_bytes: int) -> None:
        self.rows = np.empty((capacity, row_bytes), np.uint8)
        self.order = np.empty(uses, np.uint32)
        self.carried = np.empty(0, np.int64)


class Lent:
    """Memory that comes back by itself when nobody refers to it any more.

    Parameters
    ----------
    size : int
        Bytes of a piece.
    most : int
        Pieces that are kept when they are not in use.
    """

    def __init__(self, size: int, most: int) -> None:
        self._size = size
        self._spare: deque[Rows] = deque(maxlen=most)

    def take(self) -> Rows:
        """Return a piece. It comes back when it, and every view of it, was dropped."""
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(self._size, np.uint8)
        # NumPy makes this array, which does not own its memory, the base of all views of it.
        lent = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(lent, self._spare.append, memory).atexit = False
        return lent

    def close(self) -> None:
        """Let go of what is not in use."""
        self._spare.clear()


class Pool:
    """Spare slots and scratches. Iterators that run at once get memory of their own."""

    def __init__(self) -> None:
        self._slots: list[Slot] = []
        self._scratches: dict[str, list[Scratch]] = {}
        self._lock = ForkLock()

    def take_slots(self, count: int, capacity: int, uses: int, row_bytes: int) -> list[Slot]:
        """Return slots of at least this size, spare ones first; spare ones that are too small go."""
        with self._lock:
            fitting = [
                slot
                for slot in self._slots
                if len(slot.rows) >= capacity and len(slot.order) >= uses
            ]
            taken, self._slots = fitting[:count], fitting[count:]
        return taken + [Slot(capacity, uses, row_bytes) for _ in range(count - len(taken))]

    def give_slots(self, slots: Sequence[Slot]) -> None:
        """Return slots that nobody writes to any more; two are kept."""
        with self._lock:
            self._slots = [*self._slots, *slots][:2]

    def take_scratch(self, purpose: str) -> Scratch:
        """Return a spare scratch of this purpose, whose buffers have the right sizes, or a new one."""
        with self._lock:
            spare = self._scratches.get(purpose)
            return spare.pop() if spare else Scratch()

    def give_scratch(self, purpose: str, scratch: Scratch) -> None:
        """Return a scratch to the spare ones."""
        with self._lock:
            self._scratches.setdefault(purpose, []).append(scratch)

    def close(self) -> None:
        """Let everything spare go."""
        with self._lock:
            scratches, self._scratches, self._slots = self._scratches, {}, []
        for spare in scratches.values():
            for scratch in spare:
                scratch.close()
