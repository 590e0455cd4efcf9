"""Which rows of an epoch are in memory now, and where.

Blocks enter when they are read, and leave when the last batch that needs them was gathered.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from threading import Lock

import numpy as np
import numpy.typing as npt

from rootfeed.loader.dataset import Taken
from rootfeed.loader.pool import Arena, Pool, Rows, Runs
from rootfeed.plan import Epoch, Read, own_order

__all__ = ["Held", "HeldBlock"]

Places = npt.NDArray[np.uint32]


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
