"""Large memory that is used again, and which blocks are in it: fresh memory costs ten times a copy.

Rows lie in an arena. Blocks take room there when they are read, and give it back when the last batch
that needs them was gathered. What batches lie in comes back when the last of them was dropped.
"""

from __future__ import annotations

import weakref
from bisect import bisect
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from threading import Condition, Lock

import numpy as np
import numpy.typing as npt

from rootfeed.dataset.dataset import Taken
from rootfeed.errors import ArgumentError
from rootfeed.layout import LINE_BYTES
from rootfeed.plan import Epoch, Read, own_order
from rootfeed.processes import ForkLock
from rootfeed.sources import Scratch

__all__ = ["Arena", "ClosedError", "Held", "HeldBlock", "Lent", "Pool"]

Rows = npt.NDArray[np.uint8]
Places = npt.NDArray[np.uint32]
Runs = tuple[tuple[int, int], ...]
"""Rows ``[start, stop)`` of an arena, one run after another."""

_SPARE = 1.25
"""How much larger a spare piece of memory may be than what is asked for."""

_SMALL_BYTES = 1 << 16
"""How many bytes larger it may be in any case."""


class ClosedError(Exception):
    """Nobody wants any more what was waited for."""


class Arena:
    """Memory of rows: those that stay, and behind them those of blocks that come and go.

    Parameters
    ----------
    cached : int
        Rows that stay.
    rows : int
        Room for others.
    row_bytes : int

    Raises
    ------
    ArgumentError
        Where the places of rows would be no numbers of 32 bits.

    Attributes
    ----------
    rows : ndarray of uint8, shape (cached + rows, row_bytes)
    cached : int
    places : list of ndarray of uint32
        For each stratum that stays, where its rows lie, in the order of the dataset; empty where they
        are ``0 .. n - 1``, and for the others.
    elements : list of ndarray of uint8
        Where the vectors of rows that stay lie.
    owner : object
        Who has filled it with rows that stay.
    """

    def __init__(self, cached: int, rows: int, row_bytes: int) -> None:
        if cached + rows > 1 << 32:
            raise ArgumentError(
                f"{cached + rows} rows would be in memory together, and 2^32 are possible: "
                "choose less memory."
            )
        self.cached = cached
        self.rows: Rows = np.empty((cached + rows, row_bytes), np.uint8)
        self.places: list[npt.NDArray[np.uint32]] = []
        self.elements: list[Rows] = []
        self.owner: object = None
        self.open(0)

    def open(self, most_bytes: int) -> None:
        """Begin anew, with all room free.

        Parameters
        ----------
        most_bytes : int
            That blocks may take, whatever that is for each: less than fit.
        """
        self._changed = Condition()  # a new one, too: a fork may have left it locked
        self._free = [(self.cached, len(self.rows))]
        self._left = most_bytes
        self._closed = False

    def take(self, rows: int, size: int) -> Runs:
        """Wait until there is room; return runs of free rows, as few as there are.

        Parameters
        ----------
        rows : int
        size : int
            Bytes that they take, with what lies beside them.

        Raises
        ------
        ClosedError
        """
        with self._changed:
            while True:
                if self._closed:
                    raise ClosedError
                if size <= self._left and rows <= sum(stop - start for start, stop in self._free):
                    break
                self._changed.wait()
            self._left -= size
            return self._cut(rows)

    def _cut(self, rows: int) -> Runs:
        fitting = [
            (stop - start, number) for number, (start, stop) in enumerate(self._free)
            if stop - start >= rows
        ]  # fmt: skip
        if fitting:
            number = min(fitting)[1]  # the smallest hole
            start, stop = self._free[number]
            self._free[number : number + 1] = [(start + rows, stop)] * (start + rows < stop)
            return ((start, start + rows),)
        found = []
        while rows:
            number = max(
                range(len(self._free)), key=lambda each: self._free[each][1] - self._free[each][0]
            )
            start, stop = self._free[number]
            taken = min(rows, stop - start)
            self._free[number : number + 1] = [(start + taken, stop)] * (start + taken < stop)
            found.append((start, start + taken))
            rows -= taken
        return tuple(found)

    def give(self, runs: Runs, size: int) -> None:
        """Give rows back, and the bytes that they took."""
        with self._changed:
            for start, stop in runs:
                place = bisect(self._free, (start, stop))
                if place < len(self._free) and self._free[place][0] == stop:
                    stop = self._free.pop(place)[1]
                if place and self._free[place - 1][1] == start:
                    place -= 1
                    start = self._free.pop(place)[0]
                self._free.insert(place, (start, stop))
            self._left += size
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class _Loan(weakref.ref[Rows]):
    """Tells when nobody refers to lent memory any more."""

    __slots__ = ("memory",)
    memory: Rows


class Lent:
    """Memory that comes back by itself when nobody refers to it any more, at multiples of 64 bytes.

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
        self._loans: dict[int, _Loan] = {}
        self._ended: deque[_Loan] = deque()

    def take(self) -> Rows:
        """Return a piece. It comes back when it, and every view of it, was dropped."""
        self._take_back()
        try:
            memory = self._spare.pop()
        except IndexError:
            memory = np.empty(self._size + LINE_BYTES, np.uint8)
            start = -memory.ctypes.data % LINE_BYTES
            memory = memory[start : start + self._size]
        # NumPy makes this array, which does not own its memory, the base of all views of it.
        lent = np.frombuffer(memory.data, np.uint8)
        # What is called when it is dropped is no Python, in which an interrupt would be swallowed.
        loan = _Loan(lent, self._ended.append)
        loan.memory = memory
        self._loans[id(loan)] = loan
        return lent

    def close(self) -> None:
        """Let go of what is not in use."""
        self._take_back()
        self._spare.clear()

    def _take_back(self) -> None:
        while self._ended:
            try:
                loan = self._ended.popleft()
            except IndexError:  # another thread was faster
                return
            self._spare.append(loan.memory)
            del self._loans[id(loan)]


class Pool:
    """A spare arena, scratches and memory. Iterators that run at once get memory of their own."""

    def __init__(self) -> None:
        self._arena: Arena | None = None
        self._scratches: dict[str, list[Scratch]] = {}
        self._memory: deque[Rows] = deque()
        self._lock = ForkLock()

    def take_arena(self, owner: object, cached: int, rows: int, row_bytes: int) -> Arena:
        """Return an arena with room for so many rows; a spare one that is too small goes.

        Rows that stay are still there only if its last owner is the same.
        """
        with self._lock:
            spare, self._arena = self._arena, None
        fits = spare is not None and spare.rows.shape[1] == row_bytes
        if spare is None or not fits or len(spare.rows) < cached + rows:
            del spare
            spare = Arena(cached, rows, row_bytes)
        if spare.owner is not owner:
            spare.owner, spare.cached, spare.places, spare.elements = owner, cached, [], []
        return spare

    def give_arena(self, arena: Arena) -> None:
        """Return an arena that nobody writes to any more; one of them is kept."""
        with self._lock:
            self._arena = arena

    def take_scratch(self, purpose: str) -> Scratch:
        """Return a spare scratch of this purpose, whose buffers have the right sizes, or a new one."""
        with self._lock:
            spare = self._scratches.get(purpose)
            return spare.pop() if spare else Scratch()

    def give_scratch(self, purpose: str, scratch: Scratch) -> None:
        """Return a scratch to the spare ones."""
        with self._lock:
            self._scratches.setdefault(purpose, []).append(scratch)

    def take_memory(self, size: int) -> Rows:
        """Return at least so many bytes: a spare piece that is not much larger, or a new one.

        For a new one as much goes of what is spare, so that all pieces together take no more than those
        that were in use at once.
        """
        with self._lock:
            fitting = [
                (len(memory), number)
                for number, memory in enumerate(self._memory)
                if size <= len(memory) <= size * _SPARE + _SMALL_BYTES
            ]
            if fitting:
                number = min(fitting)[1]
                memory = self._memory[number]
                del self._memory[number]
                return memory
            freed = 0
            while self._memory and freed < size:
                freed += len(self._memory.popleft())
        # Sizes in steps of an eighth: pieces for vectors of much the same number fit for each other.
        step = max(1 << max(size.bit_length() - 4, 0), LINE_BYTES)
        return np.empty(-(-size // step) * step, np.uint8)

    def give_memory(self, memory: Rows) -> None:
        """Return what `take_memory` gave, when nobody reads or writes it any more."""
        with self._lock:
            self._memory.append(memory)

    def close(self) -> None:
        """Let everything spare go."""
        with self._lock:
            scratches, self._scratches, self._arena = self._scratches, {}, None
            self._memory.clear()
        for spare in scratches.values():
            for scratch in spare:
                scratch.close()


class HeldBlock:
    """Rows of a block in memory.

    Attributes
    ----------
    read : Read
    runs : sequence of (int, int)
        Where they lie in the arena.
    elements : list of ndarray of uint8
        Where their vectors lie.
    places : list of ndarray of uint32
        Where the rows of each piece of the read lie, in the order of their use.
    """

    def __init__(self, read: Read, runs: Runs) -> None:
        self.read = read
        self.runs = runs
        self.elements: list[Rows] = []
        self.places: list[Places] = []

    def put_in_order(self, plan: Epoch, part: Taken) -> None:
        """Make the orders in which the rows of each piece are used."""
        none = np.empty(0, np.uint32)
        every = np.concatenate([none, *(np.arange(*run, dtype=np.uint32) for run in self.runs)])
        for (stratum, piece), some in zip(self.read.pieces, self.read.places, strict=True):
            mine = every if part.strata is None else every[part.strata == stratum]
            self.places.append(own_order(plan, stratum, piece, mine[some]))


class Held:
    """The blocks of an iteration that are in memory.

    Parameters
    ----------
    arena : Arena
    pool : Pool
        That their vectors' memory is given back to.
    """

    def __init__(self, arena: Arena, pool: Pool) -> None:
        self.arena = arena
        self._pool = pool
        self._places: dict[tuple[int, int], Places] = {}
        self._leaving: list[tuple[int, int, HeldBlock]] = []
        self._numbers = count()
        self._lock = Lock()
        self._ended: set[int] = set()
        self._first_open = 0

    def enter(self, block: HeldBlock, last: int) -> None:
        """Keep a block until all runs of batches up to this one have ended."""
        with self._lock:
            for piece, places in zip(block.read.pieces, block.places, strict=True):
                self._places[piece] = places
            heappush(self._leaving, (last, next(self._numbers), block))

    def places(self, stratum: int, piece: int) -> Places:
        """Return where the rows of a piece lie, in the order of their use."""
        return self._places[stratum, piece]

    def end_of(self, run: int) -> Callable[[], None]:
        """Return what is to be called when a run was gathered."""

        def end() -> None:
            with self._lock:
                self._ended.add(run)
                while self._first_open in self._ended:
                    self._ended.remove(self._first_open)
                    self._first_open += 1
                while self._leaving and self._leaving[0][0] < self._first_open:
                    self._leave(heappop(self._leaving)[2])

        return end

    def close(self) -> None:
        """Give back what all blocks take, where nobody gathers any more."""
        with self._lock:
            while self._leaving:
                self._leave(self._leaving.pop()[2])

    def _leave(self, block: HeldBlock) -> None:
        for piece in block.read.pieces:
            del self._places[piece]
        for memory in block.elements:
            self._pool.give_memory(memory)
        self.arena.give(block.runs, block.read.bytes)
