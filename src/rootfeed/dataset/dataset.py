"""A loader's rows: which entries of which files, where their columns come from, and in which blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rootfeed import sources
from rootfeed.dataset.strata import Strata
from rootfeed.layout import Layout, Vectors
from rootfeed.plan import (
    BitMask,
    Read,
    all_set,
    counted,
    members,
)
from rootfeed.plan.budget import ORDER_BYTES
from rootfeed.properties import cached_property
from rootfeed.schema import Block, Column, ColumnType, FileIndex
from rootfeed.view import Projection

__all__ = [
    "Dataset",
    "DatasetFile",
    "Taken",
    "counts_of",
    "longest_page",
    "memory_row_bytes",
    "scratch_page_bytes",
    "scratch_row_bytes",
]

MADE_BYTES = 2_000_000
"""Of vectors that definitions make, before they are written into rows."""

_ORDER_BYTES = 8
"""Of an element: its place when it is sorted, and where it is kept."""

_PLACE_BYTES = 24
"""Of a vector: its length, what is kept of it, where that ends and where it lies."""

Positions = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class DatasetFile:
    """A file of a dataset.

    Attributes
    ----------
    index : FileIndex
        Of the columns that are read.
    projection : Projection
        How the columns of a batch come about.
    first_number : int
        Number of the file's first entry among all entries of its frame.
    taken : ndarray of uint64 or None
        A bit for each entry that makes a row: it passes the cuts, and is in this part of every
        split; None where all do.
    """

    index: FileIndex
    projection: Projection
    first_number: int
    taken: BitMask | None

    @cached_property
    def read_bytes(self) -> dict[str, float]:
        """The stored columns that are read, and how many bytes an entry of each takes, on average."""
        index = self.index
        return {
            name: sources.vector_bytes(index, name)
            if index.columns[name].type.is_jagged
            else index.dtype(name).itemsize
            for name in self.projection.columns
        }


@dataclass(frozen=True, eq=False)
class Dataset:
    """The blocks of a loader's rows.

    Attributes
    ----------
    files : tuple of DatasetFile
    layout : Layout
    blocks : tuple of Block
    strata : Strata or None
        The classes that are balanced; None for one stratum of all rows.
    counts : ndarray of int64, shape (blocks, strata)
        Rows of each block.
    """

    files: tuple[DatasetFile, ...]
    layout: Layout
    blocks: tuple[Block, ...]
    strata: Strata | None
    counts: npt.NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Rows of all blocks."""
        return int(self.counts.sum())

    @cached_property
    def row_bytes(self) -> npt.NDArray[np.int64]:
        """Bytes that a row of each file takes in memory, with its place in the order, on average."""
        sizes = [memory_row_bytes(self.layout, file) + ORDER_BYTES for file in self.files]
        return np.array(sizes, np.int64)

    @cached_property
    def block_files(self) -> npt.NDArray[np.int64]:
        """The file of each block."""
        return np.array([block.file for block in self.blocks], np.int64)

    @property
    def mean_row_bytes(self) -> float:
        """Bytes that a row takes in memory, on average over all rows."""
        rows = self.counts.sum(1)
        return float(rows @ self.row_bytes[self.block_files]) / max(int(rows.sum()), 1)

    def positions(self, block: Block) -> Positions | None:
        """Return the entries of a block that make rows, relative to its first; None for all."""
        taken = self.files[block.file].taken
        return None if taken is None else members(taken, block.start, block.stop)

    def part(self, read: Read) -> Taken:
        """Return the rows of a read: as few entries as hold them."""
        block = self.blocks[read.block]
        take = self.positions(block)
        if self.strata is None and len(read.ranges) == 1:
            first, stop = read.ranges[0]
            if take is None:
                return Taken(Block(block.file, block.start + first, block.start + stop), None)
            return _trimmed(block, take[first:stop], None)
        if take is None:
            take = np.arange(len(block), dtype=np.int32)
        codes = np.zeros(len(take), np.uint8)
        if self.strata is not None:
            codes = self.strata.codes(block.file, block.start, block.stop)[take]
        chosen = np.zeros(len(take), bool)
        for (stratum, _), (first, stop) in zip(read.pieces, read.ranges, strict=True):
            chosen[np.flatnonzero(codes == stratum)[first:stop]] = True
        return _trimmed(block, take[chosen], None if self.strata is None else codes[chosen])

    def entries(self, number: int, stratum: int) -> npt.NDArray[np.int64]:
        """Return the numbers in the file of a block's rows of a stratum."""
        block = self.blocks[number]
        take = self.positions(block)
        found: npt.NDArray[np.int64] = block.start + (
            np.arange(len(block)) if take is None else take.astype(np.int64)
        )
        if self.strata is None:
            return found
        codes = self.strata.codes(block.file, block.start, block.stop)
        mine = (codes if take is None else codes[take]) == stratum
        return np.compress(mine, found)

    def without(self, seen: Sequence[BitMask]) -> Dataset:
        """Return the dataset without some entries of each file."""
        files = tuple(
            replace(
                file, taken=(all_set(file.index.entries) if file.taken is None else file.taken) & ~bits
            )
            for file, bits in zip(self.files, seen, strict=True)
        )
        return replace(self, files=files, counts=counts_of(files, self.blocks, self.strata))


@dataclass(frozen=True, eq=False)
class Taken:
    """Rows that are read together.

    Attributes
    ----------
    block : Block
    take : ndarray of int32 or None
        Entries that make rows, relative to the block's first; None for all.
    strata : ndarray of uint8 or None
        Their strata; None where there is only one.
    """

    block: Block
    take: Positions | None
    strata: npt.NDArray[np.uint8] | None = None

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.block) if self.take is None else len(self.take)


def _trimmed(block: Block, take: Positions, codes: npt.NDArray[np.uint8] | None) -> Taken:
    first, stop = (int(take[0]), int(take[-1]) + 1) if len(take) else (0, 0)
    trimmed = replace(block, start=block.start + first, stop=block.start + stop)
    return Taken(trimmed, None if len(take) == stop - first else take - np.int32(first), codes)


def counts_of(
    files: Sequence[DatasetFile], blocks: Sequence[Block], strata: Strata | None
) -> npt.NDArray[np.int64]:
    """Return the rows of each block, by stratum."""
    counts = np.zeros((len(blocks), 1 if strata is None else len(strata.values)), np.int64)
    for number, block in enumerate(blocks):
        taken = files[block.file].taken
        if strata is not None:
            codes = strata.codes(block.file, block.start, block.stop)
            if taken is not None:
                codes = codes[members(taken, block.start, block.stop)]
            counts[number] = np.bincount(codes, minlength=counts.shape[1])
        elif taken is None:
            counts[number] = len(block)
        else:
            counts[number] = counted(taken, block.start, block.stop)
    return counts


def memory_row_bytes(layout: Layout, file: DatasetFile) -> int:
    """Return the bytes that a row of a file takes in memory, what lies beside it included, on average.

    From metadata alone. Vectors take the length that they have in the file on average, or what they are
    cut to; those of which the file tells no length, or that definitions make, as much as in a batch.
    """
    row_bytes: float = layout.row_bytes
    for each in layout.beside:
        elements = min(_elements(file, each, each.length), each.length)
        row_bytes += elements * len(each.columns) * layout.parts[each.part].dtype.itemsize
    return int(np.ceil(row_bytes))


def _elements(file: DatasetFile, vectors: Vectors, unknown: int) -> float:
    """Return the elements of an entry's vectors on average, or `unknown` where no metadata tell."""
    stored = (file.index.columns[name] for name in vectors.columns if name in file.projection.stored)
    told = [
        column.value_bytes / column.dtype.itemsize
        for column in stored
        if column.dtype is not None and column.pages is not None
    ]
    return max(told, default=unknown)


def scratch_row_bytes(layout: Layout, files: Sequence[DatasetFile]) -> int:
    """Return the bytes per entry that filling a block takes for decoding and for definitions."""
    packed = sum(len(part.scalars) * part.dtype.itemsize for part in layout.parts)
    widest, evaluated = 1, 0.0
    for file in files:
        index = file.index
        dtypes = [column.type.dtype for column in index.columns.values()]
        widest = max([widest, *(dtype.itemsize for dtype in dtypes if dtype is not None)])
        vectors = [name for name in index.columns if index.columns[name].type.is_jagged]
        # Vectors as they are read, and those of one input as they are taken, sorted, cut and cast.
        inputs = sum(sources.vector_bytes(index, name) for name in vectors)
        cast = [
            _elements(file, each, 0)
            * (len(each.columns) * layout.parts[each.part].dtype.itemsize + widest + _ORDER_BYTES)
            for each in layout.vectors
        ]
        inputs += max(cast, default=0) + _PLACE_BYTES * bool(cast)
        inputs += sum(
            index.dtype(name).itemsize for name in file.projection.inputs if name not in vectors
        )
        evaluated = max(evaluated, inputs + 8 * len(file.projection.defined))
    return int(packed + 2 * widest + np.dtype(np.int32).itemsize + np.ceil(evaluated))


def scratch_page_bytes(files: Sequence[DatasetFile]) -> int:
    """Return the bytes that a thread takes, about, for a page as it is stored and for its contents."""
    columns = (column for file in files for column in file.index.columns.values())
    sizes = [(0, 0), *map(_longest_page, columns)]
    stored, contents = (max(each[number] for each in sizes) for number in (0, 1))
    # What definitions make grows by doubling, and is cast.
    made = any(type_.kind == "vector" for file in files[:1] for type_ in _made(file))
    return stored + contents + 3 * MADE_BYTES * made


def longest_page(files: Sequence[DatasetFile]) -> tuple[str, str, int]:
    """Return where the page is that takes the most when it is decompressed: object, column and bytes."""
    every = ((file.index.where, column) for file in files for column in file.index.columns.values())
    where, column = max(every, key=lambda each: _longest_page(each[1])[1])
    return where, column.name, _longest_page(column)[1]


def _longest_page(column: Column) -> tuple[int, int]:
    """Return the most bytes of a column's page, as it is stored, and of its contents."""
    stored = contents = 0
    for pages in (column.pages, column.offsets):
        if pages is None or len(pages) == 0:
            continue
        stored = max(stored, int(pages.stored_bytes.max()))
        longest = int(np.diff(pages.bounds).max())
        contents = max(contents, *(each.page_bytes(longest) for each in pages.encodings))
        if column.type.is_jagged and column.offsets is None and not column.length:
            # A TTree's basket of vectors: elements, a header and a position for each entry.
            header = max(each.header_bytes for each in pages.encodings)
            contents = max(contents, int(longest * (column.value_bytes + header + 4)))
    return stored, contents


def _made(file: DatasetFile) -> list[ColumnType]:
    types = file.projection.types(file.index)
    return [types[name] for name in file.projection.defined]
