"""A loader whose rows stay on a device, where batches are gathered. Imports torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

from rootfeed.dataset import Dataset, Sampler, budget_bytes, columns_of, free_bytes
from rootfeed.engine import Prefetch, Task
from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch, numpy_format
from rootfeed.formats.resident import DeviceRows
from rootfeed.formats.torch import page_locked
from rootfeed.loader.iteration import Passes
from rootfeed.loader.memory import Pool
from rootfeed.loader.mixing import found_in
from rootfeed.loader.pipeline import Pipeline
from rootfeed.loader.position import Course
from rootfeed.loader.schedule import Schedule, Work
from rootfeed.loader.torch import TorchBatches
from rootfeed.plan import Order, Shard, members, own_order
from rootfeed.processes import ForkLock
from rootfeed.progress import progress
from rootfeed.schema import Array

__all__ = ["ResidentBatches"]

Numbers = npt.NDArray[np.uint32]

_LOADING_BYTES = 500_000_000
"""Of the host's memory, at most, while rows are copied to the device."""

_LOADING_BATCH_BYTES = 4 << 20

_RUNS_AHEAD = 2


class ResidentBatches(TorchBatches):
    """A loader whose rows are copied to a device once, and whose batches are gathered there.

    It counts the loader's own epochs, and has the same rows in the same batches.

    Attributes
    ----------
    loader : Loader
    """

    def __init__(self, loader: Any, device: Any, budget: bool | int | str) -> None:
        super().__init__(loader, numpy_format(loader._pipeline.spec.layout.names))
        self._device = device
        self._budget = budget
        self._reader = _Reader(device, budget)
        self._passes: tuple[Course, Passes] | None = None

    def __iter__(self) -> Iterator[Batch]:
        """Start the loader's next epoch, or go on where a loaded state ends.

        The first time, all rows are read and copied to the device.

        Raises
        ------
        ArgumentError
            Where they take more than they may; in a worker of a DataLoader.
        """
        if get_worker_info() is not None:
            raise ArgumentError(
                "rows that stay on a device need no workers: iterate over the batches themselves, "
                "without a DataLoader, or leave resident= out."
            )
        pipeline = self._reader.pipeline = self._pipeline
        if self._passes is None or self._passes[0] is not pipeline.course:
            self._passes = pipeline.course, Passes(self._reader, pipeline.course)
        return pipeline.start(self._format, passes=self._passes[1])

    def _of(self, loader: Any) -> ResidentBatches:
        return type(self)(loader, self._device, self._budget)

    def __reduce__(self) -> Any:
        return type(self), (self.loader, self._device, self._budget)


class _Reader:
    """Makes batches of rows that are on a device: what `Reader` does with those of files.

    It refers to nothing that refers to it: a device's memory is free as soon as nobody needs it.

    Attributes
    ----------
    pipeline : Pipeline
        Whose batches they are.
    """

    pipeline: Pipeline

    def __init__(self, device: Any, budget: bool | int | str) -> None:
        self._device = torch.device("cpu" if device is None else device)
        self._most_bytes = None if budget is True else budget_bytes(budget, "resident")
        self._loading = ForkLock()
        self._rows: DeviceRows | None = None
        self._told_of_labels = False

    @property
    def schedule(self) -> Schedule:
        """What a shard does in which epoch: the pipeline's."""
        return self.pipeline.schedule

    def read(self, work: Work) -> Generator[tuple[Any, ...], None, None]:
        """Yield the arrays of each batch, on the device."""
        if work.first >= work.batches:
            return
        with self._loading:
            rows = self._rows = self._loaded() if self._rows is None else self._rows
        numbers = _Numbers(self.schedule.dataset, work)
        self._look_at_labels(work, numbers, rows)
        runs = _runs(self.schedule, work, numbers)
        ordering = Prefetch(runs, threads=1, window=_RUNS_AHEAD)
        try:
            while True:
                try:
                    wanted, sizes = ordering.next()
                except StopIteration:
                    return
                yield from rows.gathered(self._sent(wanted), sizes)
                ordering.release()
        finally:
            ordering.close()

    def _sent(self, numbers: npt.NDArray[np.int64]) -> Any:
        """Copy numbers of rows to the device. Not on a thread, which may disturb what CUDA records."""
        if self._device.type == "cuda":
            return page_locked(numbers).to(self._device, non_blocking=True)
        return torch.from_numpy(numbers).to(self._device)

    def _loaded(self) -> DeviceRows:
        """Read all rows, in the order of the files, and copy them to the device."""
        whole, spec = self.schedule.dataset, self.pipeline.spec
        if whole.rows >= 1 << 32:
            raise ArgumentError(f"{whole.rows:,} rows are more than the 2^32 that can be resident.")
        most_bytes = _room_bytes(self._device) if self._most_bytes is None else self._most_bytes
        rows = DeviceRows(whole.layout, whole.rows, self._device, most_bytes)
        every, budget = Sampler(), min(spec.budget_bytes, _LOADING_BYTES)
        batch_bytes = min(budget // 64, _LOADING_BATCH_BYTES)
        spec = replace(
            spec,
            sampler=every,
            strata=every.classes(spec.frames),
            values=columns_of(spec.frames, every.columns),
            batch_size=max(batch_bytes // whole.layout.batch_row_bytes(1024), 1),
            budget_bytes=budget,
            chunk_entries=None,
            saved_sizes=None,
            keep_in_memory=False,
            ranks=(0, 1),
            drop_last=False,
            shuffle=False,
            epoch_batches=None,
        )
        pipeline = Pipeline(spec, Pool())
        work = pipeline.schedule.work(0, (), Shard(0, 1))
        try:
            with (
                closing(pipeline.reader.read(work)) as batches,
                progress(f"Copying to {self._device}", work.batches) as advance,
            ):
                rows.fill(each for each in batches if advance(1) is None)
        finally:
            pipeline.close()
        return rows

    def _look_at_labels(self, work: Work, numbers: _Numbers, rows: DeviceRows) -> None:
        """Judge the order of labels by the blocks of the first batches, as `Reader` does; once."""
        plan, layout = work.plan, self.schedule.dataset.layout
        if self._told_of_labels or not plan.shuffle or plan.shard.number or not len(plan.reads.first):
            return
        self._told_of_labels = True
        window: dict[int, Numbers] = {}
        stop = work.first + self.schedule.batches_of_run
        begun = (plan.reads.last >= work.first) & (plan.reads.first < stop)
        for number in np.flatnonzero(begun).tolist():
            read = plan.reads[number]
            window[read.block] = max((numbers.piece(*each) for each in read.pieces), key=len)

        def labels(wanted: Numbers) -> Array:
            found: Array = rows.values(layout.inputs, torch.from_numpy(wanted.astype(np.int64)))
            return found

        found = found_in(work.remainder.dataset, window, labels, self.schedule.sizes.regions)
        self.pipeline.mixing.warn_of_labels(found)


def _runs(
    schedule: Schedule, work: Work, numbers: _Numbers
) -> Iterator[tuple[tuple[npt.NDArray[np.int64], list[int]], Sequence[Task]]]:
    """Say which rows make each run of batches.

    It is a thread that advances this: what it refers to lives as long as that, so not the reader, which
    ends the thread when nobody refers to it.
    """
    order = Order(work.plan, numbers.piece, numbers.stratum, schedule.draws)
    step = schedule.batches_of_run
    for first in range(work.first, work.batches, step):
        stop = min(first + step, work.batches)
        numbers.forget(first)
        wanted = order.rows(first, stop).astype(np.int64)
        yield (wanted, work.plan.sizes[first:stop].tolist()), []


class _Numbers:
    """Which rows on the device are those of a plan: numbers in the order of files and entries.

    Parameters
    ----------
    whole : Dataset
        All of whose rows are there.
    work : Work
        An epoch of theirs, or of some of them.
    """

    def __init__(self, whole: Dataset, work: Work) -> None:
        self._plan = work.plan
        self._whole = whole
        self._dataset = work.remainder.dataset
        self._taken = [
            None if file.taken is None else members(file.taken, 0, file.index.entries)
            for file in whole.files
        ]
        counts = np.zeros(len(whole.files) + 1, np.int64)
        np.add.at(counts, whole.block_files + 1, whole.counts.sum(1))
        self._firsts = np.cumsum(counts)
        self._pieces: dict[tuple[int, int], Numbers] = {}
        self._ends = deque(np.argsort(work.plan.reads.last, kind="stable").tolist())

    def piece(self, stratum: int, piece: int) -> Numbers:
        """Return the rows of a piece, in the order of their use. They are kept: several steps ask."""
        found = self._pieces.get((stratum, piece))
        if found is None:
            pieces = self._plan.streams[stratum].pieces
            rows = self._rows(int(pieces.block[piece]), stratum)
            mine = rows[int(pieces.first[piece]) : int(pieces.stop[piece])]
            found = self._pieces[stratum, piece] = own_order(self._plan, stratum, piece, mine)
        return found

    def forget(self, batch: int) -> None:
        """Let go of the rows of pieces that no batch from this one on needs."""
        reads = self._plan.reads
        while self._ends and reads.last[self._ends[0]] < batch:
            for piece in reads[self._ends.popleft()].pieces:
                self._pieces.pop(piece, None)

    def stratum(self, stratum: int) -> Numbers:
        """Return the rows of a stratum, in the order of the dataset; none for ``0 .. n - 1``."""
        if self._dataset.strata is None and self._dataset is self._whole:
            return np.empty(0, np.uint32)
        blocks = np.flatnonzero(self._dataset.counts[:, stratum]).tolist()
        return np.concatenate([self._rows(block, stratum) for block in blocks])

    def _rows(self, block: int, stratum: int) -> Numbers:
        """Return the rows of a block and stratum, in the order of their entries."""
        file, entries = self._dataset.blocks[block].file, self._dataset.entries(block, stratum)
        taken = self._taken[file]
        place = entries if taken is None else np.searchsorted(taken, entries)
        found: Numbers = (self._firsts[file] + place).astype(np.uint32)
        return found


def _room_bytes(device: Any) -> int:
    """Return what rows may take on a device: of what is free, a tenth is left."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    elif device.type == "cpu":
        free = free_bytes()
    else:
        raise ArgumentError(
            f"how much memory is free on {device} is not known: say how much rows may take, "
            'resident="10 GB".'
        )
    return free * 9 // 10
