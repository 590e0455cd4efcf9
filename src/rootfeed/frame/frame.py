"""The lazy frame: a dataset in files, with definitions and cuts, as users see it."""

from __future__ import annotations

import functools
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast

import numpy as np

from rootfeed import sources
from rootfeed.arguments import as_tuple, one_of
from rootfeed.errors import (
    ArgumentError,
    MissingColumnError,
    RootfeedError,
    UnsupportedColumnError,
    nearest,
)
from rootfeed.expression import (
    Cut,
    Definition,
    advised,
    hidden,
    label,
    parse,
    reference,
)
from rootfeed.expression import Expression as Parsed
from rootfeed.frame.answers import Report, Summary, describe
from rootfeed.frame.arrays import arrays
from rootfeed.frame.joining import MATCH, matched, side_by_side
from rootfeed.frame.saving import Rows, save_as
from rootfeed.schema import Array, ColumnType
from rootfeed.sources import ArrowTable, Location, Named
from rootfeed.tables import html_table
from rootfeed.view import Files, Range, Skipped, Transformation, View, left_out, survey

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["Frame", "from_arrays", "open", "over", "view_of"]

Expression = str | Parsed | Callable[..., Any]
Result = TypeVar("Result")
Of = ParamSpec("Of")


def _naming_friends(method: Callable[Of, Result]) -> Callable[Of, Result]:
    """Let a method of a frame say which friends a tree has, where it says that a column is missing."""

    @functools.wraps(method)
    def named(*args: Of.args, **options: Of.kwargs) -> Result:
        frame: Any = args[0]
        with view_of(frame).naming_friends():
            return method(*args, **options)

    return named


class Frame:
    """A lazy, immutable description of a dataset; made by `rootfeed.open`.

    A frame holds no open file. Its methods return new frames, which share what is known of the files,
    so that several loaders of one frame read the metadata once.
    """

    def __init__(self, view: View, selected: Sequence[str] | None = None) -> None:
        self._view = view
        self._selected = None if selected is None else tuple(selected)
        types = view.types
        chosen = types if selected is None else {name: types[name] for name in selected}
        self._columns: Mapping[str, ColumnType] = MappingProxyType(dict(chosen))

    def __getstate__(self) -> dict[str, Any]:
        return {"view": self._view, "selected": self._selected}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["view"], state["selected"])  # type: ignore[misc]  # a proxy has no copy

    # --- what it is ---------------------------------------------------------------------------

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """Name and type of every column: the stored ones as the first file declares them."""
        return self._columns

    @property
    def files(self) -> tuple[str, ...]:
        """The files' paths, in order; without those that were skipped, once that is known."""
        return self._view.paths

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """The files that were left out, as ``open(..., on_error="skip")`` asks, in order.

        Each is a tuple ``(path, reason)`` with these names. The first time, this reads each file's
        metadata.
        """
        return self._view.files.skipped()

    @property
    def num_entries(self) -> int:
        """Entries in all files, before any cut. The first time, this reads each file's metadata."""
        return self._view.num_entries

    def __repr__(self) -> str:
        locations = self._view.files.locations
        first, others = locations[0], len(locations) - 1
        name = f":{first.object_path}" if first.object_path else ""
        more = f" and {others} more" if others else ""
        cuts = sum(isinstance(each, Cut) for each in self._view.transformations)
        after = f", {cuts} cut{'s' if cuts > 1 else ''}" if cuts else ""
        return f"<Frame {first.path}{name}{more}, {len(self._columns)} columns{after}>"

    def _repr_html_(self) -> str:
        rows = [[name, str(type_)] for name, type_ in self._columns.items()]
        return html_table(["column", "type"], rows, repr(self))

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
            compiled and called once per entry; vector columns arrive as 1-D arrays. What it takes from
            outside, such as globals, is a part of it as it is when the frame is evaluated. A text names
            a column that is no plain word in backticks: ``"`jet pt` / 1000"``.
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
        made = self._definition(
            hidden(told, len(self._view.transformations)), expression, columns, vectorized
        )
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
        return Frame(self._view, names)

    def join(
        self,
        other: Frame,
        *,
        on: str | Iterable[str] | None = None,
        prefix: str = "",
        missing: Any = "error",
    ) -> Frame:
        """Return a frame with the columns of another one beside its own.

        Entry by entry, as in files that were written together, such as the scores of a network: each
        goes with the other frame's entry of the same number, wherever its files end. Or by keys: an
        entry goes with the row that has the same values in some columns. Entries keep their identity, so
        that splits are the same as without.

        Parameters
        ----------
        other : Frame
            Entry by entry: one of as many entries, without definitions and cuts, which come after. By
            keys: any frame whose rows fit into memory.
        on : str or iterable of str, optional
            Columns of integers, such as run and event numbers, which both have; here stored ones, in
            `other` unique.
        prefix : str
            Before the names of its columns here, for example where both have columns of one name.
        missing : "error", "drop", or number, or mapping of str to number or str
            What becomes of entries for whose keys `other` has no row; how many were dropped is in
            `report`. They get what is given instead, one value for all columns of `other` or one for
            each by name, which the column must be able to hold. Their vectors are empty.

        Raises
        ------
        ArgumentError
            Where entries differ in number; a name is there already; keys are not unique, or have no
            match; a column cannot hold what `missing` gives it.

        Notes
        -----
        Entry by entry, the metadata of all files of both are read. Where files of both end at other
        entries, pages of `other` are read twice where they lie in two blocks.

        By keys, all rows of `other` and the keys of all entries are read at once; the columns that come
        in stay in memory, with a value for each entry.
        """
        if not isinstance(other, Frame):
            raise ArgumentError(f"join takes a frame, got {other!r}. Make one: rootfeed.open(...).")
        if missing is None or isinstance(missing, str):
            one_of("missing", missing, ("error", "drop"))
        keys = [] if on is None else list(as_tuple(on))
        if on is not None and not keys:
            raise ArgumentError("on must name at least one column, got none.")
        mine, theirs = self._view, other._view
        names = {f"{prefix}{name}": name for name in other.columns if name not in keys}
        if both := [name for name in names if name in mine.types]:
            more = f" and {len(both) - 1} more" if len(both) > 1 else ""
            raise ArgumentError(
                f"both frames have a column {both[0]!r}{more}. Give the names of those that come in a "
                'prefix, join(other, prefix="other_"), or select some of them.'
            )
        shown = list(self._columns) + list(names)
        if keys:
            files = _tables(matched(mine, theirs, keys, list(names.values()), missing))
            if missing != "drop":
                return Frame(mine.beside(files, names), shown)
            match = hidden("match", len(mine.transformations))
            joined = Frame(mine.beside(files, {**names, match: MATCH}), shown)
            return joined._with(Cut(reference(match), f"a match in {', '.join(keys)}"))
        # Files that were left out of one of them have a place, too.
        mine, theirs = mine.as_named(), theirs.as_named()
        return Frame(mine.beside(side_by_side(mine, theirs), names), shown)

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
        return int(self._view.selection().counts.sum())

    def report(self) -> Report:
        """Return the cut flow: how many entries came to each cut and passed it.

        Printed, it is a table. The first time, this reads the columns that the cuts need.
        """
        return Report(self._view.selection().flow, self.num_entries)

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
        return describe(self._view, names)

    @_naming_friends
    def arrays(self, columns: str | Iterable[str] | None = None) -> dict[str, Array | ak.Array]:
        """Return columns as arrays of the entries that pass: NumPy for numbers, awkward for the rest.

        Everything is in memory at once: for small results.
        """
        # What only uproot knows how to read, if at all, has to be asked for.
        names = self._names(columns, ("scalar", "vector", "text"))
        return arrays(self._view, names)

    @_naming_friends
    def save(
        self,
        file: str | os.PathLike[str],
        columns: str | Iterable[str] | None = None,
        *,
        format: Literal["ttree", "rntuple"] = "ttree",
        overwrite: bool = False,
    ) -> None:
        """Write the entries that pass, definitions included, into a file.

        It is read and written block by block, and there when all is written, or not at all. Names and
        types of numbers, vectors, arrays of fixed shape and texts are kept.

        Parameters
        ----------
        file : str or Path
            A local file, whose name tells the format. ``"out.root:events"`` names the tree or ntuple in
            it, which is ``"events"`` if it is left out. ``"out.parquet"`` has row groups of 65 536 rows,
            or of about 32 MB, compressed by zstd; ``"out.arrow"`` and ``"out.feather"`` such record
            batches, uncompressed: both need pyarrow. ``"out.h5"`` has a data set for each column, where
            vectors are of `h5py.vlen_dtype`, and needs h5py.
        columns : str or iterable of str, optional
            All columns of numbers, vectors and texts if left out.
        format : "ttree" or "rntuple"
            Of a ROOT file, compressed by zlib at level 1, or zstd at level 5: ROOT's defaults. In an
            ntuple, points in names become ``_``.
        overwrite : bool
            Replace a file of that name.

        Raises
        ------
        ArgumentError
            Where there is such a file; or it is one of those that are read, or not local; or a column
            cannot have its name there.
        UnsupportedColumnError
            Where a column is named that holds neither numbers, nor vectors of numbers, nor text; or text
            that the format cannot hold.
        EmptyDatasetError
            Where an ntuple would have no entry.
        MissingFileError, AccessError, UnreachableError
            Where it cannot be written: there is no such directory, the disk is full.
        """
        names = self._names(columns, ("scalar", "vector", "text"))
        save_as(Rows((self._view,)), names, file, format, overwrite)

    # --- helpers ------------------------------------------------------------------------------

    def _all_types(self) -> Mapping[str, ColumnType]:
        return self._columns if self._selected is None else self._view.columns

    def _with(self, added: Transformation, *, show: str | None = None) -> Frame:
        selected = self._selected
        if selected is not None and show is not None and show not in selected:
            selected = (*selected, show)
        return Frame(self._view.with_transformation(added), selected)

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


def open(
    files: Named | ArrowTable | Mapping[str, Any],
    *,
    friends: bool = False,
    fill_null: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = sources.TIMEOUT_SECONDS,
    cache: sources.PathLike | None = None,
    cache_size: int | float | str | None = None,
    executor: Executor | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> Frame:
    """Describe a dataset in files: ROOT's, Parquet, Arrow (Feather), HDF5, CSV or TSV.

    Parameters
    ----------
    files : str, Path, iterable of these, mapping, or table
        ``"file.root"``, ``"file.root:tree"``, a pattern such as ``"data/*.root:tree"``, a list of
        these, or ``{path: tree}``. The tree's name may be left out where a file holds only one tree
        or ntuple. Paths may be URLs of any protocol that fsspec knows; a tree behind a URL with a query
        is named as ``"https://host/file.root?token=abc#tree"``. In a mapping, names are taken as they
        are; ``{path: [tree, tree]}`` takes several trees of one file, one after another.
        Files that end in .parquet, .parq, .pq, .arrow, .feather, .ipc, .csv or .tsv are read with
        pyarrow, and hold one table, without a name. Those that end in .h5, .hdf5, .hdf, .he5 or .h5py
        are read with h5py: a name is that of a data set or of a group, or of several,
        ``"file.h5:jets,tracks"``; without one, all data sets are columns.
        Or what is in memory: see `from_arrays`.
        Or a node of ROOT's own RDataFrame, which is left as it is: where it has definitions or cuts,
        they are evaluated in one pass through ROOT, and kept in a scratch file.
        Several addresses of one remote file are tried in order: ``"root://a//f.root|root://b//f.root"``.
    friends : bool
        Join the friends that each file's tree names, as ROOT does: a friend's columns are called
        ``friend.column``, and ``column`` where no other column is called so. They are looked for where
        the tree says, and beside its file. Friends of friends are left out.
    fill_null : number, str, or mapping of str to these, optional
        What stands for values that are missing (null) in Parquet and Arrow: one value for all columns,
        or some by name. A vector that is missing becomes empty; an array of fixed shape, and an element,
        get the value. It must be one that the column can hold. Without it they are an error. In ROOT's
        files nothing is missing.
    storage_options : dict, optional
        What fsspec takes for the protocol of remote files, such as ``{"endpoint_url": ..., "anon":
        True}`` for S3. They are kept with the frame, also when it is pickled, and shown nowhere.
    timeout : float
        Seconds after which a server that does not answer, or has failures that may pass, is given up.
    cache : str or Path, optional
        A folder on a local disk in which what is read from servers is kept, as it was read: pages, not
        files. The next epoch or process reads it there, and asks a server no more than whether a file
        is the same. Files that are local are left out. Where the folder cannot be written there is a
        `rootfeed.errors.CacheWarning`, and reading goes on.
    cache_size : int, float or str, optional
        Bytes, or a text such as ``"200 GB"``, that the folder takes at most, of all processes: what was
        used longest ago goes first. ``"50 GB"`` where it is left out.
    executor : concurrent.futures.Executor, optional
        Whose processes go through all files, in place of threads of this one: for metadata, for
        cuts (`Frame.count`, `Frame.report`, and before a loader's first batch) and for statistics
        (`Frame.describe`): a ``ProcessPoolExecutor``, Dask's ``client.get_executor()``, any other. Its
        processes must see the files under the same paths. What comes back is equal to what threads
        give, bit for bit. Batches are read here. It belongs to this process: frames and loaders that are
        sent to others have none.
    on_error : "raise" or "skip"
        What becomes of files that cannot be read when the metadata of all files is read first: all of
        them are named by one error; or they are left out, with all of their entries, are listed by
        `Frame.skipped`, and there is a `rootfeed.errors.SkippedFileWarning`. Skipped are files that are
        damaged, missing, forbidden, of a format that is not read, without the tree, or kept back by
        their server until `timeout`; never those that lack a column, were replaced meanwhile, or meet a
        limit of this process, such as that of open files. What breaks later, in an epoch, is an error.

    Returns
    -------
    Frame

    Raises
    ------
    MissingFileError
        Where a file does not exist, or a pattern matches none (this is never skipped).
    AccessError, UnreachableError
        Where a file may not be read, or its server, its disk or a limit of the system keeps it back. A
        server's passing failures are waited out, until `timeout`.
    MissingObjectError
        Where the first file holds no such tree or ntuple, or several and none was named.
    DamagedFileError
        Where the first file cannot be parsed.
    ArgumentError
        Where an RDataFrame was made with implicit multi-threading, or ROOT cannot run it.

    Notes
    -----
    Costs one look at each local path, and one parse of the first file's metadata (of the first one that
    can be read, where others are skipped); of a table of text one pass over that file. The other files
    are opened when a loader, or `Frame.num_entries`, needs them.

    An error about several files names the first twenty, each with its reason in a line, and is of the
    class that their errors have in common, such as `DamagedFileError`.

    Examples
    --------
    >>> import rootfeed as rf
    >>> frame = rf.open("data/*.root:events")  # doctest: +SKIP
    >>> frame = frame.define("m", "sqrt(E*E - p*p)").filter(
    ...     "pt > 20 && abs(eta) < 2.5"
    ... )  # doctest: +SKIP
    """
    one_of("on_error", on_error, ("raise", "skip"))
    given: Any = executor
    if given is not None and not isinstance(given, Executor):
        remedy = "its get_executor()" if hasattr(given, "get_executor") else "a ProcessPoolExecutor()"
        raise ArgumentError(
            f"executor must be a concurrent.futures.Executor, got {type(given).__name__}. Give {remedy}."
        )
    skips = on_error == "skip"
    if sources.is_node(files):
        return _of_node(files, executor, skips)
    if sources.is_arrow_table(files) or _is_arrays(files):
        return from_arrays(cast(Any, files), fill_null=fill_null)
    _check_no_plan(files)
    filling = sources.checked_filling(fill_null)
    bad: dict[int, RootfeedError] = {}
    found = sources.expand(
        cast(Named, files),
        storage_options=storage_options,
        timeout=timeout,
        cache=cache,
        cache_size=cache_size,
        bad=bad if skips else None,
    )
    locations = [replace(each, filling=filling) for each in found]
    return over(locations, friends=friends, executor=executor, skips=skips, bad=bad)


def _of_node(node: Any, executor: Executor | None, skips: bool) -> Frame:
    found = sources.locate(node)
    frame = over(found.locations, executor=executor, skips=skips)
    if found.taken is not None:
        frame = frame.filter(f"`{found.taken}`", "what ROOT's RDataFrame leaves out")
    return frame.select(found.names)


def _check_no_plan(files: Any) -> None:
    """Refuse data frames that are computed later: the names of their columns are no files."""
    for verb in ("compute", "collect"):
        if callable(getattr(files, verb, None)):
            kind = f"{type(files).__module__.partition('.')[0]}.{type(files).__name__}"
            raise ArgumentError(
                f"a {kind} holds no data yet: give what its {verb}() returns, if that fits into "
                "memory, or the files that it reads."
            )


def _is_arrays(files: Any) -> bool:
    """Tell whether a mapping is one of names to arrays, not of files to trees."""
    return isinstance(files, Mapping) and any(
        isinstance(each, np.ndarray) or type(each).__module__.startswith("awkward.")
        for each in files.values()
    )


def from_arrays(arrays: Mapping[str, Any] | ArrowTable, *, fill_null: Any = None) -> Frame:
    """Describe a dataset in memory.

    Parameters
    ----------
    arrays : mapping of str to array_like, or table
        Columns by name: NumPy arrays of shape (n,), or (n, ...) where each entry has an array of one
        shape; awkward arrays of numbers, of lists of numbers or of strings. They are not copied and must
        not change while they are used.
        Or a table that gives its rows by Arrow's C protocol (``__arrow_c_stream__``), which takes
        pyarrow: data frames of pandas and polars, pyarrow's tables, results of DuckDB. Its columns are
        as those of Parquet files, members of structs included; numbers in one piece are not copied. Of
        pandas an index without a name is left out, and NaN stays NaN where `fill_null` says nothing.
    fill_null : number, str, or mapping of str to these, optional
        What stands for values that are missing in a table: see `open`.

    Returns
    -------
    Frame

    Raises
    ------
    ArgumentError
        Where lengths differ, or an entry of an array has no value.
    UnsupportedColumnError
        Where an array holds neither numbers, nor vectors of numbers, nor text; of a table, where such a
        column is used, or one with values that are missing.

    Notes
    -----
    All values are read once, for what tells this dataset from another one in splits and states.

    Examples
    --------
    >>> import numpy as np
    >>> import rootfeed as rf
    >>> frame = rf.from_arrays({"x": np.arange(6.0), "label": np.arange(6) % 2})
    >>> frame.filter("x > 2").count()
    3
    """
    filling = sources.checked_filling(fill_null)
    if sources.is_arrow_table(arrays):
        table = sources.arrow_table(arrays, filling)
    elif filling is not None:
        raise ArgumentError(
            "fill_null is for tables: arrays in which values are missing are filled before, by "
            "awkward.fill_none or array.filled."
        )
    else:
        table = sources.table(cast(Mapping[str, Any], arrays))
    return over([sources.ArraysLocation(sources.IN_MEMORY, None, table=table, filling=filling)])


def _tables(parts: Sequence[Mapping[str, Any]]) -> Files:
    """Return tables in memory, in the place of files."""
    tables = [sources.table(part) for part in parts]
    locations = [sources.ArraysLocation(sources.IN_MEMORY, None, table=each) for each in tables]
    return Files(locations, tables[0].types)


def over(
    locations: Sequence[Location],
    *,
    friends: bool = False,
    executor: Executor | None = None,
    skips: bool = False,
    bad: Mapping[int, RootfeedError] = MappingProxyType({}),
) -> Frame:
    """Describe a dataset in files that are known, some of them as bad: see `open`."""
    named, bad = list(locations), dict(bad)
    short: Mapping[str, str] = {}
    if friends:
        numbers = [number for number in range(len(named)) if number not in bad]
        answers = survey(
            sources.with_friends,
            [named[number] for number in numbers],
            "Looking for friends",
            executor=executor,
            to_the_end=skips,
        )
        found = {}
        for number, answer in zip(numbers, answers, strict=False):
            if isinstance(answer, RootfeedError):
                bad[number] = answer
            else:
                found[number] = answer
        left_out(named, bad, skips, unseen=len(numbers) - len(answers))
        short = found[min(found)][1]
        # A name that means another column in some file is none: ``friend.column`` is clear.
        unclear = {name for _, each in found.values() for name in dict(each.items() ^ short.items())}
        for number, (joined, _) in found.items():
            named[number] = sources.without_names(joined, unclear)
    types: Mapping[str, ColumnType] = {}
    for number, location in enumerate(named):
        if number in bad:
            continue
        try:
            _, types = sources.types(location)
            break
        except RootfeedError as error:
            if not skips:
                raise
            bad[number] = error
    skipped = left_out(named, bad, skips)
    files = Files(named, types, executor=executor, skips=skips, skipped=skipped)
    frame = Frame(View(files))
    return frame.select(name for name in types if name not in short) if short else frame


def view_of(frame: Frame) -> View:
    """Return what loaders need of a frame: how its columns and entries come about."""
    return frame._view
