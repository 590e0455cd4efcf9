"""The order of blocks: each part of an epoch holds some from all over the dataset."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.plan.order import in_proportion, spread


@given(blocks=st.integers(0, 300), parts=st.integers(0, 400), seed=st.integers(0, 2**64))
def test_successive_blocks_are_one_of_each_part(blocks: int, parts: int, seed: int) -> None:
    order = spread(blocks, parts, seed, 1, 2)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(blocks))
    parts = max(min(parts, blocks), 1)
    assert any(is_spread(each.tolist(), parts) for each in (order, order[::-1]))


def is_spread(order: list[int], parts: int) -> bool:
    """Whether any successive blocks come from all over."""
    whole = len(order) // parts * parts
    # One of each part in turn. Some parts have a block more, which comes at the end.
    of_parts = sorted(sorted(order[place:whole:parts]) for place in range(parts))
    if whole == 0 or any(mine[-1] > its[0] for mine, its in itertools.pairwise(of_parts)):
        return whole == 0
    firsts = np.array([mine[0] for mine in of_parts])
    # Of two neighbours, either may own what lies between them.
    more = np.searchsorted(firsts, order[whole:], "right")
    return len(more) == 0 or int(np.bincount(more).max()) <= 2


@pytest.mark.parametrize("parts", [55, 100, 144])
def test_fewer_successive_blocks_are_spread_as_well_as_can_be(parts: int) -> None:
    places = spread(20 * parts, parts, 7) / (20 * parts)
    for some in range(2, parts + 1):
        for first in range(0, 3 * parts, 7):
            gaps = np.diff(np.sort(places[first : first + some]), append=1 + places[first:][:some].min())
            # A random order leaves gaps of five times the mean, and more.
            assert gaps.max() <= 3 / some + 2 / parts


def test_a_single_part_is_a_random_order() -> None:
    found = {tuple(spread(4, 1, seed).tolist()) for seed in range(400)}
    assert len(found) == math.factorial(4)
    firsts = np.bincount([int(spread(20, 1, seed)[0]) for seed in range(2000)], minlength=20)
    assert ((firsts - 100) ** 2 / 100).sum() < 19 + 6 * math.sqrt(2 * 19)


def test_orders_differ_by_seed_and_identity() -> None:
    one = spread(200, 20, 1, 5)
    assert np.array_equal(one, spread(200, 20, 1, 5))
    for other in (spread(200, 20, 2, 5), spread(200, 20, 1, 6), spread(200, 20, 1, 5, 0)):
        assert not np.array_equal(one, other)


def test_each_block_comes_at_any_time() -> None:
    placed = np.zeros((60, 60))
    for seed in range(3000):
        placed[spread(60, 6, seed), np.arange(60)] += 1
    assert np.abs(placed - 50).max() < 6 * math.sqrt(50)
    # The first part is not the same each time, and not tied to the block that is drawn of it.
    firsts = np.bincount([int(spread(60, 6, seed)[0]) // 10 for seed in range(600)], minlength=6)
    assert np.abs(firsts - 100).max() < 6 * math.sqrt(600 * 5 / 36)


@pytest.mark.parametrize(("blocks", "parts"), [(15, 12), (7, 3), (20, 7)])
def test_no_block_comes_early_for_its_place(blocks: int, parts: int) -> None:
    # Parts are longer or shorter by a block: which ones, differs from order to order.
    orders = np.array([np.argsort(spread(blocks, parts, seed)) for seed in range(4000)])
    mean = (blocks - 1) / 2
    assert np.abs(orders.mean(0) - mean).max() < 5 * blocks / math.sqrt(12 * 4000)


def test_orders_never_change() -> None:
    assert spread(12, 4, 42, 1).tolist() == SPREAD


# --- shares of regions ----------------------------------------------------------------------------


@given(
    totals=st.lists(st.integers(0, 50), min_size=1, max_size=9).filter(any),
    phases=st.one_of(
        st.sampled_from([0.0, 0.5, 1 - 2**-32]).map(lambda phase: [phase] * 9),
        st.lists(st.floats(0, 1, exclude_max=True), min_size=9, max_size=9),
    ),
)
def test_each_region_has_its_share_of_the_first_rows(totals: list[int], phases: list[float]) -> None:
    counts, rows = np.array(totals), np.arange(sum(totals) + 1)
    found = in_proportion(counts, rows, np.array(phases[: len(totals)]))
    assert found.dtype == np.int64
    assert found.sum(1).tolist() == rows.tolist()
    assert found[-1].tolist() == totals
    assert (np.diff(found, axis=0, prepend=0) >= 0).all()
    shares = counts / counts.sum()
    assert (np.abs(found - rows[:, None] * shares) <= 1 + len(totals) * shares + 1e-9).all()


def test_rows_come_at_equal_distances() -> None:
    # Of 3 rows, the first comes at 0.5 / 3 of the time of 30, which come at 0.5 / 30, 1.5 / 30, ...
    found = in_proportion(np.array([3, 30]), np.arange(34), np.array([0.5, 0.5]))
    assert np.flatnonzero(np.diff(found[:, 0])).tolist() == [5, 16, 27]
    early = in_proportion(np.array([3, 30]), np.arange(34), np.array([0.99, 0.5]))
    late = in_proportion(np.array([3, 30]), np.arange(34), np.array([0.0, 0.5]))
    assert np.flatnonzero(np.diff(early[:, 0]))[0] == 0
    assert np.flatnonzero(np.diff(late[:, 0]))[0] == 10


def test_a_region_of_one_row_gives_it_to_any_rank() -> None:
    bounds = np.arange(0, 101, 20)
    found = [
        np.flatnonzero(np.diff(in_proportion(np.array([99, 1]), bounds, np.array([0.5, phase]))[:, 1]))
        for phase in np.linspace(0, 1, 50, endpoint=False)
    ]
    assert all(len(each) == 1 for each in found)
    assert set(itertools.chain.from_iterable(each.tolist() for each in found)) == set(range(5))


SPREAD = [7, 4, 10, 1, 6, 5, 9, 2, 8, 3, 11, 0]
