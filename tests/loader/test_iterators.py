"""An iterator is for one thread at a time of one process, and says so."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rootfeed as rf
from chosen import in_turns
from rootfeed.errors import ForkedIteratorError, SharedIteratorError
from samples import File, in_a_row

FILES = in_a_row(File(900, page=50), File(300, page=30, format="RNTuple"))
ENTRIES = 1200
BATCH = 10
SIZES: dict[str, dict[str, int]] = {"kept": {}, "lazy": {"chunk_entries": 200, "block_entries": 20}}
SAMPLINGS: dict[str, Any] = {
    "each once": None,
    "balanced": rf.balanced("label"),
    "longest": rf.balanced("label", {0: 3, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1}, epoch="longest"),
    "drawn": rf.balanced("label", replacement=True),
}
RECEIVED = (0, 1, 2, 50)  # batches
USES: dict[str, Callable[[rf.Loader], Any]] = {
    "numpy": lambda loader: loader,
    "torch": lambda loader: pytest.importorskip("torch") and loader.torch(),
}


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    return SIZES[request.param]


@pytest.fixture(params=SAMPLINGS)
def sampling(request: pytest.FixtureRequest) -> Any:
    return SAMPLINGS[request.param]


@pytest.fixture(params=USES)
def use(request: pytest.FixtureRequest) -> Callable[[rf.Loader], Any]:
    return USES[request.param]


@pytest.fixture
def _many_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    return rf.Loader(
        frame, **{"batch_size": BATCH, "features": ["id"], "seed": 5, "threads": 2} | options
    )


def ids(batch: Any) -> tuple[int, ...]:
    return tuple(int(number) for number in batch[:, 0])


# --- threads --------------------------------------------------------------------------------------


@pytest.mark.thorough(but=in_turns(SIZES, SAMPLINGS, USES))
@pytest.mark.usefixtures("_many_switches")
def test_one_iterator_in_four_threads(
    frame: rf.Frame, sizes: dict[str, int], sampling: Any, use: Any
) -> None:
    expected = [ids(batch) for batch in make(frame, sampling=sampling, **sizes)]
    batches = use(make(frame, sampling=sampling, **sizes))
    iterator = iter(batches)
    found: list[tuple[int, ...]] = []
    refused: list[BaseException] = []
    together = threading.Barrier(4)

    def consume() -> None:
        together.wait(20)
        while True:
            try:
                found.append(ids(next(iterator)))
            except StopIteration:
                return
            except BaseException as error:
                refused.append(error)
                time.sleep(0.0002)  # the others need the interpreter, too

    users = [threading.Thread(target=consume) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert not any(user.is_alive() for user in users)
    assert {type(error) for error in refused} <= {SharedIteratorError}
    assert sorted(found) == sorted(expected)  # none is lost, none comes twice
    assert len(list(batches)) == len(expected)


def test_the_error_says_what_to_do(frame: rf.Frame, sizes: dict[str, int], use: Any) -> None:
    loader = make(frame, **sizes)
    reading, going = threading.Event(), threading.Event()
    read = loader._pipeline.reader.read

    def slow(run: Any) -> Any:
        reading.set()
        going.wait(20)
        yield from read(run)

    loader._pipeline.reader.read = slow  # type: ignore[method-assign]
    iterator = iter(use(loader))
    found: list[Any] = []
    user = threading.Thread(target=lambda: found.append(next(iterator)))
    user.start()
    assert reading.wait(20)
    for call in (lambda: next(iterator), iterator.close):
        with pytest.raises(SharedIteratorError) as caught:
            call()
        assert "Make one for each thread, iter(loader)" in str(caught.value)
        assert caught.value.__cause__ is None
    going.set()
    user.join(20)
    every = [ids(batch) for batch in [*found, *iterator]]
    assert sorted(number for batch in every for number in batch) == list(range(ENTRIES))
    iterator.close()
    assert list(iterator) == []


def test_an_error_of_values_stays_what_it_is(frame: rf.Frame) -> None:
    loader = make(frame.define("z", "float(id) / 0.0"), features=["z"], nonfinite="error")
    with pytest.raises(rf.errors.NotFiniteError):  # which is a ValueError, too
        next(iter(loader))


@pytest.mark.thorough(but=["kept-torch", "lazy-numpy"])
@pytest.mark.usefixtures("_many_switches")
def test_an_iterator_for_each_thread_is_an_epoch_for_each(
    frame: rf.Frame, sizes: dict[str, int], use: Any
) -> None:
    batches = use(make(frame, **sizes))
    found: list[list[tuple[int, ...]]] = []
    together = threading.Barrier(8)

    def consume() -> None:
        together.wait(20)
        found.append([ids(batch) for batch in batches])

    users = [threading.Thread(target=consume) for _ in range(8)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    loader = make(frame, **sizes)
    assert sorted(found) == sorted([ids(batch) for batch in loader] for _ in range(8))


# --- forks ----------------------------------------------------------------------------------------


def in_child(work: Callable[[], str]) -> str:
    """Return what a forked child says."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(written, work().encode())
        finally:
            os._exit(0)
    os.close(written)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.thorough(but=in_turns(SIZES, SAMPLINGS, USES, RECEIVED))
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what is tested
@pytest.mark.parametrize("received", RECEIVED)
def test_a_forked_child_gets_no_batch(
    frame: rf.Frame, sizes: dict[str, int], sampling: Any, use: Any, received: int
) -> None:
    loader = make(frame, sampling=sampling, **sizes)
    iterator = iter(use(loader))
    for _ in range(received):
        next(iterator)

    def go_on() -> str:
        given = 0
        try:
            for _ in iterator:
                given += 1
        except ForkedIteratorError as error:
            if not given:
                iterator.close()
                return str(error)
        return f"{given} batches"

    said = in_child(go_on)
    assert "Call iter() on the loader in each process" in said, said
    rest = len(list(iterator))
    assert received + rest == len(loader)  # the parent's own is as it was
