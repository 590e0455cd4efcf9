"""Functions that make one number of a vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootfeed.expression.arguments import Function, expect, one_vector, vector_of
from rootfeed.expression.builder import Builder
from rootfeed.expression.nodes import Call
from rootfeed.expression.operators import binary
from rootfeed.expression.values import (
    BOOL,
    FLOAT64,
    INT64,
    UINT64,
    Dtype,
    Scalar,
    Value,
    Vector,
    converted,
    truth,
    type_text,
)

__all__ = ["FUNCTIONS", "extreme"]


def _summed(builder: Builder, dtype: Dtype) -> Dtype:
    """Return the type in which elements are added: their own in ROOT, 64 bits for integers in NumPy."""
    if builder.dialect == "c++":
        return UINT64 if dtype == BOOL else dtype
    return _wide(dtype)


def _wide(dtype: Dtype) -> Dtype:
    """Return the type in which NumPy adds and multiplies elements."""
    if dtype.kind == "f":
        return dtype
    return UINT64 if dtype.kind == "u" else INT64


def _in_doubles(builder: Builder, vector: Vector) -> bool:
    """Whether means are those of doubles, as NumPy's of integers are."""
    return builder.dialect == "python" and vector.dtype.kind != "f"


def _accumulated(builder: Builder, vector: Vector, dtype: Dtype, first: str, code: str) -> Scalar:
    """Write ``total = code(total, element)`` over all elements, in one type."""
    total, one = builder.new(), type_text(dtype)
    builder.line(f"{total} = {one}({first})")

    def add(element: str) -> None:
        builder.line(f"{total} = {one}({code.format(total, converted(element, vector.dtype, dtype))})")

    vector.each(add)
    return Scalar(dtype, total)


def _sum(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = one_vector(builder, node, given)
    return _accumulated(builder, vector, _summed(builder, vector.dtype), "0", "{} + {}")


def _product(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = one_vector(builder, node, given)
    dtype = vector.dtype if builder.dialect == "c++" else _wide(vector.dtype)
    return _accumulated(builder, vector, dtype, "1", "{} * {}")


def _mean(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = _counting(builder, one_vector(builder, node, given))
    dtype = FLOAT64 if _in_doubles(builder, vector) else _summed(builder, vector.dtype)
    total = _accumulated(builder, vector, dtype, "0", "{} + {}")
    result = builder.new()
    builder.line(f"{result} = 0.0")
    with builder.block(f"if {vector.length} > 0:"):
        builder.line(f"{result} = np.float64({total.text}) / {vector.length}")
    return Scalar(FLOAT64, result)


def _counting(builder: Builder, vector: Vector) -> Vector:
    """Return a vector whose length is known after its loop, at the latest."""
    if vector.length is not None:
        return vector
    count = builder.new("n")
    builder.line(f"{count} = 0")

    def each(body: Callable[[str], None]) -> None:
        def counted(element: str) -> None:
            builder.line(f"{count} += 1")
            body(element)

        vector.each(counted)

    return Vector(vector.dtype, each, count, vector.most)


def _variance(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = one_vector(builder, node, given)
    if _in_doubles(builder, vector):
        return _variance_in_doubles(builder, vector)
    vector, dtype = _counting(builder, vector), vector.dtype
    one = type_text(dtype)
    squares, total, result = builder.new(), builder.new(), builder.new()
    builder.line(f"{squares} = {one}(0)")
    builder.line(f"{total} = {one}(0)")

    def add(element: str) -> None:
        x = builder.assign(dtype, element).text
        builder.line(f"{squares} = {one}({squares} + {one}({x} * {x}))")
        builder.line(f"{total} = {one}({total} + {x})")

    vector.each(add)
    builder.line(f"{result} = 0.0")
    n = f"np.float64({vector.length})"
    with builder.block(f"if {vector.length} > 1:"):
        builder.line(f"{total} = {one}({total} * {total})")
        builder.line(f"{result} = 1.0 / ({n} - 1.0) * ({squares} - {total} / {n})")
    return Scalar(FLOAT64, result)


def _variance_in_doubles(builder: Builder, vector: Vector) -> Scalar:
    """Write the variance in one pass that loses nothing (Welford, Technometrics 4 (1962) 419)."""
    count, mean, squares, result = builder.new("n"), builder.new(), builder.new(), builder.new()
    builder.line(f"{count} = 0")
    builder.line(f"{mean} = 0.0")
    builder.line(f"{squares} = 0.0")

    def add(element: str) -> None:
        x = builder.assign(FLOAT64, element).text
        step = builder.assign(FLOAT64, f"{x} - {mean}").text
        builder.line(f"{count} += 1")
        builder.line(f"{mean} += {step} / {count}")
        builder.line(f"{squares} += {step} * ({x} - {mean})")

    vector.each(add)
    builder.line(f"{result} = 0.0")
    with builder.block(f"if {count} > 1:"):
        builder.line(f"{result} = {squares} / ({count} - 1)")
    return Scalar(FLOAT64, result)


def _deviation(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    variance = _variance(builder, node, given)
    return builder.map(FLOAT64, lambda texts: f"np.sqrt({texts[0]})", [variance])


def extreme(builder: Builder, node: Call, value: Value, operator: str, place: bool = False) -> Scalar:
    """Write a search for the largest (``>``) or the smallest (``<``) element, or for its place."""
    vector = vector_of(builder, node, value)
    best, found, count = builder.new(), builder.new("j"), builder.new("n")
    builder.line(f"{best} = {type_text(vector.dtype)}(0)")
    builder.line(f"{found} = 0")
    builder.line(f"{count} = 0")

    def look(element: str) -> None:
        x = builder.assign(vector.dtype, element).text
        with builder.block(f"if {count} == 0 or {x} {operator} {best}:"):
            builder.line(f"{best} = {x}")
            builder.line(f"{found} = {count}")
        builder.line(f"{count} += 1")

    vector.each(look)
    if place:
        return builder.assign(builder.size_type, found)
    builder.fail_if(f"{count} == 0", f"{node.function} of a vector without elements")
    return Scalar(vector.dtype, best)


def _place_of(operator: str) -> Function:
    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        expect(builder, node, given, 1)
        return extreme(builder, node, given[0], operator, place=True)

    return function


def _any_all(first: bool) -> Function:
    """``Any`` begins with False and stops at a true element; ``All`` the other way round."""

    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        vector = one_vector(builder, node, given)
        result = builder.new()
        builder.line(f"{result} = {first}")

        def look(element: str) -> None:
            test = truth(element, vector.dtype)
            with builder.block(f"if {'not ' if first else ''}{test}:"):
                builder.line(f"{result} = {not first}")

        vector.each(look)
        return Scalar(BOOL, result)

    return function


def _dot(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 2)
    a, b = (vector_of(builder, node, each) for each in given)
    factors: Sequence[Value] = (a, b)
    if builder.dialect == "python":
        factors = [builder.cast(each, _wide(each.dtype)) for each in (a, b)]
    product = binary(builder, node, "*", *factors)
    assert isinstance(product, Vector)
    return _accumulated(builder, product, product.dtype, "0", "{} + {}")


def _size(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = one_vector(builder, node, given)
    return builder.assign(builder.size_type, builder.length(vector))


def _empty(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = one_vector(builder, node, given)
    return builder.assign(BOOL, f"{builder.length(vector)} == 0")


FUNCTIONS: dict[str, Function] = {
    "ArgMin": _place_of("<"),
    "ArgMax": _place_of(">"),
    "Sum": _sum,
    "sum": _sum,
    "Product": _product,
    "Mean": _mean,
    "mean": _mean,
    "Var": _variance,
    "StdDev": _deviation,
    "Any": _any_all(False),
    "any": _any_all(False),
    "All": _any_all(True),
    "all": _any_all(True),
    "Dot": _dot,
    "size": _size,
    "len": _size,
    "empty": _empty,
}
"""By name, without namespaces."""
