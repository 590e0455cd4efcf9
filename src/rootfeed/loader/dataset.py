"""A loader's rows: which entries of which files, where their columns come from, and in which blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rootfeed import kernels, sources
from rootfeed.errors import EmptyDatasetError
from rootfeed.frame import Frame, Wanted
from rootfeed.loader.options import Options
from rootfeed.loader.structure import check_layout
from rootfeed.plan import SCRATCH_SHARE, Sieve, Sizes, boundaries, choose_sizes, cut, page_entries
from rootfeed.schema import Block, FileIndex, Layout

__all__ = ["Dataset", "DatasetFile", "build"]

Spans = Sequence[tuple[int, int, int]]
Positions = npt.NDArray[np.int32]

_NONE = np.empty(0, np.int32)


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
    passing : ndarray of uint64 or None
        A bit for each entry that passes the frame's cuts; None where all do.
    """

    index: FileIndex
    wanted: Wanted
    first_number: int
    passing: npt.NDArray[np.uint64] | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """The blocks of a loader's rows.

    Attributes
    ----------
    files : tuple of DatasetFile
    layout : Layout
    sieve : Sieve
    blocks : tuple of Block
    rows : ndarray of int64
        Rows of each block: its entries that pass the cuts and the sieve.
    """

    files: tuple[DatasetFile, ...]
    layout: Layout
    sieve: Sieve
    blocks: tuple[Block, ...]
    rows: npt.NDArray[np.int64]

    def positions(self, block: Block) -> Positions | None:
        """Return the entries of a block that make rows, relative to its first; None for all."""
        file = self.files[block.file]
        if file.passing is None and not self.sieve:
            return None
        words = _words(file, self.sieve, block.start, block.stop)
        out = np.empty(len(block), np.int32)
        return out[: kernels.positions(words, block.start, block.stop, out)]


def _words(file: DatasetFile, sieve: Sieve, start: int, stop: int) -> npt.NDArray[np.uint64]:
    words = sieve.words(file.index.identity, file.index.entries, start, stop)
    if file.passing is not None:
        words &= file.passing[start // 64 : -(-stop // 64)]
    return words


def _count(file: DatasetFile, sieve: Sieve, start: int, stop: int) -> int:
    if file.passing is None and not sieve:
        return stop - start
    return int(kernels.positions(_words(file, sieve, start, stop), start, stop, _NONE))


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
    files = tuple(file for frame in frames for file in _files(frame, layout))
    taken = list(spans) if spans is not None else _everything(files)
    entries = sum(stop - start for _, start, stop in taken)
    rows = sum(_count(files[file], sieve, start, stop) for file, start, stop in taken)
    if rows == 0:
        raise EmptyDatasetError(_empty(frames, files))
    bounds = [boundaries(file.index.columns, file.index.entries) for file in files]
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
        [_count(files[block.file], sieve, block.start, block.stop) for block in blocks], np.int64
    )
    longest = max(len(block) for block in blocks)
    room = int(budget_bytes * SCRATCH_SHARE / (longest * per_entry + scratch_page_bytes(files)))
    threads = max(1, min(options.threads, room)) if options.chunk_entries is None else options.threads
    return Dataset(files, layout, sieve, blocks, counts), sizes, threads


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


def _everything(files: Sequence[DatasetFile]) -> list[tuple[int, int, int]]:
    return [(number, 0, file.index.entries) for number, file in enumerate(files) if file.index.entries]


def _empty(frames: Sequence[Frame], files: Sequence[DatasetFile]) -> str:
    others = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    where = f"{files[0].index.where}{others}"
    flows = [str(frame.report()) for frame in frames if frame.selects]
    if not flows or not any(file.index.entries for file in files):
        return f"there are no entries in {where}."
    return f"no entry of {where} passes the cuts. Loosen them:\n" + "\n".join(flows)


def scratch_row_bytes(layout: Layout, files: Sequence[DatasetFile]) -> int:
    """Return the bytes per entry that filling a block takes for decoding and for definitions."""
    packed = sum(len(part.scalars) * part.dtype.itemsize for part in layout.parts)
    widest, evaluated = 8, 0.0
    for file in files:
        index = file.index
        dtypes = [column.type.dtype for column in index.columns.values()]
        widest = max([widest, *(dtype.itemsize for dtype in dtypes if dtype is not None)])
        vectors = [name for name in index.columns if index.columns[name].type.kind == "vector"]
        # Vectors as they are read, and once more as they are cast.
        inputs = 2 * sum(sources.vector_bytes(index, name) for name in vectors)
        inputs += sum(index.dtype(name).itemsize for name in file.wanted.inputs if name not in vectors)
        # How long the vectors are that definitions make is not known: as long as the longest input.
        types = file.wanted.types(index)
        made = sum(types[name].kind == "vector" for name in file.wanted.defined)
        longest = max((sources.vector_bytes(index, name) for name in vectors), default=64.0)
        evaluated = max(evaluated, inputs + 8 * len(file.wanted.defined) + 4 * longest * made)
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
                if column.type.kind == "vector" and column.offsets is None and not column.length:
                    # A TTree's basket of vectors: elements, a header and a position for each entry.
                    header = max(each.header_bytes for each in pages.encodings)
                    contents = max(contents, int(longest * (column.value_bytes + header + 4)))
    return stored + contents
