"""Where rows come from: index a file, read entries ``[start, stop)`` of its columns.

A source is a module with the functions of `Source`; every source passes the same contract tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Event
from typing import TYPE_CHECKING, Protocol, cast

from rootfeed.schema import Array, ColumnType, FileIndex, Jagged
from rootfeed.sources import beside
from rootfeed.sources import spliced as splicing
from rootfeed.sources.arrays import IN_MEMORY, ArraysLocation, Table, table
from rootfeed.sources.arrowtables import ArrowTable, arrow_table, is_arrow_table
from rootfeed.sources.beside import BesideIndex, BesideLocation
from rootfeed.sources.choosing import register, source_of
from rootfeed.sources.filling import Filling, as_type, checked_filling
from rootfeed.sources.friends import with_friends, without_names
from rootfeed.sources.joined import JoinedLocation
from rootfeed.sources.known import keep, kept
from rootfeed.sources.nodes import Located, is_node, locate
from rootfeed.sources.paths import Location, Named, PathLike, check_repeated, expand
from rootfeed.sources.plain import packed, unpacked
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.spliced import SplicedIndex, SplicedLocation, spliced
from rootfeed.sources.storage import TIMEOUT_SECONDS, Storage, is_remote

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "IN_MEMORY",
    "TIMEOUT_SECONDS",
    "ArraysLocation",
    "ArrowTable",
    "BesideLocation",
    "Filling",
    "Located",
    "Location",
    "Named",
    "PathLike",
    "Scratch",
    "Source",
    "Storage",
    "Table",
    "arrow_table",
    "as_type",
    "check_repeated",
    "checked_filling",
    "expand",
    "fetch",
    "friends",
    "index",
    "is_arrow_table",
    "is_fetched",
    "is_in_memory",
    "is_node",
    "is_remote",
    "keep",
    "kept",
    "locate",
    "packed",
    "prepare",
    "read",
    "read_awkward",
    "spliced",
    "stored_bytes",
    "table",
    "types",
    "unpacked",
    "vector_bytes",
    "with_friends",
    "without_names",
]

register(beside, BesideLocation, BesideIndex)
register(splicing, SplicedLocation, SplicedIndex)


class Source(Protocol):
    """What a module that reads a format offers."""

    def types(self, location: Location) -> tuple[str, Mapping[str, ColumnType]]:
        """Return the object's name and each column's type."""

    def friends(self, location: Location) -> list[str]:
        """Return what else the object is joined with, in words: for messages."""

    def index(self, location: Location, names: Sequence[str]) -> FileIndex:
        """Return the page tables of the named columns."""

    def prepare(self, indexes: Iterable[FileIndex]) -> None:
        """Compile what reading these columns needs, so that threads need not."""

    def read(
        self,
        index: FileIndex,
        names: Sequence[str],
        start: int,
        stop: int,
        out_for: Callable[[str], Array],
        scratch: Scratch,
        stopped: Event,
        fetched: Storage | None = None,
    ) -> Iterator[tuple[str, Array | Jagged]]:
        """Fill and yield each column's entries ``[start, stop)`` in its native dtype."""

    def fetch(
        self, index: FileIndex, names: Sequence[str], start: int, stop: int, stopped: Event
    ) -> Storage | None:
        """Bring what `read` needs from a server, and wait for it; None where there is no server."""

    def read_awkward(
        self, index: FileIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
    ) -> ak.Array:
        """Return the entries ``[start, stop)`` of any column: slower, and exact."""

    def vector_bytes(self, index: FileIndex, name: str) -> float:
        """Return the decoded bytes of an entry of a vector column, on average."""


def types(location: Location) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the object's name and each column's type: see `Source`."""
    name, found = _source(location).types(location)
    if location.filling is not None:
        location.filling.check(location.path, found)
    return name, found


def friends(location: Location) -> list[str]:
    """Return what else the object is joined with, in words: see `Source`."""
    return _source(location).friends(location)


def index(location: Location, names: Sequence[str]) -> FileIndex:
    """Return the page tables of the named columns: see `Source`."""
    return _source(location).index(location, names)


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile what reading these columns needs, so that threads need not."""
    by_source: dict[int, list[FileIndex]] = {}
    for index in indexes:
        by_source.setdefault(id(source_of(index)), []).append(index)
    for some in by_source.values():
        source_of(some[0]).prepare(some)


def read(
    index: FileIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Fill and yield each column's entries ``[start, stop)``: see `Source`."""
    return _source(index).read(index, names, start, stop, out_for, scratch, stopped, fetched)


def fetch(
    index: FileIndex, names: Sequence[str], start: int, stop: int, stopped: Event
) -> Storage | None:
    """Bring what `read` needs from a server, and wait for it: see `Source`."""
    return _source(index).fetch(index, names, start, stop, stopped)


def is_fetched(index: FileIndex) -> bool:
    """Tell whether reading waits for a server."""
    return index.address is not None and index.address.is_remote


def is_in_memory(location: Location) -> bool:
    """Tell whether some columns are in the memory of this process, not in a file."""
    if isinstance(location, BesideLocation):
        return is_in_memory(location.first) or is_in_memory(location.other)
    return isinstance(location, ArraysLocation | JoinedLocation)


def stored_bytes(index: FileIndex, names: Sequence[str]) -> float:
    """Return how many bytes of the file an entry of some columns takes, on average."""
    every = [index.columns[name] for name in names]
    pages = {id(each): each for column in every for each in (column.pages, column.offsets) if each}
    return sum(float(each.stored_bytes.sum()) for each in pages.values()) / max(index.entries, 1)


def read_awkward(
    index: FileIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of any column: see `Source`."""
    return _source(index).read_awkward(index, name, start, stop, scratch)


def vector_bytes(index: FileIndex, name: str) -> float:
    """Return the decoded bytes of an entry of a vector column, on average."""
    return _source(index).vector_bytes(index, name)


def _source(of: Location | FileIndex) -> Source:
    return cast(Source, source_of(of))
