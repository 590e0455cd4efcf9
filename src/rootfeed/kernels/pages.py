"""Pages of a file, many at a time: which of them are wanted, and whether a TTree's keys are right."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from rootfeed.kernels.compiled import kernel

__all__ = ["check_keys", "join_pages", "select_pages"]


def _loader(bits: int) -> Any:
    @intrinsic
    def load(_context: Any, _address: Any) -> Any:
        """Load an integer from an address."""

        def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer())
            return builder.sext(builder.load(pointer), ir.IntType(64))

        return types.int64(types.int64), generate

    return load


_load, _load_byte = _loader(64), _loader(8)

_FARTHEST = 1 << 62
"""No place in a file is farther: sums with sizes stay integers of 64 bits."""


@njit(inline="always")
def _first_above(bounds, count, value):
    """Return how many of `count` ascending integers at an address are not above a value."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if _load(bounds + 8 * middle) > value:
            high = middle
        else:
            low = middle + 1
    return low


@kernel("(int64[:,::1], int64[::1], int64[::1], int64, int64[::1], int64[::1], int64[:,::1])")
def select_pages(columns, starts, stops, most_bytes, firsts, skipped, out):
    """Write down which pages hold some elements of some columns, one column after another.

    Parameters
    ----------
    columns : ndarray of int64, shape (columns, 7)
        Of each the addresses of its `Pages`' bounds, offset, stored_bytes and checksum, the number of
        pages, the elements of an entry, and the bits of an element.
    starts, stops : ndarray of int64, shape (columns,)
        Elements ``[start, stop)`` that are wanted, within the bounds.
    most_bytes : int
        Columns of which a page is larger, not in the file, or of no bytes, are left out.
    firsts : ndarray of int64, shape (columns + 1,)
        Gets where in `out` the pages of each column begin, and the last ones end.
    skipped : ndarray of int64, shape (columns,)
        Gets the elements of a column's first page before the first one that is wanted.
    out : ndarray of int64, shape (7, pages or more)
        Gets offset, stored bytes, bytes of the checksum after them, elements, entries, uncompressed
        bytes, and the column; only what there is room for.

    Returns
    -------
    int
        Pages: if they are more than there is room for, only that is known.
    """
    count = 0
    for column in range(columns.shape[0]):
        bounds, offset, stored, checksum, pages, length, bits = columns[column]
        firsts[column] = first_place = count
        start, stop = starts[column], stops[column]
        page = max(_first_above(bounds, pages + 1, start) - 1, 0)
        skipped[column] = start - _load(bounds + 8 * page)
        while start < stop and page < pages and _load(bounds + 8 * page) < stop:
            elements = _load(bounds + 8 * (page + 1)) - _load(bounds + 8 * page)
            place, size = _load(offset + 8 * page), _load(stored + 8 * page)
            whole = (elements * bits + 7) // 8
            large = elements > 8 * most_bytes or whole > most_bytes or size > most_bytes
            if place < 0 or place > _FARTHEST or size <= 0 or elements < 0 or large:
                count = first_place
                break
            if count < out.shape[1]:
                out[0, count], out[1, count] = place, size
                out[2, count] = 8 if _load_byte(checksum + page) else 0
                out[3, count], out[4, count] = elements, elements // length
                out[5, count], out[6, count] = whole, column
            count += 1
            page += 1
    firsts[columns.shape[0]] = count
    return count


@kernel("(int64[::1], int64[::1], int64[::1], int64[::1], int64, int64[::1], int64[:,::1])")
def join_pages(order, offset, stored_bytes, trailer, gap_bytes, places, runs):
    """Decide which pages are read together, and where they lie in memory.

    Parameters
    ----------
    order : ndarray of int64, shape (pages,)
        Of pages by their offsets.
    offset, stored_bytes, trailer : ndarray of int64, shape (pages,)
        Where each page lies in the file, its bytes, and those of the checksum after them.
    gap_bytes : int
        Bytes between two pages that are read in vain, at most; below zero, only overlapping pages are
        read together.
    places : ndarray of int64, shape (pages,)
        Gets where each page begins in memory.
    runs : ndarray of int64, shape (pages or more, 3)
        Gets of each read where it begins in the file and in memory, and its bytes.

    Returns
    -------
    int
        Reads.
    """
    count, stop, shift, memory = 0, 0, 0, 0
    for i in range(order.size):
        page = order[i]
        start, size = offset[page], stored_bytes[page] + trailer[page]
        if i == 0 or start - stop > gap_bytes:
            shift = memory - start
            runs[count, 0], runs[count, 1] = start, memory
            count, stop = count + 1, start
        places[page] = start + shift
        stop = max(stop, start + size)
        memory = stop + shift
        runs[count - 1, 2] = memory - runs[count - 1, 1]
    return count


@njit(inline="always")
def _integer(stored, place, size):
    """Read a big-endian integer of `size` bytes with a sign."""
    value = np.int64(np.int8(stored[place]))
    for i in range(1, size):
        value = (value << 8) | np.int64(stored[place + i])
    return value


@kernel(
    "(uint8[::1], int64[::1], int64[::1], int64[::1], int64[::1], uint8[::1], int64[::1], int64[::1], "
    "int64[::1], int64[::1])"
)
def check_keys(stored, places, sizes, entries, expected, labels, bounds, columns, payloads, wholes):
    """Check what the keys of baskets say: see `rootfeed.sources.keys.read_key`.

    Parameters
    ----------
    stored : ndarray of uint8
    places, sizes : ndarray of int64, shape (pages,)
        Where each basket lies in `stored`, with its key.
    entries : ndarray of int64, shape (pages,)
        That each basket must hold.
    expected : ndarray of int64, shape (pages,)
        Bytes of these entries.
    labels : ndarray of uint8
        The class and the name that a key must have, of one column after another.
    bounds : ndarray of int64, shape (columns + 1,)
        Where the label of each column begins.
    columns : ndarray of int64, shape (pages,)
        Of each basket.
    payloads, wholes : ndarray of int64, shape (pages,)
        Get the place after each key, and the uncompressed bytes of what follows it.

    Returns
    -------
    int
        How many pages are as they must be, from the first one on.
    """
    for page in range(places.size):
        place, size = places[page], sizes[page]
        if size < 37:
            return page
        key_bytes, whole = _integer(stored, place + 14, 2), _integer(stored, place + 6, 4)
        if _integer(stored, place, 4) != size or key_bytes < 37 or key_bytes > size:
            return page
        end = place + key_bytes
        data_bytes = _integer(stored, end - 5, 4) - key_bytes
        if _integer(stored, end - 9, 4) != entries[page] or data_bytes != expected[page]:
            return page
        # Positions of entries may follow the data.
        if whole < max(size - key_bytes, data_bytes) or whole > data_bytes + 4 * (entries[page] + 4):
            return page
        large = _integer(stored, place + 4, 2) > 1000
        label = place + (34 if large else 26)
        first, count = bounds[columns[page]], bounds[columns[page] + 1] - bounds[columns[page]]
        if label + count > end:
            return page
        for i in range(count):
            if stored[label + i] != labels[first + i]:
                return page
        payloads[page], wholes[page] = end, whole
    return places.size
