"""Which pages hold which entries, and what it costs to decompress those of some blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rootfeed.schema import ABSENT, Column, Pages

__all__ = ["Table", "tables"]

Places = npt.NDArray[np.float64]
Entries = npt.NDArray[np.int64]

_PLACE_BYTES = 4
"""Of a TTree's basket of vectors, for the position of each entry."""


@dataclass(frozen=True, eq=False)
class Table:
    """Pages of columns that end at the same entries, counted together.

    Attributes
    ----------
    bounds : ndarray of float64, shape (pages + 1,)
        Page ``i`` holds the entries from ``bounds[i]`` to ``bounds[i + 1]``, parts of entries included.
    ends : ndarray of int64
        Entries between which pages end for certain, the first and the last one of the file included.
    stored, contents : ndarray of float64, shape (pages + 1,)
        Bytes of all pages before each: in the file, and decompressed (about).
    """

    bounds: Places
    ends: Entries
    stored: Places
    contents: Places

    def overlapping(self, starts: Entries, stops: Entries) -> tuple[Entries, Entries]:
        """Return the pages ``[first, last)`` that hold entries of each of some ranges."""
        most = len(self.bounds) - 1
        first = np.clip(np.searchsorted(self.bounds, starts, "right") - 1, 0, most)
        last = np.clip(np.searchsorted(self.bounds, stops, "left"), first, most)
        return first, last


def tables(columns: Mapping[str, Column]) -> tuple[Table, ...]:
    """Return the tables of a file's pages; offsets that columns share count once.

    Columns that are read through uproot have none.
    """
    groups: dict[bytes, tuple[Places, Entries, Places, Places]] = {}
    for bounds, ends, pages, contents in _every(columns.values()):
        if len(pages) == 0:
            continue
        stored = pages.stored_bytes.astype(np.float64)
        if (same := groups.get(key := bounds.tobytes())) is not None:
            stored, contents = stored + same[2], contents + same[3]
            if not np.array_equal(ends, same[1]):
                ends = np.intersect1d(ends, same[1], assume_unique=True)
        groups[key] = bounds, ends, stored, contents
    return tuple(
        Table(bounds, ends, _before_each(stored), _before_each(contents))
        for bounds, ends, stored, contents in groups.values()
    )


def _before_each(sizes: Places) -> Places:
    return np.concatenate([[0.0], sizes.cumsum()])


def _every(columns: Iterable[Column]) -> Iterable[tuple[Places, Entries, Pages, Places]]:
    """Yield where the pages of each table end, also for certain, and the bytes of their contents."""
    seen: set[int] = set()
    for column in columns:
        if (offsets := column.offsets) is not None and id(offsets) not in seen:
            seen.add(id(offsets))
            yield offsets.bounds.astype(np.float64), offsets.bounds, offsets, _contents(offsets)
        if (pages := column.pages) is None:
            continue
        contents = _contents(pages)
        if column.type.is_jagged and offsets is None and not column.length:
            # A TTree's basket of vectors or texts: elements, a header and a position for each entry.
            header = max((each.header_bytes for each in pages.encodings), default=0)
            contents = np.diff(pages.bounds) * (column.value_bytes + header + _PLACE_BYTES)
        yield column.page_bounds, column.entry_bounds, pages, contents


def _contents(pages: Pages) -> Places:
    """Return the decompressed bytes of pages of elements."""
    every = [8 * each.length for each in pages.encodings]  # so many take whole bytes
    of_one = [each.page_bytes(n) / n for each, n in zip(pages.encodings, every, strict=True)]
    elements = pages.bounds[1:] - pages.bounds[:-1]
    return np.where(pages.offset == ABSENT, 0.0, elements * np.array(of_one)[pages.encoding])
