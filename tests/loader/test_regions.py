from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.loader.regions import region_starts
from samples import open_events, write_columns


@pytest.mark.parametrize(
    ("paths", "most", "expected"),
    [
        (["a.root"], 8, (0,)),
        (["a.root"], 0.5, (0,)),
        (["a.root", "b.root", "c.root"], 3, (0, 1, 2)),
        (["a.root", "b.root", "c.root"], 2.9, (0,)),
        # Names that differ in digits only are of one kind, in one folder or in numbered ones.
        (["d/top_1.root", "d/top_2.root", "d/top_13.root", "d/w_1.root", "d/w_2.root"], 2, (0, 3)),
        (["d/0/top_1.root", "d/1/top_2.root", "d/1/w_1.root", "d/2/w_2.root"], 3, (0, 2)),
        # Where names say nothing, folders do.
        (["top/0/ab.root", "top/1/cd.root", "top/1/ef.root", "w/0/gh.root", "w/0/ij.root"], 2.5, (0, 3)),
        (["top/a.root", "w/b.root", "top/c.root"], 2, (0,)),
        (["root://host//top/a.root", "root://host//top/b.root", "root://host//w/c.root"], 2, (0, 2)),
    ],
)
def test_files_of_a_kind(paths: list[str], most: float, expected: tuple[int, ...]) -> None:
    assert region_starts(paths, [1000] * len(paths), most * 1000) == expected


def test_what_is_carried_counts() -> None:
    paths = ["a1", "a2", "b1", "b2"]
    assert region_starts(paths, [10, 20, 30, 0], 60) == (0, 1, 2, 3)
    assert region_starts(paths, [10, 20, 30, 0], 59) == (0, 2)  # the largest block of each
    assert region_starts(paths, [10, 20, 30, 0], 49) == (0,)
    many = [f"a{number}" for number in range(100)] + [f"b{number}" for number in range(100)]
    assert region_starts(many, [1] * 200, 1e9) == (0, 100)


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
def test_every_chunk_has_its_share_of_each_file(frame: rf.Frame, threads: int) -> None:
    loader = load(frame, threads=threads)
    assert not loader.in_memory
    plan, seen = loader.plan(), epoch(loader)
    rows = np.concatenate(seen)
    assert sorted(rows[:, 0]) == list(range(sum(LENGTHS)))
    assert "share of each file" in loader.explain()
    assert plan.chunks > 10
    assert max(plan.chunk_rows) <= 1000
    # Of what came first, wherever one looks between chunks, each file has its share to a row.
    bounds = np.arange(plan.chunks + 1) * len(seen) // plan.chunks
    for stop in bounds[1:-1]:
        before = np.bincount(rows[: stop * 20, 1], minlength=5)
        shares = np.array(LENGTHS) / len(rows)
        assert (np.abs(before - shares * stop * 20) <= 1 + 5 * shares).all()
    # And within a chunk batches are as random as a shuffle makes them.
    counts = np.array([(batch[:, 1] == 0).sum() for batch in seen[:-1]])
    assert 0.5 < counts.var() / (20 * 0.4 * 0.6) < 1.6


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
    assert max(plan.chunk_rows) <= loader._schedule.sizes.chunk_rows + 20
    assert plan.memory_bytes <= memory


def test_other_orders_have_no_regions(frame: rf.Frame) -> None:
    ordered = np.concatenate(epoch(load(frame, shuffle=False)))
    assert ordered[:, 0].tolist() == list(range(sum(LENGTHS)))
    for loader in (
        load(frame, shuffle=False),
        load(frame, chunk_entries=None, block_entries=None),
        load(frame, block_entries=500),  # chunks of two blocks
        load(frame, sampling=rf.balanced("file", epoch=5)),
    ):
        assert "share of each" not in loader.explain()
        epoch(loader)


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
    loader = load(frame, block_entries=200)
    assert "share of each run of files" in loader.explain()
    whole = epoch(loader)
    loader.set_epoch(0)
    batches = iter(loader)
    for _ in range(70):
        next(batches)
    state = loader.state_dict()
    moved = [tmp_path / name for name in ("ab", "cd", "ef", "gh", "ij")]
    for link, file in zip(moved, frame.files, strict=True):
        link.symlink_to(file)
    again = load(open_events([str(path) for path in moved]), block_entries=200)
    assert "share of each" not in again.explain()
    again.load_state_dict(state)
    assert "share of each run of files" in again.explain()
    rest = epoch(again)
    assert len(rest) == len(whole) - 70
    assert all(map(np.array_equal, rest, whole[70:]))
