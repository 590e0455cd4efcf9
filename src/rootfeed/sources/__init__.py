"""Where rows come from: index a file, read entries ``[start, stop)`` of its columns.

A source is a module with the functions of `Source`; every source passes the same contract tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from threading import Event
from typing import Protocol

import awkward as ak

from rootfeed.schema import Array, ColumnType, FileIndex, Jagged
from rootfeed.sources import root
from rootfeed.sources.paths import Location, Named, PathLike, expand
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import is_remote

__all__ = [
    "Location",
    "Named",
    "PathLike",
    "Scratch",
    "Source",
    "expand",
    "friends",
    "index",
    "is_remote",
    "prepare",
    "read",
    "read_awkward",
    "types",
    "vector_bytes",
]


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
    ) -> Iterator[tuple[str, Array | Jagged]]:
        """Fill and yield each column's entries ``[start, stop)`` in its native dtype."""

    def read_awkward(
        self, index: FileIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
    ) -> ak.Array:
        """Return the entries ``[start, stop)`` of any column: slower, and exact."""

    def vector_bytes(self, index: FileIndex, name: str) -> float:
        """Return the decoded bytes of an entry of a vector column, on average."""


types = root.types
friends = root.friends
index = root.index
prepare = root.prepare
read = root.read
read_awkward = root.read_awkward
vector_bytes = root.vector_bytes
