"""Programs, compiled for the types that columns have in each file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from rootfeed.expression import Cuts, Outputs
from rootfeed.schema import ColumnType, FileIndex
from rootfeed.view.transformations import named

__all__ = ["Compiled"]

Types = Mapping[str, ColumnType]
Program = TypeVar("Program", bound=Cuts | Outputs)


class Compiled(Generic[Program]):
    """A program for each combination of types that its columns have in a file.

    Parameters
    ----------
    compile_types : function of mapping of str to ColumnType
        Compiles the program for stored columns of some types.
    types : mapping of str to ColumnType
        Of all stored columns, in the first file.

    Attributes
    ----------
    inputs : tuple of str
        The stored columns that the program needs.
    """

    def __init__(self, compile_types: Callable[[Types], Program], types: Types) -> None:
        self._compile = compile_types
        self._types = types
        first = compile_types(types)
        self.inputs = first.inputs
        self._known = {self._key(types): first}

    def __getstate__(self) -> tuple[Any, ...]:
        return self._compile, dict(self._types)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # compiled anew

    def of(self, index: FileIndex) -> Program:
        """Return the program for a file."""
        types = {name: index.columns[name].type for name in self.inputs}
        key = self._key(types)
        if key not in self._known:
            with named(index.where):
                self._known[key] = self._compile(types)
        return self._known[key]

    def _key(self, types: Types) -> tuple[tuple[Any, ...], ...]:
        used = [types[name] for name in self.inputs]
        return tuple((type_.kind, str(type_.dtype), type_.shape) for type_ in used)
