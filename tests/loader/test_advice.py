"""What an error advises can be done: it is taken out of the message, carried out, and works."""

from __future__ import annotations

import re
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed.errors import ArgumentError, RootfeedError, UnsupportedColumnError

ENTRIES = 30


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("advice") / "a.root")
    lengths = np.arange(ENTRIES) % 4 + 1
    with uproot.recreate(path) as file:
        file["t"] = {
            "v": ak.unflatten(np.arange(lengths.sum(), dtype="f4"), lengths),
            "x": np.arange(ENTRIES, dtype="f4"),
            "n": np.arange(ENTRIES),
            "img": np.arange(6 * ENTRIES, dtype="f4").reshape(-1, 2, 3),
            "sample": ak.Array(["signal", "other"] * (ENTRIES // 2)),
        }
    return path


@pytest.fixture
def frame(path: str) -> rf.Frame:
    return rf.open(path)


def refused(frame: rf.Frame, error: type[Exception] = UnsupportedColumnError, **asked: Any) -> str:
    with pytest.raises(error) as caught:
        rf.Loader(frame, 10, **({"features": ["x"]} | asked))
    return str(caught.value)


def carried_out(text: str, frame: rf.Frame) -> rf.Frame:
    """What the first ``frame = frame.define(...)`` of a message makes."""
    advice = re.search(r"frame = (frame\.define\('number', (?:'[^']*'|\"[^\"]*\")\))", text)
    assert advice, text
    return eval(advice[1], {"frame": frame})


@pytest.mark.parametrize("use", ["features", "target", "weights"])
@pytest.mark.parametrize("name", ["v", "img"])
def test_a_vector_that_should_be_a_number(frame: rf.Frame, name: str, use: str) -> None:
    rest: dict[str, Any] = {"target": "n"} if use == "weights" else {}
    text = refused(frame, **rest, **{use: name})
    assert f"column '{name}'" in text
    made = carried_out(text, frame)
    asked: dict[str, Any] = {"features": ["x"]} | rest | {use: "number"}
    assert len(list(rf.Loader(made, 10, **asked))) == 3
    for other in (f"Max({name})", f"{name}[0]"):  # which it names, too
        assert other in text
        assert frame.define("number", other).columns["number"].kind == "scalar"
    flat = re.search(r"rootfeed(\.flat\([^)]*\)) in its place", text)
    assert (flat is None) == (use == "weights")
    if flat:
        asked = {"features": ["x"]} | {use: eval("rf" + flat[1])}
        batch = next(iter(rf.Loader(frame, 10, shuffle=False, **asked)))
        found = batch[1] if use == "target" else batch
        assert found.shape == (10, 6 if name == "img" else 4)


@pytest.mark.parametrize("use", ["features", "target"])
def test_a_collection_where_a_matrix_is_made(frame: rf.Frame, use: str) -> None:
    for item in (rf.padded("v", 3), rf.ragged("v"), rf.array("img")):
        text = refused(frame, ArgumentError, **{use: ["x", item]})
        flat = re.search(r"rootfeed(\.flat\([^)]*\)) in its place", text)
        assert flat
        assert ("in a mapping" in text) == (use == "features")
        rf.Loader(frame, 10, **({"features": ["x"]} | {use: ["x", eval("rf" + flat[1])]}))


def test_flat_targets(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 10, ["x"], target=["n", rf.flat("img", 6)], shuffle=False)
    assert loader.target == ("n", *(f"img_{number}" for number in range(6)))
    for x, y in loader:
        assert np.array_equal(y[:, 0], x[:, 0])
        assert np.array_equal(y[:, 1:], x * 6 + np.arange(6))
    text = refused(frame, target=rf.flat("v", 2), target_dtype="int32")
    assert "target_dtype='int32'" in text
    assert set(rf.Loader(frame, 10, target=rf.flat("v", 2)).features) == {"x", "n"}


@pytest.mark.parametrize("features", [["sample"], {"a": rf.padded("sample", 2)}, [rf.flat("sample", 2)]])
def test_a_text_that_should_be_a_number(frame: rf.Frame, features: Any) -> None:
    made = carried_out(refused(frame, features=features), frame)
    assert sum(x.sum() for x in rf.Loader(made, 10, ["number"])) == ENTRIES / 2


def test_a_number_that_should_be_a_vector(frame: rf.Frame) -> None:
    for asked in ({"a": rf.padded("x", 2)}, {"a": rf.ragged("x")}, [rf.flat("x", 2)], rf.array("x")):
        assert "Name it in a list of columns" in refused(frame, features=asked)
    rf.Loader(frame, 10, {"a": ["x"]})
    text = refused(frame, features={"a": rf.padded("v", 2, sort_by="x")})
    assert "sort_by takes a vector" in text
    assert "list of columns" not in text


@pytest.mark.parametrize("make", [rf.padded, rf.flat])
@pytest.mark.parametrize("length", [0, 2**20, 10**9, 1.5, True])
def test_lengths(frame: rf.Frame, make: Any, length: Any) -> None:
    with pytest.raises(ArgumentError, match="a length from 1 to 1048575") as caught:
        make("v", length)
    assert repr(length) in str(caught.value)
    make("v", 1)
    make("v", 2**20 - 1)


def test_a_label_that_is_a_vector(frame: rf.Frame) -> None:
    for use in (
        lambda: rf.Loader(frame, 10, ["x"], sampling=rf.balanced("v")),
        lambda: rf.Loader(frame, 10, ["x"], seed=1).split(0.5, stratify="v"),
        lambda: rf.Loader(frame, 10, ["x"], target="x", weights=rf.normalized("x", per="v")),
    ):
        with pytest.raises(UnsupportedColumnError, match="Define one from it, or name another column"):
            use()


def test_vectors_of_roots_generators(path: str) -> None:
    df = ROOT.RDataFrame("t", path)
    for columns, target, weights in (
        (["v", "x"], "x", ""),
        (["x", "v"], "v", ""),
        (["x", "n", "v"], "n", "v"),
    ):
        with pytest.raises(ArgumentError) as caught:
            ROOT.CreateNumPyGenerators(
                df, 10, 30, 10, columns=columns, target=target, weights=weights, validation_split=0.0
            )
        text = str(caught.value)
        if weights:
            advice = re.search(r"Define\('weight', '([^']*)'\)", text)
            assert advice
            made = df.Define("weight", advice[1])
            train, _ = ROOT.CreateNumPyGenerators(
                made, 10, 30, 10, columns=["x", "n", "weight"], target=target, weights="weight"
            )
        else:
            assert "max_vec_sizes={'v': n}" in text
            train, _ = ROOT.CreateNumPyGenerators(
                df, 10, 30, 10, columns=columns, target=target, max_vec_sizes={"v": 4}
            )
        assert len(list(train)) == 3
    assert train.target_columns == ["n"]


def test_features_that_are_left_out(frame: rf.Frame) -> None:
    with pytest.raises(RootfeedError, match="Name the features"):
        rf.Loader(frame.select(["v", "sample"]), 10)
