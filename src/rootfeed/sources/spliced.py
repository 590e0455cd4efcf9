"""Entries of several files in a row, as one source: what lies beside a file that ends elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from rootfeed.errors import ChangedFileError, UnsupportedColumnError
from rootfeed.schema import Array, Column, ColumnType, FileIndex, Jagged
from rootfeed.sources.choosing import source_of
from rootfeed.sources.paths import Location
from rootfeed.sources.scratch import Scratch

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "Piece",
    "SplicedIndex",
    "SplicedLocation",
    "fetch",
    "friends",
    "index",
    "prepare",
    "read",
    "read_awkward",
    "spliced",
    "types",
    "vector_bytes",
]


class Piece(NamedTuple):
    """The entries ``[start, stop)`` of a file."""

    of: Any
    start: int
    stop: int


@dataclass(frozen=True)
class SplicedLocation(Location):
    """Entries of several files.

    Attributes
    ----------
    pieces : tuple of Piece
        Of locations, at least one.
    """

    pieces: tuple[Piece, ...] = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class SplicedIndex(FileIndex):
    """The indexes of these files, as one without pages: pages end elsewhere in each."""

    pieces: tuple[Piece, ...] = field(kw_only=True, repr=False)

    @property
    def where(self) -> str:
        """The files, as messages name them."""
        first: str = self.pieces[0].of.where
        more = len(self.pieces) - 1
        return first if not more else f"{first} and {more} after it"


def spliced(files: Sequence[tuple[Location, int]], start: int, stop: int) -> SplicedLocation:
    """Return the entries ``[start, stop)`` of files, each with its number of entries, in a row."""
    pieces: list[Piece] = []
    first = 0
    for location, entries in files:
        low, high = max(start - first, 0), min(stop - first, entries)
        if low < high or (not pieces and low == high):
            pieces = [each for each in pieces if each.start < each.stop]
            pieces.append(Piece(location, low, high))
        first += entries
    of = pieces[0].of
    return SplicedLocation(of.path, of.object_path, of.address, pieces=tuple(pieces))


def types(location: SplicedLocation) -> tuple[str, dict[str, ColumnType]]:
    """Return the name of the first file's object, and its columns."""
    of = location.pieces[0].of
    name, found = source_of(of).types(of)
    return name, dict(found)


def friends(location: SplicedLocation) -> list[str]:
    """Return nothing: these files lie beside others."""
    return []


def index(location: SplicedLocation, names: Sequence[str]) -> SplicedIndex:
    """Return what a loader knows of some columns.

    Raises
    ------
    UnsupportedColumnError
        Where a column is of other types in these files.
    ChangedFileError
        Where one of them has not as many entries as it had.
    """
    pieces = []
    for of, start, stop in location.pieces:
        found = source_of(of).index(of, names)
        if stop > found.entries:
            raise ChangedFileError(
                f"{found.where} has {found.entries} entries, and had {stop} or more: join again."
            )
        pieces.append(Piece(found, start, stop))
    first = pieces[0].of
    columns = {}
    for name in names:
        type_ = first.columns[name].type
        for each, *_ in pieces:
            other = each.columns[name].type
            if (other.kind, other.dtype, other.shape, other.unit) != (
                *(type_.kind, type_.dtype, type_.shape, type_.unit),
            ):
                raise UnsupportedColumnError(
                    f"column {name!r} is {type_.unit or type_} in {first.where} and "
                    f"{other.unit or other} in {each.where}, which "
                    "lie beside one file. Leave it out, or join by keys: on=."
                )
        columns[name] = Column(name, type_, None, name)
    told = "".join(
        f"{each.identity.hex()}{each.joined.hex()} {low} {high} " for each, low, high in pieces
    )
    plain = {name: getattr(first, name) for name in FileIndex.__dataclass_fields__}
    plain |= {
        "entries": sum(stop - start for _, start, stop in pieces),
        "identity": xxhash.xxh3_128_digest(told.encode()),
        "columns": columns,
        "joined": b"",
        "stamp": b"",
        "address": next((each.address for each, *_ in pieces if _is_remote(each)), first.address),
    }
    made = SplicedIndex(**plain, pieces=tuple(pieces))
    for name, column in columns.items():
        if column.type.is_jagged:
            columns[name] = replace(column, value_bytes=vector_bytes(made, name))
    return made


def fetch(
    index: SplicedIndex, names: Sequence[str], start: int, stop: int, stopped: Event
) -> dict[int, Any]:
    """Bring what reading needs from the servers: of each piece, by its number, what was fetched."""
    return {
        number: source_of(of).fetch(of, names, low, high, stopped)
        for number, of, low, high, _ in _within(index, start, stop)
        if _is_remote(of)
    }


def read(
    index: SplicedIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: dict[int, Any] | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read from each file: see `Source.read`."""
    outs = {name: out_for(name) for name in names if not index.columns[name].type.is_jagged}
    parts: dict[str, list[Any]] = {name: [] for name in names}
    # What one reading hands out may be in the memory of the next one, unless its scratch is its own.
    for turn, (number, of, low, high, done) in enumerate(_within(index, start, stop)):

        def part_of(name: str, done: int = done, count: int = high - low) -> Array:
            return outs[name][done : done + count]

        own = scratch.beside(turn)
        have = None if fetched is None else fetched.get(number)
        for name, values in source_of(of).read(of, names, low, high, part_of, own, stopped, have):
            if name not in outs:
                parts[name].append(values)
        if stopped.is_set():
            return
    for name in names:
        if name in outs:
            yield name, outs[name]
        elif len(parts[name]) == 1:
            yield name, parts[name][0]
        else:
            dtype = parts[name][0].values.dtype
            yield name, type(parts[name][0]).concatenated(parts[name], dtype)


def read_awkward(
    index: SplicedIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of any column."""
    parts = [
        source_of(of).read_awkward(of, name, low, high, scratch)
        for _, of, low, high, _ in _within(index, start, stop)
    ]
    import awkward as ak

    return parts[0] if len(parts) == 1 else ak.concatenate(parts)


def vector_bytes(index: SplicedIndex, name: str) -> float:
    """Return the bytes of an entry of a vector, on average."""
    sizes = [source_of(of).vector_bytes(of, name) for of, *_ in index.pieces]
    counts = [max(1, stop - start) for _, start, stop in index.pieces]
    return float(np.average(sizes, weights=counts))


def prepare(indexes: Iterable[SplicedIndex]) -> None:
    """Compile what reading the files needs."""
    for index in indexes:
        for of, *_ in index.pieces:
            source_of(of).prepare([of])


def _within(
    index: SplicedIndex, start: int, stop: int
) -> Iterator[tuple[int, FileIndex, int, int, int]]:
    """Yield the pieces that hold some entries: number, index, entries of its file, entries before it.

    Where there is no entry, a piece is yielded nevertheless.
    """
    first, is_any = 0, False
    for number, (of, begin, end) in enumerate(index.pieces):
        low, high = max(start - first, 0), min(stop - first, end - begin)
        is_last = number == len(index.pieces) - 1
        if low < high:
            is_any = True
            yield number, of, begin + low, begin + high, max(0, first - start)
        elif is_last and not is_any:
            yield number, of, begin, begin, 0
        first += end - begin


def _is_remote(index: FileIndex) -> bool:
    return index.address is not None and index.address.is_remote
