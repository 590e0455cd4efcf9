"""The order of rows that stay in memory: permutations, which all shards go through together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key
from rootfeed.plan.shares import Demand, Shard

__all__ = ["permuted", "resident_rows"]

Order = npt.NDArray[np.uint32]


def permuted(key: np.uint64, length: int, out: Order) -> Iterator[Order]:
    """Yield a random permutation of ``0 .. n - 1`` part by part, as it is made."""
    ends = np.empty(256, np.int64)
    kernels.scatter(key, out, ends)
    buckets, shuffled, counter = iter(ends.tolist()), 0, len(out)
    for start in range(0, len(out), length):
        stop = min(start + length, len(out))
        while shuffled < stop:
            end = next(buckets)
            counter = kernels.shuffle(key, counter, out[shuffled:end])
            shuffled = end
        yield out[start:stop]


def resident_rows(
    rows: int, first: int, batches: tuple[int, int], demand: Demand, shard: Shard, stratum: int,
    seed: int, epoch: int, shuffle: bool, draw: bool
) -> Order:  # fmt: skip
    """Return which rows of a stratum that is kept in memory make some of a shard's batches.

    All shards go through rounds of one sequence together, each taking the rows of its batch in turn:
    at any time, no row was used twice more than another.

    Parameters
    ----------
    rows : int
        Of the stratum.
    first : int
        Rows of the sequence that were used up before.
    batches : tuple of int
        First batch of the shard, and where they end.
    demand, shard
    stratum : int
    seed, epoch : int
    shuffle : bool
    draw : bool
        Draw them with replacement.

    Returns
    -------
    ndarray of uint32
        Numbers among the stratum's rows.
    """
    numbers = np.arange(*batches) * shard.workers + shard.worker  # of the rank's batches
    quotas = demand.quotas[numbers, stratum]
    starts = first + demand.ends[numbers, stratum] * shard.world_size + quotas * shard.rank
    mine = quotas.copy()
    if demand.extra and len(numbers) and numbers[-1] == len(demand.quotas) - 1:
        starts[-1] += min(shard.rank, demand.extra)
        mine[-1] += shard.rank < demand.extra
    ends = np.cumsum(mine)
    total = int(ends[-1]) if len(ends) else 0
    positions = np.repeat(starts - (ends - mine), mine) + np.arange(total)
    if draw:
        out = np.empty(total, np.uint32)
        kernels.draw(random_key(seed, "draws", epoch, stratum), positions, rows, out)
        return out
    out = np.empty(total, np.uint32)
    sequence = np.arange(rows, dtype=np.uint32)
    number, within = np.divmod(positions, max(rows, 1))
    for each in np.unique(number).tolist():
        if shuffle:
            kernels.permute(random_key(seed, "round", epoch, stratum, each), sequence)
        chosen = number == each
        out[chosen] = sequence[within[chosen]]
    return out
