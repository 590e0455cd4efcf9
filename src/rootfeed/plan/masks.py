"""Which entries of a file are in, such as those of a part of a split: a bit for each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rootfeed import kernels

__all__ = ["BitMask", "all_set", "bit_mask", "choose_among", "counted", "members", "rows_before"]

BitMask = npt.NDArray[np.uint64]
"""Bit ``e % 64`` of word ``e // 64`` tells whether entry ``e`` is in."""

Entries = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]

_NONE = np.empty(0, np.int32)


def all_set(entries: int) -> BitMask:
    """Return the bits of a file of which every entry is in."""
    words = np.full(-(-entries // 64), ~np.uint64(0))
    if entries % 64:
        words[-1] = (np.uint64(1) << np.uint64(entries % 64)) - np.uint64(1)
    return words


def members(words: BitMask, start: int, stop: int) -> Entries:
    """Return the entries of ``[start, stop)`` that are in, relative to `start`, in order."""
    near = words[start // 64 : -(-stop // 64)]
    out = np.empty(stop - start, np.int32)
    return out[: kernels.positions(near, start, stop, out)]


def counted(words: BitMask, start: int, stop: int) -> int:
    """Return how many entries of ``[start, stop)`` are in."""
    return int(kernels.positions(words[start // 64 : -(-stop // 64)], start, stop, _NONE))


def rows_before(words: BitMask | None) -> Callable[[Numbers], Numbers]:
    """Return a function that tells how many entries are in before each of some entries; None: all."""
    if words is None:
        return lambda entries: entries
    padded = np.append(words, np.uint64(0))
    ends = np.append(0, np.bitwise_count(words).cumsum(dtype=np.int64))

    def before(entries: Numbers) -> Numbers:
        word = entries // 64
        below = (np.uint64(1) << (entries % 64).astype(np.uint64)) - np.uint64(1)
        found: Numbers = ends[word] + np.bitwise_count(padded[word] & below)
        return found

    return before


def bit_mask(mask: npt.NDArray[np.bool_]) -> BitMask:
    """Return the bits of a mask with an element for each entry."""
    packed = np.packbits(mask, bitorder="little")
    padded = np.zeros(-(-len(packed) // 8) * 8, np.uint8)
    padded[: len(packed)] = packed
    return padded.view("<u8").astype(np.uint64)


def choose_among(words: BitMask, entries: int, fraction: float, key: np.uint64) -> BitMask:
    """Return the bits of a random part of the entries that are in.

    Exact to one entry: of a file, and of each stretch of 64 of them that are in, counted from the
    file's beginning. What is chosen depends on nothing but the arguments.

    Parameters
    ----------
    words : ndarray of uint64
    entries : int
        Entries of the file.
    fraction : float
        Between 0 and 1.
    key : numpy.uint64
    """
    found = members(words, 0, entries)
    chosen = np.empty(-(-len(found) // 64), np.uint64)
    kernels.choose(key, fraction, len(found), 0, chosen)
    if len(found) == entries:
        return chosen
    mask = np.zeros(entries, bool)
    mask[found[members(chosen, 0, len(found))]] = True
    return bit_mask(mask)
