"""What a loader does when: an epoch's chunks, for every rank, from any batch on. It reads nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.loader.dataset import Dataset, Taken
from rootfeed.loader.options import Options
from rootfeed.loader.sampling import Balanced, shares_of
from rootfeed.loader.uses import Uses
from rootfeed.plan import (
    Chunk,
    Demand,
    Piece,
    Selection,
    Shard,
    Sizes,
    balanced_demand,
    carried,
    deal,
    permuted,
    plain_demand,
    random_key,
    resident_rows,
    resumed,
)

__all__ = ["Leg", "Run", "Schedule"]

Order = npt.NDArray[np.uint32]

_KEPT_CHUNKS = 1.7
"""Most rows that stay because they are used again and again, in chunks: of the two that memory holds."""

_NO_ROWS = np.empty(0, np.int64)

_ORDER_ROWS = 1 << 22
"""Of a dataset in memory, as many rows are put in order at once, or one round of it."""


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
    datasets : tuple of Dataset
        What each round of strata that are not kept offers; the last one again and again.
    demand : Demand
    used : ndarray of int64, shape (strata,)
        Rows of the kept strata that were used in the epoch before.
    number : int
        Legs before.
    """

    datasets: tuple[Dataset, ...]
    demand: Demand
    used: npt.NDArray[np.int64]
    number: int

    def part(self, piece: Piece) -> Taken:
        """Return the rows of a piece."""
        return self.datasets[piece.round].part(piece)


@dataclass(frozen=True, eq=False)
class Run:
    """What a shard reads of an epoch.

    Attributes
    ----------
    stage : Stage
    shard : Shard
    epoch : int
    chunks : list of Chunk
        Those that are left.
    skipped : int
        Batches of the first of them that are left out.
    batches : int
        Of the shard in this leg, those before the first included.
    """

    stage: Stage
    shard: Shard
    epoch: int
    chunks: list[Chunk]
    skipped: int
    batches: int


class Schedule:
    """The plan of all epochs.

    Parameters
    ----------
    dataset : Dataset
    sizes : Sizes
    options : Options
    sampling : Balanced or None
        None uses each row once.

    Attributes
    ----------
    kept : ndarray of bool, shape (strata,)
        Strata whose rows stay in memory: all of a dataset that fits; else those that are used again
        and again and are few.
    """

    def __init__(
        self, dataset: Dataset, sizes: Sizes, options: Options, sampling: Balanced | None
    ) -> None:
        self.dataset = dataset
        self.sizes = sizes
        self._options = options
        self._sampling = sampling
        self._totals = dataset.counts.sum(0)
        self._shares: list[float] = []
        if sampling is not None:
            assert dataset.strata is not None
            self._shares = shares_of(sampling, dataset.strata.values)
            self._check_classes()
        self.kept = self._kept()
        self._regions = self._regions_of_blocks()
        self._stages: dict[tuple[int, tuple[Leg, ...], int], Stage] = {}

    @property
    def draws(self) -> bool:
        """Whether rows are drawn with replacement."""
        return self._sampling is not None and self._sampling.replacement

    @property
    def kept_rows(self) -> int:
        """Rows that stay in memory."""
        return int(self._totals[self.kept].sum())

    @property
    def _capacity(self) -> int:
        """Rows of a chunk, beside those that stay."""
        return self.sizes.chunk_rows if self.sizes.whole else self.sizes.chunk_rows - self.kept_rows // 2

    def _check_classes(self) -> None:
        assert self.dataset.strata is not None
        for value, share, rows in zip(
            self.dataset.strata.values, self._shares, self._totals.tolist(), strict=True
        ):
            if share > 0 and rows == 0:
                raise EmptyDatasetError(
                    f"{self._class(value)} is to be {share:.3g} of every batch, and has no rows here. "
                    "Loosen the cuts, or set its share to 0."
                )

    def _too_few(
        self, rows: npt.NDArray[np.int64], needed: npt.NDArray[np.int64], world_size: int
    ) -> str:
        """Return which classes have too few rows for the first batch of each rank."""
        assert self.dataset.strata is not None
        lacking = [
            f"{self._class(value)} has {have} rows, and {need} are needed"
            for value, have, need in zip(self.dataset.strata.values, rows, needed, strict=True)
            if have < need
        ]
        ranks = f" on each of {world_size} ranks" if world_size > 1 else ""
        return (
            f"the rows of a class do not suffice for one batch of {self._options.batch_size}{ranks}: "
            f'{"; ".join(lacking)}. Choose smaller batches, other shares, or epoch="longest".'
        )

    def _class(self, value: Any) -> str:
        assert self._sampling is not None
        return f"frame {value}" if self._sampling.label is None else f"class {value!r}"

    def _kept(self) -> npt.NDArray[np.bool_]:
        if self.sizes.whole:
            return np.ones(len(self._totals), bool)
        if self._sampling is None:
            return np.zeros(1, bool)
        demand = self._demand(self._totals, 1, rest=True)
        kept = np.zeros(len(self._totals), bool)
        room = self.sizes.chunk_rows * _KEPT_CHUNKS
        for stratum in np.argsort(self._totals, kind="stable"):
            again = demand.taken(len(demand.quotas), 1)[stratum] > self._totals[stratum]
            if again and self._totals[stratum] <= room:
                kept[stratum] = True
                room -= self._totals[stratum]
        return kept

    def _regions_of_blocks(self) -> npt.NDArray[np.int64] | None:
        if len(self.sizes.regions) == 1:
            return None
        files = [block.file for block in self.dataset.blocks]
        return np.searchsorted(self.sizes.regions, files, "right") - 1

    def _demand(
        self, rows: npt.NDArray[np.int64], world_size: int, left: int | None = None, rest: bool = False
    ) -> Demand:
        """Return the rows of each batch, of rows that are left; `left` limits the batches."""
        options, sampling = self._options, self._sampling
        size = options.batch_size
        if sampling is None:
            total = int(rows.sum())
            demand = plain_demand(total, size, world_size, options.tail, options.drop_last, rest)
            if len(demand.quotas) == 0 and not rest:
                raise ArgumentError(
                    f"{total} rows are too few for a batch of {size}, and drop_last leaves shorter ones "
                    "out: an epoch would have no batch. Choose smaller batches, or drop_last=False "
                    "(in rootfeed.root: drop_remainder=False)."
                )
            return demand
        demand = balanced_demand(
            rows, self._shares, size, world_size, sampling.epoch if left is None else left
        )
        if left is not None and sampling.epoch == "shortest":
            once = balanced_demand(rows, self._shares, size, world_size, "shortest")
            demand = min(demand, once, key=lambda each: len(each.quotas))
        if len(demand.quotas) == 0 and left is None and not rest:
            needed = balanced_demand(rows, self._shares, size, world_size, 1).taken(1, world_size)
            raise EmptyDatasetError(self._too_few(rows, needed, world_size))
        return demand

    def stage(self, epoch: int, legs: Sequence[Leg], world_size: int) -> Stage:
        """Return what is left of an epoch after some legs, for so many ranks."""
        key = (epoch, tuple(legs), world_size)
        if key in self._stages:
            return self._stages[key]
        datasets: tuple[Dataset, ...] = (self.dataset,)
        fresh = self._totals
        used, left = np.zeros(len(self._totals), np.int64), None
        uses = Uses(self.dataset)
        for number, leg in enumerate(legs):
            demand = self._rest(fresh, used, leg.world_size, left, number)
            stage = Stage(datasets, demand, used, number)
            planned = len(demand.quotas) * leg.world_size
            left = planned - min(leg.batches, len(demand.quotas)) * leg.world_size
            used = used + demand.taken(leg.batches, leg.world_size) * self.kept
            if not self.kept.all():
                self._count(stage, leg, epoch, uses)
                datasets, fresh = uses.left(repeat=self._sampling is not None)
        found = Stage(datasets, self._rest(fresh, used, world_size, left, len(legs)), used, len(legs))
        self._stages = {key: found}
        return found

    def _rest(
        self,
        fresh: npt.NDArray[np.int64],
        used: npt.NDArray[np.int64],
        world_size: int,
        left: int | None,
        legs: int,
    ) -> Demand:
        """Return the rows of each batch after some legs, which leave so many batches to all ranks.

        `fresh` are the rows of each stratum that is dealt which were not used yet.
        """
        rows = np.where(self.kept, np.maximum(self._totals - used, 0), fresh)
        if self._sampling is None or left is None:
            return self._demand(rows, world_size, rest=legs > 0)
        demand = self._demand(rows, world_size, left // world_size, rest=True)
        if self._sampling.epoch == "longest" and rows.any():
            # Ranks and rounding may leave some rows of the class that comes last.
            every = self._demand(rows, world_size, rest=True)
            demand = max(demand, every, key=lambda each: len(each.quotas))
        return demand

    def run(self, epoch: int, legs: Sequence[Leg], shard: Shard, batches: int = 0) -> Run:
        """Return what a shard reads of an epoch, after some batches."""
        stage = self.stage(epoch, legs, shard.world_size)
        chunks = self._chunks(stage, epoch, shard)
        count = sum(len(chunk.quotas) for chunk in chunks)
        rest, skipped = resumed(chunks, batches) if batches else (chunks, 0)
        return Run(stage, shard, epoch, rest, skipped, count)

    def batches(self, shard: Shard) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.stage(0, (), shard.world_size).demand.of(shard))

    def _chunks(self, stage: Stage, epoch: int, shard: Shard) -> list[Chunk]:
        *earlier, last = stage.datasets
        return deal(
            last.counts,
            stage.demand,
            shard,
            capacity=self._capacity,
            seed=self._options.seed,
            epoch=epoch,
            leg=stage.number,
            shuffle=self._options.shuffle,
            kept=self.kept.tolist(),
            kept_rows=self.kept_rows,
            regions=self._regions,
            earlier=[dataset.counts for dataset in earlier],
        )

    # --- orders -------------------------------------------------------------------------------

    def make_order(
        self, run: Run, chunk: Chunk, strata: npt.NDArray[np.uint8], places: Sequence[Order], out: Order
    ) -> list[Selection]:
        """Make the order in which the rows of a chunk make batches.

        Parameters
        ----------
        run : Run
        chunk : Chunk
        strata : ndarray of uint8
            Of the rows that were carried in or read; not needed where there is one stratum.
        places : sequence of ndarray of uint32
            For each stratum that is kept, where its rows lie in the chunk.
        out : ndarray of uint32, shape (chunk.rows,)

        Returns
        -------
        list of slice or ndarray of int64
            The rows that are carried out.
        """
        if self.dataset.strata is None:
            return chunk.order(out)
        batches = (chunk.first_batch, chunk.first_batch + len(chunk.quotas))
        ready = [
            places[stratum][self._resident(run, stratum, batches)] if kept else None
            for stratum, kept in enumerate(self.kept)
        ]
        return chunk.mixed_order(strata, ready, out, self.draws)

    def orders(self, run: Run, places: Sequence[Order] | None, length: int) -> Iterator[Order]:
        """Yield the order of a dataset that is in memory, part by part.

        Parameters
        ----------
        run : Run
        places : sequence of ndarray of uint32 or None
            Where the rows of each stratum lie; None for one stratum.
        length : int
            Rows of a part, about; a multiple of the batch size.
        """
        if not run.chunks:
            return
        (chunk,) = run.chunks
        first = run.skipped
        plain = places is None and run.shard.count == 1 and not run.stage.used.any()
        if plain and self._options.shuffle:
            out = np.empty(int(self._totals[0]), np.uint32)
            key = random_key(self._options.seed, "round", run.epoch, 0, 0)
            skipped, stop = first * self._options.batch_size, chunk.rows
            for number, part in enumerate(permuted(key, length, out)):
                start = number * length
                if (part := part[max(skipped - start, 0) : max(stop - start, 0)]).size:
                    yield part
            return
        size = self._options.batch_size
        step = max(max(_ORDER_ROWS, int(self._totals.max())) // size, 1)
        for start in range(first, len(chunk.quotas), step):
            quotas = chunk.quotas[start : start + step]
            batches = (start, start + len(quotas))
            last = batches[1] == len(chunk.quotas)
            some = replace(
                chunk,
                first_batch=start,
                quotas=quotas,
                repeats=chunk.repeats if last else 0,
            )
            out = np.empty(some.rows, np.uint32)
            rows = [self._resident(run, stratum, batches) for stratum in range(len(self._totals))]
            if places is None:
                out[: len(rows[0])] = rows[0]
                out[len(rows[0]) :] = rows[0][0] if len(rows[0]) else 0
            else:
                ready = [where[each] for where, each in zip(places, rows, strict=True)]
                some.mixed_order(np.empty(0, np.uint8), ready, out, self.draws)
            for begin in range(0, len(out), length):
                yield out[begin : begin + length]

    def _resident(self, run: Run, stratum: int, batches: tuple[int, int]) -> Order:
        return resident_rows(
            int(self._totals[stratum]),
            int(run.stage.used[stratum]),
            batches,
            run.stage.demand,
            run.shard,
            stratum,
            self._options.seed,
            run.epoch,
            self._options.shuffle,
            self.draws,
        )

    # --- what was used ------------------------------------------------------------------------

    def _count(self, stage: Stage, leg: Leg, epoch: int, uses: Uses) -> None:
        """Count the rows that a leg has used, of strata that are dealt."""
        for rank in range(leg.world_size):
            shard = Shard(rank, leg.world_size)
            chunks = self._chunks(stage, epoch, shard)
            begun = [chunk for chunk in chunks if chunk.first_batch < leg.batches]
            for chunk in begun:
                for part in map(stage.part, chunk.pieces):
                    uses.add(part.block.file, part.entries)
            if begun:
                self._uncount(Run(stage, shard, epoch, chunks, 0, 0), begun[-1], leg.batches, uses)

    def _uncount(self, run: Run, chunk: Chunk, batches: int, uses: Uses) -> None:
        """Take back the rows of the last chunk that were not used yet, or are carried out of it."""
        files, entries, strata = self.origins(run, chunk)
        left = np.ones(chunk.memory_rows, bool)
        out = np.empty(chunk.rows, np.uint32)
        places = [np.zeros(int(total), np.uint32) for total in self._totals]
        self.make_order(run, chunk, strata, places, out)
        left[out[: int(chunk.quotas[: batches - chunk.first_batch].sum())]] = False
        for file in np.unique(files).tolist():
            uses.add(file, entries[left[chunk.kept :] & (files == file)], -1)

    def origins(
        self, run: Run, chunk: Chunk
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Return file, entry and stratum of each row of a chunk that is not kept, in order."""
        refill = carried(run.chunks, chunk.number)
        files, entries, strata = [_NO_ROWS], [_NO_ROWS], [_NO_ROWS.astype(np.uint8)]
        for part in map(run.stage.part, (*refill, *chunk.pieces)):
            files.append(np.full(part.rows, part.block.file))
            entries.append(part.entries)
            strata.append(np.zeros(part.rows, np.uint8) if part.strata is None else part.strata)
        return np.concatenate(files), np.concatenate(entries), np.concatenate(strata)
