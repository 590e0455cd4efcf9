"""What an expression is while its kernel is written: scalars and vectors, with C++'s types.

A vector is described, not stored: its elements are produced where they are used, so that
``Sum(pt[pt > 30])`` becomes one loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "BOOL",
    "FLOAT32",
    "FLOAT64",
    "INT32",
    "INT64",
    "UINT64",
    "Dtype",
    "Indexed",
    "Scalar",
    "TextColumn",
    "Value",
    "Vector",
    "common",
    "converted",
    "merged",
    "number",
    "promoted",
    "shown",
    "truth",
    "type_text",
]

Dtype = np.dtype[Any]

BOOL, INT32, INT64, UINT64 = (np.dtype(each) for each in ("?", "i4", "i8", "u8"))
FLOAT32, FLOAT64 = np.dtype("f4"), np.dtype("f8")


@dataclass(frozen=True)
class Scalar:
    """A number: a variable of the kernel, or a literal.

    Attributes
    ----------
    dtype : numpy.dtype
    text : str
        Source text without side effects.
    constant : int, float, bool or None
        Its value, where it is known.
    """

    dtype: Dtype
    text: str
    constant: float | int | bool | None = None


@dataclass(frozen=True)
class Vector:
    """Several numbers.

    Attributes
    ----------
    dtype : numpy.dtype
    each : function
        Writes a loop over the elements; the function given writes its body from an element's text.
    length : str or None
        Source text; None where it is only known after a loop.
    most : str
        Source text of a bound on the length.
    """

    dtype: Dtype
    each: Callable[[Callable[[str], None]], None]
    length: str | None
    most: str


@dataclass(frozen=True)
class Indexed(Vector):
    """A vector whose elements can be had one by one.

    Attributes
    ----------
    length : str
        Source text.
    at : function
        Writes what an element needs, given the text of its place, and returns the element's text.
    """

    length: str
    at: Callable[[str], str]


Value = Scalar | Vector


@dataclass(frozen=True)
class TextColumn:
    """A stored column of texts: no value of a kernel's."""

    name: str


def promoted(dtype: Dtype) -> Dtype:
    """Return what an operand of arithmetic is promoted to: integers below 32 bits become int32."""
    if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize < 4):
        return np.dtype(np.int32)
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def common(first: Dtype, second: Dtype) -> Dtype:
    """Return the type in which C++ combines two operands (usual arithmetic conversions)."""
    a, b = promoted(first), promoted(second)
    if "f" in (a.kind, b.kind):
        return max((each for each in (a, b) if each.kind == "f"), key=lambda each: each.itemsize)
    if a.itemsize != b.itemsize:
        return max(a, b, key=lambda each: each.itemsize)
    return a if a.kind == "u" else b


def merged(first: Dtype, second: Dtype) -> Dtype:
    """Return the type of what is one of two values: `common`, but two of one type keep it."""
    return first if first == second else common(first, second)


def shown(value: Value) -> str:
    """Return a value's type as messages name it."""
    return str(value.dtype) if isinstance(value, Scalar) else f"vector of {value.dtype}"


def type_text(dtype: Dtype) -> str:
    """Return a dtype's name in the kernel."""
    return "np.bool_" if dtype == BOOL else f"np.{dtype.name}"


def converted(text: str, dtype: Dtype, wanted: Dtype) -> str:
    """Return the text of a value as another type."""
    if dtype == wanted:
        return text
    if wanted == BOOL:
        return f"({text} != 0)"
    return f"{type_text(wanted)}({text})"


def truth(text: str, dtype: Dtype) -> str:
    """Return the text of whether a number is not 0."""
    return text if dtype == BOOL else f"({text} != 0)"


def number(dtype: Dtype, value: float | int | bool) -> Scalar:
    """Return a literal."""
    if dtype == BOOL:
        return Scalar(dtype, f"np.bool_({bool(value)})", bool(value))
    if dtype.kind == "f":
        real = float(value)
        text = repr(real) if math.isfinite(real) else f"np.{'nan' if real != real else 'inf'}"
        text = f"-{text}" if real == -math.inf else text
        return Scalar(dtype, f"{type_text(dtype)}({text})", real)
    return Scalar(dtype, f"{type_text(dtype)}({int(value)})", int(value))
