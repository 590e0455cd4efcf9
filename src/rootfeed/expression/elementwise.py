"""Functions of numbers, which are applied to each element of vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rootfeed.expression.arguments import Function, expect, real
from rootfeed.expression.builder import Builder
from rootfeed.expression.nodes import Call
from rootfeed.expression.reductions import extreme
from rootfeed.expression.values import BOOL, FLOAT32, FLOAT64, Value, Vector, merged, number, promoted

__all__ = ["FUNCTIONS", "math_function"]


def math_function(code: str, count: int = 1, double: bool = False) -> Function:
    """Return a function of real numbers; `double` where it is only compiled for doubles."""

    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        expect(builder, node, given, count)
        dtype = real(*(each.dtype for each in given))
        inner = FLOAT64 if double else dtype
        operands = [builder.cast(each, inner) for each in given]
        return builder.map(dtype, lambda texts: code.format(*texts), operands)

    return function


def _test(code: str) -> Function:
    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        expect(builder, node, given, 1)
        dtype = real(given[0].dtype)
        found = builder.map(BOOL, lambda texts: code.format(*texts), [builder.cast(given[0], dtype)])
        return builder.condition(found)

    return function


def _abs(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 1)
    dtype = FLOAT64 if node.function.endswith("fabs") else promoted(given[0].dtype)
    if given[0].dtype == FLOAT32:
        dtype = FLOAT32
    elif isinstance(given[0], Vector) and builder.dialect == "c++":
        dtype = FLOAT64  # ROOT has it among the functions of reals
    return builder.map(dtype, lambda texts: f"abs({texts[0]})", [builder.cast(given[0], dtype)])


def _sign(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 1)
    dtype = promoted(given[0].dtype)
    return builder.map(dtype, lambda texts: f"sign({texts[0]})", [builder.cast(given[0], dtype)])


def _extreme(operator: str) -> Function:
    """``min`` and ``max`` of two numbers, or of a vector."""

    def function(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
        if len(given) == 1:
            return extreme(builder, node, given[0], operator)
        expect(builder, node, given, 1, 2)
        dtype = merged(given[0].dtype, given[1].dtype)
        # std::max(a, b) is a < b ? b : a, std::min(a, b) is b < a ? b : a: a stays if one is NaN.
        test = "{0} < {1}" if operator == ">" else "{1} < {0}"
        return builder.map(
            dtype,
            lambda texts: f"{texts[1]} if {test.format(*texts)} else {texts[0]}",
            [builder.cast(each, dtype) for each in given],
        )

    return function


def _where(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 3)
    return builder.where(given[0], given[1], given[2])


def _pi(builder: Builder, node: Call, given: Sequence[Value]) -> Value:
    expect(builder, node, given, 0)
    return number(FLOAT64, np.pi)


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

FUNCTIONS: dict[str, Function] = {
    **{name: math_function(f"np.{name}({{0}})") for name in _SAME.split()},
    **{name: math_function(f"np.{numpy}({{0}})") for name, numpy in _RENAMED.items()},
    **{numpy: math_function(f"np.{numpy}({{0}})") for numpy in _RENAMED.values()},
    "round": math_function("rounded({0})"),
    # Numba cannot compile these for float32 and float64 in one function.
    "exp2": math_function("np.exp2({0})", double=True),
    "log2": math_function("np.log2({0})", double=True),
    "erf": math_function("erf({0})", double=True),
    "erfc": math_function("erfc({0})", double=True),
    "tgamma": math_function("gamma({0})", double=True),
    "lgamma": math_function("lgamma({0})", double=True),
    "pow": math_function("{0} ** {1}", 2),
    "power": math_function("{0} ** {1}", 2),
    "atan2": math_function("np.arctan2({0}, {1})", 2),
    "arctan2": math_function("np.arctan2({0}, {1})", 2),
    "fmod": math_function("np.fmod({0}, {1})", 2),
    "hypot": math_function("np.hypot({0}, {1})", 2),
    "copysign": math_function("np.copysign({0}, {1})", 2),
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
    "Where": _where,
    "where": _where,
    "Pi": _pi,
}
"""By name, without namespaces."""
