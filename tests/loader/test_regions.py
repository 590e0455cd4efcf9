from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.plan import Stock
from rootfeed.plan.regions import partitions
from samples import open_events, write_columns


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.root"], [(0,)]),
        (["a.root", "b.root", "c.root"], [(0, 1, 2)]),
        # Names that differ in digits only are of one kind, in one folder or in numbered ones.
        (
            ["d/top_1.root", "d/top_2.root", "d/top_13.root", "d/w_1.root", "d/w_2.root"],
            [(0, 1, 2, 3, 4), (0, 3), (0,)],
        ),
        (
            ["d/0/top_1.root", "d/1/top_2.root", "d/1/w_1.root", "d/2/w_2.root"],
            [(0, 1, 2, 3), (0, 2), (0,)],
        ),
        # Where names say nothing, folders do.
        (
            ["top/0/ab.root", "top/1/cd.root", "top/1/ef.root", "w/0/gh.root", "w/0/ij.root"],
            [(0, 1, 2, 3, 4), (0, 3), (0,)],
        ),
        (["top/a.root", "w/b.root", "top/c.root"], [(0, 1, 2), (0,)]),
        (
            ["root://host//top/a.root", "root://host//top/b.root", "root://host//w/c.root"],
            [(0, 1, 2), (0, 2), (0,)],
        ),
        # More than 64 are no regions.
        ([f"{'ab'[number // 100]}{number}" for number in range(200)], [(0, 100), (0,)]),
        ([f"a{number}" for number in range(65)], [(0,)]),
    ],
)
def test_files_of_a_kind(paths: list[str], expected: list[tuple[int, ...]]) -> None:
    found = partitions(paths)
    assert list(dict.fromkeys(found)) == list(dict.fromkeys([*expected, (0,)]))
    assert found[-1] == (0,)


def test_what_is_carried_counts() -> None:
    paths = ["a1", "a2", "b1", "b2"]
    stock = Stock(
        (),
        (10, 20, 30, 0),
        (None,) * 4,
        (),
        (1, 1, 1, 1),
        partitions(paths),
    )
    largest = np.array([10, 20, 30, 0])
    # The largest block of each, and those that have begun while others end.
    assert stock.regions(largest, 60 + 2 * 30) == (0, 1, 2, 3)
    assert stock.regions(largest, 60 + 2 * 30 - 1) == (0, 2)
    assert stock.regions(largest, 50 + 30) == (0, 2)
    assert stock.regions(largest, 50 + 30 - 1) == (0,)
    twice = replace(stock, row_bytes=(2, 1, 1, 1))  # bytes count, not rows
    assert twice.regions(largest, 60 + 2 * 30) == (0, 2)


LENGTHS = [4000, 1000, 3000, 1, 2000]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    """Files of one class each."""
    folder = tmp_path_factory.mktemp("regions")
    paths: list[Path] = []
    for number, length in enumerate(LENGTHS):
        paths.append(folder / f"{'ttbar' if number < 2 else 'signal'}_{number}.root")
        first = sum(LENGTHS[:number])
        columns = {
            "id": np.arange(first, first + length, dtype=np.int32),
            "file": np.full(length, number, np.int32),
        }
        write_columns(paths[-1], columns, page=500)
    return open_events([str(path) for path in paths])


def load(frame: rf.Frame, **options: object) -> rf.Loader:
    chosen = {"seed": 3, "chunk_entries": 1000, "block_entries": 50, "dtype": "int32", **options}
    return rf.Loader(frame, 20, ["id", "file"] if "file" in frame.columns else ["id"], **chosen)


def epoch(loader: rf.Loader) -> list[np.ndarray]:
    return [np.array(x) for x in loader]


@pytest.mark.parametrize("threads", [1, 3])
def test_every_batch_has_its_share_of_each_file(frame: rf.Frame, threads: int) -> None:
    loader = load(frame, threads=threads)
    assert not loader.in_memory
    assert loader._pipeline.schedule.sizes.regions == (0, 1, 2, 3, 4)
    plan = loader.plan()
    assert plan.window_rows <= 1000
    assert "share of every part of the epoch" in loader.explain()
    shares = np.array(LENGTHS) / sum(LENGTHS)
    first = []
    for _ in range(4):
        seen = epoch(loader)
        rows = np.concatenate(seen)
        assert sorted(rows[:, 0]) == list(range(sum(LENGTHS)))
        # Wherever one looks, what came first has each file's share, up to what a batch's chance adds.
        before = np.cumsum([np.bincount(batch[:, 1], minlength=5) for batch in seen], 0)
        expected = (np.arange(1, len(seen) + 1) * 20)[:, None] * shares
        expected[-1] = LENGTHS
        assert np.abs(before - expected).max() < 30  # a step has 62 rows, blocks have 50
        first.append(np.array([np.bincount(batch[:, 1], minlength=5) for batch in seen[:-1]]))
    # Batches are composed as a full shuffle composes them: as much, and not more, at random.
    counts = np.concatenate(first)
    variance = 20 * shares * (1 - shares)
    some = shares > 0.05
    assert np.abs(counts.mean(0) - 20 * shares).max() < 0.1
    assert (np.abs(counts.var(0) / variance - 1)[some] < 0.15).all()
    # And neighbours do not depend on each other.
    deviation = counts[:, some] - 20 * shares[some]
    together = (deviation[1:] * deviation[:-1]).mean(0) / variance[some]
    assert (np.abs(together) < 0.08).all()


@pytest.mark.parametrize("memory", [100_000, 200_000])
def test_files_that_cuts_thin_out_stay_within_the_budget(tmp_path: Path, memory: int) -> None:
    # Blocks of a file of which all entries pass are much larger than those of the others.
    paths = []
    for number in range(12):
        entries = 2000 if number < 10 else 100_000
        some = np.random.default_rng(number).random(entries) < (1 if number < 10 else 0.01)
        columns = {"id": np.arange(entries, dtype=np.int32), "good": some}
        paths.append(write_columns(tmp_path / f"{number}.root", columns, page=2000))
    loader = load(
        open_events(paths).filter("good"),
        chunk_entries=None,
        block_entries=None,
        memory=memory,
        threads=1,
    )
    plan = loader.plan()
    assert not plan.in_memory
    reads = loader._pipeline.schedule.work(0, (), loader._pipeline.shard()).plan.reads
    assert reads.peak(reads.bytes) <= loader._pipeline.schedule.room_bytes
    assert plan.memory_bytes <= memory


def test_other_orders_have_no_regions(frame: rf.Frame) -> None:
    ordered = np.concatenate(epoch(load(frame, shuffle=False)))
    assert ordered[:, 0].tolist() == list(range(sum(LENGTHS)))
    for loader in (
        load(frame, shuffle=False),
        load(frame, chunk_entries=None, block_entries=None),
        load(frame, block_entries=500),  # a window of two blocks
    ):
        assert "share of every part" not in loader.explain()
        epoch(loader)


@pytest.mark.thorough(but=["3-2"])
@pytest.mark.parametrize(("first", "then"), [(1, 1), (3, 3), (1, 3), (3, 2)])
def test_an_epoch_goes_on_in_regions(frame: rf.Frame, first: int, then: int) -> None:
    def ranks(count: int) -> list[rf.Loader]:
        return [load(frame, rank=rank, world_size=count, tail="uneven") for rank in range(count)]

    whole = [epoch(loader) for loader in ranks(first)]
    for stop in (1, 60, len(whole[0]) - 2):
        found = defaultdict(list)
        for rank, loader in enumerate(ranks(first)):
            batches = iter(loader)
            found[rank] += [np.array(next(batches)) for _ in range(stop)]
            state = loader.state_dict()
        rest = []
        for loader in ranks(then):
            loader.load_state_dict(state)
            rest.append(epoch(loader))
        if first == then == 1:
            assert all(map(np.array_equal, found[0] + rest[0], whole[0]))
        rows = np.concatenate([*itertools.chain(*found.values(), *rest)])
        assert sorted(rows[:, 0]) == list(range(sum(LENGTHS)))


def test_a_state_knows_the_regions(frame: rf.Frame, tmp_path: Path) -> None:
    # The same files elsewhere, under names that say nothing.
    loader = load(frame, block_entries=250)
    assert "Each run of files of one kind has a block in memory" in loader.explain()
    whole = epoch(loader)
    loader.set_epoch(0)
    batches = iter(loader)
    for _ in range(70):
        next(batches)
    state = loader.state_dict()
    moved = [tmp_path / name for name in ("ab", "cd", "ef", "gh", "ij")]
    for link, file in zip(moved, frame.files, strict=True):
        link.symlink_to(file)
    again = load(open_events([str(path) for path in moved]), block_entries=250)
    assert "share of every part" not in again.explain()
    again.load_state_dict(state)
    assert "Each run of files of one kind has a block in memory" in again.explain()
    rest = epoch(again)
    assert len(rest) == len(whole) - 70
    assert all(map(np.array_equal, rest, whole[70:]))
