"""Some entries of a file, with more columns for them in memory, as one source.

A table has a row for each of these entries, in their order. To those that read it, this source has all
entries of the file: the columns of the table are zero, or empty, where it has no row, and the column
`TAKEN` says where it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from rootfeed.schema import Array, Column, ColumnType, FileIndex, Jagged
from rootfeed.sources import arrays, root
from rootfeed.sources.arrays import ArraysIndex, ArraysLocation
from rootfeed.sources.paths import Location
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "TAKEN",
    "JoinedIndex",
    "JoinedLocation",
    "Rows",
    "fetch",
    "friends",
    "index",
    "prepare",
    "read",
    "read_awkward",
    "types",
    "vector_bytes",
]

TAKEN = "entries that ROOT takes"
"""The column that holds where there is a row; no branch and no definition is called so."""

_TAKEN_TYPE = ColumnType("bool", "scalar", np.dtype(np.bool_))
_GROUP = 1024  # entries whose rows are counted together


@dataclass(frozen=True, eq=False)
class Rows:
    """Which entries of a file have a row in a table, and where they begin there.

    Attributes
    ----------
    first : int
        Number of the first of these rows in the table.
    entries : int
        Of the file.
    bits : ndarray of uint8
        A bit for each entry of the file.
    before : ndarray of int64
        Rows before each 1024 entries.
    """

    first: int
    entries: int
    bits: npt.NDArray[np.uint8]
    before: npt.NDArray[np.int64]

    @classmethod
    def of(cls, taken: npt.NDArray[np.bool_], first: int) -> Rows:
        """Return the rows of the entries that are taken."""
        places = np.arange(0, len(taken), _GROUP)
        counts = np.add.reduceat(taken, places, dtype=np.int64) if len(taken) else places
        return cls(first, len(taken), np.packbits(taken), np.concatenate([[0], np.cumsum(counts)]))

    @property
    def count(self) -> int:
        """Rows in all."""
        return int(self.before[-1])

    def among(self, start: int, stop: int) -> tuple[int, npt.NDArray[np.intp]]:
        """Return the first row of the entries ``[start, stop)``, and which of them have one."""
        group = start // _GROUP
        begin = group * _GROUP
        near = np.unpackbits(self.bits[begin // 8 : -(-stop // 8)])[: stop - begin]
        row = int(self.before[group]) + int(np.count_nonzero(near[: start - begin]))
        return self.first + row, np.flatnonzero(near[start - begin :])


@dataclass(frozen=True)
class JoinedLocation(Location):
    """A file and the object in it, joined with a table.

    Attributes
    ----------
    other : ArraysLocation
    rows : Rows
    names : tuple of str
        The columns of the table that count.
    gone : tuple of str
        Columns of the file that do not: others have taken their names, and cannot be read.
    """

    other: ArraysLocation = field(kw_only=True)
    rows: Rows = field(kw_only=True, repr=False, compare=False)
    names: Sequence[str] = field(kw_only=True)
    gone: Sequence[str] = field(default=(), kw_only=True)

    @property
    def file(self) -> Location:
        """Where the file alone is."""
        return Location(self.path, self.object_path)


@dataclass(frozen=True, eq=False)
class JoinedIndex(FileIndex):
    """The indexes of both, as one."""

    base: FileIndex = field(kw_only=True, repr=False)
    other: ArraysIndex = field(kw_only=True, repr=False)
    rows: Rows = field(kw_only=True, repr=False)


def types(location: JoinedLocation) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the name of the file's object, and the columns of both; one of the table counts."""
    name, found = root.types(location.file)
    stored = {name: type_ for name, type_ in found.items() if name not in location.gone}
    return name, {**stored, **_more_types(location), TAKEN: _TAKEN_TYPE}


def friends(location: JoinedLocation) -> list[str]:
    """Return which friends the file's tree has."""
    return root.friends(location.file)


def index(location: JoinedLocation, names: Sequence[str]) -> JoinedIndex:
    """Return the page tables of the file's columns; those of the table have none."""
    more = _more_types(location)
    base = root.index(location.file, [name for name in names if name not in more and name != TAKEN])
    other = arrays.index(location.other, [name for name in names if name in more])
    share = location.rows.count / max(1, base.entries)
    columns = {TAKEN: Column(TAKEN, _TAKEN_TYPE, None, TAKEN), **base.columns}
    for name, column in other.columns.items():
        columns[name] = replace(column, value_bytes=column.value_bytes * share)
    return JoinedIndex(
        path=base.path,
        object_path=base.object_path,
        format=base.format,
        entries=base.entries,
        file_bytes=base.file_bytes,
        identity=xxhash.xxh3_128_digest(base.identity + other.identity),
        columns={name: columns[name] for name in names},
        head=base.head,
        tag=base.tag,
        duplicates=base.duplicates,
        address=base.address,
        base=base,
        other=other,
        rows=location.rows,
    )


def fetch(
    index: JoinedIndex, names: Sequence[str], start: int, stop: int, stopped: Event
) -> Storage | None:
    """Bring what the file's columns need from its server: see `Source.fetch`."""
    stored = [name for name in names if name in index.base.columns]
    return root.fetch(index.base, stored, start, stop, stopped) if stored else None


def read(
    index: JoinedIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read from both: see `Source.read`."""
    stored = [name for name in names if name in index.base.columns]
    if stored:
        yield from root.read(index.base, stored, start, stop, out_for, scratch, stopped, fetched)
    if stopped.is_set() or len(stored) == len(names):
        return
    first, places = index.rows.among(start, stop)
    if TAKEN in names:
        yield TAKEN, _spread(np.bool_(True), places, out_for(TAKEN))
    more = [name for name in names if name in index.other.columns]

    def narrow(name: str) -> Array:
        return np.empty(len(places), index.other.dtype(name))

    # Vectors of both are valid together, so that each reading has a scratch of its own.
    own = Scratch()
    for name, values in arrays.read(index.other, more, first, first + len(places), narrow, own, stopped):
        if isinstance(values, Jagged):
            length = math.prod(index.columns[name].type.shape) if index.columns[name].type.shape else 0
            yield name, _spread_vectors(values, places, stop - start, length)
        else:
            yield name, _spread(values, places, out_for(name))


def read_awkward(
    index: JoinedIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of a column of either."""
    import awkward as ak

    if name in index.base.columns:
        return root.read_awkward(index.base, name, start, stop, scratch)

    def out_for(_: str) -> Array:
        return np.empty(stop - start, index.dtype(name))

    [(_, values)] = read(index, [name], start, stop, out_for, Scratch(), Event())
    if isinstance(values, Jagged):
        return values.as_awkward(index.columns[name].type.shape)
    return ak.Array(values)


def vector_bytes(index: JoinedIndex, name: str) -> float:
    """Return the bytes of an entry of a vector, on average."""
    if name in index.base.columns:
        return root.vector_bytes(index.base, name)
    return arrays.vector_bytes(index.other, name)


def prepare(indexes: Iterable[JoinedIndex]) -> None:
    """Compile what reading the files needs."""
    root.prepare([index.base for index in indexes])


def _more_types(location: JoinedLocation) -> dict[str, ColumnType]:
    return {name: location.other.table.types[name] for name in location.names}


def _spread(values: Any, places: npt.NDArray[np.intp], out: Array) -> Array:
    """Put values at their places, and zero elsewhere."""
    out[:] = 0
    out[places] = values
    return out


def _spread_vectors(values: Jagged, places: npt.NDArray[np.intp], count: int, length: int) -> Jagged:
    """Put vectors at their places; elsewhere they are empty, or `length` zeros."""
    lengths = np.full(count, length, np.int64)
    lengths[places] = values.lengths
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    if not length:
        return type(values)(values.values, offsets)
    dense = np.zeros((count, length), values.values.dtype)
    dense[places] = values.values[: values.offsets[-1]].reshape(-1, length)
    return type(values)(dense.reshape(-1), offsets)
