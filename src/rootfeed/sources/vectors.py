"""From pages to vectors: several numbers in each entry, and how many.

An RNTuple keeps offsets in pages of their own, each of which ends an entry, counted within a cluster. A
TTree keeps the position of each entry after the data in the same basket. An array's elements need none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootfeed import kernels
from rootfeed.schema import ABSENT, Array, Column, Encoding, Jagged, Pages, Texts
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.decoding import decode
from rootfeed.sources.pages import Basket, PageReader, overlapping
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.strings import text_parts, text_places

__all__ = ["Span", "prepare", "read_spans", "read_vector"]

_COUNTED_HEADER_BYTES = 10
"""Of a C++ container: its size in bytes, its version, the number of its elements."""


@dataclass(frozen=True, eq=False)
class Span:
    """The elements of some entries of an RNTuple's vector.

    Attributes
    ----------
    first : int
        The first one's number in the file.
    offsets : ndarray of int64, shape (entries + 1,)
        From 0 on, as `Jagged` has them.
    """

    first: int
    offsets: Array

    @property
    def stop(self) -> int:
        """The number of the element after the last one."""
        return self.first + int(self.offsets[-1])


def read_spans(reader: PageReader, columns: Sequence[Column], start: int, stop: int) -> dict[str, Span]:
    """Read where the entries ``[start, stop)`` of an RNTuple's vectors lie.

    The offsets of a collection are read once for all of its columns, which get the same array.
    """
    found: dict[str, Span] = {}
    read: dict[int, Span] = {}
    for column in columns:
        if column.offsets is None:
            continue
        key = id(column.offsets)
        if key not in read:
            out = reader.scratch.array(f"offsets of {column.name}", stop - start + 1, np.int64)
            _fill_offsets(reader, column, column.offsets, start, stop, out)
            if reader.stopped.is_set():
                return found
            first = int(out[0])
            out -= first
            read[key] = Span(first, out)
        found[column.name] = read[key]
    return found


def _fill_offsets(
    reader: PageReader, column: Column, pages: Pages, start: int, stop: int, out: Array
) -> None:
    """Fill the ends of the entries ``[start - 1, stop)``."""
    clusters = pages.clusters
    assert clusters is not None
    if start == stop:
        out[0] = 0
        return
    page = overlapping(pages, start, start + 1)[0]
    low = start - 1
    if start == pages.bounds[page] and (page == 0 or np.any(clusters[page] != clusters[page - 1])):
        out[0] = clusters[page, 0]  # the first entry of a cluster: nothing ends before it
        low = start
    position = out[low - start + 1 :]
    previous = 0
    for page in overlapping(pages, low, stop):
        if reader.stopped.is_set():
            return
        first, end = int(pages.bounds[page]), int(pages.bounds[page + 1])
        begin, finish = max(low, first), min(stop, end)
        base, limit = (int(place) for place in clusters[page])
        target, position = position[: finish - begin], position[finish - begin :]
        if page > 0 and np.any(clusters[page] != clusters[page - 1]):
            previous = 0
        with reader.naming(column, f"entries [{first}, {end})"):
            if pages.offset[page] == ABSENT:
                target[...] = base
            else:
                _page_ends(
                    reader, pages, page, (begin - first, finish - first), previous, limit - base, target
                )
            previous = int(target[-1]) - base
            is_last = page + 1 == len(pages) or np.any(clusters[page] != clusters[page + 1])
            if is_last and finish == end and previous != limit - base:
                raise DamagedPageError(
                    f"its last entry ends at element {previous} of a cluster with {limit - base}"
                )


def _page_ends(
    reader: PageReader,
    pages: Pages,
    page: int,
    part: tuple[int, int],
    previous: int,
    elements: int,
    out: Array,
) -> None:
    """Decode the offsets ``[part[0], part[1])`` of a page."""
    encoding = pages.encodings[pages.encoding[page]]
    entries = int(pages.bounds[page + 1] - pages.bounds[page])
    raw = reader.contents(pages, page, entries)
    start, stop = part
    delta = encoding.name == "delta"
    if delta:
        skip = start
        words = reader.scratch.array("words", stop, encoding.stored)
        kernels.unsplit(raw, entries, 0, words)
    else:
        skip = min(start, 1)
        words = raw.view(encoding.stored)[start - skip : stop]
    assert pages.clusters is not None
    base = int(pages.clusters[page, 0])
    good = kernels.page_ends(words, skip, delta, previous, elements, base, out)
    if good < len(words):
        entry = int(pages.bounds[page]) + stop - len(words) + good
        raise DamagedPageError(
            f"entry {entry} does not end between the one before it and the {elements} elements of its "
            "cluster"
        )


def read_vector(reader: PageReader, column: Column, start: int, stop: int, span: Span | None) -> Jagged:
    """Read the entries ``[start, stop)`` of a vector that has a table of pages.

    Parameters
    ----------
    reader : PageReader
    column : Column
    start, stop : int
        Entries of the file.
    span : Span or None
        Of an RNTuple's vector, from `read_spans`.
    """
    scratch = reader.scratch
    if span is None:
        if not column.length:
            return _read_baskets(reader, column, start, stop)
        offsets = scratch.array(f"offsets of {column.name}", stop - start + 1, np.int64)
        offsets[:] = np.arange(stop - start + 1)
        offsets *= column.length
        span = Span(start * column.length, offsets)
    values = scratch.array(f"values of {column.name}", span.stop - span.first, column.dtype)
    reader.fill(column, span.first, span.stop, values)
    if column.type.kind == "text":
        return Texts(values.view(np.uint8), span.offsets)
    return Jagged(values, span.offsets)


def _read_baskets(reader: PageReader, column: Column, start: int, stop: int) -> Jagged:
    """Read a TTree's vectors: how many elements there are is known basket by basket."""
    pages, scratch, dtype = column.pages, reader.scratch, column.dtype
    is_text = column.type.kind == "text"
    assert pages is not None
    name = f"values of {column.name}"
    offsets = scratch.array(f"offsets of {column.name}", stop - start + 1, np.int64)
    offsets[0] = elements = 0
    values = scratch.array(name, 0, dtype)
    for page in overlapping(pages, start, stop):
        if reader.stopped.is_set():
            break
        first, end = int(pages.bounds[page]), int(pages.bounds[page + 1])
        low, high = max(start, first), min(stop, end)
        ends = offsets[low - start + 1 : high - start + 1]
        encoding = pages.encodings[pages.encoding[page]]
        with reader.naming(column, f"entries [{first}, {end})"):
            counted = _counted_places(reader, column, first, high)
            basket = reader.basket(pages, page, end - first)
            if is_text and not basket.has_places:
                counted = text_places(basket, encoding, end - first)
            if basket.has_places:
                raw, key_bytes = basket.places(low - first, high - first), basket.key_bytes
            elif counted is None:
                raise DamagedPageError("it does not tell where its entries lie")
            else:
                raw, key_bytes = counted[4 * (low - first) :], 0
            places = scratch.array("places", high - low + 1, np.int64)
            good = kernels.basket_ends(
                raw,
                key_bytes,
                basket.data_bytes,
                high == end and basket.has_places,
                0 if is_text else encoding.header_bytes,
                encoding.page_bytes(1),
                places,
                ends,
            )
            if good < high - low:
                raise DamagedPageError(
                    f"entry {low + good} lies at the bytes [{places[good]}, {places[good + 1]}) of "
                    f"{basket.data_bytes}, with elements of {encoding.page_bytes(1)} bytes"
                )
            if is_text:
                firsts, ends[:] = text_parts(basket, encoding, places, low)
            found = int(ends[-1])
            values = scratch.grown(name, elements, elements + found, dtype)
            if is_text:
                lengths = np.diff(ends, prepend=0)
                letters = np.repeat(firsts + lengths - ends, lengths) + np.arange(found)
                values[elements:] = basket.raw.view(values.dtype)[letters]
            elif encoding.header_bytes:
                _strip(basket, encoding, places, low, values[elements:])
            else:
                raw = basket.raw[places[0] : places[-1]]
                decode(encoding, raw, found, 0, values[elements:], scratch)
        ends += elements
        elements += found
    return Texts(values.view(np.uint8), offsets) if is_text else Jagged(values, offsets)


def _counted_places(reader: PageReader, column: Column, first: int, stop: int) -> Array | None:
    """Return the positions of a basket's entries as it would tell them itself, from their counts."""
    if column.counts is None:
        return None
    assert column.pages is not None
    dtype = column.counts.type.dtype
    assert dtype is not None
    counts = reader.scratch.array("counts", stop - first, dtype)
    reader.fill(column.counts, first, stop, counts)
    sizes = np.zeros(stop - first + 1, np.int64)
    np.cumsum(counts, out=sizes[1:], dtype=np.int64)
    sizes *= column.pages.encodings[0].page_bytes(1)
    if len(counts) and (int(counts.min()) < 0 or int(sizes.max()) > np.iinfo(np.int32).max):
        raise DamagedPageError(f"{column.counts.name!r} does not count its elements")
    return sizes.astype(">i4").view(np.uint8)


def _strip(basket: Basket, encoding: Encoding, places: Array, entry: int, out: Array) -> None:
    """Decode the elements of entries with headers, the first of which is `entry`."""
    words = out.view(f"u{out.itemsize}")
    counted = encoding.header_bytes == _COUNTED_HEADER_BYTES
    good = kernels.strip(basket.raw, places, encoding.header_bytes, counted, words)
    if good < len(places) - 1:
        raise DamagedPageError(
            f"entry {entry + good} tells another number of elements than its size does"
        )
    if out.dtype == np.bool_:
        np.not_equal(words, 0, out=out)


def prepare(columns: Iterable[Column]) -> None:
    """Compile the kernels of vectors: each once, on no elements."""
    nothing, none, scratch = np.empty(0, np.uint8), np.empty(0, np.int64), Scratch()
    offsets: set[np.dtype[Any]] = set()
    values: set[int] = set()
    for column in columns:
        if column.offsets is not None:
            offsets |= {encoding.stored for encoding in column.offsets.encodings}
        elif column.type.is_jagged and column.pages is not None and not column.length:
            values |= {encoding.stored.itemsize for encoding in column.pages.encodings}
    for dtype in offsets:
        words = scratch.array("words", 0, dtype)
        kernels.unsplit(nothing, 0, 0, words)
        kernels.page_ends(words, 0, True, 0, 0, 0, none)
    for item_bytes in values:
        place, words = np.zeros(1, np.int64), scratch.array("words", 0, f"u{item_bytes}")
        kernels.basket_ends(np.zeros(4, np.uint8), 0, 0, True, 0, 1, place, none)
        kernels.strip(nothing, place, 0, True, words)
