"""Vectors of different lengths become rows of one length."""

from __future__ import annotations

import numpy as np

from rootfeed.kernels.compiled import kernel

__all__ = ["first_unequal", "lengths_of", "pad", "sort_descending", "take_elements", "unpad"]


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


@kernel()
def pad(matrix, lengths, order, length, fill, position, out):
    """Write vectors into rows, cut or filled up to one length.

    Parameters
    ----------
    matrix : ndarray of unsigned words, shape (columns, elements)
        The vectors, one after another.
    lengths : ndarray of int32, shape (n,)
    order : ndarray of int32, shape (elements,) or (0,)
        See `sort_descending`; empty to keep the order.
    length : int
    fill : unsigned word
    position : int
        Word of a row for the first element of the first column.
    out : ndarray of unsigned words, shape (n, row words)
        Element j of column c comes to word ``position + j * columns + c``.

    Returns
    -------
    int
        How many vectors were cut.
    """
    columns = matrix.shape[0]
    start = cut = 0
    for i in range(lengths.size):
        kept = min(np.int64(lengths[i]), length)
        cut += lengths[i] > length
        for j in range(kept):
            element = start + (np.int64(order[start + j]) if order.size else j)
            for c in range(columns):
                out[i, position + j * columns + c] = matrix[c, element]
        for word in range(position + kept * columns, position + length * columns):
            out[i, word] = fill
        start += lengths[i]
    return cut


@kernel()
def unpad(rows, offsets, out):
    """Copy the real elements of padded vectors, one vector after another.

    Parameters
    ----------
    rows : ndarray of unsigned words, shape (n, length, columns)
    offsets : ndarray of int64, shape (n + 1,)
        Where each vector starts in `out`; none is longer than `length`.
    out : ndarray of unsigned words, shape (elements, columns)
    """
    for i in range(rows.shape[0]):
        for j in range(offsets[i + 1] - offsets[i]):
            for c in range(rows.shape[2]):
                out[offsets[i] + j, c] = rows[i, j, c]
