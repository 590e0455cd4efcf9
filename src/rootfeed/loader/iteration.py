"""Who may ask for the next batch, and what one epoch leaves to the next.

An iterator is for one process and, at a time, for one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol

from rootfeed import processes
from rootfeed.errors import SharedIteratorError
from rootfeed.formats import Batch
from rootfeed.loader.position import Course, Position
from rootfeed.loader.schedule import Schedule, Work

__all__ = ["Iteration", "Passes", "Reading"]

Arrays = Generator[tuple[Any, ...], None, None]


class Reading(Protocol):
    """Makes the arrays of batches: of rows in files, or on a device."""

    @property
    def schedule(self) -> Schedule:
        """What a shard does in which epoch."""

    def read(self, work: Work) -> Arrays:
        """Yield the arrays of each batch."""


class Iteration:
    """The batches of an epoch, or of a part of it.

    Parameters
    ----------
    batches : generator
        Makes them; what it holds on to is let go when it is closed or dropped.
    """

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self._batches = batches
        self._process = processes.process()

    def __iter__(self) -> Iteration:
        return self

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises
        ------
        ForkedIteratorError
            In another process than the one that has made this iterator.
        SharedIteratorError
            While another thread waits for a batch of it: that one gets it.
        """
        if processes.process() is not self._process:
            # Before any batch: some may have been gathered before the fork.
            raise processes.forked()
        try:
            return next(self._batches)
        except ValueError as error:
            _check_alone(error)
            raise

    def close(self) -> None:
        """Stop the threads, and let go of the memory."""
        try:
            self._batches.close()
        except ValueError as error:
            _check_alone(error)
            raise


def _check_alone(error: ValueError) -> None:
    """Tell Python's own refusal of a generator that is running: no line of it has raised the error."""
    place = error.__traceback__
    if place is not None and place.tb_next is None:
        raise SharedIteratorError(
            "another thread is waiting for a batch of this iterator, which is for one thread at a time. "
            "Make one for each thread, iter(loader): each is an epoch of its own. Or let one thread "
            "ask, and hand its batches on in a queue.Queue."
        ) from None


class Passes:
    """The arrays of a loader's batches, pass after pass over the data.

    Where an epoch ends in the middle of a pass, the next one goes on with what was read ahead.

    Parameters
    ----------
    reader : Reading
    course : Course
    """

    def __init__(self, reader: Reading, course: Course) -> None:
        self._reader = reader
        self._course = course
        self._left: deque[tuple[object, Position, Arrays]] = deque(maxlen=1)

    def begin(self, position: Position) -> Arrays:
        """Return the arrays from a position on: those that an epoch has left there, or new ones."""
        for process, where, arrays in self._taken():
            if process is processes.process() and where == position:
                return arrays
            arrays.close()
        return _endless(self._reader, self._course, position)

    def leave(self, position: Position, arrays: Arrays) -> None:
        """Keep arrays, which go on from a position, for the next epoch."""
        self._left.append((processes.process(), position, arrays))

    def close(self) -> None:
        """Stop the threads of what was left."""
        for _, _, arrays in self._taken():
            arrays.close()

    def _taken(self) -> list[tuple[object, Position, Arrays]]:
        try:
            return [self._left.pop()]  # by one thread
        except IndexError:
            return []


def _endless(reader: Reading, course: Course, position: Position) -> Arrays:
    """Yield the arrays of a shard's batches, pass after pass; of one pass, where each is an epoch."""
    while True:
        before, worker = divmod(position.batches, position.shard.workers)
        shard = replace(position.shard, worker=worker)
        work = reader.schedule.work(position.passes, position.segments, shard, before)
        with closing(reader.read(work)) as arrays:
            yield from arrays
        if course.epoch_batches is None:
            return
        position = course.passed(position, work.batches - before)
