"""Entries in memory: NumPy and awkward arrays in place of a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from rootfeed.errors import ArgumentError, MissingColumnError, UnsupportedColumnError, nearest
from rootfeed.schema import Array, Column, ColumnType, FileIndex, Jagged, Texts
from rootfeed.sources.paths import Location
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "IN_MEMORY",
    "ArraysIndex",
    "ArraysLocation",
    "Table",
    "fetch",
    "friends",
    "identity_of",
    "index",
    "prepare",
    "read",
    "read_awkward",
    "table",
    "types",
    "vector_bytes",
]

IN_MEMORY = "arrays in memory"
"""What stands for a file's path in messages."""

_OFFSET_BYTES = 8
_NUMBERS = "biuf"


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length in memory.

    Attributes
    ----------
    columns : mapping of str to ndarray or Jagged
        One number per entry, or several, or text. Read, never written to.
    types : mapping of str to ColumnType
    entries : int
    identity : bytes
        16 bytes that follow from names, types and all values.
    """

    columns: Mapping[str, Array | Jagged]
    types: Mapping[str, ColumnType]
    entries: int
    identity: bytes


@dataclass(frozen=True)
class ArraysLocation(Location):
    """A table in the place of a file and the tree in it."""

    table: Table = field(kw_only=True, repr=False)


@dataclass(frozen=True, eq=False)
class ArraysIndex(FileIndex):
    """What a loader knows of a table: no pages, so that blocks may begin and end anywhere."""

    table: Table = field(kw_only=True, repr=False)

    @property
    def where(self) -> str:
        """What messages say of it."""
        return self.path


def table(arrays: Mapping[str, Any], entries: int | None = None) -> Table:
    """Return arrays as columns of a table; numbers, and the elements of vectors, are not copied.

    Parameters
    ----------
    arrays : mapping of str to array_like
        NumPy arrays of shape (n,), or (n, ...) for arrays of fixed shape in each entry; awkward arrays
        of numbers, of lists of numbers, or of strings; what `numpy.asarray` makes such arrays of.
    entries : int, optional
        Needed where there is no array.

    Raises
    ------
    ArgumentError
        Where lengths differ, or an entry has no value.
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text.

    Notes
    -----
    All values are read once, for the table's identity.
    """
    if not isinstance(arrays, Mapping):
        raise ArgumentError(f"arrays must be a mapping of names to arrays, got {type(arrays).__name__}.")
    columns: dict[str, Array | Jagged] = {}
    types: dict[str, ColumnType] = {}
    for name, values in arrays.items():
        if not isinstance(name, str) or not name.isprintable() or not name:
            raise ArgumentError(
                "a column is named by a text without line breaks or control characters, which is not "
                f"empty, got {name!r}."
            )
        columns[name], types[name] = _column(name, values)
    lengths = {name: len(column) for name, column in columns.items()}
    if entries is None and not lengths:
        raise ArgumentError("a table in memory needs at least one array, got none.")
    expected = next(iter(lengths.values())) if entries is None else entries
    if wrong := {name: length for name, length in lengths.items() if length != expected}:
        name, length = next(iter(wrong.items()))
        raise ArgumentError(
            f"arrays differ in length: {name!r} has {length} entries, others {expected}."
        )
    return Table(columns, types, expected, identity_of(columns, types, expected))


def identity_of(
    columns: Mapping[str, Array | Jagged], types: Mapping[str, ColumnType], entries: int
) -> bytes:
    """Return 16 bytes that tell columns from others. Costs one pass over their values."""
    digest = xxhash.xxh3_128(str(entries).encode())
    for name, column in columns.items():
        digest.update(f"{name!r} {types[name]!r}".encode())
        for part in (column.values, column.offsets) if isinstance(column, Jagged) else (column,):
            digest.update(np.ascontiguousarray(part).view(np.uint8).data)
    return digest.digest()


def types(location: ArraysLocation) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the name of the table and the type of each column."""
    return location.object_path or "", location.table.types


def friends(location: ArraysLocation) -> list[str]:
    """Return nothing: a table is joined with no other."""
    return []


def index(location: ArraysLocation, names: Sequence[str]) -> ArraysIndex:
    """Return what a loader knows of some columns."""
    found = location.table
    for name in names:
        if name not in found.types:
            raise MissingColumnError(
                f"{location.path} have no column {name!r}. {nearest(name, found.types)}"
            )
    return ArraysIndex(
        path=location.path,
        object_path=location.object_path or "",
        format="arrays",
        entries=found.entries,
        file_bytes=0,
        identity=found.identity,
        columns={name: _index_column(name, found) for name in names},
        table=found,
    )


def fetch(index: ArraysIndex, names: Sequence[str], start: int, stop: int, stopped: Event) -> None:
    """Do nothing: all is in memory."""


def read(
    index: ArraysIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Copy the entries ``[start, stop)`` of some columns: see `Source.read`."""
    for name in names:
        column = index.table.columns[name]
        if stopped.is_set():
            return
        if isinstance(column, Jagged):
            yield name, _copied(column, start, stop, scratch, name)
        else:
            out = out_for(name)
            out[:] = column[start:stop]
            yield name, out


def read_awkward(
    index: ArraysIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return a copy of the entries ``[start, stop)`` of a column."""
    import awkward as ak

    column = index.table.columns[name]
    if isinstance(column, Jagged):
        copied = _copied(column, start, stop, Scratch(), name)
        return copied.as_awkward(index.table.types[name].shape)
    return ak.Array(column[start:stop].copy())


def vector_bytes(index: ArraysIndex, name: str) -> float:
    """Return the bytes of an entry of a vector, on average."""
    return index.columns[name].value_bytes + _OFFSET_BYTES


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile nothing: copying needs no kernel."""


def _copied(column: Jagged, start: int, stop: int, scratch: Scratch, name: str) -> Jagged:
    offsets = scratch.array(f"offsets of {name}", stop - start + 1, np.int64)
    np.subtract(column.offsets[start : stop + 1], column.offsets[start], out=offsets)
    values = scratch.array(f"values of {name}", int(offsets[-1]), column.values.dtype)
    values[:] = column.values[column.offsets[start] : column.offsets[stop]]
    return type(column)(values, offsets)


def _index_column(name: str, table: Table) -> Column:
    column = table.columns[name]
    value_bytes = column.values.nbytes / max(1, len(column)) if isinstance(column, Jagged) else 0.0
    return Column(name, table.types[name], None, name, value_bytes=value_bytes)


def _column(name: str, values: Any) -> tuple[Array | Jagged, ColumnType]:
    import awkward as ak

    if isinstance(values, ak.Array):
        return _of_awkward(name, values)
    try:
        array = np.asarray(values)
    except Exception as error:  # lists of different lengths, tensors on devices, ...
        raise UnsupportedColumnError(
            f"column {name!r} does not become a NumPy array ({error}): give vectors of different "
            "lengths as an awkward array, and tensors as arrays in memory."
        ) from error
    if isinstance(values, np.ma.MaskedArray):
        raise ArgumentError(f"column {name!r} is a masked array: fill it, array.filled(value).")
    if array.dtype.kind in "UTO" and array.ndim == 1:
        return _of_texts(name, array)
    if array.ndim == 0:
        raise ArgumentError(f"column {name!r} must be an array of one value per entry, got {values!r}.")
    dtype = _native(name, array.dtype)
    if array.ndim == 1:
        return array.astype(dtype, copy=False), ColumnType(str(dtype), "scalar", dtype)
    shape = array.shape[1:]
    flat = np.ascontiguousarray(array, dtype).reshape(-1)
    offsets = np.arange(len(array) + 1, dtype=np.int64) * math.prod(shape)
    return Jagged(flat, offsets), ColumnType(_text(dtype, shape), "vector", dtype, shape)


def _of_texts(name: str, array: Array) -> tuple[Array | Jagged, ColumnType]:
    if not all(isinstance(each, str) for each in array):
        raise UnsupportedColumnError(
            f"column {name!r} is an array of objects: a column holds numbers, vectors of numbers or "
            "text."
        )
    encoded = [each.encode("utf-8", "surrogatepass") for each in array.tolist()]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return Texts(np.frombuffer(b"".join(encoded), np.uint8), offsets), ColumnType("string", "text")


def _of_awkward(name: str, values: ak.Array) -> tuple[Array | Jagged, ColumnType]:
    import awkward as ak

    packed = ak.to_packed(values)
    layout = packed.layout
    if layout.is_unknown:  # no entry tells what it would be
        return np.empty(0), ColumnType("float64", "scalar", np.dtype(np.float64))
    if layout.is_option and ak.any(ak.is_none(packed)):
        raise ArgumentError(f"column {name!r} has entries without a value: fill them, ak.fill_none.")
    if layout.is_option:
        return _of_awkward(name, ak.drop_none(packed, axis=0))
    if layout.is_numpy:
        return _column(name, np.asarray(layout.data))
    if layout.parameter("__array__") == "string":
        values = np.asarray(layout.content.data).view(np.uint8)
        return Texts(values, _offsets(layout)), ColumnType("string", "text")
    if layout.is_list and (layout.content.is_numpy or layout.content.is_unknown):
        content = np.empty(0) if layout.content.is_unknown else np.asarray(layout.content.data)
        if content.ndim == 1:
            dtype = _native(name, content.dtype)
            if layout.is_regular:
                return _column(name, np.asarray(ak.to_numpy(packed)))
            jagged = Jagged(content.astype(dtype, copy=False), _offsets(layout))
            return jagged, ColumnType(_text(dtype, None), "vector", dtype)
    if layout.is_regular and (array := ak.to_numpy(packed)).dtype.kind in _NUMBERS:
        return _column(name, array)
    raise UnsupportedColumnError(
        f"column {name!r} is of type {packed.type.content}: a column holds numbers, vectors of numbers "
        "or text. Give the fields of records as columns of their own."
    )


def _offsets(layout: Any) -> Array:
    return np.ascontiguousarray(layout.to_ListOffsetArray64(True).offsets.data, np.int64)


def _native(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind not in _NUMBERS or dtype.itemsize > 8 or dtype == np.float16:
        raise UnsupportedColumnError(
            f"column {name!r} is an array of {dtype}: a column holds numbers of up to 64 bits, vectors "
            "of numbers or text. Convert it, as array.astype('float32') does."
        )
    return dtype.newbyteorder("=")


def _text(dtype: np.dtype[Any], shape: tuple[int, ...] | None) -> str:
    return f"{dtype}[]" if shape is None else f"{dtype}{''.join(f'[{size}]' for size in shape)}"
