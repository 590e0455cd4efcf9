"""Batches of several classes: how many rows of each, drawn how, in which order."""

from __future__ import annotations

import numpy as np

from rootfeed.kernels.choice import below, random
from rootfeed.kernels.compiled import kernel

__all__ = ["apportion", "compose", "draw", "stir", "stir_bytes"]


@kernel("(float64[::1], int64, int64[:, ::1])")
def apportion(shares, batch_size, out):
    """Divide batch after batch among classes, each time as close to their shares so far as possible.

    Parameters
    ----------
    shares : ndarray of float64, shape (classes,)
        Their sum is 1.
    batch_size : int
    out : ndarray of int64, shape (batches, classes)
        Receives the rows of each class; each batch has `batch_size` of them.
    """
    classes = shares.size
    taken = np.zeros(classes, np.int64)
    lacking = np.empty(classes, np.float64)
    for batch in range(out.shape[0]):
        total = 0
        for c in range(classes):
            lacking[c] = shares[c] * (batch + 1) * batch_size - taken[c]
            out[batch, c] = max(int(np.floor(lacking[c])), 0)
            total += out[batch, c]
        while total != batch_size:
            step = 1 if total < batch_size else -1
            best = -1
            for c in range(classes):
                if shares[c] <= 0 or (step < 0 and out[batch, c] == 0):
                    continue
                if (
                    best < 0
                    or (lacking[c] - out[batch, c]) * step > (lacking[best] - out[batch, best]) * step
                ):
                    best = c
            out[batch, best] += step
            total += step
        for c in range(classes):
            taken[c] += out[batch, c]


@kernel("(uint64, int64, uint32[::1], int64[::1], int64[:, ::1], uint32[::1])")
def compose(key, first_batch, pools, starts, quotas, out):
    """Make batches of the rows of several classes, each batch in random order.

    Parameters
    ----------
    key : numpy.uint64
    first_batch : int
        Number of the first one: what becomes of a batch does not depend on those before it.
    pools : ndarray of uint32
        Rows of one class after another, in the order in which they are used.
    starts : ndarray of int64, shape (classes,)
        Where each class begins in `pools`; changed.
    quotas : ndarray of int64, shape (batches, classes)
    out : ndarray of uint32
    """
    place = 0
    for batch in range(quotas.shape[0]):
        first = place
        counter = (first_batch + batch) << 32
        for c in range(starts.size):
            for _ in range(quotas[batch, c]):
                out[place] = pools[starts[c]]
                starts[c] += 1
                place += 1
        for i in range(place - first - 1, 0, -1):
            j = below(random(key, counter), i + 1)
            counter += 1
            kept = out[first + i]
            out[first + i] = out[first + j]
            out[first + j] = kept


@kernel("(uint64, int64[::1], int64, uint32[::1])")
def draw(key, counters, bound, out):
    """Draw numbers below a bound, independently: one at each counter.

    Parameters
    ----------
    key : numpy.uint64
    counters : ndarray of int64
    bound : int
    out : ndarray of uint32
    """
    for i in range(out.size):
        out[i] = below(random(key, counters[i]), bound)


@kernel("(uint64[::1], uint64[::1])")
def stir(words, states):
    """Mix a word into each of some random states, in place.

    Parameters
    ----------
    words, states : ndarray of uint64
    """
    for i in range(states.size):
        states[i] = random(states[i] ^ words[i], 0)


@kernel()
def stir_bytes(values, offsets, states):
    """Mix some bytes into each of some random states, in place.

    Parameters
    ----------
    values : ndarray of uint8
    offsets : ndarray of int64, shape (n + 1,)
        State ``i`` gets ``values[offsets[i] : offsets[i + 1]]``, eight at a time, and their number.
    states : ndarray of uint64, shape (n,)
    """
    for i in range(states.size):
        first, stop = offsets[i], offsets[i + 1]
        state = random(states[i] ^ np.uint64(stop - first), 0)
        for start in range(first, stop, 8):
            word = np.uint64(0)
            for place in range(start, min(start + 8, stop)):
                word |= np.uint64(values[place]) << np.uint64(8 * (place - start))
            state = random(state ^ word, 0)
        states[i] = state
