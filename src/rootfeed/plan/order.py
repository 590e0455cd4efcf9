"""The order of blocks in an epoch: each part of it holds blocks from all over the dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key

__all__ = ["in_proportion", "spread"]

Counts = npt.NDArray[np.int64]

_GOLDEN = (5**0.5 - 1) / 2


def spread(blocks: int, parts: int, seed: int, *identity: int) -> Counts:
    """Return consecutive blocks in a random order in which neighbours come from far apart.

    The blocks are divided into parts of consecutive ones, some of them longer by a block. The order
    takes one block of each part in turn, a random one, always in the same order of the parts: so any
    `parts` successive blocks are one of each part, and what is stored in order, such as classes, has its
    share of them, to a block at each place where one class ends and the next begins. Parts follow each
    other by the golden ratio, so that fewer or more successive blocks are spread as well as they can be.

    Parameters
    ----------
    blocks : int
        There are blocks ``0 .. blocks - 1``.
    parts : int
        At least 1, which gives a random order.
    seed : int
    *identity : int
        What the order is keyed by besides the seed.

    Returns
    -------
    ndarray of int64, shape (blocks,)
    """
    parts = max(min(parts, blocks), 1)
    words = np.empty(blocks + 1, np.uint64)
    kernels.words(random_key(seed, "blocks", *identity), words)
    # Some parts are longer by a block: which ones, differs, but they are at equal distances.
    phase = int((words[blocks] >> np.uint64(32)) % np.uint64(parts))
    part = np.repeat(np.arange(parts), np.diff((np.arange(parts + 1) * blocks + phase) // parts))
    # Random ones come first in each part.
    drawn = np.lexsort((words[:blocks], part))
    turn = np.empty(blocks, np.int64)
    turn[drawn] = np.arange(blocks) - np.searchsorted(part, part)
    place = np.argsort(np.argsort(np.arange(parts) * _GOLDEN % 1.0))
    first = int((words[blocks] & np.uint64(0xFFFFFFFF)) % np.uint64(parts))
    found = np.lexsort(((place + first)[part] % parts, turn))
    # The last turn has blocks of the longer parts only: it comes first as often as last.
    return found[::-1].copy() if words[blocks] >> np.uint64(63) else found


def in_proportion(totals: Counts, rows: Counts, phases: npt.NDArray[np.float64]) -> Counts:
    """Return how many of the first rows of a sequence come from each region: its share.

    The rows of a region come at equal distances from 0 to 1; all rows are taken in the order in which
    they come. So each has its share to about a row, and the largest ones make up for the rounding.

    Parameters
    ----------
    totals : ndarray of int64, shape (regions,)
        Rows of each region.
    rows : ndarray of int64, shape (places,)
        So many come first, at each of some places, in order; at most all.
    phases : ndarray of float64, shape (regions,)
        How early within the first distance the first row comes, from 0 to 1.

    Returns
    -------
    ndarray of int64, shape (places, regions)
        From each place to the next, none has less.
    """

    def come(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.minimum(np.floor(times[:, None] * totals + phases), totals)

    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(64):  # the times at which so many have come, to the last bit
        middle = (low + high) / 2
        later = come(middle).sum(1) > rows
        low, high = np.where(later, low, middle), np.where(later, middle, high)
    found = come(low)
    more = come(high) - found  # those that come at once
    lacking = rows - found.sum(1)
    found += np.clip(lacking[:, None] - (more.cumsum(1) - more), 0, more)
    return found.astype(np.int64)
