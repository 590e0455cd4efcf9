"""An epoch in one piece: what its batches are, one after another."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError
from rootfeed.loader import whole

ENTRIES = 500
LENGTHS = np.arange(ENTRIES) % 4
FRAME = rf.from_arrays(
    {
        "id": np.arange(ENTRIES),
        "label": np.arange(ENTRIES) % 3,
        "weight": np.linspace(1, 2, ENTRIES),
        "v": ak.unflatten(np.arange(float(LENGTHS.sum())), LENGTHS),
    }
)


def make(**options: Any) -> rf.Loader:
    return rf.Loader(FRAME, 64, **({"features": ["id"], "seed": 2} | options))


def test_a_matrix_labels_and_weights() -> None:
    for target, shape in (("label", (ENTRIES,)), (["label", "id"], (ENTRIES, 2))):
        found = make(target=target, weights="weight").arrays()
        x, y, w = (
            np.concatenate(part) for part in zip(*make(target=target, weights="weight"), strict=True)
        )
        assert np.array_equal(found["x"], x)
        assert found["y"].shape == shape
        assert np.array_equal(found["y"].reshape(y.shape), y)
        assert np.array_equal(found["w"], w[:, 0])
    assert list(make().arrays()) == ["x"]


def test_each_call_is_the_next_epoch() -> None:
    loader, other = make(), make()
    for _ in range(2):
        assert np.array_equal(loader.arrays()["x"], np.concatenate(list(other)))
    assert loader.state_dict()["epoch"] == 2
    dropped = make(drop_last=True).arrays()["x"]
    assert len(dropped) == ENTRIES // 64 * 64


def test_inputs_masks_and_ragged_vectors() -> None:
    inputs = {"p": rf.padded("v", length=2), "r": rf.ragged("v"), "e": ["id"]}
    with pytest.warns(rf.errors.CutVectorWarning):
        found = make(features=inputs, shuffle=False, target="label").arrays()["x"]
    assert found["e"][:, 0].tolist() == list(range(ENTRIES))
    assert np.array_equal(found["r_offsets"], np.concatenate([[0], np.cumsum(LENGTHS)]))
    assert np.array_equal(found["r"][:, 0], np.arange(float(LENGTHS.sum()), dtype=np.float32))
    assert np.array_equal(found["p_mask"], np.arange(2) < LENGTHS[:, None])
    assert found["p"].shape == (ENTRIES, 2, 1)


def test_a_loader_is_no_array() -> None:
    loader = make()
    for use in (np.asarray, np.array, np.sum):
        with pytest.raises(ArgumentError, match="a loader is no array"):
            use(loader)
    assert loader.state_dict()["epoch"] == 0


def test_more_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "free_bytes", lambda: 3_000)
    with pytest.raises(
        ArgumentError, match=r"500 rows take up to \d\.\d kB(.|\n)*Iterate over the batches"
    ):
        make().arrays()
