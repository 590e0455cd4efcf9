"""Vectors as they were read become what lies in rows, or beside them."""

from __future__ import annotations

import numpy as np

from rootfeed.kernels.compiled import kernel

__all__ = ["first_unequal", "kept_elements", "lengths_of", "pad", "sort_descending", "take_elements"]


@kernel()
def lengths_of(offsets, take, out):
    """Write the lengths of some vectors: ``out[i] = offsets[take[i] + 1] - offsets[take[i]]``.

    Parameters
    ----------
    offsets : ndarray of int64, shape (entries + 1,)
    take : ndarray of int32, shape (n,) or (0,)
        Entries to keep; empty to keep all.
    out : ndarray of int32, shape (n,)
    """
    for i in range(out.size):
        entry = np.int64(take[i]) if take.size else i
        out[i] = offsets[entry + 1] - offsets[entry]


@kernel()
def first_unequal(offsets, take, lengths):
    """Return the first vector that has another length than `lengths` says, or -1."""
    for i in range(lengths.size):
        entry = np.int64(take[i]) if take.size else i
        if offsets[entry + 1] - offsets[entry] != lengths[i]:
            return i
    return -1


@kernel()
def take_elements(values, offsets, take, out):
    """Copy the elements of some vectors, one vector after another.

    Parameters
    ----------
    values : ndarray of unsigned words
    offsets : ndarray of int64
    take : ndarray of int32, shape (n,)
        Entries to keep.
    out : ndarray of unsigned words
        As long as these vectors together.
    """
    filled = 0
    for i in range(take.size):
        for j in range(offsets[take[i]], offsets[take[i] + 1]):
            out[filled] = values[j]
            filled += 1


@kernel()
def sort_descending(keys, lengths, out):
    """Sort each vector in descending order, NaN last; equal ones keep their order.

    Parameters
    ----------
    keys : ndarray
        The vectors, one after another.
    lengths : ndarray of int32, shape (n,)
    out : ndarray of int32
        Positions within its vector of each element, in sorted order.
    """
    start = 0
    for i in range(lengths.size):
        count = lengths[i]
        # Merge sort, from pairs upwards: short vectors are what there is most, and nothing is recursive.
        for j in range(count):
            out[start + j] = j
        merged = np.empty(count, np.int32)
        width = 1
        while width < count:
            for low in range(0, count, 2 * width):
                middle, high = min(low + width, count), min(low + 2 * width, count)
                a, b = low, middle
                for place in range(low, high):
                    take_second = a >= middle
                    if a < middle and b < high:
                        x, y = keys[start + out[start + a]], keys[start + out[start + b]]
                        take_second = y > x or (x != x and y == y)
                    if take_second:
                        merged[place] = out[start + b]
                        b += 1
                    else:
                        merged[place] = out[start + a]
                        a += 1
            out[start : start + count] = merged
            width *= 2
        start += count


@kernel("(int32[::1], int32[::1], int64, int32[::1])")
def kept_elements(lengths, order, length, out):
    """List the elements that are kept when vectors are sorted, and cut to a length.

    Parameters
    ----------
    lengths : ndarray of int32, shape (n,)
    order : ndarray of int32, shape (elements,) or (0,)
        See `sort_descending`; empty to keep the order.
    length : int
    out : ndarray of int32
        Numbers of elements among those of all vectors, as long as the cut vectors together. Those from
        2^31 on wrap around, which `pack` takes back.
    """
    start = filled = 0
    for i in range(lengths.size):
        for j in range(min(np.int64(lengths[i]), length)):
            out[filled] = start + (np.int64(order[start + j]) if order.size else j)
            filled += 1
        start += lengths[i]


@kernel()
def pad(matrix, chosen, lengths, length, fill, position, out):
    """Write vectors into rows, filled up to one length.

    Parameters
    ----------
    matrix : ndarray of unsigned words, shape (columns, elements or more)
    chosen : ndarray of int32, shape (sum(lengths),) or (0,)
        The elements to write, one vector after another (`kept_elements`); empty for all.
    lengths : ndarray of int32, shape (n,)
        None above `length`.
    length : int
    fill : unsigned word
    position : int
        Word of a row for the first element of the first column.
    out : ndarray of unsigned words, shape (n, row words)
        Element j of column c comes to word ``position + j * columns + c``.
    """
    columns = matrix.shape[0]
    read = 0
    for i in range(lengths.size):
        for j in range(lengths[i]):
            element = np.int64(np.uint32(chosen[read])) if chosen.size else read
            for c in range(columns):
                out[i, position + j * columns + c] = matrix[c, element]
            read += 1
        for word in range(position + lengths[i] * columns, position + length * columns):
            out[i, word] = fill
