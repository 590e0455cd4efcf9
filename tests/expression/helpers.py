"""Evaluates expressions on a few entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rootfeed.expression import (
    Cut,
    Definition,
    Dialect,
    Expression,
    compile_cuts,
    compile_outputs,
    parse,
)
from rootfeed.schema import Array, ColumnType, Jagged


def jagged(dtype: str, *entries: Sequence[Any]) -> Jagged:
    """A vector column by hand."""
    offsets = np.concatenate([[0], np.cumsum([len(entry) for entry in entries])]).astype(np.int64)
    return Jagged(np.array([value for entry in entries for value in entry], dtype), offsets)


INPUTS: dict[str, Array | Jagged] = {
    "i": np.array([7, -7, 0, 2**31 - 1], "i4"),
    "u": np.array([3, 0, 2**32 - 1, 5], "u4"),
    "l": np.array([2**40, -1, 3, -(2**63)], "i8"),
    "s": np.array([-3, 3, 100, -128], "i1"),
    "x": np.array([1.5, -2.5, np.nan, 0.5], "f4"),
    "y": np.array([2.0, 0.0, -1.5, np.inf], "f8"),
    "b": np.array([True, False, True, False]),
    "n": np.array([2, 0, 1, 3], "i4"),
    "v": jagged("f4", [3, 1], [], [5], [2, -1, 4]),
    "w": jagged("f4", [1, 2], [], [0], [7, 8, 9]),
    "k": jagged("i4", [1, 0], [], [0], [2, 2, 0]),
    "m": jagged("?", [True, False], [], [True], [False, False, True]),
    "other": jagged("f4", [1], [], [0], [7, 8, 9]),
    "Jet.pt": jagged("f4", [30, 20], [], [50], [20, 10, 40]),
    "Jet.n": np.array([2, 0, 1, 3], "i4"),
}
ENTRIES = 4
TOGETHER = 8  # expressions in a kernel: the compiler's time grows faster than their number


def types_of(inputs: Mapping[str, Array | Jagged]) -> dict[str, ColumnType]:
    """The types of columns."""
    return {
        name: ColumnType("vector", "vector", value.values.dtype)
        if isinstance(value, Jagged)
        else ColumnType(str(value.dtype), "scalar", value.dtype)
        for name, value in inputs.items()
    }


TYPES = types_of(INPUTS)


def outputs(
    steps: Sequence[Definition | Cut],
    names: Sequence[str],
    dialect: Dialect = "python",
    inputs: Mapping[str, Array | Jagged] = INPUTS,
    take: Sequence[int] | None = None,
    first_number: int = 0,
) -> dict[str, Array | Jagged]:
    """Definitions for some entries of a block that begins at entry 100 of its file."""
    compiled = compile_outputs(steps, names, types_of(inputs), dialect)
    chosen = np.arange(ENTRIES, dtype=np.int32) if take is None else np.array(take, np.int32)
    outs: dict[str, Array | Jagged] = {
        name: np.empty(len(chosen), type_.dtype)
        for name, type_ in compiled.types.items()
        if type_.kind == "scalar"
    }
    needed = {name: inputs[name] for name in compiled.inputs}
    scalars: Any = outs
    return outs | compiled.run(needed, 100, first_number, chosen, "file.root:events", scalars)


def value(text: str, dialect: Dialect = "python", **options: Any) -> Any:
    """What an expression gives: an array, or a list of lists."""
    found = outputs([Definition("result", parse(text))], ["result"], dialect, **options)["result"]
    return listed(found)


def values(texts: Sequence[str], dialect: Dialect = "python", **options: Any) -> dict[str, Any]:
    """What each of some expressions gives. Kernels of a few compile faster than one for each."""
    found: dict[str, Any] = {}
    for start in range(0, len(texts), TOGETHER):
        some = {f"result_{number}": text for number, text in enumerate(texts[start : start + TOGETHER])}
        steps = [define(name, text) for name, text in some.items()]
        given = outputs(steps, list(some), dialect, **options)
        found |= {text: listed(given[name]) for name, text in some.items()}
    return found


def listed(found: Array | Jagged) -> Any:
    """Vectors as lists of lists."""
    if not isinstance(found, Jagged):
        return found
    return [part.tolist() for part in np.split(found.values, found.offsets[1:-1])]


def passes(*texts: str, dialect: Dialect = "python", before: Sequence[Definition] = ()) -> list[int]:
    """Which entries pass cuts."""
    steps = [*before, *(Cut(parse(text), text) for text in texts)]
    cuts = compile_cuts(steps, TYPES, dialect)
    passed, passing = np.empty(ENTRIES, np.uint8), np.zeros(len(texts), np.int64)
    cuts.run({n: INPUTS[n] for n in cuts.inputs}, 100, 0, ENTRIES, "file.root:events", passed, passing)
    assert passing[-1] == passed.sum()
    return [int(each) for each in passed]


def define(name: str, text: str | Expression) -> Definition:
    """A definition by its text."""
    return Definition(name, parse(text) if isinstance(text, str) else text)
