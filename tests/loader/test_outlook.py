"""What a loader says about an epoch before it runs, against what it then does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError
from rootfeed.loader import reader
from rootfeed.loader.memory import Held, HeldBlock
from rootfeed.plan import page_bytes
from rootfeed.sources import storage
from samples import File, in_a_row, write_columns

FILES = in_a_row(
    File(4000, page=130), File(1777, page=70, format="RNTuple"), File(0), File(900, page=300)
)
ENTRIES = 6677
SIZES: dict[str, dict[str, Any]] = {
    "in memory": {},
    "lazy": {"memory": "60 kB"},
    "by hand": {"chunk_entries": 1000, "block_entries": 90},
}


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SIZES[request.param]


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["id", "half"], "batch_size": 64, "seed": 5, "threads": 2}
    return rf.Loader(frame, **(settings | options))


@pytest.mark.thorough(
    but=[
        "by hand-pad-3",
        "lazy-drop-1",
        "lazy-uneven-3",
        "in memory-drop-3",
        "by hand-drop-1",
        "in memory-uneven-1",
    ]
)
@pytest.mark.parametrize("world_size", [1, 3])
@pytest.mark.parametrize("tail", ["drop", "pad", "uneven"])
def test_batches_and_rows_come_as_planned(
    frame: rf.Frame, sizes: dict[str, Any], world_size: int, tail: Any
) -> None:
    for rank in range(world_size):
        loader = make(frame, rank=rank, world_size=world_size, tail=tail, **sizes)
        for epoch in (0, 1):
            plan = loader.plan(epoch)
            batches = [len(x) for x in loader]
            assert (plan.epoch, plan.rank, plan.world_size) == (epoch, rank, world_size)
            assert plan.batches == len(batches) == len(loader)
            assert plan.batch_rows == sum(batches)
            assert plan.repeats == loader.repeats
            assert plan.in_memory == loader.in_memory
            assert plan.window_blocks == loader.window_blocks
            assert 0 < plan.window_rows <= plan.entries_read
            assert 0 < plan.first_bytes <= plan.bytes_read
    assert loader.plan() == loader.plan(0)


def test_classes_that_all_stay_in_memory_are_planned() -> None:
    """There is room for all by hand, so that none is in a window."""
    frame = rf.from_arrays({"id": np.arange(300), "kind": np.arange(300) % 3 // 2})
    sampling = rf.balanced("kind", epoch="longest", replacement=True)
    loader = make(frame, features=["id"], sampling=sampling, chunk_entries=1000, block_entries=50)
    assert loader.plan().window_blocks == loader.window_blocks == 6
    assert "6.0 blocks" in loader.explain()
    assert loader.plan().batch_rows == sum(len(x) for x in loader)


def test_what_is_read_is_planned(
    frame: rf.Frame, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = make(frame, **sizes)
    list(loader)  # opens and prepares
    loader.close()
    plan, read = loader.plan(1), []
    original = storage.LocalStorage.read_into

    def counted(self: Any, offset: int, out: Any) -> None:
        read.append(len(out))
        original(self, offset, out)

    blocks: list[Any] = []
    fill_tasks = reader.fill_tasks

    def noted(dataset: Any, part: Any, *rest: Any) -> Any:
        blocks.append(part.block)
        return fill_tasks(dataset, part, *rest)

    monkeypatch.setattr(storage.LocalStorage, "read_into", counted)
    monkeypatch.setattr(reader, "fill_tasks", noted)
    list(loader)
    # Checksums and keys of baskets come on top, and pages with the columns' positions.
    assert plan.bytes_read <= sum(read) <= 1.5 * plan.bytes_read + 20_000
    assert plan.entries_read == sum(map(len, blocks)) == ENTRIES
    assert plan.blocks == len(blocks)


@pytest.mark.parametrize("sampling", [None, rf.balanced("label", epoch="longest")])
def test_what_is_in_memory_is_planned(
    frame: rf.Frame, sizes: dict[str, Any], sampling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On one thread blocks enter when a run of batches needs them, and leave when it was gathered.
    loader = make(frame, threads=1, sampling=sampling, **sizes)
    plan, dataset = loader.plan(1), loader._pipeline.schedule.dataset
    inside, most, blocks = 0, 0, 0
    first: list[Any] = []

    class Spy(Held):
        def enter(self, block: HeldBlock, last: int) -> None:
            nonlocal inside, most, blocks
            super().enter(block, last)
            blocks += 1
            inside += sum(stop - start for start, stop in block.runs)
            most = max(most, inside)
            if not begun:
                first.append(dataset.part(block.read).block)

        def end_of(self, run: int) -> Any:
            begun.append(run)
            return super().end_of(run)

        def _leave(self, block: HeldBlock) -> None:
            nonlocal inside
            inside -= sum(stop - start for start, stop in block.runs)
            super()._leave(block)

    begun: list[int] = []
    monkeypatch.setattr(reader, "Held", Spy)
    loader.set_epoch(1)
    list(loader)
    assert inside == 0
    offered = loader._pipeline.schedule.offered
    cached = (offered.counts * offered.cached).any(1)
    stay = [block for block, stays in zip(dataset.blocks, cached, strict=True) if stays]
    assert plan.blocks == blocks + len(stay)
    assert plan.window_rows == most + loader._pipeline.schedule.cached_rows
    files = loader._pipeline.mixing.stock.files
    assert plan.first_bytes == page_bytes(files, [*stay, *first])[0]
    if plan.in_memory:
        assert plan.first_bytes == plan.bytes_read


def test_memory_is_planned_within_the_budget(frame: rf.Frame) -> None:
    for memory in (60_000, 100_000, 1_000_000):
        plan = make(frame, memory=memory).plan()
        assert 0 < plan.memory_bytes <= plan.budget_bytes
        assert plan.budget_bytes == memory
        assert plan.window_rows * 8 < plan.memory_bytes


def test_rows_that_stay_are_planned(tmp_path: Path) -> None:
    label = np.zeros(5000, np.int32)
    label[::50] = 1
    path = write_columns(tmp_path / "rare.root", {"id": np.arange(5000), "label": label}, 200)
    sampling = rf.balanced("label", epoch="longest")
    loader = rf.Loader(rf.open(path), 20, "id", "label", seed=1, sampling=sampling, chunk_entries=500)
    plan = loader.plan()
    assert plan.batch_rows == sum(len(x) for x, _ in loader) == plan.batches * 20
    assert plan.entries_read >= 9900  # once for the rare ones
    assert 100 < plan.window_rows <= 500  # those that stay count
    assert "The 100 rows of class 1 are used several times" in loader.explain()


@pytest.mark.parametrize(("epoch", "rows"), [("shortest", 200), ("longest", 9780), (3, 60)])
def test_entries_are_told_apart_from_the_rows_of_an_epoch(tmp_path: Path, epoch: Any, rows: int) -> None:
    label = np.zeros(5000, np.int32)
    label[::50] = 1
    columns = {"id": np.arange(5000), "label": label}
    frame = rf.open(write_columns(tmp_path / "rare.root", columns, 200)).filter(
        "id < 4990 || label == 1"
    )
    plain = rf.Loader(frame, 20, "id", "label", seed=1)
    assert repr(plain).startswith("<Loader 4990 rows, 250 batches of 20, in memory")
    assert (plain.num_rows, plain.plan().num_rows, plain.plan().batch_rows) == (4990, 4990, 4990)
    loader = rf.Loader(frame, 20, "id", "label", seed=1, sampling=rf.balanced("label", epoch=epoch))
    found = sum(len(x) for x, _ in loader)
    assert found == rows == len(loader) * 20 == loader.plan().batch_rows
    assert loader.num_rows == loader.plan().num_rows == 4990
    assert repr(loader).startswith(f"<Loader 4990 rows, {rows} rows in {len(loader)} batches of 20, ")
    assert "4,990" in str(loader.plan())
    assert f"{rows:,}" in str(loader.plan())


def test_a_plan_is_a_table(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    text = str(make(frame, rank=1, world_size=2, tail="pad", **sizes).plan(3))
    assert "epoch 3, rank 1 of 2" in text
    for line in (
        "batches",
        "blocks in memory together",
        "rows in memory together, at most",
        "blocks read",
        "stored bytes read",
        "of these before the first batch",
        "memory, about",
        "threads",
    ):
        assert line in text
    assert "1 repeated" in text
    assert max(map(len, text.splitlines())) <= 120


def test_reasons(frame: rf.Frame) -> None:
    text = make(frame).explain()
    assert "6,677 rows" in text
    assert "They are kept in memory: 65% of the budget" in text
    text = make(frame, memory="60 kB").explain()
    assert "more than 65% of the budget of 60.0 kB: block after block enters memory" in text
    assert "end where pages of all columns end" in text
    text = make(frame, chunk_entries=1000, block_entries=90).explain()
    assert "1,000 rows are in memory together, as chunk_entries says." in text
    assert "at most 90, as block_entries says" in text


@pytest.mark.parametrize("epoch", [-1, 1.5, "0", None, True])
def test_epochs_that_are_none(frame: rf.Frame, epoch: Any) -> None:
    with pytest.raises(ArgumentError, match="epoch must be"):
        make(frame).plan(epoch)
