"""Functions that choose and reorder elements of vectors, and that make vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rootfeed.expression.arguments import Function, expect, one_vector, vector_of
from rootfeed.expression.builder import Builder
from rootfeed.expression.nodes import Call
from rootfeed.expression.values import (
    INT64,
    UINT64,
    Dtype,
    Indexed,
    Scalar,
    Value,
    Vector,
    converted,
    merged,
    shown,
    truth,
    type_text,
)

__all__ = ["FUNCTIONS"]


def _array_function(name: str, dtype: Dtype | None) -> Function:
    """Return a function of the library from an array to one of the same length."""

    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        vector = one_vector(builder, node, given)
        array, length = builder.array(vector)
        result = builder.new("m")
        builder.line(f"{result} = {name}({array})")
        place = builder.new("n")
        builder.line(f"{place} = {length}")
        made = vector.dtype if dtype is None else dtype
        return builder.counted(made, place, lambda k: f"{result}[{k}]")

    return function


def _reverse(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = builder.indexable(one_vector(builder, node, given))
    length = vector.length
    return builder.counted(vector.dtype, length, lambda k: vector.at(f"({length} - 1 - {k})"))


def _take(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 2, 3)
    vector = builder.indexable(vector_of(builder, node, given[0]))
    length, chosen = vector.length, given[1]
    if chosen.dtype.kind == "f":
        builder.wrong(node, f"{node.function} takes integers, got {shown(chosen)}")
    default = _default(builder, node, given[2], vector.dtype) if len(given) == 3 else None
    if isinstance(chosen, Vector):
        if default is None:
            return builder.taken(vector, chosen)
        return builder.map(
            vector.dtype, lambda texts: _or_default(builder, vector, texts[0], default), [chosen]
        )
    wanted = builder.assign(INT64, chosen.text).text
    count = builder.assign(INT64, f"abs({wanted})").text
    if default is None:
        builder.fail_if(
            f"{count} > {length}", "there are no {a} elements to take among {b}", count, length
        )
        first = builder.assign(INT64, f"0 if {wanted} >= 0 else {length} - {count}").text
        return builder.counted(vector.dtype, count, lambda k: vector.at(f"({first} + {k})"))
    builder.fail_if(f"{count} > 1000000", "{a} elements are to be taken, at most 1000000 can be", count)
    # Of the last elements, those that are missing stand in front.
    first = builder.assign(INT64, f"0 if {wanted} >= 0 else {length} - {count}").text
    return builder.counted(
        vector.dtype, count, lambda k: _or_default(builder, vector, f"({first} + {k})", default)
    )


def _or_default(builder: Builder, vector: Indexed, place: str, default: Scalar) -> str:
    """Write an element, or something else where there is none."""
    j, result = builder.new("j"), builder.new()
    builder.line(f"{j} = np.int64({place})")
    builder.line(f"{result} = {default.text}")
    with builder.block(f"if 0 <= {j} < {vector.length}:"):
        builder.line(f"{result} = {type_text(vector.dtype)}({vector.at(j)})")
    return result


def _default(builder: Builder, node: Call, value: Value, dtype: Dtype) -> Scalar:
    cast = builder.cast(value, dtype)
    if isinstance(cast, Vector):
        builder.wrong(node, "a default is a number, got a vector")
    return cast


def _element_or(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    """``at(v, i)`` and ``at(v, i, default)``."""
    expect(builder, node, given, 2, 3)
    vector = builder.indexable(vector_of(builder, node, given[0]))
    index = given[1]
    if isinstance(index, Vector) or index.dtype.kind == "f":
        builder.wrong(node, f"an index is an integer, got {shown(index)}")
    if len(given) == 2:
        place = builder.place(index, vector.length)
        return builder.assign(vector.dtype, vector.at(place))
    default = _default(builder, node, given[2], vector.dtype)
    return Scalar(vector.dtype, _or_default(builder, vector, index.text, default))


def _end(place: int) -> Function:
    """``v.front()`` and ``v.back()``."""

    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        vector = builder.indexable(one_vector(builder, node, given))
        builder.fail_if(f"{vector.length} == 0", "there is no element in an empty vector")
        where = "0" if place == 0 else f"({vector.length} - 1)"
        return builder.assign(vector.dtype, vector.at(where))

    return function


def _nonzero(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    vector = builder.indexable(one_vector(builder, node, given))
    dtype = builder.size_type

    def each(body: Callable[[str], None]) -> None:
        k = builder.new("k")
        with (
            builder.block(f"for {k} in range({vector.length}):"),
            builder.block(f"if {truth(vector.at(k), vector.dtype)}:"),
        ):
            body(f"{type_text(dtype)}({k})")

    return Vector(dtype, each, None, vector.length)


def _concatenate(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 2)
    a, b = (vector_of(builder, node, each) for each in given)
    dtype = merged(a.dtype, b.dtype)

    def each(body: Callable[[str], None]) -> None:
        array, filled = builder.new("m"), builder.new("n")
        builder.line(f"{array} = np.empty({a.most} + {b.most}, {type_text(dtype)})")
        builder.line(f"{filled} = 0")
        for vector in (a, b):

            def store(element: str, vector: Vector = vector) -> None:
                builder.line(f"{array}[{filled}] = {converted(element, vector.dtype, dtype)}")
                builder.line(f"{filled} += 1")

            vector.each(store)
        k = builder.new("k")
        with builder.block(f"for {k} in range({filled}):"):
            body(f"{array}[{k}]")

    both = Vector(dtype, each, None, f"({a.most} + {b.most})")
    return builder.stored(both)


def _range(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 1, 2, 3)
    for each in given:
        if isinstance(each, Vector) or each.dtype.kind == "f":
            builder.wrong(node, f"{node.function} takes integers, got {shown(each)}")
    bounds = [builder.assign(INT64, each.text).text for each in given if isinstance(each, Scalar)]
    start = bounds[0] if len(bounds) > 1 else "0"
    stop = bounds[1] if len(bounds) > 1 else bounds[0]
    step = bounds[2] if len(bounds) > 2 else "1"
    if len(bounds) == 3:
        builder.fail_if(f"{step} == 0", "a range has the step 0")
    count = builder.new("n")
    builder.line(f"{count} = len(range({start}, {stop}, {step}))")
    builder.fail_if(f"{count} > 1000000", "a range has {a} elements, at most 1000000 are", count)
    dtype = UINT64 if builder.dialect == "c++" and len(bounds) < 3 else INT64
    return builder.counted(dtype, count, lambda k: f"{type_text(dtype)}({start} + {k} * {step})")


FUNCTIONS: dict[str, Function] = {
    "front": _end(0),
    "back": _end(-1),
    "at": _element_or,
    "Sort": _array_function("sorted_copy", None),
    "Argsort": _array_function("argsorted", UINT64),
    "StableArgsort": _array_function("argsorted", UINT64),
    "Reverse": _reverse,
    "Take": _take,
    "Nonzero": _nonzero,
    "Concatenate": _concatenate,
    "Range": _range,
}
"""By name, without namespaces."""
