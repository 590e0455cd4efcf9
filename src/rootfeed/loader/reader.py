"""How an epoch comes about: chunks are filled and batches gathered on threads, ahead of the consumer."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from threading import Event, Lock

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.engine import ForkLock, Prefetch, Task, uninterrupted
from rootfeed.errors import CutVectorWarning, PrecisionWarning
from rootfeed.loader.batches import batches
from rootfeed.loader.casting import CUT, Alterations
from rootfeed.loader.dataset import Dataset
from rootfeed.loader.fill import fill_tasks, prepare
from rootfeed.loader.options import Options
from rootfeed.loader.pool import Lent, Pool, Slot
from rootfeed.plan import Chunk, Sizes, deal
from rootfeed.progress import progress
from rootfeed.schema import Array, Layout

__all__ = ["Reader"]

_CHUNKS_IN_MEMORY = 2
_LINE_BYTES = 64

Arrays = tuple[Array, ...]
Rows = npt.NDArray[np.uint8]
Order = npt.NDArray[np.uint32]


class Reader:
    """Iterates over the epochs of a dataset, and owns the memory for it.

    Parameters
    ----------
    dataset : Dataset
    sizes : Sizes
    options : Options
    threads : int
        That decode at the same time.
    """

    def __init__(self, dataset: Dataset, sizes: Sizes, options: Options, threads: int) -> None:
        self.dataset = dataset
        self.sizes = sizes
        self._options = options
        self._threads = threads
        self._pool = Pool()
        self._lent = Lent(_run_places(dataset.layout, sizes.run_rows)[-1], sizes.runs_ahead)
        self._resident: Rows | None = None
        self._loading = ForkLock()
        self._prepared = False
        self._alterations = Alterations()
        self._warned: set[tuple[str, str]] = set()

    def epoch(self, epoch: int) -> Generator[Arrays, None, None]:
        """Yield the parts of each batch, in arrays that belong to the caller."""
        return self._kept(epoch) if self.sizes.whole else self._streamed(epoch)

    def chunks(self, epoch: int) -> list[Chunk]:
        """Return the plan of an epoch."""
        return deal(
            self.dataset.rows,
            self.sizes.chunk_rows,
            self._options.batch_size,
            self._options.drop_last,
            # The blocks of a dataset that is kept stay where they are.
            self._options.shuffle and not self.sizes.whole,
            self._options.seed,
            epoch,
        )

    def close(self) -> None:
        """Give the memory back."""
        with self._loading:
            self._resident = None
        self._pool.close()
        self._lent.close()

    def _kept(self, epoch: int) -> Generator[Arrays, None, None]:
        """Iterate over a dataset that is in memory."""
        rows = self._load()
        chunk = self.chunks(epoch)[0].shuffled(self._options.shuffle)
        order = np.empty(chunk.rows, np.uint32)
        orders = chunk.order(self.sizes.run_rows, order)
        gathering = self._prefetch(self._gathers(orders, rows, _nothing))
        try:
            yield from self._batches(gathering)
        finally:
            gathering.close()

    def _load(self) -> Rows:
        """Read the whole dataset, unless that was done before."""
        with self._loading:
            if self._resident is not None:
                return self._resident
            self._prepare()
            rows = np.empty((int(self.dataset.rows.sum()), self.dataset.layout.row_bytes), np.uint8)
            tasks = self._fill_tasks(self.chunks(0)[0], rows)
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
            self._resident = rows
            return rows

    def _streamed(self, epoch: int) -> Generator[Arrays, None, None]:
        """Iterate over a dataset chunk by chunk: while one makes batches, the next is filled."""
        self._prepare()
        chunks = self.chunks(epoch)
        capacity = max(self.sizes.chunk_rows, int(self.dataset.rows.max())) + self._options.batch_size
        slots = self._pool.take_slots(_CHUNKS_IN_MEMORY, capacity, self.dataset.layout.row_bytes)
        filling = Prefetch(self._fills(chunks, slots), threads=self._threads, window=_CHUNKS_IN_MEMORY)
        gathering = self._prefetch(self._gathers_of(filling, len(chunks)))
        try:
            yield from self._batches(gathering)
        finally:
            # In this order: a thread that gathers may be waiting for a chunk.
            ended = [filling.close(), gathering.close()]
            if all(ended):  # otherwise a thread may still use them
                self._pool.give_slots(slots)

    def _prepare(self) -> None:
        if not self._prepared:
            with uninterrupted():
                prepare(self.dataset)
            self._prepared = True

    def _fills(
        self, chunks: Sequence[Chunk], slots: Sequence[Slot]
    ) -> Iterator[tuple[tuple[Chunk, Slot], Sequence[Task]]]:
        for chunk in chunks:
            slot = slots[chunk.number % len(slots)]
            # Its order is ready when it is, so that batches come without delay.
            make_order = partial(_make_order, chunk, slot.order)
            yield (chunk, slot), [make_order, *self._fill_tasks(chunk, slot.rows)]

    def _fill_tasks(self, chunk: Chunk, rows: Rows) -> list[Task]:
        return [
            task
            for number, start in zip(chunk.blocks.tolist(), chunk.starts.tolist(), strict=True)
            for task in fill_tasks(
                self.dataset,
                number,
                rows[start : start + self.dataset.rows[number]],
                self._pool,
                self._alterations,
            )
        ]

    def _prefetch(self, gathers: Iterator[tuple[_Run, Sequence[Task]]]) -> Prefetch[_Run]:
        return Prefetch(gathers, threads=self._threads, window=self.sizes.runs_ahead)

    def _gathers_of(
        self, filling: Prefetch[tuple[Chunk, Slot]], chunks: int
    ) -> Iterator[tuple[_Run, Sequence[Task]]]:
        """Wait for each chunk and divide it into runs. It is a thread that advances this, and waits."""
        last: tuple[Chunk, Slot, _Lease] | None = None
        for _ in range(chunks):
            chunk, slot = filling.next()
            lease = _Lease(filling.release, -(-chunk.rows // self.sizes.run_rows) + 1)
            if last is not None:
                before, held, its_lease = last
                carried = held.rows[before.rows : before.rows + before.carried_out]
                slot.rows[: chunk.carried_in] = carried
                its_lease.end()
            last = chunk, slot, lease
            starts = range(0, chunk.rows, self.sizes.run_rows)
            order = slot.order[: chunk.rows]
            orders = (order[start : start + self.sizes.run_rows] for start in starts)
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
                        self.dataset.layout,
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
        """Report altered values, once for each column."""
        for (column, what), count in self._alterations.take().items():
            if (column, what) in self._warned:
                continue
            self._warned.add((column, what))
            if what.startswith(CUT):
                warnings.warn(
                    f"column {column!r} has {count} vectors (so far) that were {what} elements. "
                    "Ask for a greater length, or ignore this warning if that is meant.",
                    CutVectorWarning,
                    stacklevel=5,
                )
                continue
            warnings.warn(
                f"column {column!r} has {count} values (so far) that {what} cannot represent; "
                "they were rounded, or became infinite. Choose a wider dtype, such as "
                "dtype='float64', or leave the column out.",
                PrecisionWarning,
                stacklevel=5,
            )


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


def _make_order(chunk: Chunk, out: Order, _: Event) -> None:
    for _part in chunk.order(max(chunk.rows, 1), out):
        pass


def _nothing() -> None:
    """Do nothing."""
