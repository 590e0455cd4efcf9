"""What the functions of expressions share: their kind, and the checks of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootfeed.expression.builder import Builder
from rootfeed.expression.nodes import Call
from rootfeed.expression.values import FLOAT32, FLOAT64, Dtype, Scalar, Value, Vector, shown

__all__ = ["Function", "expect", "one_vector", "real", "vector_of"]

Function = Callable[[Builder, Call, Sequence[Value]], Value]
"""Writes a call, given the values of its arguments."""


def expect(builder: Builder, node: Call, given: Sequence[Value], *counts: int) -> None:
    """Raise an error where a function gets another number of arguments."""
    if len(given) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        builder.wrong(node, f"{node.function} takes {wanted} arguments, got {len(given)}")


def vector_of(builder: Builder, node: Call, value: Value) -> Vector:
    """Return an argument that must be a vector."""
    if isinstance(value, Scalar):
        builder.wrong(node, f"{node.function} takes a vector, got {shown(value)}")
    return value


def one_vector(builder: Builder, node: Call, given: Sequence[Value]) -> Vector:
    """Return the only argument, which must be a vector."""
    expect(builder, node, given, 1)
    return vector_of(builder, node, given[0])


def real(*dtypes: Dtype) -> Dtype:
    """Return float32 if all are, as the overloads in C++ do, else float64."""
    return FLOAT32 if all(dtype == FLOAT32 for dtype in dtypes) else FLOAT64
