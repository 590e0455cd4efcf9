"""A data frame of entries, in ROOT's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from rootfeed import sources
from rootfeed.errors import ArgumentError, MissingColumnError, nearest
from rootfeed.expression import Cut, reference
from rootfeed.frame import Frame, over, view_of
from rootfeed.frame.arrays import arrays
from rootfeed.properties import cached_property
from rootfeed.root import answers, describing
from rootfeed.root.answers import Result
from rootfeed.root.namespaces import missing
from rootfeed.root.snapshot import RSnapshotOptions, snapshot
from rootfeed.sources import PathLike, expand

__all__ = ["ENTRY", "RDataFrame", "names_of"]

Expression = str | Callable[..., Any]

ENTRY = "rdfentry_"
"""The number of an entry, which can be used like a column."""

_EVERYTHING = 1 << 50


class RDataFrame:
    """The entries of one tree or ntuple in one or several files; or so many entries without columns.

    ``rdfentry_``, the number of an entry over all files, can be used like a column.

    Parameters
    ----------
    tree : str or int
        Name of the tree or ntuple; or the number of entries, without files.
    files : str, Path or iterable of these
        Paths, patterns or URLs.
    storage_options, timeout, cache, cache_size : optional
        Which ROOT's does not take: how remote files are opened, see `rootfeed.open`.
    """

    frame: Frame

    def __init__(
        self,
        tree: str | int,
        files: PathLike | Iterable[PathLike] | None = None,
        *,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = sources.TIMEOUT_SECONDS,
        cache: PathLike | None = None,
        cache_size: int | float | str | None = None,
    ) -> None:
        if isinstance(tree, int | np.integer) and files is None:
            frame = _counted(tree)
        elif isinstance(tree, str) and files is not None:
            # Both are names, never parts of one text: a tree may have a colon, an address a query.
            locations = expand(files, tree, storage_options, timeout, cache, cache_size)
            frame = over(locations, friends=bool(sources.friends(locations[0])))
        else:
            raise ArgumentError(
                "RDataFrame takes the name of a tree and files, or a number of entries, got "
                f"{tree!r} and {files!r}. RDF.FromNumpy and RDF.FromCSV take arrays and tables of text."
            )
        self.frame = Frame(view_of(frame).in_dialect("c++"), list(frame.columns))

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
        """Return a data frame in which a column has other contents: see `Define`.

        So has it under its other names, see `Alias`.
        """
        frame = self.frame.redefine(name, expression, columns=names_of(columns) or None)
        for alias in describing.other_names(self.frame, name):
            frame = frame.redefine(alias, reference(name).text)
        return _over(frame)

    def Alias(self, alias: str, column: str) -> RDataFrame:
        """Return a data frame in which a column has a second name."""
        if column == ENTRY and column not in self.frame.columns:
            return self.Define(alias, ENTRY)
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

    # --- answers ------------------------------------------------------------------------------

    def Count(self) -> Result:
        """Return the number of entries."""
        return Result(self.frame.count)

    def Sum(self, column: str) -> Result:
        """Return the sum of a column, as a float; of vectors, all elements count.

        NaN where a value is NaN. What is booked on one data frame before an answer is asked for comes
        from one pass, this and `Mean`, `StdDev`, `Min` and `Max`.

        Raises
        ------
        MissingColumnError
        UnsupportedColumnError
            Where the column holds no numbers.
        """
        return self._booked.result(column, answers.total)

    def Mean(self, column: str) -> Result:
        """Return the mean, as a float: see `Sum`. 0 without values."""
        return self._booked.result(column, answers.mean)

    def StdDev(self, column: str) -> Result:
        """Return the standard deviation, with n - 1, as a float: see `Sum`. 0 below two values."""
        return self._booked.result(column, answers.deviation)

    def Min(self, column: str) -> Result:
        """Return the least value, as a float: see `Sum`.

        NaN is left out; ROOT goes by where it stands. Without values, it is the largest number.
        """
        return self._booked.result(column, answers.least)

    def Max(self, column: str) -> Result:
        """Return the greatest value, as a float: see `Min`. Without values, minus the largest number."""
        return self._booked.result(column, answers.greatest)

    def Stats(self, column: str) -> Result:
        """Return number, mean, spread and limits of a column, as ROOT's `TStatistic`: see `Sum`.

        Without weights, which would be a second argument in ROOT: the mean of `x` with weights `w` is
        the `Sum` of ``w * x`` over that of ``w``.
        """
        return self._booked.result(column, answers.Statistic)

    def Report(self) -> Result:
        """Return the cut flow: ``Print()`` shows it, and it holds a cut after the other.

        Cuts without a name are in it, too, under their text; `CutInfo` says what a cut tells.
        """
        return Result(lambda: answers.CutFlow(self.frame.report()))

    def AsNumpy(
        self,
        columns: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        lazy: bool = False,
    ) -> Any:
        """Return columns as NumPy arrays; vectors as arrays of objects, which are arrays.

        All of it is in memory at once.

        Parameters
        ----------
        columns, exclude : sequence of str, optional
            All columns if left out, and those that are not taken.
        lazy : bool
            Read when it is asked for.

        Returns
        -------
        dict of str to ndarray, or Result
            Each of shape (entries,); a `Result` with `lazy`.
        """
        left_out = set(names_of(exclude))
        names = [name for name in names_of(columns) or self.GetColumnNames() if name not in left_out]
        frame = self.with_numbers(names).select(names)

        def found() -> dict[str, Any]:
            return {name: _as_objects(array) for name, array in frame.arrays(names).items()}

        return Result(found) if lazy else found()

    def Display(
        self, columnList: str | Sequence[str] = "", nRows: int = 5, nMaxCollectionElements: int = 10
    ) -> Result:
        """Return the first entries as a table: ``Print()`` shows it, ``AsString()`` returns it.

        Parameters
        ----------
        columnList : str or sequence of str
            A text is a regular expression of names; all columns if left out.
        nRows : int
            What lies behind these entries is not read.
        nMaxCollectionElements : int
            Elements of a vector that ``Print()`` shows.
        """
        names = self._matching(columnList)
        every = list(dict.fromkeys([*names, ENTRY]))
        view = view_of(self.with_numbers(every).select(every))

        def found() -> describing.Displayed:
            read = arrays(view, every, nRows)
            numbers = np.asarray(read[ENTRY]).tolist()
            return describing.displayed(read, names, numbers, nMaxCollectionElements)

        return Result(found)

    def Snapshot(
        self,
        treename: str,
        filename: str | Path,
        columnList: str | Sequence[str] = "",
        options: RSnapshotOptions | None = None,
    ) -> RDataFrame | Result:
        """Write columns to a new file, block by block, and return the data frame over it.

        The file is there when all of it is written, and not before.

        Parameters
        ----------
        treename : str
        filename : str or Path
            Local. A file of that name is replaced; it must not be one of those that are read.
        columnList : str or sequence of str
            A text is a regular expression of names; all columns if left out. Beside each vector that
            is no array of fixed size, a tree has its number of elements: ``nv`` beside ``v``. In the
            names of an ntuple, points become underscores, as in ROOT.
        options : RSnapshotOptions, optional

        Returns
        -------
        RDataFrame or Result
            A `Result` with ``fLazy``: the file is written when its value is asked for.

        Raises
        ------
        ArgumentError
            Where an option is not there, the file is one of those that are read, or ROOT cannot read a
            column of some name.
        UnsupportedColumnError
            Where a column holds neither numbers, nor vectors of numbers, nor text.
        EmptyDatasetError
            Where an ntuple would have no entry; a tree may have none.
        """
        names = self._matching(columnList)
        chosen = RSnapshotOptions() if options is None else options

        def made() -> RDataFrame:
            snapshot(self.with_numbers(names), names, treename, filename, chosen)
            return RDataFrame(treename, Path(filename))

        chosen.checked()
        return Result(made) if chosen.fLazy else made()

    def GetValue(self) -> RDataFrame:
        """Return the data frame itself: what `Snapshot` returns may be asked for its value."""
        return self

    # --- what it is ---------------------------------------------------------------------------

    def GetColumnNames(self) -> list[str]:
        """Return the names of all columns, sorted."""
        return sorted(self.frame.columns)

    def GetDefinedColumnNames(self) -> list[str]:
        """Return the names of columns that were defined or redefined."""
        return describing.defined(self.frame)

    def GetFilterNames(self) -> list[str]:
        """Return the names of the cuts; of one without, its text."""
        return [each.label for each in view_of(self.frame).transformations if isinstance(each, Cut)]

    def GetColumnType(self, column: str) -> str:
        """Return the type of a column, as ROOT calls it.

        Raises
        ------
        MissingColumnError
        """
        return describing.type_name(self.with_numbers([column]), column)

    def Describe(self) -> describing.Description:
        """Return where entries come from, how many there are, cuts and columns; printed, it is a text.

        This reads the metadata of each file.
        """
        return describing.described(self.frame, self.GetFilterNames())

    def HasColumn(self, column: str) -> bool:
        """Return whether there is such a column; ``rdfentry_`` is one."""
        return column == ENTRY or column in self.frame.columns

    def with_numbers(self, columns: Iterable[str]) -> Frame:
        """Return the frame that has the entries' numbers as a column, if they are among some columns.

        ``rdfentry_`` counts entries from 0 over all files, before any cut.
        """
        return self.numbered(columns).frame

    def numbered(self, columns: Iterable[str]) -> RDataFrame:
        """Return the data frame that has the entries' numbers as a column: see `with_numbers`."""
        if ENTRY in columns and ENTRY not in self.frame.columns:
            return self.Define(ENTRY, ENTRY)
        return self

    def _matching(self, columns: str | Sequence[str]) -> list[str]:
        """Return the columns of a list, or whose names match an expression; all if it is empty."""
        names = names_of(columns)
        every = self.GetColumnNames()
        if not names or not isinstance(columns, str) or self.HasColumn(columns):
            return list(dict.fromkeys(names or every))
        try:
            found = [name for name in every if re.fullmatch(columns, name)]
        except re.error as error:
            raise ArgumentError(f"{columns!r} is no regular expression of names: {error}.") from None
        if not found:
            raise MissingColumnError(f"no column's name matches {columns!r}. {nearest(columns, every)}")
        return found

    @cached_property
    def _booked(self) -> answers.Booked:
        return answers.Booked(self.with_numbers)

    @staticmethod
    def over(frame: Frame) -> RDataFrame:
        """Return a data frame over one of `rootfeed`, in C++'s meaning of expressions from here on."""
        return _over(Frame(view_of(frame).in_dialect("c++"), list(frame.columns)))

    def __getattr__(self, name: str) -> Any:
        raise missing("RDataFrame", name)

    def __repr__(self) -> str:
        return f"<RDataFrame over {self.frame!r}>"


def _over(frame: Frame) -> RDataFrame:
    made = object.__new__(RDataFrame)
    made.frame = frame
    return made


def _counted(entries: int) -> Frame:
    """Return a frame of so many entries, without a column."""
    if entries < 0:
        raise ArgumentError(f"a data frame has 0 entries or more, got {entries}.")
    table = sources.table({}, int(entries))
    return over([sources.ArraysLocation(sources.IN_MEMORY, None, table=table)])


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
