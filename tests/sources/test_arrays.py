"""Datasets in memory: the same answers and batches as from a file that holds the same values."""

from __future__ import annotations

import pickle
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import rootfeed as rf
from rootfeed.errors import ArgumentError, MissingColumnError, UnsupportedColumnError

ENTRIES = 3000
RANDOM = np.random.default_rng(2)
LENGTHS = RANDOM.integers(0, 5, ENTRIES)


def columns() -> dict[str, Any]:
    return {
        "id": np.arange(ENTRIES),
        "x": RANDOM.normal(size=ENTRIES).astype(np.float32),
        "label": RANDOM.integers(0, 3, ENTRIES).astype(np.int32),
        "flag": RANDOM.integers(0, 2, ENTRIES).astype(bool),
        "v": ak.unflatten(RANDOM.normal(size=LENGTHS.sum()), LENGTHS),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[rf.Frame, rf.Frame]:
    """The same columns in memory and in a file."""
    values = columns()
    path = tmp_path_factory.mktemp("arrays") / "same.root"
    with uproot.recreate(path) as file:
        file.mkrntuple("events", ak.zip(values, depth_limit=1))
    return rf.from_arrays(values), rf.open(f"{path}:events")


def batches(frame: rf.Frame, **options: Any) -> list[np.ndarray]:
    loader = rf.Loader(frame, 64, **({"seed": 3} | options))
    return [array for batch in loader for array in flat(batch)]


def flat(batch: Any) -> list[np.ndarray]:
    if isinstance(batch, dict):
        batch = tuple(batch.values())
    return [array for part in batch for array in flat(part)] if isinstance(batch, tuple) else [batch]


@pytest.mark.parametrize("shuffle", [False, True])
def test_rows_are_those_of_a_file(both: tuple[rf.Frame, rf.Frame], shuffle: bool) -> None:
    inputs = {"event": ["id", "x", "twice"], "v": rf.padded("v", length=4)}
    options = {"features": inputs, "target": "label", "shuffle": shuffle}
    frames = [frame.define("twice", "2 * x").filter("flag && x > -1") for frame in both]
    found, expected = (batches(frame, **options) for frame in frames)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_memory_goes_through_blocks(both: tuple[rf.Frame, rf.Frame]) -> None:
    loader = rf.Loader(both[0], 64, ["id", "x"], seed=1, chunk_entries=300, block_entries=50)
    assert loader.plan().blocks == ENTRIES / 50
    ids = np.concatenate([x[:, 0] for x in loader])
    assert np.array_equal(np.sort(ids), np.arange(ENTRIES))


def test_answers_are_those_of_a_file(both: tuple[rf.Frame, rf.Frame]) -> None:
    one, other = (frame.filter("x > 0 && Sum(v) < 1") for frame in both)
    assert one.count() == other.count() > 0
    for name, values in one.arrays(["id", "x", "flag", "v"]).items():
        assert ak.array_equal(values, other.arrays([name])[name], dtype_exact=True)
    assert [str(each) for each in both[0].columns.values()][:4] == ["int64", "float32", "int32", "bool"]


@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.uint16, np.int64, np.float32, np.dtype(">f8"), np.dtype(">i4")]),
        hnp.array_shapes(max_dims=3, max_side=5),
    )
)
def test_every_array_comes_back(values: np.ndarray) -> None:
    frame = rf.from_arrays({"a": values, "t": [f"é{each}" for each in range(len(values))]})
    found = frame.arrays(["a", "t"])
    np.testing.assert_array_equal(ak.to_numpy(found["a"]), values)
    assert ak.to_numpy(found["a"]).dtype == values.dtype.newbyteorder("=")
    assert found["t"].to_list() == [f"é{each}" for each in range(len(values))]


def test_values_are_what_splits_and_states_go_by() -> None:
    values = columns()
    frames = [
        rf.from_arrays(values),
        rf.from_arrays(dict(values)),
        pickle.loads(pickle.dumps(rf.from_arrays(values))),
    ]
    parts = [rf.Loader(frame, 10, ["id"], seed=1).split(0.3).test for frame in frames]
    ids = [np.concatenate(list(part)) for part in parts]
    assert np.array_equal(ids[0], ids[1])
    assert np.array_equal(ids[0], ids[2])
    state = rf.Loader(frames[0], 10, ["id"], seed=1).state_dict()
    rf.Loader(frames[1], 10, ["id"], seed=1).load_state_dict(state)
    other = rf.from_arrays(values | {"id": values["id"][::-1]})
    with pytest.raises(rf.errors.StateError, match="files"):
        rf.Loader(other, 10, ["id"], seed=1).load_state_dict(state)


def test_arrays_are_neither_copied_nor_written_to() -> None:
    values = {"x": np.arange(1000.0, dtype=np.float32), "v": np.ones((1000, 3))}
    for array in values.values():
        array.flags.writeable = False
    inputs = {"x": ["x"], "v": rf.padded("v", length=3)}
    for batch in rf.Loader(rf.from_arrays(values), 10, inputs):
        for part in flat(batch):
            part[:] = 0
    assert values["x"].sum() == 499_500


REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "nothing": ({}, ArgumentError, "at least one array"),
    "no mapping": ([1, 2], ArgumentError, "must be a mapping of names to arrays, got list"),
    "a name": ({1: [1]}, ArgumentError, "named by a text"),
    "lengths": ({"a": [1, 2], "b": [1]}, ArgumentError, "'b' has 1 entries, others 2"),
    "a number": ({"a": 3}, ArgumentError, "one value per entry, got 3"),
    "complex": ({"a": np.ones(2, complex)}, UnsupportedColumnError, "'a' is an array of complex128"),
    "half": ({"a": np.ones(2, np.float16)}, UnsupportedColumnError, "Convert it"),
    "times": ({"a": np.zeros(2, "M8[s]")}, UnsupportedColumnError, "'a' is an array of datetime64"),
    "masked": ({"a": np.ma.masked_array([1, 2], [True, False])}, ArgumentError, "fill it"),
    "none": ({"a": ak.Array([1, None])}, ArgumentError, "fill_none"),
    "records": ({"a": ak.Array([{"b": 1}])}, UnsupportedColumnError, "fields of records"),
    "a control character": ({"a\n": [1]}, ArgumentError, "without line breaks"),
    "ragged lists": ({"a": [[1], [1, 2]]}, UnsupportedColumnError, "as an awkward array"),
    "large integers": ({"a": [2**70]}, UnsupportedColumnError, "array of objects"),
    "objects": ({"a": np.array([{}, 1], object)}, UnsupportedColumnError, "array of objects"),
    "nested": ({"a": ak.Array([[[1], []]])}, UnsupportedColumnError, "holds numbers, vectors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_column_is_refused(case: str) -> None:
    arrays, kind, message = REFUSED[case]
    with pytest.raises(kind, match=message):
        rf.from_arrays(arrays)


def test_texts_and_masks_without_effect() -> None:
    frame = rf.from_arrays(
        {"t": np.array(["", "é\0b", "c"]), "m": ak.mask(ak.Array([1, 2, 3]), [True] * 3)}
    )
    found = frame.arrays(["t", "m"])
    assert found["t"].to_list() == ["", "é\0b", "c"]
    assert found["m"].tolist() == [1, 2, 3]
    assert rf.from_arrays({"t": np.array([], "U3")}).columns["t"].kind == "text"


def test_a_column_that_is_missing() -> None:
    with pytest.raises(MissingColumnError, match=r"arrays in memory.* no column 'y'"):
        rf.Loader(rf.from_arrays({"x": [1.0, 2.0]}), 1, ["y"])


def test_empty_lists_and_no_entries() -> None:
    frame = rf.from_arrays({"v": ak.Array([[], []]), "x": [1, 2]})
    [(x, y)] = rf.Loader(frame, 4, {"v": rf.padded("v", length=2)}, "x", shuffle=False)
    assert not any(part.any() for part in flat(x["v"]))
    assert y.tolist() == [[1], [2]]
    with pytest.raises(rf.errors.EmptyDatasetError):
        rf.Loader(rf.from_arrays({"x": np.zeros(0)}), 4, ["x"])
