"""Random permutations and subsets, from SplitMix64 at a counter under a key."""

from __future__ import annotations

import numpy as np
from numba import njit

from rootfeed.kernels.compiled import kernel

__all__ = ["choose", "permute", "positions"]

_BUCKETS_FROM = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(inline="always")
def _random(key, counter):
    """Return 64 random bits: SplitMix64 (Steele, Lea, Flood 2014) at a counter."""
    z = key + (np.uint64(counter) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def _below(bits, bound):
    """Map 64 random bits to ``[0, bound)``, bound below 2^32, with a bias below 2^-32."""
    high = bits >> np.uint64(32)
    low = bits & np.uint64(0xFFFFFFFF)
    bound64 = np.uint64(bound)
    return (high * bound64 + ((low * bound64) >> np.uint64(32))) >> np.uint64(32)


@kernel
def _shuffle(key, counter, out):
    """Shuffle in place (Fisher and Yates, Durstenfeld's form); return the next counter."""
    for i in range(out.size - 1, 0, -1):
        j = _below(_random(key, counter), i + 1)
        counter += 1
        kept = out[i]
        out[i] = out[j]
        out[j] = kept
    return counter


@kernel
def permute(key, out):
    """Fill with a random permutation of ``0 .. n - 1``.

    Parameters
    ----------
    key : numpy.uint64
    out : ndarray of uint32, shape (n,)

    Notes
    -----
    From 65 536 elements on, elements are first dealt into 256 random buckets, each of which is then
    shuffled in cache (Rao 1961, Sandelius 1962): as uniform as one big shuffle and without its cache
    misses.
    """
    n = out.size
    if n < _BUCKETS_FROM:
        for i in range(n):
            out[i] = i
        _shuffle(key, 0, out)
        return
    ends = np.zeros(257, np.int64)
    for i in range(n):
        ends[np.int64(_random(key, i) >> np.uint64(56)) + 1] += 1
    for b in range(256):
        ends[b + 1] += ends[b]
    filled = ends[:256].copy()
    for i in range(n):
        bucket = np.int64(_random(key, i) >> np.uint64(56))
        out[filled[bucket]] = i
        filled[bucket] += 1
    counter = n
    for b in range(256):
        counter = _shuffle(key, counter, out[ends[b] : ends[b + 1]])


@kernel
def choose(key, fraction, entries, first_group, out):
    """Choose a fraction of a file's entries, exactly, as bits of 64-entry groups.

    Bit ``e % 64`` of word ``e // 64`` tells whether entry ``e`` is chosen. Group ``g`` gets
    ``floor(fraction * end + u) - floor(fraction * start + u)`` entries, ``u`` a random number of the
    file, so the counts add up to the fraction of the file to within one entry; which entries of the
    group they are is drawn uniformly (Floyd's algorithm, CACM 30 (1987) 754).

    Parameters
    ----------
    key : numpy.uint64
        Of the file and the split.
    fraction : float
        In (0, 1).
    entries : int
        Entries in the file.
    first_group : int
        Group of the first word of `out`.
    out : ndarray of uint64
    """
    offset = np.float64(_random(key, 0) >> np.uint64(11)) / 9007199254740992.0
    for w in range(out.size):
        group = first_group + w
        start = group * 64
        size = min(64, entries - start)
        count = int(np.floor(fraction * (start + size) + offset)) - int(
            np.floor(fraction * start + offset)
        )
        count = max(0, min(count, size))
        word = np.uint64(0)
        for j in range(size - count, size):
            bit = np.uint64(1) << _below(_random(key, 1 + start + j), j + 1)
            if word & bit:
                bit = np.uint64(1) << np.uint64(j)
            word |= bit
        out[w] = word


@kernel
def positions(words, start, stop, out):
    """List the set bits in ``[start, stop)``, relative to `start`; return their number.

    Parameters
    ----------
    words : ndarray of uint64
        Bits of the groups from ``start // 64`` on.
    start, stop : int
        Entries of the file.
    out : ndarray of int32
        Room for the result; empty to count only.

    Returns
    -------
    int
    """
    found = 0
    base = start // 64 * 64
    for entry in range(start, stop):
        if words[(entry - base) >> 6] >> np.uint64((entry - base) & 63) & np.uint64(1):
            if out.size:
                out[found] = entry - start
            found += 1
    return found
