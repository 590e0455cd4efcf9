"""The body of a kernel: definitions and cuts, written one after another, and their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rootfeed.errors import ExpressionTypeError, MissingColumnError, nearest
from rootfeed.expression import functions
from rootfeed.expression.builder import Dialect
from rootfeed.expression.grammar import MOST_DEPTH, mark, shortened
from rootfeed.expression.nodes import Expression
from rootfeed.expression.python import compiled_function, result_type, vectorized_type
from rootfeed.expression.steps import Cut, Definition, Step
from rootfeed.expression.texts import TextTest
from rootfeed.expression.values import (
    BOOL,
    FLOAT64,
    INT64,
    UINT64,
    Scalar,
    TextColumn,
    Value,
    Vector,
    number,
    shown,
    type_text,
)
from rootfeed.expression.writer import Writer
from rootfeed.schema import ColumnType

__all__ = ["Body", "Types", "infer"]

Types = Mapping[str, ColumnType]

_TRUTH = ColumnType("bool", "scalar", BOOL)
_NUMBERS = {"entry": INT64, "rdfentry_": UINT64}


def infer(steps: Sequence[Step], columns: Types, dialect: Dialect) -> dict[str, ColumnType]:
    """Return the types of all columns after some steps.

    Raises
    ------
    ExpressionError, ExpressionTypeError, MissingColumnError
        Where a step cannot be understood.
    """
    types = dict(columns)
    for number_, step in enumerate(steps):
        writer = Body(steps[: number_ + 1], columns, dialect, types)
        value = writer.written(step)
        if isinstance(step, Definition):
            types[step.name] = _type(value)
    return types


def _type(value: Value | TextColumn) -> ColumnType:
    if isinstance(value, TextColumn):
        return ColumnType("text", "text")
    if isinstance(value, Scalar):
        return ColumnType(str(value.dtype), "scalar", value.dtype)
    return ColumnType(f"vector of {value.dtype}", "vector", value.dtype)


class Body:
    """Writes definitions and cuts one after another, and remembers which stored columns they read."""

    def __init__(
        self, steps: Sequence[Step], columns: Types, dialect: Dialect, types: Types | None = None
    ) -> None:
        self._steps, self._columns, self._dialect = steps, columns, dialect
        self._types = types
        self.inputs: dict[str, str] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.values: dict[str, Value] = {}
        self.made: dict[str, ColumnType] = {}
        """Types of the columns that are made beside the kernel, by a key of each."""
        self.tests: dict[TextTest, str] = {}
        """What texts are asked, and the key of the boolean column that it makes."""
        # How deeply the elements of a definition nest until they come from an array: Python's stack is
        # finite.
        self._nested: dict[str, int] = {}
        self.keys: dict[int, str] = {}
        self.writer = Writer(dialect, self._resolve, self._test)

    # --- names --------------------------------------------------------------------------------

    def _resolve(self, name: str) -> Value | TextColumn | None:
        if name in self.values:
            return self.values[name]
        types = self._columns if self._types is None else self._types
        if name in types:
            return self._column(name, types[name])
        if name in _NUMBERS:
            dtype = _NUMBERS[name]
            return Scalar(dtype, f"{type_text(dtype)}(first_number + i)")
        bare = functions.bare(name)
        if bare in functions.CONSTANTS and (bare != name or name.startswith("M_")):
            return number(FLOAT64, float(functions.CONSTANTS[bare]))
        text = self.writer.text
        first = max(text.find(name), 0)
        start, stop = self.writer.near or (first, first + len(name))
        self.writer.near = None
        message = mark(text, start, f"there is no column {shortened(name)!r}", stop)
        raise MissingColumnError(f"{message}\n{nearest(shortened(name), types)}")

    def _column(self, name: str, type_: ColumnType) -> Value | TextColumn | None:
        if type_.kind == "text":
            return TextColumn(name)
        return None if type_.dtype is None else self._numbers(name, type_)

    def _numbers(self, name: str, type_: ColumnType) -> Value:
        """Return a column that the kernel reads: a stored one, or one that is made beside it."""
        assert type_.dtype is not None, name
        argument = self.inputs.setdefault(name, f"a{len(self.inputs)}")
        at = "j" if name in self.made else "i"
        if type_.kind == "scalar":
            return Scalar(type_.dtype, f"{argument}[{at}]")
        first, stop = f"{argument}_o[{at}]", f"{argument}_o[{at} + 1]"
        return self.writer.counted(
            type_.dtype, f"({stop} - {first})", lambda k: f"{argument}_v[{first} + {k}]"
        )

    def _test(self, test: TextTest) -> Value:
        """Return what texts are asked, as a column that is made beside the kernel."""
        key = self.tests.setdefault(test, f"\0text {len(self.tests)}")  # no column's name
        self.made[key] = _TRUTH
        return self._numbers(key, _TRUTH)

    # --- steps --------------------------------------------------------------------------------

    def written(self, step: Step) -> Value:
        """Write a step, and return its value."""
        if isinstance(step.how, Expression):
            value = self.writer.write(step.how)
            if isinstance(step, Cut):
                self._check_cut(step.how, value)
            return value
        assert isinstance(step, Definition)
        arguments: list[Value | TextColumn] = []
        for name in step.needs:
            self.writer.text = f"{step.name} = {_name_of(step.how)}({', '.join(step.needs)})"
            value_ = self._resolve(name)
            if value_ is None:
                raise ExpressionTypeError(
                    f"the function for {step.name!r} takes column {name!r}, which holds no plain "
                    "numbers."
                )
            arguments.append(value_)
        if step.vectorized:
            return self._vectorized(step, arguments)
        return self._called(step, [self._number_argument(step, each) for each in arguments])

    def _number_argument(self, step: Definition, argument: Value | TextColumn) -> Value:
        if isinstance(argument, TextColumn):
            raise ExpressionTypeError(
                f"the function for {step.name!r} takes column {argument.name!r}, which holds text. Give "
                "vectorized=True: it then gets awkward arrays of many entries."
            )
        return argument

    def _check_cut(self, cut: Expression, value: Value) -> None:
        """Refuse vectors and, as ROOT does, numbers: a comparison may have been forgotten."""
        is_vector = isinstance(value, Vector)
        if not is_vector and (self._dialect == "python" or value.dtype == BOOL):
            return
        advice = "Use Any(...) or All(...)." if is_vector else "Compare it, as in 'x != 0'."
        message = f"a cut is true or false, got {shown(value)}"
        raise ExpressionTypeError(f"{mark(cut.text, 0, message, len(cut.text))}\n{advice}")

    def _called(self, step: Definition, arguments: Sequence[Value]) -> Value:
        """Write a call of a compiled function."""
        assert callable(step.how)
        types = [(isinstance(each, Vector), each.dtype) for each in arguments]
        function = compiled_function(step.name, step.how, types)
        is_vector, dtype = result_type(step.name, function, types)
        name = f"f{len(self.functions)}"
        self.functions[name] = function
        texts = [
            self.writer.array(each)[0] if isinstance(each, Vector) else each.text for each in arguments
        ]
        call = f"{name}({', '.join(texts)})"
        if not is_vector:
            return self.writer.assign(dtype, call)
        array, length = self.writer.new("m"), self.writer.new("n")
        self.writer.line(f"{array} = {call}")
        self.writer.line(f"{length} = {array}.size")
        return self.writer.counted(dtype, length, lambda k: f"{array}[{k}]")

    def _vectorized(self, step: Definition, arguments: Sequence[Value | TextColumn]) -> Value:
        """Return a column that a function makes beside the kernel."""
        type_ = vectorized_type(step, [_type(each) for each in arguments])
        key = f"{step.name}#"  # no column's name: a stored one may be called the same
        self.made[key] = type_
        return self._numbers(key, type_)

    def keep(self, step: Definition, uses: int) -> None:
        """Write a definition for those that follow, stored where it is used several times."""
        if step.vectorized:
            key = self.keys[id(step)]
            value = self._numbers(key, self.made[key])
        else:
            value = self.written(step)
        self._nested[step.name] = 0
        if isinstance(value, Vector):
            nested = max((self._nested.get(name, 0) for name in step.needs), default=0)
            nested += step.how.node.depth if isinstance(step.how, Expression) else 1
            if uses > 1 or nested > MOST_DEPTH:
                value = self.writer.stored(value)
            else:
                self._nested[step.name] = nested
        self.values[step.name] = value


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", "function")
