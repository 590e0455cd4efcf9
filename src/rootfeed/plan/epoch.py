"""An epoch of a shard: the rows of its batches, through which windows they come, and what is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key
from rootfeed.plan.reads import Reads, reads_of
from rootfeed.plan.shares import BatchQuotas, Counts, Shard, ends_of
from rootfeed.plan.visits import Group, Identity, Offered, all_of, parts_of, spare, together
from rootfeed.plan.window import Stream, at_once
from rootfeed.properties import cached_property

__all__ = ["Epoch", "deal"]

_TRIES = 12
"""To find windows that take no more than there is room for."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """What a shard does in an epoch.

    Attributes
    ----------
    shard : Shard
    batch_quotas : BatchQuotas
    quotas : ndarray of int64, shape (batches, strata)
        Rows of each stratum in each batch.
    repeats : int
        Rows at the end of the last batch that repeat another.
    streams : tuple of Stream
        Of each stratum.
    reads : Reads
    seed : int
    identity : tuple of int
        What random orders are keyed by besides the seed.
    shuffle : bool
    """

    shard: Shard
    batch_quotas: BatchQuotas
    quotas: Counts
    repeats: int
    streams: tuple[Stream, ...]
    reads: Reads
    seed: int
    identity: Identity
    shuffle: bool

    @property
    def rows(self) -> int:
        """Rows of all batches, repeated ones included."""
        return int(self.sizes.sum())

    @cached_property
    def sizes(self) -> Counts:
        """Rows of each batch, repeated ones included."""
        found: Counts = self.quotas.sum(1)
        found[-1:] += self.repeats
        return found

    @cached_property
    def ends(self) -> Counts:
        """Rows of each stratum before each batch, shape (batches + 1, strata)."""
        return ends_of(self.quotas)

    @cached_property
    def piece_keys(self) -> tuple[npt.NDArray[np.uint64], ...]:
        """Of each stream, the keys of the orders in which its pieces' rows are used."""
        found = []
        for stratum, stream in enumerate(self.streams):
            keys = np.empty(len(stream.pieces), np.uint64)
            kernels.words(
                random_key(self.seed, "rows", *self.identity, self.shard.number, stratum), keys
            )
            found.append(keys)
        return tuple(found)


def deal(
    offered: Offered,
    batch_quotas: BatchQuotas,
    shard: Shard,
    *,
    room_bytes: float,
    seed: int,
    identity: Identity,
    shuffle: bool = True,
) -> Epoch:
    """Return what a shard does in an epoch.

    Parameters
    ----------
    offered : Offered
    batch_quotas : BatchQuotas
    shard : Shard
    room_bytes : float
        That blocks may take in memory, cached strata not counted. One block of each region and stratum
        is in memory, whatever it takes.
    seed : int
    identity : tuple of int
        What orders are keyed by besides the seed: the epoch, and the segment of it.
    shuffle : bool
        False keeps the order of the dataset.
    """
    quotas, repeats = batch_quotas.of(shard), batch_quotas.repeats(shard)
    needed = batch_quotas.totals(shard.world_size, shard.workers)
    groups = [
        Group(offered, shard, needed * strata, strata, 2 * number, seed, identity, shuffle)
        for number, strata in enumerate(together(offered, needed.sum(0)))
    ]
    dealt = [all_of(offered, stratum) for stratum in range(len(offered.cached))]
    # Which rows come in which order depends on the room that there is; windows may turn out shorter.
    parts = parts_of(groups, room_bytes)
    for group, mine in zip(groups, parts, strict=True):
        for stratum, pieces in group.dealt(mine).items():
            dealt[stratum] = pieces
    if repeats and not quotas.any():
        dealt[0] = spare(offered, groups[0].regions if groups else 1)
    streams = [at_once(pieces, is_shared=True) for pieces, _ in dealt]
    visited = [group.visited(dealt) for group in groups]
    room = room_bytes
    for _ in range(_TRIES):
        fits = sum(group.held_bytes for group in groups) <= room
        for group, mine, blocks in zip(groups, parts, visited, strict=True):
            shares = 1 / group.laps if fits else mine / blocks
            for stratum in group.members:
                streams[stratum] = group.stream(stratum, *dealt[stratum], shares)
        reads = reads_of(offered, streams, ends_of(quotas), repeats)
        peak = reads.peak(reads.bytes)
        if peak <= room_bytes or (not fits and all((mine <= 1).all() for mine in parts)):
            break
        room *= 0.97 * room_bytes / peak
        parts = parts_of(groups, room)
    return Epoch(shard, batch_quotas, quotas, repeats, tuple(streams), reads, seed, identity, shuffle)
