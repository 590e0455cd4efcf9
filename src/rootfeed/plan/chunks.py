"""Chunks: which rows are in memory together, in which order they make batches, where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key
from rootfeed.plan.shares import Counts

__all__ = ["Chunk", "Identity", "Piece", "Selection", "carried", "resumed"]

Order = npt.NDArray[np.uint32]
Selection = slice | npt.NDArray[np.int64]
Identity = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one block that a chunk holds.

    Attributes
    ----------
    block : int
        Number in the dataset.
    start : int
        Row of the chunk at which they begin.
    ranges : ndarray of int64, shape (strata, 2) or (1, 2)
        For each stratum the first of the block's rows of it, and where they end; one range where all
        rows of a block are of one stratum.
    stratum : int
        That one; 0 where there is a range for each.
    round : int
        Which of the blocks' rows these are, where they differ between the first rounds.
    """

    block: int
    start: int
    ranges: Counts
    stratum: int = 0
    round: int = 0

    @property
    def rows(self) -> int:
        """How many rows."""
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())

    def range_of(self, stratum: int) -> tuple[int, int]:
        """Return the first of the block's rows of a stratum that it holds, and where they end."""
        if len(self.ranges) == 1 and stratum != self.stratum:
            return 0, 0
        first, stop = self.ranges[stratum if len(self.ranges) > 1 else 0].tolist()
        return first, stop

    def only(self, stratum: int, first: int, stop: int, start: int) -> Piece:
        """Return a piece of the same block, of rows of one stratum."""
        ranges = np.zeros_like(self.ranges)
        ranges[stratum if len(ranges) > 1 else 0] = first, stop
        return Piece(self.block, start, ranges, self.stratum, self.round)


@dataclass(frozen=True, eq=False)
class Chunk:
    """The blocks that are in memory together.

    Its rows are those that are kept in memory anyway, those carried in from the previous chunk, one
    stratum after another, then the pieces' rows in order. Of each stratum the first `used` rows
    make batches; the others are carried out.

    Attributes
    ----------
    number : int
        Position in the epoch.
    pieces : tuple of Piece
    refill : tuple of Piece
        Where the rows carried in come from, if the epoch starts with this chunk.
    first_batch : int
        Number of its first batch.
    quotas : ndarray of int64, shape (batches, strata) or (batches, 1)
        Rows of each stratum in each batch, or of all.
    kept : int
        Rows that are kept in memory: the first ones.
    carried_in, used, carried_out : ndarray of int64, shape (strata,)
        Of the strata that are not kept.
    repeats : int
        Rows at the end of the last batch that repeat others.
    seed : int
    identity : tuple of int
        What its order is keyed by besides the seed.
    shuffle : bool
    """

    number: int
    pieces: tuple[Piece, ...]
    refill: tuple[Piece, ...]
    first_batch: int
    quotas: Counts
    kept: int
    carried_in: Counts
    used: Counts
    carried_out: Counts
    repeats: int
    seed: int
    identity: Identity
    shuffle: bool

    @property
    def rows(self) -> int:
        """Rows that make batches, repeated ones included."""
        return int(self.quotas.sum()) + self.repeats

    @property
    def memory_rows(self) -> int:
        """Rows that lie in memory."""
        return self.kept + int(self.carried_in.sum()) + sum(piece.rows for piece in self.pieces)

    def order(self, out: Order) -> list[Selection]:
        """Make the order in which rows make batches, whichever strata they are of.

        Parameters
        ----------
        out : ndarray of uint32, shape (rows,)

        Returns
        -------
        list of slice or ndarray of int64
            The rows that are carried out, one stratum after another.
        """
        used = self.rows - self.repeats
        if self.shuffle:
            kernels.permute(random_key(self.seed, "rows", *self.identity), out[:used])
        else:
            out[:used] = np.arange(used, dtype=np.uint32)
        left = [each for stratum in range(len(self.carried_out)) for each in self._left(stratum)]
        ranges = np.array(sorted(left), np.uint32).reshape(-1, 2)
        kernels.skip(ranges[:, 0].copy(), ranges[:, 1] - ranges[:, 0], out[:used])
        out[used : self.rows] = out[0] if used else 0
        return [slice(*each) for each in left]

    def _left(self, stratum: int) -> list[tuple[int, int]]:
        """Return the ranges of rows of a stratum that are carried out, in order."""
        count, found = int(self.carried_out[stratum]), []
        first = self.kept + int(self.carried_in[:stratum].sum())
        held = [(first, first + int(self.carried_in[stratum]))]
        held += [
            (piece.start, piece.start + piece.rows) for piece in self.pieces if piece.stratum == stratum
        ]
        for start, stop in reversed(held):
            if count == 0:
                break
            start = max(start, stop - count)
            found.append((start, stop))
            count -= stop - start
        return found[::-1]

    def mixed_order(
        self, strata: npt.NDArray[np.uint8], kept: Sequence[Order | None], out: Order, draw: bool
    ) -> list[Selection]:
        """Make the order of rows of several strata; every batch holds its quota of each.

        Parameters
        ----------
        strata : ndarray of uint8, shape (memory_rows - kept,)
            Stratum of each row that was carried in or read.
        kept : sequence of ndarray of uint32 or None
            For each stratum that is kept in memory, the rows that make these batches, in order.
        out : ndarray of uint32, shape (rows,)
        draw : bool
            Draw the rows with replacement.

        Returns
        -------
        list of slice or ndarray of int64
            The rows that are carried out, one stratum after another.
        """
        pools: list[Order] = []
        carried: list[npt.NDArray[np.int64]] = []
        for stratum, ready in enumerate(kept):
            if ready is not None:
                pools.append(ready)
                continue
            rows = np.flatnonzero(strata == stratum) + self.kept
            used = int(self.used[stratum])
            carried.append(rows[used : used + int(self.carried_out[stratum])])
            key = random_key(self.seed, "stratum", *self.identity, stratum)
            if draw:
                places = np.empty(used, np.uint32)
                kernels.draw(key, np.arange(used), len(rows), places)
                pools.append(rows[places].astype(np.uint32))
                continue
            places = np.arange(used, dtype=np.uint32)
            if self.shuffle:
                kernels.permute(key, places)
            pools.append(rows[:used][places].astype(np.uint32))
        starts = np.cumsum([0, *(len(pool) for pool in pools)])[:-1]
        every = np.concatenate(pools) if pools else np.empty(0, np.uint32)
        key = random_key(self.seed, "batches", *self.identity)
        kernels.compose(key, self.first_batch, every, starts, self.quotas, out)
        return list(carried)


def resumed(chunks: Sequence[Chunk], batches: int) -> tuple[list[Chunk], int]:
    """Return the chunks that are left after some batches, and the batches of the first to leave out.

    The first one says where the rows come from that it would have been carried.
    """
    for number, chunk in enumerate(chunks):
        if batches < chunk.first_batch + len(chunk.quotas):
            first = replace(chunk, refill=carried(chunks, number))
            return [first, *chunks[number + 1 :]], batches - chunk.first_batch
    return [], 0


def carried(chunks: Sequence[Chunk], number: int) -> tuple[Piece, ...]:
    """Return where the rows come from that a chunk is carried, in their order.

    Parameters
    ----------
    chunks : sequence of Chunk
        From the first one of the epoch on.
    number : int
        Of the chunk.
    """
    chunk = chunks[number]
    pieces: list[Piece] = []
    start = chunk.kept
    for stratum, count in enumerate(chunk.carried_in.tolist()):
        for piece, first, stop in _sources(chunks, number, stratum, count):
            pieces.append(piece.only(stratum, first, stop, start))
            start += stop - first
    return tuple(pieces)


def _sources(
    chunks: Sequence[Chunk], number: int, stratum: int, count: int
) -> list[tuple[Piece, int, int]]:
    """Return the last rows of a stratum before a chunk: in which pieces, first and end."""
    found: list[tuple[Piece, int, int]] = []
    while count:
        number -= 1
        for piece in reversed(chunks[number].pieces):
            first, stop = piece.range_of(stratum)
            taken = min(stop - first, count)
            if taken:
                found.append((piece, stop - taken, stop))
                count -= taken
    return found[::-1]
