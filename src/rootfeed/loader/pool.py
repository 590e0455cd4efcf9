"""Large memory that is used again: touching fresh memory costs ten times a copy.

Chunks are used again from epoch to epoch, scratch from block to block, and what batches lie in when
the last of them was dropped.
"""

from __future__ import annotations

import weakref
from collections import deque

import numpy as np
import numpy.typing as npt

from rootfeed.engine import ForkLock
from rootfeed.plan import Selection
from rootfeed.sources import Scratch

__all__ = ["Lent", "Pool", "Slot", "Slots"]

CHUNKS_IN_MEMORY = 2

Rows = npt.NDArray[np.uint8]

_CARRIED_ROWS = 1 << 12
"""That are copied at once, in memory of their own."""


class Slot:
    """Memory of one chunk.

    Attributes
    ----------
    rows : ndarray of uint8, shape (rows, row_bytes)
        Rows that stay in memory come first; those of the chunk lie `shift` rows further than they
        would if there were one slot only.
    shift : int
    order : ndarray of uint32, shape (uses,)
    carried : list of slice or ndarray of int64
        Rows that travel into the next chunk, as if there were one slot only.
    """

    def __init__(self, rows: Rows, shift: int, uses: int) -> None:
        self.rows = rows
        self.shift = shift
        self.order = np.empty(uses, np.uint32)
        self.carried: list[Selection] = []

    def carry(self, out: Rows) -> None:
        """Copy the rows that travel."""
        own, start = self.rows[self.shift :], 0
        for rows in self.carried:
            if isinstance(rows, slice):
                out[start : start + rows.stop - rows.start] = own[rows]
                start += rows.stop - rows.start
                continue
            for first in range(0, len(rows), _CARRIED_ROWS):
                some = rows[first : first + _CARRIED_ROWS]
                out[start : start + len(some)] = own[some]
                start += len(some)


class Slots:
    """The memory of an iteration: two chunks, and the rows that stay.

    Parameters
    ----------
    kept : int
        Rows that stay in memory.
    capacity : int
        Rows of a chunk.
    uses : int
        Most rows that a chunk gives to batches.
    row_bytes : int

    Attributes
    ----------
    kept : ndarray of uint8, shape (kept, row_bytes)
    filled : bool
        Whether `kept` holds what it should.
    slots : tuple of Slot
    """

    def __init__(self, kept: int, capacity: int, uses: int, row_bytes: int) -> None:
        self.size = (kept, capacity, uses, row_bytes)
        if kept:
            rows = np.empty((kept + CHUNKS_IN_MEMORY * capacity, row_bytes), np.uint8)
            self.slots = tuple(Slot(rows, capacity * each, uses) for each in range(CHUNKS_IN_MEMORY))
        else:
            self.slots = tuple(
                Slot(np.empty((capacity, row_bytes), np.uint8), 0, uses) for _ in range(CHUNKS_IN_MEMORY)
            )
        self.kept = self.slots[0].rows[:kept]
        self.filled = False

    def suffice(self, kept: int, capacity: int, uses: int, row_bytes: int) -> bool:
        """Whether they hold so much."""
        mine = self.size
        return (mine[0], mine[3]) == (kept, row_bytes) and mine[1] >= capacity and mine[2] >= uses


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
        self._slots: Slots | None = None
        self._scratches: dict[str, list[Scratch]] = {}
        self._lock = ForkLock()

    def take_slots(self, kept: int, capacity: int, uses: int, row_bytes: int) -> Slots:
        """Return slots of at least this size; spare ones that are too small go."""
        with self._lock:
            spare, self._slots = self._slots, None
        if spare is not None and spare.suffice(kept, capacity, uses, row_bytes):
            return spare
        return Slots(kept, capacity, uses, row_bytes)

    def give_slots(self, slots: Slots) -> None:
        """Return slots that nobody writes to any more; one set of them is kept."""
        with self._lock:
            self._slots = slots

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
            scratches, self._scratches, self._slots = self._scratches, {}, None
        for spare in scratches.values():
            for scratch in spare:
                scratch.close()
