"""What an expression is while its kernel is written: scalars and vectors, with C++'s types.

A vector is described, not stored: its elements are produced where they are used, so that
``Sum(pt[pt > 30])`` becomes one loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Scalar", "Value", "Vector", "common", "promoted", "shown"]

Dtype = np.dtype[Any]


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
    at : function or None
        Writes what an element needs and returns its text; None where elements only come in a loop.
    most : str
        Source text of a bound on the length.
    """

    dtype: Dtype
    each: Callable[[Callable[[str], None]], None]
    length: str | None
    at: Callable[[str], str] | None
    most: str


Value = Scalar | Vector


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


def shown(value: Value) -> str:
    """Return a value's type as messages name it."""
    return str(value.dtype) if isinstance(value, Scalar) else f"vector of {value.dtype}"
