"""The lazy frame: which files, which object in them, which columns, definitions and cuts."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, ParamSpec, TypeVar

import awkward as ak

from rootfeed import sources
from rootfeed.engine import ForkLock
from rootfeed.errors import (
    ArgumentError,
    MissingColumnError,
    UnsupportedColumnError,
    nearest,
)
from rootfeed.expression import (
    Cut,
    Definition,
    Dialect,
    advised,
    hidden,
    infer,
    label,
    parse,
    reference,
    visible,
)
from rootfeed.expression import Expression as Parsed
from rootfeed.frame.answers import Report, Summary
from rootfeed.frame.files import Files
from rootfeed.frame.passing import CutPass, Passing, interrupts, passing
from rootfeed.frame.scan import Index, Known, Selection, Take, collect, describe, longest, walk
from rootfeed.frame.steps import Range, Step, check_sendable
from rootfeed.frame.wanted import Wanted
from rootfeed.schema import Array, Block, ColumnType, FileIndex
from rootfeed.sources import Location, Named

__all__ = ["Frame", "open", "over"]

Expression = str | Parsed | Callable[..., Any]
Result = TypeVar("Result")
Of = ParamSpec("Of")


def _naming_friends(method: Callable[Of, Result]) -> Callable[Of, Result]:
    """Let a method of a frame say which friends a tree has, where it says that a column is missing."""

    @functools.wraps(method)
    def named(*args: Of.args, **options: Of.kwargs) -> Result:
        frame: Any = args[0]
        with frame.naming_friends():
            return method(*args, **options)

    return named


class Frame:
    """A lazy, immutable description of a dataset; made by `rootfeed.open`.

    A frame holds no open file. Its methods return new frames, which share what is known of the files,
    so that several loaders of one frame read the metadata once.
    """

    def __init__(
        self,
        files: Files,
        steps: Sequence[Step] = (),
        selected: Sequence[str] | None = None,
        dialect: Dialect = "python",
    ) -> None:
        self._files = files
        self._steps = tuple(steps)
        self._selected = None if selected is None else tuple(selected)
        self._dialect = dialect
        self._passing: Passing | None = None
        self._longest: dict[str, int] = {}
        self._lock = ForkLock()
        with files.naming_friends():
            types = infer(self._expressions, files.types, dialect)
        chosen = types if selected is None else {name: types[name] for name in selected}
        self._columns = MappingProxyType(dict(chosen))

    def __getstate__(self) -> dict[str, Any]:
        check_sendable(self._steps)
        names = ("_files", "_steps", "_selected", "_dialect", "_passing", "_longest")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]  # made anew, locks too
            state["_files"], state["_steps"], state["_selected"], state["_dialect"]
        )
        self._passing = state["_passing"]
        self._longest = state["_longest"]

    # --- what it is ---------------------------------------------------------------------------

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """Name and type of every column: the stored ones as the first file declares them."""
        return self._columns

    @property
    def files(self) -> tuple[str, ...]:
        """The files' paths, in order."""
        return self._files.paths

    @property
    def entries(self) -> int:
        """Entries in all files, before any cut. The first time, this reads each file's metadata."""
        return sum(index.entries for index in self._files.index(()))

    def __repr__(self) -> str:
        first = self._files.locations[0]
        name = f":{first.object_path}" if first.object_path else ""
        others = len(self._files.locations) - 1
        more = f" and {others} more" if others else ""
        cuts = sum(isinstance(step, Cut) for step in self._steps)
        after = f", {cuts} cut{'s' if cuts > 1 else ''}" if cuts else ""
        return f"<Frame {first.path}{name}{more}, {len(self._columns)} columns{after}>"

    # --- what can be derived ------------------------------------------------------------------

    def define(
        self,
        name: str,
        expression: Expression,
        *,
        columns: str | Sequence[str] | None = None,
        vectorized: bool = False,
    ) -> Frame:
        """Return a frame with one more column.

        Parameters
        ----------
        name : str
            Any text without line breaks and other control characters.
        expression : str or function
            Text such as ``"sqrt(px*px + py*py)"``, or a function whose arguments are columns. It is
            compiled and called once per entry; vector columns arrive as 1-D arrays. A text names a
            column that is no plain word in backticks: ``"`jet pt` / 1000"``.
        columns : str or sequence of str, optional
            The columns that the function takes, if they are not named like its arguments.
        vectorized : bool
            The function takes arrays of many entries and is not compiled.

        Raises
        ------
        ArgumentError
            Where there is such a column already: see `redefine`.
        ExpressionError, MissingColumnError, ExpressionTypeError
            Where the expression cannot be understood.
        """
        return self._with(self._definition(self._new(name), expression, columns, vectorized), show=name)

    @_naming_friends
    def redefine(
        self,
        name: str,
        expression: Expression,
        *,
        columns: str | Sequence[str] | None = None,
        vectorized: bool = False,
    ) -> Frame:
        """Return a frame in which a column has other contents, from here on: see `define`."""
        known = self._all_types()
        if name not in known:
            raise MissingColumnError(
                f"there is no column {name!r} to redefine. {nearest(name, known)} "
                "Use define to make a new one."
            )
        return self._with(self._definition(name, expression, columns, vectorized), show=name)

    @_naming_friends
    def alias(self, name: str, column: str) -> Frame:
        """Return a frame in which a column has a second name."""
        known = self._all_types()
        if column not in known:
            raise MissingColumnError(f"there is no column {column!r}. {nearest(column, known)}")
        return self._with(Definition(self._new(name), reference(column)), show=name)

    def filter(
        self,
        expression: Expression,
        name: str | None = None,
        *,
        columns: str | Sequence[str] | None = None,
        vectorized: bool = False,
    ) -> Frame:
        """Return a frame with the entries for which an expression holds.

        Definitions that follow are evaluated only for entries that pass.

        Parameters
        ----------
        expression : str or function
            See `define`; its value is a bool or a number, of which 0 does not pass.
        name : str, optional
            The cut's name in `report`; the expression's text if left out.
        columns, vectorized
            Of a function: see `define`.
        """
        if isinstance(expression, str):
            return self._with(Cut(self._parsed(expression, columns, vectorized), name or expression))
        told = name or str(getattr(expression, "__name__", "function"))
        made = self._definition(hidden(told, len(self._steps)), expression, columns, vectorized)
        shown = self._columns if self._selected is None else self._selected
        return self._with(made)._with(Cut(reference(made.name), told)).select(shown)

    @_naming_friends
    def select(self, columns: Iterable[str]) -> Frame:
        """Return a frame that shows only some columns: those that a loader takes when none are named."""
        names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
        known = self._all_types()
        for name in names:
            if name not in known:
                raise MissingColumnError(f"there is no column {name!r}. {nearest(name, known)}")
        return Frame(self._files, self._steps, names, self._dialect)

    def range(self, start: int, stop: int | None = None, step: int = 1) -> Frame:
        """Return a frame with some of the entries that pass so far, by their number, as `range` does.

        Parameters
        ----------
        start, stop : int
            ``range(n)`` means the first n. Entries are counted in the order of the files.
        step : int
        """
        try:
            start, step = operator.index(start), operator.index(step)
            stop = None if stop is None else operator.index(stop)
        except TypeError:
            raise ArgumentError(f"range takes integers, got {start!r}, {stop!r}, {step!r}.") from None
        first, last = (0, start) if stop is None else (start, stop)
        if first < 0 or last < first or step < 1:
            raise ArgumentError(
                f"range takes 0 <= start <= stop and step >= 1, got start={first}, stop={last}, "
                f"step={step}."
            )
        return self._with(Range(first, last, step))

    # --- what can be asked --------------------------------------------------------------------

    def count(self) -> int:
        """Return the number of entries that pass all cuts.

        The first time, this reads the columns that the cuts need.
        """
        return int(self.passing().counts.sum())

    def report(self) -> Report:
        """Return the cut flow: how many entries came to each cut and passed it.

        Printed, it is a table. The first time, this reads the columns that the cuts need.
        """
        return Report(self.passing().flow, self.entries)

    @_naming_friends
    def describe(self, columns: str | Iterable[str] | None = None) -> Summary:
        """Return count, mean, spread, limits and quantiles of columns, in one pass.

        Parameters
        ----------
        columns : str or iterable of str, optional
            All numeric columns if left out; of vectors, all elements count.

        Returns
        -------
        Summary
            A mapping of name to statistics; printed, it is a table.
        """
        names = self._names(columns, ("scalar", "vector"))
        known = self._all_types()
        if columns is None:
            names = [name for name in names if known[name].dtype is not None]
        for name in names:
            if known[name].dtype is None:
                raise UnsupportedColumnError(
                    f"column {name!r} ({known[name].text}) holds no plain numbers. Leave it out."
                )
        return self._scanned(describe, names)

    @_naming_friends
    def arrays(self, columns: str | Iterable[str] | None = None) -> dict[str, Array | ak.Array]:
        """Return columns as arrays of the entries that pass: NumPy for numbers, awkward for the rest.

        Everything is in memory at once: for small results.
        """
        # What only uproot knows how to read, if at all, has to be asked for.
        names = self._names(columns, ("scalar", "vector", "text"))
        return self._scanned(collect, names)

    # --- for loaders --------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[Step, ...]:
        """Definitions, cuts and ranges, in order."""
        return self._steps

    @property
    def stored(self) -> Mapping[str, ColumnType]:
        """The columns that are stored in the files, as the first one declares them."""
        return self._files.types

    def in_dialect(self, dialect: Dialect) -> Frame:
        """Return a frame whose expressions have C++'s or Python's meaning; "python" or "c++"."""
        return Frame(self._files, self._steps, self._selected, dialect)

    def index(self, names: Iterable[str]) -> tuple[FileIndex, ...]:
        """Return the storage metadata of some stored columns, for each file.

        Reads the metadata of each file once, on several threads, with a progress bar if that takes
        longer than a second; files whose columns are known already are not opened again.

        Raises
        ------
        MissingColumnError
            Names the file that lacks a column.
        """
        return self._files.index(names)

    def naming_friends(self) -> AbstractContextManager[None]:
        """Add the friends of the first file's tree to what is said of a column that is missing."""
        return self._files.naming_friends()

    def passing(self) -> Passing:
        """Return which entries pass all cuts. The first time, this reads what the cuts need."""
        with self._lock:
            if self._passing is None:
                self._passing = passing(self._files, self._steps, self._dialect)
            return self._passing

    @property
    def selects(self) -> bool:
        """Whether there are cuts or ranges."""
        return any(isinstance(step, Cut | Range) for step in self._steps)

    def longest(self, columns: Iterable[str]) -> dict[str, int]:
        """Return the length of the longest vector of each column, over the entries that pass.

        Reads those columns that were not asked for before, in one pass.
        """
        wanted = tuple(dict.fromkeys(columns))
        missing = [name for name in wanted if name not in self._longest]
        if missing:
            self._longest.update(self._scanned(longest, missing))
        return {name: self._longest[name] for name in wanted}

    def walk(
        self,
        names: Sequence[str],
        use: Callable[[Block, Take, Mapping[str, Any]], Result],
        *,
        raw: bool = False,
    ) -> Iterator[tuple[Block, Take, Result]]:
        """Yield blocks in order, their entries that pass, and what `use` makes of some columns.

        Parameters
        ----------
        names : sequence of str
        use : function of (Block, ndarray of int32, mapping of str to ndarray or Jagged)
            Called on threads with the entries that pass, relative to the block's first one.
        raw : bool
            Every entry passes, where all of the columns are stored.
        """
        made = {step.name for step in self._steps if isinstance(step, Definition)}
        known = Known(None if raw and not made & set(names) else self._known_passing())
        return walk(self.index, self.wanted(names), known, use)

    def _known_passing(self) -> Passing | None:
        return self.passing() if self.selects else None

    def wanted(self, names: Iterable[str]) -> Wanted:
        """Return how columns come about: which stored ones are read, which definitions evaluated."""
        return Wanted(names, self._steps, self._files.types, self._dialect)

    # --- helpers ------------------------------------------------------------------------------

    def _scanned(
        self, scan: Callable[[Index, Wanted, Selection], Result], names: Sequence[str]
    ) -> Result:
        """Go through some columns of the entries that pass.

        Where it is not known yet which pass, cuts are evaluated in the same pass over the files.
        """
        wanted = self.wanted(names)
        if not self.selects:
            return scan(self.index, wanted, Known(None))
        if self._passing is not None or any(map(interrupts, self._steps)):
            return scan(self.index, wanted, Known(self.passing()))
        cuts = CutPass(self._files, self._expressions, self._dialect)
        found = scan(self.index, wanted, cuts)
        with self._lock:
            self._passing = cuts.passing()
        return found

    @property
    def _expressions(self) -> list[Definition | Cut]:
        return [step for step in self._steps if not isinstance(step, Range)]

    def _all_types(self) -> Mapping[str, ColumnType]:
        if self._selected is None:
            return self._columns
        types = infer(self._expressions, self._files.types, self._dialect)
        return {name: types[name] for name in visible(types)}

    def _with(self, step: Step, *, show: str | None = None) -> Frame:
        selected = self._selected
        if selected is not None and show is not None and show not in selected:
            selected = (*selected, show)
        return Frame(self._files, (*self._steps, step), selected, self._dialect)

    def _new(self, name: str) -> str:
        """Return a name that a new column may have."""
        if not isinstance(name, str) or not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]+", name):
            raise ArgumentError(
                f"a column's name must be a text without line breaks or control characters, got "
                f"{name!r}."
            )
        if name in self._all_types():
            raise ArgumentError(f"there is a column {name!r} already. Use redefine to replace it.")
        return name

    def _definition(
        self,
        name: str,
        expression: Expression,
        columns: str | Sequence[str] | None,
        vectorized: bool,
    ) -> Definition:
        if isinstance(expression, str):
            expression = self._parsed(expression, columns, vectorized)
        if isinstance(expression, Parsed):
            return Definition(name, expression)
        if not callable(expression):
            raise ArgumentError(
                f"{label(name)!r} must be defined by an expression or a function, got {expression!r}."
            )
        chosen = (columns,) if isinstance(columns, str) else columns
        return Definition(name, expression, None if chosen is None else tuple(chosen), vectorized)

    def _parsed(self, text: str, columns: str | Sequence[str] | None, vectorized: bool) -> Parsed:
        if columns is not None or vectorized:
            raise ArgumentError(
                f"columns= and vectorized= belong to functions; the expression {text!r} names its "
                "columns itself."
            )
        with advised(text, self._all_types()):
            return parse(text)

    def _names(self, columns: str | Iterable[str] | None, kinds: Sequence[str]) -> list[str]:
        if columns is None:
            return [name for name, type_ in self._columns.items() if type_.kind in kinds]
        names = [columns] if isinstance(columns, str) else list(dict.fromkeys(columns))
        known = self._all_types()
        for name in names:
            if name not in known:
                raise MissingColumnError(f"there is no column {name!r}. {nearest(name, known)}")
        return names


def open(files: Named) -> Frame:
    """Describe a dataset in ROOT files.

    Parameters
    ----------
    files : str, Path, iterable of these, or mapping
        ``"file.root"``, ``"file.root:tree"``, a pattern such as ``"data/*.root:tree"``, a list of
        these, or ``{path: tree}``. The tree's name may be left out where a file holds only one tree
        or ntuple. Paths may be URLs of any protocol that fsspec knows; a tree behind a URL with a query
        is named as ``"https://host/file.root?token=abc#tree"``. In a mapping, names are taken as they
        are; ``{path: [tree, tree]}`` takes several trees of one file, one after another.

    Returns
    -------
    Frame

    Raises
    ------
    MissingFileError
        Where a file does not exist, or a pattern matches none.
    AccessError, UnreachableError
        Where a file may not be read, or its server, its disk or a limit of the system keeps it back. A
        server's passing failures are waited out for some seconds.
    MissingObjectError
        Where the first file holds no such tree or ntuple, or several and none was named.
    DamagedFileError
        Where the first file cannot be parsed.

    Notes
    -----
    Costs one look at each local path, and one parse of the first file's metadata. The other files
    are opened when a loader, or `Frame.entries`, needs them.

    Examples
    --------
    >>> import rootfeed as rf
    >>> frame = rf.open("data/*.root:events")  # doctest: +SKIP
    >>> frame = frame.define("m", "sqrt(E*E - p*p)").filter(
    ...     "pt > 20 && abs(eta) < 2.5"
    ... )  # doctest: +SKIP
    """
    return over(sources.expand(files))


def over(locations: Sequence[Location]) -> Frame:
    """Describe a dataset in files that are known: see `open`."""
    _, types = sources.types(locations[0])
    return Frame(Files(locations, types))
