"""Lines of a kernel, and the values in them: numbers, and vectors.

A vector is described, not stored, so that ``Sum(pt[pt > 30])`` becomes one loop: `Vector.each` writes
a loop, given a function that writes its body. Here the mask writes the heads, and the sum the body::

    for k1 in range(n):
        if a0[k1] > 30:
            t1 = np.float32(t1 + a0[k1])

Nothing of the user's text enters the source: only names made here and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rootfeed.expression.typed import Dtype, type_text

__all__ = ["Builder", "Indexed", "Scalar", "Value", "Vector"]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Scalar:
    """A number: source text without side effects."""

    dtype: Dtype
    text: str


@dataclass(frozen=True)
class Vector:
    """Several numbers.

    Attributes
    ----------
    dtype : numpy.dtype
    each : function
        Writes a loop over the elements; the function given writes its body from an element's text.
    length : str or None
        Source text; None where it is only known after a loop.
    most : str
        Source text of a bound on the length.
    """

    dtype: Dtype
    each: Callable[[Callable[[str], None]], None]
    length: str | None
    most: str


@dataclass(frozen=True)
class Indexed(Vector):
    """A vector whose elements can be had one by one.

    Attributes
    ----------
    length : str
        Source text.
    at : function
        Writes what an element needs, given the text of its place, and returns the element's text.
    """

    length: str
    at: Callable[[str], str]


Value = Scalar | Vector


class Builder:
    """The source of one kernel, and what it may fail of.

    Attributes
    ----------
    lines : list of str
    failures : list of (str, str)
        Of each place that can fail: the expression's text, and a message with {a} and {b}.
    leave : str
        How the kernel returns after a failure.
    text : str
        The expression that is being written.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.leave = "return"
        self.text = ""
        self._indent = 0
        self._names = 0

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

    def variable(self, first: str = "0", prefix: str = "n") -> str:
        """Write a variable that may change; return its name."""
        name = self.new(prefix)
        self.line(f"{name} = {first}")
        return name

    def assign(self, dtype: Dtype, text: str) -> Scalar:
        """Write a variable of exactly this type."""
        return Scalar(dtype, self.variable(f"{type_text(dtype)}({text})", "t"))

    def fail_if(self, condition: str, message: str, a: str = "0", b: str = "0") -> None:
        """Write an end of the kernel where a condition holds."""
        self.failures.append((self.text, message))
        with self.block(f"if {condition}:"):
            self.line(f"status[0] = {len(self.failures)}")
            self.line("status[1] = i")
            self.line(f"status[2] = {a}")
            self.line(f"status[3] = {b}")
            self.line(self.leave)

    # --- values -------------------------------------------------------------------------------

    def map(
        self, dtype: Dtype, code: Callable[[Sequence[str]], str], operands: Sequence[Value]
    ) -> Value:
        """Apply something to scalars, or to each element of vectors, given their texts."""

        def written(texts: Sequence[str]) -> str:
            return self.assign(dtype, code(texts)).text

        vectors = [each for each in operands if isinstance(each, Vector)]
        if len(vectors) == 1 and not isinstance(only := vectors[0], Indexed):
            # The result's elements, too, are only known in the loop that this vector writes.
            def each(body: Callable[[str], None]) -> None:
                def element(text: str) -> None:
                    body(written([o.text if isinstance(o, Scalar) else text for o in operands]))

                only.each(element)

            return Vector(dtype, each, only.length, only.most)
        ready = [each if isinstance(each, Scalar) else self.indexable(each) for each in operands]
        indexed = [each for each in ready if isinstance(each, Indexed)]
        self.check_lengths(indexed)

        def at(k: str) -> str:
            return written([each.text if isinstance(each, Scalar) else each.at(k) for each in ready])

        return self.counted(dtype, indexed[0].length, at) if indexed else Scalar(dtype, at(""))

    def counted(self, dtype: Dtype, length: str, at: Callable[[str], str]) -> Indexed:
        """Return a vector whose elements can be had one by one."""

        def each(body: Callable[[str], None]) -> None:
            k = self.new("k")
            with self.block(f"for {k} in range({length}):"):
                body(at(k))

        return Indexed(dtype, each, length, length, at)

    def filtered(
        self, dtype: Dtype, length: str, test: Callable[[str], str], at: Callable[[str], str]
    ) -> Vector:
        """Return a vector of elements at the places for which a test holds."""

        def each(body: Callable[[str], None]) -> None:
            k = self.new("k")
            with self.block(f"for {k} in range({length}):"), self.block(f"if {test(k)}:"):
                body(at(k))

        return Vector(dtype, each, None, length)

    def indexable(self, vector: Vector) -> Indexed:
        """Return the vector itself, or a copy whose elements can be had one by one."""
        return vector if isinstance(vector, Indexed) else self.stored(vector)

    def stored(self, vector: Vector) -> Indexed:
        """Write the elements into an array of the kernel's own."""
        return self.elements(self.array(vector)[0], vector.dtype)

    def elements(self, array: str, dtype: Dtype) -> Indexed:
        """Return the vector that an array of the kernel's own holds."""
        length = self.variable(f"{array}.size")
        return self.counted(dtype, length, lambda k: f"{array}[{k}]")

    def array(self, vector: Vector) -> tuple[str, str]:
        """Write the elements into an array; return its name and its length."""
        array = self.variable(f"np.empty({vector.most}, {type_text(vector.dtype)})", "m")
        filled = self.variable()

        def store(element: str) -> None:
            self.line(f"{array}[{filled}] = {element}")
            self.line(f"{filled} += 1")

        vector.each(store)
        if vector.length is None:
            self.line(f"{array} = {array}[:{filled}]")
        return array, filled

    def check_lengths(self, vectors: Sequence[Indexed]) -> None:
        """Write a failure for vectors that are combined and have different lengths."""
        for other in vectors[1:]:
            first, length = vectors[0].length, other.length
            if length != first:
                self.fail_if(
                    f"{first} != {length}",
                    "vectors of {a} and {b} elements cannot be combined",
                    first,
                    length,
                )
