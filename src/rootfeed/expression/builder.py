"""Lines of a kernel, and what can be done to any value: conversions, loops over elements, choices.

Nothing of the user's text enters the source: only names made here and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NoReturn

import numpy as np

from rootfeed.errors import ExpressionTypeError
from rootfeed.expression.grammar import mark
from rootfeed.expression.nodes import Node
from rootfeed.expression.values import (
    INT32,
    INT64,
    UINT64,
    Dtype,
    Indexed,
    Scalar,
    Value,
    Vector,
    converted,
    merged,
    number,
    truth,
    type_text,
)

__all__ = ["Builder", "Dialect"]

_WORD = re.compile(r"\w+")

Dialect = Literal["python", "c++"]


class Builder:
    """The source of one kernel, and what it may fail of.

    Attributes
    ----------
    dialect : str
    lines : list of str
    failures : list of (str, str)
        Of each place that can fail: the expression's text, and a message with {a} and {b}.
    leave : str
        How the kernel returns after a failure.
    text : str
        The expression that is being written.
    """

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self.lines: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.leave = "return"
        self.text = ""
        self._indent = 0
        self._names = 0

    @property
    def size_type(self) -> Dtype:
        """The type of sizes and places: unsigned in C++."""
        return UINT64 if self.dialect == "c++" else INT64

    # --- lines --------------------------------------------------------------------------------

    @property
    def words(self) -> int:
        """Names and numbers that were written: they tell how long it will take to compile them."""
        return sum(len(_WORD.findall(line)) for line in self.lines)

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

    # --- values -------------------------------------------------------------------------------

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

            def each(body: Callable[[str], None]) -> None:
                vector.each(lambda element: body(apply(element)))

            if not isinstance(vector, Indexed):
                return Vector(dtype, each, vector.length, vector.most)
            at = vector.at
            return Indexed(dtype, each, vector.length, vector.most, lambda k: apply(at(k)))
        ready = [each if isinstance(each, Scalar) else self.indexable(each) for each in operands]
        indexed = [each for each in ready if isinstance(each, Indexed)]
        self._check_lengths(indexed)

        def element_at(k: str) -> str:
            texts = [each.text if isinstance(each, Scalar) else each.at(k) for each in ready]
            return self.assign(dtype, code(texts)).text

        return self.counted(dtype, indexed[0].length, element_at)

    def _scalar_text(self, value: Value) -> str:
        assert isinstance(value, Scalar)
        return value.text

    def counted(self, dtype: Dtype, length: str, at: Callable[[str], str]) -> Indexed:
        """Return a vector whose elements can be had one by one."""

        def each(body: Callable[[str], None]) -> None:
            k = self.new("k")
            with self.block(f"for {k} in range({length}):"):
                body(at(k))

        return Indexed(dtype, each, length, length, at)

    def indexable(self, vector: Vector) -> Indexed:
        """Return the vector itself, or a copy whose elements can be had one by one."""
        return vector if isinstance(vector, Indexed) else self.stored(vector)

    def stored(self, vector: Vector) -> Indexed:
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

    def _check_lengths(self, vectors: Sequence[Indexed]) -> None:
        first = vectors[0].length
        for length in (other.length for other in vectors[1:]):
            if length != first:
                self.fail_if(
                    f"{first} != {length}",
                    "vectors of {a} and {b} elements cannot be combined",
                    first,
                    length,
                )

    def condition(self, value: Value) -> Value:
        """Return truth values in the dialect's type: for vectors, ROOT has integers."""
        return self.cast(value, INT32) if isinstance(value, Vector) and self.dialect == "c++" else value

    def where(self, condition: Value, yes: Value, no: Value) -> Value:
        """Choose element by element."""
        dtype = merged(yes.dtype, no.dtype)
        operands = [condition, self.cast(yes, dtype), self.cast(no, dtype)]
        return self.map(
            dtype,
            lambda texts: f"{texts[1]} if {truth(texts[0], condition.dtype)} else {texts[2]}",
            operands,
        )

    # --- elements -----------------------------------------------------------------------------

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
        kept, holds = self.indexable(vector), self.indexable(mask)
        self._check_lengths([kept, holds])

        def each(body: Callable[[str], None]) -> None:
            k = self.new("k")
            with (
                self.block(f"for {k} in range({kept.length}):"),
                self.block(f"if {truth(holds.at(k), mask.dtype)}:"),
            ):
                body(kept.at(k))

        return Vector(vector.dtype, each, None, kept.length)

    def taken(self, vector: Vector, indices: Vector) -> Value:
        """Take the elements at some places."""
        among = self.indexable(vector)

        def code(texts: Sequence[str]) -> str:
            return among.at(self.place(Scalar(indices.dtype, texts[0]), among.length))

        return self.map(vector.dtype, code, [indices])
