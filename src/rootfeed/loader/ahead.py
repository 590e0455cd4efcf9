"""Batches for frameworks that ask for some before they use them, or only to look at them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

from rootfeed.formats import Format
from rootfeed.loader.iteration import Iteration
from rootfeed.loader.pipeline import Pipeline
from rootfeed.loader.position import Handed, Received

__all__ = ["Ahead"]


class Ahead:
    """As many batches as an epoch has, from where the iteration is.

    That is an epoch. Where a loaded state is in the middle of one, it is the rest of it, and then the
    first batches of the next one: a framework asks for the number of batches once, gets as many each
    time, and loses none.

    Parameters
    ----------
    pipeline : Pipeline
    format : Format
        That makes none ahead itself.

    Attributes
    ----------
    complete : bool
        Whether all were handed out.
    """

    def __init__(self, pipeline: Pipeline, format: Format) -> None:
        self.complete = False
        self._pipeline = pipeline
        self._handed = Handed(pipeline.state.next, pipeline.state.chosen)
        self._batches = self._made(format)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Return the next batch."""
        return next(self._batches)

    def close(self, *, used: bool = True) -> None:
        """Stop the threads. If nobody used the batches, what begins next begins where this has."""
        self._batches.close()
        if not used:
            self._pipeline.state.take_back(self._handed)
        elif self.complete:
            self._handed.open = False

    def _made(self, format: Format) -> Generator[Any, None, None]:
        pipeline, state, handed = self._pipeline, self._pipeline.state, self._handed
        left = pipeline.num_batches
        while left:
            received = state.take(pipeline.shard(), pipeline.course)
            handed.iterations.append((handed.batches, received))
            with closing(pipeline.iteration(format, received)) as batches:
                for batch in batches:
                    state.last = handed
                    left -= 1
                    if left == 0:
                        self._end(batches, received)
                    yield batch
                    if left == 0:
                        break
        handed.open = False

    def _end(self, batches: Iteration, received: Received) -> None:
        """Let the next epoch, or the rest of this one, come next; before the last batch is used."""
        state, course = self._pipeline.state, self._pipeline.course
        self.complete = True
        position = received.now(course)
        if position == course.after(received.position):
            next(batches, None)  # there is none: now it knows
        else:
            state.next = position
