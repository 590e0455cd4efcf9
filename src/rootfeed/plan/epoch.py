"""An epoch: blocks in an order, cut into chunks, whose rows are cut into batches.

Rows belong to strata: the classes that are balanced, or one stratum for all. A *round* of a stratum
offers each of its rows once; an epoch that needs more of them goes through several rounds, in laps. What
a shard takes of a round is a range of a sequence of blocks, so that shards share at most the blocks at
which their ranges meet. Strata whose rows are kept in memory are not dealt: see `resident_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.chunks import Chunk, Identity, Piece
from rootfeed.plan.random import random_key
from rootfeed.plan.shares import Counts, Demand, Shard

__all__ = ["deal"]

Order = npt.NDArray[np.uint32]
Regions = npt.NDArray[np.int64]
Pieces = tuple[npt.NDArray[np.int64], Counts]
"""Blocks, and for each the range of its rows of every stratum, shape (blocks, strata, 2)."""


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
    regions: Regions | None = None,
    earlier: Sequence[Counts] = (),
) -> list[Chunk]:
    """Deal the blocks into the chunks of a shard's epoch.

    With C chunks, each run of C consecutive blocks of the dataset is dealt one block to a chunk, at
    random: so each chunk holds blocks from all over the dataset, every file in its share, and files
    written one class after another are mixed in every chunk. The same deal gives each shard its
    blocks. Rows of a chunk beyond its last whole batch are its last ones and travel into the next
    chunk, so that only the last batch of the epoch can be short.

    Of each class, or of each region of the dataset, a chunk uses just its share: the rest of a block
    travels, too.

    Parameters
    ----------
    counts : array of int, shape (blocks, strata)
        Rows of each block, in the order of the dataset.
    demand : Demand
    shard : Shard
    capacity : int
        Most rows of a chunk's blocks; a single block may exceed it. Rows carried in come on top where
        there is one stratum and one region.
    seed, epoch : int
    leg : int
        0; 1 for the rest of an epoch that was dealt anew, and so on.
    shuffle : bool
        False keeps the order of the dataset.
    kept : sequence of bool, optional
        Strata that are kept in memory and not dealt.
    kept_rows : int
        Their rows.
    regions : ndarray of int64, shape (blocks,), optional
        The region of each block, from 0 on: each chunk takes its share of each. Only for rows of one
        stratum.
    earlier : sequence of ndarray of int64, shape (blocks, strata)
        Rows of each block in the first rounds, where these offer fewer than `counts`: the rest of an
        epoch in which some were used more often than others.

    Returns
    -------
    list of Chunk
        Empty if there are no batches.
    """
    strata = np.shape(counts)[1]
    dealt = ~np.asarray(kept if kept is not None else [False] * strata, bool)
    offered = [np.asarray(each, np.int64) * dealt for each in (*earlier, counts)]
    quotas = demand.of(shard)
    if len(quotas) == 0:
        return []
    plan = _Plan(offered, shard, seed, (epoch, leg), shuffle)
    laps = demand.laps(np.min(plan.totals[1:] or plan.totals, axis=0), shard.world_size)
    uses = demand.uses(shard, laps) * dealt
    ends = np.concatenate([np.zeros((1, strata), np.int64), quotas.cumsum(0)]) * dealt
    groups: list[Pieces] = []
    stops: list[int] = []
    uses_of: list[Counts] = []
    for lap, (first, last) in enumerate(pairwise(demand.lap_bounds(shard, laps).tolist())):
        before = uses[:lap].sum((0, 1)) + uses[lap, : shard.number].sum(0)
        pieces = plan.pieces(before, before + uses[lap, shard.number], shard.count * laps)
        if strata == 1 and regions is None:
            groups += plan.groups(pieces, capacity, lap)
        else:
            cut, places, used = _in_step(plan, pieces, ends[first : last + 1], capacity, lap, regions)
            groups += cut
            stops += [first + place for place in places]
            uses_of += used
    repeats = demand.repeats(shard)
    if not groups and repeats and len(plan.numbers[0]):
        # A worker whose only row repeats another: any will do, but it must be in memory.
        groups = [(plan.numbers[0][:1], np.array([[[0, 1]]], np.int64))]
    if not groups:
        groups, stops = [(np.empty(0, np.int64), np.empty((0, strata, 2), np.int64))], [len(quotas)]
    elif not stops:
        stops = _last_batches(groups, ends)
    if not uses_of:
        uses_of, regions = list(np.diff(ends[[0, *stops]], axis=0)), None
    return _chunks(groups, stops, uses_of, quotas, repeats, kept_rows, plan, regions)


def _last_batches(groups: Sequence[Pieces], ends: Counts) -> list[int]:
    """Return after how many batches each chunk ends: as many as its rows, and those before, give."""
    rows = np.cumsum([int((ranges[:, :, 1] - ranges[:, :, 0]).sum()) for _, ranges in groups])
    stops: list[int] = (np.searchsorted(ends[:, 0], rows, "right") - 1).tolist()
    return [*stops[:-1], len(ends) - 1]


def _in_step(
    plan: _Plan, pieces: Pieces, ends: Counts, capacity: int, lap: int, regions: Regions | None
) -> tuple[list[Pieces], list[int], list[Counts]]:
    """Deal a lap into chunks of whole batches; each reads the blocks that its batches need first.

    They are the fewest of which none holds more than `capacity`, what is carried in included; where
    blocks are too large for that, of which each uses half of it.

    Strata do not run out at the same places of the sequence of blocks. So each goes through it at its
    own pace, and what is carried is the rest of one block of each.

    Parameters
    ----------
    plan : _Plan
    pieces : Pieces
        The lap's.
    ends : ndarray of int64, shape (batches + 1, strata)
        Rows that the lap's first batches take.
    capacity, lap : int
    regions : ndarray of int64, optional
        The region of each block: they are strata whose shares are those of the lap.

    Returns
    -------
    list of Pieces, list of int, list of ndarray
        Those of each chunk, after how many of the lap's batches it ends, and how many rows of each
        stratum it uses.
    """
    blocks, ranges = pieces
    if len(blocks) == 0:
        return [], [], []
    sizes = ranges[:, :, 1] - ranges[:, :, 0]
    # What a piece holds of one stratum; these go each at their stratum's pace.
    place, column = np.nonzero(sizes)
    rows, stratum = (
        sizes[place, column],
        column if regions is None else regions[blocks[place] % plan.blocks],
    )
    strata = ranges.shape[1] if regions is None else int(regions.max()) + 1
    totals = np.bincount(stratum, rows, strata).astype(np.int64)
    bounds = np.bincount(stratum, minlength=strata).cumsum()[:-1]
    largest = np.zeros_like(totals)
    np.maximum.at(largest, stratum, rows)
    reached = (ends - ends[0]).sum(1)
    total = int(reached[-1])
    batches = int(np.searchsorted(reached, total))  # the last one may only repeat a row
    least = capacity // 2
    chunks = -(-total // max(capacity - int(largest.sum()) // 2, least, 1))
    while True:
        chunks = min(chunks, batches)
        stops = np.arange(1, chunks + 1) * batches // chunks
        stops[-1] = len(ends) - 1
        used = ends[stops] - ends[0]
        if regions is not None:
            used = _in_proportion(totals, used[:, 0], plan.phases(lap, strata))
        order, _ = plan.dealt(len(blocks), chunks, lap)
        turn = np.empty_like(order)
        turn[order] = np.arange(len(order))
        owner = np.empty_like(place)
        held = np.zeros((chunks, strata), np.int64)
        for each, mine in enumerate(np.split(np.lexsort((turn[place], stratum)), bounds)):
            # The chunk of each: the first whose batches reach beyond its beginning.
            begins = rows[mine].cumsum() - rows[mine]
            owner[mine] = np.searchsorted(used[:, each], begins, "right")
            held[:, each] = np.bincount(owner[mine], rows[mine], chunks).cumsum()
        held[1:] -= used[:-1]
        if chunks == batches or chunks * least >= total or held.sum(1).max() <= capacity:
            break
        chunks = max(chunks + 1, chunks * 21 // 20)
    keys, piece = np.unique(owner * len(order) + turn[place], return_inverse=True)
    found = np.zeros((len(keys), *ranges.shape[1:]), np.int64)
    found[piece, column] = ranges[place, column]
    chunk, blocks = keys // len(order), blocks[order[keys % len(order)]]
    starts = np.searchsorted(chunk, np.arange(1, chunks))
    cut = zip(np.split(blocks, starts), np.split(found, starts), strict=True)
    return list(cut), stops.tolist(), list(np.diff(used, axis=0, prepend=0))


def _in_proportion(totals: Counts, rows: Counts, phases: npt.NDArray[np.float64]) -> Counts:
    """Return how many of the first rows of a sequence come from each stratum: its share.

    The rows of a stratum come at equal distances from 0 to 1; all rows are taken in the order in which
    they come. So each has its share to about a row, and the largest ones make up for the rounding.

    Parameters
    ----------
    totals : ndarray of int64, shape (strata,)
        Rows of each stratum.
    rows : ndarray of int64, shape (places,)
        So many come first, at each of some places, in order; at the last one, all.
    phases : ndarray of float64, shape (strata,)
        How early within the first distance the first row comes, from 0 to 1.

    Returns
    -------
    ndarray of int64, shape (places, strata)
        From each place to the next, none has less; at the last one, each has its total.
    """

    def come(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.minimum(np.floor(times[:, None] * totals + phases), totals)

    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(64):  # the times at which so many have come, to the last bit
        middle = (low + high) / 2
        later = come(middle).sum(1) > rows
        low, high = np.where(later, low, middle), np.where(later, middle, high)
    found = come(low)
    more = come(high) - found  # those that come at once
    lacking = rows - found.sum(1)
    found += np.clip(lacking[:, None] - (more.cumsum(1) - more), 0, more)
    return found.astype(np.int64)


class _Plan:
    """What is common to all laps of an epoch."""

    def __init__(
        self, offered: Sequence[Counts], shard: Shard, seed: int, identity: Identity, shuffle: bool
    ) -> None:
        self.offered = offered
        self.blocks = len(offered[0])
        self.totals = [counts.sum(0) for counts in offered]
        self.shard = shard
        self.seed = seed
        self.identity = identity
        self.shuffle = shuffle
        self.numbers = [self._in_turn(counts) for counts in offered]
        self._rounds: dict[tuple[int, int], npt.NDArray[np.int64]] = {}

    def _in_turn(self, counts: Counts) -> npt.NDArray[np.int64]:
        numbers = np.flatnonzero(counts.any(1))  # a block without rows belongs nowhere
        main = counts[numbers].argmax(1)  # blocks of one class are dealt one after another
        return numbers[np.argsort(main, kind="stable")] if self.shuffle else numbers

    def _kind(self, number: int) -> int:
        """Return which rows a round offers: the last ones again and again."""
        return min(number, len(self.offered) - 1)

    def _locate(self, stratum: int, row: int) -> tuple[int, int]:
        """Return the round that a row of a stratum's sequence is in, and its place there."""
        totals = [int(each[stratum]) for each in self.totals]
        for number, total in enumerate(totals[:-1]):
            if row < total:
                return number, row
            row -= total
        return len(totals) - 1 + row // totals[-1], row % totals[-1]

    def pieces(self, starts: Counts, stops: Counts, parts: int) -> Pieces:
        """Return what ranges of the strata's rounds hold, one round after another.

        The blocks of different kinds of rounds have numbers of their own.
        """
        strata = len(starts)
        found: dict[int, Counts] = {}
        for stratum in range(strata):
            start, stop = int(starts[stratum]), int(stops[stratum])
            while start < stop:
                number, low = self._locate(stratum, start)
                kind = self._kind(number)
                counts = self.offered[kind][:, stratum]
                high = min(low + stop - start, int(self.totals[kind][stratum]))
                order = self._round(number, parts)
                ends = counts[order].cumsum()
                begins = ends - counts[order]
                ranges = found.setdefault(number, np.zeros((self.blocks, strata, 2), np.int64))
                ranges[order, stratum, 0] = np.clip(low - begins, 0, ends - begins)
                ranges[order, stratum, 1] = np.clip(high - begins, 0, ends - begins)
                start += high - low
        blocks, every = [np.empty(0, np.int64)], [np.empty((0, strata, 2), np.int64)]
        for number, ranges in sorted(found.items()):
            kind = self._kind(number)
            numbers = self.numbers[kind]
            some = numbers[(ranges[numbers, :, 1] > ranges[numbers, :, 0]).any(axis=1)]
            blocks.append(some + kind * self.blocks)
            every.append(ranges[some])
        return np.concatenate(blocks), np.concatenate(every)

    def _round(self, number: int, parts: int) -> npt.NDArray[np.int64]:
        """Return the blocks in an order of which each part holds blocks from all over the dataset."""
        numbers = self.numbers[self._kind(number)]
        if not self.shuffle:
            return numbers
        if (number, parts) not in self._rounds:
            owner = _owners(len(numbers), parts, self.seed, "shares", (*self.identity, number))
            place = self._places(len(numbers), "turns", (*self.identity, number))
            self._rounds[number, parts] = numbers[np.lexsort((place, owner))]
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
        chunks = -(-int(counts.sum()) // capacity)
        while True:
            order, ends = self.dealt(len(blocks), chunks, lap)
            filled = np.diff(counts[order].cumsum()[ends - 1], prepend=0)
            if chunks >= len(blocks) or filled.max() <= capacity:
                break
            chunks = min(max(chunks + 1, chunks * 21 // 20), len(blocks))
        return [(blocks[group], ranges[group]) for group in np.split(order, ends[:-1])]

    def phases(self, lap: int, regions: int) -> npt.NDArray[np.float64]:
        """Return a random number from 0 to 1 for each region."""
        words = np.empty(regions, np.uint32)
        key = random_key(self.seed, "phases", *self.identity, lap, self.shard.number)
        kernels.draw(key, np.arange(regions), 2**32 - 1, words)
        return words / 2**32

    def dealt(self, count: int, chunks: int, lap: int) -> tuple[Counts, Counts]:
        """Deal pieces to chunks: their order, a chunk's at random, and where each chunk ends."""
        if not self.shuffle:
            return np.arange(count), np.array([count])
        identity = (*self.identity, lap, self.shard.number)
        place = self._places(count, "places", identity)
        owner = _owners(count, chunks, self.seed, "blocks", identity)
        sizes = np.bincount(owner, minlength=chunks)
        return np.lexsort((place, owner)), sizes[sizes > 0].cumsum()


def _chunks(
    groups: Sequence[Pieces],
    stops: Sequence[int],
    uses: Sequence[Counts],
    quotas: Counts,
    repeats: int,
    kept_rows: int,
    plan: _Plan,
    regions: Regions | None,
) -> list[Chunk]:
    """Cut the rows of each group of pieces into batches, and carry over what is left."""
    chunks: list[Chunk] = []
    carried = np.zeros_like(uses[0])
    done = 0
    for number, ((numbers, ranges), stop, used) in enumerate(zip(groups, stops, uses, strict=True)):
        rounds, blocks = np.divmod(numbers, plan.blocks)
        sizes = ranges[:, :, 1] - ranges[:, :, 0]
        starts = kept_rows + int(carried.sum()) + sizes.sum(1).cumsum() - sizes.sum(1)
        last = number == len(groups) - 1
        if regions is None:
            strata, available = [0] * len(blocks), carried + sizes.sum(0)
        else:
            strata = regions[blocks].tolist()
            found = np.bincount(strata, sizes.sum(1), len(carried)).astype(np.int64)
            available = carried + found
        left = np.zeros_like(carried) if last else available - used
        places = (blocks.tolist(), starts.tolist(), ranges, strata, rounds.tolist())
        chunks.append(
            Chunk(
                number=number,
                pieces=tuple(map(Piece, *places)),
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
