"""What a loader does when: an epoch of each rank, from any batch on. It reads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.loader.dataset import Dataset
from rootfeed.loader.options import Options
from rootfeed.loader.sampling import Batching, Entries, Sampler
from rootfeed.plan import (
    Demand,
    Epoch,
    Offered,
    Shard,
    Sizes,
    deal,
    members,
    random_key,
    used,
    words_of,
)
from rootfeed.plan.budget import AHEAD_SHARE, ORDER_BYTES, WINDOW_SHARE
from rootfeed.schema import Array

__all__ = ["Leg", "Run", "Schedule", "Stage"]

Counts = npt.NDArray[np.int64]
Masks = tuple[npt.NDArray[np.bool_], ...]

_RESIDENT_SHARE = 0.7
"""Of the window, at most, for rows that stay because they are used again and again."""


@dataclass(frozen=True)
class Leg:
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
class Stage:
    """What is left of an epoch after some legs.

    Attributes
    ----------
    dataset : Dataset
        Without what must not be used again.
    offered : Offered
        The same as numbers.
    demand : Demand
    epoch : int
    number : int
        Legs before.
    left_out : tuple of ndarray of bool
        For each file, which entries are; empty if none are.
    """

    dataset: Dataset
    offered: Offered
    demand: Demand
    epoch: int
    number: int
    left_out: tuple[npt.NDArray[np.bool_], ...] = ()

    @property
    def resident(self) -> npt.NDArray[np.bool_]:
        """Which strata stay in memory."""
        return self.offered.resident


@dataclass(frozen=True, eq=False)
class Run:
    """What a shard does in the rest of an epoch.

    Attributes
    ----------
    stage : Stage
    plan : Epoch
        Of the whole leg.
    first : int
        The batch to begin with.
    """

    stage: Stage
    plan: Epoch
    first: int

    @property
    def batches(self) -> int:
        """Batches of the shard in this leg, those before the first included."""
        return len(self.plan.quotas)


class Schedule:
    """The plan of all epochs.

    Parameters
    ----------
    dataset : Dataset
    sizes : Sizes
    options : Options
    sampling : Sampler
    values : sequence of mapping of str to ndarray
        For each file, the sampler's columns of all entries.

    Attributes
    ----------
    offered : Offered
        All rows, and which of them stay in memory: all of a dataset that fits; else those of strata
        that are used again and again and are few.
    """

    def __init__(
        self,
        dataset: Dataset,
        sizes: Sizes,
        options: Options,
        sampling: Sampler,
        values: Sequence[Mapping[str, Array]] = (),
    ) -> None:
        self.dataset = dataset
        self.sizes = sizes
        self._options = options
        self._sampling = sampling
        self._values = values
        self.offered = self._offered(dataset, np.full(dataset.counts.shape[1], sizes.whole))
        if not sizes.whole:
            self.offered = replace(self.offered, resident=self._resident())
        self._masks: dict[int, Masks] = {}  # of the last two epochs
        self._stages: dict[tuple[int, tuple[Leg, ...], int], Stage] = {}

    @property
    def draws(self) -> bool:
        """Whether rows are drawn with replacement."""
        return self._sampling.replacement

    @property
    def resident_rows(self) -> int:
        """Rows that stay in memory."""
        return int(self.offered.totals[self.offered.resident].sum())

    def _offered(self, dataset: Dataset, resident: npt.NDArray[np.bool_]) -> Offered:
        files = dataset.block_files
        return Offered(
            counts=dataset.counts,
            row_bytes=dataset.row_bytes[files],
            regions=np.searchsorted(self.sizes.regions, files, "right") - 1,
            resident=resident,
            use_bytes=ORDER_BYTES,
        )

    def _resident(self) -> npt.NDArray[np.bool_]:
        totals = self.offered.totals
        resident = np.zeros(len(totals), bool)
        if self.dataset.strata is None:
            return resident
        try:
            demand = self._demand(totals, 1)
        except EmptyDatasetError:
            return resident  # too few rows for a batch: told when it is known for how many ranks
        again = demand.taken(len(demand.quotas), 1) > totals
        bytes_ = self.offered.row_bytes @ self.offered.counts
        room = self.sizes.window_bytes * _RESIDENT_SHARE
        for stratum in np.argsort(bytes_, kind="stable"):
            if again[stratum] and bytes_[stratum] <= room:
                resident[stratum] = True
                room -= bytes_[stratum]
        return resident

    @property
    def room_bytes(self) -> int:
        """What blocks may take in memory, beside the rows that stay."""
        kept = self.offered.counts[:, self.offered.resident].sum(1)
        return self.sizes.window_bytes - int(kept @ self.offered.row_bytes)

    @property
    def batches_of_run(self) -> int:
        """How many batches are gathered together."""
        return self.sizes.run_rows // self._options.batch_size

    def held_bytes(self, run: Run) -> int:
        """Return the most that blocks take in memory in a run, those that are read ahead included."""
        reads = run.plan.reads
        room = self.room_bytes + int(self.sizes.window_bytes * AHEAD_SHARE / WINDOW_SHARE)
        return max(
            min(room, int(reads.bytes.sum())), reads.peak(reads.bytes, run.first, self.batches_of_run)
        )

    def _demand(self, rows: Counts, world_size: int, left: int | None = None) -> Demand:
        """Return the rows of each batch of those that there are, or are left of an epoch."""
        options, strata = self._options, self.dataset.strata
        asked = Batching(
            (None,) if strata is None else strata.values,
            options.batch_size,
            world_size,
            options.tail,
            options.drop_last,
            left,
        )
        demand = self._sampling.quotas(rows, asked)
        if not isinstance(demand, Demand):
            demand = Demand(self._checked(demand, len(rows)))
        if demand.quotas.shape[1] != len(rows):
            raise ArgumentError(
                f"{self._sampling!r} has the label {self._sampling.label!r}, of {len(rows)} classes, "
                "and quotas for one class. Define quotas(rows, asked), of shape (batches, classes), or "
                "leave the label out: columns are what offers needs."
            )
        if len(demand.quotas) == 0 and left is None:
            if not rows.any():
                raise EmptyDatasetError(
                    f"{self._sampling!r} offers no row: an epoch would have no batch."
                )
            if type(self._sampling) is not Sampler and not self._sampling.selects:
                raise ArgumentError(
                    f"{self._sampling!r} gives quotas of no batch; expected at least one."
                )
            raise ArgumentError(
                f"{int(rows.sum())} rows are too few for a batch of {options.batch_size}, and drop_last "
                "leaves shorter ones out: an epoch would have no batch. Choose smaller batches, or "
                "drop_last=False (in rootfeed.root: drop_remainder=False)."
            )
        return demand

    def _checked(self, quotas: Any, classes: int) -> Counts:
        try:
            found = np.asarray(quotas)
        except ValueError:  # of rows that are not equally long
            found = np.array(quotas, object)
        if found.ndim != 2 or found.shape[1] != classes or found.dtype.kind not in "iu":
            raise ArgumentError(
                f"{self._sampling!r} gives quotas of shape {found.shape} and {found.dtype}; expected "
                f"integers of shape (batches, {classes})."
            )
        sizes = found.sum(1)
        wrong = (found < 0).any(1) | (sizes > self._options.batch_size) | (sizes == 0)
        if wrong.any():
            number = int(np.argmax(wrong))
            raise ArgumentError(
                f"{self._sampling!r} gives batch {number} the quotas {found[number].tolist()}; expected "
                f"numbers from 0 on, of which 1 to {self._options.batch_size} (batch_size) are the sum."
            )
        return found.astype(np.int64)

    def stage(self, epoch: int, legs: Sequence[Leg], world_size: int) -> Stage:
        """Return what is left of an epoch after some legs, for so many ranks.

        Rows of strata that are gone through once are those that were not used yet. The others begin
        anew with all their rows, however often each was used before.
        """
        key = (epoch, tuple(legs), world_size)
        if key in self._stages:
            return self._stages[key]
        gone = self._not_offered(epoch)
        stage = self._stage(epoch, 0, gone, legs[0].world_size if legs else world_size, None)
        due = stage.offered.totals
        for number, leg in enumerate(legs):
            ranks = legs[number + 1].world_size if number + 1 < len(legs) else world_size
            done = min(leg.batches, len(stage.demand.quotas))
            left = (len(stage.demand.quotas) - done) * leg.world_size // ranks
            due = np.maximum(due - stage.demand.taken(done, leg.world_size), 0)
            demand = self._demand(due, ranks, left)
            used = self._used(stage, leg, due, demand.taken(len(demand.quotas), ranks))
            stage = self._stage(epoch, number + 1, used, ranks, demand)
        self._stages = {key: stage}
        return stage

    def _stage(
        self, epoch: int, number: int, left_out: Masks, world_size: int, demand: Demand | None
    ) -> Stage:
        dataset, offered = self.dataset, self.offered
        if left_out:
            dataset = dataset.without([words_of(mask) for mask in left_out])
            offered = self._offered(dataset, offered.resident)
        if demand is None:
            demand = self._demand(offered.totals, world_size)
        for stratum in np.flatnonzero(demand.quotas.any(0) & (offered.totals == 0)).tolist():
            value = None if dataset.strata is None else dataset.strata.values[stratum]
            raise EmptyDatasetError(
                f"{self._sampling!r} asks for class {value!r}, which has no rows in epoch {epoch}."
            )
        return Stage(dataset, offered, demand, epoch, number, left_out)

    def _not_offered(self, epoch: int) -> Masks:
        """Return which entries of each file the sampler leaves out of an epoch; empty if none."""
        if not self._sampling.selects:
            return ()
        if epoch in self._masks:
            return self._masks[epoch]
        masks = []
        for number, file in enumerate(self.dataset.files):
            index = file.index
            mask, rows = np.zeros(index.entries, bool), np.arange(index.entries)
            if file.taken is not None:
                rows = members(file.taken, 0, index.entries).astype(np.int64)
            values = self._values[number] if self._values else {}
            key = random_key(self._options.seed, "offers", epoch, index.identity)
            mine = {name: column[rows] for name, column in values.items()}
            entries = Entries(epoch, number, index.path, rows, mine, key)
            if (offered := self._sampling.offers(entries)) is not None:
                if np.shape(offered) != rows.shape or np.asarray(offered).dtype != np.bool_:
                    raise ArgumentError(
                        f"{self._sampling!r} offers an array of shape {np.shape(offered)} and "
                        f"{np.asarray(offered).dtype} of {index.where}; expected bool of shape "
                        f"{rows.shape}: whether each of the entries is offered."
                    )
                mask[rows[~np.asarray(offered)]] = True
            masks.append(mask)
        last = list(self._masks.items())[-1:]
        self._masks = dict([*last, (epoch, tuple(masks))])
        return self._masks[epoch]

    def run(self, epoch: int, legs: Sequence[Leg], shard: Shard, batches: int = 0) -> Run:
        """Return what a shard does in an epoch, after some batches."""
        stage = self.stage(epoch, legs, shard.world_size)
        return Run(stage, self._plan(stage, shard), batches)

    def batches(self, shard: Shard, epoch: int = 0) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.stage(epoch, (), shard.world_size).demand.of(shard))

    def _plan(self, stage: Stage, shard: Shard) -> Epoch:
        return deal(
            stage.offered,
            stage.demand,
            shard,
            room_bytes=self.room_bytes,
            seed=self._options.seed,
            identity=(stage.epoch, stage.number),
            shuffle=self._options.shuffle,
        )

    def _used(self, stage: Stage, leg: Leg, due: Counts, needed: Counts) -> Masks:
        """Return which entries of each file the next leg leaves out: of strata gone through once."""
        totals, taken = stage.offered.totals, stage.demand.taken(leg.batches, leg.world_size)
        once = (taken <= totals) & (needed <= 2 * due)
        masks = [np.zeros(file.index.entries, bool) for file in self.dataset.files]
        never = self._not_offered(stage.epoch)
        for number, (mask, gone) in enumerate(zip(masks, stage.left_out, strict=False)):
            mask[:] = gone
            if (strata := self.dataset.strata) is not None:
                mask &= once[strata.codes(number, 0, len(mask))]
            if never:
                mask |= never[number]
        for rank in range(leg.world_size):
            plan = self._plan(stage, Shard(rank, leg.world_size))
            for stratum in np.flatnonzero(once).tolist():
                if rank and plan.streams[stratum].is_shared:
                    continue  # which all ranks go through together
                self._mark(stage.dataset, plan, stratum, leg.batches, masks)
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

    def places(self, stage: Stage, stratum: int) -> npt.NDArray[np.bool_] | None:
        """Return which rows of a stratum that stays in memory a stage offers; None for all.

        In the order of the dataset.
        """
        if not stage.left_out:
            return None
        found = [np.zeros(0, bool)]
        for number in np.flatnonzero(self.dataset.counts[:, stratum]).tolist():
            gone = stage.left_out[self.dataset.blocks[number].file]
            found.append(~gone[self.dataset.entries(number, stratum)])
        return np.concatenate(found)
