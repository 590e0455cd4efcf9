"""Two files side by side, entry by entry, as one source: a tree and its friend, for example."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any, NamedTuple

from rootfeed.errors import ArgumentError
from rootfeed.schema import Array, ColumnType, FileIndex, Jagged
from rootfeed.sources.choosing import source_of
from rootfeed.sources.paths import Location
from rootfeed.sources.scratch import Scratch

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "BesideIndex",
    "BesideLocation",
    "Fetched",
    "fetch",
    "friends",
    "index",
    "prepare",
    "read",
    "read_awkward",
    "types",
    "vector_bytes",
]


@dataclass(frozen=True)
class BesideLocation(Location):
    """A file, and another one with as many entries.

    Attributes
    ----------
    first, other : Location
        Each may be two files itself.
    names : mapping of str to str
        Of columns, what they are called in the other file. The rest are the first file's.
    lazily : bool
        The other file is only looked at where a column of it is wanted.
    """

    first: Location = field(kw_only=True)
    other: Location = field(kw_only=True)
    names: Mapping[str, str] = field(kw_only=True)
    lazily: bool = field(default=False, kw_only=True)


@dataclass(frozen=True, eq=False)
class BesideIndex(FileIndex):
    """The indexes of both, as one, which has the identity of the first: its entries are meant."""

    first: FileIndex = field(kw_only=True, repr=False)
    other: FileIndex = field(kw_only=True, repr=False)
    names: Mapping[str, str] = field(kw_only=True, repr=False)


class Fetched(NamedTuple):
    """What was fetched from the servers of both; None where there is none."""

    first: Any
    other: Any


def types(location: BesideLocation) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the name of the first file's object, and the columns of both."""
    name, first = source_of(location.first).types(location.first)
    _, other = source_of(location.other).types(location.other)
    return name, {**first, **{new: other[old] for new, old in location.names.items()}}


def friends(location: BesideLocation) -> list[str]:
    """Return nothing: of friends, those that are wanted are here."""
    return []


def index(location: BesideLocation, names: Sequence[str]) -> FileIndex:
    """Return the page tables of columns of both.

    Raises
    ------
    ArgumentError
        Where one file has more entries than the other.
    """
    more = {name: location.names[name] for name in names if name in location.names}
    mine = [name for name in names if name not in more]
    first: FileIndex = source_of(location.first).index(location.first, mine)
    if location.lazily and not more:
        return first
    other = source_of(location.other).index(location.other, list(dict.fromkeys(more.values())))
    if first.entries != other.entries:
        raise ArgumentError(
            f"{first.where} has {first.entries} entries and {other.where} {other.entries}: they cannot "
            "be joined entry by entry. Join files that were written together, in the same order; or "
            "leave the columns of one of them out."
        )
    columns = dict(first.columns)
    for new, old in more.items():
        columns[new] = replace(other.columns[old], name=new)
    plain = {name: getattr(first, name) for name in FileIndex.__dataclass_fields__}
    plain["columns"] = {name: columns[name] for name in names}
    remote = [each.address for each in (first, other) if each.address and each.address.is_remote]
    plain["address"] = next(iter(remote), first.address)
    plain["joined"] = first.joined + other.identity + other.joined
    plain["stamp"] = b""
    return BesideIndex(**plain, first=first, other=other, names=more)


def fetch(index: BesideIndex, names: Sequence[str], start: int, stop: int, stopped: Event) -> Fetched:
    """Bring what both need from their servers: see `Source.fetch`."""
    mine = [name for name in names if name not in index.names]
    more = list(dict.fromkeys(index.names[name] for name in names if name in index.names))
    found = [
        source_of(part).fetch(part, some, start, stop, stopped) if some else None
        for part, some in ((index.first, mine), (index.other, more))
    ]
    return Fetched(*found)


def read(
    index: BesideIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Fetched | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read from both: see `Source.read`."""
    mine = [name for name in names if name not in index.names]
    first, other = (None, None) if fetched is None else fetched
    # Each reading has a scratch of its own, whose own ones are used where a file is two itself.
    scratches = map(scratch.beside, count())
    own = next(scratches)
    if mine:
        source = source_of(index.first)
        yield from source.read(index.first, mine, start, stop, out_for, own, stopped, first)
    rest = [name for name in names if name in index.names]
    while rest and not stopped.is_set():
        # A column of the other file may have two names here: it is read for each.
        some = {index.names[name]: name for name in reversed(rest)}
        rest = [name for name in rest if name not in some.values()]
        yield from _renamed(index.other, some, start, stop, out_for, next(scratches), stopped, other)
        other = None


def _renamed(
    index: FileIndex,
    names: Mapping[str, str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Any,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read columns of the other file under other names."""

    def renamed_out(old: str) -> Array:
        return out_for(names[old])

    found = source_of(index).read(
        index, list(names), start, stop, renamed_out, scratch, stopped, fetched
    )
    for old, values in found:
        yield names[old], values


def read_awkward(
    index: BesideIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of a column of either."""
    part, old = _of(index, name)
    return source_of(part).read_awkward(part, old, start, stop, scratch)


def vector_bytes(index: BesideIndex, name: str) -> float:
    """Return the bytes of an entry of a vector, on average."""
    part, old = _of(index, name)
    found: float = source_of(part).vector_bytes(part, old)
    return found


def prepare(indexes: Iterable[BesideIndex]) -> None:
    """Compile what reading the files needs."""
    for index in indexes:
        for part in (index.first, index.other):
            source_of(part).prepare([part])


def _of(index: BesideIndex, name: str) -> tuple[FileIndex, str]:
    if name in index.names:
        return index.other, index.names[name]
    return index.first, name
