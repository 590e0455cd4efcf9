"""What a shard does in an epoch: what it reads of which blocks, when, and how much that is together."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from plans import Topology, check
from rootfeed.plan import BatchQuotas, Epoch, Offered, Read, Reads, Shard, balanced_quotas, plain_quotas
from rootfeed.plan.reads import _new, _read_together
from rootfeed.plan.visits import Group, _shared, _shares, parts_of


def offered_of(
    counts: Any,
    *,
    row_bytes: Any = 1,
    regions: Any = 0,
    cached: Any = False,
) -> Offered:
    counts = np.array(counts, np.int64)
    counts = counts[:, None] if counts.ndim == 1 else counts
    blocks, strata = counts.shape
    return Offered(
        counts,
        np.broadcast_to(np.array(row_bytes, np.int64), blocks),
        np.broadcast_to(np.array(regions, np.int64), blocks),
        np.broadcast_to(np.array(cached, bool), strata),
    )


def plain(offered: Offered, batch_size: int = 10, world_size: int = 1, **changes: Any) -> Topology:
    batch_quotas = plain_quotas(int(offered.totals.sum()), batch_size, world_size, "drop", False)
    return Topology(offered, batch_quotas, world_size, **changes)


def pieces_of(epoch: Epoch, stratum: int = 0) -> list[tuple[int, int, int]]:
    pieces = epoch.streams[stratum].pieces
    found = zip(pieces.block.tolist(), pieces.first.tolist(), pieces.stop.tolist(), strict=True)
    return list(found)


def rows_per_region(topology: Topology, batches: list[np.ndarray]) -> np.ndarray:
    """Return the rows of each region in each batch."""
    region = np.repeat(topology.offered.regions, topology.offered.counts.sum(1))
    kinds = int(region.max()) + 1
    return np.array([np.bincount(region[batch], minlength=kinds) for batch in batches])


# --- tails ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=10).filter(any),
    batch_size=st.integers(1, 12),
    world_size=st.integers(1, 8),
    workers=st.integers(1, 3),
    tail=st.sampled_from(["drop", "pad", "uneven"]),
    room=st.sampled_from([1, 20, 50, 10**6]),
    shuffle=st.booleans(),
    in_regions=st.booleans(),
    cached=st.booleans(),
)
# The last batch of rank 1 has a repeated row only, which is all that one of its workers gets.
@example([8, 8, 1], 4, 2, 1, "pad", 8, True, False, False)
@example([8, 8, 1], 4, 2, 2, "uneven", 8, True, False, False)
@example([8, 8, 1], 4, 2, 2, "pad", 8, True, False, False)
@example([8, 8, 1], 4, 2, 3, "pad", 8, True, True, False)
@example([8, 8, 1], 4, 2, 3, "pad", 8, True, False, True)
@example([3, 2], 4, 8, 3, "pad", 8, True, False, False)  # fewer rows than ranks
@example([3, 2], 4, 8, 1, "pad", 8, False, False, True)
@example([0, 2], 4, 8, 1, "uneven", 8, True, False, False)
@example([0, 2], 4, 8, 2, "drop", 8, True, False, False)
def test_each_row_once_but_for_the_tail(
    counts: list[int],
    batch_size: int,
    world_size: int,
    workers: int,
    tail: Any,
    room: int,
    shuffle: bool,
    in_regions: bool,
    cached: bool,
) -> None:
    total = sum(counts)
    batch_quotas = plain_quotas(total, batch_size, world_size, tail, drop_last=False, rest=True)
    regions = np.arange(len(counts)) // 3 if in_regions else 0
    offered = offered_of(counts, regions=regions, cached=cached)
    topology = Topology(offered, batch_quotas, world_size, workers, room, shuffle=shuffle)
    check(topology, np.random.default_rng(1))
    seen: Counter[int] = Counter()
    lengths: dict[int, int] = defaultdict(int)
    rows: dict[int, int] = defaultdict(int)
    for shard in topology.shards:
        batches = topology.walk(topology.deal(shard))
        found = np.concatenate([np.empty(0, np.uint32), *batches])
        lengths[shard.rank] += len(batches)
        rows[shard.rank] += len(found)
        seen.update(found[: len(found) - batch_quotas.repeats(shard)].tolist())
    assert set(seen.values()) <= {1}
    if tail == "drop":
        assert len(seen) == total - total % world_size
    else:
        assert len(seen) == total
    repeated = sum(batch_quotas.repeats(shard) for shard in topology.shards)
    assert repeated == (-total % world_size if tail == "pad" else 0)
    if tail == "uneven":
        assert max(rows.values()) - min(rows.values()) <= 1
    else:
        assert len(set(rows.values())) == len(set(lengths.values())) == 1


def test_an_epoch_without_batches() -> None:
    offered = offered_of([3, 4])
    for batch_quotas in (plain_quotas(7, 10, 1, "drop", True), BatchQuotas(np.empty((0, 1), np.int64))):
        epoch = Topology(offered, batch_quotas).deal(Shard())
        assert (epoch.rows, len(epoch.reads), epoch.ends.tolist()) == (0, 0, [[0]])
        assert epoch.reads.peak(epoch.reads.bytes) == 0


# --- what ranks take ------------------------------------------------------------------------------


def test_ranks_share_few_blocks() -> None:
    # Each rank's range of the order meets its neighbours' in two blocks at most.
    counts = np.random.default_rng(2).integers(1, 100, 300)
    topology = plain(offered_of(counts), 32, 8, room_bytes=500.0, seed=1)
    pieces = [piece for shard in topology.shards for piece in pieces_of(topology.deal(shard))]
    assert len(pieces) <= 300 + 7
    assert {block for block, _, _ in pieces} == set(range(300))
    # What they do not share is whole.
    assert sum((first, stop) == (0, counts[block]) for block, first, stop in pieces) >= 300 - 8


def test_blocks_of_which_some_are_not_needed_are_used_whole() -> None:
    # 35 rows of a class, and 30 of another: the fourth block is read for five rows of the first only.
    topology = Topology(
        offered_of([[10, 10]] * 6), BatchQuotas(np.full((5, 2), [7, 6])), room_bytes=50.0
    )
    epoch = topology.deal(Shard())
    rows: list[Counter[int]] = [Counter(), Counter()]
    for stratum in (0, 1):
        for block, first, stop in pieces_of(epoch, stratum):
            rows[stratum][block] += stop - first
    assert [list(each.values()) for each in rows] == [[10, 10, 10, 5], [10, 10, 10]]


def test_blocks_move_about_among_ranks() -> None:
    placed = np.zeros((60, 4))
    for epoch in range(200):
        topology = plain(offered_of([10] * 60), 7, 4, room_bytes=50.0, seed=5, identity=(epoch, 0))
        for shard in topology.shards:
            placed[[block for block, _, _ in pieces_of(topology.deal(shard))], shard.rank] += 1
    assert np.abs(placed - 50).max() < 6 * math.sqrt(200 * 3 / 16)


def test_blocks_move_about_from_epoch_to_epoch() -> None:
    orders, placed = set(), np.zeros((100, 10))
    for epoch in range(300):
        topology = plain(offered_of([10] * 100), room_bytes=225.0, identity=(epoch, 0))
        order = [block for block, _, _ in pieces_of(topology.deal(Shard()))]
        orders.add(tuple(order))
        placed[order, np.arange(100) // 10] += 1
    assert len(orders) == 300
    assert np.abs(placed - 30).max() < 6 * math.sqrt(300 * 0.09)


@pytest.mark.parametrize("world_size", [2, 5, 8])
def test_classes_stored_one_after_another_share_every_rank(world_size: int) -> None:
    blocks, classes = 400, 4
    labels = np.arange(blocks) * classes // blocks
    for seed in range(3):
        topology = plain(offered_of([100] * blocks), 32, world_size, room_bytes=1e4, seed=seed)
        for shard in topology.shards:
            found = np.bincount(labels[[block for block, _, _ in pieces_of(topology.deal(shard))]])
            assert np.abs(found - blocks / world_size / classes).max() <= 3


def test_classes_stored_one_after_another_share_every_window() -> None:
    labels = np.arange(300) * 3 // 300
    for seed in range(5):
        topology = plain(offered_of([50] * 300), room_bytes=50 * 34.0, seed=seed)
        order = labels[[block for block, _, _ in pieces_of(topology.deal(Shard()))]]
        for first in range(270):
            found = np.bincount(order[first : first + 30], minlength=3)
            assert np.abs(found - 10).max() <= 2


# --- rows that are used again ---------------------------------------------------------------------


def laps_of(topology: Topology) -> Counter[tuple[int, int]]:
    """Return how many rows are used of each block in each lap, by all shards."""
    found = Counter[tuple[int, int]]()
    for shard in topology.shards:
        pieces = topology.deal(shard).streams[0].pieces
        for block, lap, rows in zip(pieces.block, pieces.lap, pieces.rows, strict=True):
            found[int(block), int(lap)] += int(rows)
    return found


def test_rows_of_one_class_come_again_in_laps() -> None:
    # Six batches of ten on two ranks go through 24 rows five times.
    topology = Topology(
        offered_of([6] * 4), BatchQuotas(np.full((6, 1), 10)), 2, room_bytes=12.0, seed=3
    )
    assert laps_of(topology) == {(block, lap): 6 for block in range(4) for lap in range(5)}
    # 130 rows: the sixth lap has some of each block, as all others.
    topology = Topology(
        offered_of([6] * 4), BatchQuotas(np.full((13, 1), 10)), 1, room_bytes=12.0, seed=3
    )
    found = laps_of(topology)
    assert set(found) == {(block, lap) for block in range(4) for lap in range(5)}
    assert all(6 <= rows <= 7 for rows in found.values())
    assert {sum(found[block, lap] for lap in range(5)) for block in range(4)} == {32, 33}


@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize(
    ("rare", "epoch", "most"),
    [
        (5, "longest", 2.1),
        (5, 60, 1.6),
        (20, "longest", 2.1),
        (50, "longest", 1.1),
        (5, "shortest", 1.1),
    ],
)
def test_a_block_of_several_classes_is_read_for_all_of_them(
    rare: int, epoch: int | str, most: float, world_size: int
) -> None:
    counts = np.tile([rare, 100 - rare], (200, 1))
    batch_quotas = balanced_quotas(counts.sum(0), [0.5, 0.5], 100, world_size, epoch)
    topology = Topology(offered_of(counts), batch_quotas, world_size, room_bytes=4000.0, seed=1)
    reads, kept = 0, []
    for shard in topology.shards:
        plan = topology.deal(shard)
        reads += len(plan.reads)
        kept.append(plan.reads.peak(plan.reads.bytes))
    # Rows that are used again take reads as often as they are stored, and not as often as used.
    uses = batch_quotas.taken(len(batch_quotas.counts), world_size).sum()
    assert reads <= max(most, 1.1 * uses / counts.sum()) * 200 + 4 * world_size
    assert max(kept) <= 4000


@pytest.mark.parametrize("classes", [4, 20])
def test_classes_of_equal_shares_are_read_together(classes: int) -> None:
    counts = np.full((300, classes), 400 // classes)
    batch_quotas = balanced_quotas(counts.sum(0), [1 / classes] * classes, 100, 1, "longest")
    topology = Topology(offered_of(counts), batch_quotas, room_bytes=16_000.0, seed=1)
    assert len(topology.deal(Shard()).reads) <= 1.1 * 300


@given(
    ranges=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(1, 20)), min_size=1, max_size=8
    )
)
def test_where_the_rows_of_pieces_lie_among_those_that_are_read(
    ranges: list[tuple[int, int, int]],
) -> None:
    ranges = sorted(ranges)
    pieces = tuple((stratum, number) for number, (stratum, _, _) in enumerate(ranges))
    bounds = tuple((begin, begin + length) for _, begin, length in ranges)
    places = Read(0, pieces, bounds, 0, 0, 0).places
    read = {
        stratum: sorted(
            {
                row
                for (s, _), each in zip(pieces, bounds, strict=True)
                for row in range(*each)
                if s == stratum
            }
        )
        for stratum, _ in pieces
    }
    for (stratum, _), some, each in zip(pieces, places, bounds, strict=True):
        assert read[stratum][some] == list(range(*each))
    owner, begin, stop = np.array([(s, b, b + n) for s, b, n in ranges]).T
    assert _new(owner, begin, stop).sum() == sum(map(len, read.values()))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("uses", "blocks", "rows"),
    [((2, 4), 20, 10), ((1, 2), 15, 10), ((2, 6), 15, 6), ((0.5, 2.5), 20, 10)],
)
def test_no_row_comes_early_for_its_place_in_a_block(
    uses: tuple[float, float], blocks: int, rows: int
) -> None:
    counts = np.full((blocks, 2), rows)
    totals = [int(each * blocks * rows) for each in uses]
    quotas = np.stack([np.diff(np.linspace(0, total, 61).astype(np.int64)) for total in totals], 1)
    times, often = np.zeros(2 * blocks * rows), np.zeros(2 * blocks * rows)
    for seed in range(300):
        topology = Topology(offered_of(counts), BatchQuotas(quotas), room_bytes=6.0 * rows, seed=seed)
        for number, batch in enumerate(topology.walk(topology.deal(Shard()))):
            np.add.at(often, batch, 1)
            np.add.at(times, batch, number / 60)
    for stratum in range(2):
        mine = often.reshape(blocks, 2, rows)[:, stratum]
        early = times.reshape(blocks, 2, rows)[:, stratum]
        # 300 epochs: by place in the block, and by block.
        for axis in (0, 1):
            found = early.sum(axis) / mine.sum(axis)
            # Rows of a block come together.
            sigma = np.sqrt(1 / 12 / (300 * (blocks if axis == 0 else 1) * min(uses[stratum], 1)))
            assert np.abs(found - found.mean()).max() < 5 * sigma
            assert np.abs(mine.sum(axis) / mine.sum(axis).mean() - 1).max() < 0.2


def test_windows_of_groups_are_as_long_as_there_is_room_for() -> None:
    # A rare class, whose rows are used a hundred times as often.
    counts = np.tile([2000, 20], (500, 1))
    quotas = np.diff(np.linspace(0, 10**6, 3001).astype(np.int64))[:, None].repeat(2, 1)
    offered = Offered(counts, np.full(500, 50), np.zeros(500, np.int64), np.zeros(2, bool))
    room = 0.012 * counts.sum() * 50
    epoch = Topology(offered, BatchQuotas(quotas), room_bytes=room, seed=1).deal(Shard())
    assert 0.9 < epoch.reads.peak(epoch.reads.bytes) / room <= 1
    assert len(epoch.reads) <= 1100
    # So many blocks of the rare class are in memory, of 500.
    pieces, (first, last) = epoch.streams[1].pieces, epoch.streams[1].stay
    steps = len(epoch.streams[1].ends) - 1
    held = [len(set(pieces.block[(first <= step) & (step <= last)])) for step in range(0, steps, 97)]
    assert np.median(held) > 200


@pytest.mark.thorough
def test_any_row_of_a_block_may_be_the_one_that_comes_more_often() -> None:
    counts = np.tile([10, 90], (30, 1))
    batch_quotas = balanced_quotas(counts.sum(0), [0.5, 0.5], 10, 1, 66)  # 330 of 300 rows, and of 2700
    often = np.zeros((30, 10), np.int64)
    seldom = np.zeros((30, 90), np.int64)
    for seed in range(150):
        topology = Topology(offered_of(counts), batch_quotas, room_bytes=900.0, seed=seed)
        rows = np.concatenate(topology.walk(topology.deal(Shard())))
        uses = np.bincount(rows, minlength=3000).reshape(30, 100)
        often += uses[:, :10] - 1
        seldom += uses[:, 10:]
    for found, expected in ((often.sum(0), 0.1), (seldom.sum(0), 330 / 2700)):
        mean = 150 * 30 * expected
        assert np.abs(found - mean).max() < 5 * np.sqrt(mean)


# --- regions --------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    counts=st.lists(st.integers(20, 400), min_size=60, max_size=120),
    bounds=st.lists(st.integers(1, 59), max_size=4),
    batch_size=st.integers(20, 200),
    world_size=st.sampled_from([1, 3]),
)
def test_each_region_has_its_share_of_every_batch(
    counts: list[int], bounds: list[int], batch_size: int, world_size: int
) -> None:
    regions = np.searchsorted(np.unique(bounds), np.arange(len(counts)), "right")
    topology = plain(
        offered_of(counts, regions=regions), batch_size, world_size, room_bytes=9000.0, seed=1
    )
    totals = np.bincount(regions, counts)
    for shard in topology.shards:
        found = rows_per_region(topology, topology.walk(topology.deal(shard)))
        shares = totals / totals.sum()
        taken = found.cumsum(0)
        rows = taken.sum(1)[:, None]
        # No further off than if all rows were shuffled.
        sigma = np.sqrt(rows * shares * (1 - shares)) + 1
        assert (np.abs(taken - rows * shares) < 6 * sigma + len(shares)).all()
        assert (np.abs(taken[-1] - rows[-1] * shares) <= 2 + len(shares) * shares).all()


@pytest.mark.thorough
def test_a_region_of_one_row_is_used_sooner_or_later() -> None:
    counts = [1000] * 40 + [1] + [1000] * 40 + [2]
    regions = [0] * 40 + [1] + [2] * 40 + [3]
    places, owners = [], Counter[int]()
    for seed in range(120):
        topology = plain(offered_of(counts, regions=regions), 10, room_bytes=8000.0, seed=seed)
        rows = np.concatenate(topology.walk(topology.deal(Shard()), run=64))
        places.append(int(np.flatnonzero(rows == 40_000)[0]) / len(rows))
        ranks = plain(offered_of(counts, regions=regions), 10, 3, room_bytes=8000.0, seed=seed)
        for shard in ranks.shards:
            owners[shard.rank] += any(block == 40 for block, _, _ in pieces_of(ranks.deal(shard)))
    # Not always in the same part of an epoch, nor on the same rank.
    assert abs(np.mean(places) - 0.5) < 6 / math.sqrt(12 * 120)
    assert 0.06 < np.var(places) < 0.11  # 1 / 12
    assert sum(owners.values()) >= 119  # of 80 003 rows, two are dropped
    assert min(owners.values()) > 20


def test_blocks_of_regions_that_are_alike_do_not_end_together() -> None:
    counts, regions = [100] * 160, np.repeat(np.arange(8), 20)
    topology = plain(offered_of(counts, regions=regions), room_bytes=2400.0, seed=2)
    pieces = topology.deal(Shard()).streams[0].pieces
    starts = [100 - int(pieces.rows[regions[pieces.block] == region][0]) for region in range(8)]
    assert sorted(starts) == pytest.approx(np.arange(8) * 12.5, abs=1)
    # The row where a region begins is the one after that where it ends.
    for region in range(8):
        mine = np.flatnonzero(regions[pieces.block] == region)
        first, last = mine[0], mine[-1]
        if starts[region] == 0:
            continue
        assert pieces.block[first] == pieces.block[last]
        parts = sorted((int(pieces.first[each]), int(pieces.stop[each])) for each in (first, last))
        assert (parts[0][0], parts[0][1], parts[1][1]) == (0, parts[1][0], 100)
        assert (pieces.lap[first], pieces.lap[last]) == (0, 1)
    # Where windows hold half of a region or more, nothing is gained.
    whole = plain(offered_of(counts, regions=regions), room_bytes=12_000.0, seed=2).deal(Shard())
    assert (whole.streams[0].pieces.lap == 0).all()


# --- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [500, 1000, 2000, 5000])  # blocks of 80, about
@pytest.mark.parametrize("seed", range(3))
def test_windows_use_what_room_there_is(room: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(20, 60, 300)
    regions = np.repeat(np.arange(4), 75) if seed == 2 else 0
    topology = plain(offered_of(counts, row_bytes=2, regions=regions), room_bytes=float(room), seed=seed)
    epoch = topology.deal(Shard())
    reads = epoch.reads
    held = np.zeros(len(epoch.quotas))
    for first, last, bytes_ in zip(reads.first, reads.last, reads.bytes, strict=True):
        held[first : last + 1] += bytes_
    assert held.max() <= room or (room, seed) == (500, 2)  # as much as a block of each region
    assert np.median(held) > {500: 0.3, 1000: 0.45, 2000: 0.65, 5000: 0.8}[room] * room


@pytest.mark.parametrize("seed", range(3))
def test_small_windows_hold_no_more_than_there_is_room_for(seed: int) -> None:
    counts = np.random.default_rng(seed).integers(5, 60, 60)
    for room in range(120, 300, 12):  # from two blocks on
        epoch = plain(offered_of(counts), room_bytes=float(room), seed=seed).deal(Shard())
        assert epoch.reads.peak(epoch.reads.bytes) <= room


def test_a_dataset_that_fits_is_used_in_one_step() -> None:
    epoch = plain(offered_of([10, 20, 30]), room_bytes=60.0).deal(Shard())
    (stream,) = epoch.streams
    assert len(stream.ends) == 2
    assert (epoch.reads.first == 0).all()
    assert (epoch.reads.last == 5).all()
    assert epoch.reads.peak(epoch.reads.bytes) == 60
    assert len(plain(offered_of([10, 20, 30]), room_bytes=59.0).deal(Shard()).streams[0].ends) > 2


def test_rounds_are_not_in_memory_twice() -> None:
    batch_quotas = BatchQuotas(np.full((30, 1), 10))
    topology = Topology(offered_of([10] * 10), batch_quotas, room_bytes=1e6)
    epoch = topology.deal(Shard())
    first, last = epoch.streams[0].stay
    steps = len(epoch.streams[0].ends) - 1
    together = [int(((first <= step) & (step <= last)).sum()) for step in range(steps)]
    assert np.median(together) >= 8
    assert max(together) <= 12


def test_strata_share_room_as_batches_do() -> None:
    # Twice as many rows of one in each batch, in blocks of their own.
    counts = np.array([[20, 0]] * 100 + [[0, 20]] * 50)
    batch_quotas = balanced_quotas([2000, 1000], [2 / 3, 1 / 3], 30, 1, "shortest")
    topology = Topology(offered_of(counts), batch_quotas, room_bytes=800.0)
    epoch = topology.deal(Shard())
    stays = []
    for stream in epoch.streams:
        first, last = stream.stay
        steps = len(stream.ends) - 1
        together = [int(((first <= step) & (step <= last)).sum()) for step in range(steps)]
        stays.append(np.median(together))
    assert stays[0] / stays[1] == pytest.approx(2, rel=0.2)
    assert 0.75 * 40 <= sum(stays) <= 40


def test_room_that_whole_blocks_leave_free_is_used_by_another_one() -> None:
    # Regions of blocks of ten rows, and room for five besides the one that comes while another leaves.
    for room, expected in ((50, [2, 2]), (59, [2, 2]), (60, [3, 2]), (70, [3, 3])):
        assert parts_of_regions([20, 20], room) == expected
    # Shares of 0.9, 1.7 and 1.7 blocks: each region has one, and what lacks the least another one.
    assert parts_of_regions([9, 17, 17], 53) == [1, 2, 1]


@pytest.mark.parametrize(
    ("needed", "expected"),
    [
        # Blocks that are gone through, their bytes, those of all uses, and what is kept of a block.
        ((20, 120), (4, 280, 280, (5 + 30) * 2)),
        ((10, 60), (2, 140, 140, (5 + 30) * 2)),  # half of the blocks
        ((240, 240), (4, 240, 960, (10 + 20) * 2)),  # in three laps, two thirds of a class in each
        ((120, 60), (4, 200, 360, (10 + 15) * 2)),  # in one lap, half of a class
        ((0, 0), (0, 0, 0, 0)),
    ],
)
def test_how_much_of_each_block_is_kept(needed: tuple[int, int], expected: tuple[float, ...]) -> None:
    offered = offered_of([[10, 30]] * 4, row_bytes=2)
    group = Group(offered, Shard(), np.array([needed]), np.array([True, True]), 0, 1, (0, 0), True)
    assert group.sizes[:, 0] == pytest.approx(expected)


def test_no_shard_mixes_more_blocks_than_it_takes() -> None:
    assert parts_of_regions([20, 12], 1e6) == [20, 12]
    assert parts_of_regions([20, 12], 1e6, shards=4) == [5, 3]
    assert parts_of_regions([20, 12], 1e6, shards=16) == [1, 1]


def parts_of_regions(blocks: list[int], room: float, shards: int = 1) -> list[int]:
    offered = offered_of([10] * sum(blocks), regions=np.repeat(np.arange(len(blocks)), blocks))
    needed = np.diff(np.linspace(0, 10 * sum(blocks), shards + 1).astype(np.int64))[:, None]
    shard = Shard(0, shards)
    (parts,) = parts_of([Group(offered, shard, needed, np.array([True]), 0, 1, (0, 0), True)], room)
    return list(parts.tolist())


def test_uses_are_divided_to_the_last_one() -> None:
    # 49 * (1 / 49) is less than one.
    for total, uses, phase in itertools.product(range(1, 120), (0, 1, 3, 300), (0.0, 0.999)):
        rows = np.array([total // 3, total - total // 3, 0])
        found = _shares(rows, uses, phase)
        assert found.sum() == uses
        assert (np.abs(found - rows * uses / total) < 1 + 1e-9).all()
        assert (found >= 0).all()


@given(
    room=st.integers(0, 1000),
    pairs=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_room_is_divided_in_proportion(room: int, pairs: list[tuple[int, int]]) -> None:
    wanted = np.array([each for each, _ in pairs], float)
    most = wanted / [rounds for _, rounds in pairs]
    shares = _shared(room, wanted, most)
    assert (shares >= 0).all()
    assert (shares <= most + 1e-9).all()
    assert shares.sum() == pytest.approx(min(room, most.sum()), abs=1e-6)
    open_ = (shares < most - 1e-6) & (wanted > 0)
    if open_.any():
        level = shares[open_] / wanted[open_]
        assert level == pytest.approx(np.full(open_.sum(), level[0]), abs=1e-9)
        full = ~open_ & (wanted > 0)
        assert (shares[full] / wanted[full] <= level[0] + 1e-9).all()


# --- reads ----------------------------------------------------------------------------------------


def test_a_block_of_several_strata_is_read_once() -> None:
    counts = np.full((60, 3), 30)
    batch_quotas = balanced_quotas(counts.sum(0), [1 / 3] * 3, 30, 1, "shortest")
    epoch = Topology(offered_of(counts), batch_quotas, room_bytes=1200.0).deal(Shard())
    often = Counter(epoch.reads.blocks.tolist())
    assert set(often) == set(range(60))
    assert len(epoch.reads) < 1.6 * 60
    assert max(len(read.pieces) for read in map(epoch.reads.__getitem__, range(len(epoch.reads)))) == 3
    # Those of a stratum that is used at another time are not kept for long.
    for number in range(len(epoch.reads)):
        read = epoch.reads[number]
        for (stratum, piece), (begin, stop) in zip(read.pieces, read.ranges, strict=True):
            assert pieces_of(epoch, stratum)[piece] == (read.block, begin, stop)


def test_reads_say_which_batches_need_them() -> None:
    topology = plain(offered_of([10] * 40), 7, room_bytes=120.0, seed=4)
    epoch = topology.deal(Shard())
    batches = topology.walk(epoch)
    used_in = defaultdict(list)
    for number, batch in enumerate(batches):
        for block in np.unique(batch // 10).tolist():
            used_in[block].append(number)
    stream = epoch.streams[0]
    for number in range(len(epoch.reads)):
        read = epoch.reads[number]
        # From the step on that uses the first of its rows, to the one that uses the last.
        assert read.first <= min(used_in[read.block])
        assert read.last >= max(used_in[read.block])
        ((_, piece),) = read.pieces
        first, last = (int(each[piece]) for each in stream.stay)
        assert read.first == int(stream.ends[first]) // 7
        assert read.last == (int(stream.ends[last + 1]) - 1) // 7


def test_what_stays_in_memory_is_not_read() -> None:
    counts = np.array([[5, 3], [5, 0], [0, 3]] * 10)
    batch_quotas = balanced_quotas(counts.sum(0), [0.5, 0.5], 10, 1, "longest")
    epoch = Topology(offered_of(counts, cached=[False, True]), batch_quotas, room_bytes=30.0).deal(
        Shard()
    )
    assert set(epoch.reads.stratum.tolist()) == {0}
    assert epoch.streams[1].is_shared
    assert epoch.streams[1].rows == 60
    both = Topology(offered_of(counts, cached=True), batch_quotas).deal(Shard())
    assert len(both.reads) == 0


@pytest.mark.parametrize("run", [1, 3])
@pytest.mark.parametrize("first", [0, 2, 6])
def test_the_peak_is_that_of_the_worst_batch(first: int, run: int) -> None:
    random = np.random.default_rng(1)
    begin = np.sort(random.integers(0, 12, 20))
    last = begin + random.integers(0, 6, 20)
    sizes = random.integers(1, 50, 20)
    starts, none = np.arange(21), np.zeros(20, np.int64)
    reads = Reads(begin, last, sizes, sizes, starts, none, none, none, none, none)
    expected = 0
    for start in range(first, 20, run):
        held = (last >= max(first, start)) & (begin < start + run)
        expected = max(expected, int(sizes[held].sum()))
    assert reads.peak(sizes, first, run) == expected
    assert reads.peak(sizes, 40) == 0


def test_the_peak_is_that_of_an_epoch_unless_asked_for_a_part_of_it() -> None:
    batch, starts, none = np.arange(3), np.arange(4), np.zeros(3, np.int64)
    sizes = np.array([5, 3, 1])
    reads = Reads(batch, batch, sizes, sizes, starts, none, none, none, none, none)
    assert reads.peak(sizes) == 5
    assert reads.peak(sizes, 1) == 3
    assert reads.peak(sizes, run=2) == 8


def test_rows_are_read_with_those_of_their_block_that_are_due_in_the_first_third_of_their_stay() -> None:
    block = np.array([7, 2, 7, 7, 2, 7, 7])
    first = np.array([8, 0, 3, 5, 1, 0, 6])
    last = np.array([9, 2, 9, 9, 2, 9, 9])
    found = _read_together(block, first, last)
    # Of block 7 those due from 0 to 3, from 5 to 6, and at 8; of block 2 those from 0 to 2 / 3.
    together = [[5, 2], [3, 6], [0], [1], [4]]
    assert sorted(np.flatnonzero(found == each).tolist() for each in np.unique(found)) == sorted(
        map(sorted, together)
    )


def test_rows_leave_when_no_batch_needs_them_any_more() -> None:
    # The second class has no row in the last batches.
    batch_quotas = BatchQuotas(np.array([[2, 2], [2, 2], [4, 0], [4, 0]]))
    topology = Topology(offered_of([[3, 0], [0, 1]] * 4), batch_quotas, room_bytes=1e6)
    epoch = topology.deal(Shard())
    leave: dict[int, int] = defaultdict(int)
    for read in map(epoch.reads.__getitem__, range(len(epoch.reads))):
        for stratum, _ in read.pieces:
            leave[stratum] = max(leave[stratum], read.last)
    assert leave == {0: 3, 1: 1}


def test_uses_of_rows_that_are_in_memory_take_memory_too() -> None:
    counts = np.array([[3, 9]] * 20)
    one = offered_of(counts, row_bytes=2)
    offered = Offered(one.counts, one.row_bytes, one.regions, one.cached, use_bytes=5)
    topology = Topology(offered, BatchQuotas(np.full((18, 2), 10)), room_bytes=150.0)
    epoch = topology.deal(Shard())
    topology.walk(epoch)  # which looks at the bytes of each read
    assert (epoch.reads.bytes > epoch.reads.rows * 2).any()


def test_epochs_are_the_same_each_time() -> None:
    def found(**changes: Any) -> Any:
        topology = plain(offered_of([10, 20, 30] * 10), room_bytes=150.0, **changes)
        epoch = topology.deal(Shard())
        keys = [each.tolist() for each in epoch.piece_keys]
        return pieces_of(epoch), epoch.streams[0].count.tolist(), keys

    settings_ = {"seed": 1, "identity": (2, 0)}
    one = found(**settings_)
    assert found(**settings_) == one
    for changes in ({"seed": 2}, {"identity": (3, 0)}, {"identity": (2, 1)}):
        other = found(**(settings_ | changes))
        assert all(mine != its for mine, its in zip(one, other, strict=True))


def test_epochs_never_change() -> None:
    counts = np.array([[6, 2], [0, 5], [9, 1], [4, 4]] * 3)
    batch_quotas = balanced_quotas(counts.sum(0), [0.5, 0.5], 4, 2, "longest")
    regions = np.repeat([0, 1], 6)
    epoch = Topology(
        offered_of(counts, regions=regions), batch_quotas, 2, room_bytes=16.0, seed=42
    ).deal(Shard(1, 2))
    assert [pieces_of(epoch, stratum) for stratum in (0, 1)] == PIECES
    assert [stream.count.tolist()[:12] for stream in epoch.streams] == COUNTS
    reads = [epoch.reads[number] for number in range(4)]
    assert [(read.block, read.first, read.last, read.bytes) for read in reads] == READS
    assert len(list(itertools.chain.from_iterable(PIECES))) > 10


PIECES: Any = [
    [(2, 2, 9), (4, 0, 6), (11, 3, 4), (11, 0, 4), (6, 0, 9), (8, 3, 6)],
    [
        (1, 0, 1),
        (1, 0, 5),
        (1, 4, 5),
        (2, 0, 1),
        (2, 0, 1),
        (4, 1, 2),
        (4, 0, 2),
        (0, 0, 2),
        (0, 0, 2),
        (11, 0, 1),
        (11, 3, 4),
        (7, 0, 4),
        (7, 1, 4),
        (10, 0, 1),
        (10, 0, 1),
        (6, 0, 1),
        (8, 0, 2),
    ],
]
COUNTS: Any = [[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
READS: Any = [(2, 0, 6, 7), (11, 0, 4, 4), (1, 0, 6, 5), (11, 1, 2, 2)]
