"""What a text says: a tree of frozen nodes, each of which knows its place in the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

__all__ = [
    "Among",
    "Binary",
    "Call",
    "Cast",
    "Compare",
    "Conditional",
    "Expression",
    "Index",
    "Items",
    "Logic",
    "Name",
    "Node",
    "Number",
    "Quoted",
    "Text",
    "Unary",
    "names_in",
]


@dataclass(frozen=True)
class Node:
    """A part of an expression, from character `start` to before `stop`; `depth` counts what it nests.

    `is_bracketed` where it stands in round brackets, which `start` and `stop` leave out.
    """

    start: int
    stop: int
    depth: int
    is_bracketed: bool = field(default=False, kw_only=True, compare=False, repr=False)


@dataclass(frozen=True)
class Number(Node):
    """A literal."""

    value: float | int | bool
    dtype: np.dtype[np.generic]


@dataclass(frozen=True)
class Text(Node):
    """A text in quotes, as bytes of UTF-8."""

    value: bytes


@dataclass(frozen=True)
class Name(Node):
    """A column or a constant, with its dots and namespaces."""

    name: str


@dataclass(frozen=True)
class Quoted(Name):
    """A column, whatever its name is: never a constant, a number of the entry, or anything else."""


@dataclass(frozen=True)
class Unary(Node):
    """``-``, ``+``, ``!`` or ``~``; or the word ``not``, which takes more behind it in Python."""

    operator: str
    operand: Node


@dataclass(frozen=True)
class Binary(Node):
    """Arithmetic, shifts, and operations on bits."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Compare(Node):
    """Comparisons, chained where there are several: ``a < b < c`` is ``a < b && b < c``."""

    operators: tuple[str, ...]
    operands: tuple[Node, ...]


@dataclass(frozen=True)
class Among(Node):
    """``operand in [a, b]``: whether it is equal to one of them."""

    operand: Node
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Logic(Node):
    """``&&`` or ``||``."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Conditional(Node):
    """``condition ? yes : no``."""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True)
class Call(Node):
    """A function and its arguments; a method's object is its first one."""

    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Index(Node):
    """``vector[index]``."""

    vector: Node
    index: Node


@dataclass(frozen=True)
class Items(Node):
    """A vector of numbers: ``{a, b}``; the dtype is None where the text names none."""

    dtype: np.dtype[np.generic] | None
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Cast(Node):
    """``(float) x``."""

    dtype: np.dtype[np.generic]
    operand: Node


@dataclass(frozen=True)
class Expression:
    """A text that was understood.

    Attributes
    ----------
    text : str
    node : Node
    """

    text: str
    node: Node


def names_in(root: Node) -> Iterator[str]:
    """Yield the names of columns and constants in a tree."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Name):
            yield node.name
        for value in vars(node).values():
            some = value if isinstance(value, tuple) else (value,)
            stack.extend(each for each in some if isinstance(each, Node))
