"""Stored columns of all files, block by block, on threads, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from threading import Event
from typing import Any, TypeVar

from rootfeed import sources
from rootfeed.engine import Prefetch, Task
from rootfeed.plan import boundaries, cut, page_entries
from rootfeed.progress import progress
from rootfeed.schema import Array, Block, FileIndex, Jagged
from rootfeed.sources import Scratch, Storage
from rootfeed.view.fetching import Fetching

__all__ = ["Columns", "entry_bytes_of", "read_blocks"]

Columns = dict[str, Array | Jagged]
Result = TypeVar("Result")

_BLOCK_ENTRIES = 1 << 16
_MOST_BLOCK_ENTRIES = 1 << 19
_BLOCK_BYTES = 32_000_000
_FETCHED_BYTES = 64_000_000
_MOST_THREADS = 8


def read_blocks(
    indexes: Sequence[FileIndex],
    names: Sequence[str],
    work: Callable[[Block, Columns], Result],
    label: str,
    made_bytes: int = 0,
    within: Sequence[Block] | None = None,
) -> Iterator[tuple[Block, Result]]:
    """Read some stored columns of all files, and yield what `work` makes of each block, in order.

    Parameters
    ----------
    indexes : sequence of FileIndex
    names : sequence of str
        Stored columns. Without any, nothing is read.
    work : function of (Block, inputs)
        Called on threads, with each column in its native dtype. It must not keep the inputs.
    label : str
        Of the progress bar, which appears when it takes longer than a second.
    made_bytes : int
        What `work` makes of an entry, in bytes, beside what is read of it.
    within : sequence of Block, optional
        Only these entries.
    """
    files = [replace(index, columns={name: index.columns[name] for name in names}) for index in indexes]
    bounds = [boundaries(index.columns, index.entries) for index in files]
    # Pages that are longer than a block would be decompressed twice.
    entries = min(max(_BLOCK_ENTRIES, page_entries(bounds)), _MOST_BLOCK_ENTRIES)
    entry_bytes = made_bytes + max((entry_bytes_of(index, names) for index in files), default=0)
    entries = max(min(entries, int(_BLOCK_BYTES / max(entry_bytes, 1))), 1)
    if within is None:
        within = [Block(number, 0, index.entries) for number, index in enumerate(files)]
    blocks = [
        block
        for part in within
        for block in cut(part.file, part.start, part.stop, bounds[part.file], entries, False)
    ]
    sources.prepare(files)
    spare: list[Scratch] = []

    def group(block: Block, fetched: Storage | None) -> tuple[tuple[Block, list[Result]], list[Task]]:
        results: list[Result] = []

        def task(stopped: Event) -> None:
            scratch = spare.pop() if spare else Scratch()
            index = files[block.file]
            try:
                inputs = _read(index, names, block.start, block.stop, scratch, stopped, fetched)
                if not stopped.is_set():
                    results.append(work(block, inputs))
            finally:
                spare.append(scratch)

        return (block, results), [task]

    threads = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, _MOST_THREADS)
    fetching = Fetching(
        ((block, block) for block in blocks),
        [(index, names) for index in files],
        entries,
        _FETCHED_BYTES,
    )
    groups = (group(block, fetched) for block, fetched in fetching)
    prefetch = Prefetch(groups, threads=threads, window=2 * threads + 1)
    try:
        with progress(label, len(blocks)) as advance:
            for _ in blocks:
                block, results = prefetch.next()
                yield block, results[0]
                prefetch.release()
                advance(1)
    finally:
        fetching.close()  # first: a thread may be waiting for what it fetches
        prefetch.close()
        for scratch in spare:
            scratch.close()


def entry_bytes_of(index: FileIndex, names: Iterable[str]) -> float:
    """Return the bytes of some stored columns of an entry, decoded: of vectors an estimate."""
    return sum(_bytes(index, name) for name in names)


def _bytes(index: FileIndex, name: str) -> float:
    if index.columns[name].type.is_jagged:
        return sources.vector_bytes(index, name)
    return index.dtype(name).itemsize


def _read(
    index: FileIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None,
) -> Columns:
    """Read the entries ``[start, stop)`` of some columns into scratch, all valid together."""

    def out_for(name: str) -> Any:
        return scratch.array(f"input {name}", stop - start, index.dtype(name))

    return dict(sources.read(index, names, start, stop, out_for, scratch, stopped, fetched))
