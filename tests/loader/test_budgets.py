"""Memory that several share: ranks on one machine, and parts of a split that are iterated in turns."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import awkward as ak
import numpy as np
import psutil
import pytest
import uproot

import rootfeed as rf
from rootfeed.dataset import budget
from samples import write_columns

ENTRIES = 50_000


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    path: Path = tmp_path_factory.mktemp("budgets") / "events.root"
    columns = {f"c{number}": np.arange(ENTRIES, dtype=np.float32) for number in range(8)}
    return rf.open(f"{write_columns(path, columns, page=1000)}:events")


@pytest.mark.parametrize(("told", "ranks"), [("4", 4), ("1", 1), ("", 1), ("0", 1), ("many", 1)])
def test_ranks_on_one_machine_share(monkeypatch: pytest.MonkeyPatch, told: str, ranks: int) -> None:
    monkeypatch.setattr(budget, "free_bytes", lambda: 8_000_000_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", told)
    assert budget.budget_bytes("auto") == 2_000_000_000 // ranks
    assert budget.budget_bytes("1 GB") == 1_000_000_000  # what is asked for is for each


def test_a_quarter_of_the_memory_that_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=800_000_000))
    assert budget.budget_bytes("auto") <= 200_000_000  # a container may have less


def test_free_memory_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    assert 0 < budget.budget_bytes("auto") <= 4_000_000_000


def test_a_small_part_holds_a_block_that_was_asked_for(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, memory="800 kB", block_entries=4000, seed=1, dtype="float32")
    train, test = loader.split(0.02)
    assert sum(len(x) for x in test) == test.num_rows == 1000
    assert sum(len(x) for x in train) == train.num_rows


def test_parts_that_are_iterated_in_turns_use_the_same_memory(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, memory="600 kB", seed=1)
    train, test = loader.split(0.4)
    arenas = []
    for part in (train, test, train, test):
        seen = np.sort(np.concatenate([x[:, 0] for x in part]))
        assert len(np.unique(seen)) == len(seen) == part.num_rows
        arenas.append(part._pipeline.reader._pool._arena)
    assert arenas[0] is not None
    assert arenas[1] is arenas[0] is arenas[2] is arenas[3]


def test_rows_that_stay_are_each_parts_own(frame: rf.Frame) -> None:
    made = frame.define("label", "c0 % 50 == 0")
    balanced = rf.balanced("label", {0: 0.5, 1: 0.5}, epoch="longest")
    loader = rf.Loader(made, 100, ["c0"], "label", memory="600 kB", sampling=balanced, seed=1)
    one, two = loader.split({"one": 0.5, "two": 0.5}, resample=["one", "two"]).values()
    expected = [{int(x) for batch, _ in part for x in batch[:, 0]} for part in (one, two)]
    assert not expected[0] & expected[1]
    for part, every in ((one, expected[0]), (two, expected[1]), (one, expected[0])):
        assert {int(x) for batch, _ in part for x in batch[:, 0]} <= every


def test_pages_that_exceed_the_budget_are_told_of(tmp_path: Path) -> None:
    entries = 6_000_000
    columns = {"short": np.zeros(entries, np.int16), "long": np.zeros(entries)}
    path = tmp_path / "long.root"
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        file.mktree("events", {name: values.dtype for name, values in columns.items()})
        file["events"].extend(columns)
    with warnings.catch_warnings():
        warnings.simplefilter("error", rf.errors.MemoryWarning)
        for memory, features in (("20 MB", "short"), ("100 MB", "long")):
            rf.Loader(f"{path}:events", 512, features, memory=memory, seed=1)
    with pytest.warns(rf.errors.MemoryWarning) as told:
        rf.Loader(f"{path}:events", 512, ["short", "long"], memory="20 MB", seed=1)
    (text,) = [str(each.message) for each in told if each.category is rf.errors.MemoryWarning]
    assert text == (
        f"memory=20.0 MB will be exceeded by some 41.0 MB: {path}:events has a page of column 'long' "
        "that takes 48.0 MB when it is decompressed, as it was written. Give more memory, or write the "
        "file with shorter pages, as Frame.save does."
    )


def test_rows_with_long_vectors_leave_no_room_for_as_many_as_short_ones(tmp_path: Path) -> None:
    paths = []
    for number, (entries, length) in enumerate([(20_000, 1), (2_000, 300)]):
        vectors = ak.unflatten(np.zeros(entries * length, np.float32), np.full(entries, length))
        paths.append(f"{tmp_path}/{number}.root")
        with uproot.recreate(paths[-1]) as file:
            tree = file.mktree("events", {"v": "var * float32"})
            for start in range(0, entries, entries // 20):
                tree.extend({"v": vectors[start : start + entries // 20]})
    frame = rf.open([f"{path}:events" for path in paths])
    loader = rf.Loader(frame, 32, {"v": rf.padded("v", 300)}, memory=1_600_000, seed=1)
    assert sum(len(x["v"]) for x in loader) == loader.num_rows
    sizes, arena = loader._pipeline.schedule.sizes, loader._pipeline.pool._arena
    assert arena is not None
    # Were all of it for short ones, they would take five sixths of all that rows and vectors may.
    assert arena.rows.nbytes < sizes.window_bytes / 2


def test_the_order_of_rows_that_are_used_again_takes_memory_too(tmp_path: Path) -> None:
    numbers = np.arange(20_000)
    columns = {"id": numbers, "label": (numbers % 10 == 0).astype(np.int64)}
    path = write_columns(tmp_path / "events.root", columns)
    sampling = rf.balanced("label", epoch=2000)
    loader = rf.Loader(path, 100, ["id"], "label", memory="200 kB", sampling=sampling, seed=1)
    schedule = loader._pipeline.schedule
    assert schedule.offered.cached.tolist() == [False, True]
    reads = schedule.work(0, (), loader._pipeline.shard()).plan.reads
    # Nine tenths of the rows, each of which is used five or six times.
    assert (reads.bytes > reads.rows * schedule.dataset.row_bytes[0]).all()
