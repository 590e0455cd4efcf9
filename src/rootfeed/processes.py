"""Forks: what they wait for, locks that stay usable in a child, and what belongs to one process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from rootfeed.errors import ForkedIteratorError

__all__ = ["ForkLock", "forked", "process", "unforked"]


class ForkLock:
    """A lock that is free in a forked child, whoever held it in the parent.

    It is reentrant: a garbage collection may end an iterator anywhere, also in a thread that holds it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.RLock()


@contextmanager
def unforked() -> Iterator[None]:
    """Let other threads fork when this one is through.

    For imports: what a thread was importing meanwhile, a child could never import. So nothing is
    compiled here, nor waited for.
    """
    with _unforked:
        yield


def process() -> object:
    """Return something that is another thing in each process; it costs less than to ask for a number."""
    return _process


def forked() -> ForkedIteratorError:
    """Return the error of an iterator that crossed a fork."""
    return ForkedIteratorError(
        "an iterator cannot be used in a forked process, where its threads do not exist. "
        "Call iter() on the loader in each process."
    )


_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_process = object()
_unforked = threading.RLock()


def _begin_child() -> None:
    """In a forked child, which has none of the threads: what they held would be held forever."""
    global _process, _unforked
    _process = object()
    _unforked = threading.RLock()
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _unforked.acquire(),
        after_in_parent=lambda: _unforked.release(),
        after_in_child=_begin_child,
    )
