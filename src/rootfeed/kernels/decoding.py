"""From a page's bytes to words, what a cast would lose, and whether all values are numbers."""

from __future__ import annotations

import numpy as np
from numba import njit

from rootfeed.kernels.compiled import kernel

__all__ = [
    "CODINGS",
    "all_finite",
    "count_inexact",
    "decode_pages",
    "mantissa",
    "unpack",
    "unsplit",
    "unzigzag",
]

PLAIN, SWAPPED, BYTES, BITS, PLANES, ZIGZAG = range(6)

CODINGS = {
    "plain": PLAIN,
    "swapped": SWAPPED,
    "bytes": BYTES,
    "bit": BITS,
    "split": PLANES,
    "zigzag": ZIGZAG,
}
"""The codings of `decode_pages`."""


@kernel()
def unsplit(raw, elements, start, out):
    """Join byte planes: RNTuple's split encoding, which stores all first bytes, then all second ones.

    Parameters
    ----------
    raw : ndarray of uint8, shape (elements * itemsize,)
    elements : int
        Elements in the page.
    start : int
        First element wanted.
    out : ndarray of uint16, uint32 or uint64, shape (n,)
        ``start + n <= elements``.

    Notes
    -----
    RNTuple binary format specification, "Column types". One slice per plane lets LLVM vectorize:
    15 times as fast as indexing one array (``benchmarks/kernels.py``).
    """
    _join_planes(raw, elements, start, out)


@njit(inline="always")
def _join_planes(raw, elements, start, out):
    n = out.size
    if out.itemsize == 2:
        a = raw[start : start + n]
        b = raw[elements + start : elements + start + n]
        for i in range(n):
            out[i] = np.uint32(a[i]) | (np.uint32(b[i]) << np.uint32(8))
    elif out.itemsize == 4:
        a = raw[start : start + n]
        b = raw[elements + start : elements + start + n]
        c = raw[2 * elements + start : 2 * elements + start + n]
        d = raw[3 * elements + start : 3 * elements + start + n]
        for i in range(n):
            out[i] = (
                np.uint32(a[i])
                | (np.uint32(b[i]) << np.uint32(8))
                | (np.uint32(c[i]) << np.uint32(16))
                | (np.uint32(d[i]) << np.uint32(24))
            )
    else:
        a = raw[start : start + n]
        b = raw[elements + start : elements + start + n]
        c = raw[2 * elements + start : 2 * elements + start + n]
        d = raw[3 * elements + start : 3 * elements + start + n]
        e = raw[4 * elements + start : 4 * elements + start + n]
        f = raw[5 * elements + start : 5 * elements + start + n]
        g = raw[6 * elements + start : 6 * elements + start + n]
        h = raw[7 * elements + start : 7 * elements + start + n]
        for i in range(n):
            out[i] = (
                np.uint64(a[i])
                | (np.uint64(b[i]) << np.uint64(8))
                | (np.uint64(c[i]) << np.uint64(16))
                | (np.uint64(d[i]) << np.uint64(24))
                | (np.uint64(e[i]) << np.uint64(32))
                | (np.uint64(f[i]) << np.uint64(40))
                | (np.uint64(g[i]) << np.uint64(48))
                | (np.uint64(h[i]) << np.uint64(56))
            )


@kernel()
def decode_pages(raw, places, elements, first, stop, start, coding, out):
    """Decode the pages ``[first, stop)``, one after another.

    Parameters
    ----------
    raw : ndarray of uint8
    places : ndarray of int64, shape (pages or more,)
        Where each page begins in `raw`: at a multiple of 8 bytes.
    elements : ndarray of int64, shape (pages,)
        In each page.
    first, stop : int
        Pages.
    start : int
        First element wanted, of the first of them.
    coding : int
        One of `CODINGS`: of booleans, whose bytes are 0 or not, "bytes".
    out : ndarray of uint8, uint16, uint32 or uint64, shape (n,)

    Returns
    -------
    int
        How many elements there were: at most n.
    """
    filled = 0
    for page in range(first, stop):
        skipped = start if page == first else 0
        count = min(elements[page] - skipped, out.size - filled)
        if count <= 0:
            continue
        part = out[filled : filled + count]
        size = (elements[page] + 7) // 8 if coding == BITS else elements[page] * out.itemsize
        stored = raw[places[page] : places[page] + size]
        if coding == BITS:
            for i in range(count):
                bit = skipped + i
                part[i] = (stored[bit >> 3] >> (bit & 7)) & 1
        elif coding >= PLANES and out.itemsize > 1:
            _join_planes(stored, elements[page], skipped, part)
        else:
            words = stored.view(out.dtype)
            for i in range(count):
                part[i] = words[skipped + i]
        if coding == SWAPPED:
            _swap(part)
        elif coding == ZIGZAG:
            _unzigzag(part)
        elif coding == BYTES:
            for i in range(count):
                part[i] = part[i] != 0
        filled += count
    return filled


@njit(inline="always")
def _swap(out):
    """Reverse the bytes of words, in place."""
    if out.itemsize == 2:
        for i in range(out.size):
            word = np.uint32(out[i])
            out[i] = (word >> np.uint32(8)) | (word << np.uint32(8))
    elif out.itemsize == 4:
        for i in range(out.size):
            word = np.uint32(out[i])
            out[i] = (
                (word >> np.uint32(24))
                | ((word >> np.uint32(8)) & np.uint32(0xFF00))
                | ((word << np.uint32(8)) & np.uint32(0xFF0000))
                | (word << np.uint32(24))
            )
    elif out.itemsize == 8:
        for i in range(out.size):
            rest, swapped = np.uint64(out[i]), np.uint64(0)
            for _ in range(8):
                swapped = (swapped << np.uint64(8)) | (rest & np.uint64(0xFF))
                rest >>= np.uint64(8)
            out[i] = swapped


@kernel()
def unzigzag(out):
    """Turn zigzag words (0, -1, 1, -2, ...) into two's complement, in place."""
    _unzigzag(out)


@njit(inline="always")
def _unzigzag(out):
    for i in range(out.size):
        word = out[i]
        out[i] = (word >> 1) ^ (~(word & 1) + 1)


@kernel()
def unpack(raw, bits, start, out):
    """Unpack elements of 1 to 32 bits, stored back to back from the lowest bit on.

    Parameters
    ----------
    raw : ndarray of uint8
        Holds at least ``ceil((start + n) * bits / 8)`` bytes.
    bits : int
    start : int
        First element wanted.
    out : ndarray of uint8 or uint32, shape (n,)
    """
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    for i in range(out.size):
        first = (start + i) * bits
        byte = first >> 3
        stop = (first + bits + 7) >> 3
        word = np.uint64(0)
        for j in range(byte, stop):
            word |= np.uint64(raw[j]) << np.uint64(8 * (j - byte))
        out[i] = (word >> np.uint64(first & 7)) & mask


@kernel()
def mantissa(raw, bits, start, out):
    """Decode TTree's truncated reals: one byte of exponent, two big-endian bytes of sign and mantissa.

    Parameters
    ----------
    raw : ndarray of uint8, shape (3 * elements,)
    bits : int
        Bits of mantissa that were kept, 2 to 16.
    start : int
        First element wanted.
    out : ndarray of uint32, shape (n,)
        The float32 values as words.

    Notes
    -----
    ``TBufferFile::ReadWithNbits`` of ROOT.
    """
    keep = (np.uint32(1) << np.uint32(bits + 1)) - np.uint32(1)
    sign = np.uint32(1) << np.uint32(bits + 1)
    shift = 23 - bits
    for i in range(out.size):
        base = 3 * (start + i)
        stored = (np.uint32(raw[base + 1]) << np.uint32(8)) | np.uint32(raw[base + 2])
        word = (np.uint32(raw[base]) << np.uint32(23)) | ((stored & keep) << np.uint32(shift))
        if stored & sign:
            word ^= np.uint32(0x80000000)
        out[i] = word


@kernel()
def count_inexact(column, limit):
    """Count the integers that a floating type cannot represent.

    Parameters
    ----------
    column : ndarray of an integer dtype, shape (n,)
    limit : int
        2^p for a type with p bits of mantissa: 2^24 for float32, 2^53 for float64.

    Returns
    -------
    int
        An integer is exact if it is at most 2^p once its trailing zero bits are taken off.
    """
    inexact = 0
    bound = np.uint64(limit)
    for i in range(column.size):
        value = column[i]
        magnitude = np.uint64(value)
        if value < 0:
            magnitude = ~magnitude + np.uint64(1)
        while magnitude > bound:
            if magnitude & np.uint64(1):
                inexact += 1
                break
            magnitude >>= np.uint64(1)
    return inexact


@kernel()
def all_finite(column):
    """Tell whether no value is NaN or infinite.

    Parameters
    ----------
    column : ndarray of float32 or float64, shape (n,)

    Notes
    -----
    Without a way out at the first such value, LLVM vectorizes: 0.05 ns for a float32 that is in the
    cache, half of what NumPy takes (``benchmarks/kernels.py``).
    """
    wrong = False
    for i in range(column.size):
        wrong |= column[i] - column[i] != 0
    return not wrong
