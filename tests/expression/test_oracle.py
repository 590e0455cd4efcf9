"""Expressions in C++'s dialect give what RDataFrame gives: types, integers, reals within 1 ulp."""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from expression import cases, oracle
from expression.cases import CUT_FLOW, CUTS, EXPRESSIONS, GROUPS, NO_CUTS
from expression.helpers import TOGETHER
from expression.oracle import ENTRIES, SHORT, Truth, evaluate, frame_of_columns, is_cut
from rootfeed.errors import ExpressionTypeError
from rootfeed.expression import Cut, Definition, compile_cuts, compile_outputs, parse
from rootfeed.schema import Array, Jagged

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")


@pytest.fixture(scope="module")
def truth(pytestconfig: pytest.Config) -> Truth:
    """What ROOT says; it takes 20 s to compile it all, so that is kept until ROOT or a text changes."""
    texts = [Path(module.__file__).read_bytes() for module in (cases, oracle)]
    key = hashlib.sha256(b"".join([version("root").encode(), *texts])).hexdigest()
    kept = pytestconfig.cache.mkdir("oracle") / key
    if kept.exists() and not pytestconfig.getoption("thorough"):
        return pickle.loads(kept.read_bytes())
    found = evaluate(EXPRESSIONS, CUTS, CUT_FLOW)
    written = kept.with_suffix(f".{os.getpid()}")
    written.write_bytes(pickle.dumps(found))
    written.replace(kept)
    return found


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
    texts = GROUPS[group]
    for start in range(0, len(texts), TOGETHER):
        steps = [Definition(text, parse(text)) for text in texts[start : start + TOGETHER]]
        names = [step.name for step in steps]
        outputs = compile_outputs(steps, names, truth.types, "c++")
        outs = {n: np.empty(ENTRIES, t.dtype) for n, t in outputs.types.items() if t.kind == "scalar"}
        inputs = {name: truth.inputs[name] for name in outputs.inputs}
        take = np.arange(ENTRIES, dtype=np.int32)
        vectors = outputs.run(inputs, 0, 0, take, "file.root", outs)
        assert not outs.keys() & vectors.keys()
        for text in names:
            assert_equal(text, (outs | vectors)[text], truth.values[EXPRESSIONS.index(text)])


def entries_passing(cuts: Sequence[str], truth: Truth) -> tuple[list[int], list[int]]:
    """The entries that pass all of some cuts, and how many each of them leaves."""
    compiled = compile_cuts([Cut(parse(text), text) for text in cuts], truth.types, "c++")
    passed, passing = np.empty(ENTRIES, np.uint8), np.zeros(len(cuts), np.int64)
    inputs = {name: truth.inputs[name] for name in compiled.inputs}
    compiled.run(inputs, 0, 0, ENTRIES, "file.root", passed, passing)
    return np.flatnonzero(passed).tolist(), passing.tolist()


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_passes_the_entries_that_it_passes_in_root(cut: str, truth: Truth) -> None:
    wanted = truth.passing[CUTS.index(cut)]
    assert entries_passing([cut], truth) == (wanted, [len(wanted)])


def test_cuts_one_after_another(truth: Truth) -> None:
    wanted = truth.flow[-1]
    assert entries_passing(CUT_FLOW, truth) == (wanted, [len(entries) for entries in truth.flow])
    left = [ENTRIES, *map(len, truth.flow)]
    assert left == sorted(set(left), reverse=True)
    assert wanted


def test_a_cut_is_true_or_false_as_in_root(truth: Truth) -> None:
    frame = frame_of_columns()
    for text in NO_CUTS:
        assert not is_cut(frame, text), text
        with pytest.raises(ExpressionTypeError, match="a cut is true or false"):
            entries_passing([text], truth)


def test_enough_is_compared(truth: Truth) -> None:
    assert len(EXPRESSIONS) >= 150
    text = " ".join(EXPRESSIONS)
    for short in SHORT.values():
        assert f" k_{short}" in text
        assert f"v_{short}" in text
    for cut, entries in zip(CUTS, truth.passing, strict=True):
        assert 0 < len(entries) < ENTRIES, cut
