"""An epoch of a shard: which rows it takes, through which windows, and when each block is read.

Rows belong to strata: the classes that are balanced, or one stratum for all. A *round* of a stratum
offers each of its rows once; an epoch that needs more of them goes through several rounds. What a shard
takes of a round is a range of an order of blocks that all shards know, so that shards share at most the
blocks at which their ranges meet. Strata that stay in memory are not read again, and all shards go
through one order of them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.order import in_proportion, spread
from rootfeed.plan.random import random_key
from rootfeed.plan.shares import Counts, Demand, Shard
from rootfeed.plan.window import (
    Pieces,
    Stream,
    at_once,
    in_order,
    longest_window,
    rolling,
    steps_of,
)

__all__ = ["Epoch", "Offered", "Read", "Reads", "deal"]

Identity = tuple[int, ...]

_FEW = 16
"""Pieces of which no two come to an end in the same step."""

_TRIES = 12
"""To find windows that take no more than there is room for."""

_EARLY = 3
"""Rows of other strata are read with a block up to this part of their stay before they are due."""


@dataclass(frozen=True, eq=False)
class Offered:
    """The rows that there are.

    Attributes
    ----------
    counts : ndarray of int64, shape (blocks, strata)
        Rows of each block, in the order of the dataset.
    row_bytes : ndarray of int64, shape (blocks,)
        What a row of each block takes in memory, about.
    regions : ndarray of int64, shape (blocks,)
        The region of each block, from 0 on, never falling: all are used at the same pace.
    resident : ndarray of bool, shape (strata,)
        Strata of which all rows stay in memory.
    """

    counts: Counts
    row_bytes: Counts
    regions: Counts
    resident: npt.NDArray[np.bool_]

    @cached_property
    def totals(self) -> Counts:
        """Rows of each stratum."""
        found: Counts = self.counts.sum(0)
        return found


@dataclass(frozen=True)
class Read:
    """Rows of a block that are read together.

    Attributes
    ----------
    block : int
        Number in the dataset.
    pieces : tuple of (int, int)
        The stratum of each stream that has some of them, and which of its pieces they are.
    ranges : tuple of (int, int)
        For each the first of the block's rows of that stratum, and where they end.
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


@dataclass(frozen=True, eq=False)
class Reads:
    """All reads of an epoch, in the order in which their rows are needed.

    Attributes
    ----------
    first, last, bytes : ndarray of int64, shape (reads,)
        See `Read`.
    starts : ndarray of int64, shape (reads + 1,)
        Where each read's pieces begin in the following arrays.
    stratum, piece, block, begin, stop : ndarray of int64, shape (pieces,)
    """

    first: Counts
    last: Counts
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

    @cached_property
    def rows(self) -> Counts:
        """The rows of each read."""
        ends = np.append(0, (self.stop - self.begin).cumsum())
        found: Counts = np.diff(ends[self.starts])
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


@dataclass(frozen=True, eq=False)
class Epoch:
    """What a shard does in an epoch.

    Attributes
    ----------
    shard : Shard
    demand : Demand
    quotas : ndarray of int64, shape (batches, strata)
        Rows of each stratum in each batch.
    repeats : int
        Rows at the end of the last batch that repeat another.
    streams : tuple of Stream
        Of each stratum.
    reads : Reads
    seed : int
    identity : tuple of int
        What random orders are keyed by besides the seed.
    shuffle : bool
    """

    shard: Shard
    demand: Demand
    quotas: Counts
    repeats: int
    streams: tuple[Stream, ...]
    reads: Reads
    seed: int
    identity: Identity
    shuffle: bool

    @property
    def rows(self) -> int:
        """Rows of all batches, repeated ones included."""
        return int(self.sizes.sum())

    @cached_property
    def sizes(self) -> Counts:
        """Rows of each batch, repeated ones included."""
        found: Counts = self.quotas.sum(1)
        found[-1:] += self.repeats
        return found

    @cached_property
    def ends(self) -> Counts:
        """Rows of each stratum before each batch, shape (batches + 1, strata)."""
        return _ends(self.quotas)

    @cached_property
    def piece_keys(self) -> tuple[npt.NDArray[np.uint64], ...]:
        """Of each stream, the keys of the orders in which its pieces' rows are used."""
        found = []
        for stratum, stream in enumerate(self.streams):
            keys = np.empty(len(stream.pieces), np.uint64)
            kernels.words(
                random_key(self.seed, "rows", *self.identity, self.shard.number, stratum), keys
            )
            found.append(keys)
        return tuple(found)


def deal(
    offered: Offered,
    demand: Demand,
    shard: Shard,
    *,
    room_bytes: float,
    seed: int,
    identity: Identity,
    shuffle: bool = True,
) -> Epoch:
    """Return what a shard does in an epoch.

    Parameters
    ----------
    offered : Offered
    demand : Demand
    shard : Shard
    room_bytes : float
        That blocks may take in memory, resident strata not counted. One block of each region and stratum
        is in memory, whatever it takes.
    seed : int
    identity : tuple of int
        What orders are keyed by besides the seed: the epoch, and the leg of it.
    shuffle : bool
        False keeps the order of the dataset.
    """
    quotas, repeats = demand.of(shard), demand.repeats(shard)
    uses = demand.totals(shard.world_size, shard.workers)
    dealing = _Dealing(offered, demand, shard, uses, seed, identity, shuffle)
    parts = dealing.parts(room_bytes)
    every = [dealing.taken(stratum, parts) for stratum in range(len(offered.resident))]
    if repeats and not quotas.any():
        every[0] = _spare(offered)
    room = room_bytes
    for _ in range(_TRIES):
        windows = _windows(offered, every, room, dealing.parts(room))
        streams = tuple(
            dealing.stream(stratum, *mine, window)
            for stratum, (mine, window) in enumerate(zip(every, windows, strict=True))
        )
        reads = _reads(offered, streams, _ends(quotas), repeats)
        peak = reads.peak(reads.bytes)
        if peak <= room_bytes or all((np.array(mine) <= 1).all() for mine in windows):
            break
        room *= 0.97 * room_bytes / peak
    return Epoch(shard, demand, quotas, repeats, streams, reads, seed, identity, shuffle)


Dealt = tuple[Pieces, Counts]
"""Pieces region after region, and where those of each region begin."""


def _all_of(offered: Offered, stratum: int) -> Dealt:
    """Return all rows of a stratum, in the order of the dataset."""
    blocks = np.flatnonzero(offered.counts[:, stratum])
    rows, none = offered.counts[blocks, stratum], np.zeros_like(blocks)
    return Pieces(blocks, none, none, rows), np.array([0, len(blocks)])


def _spare(offered: Offered) -> Dealt:
    """Return a row for a batch that holds but a repeated one."""
    block = np.flatnonzero(offered.counts.any(1))[:1]
    none = np.zeros_like(block)
    return Pieces(block, none, none, none + 1), np.array([0, len(block)])


@dataclass(frozen=True, eq=False)
class _Dealing:
    """What is common to all strata of a shard's epoch."""

    offered: Offered
    demand: Demand
    shard: Shard
    uses: Counts
    seed: int
    identity: Identity
    shuffle: bool

    @cached_property
    def regions(self) -> int:
        """How many there are."""
        return int(self.offered.regions.max(initial=0)) + 1 if self.shuffle else 1

    def blocks(self, region: int) -> Counts:
        """Return the blocks of a region that have rows."""
        if not self.shuffle:
            return np.flatnonzero(self.offered.counts.any(1))
        first, stop = np.searchsorted(self.offered.regions, [region, region + 1]).tolist()
        found: Counts = first + np.flatnonzero(self.offered.counts[first:stop].any(1))
        return found

    def parts(self, room_bytes: float) -> Counts:
        """Return how many successive blocks of each region come from all over it: what is in memory.

        The same for all shards, which take ranges of one order.
        """
        offered, sizes = self.offered, []
        kept = (offered.counts * ~offered.resident).sum(1) * offered.row_bytes
        for region in range(self.regions):
            mine = kept[self.blocks(region)].astype(np.float64)
            sizes.append((len(mine), mine.sum(), (mine * mine).sum() / max(mine.sum(), 1.0)))
        number, bytes_, usual = np.array(sizes).T
        room = _room(room_bytes, float(usual.max()))
        wanted = room * bytes_ / max(bytes_.sum(), 1.0) / np.maximum(usual, 1.0)
        found = np.maximum(np.floor(wanted), 1.0)
        # What whole blocks leave free goes to regions that lack the least of another one.
        left = room - float(found @ usual)
        for region in np.argsort(found - wanted, kind="stable").tolist():
            if usual[region] <= left:
                found[region] += 1
                left -= usual[region]
        most = np.maximum(number // len(self.uses), 1)
        parts: Counts = np.minimum(found, most).astype(np.int64)
        return parts

    def taken(self, stratum: int, parts: Counts) -> Dealt:
        """Return the rows of a stratum that the shard takes, round after round of each region."""
        offered, shard = self.offered, self.shard
        if offered.resident[stratum]:
            return _all_of(offered, stratum)
        total, needed = int(offered.totals[stratum]), int(self.uses[:, stratum].sum())
        found: list[list[Pieces]] = [[] for _ in range(self.regions)]
        before = np.zeros(len(self.uses), np.int64)
        for number in range(-(-needed // total) if total else 0):
            if needed <= total:
                after = self.uses[:, stratum]
            else:
                place = min((number + 1) * total, needed)
                after = self.demand.before(stratum, place, shard.world_size, shard.workers)
            bounds = np.append(0, (after - before).cumsum())[[shard.number, shard.number + 1]]
            before = after
            for mine, pieces in zip(found, self._round(stratum, number, bounds, parts), strict=True):
                mine.append(pieces)
        several = [Pieces.joined(each) for each in found]
        return Pieces.joined(several), np.append(0, np.cumsum([len(each) for each in several]))

    def _round(self, stratum: int, number: int, bounds: Counts, parts: Counts) -> Iterator[Pieces]:
        """Yield what the shard takes of each region in a round."""
        counts, identity = self.offered.counts[:, stratum], (*self.identity, number)
        if not self.shuffle:
            start, stop = bounds.tolist()
            yield _cut(self.blocks(0), counts, start, stop, number)
            return
        words = np.empty(self.regions, np.uint64)
        kernels.words(random_key(self.seed, "shares", *identity), words)
        phases = (words >> np.uint64(11)) / 2.0**53
        totals = np.bincount(self.offered.regions, counts, self.regions).astype(np.int64)
        starts, stops = in_proportion(totals, bounds, phases)
        # Where regions are alike, their blocks must not all come to an end together.
        turn = np.argsort(np.argsort(phases, kind="stable"), kind="stable") / self.regions
        for region in range(self.regions):
            if starts[region] == stops[region]:
                yield Pieces.joined([])  # most, where files hold one class each
                continue
            some = self.blocks(region)
            some = some[spread(len(some), int(parts[region]), self.seed, *identity, region)]
            shift = 0
            if self.regions > 1 and 2 * parts[region] * len(self.uses) <= len(some):
                shift = int(turn[region] * counts[some[counts[some] > 0][:1]].sum())
            yield _cut(some, counts, int(starts[region]) + shift, int(stops[region]) + shift, number)

    def stream(self, stratum: int, pieces: Pieces, bounds: Counts, windows: Sequence[int]) -> Stream:
        """Return the rows of a stratum in the order of their use."""
        if self.offered.resident[stratum]:
            return at_once(pieces, is_shared=True)
        if not self.shuffle:
            return in_order(pieces)
        key = random_key(self.seed, "window", *self.identity, self.shard.number, stratum)
        return rolling(pieces, bounds, windows, key)


def _cut(blocks: Counts, counts: Counts, start: int, stop: int, number: int) -> Pieces:
    """Return the rows from one place of a round to another; behind its end it begins again."""
    rows = np.tile(counts[blocks], 2)
    begins = rows.cumsum() - rows
    first, last = np.clip(start - begins, 0, rows), np.clip(stop - begins, 0, rows)
    some = np.flatnonzero(last > first)
    lap = 2 * number + (some >= len(blocks))
    return Pieces(np.tile(blocks, 2)[some], lap, first[some], last[some])


def _windows(
    offered: Offered, every: Sequence[Dealt], room_bytes: float, parts: Counts
) -> list[list[int]]:
    """Return how many pieces of each region of each stratum are in memory together.

    Of one stratum as many blocks as come from all over a region. Else room is shared as batches are, and
    nothing gets more than it has.
    """
    most, wanted, sizes = [], [], []
    for (pieces, bounds), resident in zip(every, offered.resident, strict=True):
        bytes_ = pieces.rows * offered.row_bytes[pieces.block]
        for start, stop in pairwise(bounds.tolist()):
            mine = bytes_[start:stop] if not resident else bytes_[:0]
            rounds = int(pieces.lap[start:stop].max(initial=0)) // 2 + 1
            sizes.append(mine)
            wanted.append(float(mine.sum()))
            most.append(wanted[-1] / rounds)
    if sum(wanted) > room_bytes:
        if len(every) == 1 and len(sizes) == len(parts):
            return [parts.tolist()]
        room_bytes = _room(room_bytes, max(float(mine.max(initial=0)) for mine in sizes))
    shares = _shared(room_bytes, np.array(wanted), np.array(most))
    found = [longest_window(mine, share) for mine, share in zip(sizes, shares, strict=True)]
    # What whole pieces leave free goes to those that lack the least of another one.
    held = [_held(mine, count) for mine, count in zip(sizes, found, strict=True)]
    left = room_bytes - sum(held)
    for number in np.argsort(np.array(held) - shares, kind="stable").tolist():
        if found[number] >= len(sizes[number]) or held[number] >= most[number]:
            continue
        more = _held(sizes[number], found[number] + 1) - held[number]
        if more <= left:
            found[number] += 1
            left -= more
    stops = np.cumsum([len(bounds) - 1 for _, bounds in every]).tolist()
    starts = [0, *stops[:-1]]
    return [found[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _room(room_bytes: float, largest: float) -> float:
    """Return what pieces may take whose rows are used together: one has begun while another ends."""
    pieces = room_bytes / max(largest, 1.0)
    return room_bytes - largest - (room_bytes / steps_of(pieces) if pieces > _FEW else 0.0)


def _held(bytes_: Counts, count: int) -> int:
    """Return what so many successive pieces take, at most."""
    if not len(bytes_):
        return 0
    ends = np.append(0, bytes_.cumsum())
    count = min(count, len(bytes_))
    return int((ends[count:] - ends[: len(ends) - count]).max())


def _shared(
    room: float, wanted: npt.NDArray[np.float64], most: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Divide room in proportion; what is too much for one goes to the others."""
    shares = np.zeros_like(wanted)
    open_ = wanted > 0
    while open_.any():
        now = np.where(open_, room * wanted / wanted[open_].sum(), 0.0)
        full = open_ & (now >= most)
        if not full.any():
            return np.where(open_, now, shares)
        shares[full] = most[full]
        room = max(room - float(most[full].sum()), 0.0)
        open_ &= ~full
    return shares


def _ends(quotas: Counts) -> Counts:
    """Return the rows of each stratum before each batch, and after the last one."""
    found: Counts = np.append(np.zeros((1, quotas.shape[1]), np.int64), quotas.cumsum(0), axis=0)
    return found


def _reads(offered: Offered, streams: Sequence[Stream], ends: Counts, repeats: int) -> Reads:
    """Return what is read, and which batches need it."""
    parts: list[tuple[Counts, ...]] = []
    final = len(ends) - 2
    for stratum, stream in enumerate(streams):
        if stream.is_shared or not len(stream.pieces):
            continue
        pieces, before = stream.pieces, ends[:, stratum]
        first_step, last_step = stream.stay
        first = np.searchsorted(before, stream.ends[first_step], "right") - 1
        last = np.searchsorted(before, stream.ends[last_step + 1] - 1, "right") - 1
        if repeats:
            last[last == last.max()] = final  # where the last row is needed once more
        number = np.arange(len(pieces))
        parts.append(
            (
                np.minimum(first, final),
                np.minimum(last, final),
                np.full(len(pieces), stratum),
                number,
                pieces.block,
                pieces.first,
                pieces.stop,
                pieces.lap,
            )
        )
    if not parts:
        none = np.empty(0, np.int64)
        return Reads(none, none, none, np.zeros(1, np.int64), none, none, none, none, none)
    joined = (np.concatenate(each) for each in zip(*parts, strict=True))
    first, last, owner, piece, block, begin, stop, lap = joined
    bytes_ = (stop - begin) * offered.row_bytes[block]
    group = np.arange(len(block))
    if len(parts) > 1:
        group = _together(lap * len(offered.counts) + block, first, last)
    earliest = np.full(len(block), np.iinfo(np.int64).max)
    np.minimum.at(earliest, group, first)
    latest = np.zeros(len(block), np.int64)
    np.maximum.at(latest, group, last)
    size = np.zeros(len(block), np.int64)
    np.add.at(size, group, bytes_)
    order = np.lexsort((owner, group, earliest[group]))
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    chosen = group[order][starts]
    return Reads(
        earliest[chosen],
        latest[chosen],
        size[chosen],
        np.append(starts, len(order)),
        *(each[order] for each in (owner, piece, block, begin, stop)),
    )


def _together(block: Counts, first: Counts, last: Counts) -> Counts:
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
