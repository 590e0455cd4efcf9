"""The functions that expressions may call, in one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import ExpressionError, nearest
from rootfeed.expression.grammar import mark, shortened
from rootfeed.expression.nodes import Call, Name
from rootfeed.expression.values import Scalar, Value, Vector, common, promoted, shown
from rootfeed.expression.writer import (
    BOOL,
    FLOAT64,
    INT32,
    INT64,
    UINT64,
    Writer,
    converted,
    number,
    truth,
    type_text,
)

__all__ = ["CONSTANTS", "call"]

Function = Callable[[Writer, Call, Sequence[Value]], Value]
Dtype = np.dtype[Any]
FLOAT32 = np.dtype("f4")

CONSTANTS = {
    "M_PI": np.pi,
    "pi": np.pi,
    "M_E": np.e,
    "e": np.e,
    "M_PI_2": np.pi / 2,
    "M_PI_4": np.pi / 4,
    "M_SQRT2": np.sqrt(2.0),
    "inf": np.inf,
    "nan": np.nan,
}
"""By name; the short ones only as ``np.pi``."""

_SPACES = ("ROOT::VecOps::", "VecOps::", "ROOT::Math::", "ROOT::", "std::", "TMath::", "np.", "math.")


def bare(name: str) -> str:
    """Return a function's name without its namespace."""
    for space in _SPACES:
        if name.startswith(space):
            return name[len(space) :]
    return name


def call(writer: Writer, node: Call, arguments: Sequence[Value]) -> Value:
    """Write a call."""
    name = bare(node.function)
    if node.function.startswith("TMath::"):
        name = _TMATH.get(name, name)
    function = _TABLE.get(name)
    if function is None:
        message = f"there is no function {shortened(node.function)!r}"
        shown = mark(writer.text, node.start, message, node.stop)
        raise ExpressionError(f"{shown}\n{nearest(shortened(name), _TABLE)}")
    if node.function.startswith("TMath::") and function in _REALS:
        # TMath's functions take and give doubles, those of C++ keep floats.
        arguments = [writer.cast(each, FLOAT64) for each in arguments]
    return function(writer, node, arguments)


# --- of numbers, element by element -------------------------------------------------------------


def _arguments(writer: Writer, node: Call, given: Sequence[Value], *counts: int) -> None:
    if len(given) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        writer.wrong(node, f"{node.function} takes {wanted} arguments, got {len(given)}")


def _real(*dtypes: Dtype) -> Dtype:
    """Return float32 if all are, as the overloads in C++ do, else float64."""
    return FLOAT32 if all(dtype == FLOAT32 for dtype in dtypes) else FLOAT64


def _math(code: str, count: int = 1, double: bool = False) -> Function:
    """Return a function of real numbers; `double` where it is only compiled for doubles."""

    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        _arguments(writer, node, given, count)
        dtype = _real(*(each.dtype for each in given))
        inner = FLOAT64 if double else dtype
        operands = [writer.cast(each, inner) for each in given]
        return writer.map(dtype, lambda texts: code.format(*texts), operands)

    return function


def _test(code: str) -> Function:
    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        _arguments(writer, node, given, 1)
        dtype = _real(given[0].dtype)
        found = writer.map(BOOL, lambda texts: code.format(*texts), [writer.cast(given[0], dtype)])
        return writer.condition(found)

    return function


def _abs(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    dtype = FLOAT64 if bare(node.function) == "fabs" else promoted(given[0].dtype)
    if given[0].dtype == FLOAT32:
        dtype = FLOAT32
    elif isinstance(given[0], Vector) and writer.dialect == "c++":
        dtype = FLOAT64  # ROOT has it among the functions of reals
    return writer.map(dtype, lambda texts: f"abs({texts[0]})", [writer.cast(given[0], dtype)])


def _sign(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    dtype = promoted(given[0].dtype)
    return writer.map(dtype, lambda texts: f"sign({texts[0]})", [writer.cast(given[0], dtype)])


def _extreme(operator: str) -> Function:
    """``min`` and ``max`` of two numbers, or of a vector."""

    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        if len(given) == 1:
            return _reduced_extreme(writer, node, given[0], operator, place=False)
        _arguments(writer, node, given, 1, 2)
        same = given[0].dtype == given[1].dtype
        dtype = given[0].dtype if same else common(given[0].dtype, given[1].dtype)
        # std::max(a, b) is a < b ? b : a, std::min(a, b) is b < a ? b : a: a stays if one is NaN.
        test = "{0} < {1}" if operator == ">" else "{1} < {0}"
        return writer.map(
            dtype,
            lambda texts: f"{texts[1]} if {test.format(*texts)} else {texts[0]}",
            [writer.cast(each, dtype) for each in given],
        )

    return function


def _delta_phi(writer: Writer, a: Value, b: Value) -> Value:
    dtype = _real(a.dtype, b.dtype)
    name = "delta_phi32" if dtype == FLOAT32 else "delta_phi"
    return writer.map(
        dtype,
        lambda texts: f"{name}({texts[0]}, {texts[1]})",
        [writer.cast(each, dtype) for each in (a, b)],
    )


def _delta_phi_of(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 2)
    return _delta_phi(writer, given[0], given[1])


def _delta_r2(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 4)
    dtype = _real(*(each.dtype for each in given))
    eta1, eta2, phi1, phi2 = (writer.cast(each, dtype) for each in given)
    name = "delta_phi32" if dtype == FLOAT32 else "delta_phi"
    one = type_text(dtype)

    def code(texts: Sequence[str]) -> str:
        eta = writer.assign(dtype, f"{texts[0]} - {texts[1]}").text
        phi = writer.assign(dtype, f"{name}({texts[2]}, {texts[3]})").text
        return f"{one}({eta} * {eta}) + {one}({phi} * {phi})"

    return writer.map(dtype, code, [eta1, eta2, phi1, phi2])


def _delta_r(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    squared = _delta_r2(writer, node, given)
    return writer.map(squared.dtype, lambda texts: f"np.sqrt({texts[0]})", [squared])


def _of_reals(name: str, count: int) -> Function:
    """Return a function of the library, in the common type of its arguments."""
    return _math(name + "(" + ", ".join(f"{{{k}}}" for k in range(count)) + ")", count)


# --- of vectors ---------------------------------------------------------------------------------


def _vector(writer: Writer, node: Call, value: Value) -> Vector:
    if isinstance(value, Scalar):
        writer.wrong(node, f"{node.function} takes a vector, got {shown(value)}")
    return value


def _summed(dtype: Dtype) -> Dtype:
    return INT32 if dtype == BOOL else dtype


def _accumulated(writer: Writer, vector: Vector, dtype: Dtype, first: str, code: str) -> Scalar:
    """Write ``total = code(total, element)`` over all elements, in one type."""
    total, one = writer.new(), type_text(dtype)
    writer.line(f"{total} = {one}({first})")

    def add(element: str) -> None:
        writer.line(f"{total} = {one}({code.format(total, converted(element, vector.dtype, dtype))})")

    vector.each(add)
    return Scalar(dtype, total)


def _sum(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = _vector(writer, node, given[0])
    dtype = UINT64 if vector.dtype == BOOL and writer.dialect == "c++" else _summed(vector.dtype)
    return _accumulated(writer, vector, dtype, "0", "{} + {}")


def _product(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = _vector(writer, node, given[0])
    return _accumulated(writer, vector, _summed(vector.dtype), "1", "{} * {}")


def _mean(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = _counting(writer, _vector(writer, node, given[0]))
    total = _accumulated(writer, vector, _summed(vector.dtype), "0", "{} + {}")
    result = writer.new()
    writer.line(f"{result} = 0.0")
    with writer.block(f"if {vector.length} > 0:"):
        writer.line(f"{result} = np.float64({total.text}) / {vector.length}")
    return Scalar(FLOAT64, result)


def _counting(writer: Writer, vector: Vector) -> Vector:
    """Return a vector whose length is known after its loop, at the latest."""
    if vector.length is not None:
        return vector
    count = writer.new("n")
    writer.line(f"{count} = 0")

    def each(body: Callable[[str], None]) -> None:
        def counted(element: str) -> None:
            writer.line(f"{count} += 1")
            body(element)

        vector.each(counted)

    return Vector(vector.dtype, each, count, None, vector.most)


def _variance(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = _counting(writer, _vector(writer, node, given[0]))
    dtype = _summed(vector.dtype)
    one = type_text(dtype)
    squares, total, result = writer.new(), writer.new(), writer.new()
    writer.line(f"{squares} = {one}(0)")
    writer.line(f"{total} = {one}(0)")

    def add(element: str) -> None:
        x = writer.assign(dtype, element).text
        writer.line(f"{squares} = {one}({squares} + {one}({x} * {x}))")
        writer.line(f"{total} = {one}({total} + {x})")

    vector.each(add)
    writer.line(f"{result} = 0.0")
    n = f"np.float64({vector.length})"
    with writer.block(f"if {vector.length} > 1:"):
        writer.line(f"{total} = {one}({total} * {total})")
        writer.line(f"{result} = 1.0 / ({n} - 1.0) * ({squares} - {total} / {n})")
    return Scalar(FLOAT64, result)


def _deviation(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    variance = _variance(writer, node, given)
    return writer.map(FLOAT64, lambda texts: f"np.sqrt({texts[0]})", [variance])


def _reduced_extreme(writer: Writer, node: Call, value: Value, operator: str, place: bool) -> Scalar:
    vector = _vector(writer, node, value)
    best, found, count = writer.new(), writer.new("j"), writer.new("n")
    writer.line(f"{best} = {type_text(vector.dtype)}(0)")
    writer.line(f"{found} = 0")
    writer.line(f"{count} = 0")

    def look(element: str) -> None:
        x = writer.assign(vector.dtype, element).text
        with writer.block(f"if {count} == 0 or {x} {operator} {best}:"):
            writer.line(f"{best} = {x}")
            writer.line(f"{found} = {count}")
        writer.line(f"{count} += 1")

    vector.each(look)
    if place:
        return writer.assign(UINT64 if writer.dialect == "c++" else INT64, found)
    writer.fail_if(f"{count} == 0", f"{node.function} of a vector without elements")
    return Scalar(vector.dtype, best)


def _place_of(operator: str) -> Function:
    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        _arguments(writer, node, given, 1)
        return _reduced_extreme(writer, node, given[0], operator, place=True)

    return function


def _any_all(first: bool) -> Function:
    """``Any`` begins with False and stops at a true element; ``All`` the other way round."""

    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        _arguments(writer, node, given, 1)
        vector = _vector(writer, node, given[0])
        result = writer.new()
        writer.line(f"{result} = {first}")

        def look(element: str) -> None:
            test = truth(element, vector.dtype)
            with writer.block(f"if {'not ' if first else ''}{test}:"):
                writer.line(f"{result} = {not first}")

        vector.each(look)
        return Scalar(BOOL, result)

    return function


def _dot(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 2)
    a, b = (_vector(writer, node, each) for each in given)
    product = writer.binary(node, "*", a, b)
    assert isinstance(product, Vector)
    return _accumulated(writer, product, product.dtype, "0", "{} + {}")


def _size(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = _vector(writer, node, given[0])
    return writer.assign(UINT64 if writer.dialect == "c++" else INT64, writer.length(vector))


def _empty(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = _vector(writer, node, given[0])
    return writer.assign(BOOL, f"{writer.length(vector)} == 0")


def _array_function(name: str, dtype: Dtype | None) -> Function:
    """Return a function of the library from an array to one of the same length."""

    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        _arguments(writer, node, given, 1)
        vector = _vector(writer, node, given[0])
        array, length = writer.array(vector)
        result = writer.new("m")
        writer.line(f"{result} = {name}({array})")
        place = writer.new("n")
        writer.line(f"{place} = {length}")
        made = vector.dtype if dtype is None else dtype
        return writer.counted(made, place, lambda k: f"{result}[{k}]")

    return function


def _reverse(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = writer.indexable(_vector(writer, node, given[0]))
    length, at = vector.length or "0", vector.at
    assert at is not None
    return writer.counted(vector.dtype, length, lambda k: at(f"({length} - 1 - {k})"))


def _take(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 2, 3)
    vector = writer.indexable(_vector(writer, node, given[0]))
    length, at, chosen = vector.length or "0", vector.at, given[1]
    assert at is not None
    if chosen.dtype.kind == "f":
        writer.wrong(node, f"{node.function} takes integers, got {shown(chosen)}")
    default = _default(writer, node, given[2], vector.dtype) if len(given) == 3 else None
    if isinstance(chosen, Vector):
        if default is None:
            return writer.taken(vector, chosen)
        return writer.map(
            vector.dtype, lambda texts: _or_default(writer, vector, texts[0], default), [chosen]
        )
    wanted = writer.assign(INT64, chosen.text).text
    count = writer.assign(INT64, f"abs({wanted})").text
    if default is None:
        writer.fail_if(
            f"{count} > {length}", "there are no {a} elements to take among {b}", count, length
        )
        first = writer.assign(INT64, f"0 if {wanted} >= 0 else {length} - {count}").text
        return writer.counted(vector.dtype, count, lambda k: at(f"({first} + {k})"))
    writer.fail_if(f"{count} > 1000000", "{a} elements are to be taken, at most 1000000 can be", count)
    # Of the last elements, those that are missing stand in front.
    first = writer.assign(INT64, f"0 if {wanted} >= 0 else {length} - {count}").text
    return writer.counted(
        vector.dtype, count, lambda k: _or_default(writer, vector, f"({first} + {k})", default)
    )


def _or_default(writer: Writer, vector: Vector, place: str, default: Scalar) -> str:
    """Write an element, or something else where there is none."""
    j, result = writer.new("j"), writer.new()
    writer.line(f"{j} = np.int64({place})")
    writer.line(f"{result} = {default.text}")
    with writer.block(f"if 0 <= {j} < {vector.length}:"):
        assert vector.at is not None
        writer.line(f"{result} = {type_text(vector.dtype)}({vector.at(j)})")
    return result


def _default(writer: Writer, node: Call, value: Value, dtype: Dtype) -> Scalar:
    cast = writer.cast(value, dtype)
    if isinstance(cast, Vector):
        writer.wrong(node, "a default is a number, got a vector")
    return cast


def _element_or(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    """``at(v, i)`` and ``at(v, i, default)``."""
    _arguments(writer, node, given, 2, 3)
    vector = writer.indexable(_vector(writer, node, given[0]))
    index = given[1]
    if isinstance(index, Vector) or index.dtype.kind == "f":
        writer.wrong(node, f"an index is an integer, got {shown(index)}")
    if len(given) == 2:
        place = writer.place(index, vector.length or "0")
        assert vector.at is not None
        return writer.assign(vector.dtype, vector.at(place))
    default = _default(writer, node, given[2], vector.dtype)
    return Scalar(vector.dtype, _or_default(writer, vector, index.text, default))


def _nonzero(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1)
    vector = writer.indexable(_vector(writer, node, given[0]))
    at, length = vector.at, vector.length or "0"
    assert at is not None
    dtype = UINT64 if writer.dialect == "c++" else INT64

    def each(body: Callable[[str], None]) -> None:
        k = writer.new("k")
        with (
            writer.block(f"for {k} in range({length}):"),
            writer.block(f"if {truth(at(k), vector.dtype)}:"),
        ):
            body(f"{type_text(dtype)}({k})")

    return Vector(dtype, each, None, None, length)


def _where(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 3)
    return writer.where(given[0], given[1], given[2])


def _concatenate(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 2)
    a, b = (_vector(writer, node, each) for each in given)
    dtype = a.dtype if a.dtype == b.dtype else common(a.dtype, b.dtype)

    def each(body: Callable[[str], None]) -> None:
        array, filled = writer.new("m"), writer.new("n")
        writer.line(f"{array} = np.empty({a.most} + {b.most}, {type_text(dtype)})")
        writer.line(f"{filled} = 0")
        for vector in (a, b):

            def store(element: str, vector: Vector = vector) -> None:
                writer.line(f"{array}[{filled}] = {converted(element, vector.dtype, dtype)}")
                writer.line(f"{filled} += 1")

            vector.each(store)
        k = writer.new("k")
        with writer.block(f"for {k} in range({filled}):"):
            body(f"{array}[{k}]")

    both = Vector(dtype, each, None, None, f"({a.most} + {b.most})")
    return writer.stored(both)


def _range(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 1, 2, 3)
    for each in given:
        if isinstance(each, Vector) or each.dtype.kind == "f":
            writer.wrong(node, f"{node.function} takes integers, got {shown(each)}")
    bounds = [writer.assign(INT64, each.text).text for each in given if isinstance(each, Scalar)]
    start = bounds[0] if len(bounds) > 1 else "0"
    stop = bounds[1] if len(bounds) > 1 else bounds[0]
    step = bounds[2] if len(bounds) > 2 else "1"
    if len(bounds) == 3:
        writer.fail_if(f"{step} == 0", "a range has the step 0")
    count = writer.new("n")
    writer.line(f"{count} = len(range({start}, {stop}, {step}))")
    writer.fail_if(f"{count} > 1000000", "a range has {a} elements, at most 1000000 are", count)
    dtype = UINT64 if writer.dialect == "c++" and len(bounds) < 3 else INT64
    return writer.counted(dtype, count, lambda k: f"{type_text(dtype)}({start} + {k} * {step})")


def _invariant_mass(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 4)
    for each in given:
        _vector(writer, node, each)
    dtype = _real(*(each.dtype for each in given))
    one = type_text(dtype)
    sums = [writer.new() for _ in range(4)]
    for name in sums:
        writer.line(f"{name} = {one}(0)")

    def add(texts: Sequence[str]) -> str:
        pt, eta, phi, mass = texts
        parts = [
            writer.assign(dtype, f"{pt} * np.cos({phi})").text,
            writer.assign(dtype, f"{pt} * np.sin({phi})").text,
            writer.assign(dtype, f"{pt} * np.sinh({eta})").text,
        ]
        x, y, z = parts
        squares = f"{x} * {x} + {y} * {y} + {z} * {z} + {mass} * {mass}"
        energy = writer.assign(dtype, f"np.sqrt({squares})").text
        for name, part in zip(sums, (*parts, energy), strict=True):
            writer.line(f"{name} = {one}({name} + {part})")
        return energy

    energies = writer.map(dtype, add, [writer.cast(each, dtype) for each in given])
    assert isinstance(energies, Vector)
    energies.each(lambda _: None)
    x, y, z, e = sums
    return writer.assign(dtype, f"np.sqrt({e} * {e} - {x} * {x} - {y} * {y} - {z} * {z})")


def _pi(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
    _arguments(writer, node, given, 0)
    return number(FLOAT64, np.pi)


def _end(place: int) -> Function:
    """``v.front()`` and ``v.back()``."""

    def function(writer: Writer, node: Call, given: Sequence[Value]) -> Value:
        _arguments(writer, node, given, 1)
        vector = writer.indexable(_vector(writer, node, given[0]))
        writer.fail_if(f"{vector.length} == 0", "there is no element in an empty vector")
        assert vector.at is not None
        where = "0" if place == 0 else f"({vector.length} - 1)"
        return writer.assign(vector.dtype, vector.at(where))

    return function


_SAME = (
    "sqrt exp expm1 log log10 log1p sin cos tan sinh cosh tanh floor ceil trunc rint deg2rad "
    "rad2deg cbrt"
)
_RENAMED = {
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
}
_TMATH = {
    "Abs": "abs",
    "Sqrt": "sqrt",
    "Power": "pow",
    "Max": "max",
    "Min": "min",
    "Sin": "sin",
    "Cos": "cos",
    "Tan": "tan",
    "ASin": "asin",
    "ACos": "acos",
    "ATan": "atan",
    "ATan2": "atan2",
    "SinH": "sinh",
    "CosH": "cosh",
    "TanH": "tanh",
    "Exp": "exp",
    "Log": "log",
    "Log2": "log2",
    "Log10": "log10",
    "Floor": "floor",
    "Ceil": "ceil",
    "Hypot": "hypot",
    "Erf": "erf",
    "Erfc": "erfc",
    "Gamma": "tgamma",
    "LnGamma": "lgamma",
    "Sign": "sign",
    "IsNaN": "isnan",
}

_TABLE: dict[str, Function] = {
    **{name: _math(f"np.{name}({{0}})") for name in _SAME.split()},
    **{name: _math(f"np.{numpy}({{0}})") for name, numpy in _RENAMED.items()},
    **{numpy: _math(f"np.{numpy}({{0}})") for numpy in _RENAMED.values()},
    "round": _math("rounded({0})"),
    # Numba cannot compile these for float32 and float64 in one function.
    "exp2": _math("np.exp2({0})", double=True),
    "log2": _math("np.log2({0})", double=True),
    "erf": _math("erf({0})", double=True),
    "erfc": _math("erfc({0})", double=True),
    "tgamma": _math("gamma({0})", double=True),
    "lgamma": _math("lgamma({0})", double=True),
    "pow": _math("{0} ** {1}", 2),
    "power": _math("{0} ** {1}", 2),
    "atan2": _math("np.arctan2({0}, {1})", 2),
    "arctan2": _math("np.arctan2({0}, {1})", 2),
    "fmod": _math("np.fmod({0}, {1})", 2),
    "hypot": _math("np.hypot({0}, {1})", 2),
    "copysign": _math("np.copysign({0}, {1})", 2),
    "isnan": _test("np.isnan({0})"),
    "isinf": _test("np.isinf({0})"),
    "isfinite": _test("np.isfinite({0})"),
    "abs": _abs,
    "fabs": _abs,
    "absolute": _abs,
    "sign": _sign,
    "min": _extreme("<"),
    "max": _extreme(">"),
    "minimum": _extreme("<"),
    "maximum": _extreme(">"),
    "Min": _extreme("<"),
    "Max": _extreme(">"),
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
    "front": _end(0),
    "back": _end(-1),
    "at": _element_or,
    "Sort": _array_function("sorted_copy", None),
    "Argsort": _array_function("argsorted", UINT64),
    "StableArgsort": _array_function("argsorted", UINT64),
    "Reverse": _reverse,
    "Take": _take,
    "Nonzero": _nonzero,
    "Where": _where,
    "where": _where,
    "Concatenate": _concatenate,
    "Range": _range,
    "DeltaPhi": _delta_phi_of,
    "DeltaR": _delta_r,
    "DeltaR2": _delta_r2,
    "Angle": _of_reals("angle", 6),
    "InvariantMass": _invariant_mass,
    "InvariantMasses": _of_reals("pair_mass", 8),
    "Pi": _pi,
}
"""By name, without namespaces."""

_REALS = {
    function
    for name, function in _TABLE.items()
    if name in _TMATH.values() and name not in ("abs", "min", "max", "sign", "isnan")
}


def method(node: Call) -> tuple[Name, str] | None:
    """Split ``v.size`` of a call into the column and the method; None where it is no method."""
    column, _, name = node.function.rpartition(".")
    if not column or name not in ("size", "empty", "front", "back", "at") or column in ("np", "math"):
        return None
    return Name(node.start, node.start + len(column), 1, column), name
