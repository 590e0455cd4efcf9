"""How large the window and its blocks are, under a budget of bytes.

Speed wants blocks that end where pages end, because a page cut in two is decompressed twice; and not
too many of them. Here blocks are as large as that takes; `rootfeed.plan.mixing` makes them smaller where
rows would not mix. The rules, and what was measured, are in ``docs/decisions/block-size.md``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rootfeed.errors import ArgumentError

__all__ = [
    "AHEAD_SHARE",
    "BATCHES_SHARE",
    "FETCHED_SHARE",
    "ORDER_BYTES",
    "SCRATCH_SHARE",
    "WINDOW_SHARE",
    "Sizes",
    "budget_for",
    "choose_sizes",
    "needed_bytes",
]

WINDOW_SHARE = 0.50
"""Share of the budget of the blocks whose rows are used together, and of rows that stay in memory."""

AHEAD_SHARE = 0.10
"""Share of the budget of blocks that are read before they are needed."""

SCRATCH_SHARE = 0.35
"""Share of the budget for decoding, all threads together."""

FETCHED_SHARE = 0.10
"""Share of the budget, within that for decoding, of what was fetched from servers ahead of its use."""

BATCHES_SHARE = 0.05
"""Share of the budget for batches that are gathered ahead of the consumer."""

RUN_BYTES = 2_000_000
"""Of batches that are gathered together: smaller runs cost more waiting for each other than gathering
(``docs/decisions/gather-thread.md``)."""

RUNS_AHEAD = 4
"""Beyond those that threads are gathering."""

ENOUGH_BLOCKS = 64
"""A window of so many blocks mixes well enough; more would only make reads smaller."""

FEWEST_BLOCKS = 6
"""Of a window: of three, of which one begins while another ends, one alone would be used at a time."""

ORDER_BYTES = 4
"""Bytes for a row's place in the order."""

_MOST_ROWS = 1 << 31
"""Of a window, and what stays in memory: places of rows, also of those read ahead, are below 2^32."""


@dataclass(frozen=True)
class Sizes:
    """Sizes that decide which rows come together, and those of runs of batches.

    Attributes
    ----------
    in_memory : bool
        The dataset stays in memory.
    window_bytes : int
        What the blocks whose rows are used together may take, with the rows that stay in memory.
    block_entries : int
        Entries of a block, at most.
    exact : bool
        Blocks are cut at exactly so many entries.
    run_rows : int
        Rows that are gathered together: a multiple of the batch size.
    runs_ahead : int
        Runs that are gathered ahead of the consumer, or in its hands, at most.
    regions : tuple of int
        The first file of each region of the dataset: all are used at the same pace.
    """

    in_memory: bool
    window_bytes: int
    block_entries: int
    exact: bool
    run_rows: int
    runs_ahead: int
    regions: tuple[int, ...] = (0,)


def choose_sizes(
    *,
    rows: int,
    entries: int,
    row_bytes: float,
    batch_row_bytes: int,
    scratch_entry_bytes: int,
    batch_size: int,
    page_entries: int,
    budget_bytes: int,
    threads: int,
    whole_page_entries: int | None = None,
    chunk_entries: int | None = None,
    block_entries: int | None = None,
    in_memory: bool = False,
) -> Sizes:
    """Choose the size of the window, and of blocks that pages like.

    Parameters
    ----------
    rows, entries : int
        Rows of the dataset, and the entries they are a selection of.
    row_bytes : float
        Bytes of a row in memory, on average.
    batch_row_bytes : int
        Bytes of a row in a batch.
    scratch_entry_bytes : int
        Bytes that decoding an entry takes.
    batch_size : int
    page_entries : int
        Usual entries of a page.
    budget_bytes : int
    threads : int
        That gather batches.
    whole_page_entries : int, optional
        Of pages that end at an entry for certain. A dataset that stays in memory is cut there.
    chunk_entries, block_entries : int, optional
        Rows of the window, and entries of a block, fixed by hand.
    in_memory : bool
        Keep the dataset in memory, whatever the budget: a part of a dataset that fits.

    Raises
    ------
    ArgumentError
        Where the budget cannot hold four batches in the window.
    """
    kept_bytes = row_bytes + ORDER_BYTES
    fits = rows * kept_bytes <= budget_bytes * (WINDOW_SHARE + AHEAD_SHARE + BATCHES_SHARE)
    whole = in_memory or (chunk_entries is None and fits and rows <= _MOST_ROWS)
    if whole:
        capacity = rows
    elif chunk_entries is not None:
        capacity = chunk_entries
        if capacity < batch_size:
            raise ArgumentError(
                f"chunk_entries must be at least batch_size ({batch_size}), got {chunk_entries}."
            )
    else:
        capacity = int(budget_bytes * WINDOW_SHARE / kept_bytes)
        if capacity < 4 * batch_size:
            needed = min(needed_bytes(row_bytes, 4 * batch_size), budget_for(rows, math.inf, row_bytes))
            raise ArgumentError(
                f"memory={budget_bytes} bytes is too little for batches of {batch_size} rows of "
                f"{row_bytes:.0f} bytes: at least {needed} bytes are needed, or smaller batches."
            )
    capacity = min(capacity, _MOST_ROWS)
    if block_entries is None:
        page = whole_page_entries if whole and whole_page_entries is not None else page_entries
        wanted = max(page * rows // entries, capacity // ENOUGH_BLOCKS, min(batch_size, 1024), 1)
        scratch_entries = int(budget_bytes * SCRATCH_SHARE / 2 / scratch_entry_bytes)
        most = capacity if whole else max(capacity // FEWEST_BLOCKS, 1)
        block = max(min(min(wanted, most) * entries // rows, scratch_entries), 1)
    else:
        block = block_entries
        if block * rows // entries > capacity and not whole and chunk_entries is None:
            raise ArgumentError(
                f"block_entries={block_entries} does not fit into memory={budget_bytes} bytes. "
                "Choose smaller blocks, or more memory."
            )
    if chunk_entries is not None:
        budget_bytes = int(capacity * kept_bytes / WINDOW_SHARE)  # of which such a window would follow
    run_rows, runs_ahead = _runs(batch_size, batch_row_bytes, int(budget_bytes * BATCHES_SHARE), threads)
    window_bytes = math.ceil(capacity * kept_bytes)
    return Sizes(whole, window_bytes, block, block_entries is not None, run_rows, runs_ahead)


def needed_bytes(row_bytes: float, rows: int) -> int:
    """Return the least budget with which a window holds so many rows: four batches, or a block."""
    return int((rows + 1) * (row_bytes + ORDER_BYTES) / WINDOW_SHARE) + 1


def budget_for(rows: int, window_bytes: float, row_bytes: float) -> int:
    """Return the budget with which the window holds so much, or one in which all rows stay."""
    whole = rows * (row_bytes + ORDER_BYTES) / (WINDOW_SHARE + AHEAD_SHARE + BATCHES_SHARE)
    return int(min(window_bytes / WINDOW_SHARE, whole)) + 2


def _runs(batch_size: int, row_bytes: int, budget_bytes: int, threads: int) -> tuple[int, int]:
    """Return the rows of a run of batches, and how many runs may be in memory."""
    most = threads + RUNS_AHEAD
    run_bytes = min(RUN_BYTES, budget_bytes // most)
    batch_bytes = batch_size * row_bytes
    batches = max(run_bytes // batch_bytes, 1)
    return batches * batch_size, max(1, min(most, budget_bytes // (batches * batch_bytes)))
