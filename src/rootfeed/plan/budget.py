"""How large chunks and blocks are, under a budget of bytes.

Mixing wants many blocks in a chunk; speed wants blocks that end where pages end, because a page cut in
two is decompressed twice. Here blocks are as large as pages like; `rootfeed.plan.mixing` makes them
smaller where rows would not mix. The rules, and what was measured, are in
``docs/decisions/block-size.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from rootfeed.errors import ArgumentError

__all__ = ["Sizes", "budget_for", "choose_sizes", "needed_bytes"]

CHUNK_SHARE = 0.30
"""Share of the budget of each of the two chunks that are in memory together."""

SCRATCH_SHARE = 0.35
"""Share of the budget for decoding, all threads together."""

BATCHES_SHARE = 0.05
"""Share of the budget for batches that are gathered ahead of the consumer."""

RUN_BYTES = 2_000_000
"""Of batches that are gathered together: smaller runs cost more waiting for each other than gathering
(``docs/decisions/gather-thread.md``)."""

RUNS_AHEAD = 4
"""Beyond those that threads are gathering."""

ENOUGH_BLOCKS = 64
"""A chunk of so many blocks mixes well enough; more would only make reads smaller."""

FEWEST_BLOCKS = 2
"""Below so many blocks in a chunk, pages are cut in two, whatever else is wanted."""

ORDER_BYTES = 4
"""Bytes for a row's place in the order."""


@dataclass(frozen=True)
class Sizes:
    """Sizes in rows.

    Attributes
    ----------
    whole : bool
        The dataset is one chunk and stays in memory.
    chunk_rows : int
        Most rows of a chunk's blocks; a single block may exceed it.
    block_entries : int
        Entries of a block, at most.
    exact : bool
        Blocks are cut at exactly so many entries.
    run_rows : int
        Rows that are gathered together: a multiple of the batch size.
    runs_ahead : int
        Runs that are gathered ahead of the consumer, or in its hands, at most.
    regions : tuple of int
        The first file of each region, of which every chunk holds its share.
    """

    whole: bool
    chunk_rows: int
    block_entries: int
    exact: bool
    run_rows: int
    runs_ahead: int
    regions: tuple[int, ...] = (0,)


def choose_sizes(
    *,
    rows: int,
    entries: int,
    row_bytes: int,
    scratch_entry_bytes: int,
    batch_size: int,
    page_entries: int,
    budget_bytes: int,
    threads: int,
    whole_page_entries: int | None = None,
    chunk_entries: int | None = None,
    block_entries: int | None = None,
    keep: bool = False,
) -> Sizes:
    """Choose the sizes of chunks, and of blocks that pages like.

    Parameters
    ----------
    rows, entries : int
        Rows of the dataset, and the entries they are a selection of.
    row_bytes : int
        Bytes of a row in a chunk.
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
        Sizes fixed by hand.
    keep : bool
        Keep the dataset in memory, whatever the budget: a side of a dataset that fits.

    Raises
    ------
    ArgumentError
        Where the budget cannot hold four batches in a chunk.
    """
    kept_bytes = row_bytes + ORDER_BYTES
    fits = rows * kept_bytes <= budget_bytes * (1 - SCRATCH_SHARE)
    whole = keep or (chunk_entries is None and fits)
    if whole:
        capacity = rows
    elif chunk_entries is not None:
        capacity = chunk_entries
        if capacity < batch_size:
            raise ArgumentError(
                f"chunk_entries must be at least batch_size ({batch_size}), got {chunk_entries}."
            )
    else:
        capacity = int(budget_bytes * CHUNK_SHARE / kept_bytes)
        if capacity < 4 * batch_size:
            needed = needed_bytes(row_bytes, batch_size)
            raise ArgumentError(
                f"memory={budget_bytes} bytes is too little for batches of {batch_size} rows of "
                f"{row_bytes} bytes: at least {needed} bytes are needed, or smaller batches."
            )
    if block_entries is None:
        page = whole_page_entries if whole and whole_page_entries is not None else page_entries
        block = _block_rows(capacity, batch_size, max(page * rows // entries, 1))
        scratch_entries = int(budget_bytes * SCRATCH_SHARE / 2 / scratch_entry_bytes)
        block = max(min(block * entries // rows, scratch_entries), 1)
    else:
        block = block_entries
        decoded = min(block, entries) * scratch_entry_bytes
        if chunk_entries is None and decoded > budget_bytes * SCRATCH_SHARE:
            raise ArgumentError(
                f"block_entries={block_entries} does not fit into memory={budget_bytes} bytes: "
                f"decoding a block takes {decoded}. Choose smaller blocks, or more memory."
            )
    if not whole and chunk_entries is None:
        capacity -= batch_size  # rows that are carried in
        if block_entries is None:
            block = max(min(block, capacity // 2 * entries // rows), 1)
        elif block * rows // entries > capacity:
            raise ArgumentError(
                f"block_entries={block_entries} does not fit into memory={budget_bytes} bytes. "
                "Choose smaller blocks, or more memory."
            )
    if chunk_entries is not None:
        budget_bytes = int(capacity * kept_bytes / CHUNK_SHARE)  # of which such chunks would follow
    run_rows, runs_ahead = _runs(batch_size, row_bytes, int(budget_bytes * BATCHES_SHARE), threads)
    return Sizes(whole, capacity, block, block_entries is not None, run_rows, runs_ahead)


def needed_bytes(row_bytes: int, batch_size: int) -> int:
    """Return the least budget with which a dataset can be streamed: four batches in a chunk."""
    return int(4 * (batch_size + 1) * (row_bytes + ORDER_BYTES) / CHUNK_SHARE)


def budget_for(rows: int, chunk_rows: int, row_bytes: int, batch_size: int) -> int:
    """Return the budget with which chunks have so many rows, or one in which all rows stay."""
    kept_bytes = row_bytes + ORDER_BYTES
    chunks = (chunk_rows + batch_size + 1) * kept_bytes / CHUNK_SHARE
    return int(min(chunks, rows * kept_bytes / (1 - SCRATCH_SHARE))) + 2


def _runs(batch_size: int, row_bytes: int, budget_bytes: int, threads: int) -> tuple[int, int]:
    """Return the rows of a run of batches, and how many runs may be in memory."""
    most = threads + RUNS_AHEAD
    run_bytes = min(RUN_BYTES, budget_bytes // most)
    batch_bytes = batch_size * row_bytes
    batches = max(run_bytes // batch_bytes, 1)
    return batches * batch_size, max(1, min(most, budget_bytes // (batches * batch_bytes)))


def _block_rows(capacity: int, batch_size: int, page_rows: int) -> int:
    """Weigh mixing against pages that are decompressed more than once."""
    wanted = max(capacity // ENOUGH_BLOCKS, min(batch_size, 1024), 1)
    if page_rows <= wanted:
        return wanted
    # Never more than twice the decompression, as long as a chunk holds two blocks.
    parts = 1 if capacity // page_rows >= FEWEST_BLOCKS else 2
    return max(min(max(-(-page_rows // parts), wanted), capacity // 2), 1)
