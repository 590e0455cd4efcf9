"""An epoch: blocks in an order, cut into chunks, whose rows are cut into batches.

Rows belong to strata: the classes that are balanced, or one stratum for all. A *round* of a stratum
offers each of its rows once; an epoch that needs more of them goes through several rounds, in laps. What
a shard takes of a round is a range of a sequence of blocks, so that shards share at most the blocks at
which their ranges meet. Strata whose rows are kept in memory are not dealt: see `resident_rows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key
from rootfeed.plan.shares import Counts, Demand, Shard

__all__ = ["Chunk", "Piece", "carried", "deal", "permuted", "resident_rows", "resumed"]

Order = npt.NDArray[np.uint32]
Identity = tuple[int, ...]
Pieces = tuple[npt.NDArray[np.int64], Counts]
"""Blocks, and for each the range of its rows of every stratum, shape (blocks, strata, 2)."""


@dataclass(frozen=True, eq=False)
class Piece:
    """Rows of one block that a chunk holds.

    Attributes
    ----------
    block : int
        Number in the dataset.
    start : int
        Row of the chunk at which they begin.
    ranges : ndarray of int64, shape (strata, 2)
        For each stratum the first of the block's rows of it, and where they end.
    """

    block: int
    start: int
    ranges: Counts

    @property
    def rows(self) -> int:
        """How many rows."""
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())


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
    quotas : ndarray of int64, shape (batches, strata)
        Rows of each stratum in each batch.
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

    def order(self, out: Order) -> npt.NDArray[np.int64]:
        """Make the order in which rows of one stratum make batches.

        Parameters
        ----------
        out : ndarray of uint32, shape (rows,)

        Returns
        -------
        ndarray of int64
            The rows that are carried out.
        """
        used = self.rows - self.repeats
        out[:used] = np.arange(used, dtype=np.uint32)
        if self.shuffle:
            kernels.permute(random_key(self.seed, "rows", *self.identity), out[:used])
        out[used : self.rows] = out[0] if used else 0
        return np.arange(used, used + int(self.carried_out.sum()))

    def mixed_order(
        self, strata: npt.NDArray[np.uint8], kept: Sequence[Order | None], out: Order, draw: bool
    ) -> npt.NDArray[np.int64]:
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
        ndarray of int64
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
        return np.concatenate(carried) if carried else np.empty(0, np.int64)


def permuted(key: np.uint64, length: int, out: Order) -> Iterator[Order]:
    """Yield a random permutation of ``0 .. n - 1`` part by part, as it is made."""
    ends = np.empty(256, np.int64)
    kernels.scatter(key, out, ends)
    buckets, shuffled, counter = iter(ends.tolist()), 0, len(out)
    for start in range(0, len(out), length):
        stop = min(start + length, len(out))
        while shuffled < stop:
            end = next(buckets)
            counter = kernels.shuffle(key, counter, out[shuffled:end])
            shuffled = end
        yield out[start:stop]


def resident_rows(
    rows: int, first: int, batches: tuple[int, int], demand: Demand, shard: Shard, stratum: int,
    seed: int, epoch: int, shuffle: bool, draw: bool
) -> Order:  # fmt: skip
    """Return which rows of a stratum that is kept in memory make some of a shard's batches.

    All shards go through rounds of one sequence together, each taking the rows of its batch in turn:
    at any time, no row was used twice more than another.

    Parameters
    ----------
    rows : int
        Of the stratum.
    first : int
        Rows of the sequence that were used up before.
    batches : tuple of int
        First batch of the shard, and where they end.
    demand, shard
    stratum : int
    seed, epoch : int
    shuffle : bool
    draw : bool
        Draw them with replacement.

    Returns
    -------
    ndarray of uint32
        Numbers among the stratum's rows.
    """
    numbers = np.arange(*batches) * shard.workers + shard.worker  # of the rank's batches
    quotas = demand.quotas[numbers, stratum]
    starts = first + demand.ends[numbers, stratum] * shard.world_size + quotas * shard.rank
    mine = quotas.copy()
    if demand.extra and len(numbers) and numbers[-1] == len(demand.quotas) - 1:
        starts[-1] += min(shard.rank, demand.extra)
        mine[-1] += shard.rank < demand.extra
    ends = np.cumsum(mine)
    total = int(ends[-1]) if len(ends) else 0
    positions = np.repeat(starts - (ends - mine), mine) + np.arange(total)
    if draw:
        out = np.empty(total, np.uint32)
        kernels.draw(random_key(seed, "draws", epoch, stratum), positions, rows, out)
        return out
    out = np.empty(total, np.uint32)
    sequence = np.arange(rows, dtype=np.uint32)
    number, within = np.divmod(positions, max(rows, 1))
    for each in np.unique(number).tolist():
        if shuffle:
            kernels.permute(random_key(seed, "round", epoch, stratum, each), sequence)
        chosen = number == each
        out[chosen] = sequence[within[chosen]]
    return out


def deal(
    counts: Sequence[Sequence[int]] | Counts,
    demand: Demand,
    shard: Shard,
    *,
    capacity: int,
    seed: int,
    epoch: int,
    leg: int = 0,
    shuffle: bool = True,
    kept: Sequence[bool] | None = None,
    kept_rows: int = 0,
) -> list[Chunk]:
    """Deal the blocks into the chunks of a shard's epoch.

    With C chunks, each run of C consecutive blocks of the dataset is dealt one block to a chunk, at
    random: so each chunk holds blocks from all over the dataset, every file in its share, and files
    written one class after another are mixed in every chunk. The same deal gives each shard its
    blocks. Rows of a chunk beyond its last whole batch are its last ones and travel into the next
    chunk, so that only the last batch of the epoch can be short.

    Parameters
    ----------
    counts : array of int, shape (blocks, strata)
        Rows of each block, in the order of the dataset.
    demand : Demand
    shard : Shard
    capacity : int
        Most rows of a chunk's blocks; a single block may exceed it. Rows carried in come on top.
    seed, epoch : int
    leg : int
        0; 1 for the rest of an epoch that was dealt anew, and so on.
    shuffle : bool
        False keeps the order of the dataset.
    kept : sequence of bool, optional
        Strata that are kept in memory and not dealt.
    kept_rows : int
        Their rows.

    Returns
    -------
    list of Chunk
        Empty if there are no batches.
    """
    offered = np.asarray(counts, np.int64)
    strata = offered.shape[1]
    dealt = ~np.asarray(kept if kept is not None else [False] * strata, bool)
    offered = offered * dealt
    quotas = demand.of(shard)
    if len(quotas) == 0:
        return []
    laps = demand.laps(offered.sum(0), shard.world_size)
    uses = demand.uses(shard, laps) * dealt
    ends = np.concatenate([np.zeros((1, strata), np.int64), quotas.cumsum(0)]) * dealt
    plan = _Plan(offered, shard, seed, (epoch, leg), shuffle)
    groups: list[Pieces] = []
    stops: list[int] = []
    for lap, (first, last) in enumerate(pairwise(demand.lap_bounds(shard, laps).tolist())):
        before = uses[:lap].sum((0, 1)) + uses[lap, : shard.number].sum(0)
        pieces = plan.pieces(before, before + uses[lap, shard.number], shard.count * laps)
        dealt_pieces = plan.groups(pieces, capacity, lap)
        if strata == 1:
            groups += dealt_pieces
        else:
            cut, places = _in_step(dealt_pieces, ends[first : last + 1], capacity)
            groups += cut
            stops += [first + place for place in places]
    repeats = demand.repeats(shard)
    if not groups and repeats and len(plan.numbers):
        # A worker whose only row repeats another: any will do, but it must be in memory.
        groups = [(plan.numbers[:1], np.array([[[0, 1]]], np.int64))]
    nothing = (np.empty(0, np.int64), np.empty((0, strata, 2), np.int64))
    if strata == 1:
        stops = _last_batches(groups, ends) if groups else [len(quotas)]
    elif not groups:
        stops = [len(quotas)]
    return _chunks(groups or [nothing], stops, quotas, repeats, dealt, kept_rows, plan)


def _last_batches(groups: Sequence[Pieces], ends: Counts) -> list[int]:
    """Return after how many batches each chunk ends: as many as its rows, and those before, give."""
    rows = np.cumsum([int((ranges[:, :, 1] - ranges[:, :, 0]).sum()) for _, ranges in groups])
    stops: list[int] = (np.searchsorted(ends[:, 0], rows, "right") - 1).tolist()
    return [*stops[:-1], len(ends) - 1]


def _in_step(groups: Sequence[Pieces], ends: Counts, capacity: int) -> tuple[list[Pieces], list[int]]:
    """Cut a lap into chunks of whole batches; each reads the blocks that its batches need first.

    Strata do not run out at the same places of the sequence of blocks. So each goes through it at its
    own pace, and what is carried is the rest of one block of each.

    Parameters
    ----------
    groups : sequence of Pieces
        The lap's pieces, in order.
    ends : ndarray of int64, shape (batches + 1, strata)
        Rows that the lap's first batches take.
    capacity : int

    Returns
    -------
    list of Pieces, list of int
        Those of each chunk, and after how many of the lap's batches it ends.
    """
    batches = len(ends) - 1
    if not groups or batches == 0:
        return [], []
    blocks = np.concatenate([blocks for blocks, _ in groups])
    ranges = np.concatenate([ranges for _, ranges in groups])
    sizes = ranges[:, :, 1] - ranges[:, :, 0]
    begins = sizes.cumsum(0) - sizes + ends[0]
    rows = max(capacity - int(sizes.max(0).sum()), capacity // 2, 1)
    chunks = min(-(-int((ends[-1] - ends[0]).sum()) // rows), batches)
    stops = np.arange(1, chunks + 1) * batches // chunks
    # The chunk of each piece of a stratum: the first whose batches reach beyond its beginning.
    owner = np.stack(
        [np.searchsorted(ends[stops, each], begins[:, each], "right") for each in range(sizes.shape[1])],
        1,
    )
    cut = []
    for chunk in range(chunks):
        mine = (owner == chunk) & (sizes > 0)
        some = np.flatnonzero(mine.any(1))
        cut.append((blocks[some], ranges[some] * mine[some, :, None]))
    return cut, stops.tolist()


class _Plan:
    """What is common to all laps of an epoch."""

    def __init__(
        self, offered: Counts, shard: Shard, seed: int, identity: Identity, shuffle: bool
    ) -> None:
        self.offered = offered
        self.shard = shard
        self.seed = seed
        self.identity = identity
        self.shuffle = shuffle
        numbers = np.flatnonzero(offered.any(1))  # a block without rows belongs nowhere
        main = offered[numbers].argmax(1)  # blocks of one class are dealt one after another
        self.numbers = numbers[np.argsort(main, kind="stable")] if shuffle else numbers
        self._rounds: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def pieces(self, starts: Counts, stops: Counts, parts: int) -> Pieces:
        """Return what ranges of the strata's rounds hold, one round after another."""
        strata = len(starts)
        found: dict[int, Counts] = {}
        for stratum in range(strata):
            total = int(self.offered[:, stratum].sum())
            start, stop = int(starts[stratum]), int(stops[stratum])
            while start < stop:
                number = start // total
                end = min(stop, (number + 1) * total)
                order = self._round(number, parts)
                ends = self.offered[order, stratum].cumsum()
                begins = ends - self.offered[order, stratum]
                low, high = start - number * total, end - number * total
                ranges = found.setdefault(number, np.zeros((len(self.offered), strata, 2), np.int64))
                ranges[order, stratum, 0] = np.clip(low - begins, 0, ends - begins)
                ranges[order, stratum, 1] = np.clip(high - begins, 0, ends - begins)
                start = end
        blocks, every = [np.empty(0, np.int64)], [np.empty((0, strata, 2), np.int64)]
        for _, ranges in sorted(found.items()):
            some = self.numbers[(ranges[self.numbers, :, 1] > ranges[self.numbers, :, 0]).any(axis=1)]
            blocks.append(some)
            every.append(ranges[some])
        return np.concatenate(blocks), np.concatenate(every)

    def _round(self, number: int, parts: int) -> npt.NDArray[np.int64]:
        """Return the blocks in an order of which each part holds blocks from all over the dataset."""
        if not self.shuffle:
            return self.numbers
        if (number, parts) not in self._rounds:
            owner = _owners(len(self.numbers), parts, self.seed, "shares", (*self.identity, number))
            place = self._places(len(self.numbers), "turns", (*self.identity, number))
            self._rounds[number, parts] = self.numbers[np.lexsort((place, owner))]
        return self._rounds[number, parts]

    def _places(self, count: int, purpose: str, identity: Identity) -> Order:
        place = np.empty(count, np.uint32)
        kernels.permute(random_key(self.seed, purpose, *identity), place)
        return place

    def groups(self, pieces: Pieces, capacity: int, lap: int) -> list[Pieces]:
        """Deal pieces into the fewest chunks that none overflows; each chunk's in random order."""
        blocks, ranges = pieces
        if len(blocks) == 0:
            return []
        counts = (ranges[:, :, 1] - ranges[:, :, 0]).sum(1)
        capacity = max(capacity, int(counts.max()))
        if not self.shuffle:
            return [(blocks[group], ranges[group]) for group in _in_order(counts, capacity)]
        identity = (*self.identity, lap, self.shard.number)
        place = self._places(len(blocks), "places", identity)
        chunks = -(-int(counts.sum()) // capacity)
        while True:
            owner = _owners(len(blocks), chunks, self.seed, "blocks", identity)
            if chunks >= len(blocks) or np.bincount(owner, counts, chunks).max() <= capacity:
                break
            chunks = min(max(chunks + 1, chunks * 21 // 20), len(blocks))
        order = np.lexsort((place, owner))
        ends = np.cumsum(np.bincount(owner, minlength=chunks))
        return [(blocks[group], ranges[group]) for group in np.split(order, ends[:-1]) if len(group)]


def _chunks(
    groups: Sequence[Pieces],
    stops: Sequence[int],
    quotas: Counts,
    repeats: int,
    dealt: npt.NDArray[np.bool_],
    kept_rows: int,
    plan: _Plan,
) -> list[Chunk]:
    """Cut the rows of each group of pieces into batches, and carry over what is left."""
    ends = np.concatenate([np.zeros((1, len(dealt)), np.int64), quotas.cumsum(0)])
    chunks: list[Chunk] = []
    carried = np.zeros(len(dealt), np.int64)
    done = 0
    for number, ((blocks, ranges), stop) in enumerate(zip(groups, stops, strict=True)):
        sizes = ranges[:, :, 1] - ranges[:, :, 0]
        available = carried + sizes.sum(0)
        last = number == len(groups) - 1
        used = (ends[stop] - ends[done]) * dealt
        starts = kept_rows + int(carried.sum()) + sizes.sum(1).cumsum() - sizes.sum(1)
        left = np.zeros_like(carried) if last else available - used
        chunks.append(
            Chunk(
                number=number,
                pieces=tuple(map(Piece, blocks.tolist(), starts.tolist(), ranges)),
                refill=(),
                first_batch=done,
                quotas=quotas[done:stop],
                kept=kept_rows,
                carried_in=carried,
                used=used,
                carried_out=left,
                repeats=repeats if last else 0,
                seed=plan.seed,
                identity=(*plan.identity, plan.shard.number, number),
                shuffle=plan.shuffle,
            )
        )
        carried, done = left, stop
    return chunks


def _in_order(counts: npt.NDArray[np.int64], capacity: int) -> list[npt.NDArray[np.int64]]:
    """Fill one chunk after another with the blocks in their order."""
    firsts, filled = [0], 0
    for number, count in enumerate(counts.tolist()):
        if filled + count > capacity and filled:
            firsts.append(number)
            filled = 0
        filled += count
    return np.split(np.arange(len(counts)), firsts[1:])


def _owners(
    blocks: int, chunks: int, seed: int, purpose: str, identity: Identity
) -> npt.NDArray[np.int64]:
    """Return each block's chunk: a run of as many consecutive blocks as chunks has one for each."""
    owner = np.zeros(blocks, np.int64)
    if chunks == 1:
        return owner
    hands = np.empty(chunks, np.uint32)
    for run, start in enumerate(range(0, blocks, chunks)):
        size = min(chunks, blocks - start)
        kernels.permute(random_key(seed, purpose, *identity, run), hands)
        owner[start : start + size] = hands[:size]
    return owner


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
        for block, first, stop in _sources(chunks, number, stratum, count):
            ranges = np.zeros((len(chunk.carried_in), 2), np.int64)
            ranges[stratum] = first, stop
            pieces.append(Piece(block, start, ranges))
            start += stop - first
    return tuple(pieces)


def _sources(
    chunks: Sequence[Chunk], number: int, stratum: int, count: int
) -> list[tuple[int, int, int]]:
    """Return the last rows of a stratum before a chunk: (block, first, stop)."""
    found: list[tuple[int, int, int]] = []
    while count:
        number -= 1
        for piece in reversed(chunks[number].pieces):
            first, stop = piece.ranges[stratum].tolist()
            taken = min(stop - first, count)
            if taken:
                found.append((piece.block, stop - taken, stop))
                count -= taken
    return found[::-1]
