"""The number of the next epoch, where several processes count."""

from __future__ import annotations

from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import RawArray
from typing import Any

__all__ = ["Epochs"]

_MOST_WORKERS = 1024


class Epochs:
    """The next epoch of each worker of PyTorch's DataLoader.

    Workers begin anew with every epoch, as copies of the main process, which does not see them iterate:
    what they count lies in memory that all of them share.

    Parameters
    ----------
    first : int
    """

    def __init__(self, first: int) -> None:
        self._next: Any = RawArray("q", _MOST_WORKERS)
        self.set(first)

    def take(self, worker: int) -> int:
        """Return a worker's next epoch, and count on."""
        epoch = int(self._next[worker % _MOST_WORKERS])
        self._next[worker % _MOST_WORKERS] = epoch + 1
        return epoch

    def is_next(self, epoch: int) -> bool:
        """Whether no worker has begun this epoch."""
        return all(each == epoch for each in self._next)

    def set(self, epoch: int, worker: int | None = None) -> None:
        """Choose the next epoch of one worker, or of all."""
        if worker is None:
            self._next[:] = [epoch] * _MOST_WORKERS
        else:
            self._next[worker % _MOST_WORKERS] = epoch

    def __getstate__(self) -> Any:
        # Shared memory can only be given to a process that is being started.
        return self._next if get_spawning_popen() is not None else int(max(self._next))

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, int):
            self.__init__(state)  # type: ignore[misc]  # a copy that shares nothing
        else:
            self._next = state
