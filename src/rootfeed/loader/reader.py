"""How an epoch comes about: chunks are filled on threads, batches gathered in the consumer's thread."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from threading import Event

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.engine import ForkLock, Prefetch, Task
from rootfeed.errors import PrecisionWarning
from rootfeed.loader.fill import Alterations, Dataset, fill, prepare
from rootfeed.loader.options import Options
from rootfeed.loader.pool import Pool, Slot
from rootfeed.plan import Chunk, Sizes, deal
from rootfeed.progress import progress
from rootfeed.schema import Array

__all__ = ["Reader"]

_CHUNKS_IN_MEMORY = 2


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
        self._resident: Slot | None = None
        self._loading = ForkLock()
        self._prepared = False
        self._alterations = Alterations()
        self._warned: set[tuple[str, str]] = set()

    def epoch(self, epoch: int) -> Generator[tuple[Array, ...], None, None]:
        """Yield the parts of each batch, in fresh arrays."""
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

    def _kept(self, epoch: int) -> Generator[tuple[Array, ...], None, None]:
        """Iterate over a dataset that is in memory."""
        slot = self._load()
        chunk = self.chunks(epoch)[0].shuffled(self._options.shuffle)
        order = np.empty(chunk.rows, np.uint32)
        chunk.order(order)
        self._warn()
        yield from self._batches(slot.rows, order)

    def _load(self) -> Slot:
        """Read the whole dataset, unless that was done before."""
        with self._loading:
            if self._resident is not None:
                return self._resident
            self._prepare()
            slot = Slot(int(self.dataset.rows.sum()), 0, self.dataset.layout.row_bytes)
            tasks = self._fill_tasks(self.chunks(0)[0], slot)
            prefetch = Prefetch(
                ((None, [task]) for task in tasks), threads=self._threads, window=4 * self._threads
            )
            try:
                with progress("Reading into memory", len(tasks)) as advance:
                    for _ in tasks:
                        prefetch.next()
                        prefetch.release()
                        advance(1)
            finally:
                prefetch.close()
                self._pool.close()
            self._resident = slot
            return slot

    def _streamed(self, epoch: int) -> Generator[tuple[Array, ...], None, None]:
        """Iterate over a dataset chunk by chunk: while one is consumed, the next is filled."""
        self._prepare()
        chunks = self.chunks(epoch)
        capacity = max(self.sizes.chunk_rows, int(self.dataset.rows.max())) + self._options.batch_size
        slots = self._pool.take_slots(_CHUNKS_IN_MEMORY, capacity, self.dataset.layout.row_bytes)
        prefetch = Prefetch(self._groups(chunks, slots), threads=self._threads, window=_CHUNKS_IN_MEMORY)
        previous: tuple[Chunk, Slot] | None = None
        try:
            for _ in chunks:
                chunk, slot = prefetch.next()
                if previous is not None:
                    last, held = previous
                    carried = held.rows[last.rows : last.rows + last.carried_out]
                    slot.rows[: chunk.carried_in] = carried
                    prefetch.release()
                previous = chunk, slot
                self._warn()
                yield from self._batches(slot.rows, slot.order[: chunk.rows])
        finally:
            if prefetch.close():  # otherwise a thread may still write to them
                self._pool.give_slots(slots)

    def _prepare(self) -> None:
        if not self._prepared:
            prepare(self.dataset)
            self._prepared = True

    def _groups(
        self, chunks: Sequence[Chunk], slots: Sequence[Slot]
    ) -> Iterator[tuple[tuple[Chunk, Slot], Sequence[Task]]]:
        for chunk in chunks:
            slot = slots[chunk.number % len(slots)]

            def make_order(_: Event, chunk: Chunk = chunk, slot: Slot = slot) -> None:
                chunk.order(slot.order[: chunk.rows])

            yield (chunk, slot), [make_order, *self._fill_tasks(chunk, slot)]

    def _fill_tasks(self, chunk: Chunk, slot: Slot) -> list[Task]:
        return [
            partial(
                _fill_block,
                self.dataset,
                int(number),
                slot.rows[start : start + self.dataset.rows[number]],
                self._pool,
                self._alterations,
            )
            for number, start in zip(chunk.blocks, chunk.starts, strict=True)
        ]

    def _batches(
        self, rows: npt.NDArray[np.uint8], order: npt.NDArray[np.uint32]
    ) -> Generator[tuple[Array, ...], None, None]:
        parts = self.dataset.layout.parts
        offsets = np.array(self.dataset.layout.offsets, np.int64)
        size = self._options.batch_size
        for start in range(0, len(order), size):
            wanted = order[start : start + size]
            outs = tuple(np.empty((len(wanted), part.row_bytes), np.uint8) for part in parts)
            kernels.gather(rows, wanted, offsets, outs)
            yield tuple(out.view(part.dtype) for out, part in zip(outs, parts, strict=True))

    def _warn(self) -> None:
        """Report altered values, once for each column."""
        for (column, dtype), count in self._alterations.take().items():
            if (column, dtype) not in self._warned:
                self._warned.add((column, dtype))
                warnings.warn(
                    f"column {column!r} has {count} values (so far) that {dtype} cannot represent; "
                    "they were rounded, or became infinite. Choose a wider dtype, such as "
                    "dtype='float64', or leave the column out.",
                    PrecisionWarning,
                    stacklevel=4,
                )


def _fill_block(
    dataset: Dataset,
    number: int,
    rows: npt.NDArray[np.uint8],
    pool: Pool,
    alterations: Alterations,
    stopped: Event,
) -> None:
    with pool.scratch() as scratch:
        fill(dataset, number, rows, scratch, stopped, alterations)
