"""A data frame of entries, in ROOT's words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from rootfeed.errors import ArgumentError
from rootfeed.frame import Frame, over, view_of
from rootfeed.sources import PathLike, expand

__all__ = ["RDataFrame", "Result", "names_of"]

Expression = str | Callable[..., Any]

_EVERYTHING = 1 << 50


class RDataFrame:
    """The entries of one tree or ntuple in one or several files.

    Parameters
    ----------
    tree : str
        Name of the tree or ntuple.
    files : str, Path or iterable of these
        Paths, patterns or URLs.
    """

    def __init__(self, tree: str, files: PathLike | Iterable[PathLike]) -> None:
        # Both are names, never parts of one text: a tree may have a colon, an address a query.
        frame = over(expand(files, tree))
        self.frame = Frame(view_of(frame).in_dialect("c++"))

    def Define(self, name: str, expression: Expression, columns: Sequence[str] = ()) -> RDataFrame:
        """Return a data frame with one more column.

        Parameters
        ----------
        name : str
        expression : str or function
            In C++'s meaning: ``/`` of integers gives an integer.
        columns : sequence of str
            What a function takes, if it is not told by its arguments' names.
        """
        return _over(self.frame.define(name, expression, columns=names_of(columns) or None))

    def Redefine(self, name: str, expression: Expression, columns: Sequence[str] = ()) -> RDataFrame:
        """Return a data frame in which a column has other contents: see `Define`."""
        return _over(self.frame.redefine(name, expression, columns=names_of(columns) or None))

    def Alias(self, alias: str, column: str) -> RDataFrame:
        """Return a data frame in which a column has a second name."""
        return _over(self.frame.alias(alias, column))

    def Filter(
        self, expression: Expression, columns: str | Sequence[str] = (), name: str = ""
    ) -> RDataFrame:
        """Return a data frame with the entries for which an expression holds.

        As in ROOT, ``Filter(expression, name)``, ``Filter(function, columns)``,
        ``Filter(function, columns, name)`` and ``Filter(function, name)``.

        Parameters
        ----------
        expression : str or function
        columns : sequence of str
            What a function takes, if it is not told by its arguments' names. A text is the cut's name.
        name : str
            In `Report`.
        """
        if isinstance(columns, str) and columns and name:
            raise ArgumentError(f"Filter takes a list of columns before the name, got {columns!r}.")
        if isinstance(columns, str):
            return _over(self.frame.filter(expression, columns or name or None))
        return _over(self.frame.filter(expression, name or None, columns=names_of(columns) or None))

    def Range(self, begin: int, end: int | None = None, stride: int = 1) -> RDataFrame:
        """Return a data frame with some of the entries, by number; an end of 0 means the last one."""
        if end is None:
            begin, end = 0, begin
        return _over(self.frame.range(begin, end or _EVERYTHING, stride))

    def Count(self) -> Result:
        """Return the number of entries; as in ROOT, ``GetValue()`` gives it, and so does ``int()``."""
        return Result(self.frame.count)

    def Report(self) -> Result:
        """Return the cut flow: ``Print()`` shows it."""
        return Result(self.frame.report)

    def AsNumpy(
        self, columns: Sequence[str] | None = None, exclude: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Return columns as NumPy arrays; vectors as arrays of objects, which are arrays."""
        left_out = set(names_of(exclude))
        names = [name for name in names_of(columns) or self.GetColumnNames() if name not in left_out]
        arrays = self.frame.arrays(names)
        return {name: _as_objects(array) for name, array in arrays.items()}

    def GetColumnNames(self) -> list[str]:
        """Return the names of all columns, sorted, as ROOT does for a TTree; defined ones come first."""
        stored = view_of(self.frame).stored
        made = [name for name in self.frame.columns if name not in stored]
        return made + sorted(name for name in self.frame.columns if name in stored)

    def __repr__(self) -> str:
        return f"<RDataFrame over {self.frame!r}>"


class Result:
    """An answer that is computed when it is asked for."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute = compute

    def GetValue(self) -> Any:
        """Return the answer; what it takes is kept by the data frame."""
        return self._compute()

    def Print(self) -> None:
        """Print the answer."""
        print(self._compute())

    def __int__(self) -> int:
        return int(self._compute())

    def __str__(self) -> str:
        return str(self._compute())


def _over(frame: Frame) -> RDataFrame:
    made = object.__new__(RDataFrame)
    made.frame = frame
    return made


def names_of(columns: str | Iterable[str] | None) -> list[str]:
    """Return the names of some columns; a text is one name, and an empty one none.

    Texts may be C++'s own, such as those that ROOT's ``GetColumnNames`` gives.
    """
    if columns is None:
        return []
    names: tuple[Any, ...] = (columns,)
    if not (isinstance(columns, str) or hasattr(columns, "c_str") or hasattr(columns, "Data")):
        with suppress(TypeError):  # C++'s vectors can be iterated over, but do not say so
            names = tuple(columns)
    return [text for text in map(str, names) if text]


def _as_objects(array: Any) -> Any:
    """Return vectors as ROOT has them: arrays of several dimensions are flattened."""
    if isinstance(array, np.ndarray):
        return array
    if array.layout.is_numpy:
        array = np.asarray(array).reshape(len(array), -1)
    objects = np.empty(len(array), object)
    for number, item in enumerate(array):
        objects[number] = item if isinstance(item, str) else np.asarray(item)
    return objects
