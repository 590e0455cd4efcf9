"""When each block is read, for which strata, and until when its rows are needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rootfeed.plan.shares import Counts
from rootfeed.plan.visits import Offered
from rootfeed.plan.window import Stream
from rootfeed.properties import cached_property

__all__ = ["Read", "Reads", "reads_of"]

_EARLY = 3
"""Rows of other strata are read with a block up to this part of their stay before they are due."""


@dataclass(frozen=True)
class Read:
    """Rows of a block that are read together.

    Attributes
    ----------
    block : int
        Number in the dataset.
    pieces : tuple of (int, int)
        The stratum of each stream that has some of them, and which of its pieces they are.
        In the order of strata, and of the rows.
    ranges : tuple of (int, int)
        For each the first of the block's rows of that stratum, and where they end. They may overlap.
    first, last : int
        Batches of the shard that need them.
    bytes : int
        That they take in memory, about.
    """

    block: int
    pieces: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[int, int], ...]
    first: int
    last: int
    bytes: int

    @cached_property
    def places(self) -> tuple[slice, ...]:
        """Where each piece's rows are among the rows of its stratum that are read, in their order."""
        found = []
        owner, end, gaps = -1, 0, 0
        for (stratum, _), (begin, stop) in zip(self.pieces, self.ranges, strict=True):
            if stratum != owner:
                owner, end, gaps = stratum, 0, 0
            gaps += max(begin - end, 0)
            end = max(end, stop)
            found.append(slice(begin - gaps, stop - gaps))
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Reads:
    """All reads of an epoch, in the order in which their rows are needed.

    Attributes
    ----------
    first, last, rows, bytes : ndarray of int64, shape (reads,)
        See `Read`.
    starts : ndarray of int64, shape (reads + 1,)
        Where each read's pieces begin in the following arrays.
    stratum, piece, block, begin, stop : ndarray of int64, shape (pieces,)
    """

    first: Counts
    last: Counts
    rows: Counts
    bytes: Counts
    starts: Counts
    stratum: Counts
    piece: Counts
    block: Counts
    begin: Counts
    stop: Counts

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, number: int) -> Read:
        some = slice(int(self.starts[number]), int(self.starts[number + 1]))
        return Read(
            int(self.block[some.start]),
            tuple(zip(self.stratum[some].tolist(), self.piece[some].tolist(), strict=True)),
            tuple(zip(self.begin[some].tolist(), self.stop[some].tolist(), strict=True)),
            int(self.first[number]),
            int(self.last[number]),
            int(self.bytes[number]),
        )

    @property
    def blocks(self) -> Counts:
        """The block of each read."""
        found: Counts = self.block[self.starts[:-1]]
        return found

    def peak(self, sizes: Counts, first: int = 0, run: int = 1) -> int:
        """Return the most that is in memory together.

        Parameters
        ----------
        sizes : ndarray of int64, shape (reads,)
            Of each read: its bytes, or rows.
        first : int
            The batch that an iteration begins with.
        run : int
            Batches that are made together.
        """
        some = np.flatnonzero(self.last >= first)
        if not len(some):
            return 0
        begin = np.maximum(self.first[some] - first, 0) // run
        end = (self.last[some] - first) // run
        change = np.zeros(int(end.max()) + 2, np.int64)
        np.add.at(change, begin, sizes[some])
        np.add.at(change, end + 1, -sizes[some])
        return int(change.cumsum().max())


def reads_of(offered: Offered, streams: Sequence[Stream], ends: Counts, repeats: int) -> Reads:
    """Return what is read, and which batches need it."""
    parts: list[tuple[Counts, ...]] = []
    final = len(ends) - 2
    for stratum, stream in enumerate(streams):
        if stream.is_shared or not len(stream.pieces):
            continue
        pieces, before = stream.pieces, ends[:, stratum]
        first_steps, last_steps = (np.stack(each) for each in zip(stream.stay, stream.due, strict=True))
        first = np.searchsorted(before, stream.ends[first_steps], "right") - 1
        last = np.searchsorted(before, stream.ends[last_steps + 1] - 1, "right") - 1
        if repeats:
            last[0, last[0] == last[0].max()] = final  # where the last row is needed once more
        # What is due of a block is read together: its pieces stand one after another.
        visit = np.unique(pieces.lap * len(offered.counts) + pieces.block, return_inverse=True)[1]
        earliest = np.full(len(pieces), final)
        np.minimum.at(earliest, visit, first[1])
        first[1] = earliest[visit]
        every = np.arange(len(pieces))
        parts.append(
            (
                *np.minimum(first, final),
                *np.minimum(last, final),
                np.full(len(pieces), stratum),
                every,
                pieces.block,
                pieces.first,
                pieces.stop,
                pieces.lap,
            )
        )
    if not parts:
        none = np.empty(0, np.int64)
        return Reads(none, none, none, none, np.zeros(1, np.int64), none, none, none, none, none)
    joined = (np.concatenate(each) for each in zip(*parts, strict=True))
    first, first_due, last, last_due, owner, piece, block, begin, stop, lap = joined
    group = _read_together(lap * len(offered.counts) + block, first_due, last_due)
    earliest = np.full(len(block), np.iinfo(np.int64).max)
    np.minimum.at(earliest, group, first)
    latest = np.zeros(len(block), np.int64)
    np.maximum.at(latest, group, last)
    order = np.lexsort((begin, owner, group, earliest[group]))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    chosen = group[order][starts]
    owner, piece, block, begin, stop = (each[order] for each in (owner, piece, block, begin, stop))
    rows = np.add.reduceat(_new(group[order] * len(streams) + owner, begin, stop), starts)
    again = np.add.reduceat(stop - begin, starts) - rows
    return Reads(
        earliest[chosen],
        latest[chosen],
        rows,
        rows * offered.row_bytes[block[starts]] + again * offered.use_bytes,
        np.append(starts, len(order)),
        owner,
        piece,
        block,
        begin,
        stop,
    )


def _new(owner: Counts, begin: Counts, stop: Counts) -> Counts:
    """Return how many rows of each range are in none before it, of those with the same owner.

    Owners stand together, and their ranges in the order in which they begin.
    """
    number = np.cumsum(np.diff(owner, prepend=owner[0]) != 0) * (int(stop.max()) + 1)
    ends = np.maximum.accumulate(stop + number)
    before = np.append(0, ends[:-1]) - number
    found: Counts = np.maximum(stop - np.maximum(begin, before), 0)
    return found


def _read_together(block: Counts, first: Counts, last: Counts) -> Counts:
    """Return a number for each piece: the same for those of a block, and lap, that are read together."""
    order = np.lexsort((first, block))
    group = np.full(len(block), -1, np.int64)
    while len(order):
        # The first piece that is left of each block, and those that are due soon after it.
        is_leader = np.diff(block[order], prepend=-1) != 0
        of_each = order[is_leader][is_leader.cumsum() - 1]
        reach = first[of_each] + (last[of_each] - first[of_each]) // _EARLY
        joins = first[order] <= reach
        group[order[joins]] = of_each[joins]
        order = order[~joins]
    return group
