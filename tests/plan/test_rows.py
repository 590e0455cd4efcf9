"""Which rows make batches: as mixed as after a full shuffle, whoever asks for how many at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

import plans
from plans import Topology
from rootfeed import kernels
from rootfeed.plan import (
    BatchQuotas,
    Offered,
    Order,
    Shard,
    balanced_quotas,
    lacking_bits,
    own_order,
    plain_quotas,
    used,
)
from rootfeed.plan.rows import _Step

ROWS = 2000
"""Of a block of those datasets whose mixing is measured."""


def dataset(
    counts: np.ndarray, regions: np.ndarray | None = None, cached: list[bool] | None = None
) -> Offered:
    return Offered(
        counts,
        np.ones(len(counts), np.int64),
        np.zeros(len(counts), np.int64) if regions is None else regions,
        np.array(cached or [False] * counts.shape[1]),
    )


def plain(blocks: int, rows: int, batch_size: int, room: float, **changes: object) -> Topology:
    offered = dataset(np.full((blocks, 1), rows))
    batch_quotas = plain_quotas(blocks * rows, batch_size, 1, "drop", False)
    return Topology(offered, batch_quotas, room_bytes=room, **changes)  # type: ignore[arg-type]


def batches_of(topology: Topology, shard: Shard | None = None) -> list[np.ndarray]:
    return topology.walk(topology.deal(shard or Shard()))


# --- mixing ---------------------------------------------------------------------------------------


@pytest.mark.thorough(but=["8-10", "24-5", "48-2", "12-10"])
@pytest.mark.parametrize("kinds", [2, 5, 10])
@pytest.mark.parametrize("room", [8, 12, 24, 48])
def test_batches_lack_as_much_entropy_as_is_told(kinds: int, room: int) -> None:
    found = [plans.mixing(kinds, room, seed=seed) for seed in range(4)]
    told = lacking_bits(kinds, np.mean([each.blocks for each in found]))
    assert 0.3 * told - 0.003 < np.mean([each.lacking_bits for each in found]) < 2.5 * told + 0.001


@pytest.mark.thorough(but=["0-2-6", "1-5-12", "2-10-20", "0-10-40"])
@pytest.mark.parametrize(("kinds", "room"), [(2, 6), (5, 12), (10, 20), (10, 40)])
@pytest.mark.parametrize("seed", range(3))
def test_with_a_region_for_each_kind_batches_are_those_of_a_full_shuffle(
    kinds: int, room: int, seed: int
) -> None:
    found = plans.mixing(kinds, room, in_regions=True, seed=seed)
    assert abs(found.lacking_bits) < 0.003
    assert abs(found.rows_sigma) < 4
    assert abs(found.batches_sigma) < 4


@pytest.mark.parametrize("seed", range(3))
def test_with_many_blocks_they_nearly_are(seed: int) -> None:
    found = plans.mixing(4, 60, seed=seed)
    assert abs(found.lacking_bits) < 0.008
    assert abs(found.rows_sigma) < 4


def test_rows_of_a_block_come_at_any_time_of_its_stay() -> None:
    # Rows of a block of a window of 20 are used over the time in which 20 others are.
    found = []
    for seed in range(5):
        rows = np.concatenate(batches_of(plain(100, 200, 50, 22 * 200, seed=seed)))
        places = np.argsort(rows).reshape(100, 200)  # when each row of each block is used
        found.append(places)
        stay = np.ptp(places, axis=1)
        assert np.median(stay) > 12 * 200
        assert stay.max() < 31 * 200  # the first turn and the last take longer
    # The first rows of a block are not used sooner than the last.
    first, last = (np.array(found)[:, :, some].mean() for some in (slice(0, 100), slice(100, 200)))
    assert abs(first - last) < 6 * 20_000 / math.sqrt(12 * 5 * 10_000)


@pytest.mark.thorough
def test_every_row_comes_at_any_time_of_an_epoch() -> None:
    rows = [np.concatenate(batches_of(plain(12, 5, 5, 15.0, seed=seed))) for seed in range(1500)]
    placed = np.zeros((60, 12))
    for one in rows:
        np.add.at(placed, (one, np.arange(60) // 5), 1)
    assert np.abs(placed - 125).max() < 6 * math.sqrt(125)


# --- orders ---------------------------------------------------------------------------------------


def test_pieces_that_are_used_in_one_step_need_no_order_of_their_own() -> None:
    whole, part = plain(4, 10, 5, 1000.0), plain(40, 10, 5, 100.0)
    rows = np.arange(10, dtype=np.uint32)
    assert own_order(whole.deal(Shard()), 0, 1, rows) is rows
    epoch = part.deal(Shard())
    piece = int(np.flatnonzero(epoch.streams[0].is_divided)[0])
    other = int(np.flatnonzero(epoch.streams[0].is_divided)[1])
    ordered = own_order(epoch, 0, piece, rows)
    assert sorted(ordered.tolist()) == rows.tolist() != ordered.tolist()
    assert own_order(epoch, 0, piece, rows).tolist() == ordered.tolist()
    assert own_order(epoch, 0, other, rows).tolist() != ordered.tolist()
    assert own_order(plain(40, 10, 5, 100.0, seed=1).deal(Shard()), 0, piece, rows).tolist() != (
        ordered.tolist()
    )


@pytest.mark.parametrize("room", [1e6, 30.0])
def test_orders_differ_by_seed_epoch_and_leg_and_repeat(room: float) -> None:
    one = np.concatenate(batches_of(plain(20, 10, 7, room, seed=3)))
    assert np.array_equal(one, np.concatenate(batches_of(plain(20, 10, 7, room, seed=3))))
    for changes in ({"seed": 4}, {"seed": 3, "identity": (1, 0)}, {"seed": 3, "identity": (0, 1)}):
        assert not np.array_equal(one, np.concatenate(batches_of(plain(20, 10, 7, room, **changes))))


@pytest.mark.parametrize("room", [1e6, 60.0])
def test_without_a_shuffle_rows_come_as_they_are_stored(room: float) -> None:
    batches = batches_of(plain(20, 10, 7, room, shuffle=False))
    assert np.concatenate(batches).tolist() == list(range(200))
    # Of several strata each does; within a batch they are mixed.
    counts = np.full((10, 2), 6)
    batch_quotas = balanced_quotas([60, 60], [0.5, 0.5], 8, 1, "shortest")
    several = Topology(dataset(counts), batch_quotas, room_bytes=room, shuffle=False)
    batches = batches_of(several)
    rows = np.concatenate(batches)
    for stratum in (0, 1):
        found = [np.sort(batch[several.strata[batch] == stratum]) for batch in batches]
        assert np.concatenate(found).tolist() == several.all_rows(stratum).tolist()
    assert (np.diff(several.strata[rows]) != 0).mean() < 0.9


def test_shared_rows_are_a_sequence_of_rounds() -> None:
    # All shards go through one order together, batch after batch and rank after rank.
    batch_quotas = BatchQuotas(np.full((9, 1), 4))
    offered = dataset(np.full((5, 1), 6), cached=[True])
    for workers in (1, 2):
        topology = Topology(offered, batch_quotas, 3, workers, seed=1)
        of_shards = {shard: batches_of(topology, shard) for shard in topology.shards}
        taken = [
            row
            for number in range(9)
            for rank in range(3)
            for row in of_shards[Shard(rank, 3, number % workers, workers)][number // workers].tolist()
        ]
        rounds = [taken[start : start + 30] for start in range(0, len(taken), 30)]
        assert [sorted(each) for each in rounds[:3]] == [list(range(30))] * 3
        assert len(set(rounds[3])) == len(rounds[3]) == 18
        assert rounds[0] != rounds[1] != rounds[2]
        one = Topology(offered, BatchQuotas(np.full((27, 1), 4)), seed=1)
        assert np.concatenate(batches_of(one)).tolist() == taken


@pytest.mark.parametrize("cached", [True, False])
def test_drawn_rows_are_independent(cached: bool) -> None:
    counts = np.array([[10, 0]] * 2 + [[0, 10]] * 3)
    batch_quotas = balanced_quotas([20, 30], [0.5, 0.5], 100, 1, 60)
    topology = Topology(dataset(counts, cached=[cached, cached]), batch_quotas, draws=True, seed=2)
    batches = batches_of(topology)
    rows = np.concatenate(batches)
    for stratum, total in ((0, 20), (1, 30)):
        mine = rows[topology.strata[rows] == stratum]
        assert len(mine) == 3000
        expected = 3000 / total
        often = np.bincount(mine, minlength=50)[topology.all_rows(stratum)]
        # Not each as often as the others, and none too rarely.
        statistic = ((often - expected) ** 2 / expected).sum()
        assert abs(statistic - (total - 1)) < 6 * math.sqrt(2 * total)
        assert often.max() - often.min() > 2
    # Ranks draw differently.
    ranks = Topology(topology.offered, batch_quotas, 2, draws=True, seed=2)
    one, two = (np.concatenate(batches_of(ranks, shard)) for shard in ranks.shards)
    assert (one == two).mean() < 0.2


def test_drawn_rows_are_those_of_their_step() -> None:
    counts = np.array([[10, 0]] * 40 + [[0, 1]])
    counts *= 100
    batch_quotas = balanced_quotas([40_000, 1], [1.0, 0.0], 20, 1, 2000)
    topology = Topology(dataset(counts), batch_quotas, room_bytes=8000.0, draws=True, seed=2)
    epoch = topology.deal(Shard())
    stream = epoch.streams[0]
    rows = np.concatenate(topology.walk(epoch))
    for number, row in enumerate(rows.tolist()):  # batches of 20 are put in another order
        first, _ = stream.step_of(number // 20 * 20)
        last, _ = stream.step_of(number // 20 * 20 + 19)
        parts = stream.piece[stream.parts[first] : stream.parts[last + 1]]
        assert row // 1000 in stream.pieces.block[parts]
    assert 0.6 < len(np.unique(rows)) / 40_000 < 0.67  # 1 - 1 / e


def test_rows_that_batches_repeat_are_their_own() -> None:
    for cached in (False, True):
        for rows, ranks in ((17, 2), (9, 4), (8, 3), (41, 8)):
            offered = dataset(np.ones((rows, 1), np.int64), cached=[cached])
            batch_quotas = plain_quotas(rows, 2, ranks, "pad", False)
            topology = Topology(offered, batch_quotas, ranks, room_bytes=3.0)
            for shard in topology.shards:
                epoch = topology.deal(shard)
                found = np.concatenate(topology.walk(epoch)).tolist()
                assert len(found) == -(-rows // ranks)
                assert len(set(found)) == len(found) - epoch.repeats


def test_a_rank_without_rows_of_its_own_repeats_another() -> None:
    for cached in (False, True):
        offered = dataset(np.array([[0], [1], [2]]), np.array([0, 0, 1]), [cached])
        batch_quotas = plain_quotas(3, 4, 5, "pad", False, rest=True)
        topology = Topology(offered, batch_quotas, 5)
        found = [np.concatenate(batches_of(topology, shard)).tolist() for shard in topology.shards]
        assert [len(each) for each in found] == [1] * 5
        assert {row for each in found for row in each} == {0, 1, 2}
        # It reads no more than that row.
        read = [topology.deal(shard).reads.rows.tolist() for shard in topology.shards]
        assert read == [[] if cached else [1]] * 5


def test_what_was_used_is_what_batches_held() -> None:
    topology = plain(30, 10, 7, 80.0, seed=5)
    epoch = topology.deal(Shard())
    batches = topology.walk(epoch)
    pieces = epoch.streams[0].pieces
    rows = np.concatenate(
        [topology.rows(int(block), 0, 0, 10) for block in pieces.block]  # each whole
    )
    for number in range(len(batches) + 3):
        expected = np.concatenate([np.empty(0, np.uint32), *batches[:number]])
        assert sorted(rows[used(epoch, 0, number)].tolist()) == sorted(expected.tolist())


def test_orders_need_no_block_before_it_is_used() -> None:
    topology = plain(40, 10, 10, 60.0)
    epoch = topology.deal(Shard())
    asked: list[int] = []

    def rows_of(stratum: int, piece: int) -> np.ndarray:
        asked.append(piece)
        return own_order(epoch, stratum, piece, topology.rows(piece, 0, 0, 10))

    order = Order(epoch, rows_of, topology.all_rows)
    order.rows(0, 1)
    assert set(asked) <= set(range(8))
    asked.clear()
    order.rows(30, 31)
    assert min(asked) > 20


def test_orders_never_change() -> None:
    found = batches_of(plain(12, 10, 8, 45.0, seed=42, identity=(1, 0)))
    assert found[0].tolist() == FIRST
    assert found[9].tolist() == TENTH
    counts = np.array([[6, 2], [0, 5], [9, 1], [4, 4]])
    batch_quotas = balanced_quotas(counts.sum(0), [0.5, 0.5], 6, 2, "longest")
    offered = dataset(counts, np.array([0, 0, 1, 1]), [False, True])
    mixed = Topology(offered, batch_quotas, 2, room_bytes=12.0, seed=42)
    assert [batch.tolist() for batch in batches_of(mixed, Shard(1, 2))] == MIXED
    drawn = Topology(offered, batch_quotas, 2, room_bytes=12.0, seed=42, draws=True)
    assert [batch.tolist() for batch in batches_of(drawn, Shard(0, 2))] == DRAWN


FIRST = [34, 82, 81, 30, 84, 88, 35, 31]
TENTH = [53, 93, 59, 90, 94, 20, 58, 91]
MIXED = [[30, 4, 6, 28, 18, 16], [13, 29, 21, 10, 7, 15], [29, 0, 11, 8, 3, 20], [10, 19, 5, 28, 17, 30]]
DRAWN = [
    [24, 12, 23, 22, 9, 25],
    [12, 23, 8, 26, 29, 2],
    [11, 1, 6, 26, 14, 8],
    [6, 21, 29, 3, 13, 11],
]


def test_a_step_is_in_one_order_however_it_is_asked_for() -> None:
    key, rows = np.uint64(5), np.arange(7, 100_007, dtype=np.uint32)  # of several buckets
    expected = np.empty_like(rows)
    kernels.permute(key, rows, expected)
    assert sorted(expected.tolist()) == rows.tolist()
    for length in (100, 4000, 100_000):
        step = _Step(0, key, rows, len(rows), True, False)
        found = [step.rows(first, first + length).copy() for first in range(0, len(rows), length)]
        assert np.array_equal(np.concatenate(found), expected)
