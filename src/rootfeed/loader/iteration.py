"""Who may ask for the next batch: the process and, at a time, the one thread that an iterator is for."""

from __future__ import annotations

from collections.abc import Generator

from rootfeed import engine
from rootfeed.errors import SharedIteratorError
from rootfeed.formats import Batch

__all__ = ["Iteration"]


class Iteration:
    """The batches of an epoch, or of a part of it.

    Parameters
    ----------
    batches : generator
        Makes them; what it holds on to is let go when it is closed or dropped.
    """

    def __init__(self, batches: Generator[Batch, None, None]) -> None:
        self._batches = batches
        self._process = engine.process()

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
        if engine.process() is not self._process:
            # Before any batch: some may have been gathered before the fork.
            raise engine.forked()
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
