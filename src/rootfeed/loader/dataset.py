"""From frames to the blocks of a loader's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rootfeed.errors import EmptyDatasetError
from rootfeed.frame import Frame
from rootfeed.loader.fill import Dataset, scratch_page_bytes, scratch_row_bytes
from rootfeed.loader.options import Options, check_types
from rootfeed.plan import SCRATCH_SHARE, Sieve, Sizes, boundaries, choose_sizes, cut, page_entries
from rootfeed.schema import FileIndex, Layout

__all__ = ["build"]

Spans = Sequence[tuple[int, int, int]]


def build(
    frames: Sequence[Frame],
    layout: Layout,
    sieve: Sieve,
    spans: Spans | None,
    options: Options,
    budget_bytes: int,
    keep: bool = False,
) -> tuple[Dataset, Sizes, int]:
    """Index the frames, choose sizes under the budget, and cut the blocks.

    Parameters
    ----------
    frames : sequence of Frame
    layout : Layout
    sieve : Sieve
    spans : sequence of (file, start, stop), optional
        Entries to take; None for all.
    options : Options
    budget_bytes : int
    keep : bool
        Keep the dataset in memory, whatever the budget.

    Returns
    -------
    tuple of Dataset, Sizes, int
        The last one is the number of threads that the budget leaves room for.
    """
    # A frame remembers the columns of other loaders, too: they must not shape this one's blocks.
    files = tuple(
        replace(index, columns={name: index.columns[name] for name in layout.columns})
        for frame in frames
        for index in frame.index(layout.columns)
    )
    _check_files(files, layout)
    taken = list(spans) if spans is not None else _everything(files)
    entries = sum(stop - start for _, start, stop in taken)
    rows = sum(
        sieve.count(files[file].identity, files[file].entries, start, stop)
        for file, start, stop in taken
    )
    if rows == 0:
        raise EmptyDatasetError(
            f"there are no entries in {files[0].where}"
            + (f" and {len(files) - 1} more files." if len(files) > 1 else ".")
        )
    bounds = [boundaries(index.columns, index.entries) for index in files]
    per_entry = scratch_row_bytes(layout, files)
    sizes = choose_sizes(
        rows=rows,
        entries=entries,
        row_bytes=layout.row_bytes,
        scratch_entry_bytes=per_entry,
        batch_size=options.batch_size,
        page_entries=page_entries(bounds),
        budget_bytes=budget_bytes,
        threads=options.threads,
        keep=keep,
        chunk_entries=options.chunk_entries,
        block_entries=options.block_entries,
    )
    blocks = tuple(
        block
        for file, start, stop in taken
        for block in cut(file, start, stop, bounds[file], sizes.block_entries, sizes.exact)
    )
    counts = np.array(
        [
            sieve.count(files[block.file].identity, files[block.file].entries, block.start, block.stop)
            for block in blocks
        ],
        np.int64,
    )
    longest = max(len(block) for block in blocks)
    room = int(budget_bytes * SCRATCH_SHARE / (longest * per_entry + scratch_page_bytes(files)))
    threads = max(1, min(options.threads, room)) if options.chunk_entries is None else options.threads
    return Dataset(files, layout, sieve, blocks, counts), sizes, threads


def _everything(files: Sequence[FileIndex]) -> list[tuple[int, int, int]]:
    return [(number, 0, index.entries) for number, index in enumerate(files) if index.entries]


def _check_files(files: Sequence[FileIndex], layout: Layout) -> None:
    """Check each file's own types: a column may be a number in the first file only."""
    for index in files:
        for part, use in zip(layout.parts, ("feature", "target", "weight"), strict=False):
            for name in part.columns:
                check_types(index.where, name, index.columns[name].type, part.dtype, use)
