"""Functions that the user wrote in Python, compiled or called with many entries at once."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numba
import numpy as np
import pytest

from expression.helpers import INPUTS, TYPES, define, listed, outputs
from rootfeed.errors import EvaluationError, ExpressionTypeError, MissingColumnError, RootfeedError
from rootfeed.expression import Cut, Definition, compile_cuts, infer, parse


def result(function: Any, **options: Any) -> Any:
    return listed(outputs([Definition("result", function, **options)], ["result"])["result"])


def test_a_number_from_numbers() -> None:
    np.testing.assert_array_equal(
        result(lambda i, n: i * 2 + n), 2 * INPUTS["i"].astype("i8") + INPUTS["n"]
    )


def test_columns_by_name() -> None:
    np.testing.assert_array_equal(result(lambda a, b: a + b, columns=("n", "Jet.n")), [4, 0, 2, 6])


def largest(v: Any) -> float:
    best = 0.0
    for each in v:
        if each > best:
            best = each
    return best


def test_vectors_arrive_as_arrays() -> None:
    np.testing.assert_array_equal(result(largest), [3, 0, 5, 4])


def test_vectors_return_as_arrays() -> None:
    assert result(lambda v, n: v[::-1] * n) == [[2, 6], [], [5], [12, -3, 6]]


def test_compiled_already() -> None:
    np.testing.assert_array_equal(result(numba.njit(largest)), [3, 0, 5, 4])


def test_of_definitions_and_in_them() -> None:
    steps = [define("kept", "v[v > 1]"), Definition("f", lambda kept: kept.size), define("g", "f * 10")]
    np.testing.assert_array_equal(np.asarray(outputs(steps, ["g"])["g"]), [10, 0, 10, 20])


def test_what_numba_refuses() -> None:
    def opens(i: int) -> int:
        return len(open(str(i)).read())

    with pytest.raises(ExpressionTypeError) as caught:
        infer([Definition("result", opens)], TYPES, "python")
    message = str(caught.value)
    assert "'result'" in message
    assert "vectorized=True" in message
    assert "int32" in message
    assert len(message.splitlines()) < 40


def test_what_is_no_number() -> None:
    with pytest.raises(ExpressionTypeError, match="number"):
        infer([Definition("result", lambda i: (i, i))], TYPES, "python")


def test_unknown_arguments() -> None:
    with pytest.raises(MissingColumnError, match="'nn'"):
        infer([Definition("result", lambda nn: nn)], TYPES, "python")
    with pytest.raises(RootfeedError, match="columns"):
        infer([Definition("result", lambda *many: 1)], TYPES, "python")


# --- many entries at once ------------------------------------------------------------------------------


def test_vectorized_numbers() -> None:
    calls = []

    def function(i: Any, n: Any) -> Any:
        calls.append(len(i))
        return np.cumsum(i * 0 + n)

    found = result(function, vectorized=True)
    np.testing.assert_array_equal(found, [2, 2, 3, 6])
    assert calls[-1] == 4


def test_vectorized_vectors() -> None:
    def function(v: ak.Array) -> ak.Array:
        return ak.sort(v[v > 0], axis=1)

    assert result(function, vectorized=True) == [[1, 3], [], [5], [2, 4]]


def test_vectorized_of_and_in_definitions() -> None:
    steps = [
        define("kept", "v[v > 1]"),
        Definition("count", lambda kept: ak.num(kept) * 1.0, vectorized=True),
        define("twice", "2 * count"),
        Cut(parse("twice > 3"), "cut"),
    ]
    np.testing.assert_array_equal(np.asarray(outputs(steps, ["twice"], take=[3, 0])["twice"]), [4, 2])
    cuts = compile_cuts(steps, TYPES, "python")
    passed, passing = np.empty(4, np.uint8), np.zeros(1, np.int64)
    cuts.run({n: INPUTS[n] for n in cuts.inputs}, 0, 0, 4, "f", passed, passing)
    assert passed.tolist() == [0, 0, 0, 1]


def test_vectorized_of_another_length() -> None:
    with pytest.raises(EvaluationError, match="4"):
        result(lambda i: i[1:], vectorized=True)


def test_vectorized_that_fails() -> None:
    def fails(i: Any) -> Any:
        raise RuntimeError("no model")

    with pytest.raises(RootfeedError, match="no model"):
        result(fails, vectorized=True)
