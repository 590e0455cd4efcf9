"""The ordered prefetch: order, window, errors, and every way out."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rootfeed import engine
from rootfeed.engine import Prefetch, Task
from rootfeed.errors import ForkedIteratorError, RootfeedError
from rootfeed.processes import ForkLock

SOON = 5.0  # seconds: far more than anything here takes, far less than the limit of a test

Groups = Iterator[tuple[Any, Sequence[Task]]]


class BoomError(Exception):
    """What the tests raise."""


class Fatal(BaseException):
    """What the tests raise, and `except Exception` does not catch."""


class Value:
    """Something that can be referred to weakly."""


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    others.update(threading.enumerate())  # what another test has left fails only that one
    yield
    if engine_threads():
        gc.collect()
    assert wait_until(lambda: not engine_threads()), engine_threads()


others: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def engine_threads() -> list[str]:
    mine = set(threading.enumerate()) - set(others)
    return [thread.name for thread in mine if thread.name.startswith("rootfeed")]


def wait_until(condition: Callable[[], bool], seconds: float = SOON) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def nothing(_: threading.Event) -> None:
    """Do nothing: a task."""


def fail(_: threading.Event) -> None:
    raise BoomError("a task failed")


def numbered(count: int, tasks: Sequence[Task] = (nothing,)) -> Groups:
    return ((number, tasks) for number in range(count))


def drain(prefetch: Prefetch[Any]) -> list[Any]:
    """Take and release every group."""
    values = []
    while True:
        try:
            values.append(prefetch.next())
        except StopIteration:
            return values
        prefetch.release()


def run_script(script: str, seconds: float = 30.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=seconds,
    )


# --- order and window -----------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("window", [1, 2, 7])
def test_groups_come_in_order_with_all_tasks_done(threads: int, window: int) -> None:
    done: dict[int, set[int]] = {number: set() for number in range(20)}

    def groups() -> Groups:
        for number in range(20):

            def task(_: threading.Event, number: int, part: int) -> None:
                time.sleep((number * 7 + part * 3) % 4 / 2000)
                done[number].add(part)

            yield (
                number,
                [lambda event, n=number, p=part: task(event, n, p) for part in range(number % 5)],
            )

    prefetch = Prefetch(groups(), threads=threads, window=window)
    for number in range(20):
        assert prefetch.next() == number
        assert done[number] == set(range(number % 5))
        prefetch.release()
    with pytest.raises(StopIteration):
        prefetch.next()
    assert prefetch.close()


@settings(max_examples=60)
@given(
    threads=st.integers(1, 6),
    window=st.integers(1, 5),
    sizes=st.lists(st.integers(0, 6), max_size=12),
    seed=st.integers(0, 1000),
)
def test_any_shape_of_work_is_done_once_within_the_window(
    threads: int, window: int, sizes: list[int], seed: int
) -> None:
    begun = released = 0
    excess: list[int] = []
    ran: list[tuple[int, int]] = []

    def groups() -> Groups:
        nonlocal begun
        for number, size in enumerate(sizes):
            begun += 1
            if begun - released > window:
                excess.append(begun - released)

            def task(_: threading.Event, number: int, part: int) -> None:
                time.sleep(hash((seed, number, part)) % 3 / 5000)
                ran.append((number, part))

            yield (
                number,
                [lambda event, n=number, p=part: task(event, n, p) for part in range(size)],
            )

    prefetch = Prefetch(groups(), threads=threads, window=window)
    for number, size in enumerate(sizes):
        time.sleep(hash((seed, number)) % 3 / 5000)
        assert prefetch.next() == number
        assert {part for group, part in ran if group == number} == set(range(size))
        released += 1
        prefetch.release()
    with pytest.raises(StopIteration):
        prefetch.next()
    assert excess == []
    assert sorted(ran) == [(n, part) for n, size in enumerate(sizes) for part in range(size)]
    assert prefetch.close()


@pytest.mark.parametrize("window", [1, 2, 4])
def test_the_window_fills_and_is_never_exceeded(window: int) -> None:
    begun = 0

    def groups() -> Groups:
        nonlocal begun
        for number in range(30):
            begun += 1
            yield number, [nothing]

    prefetch = Prefetch(groups(), threads=3, window=window)
    assert wait_until(lambda: begun == window)
    time.sleep(0.02)
    assert begun == window  # nothing was taken: nothing more starts
    for _ in range(window):
        prefetch.next()
    time.sleep(0.02)
    assert begun == window  # taken, but not released
    prefetch.release()
    assert wait_until(lambda: begun == window + 1)
    time.sleep(0.02)
    assert begun == window + 1
    prefetch.close()


def test_tasks_of_a_group_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=SOON)
    prefetch = Prefetch(numbered(1, [lambda _: meeting.wait()] * 3), threads=3, window=1)
    assert drain(prefetch) == [0]


def test_the_next_group_is_worked_on_while_one_is_consumed() -> None:
    ran = threading.Event()
    groups: Groups = iter([("first", [nothing]), ("second", [lambda _: ran.set()])])
    prefetch = Prefetch(groups, threads=1, window=2)
    assert prefetch.next() == "first"
    assert ran.wait(SOON)
    prefetch.close()


def test_no_groups() -> None:
    prefetch: Prefetch[int] = Prefetch(iter(()), threads=2, window=2)
    for _ in range(3):
        with pytest.raises(StopIteration):
            prefetch.next()


def test_groups_without_tasks_are_handed_out_too() -> None:
    assert drain(Prefetch(numbered(50, ()), threads=2, window=3)) == list(range(50))


def test_the_threads_end_with_the_groups() -> None:
    prefetch = Prefetch(numbered(3), threads=3, window=4)
    assert wait_until(lambda: not engine_threads())
    assert drain(prefetch) == [0, 1, 2]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow_consumer", [False, True])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("window", [1, 3, 20])
def test_an_error_is_raised_when_its_group_is_due(
    threads: int, window: int, slow_consumer: bool
) -> None:
    def slowly(_: threading.Event) -> None:
        time.sleep(0.005)

    def groups() -> Groups:
        for number in range(10):
            yield number, [fail] if number == 4 else [slowly, slowly]

    prefetch = Prefetch(groups(), threads=threads, window=window)
    for number in range(4):
        if slow_consumer:
            time.sleep(0.02)
        assert prefetch.next() == number
        prefetch.release()
    with pytest.raises(BoomError, match="a task failed"):
        prefetch.next()
    assert engine_threads() == []
    with pytest.raises(RuntimeError, match="was closed"):
        prefetch.next()


@pytest.mark.parametrize("error", [BoomError("x"), Fatal("x"), SystemExit(3), KeyboardInterrupt()])
def test_any_exception_of_a_task_reaches_the_consumer(error: BaseException) -> None:
    def task(_: threading.Event) -> None:
        raise error

    prefetch = Prefetch(numbered(2, [nothing, task, nothing]), threads=2, window=2)
    with pytest.raises(type(error)) as caught:
        prefetch.next()
    assert caught.value is error


def test_of_several_errors_in_a_group_the_first_task_wins() -> None:
    # The second task fails long before the first one does.
    second_failed = threading.Event()

    def first(_: threading.Event) -> None:
        second_failed.wait(SOON)
        time.sleep(0.02)
        raise BoomError("first")

    def second(_: threading.Event) -> None:
        second_failed.set()
        raise BoomError("second")

    prefetch = Prefetch(numbered(1, [nothing, first, second, fail]), threads=2, window=1)
    with pytest.raises(BoomError, match="first"):
        prefetch.next()


def test_after_an_error_no_other_task_of_its_group_starts() -> None:
    ran: list[int] = []
    tasks: list[Task] = [fail, *(lambda _, n=n: ran.append(n) for n in range(50))]
    prefetch = Prefetch(numbered(1, tasks), threads=1, window=1)
    with pytest.raises(BoomError):
        prefetch.next()
    assert ran == []


@pytest.mark.parametrize("error", [BoomError, Fatal])
@pytest.mark.parametrize("good", [0, 1, 5])
def test_an_error_of_the_groups_comes_in_their_place(good: int, error: type[BaseException]) -> None:
    def groups() -> Groups:
        yield from numbered(good, [lambda _: time.sleep(0.003)])
        raise error("no more groups")

    prefetch = Prefetch(groups(), threads=3, window=2)
    for number in range(good):
        assert prefetch.next() == number
        prefetch.release()
    with pytest.raises(error, match="no more groups"):
        prefetch.next()


# --- one as the source of another -----------------------------------------------------------------


def relayed(inner: Prefetch[int], release: bool = True) -> Groups:
    """Make two groups of each one that comes, as a loader makes batches of chunks."""
    while True:
        try:
            number = inner.next()
        except StopIteration:
            return
        yield (number, 0), [nothing]
        yield (number, 1), [nothing]
        if release:
            inner.release()


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_groups_can_come_from_another_prefetch(threads: int) -> None:
    slow: list[Task] = [lambda _: time.sleep(0.002)] * 3
    inner = Prefetch(numbered(20, slow), threads=threads, window=2)
    outer = Prefetch(relayed(inner), threads=threads, window=3)
    assert drain(outer) == [(number, part) for number in range(20) for part in range(2)]
    assert inner.close()
    assert outer.close()


def test_finished_groups_are_handed_out_while_the_next_one_is_waited_for() -> None:
    go = threading.Event()

    def groups() -> Groups:
        yield 0, [nothing]
        assert go.wait(SOON)
        yield 1, [nothing]

    prefetch = Prefetch(groups(), threads=2, window=2)
    assert prefetch.next() == 0
    assert not go.is_set()
    go.set()
    assert prefetch.next() == 1
    assert prefetch.close()


def test_an_error_of_the_source_comes_through() -> None:
    inner = Prefetch(iter([(0, [nothing]), (1, [fail])]), threads=2, window=2)
    outer = Prefetch(relayed(inner), threads=2, window=8)
    assert [outer.next(), outer.next()] == [(0, 0), (0, 1)]
    with pytest.raises(BoomError):
        outer.next()


@pytest.mark.parametrize("released", [True, False])
def test_both_can_be_closed_while_one_waits_for_the_other(released: bool) -> None:
    # Without a release the source is stuck, and a thread of the other waits for it.
    inner = Prefetch(numbered(9, [lambda stopped: stopped.wait(SOON)]), threads=1, window=1)
    outer = Prefetch(relayed(inner, released), threads=2, window=4)
    time.sleep(0.05)
    begun = time.monotonic()
    assert inner.close()
    assert outer.close()
    assert time.monotonic() - begun < SOON / 2
    del inner, outer
    gc.collect()


def test_the_interpreter_exits_while_one_waits_for_the_other() -> None:
    begun = time.monotonic()
    result = run_script("""
        from rootfeed.engine import Prefetch

        inner = Prefetch(
            ((n, [lambda stopped: stopped.wait(60)]) for n in range(9)), threads=1, window=1
        )

        def groups():
            while True:
                yield inner.next(), []

        outer = Prefetch(groups(), threads=2, window=4)
    """)
    assert (result.returncode, result.stderr) == (0, "")
    assert time.monotonic() - begun < 10


# --- errors in the making of groups ---------------------------------------------------------------


def test_something_that_is_no_group_is_an_error() -> None:
    groups: Any = iter([("value", [nothing]), "not a pair"])
    prefetch: Prefetch[str] = Prefetch(groups, threads=1, window=2)
    assert prefetch.next() == "value"
    with pytest.raises(TypeError):
        prefetch.next()


def test_the_traceback_names_the_task() -> None:
    prefetch = Prefetch(numbered(1, [fail]), threads=1, window=1)
    with pytest.raises(BoomError) as caught:
        prefetch.next()
    assert any(entry.name == "fail" for entry in caught.traceback)


def test_threads_that_die_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._State, "_work", lambda self: None)
    prefetch = Prefetch(numbered(3), threads=2, window=2)
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="died"):
        prefetch.next()
    assert time.monotonic() - begun < SOON


@pytest.mark.parametrize("running", [0, 1, 2])
def test_a_thread_that_cannot_start_takes_the_others_down(
    monkeypatch: pytest.MonkeyPatch, running: int
) -> None:
    original, started = threading.Thread.start, []

    def start(thread: threading.Thread) -> None:
        if len(started) == running:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start"):
        Prefetch(numbered(1000), threads=3, window=2)
    assert engine_threads() == []


# --- closing --------------------------------------------------------------------------------------


def test_close_can_be_repeated() -> None:
    prefetch = Prefetch(numbered(100), threads=2, window=2)
    assert prefetch.next() == 0
    for _ in range(3):
        assert prefetch.close()
        assert engine_threads() == []
    with pytest.raises(RuntimeError, match="was closed"):
        prefetch.next()


@pytest.mark.parametrize("consumed", [0, 1, 3])
def test_close_ends_a_running_task_through_its_event(consumed: int) -> None:
    running = threading.Event()

    def patient(stopped: threading.Event) -> None:
        running.set()
        stopped.wait(60)

    def groups() -> Groups:
        yield from numbered(consumed)
        yield "never", [patient, patient]

    prefetch = Prefetch(groups(), threads=2, window=2)
    for number in range(consumed):
        assert prefetch.next() == number
        prefetch.release()
    assert running.wait(SOON)
    begun = time.monotonic()
    assert prefetch.close()
    assert time.monotonic() - begun < 0.5


def test_close_tells_of_a_task_that_does_not_end() -> None:
    release = threading.Event()
    running = threading.Event()

    def deaf(_: threading.Event) -> None:
        running.set()
        release.wait(60)

    prefetch = Prefetch(numbered(1, [deaf, deaf]), threads=2, window=1)
    assert running.wait(SOON)
    begun = time.monotonic()
    assert not prefetch.close()
    assert time.monotonic() - begun < 1.8  # one second for all threads together
    release.set()
    assert wait_until(prefetch.close)


def test_what_was_told_to_stop_is_not_handed_out() -> None:
    done = threading.Event()
    prefetch = Prefetch(iter([(1, [lambda _: done.set()])]), threads=1, window=1)
    assert done.wait(10)
    prefetch._state.threads[0].join(10)
    prefetch._state.stopped.set()  # as in the moment before `close` takes the groups away
    with pytest.raises(RuntimeError, match="closed"):
        prefetch.next()
    prefetch.close()


def test_close_from_another_thread_wakes_the_consumer() -> None:
    prefetch = Prefetch(numbered(1, [lambda stopped: stopped.wait(60)]), threads=1, window=1)
    closing = threading.Timer(0.05, prefetch.close)
    closing.start()
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="was closed"):
        prefetch.next()
    assert time.monotonic() - begun < 0.8  # not only when it looks whether the threads live
    closing.join()


def test_close_in_a_task_does_not_wait_for_itself() -> None:
    closed: list[bool] = []
    prefetch: Prefetch[int]

    def task(_: threading.Event) -> None:
        ready.wait(SOON)
        closed.append(prefetch.close())

    ready = threading.Event()
    prefetch = Prefetch(numbered(5, [task]), threads=2, window=2)
    ready.set()
    with pytest.raises(RuntimeError, match="was closed"):
        prefetch.next()
    assert wait_until(lambda: bool(closed))
    assert not any(closed)
    assert wait_until(prefetch.close)


@pytest.mark.thorough(but=["drop"])
@pytest.mark.parametrize("way", ["close", "drop", "error"])
def test_groups_that_wait_are_woken(way: str) -> None:
    waits, woken = threading.Event(), threading.Event()

    def task(stopped: threading.Event) -> None:
        assert waits.wait(SOON)
        if way == "error":
            fail(stopped)

    def groups() -> Groups:
        yield 0, [task]
        waits.set()
        assert woken.wait(SOON)
        yield 1, [nothing]

    prefetch = Prefetch(groups(), threads=2, window=3, wake=woken.set)
    assert waits.wait(SOON)
    assert not woken.is_set()
    begin = time.monotonic()
    if way == "close":
        assert prefetch.close()
    elif way == "error":
        with pytest.raises(BoomError):
            prefetch.next()
    del prefetch
    gc.collect()
    assert woken.is_set()
    assert time.monotonic() - begin < 3
    assert wait_until(lambda: not engine_threads())


def test_a_dropped_prefetch_ends_its_threads() -> None:
    prefetch = Prefetch(numbered(1000), threads=3, window=2)
    assert prefetch.next() == 0
    assert len(engine_threads()) == 3
    del prefetch
    assert engine_threads() == []


def test_a_prefetch_in_a_cycle_ends_its_threads() -> None:
    prefetch = Prefetch(numbered(1000), threads=3, window=2)
    holder: list[Any] = [prefetch]
    holder.append(holder)
    del prefetch, holder
    gc.collect()
    assert wait_until(lambda: not engine_threads(), 0.5)


@pytest.mark.parametrize("place", ["task", "groups"])
def test_a_prefetch_can_be_collected_in_its_own_thread(place: str) -> None:
    # Where the groups are advanced, the thread holds the lock that all others need to end.
    dropped = threading.Event()
    collected = threading.Event()
    seconds: list[float] = []

    def collect(*_: Any) -> None:
        dropped.wait(SOON)
        begun = time.monotonic()
        gc.collect()
        seconds.append(time.monotonic() - begun)
        collected.set()

    def groups() -> Groups:
        yield 0, [collect if place == "task" else nothing]
        if place == "groups":
            collect()
        yield from numbered(1000)

    gc.collect()
    gc.freeze()  # what other tests have loaded takes long to look through
    gc.disable()
    try:
        holder: list[Any] = [Prefetch(groups(), threads=4, window=3)]
        holder.append(holder)
        alive = weakref.ref(holder[0])
        del holder
        dropped.set()
        assert collected.wait(SOON)
    finally:
        gc.enable()
        gc.unfreeze()
    assert alive() is None
    assert wait_until(lambda: not engine_threads(), 0.5)
    assert max(seconds) < 0.8  # to wait for the threads would take a second


# --- references -----------------------------------------------------------------------------------


def remembered(references: list[weakref.ref[Value]]) -> Value:
    value = Value()
    references.append(weakref.ref(value))
    return value


def valued(references: list[weakref.ref[Value]], count: int, tasks: Sequence[Task] = ()) -> Groups:
    return ((remembered(references), tasks) for _ in range(count))


def test_a_value_dies_with_its_consumer() -> None:
    references: list[weakref.ref[Value]] = []
    prefetch = Prefetch(valued(references, 5, [nothing]), threads=1, window=1)
    gc.disable()
    try:
        for number in range(5):
            prefetch.next()
            assert wait_until(lambda: references[number]() is None, 1.0)  # noqa: B023  # called before the next turn
            prefetch.release()
        with pytest.raises(StopIteration):
            prefetch.next()
    finally:
        gc.enable()


def test_close_lets_go_of_what_waits() -> None:
    references: list[weakref.ref[Value]] = []
    prefetch = Prefetch(valued(references, 10, [nothing]), threads=2, window=4)
    assert wait_until(lambda: len(references) == 4)
    gc.disable()
    try:
        assert prefetch.close()
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


def test_a_task_dies_when_it_is_done() -> None:
    task: Any = Value()
    task_dies = weakref.ref(task)

    def groups(task: Any) -> Groups:
        tasks = [partial(setattr, task, "stopped")]
        del task
        yield 0, tasks
        del tasks
        yield 1, [nothing]

    prefetch = Prefetch(groups(task), threads=1, window=5)
    del task
    assert drain(prefetch) == [0, 1]
    assert wait_until(lambda: task_dies() is None)


def test_a_kept_error_keeps_no_other_group() -> None:
    references: list[weakref.ref[Value]] = []

    def groups() -> Groups:
        yield 0, [fail]
        yield from valued(references, 3)

    prefetch: Any = Prefetch(groups(), threads=1, window=4)
    with pytest.raises(BoomError) as caught:
        prefetch.next()
    del prefetch
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)
    assert caught.value.__traceback__ is not None


def test_an_error_is_freed_without_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        died: list[weakref.ref[BoomError]] = []

        def task(_: threading.Event) -> None:
            error = BoomError("x")
            died.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        prefetch: Any = Prefetch(numbered(1, [task]), threads=1, window=1)
        with contextlib.suppress(BoomError):
            prefetch.next()
        del prefetch
        assert wait_until(lambda: died[0]() is None, 1.0)
    finally:
        gc.enable()


# --- processes ------------------------------------------------------------------------------------

FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")


@FORK
def test_a_forked_iterator_is_refused_and_the_child_exits() -> None:
    # The child runs its exit handlers, and collects the iterator: neither may wait for a lock that a
    # thread of the parent held at the fork, or for threads that do not exist.
    result = run_script("""
        import gc, os, sys, threading
        from rootfeed.engine import Prefetch
        from rootfeed.errors import ForkedIteratorError

        prefetch = Prefetch(((n, [lambda _: None]) for n in range(100)), threads=2, window=2)
        assert prefetch.next() == 0
        held, done = threading.Event(), threading.Event()

        def hold():
            with prefetch._state.lock:
                held.set()
                done.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        child = os.fork()
        if child == 0:
            try:
                prefetch.next()
            except ForkedIteratorError as error:
                print(error)
            assert not prefetch.close()
            own = Prefetch(((n, [lambda _: None]) for n in range(3)), threads=2, window=2)
            print([own.next() for _ in range(2)])
            cycle = [prefetch]
            cycle.append(cycle)
            del prefetch, cycle, hold
            gc.collect()
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        done.set()
        holder.join()
        prefetch.release()
        print("child", os.waitstatus_to_exitcode(status), "parent", prefetch.next())
    """)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert "forked process" in lines[0]
    assert "iter()" in lines[0]
    assert lines[1:] == ["[0, 1]", "child 7 parent 1"]


def test_the_forked_error_is_of_both_trees() -> None:
    assert issubclass(ForkedIteratorError, RootfeedError)
    assert issubclass(ForkedIteratorError, RuntimeError)


@pytest.mark.thorough(
    but=[
        "keep = prefetch-lambda stopped: stopped.wait(60)",
        "raise SystemExit(0)-lambda stopped: stopped.wait(60)",
    ]
)
@pytest.mark.parametrize(
    ("keep", "task"),
    [
        ("keep = prefetch", "lambda stopped: stopped.wait(60)"),
        ("keep = prefetch", "lambda stopped: None"),
        ("cycle = [prefetches]; cycle.append(cycle)", "lambda stopped: None"),
        ("sys.modules['keep'] = prefetch", "lambda stopped: stopped.wait(60)"),
        ("raise SystemExit(0)", "lambda stopped: stopped.wait(60)"),
    ],
)
def test_the_interpreter_exits_with_live_iterators(keep: str, task: str) -> None:
    result = run_script(f"""
        import sys, threading, time
        from rootfeed.engine import Prefetch

        prefetches = [
            Prefetch(((n, [{task}]) for n in range(10**9)), threads=2, window=2)
            for _ in range(3)
        ]
        prefetch = prefetches[0]
        time.sleep(0.02)
        {keep}
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.thorough
def test_exit_waits_a_second_for_all_deaf_tasks_together() -> None:
    result = run_script("""
        import time
        from rootfeed.engine import Prefetch

        def deaf(stopped):
            time.sleep(60)

        kept = [Prefetch(iter([(0, [deaf] * 3)]), threads=3, window=1) for _ in range(5)]
        time.sleep(0.05)
        print(time.monotonic())
    """)
    ended = time.monotonic()
    assert (result.returncode, result.stderr) == (0, "")
    assert ended - float(result.stdout) < 3.5  # and not a second for each


@pytest.mark.thorough
def test_a_daemon_that_waits_at_exit_has_no_last_words() -> None:
    result = run_script("""
        import threading, time
        from rootfeed.engine import Prefetch

        prefetch = Prefetch(iter([(0, [lambda stopped: stopped.wait(60)])]), threads=1, window=1)
        threading.Thread(target=prefetch.next, daemon=True).start()
        time.sleep(0.1)
    """)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_lock_excludes_other_threads_but_not_its_own() -> None:
    lock, entered = ForkLock(), threading.Event()

    def enter() -> None:
        with lock:
            entered.set()

    with lock:
        with lock:
            other = threading.Thread(target=enter)
            other.start()
        assert not entered.wait(0.05)
    assert entered.wait(SOON)
    other.join()


@FORK
def test_a_lock_is_free_in_a_forked_child() -> None:
    result = run_script("""
        import os, signal, sys, threading
        from rootfeed.processes import ForkLock

        lock, held, done = ForkLock(), threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                done.wait(20)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            with lock:
                sys.exit(0)
        _, status = os.waitpid(child, 0)
        acquired = lock._lock.acquire(blocking=False)
        done.set()
        holder.join()
        print(os.waitstatus_to_exitcode(status), acquired)
    """)
    assert (result.stdout, result.stderr) == ("0 False\n", "")
