"""The files of a dataset, and what was learnt about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from rootfeed import sources
from rootfeed.errors import (
    DuplicateFileWarning,
    DuplicateNameWarning,
    MissingColumnError,
    RootfeedError,
    UnsupportedColumnError,
    nearest,
    warn,
)
from rootfeed.processes import ForkLock, process
from rootfeed.schema import ColumnType, FileIndex
from rootfeed.sources import BesideLocation, Location
from rootfeed.view.skipping import Skipped, left_out, warn_of
from rootfeed.view.survey import survey

__all__ = ["Files"]


class Files:
    """The files that a frame, and every frame derived from it, reads.

    Holds no open file. What it learns is kept, so that several loaders read the metadata once.

    Parameters
    ----------
    named : sequence of Location
    types : mapping of str to ColumnType
        The stored columns, as the first file declares them.
    executor : Executor, optional
        Whose processes go through all files. It belongs to this process, and is not pickled.
    skips : bool
        Files that cannot be read are left out, when the metadata of all of them is read first.
    skipped : mapping of int to Skipped
        Those that are known to be such, by their numbers.

    Attributes
    ----------
    named : tuple of Location
    locations : tuple of Location
        Those that are not left out.
    types : mapping of str to ColumnType
    skips : bool
    """

    def __init__(
        self,
        named: Sequence[Location],
        types: Mapping[str, ColumnType],
        *,
        executor: Executor | None = None,
        skips: bool = False,
        skipped: Mapping[int, Skipped] = MappingProxyType({}),
    ) -> None:
        self.named = tuple(named)
        self.types = MappingProxyType(dict(types))
        self.skips = skips
        # What is in the memory of this process is used in it.
        self._executor = None if any(map(sources.is_in_memory, self.named)) else executor
        self._process = process()
        self._indexes: dict[int, FileIndex] = {}
        self._told: set[str] = set()
        self._told_of_skipped = self._told_of_copies = False
        self._lock = ForkLock()
        self._leave_out(skipped)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "named": self.named,
            "types": dict(self.types),
            "skips": self.skips,
            "skipped": self._skipped,
            "indexes": dict(self._indexes),
            "told": (self._told_of_skipped, self._told_of_copies),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        indexes, told = state.pop("indexes"), state.pop("told")
        self.__init__(**state)  # type: ignore[misc]  # made anew, locks too
        self._indexes, (self._told_of_skipped, self._told_of_copies) = indexes, told

    def _leave_out(self, skipped: Mapping[int, Skipped]) -> None:
        self._skipped = dict(skipped)
        self._numbers = [number for number in range(len(self.named)) if number not in skipped]
        self.locations = tuple(self.named[number] for number in self._numbers)

    @property
    def executor(self) -> Executor | None:
        """Whose processes go through all files; a forked process has none."""
        return self._executor if self._process is process() else None

    def skipped(self) -> tuple[Skipped, ...]:
        """Return the files that are left out. The first time, this reads each file's metadata."""
        if self.skips:
            self.index(())
        return tuple(self._skipped[number] for number in sorted(self._skipped))

    @property
    def paths(self) -> tuple[str, ...]:
        """The files' paths, in order."""
        return tuple(location.path for location in self.locations)

    def as_named(self) -> Files:
        """Return all files that were named, those too that were left out: what is bad is found anew."""
        if not self._skipped:
            return self
        return Files(self.named, self.types, executor=self.executor, skips=self.skips)

    @contextmanager
    def naming_friends(self) -> Iterator[None]:
        """Add the friends of the first file's tree to what is said of a column that is missing."""
        try:
            yield
        except MissingColumnError as error:
            friends = [] if error.names_friends else sources.friends(self.locations[0])
            if not friends:
                raise
            told = MissingColumnError(
                f"{error} The tree has friends: {', '.join(friends)}. If it is a column of theirs, "
                "rootfeed.open(..., friends=True) joins them."
            )
            told.names_friends = True
            raise told from error

    def beside(self, other: Files, names: Mapping[str, str]) -> Files:
        """Return these files, each with another one beside it: see `sources.BesideLocation`."""
        named = list(self.named)
        for number, beside in zip(self._numbers, other.locations, strict=True):
            mine = self.named[number]
            named[number] = sources.BesideLocation(
                mine.path, mine.object_path, first=mine, other=beside, names=names
            )
        made = Files(
            named,
            {**self.types, **{new: other.types[old] for new, old in names.items()}},
            executor=self.executor,
            skips=self.skips,
            skipped=self._skipped,
        )
        made._told_of_skipped, made._told_of_copies = self._told_of_skipped, self._told_of_copies
        return made

    def index(self, names: Iterable[str]) -> tuple[FileIndex, ...]:
        """Return the storage metadata of some stored columns, for each file.

        Reads the metadata of each file once, on several threads, with a progress bar if that takes
        longer than a second; files whose columns are known already are not opened again.

        Raises
        ------
        MissingColumnError
            Names the file that lacks a column.
        """
        wanted = tuple(dict.fromkeys(names))
        with self.naming_friends():
            for name in wanted:
                if name not in self.types:
                    where = self.locations[0].path
                    raise MissingColumnError(
                        f"{where} has no column {name!r}. {nearest(name, self.types)}"
                    )
        with self._lock:
            missing = [
                number
                for number in self._numbers
                if number not in self._indexes or not set(wanted) <= set(self._indexes[number].columns)
            ]
            self._read_indexes(missing, wanted)
            if missing:
                self._warn_of_copies(*sources.check_repeated(self._identified()))
            self._warn_of_duplicates(missing)
            if self._skipped and not self._told_of_skipped:
                self._told_of_skipped = True
                warn_of(self._skipped, len(self.named))
            return tuple(self._indexes[number] for number in self._numbers)

    def _identified(self) -> Iterator[tuple[Location, bytes]]:
        """Yield where the object of each file is, and its identity."""
        for number in self._numbers:
            location = self.named[number]
            while isinstance(location, BesideLocation):
                location = location.first
            if type(location) is Location:
                yield location, self._indexes[number].identity

    def _warn_of_copies(self, copies: Sequence[Location], count: int) -> None:
        if not copies or self._told_of_copies:
            return
        self._told_of_copies = True
        one, two = copies
        more = f", and so are {count - 1} more" if count > 1 else ""
        warn(
            f"{two.path} is a copy of {one.path}, as far as metadata tell{more}: entries come as often "
            "as there are copies of them. Leave copies out, or ignore this warning.",
            DuplicateFileWarning,
        )

    def _warn_of_duplicates(self, numbers: Sequence[int]) -> None:
        """Tell of each name that several columns of a file have once: of the first file's at `open`."""
        for number in numbers:
            index = self._indexes.get(number)
            for name, text in index.duplicates.items() if index is not None else ():
                if name not in self._told and number != self._numbers[0]:
                    warn(text, DuplicateNameWarning)
                self._told.add(name)

    def _check_shape(self, name: str, index: FileIndex) -> None:
        """Refuse arrays of other dimensions than in the first file: flattened, they would be mixed up.

        Those of one dimension are vectors, which may differ in length.
        """
        shape, other = self.types[name].shape, index.columns[name].type.shape
        if shape != other and max(len(shape), len(other)) > 1:
            first = self.locations[0].path
            raise UnsupportedColumnError(
                f"column {name!r} has the shape {other} in {index.path} and {shape} in {first}. "
                "Leave it out, or open these files on their own."
            )

    def _check_unit(self, name: str, index: FileIndex) -> None:
        """Refuse times that are counted in other units than in the first file."""
        type_, other = self.types[name], index.columns[name].type
        if not type_.counts_as(other):
            raise UnsupportedColumnError(
                f"column {name!r} counts {other.unit} in {index.path} ({other.text}) and {type_.unit} "
                f"in {self.locations[0].path} ({type_.text}). Write the files with one unit, as "
                "column.cast(pyarrow.timestamp('us')) gives, or leave the column out."
            )

    def _read_indexes(self, numbers: Sequence[int], wanted: Sequence[str]) -> None:
        """Read the metadata of some files; leave those out that cannot be read, or tell of all."""
        jobs = []
        for number in numbers:
            known = self._indexes.get(number)
            names = dict.fromkeys([*(known.columns if known else ()), *wanted])
            jobs.append((self.named[number], list(names)))
        answers = survey(
            _index,
            jobs,
            "Indexing files",
            executor=self.executor,
            to_the_end=self.skips,
            entries=_entries,
        )
        bad: dict[int, RootfeedError] = {}
        for number, found in zip(numbers, answers, strict=False):
            try:
                if isinstance(found, RootfeedError):
                    raise found
                for name in wanted:
                    self._check_shape(name, found)
                    self._check_unit(name, found)
            except RootfeedError as error:
                bad[number] = error
            else:
                self._indexes[number] = found
        self._leave_out(
            left_out(
                self.named,
                bad,
                self.skips,
                before=self._skipped,
                needed=self._indexes,
                unseen=len(jobs) - len(answers),
            )
        )


def _index(job: tuple[Location, list[str]]) -> FileIndex:
    return sources.index(*job)


def _entries(index: FileIndex) -> int:
    return index.entries
