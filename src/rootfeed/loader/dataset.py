"""A loader's rows: which entries of which files, where their columns come from, and in which blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rootfeed import sources
from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.frame import Frame, Wanted
from rootfeed.loader.options import Options
from rootfeed.loader.regions import in_stretches, kinds, partitions, wanted_regions
from rootfeed.loader.strata import Strata
from rootfeed.loader.structure import check_layout
from rootfeed.plan import (
    Boundaries,
    Read,
    Sizes,
    Stock,
    Words,
    all_set,
    boundaries,
    choose_sizes,
    counted,
    members,
    page_entries,
)
from rootfeed.plan.budget import ORDER_BYTES, SCRATCH_SHARE, WINDOW_SHARE
from rootfeed.schema import Block, ColumnType, FileIndex, Layout, Vectors

__all__ = ["Dataset", "DatasetFile", "Taken", "build", "memory_row_bytes"]

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
    wanted : Wanted
        How the columns of a batch come about.
    first_number : int
        Number of the file's first entry among all entries of its frame.
    taken : ndarray of uint64 or None
        A bit for each entry that makes a row: it passes the cuts, and is on this side of every
        split; None where all do.
    """

    index: FileIndex
    wanted: Wanted
    first_number: int
    taken: Words | None


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
                return Taken(replace(block, start=block.start + first, stop=block.start + stop), None)
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

    def without(self, seen: Sequence[Words]) -> Dataset:
        """Return the dataset without some entries of each file."""
        files = tuple(
            replace(
                file, taken=(all_set(file.index.entries) if file.taken is None else file.taken) & ~bits
            )
            for file, bits in zip(self.files, seen, strict=True)
        )
        return replace(self, files=files, counts=_counts(files, self.blocks, self.strata))


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


def _counts(
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


def build(
    frames: Sequence[Frame],
    layout: Layout,
    side: Sequence[Words] | None,
    strata: Strata | None,
    options: Options,
    budget_bytes: int,
    keep: bool = False,
    fixed: Sizes | None = None,
) -> tuple[Dataset, Sizes, int, Stock]:
    """Index the frames, choose sizes under the budget, and cut the blocks.

    Parameters
    ----------
    frames : sequence of Frame
    layout : Layout
    side : sequence of ndarray of uint64, optional
        A bit for each entry of each file that is taken; None for all.
    strata : Strata, optional
    options : Options
    budget_bytes : int
    keep : bool
        Keep the dataset in memory, whatever the budget.
    fixed : Sizes, optional
        The sizes that decide which rows come together, if they are given.

    Returns
    -------
    tuple of Dataset, Sizes, int, Stock
        The third is the number of threads that the budget leaves room for; the last what the blocks
        were cut of.
    """
    files = tuple(file for frame in frames for file in _files(frame, layout))
    if side is not None:
        files = tuple(
            replace(file, taken=bits if file.taken is None else bits & file.taken)
            for file, bits in zip(files, side, strict=True)
        )
    bounds = tuple(boundaries(file.index.columns, file.index.entries) for file in files)
    paths = [file.index.path for file in files]
    stock = Stock(
        files=bounds,
        entries=tuple(file.index.entries for file in files),
        taken=tuple(file.taken for file in files),
        spans=tuple(
            Block(number, start, stop)
            for number, (file, each) in enumerate(zip(files, bounds, strict=True))
            for start, stop in _spans(file, each)
        ),
        row_bytes=tuple(memory_row_bytes(layout, file) + ORDER_BYTES for file in files),
        partitions=partitions(paths),
        wanted=wanted_regions(paths),
        kinds=max(kinds(paths), len(wanted_regions(paths)), 2),
        in_stretches=in_stretches(paths),
    )
    if stock.rows == 0:
        raise EmptyDatasetError(_empty(frames, files))
    per_entry = scratch_row_bytes(layout, files)
    sizes = choose_sizes(
        rows=stock.rows,
        entries=sum(map(len, stock.spans)),
        row_bytes=stock.mean_row_bytes - ORDER_BYTES,
        batch_row_bytes=layout.batch_row_bytes,
        scratch_entry_bytes=per_entry,
        batch_size=options.batch_size,
        page_entries=page_entries(bounds),
        whole_page_entries=page_entries(bounds, certain=True),
        budget_bytes=budget_bytes,
        threads=options.threads,
        keep=keep,
        chunk_entries=options.chunk_entries,
        block_entries=options.block_entries,
    )
    if fixed is not None:
        sizes = replace(fixed, run_rows=sizes.run_rows, runs_ahead=sizes.runs_ahead)
    elif options.shuffle and not (sizes.whole or sizes.exact):
        block_entries = stock.block_entries(sizes.block_entries, sizes.window_bytes)
        sizes = replace(sizes, block_entries=block_entries)
    blocks = stock.cut(sizes.block_entries, sizes.exact)
    dataset = Dataset(files, layout, blocks, strata, _counts(files, blocks, strata))
    if fixed is None and options.shuffle and not sizes.whole:
        largest = np.zeros(len(files), np.int64)
        np.maximum.at(largest, dataset.block_files, dataset.counts.sum(1))
        sizes = replace(sizes, regions=stock.regions(largest, sizes.window_bytes))
    longest = max(len(block) for block in blocks)
    if options.block_entries is not None and options.chunk_entries is None and not sizes.whole:
        bytes_ = dataset.counts.sum(1) * dataset.row_bytes[dataset.block_files]
        held, decoded = int(bytes_.max()), longest * per_entry
        needed = max(held / WINDOW_SHARE, decoded / SCRATCH_SHARE)
        if needed > options.budget_bytes:  # that of all parts, which are iterated in turns
            raise ArgumentError(
                f"block_entries={options.block_entries} does not fit into memory="
                f"{options.budget_bytes} bytes: blocks of up to {longest} entries take "
                f"{held} bytes, and {decoded} to decode, for which {needed:.0f} are needed. "
                "Choose smaller blocks, or more memory."
            )
    room = int(budget_bytes * SCRATCH_SHARE / (longest * per_entry + scratch_page_bytes(files)))
    threads = max(1, min(options.threads, room)) if options.chunk_entries is None else options.threads
    return dataset, sizes, threads, stock


def _spans(file: DatasetFile, bounds: Boundaries) -> list[tuple[int, int]]:
    """Return the stretches of a file in which entries are taken: no page between them is read."""
    if file.taken is None:
        return [(0, file.index.entries)] if file.index.entries else []
    found = members(file.taken, 0, file.index.entries)
    if not len(found):
        return []
    gaps = np.flatnonzero(np.diff(found) > page_entries([bounds]))
    firsts = found[np.concatenate([[0], gaps + 1])]
    lasts = found[np.concatenate([gaps, [len(found) - 1]])]
    return [(int(first), int(last) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _files(frame: Frame, layout: Layout) -> list[DatasetFile]:
    """Return a frame's files with what a loader needs of them."""
    wanted = frame.wanted(layout.columns)
    # A frame remembers the columns of other loaders, too: they must not shape this one's blocks.
    indexes = [
        replace(index, columns={name: index.columns[name] for name in wanted.columns})
        for index in frame.index(wanted.columns)
    ]
    for index in indexes:
        # Each file's own types: a column may be a number in the first file only.
        check_layout(index.where, layout, wanted.types(index))
    words = frame.passing().words if frame.selects else [None] * len(indexes)
    firsts = np.cumsum([0, *(index.entries for index in indexes)]).tolist()
    return [
        DatasetFile(index, wanted, first, bits)
        for index, first, bits in zip(indexes, firsts, words, strict=False)
    ]


def _empty(frames: Sequence[Frame], files: Sequence[DatasetFile]) -> str:
    others = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    where = f"{files[0].index.where}{others}"
    flows = [str(frame.report()) for frame in frames if frame.selects]
    if not flows or not any(file.index.entries for file in files):
        return f"there are no entries in {where}."
    return f"no entry of {where} passes the cuts. Loosen them:\n" + "\n".join(flows)


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
    stored = (file.index.columns[name] for name in vectors.columns if name in file.wanted.stored)
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
        inputs += sum(index.dtype(name).itemsize for name in file.wanted.inputs if name not in vectors)
        evaluated = max(evaluated, inputs + 8 * len(file.wanted.defined))
    return int(packed + 2 * widest + np.dtype(np.int32).itemsize + np.ceil(evaluated))


def scratch_page_bytes(files: Sequence[DatasetFile]) -> int:
    """Return the bytes that a thread takes, about, for a page as it is stored and for its contents."""
    stored = contents = 0
    for file in files:
        for column in file.index.columns.values():
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
    # What definitions make grows by doubling, and is cast.
    made = any(type_.kind == "vector" for file in files[:1] for type_ in _made(file))
    return stored + contents + 3 * MADE_BYTES * made


def _made(file: DatasetFile) -> list[ColumnType]:
    types = file.wanted.types(file.index)
    return [types[name] for name in file.wanted.defined]
