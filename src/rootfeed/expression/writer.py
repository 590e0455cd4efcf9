"""Writes a kernel: from nodes to lines of Python that Numba compiles, checking types on the way.

Nothing of the user's text enters the source: only names made here and numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, NoReturn

import numpy as np

from rootfeed.errors import ExpressionTypeError
from rootfeed.expression.grammar import mark, shortened
from rootfeed.expression.nodes import (
    Binary,
    Call,
    Cast,
    Compare,
    Conditional,
    Expression,
    Index,
    Items,
    Logic,
    Name,
    Node,
    Number,
    Unary,
)
from rootfeed.expression.values import Scalar, Value, Vector, common, promoted, shown

__all__ = ["Dialect", "Writer"]

Dialect = Literal["python", "c++"]
Dtype = np.dtype[Any]
Functions = Callable[["Writer", Call, Sequence[Value]], Value]

BOOL, INT32, INT64, UINT64 = (np.dtype(each) for each in ("?", "i4", "i8", "u8"))
FLOAT64 = np.dtype("f8")


class Writer:
    """The source of one kernel, and what it may fail of.

    Attributes
    ----------
    lines : list of str
    failures : list of (str, str)
        Of each place that can fail: the expression's text, and a message with {a} and {b}.
    leave : str
        How the kernel returns after a failure.
    near : tuple of int or None
        Where the name stands that is looked up.
    """

    def __init__(self, dialect: Dialect, resolve: Callable[[str], Value | None]) -> None:
        self.dialect = dialect
        self.lines: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.leave = "return"
        self._resolve = resolve
        self._indent = 0
        self._names = 0
        self.text = ""
        self.near: tuple[int, int] | None = None
        self._types: dict[int, tuple[bool, Dtype]] = {}
        self.call: Functions = _no_functions

    # --- lines --------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write a line."""
        self.lines.append("    " * self._indent + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write a head, and what follows beneath it."""
        self.line(head)
        self._indent += 1
        before = len(self.lines)
        yield
        if len(self.lines) == before:
            self.line("pass")
        self._indent -= 1

    def new(self, prefix: str = "t") -> str:
        """Return a name that is not in use."""
        self._names += 1
        return f"{prefix}{self._names}"

    def assign(self, dtype: Dtype, text: str) -> Scalar:
        """Write a variable of exactly this type."""
        name = self.new()
        self.line(f"{name} = {type_text(dtype)}({text})")
        return Scalar(dtype, name)

    def fail_if(self, condition: str, message: str, a: str = "0", b: str = "0") -> None:
        """Write an end of the kernel where a condition holds."""
        self.failures.append((self.text, message))
        with self.block(f"if {condition}:"):
            self.line(f"status[0] = {len(self.failures)}")
            self.line("status[1] = i")
            self.line(f"status[2] = {a}")
            self.line(f"status[3] = {b}")
            self.line(self.leave)

    def wrong(self, node: Node, message: str) -> NoReturn:
        """Raise an error of types that shows the place."""
        raise ExpressionTypeError(mark(self.text, node.start, message, node.stop))

    # --- expressions --------------------------------------------------------------------------

    def write(self, expression: Expression) -> Value:
        """Write an expression."""
        self.text = expression.text
        self._types = {}
        value = self.value(expression.node)
        return self._remembered(value) if isinstance(value, Vector) else value

    def _remembered(self, vector: Vector) -> Vector:
        """Return a vector whose failures name this expression, wherever its elements are produced."""
        text, at = self.text, vector.at

        def told(produce: Callable[[], Any]) -> Any:
            before, self.text = self.text, text
            try:
                return produce()
            finally:
                self.text = before

        def each(body: Callable[[str], None]) -> None:
            outside = self.text

            def told_body(element: str) -> None:
                inside, self.text = self.text, outside
                body(element)
                self.text = inside

            told(lambda: vector.each(told_body))

        return Vector(
            vector.dtype,
            each,
            vector.length,
            None if at is None else lambda k: str(told(lambda: at(k))),
            vector.most,
        )

    def value(self, node: Node) -> Value:
        """Write a node."""
        match node:
            case Number():
                return number(node.dtype, node.value)
            case Name():
                return self._name(node)
            case Unary():
                return self._unary(node, self.value(node.operand))
            case Binary():
                return self.binary(node, node.operator, self.value(node.left), self.value(node.right))
            case Compare():
                return self._compare(node, [self.value(each) for each in node.operands])
            case Logic():
                return self._logic(node)
            case Conditional():
                return self._conditional(node)
            case Call():
                return self.call(self, node, [self.value(each) for each in node.arguments])
            case Index():
                return self._index(node, self.value(node.vector), self.value(node.index))
            case Items():
                return self._items(node, [self.value(each) for each in node.items])
            case Cast():
                return self.cast(self.value(node.operand), node.dtype)
        raise AssertionError(node)

    def _name(self, node: Name) -> Value:
        self.near = node.start, node.stop
        found = self._resolve(node.name)
        self.near = None
        if found is None:
            raise ExpressionTypeError(
                mark(
                    self.text,
                    node.start,
                    f"column {shortened(node.name)!r} holds no plain numbers",
                    node.stop,
                )
            )
        return found

    def cast(self, value: Value, dtype: Dtype) -> Value:
        """Return a value as another type."""
        if value.dtype == dtype:
            return value
        if isinstance(value, Scalar) and value.constant is not None and dtype.kind != "b":
            if dtype.kind == "f":
                with np.errstate(over="ignore"):  # to infinity, as in C++
                    return number(dtype, float(dtype.type(value.constant)))
            if value.dtype.kind in "iub" and np.can_cast(value.dtype, INT64):
                return number(dtype, int(np.int64(value.constant).astype(dtype)))
        return self.map(dtype, lambda texts: converted(texts[0], value.dtype, dtype), [value])

    def map(
        self, dtype: Dtype, code: Callable[[Sequence[str]], str], operands: Sequence[Value]
    ) -> Value:
        """Apply something to scalars, or to each element of vectors."""
        vectors = [each for each in operands if isinstance(each, Vector)]
        if not vectors:
            return self.assign(dtype, code([self._scalar_text(each) for each in operands]))
        if len(vectors) == 1:
            (vector,) = vectors

            def apply(element: str) -> str:
                texts = [element if isinstance(each, Vector) else each.text for each in operands]
                return self.assign(dtype, code(texts)).text

            at = vector.at
            return Vector(
                dtype,
                lambda body: vector.each(lambda element: body(apply(element))),
                vector.length,
                None if at is None else lambda k: apply(at(k)),
                vector.most,
            )
        ready = [each if isinstance(each, Scalar) else self.indexable(each) for each in operands]
        self._check_lengths([each for each in ready if isinstance(each, Vector)])

        def element_at(k: str) -> str:
            texts = [each.text if isinstance(each, Scalar) else _at(each, k) for each in ready]
            return self.assign(dtype, code(texts)).text

        first = next(each for each in ready if isinstance(each, Vector))
        return self.counted(dtype, first.length or "0", element_at)

    def _scalar_text(self, value: Value) -> str:
        assert isinstance(value, Scalar)
        return value.text

    def counted(self, dtype: Dtype, length: str, at: Callable[[str], str]) -> Vector:
        """Return a vector whose elements can be had one by one."""

        def each(body: Callable[[str], None]) -> None:
            k = self.new("k")
            with self.block(f"for {k} in range({length}):"):
                body(at(k))

        return Vector(dtype, each, length, at, length)

    def indexable(self, vector: Vector) -> Vector:
        """Return the vector itself, or a copy whose elements can be had one by one."""
        return vector if vector.at is not None else self.stored(vector)

    def stored(self, vector: Vector) -> Vector:
        """Write the elements into an array of the kernel's own."""
        array, _ = self.array(vector)
        length = self.new("n")
        self.line(f"{length} = {array}.size")
        return self.counted(vector.dtype, length, lambda k: f"{array}[{k}]")

    def array(self, vector: Vector) -> tuple[str, str]:
        """Write the elements into an array; return its name and its length."""
        array = self.new("m")
        self.line(f"{array} = np.empty({vector.most}, {type_text(vector.dtype)})")
        filled = self.new("n")
        self.line(f"{filled} = 0")

        def store(element: str) -> None:
            self.line(f"{array}[{filled}] = {element}")
            self.line(f"{filled} += 1")

        vector.each(store)
        if vector.length is None:
            self.line(f"{array} = {array}[:{filled}]")
        return array, filled

    def length(self, vector: Vector) -> str:
        """Return the number of elements."""
        if vector.length is not None:
            return vector.length
        count = self.new("n")
        self.line(f"{count} = 0")
        vector.each(lambda _: self.line(f"{count} += 1"))
        return count

    def _check_lengths(self, vectors: Sequence[Vector]) -> None:
        first = vectors[0].length or "0"
        for other in vectors[1:]:
            length = other.length or "0"
            if length != first:
                self.fail_if(
                    f"{first} != {length}",
                    "vectors of {a} and {b} elements cannot be combined",
                    first,
                    length,
                )

    # --- operators ----------------------------------------------------------------------------

    def _unary(self, node: Unary, value: Value) -> Value:
        if node.operator == "!":
            inverted = self.map(BOOL, lambda texts: f"not {truth(texts[0], value.dtype)}", [value])
            # ROOT keeps the type of a vector's elements, here and below.
            kept = isinstance(value, Vector) and self.dialect == "c++"
            return self.cast(inverted, value.dtype) if kept else inverted
        numpy_mask = value.dtype == BOOL and self.dialect == "python"
        real_bits = node.operator == "~" and value.dtype.kind == "f"
        if isinstance(value, Vector) and not numpy_mask and not real_bits:
            return self._signed_elements(node.operator, value)
        dtype = promoted(value.dtype)
        if node.operator == "~":
            if value.dtype.kind == "f":
                self.wrong(node, f"~ takes integers, got {shown(value)}")
            if value.dtype == BOOL and self.dialect == "python":
                return self.map(BOOL, lambda texts: f"not {texts[0]}", [value])
            return self.map(dtype, lambda texts: f"~{texts[0]}", [self.cast(value, dtype)])
        if node.operator == "+":
            return self.cast(value, dtype)
        constant = value.constant if isinstance(value, Scalar) and dtype.kind != "u" else None
        if constant is not None and (
            dtype.kind == "f" or dtype == INT64 or -(2**31) < -constant < 2**31
        ):
            return number(dtype, -constant)
        return self.map(dtype, lambda texts: f"-{texts[0]}", [self.cast(value, dtype)])

    def _signed_elements(self, operator: str, value: Vector) -> Value:
        wide = promoted(value.dtype)
        if operator == "+":
            return value
        signed = self.map(wide, lambda texts: f"{operator}{texts[0]}", [self.cast(value, wide)])
        return self.cast(signed, value.dtype)

    def condition(self, value: Value) -> Value:
        """Return truth values in the dialect's type: for vectors, ROOT has integers."""
        return self.cast(value, INT32) if isinstance(value, Vector) and self.dialect == "c++" else value

    def binary(self, node: Node, operator: str, left: Value, right: Value) -> Value:
        """Write arithmetic, a shift, or an operation on bits."""
        if operator in ("&", "|", "^", "<<", ">>"):
            return self._bits(node, operator, left, right)
        if operator == "**":
            return self._power(left, right)
        if operator == "//" and self.dialect == "c++":
            self.wrong(node, "there is no // in C++; / of integers gives an integer there")
        dtype = common(left.dtype, right.dtype)
        integers = dtype.kind in "iu"
        if operator == "/" and integers and self.dialect == "python":
            dtype, integers = FLOAT64, False
        if operator == "%" and not integers and self.dialect == "c++":
            self.wrong(node, f"% takes integers in C++, got {shown(left)} and {shown(right)}; use fmod")
        operands = [self.cast(left, dtype), self.cast(right, dtype)]
        if operator in ("+", "-", "*") or (operator == "/" and not integers):
            return self.map(dtype, lambda texts: f"{texts[0]} {operator} {texts[1]}", operands)
        if not integers:
            name = {"//": "np.floor_divide", "%": "np.mod"}[operator]
            return self.map(dtype, lambda texts: f"{name}({texts[0]}, {texts[1]})", operands)
        kind = "truncated" if self.dialect == "c++" else "floored"
        what = "remainder" if operator == "%" else "divide"

        def divided(texts: Sequence[str]) -> str:
            self.fail_if(f"{texts[1]} == 0", "an integer is divided by zero")
            if dtype.kind == "u":
                return f"{texts[0]} {'%' if what == 'remainder' else '//'} {texts[1]}"
            return f"{what}_{kind}({texts[0]}, {texts[1]})"

        return self.map(dtype, divided, operands)

    def _bits(self, node: Node, operator: str, left: Value, right: Value) -> Value:
        for value in (left, right):
            if value.dtype.kind == "f":
                self.wrong(node, f"{operator} takes integers, got {shown(left)} and {shown(right)}")
        if operator in ("<<", ">>"):
            dtype = promoted(left.dtype)
            name = "shift_left" if operator == "<<" else "shift_right"
            bits = 8 * dtype.itemsize
            one = type_text(dtype)
            return self.map(
                dtype,
                lambda texts: f"{name}({texts[0]}, {one}({texts[1]}), {one}({bits}))",
                [self.cast(left, dtype), self.cast(right, INT64)],
            )
        both = left.dtype == BOOL and right.dtype == BOOL
        if both and self.dialect == "python":
            return self.map(BOOL, lambda texts: f"{texts[0]} {operator} {texts[1]}", [left, right])
        dtype = common(left.dtype, right.dtype)
        return self.map(
            dtype,
            lambda texts: f"{texts[0]} {operator} {texts[1]}",
            [self.cast(left, dtype), self.cast(right, dtype)],
        )

    def _power(self, base: Value, exponent: Value) -> Value:
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
            if count <= 4:
                product = " * ".join(["{0}"] * count) or "1"
                return self.map(dtype, lambda texts: product.format(texts[0]), [self.cast(base, dtype)])
            return self.map(dtype, lambda texts: f"power({texts[0]}, {count})", [self.cast(base, dtype)])
        single = base.dtype == exponent.dtype == np.float32
        dtype = np.dtype(np.float32) if single else FLOAT64
        return self.map(
            dtype,
            lambda texts: f"{texts[0]} ** {texts[1]}",
            [self.cast(base, dtype), self.cast(exponent, dtype)],
        )

    def _compare(self, node: Compare, operands: Sequence[Value]) -> Value:
        if self.dialect == "c++" and len(operands) > 2:
            return self._compare_in_turn(node, operands)
        pairs = list(pairwise(operands))
        dtypes = [self._comparable(a, b) for a, b in pairs]

        def code(texts: Sequence[str]) -> str:
            parts = []
            for number_, (operator, dtype) in enumerate(zip(node.operators, dtypes, strict=True)):
                a = converted(texts[number_], operands[number_].dtype, dtype)
                b = converted(texts[number_ + 1], operands[number_ + 1].dtype, dtype)
                parts.append(f"({a} {operator} {b})")
            return " and ".join(parts)

        return self.condition(self.map(BOOL, code, operands))

    def _compare_in_turn(self, node: Compare, operands: Sequence[Value]) -> Value:
        """Compare as C++ does: ``a < b == c < d`` is ``(a < b) == (c < d)``."""

        def one(operator: str, left: Value, right: Value) -> Value:
            pair = Compare(node.start, node.stop, node.depth, (operator,), ())
            return self._compare(pair, [left, right])

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

    def _comparable(self, a: Value, b: Value) -> Dtype:
        """Return the type in which two values are compared: C++'s, but signs matter in Python."""
        dtype = common(a.dtype, b.dtype)
        if self.dialect == "python" and dtype.kind == "u":
            signed = [each for each in (a, b) if promoted(each.dtype).kind == "i"]
            natural = all(isinstance(e, Scalar) and (e.constant or -1) >= 0 for e in signed)
            if signed and not natural and dtype.itemsize < 8:
                return INT64
            if signed and not natural:
                return FLOAT64
        return dtype

    def _logic(self, node: Logic) -> Value:
        left = self.value(node.left)
        word = "or" if node.operator == "||" else "and"
        if isinstance(left, Vector) or self._types_of(node.right)[0]:
            return self._logic_of_vectors(word, left, self.value(node.right))
        result = self.new()
        self.line(f"{result} = np.bool_({truth(left.text, left.dtype)})")
        with self.block(f"if {'not ' if word == 'or' else ''}{result}:"):
            right = self.value(node.right)
            assert isinstance(right, Scalar)
            self.line(f"{result} = np.bool_({truth(right.text, right.dtype)})")
        return Scalar(BOOL, result)

    def _logic_of_vectors(self, word: str, left: Value, right: Value) -> Value:
        joined = self.map(
            BOOL,
            lambda texts: f"{truth(texts[0], left.dtype)} {word} {truth(texts[1], right.dtype)}",
            [left, right],
        )
        return self.condition(joined)

    def _conditional(self, node: Conditional) -> Value:
        condition = self.value(node.condition)
        if isinstance(condition, Vector):
            return self.where(condition, self.value(node.yes), self.value(node.no))
        types = self._types_of(node.yes), self._types_of(node.no)
        if types[0][0] != types[1][0]:
            self.wrong(node, "one side is a number and the other a vector")
        is_vector = types[0][0]
        first, second = types[0][1], types[1][1]
        dtype = first if first == second else common(first, second)
        result = self.new("m" if is_vector else "t")
        test = truth(condition.text, condition.dtype)
        for head, side in ((f"if {test}:", node.yes), ("else:", node.no)):
            with self.block(head):
                value = self.cast(self.value(side), dtype)
                if isinstance(value, Vector):
                    array, _ = self.array(value)
                    self.line(f"{result} = {array}")
                else:
                    self.line(f"{result} = {type_text(dtype)}({value.text})")
        if not is_vector:
            return Scalar(dtype, result)
        return self.counted(dtype, f"{result}.size", lambda k: f"{result}[{k}]")

    def _types_of(self, node: Node) -> tuple[bool, Dtype]:
        """Return whether a node is a vector, and its dtype: written once, and taken back."""
        if id(node) not in self._types:
            lines, failures, names = len(self.lines), len(self.failures), self._names
            value = self.value(node)
            del self.lines[lines:]
            del self.failures[failures:]
            self._names = names
            self._types[id(node)] = isinstance(value, Vector), value.dtype
        return self._types[id(node)]

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """Choose element by element."""
        dtype = yes.dtype if yes.dtype == no.dtype else common(yes.dtype, no.dtype)
        operands = [condition, self.cast(yes, dtype), self.cast(no, dtype)]
        return self.map(
            dtype,
            lambda texts: f"{texts[1]} if {truth(texts[0], condition.dtype)} else {texts[2]}",
            operands,
        )

    # --- vectors ------------------------------------------------------------------------------

    def _index(self, node: Index, vector: Value, index: Value) -> Value:
        if isinstance(vector, Scalar):
            self.wrong(node, f"only a vector has elements, got {shown(vector)}")
        if index.dtype.kind == "f":
            self.wrong(node, f"an index is an integer or a mask, got {shown(index)}")
        if isinstance(index, Scalar):
            return self._element(node, vector, index)
        if index.dtype == BOOL or self.dialect == "c++":
            return self.masked(vector, index)
        return self.taken(vector, index)

    def _element(self, node: Node, vector: Vector, index: Scalar) -> Scalar:
        vector = self.indexable(vector)
        assert vector.length is not None
        negative = index.constant is not None and index.constant < 0
        if negative and self.dialect == "c++":
            self.wrong(node, "an index must not be negative in C++")
        place = self.place(index, vector.length)
        return self.assign(vector.dtype, _at(vector, place))

    def place(self, index: Scalar, length: str) -> str:
        """Write an element's place, checked; negative ones count from the end in Python."""
        place = self.new("j")
        self.line(f"{place} = np.int64({index.text})")
        if self.dialect == "python" and (index.constant is None or index.constant < 0):
            with self.block(f"if {place} < 0:"):
                self.line(f"{place} += {length}")
        self.fail_if(
            f"{place} < 0 or {place} >= {length}",
            "there is no element {a} among {b}",
            f"np.int64({index.text})",
            length,
        )
        return place

    def masked(self, vector: Vector, mask: Vector) -> Vector:
        """Keep the elements for which a mask holds."""
        vector, mask = self.indexable(vector), self.indexable(mask)
        self._check_lengths([vector, mask])
        length = vector.length or "0"

        def each(body: Callable[[str], None]) -> None:
            k = self.new("k")
            with (
                self.block(f"for {k} in range({length}):"),
                self.block(f"if {truth(_at(mask, k), mask.dtype)}:"),
            ):
                body(_at(vector, k))

        return Vector(vector.dtype, each, None, None, length)

    def taken(self, vector: Vector, indices: Vector) -> Value:
        """Take the elements at some places."""
        vector = self.indexable(vector)
        length = vector.length or "0"

        def code(texts: Sequence[str]) -> str:
            return _at(vector, self.place(Scalar(indices.dtype, texts[0]), length))

        return self.map(vector.dtype, code, [indices])

    def _items(self, node: Items, items: Sequence[Value]) -> Value:
        dtype = node.dtype
        for item in items:
            if isinstance(item, Vector):
                self.wrong(node, "a list holds numbers, got a vector")
            if node.dtype is None:
                same = dtype is None or dtype == item.dtype
                dtype = item.dtype if same else common(dtype or item.dtype, item.dtype)
        if dtype is None:
            self.wrong(node, "an empty list has no type; write RVec<float>{}")
        array = self.new("m")
        self.line(f"{array} = np.empty({len(items)}, {type_text(dtype)})")
        for place, item in enumerate(items):
            cast = self.cast(item, dtype)
            assert isinstance(cast, Scalar)
            self.line(f"{array}[{place}] = {cast.text}")
        return self.counted(dtype, str(len(items)), lambda k: f"{array}[{k}]")


def _no_functions(writer: Writer, node: Call, arguments: Sequence[Value]) -> Value:
    raise AssertionError(node.function)


def _at(vector: Vector, k: str) -> str:
    assert vector.at is not None
    return vector.at(k)


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
