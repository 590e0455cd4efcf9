"""From nodes to typed trees: what the names stand for, and which operations the types ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import eq, ge, gt, le, lt, ne

import numpy as np

from rootfeed.errors import MissingColumnError, nearest
from rootfeed.expression import functions, nodes, typed
from rootfeed.expression.grammar import MOST_DEPTH, mark, shortened
from rootfeed.expression.names import in_text, visible
from rootfeed.expression.nodes import Node
from rootfeed.expression.texts import TextTest
from rootfeed.expression.typed import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT64,
    UINT64,
    Constant,
    Scope,
    TextColumn,
    Typed,
    common,
    constant,
    convert,
    converted,
    elementwise,
    merged,
    promoted,
    shown,
    truth,
    type_text,
)

__all__ = ["NUMBERS", "inferred", "named", "text_of"]

NUMBERS = {"entry": INT64, "rdfentry_": UINT64}
"""Names of an entry's number in the whole dataset, where no column is called like that."""

_TEXT_USES = (
    '{} can only be compared with text: column == "a", column != "a", column in ["a", "b"]; for '
    "anything else define a column by a function with vectorized=True"
)


def inferred(scope: Scope, node: Node) -> Typed:
    """Return a node's typed tree.

    Raises
    ------
    ExpressionError, ExpressionTypeError, MissingColumnError
        Where it cannot be understood.
    """

    def all_of(some: Sequence[Node]) -> list[Typed]:
        return [inferred(scope, each) for each in some]

    match node:
        case nodes.Number():
            return constant(node.dtype, node.value)
        case nodes.Name():
            return _column(scope, node)
        case nodes.Text():
            scope.wrong(node, _TEXT_USES.format("a text in quotes"))
        case nodes.Unary():
            return _unary(scope, node, inferred(scope, node.operand))
        case nodes.Binary():
            return _binary(scope, node, *all_of((node.left, node.right)))
        case nodes.Compare():
            if any(text_of(scope, each) for each in node.operands):
                return _compare_texts(scope, node)
            return _compare(scope, node.operators, all_of(node.operands))
        case nodes.Among():
            if any(text_of(scope, each) for each in (node.operand, *node.items)):
                return _test_texts(scope, node, node.operand, node.items)
            return _among(scope, node, inferred(scope, node.operand), all_of(node.items))
        case nodes.Logic():
            return _logic(scope, node.operator, *all_of((node.left, node.right)))
        case nodes.Conditional():
            return _conditional(scope, node, *all_of((node.condition, node.yes, node.no)))
        case nodes.Call():
            return functions.call(scope, node, all_of(node.arguments))
        case nodes.Index():
            return _index(scope, node, *all_of((node.vector, node.index)))
        case nodes.Items():
            return _items(scope, node, all_of(node.items))
        case nodes.Cast():
            return _cast(scope, node, inferred(scope, node.operand))
    raise AssertionError(node)


# --- names, texts ---------------------------------------------------------------------------------


def named(
    scope: Scope, node: nodes.Name, told: Callable[[str], str] = in_text
) -> Typed | TextColumn | None:
    """Return what a name stands for: a column, an entry's number, or a constant."""
    if node.name in scope.names:
        return scope.names[node.name]
    if not isinstance(node, nodes.Quoted):
        if node.name in NUMBERS:
            return typed.EntryNumber(NUMBERS[node.name], False)
        bare = functions.bare(node.name)
        if bare in functions.CONSTANTS and (bare != node.name or bare.startswith("M_")):
            return constant(FLOAT64, functions.CONSTANTS[bare])
    name = shortened(node.name)
    message = mark(scope.text, node.start, f"there is no column {name!r}", node.stop)
    raise MissingColumnError(f"{message}\n{nearest(name, visible(scope.names), told)}")


def _column(scope: Scope, node: nodes.Name) -> Typed:
    found = named(scope, node)
    if isinstance(found, TextColumn):
        scope.wrong(node, _TEXT_USES.format(f"column {shortened(node.name)!r}, which holds text,"))
    if found is None:
        scope.wrong(node, f"column {shortened(node.name)!r} holds no plain numbers")
    return found


def text_of(scope: Scope, node: Node) -> nodes.Text | TextColumn | None:
    """Return what a node is, where that is text."""
    if isinstance(node, nodes.Text):
        return node
    found = named(scope, node) if isinstance(node, nodes.Name) else None
    return found if isinstance(found, TextColumn) else None


def _compare_texts(scope: Scope, node: nodes.Compare) -> Typed:
    if len(node.operands) > 2 or node.operators[0] not in ("==", "!="):
        scope.wrong(node, "texts can only be compared two at a time, by == or !=")
    left, right = node.operands
    if isinstance(left, nodes.Text):
        left, right = right, left
    found = _test_texts(scope, node, left, (right,))
    return found if node.operators[0] == "==" else elementwise(BOOL, "not {0}", found)


def _test_texts(scope: Scope, node: Node, operand: Node, items: Sequence[Node]) -> Typed:
    column, others = text_of(scope, operand), [text_of(scope, each) for each in items]
    if not isinstance(column, TextColumn):
        scope.wrong(node, _TEXT_USES.format("a text"))
    for item, other in zip(items, others, strict=True):
        if other is None:
            scope.wrong(
                item,
                f"column {shortened(column.key)!r} holds text and is compared with a number; "
                'a text stands in quotes, as in "signal"',
            )
    literals = {other.value for other in others if isinstance(other, nodes.Text)}
    columns = {other.key for other in others if isinstance(other, TextColumn)}
    return typed.TestedText(
        BOOL, False, TextTest(column.key, tuple(sorted(literals)), tuple(sorted(columns)))
    )


# --- conditions, elements -------------------------------------------------------------------------


def _cast(scope: Scope, node: nodes.Cast, operand: Typed) -> Typed:
    if isinstance(operand, Constant) and operand.dtype.kind == "f" and node.dtype.kind in "iu":
        limits = np.iinfo(node.dtype.name)
        if not limits.min - 1 < operand.value < limits.max + 1:
            scope.wrong(node.operand, f"{operand.value} is no {node.dtype}")
    return convert(operand, node.dtype)


def _logic(scope: Scope, operator: str, left: Typed, right: Typed) -> Typed:
    word = "or" if operator == "||" else "and"
    if not (left.is_vector or right.is_vector):
        return typed.ShortCircuit(BOOL, False, word, left, right)
    code = f"{truth('{0}', left.dtype)} {word} {truth('{1}', right.dtype)}"
    return scope.condition(elementwise(BOOL, code, left, right))


def _conditional(scope: Scope, node: Node, condition: Typed, yes: Typed, no: Typed) -> Typed:
    if condition.is_vector:
        return functions.where(condition, yes, no)
    if yes.is_vector != no.is_vector:
        scope.wrong(node, "one side is a number and the other a vector")
    dtype = merged(yes.dtype, no.dtype)
    return typed.Choice(dtype, yes.is_vector, condition, convert(yes, dtype), convert(no, dtype))


def _index(scope: Scope, node: Node, vector: Typed, index: Typed) -> Typed:
    if not vector.is_vector:
        scope.wrong(node, f"only a vector has elements, got {shown(vector)}")
    if index.dtype.kind == "f":
        scope.wrong(node, f"an index is an integer or a mask, got {shown(index)}")
    if not index.is_vector:
        if scope.is_cpp and isinstance(index, Constant) and index.value < 0:
            scope.wrong(node, "an index must not be negative in C++")
        return functions.element(scope, vector, index)
    if index.dtype == BOOL or scope.is_cpp:
        return typed.Operation(vector.dtype, True, "masked", (vector, index))
    return functions.taken(scope, vector, index)


def _items(scope: Scope, node: nodes.Items, items: Sequence[Typed]) -> Typed:
    dtype = node.dtype
    for item in items:
        if item.is_vector:
            scope.wrong(node, "a list holds numbers, got a vector")
        if node.dtype is None:
            dtype = merged(dtype or item.dtype, item.dtype)
    if dtype is None:
        scope.wrong(node, "an empty list has no type; write RVec<float>{}")
    return typed.Listed(dtype, True, tuple(convert(item, dtype) for item in items))


# --- operators ------------------------------------------------------------------------------------


def _unary(scope: Scope, node: nodes.Unary, operand: Typed) -> Typed:
    """Return ``-``, ``+``, ``!``, ``not`` or ``~``. ROOT keeps the type of a vector's elements."""
    operator, dtype = node.operator, operand.dtype
    if operator == "not" and scope.is_cpp and _is_open(node.operand):
        scope.wrong(node.operand, "C++'s 'not' takes only what comes next; write 'not (...)'")
    if operator in ("!", "not"):
        inverted = elementwise(BOOL, f"not {truth('{0}', dtype)}", operand)
        return convert(inverted, dtype) if operand.is_vector and scope.is_cpp else inverted
    if operator == "~" and dtype.kind == "f":
        scope.wrong(node, f"~ takes integers, got {shown(operand)}")
    wide, is_truth = promoted(dtype), dtype == BOOL and not scope.is_cpp
    if operand.is_vector and not is_truth:
        if operator == "+":
            return operand
        return convert(elementwise(wide, f"{operator}{{0}}", convert(operand, wide)), dtype)
    if operator == "~" and is_truth:
        return elementwise(BOOL, "not {0}", operand)
    if operator == "+":
        return convert(operand, wide)
    if operator == "-" and isinstance(operand, Constant) and wide.kind != "u":
        small = -(2**31) < -operand.value < 2**31
        if small or wide.kind == "f" or wide == INT64:
            return constant(wide, -operand.value)
    return elementwise(wide, f"{operator}{{0}}", convert(operand, wide))


def _is_open(node: Node) -> bool:
    """Whether a sign before a node would take its first operand alone."""
    return isinstance(node, nodes.Binary | nodes.Compare) and not node.is_bracketed


def _binary(scope: Scope, node: nodes.Binary, left: Typed, right: Typed) -> Typed:
    """Return arithmetic, a shift, or an operation on bits."""
    operator = node.operator
    if operator in ("&", "|", "^", "<<", ">>"):
        return _bits(scope, node, left, right)
    if operator == "**":
        return _power(left, right)
    if operator == "//" and scope.is_cpp:
        scope.wrong(node, "there is no // in C++; / of integers gives an integer there")
    dtype = common(left.dtype, right.dtype)
    integers = dtype.kind in "iu"
    if operator == "/" and integers and not scope.is_cpp:
        dtype, integers = FLOAT64, False
    if operator == "%" and not integers and scope.is_cpp:
        scope.wrong(node, f"% takes integers in C++, got {shown(left)} and {shown(right)}; use fmod")
    operands = convert(left, dtype), convert(right, dtype)
    if operator in ("+", "-", "*") or (operator == "/" and not integers):
        return elementwise(dtype, f"{{0}} {operator} {{1}}", *operands)
    if not integers:
        name = {"//": "np.floor_divide", "%": "np.mod"}[operator]
        return elementwise(dtype, f"{name}({{0}}, {{1}})", *operands)
    kind = "truncated" if scope.is_cpp else "floored"
    code = f"{'remainder' if operator == '%' else 'divide'}_{kind}({{0}}, {{1}})"
    if dtype.kind == "u":
        code = f"{{0}} {'%' if operator == '%' else '//'} {{1}}"
    never = "{1} == 0", "an integer is divided by zero"
    return elementwise(dtype, code, *operands, never=never)


def _bits(scope: Scope, node: nodes.Binary, left: Typed, right: Typed) -> Typed:
    operator = node.operator
    if "f" in (left.dtype.kind, right.dtype.kind):
        scope.wrong(node, f"{operator} takes integers, got {shown(left)} and {shown(right)}")
    if operator in ("<<", ">>"):
        dtype = promoted(left.dtype)
        name = "shift_left" if operator == "<<" else "shift_right"
        one, bits = type_text(dtype), 8 * dtype.itemsize
        code = f"{name}({{0}}, {one}({{1}}), {one}({bits}))"
        return elementwise(dtype, code, convert(left, dtype), convert(right, INT64))
    are_truths = left.dtype == right.dtype == BOOL and not scope.is_cpp
    dtype = BOOL if are_truths else common(left.dtype, right.dtype)
    return elementwise(dtype, f"{{0}} {operator} {{1}}", convert(left, dtype), convert(right, dtype))


def _power(base: Typed, exponent: Typed) -> Typed:
    """Return a power: by multiplication where the exponent is a small integer."""
    if isinstance(exponent, Constant) and exponent.dtype.kind in "iu" and 0 <= exponent.value <= 64:
        count = int(exponent.value)
        code = f"power({{0}}, {count})" if count > 4 else " * ".join(["{0}"] * count) or "1"
        return elementwise(promoted(base.dtype), code, convert(base, promoted(base.dtype)))
    dtype = FLOAT32 if base.dtype == exponent.dtype == FLOAT32 else FLOAT64
    return elementwise(dtype, "{0} ** {1}", convert(base, dtype), convert(exponent, dtype))


def _compare(scope: Scope, operators: Sequence[str], operands: Sequence[Typed]) -> Typed:
    """Return comparisons that all hold: ``a < b < c`` is ``a < b && b < c``, in C++ ``(a < b) < c``."""
    if scope.is_cpp and len(operands) > 2:
        return _compare_in_turn(scope, operators, operands)
    code = " and ".join(
        _comparison(scope, operator, a, b, f"{{{place}}}", f"{{{place + 1}}}")
        for place, (operator, (a, b)) in enumerate(zip(operators, pairwise(operands), strict=True))
    )
    return scope.condition(elementwise(BOOL, code, *operands))


def _compare_in_turn(scope: Scope, operators: Sequence[str], operands: Sequence[Typed]) -> Typed:
    """Return what C++ compares: ``a < b == c < d`` is ``(a < b) == (c < d)``.

    Its code is ``({4} == {5})``, after ``({0} < {1})`` and ``({2} < {3})``, which become {4} and {5}.
    """
    codes: list[str] = []

    def compared(operator: str, left: tuple[Typed, str], right: tuple[Typed, str]) -> tuple[Typed, str]:
        codes.append(_comparison(scope, operator, left[0], right[0], left[1], right[1]))
        return Typed(BOOL, False), f"{{{len(operands) + len(codes) - 1}}}"

    first, *others = [(operand, f"{{{place}}}") for place, operand in enumerate(operands)]
    sides, equalities = [first], []
    for operator, other in zip(operators, others, strict=True):
        if operator in ("==", "!="):
            equalities.append(operator)
            sides.append(other)
        else:
            sides[-1] = compared(operator, sides[-1], other)
    result = sides[0]
    for operator, side in zip(equalities, sides[1:], strict=True):
        result = compared(operator, result, side)
    *before, code = codes
    return scope.condition(elementwise(BOOL, code, *operands, before=tuple(before)))


def _among(scope: Scope, node: nodes.Among, operand: Typed, items: Sequence[Typed]) -> Typed:
    """Return whether a number, or each element of a vector, is equal to one of some numbers."""
    if len(items) > MOST_DEPTH:
        scope.wrong(node, f"'in' takes at most {MOST_DEPTH} numbers, got {len(items)}; define a column")
    for item in items:
        if item.is_vector:
            scope.wrong(node, f"'in' takes a list of numbers, got a {shown(item)} in it")
    code = " or ".join(
        _comparison(scope, "==", operand, item, "{0}", f"{{{number}}}")
        for number, item in enumerate(items, 1)
    )
    return scope.condition(elementwise(BOOL, code, operand, *items))


_ORDER = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}


def _comparison(scope: Scope, operator: str, a: Typed, b: Typed, x: str, y: str) -> str:
    """Return the source text x compared with y: in C++'s common type, but signs matter in Python.

    Of int32 and uint64, ``-1 < 0u`` is false in C++, where -1 becomes the largest uint64. Python's is
    ``(True if x < 0 else np.uint64(x) < np.uint64(y))``.
    """
    dtype = common(a.dtype, b.dtype)
    if not scope.is_cpp and dtype.kind == "u":
        signed = [promoted(each.dtype).kind == "i" for each in (a, b)]
        positive = [isinstance(each, Constant) and each.value > 0 for each in (a, b)]
        if any(is_signed and not safe for is_signed, safe in zip(signed, positive, strict=True)):
            if dtype.itemsize == 8:
                # No type holds both: what is negative is less than anything unsigned.
                negative = _ORDER[operator](-1, 0) if signed[0] else _ORDER[operator](0, -1)
                below = x if signed[0] else y
                return f"({negative} if {below} < 0 else np.uint64({x}) {operator} np.uint64({y}))"
            dtype = INT64
    return f"({converted(x, a.dtype, dtype)} {operator} {converted(y, b.dtype, dtype)})"
