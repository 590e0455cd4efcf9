"""Expressions in Python's dialect, functions in Python, messages and threads."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from expression.helpers import values
from rootfeed.errors import (
    ArgumentError,
    EvaluationError,
    ExpressionError,
    ExpressionTypeError,
    MissingColumnError,
)
from rootfeed.expression import Cut, Definition, Dialect, compile_cuts, compile_outputs, infer, parse
from rootfeed.schema import ColumnType, Jagged

COLUMNS: dict[str, Any] = {
    "x": np.array([-7, 7, 3, 0], np.int32),
    "n": np.array([2, 2, -2, 5], np.int32),
    "low": np.array([-(2**31), 1, 2, 3], np.int32),
    "big": np.array([0, 1, 2, 2**64 - 1], np.uint64),
    "f": np.array([-7.5, 7.5, 0.0, np.nan]),
    "v": Jagged(np.array([1, 2, 3, 40, 50, 6], np.float32), np.array([0, 3, 3, 5, 6])),
    "w": Jagged(np.array([1, 0, 2, 1, 1, 0], np.int32), np.array([0, 3, 3, 5, 6])),
    "other": Jagged(np.array([1, 2, 3, 4], np.float32), np.array([0, 1, 2, 3, 4])),
}
TAKE = np.arange(4, dtype=np.int32)


def types_of(columns: Mapping[str, Any]) -> dict[str, ColumnType]:
    types = {}
    for name, value in columns.items():
        dtype = value.values.dtype if isinstance(value, Jagged) else value.dtype
        kind = "vector" if isinstance(value, Jagged) else "scalar"
        types[name] = ColumnType(f"vector of {dtype}" if kind == "vector" else str(dtype), kind, dtype)
    return types


TYPES = types_of(COLUMNS) | {"label": ColumnType("std::string", "text", None)}


def run(steps: list[Definition], name: str, dialect: Dialect = "python", take: Any = TAKE) -> Any:
    """Evaluate steps; return an array, or lists where it is a vector."""
    outputs = compile_outputs(steps, [name], TYPES, dialect)
    type_ = outputs.types[name]
    outs = {name: np.empty(len(take), type_.dtype)} if type_.kind == "scalar" else {}
    inputs = {each: COLUMNS[each] for each in outputs.inputs}
    found = outs | outputs.run(inputs, 100, 1000, take, "file.root:t", outs)
    value = found[name]
    if isinstance(value, Jagged):
        return [part.tolist() for part in np.split(value.values, value.offsets[1:-1])]
    return value


def evaluated(text: str, dialect: Dialect = "python") -> Any:
    return run([Definition("r", parse(text))], "r", dialect)


NUMBERS: list[tuple[str, list[Any] | None]] = [
    ("x / n", [-3.5, 3.5, -1.5, 0]),
    ("x // n", [-4, 3, -2, 0]),
    ("x % n", [1, 1, -1, 0]),
    ("f // 2", [-4, 3, 0, np.nan]),
    ("f % 2", [0.5, 1.5, 0, np.nan]),
    ("-3 < x < 5", [False, False, True, True]),
    ("x > -1 & n < 3", [False, True, True, False]),
    ("x > -1 and not n > 3", [False, True, True, False]),
    ("x > 1 ? 10 : 20", [20, 10, 10, 20]),
    ("10 if x > 1 else 20", [20, 10, 10, 20]),
    ("x > 1 ? 1 : x == 0 ? 2 : 3", [3, 1, 1, 2]),
    ("1 if x > 1 else 2 if x == 0 else 3", [3, 1, 1, 2]),
    ("(int) f if f == f else 0", [-7, 7, 0, 0]),
    ("float(x) / 2", [-3.5, 3.5, 1.5, 0]),
    ("static_cast<double>(x) / 2", [-3.5, 3.5, 1.5, 0]),
    ("np.float32(x)", [-7, 7, 3, 0]),
    ("(unsigned char) x", [249, 7, 3, 0]),
    ("Sum([x, n])", [-5, 9, 1, 5]),
    ("Sum({x, n, 0.5})", [-4.5, 9.5, 1.5, 5.5]),
    ("[x, n][-1]", [2, 2, -2, 5]),
    ("at(v, 0, -1)", [1, -1, 40, 6]),
    ("at(v, -1, -1)", [-1, -1, -1, -1]),
    ("len(v)", [3, 0, 2, 1]),
    ("v.size()", [3, 0, 2, 1]),
    ("x << n", None),
    ("1 << 40", [0] * 4),
    ("x >> 40", [-1, 0, 0, 0]),
    ("2 ** 3", [8] * 4),
    ("x ** 2", [49, 49, 9, 0]),
    ("-x ** 2", [-49, -49, -9, 0]),
    ("2 ** -1", [0.5] * 4),
    ("low // -1", [-(2**31), -1, -2, -3]),
    ("low % -1", [0, 0, 0, 0]),
    ("big > -1", [True] * 4),
    ("len(v) > 0 && v[0] > 30", [False, False, True, False]),
    ("len(v) > 0 and v[-1] > 2", [True, False, True, True]),
    ("len(v) == 0 or v[0] > 30", [False, True, True, False]),
    ("v[0] if len(v) > 0 else 9", [1, 9, 40, 6]),
    ("Sum(v[v > 2])", [3, 0, 90, 6]),
    ("Any(v > 30)", [False, False, True, False]),
    ("entry", [1000, 1001, 1002, 1003]),
    ("rdfentry_ + 0", [1000, 1001, 1002, 1003]),
    ("true", [True] * 4),
    ("np.pi > 3", [True] * 4),
]


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    return values([text for text, _ in NUMBERS], inputs=COLUMNS, first_number=1000)


@pytest.mark.parametrize(("text", "expected"), NUMBERS)
def test_numbers(text: str, expected: list[Any] | None, numbers: dict[str, Any]) -> None:
    found = numbers[text]
    if expected is not None:
        assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), found


VECTORS: list[tuple[str, list[list[Any]]]] = [
    ("v * 2", [[2, 4, 6], [], [80, 100], [12]]),
    ("v[v > 2]", [[3], [], [40, 50], [6]]),
    ("v[w]", [[2, 1, 3], [], [50, 50], [6]]),
    ("v[w == 1]", [[1], [], [40, 50], []]),
    ("1.5 < v < 45", [[False, True, True], [], [True, False], [True]]),
    ("Sort(-v)", [[-3, -2, -1], [], [-50, -40], [-6]]),
    ("Concatenate(v, other)", [[1, 2, 3, 1], [2], [40, 50, 3], [6, 4]]),
    ("v if x > 0 else other", [[1], [], [40, 50], [4]]),
    ("[x, n]", [[-7, 2], [7, 2], [3, -2], [0, 5]]),
    ("Range(3)", [[0, 1, 2]] * 4),
]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    return values([text for text, _ in VECTORS], inputs=COLUMNS)


@pytest.mark.parametrize(("text", "expected"), VECTORS)
def test_vectors(text: str, expected: list[list[Any]], vectors: dict[str, Any]) -> None:
    assert vectors[text] == expected


def test_the_dialects_divide_differently() -> None:
    assert evaluated("x / n", "c++").tolist() == [-3, 3, -1, 0]
    assert evaluated("x % n", "c++").tolist() == [-1, 1, 1, 0]
    assert evaluated("-3 < x < 5", "c++").tolist() == [True] * 4  # a truth value is less than 5
    with pytest.raises(ExpressionTypeError, match="no // in C"):
        evaluated("x // n", "c++")


@pytest.mark.parametrize(
    ("text", "what", "entry"),
    [
        ("v[1]", "there is no element 1 among 0", 101),
        ("v[-2]", "there is no element -2 among 0", 101),
        ("n // x", "an integer is divided by zero", 103),
        ("n % x", "an integer is divided by zero", 103),
        ("Sum(v + other)", "vectors of 3 and 1 elements cannot be combined", 100),
        ("Max(v)", "Max of a vector without elements", 101),
        ("Take(v, 2)", "there are no 2 elements to take among 0", 101),
        ("v[w + 1]", "there is no element 3 among 3", 100),
    ],
)
def test_what_has_no_value_names_expression_file_and_entry(text: str, what: str, entry: int) -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluated(text)
    assert str(caught.value).startswith(
        f"file.root:t: {what}, in entry {entry}, evaluating:\n  {text}\n"
    )


def test_an_error_in_a_cut_names_the_cut() -> None:
    cuts = compile_cuts([Cut(parse("x > 0"), "a"), Cut(parse("v[0] > 3"), "b")], TYPES, "python")
    passing = np.zeros(2, np.int64)
    inputs = {name: COLUMNS[name] for name in cuts.inputs}
    with pytest.raises(EvaluationError, match=r"in entry 101, evaluating:\n  v\[0\] > 3"):
        cuts.run(inputs, 100, 0, 4, "file", np.empty(4, np.uint8), passing)


def test_definitions_after_a_cut_see_only_what_passes() -> None:
    steps = [
        Cut(parse("len(v) > 0"), "a"),
        Definition("first", parse("v[0]")),
        Cut(parse("first > 3"), "b"),
    ]
    cuts = compile_cuts(steps, TYPES, "python")
    passed, passing = np.empty(4, np.uint8), np.zeros(2, np.int64)
    cuts.run({name: COLUMNS[name] for name in cuts.inputs}, 0, 0, 4, "file", passed, passing)
    assert passed.tolist() == [0, 0, 1, 1]
    assert passing.tolist() == [3, 2]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x >", ExpressionError, "the expression ends too early:\n  x >\n     ^"),
        ("x > > 2", ExpressionError, "'>' is not expected here:\n  x > > 2\n      ^"),
        ("x = 2", ExpressionError, "'=' is not expected here; to compare, write '==':\n  x = 2\n    ^"),
        ("x $ 2", ExpressionError, "'$' means nothing here:\n  x $ 2\n    ^"),
        ("", ExpressionError, "must not be empty"),
        ("xx + 1", MissingColumnError, "there is no column 'xx':\n  xx + 1\n  ^^"),
        ("1 + nn", MissingColumnError, "there is no column 'nn':\n  1 + nn\n      ^^\nDid you mean"),
        ("x + xx", MissingColumnError, "there is no column 'xx':\n  x + xx\n      ^^"),
        ("xxx + xx * 2", MissingColumnError, "there is no column 'xxx':\n  xxx + xx * 2\n  ^^^"),
        ("sqrtt(x)", ExpressionError, "Did you mean 'sqrt'"),
        ("x[0]", ExpressionTypeError, "only a vector has elements, got int32:\n  x[0]\n  ^^^"),
        ("v[0.5]", ExpressionTypeError, "an index is an integer or a mask, got float64"),
        (
            "1 + (f & 2)",
            ExpressionTypeError,
            "& takes integers, got float64 and int32:\n  1 + (f & 2)\n       ^^^^^",
        ),
        (
            "label + 1",
            ExpressionTypeError,
            "anything else define a column by a function with vectorized=True:\n  label + 1\n  ^^^^^",
        ),
        ("sqrt(x, n)", ExpressionTypeError, "sqrt takes 1 arguments, got 2"),
        ("x > 0 ? v : 1", ExpressionTypeError, "one side is a number and the other a vector"),
        ("Sum(x)", ExpressionTypeError, "Sum takes a vector, got int32"),
        ("{}", ExpressionTypeError, "an empty list has no type"),
    ],
)
def test_errors_show_the_place(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        infer([Definition("r", parse(text))], TYPES, "python")
    assert message in str(caught.value)


def test_a_cut_is_a_number() -> None:
    with pytest.raises(ExpressionTypeError, match="Any"):
        infer([Cut(parse("v > 2"), "a")], TYPES, "python")


def test_a_definition_may_be_redefined() -> None:
    steps = [
        Definition("x", parse("x + 1")),
        Definition("y", parse("x * 10")),
        Definition("x", parse("x + 1")),
    ]
    assert run(steps, "x").tolist() == [-5, 9, 5, 2]
    assert run(steps, "y").tolist() == [-60, 80, 40, 10]


def test_entries_may_be_taken_in_any_order() -> None:
    steps = [Definition("r", parse("v * 2"))]
    assert run(steps, "r", take=np.array([2, 0, 2], np.int32)) == [[80, 100], [2, 4, 6], [80, 100]]


def test_vectors_are_fused() -> None:
    outputs = compile_outputs([Definition("r", parse("Sum(v[v > 30])"))], ["r"], TYPES, "python")
    assert "np.empty" not in outputs.source
    outputs = compile_outputs([Definition("r", parse("sqrt(v[v > 1] * 2)"))], ["r"], TYPES, "python")
    assert outputs.source.count("np.empty") == 1


# --- functions ----------------------------------------------------------------------------------


def test_functions_are_compiled() -> None:
    def number(x: Any, n: Any, scale: float = 2.0) -> Any:
        return (x + n) * scale

    def vector(v: Any, x: Any) -> Any:
        return v[v > 2] + x

    def total(v: Any) -> Any:
        result = 0.0
        for each in v:
            result += each
        return result

    steps = [
        Definition("a", number),
        Definition("b", vector),
        Definition("c", total),
        Definition("d", parse("Sum(b) + a")),
        Definition("e", lambda first, second: first - second, columns=("n", "x")),
    ]
    assert run(steps, "a").tolist() == [-10, 18, 2, 10]
    assert run(steps, "b") == [[-4], [], [43, 53], [6]]
    assert run(steps, "c").tolist() == [6, 0, 90, 6]
    assert run(steps, "d").tolist() == [-14, 18, 98, 16]
    assert run(steps, "e").tolist() == [9, -5, -5, 5]


def test_what_numba_refuses_is_quoted() -> None:
    def refused(x: Any) -> Any:
        return open(str(x))

    def text(x: Any) -> Any:
        return "a"

    def anything(*x: Any) -> Any:
        return x

    with pytest.raises(
        ExpressionTypeError, match=r"(?s)cannot be compiled for \(int32\).*vectorized=True"
    ):
        infer([Definition("r", refused)], TYPES, "python")
    with pytest.raises(ExpressionTypeError, match="must return a number or a 1-D array"):
        infer([Definition("r", text)], TYPES, "python")
    with pytest.raises(ArgumentError, match="columns="):
        infer([Definition("r", anything)], TYPES, "python")
    with pytest.raises(MissingColumnError, match="there is no column 'missing'"):
        infer([Definition("r", lambda missing: missing)], TYPES, "python")


def test_vectorized_functions_get_arrays() -> None:
    def numbers(x: Any, n: Any) -> Any:
        return np.maximum(x, n) * 2

    def vectors(v: Any) -> Any:
        return v[v > 2]

    steps = [
        Definition("a", numbers, vectorized=True),
        Definition("b", vectors, vectorized=True),
        Definition("c", parse("Sum(b) + a")),
    ]
    assert run(steps, "a").tolist() == [4, 14, 6, 10]
    assert run(steps, "b") == [[3], [], [40, 50], [6]]
    assert run(steps, "c").tolist() == [7, 14, 96, 16]
    assert run(steps, "c", take=np.array([3, 0], np.int32)).tolist() == [16, 7]
    with pytest.raises(EvaluationError, match="must return one number"):
        run([Definition("r", lambda x: x[:1], vectorized=True)], "r")


# --- threads -----------------------------------------------------------------------


def test_threads_share_a_kernel() -> None:
    steps = [Definition("r", parse("Sort(v * x)")), Definition("s", parse("Sum(r)"))]
    outputs = compile_outputs(steps, ["r", "s"], TYPES, "python")
    inputs = {name: COLUMNS[name] for name in outputs.inputs}
    take = np.tile(TAKE, 5000)

    def work(_: int) -> tuple[list[float], list[float]]:
        outs = {"s": np.empty(len(take), outputs.types["s"].dtype)}
        found = outputs.run(inputs, 0, 0, take, "file", outs)
        return found["r"].values.tolist(), outs["s"].tolist()

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(work, range(8))
    assert all(each == first for each in others)
