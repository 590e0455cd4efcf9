"""Typed trees: what an expression computes, of which types and by which operations; C++'s types.

`inference` makes a tree, and `emission` writes it as lines of a kernel. A tree is data alone, and
nothing about types is decided after it. With x of float32 and n of int32, ``x + 1 > n`` is::

    Elementwise(bool, "({0} > np.float32({1}))")
        Elementwise(float32, "{0} + {1}")
            Column(float32, "x")
            Constant(float32, 1.0)
        Column(int32, "n")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np

from rootfeed.errors import ExpressionTypeError
from rootfeed.expression.grammar import mark
from rootfeed.expression.nodes import Node
from rootfeed.expression.texts import TextTest

__all__ = [
    "BOOL",
    "FLOAT32",
    "FLOAT64",
    "INT32",
    "INT64",
    "UINT64",
    "Choice",
    "Column",
    "Constant",
    "Dialect",
    "Dtype",
    "Elementwise",
    "EntryNumber",
    "Fold",
    "FunctionCall",
    "Listed",
    "Mean",
    "Operation",
    "Scope",
    "ShortCircuit",
    "TestedText",
    "TextColumn",
    "Typed",
    "columns_in",
    "common",
    "constant",
    "convert",
    "converted",
    "elementwise",
    "merged",
    "promoted",
    "shown",
    "truth",
    "type_text",
]

Dtype = np.dtype[Any]
Dialect = Literal["python", "c++"]

BOOL, INT32, INT64, UINT64 = (np.dtype(each) for each in ("?", "i4", "i8", "u8"))
FLOAT32, FLOAT64 = np.dtype("f4"), np.dtype("f8")


# --- trees ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Typed:
    """A number, or a vector of numbers, of a dtype."""

    dtype: Dtype
    is_vector: bool


@dataclass(frozen=True)
class Constant(Typed):
    """A number that is known."""

    value: float | int | bool


@dataclass(frozen=True)
class Column(Typed):
    """A column: a stored one by its name; with `is_made` one that a step makes, by the step's key."""

    key: str
    is_made: bool


@dataclass(frozen=True)
class EntryNumber(Typed):
    """The entry's number in the whole dataset."""


@dataclass(frozen=True)
class TestedText(Typed):
    """Whether a test of texts holds, which is found out beside the kernel."""

    test: TextTest


@dataclass(frozen=True)
class Elementwise(Typed):
    """An operation on numbers, or on each element of vectors.

    Attributes
    ----------
    code : str
        Source text, in which ``{0}`` stands for the first operand.
    operands : tuple of Typed
    before : tuple of str
        Source texts of what is computed first, in the same type; `code` has them as further operands.
    never : (str, str) or None
        Source text of a condition under which the kernel fails, and the message.
    """

    code: str
    operands: tuple[Typed, ...]
    before: tuple[str, ...] = ()
    never: tuple[str, str] | None = None


@dataclass(frozen=True)
class ShortCircuit(Typed):
    """``left and right``, or with ``or``, of numbers: right is evaluated where left does not decide."""

    word: str
    left: Typed
    right: Typed


@dataclass(frozen=True)
class Choice(Typed):
    """One of two values by a condition that is a number; the other one is not evaluated."""

    condition: Typed
    yes: Typed
    no: Typed


@dataclass(frozen=True)
class Listed(Typed):
    """A vector of some numbers."""

    items: tuple[Typed, ...]


@dataclass(frozen=True)
class Fold(Typed):
    """All elements in one number, such as a sum: it begins as `first`, and becomes `code` with each.

    In `code`, ``{0}`` stands for the number, ``{1}`` for the element.
    """

    first: str
    code: str
    operand: Typed


@dataclass(frozen=True)
class Mean(Typed):
    """A sum, divided by the number of elements; 0 where there are none."""

    total: Fold


@dataclass(frozen=True)
class Operation(Typed):
    """An operation on whole vectors, by its name in `vectors`; messages call it `called`."""

    name: str
    operands: tuple[Typed, ...]
    called: str = ""


@dataclass(frozen=True)
class FunctionCall(Typed):
    """A call of a function of the user's, which is compiled."""

    function: Callable[..., Any]
    operands: tuple[Typed, ...]


@dataclass(frozen=True)
class TextColumn:
    """A stored column of texts: no kernel gets its values."""

    key: str


@dataclass(frozen=True)
class Scope:
    """Where a tree is inferred.

    Attributes
    ----------
    text : str
        The expression, which errors show.
    dialect : str
    names : mapping of str to Column, TextColumn or None
        What the names of columns stand for; None where one holds neither plain numbers nor text.
    """

    text: str
    dialect: Dialect
    names: Mapping[str, Column | TextColumn | None]

    @property
    def is_cpp(self) -> bool:
        """Whether operators and functions mean what they mean in C++ and ROOT."""
        return self.dialect == "c++"

    @property
    def size_type(self) -> Dtype:
        """The type of sizes and places: unsigned in C++."""
        return UINT64 if self.is_cpp else INT64

    def wrong(self, node: Node, message: str) -> NoReturn:
        """Raise an error of types that shows the place."""
        raise ExpressionTypeError(mark(self.text, node.start, message, node.stop))

    def condition(self, tree: Typed) -> Typed:
        """Return truth values in the dialect's type: for vectors, ROOT has integers."""
        return convert(tree, INT32) if tree.is_vector and self.is_cpp else tree


def constant(dtype: Dtype, value: float | int | bool) -> Constant:
    """Return a number that is known."""
    kind = {"b": bool, "f": float}.get(dtype.kind, int)
    return Constant(dtype, False, kind(value))


def elementwise(
    dtype: Dtype,
    code: str,
    *operands: Typed,
    before: tuple[str, ...] = (),
    never: tuple[str, str] | None = None,
) -> Elementwise:
    """Return an operation on each element: of a vector where one operand is a vector."""
    is_vector = any(each.is_vector for each in operands)
    return Elementwise(dtype, is_vector, code, operands, before, never)


def convert(tree: Typed, dtype: Dtype) -> Typed:
    """Return a tree in another type: itself where it has the type, another constant where it is one."""
    if tree.dtype == dtype:
        return tree
    if isinstance(tree, Constant) and dtype.kind != "b":
        if dtype.kind == "f":
            with np.errstate(over="ignore"):  # to infinity, as in C++
                return constant(dtype, float(dtype.type(tree.value)))
        if tree.dtype.kind in "iub" and np.can_cast(tree.dtype, INT64):
            return constant(dtype, int(np.int64(tree.value).astype(dtype)))
    return elementwise(dtype, converted("{0}", tree.dtype, dtype), tree)


def columns_in(root: Typed) -> Iterator[Column]:
    """Yield the columns in a tree."""
    stack = [root]
    while stack:
        tree = stack.pop()
        if isinstance(tree, Column):
            yield tree
        for value in vars(tree).values():
            some = value if isinstance(value, tuple) else (value,)
            stack.extend(each for each in some if isinstance(each, Typed))


# --- types ----------------------------------------------------------------------------------------


def promoted(dtype: Dtype) -> Dtype:
    """Return what an operand of arithmetic is promoted to: integers below 32 bits become int32."""
    if dtype.kind == "b" or (dtype.kind in "iu" and dtype.itemsize < 4):
        return INT32
    return FLOAT32 if dtype == np.float16 else dtype


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


def shown(tree: Typed) -> str:
    """Return a tree's type as messages name it."""
    return f"vector of {tree.dtype}" if tree.is_vector else str(tree.dtype)


def type_text(dtype: Dtype) -> str:
    """Return a dtype's name in the kernel."""
    return "np.bool_" if dtype == BOOL else f"np.{dtype.name}"


def converted(text: str, dtype: Dtype, wanted: Dtype) -> str:
    """Return the source text of a value in another type."""
    if dtype == wanted:
        return text
    return truth(text, dtype) if wanted == BOOL else f"{type_text(wanted)}({text})"


def truth(text: str, dtype: Dtype) -> str:
    """Return the source text of whether a number is not 0."""
    return text if dtype == BOOL else f"({text} != 0)"
