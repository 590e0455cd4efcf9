"""The files of a dataset, and what was learnt about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from rootfeed import sources
from rootfeed.errors import (
    DuplicateNameWarning,
    MissingColumnError,
    UnsupportedColumnError,
    nearest,
    warn,
)
from rootfeed.processes import ForkLock
from rootfeed.progress import progress
from rootfeed.schema import ColumnType, FileIndex
from rootfeed.sources import Location

__all__ = ["Files"]

_INDEX_THREADS = 16  # as many as there are connections to a server


class Files:
    """The files that a frame, and every frame derived from it, reads.

    Holds no open file. What it learns is kept, so that several loaders read the metadata once.

    Parameters
    ----------
    locations : sequence of Location
    types : mapping of str to ColumnType
        The stored columns, as the first file declares them.
    """

    def __init__(self, locations: Sequence[Location], types: Mapping[str, ColumnType]) -> None:
        self.locations = tuple(locations)
        self.types = MappingProxyType(dict(types))
        self._indexes: dict[int, FileIndex] = {}
        self._told: set[str] = set()
        self._lock = ForkLock()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "locations": self.locations,
            "types": dict(self.types),
            "indexes": dict(self._indexes),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["locations"], state["types"])  # type: ignore[misc]  # made anew, locks too
        self._indexes = state["indexes"]

    @property
    def paths(self) -> tuple[str, ...]:
        """The files' paths, in order."""
        return tuple(location.path for location in self.locations)

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
        pairs = zip(self.locations, other.locations, strict=True)
        locations = [
            sources.BesideLocation(
                location.path, location.object_path, first=location, other=beside, names=names
            )
            for location, beside in pairs
        ]
        return Files(locations, {**self.types, **{new: other.types[old] for new, old in names.items()}})

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
                for number in range(len(self.locations))
                if number not in self._indexes or not set(wanted) <= set(self._indexes[number].columns)
            ]
            self._read_indexes(missing, wanted)
            self._warn_of_duplicates(missing)
            return tuple(self._indexes[number] for number in range(len(self.locations)))

    def _warn_of_duplicates(self, numbers: Sequence[int]) -> None:
        """Tell of each name that several columns of a file have once: of the first file's at `open`."""
        for number in numbers:
            for name, text in self._indexes[number].duplicates.items():
                if name not in self._told and number:
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
        def read(number: int) -> FileIndex:
            known = self._indexes.get(number)
            names = dict.fromkeys([*(known.columns if known else ()), *wanted])
            index = sources.index(self.locations[number], list(names))
            for name in wanted:
                self._check_shape(name, index)
                self._check_unit(name, index)
            return index

        if len(numbers) <= 1:
            for number in numbers:
                self._indexes[number] = read(number)
            return
        pool = ThreadPoolExecutor(min(_INDEX_THREADS, len(numbers)), thread_name_prefix="rootfeed-index")
        try:
            with progress("Indexing files", len(numbers)) as advance:
                for number, index in zip(numbers, pool.map(read, numbers), strict=True):
                    self._indexes[number] = index
                    advance(1)
        except BaseException:
            # Nobody waits for what a slow server has not sent yet.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
