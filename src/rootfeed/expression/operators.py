"""Operators, with the types that C++ gives their results and the values of either dialect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import eq, ge, gt, le, lt, ne

from rootfeed.expression.builder import Builder
from rootfeed.expression.grammar import MOST_DEPTH
from rootfeed.expression.nodes import Among, Compare, Node, Unary
from rootfeed.expression.values import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT64,
    Scalar,
    Value,
    Vector,
    common,
    converted,
    number,
    promoted,
    shown,
    truth,
    type_text,
)

__all__ = ["among", "binary", "compare", "unary"]


def unary(builder: Builder, node: Unary, value: Value) -> Value:
    """Write ``-``, ``+``, ``!`` or ``~``."""
    if node.operator == "!":
        inverted = builder.map(BOOL, lambda texts: f"not {truth(texts[0], value.dtype)}", [value])
        # ROOT keeps the type of a vector's elements, here and below.
        kept = isinstance(value, Vector) and builder.dialect == "c++"
        return builder.cast(inverted, value.dtype) if kept else inverted
    numpy_mask = value.dtype == BOOL and builder.dialect == "python"
    real_bits = node.operator == "~" and value.dtype.kind == "f"
    if isinstance(value, Vector) and not numpy_mask and not real_bits:
        return _signed_elements(builder, node.operator, value)
    dtype = promoted(value.dtype)
    if node.operator == "~":
        if value.dtype.kind == "f":
            builder.wrong(node, f"~ takes integers, got {shown(value)}")
        if value.dtype == BOOL and builder.dialect == "python":
            return builder.map(BOOL, lambda texts: f"not {texts[0]}", [value])
        return builder.map(dtype, lambda texts: f"~{texts[0]}", [builder.cast(value, dtype)])
    if node.operator == "+":
        return builder.cast(value, dtype)
    constant = value.constant if isinstance(value, Scalar) and dtype.kind != "u" else None
    if constant is not None and (dtype.kind == "f" or dtype == INT64 or -(2**31) < -constant < 2**31):
        return number(dtype, -constant)
    return builder.map(dtype, lambda texts: f"-{texts[0]}", [builder.cast(value, dtype)])


def _signed_elements(builder: Builder, operator: str, value: Vector) -> Value:
    wide = promoted(value.dtype)
    if operator == "+":
        return value
    signed = builder.map(wide, lambda texts: f"{operator}{texts[0]}", [builder.cast(value, wide)])
    return builder.cast(signed, value.dtype)


def binary(builder: Builder, node: Node, operator: str, left: Value, right: Value) -> Value:
    """Write arithmetic, a shift, or an operation on bits."""
    if operator in ("&", "|", "^", "<<", ">>"):
        return _bits(builder, node, operator, left, right)
    if operator == "**":
        return _power(builder, left, right)
    if operator == "//" and builder.dialect == "c++":
        builder.wrong(node, "there is no // in C++; / of integers gives an integer there")
    dtype = common(left.dtype, right.dtype)
    integers = dtype.kind in "iu"
    if operator == "/" and integers and builder.dialect == "python":
        dtype, integers = FLOAT64, False
    if operator == "%" and not integers and builder.dialect == "c++":
        builder.wrong(node, f"% takes integers in C++, got {shown(left)} and {shown(right)}; use fmod")
    operands = [builder.cast(left, dtype), builder.cast(right, dtype)]
    if operator in ("+", "-", "*") or (operator == "/" and not integers):
        return builder.map(dtype, lambda texts: f"{texts[0]} {operator} {texts[1]}", operands)
    if not integers:
        name = {"//": "np.floor_divide", "%": "np.mod"}[operator]
        return builder.map(dtype, lambda texts: f"{name}({texts[0]}, {texts[1]})", operands)
    kind = "truncated" if builder.dialect == "c++" else "floored"
    what = "remainder" if operator == "%" else "divide"

    def divided(texts: Sequence[str]) -> str:
        builder.fail_if(f"{texts[1]} == 0", "an integer is divided by zero")
        if dtype.kind == "u":
            return f"{texts[0]} {'%' if what == 'remainder' else '//'} {texts[1]}"
        return f"{what}_{kind}({texts[0]}, {texts[1]})"

    return builder.map(dtype, divided, operands)


def _bits(builder: Builder, node: Node, operator: str, left: Value, right: Value) -> Value:
    for value in (left, right):
        if value.dtype.kind == "f":
            builder.wrong(node, f"{operator} takes integers, got {shown(left)} and {shown(right)}")
    if operator in ("<<", ">>"):
        dtype = promoted(left.dtype)
        name = "shift_left" if operator == "<<" else "shift_right"
        bits = 8 * dtype.itemsize
        one = type_text(dtype)
        return builder.map(
            dtype,
            lambda texts: f"{name}({texts[0]}, {one}({texts[1]}), {one}({bits}))",
            [builder.cast(left, dtype), builder.cast(right, INT64)],
        )
    both = left.dtype == BOOL and right.dtype == BOOL
    if both and builder.dialect == "python":
        return builder.map(BOOL, lambda texts: f"{texts[0]} {operator} {texts[1]}", [left, right])
    dtype = common(left.dtype, right.dtype)
    return builder.map(
        dtype,
        lambda texts: f"{texts[0]} {operator} {texts[1]}",
        [builder.cast(left, dtype), builder.cast(right, dtype)],
    )


def _power(builder: Builder, base: Value, exponent: Value) -> Value:
    small = (
        isinstance(exponent, Scalar)
        and exponent.constant is not None
        and exponent.dtype.kind in "iu"
        and 0 <= exponent.constant <= 64
    )
    if small:
        assert isinstance(exponent, Scalar)
        dtype = promoted(base.dtype)
        count = int(exponent.constant or 0)
        code = f"power({{0}}, {count})" if count > 4 else " * ".join(["{0}"] * count) or "1"
        return builder.map(dtype, lambda texts: code.format(texts[0]), [builder.cast(base, dtype)])
    dtype = FLOAT32 if base.dtype == exponent.dtype == FLOAT32 else FLOAT64
    return builder.map(
        dtype,
        lambda texts: f"{texts[0]} ** {texts[1]}",
        [builder.cast(base, dtype), builder.cast(exponent, dtype)],
    )


def compare(builder: Builder, node: Compare, operands: Sequence[Value]) -> Value:
    """Write comparisons."""
    if builder.dialect == "c++" and len(operands) > 2:
        return _compare_in_turn(builder, node, operands)
    tests = [
        _comparison(builder, operator, a, b)
        for operator, (a, b) in zip(node.operators, pairwise(operands), strict=True)
    ]

    def code(texts: Sequence[str]) -> str:
        return " and ".join(test(a, b) for test, (a, b) in zip(tests, pairwise(texts), strict=True))

    return builder.condition(builder.map(BOOL, code, operands))


def among(builder: Builder, node: Among, operand: Value, items: Sequence[Value]) -> Value:
    """Write whether a number, or each element of a vector, is equal to one of some numbers."""
    if len(items) > MOST_DEPTH:
        builder.wrong(
            node, f"'in' takes at most {MOST_DEPTH} numbers, got {len(items)}; define a column"
        )
    for item in items:
        if isinstance(item, Vector):
            builder.wrong(node, f"'in' takes a list of numbers, got a {shown(item)} in it")
    tests = [_comparison(builder, "==", operand, item) for item in items]

    def code(texts: Sequence[str]) -> str:
        return " or ".join(test(texts[0], text) for test, text in zip(tests, texts[1:], strict=True))

    return builder.condition(builder.map(BOOL, code, [operand, *items]))


def _compare_in_turn(builder: Builder, node: Compare, operands: Sequence[Value]) -> Value:
    """Compare as C++ does: ``a < b == c < d`` is ``(a < b) == (c < d)``."""

    def one(operator: str, left: Value, right: Value) -> Value:
        pair = Compare(node.start, node.stop, node.depth, (operator,), ())
        return compare(builder, pair, [left, right])

    sides: list[Value] = [operands[0]]
    equalities: list[str] = []
    for operator, operand in zip(node.operators, operands[1:], strict=True):
        if operator in ("==", "!="):
            equalities.append(operator)
            sides.append(operand)
        else:
            sides[-1] = one(operator, sides[-1], operand)
    result = sides[0]
    for operator, side in zip(equalities, sides[1:], strict=True):
        result = one(operator, result, side)
    return result


def _comparison(builder: Builder, operator: str, a: Value, b: Value) -> Callable[[str, str], str]:
    """Return how texts of two values are compared: in C++'s type, but signs matter in Python."""
    dtype = common(a.dtype, b.dtype)
    if builder.dialect == "python" and dtype.kind == "u":
        signed = [promoted(each.dtype).kind == "i" for each in (a, b)]
        natural = [isinstance(e, Scalar) and (e.constant or -1) >= 0 for e in (a, b)]
        if any(is_signed and not safe for is_signed, safe in zip(signed, natural, strict=True)):
            if dtype.itemsize == 8:
                # No type holds both: what is negative is less than anything unsigned.
                negative = str(_ORDER[operator](-1, 0) if signed[0] else _ORDER[operator](0, -1))
                return lambda x, y: (
                    f"({negative} if {x if signed[0] else y} < 0 else "
                    f"np.uint64({x}) {operator} np.uint64({y}))"
                )
            dtype = INT64

    def code(x: str, y: str) -> str:
        return f"({converted(x, a.dtype, dtype)} {operator} {converted(y, b.dtype, dtype)})"

    return code


_ORDER = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
