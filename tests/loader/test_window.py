"""Blocks that come and go: what is read again, what ends at once, and what memory holds meanwhile."""

from __future__ import annotations

import gc
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.dataset.dataset import scratch_page_bytes
from rootfeed.errors import ArgumentError, NotFiniteError
from rootfeed.loader import memory as memory_module
from rootfeed.loader import reader
from rootfeed.loader.memory import Arena, Held, HeldBlock, Pool
from samples import open_events

pytestmark = pytest.mark.filterwarnings(
    "ignore::rootfeed.errors.CutVectorWarning", "ignore::rootfeed.errors.MixingWarning"
)

FILES, ENTRIES = 4, 2000
EACH = ENTRIES // FILES


class Jets:
    """Jets of three classes, in files of both formats; some have many particles, some none."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(1)
        # In the last file, vectors are ten times as long.
        lengths = random.integers(0, 9, ENTRIES) * np.where(np.arange(ENTRIES) < 3 * EACH, 1, 10)
        total = int(lengths.sum())
        self.starts = np.append(0, lengths.cumsum())
        self.pt = random.permutation(total).astype(np.float32)
        self.k = random.integers(-9, 9, total).astype(np.int32)
        self.label = np.where(np.arange(ENTRIES) % 11 == 0, 2, np.arange(ENTRIES) // 999).astype(
            np.int32
        )
        self.paths = []
        for number in range(FILES):
            some = slice(number * EACH, (number + 1) * EACH)
            columns = {
                "id": np.arange(ENTRIES)[some],
                "label": self.label[some],
                "bad": np.where(np.arange(ENTRIES) == 1234, np.nan, 0.0)[some],
                "pt": ak.unflatten(self.pt, lengths)[some],
                "k": ak.unflatten(self.k, lengths)[some],
            }
            self.paths.append(str(folder / f"{'abcd'[number]}.root"))
            with uproot.recreate(self.paths[-1]) as file:
                if number % 2:
                    file.mkrntuple("events", {name: values[:0] for name, values in columns.items()})
                else:
                    types = {"id": "i8", "label": "i4", "bad": "f8"}
                    types |= {"pt": "var * float32", "k": "var * int32"}
                    file.mktree("events", types)
                for start in range(0, EACH, 90):
                    file["events"].extend(
                        {name: values[start : start + 90] for name, values in columns.items()}
                    )

    def particles(self, id_: int) -> tuple[np.ndarray, np.ndarray]:
        some = slice(self.starts[id_], self.starts[id_ + 1])
        return self.pt[some], self.k[some]


@pytest.fixture(scope="module")
def jets(folder: Path) -> Jets:
    return Jets(folder)


@pytest.fixture(scope="module")
def frame(jets: Jets) -> rf.Frame:
    return open_events(jets.paths)


LENGTH = 12
FEATURES: dict[str, Any] = {
    "scalar": ["id"],
    "sorted": rf.padded(["pt", "k"], LENGTH, value=-1, sort_by="pt"),
    "cut": rf.padded(["k"], 3),
    "ragged": rf.ragged(["k", "pt"]),
}


def make(frame: rf.Frame, **changes: Any) -> rf.Loader:
    chosen: dict[str, Any] = {
        "batch_size": 16,
        "features": FEATURES,
        "target": "label",
        "seed": 4,
        "threads": 2,
        "dtype": "float64",
        "chunk_entries": 200,
        "block_entries": 15,
    }
    return rf.Loader(frame, **(chosen | changes))


def check(jets: Jets, batch: Any) -> list[int]:
    """Compare a batch to what was written; return its entries."""
    x, y = batch
    ids: list[int] = x["scalar"][:, 0].astype(int).tolist()
    for row, id_ in enumerate(ids):
        pt, k = jets.particles(id_)
        both, order = np.stack([pt, k], 1), np.argsort(-pt)
        real = both[order][:LENGTH]
        assert np.array_equal(x["sorted"][row][: len(real)], real)
        assert (x["sorted"][row][len(real) :] == -1).all()
        assert x["sorted_mask"][row].sum() == len(real)
        assert np.array_equal(x["cut"][row][: min(len(k), 3), 0], k[:3])
        assert not x["cut"][row][len(k) :].any()
        start, stop = x["ragged_offsets"][row : row + 2]
        assert np.array_equal(x["ragged"][start:stop], both[:, ::-1])
        assert y[row, 0] == jets.label[id_]
    return ids


def same(one: Sequence[Any], two: Sequence[Any]) -> bool:
    def arrays(batch: Any) -> list[Any]:
        return [*batch[0].values(), *batch[1:]]

    return len(one) == len(two) and all(
        a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for first, second in zip(one, two, strict=True)
        for a, b in zip(arrays(first), arrays(second), strict=True)
    )


# --- what is read again ---------------------------------------------------------------------------

CASES: dict[str, dict[str, Any]] = {
    "one stream": {},
    "a region": {"block_entries": 100},
    "classes": {"sampling": rf.balanced("label")},
    "classes that are repeated": {"sampling": rf.balanced("label", epoch="longest")},
    "shares": {"sampling": rf.balanced("label", {0: 0.5, 1: 0.3, 2: 0.2}, epoch=60)},
    "a rank": {"rank": 1, "world_size": 2},
    "a budget": {"chunk_entries": None, "block_entries": None, "memory": "150 kB"},
}


@pytest.mark.thorough(but=["a region", "a budget"])
@pytest.mark.parametrize("case", CASES)
def test_going_on_reads_a_window_at_most(
    frame: rf.Frame, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rest is the same, to the last bit, from every batch on."""
    first: list[HeldBlock] = []
    begun: list[int] = []

    class Spy(Held):
        def enter(self, block: HeldBlock, last: int) -> None:
            super().enter(block, last)
            if not begun:
                first.append(block)

        def end_of(self, run: int) -> Any:
            begun.append(run)
            return super().end_of(run)

    read: list[Any] = []
    fill_tasks = reader.fill_tasks

    def noted(dataset: Any, part: Any, *rest: Any) -> Any:
        read.append(part.block)
        return fill_tasks(dataset, part, *rest)

    loader = make(frame, **CASES[case])
    assert not loader.in_memory
    whole, following = list(loader), list(loader)
    assert len(whole) == len(loader) > 10
    schedule = loader._pipeline.schedule
    reads = schedule.work(0, (), loader._pipeline.shard()).plan.reads
    monkeypatch.setattr(reader, "Held", Spy)
    monkeypatch.setattr(reader, "fill_tasks", noted)
    # A block of each stream is in memory in any case, whatever it takes.
    window = max(schedule.room_bytes, reads.peak(reads.bytes))
    assert window == schedule.room_bytes or case == "a region"
    cached = int((schedule.offered.counts * schedule.offered.cached).any(1).sum())
    before, after = make(frame, threads=1, **CASES[case]), make(frame, threads=3, **CASES[case])
    batches = iter(before)
    for done in range(1, len(whole)):
        next(batches)
        if done % (len(whole) // 8) not in (0, 1) and done < len(whole) - 2:
            continue
        state = json.loads(json.dumps(before.state_dict()))
        for seen in (first, begun, read):
            seen.clear()
        after.load_state_dict(state)
        rest = iter(after)
        found = [next(rest)]
        assert sum(block.read.bytes for block in first) <= window
        assert len({(block.read.block, block.read.pieces) for block in first}) == len(first)
        found += list(rest)
        assert same(found, whole[done:])
        assert len(begun) > 0
    after.close()
    last = len(whole) // 2
    after.set_epoch(0)
    kept = list(itertools.islice(iter(after), last))
    assert same(kept, whole[:last])
    state = after.state_dict()
    del read[:]
    gc.collect()
    again = make(frame, **CASES[case])
    again.load_state_dict(state)
    mine = len(read)
    assert same(list(again), whole[last:])
    # Each block that later batches need, once, and no other.
    assert len(read) - mine == int((reads.last >= last).sum()) + cached
    assert same(list(again), following)


# --- what ends at once ----------------------------------------------------------------------------


def filling_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rootfeed")]


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set while a thread waits for room."""
    event = threading.Event()
    take = Arena.take

    def watched(self: Arena, rows: int, size: int) -> Any:
        with self._changed:
            free = sum(stop - start for start, stop in self._free)
            if size > self._left or rows > free:
                event.set()
        return take(self, rows, size)

    monkeypatch.setattr(Arena, "take", watched)
    yield event
    gc.collect()
    assert not filling_threads()


@pytest.mark.thorough(but=["drop-4"])
@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("way", ["close", "drop", "error"])
def test_who_waits_for_room_is_woken(
    frame: rf.Frame, waiting: threading.Event, way: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make(frame, threads=threads)
    iterator: Any = iter(loader)
    next(iterator)
    assert waiting.wait(10)
    begin = time.perf_counter()
    if way == "close":
        iterator.close()
    elif way == "drop":
        del iterator
    else:

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(reader, "gathered", broken)
        with pytest.raises(ZeroDivisionError):
            list(iterator)
        monkeypatch.undo()
    assert time.perf_counter() - begin < 0.7  # not a second, for which threads would be waited for
    assert not filling_threads()
    assert sorted(id_ for x, _ in loader for id_ in x["scalar"][:, 0]) == list(range(ENTRIES))


def test_a_block_that_fails_while_others_wait_for_room(
    frame: rf.Frame, waiting: threading.Event
) -> None:
    features = FEATURES | {"scalar": ["id", "bad"]}
    loader = make(frame, features=features, nonfinite="error", threads=3, shuffle=False)
    received = 0
    begin = 0.0

    def use() -> None:
        nonlocal received, begin
        for _ in loader:
            received += 1
            if received == 1:
                assert waiting.wait(10)
            begin = time.perf_counter()

    with pytest.raises(NotFiniteError, match="'bad'"):
        use()
    assert time.perf_counter() - begin < 0.7
    assert received == 1230 // 16  # the block [1230, 1245) has it


# --- memory is used again -------------------------------------------------------------------------


@pytest.fixture
def allocated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each piece of memory that a pool, or an arena, allocates."""
    sizes: list[int] = []

    class Spy:
        def __getattr__(self, name: str) -> Any:
            return getattr(np, name)

        @staticmethod
        def empty(shape: Any, dtype: Any) -> Any:
            made = np.empty(shape, dtype)
            sizes.append(made.nbytes)
            return made

    monkeypatch.setattr(memory_module, "np", Spy())
    return sizes


@pytest.mark.thorough(but=["None"])
@pytest.mark.parametrize("sampling", [None, rf.balanced("label", epoch="longest")])
def test_another_epoch_allocates_nothing_large(
    frame: rf.Frame, allocated: list[int], sampling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    take_memory = Pool.take_memory

    def noted(self: Pool, size: int) -> Any:
        asked.append(size)
        return take_memory(self, size)

    monkeypatch.setattr(Pool, "take_memory", noted)
    loader = make(frame, sampling=sampling)
    for _ in range(3):
        assert sum(len(y) for _, y in loader) >= ENTRIES
    arena = loader._pipeline.reader._pool._arena
    assert arena is not None
    assert arena.rows.nbytes in allocated
    del allocated[:], asked[:]
    for _ in range(3):
        assert sum(len(y) for _, y in loader) >= ENTRIES
        assert loader._pipeline.reader._pool._arena is arena
    # Vectors of other lengths need a new piece now and then.
    assert max(allocated, default=0) < 100_000
    assert sum(allocated) < sum(asked) / 5


@pytest.mark.thorough(but=["drop"])
@pytest.mark.parametrize("way", ["close", "drop"])
def test_an_iterator_that_is_left_gives_all_back(
    frame: rf.Frame, allocated: list[int], way: str
) -> None:
    loader = make(frame)
    list(loader)
    arena = loader._pipeline.reader._pool._arena
    del allocated[:]
    for _ in range(5):
        iterator: Any = iter(loader)
        next(iterator)
        if way == "close":
            iterator.close()
        del iterator
        assert loader._pipeline.reader._pool._arena is arena
        assert arena is not None
        assert arena.rows.nbytes not in allocated
    # So many at once get memory of their own, of which one is kept.
    several = [iter(loader) for _ in range(3)]
    for each in several:
        next(each)
    del each, several
    gc.collect()
    spare = sum(map(len, loader._pipeline.reader._pool._memory))
    assert spare <= 4 * loader._pipeline.schedule.sizes.window_bytes
    loader.close()
    assert loader._pipeline.reader._pool._arena is None
    assert not loader._pipeline.reader._pool._memory


def test_blocks_by_hand_stay_within_the_budget_or_are_refused(frame: rf.Frame) -> None:
    # Rows of the last file are ten times as long as the others.
    refused = []
    for memory, block_entries in itertools.product((300_000, 600_000), (10, 40, 100, 250)):
        try:
            sizes = {"chunk_entries": None, "memory": memory, "block_entries": block_entries}
            loader = make(frame, **sizes)
        except ArgumentError as error:
            refused.append(str(error))
            continue
        plan = loader.plan()
        # However short blocks are, a thread has room for the longest page.
        assert plan.memory_bytes <= memory + scratch_page_bytes(loader._pipeline.schedule.dataset.files)
    assert 0 < len(refused) < 8
    assert all(" does not fit into memory=" in message for message in refused)


# --- vectors beside rows --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spoiled() -> Iterator[None]:
    """What is given back is overwritten at once: who still reads it reads nonsense."""
    with pytest.MonkeyPatch.context() as patch:
        give_memory, give = Pool.give_memory, Arena.give

        def spoil_memory(self: Pool, memory: np.ndarray) -> None:
            memory[:] = 0xFF
            give_memory(self, memory)

        def spoil_rows(self: Arena, runs: Any, size: int) -> None:
            for start, stop in runs:
                self.rows[start:stop] = 0  # without vectors: no address is followed
            give(self, runs, size)

        patch.setattr(Pool, "give_memory", spoil_memory)
        patch.setattr(Arena, "give", spoil_rows)
        yield


CUTS = ["", "id % 3 != 1", "k.size() > 0", "pt.size() < 40 && label != 1"]


def passing(jets: Jets, cut: str) -> list[int]:
    ids, lengths = np.arange(ENTRIES), np.diff(jets.starts)
    every = [ids >= 0, ids % 3 != 1, lengths > 0, (lengths < 40) & (jets.label != 1)]
    return np.flatnonzero(every[CUTS.index(cut)]).tolist()


@settings(max_examples=settings.default.max_examples // 6)
@given(
    cut=st.sampled_from(CUTS),
    threads=st.integers(1, 4),
    batch_size=st.integers(1, 40),
    window=st.integers(40, 400),
    block=st.integers(1, 60),
    seed=st.integers(0, 1000),
    sampling=st.sampled_from([None, "shortest", "longest"]),
    shuffle=st.booleans(),
)
def test_batches_are_what_was_written_however_blocks_come_and_go(
    jets: Jets,
    frame: rf.Frame,
    spoiled: None,
    cut: str,
    threads: int,
    batch_size: int,
    window: int,
    block: int,
    seed: int,
    sampling: Any,
    shuffle: bool,
) -> None:
    loader = make(
        frame.filter(cut) if cut else frame,
        threads=threads,
        batch_size=batch_size,
        chunk_entries=max(window, batch_size),
        block_entries=block,
        seed=seed,
        shuffle=shuffle,
        sampling=None if sampling is None else rf.balanced("label", epoch=sampling),
    )
    expected = passing(jets, cut)
    for number in range(2):
        ids = [id_ for batch in loader for id_ in check(jets, batch)]
        if sampling is None:
            assert sorted(ids) == expected
            assert shuffle or ids == expected
        elif sampling == "longest":
            assert set(ids) == set(expected)
        else:
            assert len(set(ids)) == len(ids)
            assert set(ids) <= set(expected)
        # One that is left in its midst: what it held is free for the next one.
        batches: Any = iter(loader)
        for batch in itertools.islice(batches, 3 + number):
            check(jets, batch)
        batches.close()
