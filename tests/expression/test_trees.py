"""Types come first: what an expression computes is a tree, before a line of a kernel is written."""

from __future__ import annotations

import numpy as np
import pytest

from expression.helpers import INPUTS, define, outputs, types_of
from rootfeed.errors import EvaluationError, ExpressionError
from rootfeed.expression import Definition, Dialect, compile_outputs, infer, parse, program
from rootfeed.expression.inference import inferred
from rootfeed.expression.typed import Column, Scope, Typed, constant, elementwise

BOOL, INT32, FLOAT32 = np.dtype("?"), np.dtype("i4"), np.dtype("f4")
X, N = Column(FLOAT32, False, "x", False), Column(INT32, False, "n", False)
V = Column(FLOAT32, True, "v", False)
COLUMNS = {"x": X, "n": N, "v": V}


def tree(text: str, dialect: Dialect = "python") -> Typed:
    return inferred(Scope(text, dialect, COLUMNS), parse(text).node)


def test_a_tree_names_operations_and_conversions() -> None:
    total = elementwise(FLOAT32, "{0} + {1}", X, constant(FLOAT32, 1.0))
    assert tree("x + 1 > n") == elementwise(BOOL, "({0} > np.float32({1}))", total, N)


def test_a_spelling_makes_no_difference() -> None:
    assert tree("x > 0 && n < 2") == tree("x > 0 and n < 2")
    assert tree("(float) n") == tree("np.float32(n)") == tree("static_cast<float>(n)")
    assert tree("v.size()") == tree("len(v)") == tree("size(v)")


def test_the_dialects_choose_the_operation() -> None:
    assert tree("n / 2").dtype == np.dtype("f8")
    assert tree("n / 2", "c++").dtype == INT32
    assert tree("v > 1").dtype == BOOL
    assert tree("v > 1", "c++").dtype == INT32


# --- a definition's name is a column --------------------------------------------------------------


@pytest.mark.parametrize("words", [2_000, 1], ids=["one kernel", "several kernels"])
def test_what_a_definition_holds_decides_nothing(monkeypatch: pytest.MonkeyPatch, words: int) -> None:
    monkeypatch.setattr(program, "MOST_WORDS", words)
    inputs = {"i": np.array([100_000], "i4"), "two": np.array([2], "i4")}
    steps = [define("a", "2"), define("q", "i ** a"), define("p", "i ** two")]
    found = outputs(steps, ["q", "p"], inputs=inputs, take=[0])
    for values in found.values():
        assert isinstance(values, np.ndarray)
        assert (values.dtype, values.tolist()) == (np.dtype("f8"), [1e10])


def test_a_negative_index_by_name_is_an_error_of_the_entry() -> None:
    steps = [define("a", "-1"), define("q", "v[a]")]
    assert infer(steps, types_of(INPUTS), "c++")["q"].dtype == FLOAT32
    with pytest.raises(EvaluationError, match="there is no element -1 among 2, in entry 100"):
        outputs(steps, ["q"], "c++")


# --- long chains ----------------------------------------------------------------------------------


def test_long_comparisons_of_both_dialects() -> None:
    dialects: tuple[Dialect, ...] = ("python", "c++")
    for dialect in dialects:
        steps = [Definition("q", parse("<".join(["y"] * 100)))]
        compiled = compile_outputs(steps, ["q"], types_of(INPUTS), dialect)
        assert compiled.types["q"].dtype == BOOL
        with pytest.raises(ExpressionError, match="too large to be compiled"):
            infer([define("q", "<".join(["y"] * 4_000))], types_of(INPUTS), dialect)
