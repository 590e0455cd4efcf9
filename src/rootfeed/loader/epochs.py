"""The number of the next epoch, where several processes count."""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import current_process, parent_process
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, StateError

__all__ = ["Epochs"]

_ITERATIONS = 64
"""Iterations that are remembered: more than begin while the workers of one of them begin."""

_NEXT, _BEGUN, _MIDDLE, _HELD = range(4)  # places of single words; behind them, lines of iterations
_SEED, _FAMILY, _EPOCH = range(3)  # places in a line
_LINE, _HEAD = 4, 8

_TAGS = 1 << 24

Words = npt.NDArray[np.int64]


class Epochs:
    """The next epoch, in memory that the main process shares with the workers of PyTorch's DataLoaders.

    Workers begin anew with every epoch, as copies of the main process, which does not see them iterate.
    A loop that is left early may end some before they have begun, and several iterations may begin at
    the same time. So the first worker of an iteration takes an epoch for all of them, and the others
    find it by what they have in common: their seed and number, and that their processes were started
    one after another, or nearly.

    They take turns by a lock on the file behind the memory: the kernel gives it back for a process that
    is killed.

    Parameters
    ----------
    first : int
    """

    def __init__(self, first: int) -> None:
        shared = Path("/dev/shm")
        try:
            self._make(shared if shared.is_dir() else None)
        except OSError:  # it is full, for example
            self._make(None)
        self._words[_NEXT] = first

    def _make(self, folder: Path | None) -> None:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes((_HEAD + _ITERATIONS * _LINE) * 8))
            self._open(os.dup(file.fileno()), os.getpid())

    def _open(self, fd: int, owner: int) -> None:
        weakref.finalize(self, os.close, fd)
        self._fd, self._owner = fd, owner
        words: Words = np.frombuffer(mmap.mmap(fd, 0), np.int64)
        self._words, self._lines = words[:_HEAD], words[_HEAD:].reshape(_ITERATIONS, _LINE)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from counting."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    @property
    def mine(self) -> bool:
        """Whether this process has made it."""
        return os.getpid() == self._owner

    @property
    def latest(self) -> int:
        """The next epoch."""
        return int(self._words[_NEXT])

    def set(self, epoch: int) -> None:
        """Choose the next epoch."""
        with self.alone():
            self._words[[_NEXT, _HELD]] = epoch, False

    def hold(self, epoch: int) -> bool:
        """Give every iteration that begins this epoch, until it is let go.

        Returns
        -------
        bool
            Whether the last iteration that has begun has this epoch, or none has begun.
        """
        with self.alone():
            self._words[[_NEXT, _HELD]] = epoch, True
            begun = self._words[_BEGUN]
            return not begun or bool(self._lines[(begun - 1) % _ITERATIONS, _EPOCH] == epoch)

    def let_go(self) -> None:
        """Count on from the epoch that is held, if one is."""
        with self.alone():
            if self._words[_HELD]:
                self._words[_NEXT] += 1
                self._words[_HELD] = False

    def take(self, worker: int, workers: int, iteration: Sequence[int], epoch: int | None = None) -> int:
        """Return the epoch of an iteration that a worker takes part in, and count on.

        Parameters
        ----------
        worker, workers : int
        iteration : sequence of int
            Numbers that workers have in common who iterate together, and with hardly any others.
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
        family, seed = _process_number() - worker, _number((workers, *iteration))
        with self.alone():
            # Threads may have started the processes of several iterations in turn.
            apart = np.abs(self._lines[:, _FAMILY] - family)
            found = np.flatnonzero((self._lines[:, _SEED] == seed) & (apart < workers))
            if len(found):
                line = self._lines[found[apart[found].argmin()]]
            else:
                line = self._lines[self._words[_BEGUN] % _ITERATIONS]
                line[_SEED], line[_EPOCH] = seed, self._words[_NEXT]
                self._words[_BEGUN] += 1
                self._words[_NEXT] += not self._words[_HELD]
            line[_FAMILY] = family
            if epoch is None:
                epoch = int(line[_EPOCH])
            elif epoch != line[_EPOCH]:
                line[_EPOCH], self._words[_NEXT], self._words[_HELD] = epoch, epoch + 1, False
        return epoch

    def tell_middle(self, epoch: int | None) -> int:
        """Tell running workers that an epoch goes on where they cannot know, or that none does.

        Returns
        -------
        int
            What those know who do.
        """
        number = (int(self._words[_MIDDLE]) + 1) % _TAGS
        self._words[_MIDDLE] = number if epoch is None else (epoch + 1) * _TAGS + number
        return int(self._words[_MIDDLE])

    def check_middle(self, epoch: int, known: int) -> None:
        """Refuse an epoch that goes on where this process does not know.

        Raises
        ------
        StateError
        """
        told = int(self._words[_MIDDLE])
        if told != known and told // _TAGS == epoch + 1:
            raise StateError(
                "a state was loaded after this worker had begun, which does not know of it. Make a new "
                "DataLoader where persistent_workers=True, or use torchdata's StatefulDataLoader."
            )

    def __copy__(self) -> Epochs:
        # Shared memory can only be given to a process that is being started.
        return self if get_spawning_popen() is not None else Epochs(self.latest)

    def __getstate__(self) -> Any:
        if get_spawning_popen() is None:
            return self.latest
        return (DupFd(self._fd), self._owner)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, int):
            self.__init__(state)  # type: ignore[misc]  # a copy that shares nothing
        else:
            self._open(state[0].detach(), state[1])


def _number(iteration: Sequence[int]) -> int:
    text = ",".join(map(str, iteration)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _process_number() -> int:
    """Return which of its parent's processes this is, as its name says."""
    number = current_process().name.rpartition("-")[2].rpartition(":")[2]
    return int(number) if number.isdecimal() else 0
