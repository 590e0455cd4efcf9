"""The number of the next epoch, where several processes count."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from multiprocessing import parent_process
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawArray
from typing import Any

from rootfeed.errors import ArgumentError, StateError

__all__ = ["Epochs"]

_MOST_WORKERS = 1024
_MIDDLE = _MOST_WORKERS  # place of the word that tells of a loaded state

_TAGS = 1 << 24


class Epochs:
    """The next epoch of each worker of PyTorch's DataLoader.

    Workers begin anew with every epoch, as copies of the main process, which does not see them iterate:
    what they count lies in memory that all of them share. A loop that is left early may end workers
    before they have begun. So it is not each that counts, but all that iterate together.

    Each worker has a word of its own: its next epoch, and a tag of the iteration in which it began the
    one before. A word is written at once, and by no other worker: there is no lock that could stay
    locked by one that is killed.

    Parameters
    ----------
    first : int
    """

    def __init__(self, first: int) -> None:
        self._words: Any = RawArray("Q", _MOST_WORKERS + 1)
        self._owner = os.getpid()
        self.set(first)

    @property
    def mine(self) -> bool:
        """Whether this process has made it."""
        return os.getpid() == self._owner

    @property
    def latest(self) -> int:
        """The next epoch of the worker that is farthest."""
        return int(max(self._words[:_MOST_WORKERS]) // _TAGS)

    def take(self, worker: int, workers: int, iteration: Sequence[int], epoch: int | None = None) -> int:
        """Return the epoch of an iteration that a worker takes part in, and count on.

        Parameters
        ----------
        worker, workers : int
        iteration : sequence of int
            The same for all workers that iterate together, and for hardly any others.
        epoch : int, optional
            What the worker knows better, from a state of its own.

        Raises
        ------
        ArgumentError
            Where workers of another process count here.
        """
        parent = parent_process()
        if parent is None or parent.pid != self._owner:
            raise ArgumentError(
                "these batches for torch were made in another process than the DataLoader. Call "
                "torch() on the loader in each process that has a DataLoader."
            )
        tag = 1 + _number(iteration) % (_TAGS - 1)
        place = worker % _MOST_WORKERS
        if epoch is None:
            epoch = self._epoch(place, self._words[: min(workers, _MOST_WORKERS)], tag)
        self._words[place] = (epoch + 1) * _TAGS + tag
        return epoch

    @staticmethod
    def _epoch(place: int, words: Sequence[int], tag: int) -> int:
        if words[place] % _TAGS == tag:  # the same iteration again, where torch is seeded in each epoch
            return words[place] // _TAGS
        together = [word // _TAGS - 1 for word in words if word % _TAGS == tag]
        return max(together) if together else max(words) // _TAGS

    def is_next(self, epoch: int) -> bool:
        """Whether no worker has begun this epoch."""
        return all(word // _TAGS == epoch for word in self._words[:_MOST_WORKERS])

    def set(self, epoch: int) -> None:
        """Choose the next epoch of all workers."""
        self._words[:_MOST_WORKERS] = [epoch * _TAGS] * _MOST_WORKERS

    def tell_middle(self, epoch: int | None) -> int:
        """Tell running workers that an epoch goes on where they cannot know, or that none does.

        Returns
        -------
        int
            What those know who do.
        """
        number = (self._words[_MIDDLE] + 1) % _TAGS
        self._words[_MIDDLE] = number if epoch is None else (epoch + 1) * _TAGS + number
        return int(self._words[_MIDDLE])

    def check_middle(self, epoch: int, known: int) -> None:
        """Refuse an epoch that goes on where this process does not know.

        Raises
        ------
        StateError
        """
        told = self._words[_MIDDLE]
        if told != known and told // _TAGS == epoch + 1:
            raise StateError(
                "a state was loaded after this worker had begun, which does not know of it. Make a new "
                "DataLoader where persistent_workers=True, or use torchdata's StatefulDataLoader."
            )

    def __getstate__(self) -> Any:
        # Shared memory can only be given to a process that is being started.
        return (self._words, self._owner) if get_spawning_popen() is not None else self.latest

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, int):
            self.__init__(state)  # type: ignore[misc]  # a copy that shares nothing
        else:
            self._words, self._owner = state


def _number(iteration: Sequence[int]) -> int:
    text = ",".join(map(str, iteration)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
