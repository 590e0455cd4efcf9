"""What a loader does when: an epoch of each rank, from any batch on. It reads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.dataset import Batching, Dataset, Entries, Sampler, Spec
from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.plan import (
    BatchQuotas,
    Epoch,
    Offered,
    Shard,
    Sizes,
    bit_mask,
    deal,
    members,
    random_key,
    used,
)
from rootfeed.plan.budget import AHEAD_SHARE, ORDER_BYTES, WINDOW_SHARE

__all__ = ["Remainder", "Schedule", "Segment", "Work"]

Counts = npt.NDArray[np.int64]
Masks = tuple[npt.NDArray[np.bool_], ...]

_CACHED_SHARE = 0.7
"""Of the window, at most, for rows that stay because they are used again and again."""


@dataclass(frozen=True)
class Segment:
    """A part of an epoch that some ranks have gone through.

    Attributes
    ----------
    world_size : int
    batches : int
        That each rank has received.
    """

    world_size: int
    batches: int


@dataclass(frozen=True, eq=False)
class Remainder:
    """What is left of an epoch after some segments.

    Attributes
    ----------
    dataset : Dataset
        Without what must not be used again.
    offered : Offered
        The same as numbers.
    batch_quotas : BatchQuotas
    epoch : int
    number : int
        Segments before.
    left_out : tuple of ndarray of bool
        For each file, which entries are; empty if none are.
    """

    dataset: Dataset
    offered: Offered
    batch_quotas: BatchQuotas
    epoch: int
    number: int
    left_out: tuple[npt.NDArray[np.bool_], ...] = ()

    @property
    def cached(self) -> npt.NDArray[np.bool_]:
        """Which strata stay in memory."""
        return self.offered.cached


@dataclass(frozen=True, eq=False)
class Work:
    """What a shard does in the rest of an epoch.

    Attributes
    ----------
    remainder : Remainder
    plan : Epoch
        Of the whole segment.
    first : int
        The batch to begin with.
    """

    remainder: Remainder
    plan: Epoch
    first: int

    @property
    def batches(self) -> int:
        """Batches of the shard in this segment, those before the first included."""
        return len(self.plan.quotas)


class Schedule:
    """The plan of all epochs.

    Parameters
    ----------
    dataset : Dataset
    sizes : Sizes
    spec : Spec

    Attributes
    ----------
    offered : Offered
        All rows, and which of them stay in memory: all of a dataset that fits; else those of strata
        that are used again and again and are few.
    """

    def __init__(self, dataset: Dataset, sizes: Sizes, spec: Spec) -> None:
        self.dataset = dataset
        self.sizes = sizes
        self.spec = spec
        self.offered = self._offered(dataset, np.full(dataset.counts.shape[1], sizes.in_memory))
        if not sizes.in_memory:
            self.offered = replace(self.offered, cached=self._cached())
        self._masks: dict[int, Masks] = {}  # of the last two epochs
        self._remainders: dict[tuple[int, tuple[Segment, ...], int], Remainder] = {}

    @property
    def draws(self) -> tuple[bool, ...]:
        """Of which strata rows are drawn with replacement."""
        asked, strata = self.spec.sampler.replacement, self.dataset.strata
        values = (None,) if strata is None else strata.values
        return tuple(value in asked if isinstance(asked, tuple) else asked for value in values)

    @property
    def cached_rows(self) -> int:
        """Rows that stay in memory."""
        return int(self.offered.totals[self.offered.cached].sum())

    def _offered(self, dataset: Dataset, cached: npt.NDArray[np.bool_]) -> Offered:
        files = dataset.block_files
        return Offered(
            counts=dataset.counts,
            row_bytes=dataset.row_bytes[files],
            regions=np.searchsorted(self.sizes.regions, files, "right") - 1,
            cached=cached,
            use_bytes=ORDER_BYTES,
        )

    def _cached(self) -> npt.NDArray[np.bool_]:
        totals = self.offered.totals
        cached = np.zeros(len(totals), bool)
        if self.dataset.strata is None:
            return cached
        try:
            quotas = self._quotas(totals, 1)
        except EmptyDatasetError:
            return cached  # too few rows for a batch: told when it is known for how many ranks
        again = quotas.taken(len(quotas.counts), 1) > totals
        bytes_ = self.offered.row_bytes @ self.offered.counts
        room = self.sizes.window_bytes * _CACHED_SHARE
        for stratum in np.argsort(bytes_, kind="stable"):
            if again[stratum] and bytes_[stratum] <= room:
                cached[stratum] = True
                room -= bytes_[stratum]
        return cached

    @property
    def room_bytes(self) -> int:
        """What blocks may take in memory, beside the rows that stay."""
        kept = self.offered.counts[:, self.offered.cached].sum(1)
        return self.sizes.window_bytes - int(kept @ self.offered.row_bytes)

    @property
    def batches_of_run(self) -> int:
        """How many batches are gathered together."""
        return self.sizes.run_rows // self.spec.batch_size

    def held_bytes(self, work: Work) -> int:
        """Return the most that blocks take in memory meanwhile, those that are read ahead included."""
        reads = work.plan.reads
        room = self.room_bytes + int(self.sizes.window_bytes * AHEAD_SHARE / WINDOW_SHARE)
        return max(
            min(room, int(reads.bytes.sum())), reads.peak(reads.bytes, work.first, self.batches_of_run)
        )

    def _quotas(self, rows: Counts, world_size: int, left: int | None = None) -> BatchQuotas:
        """Return the rows of each batch of those that there are, or are left of an epoch."""
        spec, strata = self.spec, self.dataset.strata
        asked = Batching(
            (None,) if strata is None else strata.values,
            spec.batch_size,
            world_size,
            spec.tail,
            spec.drop_last,
            left,
        )
        sampler = spec.sampler
        quotas = sampler.quotas(rows, asked)
        if not isinstance(quotas, BatchQuotas):
            quotas = BatchQuotas(self._checked(quotas, len(rows)))
        if quotas.counts.shape[1] != len(rows):
            raise ArgumentError(
                f"{sampler!r} has the label {sampler.label!r}, of {len(rows)} classes, "
                "and quotas for one class. Define quotas(rows, asked), of shape (batches, classes), or "
                "leave the label out: columns are what offers needs."
            )
        if len(quotas.counts) == 0 and left is None:
            if not rows.any():
                raise EmptyDatasetError(f"{sampler!r} offers no row: an epoch would have no batch.")
            if type(sampler) is not Sampler and not sampler.selects:
                raise ArgumentError(f"{sampler!r} gives quotas of no batch; expected at least one.")
            raise ArgumentError(
                f"{int(rows.sum())} rows are too few for a batch of {spec.batch_size}, and drop_last "
                "leaves shorter ones out: an epoch would have no batch. Choose smaller batches, or "
                "drop_last=False (in rootfeed.root: drop_remainder=False)."
            )
        return quotas

    def _checked(self, quotas: Any, classes: int) -> Counts:
        try:
            found = np.asarray(quotas)
        except ValueError:  # of rows that are not equally long
            found = np.array(quotas, object)
        if found.ndim != 2 or found.shape[1] != classes or found.dtype.kind not in "iu":
            raise ArgumentError(
                f"{self.spec.sampler!r} gives quotas of shape {found.shape} and {found.dtype}; expected "
                f"integers of shape (batches, {classes})."
            )
        sizes = found.sum(1)
        wrong = (found < 0).any(1) | (sizes > self.spec.batch_size) | (sizes == 0)
        if wrong.any():
            number = int(np.argmax(wrong))
            raise ArgumentError(
                f"{self.spec.sampler!r} gives batch {number} the quotas {found[number].tolist()}; "
                "expected numbers from 0 on, of which 1 to "
                f"{self.spec.batch_size} (batch_size) are the sum."
            )
        return found.astype(np.int64)

    def remainder(self, epoch: int, segments: Sequence[Segment], world_size: int) -> Remainder:
        """Return what is left of an epoch after some segments, for so many ranks.

        Rows of strata that are gone through once are those that were not used yet. The others begin
        anew with all their rows, however often each was used before.
        """
        key = (epoch, tuple(segments), world_size)
        if key in self._remainders:
            return self._remainders[key]
        gone = self._not_offered(epoch)
        remainder = self._remainder(
            epoch, 0, gone, segments[0].world_size if segments else world_size, None
        )
        due = remainder.offered.totals
        for number, segment in enumerate(segments):
            ranks = segments[number + 1].world_size if number + 1 < len(segments) else world_size
            done = min(segment.batches, len(remainder.batch_quotas.counts))
            left = (len(remainder.batch_quotas.counts) - done) * segment.world_size // ranks
            due = np.maximum(due - remainder.batch_quotas.taken(done, segment.world_size), 0)
            quotas = self._quotas(due, ranks, left)
            used = self._used(remainder, segment, due, quotas.taken(len(quotas.counts), ranks))
            remainder = self._remainder(epoch, number + 1, used, ranks, quotas)
        self._remainders = {key: remainder}
        return remainder

    def _remainder(
        self, epoch: int, number: int, left_out: Masks, world_size: int, quotas: BatchQuotas | None
    ) -> Remainder:
        dataset, offered = self.dataset, self.offered
        if left_out:
            dataset = dataset.without([bit_mask(mask) for mask in left_out])
            offered = self._offered(dataset, offered.cached)
        if quotas is None:
            quotas = self._quotas(offered.totals, world_size)
        for stratum in np.flatnonzero(quotas.counts.any(0) & (offered.totals == 0)).tolist():
            value = None if dataset.strata is None else dataset.strata.values[stratum]
            raise EmptyDatasetError(
                f"{self.spec.sampler!r} asks for class {value!r}, which has no rows in epoch {epoch}."
            )
        return Remainder(dataset, offered, quotas, epoch, number, left_out)

    def _not_offered(self, epoch: int) -> Masks:
        """Return which entries of each file the sampler leaves out of an epoch; empty if none."""
        if not self.spec.sampler.selects:
            return ()
        if epoch in self._masks:
            return self._masks[epoch]
        masks = []
        for number, file in enumerate(self.dataset.files):
            index = file.index
            mask, rows = np.zeros(index.entries, bool), np.arange(index.entries)
            if file.taken is not None:
                rows = members(file.taken, 0, index.entries).astype(np.int64)
            values = self.spec.values[number] if self.spec.values else {}
            key = random_key(self.spec.seed, "offers", epoch, index.identity)
            mine = {name: column[rows] for name, column in values.items()}
            entries = Entries(epoch, number, index.path, rows, mine, key)
            if (offered := self.spec.sampler.offers(entries)) is not None:
                if np.shape(offered) != rows.shape or np.asarray(offered).dtype != np.bool_:
                    raise ArgumentError(
                        f"{self.spec.sampler!r} offers an array of shape {np.shape(offered)} and "
                        f"{np.asarray(offered).dtype} of {index.where}; expected bool of shape "
                        f"{rows.shape}: whether each of the entries is offered."
                    )
                mask[rows[~np.asarray(offered)]] = True
            masks.append(mask)
        last = list(self._masks.items())[-1:]
        self._masks = dict([*last, (epoch, tuple(masks))])
        return self._masks[epoch]

    def work(self, epoch: int, segments: Sequence[Segment], shard: Shard, batches: int = 0) -> Work:
        """Return what a shard does in an epoch, after some batches."""
        remainder = self.remainder(epoch, segments, shard.world_size)
        return Work(remainder, self._plan(remainder, shard), batches)

    def batches_left(self, epoch: int, segments: tuple[Segment, ...], world_size: int) -> int:
        """Return the batches of an epoch after some segments, of the rank that has most."""
        first = Shard(0, world_size)
        return self.work(epoch, segments, first).batches if segments else self.batches(first, epoch)

    def batches(self, shard: Shard, epoch: int = 0) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.remainder(epoch, (), shard.world_size).batch_quotas.of(shard))

    def _plan(self, remainder: Remainder, shard: Shard) -> Epoch:
        return deal(
            remainder.offered,
            remainder.batch_quotas,
            shard,
            room_bytes=self.room_bytes,
            seed=self.spec.seed,
            identity=(remainder.epoch, remainder.number),
            shuffle=self.spec.shuffle,
        )

    def _used(self, remainder: Remainder, segment: Segment, due: Counts, needed: Counts) -> Masks:
        """Return which entries of each file the next segment leaves out: of strata gone through once."""
        totals, taken = (
            remainder.offered.totals,
            remainder.batch_quotas.taken(segment.batches, segment.world_size),
        )
        once = (taken <= totals) & (needed <= 2 * due)
        masks = [np.zeros(file.index.entries, bool) for file in self.dataset.files]
        never = self._not_offered(remainder.epoch)
        for number, (mask, gone) in enumerate(zip(masks, remainder.left_out, strict=False)):
            mask[:] = gone
            if (strata := self.dataset.strata) is not None:
                mask &= once[strata.codes(number, 0, len(mask))]
            if never:
                mask |= never[number]
        for rank in range(segment.world_size):
            plan = self._plan(remainder, Shard(rank, segment.world_size))
            for stratum in np.flatnonzero(once).tolist():
                if rank and plan.streams[stratum].is_shared:
                    continue  # which all ranks go through together
                self._mark(remainder.dataset, plan, stratum, segment.batches, masks)
        return tuple(masks)

    def _mark(
        self,
        dataset: Dataset,
        plan: Epoch,
        stratum: int,
        batches: int,
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> None:
        """Mark the entries that a shard has used of a stratum."""
        pieces, done = plan.streams[stratum].pieces, used(plan, stratum, batches)
        start = 0
        for block, first, stop in zip(
            pieces.block.tolist(), pieces.first.tolist(), pieces.stop.tolist(), strict=True
        ):
            mine = done[start : start + stop - first]
            start += stop - first
            if mine.any():
                entries = dataset.entries(block, stratum)[first:stop]
                masks[dataset.blocks[block].file][entries[mine]] = True

    def places(self, remainder: Remainder, stratum: int) -> npt.NDArray[np.bool_] | None:
        """Return which rows of a stratum that stays in memory a remainder offers; None for all.

        In the order of the dataset.
        """
        if not remainder.left_out:
            return None
        found = [np.zeros(0, bool)]
        for number in np.flatnonzero(self.dataset.counts[:, stratum]).tolist():
            gone = remainder.left_out[self.dataset.blocks[number].file]
            found.append(~gone[self.dataset.entries(number, stratum)])
        return np.concatenate(found)
