"""Integers of 64 bits stay what they are, or a warning counts those that do not."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given
from hypothesis import strategies as st

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed.errors import (
    ArgumentError,
    EvaluationError,
    PrecisionWarning,
    UnsupportedColumnError,
)
from rootfeed.exact import common_dtype, inexact, integer_dtype

HUGE = 2**60
INTEGERS = [np.dtype(each) for each in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")]


def write(path: Path, **columns: Any) -> str:
    with uproot.recreate(path) as file:
        file.mktree("t", {name: values.dtype for name, values in columns.items()})
        file["t"].extend(columns)
    return str(path)


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=9), st.sampled_from(INTEGERS), st.data())
def test_what_a_dtype_cannot_hold(numbers: list[int], stored: Any, data: Any) -> None:
    limits = np.iinfo(stored)
    near = [limits.min, limits.max, limits.max - 1, 2**53 + 1, 2**53, 2**24 + 1, 65504, 65520, 0]
    numbers = [n for n in [*numbers, *near] if limits.min <= n <= limits.max]
    values = np.array(numbers, stored)
    for dtype in ("f2", "f4", "f8"):
        with np.errstate(over="ignore"):
            held = [float(each) for each in values.astype(dtype)]
        assert inexact(values, np.dtype(dtype)) == sum(
            a != b for a, b in zip(numbers, held, strict=True)
        )
    for other in INTEGERS:
        outside = [n for n in numbers if not np.iinfo(other).min <= n <= np.iinfo(other).max]
        assert inexact(values, other) == len(outside)


@given(
    st.lists(
        st.tuples(st.sampled_from([*INTEGERS, np.dtype("?"), np.dtype("f4")]), st.data()), min_size=1
    )
)
def test_arrays_are_put_together_without_loss(given_: list[Any]) -> None:
    parts = []
    for dtype, data in given_:
        if dtype.kind in "iu":
            limits = np.iinfo(dtype)
            some = st.integers(limits.min, limits.max) | st.just(limits.max)
        else:
            some = st.integers(0, 1)
        parts.append(np.array(data.draw(st.lists(some, max_size=4)), dtype))
    dtype, lost = common_dtype(parts)
    whole = np.concatenate(parts, dtype=dtype, casting="unsafe")
    expected = [int(each) for part in parts for each in part]
    altered = sum(int(a) != b for a, b in zip(whole, expected, strict=True))
    if dtype.kind == "f" and any(part.dtype.kind == "f" for part in parts):
        assert lost >= altered
        assert (lost == 0) == (altered == 0)
    else:
        assert lost == altered
        fits = integer_dtype(min(expected, default=0), max(expected, default=0)) is not None
        assert (dtype.kind != "f") == fits or not expected


# --- arrays of files of several types ---------------------------------------------------------

SIGNED = np.arange(5, dtype="i8") + HUGE
UNSIGNED = np.arange(5, dtype="u8") + HUGE + 100


def test_signed_and_unsigned_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / "a.root", e=SIGNED), write(tmp_path / "b.root", e=UNSIGNED)]
    expected = [*SIGNED.tolist(), *UNSIGNED.tolist()]
    for order, wanted in ((paths, expected), (paths[::-1], expected[5:] + expected[:5])):
        frame = rf.open(order)
        found = frame.arrays("e")["e"]
        assert (found.dtype, found.tolist()) == (np.dtype("i8"), wanted)
        assert frame.define("z", "e + 1").arrays("z")["z"].tolist() == [each + 1 for each in wanted]
        assert frame.filter(f"e in [{HUGE + 1}, {HUGE + 101}]").count() == 2
        assert frame.filter(f"e == {HUGE + 1}").count() == 1
        assert ROOT.RDataFrame("t", order).AsNumpy()["e"].tolist() == wanted
        found = frame.describe()["e"]
        assert (found.minimum, found.maximum) == (HUGE, HUGE + 104)
        assert found.std == pytest.approx(np.std(np.array(expected, "i8") - HUGE))


def test_files_beyond_int64(tmp_path: Path) -> None:
    large = UNSIGNED + np.uint64(2**63)
    paths = [write(tmp_path / "a.root", e=SIGNED), write(tmp_path / "b.root", e=large)]
    found = rf.open(paths).arrays("e")["e"]
    assert found.dtype == np.dtype("u8")
    assert found.tolist() == [*SIGNED.tolist(), *large.tolist()]


@pytest.mark.parametrize(
    ("first", "second", "lost"),
    [
        (np.array([-1, 3], "i8"), np.array([2**64 - 1, 2**63], "u8"), 1),
        (np.array([HUGE + 1, 3], "i8"), np.array([0.5], "f4"), 1),
        (np.array([HUGE + 1, 2**53 + 1, 3], "u8"), np.array([0.5], "f8"), 2),
    ],
)
def test_what_no_integer_holds_is_counted(tmp_path: Path, first: Any, second: Any, lost: int) -> None:
    paths = [write(tmp_path / "a.root", e=first), write(tmp_path / "b.root", e=second)]
    with pytest.warns(PrecisionWarning, match=rf"'e' .*: {lost} of its integers cannot") as caught:
        found = rf.open(paths).arrays("e")["e"]
    assert caught[0].filename == __file__
    assert found.dtype == np.dtype("f8")
    assert "float64" not in str(caught[0].message).split("rounded.")[1]
    for path, values in zip(paths, (first, second), strict=True):  # as it advises
        assert rf.open(path).arrays("e")["e"].tolist() == values.tolist()


def test_vectors_of_signed_and_unsigned_files(tmp_path: Path) -> None:
    counts = [2, 0, 3]
    vectors = [ak.unflatten(each, counts) for each in (SIGNED, UNSIGNED)]
    nested = [ak.Array([[each.to_list(), []] for each in vector]) for vector in vectors]
    nested = [ak.values_astype(n, d) for n, d in zip(nested, ("int64", "uint64"), strict=True)]
    paths = []
    for number, (vector, deep) in enumerate(zip(vectors, nested, strict=True)):
        paths.append(str(tmp_path / f"{number}.root"))
        with uproot.recreate(paths[-1]) as file:
            ntuple = file.mkrntuple("t", {"v": str(vector.type.content), "n": str(deep.type.content)})
            ntuple.extend({"v": vector, "n": deep})
    frame = rf.open(paths)
    found = frame.arrays(["v", "n"])
    assert found["v"].to_list() == [each for vector in vectors for each in vector.to_list()]
    assert found["n"].to_list() == [each for deep in nested for each in deep.to_list()]
    assert str(found["v"].type) == "6 * var * int64"


# --- functions of many entries ----------------------------------------------------------------


def test_a_function_whose_empty_list_has_no_type(tmp_path: Path) -> None:
    frame = rf.open(write(tmp_path / "a.root", e=SIGNED))
    untyped = frame.define("key", lambda e: np.array([int(each) + 1 for each in e]), vectorized=True)
    with pytest.warns(PrecisionWarning, match="'key' .* 5 values") as caught:
        untyped.arrays("key")
    assert str(tmp_path) in str(caught[0].message)
    assert "dtype=np.int64" in str(caught[0].message)
    typed = frame.define(
        "key", lambda e: np.array([int(each) + 1 for each in e], dtype=np.int64), vectorized=True
    )
    assert typed.arrays("key")["key"].tolist() == (SIGNED + 1).tolist()
    small = frame.define("key", lambda e: np.array([int(each) - HUGE for each in e]), vectorized=True)
    assert small.arrays("key")["key"].tolist() == [0, 1, 2, 3, 4]
    with pytest.warns(PrecisionWarning, match="'key'"):
        for _ in rf.Loader(untyped, 5, ["key"], dtype="float64"):
            pass


def test_a_function_whose_type_does_not_hold_what_comes(tmp_path: Path) -> None:
    frame = rf.open(write(tmp_path / "a.root", e=SIGNED))

    def later(e: Any) -> Any:
        return np.array(e, np.int32) if not len(e) else e

    with pytest.raises(EvaluationError, match=r"5 values that do not fit into int32.*dtype=np\.int64"):
        frame.define("key", later, vectorized=True).arrays("key")


# --- comparisons ------------------------------------------------------------------------------

EDGES = [-(2**63), -HUGE - 1, -1, 0, 1, 2**53, 2**53 + 1, HUGE, HUGE + 1, 2**63 - 1]


@pytest.mark.parametrize("operator", ["==", "!=", "<", "<=", ">", ">="])
def test_signed_and_unsigned_are_compared_exactly(tmp_path: Path, operator: str) -> None:
    unsigned = [each for each in EDGES if each >= 0] + [2**63, 2**64 - 1]
    pairs = list(itertools.product(EDGES, unsigned))
    frame = rf.open(
        write(
            tmp_path / "a.root",
            i=np.array([i for i, _ in pairs], "i8"),
            u=np.array([u for _, u in pairs], "u8"),
        )
    )
    made = frame.define("a", f"i {operator} u").define("b", f"u {operator} i").arrays(["a", "b"])
    assert made["a"].tolist() == [eval(f"i {operator} u") for i, u in pairs]
    assert made["b"].tolist() == [eval(f"u {operator} i") for i, u in pairs]
    among = frame.define("c", "i in [u]").arrays("c")["c"]
    assert among.tolist() == [i == u for i, u in pairs]


# --- labels, weights, splits ------------------------------------------------------------------


def test_labels_that_float64_cannot_tell(tmp_path: Path) -> None:
    labels = [HUGE, HUGE + 1, HUGE + 2, -(2**63)]
    signed = write(tmp_path / "a.root", e=np.array(labels * 10, "i8"), n=np.arange(40))
    unsigned = write(tmp_path / "b.root", e=np.array([2**63 + 1, HUGE] * 10, "u8"), n=np.arange(40, 60))
    frame = rf.open([signed, unsigned])
    written = [*labels * 10, *[2**63 + 1, HUGE] * 10]
    loader = rf.Loader(frame, 5, ["n"], sampling=rf.balanced("e"), seed=1)
    assert loader._pipeline.spec.strata.values == (-(2**63), HUGE, HUGE + 1, HUGE + 2, 2**63 + 1)
    for x in loader:
        assert sorted(written[int(n)] for n in x[:, 0]) == list(loader._pipeline.spec.strata.values)
    weights = rf.normalized("n + 1", per="e", to=dict.fromkeys(loader._pipeline.spec.strata.values, 1.0))
    sums = dict.fromkeys(loader._pipeline.spec.strata.values, 0.0)
    for x, _, w in rf.Loader(frame, 8, ["n"], target="n", weights=weights):
        for n, weight in zip(x[:, 0], w[:, 0], strict=True):
            sums[written[int(n)]] += float(weight)
    assert list(sums.values()) == pytest.approx([1.0] * 5, rel=1e-5)


def test_what_decides_a_split_is_an_integer_in_all_files(tmp_path: Path) -> None:
    signed = write(tmp_path / "a.root", e=SIGNED, n=np.arange(5))
    unsigned = write(tmp_path / "b.root", e=SIGNED.astype("u8"), n=np.arange(5))
    halves = rf.Loader(rf.open([signed, unsigned]), 5, ["n"], seed=3).split(0.5, by="e")
    for side in halves:  # a number is on the same side, whatever its type
        numbers = sorted(int(n) for x in side for n in x[:, 0])
        assert numbers == sorted([*set(numbers), *set(numbers)])
    real = write(tmp_path / "c.root", e=SIGNED.astype("f8"), n=np.arange(5))
    with pytest.raises(UnsupportedColumnError, match="float64 in some files"):
        rf.Loader(rf.open([signed, real]), 5, ["n"], seed=3).split(0.5, by="e")


# --- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [SIGNED, UNSIGNED], ids=["signed", "unsigned"])
@pytest.mark.parametrize("argument", ["dtype", "target_dtype"])
@pytest.mark.parametrize("asked", ["float16", "float32", "float64"])
def test_the_dtype_that_is_advised_holds_all(
    tmp_path: Path, values: Any, argument: str, asked: str
) -> None:
    frame = rf.open(write(tmp_path / "a.root", e=values, n=np.arange(5)))
    columns = (
        {"features": ["e"], "target": "n"} if argument == "dtype" else {"features": ["n"], "target": "e"}
    )
    with pytest.warns(PrecisionWarning, match="'e'") as caught:
        list(rf.Loader(frame, 5, **columns, **{argument: asked}))
    advice = re.search(rf"\b({argument})='(\w+)' does", str(caught[0].message))
    assert advice, caught[0].message
    x, y = next(iter(rf.Loader(frame, 5, **columns, shuffle=False, **{advice[1]: advice[2]})))
    assert (x if argument == "dtype" else y)[:, 0].tolist() == values.tolist()


@pytest.mark.parametrize(
    ("values", "asked"),
    [([300, -5], "int8"), ([2**63], "int64"), ([2**40], "uint32"), ([0, 2**33], "int32")],
)
def test_the_integer_dtype_that_is_advised_holds_all(tmp_path: Path, values: Any, asked: str) -> None:
    stored = "u8" if max(values) >= 2**63 else "i8"
    frame = rf.open(write(tmp_path / "a.root", e=np.array(values, stored)))
    with pytest.raises(ArgumentError, match="does not fit") as caught:
        list(rf.Loader(frame, 5, ["e"], dtype=asked))
    advice = re.search(r"such as '(\w+)'", str(caught.value))
    assert advice
    assert (
        next(iter(rf.Loader(frame, 5, ["e"], dtype=advice[1], shuffle=False)))[:, 0].tolist() == values
    )


def test_statistics_of_huge_integers(tmp_path: Path) -> None:
    values = np.arange(1000, dtype="i8") ** 2 - HUGE
    found = rf.open(write(tmp_path / "a.root", e=values)).describe()["e"]
    assert (found.minimum, found.maximum) == (-HUGE, 999**2 - HUGE)
    assert found.std == pytest.approx(float(np.std(values + HUGE)))
    assert found.mean == pytest.approx(float(np.mean(values + HUGE)) - HUGE, rel=0, abs=256)
    assert found.quantiles[0.5] + HUGE == pytest.approx(500**2, rel=1e-2)
    assert isinstance(found.quantiles[0.5], int)
