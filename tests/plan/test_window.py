"""The rolling window: rows are used at random times of their block's stay, all of them once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rootfeed import kernels
from rootfeed.plan.window import (
    Pieces,
    Stream,
    _turns,
    at_once,
    in_order,
    rolling,
    steps_of,
)

KEY = np.uint64(1234567)


def pieces_of(rows: list[int]) -> Pieces:
    number = np.arange(len(rows))
    return Pieces(number, 0 * number, 0 * number, np.array(rows, np.int64))


def rolled(rows: list[int], *windows: int, regions: list[int] | None = None, key: int = 1) -> Stream:
    bounds = np.array([0, len(rows)] if regions is None else regions)
    return rolling(pieces_of(rows), bounds, windows, np.uint64(key))


def table(stream: Stream) -> np.ndarray:
    """Return the rows of each piece in each step, shape (pieces, steps)."""
    step = np.repeat(np.arange(len(stream.parts) - 1), np.diff(stream.parts))
    found = np.zeros((len(stream.pieces), len(stream.ends) - 1), np.int64)
    np.add.at(found, (stream.piece, step), stream.count)
    return found


def check(stream: Stream) -> None:
    """All rows are used once, each piece's in its own order, step after step."""
    found = table(stream)
    assert found.sum(1).tolist() == stream.pieces.rows.tolist()
    assert np.append(0, found.sum(0).cumsum()).tolist() == stream.ends.tolist()
    assert (stream.count > 0).all() or not len(stream.pieces)
    place = np.zeros(len(stream.pieces), np.int64)
    for piece, begin, count in zip(stream.piece, stream.begin, stream.count, strict=True):
        assert begin == place[piece]
        place[piece] += count
    first, last = stream.stay
    for piece, mine in enumerate(found):
        used = np.flatnonzero(mine)
        assert (first[piece], last[piece]) == (used[0], used[-1])
        assert stream.is_divided[piece] == (used[0] < used[-1])


# --- the definition -------------------------------------------------------------------------------


def drawn_one_by_one(
    rows: list[int], window: int, random: np.random.Generator
) -> list[tuple[int, float]]:
    """Return the piece of each row, and the time at which it is used, in turns."""
    turns = len(rows) - window + 1
    found = []
    for piece, count in enumerate(rows):
        for _ in range(count):
            group = int(random.integers(window))
            turn = min(max(piece - (window - 1) + group, 0), turns - 1)
            found.append((piece, turn + random.random()))
    return found


def due(rows: list[int], window: int, time: float) -> np.ndarray:
    """Return the share of each piece's rows that is due by a time, in turns: by the definition."""
    turns = len(rows) - window + 1
    group = np.arange(window)
    turn = np.clip(np.arange(len(rows))[:, None] - (window - 1) + group, 0, turns - 1)
    share: np.ndarray = np.clip(time - turn, 0, 1).mean(1)
    return share


SIZES = st.lists(st.integers(1, 40), min_size=2, max_size=30)


@given(rows=SIZES, window=st.integers(1, 29), steps=st.integers(1, 60))
@example([5, 5], 1, 3)
def test_steps_are_equal_parts_of_the_rows_that_are_due(
    rows: list[int], window: int, steps: int
) -> None:
    window = min(window, len(rows))
    times = _turns(np.array(rows), window, steps)
    assert (times[0], times[-1]) == (0, len(rows) - window + 1)
    assert (np.diff(times) >= 0).all()
    for step, time in enumerate(times.tolist()):
        expected = step * sum(rows) / steps
        assert due(rows, window, time) @ rows == pytest.approx(expected, abs=1e-6)


@settings(max_examples=20)
@given(rows=SIZES, window=st.integers(1, 29), seed=st.integers(0, 2**32))
@example([30] * 12, 4, 1)
@example([400, 1, 1, 400, 1], 2, 1)
def test_rows_are_divided_as_they_would_be_drawn(rows: list[int], window: int, seed: int) -> None:
    window = min(window, len(rows) - 1)
    turns = len(rows) - window + 1
    random = np.random.default_rng(seed)
    times = np.sort(random.random(random.integers(1, 12))) * turns
    times = np.concatenate([[0.0], times, [turns]])
    expected = np.diff([due(rows, window, time) for time in times], axis=0).T
    first = np.array([np.flatnonzero(mine > 0)[0] for mine in expected])
    last = np.array([np.flatnonzero(mine > 0)[-1] for mine in expected])
    starts = np.append(0, (last - first + 1).cumsum())
    trials = 300
    found = np.zeros((trials, *expected.shape))
    keys = np.empty(len(rows), np.uint64)
    for trial in range(trials):
        kernels.words(np.uint64(random.integers(2**63)), keys)
        out = np.empty(starts[-1], np.int64)
        kernels.divide(keys, np.array(rows), first, starts, times, window, out)
        for piece in range(len(rows)):
            mine = out[starts[piece] : starts[piece + 1]]
            found[trial, piece, first[piece] : last[piece] + 1] = mine
    assert (found >= 0).all()
    assert (found.sum(2) == rows).all()
    # Numbers of each piece in each step are binomial: mean and variance.
    sizes = np.array(rows)[:, None]
    variance = sizes * expected * (1 - expected)
    assert (np.abs(found.mean(0) - sizes * expected) <= 6 * np.sqrt(variance / trials) + 0.05).all()
    clear = variance > 1
    ratio = found.var(0)[clear] / variance[clear]
    assert (np.abs(ratio - 1) < 6 * math.sqrt(3 / trials)).all()


def test_numbers_are_those_of_rows_that_are_drawn_one_by_one() -> None:
    rows, window, random = [7, 3, 5, 9, 4, 6], 3, np.random.default_rng(1)
    times = np.array([0, 0.7, 1.6, 2.0, 3.5, 4])
    trials = 4000
    drawn = np.zeros((trials, 6, 5), np.int64)
    for trial in range(trials):
        for piece, time in drawn_one_by_one(rows, window, random):
            drawn[trial, piece, np.searchsorted(times, time, "right") - 1] += 1
    divided = np.zeros_like(drawn)
    first, starts = np.zeros(6, np.int64), np.arange(0, 31, 5)
    for trial in range(trials):
        keys = random.integers(2**63, size=6).astype(np.uint64)
        out = np.empty(30, np.int64)
        kernels.divide(keys, np.array(rows), first, starts, times, window, out)
        divided[trial] = out.reshape(6, 5)
    # The whole distribution of each number, and how two of a piece depend on each other.
    for piece in range(6):
        for step in range(5):
            one = np.bincount(drawn[:, piece, step], minlength=10)
            two = np.bincount(divided[:, piece, step], minlength=10)
            both = one + two
            some = both > 20
            assert ((one - two)[some] ** 2 / both[some]).sum() < some.sum() + 6 * math.sqrt(
                2 * some.sum()
            )
        assert np.abs(np.cov(drawn[:, piece].T) - np.cov(divided[:, piece].T)).max() < 0.25


def test_divisions_never_change() -> None:
    found = rolled([20] * 6, 3, key=42)
    assert table(found).sum(1).tolist() == [20] * 6
    assert found.count.tolist()[:12] == DIVIDED
    assert found.ends.tolist()[:8] == ENDS


# --- streams --------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(data=st.data(), sizes=st.lists(st.integers(0, 14), min_size=1, max_size=4).filter(any))
def test_every_row_is_used_once(data: st.DataObject, sizes: list[int]) -> None:
    rows = data.draw(st.lists(st.integers(1, 60), min_size=sum(sizes), max_size=sum(sizes)))
    windows = data.draw(st.lists(st.integers(0, 15), min_size=len(sizes), max_size=len(sizes)))
    bounds = np.cumsum([0, *sizes]).tolist()
    stream = rolled(rows, *windows, regions=bounds)
    check(stream)
    again = rolled(rows, *windows, regions=bounds)
    assert np.array_equal(stream.count, again.count)
    held = [min(max(window, 1), max(size, 1)) for window, size in zip(windows, sizes, strict=True)]
    if all(window >= size for window, size in zip(held, sizes, strict=True)):
        assert len(stream.ends) == 2
        return
    in_memory = sum(
        np.mean(rows[start : start + size]) * window
        for start, size, window in zip(bounds, sizes, held, strict=False)
        if size
    )
    assert len(stream.ends) - 1 == math.ceil(steps_of(sum(held)) * sum(rows) / in_memory)


def test_a_step_is_a_small_part_of_what_is_in_memory() -> None:
    # A block stays for a step longer than its rows are used: few large ones ask for more steps.
    assert [steps_of(pieces) for pieces in (0, 1, 8, 16, 32, 1000)] == [64, 64, 64, 32, 16, 16]


@pytest.mark.parametrize(("blocks", "window"), [(40, 1), (40, 4), (40, 16), (40, 39), (200, 16)])
def test_a_window_holds_its_blocks_and_one_that_comes_or_goes(blocks: int, window: int) -> None:
    stream = rolled([300] * blocks, window)
    steps = len(stream.ends) - 1
    times, turns = _turns(stream.pieces.rows, window, steps), blocks - window + 1
    first, last = stream.stay
    together = [int(((first <= step) & (step <= last)).sum()) for step in range(steps)]
    assert max(together) <= window + math.ceil(np.diff(times).max()) + 1
    assert np.median(together) >= min(window, blocks - 1)
    # Blocks enter and leave in order, one a turn.
    number = np.arange(blocks)
    assert (times[first + 1] > number - window + 1).all()
    assert (times[last] < np.minimum(number + 1, turns)).all()
    assert (times[first] <= np.maximum(number - window + 1, 0) + 1).all()


def test_what_is_in_memory_together_is_used_in_one_step() -> None:
    stream = rolled([5, 7, 9], 3)
    assert stream.ends.tolist() == [0, 21]
    assert (stream.piece.tolist(), stream.begin.tolist()) == ([0, 1, 2], [0, 0, 0])
    assert stream.count.tolist() == [5, 7, 9]
    assert not stream.is_divided.any()
    check(stream)
    # More than there are is all of them, in each region.
    assert len(rolled([5, 7, 9], 9, 8, regions=[0, 2, 3]).ends) == 2
    assert len(rolled([5, 7, 9], 1, 1, regions=[0, 2, 3]).ends) > 2


def test_a_window_of_one_uses_block_after_block() -> None:
    stream = rolled([64] * 5, 1)
    found = table(stream)
    assert found.shape == (5, 5 * 64)
    for number in range(5):
        assert found[number, number * 64 : (number + 1) * 64].sum() == 64


def test_all_regions_are_used_at_the_same_pace() -> None:
    rows = [200] * 50 + [30] * 20 + [1000] * 3 + [40]
    for key in range(5):
        stream = rolled(rows, 8, 3, 1, 1, regions=[0, 50, 70, 73, 74], key=key)
        found = table(stream).cumsum(1)
        steps = found.shape[1]
        for start, stop in ((0, 50), (50, 70), (70, 73), (73, 74)):
            total = sum(rows[start:stop])
            expected = np.arange(1, steps + 1) / steps * total
            share = np.arange(1, steps + 1) / steps
            # At most as far off as if each row came at any time.
            sigma = np.sqrt(total * share * (1 - share)) + 0.5
            assert (np.abs(found[start:stop].sum(0) - expected) < 5 * sigma).all()


def test_regions_that_fit_are_used_all_along() -> None:
    stream = rolled([100, 100, *[100] * 20], 2, 4, regions=[0, 2, 22])
    first, last = stream.stay
    assert first[:2].tolist() == [0, 0]
    assert (last[:2] >= len(stream.ends) - 3).all()


def test_keys_differ_from_piece_to_piece() -> None:
    found = table(rolled([50] * 30, 10))
    inner = found[10:20]
    shifted = [inner[i][np.flatnonzero(inner[i])[0] :][:12].tolist() for i in range(10)]
    assert len(set(map(tuple, shifted))) == 10
    assert rolled([50] * 30, 10, key=1).count.tolist() != rolled([50] * 30, 10, key=2).count.tolist()


@given(rows=st.lists(st.integers(1, 9), max_size=9))
def test_in_order_is_one_piece_after_another(rows: list[int]) -> None:
    stream = in_order(pieces_of(rows))
    check(stream)
    assert stream.rows == sum(rows)
    assert (stream.piece == np.arange(len(rows))).all()
    assert np.diff(stream.ends).tolist() == rows
    assert not stream.is_divided.any()
    assert not stream.is_shared


def test_the_step_of_a_row() -> None:
    stream = in_order(pieces_of([3, 1, 4]))
    found = [stream.step_of(row) for row in range(8)]
    assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]
    # Steps without rows are passed over.
    every, ends, parts = np.array([0, 1]), np.array([0, 2, 2, 4]), np.array([0, 1, 1, 2])
    gap = Stream(pieces_of([2, 2]), ends, parts, every, every, every, (every, every))
    assert [gap.step_of(row) for row in range(4)] == [(0, 0), (0, 1), (2, 0), (2, 1)]
    shared = at_once(pieces_of([3, 1]), is_shared=True)
    assert shared.is_shared
    assert [shared.step_of(row) for row in (0, 3, 4, 9)] == [(0, 0), (0, 3), (1, 0), (2, 1)]
    assert at_once(pieces_of([]), is_shared=True).step_of(0) == (0, 0)


def test_pieces_are_joined() -> None:
    one, two = pieces_of([3, 4]), Pieces(*(np.array([each]) for each in (7, 2, 1, 9)))
    found = Pieces.joined([one, two])
    assert (found.block.tolist(), found.lap.tolist()) == ([0, 1, 7], [0, 0, 2])
    assert (found.first.tolist(), found.stop.tolist()) == ([0, 0, 1], [3, 4, 9])
    assert found.rows.tolist() == [3, 4, 8]
    assert len(Pieces.joined([])) == 0
    assert Pieces.joined([]).block.dtype == np.int64


DIVIDED = [1, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1]
ENDS = [0, 1, 3, 3, 3, 4, 4, 4]
