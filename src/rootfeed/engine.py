"""Ordered prefetch on threads: groups of tasks run ahead of their consumer, at most `window` of them.

The engine knows only callables. A group is handed out when all its tasks are done, in order; an error
is raised when its group is due, that of the group's first failing task. Every way out (exhaustion,
`close`, a dropped iterator, an exception on either side, interpreter exit) stops the threads: tasks
are given the event that says so.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from rootfeed.processes import forked

__all__ = ["Prefetch", "Task"]

Value = TypeVar("Value")

Task = Callable[[threading.Event], object]
"""Work for a thread; it returns early when the event is set."""

_LIVENESS_SECONDS = 1.0
_JOIN_SECONDS = 1.0


def _nothing() -> None:
    """Do nothing."""


class _Group(Generic[Value]):
    """Tasks that are handed out together."""

    def __init__(self, value: Value, tasks: Sequence[Task]) -> None:
        self.value = value
        self.waiting = deque(enumerate(tasks))
        self.unfinished = len(tasks)
        self.error: BaseException | None = None
        self.failed = len(tasks)

    def fail(self, number: int, error: BaseException) -> None:
        """Keep the error of the first task that fails: all before it were begun, and will end."""
        if number < self.failed:
            self.failed, self.error = number, error
        self.unfinished -= len(self.waiting)
        self.waiting.clear()


class _Worker(threading.Thread):
    """A thread of the engine."""

    def __init__(self, work: Callable[[], None], number: int) -> None:
        super().__init__(target=work, name=f"rootfeed-{number}", daemon=True)


class _State(Generic[Value]):
    """What the threads share. They never refer to the `Prefetch`, so that dropping it ends them."""

    def __init__(
        self,
        groups: Iterator[tuple[Value, Sequence[Task]]],
        threads: int,
        window: int,
        wake: Callable[[], None],
    ) -> None:
        self.groups = groups
        self.window = window
        self.wake = wake
        # Waking a thread that finds nothing to do costs more than a small task: each waits for its own.
        self.lock = threading.RLock()
        self.due = threading.Condition(self.lock)
        self.work = threading.Condition(self.lock)
        self.stopped = threading.Event()
        self.started: deque[_Group[Value]] = deque()
        self.held = 0
        self.starting = False
        self.exhausted = False
        self.threads = [_Worker(self._work, number) for number in range(threads)]

    def _work(self) -> None:
        while (claimed := self._claim()) is not None:
            group, number, task = claimed
            error: BaseException | None = None
            try:
                task(self.stopped)
            except BaseException as caught:
                error = caught
            with self.lock:
                group.unfinished -= 1
                if error is not None:
                    group.fail(number, error)
                    self.exhausted = True
                    self.work.notify_all()
                if group.unfinished == 0:
                    self.due.notify_all()
            del claimed, group, task, error

    def _claim(self) -> tuple[_Group[Value], int, Task] | None:
        """Wait for a task; None when there is nothing more to do."""
        while True:
            with self.lock:
                while True:
                    if self.stopped.is_set():
                        return None
                    group = next((group for group in self.started if group.waiting), None)
                    if group is not None:
                        return group, *group.waiting.popleft()
                    if self.exhausted:
                        return None
                    if not self.starting and self._has_room():
                        self.starting = True
                        groups = self.groups
                        break
                    self.work.wait()
            self._start_group(groups)
            del groups

    def _start_group(self, groups: Iterator[tuple[Value, Sequence[Task]]]) -> None:
        """Ask for the next group, which may take its time, and nobody else is held up meanwhile."""
        group: _Group[Value] | None = None
        try:
            group = _Group(*next(groups))
        except StopIteration:
            pass
        except BaseException as error:
            group = _Group[Value](None, [])  # type: ignore[arg-type]  # raised, not handed out
            group.error = error
        with self.lock:
            self.starting = False
            if group is None or group.error is not None:
                self.exhausted = True
                self.work.notify_all()
            if group is not None and not self.stopped.is_set():
                self.started.append(group)
                # This thread takes one of the tasks; of the others, one may start the next group.
                self.work.notify(max(group.unfinished - 1, 0) + self._has_room())
            if group is None or group.unfinished == 0:
                self.due.notify_all()
        del group  # an error refers to this frame, and the group to the error

    def _has_room(self) -> bool:
        return self.held + len(self.started) < self.window

    def stop(self) -> None:
        """Tell the threads to end, and let go of what waits for them."""
        self.stopped.set()
        self.wake()
        with self.lock:
            self.started.clear()
            self.groups = iter(())
            self.work.notify_all()
            self.due.notify_all()

    def join(self, deadline: float) -> bool:
        """Wait for the threads, until then; return whether all have ended."""
        if threading.current_thread() in self.threads:
            return False  # a garbage collection in this thread, which may hold what the others want
        for thread in self.threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self.threads)


class Prefetch(Generic[Value]):
    """Run groups of tasks ahead, on threads, and hand the groups out in order.

    Parameters
    ----------
    groups : iterator of (value, tasks)
        Advanced by the threads, one group at a time, when there is room in the window.
    threads : int
    window : int
        Groups that may be in work, or handed out and not yet released, together.
    wake : function, optional
        Called when the threads are stopped: ends what the iterator of groups may wait for.

    Notes
    -----
    Use `next` from one thread at a time; one may be the source of another's groups. The threads are
    daemons which are stopped at exit before the interpreter is torn down, so that a forgotten iterator
    can neither hang nor crash the end of a program.
    """

    def __init__(
        self,
        groups: Iterator[tuple[Value, Sequence[Task]]],
        *,
        threads: int,
        window: int,
        wake: Callable[[], None] = _nothing,
    ) -> None:
        self._process = os.getpid()
        self._state = _State(groups, threads, window, wake)
        _live.add(self._state)
        self._end = weakref.finalize(self, _end, self._state, self._process)
        self._end.atexit = False
        try:
            for thread in self._state.threads:
                thread.start()
        except BaseException:
            self.close()
            raise

    def next(self) -> Value:
        """Wait for the next group, and return its value.

        Raises
        ------
        StopIteration
            After the last group.
        BaseException
            What a task of this group raised, or the iterator of groups in its place.
        RuntimeError
            After `close`, which an error implies.
        ForkedIteratorError
            In a forked process.
        """
        if os.getpid() != self._process:
            raise forked()
        state = self._state
        with state.lock:
            # Once they are told to stop, tasks may leave undone what they should have done.
            while state.stopped.is_set() or not (state.started and state.started[0].unfinished == 0):
                if state.stopped.is_set():
                    if _exiting.is_set() and _is_a_daemon_of_others():
                        state.due.wait()  # the interpreter ends this thread: no last words
                        continue
                    raise RuntimeError("this iterator was closed. Call iter() on the loader again.")
                if state.exhausted and not state.started:
                    raise StopIteration
                if not any(thread.is_alive() for thread in state.threads):
                    raise RuntimeError("the loader's threads died without a word.")
                state.due.wait(_LIVENESS_SECONDS)
            group = state.started.popleft()
            if group.error is None:
                state.held += 1
                return group.value
        self.close()
        try:
            raise group.error
        finally:
            del group  # an error refers to frames, and these to the error

    def release(self) -> None:
        """Tell that a group is used up: another one may start in its place."""
        with self._state.lock:
            self._state.held -= 1
            self._state.work.notify()

    def close(self) -> bool:
        """Stop the threads and wait for them, for a second at most. Safe to repeat.

        Returns
        -------
        bool
            Whether all have ended, so that nobody writes any more to what the tasks refer to. Not
            where a task takes its time, nor in a forked process.
        """
        self._end.detach()  # an interrupt in a finalizer would be swallowed
        return _end(self._state, self._process)


def _is_a_daemon_of_others() -> bool:
    thread = threading.current_thread()
    return thread.daemon and not isinstance(thread, _Worker)


_live: weakref.WeakSet[_State[Any]] = weakref.WeakSet()
_exiting = threading.Event()


def _end(state: _State[Value], process: int) -> bool:
    if os.getpid() != process:
        return False
    state.stop()
    _live.discard(state)  # whatever does not end in time now is not waited for again at exit
    return state.join(time.monotonic() + _JOIN_SECONDS)


def _end_all() -> None:
    _exiting.set()
    states = list(_live)
    for state in states:
        state.stop()
    deadline = time.monotonic() + _JOIN_SECONDS
    for state in states:
        state.join(deadline)


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_live.clear)  # a forked child has none of these threads
