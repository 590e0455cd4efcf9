from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootfeed.errors import ArgumentError
from rootfeed.plan import Sizes, choose_sizes
from rootfeed.plan.budget import (
    AHEAD_SHARE,
    BATCHES_SHARE,
    ENOUGH_BLOCKS,
    FEWEST_BLOCKS,
    ORDER_BYTES,
    RUN_BYTES,
    RUNS_AHEAD,
    SCRATCH_SHARE,
    WINDOW_SHARE,
    budget_for,
    needed_bytes,
)

GRID = list(
    itertools.product(
        [100, 10_000, 3_000_000, 10**9],  # entries
        [1.0, 0.2, 0.01],  # share of them that are rows
        [4, 84, 1000],  # bytes of a row
        [1, 128, 8192],  # batch size
        [1, 500, 250_000, 3_000_000],  # entries of a page
        [10_000, 10**6, 10**8, 4 * 10**9],  # budget
    )
)


def sizes(**changes: Any) -> Sizes:
    settings: dict[str, Any] = {
        "rows": 10**6,
        "entries": 10**6,
        "row_bytes": 84,
        "batch_row_bytes": 84,
        "scratch_entry_bytes": 100,
        "batch_size": 1000,
        "page_entries": 1000,
        "budget_bytes": 10**7,
        "threads": 2,
    }
    return choose_sizes(**(settings | changes))


def used_bytes(found: Sizes, budget: int, scratch: int) -> float:
    """Return what a loader holds: window, blocks that are read ahead, batches, one thread's scratch."""
    ahead = 0 if found.in_memory else budget * AHEAD_SHARE
    batches = 0 if found.in_memory else budget * BATCHES_SHARE
    return found.window_bytes + ahead + batches + found.block_entries * scratch


def test_shares_are_the_whole_budget() -> None:
    shares = WINDOW_SHARE + AHEAD_SHARE + SCRATCH_SHARE + BATCHES_SHARE
    assert shares == pytest.approx(1)
    assert WINDOW_SHARE >= 0.5  # of what mixes


def test_sizes_stay_within_the_budget() -> None:
    whole = lazy = refused = 0
    for entries, share, row_bytes, batch_size, page_entries, budget in GRID:
        rows = max(int(entries * share), 1)
        scratch = row_bytes + 20
        fits = rows * (row_bytes + ORDER_BYTES) <= budget * (1 - SCRATCH_SHARE)
        try:
            found = sizes(
                rows=rows,
                entries=entries,
                row_bytes=row_bytes,
                batch_row_bytes=row_bytes,
                scratch_entry_bytes=scratch,
                batch_size=batch_size,
                page_entries=page_entries,
                budget_bytes=budget,
                threads=4,
            )
        except ArgumentError:
            assert not fits
            assert 4 * batch_size * (row_bytes + ORDER_BYTES) > WINDOW_SHARE * budget - row_bytes - 4
            refused += 1
            continue
        case = (entries, share, row_bytes, batch_size, page_entries, budget, found)
        assert found.in_memory == fits, case
        assert used_bytes(found, budget, scratch) <= budget, case
        assert found.block_entries >= 1, case
        assert not found.exact, case
        assert found.regions == (0,), case
        if found.in_memory:
            assert found.window_bytes == rows * (row_bytes + ORDER_BYTES), case
            whole += 1
        else:
            held = found.window_bytes // (row_bytes + ORDER_BYTES)
            assert WINDOW_SHARE * budget - row_bytes - 5 < found.window_bytes <= WINDOW_SHARE * budget
            assert held >= 4 * batch_size, case
            # Several blocks share the window.
            assert found.block_entries * rows // entries <= max(held // FEWEST_BLOCKS, 1), case
            lazy += 1
    assert min(whole, lazy, refused) > 50


@given(
    rows=st.integers(1, 10**7),
    extra=st.integers(0, 10**7),
    row_bytes=st.integers(1, 5000),
    batch_size=st.integers(1, 10**5),
    page_entries=st.integers(1, 10**7),
    budget=st.integers(1, 10**10),
    block_entries=st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_no_choice_exceeds_the_budget(
    rows: int,
    extra: int,
    row_bytes: int,
    batch_size: int,
    page_entries: int,
    budget: int,
    block_entries: int | None,
) -> None:
    scratch = row_bytes + 20
    entries = rows + extra
    try:
        found = choose_sizes(
            rows=rows,
            entries=entries,
            row_bytes=row_bytes,
            batch_row_bytes=row_bytes,
            scratch_entry_bytes=scratch,
            batch_size=batch_size,
            page_entries=page_entries,
            budget_bytes=budget,
            threads=4,
            block_entries=block_entries,
        )
    except ArgumentError:
        return
    if block_entries is not None:
        assert found.block_entries == block_entries
        assert found.exact
        if not found.in_memory:
            assert block_entries * rows // entries * (row_bytes + ORDER_BYTES) <= found.window_bytes
    elif found.block_entries > 1:
        assert used_bytes(found, budget, scratch) <= budget


@given(
    row_bytes=st.integers(1, 100_000),
    batch_size=st.integers(1, 10_000),
    budget=st.integers(10_000, 10**10),
    threads=st.integers(1, 64),
)
def test_runs_of_batches(row_bytes: int, batch_size: int, budget: int, threads: int) -> None:
    changes = {"row_bytes": 1, "batch_size": batch_size, "budget_bytes": budget}
    changes["batch_row_bytes"] = row_bytes
    try:
        found = sizes(**changes, scratch_entry_bytes=1, threads=threads)
    except ArgumentError:
        return
    assert found.run_rows % batch_size == 0
    assert found.run_rows >= batch_size
    assert 1 <= found.runs_ahead <= threads + RUNS_AHEAD
    run_bytes = found.run_rows * row_bytes
    assert run_bytes <= RUN_BYTES or found.run_rows == batch_size
    # A share of the budget of its own, unless that is less than a batch.
    one_batch = found.runs_ahead == 1 and found.run_rows == batch_size
    assert found.runs_ahead * run_bytes <= budget * BATCHES_SHARE or one_batch


def test_a_dataset_that_fits_is_kept() -> None:
    needed = 10**6 * (84 + ORDER_BYTES)
    assert sizes(budget_bytes=int(needed / (1 - SCRATCH_SHARE)) + 2).in_memory
    assert not sizes(budget_bytes=int(needed / (1 - SCRATCH_SHARE)) - 2).in_memory


def test_a_dataset_may_be_kept_whatever_the_budget() -> None:
    found = sizes(in_memory=True, budget_bytes=10_000)
    assert found.in_memory
    assert found.window_bytes == 10**6 * (84 + ORDER_BYTES)


def test_windows_by_hand() -> None:
    found = sizes(chunk_entries=5000, block_entries=300)
    assert found == Sizes(False, 5000 * 88, 300, exact=True, run_rows=1000, runs_ahead=1)
    # Not even a dataset that would fit is kept then.
    assert not sizes(chunk_entries=5000, budget_bytes=10**12).in_memory
    assert sizes(chunk_entries=5000).block_entries <= 2500
    assert sizes(chunk_entries=1000).window_bytes == 1000 * 88
    # Batches are made in runs of what the budget of such a window would be.
    ample = sizes(chunk_entries=10**5, batch_size=10)
    assert ample.runs_ahead * ample.run_rows * 84 <= 10**5 * 88 / WINDOW_SHARE * BATCHES_SHARE


def test_windows_smaller_than_a_batch_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"must be at least batch_size \(1000\), got 999"):
        sizes(chunk_entries=999)


def test_too_little_memory_says_how_much_is_enough() -> None:
    with pytest.raises(ArgumentError, match="memory=100000 bytes is too little") as caught:
        sizes(budget_bytes=100_000)
    text = str(caught.value)
    assert "1000 rows of 84 bytes" in text
    enough = int(text.split("at least ")[1].split()[0])
    assert not sizes(budget_bytes=enough).in_memory
    with pytest.raises(ArgumentError):
        sizes(budget_bytes=int(enough * 0.999))


@given(rows=st.integers(1, 10**6), row_bytes=st.floats(1, 1e5))
def test_what_is_needed_is_enough(rows: int, row_bytes: float) -> None:
    budget = needed_bytes(row_bytes, rows)
    assert int(budget * WINDOW_SHARE / (row_bytes + ORDER_BYTES)) >= rows
    assert budget * WINDOW_SHARE / (row_bytes + ORDER_BYTES) < rows + 1 + 1 / row_bytes


@given(rows=st.integers(1, 10**9), window_bytes=st.integers(1, 10**10), row_bytes=st.integers(1, 10**4))
def test_the_budget_for_a_window_holds_it_or_all(rows: int, window_bytes: int, row_bytes: int) -> None:
    budget = budget_for(rows, window_bytes, row_bytes)
    kept = rows * (row_bytes + ORDER_BYTES)
    assert budget * WINDOW_SHARE >= window_bytes or budget * (1 - SCRATCH_SHARE) >= kept
    less = 0.999 * budget - 4
    assert less * WINDOW_SHARE < window_bytes
    assert less * (1 - SCRATCH_SHARE) < kept


def test_blocks_larger_than_the_window_are_refused() -> None:
    with pytest.raises(ArgumentError, match="block_entries=500000 does not fit into memory=10000000"):
        sizes(block_entries=500_000)


def test_no_more_memory_is_asked_for_than_all_rows_take() -> None:
    """Batches may be larger than what there is."""
    options = {"rows": 5000, "entries": 5000, "batch_size": 100_000, "page_entries": 5000}
    with pytest.raises(ArgumentError, match=r"at least \d+ bytes are needed") as caught:
        sizes(**options, budget_bytes=100_000)
    needed = int(str(caught.value).split("at least ")[1].split()[0])
    assert needed < 2 * 5000 * 88
    assert sizes(**options, budget_bytes=needed).in_memory


def test_blocks_are_whole_pages_where_several_fit() -> None:
    room = sizes().window_bytes // 88
    roomy = {"scratch_entry_bytes": 1}
    assert sizes(page_entries=room // 8, **roomy).block_entries == room // 8
    # Short pages are put together: to a batch, or to what makes a window of enough blocks.
    assert sizes(page_entries=10, **roomy).block_entries == 1000
    assert sizes(page_entries=10, batch_size=10_000, **roomy).block_entries == 1024
    assert sizes(page_entries=10, batch_size=10, **roomy).block_entries == room // ENOUGH_BLOCKS
    # Of longer pages, blocks are as large as the window has room for six of them.
    for page_entries in range(room // 16, 3 * room, room // 16):
        block_entries = sizes(page_entries=page_entries, **roomy).block_entries
        assert block_entries == min(page_entries, room // FEWEST_BLOCKS)
    # The scratch memory of two threads sets a bound of its own.
    bounded = sizes(page_entries=room // 4, scratch_entry_bytes=1000).block_entries
    assert bounded == int(10**7 * SCRATCH_SHARE / 2 / 1000)


def test_what_stays_in_memory_is_cut_where_pages_end_for_certain() -> None:
    ample = {"budget_bytes": 10**12, "page_entries": 20_000}
    assert sizes(**ample).block_entries == 20_000
    assert sizes(**ample, whole_page_entries=250_000).block_entries == 250_000
    streamed = sizes(page_entries=15_000)
    assert sizes(page_entries=15_000, whole_page_entries=250_000) == streamed
