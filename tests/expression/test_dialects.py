"""What expressions mean, above all where Python differs from C++."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from expression.helpers import INPUTS, TYPES, define, jagged, listed, outputs, passes, value, values
from rootfeed.expression import Cut, compile_cuts, infer, parse

NUMBERS: list[tuple[str, Any]] = [
    ("i / 2", [3.5, -3.5, 0, 1073741823.5]),
    ("i // 2", [3, -4, 0, 2**30 - 1]),
    ("i % 3", [1, 2, 0, 1]),
    ("i % -3", [-2, -1, 0, -2]),
    ("x // 1", [1, -3, np.nan, 0]),
    ("x % 1", [0.5, 0.5, np.nan, 0.5]),
    ("i > 0 and not b", [0, 0, 0, 1]),
    ("i if b else -1", [7, -1, 0, -1]),
    ("b ? i : -1", [7, -1, 0, -1]),
    ("-x ** 2", [-2.25, -6.25, np.nan, -0.25]),
    ("2 ** 3 ** 1", [8, 8, 8, 8]),
    ("0 < n <= 2", [1, 0, 1, 0]),
    ("not n > 1", [0, 1, 1, 0]),
    ("!n > 1", [0, 0, 0, 0]),
    ("n > 0 & i > 0", [1, 0, 0, 1]),
    ("len(v)", [2, 0, 1, 3]),
    ("v.size()", [2, 0, 1, 3]),
    ("v.empty()", [0, 1, 0, 0]),
    ("len(v) - 3", [-1, -3, -2, 0]),
    ("Sum(v[v > 1])", [3, 0, 5, 6]),
    ("Mean(v)", [2, 0, 5, 5 / 3]),
    ("n > 0 and v[-1] > 0", [1, 0, 1, 1]),
    ("n > 0 && v[0] > 2", [1, 0, 1, 0]),
    ("at(v, 1, -9)", [1, -9, -9, -1]),
    ("Jet.n + 0", [2, 0, 1, 3]),
    ("Sum(Jet.pt)", [50, 0, 50, 70]),
    ("Jet.pt.size()", [2, 0, 1, 3]),
    ("np.sqrt(n)", np.sqrt([2, 0, 1, 3])),
    ("x if np.isnan(y) else np.pi", [np.pi] * 4),
    ("True + 1", [2, 2, 2, 2]),
    ("u - 4", [2**32 - 1, 2**32 - 4, 2**32 - 5, 1]),
    ("i + 1", [8, -6, 1, -(2**31)]),
    ("s > u", [0, 1, 0, 0]),
    ("1 << 33", [0, 0, 0, 0]),
    ("i >> 40", [0, -1, 0, 0]),
    ("1 << -1", [0, 0, 0, 0]),
]


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    return values([text for text, _ in NUMBERS])


@pytest.mark.parametrize(("text", "wanted"), NUMBERS)
def test_numbers(text: str, wanted: Any, numbers: dict[str, Any]) -> None:
    np.testing.assert_array_equal(np.asarray(numbers[text]), np.asarray(wanted))


VECTORS: list[tuple[str, Any]] = [
    ("v[v > 1]", [[3], [], [5], [2, 4]]),
    ("v[m]", [[3], [], [5], [4]]),
    ("v[~m]", [[1], [], [], [2, -1]]),
    ("v[k]", [[1, 3], [], [5], [4, 4, 2]]),
    ("v[k - 1]", [[3, 1], [], [5], [-1, -1, 4]]),
    ("v + w", [[4, 3], [], [5], [9, 7, 13]]),
    ("v * 2", [[6, 2], [], [10], [4, -2, 8]]),
    ("0 < v < 4", [[True, True], [], [False], [True, False, False]]),
    ("v > 1 and w > 1", [[False, False], [], [False], [True, False, True]]),
    ("v[v > 1] * w[v > 1]", [[3], [], [0], [14, 36]]),
    ("Sort(v)", [[1, 3], [], [5], [-1, 2, 4]]),
    ("Reverse(v)", [[1, 3], [], [5], [4, -1, 2]]),
    ("Take(v, Argsort(v))", [[1, 3], [], [5], [-1, 2, 4]]),
    ("Take(v, 2, 0)", [[3, 1], [0, 0], [5, 0], [2, -1]]),
    ("Nonzero(m)", [[0], [], [0], [2]]),
    ("Where(m, v, -w)", [[3, -2], [], [5], [-7, -8, 4]]),
    ("Concatenate(v, w)", [[3, 1, 1, 2], [], [5, 0], [2, -1, 4, 7, 8, 9]]),
    ("Range(n)", [[0, 1], [], [0], [0, 1, 2]]),
    ("[n, 2 * n]", [[2, 4], [0, 0], [1, 2], [3, 6]]),
    ("{1, 2.5}", [[1, 2.5]] * 4),
    ("k / 2", [[0.5, 0], [], [0], [1, 1, 0]]),
    ("v if b else w", [[3, 1], [], [5], [7, 8, 9]]),
]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    return values([text for text, _ in VECTORS])


@pytest.mark.parametrize(("text", "wanted"), VECTORS)
def test_vectors(text: str, wanted: Any, vectors: dict[str, Any]) -> None:
    assert vectors[text] == wanted


CPP: list[tuple[str, Any]] = [
    ("i / 2", [3, -3, 0, 2**30 - 1]),
    ("i % 3", [1, -1, 0, 1]),
    ("-7 / 2", [-3] * 4),
    ("-7 % 2", [-1] * 4),
]


@pytest.fixture(scope="module")
def cpp() -> dict[str, Any]:
    return values([text for text, _ in CPP], "c++")


@pytest.mark.parametrize(("text", "wanted"), CPP)
def test_cpp(text: str, wanted: Any, cpp: dict[str, Any]) -> None:
    np.testing.assert_array_equal(cpp[text], wanted)


COMPARISONS: list[tuple[str, Any, Any]] = [
    ("s < n < i", lambda s, n, i: s < n < i, lambda s, n, i: (s < n) < i),
    ("i > s < n", lambda s, n, i: i > s < n, lambda s, n, i: (i > s) < n),
    ("s < n == 1", lambda s, n, i: s < n == 1, lambda s, n, i: (s < n) == 1),
    ("1 == n > s", lambda s, n, i: 1 == n > s, lambda s, n, i: (n > s) == 1),
    ("n != i == 0", lambda s, n, i: n != i == 0, lambda s, n, i: (n != i) == 0),
    ("s < n == i > 0", lambda s, n, i: s < n == i > 0, lambda s, n, i: (s < n) == (i > 0)),
    ("(s < n) == 1", lambda s, n, i: (s < n) == 1, lambda s, n, i: (s < n) == 1),
]


@pytest.fixture(scope="module")
def comparisons() -> dict[str, dict[str, Any]]:
    texts = [text for text, *_ in COMPARISONS]
    return {"python": values(texts), "c++": values(texts, "c++")}


@pytest.mark.parametrize(("text", "chained", "in_turn"), COMPARISONS)
def test_comparisons_of_comparisons(
    text: str, chained: Any, in_turn: Any, comparisons: dict[str, dict[str, Any]]
) -> None:
    entries = list(zip(*(np.asarray(INPUTS[name]).tolist() for name in "sni"), strict=True))
    assert comparisons["python"][text].tolist() == [chained(*entry) for entry in entries]
    assert comparisons["c++"][text].tolist() == [in_turn(*entry) for entry in entries]


def test_numbers_as_cuts() -> None:
    assert passes("i") == [1, 1, 0, 1]
    assert passes("x") == [1, 1, 1, 1]  # one of them is NaN, which is not 0
    assert passes("y") == [1, 0, 1, 1]
    assert passes("n & 1") == [0, 0, 1, 1]
    assert passes("x > 0") == [1, 0, 0, 1]


@pytest.mark.parametrize(
    ("text", "dialect", "kind", "dtype"),
    [
        ("s + s", "c++", "scalar", "int32"),
        ("i + x", "c++", "scalar", "float32"),
        ("i + u", "c++", "scalar", "uint32"),
        ("x * 2.0", "c++", "scalar", "float64"),
        ("x * 2.f", "c++", "scalar", "float32"),
        ("v > 1", "c++", "vector", "int32"),
        ("v > 1", "python", "vector", "bool"),
        ("i > 1", "python", "scalar", "bool"),
        ("i / i", "python", "scalar", "float64"),
        ("v.size()", "c++", "scalar", "uint64"),
        ("v.size()", "python", "scalar", "int64"),
        ("rdfentry_", "c++", "scalar", "uint64"),
        ("entry", "python", "scalar", "int64"),
        ("3000000000", "python", "scalar", "int64"),
        ("sqrt(x)", "c++", "scalar", "float32"),
        ("pow(x, 2)", "python", "scalar", "float64"),
        ("float32(y)", "python", "scalar", "float32"),
        ("uint8(i)", "python", "scalar", "uint8"),
    ],
)
def test_types(text: str, dialect: Any, kind: str, dtype: str) -> None:
    found = infer([define("result", text)], TYPES, dialect)["result"]
    assert (found.kind, str(found.dtype)) == (kind, dtype)


def test_both_spellings_mean_the_same() -> None:
    pairs = [
        ("i > 0 && !(x < 1) || b", "i > 0 and not x < 1 or b"),
        ("b ? x : y", "x if b else y"),
        ("(i > 0) & (x < 1)", "i > 0 & x < 1"),
        ("static_cast<double>(x)", "(double) x"),
        ("std::sqrt(y)", "np.sqrt(y)"),
        ("M_PI", "np.pi"),
    ]
    found = values([text for pair in pairs for text in pair])
    for first, second in pairs:
        np.testing.assert_array_equal(found[first], found[second])


C_TYPES: dict[str, Any] = {
    "short": np.array([1, -2, 3, 300], "i4"),
    "unsigned": np.array([5, 0, 1, 2], "u1"),
    "bool": np.array([True, False, True, False]),
    "float": jagged("f4", [3, 1], [], [5], [2, -1, 4]),
    **{name: np.array([1.5, 2, 2.5, -3], "f8") for name in ("char", "int", "long", "double", "Int_t")},
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("short", [1, -2, 3, 300]),
        ("short > 2", [0, 0, 1, 1]),
        ("-short + unsigned * 2", [9, 2, -1, -296]),
        ("(char) short", [1, -2, 3, 44]),
        ("char(short)", [1, -2, 3, 44]),
        ("short(char)", [1, 2, 2, -3]),
        ("(short) char", [1, 2, 2, -3]),
        ("(short) - 1", [-1] * 4),
        ("unsigned char(short)", [1, 254, 3, 44]),
        ("static_cast<int>(int)", [1, 2, 2, -3]),
        ("bool ? short : -short", [1, 2, 3, -300]),
        ("short if not bool else long", [1.5, -2, 2.5, 300]),
        ("Sum(float) + double", [5.5, 2, 7.5, 2]),
        ("float.size() + len(float)", [4, 0, 2, 6]),
        ("at(float, unsigned, 7)", [7, 7, 7, 4]),
        ("Sum({short, unsigned})", [6, -2, 4, 302]),
        ("1 < Int_t <= int", [1, 1, 1, 0]),
    ],
)
def test_columns_that_are_called_like_types(text: str, wanted: Any) -> None:
    np.testing.assert_array_equal(value(text, inputs=C_TYPES), wanted)


def test_numbers_of_entries() -> None:
    np.testing.assert_array_equal(value("entry", take=[1, 3], first_number=1000), [1001, 1003])


def test_definitions_see_earlier_ones_and_shadow() -> None:
    steps = [define("x", "x + 1"), define("z", "x * 2"), define("x", "0 * x"), define("t", "x + z")]
    found = outputs(steps, ["x", "z", "t"])
    z = 2 * (np.asarray(INPUTS["x"]) + 1)
    np.testing.assert_array_equal(np.asarray(found["z"]), z)
    np.testing.assert_array_equal(np.asarray(found["t"]), z)


def test_what_is_not_needed_is_not_evaluated() -> None:
    # It would fail in the second entry.
    steps = [define("dead", "v[0]"), define("result", "n + 1")]
    np.testing.assert_array_equal(np.asarray(outputs(steps, ["result"])["result"]), [3, 1, 2, 4])


def test_definitions_between_cuts_are_evaluated_for_what_passed() -> None:
    steps = [Cut(parse("n > 0"), "some"), define("first", "v[0]"), Cut(parse("first > 2"), "large")]
    cuts = compile_cuts(steps, TYPES, "python")
    passed, passing = np.empty(4, np.uint8), np.zeros(2, np.int64)
    cuts.run({n: INPUTS[n] for n in cuts.inputs}, 0, 0, 4, "f", passed, passing)
    assert passed.tolist() == [1, 0, 1, 0]
    assert passing.tolist() == [3, 2]
    assert set(cuts.inputs) == {"n", "v"}


def test_some_entries_in_another_order() -> None:
    found = outputs([define("a", "v * 2"), define("c", "n")], ["a", "c"], take=[3, 0])
    assert listed(found["a"]) == [[4, -2, 8], [6, 2]]
    np.testing.assert_array_equal(np.asarray(found["c"]), [3, 2])
