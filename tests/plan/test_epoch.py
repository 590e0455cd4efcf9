from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rootfeed import kernels
from rootfeed.plan import (
    Chunk,
    Demand,
    Piece,
    Shard,
    balanced_demand,
    carried,
    deal,
    permuted,
    plain_demand,
    random_key,
    resident_rows,
    resumed,
)
from rootfeed.plan.epoch import _in_proportion

Row = tuple[int, int, int]
"""Block, stratum, and number among the block's rows of that stratum."""


def plain(rows: int, batch_size: int, drop_last: bool = False) -> Demand:
    return plain_demand(rows, batch_size, 1, "drop", drop_last)


def deal_plain(
    counts: Sequence[int],
    capacity: int,
    batch_size: int,
    *,
    drop_last: bool = False,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
) -> list[Chunk]:
    """Deal rows of one kind to one rank."""
    return deal(
        np.array(counts, np.int64).reshape(-1, 1),
        plain(sum(counts), batch_size, drop_last),
        Shard(),
        capacity=capacity,
        seed=seed,
        epoch=epoch,
        shuffle=shuffle,
    )


def blocks_of(chunk: Chunk) -> list[int]:
    return [piece.block for piece in chunk.pieces]


def rows_of(piece: Piece) -> list[Row]:
    """Return a piece's rows as they lie in its block, where the strata take turns."""
    rows = [
        (row, (stratum + piece.block) % len(piece.ranges), stratum)
        for stratum, (first, stop) in enumerate(piece.ranges.tolist())
        for row in range(first, stop)
    ]
    return [(piece.block, stratum, row) for row, _, stratum in sorted(rows)]


class Reading:
    """A shard that goes through its chunks and keeps track of rows, as the reader does of bytes."""

    def __init__(self, chunks: Sequence[Chunk], classes: int, regions: np.ndarray | None = None) -> None:
        strata = classes if regions is None or not chunks else len(chunks[0].used)

        def stratum_of(row: Row) -> int:
            return row[1] if regions is None or strata == 1 else int(regions[row[0]])

        def per_stratum(rows: Iterable[Row]) -> list[int]:
            found = Counter(map(stratum_of, rows))
            return [found[stratum] for stratum in range(strata)]

        self.batches: list[list[Row]] = []
        self.received: list[list[Row]] = []
        """Rows that each chunk was carried."""
        self.sizes: list[int] = []
        """Rows of the pieces of each chunk."""
        held: list[Row] = []
        first_batch = 0
        for number, chunk in enumerate(chunks):
            assert (chunk.number, chunk.first_batch) == (number, first_batch)
            self.received.append(held)
            assert chunk.carried_in.tolist() == per_stratum(held)
            assert [stratum_of(row) for row in held] == sorted(map(stratum_of, held))
            memory = list(held)
            for piece in chunk.pieces:
                assert piece.start == len(memory) + chunk.kept
                assert piece.rows > 0
                memory += rows_of(piece)
            assert chunk.memory_rows == len(memory) + chunk.kept
            self.sizes.append(sum(piece.rows for piece in chunk.pieces))
            order, left = ordered(
                chunk, np.array([stratum_of(row) for row in memory], np.uint8), classes
            )
            used = order[: len(order) - chunk.repeats]
            assert len(set(used)) == len(used)
            assert all(row in set(used or order) for row in order[len(used) :])
            # Of each stratum, the first rows make batches and the others are carried.
            for stratum in range(strata):
                mine = [number for number, row in enumerate(memory) if stratum_of(row) == stratum]
                count = int(chunk.used[stratum])
                assert sorted(used_of(used, stratum)) == mine[:count]
                kept_back = mine[count:] if used or not chunk.repeats else []
                assert used_of(left, stratum) == kept_back
                assert len(kept_back) == int(chunk.carried_out[stratum])
            start = 0
            for number_, quota in enumerate(chunk.quotas.sum(1).tolist()):
                repeats = chunk.repeats if number_ == len(chunk.quotas) - 1 else 0
                batch = [memory[place] for place, _ in order[start : start + quota + repeats]]
                if classes > 1:
                    assert per_stratum(batch[:quota]) == chunk.quotas[number_].tolist()
                self.batches.append(batch)
                start += quota + repeats
            assert start == len(order) == chunk.rows
            held = [memory[place] for place, _ in left]
            first_batch += len(chunk.quotas)
        assert not held


Placed = tuple[int, int]
"""Place in memory, and stratum."""


def used_of(rows: Iterable[Placed], stratum: int) -> list[int]:
    return [place for place, own in rows if own == stratum]


def ordered(chunk: Chunk, codes: np.ndarray, classes: int) -> tuple[list[Placed], list[Placed]]:
    """Return the order of a chunk and what it leaves, without the rows that are kept."""
    out = np.full(chunk.rows, 0xFFFFFFFF, np.uint32)
    if classes == 1:
        left = chunk.order(out)
    else:
        left = chunk.mixed_order(codes, [None] * classes, out, draw=False)
    carried = [place for some in left for place in np.arange(len(codes))[some]]
    return (
        [(int(place), int(codes[place])) for place in out],
        [(int(place), int(codes[place])) for place in carried],
    )


def shards_of(world_size: int, workers: int) -> list[Shard]:
    return [
        Shard(rank, world_size, worker, workers)
        for rank in range(world_size)
        for worker in range(workers)
    ]


def read_all(
    counts: np.ndarray,
    demand: Demand,
    world_size: int,
    workers: int = 1,
    *,
    capacity: int,
    seed: int = 0,
    epoch: int = 0,
    leg: int = 0,
    shuffle: bool = True,
    regions: np.ndarray | None = None,
) -> dict[Shard, tuple[list[Chunk], Reading]]:
    """Let all shards read an epoch, and assert what holds for any of them."""
    found = {}
    for shard in shards_of(world_size, workers):
        chunks = deal(
            counts,
            demand,
            shard,
            capacity=capacity,
            seed=seed,
            epoch=epoch,
            leg=leg,
            shuffle=shuffle,
            regions=regions,
        )
        reading = Reading(chunks, counts.shape[1], regions)
        largest = int(counts.sum(1).max()) if len(counts) else 0
        if (
            counts.shape[1] > 1 or regions is not None
        ):  # a batch, and of each stratum the rest of a block
            own = (
                counts
                if regions is None
                else counts * (regions[:, None] == np.arange(regions.max() + 1))
            )
            largest = capacity // 2 + int(demand.quotas.sum(1).max(initial=0))
            largest += int(own.max(0, initial=0).sum())
        assert all(size <= max(capacity, largest) for size in reading.sizes)
        repeats = demand.repeats(shard)
        quotas = demand.of(shard).sum(1).tolist()
        quotas[-1:] = [quota + repeats for quota in quotas[-1:]]
        assert [len(batch) for batch in reading.batches] == quotas
        found[shard] = chunks, reading
    return found


def own_rows(readings: dict[Shard, tuple[list[Chunk], Reading]], demand: Demand) -> Counter[Row]:
    """Count how often each row was used, repeated ones left out."""
    seen: Counter[Row] = Counter()
    for shard, (_, reading) in readings.items():
        rows = [row for batch in reading.batches for row in batch]
        seen.update(rows[: len(rows) - demand.repeats(shard)])
    return seen


def every_row(counts: np.ndarray) -> set[Row]:
    return {
        (block, stratum, row)
        for block, mine in enumerate(counts.tolist())
        for stratum, count in enumerate(mine)
        for row in range(count)
    }


# --- rows of one kind, one rank -------------------------------------------------------------------


def check(
    chunks: list[Chunk],
    counts: list[int],
    capacity: int,
    batch_size: int,
    drop_last: bool,
    shuffle: bool,
) -> None:
    """Assert everything that a deal to one rank promises, without looking at each row."""
    total = sum(counts)
    dropped = total % batch_size if drop_last else 0
    dealt = [piece.block for chunk in chunks for piece in chunk.pieces]
    assert len(dealt) == len(set(dealt))
    if not dropped:
        assert sorted(dealt) == [number for number, count in enumerate(counts) if count]
    if not shuffle:
        assert dealt == sorted(dealt)
    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    held_back = sum(counts) - sum(piece.rows for piece in pieces)
    assert held_back == dropped
    for piece in pieces:
        first, stop = piece.ranges[0].tolist()
        assert first == 0  # one rank begins with the first row of its round
        assert 0 < stop <= counts[piece.block]
    carried = 0
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        lengths = np.array([piece.rows for piece in chunk.pieces], np.int64)
        assert chunk.number == number
        assert len(chunk.pieces) > 0
        assert chunk.carried_in.tolist() == [carried]
        assert 0 <= carried < batch_size
        starts = [piece.start for piece in chunk.pieces]
        assert starts == (carried + np.cumsum(lengths) - lengths).tolist()
        # A chunk's memory has room for this much, and for what is carried in.
        assert lengths.sum() <= max(capacity, max(counts))
        available = carried + int(lengths.sum())
        assert chunk.rows == int(chunk.used.sum()) == int(chunk.quotas.sum())
        if last:
            assert chunk.rows == available
            assert chunk.carried_out.tolist() == [0]
        else:
            assert chunk.rows % batch_size == 0
            assert chunk.carried_out.tolist() == [available - chunk.rows]
            assert 0 <= available - chunk.rows < batch_size
        carried = int(chunk.carried_out[0])
    assert sum(chunk.rows for chunk in chunks) == total - dropped


COUNTS = st.one_of(
    st.lists(st.integers(0, 60), max_size=60),
    st.lists(st.sampled_from([0, 1, 1, 2, 500, 10**7]), max_size=40),
    st.integers(1, 300).flatmap(lambda count: st.just([17] * count)),
)


@settings(max_examples=60)
@given(
    counts=COUNTS,
    capacity=st.one_of(st.integers(1, 200), st.integers(1, 10**9)),
    batch_size=st.integers(1, 200),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**64),
    epoch=st.integers(0, 100),
)
@example([30, 100], 100, 10, False, True, 0, 0)
@example([30, 100], 100, 10, False, False, 0, 0)
@example([1, 1, 1, 100], 100, 10, False, True, 0, 0)
@example([], 100, 10, False, True, 0, 0)
@example([0, 0], 100, 10, True, True, 0, 0)
@example([7], 1, 10, True, True, 0, 0)
@example([7, 3], 1, 4, True, True, 0, 0)
def test_every_block_is_dealt_once(
    counts: list[int],
    capacity: int,
    batch_size: int,
    drop_last: bool,
    shuffle: bool,
    seed: int,
    epoch: int,
) -> None:
    if sum(counts) > 10**6:
        batch_size *= 1000  # or there would be millions of batches
    chunks = deal_plain(
        counts, capacity, batch_size, drop_last=drop_last, shuffle=shuffle, seed=seed, epoch=epoch
    )
    if sum(counts) == 0 or (drop_last and sum(counts) < batch_size):
        assert chunks == []
        return
    check(chunks, counts, capacity, batch_size, drop_last, shuffle)


@pytest.mark.parametrize("shuffle", [True, False])
def test_large_deals(shuffle: bool) -> None:
    random = np.random.default_rng(1)
    counts = random.integers(0, 2000, 20_000).tolist()
    chunks = deal_plain(counts, 50_000, 1024, shuffle=shuffle, seed=3, epoch=1)
    check(chunks, counts, 50_000, 1024, False, shuffle)
    # Nor are there many more chunks than needed.
    assert len(chunks) <= 1.35 * sum(counts) / 50_000 + 1


def test_as_few_chunks_as_suffice() -> None:
    assert len(deal_plain([10] * 100, 100, 7)) == 10
    assert len(deal_plain([10] * 100, 100, 7, shuffle=False)) == 10
    assert len(deal_plain([10] * 100, 1000, 7)) == 1
    assert len(deal_plain([10] * 101, 1000, 7)) == 2
    # They are of about equal size, not full ones and a rest.
    sizes = [len(chunk.pieces) for chunk in deal_plain([10] * 101, 1000, 7)]
    assert max(sizes) - min(sizes) <= 1


# --- all strata, all shards -----------------------------------------------------------------------


@st.composite
def datasets(draw: st.DrawFn) -> np.ndarray:
    """Rows of each block and stratum: classes mixed, or stored one after another, or of unequal size."""
    strata = draw(st.integers(1, 4))
    blocks = draw(st.integers(1, 12))
    row = st.lists(st.sampled_from([0, 0, 1, 2, 3, 7, 20]), min_size=strata, max_size=strata)
    counts = np.array(draw(st.lists(row, min_size=blocks, max_size=blocks)), np.int64)
    if draw(st.booleans()):  # one class to a block
        counts = counts * (np.arange(strata) == (np.arange(blocks) * strata // blocks)[:, None])
    return counts


@st.composite
def demands(draw: st.DrawFn, counts: np.ndarray, world_size: int) -> Demand:
    """What the loader may ask for, and other things that a plan can do."""
    totals = counts.sum(0)
    strata = len(totals)
    batch_size = draw(st.integers(1, 12))
    kind = draw(st.sampled_from(["plain", "shares", "any"]))
    if kind == "plain" and strata == 1 and totals[0] >= world_size * batch_size:
        tail: Any = draw(st.sampled_from(["drop", "pad", "uneven"]))
        return plain_demand(int(totals[0]), batch_size, world_size, tail, draw(st.booleans()))
    if kind == "shares" and totals.any():
        shares = np.array(draw(st.lists(st.floats(0.01, 1), min_size=strata, max_size=strata)))
        shares = shares * (totals > 0)
        epoch: Any = draw(st.sampled_from(["shortest", "longest", 1, 5, 30]))
        return balanced_demand(totals, shares / shares.sum(), batch_size, world_size, epoch)
    row = st.lists(st.integers(0, 5), min_size=strata, max_size=strata)
    quotas = np.array(draw(st.lists(row, max_size=12)), np.int64).reshape(-1, strata) * (totals > 0)
    return Demand(quotas[quotas.any(1)])


@st.composite
def regions_of(draw: st.DrawFn, counts: np.ndarray, shuffle: bool) -> np.ndarray | None:
    """The region of each block, where rows are of one kind; or none."""
    if counts.shape[1] > 1 or not shuffle or draw(st.booleans()):
        return None
    return np.sort(draw(arrays(np.int64, len(counts), elements=st.integers(0, 4))))


@settings(max_examples=150)
@given(
    data=st.data(),
    counts=datasets(),
    world_size=st.integers(1, 8),
    workers=st.integers(1, 3),
    capacity=st.sampled_from([1, 5, 20, 60, 10**6]),
    leg=st.integers(0, 2),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**63),
)
def test_all_shards_together_take_each_row_as_often_as_is_asked(
    data: st.DataObject,
    counts: np.ndarray,
    world_size: int,
    workers: int,
    capacity: int,
    leg: int,
    shuffle: bool,
    seed: int,
) -> None:
    demand = data.draw(demands(counts, world_size))
    readings = read_all(
        counts,
        demand,
        world_size,
        workers,
        capacity=capacity,
        seed=seed,
        epoch=2,
        leg=leg,
        shuffle=shuffle,
        regions=data.draw(regions_of(counts, shuffle)),
    )
    seen = own_rows(readings, demand)
    assert set(seen) <= every_row(counts)
    taken = demand.taken(len(demand.quotas), world_size)
    for stratum, (total, wanted) in enumerate(zip(counts.sum(0).tolist(), taken, strict=True)):
        often = [seen[row] for row in every_row(counts) if row[1] == stratum]
        assert sum(often) == wanted
        if total:
            assert set(often) <= {wanted // total, -(-wanted // total)}


@settings(max_examples=60)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=10).filter(any),
    batch_size=st.integers(1, 12),
    world_size=st.integers(1, 8),
    workers=st.integers(1, 3),
    tail=st.sampled_from(["drop", "pad", "uneven"]),
    capacity=st.sampled_from([1, 20, 50, 10**6]),
    shuffle=st.booleans(),
    in_regions=st.booleans(),
)
@example([8, 8, 1], 4, 2, 1, "pad", 8, True, False)  # the last batch of rank 1 has a repeated row only
@example([8, 8, 1], 4, 2, 2, "uneven", 8, True, False)
@example([8, 8, 1], 4, 2, 3, "pad", 8, True, False)  # ... which is all that one of its workers gets
@example([8, 8, 1], 4, 2, 3, "pad", 8, True, True)
def test_each_row_once_but_for_the_tail(
    counts: list[int],
    batch_size: int,
    world_size: int,
    workers: int,
    tail: Any,
    capacity: int,
    shuffle: bool,
    in_regions: bool,
) -> None:
    total = sum(counts)
    if total < world_size:
        return
    demand = plain_demand(total, batch_size, world_size, tail, drop_last=False)
    table = np.array(counts)[:, None]
    regions = np.arange(len(table)) // 3 if in_regions and shuffle else None
    readings = read_all(
        table, demand, world_size, workers, capacity=capacity, shuffle=shuffle, regions=regions
    )
    seen = own_rows(readings, demand)
    assert set(seen.values()) <= {1}
    lengths: dict[int, int] = defaultdict(int)
    rows: dict[int, int] = defaultdict(int)
    for shard, (_, reading) in readings.items():
        lengths[shard.rank] += len(reading.batches)
        rows[shard.rank] += sum(map(len, reading.batches))
    repeated = sum(demand.repeats(shard) for shard in readings)
    if tail == "drop":
        assert len(seen) == total - total % world_size
    else:
        assert set(seen) == every_row(table)
    assert repeated == (-total % world_size if tail == "pad" else 0)
    if tail == "uneven":
        assert max(rows.values()) - min(rows.values()) <= 1
    else:
        assert len(set(rows.values())) == len(set(lengths.values())) == 1


@settings(max_examples=80)
@given(
    data=st.data(),
    counts=datasets(),
    world_size=st.integers(1, 4),
    workers=st.integers(1, 2),
    capacity=st.sampled_from([1, 5, 20, 60]),
    shuffle=st.booleans(),
)
def test_an_epoch_can_go_on_after_any_batch(
    data: st.DataObject,
    counts: np.ndarray,
    world_size: int,
    workers: int,
    capacity: int,
    shuffle: bool,
) -> None:
    demand = data.draw(demands(counts, world_size))
    regions = data.draw(regions_of(counts, shuffle))
    readings = read_all(
        counts, demand, world_size, workers, capacity=capacity, seed=1, shuffle=shuffle, regions=regions
    )
    for chunks, reading in readings.values():
        assert resumed(chunks, len(reading.batches)) == ([], 0)
        for batches in range(len(reading.batches)):
            rest, skipped = resumed(chunks, batches)
            first = rest[0]
            assert first.first_batch + skipped == batches
            assert skipped < len(first.quotas)
            assert rest[1:] == chunks[first.number + 1 :]
            # The rows that are read again are those that the chunk was carried, in their order.
            again = [row for piece in first.refill for row in rows_of(piece)]
            assert again == reading.received[first.number]
            place = first.kept
            for piece in first.refill:
                assert piece.start == place
                place += piece.rows
            assert carried(chunks, first.number) is not None
            # All else is as it was.
            assert first.pieces == chunks[first.number].pieces
            assert first.identity == chunks[first.number].identity


@settings(max_examples=60)
@given(
    counts=datasets(),
    shares=st.lists(st.floats(0.02, 1), min_size=4, max_size=4),
    batch_size=st.integers(1, 12),
    world_size=st.integers(1, 8),
    capacity=st.sampled_from([1, 20, 60, 10**6]),
    shuffle=st.booleans(),
)
@example(np.array([[1, 1]]), [1, 0.0625], 1, 3, 10, True)  # the rare class comes late
def test_no_row_comes_twice_more_than_another_at_any_time(
    counts: np.ndarray,
    shares: list[float],
    batch_size: int,
    world_size: int,
    capacity: int,
    shuffle: bool,
) -> None:
    totals = counts.sum(0)
    wanted = np.array(shares[: len(totals)]) * (totals > 0)
    if not wanted.any():
        return
    demand = balanced_demand(totals, wanted / wanted.sum(), batch_size, world_size, "longest")
    readings = read_all(counts, demand, world_size, capacity=capacity, shuffle=shuffle)
    seen: Counter[Row] = Counter()
    rows = {
        stratum: [row for row in every_row(counts) if row[1] == stratum]
        for stratum in range(len(totals))
    }
    for batch in range(len(demand.quotas)):
        for _, reading in readings.values():
            seen.update(reading.batches[batch])
        for mine in rows.values():
            often = [seen[row] for row in mine] or [0]
            assert max(often) <= min(often) + 2
    assert all(seen[row] for stratum, mine in rows.items() if wanted[stratum] for row in mine)


@settings(max_examples=60)
@given(
    data=st.data(),
    counts=datasets(),
    world_size=st.integers(1, 4),
    capacity=st.sampled_from([1, 20, 60]),
    shuffle=st.booleans(),
)
def test_rounds_that_offer_fewer_rows_come_first(
    data: st.DataObject, counts: np.ndarray, world_size: int, capacity: int, shuffle: bool
) -> None:
    demand = data.draw(demands(counts, world_size))
    part = arrays(np.int64, counts.shape, elements=st.integers(0, 20))
    earlier = [np.minimum(data.draw(part), counts) for _ in range(data.draw(st.integers(1, 2)))]
    if not all((each.sum(0) > 0)[counts.sum(0) > 0].all() for each in earlier):
        return
    used: Counter[tuple[int, Row]] = Counter()
    for shard in shards_of(world_size, 1):
        for chunk in deal(
            counts, demand, shard, capacity=capacity, seed=1, epoch=0, shuffle=shuffle, earlier=earlier
        ):
            for piece in chunk.pieces:
                used.update((piece.round, row) for row in rows_of(piece))
    for stratum, wanted in enumerate(demand.taken(len(demand.quotas), world_size).tolist()):
        left = wanted
        for number, offered in enumerate([*earlier, counts]):
            total = int(offered[:, stratum].sum())
            last = number == len(earlier)
            expected = left if last else min(left, total)
            often = [
                used[number, (block, stratum, row)]
                for block, count in enumerate(offered[:, stratum].tolist())
                for row in range(count)
            ]
            assert sum(often) == expected
            if total:
                assert set(often) <= {expected // total, -(-expected // total)}
            left -= expected


# --- how well they mix ----------------------------------------------------------------------------


def label_counts(chunks: list[Chunk], labels: np.ndarray, classes: int) -> np.ndarray:
    return np.array([np.bincount(labels[blocks_of(chunk)], minlength=classes) for chunk in chunks])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("blocks", "per_chunk", "classes"), [(400, 40, 2), (600, 60, 5), (900, 30, 3)])
def test_classes_stored_one_after_another_share_every_chunk(
    blocks: int, per_chunk: int, classes: int, seed: int
) -> None:
    labels = np.arange(blocks) * classes // blocks
    chunks = deal_plain([100] * blocks, per_chunk * 100, 32, seed=seed)
    assert len(chunks) == blocks // per_chunk
    counts = label_counts(chunks, labels, classes)
    assert np.abs(counts - per_chunk / classes).max() <= 2


@pytest.mark.parametrize("world_size", [2, 5, 8])
def test_classes_stored_one_after_another_share_every_rank(world_size: int) -> None:
    blocks, classes = 400, 4
    labels = np.arange(blocks) * classes // blocks
    counts = np.full((blocks, 1), 100)
    demand = plain_demand(blocks * 100, 32, world_size, "drop", drop_last=False)
    for seed in range(3):
        for rank in range(world_size):
            shard = Shard(rank, world_size)
            chunks = deal(counts, demand, shard, capacity=10**6, seed=seed, epoch=0)
            found = label_counts(chunks, labels, classes)
            assert np.abs(found - blocks / world_size / classes).max() <= 3


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(1, 400), min_size=60, max_size=120),
    bounds=st.lists(st.integers(1, 59), max_size=6),
    capacity=st.integers(5000, 9000),
    batch_size=st.integers(1, 200),
    rank=st.integers(0, 2),
)
def test_each_region_has_its_share_of_every_chunk(
    counts: list[int], bounds: list[int], capacity: int, batch_size: int, rank: int
) -> None:
    regions = np.searchsorted(np.unique(bounds), np.arange(len(counts)), "right")
    for shard in (Shard(), Shard(rank, 3)):
        demand = plain_demand(sum(counts), batch_size, shard.world_size, "drop", drop_last=False)
        chunks = deal(
            np.array(counts)[:, None], demand, shard, capacity=capacity, seed=1, epoch=0, regions=regions
        )
        used = np.array([chunk.used for chunk in chunks])
        shares = used.sum(0) / used.sum()
        # What was used so far is right to a row, and to a region's share of the others' rounding.
        off = np.abs(used.cumsum(0) - used.sum(1).cumsum()[:, None] * shares)
        assert (off <= 1 + len(shares) * shares).all()
        assert used.sum(1).max() - used.sum(1).min() <= 2 * batch_size
        # No chunk overflows, and they are not much smaller than need be.
        assert max(chunk.memory_rows for chunk in chunks) <= capacity
        rest = 400 * (regions.max() + 1)
        assert len(chunks) <= 1.1 * used.sum() / max(capacity - rest, capacity // 2) + 2


def test_tiny_regions_are_used_once_sooner_or_later() -> None:
    counts = np.array([1000] * 40 + [1] + [1000] * 40 + [2])[:, None]
    regions = np.array([0] * 40 + [1] + [2] * 40 + [3])
    demand = plain_demand(int(counts.sum()), 10, 1, "drop", drop_last=False)
    places = []
    for seed in range(60):
        chunks = deal(counts, demand, Shard(), capacity=4000, seed=seed, epoch=0, regions=regions)
        used = np.array([chunk.used for chunk in chunks])
        assert (used >= 0).all()
        assert used.sum(0).tolist() == [40_000, 1, 40_000, 2]
        assert len(chunks) > 20
        places.append(int(used[:, 1].argmax()) / len(chunks))
    # Not always in the same chunk.
    assert min(places) < 0.25
    assert max(places) > 0.75
    assert 0.3 < np.mean(places) < 0.7


@given(
    totals=st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any),
    phase=st.sampled_from([0.0, 0.5, 1 - 2**-32]),
)
def test_rows_that_come_at_the_same_time_are_divided_too(totals: list[int], phase: float) -> None:
    strata, rows = np.array(totals), np.arange(1, sum(totals) + 1)
    found = _in_proportion(strata, rows, np.full(len(totals), phase))
    assert found.sum(1).tolist() == rows.tolist()
    assert found[-1].tolist() == totals
    assert (np.diff(found, axis=0, prepend=0) >= 0).all()


@pytest.mark.parametrize("seed", range(20))
def test_many_regions_of_few_rows(seed: int) -> None:
    # Their shares of a chunk are less than a row each.
    counts, regions = np.ones((120, 1), np.int64), np.arange(120) // 3
    readings = read_all(counts, plain(120, 1), 1, capacity=8, seed=seed, regions=regions)
    assert set(own_rows(readings, plain(120, 1)).values()) == {1}
    ((chunks, _),) = readings.values()
    assert all((chunk.used >= 0).all() for chunk in chunks)


@pytest.mark.parametrize("seed", range(5))
def test_unequal_blocks_mix_too(seed: int) -> None:
    # A class in long blocks and one in short ones, whose number no number of chunks divides.
    counts = [100] * 307 + [10] * 2003
    labels = np.array([0] * 307 + [1] * 2003)
    chunks = deal_plain(counts, 5000, 32, seed=seed)
    rows = np.array(
        [
            [sum(counts[b] for b in blocks_of(chunk) if labels[b] == k) for k in (0, 1)]
            for chunk in chunks
        ]
    )
    share = rows[:, 0] / rows.sum(1)
    ideal = 30700 / (30700 + 20030)
    assert np.abs(share - ideal).max() < 4 * 100 / rows.sum(1).min()


@settings(max_examples=40)
@given(st.integers(2, 12), st.integers(2, 30), st.integers(0, 1000))
def test_each_run_of_blocks_is_spread_over_all_chunks(chunks: int, runs: int, seed: int) -> None:
    # Equal blocks, whole runs: no boundary can drift.
    plan = deal_plain([10] * (chunks * runs), 10 * runs, 4, seed=seed)
    assert len(plan) == chunks
    for chunk in plan:
        assert sorted(block // chunks for block in blocks_of(chunk)) == list(range(runs))


def test_blocks_move_about_from_epoch_to_epoch() -> None:
    plans = [deal_plain([10] * 200, 200, 7, seed=5, epoch=epoch) for epoch in range(20)]
    orders = {tuple(block for chunk in plan for block in blocks_of(chunk)) for plan in plans}
    assert len(orders) == 20
    # The chunk that a block is in is uniform over epochs.
    placed = np.zeros((200, 10))
    for epoch in range(300):
        for chunk in deal_plain([10] * 200, 200, 7, seed=5, epoch=epoch):
            placed[blocks_of(chunk), chunk.number] += 1
    statistic = ((placed - 30) ** 2 / 30).sum()
    freedom = 200 * 9
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


def test_blocks_move_about_among_ranks() -> None:
    demand = plain_demand(600, 7, 4, "drop", drop_last=False)
    placed = np.zeros((60, 4))
    for epoch in range(200):
        for rank in range(4):
            chunks = deal(np.full((60, 1), 10), demand, Shard(rank, 4), capacity=50, seed=5, epoch=epoch)
            placed[[block for chunk in chunks for block in blocks_of(chunk)], rank] += 1
    assert np.abs(placed - 50).max() < 6 * math.sqrt(200 * 3 / 16)


def test_ranks_share_few_blocks() -> None:
    # Each rank's range of the sequence meets its neighbours' in two blocks at most.
    counts = np.random.default_rng(2).integers(1, 100, (300, 1))
    demand = plain_demand(int(counts.sum()), 32, 8, "drop", drop_last=False)
    pieces = Counter(
        piece.block
        for rank in range(8)
        for chunk in deal(counts, demand, Shard(rank, 8), capacity=500, seed=1, epoch=0)
        for piece in chunk.pieces
    )
    assert sum(pieces.values()) <= 300 + 7
    assert len(pieces) >= 299


def test_blocks_of_a_run_do_not_stay_together() -> None:
    together = 0
    for epoch in range(200):
        for chunk in deal_plain([10] * 60, 100, 7, seed=5, epoch=epoch):
            together += len({0, 59} & set(blocks_of(chunk))) == 2
    # Blocks of different runs meet in one of the six chunks by chance.
    assert abs(together - 200 / 6) < 5 * math.sqrt(200 * 5 / 36)


# --- the same again -------------------------------------------------------------------------------


def plan_key(plan: list[Chunk]) -> Any:
    return [
        (
            [(piece.block, piece.start, piece.ranges.tolist()) for piece in chunk.pieces],
            chunk.quotas.tolist(),
            chunk.carried_in.tolist(),
            order_of(chunk).tolist(),
        )
        for chunk in plan
    ]


def order_of(chunk: Chunk) -> np.ndarray:
    out = np.full(chunk.rows, 0xFFFFFFFF, np.uint32)
    chunk.order(out)
    return out


def test_deals_repeat() -> None:
    counts = [10, 20, 30] * 40
    key = plan_key(deal_plain(counts, 300, 16, seed=7, epoch=2))
    assert plan_key(deal_plain(counts, 300, 16, seed=7, epoch=2)) == key
    assert plan_key(deal_plain(counts, 300, 16, seed=8, epoch=2)) != key
    assert plan_key(deal_plain(counts, 300, 16, seed=7, epoch=3)) != key
    demand = plain(sum(counts), 16)
    as_lists = [[count] for count in counts]
    settings: dict[str, Any] = {"capacity": 300, "seed": 7, "epoch": 2}
    assert plan_key(deal(as_lists, demand, Shard(), **settings)) == key
    assert plan_key(deal(as_lists, demand, Shard(), leg=1, **settings)) != key


def test_deals_never_change() -> None:
    plan = deal_plain([10] * 12, 40, 8, seed=42, epoch=1)
    assert [blocks_of(chunk) for chunk in plan] == DEALT
    assert order_of(plan[0]).tolist()[:10] == ORDERED
    counts = np.array([[6, 2], [0, 5], [9, 1], [4, 4]])
    demand = balanced_demand(counts.sum(0), [0.5, 0.5], 4, 2, "longest")
    shared = deal(counts, demand, Shard(1, 2), capacity=8, seed=42, epoch=1)
    found = [
        [(piece.block, *piece.ranges.ravel().tolist()) for piece in chunk.pieces] for chunk in shared
    ]
    assert found == SHARED
    out = np.empty(shared[0].rows, np.uint32)
    shared[0].mixed_order(np.array([1, 1, 1, 0, 0, 0, 0], np.uint8), [None, None], out, draw=False)
    assert out.tolist() == COMPOSED
    regions = np.arange(12) // 5
    even = deal(
        np.full((12, 1), 10), plain(120, 8), Shard(), capacity=50, seed=42, epoch=1, regions=regions
    )
    assert [(blocks_of(each), each.used.tolist(), order_of(each).tolist()[:8]) for each in even] == EVEN


def test_the_order_within_a_chunk() -> None:
    plan = deal_plain([10] * 12, 40, 8, seed=42, epoch=1)
    orders = []
    for chunk in plan:
        order = order_of(chunk)
        assert sorted(order.tolist()) == list(range(chunk.rows))
        orders.append(order.tolist())
    assert orders[0][:8] != orders[1][:8]
    unshuffled = deal_plain([10] * 12, 40, 8, seed=42, epoch=1, shuffle=False)
    assert order_of(unshuffled[0]).tolist() == list(range(unshuffled[0].rows))


@pytest.mark.parametrize("rows", [1, 1000, 65_535, 65_536, 200_003])
def test_the_order_is_the_same_in_parts_of_any_length(rows: int) -> None:
    key = random_key(3, "round", 4, 0, 0)
    whole = np.empty(rows, np.uint32)
    kernels.permute(key, whole)
    assert np.array_equal(np.sort(whole), np.arange(rows))
    for length in (rows, rows // 3 + 1, rows // 50 + 1):
        out = np.full(rows, 0xFFFFFFFF, np.uint32)
        parts = [part.copy() for part in permuted(key, length, out)]
        assert [len(part) for part in parts[:-1]] == [length] * (len(parts) - 1)
        assert np.array_equal(np.concatenate(parts), whole)
        assert np.array_equal(out, whole)  # no part changed after it was yielded


# --- rows that are kept in memory -----------------------------------------------------------------


@settings(max_examples=80)
@given(
    rows=st.integers(1, 40),
    first=st.integers(0, 100),
    quotas=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    world_size=st.integers(1, 8),
    workers=st.integers(1, 3),
    extra=st.integers(0, 7),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_kept_rows_are_a_sequence_of_rounds(
    rows: int,
    first: int,
    quotas: list[int],
    world_size: int,
    workers: int,
    extra: int,
    shuffle: bool,
    data: st.DataObject,
) -> None:
    demand = Demand(np.array(quotas)[:, None], extra % world_size)
    found: dict[tuple[int, int], list[int]] = {}
    for shard in shards_of(world_size, workers):
        mine = demand.of(shard)[:, 0].tolist()

        def some(start: int, stop: int, shard: Shard = shard) -> list[int]:
            return resident_rows(
                rows, first, (start, stop), demand, shard, 0, 7, 3, shuffle, False
            ).tolist()

        whole = some(0, len(mine))
        assert len(whole) == sum(mine)
        # From any batch on, and up to any.
        cut = data.draw(st.integers(0, len(mine)))
        assert some(0, cut) + some(cut, len(mine)) == whole
        ends = np.cumsum([0, *mine]).tolist()
        for number, (start, stop) in enumerate(itertools.pairwise(ends)):
            found[number * workers + shard.worker, shard.rank] = whole[start:stop]
    taken = [row for _, part in sorted(found.items()) for row in part]
    assert len(taken) == int(demand.taken(len(quotas), world_size)[0])
    # Batch after batch and rank after rank, they go through one round after another.
    start = -(-first // rows) * rows - first
    for begin in range(start, len(taken) - rows + 1, rows):
        one = taken[begin : begin + rows]
        assert sorted(one) == list(range(rows))
        if not shuffle:
            assert one == sorted(one)
    assert len(set(taken[:start])) == len(taken[:start])


def test_kept_rows_go_on_where_others_have_stopped() -> None:
    demand = Demand(np.full((10, 1), 3))
    whole = resident_rows(20, 0, (0, 10), demand, Shard(), 0, 1, 0, True, False).tolist()
    # Three batches on one rank, then the rest on seven.
    rest = Demand(np.full((1, 1), 3))
    seen = resident_rows(20, 0, (0, 3), demand, Shard(), 0, 1, 0, True, False).tolist()
    for rank in range(7):
        seen += resident_rows(20, 9, (0, 1), rest, Shard(rank, 7), 0, 1, 0, True, False).tolist()
    assert seen == whole


def test_drawn_rows_are_independent() -> None:
    demand = Demand(np.full((200, 1), 50))
    drawn = resident_rows(20, 0, (0, 200), demand, Shard(), 0, 1, 0, True, True)
    counts = np.bincount(drawn, minlength=20)
    assert len(counts) == 20
    statistic = ((counts - 500) ** 2 / 500).sum()
    assert 3 < statistic < 60  # neither a permutation nor a lopsided draw, of 19 degrees of freedom
    ranks = [resident_rows(20, 0, (0, 9), demand, Shard(r, 2), 0, 1, 0, True, True) for r in (0, 1)]
    assert not np.array_equal(*ranks)


DEALT = [[5, 6, 11, 1], [10, 4, 7, 2], [9, 8, 0, 3]]
ORDERED = [26, 34, 16, 24, 35, 11, 29, 39, 28, 19]
SHARED = [
    [(3, 0, 0, 0, 3), (0, 0, 4, 0, 0)],
    [(1, 0, 0, 4, 5)],
    [(2, 4, 9, 0, 0), (0, 0, 0, 0, 2)],
    [(3, 0, 0, 0, 1), (1, 0, 0, 2, 5)],
    [(0, 0, 1, 0, 0)],
]
COMPOSED = [1, 3, 4, 0]
EVEN = [
    ([6, 10, 0], [10, 10, 4], [22, 1, 2, 12, 10, 26, 11, 8]),
    ([5, 8, 3, 4], [14, 13, 5], [6, 30, 33, 14, 13, 9, 2, 10]),
    ([11, 1, 9], [13, 13, 6], [10, 1, 15, 13, 18, 26, 0, 14]),
    ([7, 2], [13, 14, 5], [11, 9, 15, 24, 10, 14, 12, 17]),
]
