"""From a block's pages to rows of a chunk: read, cast, pack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed import kernels, sources
from rootfeed.engine import ForkLock, Task
from rootfeed.errors import ArgumentError
from rootfeed.loader.pool import Pool
from rootfeed.plan import Sieve
from rootfeed.schema import Array, Block, FileIndex, Layout
from rootfeed.sources import Scratch

__all__ = [
    "Alterations",
    "Dataset",
    "cast",
    "fill_tasks",
    "prepare",
    "scratch_page_bytes",
    "scratch_row_bytes",
]

_ALL = np.empty(0, np.int32)

_PIECE_BYTES = 4_000_000
"""What a task reads: a few milliseconds of work."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The blocks of a loader's rows.

    Attributes
    ----------
    files : tuple of FileIndex
    layout : Layout
    sieve : Sieve
    blocks : tuple of Block
    rows : ndarray of int64
        Rows of each block: its entries that pass the sieve.
    """

    files: tuple[FileIndex, ...]
    layout: Layout
    sieve: Sieve
    blocks: tuple[Block, ...]
    rows: npt.NDArray[np.int64]


class Alterations:
    """Counts, from all threads, of values that the batch dtype could not represent."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = ForkLock()

    def add(self, column: str, dtype: Any, count: int) -> None:
        """Count altered values of a column."""
        with self._lock:
            self._counts[column, str(dtype)] += count

    def take(self) -> dict[tuple[str, str], int]:
        """Return the counts by (column, dtype), and forget them."""
        if not self._counts:
            return {}
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
        return counts


def scratch_row_bytes(layout: Layout, files: tuple[FileIndex, ...]) -> int:
    """Return the bytes per entry that `fill` takes for decoding."""
    packed = sum(part.row_bytes for part in layout.parts)
    widest = max(
        (
            column.type.dtype.itemsize
            for index in files
            for column in index.columns.values()
            if column.type.dtype is not None
        ),
        default=8,
    )
    return packed + 2 * widest + np.dtype(np.int32).itemsize


def scratch_page_bytes(files: tuple[FileIndex, ...]) -> int:
    """Return the bytes that `fill` takes, at most, for a page as it is stored and for its contents."""
    stored = contents = 0
    for index in files:
        for column in index.columns.values():
            pages = column.pages
            if pages is None or len(pages) == 0:
                continue
            stored = max(stored, int(pages.stored_bytes.max()))
            longest = int(np.diff(pages.bounds).max())
            contents = max(contents, *(each.page_bytes(longest) for each in pages.encodings))
    return stored + contents


def fill_tasks(
    dataset: Dataset, number: int, rows: Array, pool: Pool, alterations: Alterations
) -> list[Task]:
    """Return the tasks that fill a block's rows: each reads some columns, and the last one packs all.

    Parameters
    ----------
    dataset : Dataset
    number : int
        Of the block.
    rows : ndarray of uint8, shape (rows of the block, layout.row_bytes)
        When the tasks are told to stop, it may stay incomplete.
    pool : Pool
    alterations : Alterations

    Notes
    -----
    A chunk may hold as few as two blocks: several tasks to a block keep all threads busy to its end.
    """
    pieces = _pieces(dataset, number)
    filling = _Filling(dataset, number, rows, pool, alterations, unread=len(pieces))
    return [partial(filling.read, names) for names in pieces]


def _pieces(dataset: Dataset, number: int) -> list[tuple[str, ...]]:
    """Divide the columns among the tasks of a block: some megabytes for each."""
    block, columns = dataset.blocks[number], dataset.layout.columns
    index = dataset.files[block.file]
    if sources.is_remote(index.path):
        return [columns]  # whose pages are fetched at once: fewer and larger requests
    sizes = [len(block) * index.dtype(name).itemsize for name in columns]
    total, pieces, done = sum(sizes), max(1, sum(sizes) // _PIECE_BYTES), 0
    divided: list[list[str]] = [[] for _ in range(pieces)]
    for name, size in zip(columns, sizes, strict=True):
        divided[done * pieces // total].append(name)
        done += size
    return [tuple(names) for names in divided if names]


class _Filling:
    """A block on its way from pages to rows, shared by its tasks."""

    def __init__(
        self,
        dataset: Dataset,
        number: int,
        rows: Array,
        pool: Pool,
        alterations: Alterations,
        unread: int,
    ) -> None:
        self._dataset = dataset
        self._block = dataset.blocks[number]
        self._index = dataset.files[self._block.file]
        self._rows = rows
        self._pool = pool
        self._alterations = alterations
        self._unread = unread
        self._lock = Lock()
        self._scratch: Scratch | None = None
        self._slots = Slots({}, {}, {})

    def read(self, names: Sequence[str], stopped: Event) -> None:
        """Read some columns; after the last of them, pack all."""
        with self._lock:
            if self._scratch is None:
                self._scratch = self._pool.take_scratch("columns")
                self._slots = _slots(self._dataset.layout, len(self._block), self._scratch)
        scratch = self._pool.take_scratch("pages")
        try:
            self._read(names, scratch, stopped)
        finally:
            self._pool.give_scratch("pages", scratch)
        with self._lock:
            self._unread -= 1
            if self._unread:
                return
            columns, self._scratch = self._scratch, None
        if not stopped.is_set():
            self._pack()
        self._pool.give_scratch("columns", columns)

    def _read(self, names: Sequence[str], scratch: Scratch, stopped: Event) -> None:
        block, index, slots = self._block, self._index, self._slots.columns

        def out_for(name: str) -> Array:
            native = index.dtype(name)
            for slot in slots[name]:
                if slot.dtype == native:
                    return slot
            return scratch.array("native", len(block), native)

        for name, values in sources.read(
            index, names, block.start, block.stop, out_for, scratch, stopped
        ):
            for slot in slots[name]:
                if slot is not values:
                    _cast_column(index, block, name, values, slot, self._alterations)

    def _pack(self) -> None:
        sieve, block, index = self._dataset.sieve, self._block, self._index
        take = _ALL
        if sieve:
            take = sieve.positions(index.identity, index.entries, block.start, block.stop)
        for itemsize, matrix in self._slots.matrices.items():
            kernels.pack(matrix, take, self._slots.places[itemsize], self._rows.view(matrix.dtype))


@dataclass(frozen=True, eq=False)
class Slots:
    """Where a block's columns lie until they are packed.

    Attributes
    ----------
    matrices : dict of int to ndarray
        Words by item size, shape (columns, entries or more).
    columns : dict of str to list of ndarray
        A column's places in them, each of the dtype that it has in a batch.
    places : dict of int to ndarray of int64
        Position in a row of each column of a matrix, in words.
    """

    matrices: dict[int, Array]
    columns: dict[str, list[Array]]
    places: dict[int, Array]


def _slots(layout: Layout, entries: int, scratch: Scratch) -> Slots:
    wanted: dict[int, list[tuple[str, np.dtype[Any], int]]] = {}
    for part, offset in zip(layout.parts, layout.offsets, strict=True):
        size = part.dtype.itemsize
        for position, name in enumerate(part.columns):
            wanted.setdefault(size, []).append((name, part.dtype, offset // size + position))
    matrices: dict[int, Array] = {}
    places: dict[int, Array] = {}
    slots: dict[str, list[Array]] = {name: [] for name in layout.columns}
    for size, uses in wanted.items():
        # Rows a power of two apart would share the same few lines of the cache while they are packed.
        stride = -(-entries // 16) * 16 + 16
        matrix = scratch.array(f"words{size}", (len(uses), stride), f"u{size}")
        for row, (name, dtype, _) in zip(matrix, uses, strict=True):
            slots[name].append(row[:entries].view(dtype))
        matrices[size] = matrix
        places[size] = np.array([place for _, _, place in uses], np.int64)
    return Slots(matrices, slots, places)


def _cast_column(
    index: FileIndex,
    block: Block,
    name: str,
    values: Array,
    out: Array,
    alterations: Alterations,
) -> None:
    try:
        altered = cast(values, out)
    except ArgumentError as error:
        raise ArgumentError(
            f"{index.where}: column {name!r}, entries [{block.start}, {block.stop}): {error}"
        ) from None
    if altered:
        alterations.add(name, out.dtype, altered)


def cast(values: Array, out: Array) -> int:
    """Cast a column to a batch dtype; return how many values it could not represent.

    Counted are integers that a floating dtype cannot hold exactly, and finite numbers that become
    infinite; the rounding of reals is not.

    Raises
    ------
    ArgumentError
        Where an integer is out of the range of an integer dtype.
    """
    if _is_exact(values.dtype, out.dtype):
        out[...] = values
        return 0
    if out.dtype.kind != "f":
        limits = np.iinfo(out.dtype)
        least, most = int(values.min()), int(values.max())
        if least < limits.min or most > limits.max:
            worst = least if least < limits.min else most
            raise ArgumentError(
                f"the value {worst} does not fit into {out.dtype}. Choose a wider dtype."
            )
        out[...] = values
        return 0
    with np.errstate(over="ignore"):
        np.copyto(out, values, casting="unsafe")
    if values.dtype.kind != "f":
        inexact = int(kernels.count_inexact(values, 2 ** (np.finfo(out.dtype).nmant + 1)))
        if out.dtype.itemsize > 2:
            return inexact
        # Beyond float16's range integers become infinite, those with a short mantissa too.
        return int(np.count_nonzero(values.astype(np.float64) != out))
    infinite = int(np.count_nonzero(np.isinf(out)))
    return infinite - int(np.count_nonzero(np.isinf(values))) if infinite else 0


def _is_exact(stored: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds every value of another; NumPy calls int64 to float64 safe."""
    if stored.kind in "iu" and wanted.kind == "f":
        return stored.itemsize * 8 - (stored.kind == "i") <= np.finfo(wanted).nmant + 1
    return np.can_cast(stored, wanted, "safe")


def prepare(dataset: Dataset) -> None:
    """Compile every kernel that this dataset needs, before threads start."""
    sources.prepare(dataset.files)
    columns = (column for index in dataset.files for column in index.columns.values())
    for dtype in {column.type.dtype for column in columns}:
        if dtype is not None and dtype.kind in "iu":
            kernels.count_inexact(np.empty(0, dtype), 2)
    slots = _slots(dataset.layout, 0, Scratch())
    rows = np.empty((0, dataset.layout.row_bytes), np.uint8)
    for size, matrix in slots.matrices.items():
        kernels.pack(matrix, _ALL, slots.places[size], rows.view(matrix.dtype))
    order = np.empty(0, np.uint32)
    kernels.permute(np.uint64(0), order)
    kernels.scatter(np.uint64(0), order, np.empty(256, np.int64))
    kernels.shuffle(np.uint64(0), 0, order)
    outs = tuple(np.empty((0, part.row_bytes), np.uint8) for part in dataset.layout.parts)
    kernels.gather(rows, order, np.array(dataset.layout.offsets, np.int64), outs)
