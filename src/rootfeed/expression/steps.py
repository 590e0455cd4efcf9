"""Definitions and cuts, and what each of them computes: its tree, its type, its size in a kernel."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rootfeed.errors import ArgumentError, ExpressionError, ExpressionTypeError
from rootfeed.expression.builder import Vector
from rootfeed.expression.emission import Emitter
from rootfeed.expression.grammar import mark, shortened
from rootfeed.expression.inference import NUMBERS, inferred, named, text_of
from rootfeed.expression.names import advised, hidden, label
from rootfeed.expression.nodes import Expression, Name, Quoted, names_in
from rootfeed.expression.outside import changed, meaning
from rootfeed.expression.python import compiled_function, result_type, vectorized_type
from rootfeed.expression.typed import (
    BOOL,
    Column,
    Dialect,
    FunctionCall,
    Scope,
    TextColumn,
    Typed,
    columns_in,
    shown,
)
from rootfeed.schema import ColumnType

__all__ = ["MOST_WORDS", "Cut", "Definition", "Step", "TypedStep", "Types", "infer", "typed_steps"]

Types = Mapping[str, ColumnType]

MOST_WORDS = 2_000
"""Names and numbers in the source of one kernel.

They tell how long it takes to compile, whatever they are: 1 to 4 ms each, and little more where there
are many, so that no kernel takes longer than some seconds.
"""


@dataclass(frozen=True)
class Definition:
    """A column that is made.

    Attributes
    ----------
    name : str
    how : Expression or function
    columns : tuple of str or None
        Columns that the function takes; None for those that its arguments name.
    vectorized : bool
        The function takes arrays of many entries, and is not compiled.
    """

    name: str
    how: Expression | Callable[..., Any]
    columns: tuple[str, ...] | None = None
    vectorized: bool = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "meaning": {} if isinstance(self.how, Expression) else meaning(self.how)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        before = state.pop("meaning")
        vars(self).update(state)
        # A function is sent by its name, under which another process may find another one.
        if not isinstance(self.how, Expression) and (difference := changed(before, meaning(self.how))):
            name = getattr(self.how, "__qualname__", "function")
            raise ArgumentError(
                f"the function {name} for {self.label!r} is not the one that was sent here from another "
                f"process: {difference}. Start processes after functions, and what these take from "
                "outside, are as they shall be; what a script sets below `if __name__ == '__main__':`, "
                "its processes do not see. Write numbers into the function, or write it as text."
            )

    @property
    def label(self) -> str:
        """The name, as messages show it."""
        return label(self.name)

    @property
    def text(self) -> str:
        """What messages show of it."""
        if isinstance(self.how, Expression):
            return self.how.text
        function = getattr(self.how, "__name__", "function")
        return f"{self.label} = {function}({', '.join(self.needs)})"

    @property
    def same(self) -> str | None:
        """The column that it is another name for, if it is one."""
        node = self.how.node if isinstance(self.how, Expression) else None
        return node.name if isinstance(node, Name) else None

    @property
    def needs(self) -> tuple[str, ...]:
        """Names in it; not all of them need be columns."""
        if isinstance(self.how, Expression):
            return tuple(names_in(self.how.node))
        if self.columns is not None:
            return self.columns
        parameters = inspect.signature(self.how).parameters.values()
        if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
            raise ArgumentError(
                f"the function for {self.label!r} takes any arguments: name its columns, columns=[...]."
            )
        return tuple(each.name for each in parameters if each.default is each.empty)


@dataclass(frozen=True)
class Cut:
    """Entries for which an expression is 0 do not pass."""

    how: Expression
    label: str

    @property
    def text(self) -> str:
        """What messages show of it."""
        return self.how.text

    @property
    def needs(self) -> tuple[str, ...]:
        """Names in it; not all of them need be columns."""
        return tuple(names_in(self.how.node))


Step = Definition | Cut


@dataclass(frozen=True)
class TypedStep:
    """What a step computes.

    Attributes
    ----------
    step : Step
    type : ColumnType
    made : Column, TextColumn or None
        What a definition's name stands for after it: for another name of a text, the stored column.
    tree : Typed or None
        None for other names of texts, and for vectorized functions.
    given : tuple of Typed or TextColumn
        What a vectorized function is given.
    words : int
        Of what it adds to a kernel: see `MOST_WORDS`.
    """

    step: Step
    type: ColumnType
    made: Column | TextColumn | None = None
    tree: Typed | None = None
    given: tuple[Typed | TextColumn, ...] = ()
    words: int = 0

    @property
    def key(self) -> str:
        """The key of what a definition's name stands for; empty for cuts."""
        return "" if self.made is None else self.made.key

    @property
    def needs(self) -> Iterator[str]:
        """The keys of the columns that it needs from earlier steps."""
        trees = self.given if self.tree is None else (self.tree,)
        for tree in trees:
            if isinstance(tree, Typed):
                yield from (column.key for column in columns_in(tree) if column.is_made)


def infer(steps: Sequence[Step], columns: Types, dialect: Dialect) -> dict[str, ColumnType]:
    """Return the types of all columns after some steps.

    Raises
    ------
    ExpressionError, ExpressionTypeError, MissingColumnError
        See `typed_steps`.
    """
    found = typed_steps(steps, columns, dialect)
    made = {each.step.name: each.type for each in found if isinstance(each.step, Definition)}
    return {**columns, **made}


def typed_steps(steps: Sequence[Step], columns: Types, dialect: Dialect) -> list[TypedStep]:
    """Return what some steps compute, one after another.

    Raises
    ------
    ExpressionError, ExpressionTypeError, MissingColumnError
        Where a step cannot be understood, or is too large to be compiled in seconds.
    """
    types = dict(columns)
    names = {name: _column(name, type_, is_made=False) for name, type_ in columns.items()}
    found: list[TypedStep] = []
    for place, step in enumerate(steps):
        # A key is no name, since a stored column may be called the same.
        key = hidden(step.name, place) if isinstance(step, Definition) else ""
        with advised(step.text if isinstance(step.how, Expression) else "", types):
            typed = _typed(step, key, types, Scope(step.text, dialect, names))
        if typed.words > MOST_WORDS:
            raise ExpressionError(_too_large(step, typed.words))
        if isinstance(step, Definition):
            types[step.name], names[step.name] = typed.type, typed.made
        found.append(typed)
    return found


def _typed(step: Step, key: str, types: Types, scope: Scope) -> TypedStep:
    if isinstance(step, Cut):
        tree = inferred(scope, step.how.node)
        _check_cut(step, scope, tree)
        return TypedStep(step, _type(tree), None, tree, words=_words(tree, scope.text))
    # Another name for a column leaves its type as it is, the shape of arrays included.
    same = types.get(step.same) if step.same is not None else None
    if isinstance(step.how, Expression):
        if isinstance(column := text_of(scope, step.how.node), TextColumn):
            return TypedStep(step, same or _type(column), column)
        tree = inferred(scope, step.how.node)
    else:
        given = _arguments(step, scope)
        if step.vectorized:
            type_ = vectorized_type(step.label, step.how, [_type(each) for each in given])
            return TypedStep(step, type_, _column(key, type_, is_made=True), given=tuple(given))
        tree = _function_call(step, step.how, given)
    type_ = same or _type(tree)
    made = _column(key, type_, is_made=True)
    return TypedStep(step, type_, made, tree, words=_words(tree, scope.text))


def _column(key: str, type_: ColumnType, is_made: bool) -> Column | TextColumn | None:
    if type_.kind == "text":
        return TextColumn(key)
    return None if type_.dtype is None else Column(type_.dtype, type_.kind != "scalar", key, is_made)


def _type(tree: Typed | TextColumn) -> ColumnType:
    if isinstance(tree, TextColumn):
        return ColumnType("text", "text")
    return ColumnType(shown(tree), "vector" if tree.is_vector else "scalar", tree.dtype)


def _check_cut(cut: Cut, scope: Scope, tree: Typed) -> None:
    """Refuse vectors and, as ROOT does, numbers: a comparison may have been forgotten."""
    if not tree.is_vector and (tree.dtype == BOOL or not scope.is_cpp):
        return
    advice = "Use Any(...) or All(...)." if tree.is_vector else "Compare it, as in 'x != 0'."
    message = f"a cut is true or false, got {shown(tree)}"
    raise ExpressionTypeError(f"{mark(cut.text, 0, message, len(cut.text))}\n{advice}")


def _arguments(step: Definition, scope: Scope) -> list[Typed | TextColumn]:
    """Return what a function of the user's is given."""
    given: list[Typed | TextColumn] = []
    start = len(scope.text) - len(f"{', '.join(step.needs)})")
    for name in step.needs:
        # Entries have numbers, which functions may ask for; other constants have no columns.
        kind = Name if name in NUMBERS else Quoted
        found = named(scope, kind(start, start + len(name), 1, name), repr)
        if found is None:
            raise ExpressionTypeError(
                f"the function for {step.label!r} takes column {name!r}, which holds no plain numbers."
            )
        start += len(name) + 2
        given.append(found)
    return given


def _function_call(
    step: Definition, function: Callable[..., Any], given: Sequence[Typed | TextColumn]
) -> Typed:
    """Return a call of a function of the user's, compiled for the types that it is given."""
    numbers: list[Typed] = []
    for each in given:
        if isinstance(each, TextColumn):
            raise ExpressionTypeError(
                f"the function for {step.label!r} takes column {each.key!r}, which holds text. "
                "Give vectorized=True: it then gets awkward arrays of many entries."
            )
        numbers.append(each)
    signature = [(each.is_vector, each.dtype) for each in numbers]
    compiled = compiled_function(step.label, function, signature)
    is_vector, dtype = result_type(step.label, compiled, signature)
    return FunctionCall(dtype, is_vector, compiled, tuple(numbers))


def _words(tree: Typed, text: str) -> int:
    """Return the size of a step in a kernel: it is written on its own."""
    emitter = Emitter()
    value = emitter.emit(tree, text)
    if isinstance(value, Vector):
        emitter.stored(value)  # its elements are written where they are used
    return emitter.words


def _too_large(step: Step, words: int) -> str:
    what = "a cut" if isinstance(step, Cut) else f"the definition {shortened(step.label)!r}"
    message = (
        f"{what} is too large to be compiled in seconds: its kernel would have {words} words, and "
        f"{MOST_WORDS} are possible"
    )
    is_text = isinstance(step.how, Expression)
    shown = mark(step.text, 0, message, len(step.text)) if is_text else f"{message}."
    return (
        f"{shown}\nDefine parts of it first, each with a name, and use the names: definitions that are "
        "too large together are compiled one after another. A mask that is applied twice is one of them."
    )
