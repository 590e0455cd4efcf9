"""Stored columns of all files, block by block, in order: on threads, or in an executor's processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Event
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from rootfeed import sources
from rootfeed.engine import Prefetch, Task
from rootfeed.plan import BitMask, boundaries, cut, members, page_entries
from rootfeed.progress import progress
from rootfeed.schema import Array, Block, FileIndex, Jagged
from rootfeed.sources import Scratch, Storage
from rootfeed.view.elsewhere import each
from rootfeed.view.fetching import Fetching

__all__ = ["Columns", "Entries", "Take", "Work", "entry_bytes_of", "read_blocks"]

Columns = dict[str, Array | Jagged]
Take = npt.NDArray[np.int32]
Result = TypeVar("Result")

_BLOCK_ENTRIES = 1 << 16
_MOST_BLOCK_ENTRIES = 1 << 19
_BLOCK_BYTES = 32_000_000
_FETCHED_BYTES = 64_000_000
_MOST_THREADS = 8

_TASKS = 64
"""Into which a pass is divided elsewhere, if there are so many blocks: enough for each of many cores."""

_MOST_BLOCKS_OF_A_TASK = 8


class Entries(NamedTuple):
    """Consecutive entries of a file, as work is told of them.

    Attributes
    ----------
    file : FileIndex
        With the columns that are read.
    block : Block
    first_number : int
        Number of the first one in the whole dataset.
    chosen : ndarray of int32, or None
        Those that are chosen beforehand, relative to the first one; None where all are.
    """

    file: FileIndex
    block: Block
    first_number: int
    chosen: Take | None


Work = Callable[[Entries, Columns], Result]
"""What is made of the columns of some entries. It must not keep the columns."""


@dataclass(frozen=True, eq=False)
class _Reading:
    """Blocks to read, and what has to be known for that: with a part of them small enough to be sent.

    Attributes
    ----------
    files : mapping of int to FileIndex
    names : tuple of str
    blocks : tuple of Block
    longest : int
        Entries of a block, at most.
    firsts : mapping of int to int
        Number of each file's first entry in the whole dataset.
    masks : mapping of int to (ndarray of uint64, int), or None
        Which entries of each file are chosen, from some entry on, a multiple of 64.
    """

    files: Mapping[int, FileIndex]
    names: tuple[str, ...]
    blocks: tuple[Block, ...]
    longest: int
    firsts: Mapping[int, int]
    masks: Mapping[int, tuple[BitMask, int]] | None

    def entries(self, block: Block) -> Entries:
        """Return what work is told of a block."""
        chosen = None
        if self.masks is not None:
            bits, begin = self.masks[block.file]
            chosen = members(bits, block.start - begin, block.stop - begin)
        first_number = self.firsts[block.file] + block.start
        return Entries(self.files[block.file], block, first_number, chosen)

    def parts(self) -> Iterator[_Reading]:
        """Yield parts of it, in order: some files, or a file, or some blocks of a large one."""
        total = sum(map(len, self.blocks))
        enough = min(total / _TASKS, _MOST_BLOCKS_OF_A_TASK * self.longest)
        blocks: list[Block] = []
        entries = 0
        for block in self.blocks:
            blocks.append(block)
            entries += len(block)
            if entries >= enough:
                yield self._part(blocks)
                blocks, entries = [], 0
        if blocks:
            yield self._part(blocks)

    def _part(self, blocks: Sequence[Block]) -> _Reading:
        numbers = dict.fromkeys(block.file for block in blocks)
        masks = None
        if self.masks is not None:
            masks = {}
            for number in numbers:
                bits, begin = self.masks[number]
                first = min(block.start for block in blocks if block.file == number) // 64
                stop = max(block.stop for block in blocks if block.file == number)
                masks[number] = bits[first - begin // 64 : -(-(stop - begin) // 64)], 64 * first
        return replace(
            self,
            files={number: self.files[number] for number in numbers},
            blocks=tuple(blocks),
            firsts={number: self.firsts[number] for number in numbers},
            masks=masks,
        )


def read_blocks(
    indexes: Sequence[FileIndex],
    names: Sequence[str],
    work: Work[Result],
    label: str,
    made_bytes: int = 0,
    within: Sequence[Block] | None = None,
    masks: Sequence[BitMask] | None = None,
    executor: Executor | None = None,
) -> Iterator[tuple[Block, Result]]:
    """Read some stored columns of all files, and yield what `work` makes of each block, in order.

    Parameters
    ----------
    indexes : sequence of FileIndex
    names : sequence of str
        Stored columns. Without any, nothing is read.
    work : function of (Entries, inputs)
        Called on threads, with each column in its native dtype. It must not keep the inputs.
    label : str
        Of the progress bar, which appears when it takes longer than a second.
    made_bytes : int
        What `work` makes of an entry, in bytes, beside what is read of it.
    within : sequence of Block, optional
        Only these entries.
    masks : sequence of ndarray of uint64, optional
        Of each file, the entries that are chosen beforehand.
    executor : Executor, optional
        Whose processes read and work, if there are several parts: `work` and what it returns are
        pickled. Blocks, and so results, are the same.
    """
    files = [replace(index, columns={name: index.columns[name] for name in names}) for index in indexes]
    bounds = [boundaries(index.columns, index.entries) for index in files]
    # Pages that are longer than a block would be decompressed twice.
    entries = min(max(_BLOCK_ENTRIES, page_entries(bounds)), _MOST_BLOCK_ENTRIES)
    entry_bytes = made_bytes + max((entry_bytes_of(index, names) for index in files), default=0)
    entries = max(min(entries, int(_BLOCK_BYTES / max(entry_bytes, 1))), 1)
    if within is None:
        within = [Block(number, 0, index.entries) for number, index in enumerate(files)]
    blocks = tuple(
        block
        for part in within
        for block in cut(part.file, part.start, part.stop, bounds[part.file], entries, False)
    )
    firsts: list[int] = np.cumsum([0, *(index.entries for index in files)]).tolist()
    reading = _Reading(
        dict(enumerate(files)),
        tuple(names),
        blocks,
        entries,
        dict(enumerate(firsts)),
        None if masks is None else {number: (bits, 0) for number, bits in enumerate(masks)},
    )
    if executor is not None and len(parts := list(reading.parts())) > 1:
        found = _elsewhere(executor, work, parts)
    else:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        found = _read_on_threads(reading, work, min(cores, _MOST_THREADS))
    try:
        with progress(label, sum(map(len, blocks))) as advance:
            for block, result in found:
                yield block, result
                advance(len(block), f"entries, file {block.file + 1:,} of {len(files):,}")
    finally:
        found.close()


def _elsewhere(
    executor: Executor, work: Work[Result], parts: Sequence[_Reading]
) -> Generator[tuple[Block, Result], None, None]:
    with closing(each(executor, _results, work, parts)) as results:
        for part, some in zip(parts, results, strict=True):
            yield from zip(part.blocks, some, strict=True)


def _results(work: Work[Result], reading: _Reading) -> list[Result]:
    """Return what is made of each block, on one thread: executors have a process for each core."""
    return [result for _, result in _read_on_threads(reading, work, 1)]


def _read_on_threads(
    reading: _Reading, work: Work[Result], threads: int
) -> Generator[tuple[Block, Result], None, None]:
    files, names = reading.files, reading.names
    sources.prepare(files.values())
    spare: list[Scratch] = []

    def group(block: Block, fetched: Storage | None) -> tuple[tuple[Block, list[Result]], list[Task]]:
        results: list[Result] = []

        def task(stopped: Event) -> None:
            scratch = spare.pop() if spare else Scratch()
            index = files[block.file]
            try:
                inputs = _read(index, names, block.start, block.stop, scratch, stopped, fetched)
                if not stopped.is_set():
                    results.append(work(reading.entries(block), inputs))
            finally:
                spare.append(scratch)

        return (block, results), [task]

    fetching = Fetching(
        ((block, block) for block in reading.blocks),
        {number: (index, names) for number, index in files.items()},
        reading.longest,
        _FETCHED_BYTES,
    )
    groups = (group(block, fetched) for block, fetched in fetching)
    prefetch = Prefetch(groups, threads=threads, window=2 * threads + 1)
    try:
        for _ in reading.blocks:
            block, results = prefetch.next()
            yield block, results[0]
            prefetch.release()
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
