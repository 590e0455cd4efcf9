"""How many rows each batch has: of each class, for each rank, and for each worker of a rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.errors import ArgumentError
from rootfeed.properties import cached_property

__all__ = ["BatchQuotas", "Shard", "Tail", "balanced_quotas", "ends_of", "plain_quotas"]

Counts = npt.NDArray[np.int64]

Tail = Literal["drop", "pad", "uneven"]
"""What becomes of rows that do not go evenly into the ranks."""


_MOST_BATCHES = 10**8
"""Of an epoch, more of which would take gigabytes to plan."""


def ends_of(counts: Counts) -> Counts:
    """Return the sums of the first rows of a table, from none of them to all."""
    return np.concatenate([np.zeros((1, counts.shape[1]), np.int64), counts.cumsum(0)])


@dataclass(frozen=True)
class Shard:
    """Who takes part of an epoch: a rank, or one of the worker processes of a rank.

    The batches of a rank are dealt to its workers in turn, as PyTorch's DataLoader collects them.
    """

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1

    @property
    def number(self) -> int:
        """Position among all shards."""
        return self.rank * self.workers + self.worker

    @property
    def count(self) -> int:
        """Shards of an epoch."""
        return self.world_size * self.workers


@dataclass(frozen=True, eq=False)
class BatchQuotas:
    """The rows that the batches of an epoch take.

    Attributes
    ----------
    counts : ndarray of int64, shape (batches, strata)
        Rows of each stratum in each batch of a rank.
    extra : int
        So many of the first ranks have one row more in the last batch.
    pad : bool
        The other ranks repeat a row there.
    """

    counts: Counts
    extra: int = 0
    pad: bool = False

    def of(self, shard: Shard) -> Counts:
        """Return the quotas of a shard's batches, without repeated rows."""
        quotas = self.counts
        if self.extra and len(quotas):
            if shard.rank < self.extra:
                quotas = quotas.copy()
                quotas[-1] += 1
            elif not self.pad and not quotas[-1].any():
                quotas = quotas[:-1]
        return quotas[shard.worker :: shard.workers]

    def repeats(self, shard: Shard) -> int:
        """Return how many rows at the end of a shard's last batch repeat others."""
        last = (len(self.counts) - 1) % shard.workers
        return int(self.pad and self.extra > 0 and shard.rank >= self.extra and shard.worker == last)

    def totals(self, world_size: int, workers: int) -> Counts:
        """Return the rows that each shard takes in an epoch, shape (shards, strata)."""
        kinds = {}
        for extra in {rank < self.extra for rank in (0, world_size - 1)}:
            for worker in range(workers):
                one = Shard(0 if extra else self.extra, world_size, worker, workers)
                kinds[extra, worker] = self.of(one).sum(0)
        return np.stack(
            [kinds[rank < self.extra, worker] for rank in range(world_size) for worker in range(workers)]
        )

    def places(
        self, shard: Shard, stratum: int, first: int, stop: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where the rows of a shard's batches lie in a sequence that all ranks go through.

        Parameters
        ----------
        shard : Shard
        stratum : int
        first, stop : int
            Batches of the shard.

        Returns
        -------
        tuple of ndarray of int64
            The first row of each batch, and how many there are.
        """
        numbers = np.arange(first, stop) * shard.workers + shard.worker  # of the rank's batches
        counts = self.counts[numbers, stratum]
        starts = self.ends[numbers, stratum] * shard.world_size + counts * shard.rank
        if self.extra and len(numbers) and numbers[-1] == len(self.counts) - 1:
            starts[-1] += min(shard.rank, self.extra)
            counts[-1] += shard.rank < self.extra
        return starts, counts

    @cached_property
    def ends(self) -> Counts:
        """Rows that the first batches of a rank take together, shape (batches + 1, strata)."""
        return ends_of(self.counts)

    def taken(self, batches: int, world_size: int) -> Counts:
        """Return the rows of each stratum that the first batches of all ranks take together."""
        done = min(batches, len(self.counts))
        taken: Counts = self.ends[done] * world_size
        return taken + self.extra if done == len(self.counts) else taken


def plain_quotas(
    rows: int, batch_size: int, world_size: int, tail: Tail, drop_last: bool, rest: bool = False
) -> BatchQuotas:
    """Return the rows of each batch when every row is wanted once.

    Parameters
    ----------
    rows, batch_size, world_size : int
    tail : "drop", "pad" or "uneven"
    drop_last : bool
    rest : bool
        They are what is left of an epoch: there may be too few for a batch on every rank.

    Raises
    ------
    ArgumentError
        Where a rank would get no batch.
    """
    each, extra = divmod(rows, world_size)
    if drop_last or tail == "drop":
        extra = 0
    if drop_last:
        each -= each % batch_size
    if world_size > 1 and each == 0 and not rest and not (tail == "uneven" and extra):
        if not drop_last:
            raise ArgumentError(f"{rows} rows are too few for {world_size} ranks. Choose fewer ranks.")
        raise ArgumentError(
            f"{rows} rows are too few for {world_size} ranks with batches of {batch_size}. "
            "Choose fewer ranks, smaller batches, or drop_last=False."
        )
    quotas = np.full((each + (extra > 0) + batch_size - 1) // batch_size, batch_size, np.int64)
    if len(quotas):
        quotas[-1] = each - (len(quotas) - 1) * batch_size
    return BatchQuotas(quotas[:, None], extra, tail == "pad")


def balanced_quotas(
    counts: Sequence[int] | Counts,
    shares: Sequence[float],
    batch_size: int,
    world_size: int,
    epoch: str | int,
) -> BatchQuotas:
    """Return the rows of each class in each batch, so that every batch holds their shares.

    Rounding evens out over batches: after any number of them, a class is less than two rows away from
    its share.

    Parameters
    ----------
    counts : sequence of int
        Rows of each class.
    shares : sequence of float
        Their sum is 1.
    batch_size : int
    world_size : int
    epoch : "shortest", "longest" or int
        As many batches as the class allows that is used up first; as many as it takes until every
        row was used; or so many.
    """
    wanted = np.asarray(shares, np.float64)
    offered = np.asarray(counts, np.int64)
    used = wanted > 0
    if isinstance(epoch, str):
        # A class may lack two rows of its share, for which a small share needs many batches.
        batches = (offered[used] / world_size + 2) / (wanted[used] * batch_size)
        most = (batches.min() if epoch == "shortest" else batches.max()) + 2
    else:
        most = epoch
    if most > _MOST_BATCHES:
        raise ArgumentError(
            f"an epoch would have {most:.3g} batches, and {_MOST_BATCHES:.3g} are possible. Choose "
            "larger shares of small classes, larger batches, or a number of batches: epoch=1000."
        )
    quotas = np.empty((int(most), len(wanted)), np.int64)
    kernels.apportion(wanted, batch_size, quotas)
    if isinstance(epoch, str):
        ends = quotas.cumsum(0)[:, used] * world_size
        if epoch == "shortest":
            quotas = quotas[: int((ends <= offered[used]).all(1).sum())]
        else:
            enough = (ends >= offered[used]).all(1)
            quotas = quotas[: int(np.argmax(enough)) + 1 if enough.any() else len(quotas)]
    return BatchQuotas(quotas)
