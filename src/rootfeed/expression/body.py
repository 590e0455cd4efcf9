"""The body of a kernel: definitions and cuts, written one after another, and their types."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rootfeed.errors import ExpressionError, ExpressionTypeError, MissingColumnError, nearest
from rootfeed.expression import functions
from rootfeed.expression.builder import Dialect
from rootfeed.expression.grammar import MOST_DEPTH, mark, shortened
from rootfeed.expression.names import advised, hidden, in_text, visible
from rootfeed.expression.nodes import Expression, Name, Quoted
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

__all__ = ["MOST_WORDS", "NUMBERS", "Body", "Measured", "Types", "infer", "key_of", "measured"]

Types = Mapping[str, ColumnType]

MOST_WORDS = 2_000
"""Names and numbers in the source of one kernel.

They tell how long it takes to compile, whatever they are: 1 to 4 ms each, and little more where there
are many, so that no kernel takes longer than some seconds.
"""

NUMBERS = {"entry": INT64, "rdfentry_": UINT64}
"""Names of an entry's number in the whole dataset, where no column is called like that."""

_TRUTH = ColumnType("bool", "scalar", BOOL)


@dataclass(frozen=True)
class Measured:
    """What writing a step on its own shows.

    Attributes
    ----------
    type : ColumnType
    words : int
        Of what it adds to a kernel: see `MOST_WORDS`.
    """

    type: ColumnType
    words: int


def measured(steps: Sequence[Step], columns: Types, dialect: Dialect) -> list[Measured]:
    """Return the types and sizes of some steps.

    Raises
    ------
    ExpressionError, ExpressionTypeError, MissingColumnError
        Where a step cannot be understood, or is too large to be compiled in seconds.
    """
    types = dict(columns)
    found: list[Measured] = []
    for step in steps:
        body = Body(columns, dialect, types)
        text = step.how.text if isinstance(step.how, Expression) else ""
        with advised(text, types):
            value = body.written(step)
        if isinstance(value, Vector):
            body.writer.stored(value)  # its elements are written where they are used
        words = body.writer.words
        if words > MOST_WORDS:
            raise ExpressionError(_too_large(step, words))
        same = step.same if isinstance(step, Definition) else None
        # Another name for a column leaves its type as it is, the shape of arrays included.
        found.append(Measured(types[same] if same in types else _type(value), words))
        if isinstance(step, Definition):
            types[step.name] = found[-1].type
    return found


def _too_large(step: Step, words: int) -> str:
    what = "a cut" if isinstance(step, Cut) else f"the definition {shortened(step.label)!r}"
    message = (
        f"{what} is too large to be compiled in seconds: its kernel would have {words} words, and "
        f"{MOST_WORDS} are possible"
    )
    how = step.how
    shown = mark(how.text, 0, message, len(how.text)) if isinstance(how, Expression) else f"{message}."
    return (
        f"{shown}\nDefine parts of it first, each with a name, and use the names: definitions that are "
        "too large together are compiled one after another. A mask that is applied twice is one of them."
    )


def infer(steps: Sequence[Step], columns: Types, dialect: Dialect) -> dict[str, ColumnType]:
    """Return the types of all columns after some steps.

    Raises
    ------
    ExpressionError, ExpressionTypeError, MissingColumnError
        See `measured`.
    """
    types = dict(columns)
    for step, found in zip(steps, measured(steps, columns, dialect), strict=True):
        if isinstance(step, Definition):
            types[step.name] = found.type
    return types


def _type(value: Value | TextColumn) -> ColumnType:
    if isinstance(value, TextColumn):
        return ColumnType("text", "text")
    if isinstance(value, Scalar):
        return ColumnType(str(value.dtype), "scalar", value.dtype)
    return ColumnType(f"vector of {value.dtype}", "vector", value.dtype)


class Body:
    """Writes definitions and cuts one after another, and remembers which columns they read.

    Parameters
    ----------
    columns : mapping of str to ColumnType
        The stored ones.
    dialect : str
    types : mapping of str to ColumnType, optional
        Of stored columns and definitions together, where only types are wanted.
    """

    def __init__(self, columns: Types, dialect: Dialect, types: Types | None = None) -> None:
        self._columns, self._dialect, self._types = columns, dialect, types
        self.inputs: dict[str, str] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.values: dict[str, Value | TextColumn] = {}
        self.made: dict[str, ColumnType] = {}
        """Types of the columns that are made before or beside this kernel, by a key of each."""
        self.before: dict[str, str] = {}
        """The keys of those of them that names stand for, or the stored texts."""
        self.tests: dict[TextTest, str] = {}
        """What texts are asked, and the key of the boolean column that it makes."""
        # How deeply the elements of a definition nest until they come from an array: Python's stack is
        # finite.
        self._nested: dict[str, int] = {}
        self.writer = Writer(dialect, self._resolve, self._test)

    # --- names --------------------------------------------------------------------------------

    def _resolve(self, node: Name, told: Callable[[str], str] = in_text) -> Value | TextColumn | None:
        name = node.name
        if name in self.values:
            return self.values[name]
        if name in self.before:
            key = self.before[name]
            return self._column(key, self.made.get(key) or self._columns[key])
        types = self._columns if self._types is None else self._types
        if name in types:
            return self._column(name, types[name])
        if not isinstance(node, Quoted):
            if name in NUMBERS:
                dtype = NUMBERS[name]
                return Scalar(dtype, f"{type_text(dtype)}(first_number + i)")
            bare = functions.bare(name)
            if bare in functions.CONSTANTS and (bare != name or name.startswith("M_")):
                return number(FLOAT64, float(functions.CONSTANTS[bare]))
        name = shortened(name)
        message = mark(self.writer.text, node.start, f"there is no column {name!r}", node.stop)
        raise MissingColumnError(f"{message}\n{nearest(name, visible(types), told)}")

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
        # No definition has an empty name, whose key this might be.
        key = self.tests.setdefault(test, hidden("", len(self.tests)))
        self.made[key] = _TRUTH
        return self._numbers(key, _TRUTH)

    # --- steps --------------------------------------------------------------------------------

    def written(self, step: Step) -> Value | TextColumn:
        """Write a step, and return its value; of another name for a text, the stored column."""
        if isinstance(step.how, Expression):
            if isinstance(step, Definition) and (same := self.writer.text_of(step.how)):
                return same
            value = self.writer.write(step.how)
            if isinstance(step, Cut):
                self._check_cut(step.how, value)
            return value
        assert isinstance(step, Definition)
        arguments: list[Value | TextColumn] = []
        text = f"{step.label} = {_name_of(step.how)}("
        start = len(text)
        self.writer.text = f"{text}{', '.join(step.needs)})"
        for name in step.needs:
            # Entries have numbers, which functions may ask for; other constants have no columns.
            kind = Name if name in NUMBERS else Quoted
            value_ = self._resolve(kind(start, start + len(name), 1, name), repr)
            if value_ is None:
                raise ExpressionTypeError(
                    f"the function for {step.label!r} takes column {name!r}, which holds no plain "
                    "numbers."
                )
            start += len(name) + 2
            arguments.append(value_)
        if step.vectorized:
            return self._vectorized(step, arguments)
        return self._called(step, [self._number_argument(step, each) for each in arguments])

    def _number_argument(self, step: Definition, argument: Value | TextColumn) -> Value:
        if isinstance(argument, TextColumn):
            raise ExpressionTypeError(
                f"the function for {step.label!r} takes column {argument.name!r}, which holds text. "
                "Give vectorized=True: it then gets awkward arrays of many entries."
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
        function = compiled_function(step.label, step.how, types)
        is_vector, dtype = result_type(step.label, function, types)
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
        key = key_of(step, 0)
        self.made[key] = type_
        return self._numbers(key, type_)

    def keep(self, step: Definition, uses: int) -> None:
        """Write a definition for those that follow, stored where it is used several times."""
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


def key_of(step: Definition, place: int) -> str:
    """Return the key of a made column: no name, since a stored one may be called the same."""
    return hidden(step.name, place)


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", "function")
