"""From a spec to blocks: files are indexed, sizes chosen under the budget, and blocks cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rootfeed import sources
from rootfeed.dataset.dataset import (
    Dataset,
    DatasetFile,
    counts_of,
    memory_row_bytes,
    scratch_page_bytes,
    scratch_row_bytes,
)
from rootfeed.dataset.spec import Spec
from rootfeed.dataset.structure import check_layout
from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.frame import Frame, view_of
from rootfeed.layout import Layout
from rootfeed.plan import Boundaries, Sizes, Stock, boundaries, choose_sizes, members, page_entries
from rootfeed.plan.budget import FETCHED_SHARE, ORDER_BYTES, SCRATCH_SHARE, WINDOW_SHARE
from rootfeed.plan.regions import in_stretches, kinds, partitions, wanted_regions
from rootfeed.schema import Block

__all__ = ["Built", "build"]


@dataclass(frozen=True, eq=False)
class Built:
    """The blocks of a dataset, and what they follow from.

    Attributes
    ----------
    dataset : Dataset
    sizes : Sizes
        Of window and blocks.
    threads : int
        For which the budget leaves room.
    stock : Stock
        What the blocks were cut of.
    page_bytes : int
        That a thread takes for the longest page.
    """

    dataset: Dataset
    sizes: Sizes
    threads: int
    stock: Stock
    page_bytes: int


def build(spec: Spec) -> Built:
    """Index the files, choose sizes under the budget, and cut the blocks.

    Raises
    ------
    EmptyDatasetError
        Where no entry is left.
    ArgumentError
        Where blocks of a size that was asked for do not fit into memory.
    """
    layout, strata, choosing = spec.layout, spec.strata, spec.saved_sizes is None and spec.shuffle
    files = tuple(file for frame in spec.frames for file in _files(frame, layout))
    if spec.masks is not None:
        files = tuple(
            replace(file, taken=mask if file.taken is None else mask & file.taken)
            for file, mask in zip(files, spec.masks, strict=True)
        )
    stock = _stock(files, layout)
    if stock.rows == 0:
        raise EmptyDatasetError(_empty(spec.frames, files))
    decoded_bytes = scratch_row_bytes(layout, files)
    sizes = choose_sizes(
        rows=stock.rows,
        entries=sum(map(len, stock.spans)),
        row_bytes=stock.mean_row_bytes - ORDER_BYTES,
        batch_row_bytes=layout.batch_row_bytes(spec.batch_size),
        scratch_entry_bytes=decoded_bytes,
        batch_size=spec.batch_size,
        page_entries=page_entries(stock.files),
        whole_page_entries=page_entries(stock.files, certain=True),
        budget_bytes=spec.budget_bytes,
        threads=spec.most_threads,
        in_memory=spec.keep_in_memory,
        chunk_entries=spec.chunk_entries,
        block_entries=spec.block_entries,
    )
    if spec.saved_sizes is not None:
        sizes = replace(spec.saved_sizes, run_rows=sizes.run_rows, runs_ahead=sizes.runs_ahead)
    elif choosing and not (sizes.in_memory or sizes.exact):
        block_entries = stock.block_entries(sizes.block_entries, sizes.window_bytes)
        sizes = replace(sizes, block_entries=block_entries)
    blocks = stock.cut(sizes.block_entries, sizes.exact)
    dataset = Dataset(files, layout, blocks, strata, counts_of(files, blocks, strata))
    if choosing and not sizes.in_memory:
        largest = np.zeros(len(files), np.int64)
        np.maximum.at(largest, dataset.block_files, dataset.counts.sum(1))
        sizes = replace(sizes, regions=stock.regions(largest, sizes.window_bytes))
    longest = max(len(block) for block in blocks)
    if spec.block_entries is not None and spec.chunk_entries is None and not sizes.in_memory:
        _check_block_entries(spec, dataset, longest, decoded_bytes)
    threads, page_bytes = spec.most_threads, scratch_page_bytes(files)
    if spec.chunk_entries is None:
        thread_bytes = longest * decoded_bytes + page_bytes
        share = SCRATCH_SHARE
        if any(sources.is_fetched(file.index) for file in files):
            share -= FETCHED_SHARE
        threads = max(1, min(threads, int(spec.budget_bytes * share / thread_bytes)))
    return Built(dataset, sizes, threads, stock, page_bytes)


def _stock(files: Sequence[DatasetFile], layout: Layout) -> Stock:
    bounds = tuple(boundaries(file.index.columns, file.index.entries) for file in files)
    paths = [file.index.path for file in files]
    return Stock(
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


def _check_block_entries(spec: Spec, dataset: Dataset, longest: int, decoded_bytes: int) -> None:
    """Refuse blocks that do not fit into the memory of all parts, which are iterated in turns."""
    bytes_ = dataset.counts.sum(1) * dataset.row_bytes[dataset.block_files]
    held, decoded = int(bytes_.max()), longest * decoded_bytes
    needed = max(held / WINDOW_SHARE, decoded / SCRATCH_SHARE)
    if needed > spec.shared_bytes:
        raise ArgumentError(
            f"block_entries={spec.block_entries} does not fit into memory="
            f"{spec.shared_bytes} bytes: blocks of up to {longest} entries take "
            f"{held} bytes, and {decoded} to decode, for which {needed:.0f} are needed. "
            "Choose smaller blocks, or more memory."
        )


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
    view = view_of(frame)
    projection = view.projection(layout.columns)
    # A frame remembers the columns of other loaders, too: they must not shape this one's blocks.
    indexes = [
        replace(index, columns={name: index.columns[name] for name in projection.columns})
        for index in view.index(projection.columns)
    ]
    for index in indexes:
        # Each file's own types: a column may be a number in the first file only.
        check_layout(index.where, layout, projection.types(index))
    masks = view.selection().masks if view.selects else [None] * len(indexes)
    firsts = np.cumsum([0, *(index.entries for index in indexes)]).tolist()
    return [
        DatasetFile(index, projection, first, bits)
        for index, first, bits in zip(indexes, firsts, masks, strict=False)
    ]


def _empty(frames: Sequence[Frame], files: Sequence[DatasetFile]) -> str:
    others = f" and {len(files) - 1} more files" if len(files) > 1 else ""
    where = f"{files[0].index.where}{others}"
    flows = [str(frame.report()) for frame in frames if view_of(frame).selects]
    if not flows or not any(file.index.entries for file in files):
        return f"there are no entries in {where}."
    return f"no entry of {where} passes the cuts. Loosen them:\n" + "\n".join(flows)
