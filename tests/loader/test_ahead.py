"""Batches for frameworks that ask for some before they use them, or only look at them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from chosen import in_turns
from rootfeed.errors import ArgumentError, StateError
from rootfeed.formats import numpy_format
from rootfeed.loader.ahead import Ahead
from samples import File, in_a_row

FILES = in_a_row(File(400, page=50), File(177, page=30, format="RNTuple"), File(150, page=60))
ENTRIES = 727
BATCH = 64  # 12 batches, the last of 23 rows
COUNT = 12
SIZES: dict[str, dict[str, Any]] = {
    "kept": {},
    "lazy": {"chunk_entries": 200, "block_entries": 20},
    "numbered": {"epoch": COUNT},
}


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SIZES[request.param]


def make(frame: rf.Frame, sizes: dict[str, Any], **options: Any) -> rf.Loader:
    return rf.Loader(frame, BATCH, ["id"], seed=5, **sizes, **options)


def ids(x: Any) -> list[int]:
    return x[:, 0].astype(int).tolist()


def whole(frame: rf.Frame, sizes: dict[str, Any], epochs: int = 4) -> list[list[int]]:
    loader = make(frame, sizes)
    return [ids(x) for _ in range(epochs) for x in loader]


def ahead(loader: rf.Loader) -> Ahead:
    return Ahead(loader._pipeline, numpy_format(None))


def test_it_is_an_epoch(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = make(frame, sizes)
    expected = whole(frame, sizes)
    for epoch in range(3):
        batches = ahead(loader)
        found = list(map(ids, itertools.islice(batches, COUNT)))
        assert batches.complete
        assert found == expected[epoch * COUNT :][:COUNT]
        if epoch == 1:
            assert list(batches) == []
        batches.close()
        assert loader.state_dict()["epoch"] == epoch + 1
    assert list(map(ids, loader)) == expected[3 * COUNT :]


@pytest.mark.thorough(but=in_turns(SIZES, range(1, COUNT, 2)))
@pytest.mark.parametrize("done", range(1, COUNT))
def test_it_goes_on_with_a_state_as_long_as_an_epoch(
    frame: rf.Frame, sizes: dict[str, Any], done: int
) -> None:
    expected = whole(frame, sizes)
    loader = make(frame, sizes)
    for _ in itertools.islice(loader, done):
        pass
    other = make(frame, sizes)
    other.load_state_dict(loader.state_dict())
    found = [ids(x) for _ in range(2) for x in ahead(other)]
    assert found == expected[done:][: 2 * COUNT]
    assert other.state_dict()["epoch"] == 2
    assert list(map(ids, other)) == expected[2 * COUNT + done : 3 * COUNT]


@pytest.mark.thorough(but=["kept-0", "lazy-5", "numbered-0"])
@pytest.mark.parametrize("done", [0, 5])
def test_any_batch_may_be_the_last_that_was_used(
    frame: rf.Frame, sizes: dict[str, Any], done: int
) -> None:
    expected = whole(frame, sizes)
    loader = make(frame, sizes)
    for _ in itertools.islice(loader, done):
        pass
    other = make(frame, sizes)
    other.load_state_dict(loader.state_dict())
    batches = ahead(other)
    for received, _ in enumerate(itertools.islice(batches, COUNT), 1):
        with pytest.raises(StateError, match=r"state_dict\(used=\.\.\.\)"):
            other.state_dict()
        if received % 4:
            continue
        for used in range(received + 1):
            third = make(frame, sizes)
            third.load_state_dict(json.loads(json.dumps(other.state_dict(used=used))))
            start = done + used
            assert list(map(ids, third)) == expected[start : (start // COUNT + 1) * COUNT]
        with pytest.raises(ArgumentError, match=f"used={received + 1}, but only {received} batches"):
            other.state_dict(used=received + 1)
    with pytest.raises(ArgumentError, match="used"):
        other.state_dict(used=-1)


@pytest.mark.parametrize("looked_at", [0, 1, 3])
def test_what_nobody_has_used_comes_again(
    frame: rf.Frame, sizes: dict[str, Any], looked_at: int
) -> None:
    expected = whole(frame, sizes)
    loader = make(frame, sizes)
    for done in (0, 5):
        for _ in itertools.islice(loader, done):
            pass
        other = make(frame, sizes)
        other.load_state_dict(loader.state_dict())
        for _ in range(2):
            batches = ahead(other)
            assert list(map(ids, itertools.islice(batches, looked_at))) == expected[done:][:looked_at]
            batches.close(used=False)
        assert other.state_dict()["batches"] == done
        assert list(map(ids, ahead(other))) == expected[done:][:COUNT]
        loader = make(frame, sizes)
    # What was used does not.
    batches = ahead(loader)
    next(batches)
    batches.close()
    assert ids(next(iter(loader))) == expected[COUNT]


def test_an_epoch_that_was_chosen_meanwhile_stays_chosen(frame: rf.Frame) -> None:
    expected = whole(frame, {})
    loader = make(frame, {})
    batches = ahead(loader)
    next(batches)
    loader.set_epoch(2)
    batches.close(used=False)
    assert list(map(ids, loader)) == expected[2 * COUNT : 3 * COUNT]


def test_ranks_of_which_one_has_more_batches(frame: rf.Frame) -> None:
    options = {"tail": "uneven", "world_size": 3, "batch_size": 11}  # 727 = 3 * 242 + 1; 242 = 22 * 11
    every: list[list[int]] = [[], []]
    for rank in range(3):
        loader = rf.Loader(frame, features=["id"], seed=5, rank=rank, **options)
        assert len(loader) == 22 + (rank == 0)
        for epoch in range(2):
            found = list(ahead(loader))
            assert len(found) == len(loader)
            every[epoch] += [each for x in found for each in ids(x)]
    assert [sorted(each) for each in every] == [list(range(ENTRIES))] * 2


def test_arrays_of_batches_begin_at_multiples_of_64_bytes(frame: rf.Frame) -> None:
    for batch_size in (1, 7, 50, 64, 727):
        loader = rf.Loader(
            frame, batch_size, {"a": ["id", "half", "code"], "b": ["root"]}, ["label", "flag"], seed=5,
            target_dtype="uint8",
        )  # fmt: skip
        rows = []
        for x, y in loader:
            assert [array.ctypes.data % 64 for array in (x["a"], x["b"], y)] == [0, 0, 0]
            assert np.array_equal(x["a"][:, 1], (x["a"][:, 0] * 0.5).astype("f4"))
            assert np.array_equal(y[:, 0], x["a"][:, 0].astype(int) // 3 % 7)
            rows += ids(x["a"])
        assert sorted(rows) == list(range(ENTRIES))
