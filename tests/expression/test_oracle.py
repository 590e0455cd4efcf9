"""Expressions in C++'s dialect give what RDataFrame gives: types, integers, reals within 1 ulp."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from expression.cases import CUTS, EXPRESSIONS, GROUPS
from expression.oracle import ENTRIES, SHORT, Truth, evaluate
from rootfeed.expression import Cut, Definition, compile_cuts, compile_outputs, parse
from rootfeed.schema import Array, Jagged

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")


@pytest.fixture(scope="module")
def truth() -> Truth:
    return evaluate([*EXPRESSIONS, *CUTS])


def distance(found: Array, wanted: Array) -> Array:
    """Distance in units in the last place; 0 between equal ones and between NaN."""
    with np.errstate(all="ignore"):
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        unit = np.spacing(np.maximum(np.abs(found), np.abs(wanted)))
        return np.where(same, 0, np.abs(found - wanted) / unit)


def assert_equal(text: str, found: Any, wanted: Any) -> None:
    assert isinstance(found, Jagged) == isinstance(wanted, Jagged), text
    if isinstance(wanted, Jagged):
        np.testing.assert_array_equal(found.offsets, wanted.offsets, text)
        found, wanted = found.values, wanted.values
    assert found.dtype == wanted.dtype, text
    if wanted.dtype.kind == "f":
        assert distance(found, wanted).max(initial=0) <= 1, text
    else:
        np.testing.assert_array_equal(found, wanted, text)


@pytest.mark.parametrize("group", GROUPS)
def test_values(group: str, truth: Truth) -> None:
    steps = [Definition(text, parse(text)) for text in GROUPS[group]]
    names = [step.name for step in steps]
    outputs = compile_outputs(steps, names, truth.types, "c++")
    outs = {n: np.empty(ENTRIES, t.dtype) for n, t in outputs.types.items() if t.kind == "scalar"}
    inputs = {name: truth.inputs[name] for name in outputs.inputs}
    take = np.arange(ENTRIES, dtype=np.int32)
    vectors = outputs.run(inputs, 0, 0, take, "file.root", outs)
    assert not outs.keys() & vectors.keys()
    for text in names:
        assert_equal(text, (outs | vectors)[text], truth.values[EXPRESSIONS.index(text)])


def test_cuts(truth: Truth) -> None:
    steps = [Cut(parse(text), text) for text in CUTS]
    cuts = compile_cuts(steps, truth.types, "c++")
    passed, passing = np.empty(ENTRIES, np.uint8), np.full(len(CUTS), 10, np.int64)
    inputs = {name: truth.inputs[name] for name in cuts.inputs}
    cuts.run(inputs, 0, 0, ENTRIES, "file.root", passed, passing)
    wanted = np.ones(ENTRIES, bool)
    for place, values in enumerate(truth.values[len(EXPRESSIONS) :]):
        wanted &= np.asarray(values) != 0
        assert passing[place] == 10 + np.count_nonzero(wanted)
    np.testing.assert_array_equal(passed, wanted)
    assert 0 < passed.sum() < ENTRIES


def test_enough_is_compared() -> None:
    assert len(EXPRESSIONS) >= 150
    text = " ".join(EXPRESSIONS)
    for short in SHORT.values():
        assert f" k_{short}" in text
        assert f"v_{short}" in text
