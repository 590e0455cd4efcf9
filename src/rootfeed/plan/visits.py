"""Which rows of which blocks a shard takes in an epoch, and in which order the blocks come.

Rows belong to strata: the classes that are balanced, or one stratum for all. Strata go through the
blocks of a region together, in *laps*: each takes its share of a block's rows at each visit, less than
all of them, or some more than once. What a shard takes is a range of an order of visits that all shards
know, so that shards share at most the blocks at which their ranges meet. Strata that stay in memory are
not read again, and all shards go through one order of them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.order import in_proportion, spread
from rootfeed.plan.random import random_key
from rootfeed.plan.shares import Counts, Shard, ends_of
from rootfeed.plan.window import Pieces, Stream, in_order, rolling, steps_of
from rootfeed.properties import cached_property

__all__ = ["Dealt", "Group", "Offered", "all_of", "parts_of", "spare", "together"]

Identity = tuple[int, ...]

_FEW = 16
"""Pieces of which no two come to an end in the same step."""


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
    cached : ndarray of bool, shape (strata,)
        Strata of which all rows stay in memory.
    use_bytes : int
        What each use of a row that is used again while it is in memory takes.
    """

    counts: Counts
    row_bytes: Counts
    regions: Counts
    cached: npt.NDArray[np.bool_]
    use_bytes: int = 0

    @cached_property
    def totals(self) -> Counts:
        """Rows of each stratum."""
        found: Counts = self.counts.sum(0)
        return found


Dealt = tuple[Pieces, Counts]
"""Pieces region after region, and where those of each region begin."""


def all_of(offered: Offered, stratum: int) -> Dealt:
    """Return all rows of a stratum, in the order of the dataset."""
    blocks = np.flatnonzero(offered.counts[:, stratum])
    rows, none = offered.counts[blocks, stratum], np.zeros_like(blocks)
    return Pieces(blocks, none, none, rows), np.array([0, len(blocks)])


def spare(offered: Offered, regions: int) -> Dealt:
    """Return a row of the first stratum, for a batch that holds but a repeated one."""
    block = np.flatnonzero(offered.counts[:, 0])[:1]
    none = np.zeros_like(block)
    return Pieces(block, none, none, none + 1), np.append(0, np.ones(regions, np.int64))


def together(offered: Offered, needed: Counts) -> list[npt.NDArray[np.bool_]]:
    """Return which strata go through blocks together: those that are used about once, and the others.

    Not those that stay in memory. Of classes that repeat more blocks are in memory, so that the rows of
    a batch, which are as many as those of other classes, are chosen from as many.
    """
    again = 2 * needed >= 3 * np.maximum(offered.totals, 1)
    found = [~offered.cached & ~again, ~offered.cached & again]
    return [strata for strata in found if strata.any()]


def parts_of(groups: Sequence[Group], room_bytes: float) -> list[Counts]:
    """Return how many successive blocks of each region come from all over it: what is in memory.

    The same for all shards, which take ranges of one order. Room is shared as batches are, and no region
    gets more than it has.
    """
    if not groups:
        return []
    number, held, used, usual = np.concatenate([group.sizes for group in groups], 1)
    room = _room(room_bytes, float(usual.max()))
    wanted = _shared(room, used, held) / np.maximum(usual, 1.0)
    found = np.maximum(np.floor(wanted), 1.0)
    # What whole blocks leave free goes to regions that lack the least of another one.
    left = room - float(found @ usual)
    for region in np.argsort(found - wanted, kind="stable").tolist():
        if usual[region] <= left:
            found[region] += 1
            left -= usual[region]
    most = np.maximum(number // len(groups[0].needed), 1)
    return np.split(np.minimum(found, most).astype(np.int64), len(groups))


@dataclass(frozen=True, eq=False)
class Group:
    """Strata that go through the blocks together, on the shards of which `shard` is one.

    Attributes
    ----------
    offered : Offered
    shard : Shard
    needed : ndarray of int64, shape (shards, strata)
        Rows that each shard uses of these strata.
    strata : ndarray of bool, shape (strata,)
        Which they are.
    first_lap : int
        Laps are counted from here on: those of other groups have other numbers.
    seed : int
    identity : tuple of int
    shuffle : bool
    """

    offered: Offered
    shard: Shard
    needed: Counts
    strata: npt.NDArray[np.bool_]
    first_lap: int
    seed: int
    identity: Identity
    shuffle: bool

    @property
    def members(self) -> list[int]:
        """The numbers of the strata."""
        found: list[int] = np.flatnonzero(self.strata).tolist()
        return found

    @cached_property
    def region(self) -> Counts:
        """The region of each block."""
        return self.offered.regions if self.shuffle else np.zeros_like(self.offered.regions)

    @cached_property
    def regions(self) -> int:
        """How many there are."""
        return int(self.region.max(initial=0)) + 1

    @cached_property
    def rows(self) -> Counts:
        """Rows of each region and stratum."""
        found = np.zeros((self.regions, len(self.offered.cached)), np.int64)
        np.add.at(found, self.region, self.offered.counts * self.strata)
        return found

    @cached_property
    def uses(self) -> Counts:
        """How often rows of each region and stratum are used, by all shards together."""
        found = np.zeros_like(self.rows)
        for stratum, needed in enumerate(self.needed.sum(0).tolist()):
            phase = float(self._phases[self.regions + stratum])
            found[:, stratum] = _shares(self.rows[:, stratum], needed, phase)
        return found

    @cached_property
    def laps(self) -> Counts:
        """How often each region's blocks are gone through: as many rows are read as are used, about.

        Those of other strata count, too, since a block is read as a whole. So it is once, or less,
        where no row is used again.
        """
        every = [self.offered.counts[self.blocks(region)].sum() for region in range(self.regions)]
        times = self.uses.sum(1) / np.maximum(every, 1)
        found: Counts = np.maximum((times + 0.5).astype(np.int64), 1)
        return found

    @cached_property
    def _phases(self) -> npt.NDArray[np.float64]:
        """Random numbers from 0 to 1 for each region and each stratum: how shares are rounded."""
        words = np.empty(self.regions + len(self.offered.cached), np.uint64)
        kernels.words(random_key(self.seed, "shares", *self.identity), words)
        return (words >> np.uint64(11)) / 2.0**53

    def blocks(self, region: int) -> Counts:
        """Return the blocks of a region that have rows to be read."""
        first, stop = np.searchsorted(self.region, [region, region + 1]).tolist()
        some = self.offered.counts[first:stop, self.uses[region] > 0].any(1)
        found: Counts = first + np.flatnonzero(some)
        return found

    @cached_property
    def sizes(self) -> npt.NDArray[np.float64]:
        """Of each region the number of blocks, and the bytes of all, of all uses, and of a usual block.

        Of a block, what is kept while it is in memory. Shape (4, regions).
        """
        found = []
        for region, times in enumerate(self.uses / np.maximum(self.rows, 1)):
            laps = float(times.max() if times.max() <= 1 else self.laps[region])
            kept = np.minimum(times / (laps or 1.0), 1.0)
            blocks = self.blocks(region)
            counts, row_bytes = self.offered.counts[blocks], self.offered.row_bytes[blocks]
            mine, used = (counts @ kept) * row_bytes, (counts @ times) * row_bytes
            once, usual = min(laps, 1.0), (mine * mine).sum() / max(mine.sum(), 1.0)
            found.append((len(blocks) * once, mine.sum() * once, used.sum(), usual))
        return np.array(found).T

    @property
    def held_bytes(self) -> float:
        """What all blocks take that are gone through."""
        return float(self.sizes[1].sum())

    def visits(self, region: int, parts: Counts) -> tuple[Counts, Counts]:
        """Return which blocks of a region are gone through, and in which lap, in order.

        Where no row is used again, there are only as many as are needed.
        """
        blocks, laps = self.blocks(region), int(self.laps[region])
        if not self.shuffle:
            times = -(-self.uses[region] // np.maximum(self.rows[region], 1))
            laps = int(times.max())
            return np.tile(blocks, laps), np.repeat(np.arange(laps), len(blocks))
        wanted = int(parts[region])
        orders = [
            blocks[spread(len(blocks), wanted, self.seed, *self.identity, lap, region)]
            for lap in range(laps)
        ]
        if (self.uses[region] <= self.rows[region]).all():
            ends = self.offered.counts[orders[0]].cumsum(0)
            last = max(
                int(np.searchsorted(ends[:, stratum], uses))
                for stratum, uses in enumerate(self.uses[region].tolist())
            )
            orders = [orders[0][: last + 1]]
        return np.concatenate(orders), np.repeat(np.arange(laps), [len(each) for each in orders])

    def dealt(self, parts: Counts) -> dict[int, Dealt]:
        """Return the rows of each stratum that the shard takes, region after region."""
        number, phases = self.shard.number, self._phases[: self.regions]
        before = ends_of(self.needed)
        bounds = [
            in_proportion(self.uses[:, stratum], before[[number, number + 1], stratum], phases)
            for stratum in self.members
        ]
        # Where regions are alike, their blocks must not all come to an end together.
        turn = np.argsort(np.argsort(phases, kind="stable"), kind="stable") / self.regions
        found: dict[int, list[Pieces]] = {stratum: [] for stratum in self.members}
        for region in range(self.regions):
            blocks, laps = self.visits(region, parts)
            is_short = 2 * parts[region] * len(self.needed) > len(blocks)
            shift = 0.0 if is_short else float(turn[region])
            for stratum, (starts, stops) in zip(self.members, bounds, strict=True):
                mine = int(starts[region]), int(stops[region])
                found[stratum].append(self._pieces(stratum, region, blocks, laps, mine, shift))
        return {
            stratum: (Pieces.joined(each), np.append(0, np.cumsum([len(one) for one in each])))
            for stratum, each in found.items()
        }

    def _pieces(
        self,
        stratum: int,
        region: int,
        blocks: Counts,
        laps: Counts,
        bounds: tuple[int, int],
        shift: float,
    ) -> Pieces:
        """Return what a shard takes of a region.

        Each visit of a block uses its share of the block's rows. They stand in a circle: what the first
        visit begins at a random one, in one direction or the other, the next visit goes on with. What a
        shard takes begins `shift` of the first visit later, and behind the last visit it goes on with
        the first.
        """
        if bounds[0] == bounds[1]:
            return Pieces.joined([])  # of most regions, where files hold one class each
        count = int(laps[-1]) + 1
        once = blocks[: len(blocks) // count]
        rows, uses = self.offered.counts[once, stratum], int(self.uses[region, stratum])
        words = np.empty(len(once) + 1, np.uint64)
        kernels.words(random_key(self.seed, "turns", *self.identity, stratum, region), words)
        if not self.shuffle:
            shares = rows * count
        elif 0 <= uses - rows[:-1].sum() <= rows[-1]:  # all of each, but for the last one
            shares = np.append(rows[:-1], uses - rows[:-1].sum())
        else:
            shares = _shares(rows, uses, float(words[-1] >> np.uint64(11)) / 2.0**53)
        offsets = (words[:-1] % np.maximum(rows, 1).astype(np.uint64)).astype(np.int64)
        offsets[shares % np.maximum(rows * count, 1) == 0] = 0  # each visit takes all, some times
        backwards = (words[:-1] >> np.uint64(63)).astype(bool) & self.shuffle
        sort = np.argsort(once)
        which = sort[np.searchsorted(once[sort], blocks)]
        begin = shares[which] * laps // count
        sizes = np.tile(shares[which] * (laps + 1) // count - begin, 2)
        before = sizes.cumsum() - sizes
        late = int(shift * int(sizes[np.argmax(sizes > 0)]))
        start, stop = (np.clip(bound + late - before, 0, sizes) for bound in bounds)
        some = np.flatnonzero(stop > start)
        visit = some % len(blocks)
        place = begin[visit] + offsets[which[visit]]
        length = rows[which[visit]]
        each, first, stop = _wrapped(place + start[some], place + stop[some], length)
        turned, length = backwards[which[visit]][each], length[each]
        return Pieces(
            blocks[visit][each],
            (self.first_lap + laps[visit] + count * (some >= len(blocks)))[each],
            np.where(turned, length - stop, first),
            np.where(turned, length - first, stop),
        )

    def visited(self, every: Sequence[Dealt]) -> Counts:
        """Return how many blocks of each region the shard goes through, once for each lap."""
        found = []
        for region in range(self.regions):
            keys = [np.zeros(0, np.int64)]
            for stratum in self.members:
                pieces, bounds = every[stratum]
                some = slice(*bounds[region : region + 2].tolist())
                keys.append(pieces.block[some] + len(self.region) * pieces.lap[some])
            found.append(len(np.unique(np.concatenate(keys))))
        return np.maximum(found, 1)

    def stream(
        self, stratum: int, pieces: Pieces, bounds: Counts, shares: npt.NDArray[np.float64]
    ) -> Stream:
        """Return the rows of a stratum in the order of their use.

        Of the pieces of each region, that share of them is in memory. It is the same for all strata,
        which so go through the blocks at one pace: a block is read for all of them.
        """
        if not self.shuffle:
            return in_order(pieces)
        windows = np.floor(np.diff(bounds) * shares + 1e-6).astype(np.int64).tolist()
        key = random_key(self.seed, "window", *self.identity, self.shard.number, stratum)
        return rolling(pieces, bounds, windows, key)


def _wrapped(first: Counts, stop: Counts, length: Counts) -> tuple[Counts, Counts, Counts]:
    """Divide stretches of circles where they pass the beginning: each time through is a part.

    Returns
    -------
    tuple of ndarray of int64, shape (parts,)
        Whose part each is, and where it begins and ends in the circle.
    """
    begun = first // length
    times = (stop - 1) // length - begun + 1
    each = np.repeat(np.arange(len(first)), times)
    turn = np.arange(len(each)) - np.repeat(times.cumsum() - times, times) + begun[each]
    zero = turn * length[each]
    return each, np.maximum(first[each] - zero, 0), np.minimum(stop[each] - zero, length[each])


def _shares(rows: Counts, uses: int, phase: float) -> Counts:
    """Divide uses among parts with so many rows: each gets its share, rounded up or down."""
    ends = rows.cumsum()
    if not ends[-1]:
        return np.zeros_like(rows)
    places = (ends * (uses / ends[-1]) + phase).astype(np.int64)
    places[ends == ends[-1]] = uses  # whatever is lost to rounding
    found: Counts = np.diff(places, prepend=0)
    return found


def _room(room_bytes: float, largest: float) -> float:
    """Return what pieces may take whose rows are used together: one has begun while another ends."""
    pieces = room_bytes / max(largest, 1.0)
    return room_bytes - largest - (room_bytes / steps_of(pieces) if pieces > _FEW else 0.0)


def _shared(
    room: float, wanted: npt.NDArray[np.float64], most: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Divide room in proportion; what is too much for one goes to the others."""
    shares = np.zeros_like(wanted)
    open_ = wanted > 0
    while open_.any():
        now = room * wanted / wanted[open_].sum()
        full = open_ & (now >= most)
        if not full.any():
            return np.where(open_, now, shares)
        shares[full] = most[full]
        room -= float(most[full].sum())
        open_ &= ~full
    return shares
