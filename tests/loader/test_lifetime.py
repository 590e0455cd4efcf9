"""Every way out of an epoch: threads, files and processes end, and nothing is left behind."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from numpy.typing import NDArray

import rootfeed as rf
from processes import interrupt, run
from rootfeed.errors import (
    ChangedFileError,
    DamagedFileError,
    ForkedIteratorError,
    MissingFileError,
)
from rootfeed.frame import view_of

ENTRIES = 8000
PAGE = 500  # entries
BATCH = 100
FORMATS = ("TTree", "RNTuple")
LAZY = {"chunk_entries": 1000, "block_entries": 250}
MODES = {"lazy": LAZY, "in memory": {}}

Arrays = dict[str, NDArray[Any]]


def contents(entries: int = ENTRIES, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "entry": np.arange(entries, dtype=np.int32),
        # LZ4 makes these smaller; a page that is stored as it is has no checksum of uproot's.
        "real": (random.integers(0, 8, entries) / 8).astype(np.float32),
        "wide": random.integers(0, 1000, entries),
        "label": random.integers(0, 2, entries).astype(np.int32),
    }


def write(path: Path, format: str, arrays: Arrays, page: int = PAGE, compression: Any = None) -> Path:
    """Write pages of so many entries, one for each column and call of `extend`."""
    with uproot.recreate(path, compression=compression or uproot.LZ4(1)) as file:
        if format == "TTree":
            target = file.mktree("events", {name: values.dtype for name, values in arrays.items()})
        else:
            target = file.mkrntuple("events", {name: values[:0] for name, values in arrays.items()})
        for start in range(0, len(arrays["entry"]), page):
            target.extend({name: values[start : start + page] for name, values in arrays.items()})
    return path


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    resource_tracker.ensure_running()  # of spawned processes: a pipe that stays open
    folder = tmp_path_factory.mktemp("lifetime")
    return {format: write(folder / f"{format}.root", format, contents()) for format in FORMATS}


@pytest.fixture(params=FORMATS)
def path(request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
    return files[request.param]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> dict[str, int]:
    return MODES[request.param]


def loader_of(path: Path, **arguments: Any) -> rf.Loader:
    arguments = {"batch_size": BATCH, "features": ["entry", "real", "wide"], "seed": 1} | arguments
    return rf.Loader(rf.open(path), **arguments)


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rootfeed")]


def numbers(batches: Any) -> list[int]:
    """Entry numbers of all batches, in their order."""
    return [int(entry) for x in batches for entry in x[:, 0]]


@pytest.fixture(autouse=True)
def _nothing_is_left(files: dict[str, Path]) -> Iterator[None]:
    before = open_files()
    yield
    if threads() or open_files() > before:
        gc.collect()  # what the test itself left in cycles
    assert threads() == []
    assert open_files() <= before


@pytest.mark.thorough
def test_every_kernel_is_there_before_threads_start(files: dict[str, Path]) -> None:
    # Numba compiles, and loads what it compiled, under a lock that a fork must not find taken. Each
    # case is a child of a process that has loaded no kernel yet.
    outcome = run(
        """
        import itertools, os, sys
        import rootfeed as rf
        from rootfeed import kernels
        from rootfeed.loader.fill import prepare

        def known():
            return {name: len(getattr(kernels, name).signatures) for name in kernels.__all__}

        def check(path, mode, split):
            loader = rf.Loader(rf.open(path), 100, seed=1, **mode)
            if split:
                loader, _ = loader.split(0.3)
            prepare(loader._pipeline.schedule.dataset)
            before = known()
            for _ in loader:
                pass
            return sum(before.values()) - sum(at_first.values()) > 3 and known() == before

        at_first = known()
        for case in itertools.product(sys.argv[1:3], eval(sys.argv[3]), (False, True)):
            child = os.fork()
            if child == 0:
                try:
                    os._exit(0 if check(*case) else 1)
                finally:
                    os._exit(2)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), *case)
        """,
        *files.values(),
        list(MODES.values()),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert [line[:2] for line in outcome.lines] == ["0 "] * 8, outcome


# --- ways out in one process ----------------------------------------------------------------------


@pytest.mark.thorough
def test_a_thousand_abandoned_iterators_leave_nothing(files: dict[str, Path]) -> None:
    outcome = run(
        """
        import gc, os, sys, threading
        import rootfeed as rf

        def state():
            return threading.active_count(), len(os.listdir("/dev/fd"))

        def resident():
            return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

        def abandon(count):
            for number in range(count):
                loader = loaders[number % len(loaders)]
                iterator = iter(loader)
                assert len(next(iterator)) == 100
                if number % 3 == 0:
                    iterator.close()

        loaders = [
            rf.Loader(rf.open(path), 100, seed=1, **mode)
            for path in sys.argv[1:]
            for mode in (dict(chunk_entries=1000, block_entries=250), dict())
        ]
        abandon(len(loaders))
        del gc.garbage[:]
        gc.collect()
        before, before_bytes = state(), resident()
        gc.disable()  # dropping is enough
        print("READY")
        abandon(1000)
        print(before, state(), state() == before, resident() - before_bytes < 20)
        """,
        *files.values(),
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith("True True\n"), outcome.out
    assert outcome.seconds < 30  # measured: 2


def test_threads_end_when_the_iterator_is_closed(path: Path) -> None:
    loader = loader_of(path, threads=3, **LAZY)
    iterator: Any = iter(loader)
    next(iterator)
    assert threads()
    iterator.close()
    assert threads() == []
    with pytest.raises(StopIteration):
        next(iterator)


def test_threads_end_at_break(path: Path) -> None:
    for _ in loader_of(path, threads=3, **LAZY):
        assert threads()
        break
    assert threads() == []


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_threads_end_when_the_body_raises(path: Path, mode: dict[str, int]) -> None:
    loader = loader_of(path, threads=3, **mode)

    def use() -> None:
        for number, _ in enumerate(loader):
            assert number < 3, "enough"

    with pytest.raises(AssertionError, match="enough"):
        use()
    gc.collect()  # the traceback held the iterator
    assert threads() == []
    assert sorted(numbers(loader)) == list(range(ENTRIES))


def test_threads_end_with_the_epoch(path: Path) -> None:
    iterator = iter(loader_of(path, threads=3, **LAZY))
    for _ in range(ENTRIES // BATCH):
        next(iterator)
    assert next(iterator, None) is None
    assert threads() == []


def test_an_iterator_that_was_never_advanced_starts_no_thread(path: Path) -> None:
    kept = [iter(loader_of(path, **LAZY)) for _ in range(3)]
    assert threads() == []
    del kept


def test_an_iterator_in_a_cycle_ends_with_it(path: Path) -> None:
    holder: list[Any] = [iter(loader_of(path, threads=3, **LAZY))]
    next(holder[0])
    holder.append(holder)
    del holder
    gc.collect()
    assert threads() == []


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_batches_survive_everything(path: Path, mode: dict[str, int]) -> None:
    loader = loader_of(path, shuffle=False, **mode)
    batches = list(loader)
    copies = [batch.copy() for batch in batches]
    for _ in range(3):
        for batch in loader:
            batch[...] = -1  # a batch belongs to its user
    loader.close()
    for batch, copy in zip(batches, copies, strict=True):
        np.testing.assert_array_equal(batch, copy)
    np.testing.assert_array_equal(np.concatenate(copies)[:, 1], contents()["real"])


# --- several iterators ----------------------------------------------------------------------------


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_iterators_of_one_loader_at_once(path: Path, mode: dict[str, int]) -> None:
    loader = loader_of(path, **mode)
    expected = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        expected.append(numbers(loader))
    loader.set_epoch(0)
    iterators = [iter(loader) for _ in range(3)]
    found: list[list[int]] = [[], [], []]
    for batches in zip(*iterators, strict=True):
        for one, batch in zip(found, batches, strict=True):
            one.extend(numbers([batch]))
    assert found == expected
    assert len({tuple(one) for one in found}) == 3


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_iterators_of_one_loader_in_many_threads(path: Path, mode: dict[str, int]) -> None:
    loader = loader_of(path, threads=2, **mode)
    found: list[list[int]] = []
    failed: list[BaseException] = []
    together = threading.Barrier(6)

    def consume() -> None:
        try:
            together.wait(20)
            found.extend([numbers(loader), numbers(loader)])
        except BaseException as error:
            failed.append(error)

    users = [threading.Thread(target=consume) for _ in range(6)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert failed == []
    assert [sorted(one) for one in found] == [list(range(ENTRIES))] * 12
    assert len({tuple(one) for one in found}) == 12, "two iterators had the same epoch"


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_sides_of_a_split_in_turns_and_interleaved(path: Path, mode: dict[str, int]) -> None:
    train, test = loader_of(path, **mode).split(0.25)
    for _ in range(2):
        in_turns = numbers(train) + numbers(test)
        assert sorted(in_turns) == list(range(ENTRIES))
    sides: tuple[list[int], list[int]] = ([], [])
    for batches in itertools.zip_longest(train, test):
        for side, batch in zip(sides, batches, strict=True):
            side.extend(numbers([batch]) if batch is not None else [])
    assert sorted(sides[0] + sides[1]) == list(range(ENTRIES))
    assert set(sides[1]) == set(numbers(test))


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_a_closed_loader_reads_again(path: Path, mode: dict[str, int]) -> None:
    loader = loader_of(path, **mode)
    first = numbers(loader)
    loader.close()
    loader.close()
    loader.set_epoch(0)
    assert numbers(loader) == first


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_a_loader_is_a_context(path: Path, mode: dict[str, int]) -> None:
    with loader_of(path, **mode) as loader:
        iterator = iter(loader)
        begun = numbers(itertools.islice(iterator, 3))
    # The iterator has memory of its own: closing takes nothing away from it.
    assert sorted(begun + numbers(iterator)) == list(range(ENTRIES))


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_closing_while_other_threads_iterate(path: Path, mode: dict[str, int]) -> None:
    loader = loader_of(path, **mode)
    found: list[list[int]] = []
    users = [threading.Thread(target=lambda: found.append(numbers(loader))) for _ in range(3)]
    for user in users:
        user.start()
    while any(user.is_alive() for user in users):
        loader.close()
        time.sleep(0.001)
    assert [sorted(one) for one in found] == [list(range(ENTRIES))] * 3


# --- damaged and vanished files -------------------------------------------------------------------


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(path, tmp_path / "copy.root"))


def damage(path: Path, column: str, page: int) -> None:
    """Flip bytes in the middle of a page."""
    pages = view_of(rf.open(path)).index([column])[0].columns[column].pages
    assert pages is not None
    with path.open("r+b") as file:
        middle = int(pages.offset[page] + pages.stored_bytes[page] // 2)
        file.seek(middle)
        old = file.read(4)
        file.seek(middle)
        file.write(bytes(255 - byte for byte in old))


@pytest.mark.thorough(but=["TTree-0-1", "TTree-15-4", "RNTuple-9-4", "RNTuple-15-1"])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("page", [0, 9, 15])
def test_a_damaged_page_is_raised_in_its_place(copy: Path, page: int, threads: int) -> None:
    damage(copy, "real", page)
    loader = loader_of(copy, shuffle=False, threads=threads, **LAZY)
    good = PAGE * page  # batches of these entries need no block with an entry of the page
    for _ in range(2):  # a second epoch fails in the same way
        iterator = iter(loader)
        batches = list(itertools.islice(iterator, good // BATCH))
        expected = contents()
        if good:
            np.testing.assert_array_equal(np.concatenate(batches)[:, 1], expected["real"][:good])
        with pytest.raises(DamagedFileError) as caught:
            next(iterator)
        message = str(caught.value)
        assert str(copy) in message
        assert "'real'" in message
        assert f"[{page * PAGE}, {(page + 1) * PAGE})" in message
        del iterator, caught
    with pytest.raises(DamagedFileError):
        list(loader_of(copy))  # in memory
    intact = loader_of(copy, features=["entry", "wide"], **LAZY)
    assert sorted(numbers(intact)) == list(range(ENTRIES))


@pytest.mark.parametrize("threads", [1, 4])
def test_no_shuffled_batch_is_lost_before_a_damaged_page(copy: Path, threads: int) -> None:
    page = 9
    options: dict[str, Any] = {"threads": threads, **LAZY}
    intact = numbers(loader_of(copy, features=["entry", "wide"], **options))
    first = next(place for place, entry in enumerate(intact) if entry // PAGE == page) // BATCH
    damage(copy, "real", page)
    loader = loader_of(copy, **options)
    reads = loader._pipeline.schedule.work(0, (), loader._pipeline.shard()).plan.reads
    damaged = [
        loader._pipeline.schedule.dataset.blocks[block].start // PAGE == page
        for block in reads.blocks.tolist()
    ]
    # A block is there from the first batch of a step on that has a row of it: not more is lost.
    due = int(reads.first[damaged].min())
    assert 0 < due <= first
    found: list[int] = []

    def go_on() -> None:
        for batch in loader:
            found.extend(numbers([batch]))

    with pytest.raises(DamagedFileError, match="'real'"):
        go_on()
    assert found == intact[: due * BATCH]


def test_of_two_damaged_pages_the_first_is_always_named(copy: Path) -> None:
    damage(copy, "wide", 2)
    damage(copy, "real", 3)
    messages = set()
    for _ in range(20):
        loader = loader_of(copy, features=["real", "wide"], shuffle=False, threads=4, chunk_entries=4000)
        with pytest.raises(DamagedFileError) as caught:
            list(loader)
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert "'wide'" in messages.pop()


@pytest.mark.thorough(but=["TTree-lazy", "RNTuple-in memory"])
def test_a_deleted_file_is_named(copy: Path, mode: dict[str, int]) -> None:
    loader = loader_of(copy, **mode)
    copy.unlink()
    with pytest.raises(MissingFileError, match=r"copy\.root does not exist"):
        next(iter(loader))


@pytest.mark.parametrize("change", ["truncated", "empty", "longer", "other"])
def test_a_file_that_changed_is_named(copy: Path, mode: dict[str, int], change: str) -> None:
    loader = loader_of(copy, **mode)
    if change == "other":
        write(copy, "TTree", contents(ENTRIES // 2))
    elif change == "longer":
        with copy.open("ab") as file:
            file.write(b"more")
    else:
        os.truncate(copy, copy.stat().st_size // 2 if change == "truncated" else 0)
    with pytest.raises(ChangedFileError, match=r"copy\.root was changed") as caught:
        next(iter(loader))
    assert isinstance(caught.value, OSError)


def test_a_file_replaced_by_one_of_the_same_size_is_noticed(tmp_path: Path) -> None:
    # Not compressed, and without checksums: every page of the one is a good page of the other.
    file = tmp_path / "same.root"
    write(file, "TTree", contents(seed=0), compression=uproot.ZLIB(0))
    size = file.stat().st_size
    loader = loader_of(file, **LAZY)
    other = tmp_path / "twin.root"
    write(other, "TTree", contents(seed=5), compression=uproot.ZLIB(0))
    assert other.stat().st_size == size
    other.replace(file)
    with pytest.raises(ChangedFileError, match="was changed"):
        next(iter(loader))


def test_a_file_that_vanishes_in_the_middle_of_an_epoch(copy: Path) -> None:
    loader = loader_of(copy, shuffle=False, **LAZY)
    iterator = iter(loader)
    found = numbers(itertools.islice(iterator, 5))
    copy.unlink()

    def go_on() -> None:
        for batch in iterator:
            found.extend(numbers([batch]))

    with pytest.raises(MissingFileError):
        go_on()
    assert 500 <= len(found) < ENTRIES
    assert found == list(range(len(found)))


# --- the end of a process -------------------------------------------------------------------------

USE = """
    import gc, sys, threading, time
    import rootfeed as rf
    from rootfeed.sources import storage

    def slow(seconds):
        read = storage.LocalStorage.read_into
        def read_slowly(self, *arguments):
            time.sleep(seconds)
            read(self, *arguments)
        storage.LocalStorage.read_into = read_slowly

    def make():
        return rf.Loader(rf.open(sys.argv[1]), 100, seed=1, threads=2, **eval(sys.argv[2]))

    loader = make()
"""

INTERRUPTED = {
    "in the body": """
    iterator = iter(loader)
    next(iterator)
    print("READY")
    for batch in iterator:
        time.sleep(60)
    """,
    "in a busy body": """
    next(iter(loader))
    print("READY")
    while True:
        for batch in loader:
            batch.sum()
    """,
    "while slow pages are awaited": """
    next(iter(make()))  # which compiles
    slow(0.2)
    threading.Timer(0.3, print, ["READY"]).start()
    for batch in loader:
        pass
    """,
    "while storage hangs": """
    next(iter(make()))  # which compiles
    slow(60)
    threading.Timer(0.3, print, ["READY"]).start()
    for batch in loader:
        pass
    """,
}


@pytest.mark.thorough(but=["in a busy body-in memory", "while storage hangs-lazy"])
@pytest.mark.parametrize(
    ("where", "mode"),
    [
        ("in the body", "lazy"),
        ("in a busy body", "lazy"),
        ("in a busy body", "in memory"),
        ("while slow pages are awaited", "lazy"),
        ("while storage hangs", "lazy"),
        ("while storage hangs", "in memory"),
    ],
    indirect=["mode"],
)
def test_an_interrupt_ends_the_process(files: dict[str, Path], mode: dict[str, int], where: str) -> None:
    outcome = interrupt(USE + INTERRUPTED[where], files["RNTuple"], mode)
    assert outcome.seconds < 2 * outcome.start_seconds
    assert outcome.code == -signal.SIGINT
    assert outcome.err.startswith("Traceback")
    assert outcome.err.endswith("KeyboardInterrupt\n"), outcome.err
    assert outcome.err.count("Traceback") == 1


@pytest.mark.thorough
def test_an_interrupt_does_not_wait_for_a_page(tmp_path: Path) -> None:
    # One page of 12 MB for each column, packed by LZMA, again and again: such pages are nearly
    # always in work, and the process cannot have ended before the signal arrives.
    count = 3_000_000
    values = np.random.default_rng(0).integers(0, 4, count).astype(np.float32)
    arrays = {"entry": values, "second": values[::-1]}
    file = write(tmp_path / "lzma.root", "TTree", arrays, count, uproot.LZMA(1))
    script = """
    next(iter(make()))  # which compiles
    threading.Timer(0.3, print, ["READY"]).start()
    while True:
        next(iter(make()))
    """
    outcome = interrupt(USE + script, file, {"memory": "1 GB"}, after=0.0)
    assert outcome.seconds < 2 * outcome.start_seconds
    assert outcome.code == -signal.SIGINT
    assert outcome.err.endswith("KeyboardInterrupt\n"), outcome.err


def test_an_interrupt_can_be_survived(files: dict[str, Path]) -> None:
    script = """
    slow(0.01)
    threading.Timer(0.1, print, ["READY"]).start()
    try:
        while True:
            for batch in loader:
                pass
    except KeyboardInterrupt:
        pass
    threads = [thread.name for thread in threading.enumerate() if "rootfeed" in thread.name]
    print(threads, sum(len(batch) for batch in loader))
    """
    outcome = interrupt(USE + script, files["TTree"], LAZY)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.lines[-1] == f"[] {ENTRIES}"


ENDS = {
    "a global iterator": (0, "iterator = iter(loader); next(iterator); print('READY')"),
    "many iterators": (
        0,
        "kept = [iter(loader) for _ in range(20)]; [next(one) for one in kept]; print('READY')",
    ),
    "a cycle": (
        0,
        "cycle = [iter(loader)]; next(cycle[0]); cycle.append(cycle); del cycle; print('READY')",
    ),
    "exit in the loop": (
        3,
        "for _ in loader: print('READY'); sys.exit(3)",
    ),
    "_exit in the loop": (
        4,
        "import os\n    for _ in loader: print('READY'); os._exit(4)",
    ),
    "pages in work": (
        0,
        "next(iter(loader)); slow(0.1); iterator = iter(loader); "
        "threading.Thread(target=next, args=[iterator, None], daemon=True).start(); "
        "time.sleep(0.15); print('READY')",
    ),
    "hanging storage": (
        0,
        "slow(60); "
        "threading.Thread(target=list, args=[loader], daemon=True).start(); "
        "time.sleep(0.15); print('READY')",
    ),
    "a thread that iterates": (
        0,
        "def use():\n        while True: list(loader)\n"
        "    threading.Thread(target=use, daemon=True).start(); time.sleep(0.2); print('READY')",
    ),
}


@pytest.mark.thorough(
    but=["exit in the loop-lazy", "a global iterator-in memory", "hanging storage-lazy"]
)
@pytest.mark.parametrize(
    ("how", "mode"),
    [
        *((how, "lazy") for how in ENDS),
        ("a global iterator", "in memory"),
        ("hanging storage", "in memory"),
    ],
    indirect=["mode"],
)
def test_the_interpreter_ends(files: dict[str, Path], mode: dict[str, int], how: str) -> None:
    code, script = ENDS[how]
    outcome = run(f"{USE}\n    {script}\n", files["TTree"], mode)
    assert (outcome.code, outcome.err) == (code, "")
    assert outcome.lines == []
    assert outcome.seconds < 2 * outcome.start_seconds


# --- other processes ------------------------------------------------------------------------------

FORKS = """
    import os, signal

    def child(work):
        number = os.fork()
        if number == 0:
            signal.alarm(20)  # a child that hangs is killed
            work()
            sys.exit(0)  # with all exit handlers
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])

    def epoch():
        return sorted(int(entry) for x in loader for entry in x[:, 0])

    def check():
        assert epoch() == list(range(8000))
"""


def forked(path: Path, mode: dict[str, int], script: str) -> None:
    features = mode | {"features": ["entry", "real"]}
    outcome = run(f"{USE}{FORKS}\n{script}\n", path, features)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    assert outcome.lines == ["0"] * len(outcome.lines)
    assert outcome.lines


@pytest.mark.thorough(but=["lazy"])
@pytest.mark.parametrize("mode", ["lazy", "in memory"], indirect=True)
def test_a_forked_child_iterates(files: dict[str, Path], mode: dict[str, int]) -> None:
    script = """
    print(child(check))  # made, never used
    iterator = iter(loader)
    next(iterator)
    def refused():
        from rootfeed.errors import ForkedIteratorError
        if not loader.in_memory:  # otherwise the child has a copy of everything it needs
            try:
                list(iterator)
                raise AssertionError("expected an error")
            except ForkedIteratorError:
                pass
        check()
    print(child(refused))  # half used
    def dropped():
        global iterator
        del iterator
        gc.collect()
        check()
    print(child(dropped))
    for batch in iterator:  # the parent's own is as it was
        pass
    check()
    print(child(lambda: print(child(check))))  # a grandchild
    """
    forked(files["RNTuple"], mode, script)


@pytest.mark.thorough
def test_a_fork_while_threads_hold_locks(files: dict[str, Path]) -> None:
    # Threads of the parent take memory from the loader's pool at the moment of the fork.
    script = """
    from rootfeed.loader import memory
    Scratch = memory.Scratch
    def slow_scratch():
        made.set()
        time.sleep(1)
        return Scratch()
    made = threading.Event()
    memory.Scratch = slow_scratch
    iterator = iter(loader)
    user = threading.Thread(target=next, args=[iterator])
    user.start()
    made.wait(20)
    def in_child():
        memory.Scratch = Scratch
        global iterator
        del iterator
        gc.collect()
        check()
    print(child(in_child))
    user.join()
    """
    forked(files["TTree"], LAZY, script)


def test_a_fork_while_another_thread_loads(files: dict[str, Path]) -> None:
    script = """
    check()  # compile: Numba's own lock does not survive a fork
    loader.close()
    slow(0.02)
    user = threading.Thread(target=next, args=[iter(loader)])
    user.start()
    time.sleep(0.1)
    assert user.is_alive()
    print(child(check))
    user.join()
    """
    forked(files["TTree"], {}, script)


@pytest.mark.thorough
def test_a_fork_while_another_thread_reads_the_metadata(files: dict[str, Path]) -> None:
    script = """
    frame = rf.open(sys.argv[1])
    from rootfeed import sources
    index = sources.index
    def slow_index(*arguments):
        begun.set()
        time.sleep(1)
        return index(*arguments)
    begun = threading.Event()
    sources.index = slow_index
    user = threading.Thread(target=lambda: frame.num_entries)
    user.start()
    begun.wait(20)
    def in_child():
        sources.index = index
        assert frame.num_entries == 8000
    print(child(in_child))
    user.join()
    """
    forked(files["TTree"], {}, script)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # it is what is tested
def test_the_forked_error_says_what_to_do(path: Path) -> None:
    iterator = iter(loader_of(path, **LAZY))
    next(iterator)
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            list(iterator)
        except ForkedIteratorError as error:
            os.write(written, str(error).encode())
        finally:
            os._exit(0)
    os.close(written)
    with os.fdopen(read) as pipe:
        message = pipe.read()
    os.waitpid(child, 0)
    assert "Call iter() on the loader in each process" in message


def epoch_in_child(loader: rf.Loader, epochs: int) -> list[list[int]]:
    """Run in a spawned process."""
    return [numbers(loader) for _ in range(epochs)]


@pytest.mark.thorough
def test_a_spawned_process_iterates(files: dict[str, Path]) -> None:
    loaders = [loader_of(path, **mode) for path in files.values() for mode in MODES.values()]
    used = [next(iter(loader)) for loader in loaders]  # half used, then pickled
    assert len(used) == len(loaders)
    loaders += loaders[0].split(0.5)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        there = [pool.submit(epoch_in_child, loader, 2).result(60) for loader in loaders]
    here = [epoch_in_child(pickle.loads(pickle.dumps(loader)), 2) for loader in loaders]
    assert there == here
    assert there == [epoch_in_child(loader, 2) for loader in loaders]
