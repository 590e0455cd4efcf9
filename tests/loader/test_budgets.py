"""Memory that several share: ranks on one machine, and parts of a split that are iterated in turns."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.loader import memory
from samples import write_columns

ENTRIES = 50_000


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    path: Path = tmp_path_factory.mktemp("budgets") / "events.root"
    columns = {f"c{number}": np.arange(ENTRIES, dtype=np.float32) for number in range(8)}
    return rf.open(f"{write_columns(path, columns, page=1000)}:events")


@pytest.mark.parametrize(("told", "ranks"), [("4", 4), ("1", 1), ("", 1), ("0", 1), ("many", 1)])
def test_ranks_on_one_machine_share(monkeypatch: pytest.MonkeyPatch, told: str, ranks: int) -> None:
    monkeypatch.setattr(memory, "_free_bytes", lambda: 8_000_000_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", told)
    assert memory.budget_bytes("auto") == 2_000_000_000 // ranks
    assert memory.budget_bytes("1 GB") == 1_000_000_000  # what is asked for is for each


def test_a_small_part_holds_a_block_that_was_asked_for(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, memory="800 kB", block_entries=4000, seed=1, dtype="float32")
    train, test = loader.split(0.02)
    assert sum(len(x) for x in test) == test.entries == 1000
    assert sum(len(x) for x in train) == train.entries


def test_parts_that_are_iterated_in_turns_use_the_same_memory(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, memory="600 kB", seed=1)
    train, test = loader.split(0.4)
    arenas = []
    for part in (train, test, train, test):
        seen = np.sort(np.concatenate([x[:, 0] for x in part]))
        assert len(np.unique(seen)) == len(seen) == part.entries
        arenas.append(part._reader._pool._arena)
    assert arenas[0] is not None
    assert arenas[1] is arenas[0] is arenas[2] is arenas[3]


def test_rows_that_stay_are_each_parts_own(frame: rf.Frame) -> None:
    made = frame.define("label", "c0 % 50 == 0")
    balanced = rf.balanced("label", {0: 0.5, 1: 0.5}, epoch="longest")
    loader = rf.Loader(made, 100, ["c0"], "label", memory="600 kB", sampling=balanced, seed=1)
    one, two = loader.split(one=0.5, two=0.5, resample=["one", "two"])
    expected = [{int(x) for batch, _ in part for x in batch[:, 0]} for part in (one, two)]
    assert not expected[0] & expected[1]
    for part, every in ((one, expected[0]), (two, expected[1]), (one, expected[0])):
        assert {int(x) for batch, _ in part for x in batch[:, 0]} <= every


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
    assert sum(len(x["v"]) for x in loader) == loader.entries
    sizes, arena = loader._schedule.sizes, loader._pool._arena
    assert arena is not None
    # Were all of it for short ones, they would take five sixths of all that rows and vectors may.
    assert arena.rows.nbytes < sizes.window_bytes / 2
