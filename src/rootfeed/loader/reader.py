"""How an epoch comes about: chunks are filled and batches gathered on threads, ahead of the consumer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Event, Lock

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.engine import ForkLock, Prefetch, Task
from rootfeed.errors import (
    CutVectorWarning,
    NotFiniteWarning,
    PrecisionWarning,
    RootfeedWarning,
    WeightWarning,
    warn,
)
from rootfeed.expression import written
from rootfeed.loader.batches import batches
from rootfeed.loader.casting import CUT, NOT_FINITE, Alterations
from rootfeed.loader.dataset import Dataset, Taken
from rootfeed.loader.fill import fill_tasks, prepare
from rootfeed.loader.options import Options
from rootfeed.loader.pool import CHUNKS_IN_MEMORY, Lent, Pool, Slot
from rootfeed.loader.schedule import Run, Schedule
from rootfeed.plan import Chunk, Piece
from rootfeed.progress import progress
from rootfeed.schema import Array, Layout

__all__ = ["Reader"]

_LINE_BYTES = 64

Arrays = tuple[Array, ...]
Rows = npt.NDArray[np.uint8]
Order = npt.NDArray[np.uint32]


class Reader:
    """Iterates over the epochs of a dataset, and owns the memory for it.

    Parameters
    ----------
    schedule : Schedule
    options : Options
    threads : int
        That decode at the same time.
    """

    def __init__(self, schedule: Schedule, options: Options, threads: int) -> None:
        self.schedule = schedule
        self._sizes = schedule.sizes
        self._layout = schedule.dataset.layout
        self._options = options
        self._threads = threads
        self._pool = Pool()
        self._lent = Lent(_run_places(self._layout, self._sizes.run_rows)[-1], self._sizes.runs_ahead)
        self._resident: _Resident | None = None
        self._places: list[Order] | None = None
        self._loading = ForkLock()
        self._prepared = False
        self._alterations = Alterations()

    def read(self, run: Run) -> Generator[Arrays, None, None]:
        """Yield the parts of each batch, in arrays that belong to the caller."""
        return self._kept(run) if self._sizes.whole else self._streamed(run)

    def close(self) -> None:
        """Give the memory back."""
        with self._loading:
            self._resident = None
        self._pool.close()
        self._lent.close()

    def _kept(self, run: Run) -> Generator[Arrays, None, None]:
        """Iterate over a dataset that is in memory."""
        kept = self._load()
        orders = self.schedule.orders(run, kept.places, self._sizes.run_rows)
        gathering = self._prefetch(self._gathers(orders, kept.rows, _nothing))
        try:
            yield from self._batches(gathering)
        finally:
            gathering.close()

    def _load(self) -> _Resident:
        """Read the whole dataset, unless that was done before."""
        with self._loading:
            if self._resident is None:
                self._prepare()
                rows = np.empty((self.schedule.kept_rows, self._layout.row_bytes), np.uint8)
                self._resident = _Resident(rows, self._fill_kept(rows))
            return self._resident

    def _fill_kept(self, rows: Rows) -> list[Order] | None:
        """Read the rows that stay in memory; return where those of each stratum lie."""
        dataset = self.schedule.dataset
        strata = [np.empty(0, np.uint8)]
        tasks: list[Task] = []
        start = 0
        for piece in self._kept_pieces():
            part = dataset.part(piece)
            tasks += self._fill_tasks(dataset, part, rows[start : start + part.rows])
            strata += [part.strata] if part.strata is not None else []
            start += part.rows
        filling = Prefetch(
            ((None, [task]) for task in tasks), threads=self._threads, window=4 * self._threads
        )
        try:
            with progress("Reading into memory", len(tasks)) as advance:
                for _ in tasks:
                    filling.next()
                    filling.release()
                    advance(1)
        finally:
            filling.close()
            self._pool.close()
        if dataset.strata is None:
            return None
        every = np.concatenate(strata)
        kinds = range(len(dataset.strata.values))
        return [np.flatnonzero(every == kind).astype(np.uint32) for kind in kinds]

    def _kept_pieces(self) -> Iterator[Piece]:
        """Yield the rows that stay in memory, in the order of the dataset."""
        kept = self.schedule.kept
        for number, counts in enumerate(self.schedule.dataset.counts * kept):
            if counts.any():
                yield Piece(number, 0, np.stack([np.zeros_like(counts), counts], 1))

    def _streamed(self, run: Run) -> Generator[Arrays, None, None]:
        """Iterate over a dataset chunk by chunk: while one makes batches, the next is filled."""
        if not run.chunks:
            return
        self._prepare()
        usual = min(self._sizes.chunk_rows, self.schedule.dataset.rows) + self._options.batch_size
        kept = self.schedule.kept_rows
        slots = self._pool.take_slots(
            kept,
            max(usual if not kept else 0, *(chunk.memory_rows - kept for chunk in run.chunks)),
            max(usual, *(chunk.rows for chunk in run.chunks)),
            self._layout.row_bytes,
        )
        if kept and not slots.filled:
            self._places = self._fill_kept(slots.kept)
            slots.filled = True
        filling = Prefetch(self._fills(run, slots.slots), threads=self._threads, window=CHUNKS_IN_MEMORY)
        gathering = self._prefetch(self._gathers_of(filling, run))
        try:
            yield from self._batches(gathering)
        finally:
            # In this order: a thread that gathers may be waiting for a chunk.
            ended = [filling.close(), gathering.close()]
            if all(ended):  # otherwise a thread may still use them
                self._pool.give_slots(slots)

    def _prepare(self) -> None:
        if not self._prepared:
            prepare(self.schedule.dataset)
            self._prepared = True

    def _fills(
        self, run: Run, slots: Sequence[Slot]
    ) -> Iterator[tuple[tuple[Chunk, Slot], Sequence[Task]]]:
        dataset = self.schedule.dataset
        for chunk in run.chunks:
            slot = slots[chunk.number % len(slots)]
            pieces = (*chunk.refill, *chunk.pieces)
            parts = [run.stage.part(piece) for piece in pieces]
            # Its order is ready when it is, so that batches come without delay.
            tasks: list[Task] = [partial(self._make_order, run, chunk, slot, parts)]
            for piece, part in zip(pieces, parts, strict=True):
                start = piece.start + slot.shift
                tasks += self._fill_tasks(dataset, part, slot.rows[start : start + part.rows])
            yield (chunk, slot), tasks

    def _make_order(
        self,
        run: Run,
        chunk: Chunk,
        slot: Slot,
        parts: Sequence[Taken],
        _: Event,
    ) -> None:
        strata = np.empty(0, np.uint8)
        if self.schedule.dataset.strata is not None:
            carried = np.repeat(np.arange(len(chunk.carried_in), dtype=np.uint8), chunk.carried_in)
            read = [part.strata for part in parts[len(chunk.refill) :] if part.strata is not None]
            strata = np.concatenate([carried, *read])
        order, places = slot.order[: chunk.rows], self._places or ()
        slot.carried = self.schedule.make_order(run, chunk, strata, places, order)
        if slot.shift:
            np.add(order, np.uint32(slot.shift), out=order, where=order >= chunk.kept)

    def _fill_tasks(self, dataset: Dataset, part: Taken, rows: Rows) -> list[Task]:
        nonfinite = self._options.nonfinite
        return fill_tasks(dataset, part, rows, self._pool, self._alterations, nonfinite)

    def _prefetch(self, gathers: Iterator[tuple[_Run, Sequence[Task]]]) -> Prefetch[_Run]:
        return Prefetch(gathers, threads=self._threads, window=self._sizes.runs_ahead)

    def _gathers_of(
        self, filling: Prefetch[tuple[Chunk, Slot]], run: Run
    ) -> Iterator[tuple[_Run, Sequence[Task]]]:
        """Wait for each chunk and divide it into runs. It is a thread that advances this, and waits."""
        last: tuple[Slot, _Lease] | None = None
        run_rows, skipped = self._sizes.run_rows, run.skipped * self._options.batch_size
        for _ in run.chunks:
            chunk, slot = filling.next()
            order = slot.order[skipped : chunk.rows]
            skipped = 0
            lease = _Lease(filling.release, -(-len(order) // run_rows) + 1)
            if last is not None:
                held, its_lease = last
                held.carry(slot.rows[chunk.kept + slot.shift :])
                its_lease.end()
            last = slot, lease
            orders = (order[start : start + run_rows] for start in range(0, len(order), run_rows))
            yield from self._gathers(orders, slot.rows, lease.end)

    def _gathers(
        self, orders: Iterator[Order], rows: Rows, done: Callable[[], None]
    ) -> Iterator[tuple[_Run, Sequence[Task]]]:
        for wanted in orders:
            run = _Run()
            yield (
                run,
                [
                    partial(
                        run.gather,
                        self._layout,
                        self._lent,
                        rows,
                        wanted,
                        self._options.batch_size,
                        done,
                    )
                ],
            )

    def _batches(self, gathering: Prefetch[_Run]) -> Generator[Arrays, None, None]:
        while True:
            try:
                run = gathering.next()
            except StopIteration:
                return
            self._warn()
            batches = run.batches
            del run  # what the user drops, nobody else holds
            yield from batches
            gathering.release()

    def _warn(self) -> None:
        """Report altered values, and those that are no numbers, once for each column."""
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
    uses = [
        number
        for number, part in enumerate(layout.parts)
        if column in layout.columns_of(number) and str(part.dtype) == what
    ]
    use = min(uses, default=0)
    argument = "target_dtype" if use == layout.inputs else "dtype"
    types = {file.wanted.types(file.index)[column].dtype for file in dataset.files} - {None}
    wide = [dtype for dtype in types if dtype is not None and dtype.kind in "iu" and dtype.itemsize == 8]
    if not wide:
        return f"Choose a wider dtype, such as {argument}='float64', or leave the column out."
    exact = ""
    if len(types) == 1 and use <= layout.inputs:
        exact = f"Where all columns of that dtype are integers, {argument}='{wide[0]}' does. "
    return (
        f"Not even {argument}='float64' holds all integers of 64 bits. {exact}"
        f"Define a smaller number from it, such as {written(column)} % 1000, or leave it out."
    )


@dataclass(frozen=True, eq=False)
class _Resident:
    """Rows that stay in memory.

    Attributes
    ----------
    rows : ndarray of uint8, shape (rows, row_bytes)
    places : list of ndarray of uint32 or None
        Where the rows of each stratum lie; None where there is one.
    """

    rows: Rows
    places: list[Order] | None


class _Run:
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
        wanted: Order,
        batch_size: int,
        done: Callable[[], None],
        _: Event,
    ) -> None:
        """Copy rows into memory that belongs to whoever holds the batches."""
        memory, count = lent.take(), len(wanted)
        outs = tuple(
            memory[start : start + count * size].reshape(count, size)
            for start, size in zip(_run_places(layout, count), layout.sizes, strict=False)
        )
        kernels.gather(rows, wanted, np.array(layout.offsets, np.int64), outs)
        done()
        self.batches = batches(layout, outs, batch_size)


def _run_places(layout: Layout, rows: int) -> list[int]:
    """Return where each part of a run starts in its memory, and where the last one ends."""
    places = [0]
    for size in layout.sizes:
        places.append(-(-(places[-1] + rows * size) // _LINE_BYTES) * _LINE_BYTES)
    return places


class _Lease:
    """A chunk's memory, until the last of its users has ended."""

    def __init__(self, release: Callable[[], None], users: int) -> None:
        self._release = release
        self._users = users
        self._lock = Lock()

    def end(self) -> None:
        """Tell that one of the users has ended."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._release()


def _nothing() -> None:
    """Do nothing."""
