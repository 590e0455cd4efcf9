"""Definitions and cuts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.expression.names import label
from rootfeed.expression.nodes import Expression, Name, Node

__all__ = ["Cut", "Definition", "Step", "names_in"]


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

    @property
    def label(self) -> str:
        """The name, as messages show it."""
        return label(self.name)

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


Step = Definition | Cut


def names_in(root: Node) -> Iterator[str]:
    """Yield the names of columns and constants in a tree."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Name):
            yield node.name
        for value in vars(node).values():
            if isinstance(value, Node):
                stack.append(value)
            elif isinstance(value, tuple):
                stack.extend(each for each in value if isinstance(each, Node))
