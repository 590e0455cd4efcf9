from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rootfeed.errors import ArgumentError
from rootfeed.plan import BatchQuotas, Shard, balanced_quotas, plain_quotas

ROWS = st.integers(0, 3000)
SIZES = st.integers(1, 300)
WORLDS = st.integers(1, 8)


def taken_by(batch_quotas: BatchQuotas, world_size: int) -> list[list[int]]:
    """Return the rows of each batch of each rank, repeated ones included."""
    found = []
    for rank in range(world_size):
        shard = Shard(rank, world_size)
        rows = batch_quotas.of(shard).sum(1).tolist()
        if batch_quotas.repeats(shard):
            rows[-1] += batch_quotas.repeats(shard)
        found.append(rows)
    return found


# --- every row once -------------------------------------------------------------------------------


@settings(max_examples=100)
@given(rows=ROWS, batch_size=SIZES, world_size=WORLDS, drop_last=st.booleans())
@example(17, 4, 2, False)
@example(16, 4, 2, False)
@example(17, 8, 2, True)
def test_each_row_is_asked_for_once(
    rows: int, batch_size: int, world_size: int, drop_last: bool
) -> None:
    each = rows // world_size
    for tail in ("drop", "pad", "uneven"):
        if world_size > 1 and (each == 0 or (drop_last and each < batch_size)):
            if tail == "uneven" and rows and not drop_last:
                continue
            with pytest.raises(ArgumentError):
                plain_quotas(rows, batch_size, world_size, tail, drop_last)
            continue
        batch_quotas = plain_quotas(rows, batch_size, world_size, tail, drop_last)
        batches = taken_by(batch_quotas, world_size)
        assert all(size == batch_size for mine in batches for size in mine[:-1])
        assert all(0 < size <= batch_size for mine in batches for size in mine)
        total = sum(map(sum, batches))
        repeats = sum(batch_quotas.repeats(Shard(rank, world_size)) for rank in range(world_size))
        if drop_last:
            assert total == world_size * (each - each % batch_size)
            assert repeats == 0
        elif tail == "drop":
            assert total == world_size * each
            assert repeats == 0
        elif tail == "pad":
            assert total - repeats == rows
            assert total == world_size * math.ceil(rows / world_size)
        else:
            assert total == rows
            assert repeats == 0
            assert {sum(mine) for mine in batches} <= {each, each + 1}
        if tail != "uneven" or drop_last:
            assert all(mine == batches[0] for mine in batches)


def test_too_few_rows() -> None:
    message = "5 rows are too few for 8 ranks. Choose fewer ranks."
    for tail in ("drop", "pad"):
        with pytest.raises(ArgumentError) as caught:
            plain_quotas(5, 20, 8, tail, drop_last=False)
        assert str(caught.value) == message
    assert taken_by(plain_quotas(5, 20, 8, "uneven", drop_last=False), 8) == [[1]] * 5 + [[]] * 3
    # What is left of an epoch may be so little.
    assert taken_by(plain_quotas(5, 20, 8, "drop", drop_last=False, rest=True), 8) == [[]] * 8
    assert taken_by(plain_quotas(5, 20, 8, "pad", drop_last=False, rest=True), 8) == [[1]] * 8
    assert taken_by(plain_quotas(0, 20, 8, "pad", drop_last=False, rest=True), 8) == [[]] * 8
    assert taken_by(plain_quotas(0, 20, 1, "drop", drop_last=False), 1) == [[]]


@pytest.mark.parametrize(
    ("rows", "tail", "expected"),
    [
        (16, "pad", [[4, 4], [4, 4]]),
        (17, "drop", [[4, 4], [4, 4]]),
        (17, "pad", [[4, 4, 1], [4, 4, 1]]),
        (17, "uneven", [[4, 4, 1], [4, 4]]),
        (19, "uneven", [[4, 4, 2], [4, 4, 1]]),
        (19, "pad", [[4, 4, 2], [4, 4, 2]]),
    ],
)
def test_tails(rows: int, tail: Any, expected: list[list[int]]) -> None:
    assert taken_by(plain_quotas(rows, 4, 2, tail, drop_last=False), 2) == expected


# --- fixed shares ---------------------------------------------------------------------------------


@st.composite
def shares(draw: st.DrawFn) -> np.ndarray:
    some = draw(st.lists(st.one_of(st.just(0.0), st.floats(1e-4, 1)), min_size=1, max_size=12))
    if not any(some):
        some[0] = 1.0
    return np.array(some) / np.sum(some)


def check_shares(quotas: np.ndarray, wanted: np.ndarray, batch_size: int) -> None:
    assert (quotas >= 0).all()
    assert (quotas.sum(1) == batch_size).all()
    assert not quotas[:, wanted == 0].any()
    ideal = wanted * batch_size * np.arange(1, len(quotas) + 1)[:, None]
    assert (np.abs(quotas.cumsum(0) - ideal) < 2).all()


@settings(max_examples=60)
@given(wanted=shares(), batch_size=SIZES, world_size=WORLDS, batches=st.integers(1, 200))
def test_every_batch_has_its_shares(
    wanted: np.ndarray, batch_size: int, world_size: int, batches: int
) -> None:
    counts = [1000] * len(wanted)
    batch_quotas = balanced_quotas(counts, wanted.tolist(), batch_size, world_size, batches)
    assert len(batch_quotas.counts) == batches
    check_shares(batch_quotas.counts, wanted, batch_size)
    # The ranks' batches are alike, and so are the first ones of a longer epoch.
    assert taken_by(batch_quotas, world_size) == [[batch_size] * batches] * world_size
    longer = balanced_quotas(counts, wanted.tolist(), batch_size, world_size, batches + 7)
    assert np.array_equal(longer.counts[:batches], batch_quotas.counts)


@pytest.mark.parametrize("classes", [2, 30, 255])
def test_many_classes(classes: int) -> None:
    random = np.random.default_rng(classes)
    for concentration, batch_size in itertools.product((0.05, 1, 20), (1, 2, 7, 64)):
        wanted = random.dirichlet(np.full(classes, concentration))
        batch_quotas = balanced_quotas([1] * classes, wanted.tolist(), batch_size, 1, 300)
        check_shares(batch_quotas.counts, wanted, batch_size)


def test_whole_shares_are_in_every_batch() -> None:
    batch_quotas = balanced_quotas([1000] * 3, [0.5, 0.3, 0.2], 10, 2, "shortest")
    assert (batch_quotas.counts == [5, 3, 2]).all()
    # Thirds even out over three batches, halves of a row over two.
    thirds = balanced_quotas([1000] * 3, [1 / 3] * 3, 10, 1, 30).counts
    assert (thirds.reshape(10, 3, 3).sum(1) == 10).all()
    halves = balanced_quotas([1000] * 2, [0.5, 0.5], 5, 1, 30).counts
    assert (halves.reshape(15, 2, 2).sum(1) == 5).all()


@settings(max_examples=80)
@given(wanted=shares(), data=st.data(), batch_size=st.integers(1, 60), world_size=WORLDS)
def test_as_many_batches_as_the_classes_allow(
    wanted: np.ndarray, data: st.DataObject, batch_size: int, world_size: int
) -> None:
    wanted = np.where(wanted < 0.005, 0, wanted)
    wanted = wanted / wanted.sum() if wanted.any() else np.ones_like(wanted) / len(wanted)
    classes = len(wanted)
    count = st.integers(1, 500)
    counts = np.array(data.draw(st.lists(count, min_size=classes, max_size=classes)))
    used = wanted > 0

    def ends(epoch: Any) -> tuple[int, np.ndarray]:
        batch_quotas = balanced_quotas(counts, wanted.tolist(), batch_size, world_size, epoch)
        check_shares(batch_quotas.counts, wanted, batch_size)
        return len(batch_quotas.counts), batch_quotas.ends[:, used] * world_size

    batches, taken = ends("shortest")
    assert (taken[-1] <= counts[used]).all()
    more = ends(batches + 1)[1][-1]
    assert (more > counts[used]).any()  # one more batch would need more than there is
    batches, taken = ends("longest")
    assert (taken[-1] >= counts[used]).all()
    assert not (taken[-2] >= counts[used]).all()  # one batch fewer would not have used everything


def test_a_rare_class_is_used_up() -> None:
    # Ten rows, one in three hundred batches: it may be late by two.
    batch_quotas = balanced_quotas([10**6, 10], [1 - 1 / 3000, 1 / 3000], 10, 1, "longest")
    assert batch_quotas.counts.sum(0)[0] >= 10**6
    batch_quotas = balanced_quotas([1000, 10], [1 - 1 / 3000, 1 / 3000], 10, 1, "longest")
    assert batch_quotas.counts.sum(0)[1] == 10
    assert 2700 <= len(batch_quotas.counts) <= 3300


def test_epochs_that_nobody_can_plan() -> None:
    for epoch, wanted in (("longest", [1 - 1e-12, 1e-12]), (10**12, [0.5, 0.5])):
        with pytest.raises(ArgumentError) as caught:
            balanced_quotas([10**6, 1], wanted, 1, 1, epoch)
        assert "an epoch would have" in str(caught.value)
        assert "1e+08 are possible" in str(caught.value)


# --- who takes what -------------------------------------------------------------------------------


@st.composite
def some_quotas(draw: st.DrawFn) -> tuple[BatchQuotas, int]:
    world_size = draw(WORLDS)
    if draw(st.booleans()):
        tail: Any = draw(st.sampled_from(["drop", "pad", "uneven"]))
        rows = draw(st.integers(world_size, 300))
        return plain_quotas(rows, draw(st.integers(1, 30)), world_size, tail, False), world_size
    counts = draw(st.lists(st.integers(1, 200), min_size=2, max_size=4))
    wanted = np.array(counts) ** 0.5
    epoch: Any = draw(st.sampled_from(["shortest", "longest", 11]))
    batch_size = draw(st.integers(1, 30))
    return balanced_quotas(counts, wanted / wanted.sum(), batch_size, world_size, epoch), world_size


@settings(max_examples=100)
@given(made=some_quotas(), workers=st.integers(1, 4))
def test_workers_get_each_batch_of_a_rank_once_in_turn(
    made: tuple[BatchQuotas, int], workers: int
) -> None:
    batch_quotas, world_size = made
    for rank in range(world_size):
        whole = batch_quotas.of(Shard(rank, world_size)).tolist()
        parts = [
            batch_quotas.of(Shard(rank, world_size, worker, workers)).tolist()
            for worker in range(workers)
        ]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*parts))
        assert [batch for batch in turns if batch is not None] == whole
        repeats = [
            batch_quotas.repeats(Shard(rank, world_size, worker, workers)) for worker in range(workers)
        ]
        assert sum(repeats) == batch_quotas.repeats(Shard(rank, world_size))
        if any(repeats):  # the worker that gets the last batch
            assert repeats.index(1) == (len(whole) - 1) % workers


def shards_of(world_size: int, workers: int) -> list[Shard]:
    every = itertools.product(range(world_size), range(workers))
    return [Shard(rank, world_size, worker, workers) for rank, worker in every]


@settings(max_examples=100)
@given(made=some_quotas(), workers=st.integers(1, 4))
def test_what_each_shard_takes(made: tuple[BatchQuotas, int], workers: int) -> None:
    batch_quotas, world_size = made
    shards = shards_of(world_size, workers)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert {shard.count for shard in shards} == {len(shards)}
    totals = batch_quotas.totals(world_size, workers)
    assert totals.tolist() == [batch_quotas.of(shard).sum(0).tolist() for shard in shards]


@settings(max_examples=60)
@given(made=some_quotas(), workers=st.integers(1, 4), data=st.data())
def test_ranks_take_rows_in_turn(
    made: tuple[BatchQuotas, int], workers: int, data: st.DataObject
) -> None:
    batch_quotas, world_size = made
    shards = shards_of(world_size, workers)
    stratum = data.draw(st.integers(0, batch_quotas.counts.shape[1] - 1))
    # Of all rows in the order in which ranks take them: batch after batch, in each rank after rank.
    owners = []
    for batch in range(len(batch_quotas.counts)):
        for rank in range(world_size):
            quotas = batch_quotas.of(Shard(rank, world_size))[:, stratum]
            count = int(quotas[batch]) if batch < len(quotas) else 0
            owners += [rank * workers + batch % workers] * count
    for shard in shards:
        batches = len(batch_quotas.of(shard))
        first = data.draw(st.integers(0, batches))
        stop = data.draw(st.integers(first, batches))
        starts, counts = batch_quotas.places(shard, stratum, first, stop)
        assert counts.tolist() == batch_quotas.of(shard)[first:stop, stratum].tolist()
        for start, count in zip(starts.tolist(), counts.tolist(), strict=True):
            assert owners[start : start + count] == [shard.number] * count


@settings(max_examples=100)
@given(made=some_quotas())
def test_what_all_ranks_have_taken_after_some_batches(made: tuple[BatchQuotas, int]) -> None:
    batch_quotas, world_size = made
    for batches in range(len(batch_quotas.counts) + 3):
        expected = sum(
            batch_quotas.of(Shard(rank, world_size))[:batches].sum(0) for rank in range(world_size)
        )
        assert np.array_equal(batch_quotas.taken(batches, world_size), expected)
