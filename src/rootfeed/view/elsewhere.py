"""Work for the processes of an executor: what is sent to them, and what becomes of their failures."""

from __future__ import annotations

import pickle
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from functools import lru_cache
from typing import Any, TypeVar

from rootfeed.errors import ExecutorError, RootfeedError

__all__ = ["each"]

Shared = TypeVar("Shared")
Job = TypeVar("Job")
Result = TypeVar("Result")

_MOST_WAITING = 256
"""Tasks that an executor has at a time: what they return waits here until its turn comes."""

_SAME_THERE = (
    "Its processes must have the versions of Python, NumPy and rootfeed that this one has, and be able "
    "to import the modules of the frame's functions."
)


class _Sent:
    """A value on its way to another process.

    Executors write what they run into their logs, and it may hold secrets: it shows nothing of itself,
    and its bytes are compressed.
    """

    def __init__(self, packed: bytes) -> None:
        self.packed = packed

    def __repr__(self) -> str:
        return f"<{len(self.packed)} bytes>"


def each(
    executor: Executor, function: Callable[[Shared, Job], Result], shared: Shared, jobs: Iterable[Job]
) -> Generator[Result, None, None]:
    """Yield what a function makes of each job in processes of an executor, in the order of the jobs.

    When this ends in any way, no task is left that has not begun.

    Parameters
    ----------
    executor : Executor
    function : function of (shared, job)
        Of a module.
    shared : object
        The same for all jobs; each process makes it once of what is sent.
    jobs : iterable
        Taken as far as 256 tasks go.

    Raises
    ------
    ExecutorError
        Where the executor does not run a task: its process has died, or cannot make what was sent.
    Exception
        What the function raises there.
    """
    sent = _packed((function, shared))
    waiting: deque[Future[tuple[str, Any]]] = deque()
    following = iter(jobs)
    try:
        while True:
            while len(waiting) < _MOST_WAITING and (job := next(following, None)) is not None:
                waiting.append(_submitted(executor, sent, _packed(job)))
            if not waiting:
                return
            yield _result(executor, waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


def _submitted(executor: Executor, shared: _Sent, job: _Sent) -> Future[tuple[str, Any]]:
    try:
        return executor.submit(_run, shared, job)
    except Exception as error:
        raise ExecutorError(
            f"the executor ({_called(executor)}) takes no tasks: {_told(error)}. Open the files "
            "with one that runs."
        ) from error


def _result(executor: Executor, future: Future[tuple[str, Any]]) -> Any:
    try:
        how, found = future.result()
    except Exception as error:
        # The function's own errors are returned: this is one of the executor's.
        raise ExecutorError(
            f"the executor ({_called(executor)}) could not run a task: {_told(error)}. Where a process "
            f"was killed, it may have had too little memory. {_SAME_THERE}"
        ) from error
    if how == "unmade":
        raise ExecutorError(
            f"a process of the executor ({_called(executor)}) cannot make what was sent to it: "
            f"{found}. {_SAME_THERE}"
        )
    if how == "error":
        raise found
    return found


def _run(shared: _Sent, job: _Sent) -> tuple[str, Any]:
    """Run a job in another process; return what comes of it, errors too, which executors would log."""
    try:
        function, known = _unpacked_once(shared.packed)
        mine = _unpacked(job.packed)
    except RootfeedError as error:
        return "error", error
    except Exception as error:
        return "unmade", _told(error)
    try:
        return "found", function(known, mine)
    except Exception as error:
        return "error", _sendable(error)


def _packed(value: Any) -> _Sent:
    return _Sent(zlib.compress(pickle.dumps(value, pickle.HIGHEST_PROTOCOL), 1))


def _unpacked(packed: bytes) -> Any:
    return pickle.loads(zlib.decompress(packed))


_unpacked_once = lru_cache(4)(_unpacked)


def _sendable(error: Exception) -> Exception:
    """Return an error that another process can raise: with what led to it, if that is not ours."""
    if error.__cause__ is not None or not isinstance(error, RootfeedError):
        error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(_told(error))


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())[:300].rstrip(" .:")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _called(executor: Executor) -> str:
    return type(executor).__name__
