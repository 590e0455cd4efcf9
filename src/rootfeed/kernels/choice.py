"""Random permutations and subsets, from SplitMix64 at a counter under a key."""

from __future__ import annotations

import numpy as np
from numba import njit

from rootfeed.kernels.compiled import kernel

__all__ = [
    "below",
    "choose",
    "divide",
    "permute",
    "positions",
    "random",
    "scatter",
    "shuffle_buckets",
    "words",
]

_BUCKETS_FROM = 1 << 16
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(inline="always")
def random(key, counter):
    """Return 64 random bits: SplitMix64 (Steele, Lea, Flood 2014) at a counter."""
    z = key + (np.uint64(counter) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(inline="always")
def below(bits, bound):
    """Map 64 random bits to ``[0, bound)``, bound below 2^32, with a bias below 2^-32."""
    high = bits >> np.uint64(32)
    low = bits & np.uint64(0xFFFFFFFF)
    bound64 = np.uint64(bound)
    return (high * bound64 + ((low * bound64) >> np.uint64(32))) >> np.uint64(32)


@kernel("(uint64, uint64[::1])")
def words(key, out):
    """Fill with random words.

    Parameters
    ----------
    key : numpy.uint64
    out : ndarray of uint64
    """
    for i in range(out.size):
        out[i] = random(key, i)


@njit(inline="always")
def _ones(word):
    """Return how many bits of a word are set."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(inline="always")
def _binomial(key, counter, count, chance):
    """Return how many of so many draws have a chance come true, and the next counter.

    Exact to 53 bits of the chance: each draw compares random bits with the chance's, the highest first.
    Half of those that are left decide at each bit, and 64 of them toss a coin with one word.
    """
    bits = np.uint64(min(max(chance, 0.0), 1.0) * 9007199254740992.0)
    if bits >> np.uint64(53):
        return count, counter
    found, place = 0, 52
    while count > 0 and place >= 0:
        ones = 0
        for first in range(0, count, 64):
            word = random(key, counter)
            counter += 1
            if count - first < 64:
                word >>= np.uint64(64 - (count - first))
            ones += _ones(word)
        if (bits >> np.uint64(place)) & np.uint64(1):
            found += count - ones
            count = ones
        else:
            count -= ones
        place -= 1
    return found, counter


@njit(inline="always")
def _due(turn, number, window, turns):
    """Return the share of a block's rows that is due after some whole turns of a window."""
    if turn <= 0:
        return 0.0
    if turn >= turns:
        return 1.0
    return min(max(turn + window - 1 - number, 0), window) / window


@kernel("(uint64[::1], int64[::1], int64[::1], int64[::1], float64[::1], int64, int64[::1])")
def divide(keys, rows, first, starts, turns, window, out):
    """Divide the rows of blocks that go through a window among the steps of their stay, at random.

    Each row draws one of as many groups as the window has blocks; of block ``i``, group ``g`` is due in
    turn ``clip(i - (window - 1) + g, 0, turns - 1)``, at a random time of it.

    Parameters
    ----------
    keys : ndarray of uint64, shape (blocks,)
    rows : ndarray of int64, shape (blocks,)
    first : ndarray of int64, shape (blocks,)
        The step in which each enters.
    starts : ndarray of int64, shape (blocks + 1,)
        Block ``i`` stays for ``starts[i + 1] - starts[i]`` steps, one at least.
    turns : ndarray of float64, shape (steps + 1,)
        How many turns are over when each step begins, or the last one ends.
    window : int
    out : ndarray of int64
        Receives the rows of each block in each step, block after block.

    Notes
    -----
    A binomial number for each step, given those before it: no work for each row.
    """
    most = np.int64(turns[-1])
    for i in range(rows.size):
        left, before, counter = rows[i], 0.0, 0
        for part in range(starts[i], starts[i + 1]):
            taken = left
            if part < starts[i + 1] - 1:
                place = turns[first[i] + part - starts[i] + 1]
                turn = min(np.int64(place), most - 1)
                low = _due(turn, i, window, most)
                due = low + (place - turn) * (_due(turn + 1, i, window, most) - low)
                if left > 0 and before < 1.0:
                    taken, counter = _binomial(keys[i], counter, left, (due - before) / (1.0 - before))
                before = due
            out[part] = taken
            left -= taken


@kernel("(uint64, uint32[::1], uint32[::1], int64[::1])")
def scatter(key, values, out, ends):
    """Deal values into buckets at random: the first step of a permutation.

    Parameters
    ----------
    key : numpy.uint64
    values : ndarray of uint32, shape (n,) or (0,)
        Empty for ``0 .. n - 1``.
    out : ndarray of uint32, shape (n,)
        Receives the buckets, one after another, each in the order of the values.
    ends : ndarray of int64, shape (256,)
        Receives where each bucket ends in `out`. Below 65 536 elements the first one holds all.

    Notes
    -----
    `shuffle_buckets` after it makes a permutation as uniform as one big shuffle (Rao 1961,
    Sandelius 1962), and without its cache misses: each bucket is shuffled in cache. Eight elements
    take their buckets from one random word.
    """
    n = out.size
    if n < _BUCKETS_FROM:
        for i in range(n):
            out[i] = values[i] if values.size else i
        ends[:] = n
        return
    ends[:] = 0
    for word in range((n + 7) // 8):
        bits = random(key, word)
        for _ in range(min(8, n - 8 * word)):
            ends[bits & np.uint64(255)] += 1
            bits >>= np.uint64(8)
    filled = np.empty(256, np.int64)
    total = 0
    for b in range(256):
        filled[b] = total
        total += ends[b]
        ends[b] = total
    for word in range((n + 7) // 8):
        bits = random(key, word)
        for i in range(8 * word, min(8 * word + 8, n)):
            bucket = bits & np.uint64(255)
            out[filled[bucket]] = values[i] if values.size else i
            filled[bucket] += 1
            bits >>= np.uint64(8)


@kernel("(uint64, int64, int64[::1], int64, int64, int64, uint32[::1])")
def shuffle_buckets(key, counter, ends, bucket, start, stop, out):
    """Shuffle one bucket after another (Fisher and Yates, Durstenfeld's form), as far as is wanted.

    Parameters
    ----------
    key : numpy.uint64
    counter : int
        Number of the first random word to use.
    ends : ndarray of int64, shape (256,)
        Where each bucket ends.
    bucket, start : int
        The first bucket, and where it begins.
    stop : int
        The end of what is wanted: the bucket that it is in is shuffled whole.
    out : ndarray of uint32

    Returns
    -------
    tuple of int
        `counter`, `bucket` and `start` with which to go on.
    """
    while start < stop:
        part = out[start : ends[bucket]]
        for i in range(part.size - 1, 0, -1):
            j = below(random(key, counter), i + 1)
            counter += 1
            kept = part[i]
            part[i] = part[j]
            part[j] = kept
        start = ends[bucket]
        bucket += 1
    return counter, bucket, start


@kernel("(uint64, uint32[::1], uint32[::1])")
def permute(key, values, out):
    """Fill with values in random order: `scatter`, then `shuffle_buckets`.

    Parameters
    ----------
    key : numpy.uint64
    values : ndarray of uint32, shape (n,) or (0,)
        Empty for ``0 .. n - 1``.
    out : ndarray of uint32, shape (n,)
    """
    ends = np.empty(256, np.int64)
    scatter(key, values, out, ends)
    shuffle_buckets(key, out.size, ends, 0, 0, out.size, out)


@kernel("(uint64, float64, int64, int64, uint64[::1])")
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
    offset = np.float64(random(key, 0) >> np.uint64(11)) / 9007199254740992.0
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
            bit = np.uint64(1) << below(random(key, 1 + start + j), j + 1)
            if word & bit:
                bit = np.uint64(1) << np.uint64(j)
            word |= bit
        out[w] = word


@kernel("(uint64[::1], int64, int64, int32[::1])")
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
