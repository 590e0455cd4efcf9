"""How an epoch comes about: blocks are read and batches gathered on threads, ahead of the consumer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from threading import Event
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from rootfeed.dataset import Dataset, Taken
from rootfeed.engine import Prefetch, Task
from rootfeed.errors import (
    CutVectorWarning,
    NotFiniteWarning,
    PrecisionWarning,
    RootfeedWarning,
    WeightWarning,
    warn,
)
from rootfeed.expression import written
from rootfeed.layout import Layout
from rootfeed.loader.batches import batches, gathered
from rootfeed.loader.casting import CUT, NOT_FINITE, Alterations
from rootfeed.loader.fill import fill_tasks, prepare
from rootfeed.loader.memory import Arena, ClosedError, Held, HeldBlock, Lent, Pool
from rootfeed.loader.mixing import Mixing, found_in
from rootfeed.loader.schedule import Schedule, Work
from rootfeed.plan import Epoch, Found, Order, Read
from rootfeed.plan.budget import FETCHED_SHARE, WINDOW_SHARE
from rootfeed.processes import ForkLock
from rootfeed.progress import progress
from rootfeed.schema import Array, Block
from rootfeed.sources import Storage
from rootfeed.view import Fetching

__all__ = ["Reader"]

Arrays = tuple[Array, ...]
Item = TypeVar("Item")
Rows = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.uint32]

_SPARE = 1.25
"""Times the rows that fit on average: blocks whose rows are short have more of them."""

_MOST_READS = 1 << 30
"""That are ahead: memory is what limits them."""


class Reader:
    """Iterates over the epochs of a dataset, and owns the memory for it.

    Parameters
    ----------
    schedule : Schedule
    threads : int
        That decode at the same time.
    pool : Pool
        That parts which are iterated in turns have in common.
    mixing : Mixing
        That says what labels in a bad order mean.
    """

    def __init__(self, schedule: Schedule, threads: int, pool: Pool, mixing: Mixing) -> None:
        self.schedule = schedule
        self._sizes = schedule.sizes
        self._layout = schedule.dataset.layout
        self._threads = threads
        self._pool = pool
        places, _ = self._layout.places(schedule.batches_of_run, schedule.spec.batch_size)
        self._lent = Lent(places[-1], self._sizes.runs_ahead)
        self._whole: Arena | None = None
        self._loading = ForkLock()
        self._prepared = False
        self._alterations = Alterations()
        self._mixing = mixing
        self._found: Found | None = None
        self._told_of_labels = False

    def read(self, work: Work) -> Generator[Arrays, None, None]:
        """Yield the parts of each batch, in arrays that belong to the caller."""
        if work.first >= work.batches:
            return
        if not self._prepared:
            prepare(self.schedule.dataset)
            self._prepared = True
        arena, most_bytes = self._arena(work)
        arena.open(most_bytes)
        held = Held(arena, self._pool)
        fetching = self._fetching(self._parts(work))
        filling = Prefetch(
            self._fills(fetching, work, held),
            threads=self._threads,
            window=_MOST_READS,
            wake=arena.close,
        )
        gathering = Prefetch(
            self._gathers(work, held, filling), threads=self._threads, window=self._sizes.runs_ahead
        )
        try:
            yield from self._batches(gathering)
        finally:
            # In this order: a thread may be waiting for what was fetched, or for a block.
            ended = [fetching.close(), filling.close(), gathering.close()]
            if all(ended) and arena is not self._whole:  # otherwise a thread may still use it
                held.close()
                self._pool.give_arena(arena)

    def close(self) -> None:
        """Give the memory back."""
        with self._loading:
            self._whole = None
        self._pool.close()
        self._lent.close()

    # --- memory -------------------------------------------------------------------------------

    def _arena(self, work: Work) -> tuple[Arena, int]:
        """Return memory for the rows of an epoch, and how much its blocks may take."""
        offered, cached = self.schedule.offered, self.schedule.cached_rows
        if offered.cached.all():
            with self._loading:
                if self._whole is None:
                    self._whole = self._loaded(Arena(cached, 0, self._layout.row_bytes))
                return self._whole, 0
        reads, per_run = work.plan.reads, self.schedule.batches_of_run
        most_bytes = self.schedule.held_bytes(work)
        # Somewhat more than usual, so that an arena does for all epochs.
        usual = _SPARE * most_bytes / self.schedule.dataset.mean_row_bytes
        rows = min(int(usual), int(offered.totals[~offered.cached].sum()))
        rows = max(rows, reads.peak(reads.rows, work.first, per_run))
        arena = self._pool.take_arena(self, cached, rows, self._layout.row_bytes)
        if cached and not arena.places:
            self._loaded(arena)
        return arena, most_bytes

    def _shared_places(self, work: Work, arena: Arena, stratum: int) -> Numbers:
        """Return where the rows of a stratum that stays in memory lie; empty for ``0 .. n - 1``."""
        places, offered = arena.places[stratum], self.schedule.places(work.remainder, stratum)
        if offered is None:
            return places
        return places[offered] if len(places) else np.flatnonzero(offered).astype(np.uint32)

    def _loaded(self, arena: Arena) -> Arena:
        """Read the rows that stay in memory."""
        dataset, offered = self.schedule.dataset, self.schedule.offered
        strata = [np.empty(0, np.uint8)]
        parts: list[Taken] = []
        for number, counts in enumerate(offered.counts * offered.cached):
            if not counts.any():
                continue
            mine = tuple(np.flatnonzero(counts).tolist())
            ranges = tuple((0, int(counts[stratum])) for stratum in mine)
            part = dataset.part(Read(number, tuple((s, 0) for s in mine), ranges, 0, 0, 0))
            parts.append(part)
            strata += [part.strata] if part.strata is not None else []
        fetching = self._fetching((part, part.block) for part in parts)

        def tasks() -> Iterator[tuple[None, Sequence[Task]]]:
            start = 0
            for part, fetched in fetching:
                rows = arena.rows[start : start + part.rows]
                yield None, self._fill_tasks(dataset, part, [rows], arena.elements, fetched)
                start += part.rows

        filling = Prefetch(tasks(), threads=self._threads, window=4 * self._threads)
        try:
            with progress("Reading into memory", len(parts)) as advance:
                for _ in parts:
                    filling.next()
                    filling.release()
                    advance(1)
        finally:
            fetching.close()
            filling.close()
            self._pool.close()
        every = np.concatenate(strata)
        kinds = range(len(offered.cached))
        arena.places = [np.flatnonzero(every == kind).astype(np.uint32) for kind in kinds]
        return arena

    def _fill_tasks(
        self,
        dataset: Dataset,
        part: Taken,
        rows: Sequence[Rows],
        elements: list[Rows],
        fetched: Storage | None,
    ) -> list[Task]:
        nonfinite = self.schedule.spec.nonfinite
        return fill_tasks(
            dataset, part, rows, elements, self._pool, self._alterations, nonfinite, fetched
        )

    # --- on threads ---------------------------------------------------------------------------

    def _parts(self, work: Work) -> Iterator[tuple[tuple[Read, Taken], Block]]:
        """Yield what is read, block by block."""
        reads, dataset = work.plan.reads, work.remainder.dataset
        for number in np.flatnonzero(reads.last >= work.first).tolist():
            read = reads[number]
            part = dataset.part(read)
            yield (read, part), part.block

    def _fetching(self, parts: Iterable[tuple[Item, Block]]) -> Fetching[Item]:
        """Fetch what lies on servers ahead of its use, beside the memory for decoding."""
        dataset = self.schedule.dataset
        files = {
            number: (file.index, file.projection.columns) for number, file in enumerate(dataset.files)
        }
        most_bytes = self._sizes.window_bytes * FETCHED_SHARE / WINDOW_SHARE
        return Fetching(parts, files, max(map(len, dataset.blocks)), most_bytes)

    def _fills(
        self, fetching: Fetching[tuple[Read, Taken]], work: Work, held: Held
    ) -> Iterator[tuple[HeldBlock, Sequence[Task]]]:
        """Read one block after another, as soon as there is room. It is a thread that waits for it."""
        dataset = work.remainder.dataset
        for (read, part), fetched in fetching:
            try:
                block = HeldBlock(read, held.arena.take(part.rows, read.bytes))
            except ClosedError:
                return
            rows = [held.arena.rows[slice(*some)] for some in block.runs]
            # Its order is ready when it is, so that batches come without delay.
            order = partial(_put_in_order, block, work.plan, part)
            yield block, [order, *self._fill_tasks(dataset, part, rows, block.elements, fetched)]

    def _gathers(
        self, work: Work, held: Held, filling: Prefetch[HeldBlock]
    ) -> Iterator[tuple[_Gathered, Sequence[Task]]]:
        """Wait for the blocks of each run of batches. It is a thread that advances this, and waits."""
        reads, step = work.plan.reads, self.schedule.batches_of_run
        firsts = reads.first[reads.last >= work.first]
        shared = partial(self._shared_places, work, held.arena)
        order = Order(work.plan, held.places, shared, self.schedule.draws)
        entered = 0
        window: list[HeldBlock] = []
        for number, first in enumerate(range(work.first, work.batches, step)):
            stop = min(first + step, work.batches)
            needed = int(np.searchsorted(firsts, stop))
            for _ in range(needed - entered):
                block = filling.next()
                filling.release()
                held.enter(block, (block.read.last - work.first) // step)
                if number == 0:
                    window.append(block)
            entered = needed
            if window:
                self._look_at_labels(work, held, window)
                window.clear()
            wanted = order.rows(first, stop)
            gathered = _Gathered()
            task = partial(
                gathered.gather,
                self._layout,
                self._lent,
                held.arena.rows,
                held,
                wanted,
                work.plan.sizes[first:stop].tolist(),
                self.schedule.spec.batch_size,
                held.end_of(number),
            )
            yield gathered, [task]

    def _look_at_labels(self, work: Work, held: Held, window: Sequence[HeldBlock]) -> None:
        """Judge the order of labels by the blocks of the first batches; once, and by one shard."""
        if self._found is None and work.plan.shuffle and work.plan.shard.number == 0:
            blocks = {block.read.block: max(block.places, key=len) for block in window}
            labels = partial(_labels, self._layout, held.arena.rows)
            self._found = found_in(self.schedule.dataset, blocks, labels, self._sizes.regions)

    def _batches(self, gathering: Prefetch[_Gathered]) -> Generator[Arrays, None, None]:
        while True:
            try:
                gathered = gathering.next()
            except StopIteration:
                return
            self._warn()
            batches = gathered.batches
            del gathered  # what the user drops, nobody else holds
            yield from batches
            gathering.release()

    def _warn(self) -> None:
        """Report what was found, once: altered values, those that are no numbers, labels in an order."""
        if self._found is not None and not self._told_of_labels:
            self._told_of_labels = True
            self._mixing.warn_of_labels(self._found)
        for column, what, count, example in self._alterations.take():
            for text, category in _told(self.schedule.dataset, column, what, count, example):
                warn(text, category)


def _told(
    dataset: Dataset, column: str, what: str, count: int, example: str
) -> Iterator[tuple[str, type[RootfeedWarning]]]:
    """Yield what is to be said of values of a column, and as which warning."""
    layout = dataset.layout
    if what.startswith(CUT):
        yield (
            f"column {column!r} has {count} vectors (so far) that were {what} elements. "
            "Ask for a greater length, or ignore this warning if that is meant.",
            CutVectorWarning,
        )
    elif what == NOT_FINITE:
        if column in layout.weights:
            yield (
                f"{count} (so far) of the weights {column!r} are {what}, such as {example}. Cut them, "
                "or define other weights.",
                WeightWarning,
            )
        if column in layout.features_and_targets:
            yield (
                f"column {column!r} has {count} values (so far) that are {what}, such as {example}. "
                "Cut such entries, or define another column, with isfinite(...) in an expression; "
                'nonfinite="error" refuses them, and "keep" says nothing.',
                NotFiniteWarning,
            )
    else:
        yield (
            f"column {column!r} has {count} values (so far) that {what} cannot represent; "
            f"they were rounded, or became infinite. {_remedy(dataset, column, what)}",
            PrecisionWarning,
        )


def _remedy(dataset: Dataset, column: str, what: str) -> str:
    """Return which dtype holds every value of a column."""
    layout = dataset.layout
    parts = [
        number
        for number, each in enumerate(layout.parts)
        if column in layout.columns_of(number) and str(each.dtype) == what
    ]
    part = min(parts, default=0)
    argument = "target_dtype" if part == layout.inputs else "dtype"
    types = {file.projection.types(file.index)[column].dtype for file in dataset.files} - {None}
    wide = [dtype for dtype in types if dtype is not None and dtype.kind in "iu" and dtype.itemsize == 8]
    if not wide:
        return f"Choose a wider dtype, such as {argument}='float64', or leave the column out."
    exact = ""
    if len(types) == 1 and part <= layout.inputs:
        exact = f"Where all columns of that dtype are integers, {argument}='{wide[0]}' does. "
    return (
        f"Not even {argument}='float64' holds all integers of 64 bits. {exact}"
        f"Define a smaller number from it, such as {written(column)} % 1000, or leave it out."
    )


class _Gathered:
    """Consecutive batches, which are gathered together.

    Attributes
    ----------
    batches : iterator of tuple of ndarray
        Each batch, once: nothing else holds on to it.
    """

    def __init__(self) -> None:
        self.batches: Iterator[Arrays] = iter(())

    def gather(
        self,
        layout: Layout,
        lent: Lent,
        rows: Rows,
        _held: Held,  # the rows' vectors lie in what it holds on to
        wanted: Numbers,
        sizes: Sequence[int],
        batch_size: int,
        done: Callable[[], None],
        _: Event,
    ) -> None:
        """Copy rows into memory that belongs to whoever holds the batches."""
        arrays = gathered(layout, lent.take(), rows, wanted, sizes, batch_size)
        done()
        self.batches = batches(layout, arrays, sizes)


def _labels(layout: Layout, rows: Rows, wanted: Numbers) -> npt.NDArray[np.generic]:
    """Return the targets of rows."""
    number = layout.inputs
    start, size = layout.offsets[number], layout.sizes[number]
    return np.ascontiguousarray(rows[wanted, start : start + size]).view(layout.parts[number].dtype)


def _put_in_order(block: HeldBlock, plan: Epoch, part: Taken, _: Event) -> None:
    block.put_in_order(plan, part)
