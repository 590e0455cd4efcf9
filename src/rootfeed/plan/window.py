"""The rolling window: which rows of which blocks are used when, and which blocks are in memory then.

A *stream* is the rows of one stratum that a shard takes in an epoch, in the order in which its batches
take them. Its blocks come in random order; n of them are in memory, and while one after another enters,
each row of a block is used at a random time of the block's stay. So the rows that are used together come
from n blocks, in numbers that differ as they would after a full shuffle. ARCHITECTURE.md has an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.properties import cached_property

__all__ = ["Pieces", "Stream", "at_once", "in_order", "rolling", "steps_of"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pieces:
    """Rows of one stratum, of one block each. All arrays have the shape (pieces,).

    Attributes
    ----------
    block : ndarray of int64
        Number in the dataset.
    lap : ndarray of int64
        How often all blocks were gone through before. Where a lap begins within a block, its end is of
        a lap of its own. The rows of a block that are used in a lap are read together.
    first, stop : ndarray of int64
        Which of the block's rows of the stratum they are, counted in the order of entries.
    """

    block: Counts
    lap: Counts
    first: Counts
    stop: Counts

    def __len__(self) -> int:
        return len(self.block)

    @cached_property
    def rows(self) -> Counts:
        """How many rows."""
        return self.stop - self.first

    @classmethod
    def joined(cls, several: Sequence[Pieces]) -> Pieces:
        """Return pieces one after another."""
        none = np.empty(0, np.int64)
        return cls(
            *(
                np.concatenate([none, *(getattr(each, name) for each in several)])
                for name in ("block", "lap", "first", "stop")
            )
        )


@dataclass(frozen=True, eq=False)
class Stream:
    """The rows of a stratum in the order of their use, step by step.

    In each step, some pieces give the next rows of a random order of their own; the rows of a step are
    shuffled. Step ``t`` has the parts ``[parts[t], parts[t + 1])``.

    Attributes
    ----------
    pieces : Pieces
    ends : ndarray of int64, shape (steps + 1,)
        Rows of the stream before each step.
    parts : ndarray of int64, shape (steps + 1,)
    piece, begin, count : ndarray of int64, shape (parts,)
        Whose rows a part is: so many from `begin` on, of the piece's own order.
    due : tuple of ndarray of int64, shape (pieces,)
        The first step, and the last one, in which rows of each piece may be used.
    is_shared : bool
        All rows of the stratum stay in memory, and all shards go through this one stream together, one
        step after another: the steps are rounds, of which only the first is written down.
    """

    pieces: Pieces
    ends: Counts
    parts: Counts
    piece: Counts
    begin: Counts
    count: Counts
    due: tuple[Counts, Counts]
    is_shared: bool = False

    @property
    def rows(self) -> int:
        """Rows of all steps that are written down."""
        return int(self.ends[-1])

    @cached_property
    def stay(self) -> tuple[Counts, Counts]:
        """First and last step of each piece."""
        step = np.repeat(np.arange(len(self.parts) - 1), np.diff(self.parts))
        first = np.full(len(self.pieces), len(self.parts), np.int64)
        last = np.zeros(len(self.pieces), np.int64)
        np.minimum.at(first, self.piece, step)
        np.maximum.at(last, self.piece, step)
        return first, last

    @cached_property
    def is_divided(self) -> npt.NDArray[np.bool_]:
        """Whether rows of a piece are used in several steps."""
        first, last = self.stay
        return last > first

    def step_of(self, row: int) -> tuple[int, int]:
        """Return the step that a row of the stream is in, and its place there."""
        if self.is_shared:
            return divmod(row, max(self.rows, 1))
        step = int(np.searchsorted(self.ends, row, "right")) - 1
        return step, row - int(self.ends[step])


def at_once(pieces: Pieces, is_shared: bool = False) -> Stream:
    """Return the stream of a single step, in which all pieces are in memory."""
    every = np.arange(len(pieces))
    bounds = np.array([0, len(pieces)])
    ends = np.array([0, pieces.rows.sum()])
    none = np.zeros_like(every)
    return Stream(pieces, ends, bounds, every, none, pieces.rows, (none, none), is_shared)


def in_order(pieces: Pieces) -> Stream:
    """Return the stream that uses one piece after another: each is a step."""
    every = np.arange(len(pieces))
    ends = np.append(0, pieces.rows.cumsum())
    bounds = np.arange(len(pieces) + 1)
    return Stream(pieces, ends, bounds, every, np.zeros_like(every), pieces.rows, (every, every))


def rolling(pieces: Pieces, regions: Counts, windows: Sequence[int], key: np.uint64) -> Stream:
    """Return the stream of pieces through windows.

    With B pieces and a window of n there are S = B - n + 1 turns. A row draws one of n groups; group g
    of piece i is due in turn ``clip(i - (n - 1) + g, 0, S - 1)``. So the first turn and the last one
    take more of some pieces, and all are used up when they leave. Where there are several regions,
    each goes through its own turns in such time that the same share of all regions' rows is due at
    any time; steps are equal parts of that time.

    Parameters
    ----------
    pieces : Pieces
        Region after region, none without rows.
    regions : ndarray of int64, shape (regions + 1,)
        Where the pieces of each region begin, and the last ones end.
    windows : sequence of int
        Pieces of each region that are in memory together.
    key : numpy.uint64
    """
    sizes = np.diff(regions)
    held = np.clip(windows, 1, np.maximum(sizes, 1))
    if (held >= sizes).all():
        return at_once(pieces)
    rows = pieces.rows
    of_regions = [rows[start:stop] for start, stop in pairwise(regions.tolist())]
    in_memory = sum(
        float(mine.mean()) * count for mine, count in zip(of_regions, held, strict=True) if len(mine)
    )
    steps = int(np.ceil(steps_of(float(held.sum())) * float(rows.sum()) / in_memory))
    keys = np.empty(len(pieces), np.uint64)
    kernels.words(key, keys)
    found: list[tuple[Counts, Counts, Counts]] = []
    due = np.zeros((2, len(pieces)), np.int64)
    for start, mine, count in zip(regions[:-1].tolist(), of_regions, held.tolist(), strict=True):
        if not len(mine):
            continue
        turns = _turns(mine, count, steps)
        number = np.arange(len(mine))
        first = np.searchsorted(turns, np.maximum(number - count + 1, 0), "right") - 1
        stop = np.searchsorted(turns, np.minimum(number + 1, len(mine) - count + 1), "left")
        due[:, start : start + len(mine)] = first, stop - 1
        starts = np.append(0, (stop - first).cumsum())
        counts = np.empty(starts[-1], np.int64)
        own_keys = keys[start : start + len(mine)]
        kernels.divide(own_keys, np.ascontiguousarray(mine), first, starts, turns, count, counts)
        piece = np.repeat(number, stop - first)
        found.append((piece + start, np.arange(starts[-1]) - starts[piece] + first[piece], counts))
    piece, step, counts = (np.concatenate(each) for each in zip(*found, strict=True))
    starts = np.searchsorted(piece, np.arange(len(pieces)))
    begin = counts.cumsum() - counts
    begin -= begin[starts[piece]]
    some = np.flatnonzero(counts)
    some = some[np.argsort(step[some], kind="stable")]
    of_steps = np.bincount(step[some], minlength=steps)
    ends = np.append(0, np.bincount(step, counts, steps).astype(np.int64).cumsum())
    parts = np.append(0, of_steps.cumsum())
    return Stream(pieces, ends, parts, piece[some], begin[some], counts[some], (due[0], due[1]))


def steps_of(pieces: float) -> float:
    """Return into how many steps what a window holds is divided, by the number of its pieces.

    A piece is in memory for up to a step longer than its rows are used. Many steps take time to plan.
    """
    return min(max(512 / max(pieces, 1.0), 16.0), 64.0)


def _turns(rows: Counts, count: int, steps: int) -> npt.NDArray[np.float64]:
    """Return which turn of a region, and how much of it, is over when each step begins or ends.

    As many rows are due by then as that share of the steps.
    """
    turns = len(rows) - count + 1
    # Rows of the pieces before each, then of these sums: what is due after k turns, times `count`.
    before = np.append(0, rows.cumsum())
    summed = np.append(0, before.cumsum())
    due = summed[count:] - summed[: turns + 1]
    due = np.append(due[:turns], count * before[-1])
    due[0] = 0
    wanted = np.arange(steps + 1) * (count * float(before[-1]) / steps)
    turn = np.clip(np.searchsorted(due, wanted, "right") - 1, 0, turns - 1)
    place: npt.NDArray[np.float64] = turn + (wanted - due[turn]) / (due[turn + 1] - due[turn])
    place[-1] = turns
    return place
