"""Entries are cut into blocks along the file's own boundaries: clusters first, then pages."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rootfeed.plan.pages import Table, tables
from rootfeed.properties import cached_property
from rootfeed.schema import Block, Column

__all__ = ["Boundaries", "boundaries", "cut", "page_bytes", "page_entries"]

Entries = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Boundaries:
    """Where a file can be cut for the columns in use.

    Attributes
    ----------
    clusters : ndarray of int64
        Entries at which pages of all columns end.
    pages : ndarray of int64
        Entries at which pages of the columns that hold the most bytes end; next to which, where a page
        ends within an entry, or its end is an estimate.
    tables : tuple of Table
        Of all pages.
    ends : ndarray of int64 or None
        Those of `pages` at which pages end for certain; None for all.
    """

    clusters: Entries
    pages: Entries
    tables: tuple[Table, ...] = ()
    ends: Entries | None = None

    @cached_property
    def lists(self) -> tuple[list[int], list[int]]:
        """`clusters` and `pages`, as Python has them."""
        return self.clusters.tolist(), self.pages.tolist()


def boundaries(columns: Mapping[str, Column], entries: int) -> Boundaries:
    """Return the boundaries of one file.

    Columns with the same boundaries are counted together; the group that holds the most stored bytes
    decides where pages end, because decompressing its pages twice would cost most.

    Parameters
    ----------
    columns : mapping of str to Column
    entries : int
        Entries in the file.
    """
    whole = np.array([0, entries], np.int64)
    found = tables(columns)
    if not found or entries == 0:
        return Boundaries(whole, whole, found)
    heaviest, *others = sorted(found, key=lambda table: -float(table.stored[-1]))
    clusters = heaviest.ends
    for table in others:
        clusters = np.intersect1d(clusters, table.ends, assume_unique=True)
    pages = np.unique(np.concatenate([np.rint(heaviest.bounds).astype(np.int64), whole]))
    return Boundaries(clusters, pages, found, heaviest.ends)


def page_entries(files: Sequence[Boundaries], certain: bool = False) -> int:
    """Return the page length that half of all entries lie in pages of, at least; 1 without entries.

    Parameters
    ----------
    files : sequence of Boundaries
    certain : bool
        Count only where pages end for certain.
    """
    bounds = [file.ends if certain and file.ends is not None else file.pages for file in files]
    lengths = np.concatenate([np.diff(each) for each in bounds] or [np.zeros(0, np.int64)])
    lengths = np.sort(lengths[lengths > 0])
    if len(lengths) == 0:
        return 1
    return int(lengths[np.searchsorted(np.cumsum(lengths), lengths.sum() / 2)])


def cut(
    file: int, start: int, stop: int, bounds: Boundaries, block_entries: int, exact: bool
) -> list[Block]:
    """Cut the entries ``[start, stop)`` of a file into blocks of at most `block_entries`.

    A block ends at the last cluster boundary within reach, else at a page boundary that cuts the
    cluster into blocks of about equal size; a page longer than a block is cut into equal parts.

    Parameters
    ----------
    file : int
        Number of the file in the dataset.
    start, stop : int
    bounds : Boundaries
    block_entries : int
    exact : bool
        Cut every `block_entries`, wherever the boundaries lie.
    """
    blocks = []
    while start < stop:
        end = min(start + block_entries, stop)
        if not exact and end < stop:
            end = _end(start, end, bounds, block_entries)
        blocks.append(Block(file, start, end))
        start = end
    return blocks


def _end(start: int, reach: int, bounds: Boundaries, block_entries: int) -> int:
    clusters, pages = bounds.lists  # in which a single number is found much faster
    cluster = clusters[bisect_right(clusters, reach) - 1]
    if cluster > start:
        return cluster
    first = bisect_right(pages, start)
    if pages[first] > reach:
        return start + _equal_part(pages[first] - start, block_entries)
    # Several pages to a block, several blocks to a cluster: blocks of about equal size.
    cluster = clusters[bisect_right(clusters, start)]
    goal = start + _equal_part(cluster - start, block_entries)
    within = pages[first : bisect_right(pages, reach)]
    return min(within, key=lambda page: abs(page - goal))


def _equal_part(length: int, most: int) -> int:
    parts = -(-length // most)
    return -(-length // parts)


def page_bytes(files: Sequence[Boundaries], blocks: Sequence[Block]) -> tuple[float, float]:
    """Return the bytes of all pages that hold entries of some blocks; a page counts for each block.

    In the files, and decompressed: about.
    """
    places = np.array([(block.file, block.start, block.stop) for block in blocks], np.int64)
    places = places.reshape(-1, 3)
    places = places[np.argsort(places[:, 0], kind="stable")]
    ends = np.searchsorted(places[:, 0], np.arange(len(files) + 1))
    stored = contents = 0.0
    for file, start, stop in zip(files, ends[:-1], ends[1:], strict=True):
        if start == stop:
            continue
        _, starts, stops = places[start:stop].T
        for table in file.tables:
            first, last = table.overlapping(starts, stops)
            stored += float((table.stored[last] - table.stored[first]).sum())
            contents += float((table.contents[last] - table.contents[first]).sum())
    return stored, contents
