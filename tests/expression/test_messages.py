"""Errors say what is wrong, and show where."""

from __future__ import annotations

from typing import Any

import pytest

from expression.helpers import TYPES, define, jagged, outputs, passes, value
from rootfeed.errors import (
    EvaluationError,
    ExpressionError,
    ExpressionTypeError,
    MissingColumnError,
    RootfeedError,
)
from rootfeed.expression import Cut, infer, parse
from rootfeed.schema import ColumnType


def refused(text: str, dialect: Any = "python") -> str:
    with pytest.raises(RootfeedError) as caught:
        infer([define("result", text)], TYPES, dialect)
    return str(caught.value)


def pointed(message: str) -> str:
    """The characters above the carets."""
    lines = message.splitlines()
    (place,) = (n for n, line in enumerate(lines) if line.strip() and not line.strip(" ^"))
    carets = lines[place]
    start = carets.index("^")
    return lines[place - 1][start : start + carets.count("^")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("i = 1", "="),
        ("i > > 1", ">"),
        ("i $ 1", "$"),
        ("(i + 1", ""),
        ("i +", ""),
        ("i j", "j"),
        ("'i", "'"),
    ],
)
def test_syntax(text: str, shown: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert isinstance(caught.value, ValueError)
    assert pointed(str(caught.value)).strip() == shown


@pytest.mark.parametrize("text", ["010", "n == 007", "08u"])
def test_no_base_of_8(text: str) -> None:
    with pytest.raises(ExpressionError, match="base 8"):
        parse(text)


def test_advice_on_assignment() -> None:
    with pytest.raises(ExpressionError, match="=="):
        parse("i = 1")


@pytest.mark.parametrize("text", ["(short) > 3", "1 + (short)", "((short) == 1)"])
def test_advice_on_columns_that_are_called_like_types(text: str) -> None:
    with pytest.raises(ExpressionError, match="brackets") as caught:
        parse(text)
    lines = str(caught.value).splitlines()
    assert lines[1][lines[2].index("^") :].startswith("(short)")


def test_unknown_types() -> None:
    assert "'short'" in refused("short > 3")
    assert "casts nothing" not in refused("i (int) 3")


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_nothing(text: str) -> None:
    with pytest.raises(ExpressionError, match="empty"):
        parse(text)


def test_unknown_column() -> None:
    with pytest.raises(MissingColumnError) as caught:
        infer([define("result", "i + Jet.pT")], TYPES, "python")
    message = str(caught.value)
    assert isinstance(caught.value, KeyError)
    assert "'Jet.pT'" in message
    assert "'Jet.pt'" in message
    assert pointed(message) == "Jet.pT"


def test_the_caret_of_a_name_that_is_part_of_another() -> None:
    message = refused("sqrt(y) + q")
    assert message.splitlines()[-2].index("^") == message.splitlines()[-3].index("+ q") + 2


def test_unknown_function() -> None:
    message = refused("1 + sqr(i)")
    assert "'sqr'" in message
    assert "'sqrt'" in message
    assert pointed(message).startswith("sqr")


@pytest.mark.parametrize(
    ("text", "dialect", "parts", "shown"),
    [
        ("i + 1 + (x | 2)", "python", ["|", "float32", "int32"], "x | 2"),
        ("x % 2", "c++", ["float32", "int32", "fmod"], "x % 2"),
        ("i // 2", "c++", ["//"], "i // 2"),
        ("~x", "python", ["float32"], "~x"),
        ("i[0]", "python", ["vector", "int32"], "i[0]"),
        ("v[-1]", "c++", ["negative"], "v[-1]"),
        ("v[x]", "python", ["float32"], "v[x]"),
        ("Sum(i)", "python", ["Sum", "vector", "int32"], "Sum(i)"),
        ("sqrt(i, 2)", "python", ["sqrt", "1", "2"], "sqrt(i, 2)"),
        ("1 + (v if b else i)", "python", ["vector"], "v if b else i"),
        ("{v, w}", "python", ["vector"], "{v, w}"),
        ("{}", "python", ["RVec<float>{}"], "{}"),
        # C++ reads it as (!n) > 1.
        ("not n > 1", "c++", ["not (...)"], "n > 1"),
        ("b and not n & 1", "c++", ["not (...)"], "n & 1"),
        ("not (n) > (1)", "c++", ["not (...)"], "n) > (1"),
        ("(int) 3e9 + i", "c++", ["3000000000.0", "int32"], "3e9"),
        ("uint8(-1.5)", "python", ["-1.5", "uint8"], "-1.5"),
    ],
)
def test_types(text: str, dialect: Any, parts: list[str], shown: str) -> None:
    with pytest.raises(ExpressionTypeError) as caught:
        infer([define("result", text)], TYPES, dialect)
    message = str(caught.value)
    assert isinstance(caught.value, TypeError)
    for part in parts:
        assert part in message
    assert pointed(message) == shown


def test_columns_that_are_no_numbers() -> None:
    types = TYPES | {"name": ColumnType("std::string", "text")}
    with pytest.raises(ExpressionTypeError, match="'name'"):
        infer([define("result", "name == 1")], types, "python")


@pytest.mark.parametrize(
    ("text", "dialect", "parts"),
    [
        ("v > 1", "python", ["vector of bool", "Any"]),
        ("v > 1", "c++", ["vector of int32", "Any"]),
        ("x", "c++", ["float32", "x != 0"]),
        ("n & 1", "c++", ["int32", "!="]),
    ],
)
def test_what_is_no_cut(text: str, dialect: Any, parts: list[str]) -> None:
    with pytest.raises(ExpressionTypeError, match="a cut is true or false") as caught:
        infer([Cut(parse(text), "cut")], TYPES, dialect)
    for part in parts:
        assert part in str(caught.value)
    assert pointed(str(caught.value)) == text


def test_long_texts_are_shown_in_part() -> None:
    message = refused(f"{1e-9:.90f} + " * 20 + "nowhere" + f" + {1e-9:.90f}" * 20)
    assert "nowhere" in message
    assert max(map(len, message.splitlines())) < 200


# --- in an entry --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dialect", "entry", "parts"),
    [
        ("v[0]", "c++", 101, ["0"]),
        ("v[n - 1]", "c++", 101, ["-1"]),
        ("v[-1]", "python", 101, []),
        ("v[1]", "python", 101, []),
        ("Take(v, 1)", "python", 101, ["1", "0"]),
        ("Max(v)", "python", 101, ["Max"]),
        ("i / n", "c++", 101, ["zero"]),
        ("i % n", "c++", 101, ["zero"]),
        ("i // n", "python", 101, ["zero"]),
        ("k / k", "c++", 100, ["zero"]),
        ("v + other", "python", 100, ["2", "1"]),
        ("v[other > 0]", "python", 100, ["2", "1"]),
        ("v[k + 5]", "python", 100, []),
        ("Range(0, 5, n)", "python", 101, ["0"]),
        ("at(v, 0)", "python", 101, []),
    ],
)
def test_no_value(text: str, dialect: Any, entry: int, parts: list[str]) -> None:
    with pytest.raises(EvaluationError) as caught:
        value(text, dialect)
    message = str(caught.value)
    assert isinstance(caught.value, ValueError)
    for part in ["file.root:events", f"entry {entry}", text, *parts]:
        assert part in message


def test_cuts_too() -> None:
    with pytest.raises(EvaluationError, match="entry 101"):
        passes("v[0] > 1")
    assert passes("n > 0", "v[0] > 2") == [1, 0, 1, 0]


def test_the_definition_at_fault_is_named() -> None:
    with pytest.raises(EvaluationError, match=r"v\[1\]"):
        outputs([define("second", "v[1]"), define("result", "second * 2")], ["result"])


@pytest.mark.parametrize(
    "text", ["v[2147483647]", "v[9223372036854775807]", "v[0xFFFFFFFFFFFFFFFF]", "v[l]"]
)
def test_far_indices(text: str) -> None:
    with pytest.raises(EvaluationError):
        value(text, "c++")
    with pytest.raises(EvaluationError):
        value(text)


@pytest.mark.parametrize(
    "text",
    ["Sum(Range(9223372036854775807))", "Sum(Take(v, 2147483647, 0))", "Range(-9223372036854775807, l)"],
)
def test_what_would_take_all_memory(text: str) -> None:
    with pytest.raises(EvaluationError):
        value(text)


def test_the_lowest_integer() -> None:
    lowest = {"l": jagged("i8", [-(2**63)]).values}
    for dialect in ("c++", "python"):
        for text in ("l / -1", "l % -1", "l // -1"):
            if dialect == "c++" and "//" in text:
                continue
            assert len(value(text, dialect, inputs=lowest, take=[0])) == 1  # and no signal
