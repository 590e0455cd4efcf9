"""Files as they are after definitions, cuts and ranges, and one pass over all of their entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, TypeVar

from rootfeed.expression import Cut, Definition, Dialect, infer, visible
from rootfeed.processes import ForkLock
from rootfeed.properties import cached_property
from rootfeed.schema import Block, ColumnType, FileIndex, Jagged
from rootfeed.view.files import Files
from rootfeed.view.projection import Projection
from rootfeed.view.reading import Columns, Take
from rootfeed.view.scan import Apply, scan
from rootfeed.view.selection import (
    CutEvaluation,
    Selection,
    cut_columns,
    executor_for,
    interrupts,
    select,
)
from rootfeed.view.transformations import Range, Transformation, check_sendable

__all__ = ["View"]

Result = TypeVar("Result")


class View:
    """Entries and columns of some files, as they are after some transformations: immutable, lazy.

    It holds no open file. What is learnt of the files, all views of them share.

    Parameters
    ----------
    files : Files
    transformations : sequence of Transformation
        Definitions, cuts and ranges, in order.
    dialect : "python" or "c++"
        What expressions mean.

    Attributes
    ----------
    types : mapping of str to ColumnType
        Of every column after all transformations, hidden ones included; of stored ones as the first
        file declares them.
    """

    def __init__(
        self, files: Files, transformations: Sequence[Transformation] = (), dialect: Dialect = "python"
    ) -> None:
        self.files = files
        self.transformations = tuple(transformations)
        self.dialect = dialect
        self._selection: Selection | None = None
        self._longest: dict[str, int] = {}
        self._lock = ForkLock()
        with files.naming_friends():
            types = infer(self._expressions, files.types, dialect)
        self.types: Mapping[str, ColumnType] = MappingProxyType(dict(types))

    def __getstate__(self) -> dict[str, Any]:
        check_sendable(self.transformations)
        names = ("files", "transformations", "dialect", "_selection", "_longest")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]  # made anew, locks too
            state["files"], state["transformations"], state["dialect"]
        )
        self._selection = state["_selection"]
        self._longest = state["_longest"]

    def with_transformation(self, added: Transformation) -> View:
        """Return a view with one more transformation."""
        return View(self.files, (*self.transformations, added), self.dialect)

    def beside(self, files: Files, names: Mapping[str, str]) -> View:
        """Return a view of these files with others beside them, before all transformations."""
        return View(self.files.beside(files, names), self.transformations, self.dialect)

    def as_named(self) -> View:
        """Return a view of all files that were named, those too that were left out."""
        return View(self.files.as_named(), self.transformations, self.dialect)

    def in_dialect(self, dialect: Dialect) -> View:
        """Return a view whose expressions have C++'s or Python's meaning."""
        return View(self.files, self.transformations, dialect)

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """Every column after all transformations, without those that only we have named."""
        return {name: self.types[name] for name in visible(self.types)}

    @property
    def stored(self) -> Mapping[str, ColumnType]:
        """The columns that are stored in the files, as the first one declares them."""
        return self.files.types

    @property
    def paths(self) -> tuple[str, ...]:
        """The files' paths, in order."""
        return self.files.paths

    @property
    def num_entries(self) -> int:
        """Entries of all files, before any cut. The first time, this reads each file's metadata."""
        return sum(index.entries for index in self.index(()))

    @property
    def selects(self) -> bool:
        """Whether there are cuts or ranges."""
        return any(isinstance(each, Cut | Range) for each in self.transformations)

    @property
    def cuts_interrupted(self) -> bool:
        """Whether the cuts of an entry cannot be evaluated without those of others."""
        return self.selects and any(map(interrupts, self.transformations))

    def index(self, names: Iterable[str]) -> tuple[FileIndex, ...]:
        """Return the storage metadata of some stored columns, for each file: see `Files.index`.

        Those that cuts need come with them, so that no file is opened again when it comes to these.
        """
        return self.files.index([*names, *(() if self._selection is not None else self._cut_columns)])

    def naming_friends(self) -> AbstractContextManager[None]:
        """Add the friends of the first file's tree to what is said of a column that is missing."""
        return self.files.naming_friends()

    def projection(self, names: Iterable[str]) -> Projection:
        """Return how columns come about: which stored ones are read, which definitions evaluated."""
        return Projection(names, self.transformations, self.files.types, self.dialect)

    def selection(self) -> Selection:
        """Return which entries pass all cuts. The first time, this reads what the cuts need."""
        with self._lock:
            if self._selection is None:
                self._selection = select(self.files, self.transformations, self.dialect)
            return self._selection

    def scan(
        self,
        names: Sequence[str],
        apply: Apply[Result],
        *,
        raw: bool = False,
        within: Sequence[Block] | None = None,
    ) -> Iterator[tuple[Block, Take, Result]]:
        """Yield blocks in order, their entries that pass, and what a function makes of some columns.

        Where it is not known yet which entries pass, cuts are evaluated in the same pass over the files.

        Parameters
        ----------
        names : sequence of str
        apply : function of (Block, ndarray of int32, mapping of str to ndarray or Jagged)
            Called on threads with the entries that pass, relative to the block's first one.
        raw : bool
            Every entry passes, where all of the columns are stored.
        within : sequence of Block, optional
            Only these entries.
        """
        yield from self._scan(names, apply, raw, within, None)

    def measure(self, names: Sequence[str], apply: Apply[Result]) -> Iterator[Result]:
        """Yield what a function makes of columns of the entries that pass, block by block, in order.

        Parameters
        ----------
        names : sequence of str
        apply : function of (Block, ndarray of int32, mapping of str to ndarray or Jagged)
            Called as `scan` does; in the processes of the files' executor, if there is one: it can be
            pickled, and what it returns is small.
        """
        executor = executor_for(self.files, self.transformations)
        for _, _, found in self._scan(names, apply, False, None, executor):
            yield found

    def _scan(
        self,
        names: Sequence[str],
        apply: Apply[Result],
        raw: bool,
        within: Sequence[Block] | None,
        executor: Executor | None,
    ) -> Iterator[tuple[Block, Take, Result]]:
        made = {each.name for each in self.transformations if isinstance(each, Definition)}
        projection = self.projection(names)
        if not self.selects or (raw and not made & set(names)):
            yield from scan(self.index, projection, None, apply, within, executor)
        elif self._selection is not None or self.cuts_interrupted:
            yield from scan(self.index, projection, self.selection(), apply, within, executor)
        else:
            cuts = CutEvaluation(self.files, self._expressions, self.dialect)
            if not cuts.missing:
                with self._lock:
                    self._selection = cuts.selection()
                yield from scan(self.index, projection, self._selection, apply, within, executor)
                return
            yield from scan(self.index, projection, cuts, apply, within, executor)
            if within is None:
                with self._lock:
                    self._selection = cuts.selection()

    def longest(self, columns: Iterable[str]) -> dict[str, int]:
        """Return the length of the longest vector of each column, over the entries that pass.

        Reads those columns that were not asked for before, in one pass.
        """
        wanted = tuple(dict.fromkeys(columns))
        missing = [name for name in wanted if name not in self._longest]

        found = dict.fromkeys(missing, 0)
        for most in self.measure(missing, _longest) if missing else ():
            found = {name: max(length, most.get(name, 0)) for name, length in found.items()}
        self._longest.update(found)
        return {name: self._longest[name] for name in wanted}

    @cached_property
    def _cut_columns(self) -> tuple[str, ...]:
        return cut_columns(self.transformations, self.files.types, self.dialect)

    @property
    def _expressions(self) -> list[Definition | Cut]:
        return [each for each in self.transformations if not isinstance(each, Range)]


def _longest(_: Block, __: Take, values: Columns) -> dict[str, int]:
    """Return the length of the longest vector of each column."""
    return {
        name: int(vectors.lengths.max(initial=0))
        for name, vectors in values.items()
        if isinstance(vectors, Jagged)
    }
