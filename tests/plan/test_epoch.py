from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

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

    def __init__(self, chunks: Sequence[Chunk], strata: int) -> None:
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
            assert chunk.carried_in.tolist() == per_stratum(held, strata)
            assert [stratum for _, stratum, _ in held] == sorted(stratum for _, stratum, _ in held)
            memory = list(held)
            for piece in chunk.pieces:
                assert piece.start == len(memory) + chunk.kept
                assert piece.rows > 0
                memory += rows_of(piece)
            assert chunk.memory_rows == len(memory) + chunk.kept
            self.sizes.append(sum(piece.rows for piece in chunk.pieces))
            order, left = ordered(chunk, memory, strata)
            used = order[: len(order) - chunk.repeats]
            assert len(set(used)) == len(used)
            assert all(row in set(used or order) for row in order[len(used) :])
            # Of each stratum, the first rows make batches and the others are carried.
            for stratum in range(strata):
                mine = [number for number, row in enumerate(memory) if row[1] == stratum]
                count = int(chunk.used[stratum])
                assert sorted(used_of(used, stratum)) == mine[:count]
                kept_back = mine[count:] if used or not chunk.repeats else []
                assert used_of(left, stratum) == kept_back
                assert len(kept_back) == int(chunk.carried_out[stratum])
            start = 0
            for number_, quota in enumerate(chunk.quotas.sum(1).tolist()):
                repeats = chunk.repeats if number_ == len(chunk.quotas) - 1 else 0
                batch = [memory[place] for place, _ in order[start : start + quota + repeats]]
                assert per_stratum(batch[:quota], strata) == chunk.quotas[number_].tolist()
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


def ordered(chunk: Chunk, memory: Sequence[Row], strata: int) -> tuple[list[Placed], list[Placed]]:
    """Return the order of a chunk and what it leaves, without the rows that are kept."""
    out = np.full(chunk.rows, 0xFFFFFFFF, np.uint32)
    codes = np.array([stratum for _, stratum, _ in memory], np.uint8)
    if strata == 1:
        left = chunk.order(out)
    else:
        left = chunk.mixed_order(codes, [None] * strata, out, draw=False)
    return (
        [(int(place), int(codes[place])) for place in out],
        [(int(place), int(codes[place])) for place in left],
    )


def per_stratum(rows: Iterable[Row], strata: int) -> list[int]:
    found = Counter(stratum for _, stratum, _ in rows)
    return [found[stratum] for stratum in range(strata)]


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
        )
        reading = Reading(chunks, counts.shape[1])
        largest = int(counts.sum(1).max()) if len(counts) else 0
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
    row = st.lists(
        st.sampled_from([0, 0, 1, 2, 3, 7, 20]), min_size=strata, max_size=strata
    )
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
)
@example([8, 8, 1], 4, 2, 1, "pad", 8, True)  # the last batch of rank 1 has a repeated row only
@example([8, 8, 1], 4, 2, 2, "uneven", 8, True)
@example([8, 8, 1], 4, 2, 3, "pad", 8, True)  # ... which is all that one of its workers gets
def test_each_row_once_but_for_the_tail(
    counts: list[int],
    batch_size: int,
    world_size: int,
    workers: int,
    tail: Any,
    capacity: int,
    shuffle: bool,
) -> None:
    total = sum(counts)
    if total < world_size:
        return
    demand = plain_demand(total, batch_size, world_size, tail, drop_last=False)
    table = np.array(counts)[:, None]
    readings = read_all(table, demand, world_size, workers, capacity=capacity, shuffle=shuffle)
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
    readings = read_all(
        counts, demand, world_size, workers, capacity=capacity, seed=1, shuffle=shuffle
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
