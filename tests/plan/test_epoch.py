from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rootfeed import kernels
from rootfeed.plan import Chunk, deal, random_key


def check(
    chunks: list[Chunk],
    counts: list[int],
    capacity: int,
    batch_size: int,
    drop_last: bool,
    shuffle: bool,
) -> None:
    """Assert everything that a deal promises."""
    total = sum(counts)
    dealt = [int(number) for chunk in chunks for number in chunk.blocks]
    wanted = [number for number, count in enumerate(counts) if count]
    assert sorted(dealt) == wanted
    if not shuffle:
        assert dealt == wanted
    carried = 0
    for number, chunk in enumerate(chunks):
        last = number == len(chunks) - 1
        lengths = np.array([counts[block] for block in chunk.blocks], np.int64)
        assert chunk.number == number
        assert len(chunk.blocks) > 0
        assert chunk.carried_in == carried
        assert 0 <= chunk.carried_in < batch_size
        assert chunk.starts.tolist() == (carried + np.cumsum(lengths) - lengths).tolist()
        # A chunk's memory has room for this much, and for what is carried in.
        assert lengths.sum() <= max(capacity, max(counts))
        available = carried + int(lengths.sum())
        if last:
            dropped = total % batch_size if drop_last else 0
            assert chunk.rows == available - dropped
            assert chunk.carried_out == 0
        else:
            assert chunk.rows % batch_size == 0
            assert chunk.carried_out == available - chunk.rows
            assert 0 <= chunk.carried_out < batch_size
        carried = chunk.carried_out
    dealt_rows = sum(chunk.rows for chunk in chunks)
    assert dealt_rows == (total - total % batch_size if drop_last else total)


COUNTS = st.one_of(
    st.lists(st.integers(0, 60), max_size=60),
    st.lists(st.sampled_from([0, 1, 1, 2, 500, 10**9]), max_size=40),
    st.integers(1, 300).flatmap(lambda count: st.just([17] * count)),
)


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
def test_every_block_is_dealt_once(
    counts: list[int],
    capacity: int,
    batch_size: int,
    drop_last: bool,
    shuffle: bool,
    seed: int,
    epoch: int,
) -> None:
    chunks = deal(counts, capacity, batch_size, drop_last, shuffle, seed, epoch)
    if sum(counts) == 0:
        assert chunks == []
        return
    check(chunks, counts, capacity, batch_size, drop_last, shuffle)


@pytest.mark.parametrize("shuffle", [True, False])
def test_large_deals(shuffle: bool) -> None:
    random = np.random.default_rng(1)
    counts = random.integers(0, 2000, 20_000).tolist()
    chunks = deal(counts, 50_000, 1024, False, shuffle, 3, 1)
    check(chunks, counts, 50_000, 1024, False, shuffle)
    # Nor are there many more chunks than needed.
    assert len(chunks) <= 1.35 * sum(counts) / 50_000 + 1


def test_as_few_chunks_as_suffice() -> None:
    assert len(deal([10] * 100, 100, 7, False, True, 0, 0)) == 10
    assert len(deal([10] * 100, 100, 7, False, False, 0, 0)) == 10
    assert len(deal([10] * 100, 1000, 7, False, True, 0, 0)) == 1
    assert len(deal([10] * 101, 1000, 7, False, True, 0, 0)) == 2
    # They are of about equal size, not full ones and a rest.
    sizes = [len(chunk.blocks) for chunk in deal([10] * 101, 1000, 7, False, True, 0, 0)]
    assert max(sizes) - min(sizes) <= 1


def label_counts(chunks: list[Chunk], labels: np.ndarray, classes: int) -> np.ndarray:
    return np.array([np.bincount(labels[chunk.blocks], minlength=classes) for chunk in chunks])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("blocks", "per_chunk", "classes"), [(400, 40, 2), (600, 60, 5), (900, 30, 3)])
def test_classes_stored_one_after_another_share_every_chunk(
    blocks: int, per_chunk: int, classes: int, seed: int
) -> None:
    labels = np.arange(blocks) * classes // blocks
    chunks = deal([100] * blocks, per_chunk * 100, 32, False, True, seed, 0)
    assert len(chunks) == blocks // per_chunk
    counts = label_counts(chunks, labels, classes)
    assert np.abs(counts - per_chunk / classes).max() <= 2


@pytest.mark.parametrize("seed", range(5))
def test_unequal_blocks_mix_too(seed: int) -> None:
    # A class in long blocks and one in short ones, whose number no number of chunks divides.
    counts = [100] * 307 + [10] * 2003
    labels = np.array([0] * 307 + [1] * 2003)
    chunks = deal(counts, 5000, 32, False, True, seed, 0)
    rows = np.array(
        [[sum(counts[b] for b in chunk.blocks if labels[b] == k) for k in (0, 1)] for chunk in chunks]
    )
    share = rows[:, 0] / rows.sum(1)
    ideal = 30700 / (30700 + 20030)
    assert np.abs(share - ideal).max() < 4 * 100 / rows.sum(1).min()


@given(st.integers(2, 12), st.integers(2, 30), st.integers(0, 1000))
def test_each_run_of_blocks_is_spread_over_all_chunks(chunks: int, runs: int, seed: int) -> None:
    # Equal blocks, whole runs: no boundary can drift.
    plan = deal([10] * (chunks * runs), 10 * runs, 4, False, True, seed, 0)
    assert len(plan) == chunks
    for chunk in plan:
        assert sorted(chunk.blocks // chunks) == list(range(runs))


def test_blocks_move_about_from_epoch_to_epoch() -> None:
    plans = [deal([10] * 200, 200, 7, False, True, 5, epoch) for epoch in range(20)]
    orders = {tuple(int(b) for chunk in plan for b in chunk.blocks) for plan in plans}
    assert len(orders) == 20
    # The chunk that a block is in, and its place there, are uniform over epochs.
    placed = np.zeros((200, 10))
    for epoch in range(300):
        for chunk in deal([10] * 200, 200, 7, False, True, 5, epoch):
            placed[chunk.blocks, chunk.number] += 1
    statistic = ((placed - 30) ** 2 / 30).sum()
    freedom = 200 * 9
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


def test_blocks_of_a_run_do_not_stay_together() -> None:
    together = 0
    for epoch in range(200):
        for chunk in deal([10] * 60, 100, 7, False, True, 5, epoch):
            together += len({0, 59} & set(chunk.blocks.tolist())) == 2
    # Blocks of different runs meet in one of the six chunks by chance.
    assert abs(together - 200 / 6) < 5 * math.sqrt(200 * 5 / 36)


def plan_key(plan: list[Chunk]) -> Any:
    return [(chunk.blocks.tolist(), chunk.rows, chunk.carried_in) for chunk in plan]


def test_deals_repeat() -> None:
    arguments = ([10, 20, 30] * 40, 300, 16, False, True, 7, 2)
    assert plan_key(deal(*arguments)) == plan_key(deal(*arguments))
    as_array = (np.array(arguments[0]), *arguments[1:])
    assert plan_key(deal(*as_array)) == plan_key(deal(*arguments))
    other_seed = (*arguments[:5], 8, 2)
    assert plan_key(deal(*other_seed)) != plan_key(deal(*arguments))


def test_deals_never_change() -> None:
    plan = deal([10] * 12, 40, 8, False, True, 42, 1)
    assert [chunk.blocks.tolist() for chunk in plan] == DEALT
    assert order_of(plan[0]).tolist()[:10] == ORDERED


def order_of(chunk: Chunk, length: int = 7) -> np.ndarray:
    out = np.full(chunk.rows, 0xFFFFFFFF, np.uint32)
    parts = [part.copy() for part in chunk.order(length, out)]
    assert [len(part) for part in parts[:-1]] == [length] * (len(parts) - 1)
    order = np.concatenate(parts)
    assert np.array_equal(order, out)  # no part changed after it was yielded
    return order


def test_the_order_within_a_chunk() -> None:
    plan = deal([10] * 12, 40, 8, False, True, 42, 1)
    orders = []
    for chunk in plan:
        order = order_of(chunk)
        assert sorted(order.tolist()) == list(range(chunk.rows))
        orders.append(order.tolist())
    assert orders[0][:8] != orders[1][:8]
    assert order_of(plan[0].shuffled(False)).tolist() == list(range(plan[0].rows))
    assert order_of(plan[0].shuffled(False).shuffled(True)).tolist() == orders[0]


@pytest.mark.parametrize("rows", [1, 1000, 65_535, 65_536, 200_003])
def test_the_order_is_the_same_in_parts_of_any_length(rows: int) -> None:
    chunk = deal([rows], rows, 1, False, True, 3, 4)[0]
    whole = order_of(chunk, rows)
    assert np.array_equal(np.sort(whole), np.arange(rows))
    for length in (rows // 3 + 1, rows // 50 + 1):
        assert np.array_equal(order_of(chunk, length), whole)
    permuted = np.empty(rows, np.uint32)
    kernels.permute(random_key(3, "rows", 4, 0), permuted)
    assert np.array_equal(permuted, whole)


DEALT = [[11, 6, 1, 3], [4, 10, 2, 8], [0, 5, 7, 9]]
ORDERED = [30, 24, 6, 33, 25, 29, 1, 28, 16, 0]
