"""HDF5's chunks as columns: where they lie, and how their bytes become values.

A chunk is read from our storage and decompressed here, on as many threads as there are: the HDF5 library
lets one thread at a time do anything. Entries of any length lie in `heaps`, and chunks hold where. What
the library alone understands comes through a function that it is behind (`Others`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import deflate
import numpy as np
import zstandard

from rootfeed import kernels
from rootfeed.schema import ABSENT, Array, Jagged, Pages, Texts
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.heaps import POINTER, Entries
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage

__all__ = ["COMPRESSIONS", "SHUFFLE", "DataSet", "Others", "Part", "columns_of", "entries_of"]

DEFLATE, SHUFFLE, LZF, ZSTD = 1, 2, 32000, 32015
COMPRESSIONS = frozenset({DEFLATE, LZF, ZSTD})
"""The numbers of the compressions that are undone here, as the HDF Group registers them."""

Others = Callable[["DataSet", int, int], Array]
"""Returns rows ``[start, stop)`` of a data set through the HDF5 library."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Where the values of a data set lie.

    Attributes
    ----------
    path : str
        In the file, from its root on.
    dtype : numpy.dtype
        Of an element as it is stored, which may have fields.
    shape, chunk_shape : tuple of int
        Of the data set and of its chunks. What is stored in one piece is taken for chunks of some rows.
    pages : Pages
        By row: all chunks that begin at one row are one page.
    offset, stored_bytes, skipped : ndarray of int64, shape (pages, chunks of a page)
        Place and size of each chunk, `ABSENT` where it is not stored; bits of the filters that were not
        applied to it.
    filters : tuple of int
        In the order in which they were applied.
    fill : bytes
        An element of a chunk that is not stored.
    is_plain : bool
        Whether chunks are read here.
    is_terminated : bool
        Whether a text of fixed length ends at its first null byte, and not before the last ones.
    """

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    pages: Pages = field(repr=False)
    offset: Array = field(repr=False)
    stored_bytes: Array = field(repr=False)
    skipped: Array = field(repr=False)
    filters: tuple[int, ...]
    fill: bytes
    is_plain: bool
    is_terminated: bool = False

    def ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield position and size of the chunks that hold some rows."""
        for page in self.overlapping(start, stop):
            for offset, size in zip(self.offset[page], self.stored_bytes[page], strict=True):
                if offset != ABSENT:
                    yield int(offset), int(size)

    def overlapping(self, start: int, stop: int) -> range:
        """Return the pages that hold some rows."""
        return range(
            start // self.chunk_shape[0], -(-stop // self.chunk_shape[0]) if stop > start else 0
        )


@dataclass(frozen=True)
class Part:
    """A column: a data set, or one field of its elements.

    Attributes
    ----------
    data : DataSet
    fields : tuple of str
        The way to it through compound types; empty for all of an element.
    place : int
        Where it begins in a stored element, in bytes.
    stored : numpy.dtype
        As it is stored: of numbers, of bytes of fixed length, or `POINTER`.
    native : numpy.dtype or None
        The column's own; None of texts.
    shape : tuple of int
        Of an array in each element.
    valid : Part or None
        The flag of elements that count, where the others are padding.
    elements : numpy.dtype or None
        Of an entry of any length, as they are stored; bytes of a text.
    """

    data: DataSet
    fields: tuple[str, ...]
    place: int
    stored: np.dtype[Any]
    native: np.dtype[Any] | None
    shape: tuple[int, ...] = ()
    valid: Part | None = None
    elements: np.dtype[Any] | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Dimensions of what a row holds, padding included."""
        return self.data.shape[1:] + self.shape

    @property
    def raw(self) -> np.dtype[Any]:
        """What is gathered before it is made a column: native numbers, bytes, pointers or objects."""
        if self.elements is not None:
            return self.stored if self.data.is_plain else np.dtype(object)
        return self.stored if self.native is None else self.native

    @property
    def is_mixed_up(self) -> bool:
        """Whether h5py would read vectors and not heed the order of their bytes (so does h5py 3.14)."""
        return (
            self.elements is not None
            and not self.data.is_plain
            and self.elements != self.elements.newbyteorder("=")
        )


def columns_of(
    parts: Mapping[str, Part],
    start: int,
    stop: int,
    storage: Storage,
    others: Others,
    scratch: Scratch,
) -> dict[str, Array | Jagged]:
    """Return rows ``[start, stop)`` of columns of one data set, in memory of `scratch`.

    Raises
    ------
    DamagedPageError
        Where a chunk contradicts itself.
    """
    wanted = dict(parts)
    data = next(iter(parts.values())).data
    if (valid := next((part.valid for part in parts.values() if part.valid), None)) is not None:
        wanted[""] = valid  # no column is called so
    rows = stop - start
    if valid is None:
        whole = _rows(parts, start, stop, storage, others, scratch)
        return {
            name: _column(name, parts[name], array, start, storage, scratch)
            for name, array in whole.items()
        }
    # Padding is left out chunk by chunk, so that most of it is never all in memory.
    lengths = [np.zeros(1, np.int64)]
    kept: dict[str, list[Array]] = {name: [] for name in parts}
    for low, high in _pieces(data, start, stop):
        into = {name: _room(name, part, high - low, scratch) for name, part in wanted.items()}
        _fill(data, wanted, low, high, into, storage, others, scratch)
        mask = into[""]
        lengths.append(np.count_nonzero(mask, axis=1))
        for name, arrays in kept.items():
            arrays.append(into[name][mask])
    offsets = scratch.array(f"offsets of {data.path}", rows + 1, np.int64)
    np.cumsum(np.concatenate(lengths), out=offsets)
    found: dict[str, Array | Jagged] = {}
    for name, arrays in kept.items():
        values = scratch.array(f"values of {name}", int(offsets[-1]), parts[name].raw)
        if arrays:
            np.concatenate(arrays, out=values)
        found[name] = Jagged(values, offsets)
    return found


def entries_of(
    parts: Mapping[str, Part], start: int, stop: int, storage: Storage, scratch: Scratch
) -> Iterator[Entries]:
    """Yield where rows ``[start, stop)`` lie of those columns of one data set that are in heaps.

    Raises
    ------
    DamagedPageError
        Where a chunk contradicts itself.
    """
    elsewhere = {name: part for name, part in parts.items() if part.raw == POINTER}
    if elsewhere:
        whole = _rows(elsewhere, start, stop, storage, None, scratch)
        for name, part in elsewhere.items():
            yield _entries(part, whole[name], start, storage)


def _entries(part: Part, pointers: Array, start: int, storage: Storage) -> Entries:
    assert part.elements is not None
    return Entries(pointers, part.elements.itemsize, start, storage.file_bytes)


def _rows(
    parts: Mapping[str, Part],
    start: int,
    stop: int,
    storage: Storage,
    others: Others | None,
    scratch: Scratch,
) -> dict[str, Array]:
    """Return what chunks hold of columns of one data set."""
    data = next(iter(parts.values())).data
    whole = {name: _room(name, part, stop - start, scratch) for name, part in parts.items()}
    for low, high in _pieces(data, start, stop):
        into = {name: array[low - start : high - start] for name, array in whole.items()}
        _fill(data, parts, low, high, into, storage, others, scratch)
    return whole


def _pieces(data: DataSet, start: int, stop: int) -> Iterator[tuple[int, int]]:
    for page in data.overlapping(start, stop):
        yield max(start, page * data.chunk_shape[0]), min(stop, (page + 1) * data.chunk_shape[0])


def _room(name: str, part: Part, rows: int, scratch: Scratch) -> Array:
    """Return memory for some rows of a column."""
    if part.raw.kind == "O":
        return np.empty((rows, *part.row_shape), part.raw)
    return scratch.array(f"rows of {name}", (rows, *part.row_shape), part.raw)


def _fill(
    data: DataSet,
    parts: Mapping[str, Part],
    start: int,
    stop: int,
    into: Mapping[str, Array],
    storage: Storage,
    others: Others | None,
    scratch: Scratch,
) -> None:
    """Read rows of one page."""
    if not data.is_plain:
        assert others is not None
        rows = others(data, start, stop)
        for name, part in parts.items():
            values = rows
            for each in part.fields:
                values = values[each]
            into[name][...] = values.view(np.uint8) != 0 if part.raw == np.bool_ else values
        return
    page = start // data.chunk_shape[0]
    first = page * data.chunk_shape[0]
    sizes, steps = data.shape[1:], data.chunk_shape[1:]
    grid = [-(-size // step) for size, step in zip(sizes, steps, strict=True)]
    elements, of_row = math.prod(data.chunk_shape), math.prod(steps)
    low, count = (start - first) * of_row, (stop - start) * of_row
    for number, corner in enumerate(np.ndindex(*grid)):
        # What of the data set lies in this chunk, and what of the chunk in the data set.
        places = [(step * at, size) for step, at, size in zip(steps, corner, sizes, strict=True)]
        target = (
            slice(None),
            *(slice(at, at + step) for (at, _), step in zip(places, steps, strict=True)),
        )
        cut = (slice(None), *(slice(size - at) for at, size in places))
        chunk, is_shuffled = _chunk(data, page, number, stop - first, storage, scratch)
        for name, part in parts.items():
            values = _values(part, chunk, is_shuffled, elements, low, count, scratch)
            values = values.reshape(stop - start, *steps, *part.shape)[cut]
            into[name][target] = values != 0 if part.raw == np.bool_ else values


def _chunk(
    data: DataSet, page: int, number: int, rows: int, storage: Storage, scratch: Scratch
) -> tuple[Array, bool]:
    """Return the bytes of a chunk, and whether they are still in planes."""
    whole = math.prod(data.chunk_shape) * data.dtype.itemsize
    offset, size = int(data.offset[page, number]), int(data.stored_bytes[page, number])
    if offset == ABSENT:
        out = scratch.array("chunk", whole, np.uint8)
        out.reshape(-1, data.dtype.itemsize)[:] = np.frombuffer(data.fill, np.uint8)
        return out, False
    skipped = int(data.skipped[page, number])
    filters = [each for bit, each in enumerate(data.filters) if not skipped >> bit & 1]
    stored = scratch.array("stored", size, np.uint8)
    storage.read_into(offset, stored)
    for each in filters:
        if each != SHUFFLE:
            stored = _undone(each, stored, scratch.array("chunk", whole, np.uint8))
    # Of what is stored in one piece, nothing follows the last row.
    needed = whole if data.filters else whole // data.chunk_shape[0] * rows
    if not needed <= len(stored) <= whole:
        raise DamagedPageError(f"it holds {len(stored)} bytes instead of {whole}")
    return stored, SHUFFLE in filters


def _undone(each: int, stored: Array, out: Array) -> Array:
    """Decompress into `out`, and return the part of it that is filled."""
    try:
        if each == DEFLATE:
            data = deflate.zlib_decompress(stored, len(out))
            written = len(data)
            out[:written] = np.frombuffer(data, np.uint8)
        elif each == LZF:
            written = int(kernels.unlzf(stored, out))
        else:
            with zstandard.ZstdDecompressor().stream_reader(stored.data) as reader:
                written = reader.readinto(out)
                written += len(reader.read(1)) if written == len(out) else 0
    except (deflate.DeflateError, zstandard.ZstdError, ValueError) as error:
        raise DamagedPageError(f"it cannot be decompressed: {error}") from error
    if not 0 <= written <= len(out):
        raise DamagedPageError(f"it does not decompress to {len(out)} bytes")
    return out[:written]


def _values(
    part: Part,
    chunk: Array,
    is_shuffled: bool,
    elements: int,
    start: int,
    count: int,
    scratch: Scratch,
) -> Array:
    """Return a column's part of elements ``[start, start + count)``, as they are stored."""
    stored, size = part.stored, part.stored.itemsize
    width = math.prod(part.shape)
    if not is_shuffled:
        itemsize = part.data.dtype.itemsize
        inside = tuple(size * math.prod(part.shape[axis + 1 :]) for axis in range(len(part.shape)))
        return np.ndarray(
            (count, *part.shape), stored, chunk, start * itemsize + part.place, (itemsize, *inside)
        )
    out = scratch.array("unshuffled", (width, count, size), np.uint8)
    for number in range(width):
        planes = chunk[(part.place + number * size) * elements :][: size * elements]
        if size in (2, 4, 8):
            words = out[number].reshape(-1).view(f"u{size}")
            kernels.unsplit(planes, elements, start, words)
        else:
            out[number] = planes.reshape(size, elements)[:, start : start + count].T
    return out.view(stored)[..., 0].T


def _column(
    name: str, part: Part, rows: Array, start: int, storage: Storage, scratch: Scratch
) -> Array | Jagged:
    """Return what was gathered of a column as what it is in a frame."""
    entries = len(rows)
    if rows.dtype.kind == "O":
        return _of_objects(part, rows)
    if part.elements is not None:
        found = _entries(part, rows, start, storage)
        stored = found.read(storage, name, scratch).view(part.elements)
        if part.native is None:
            return _texts(stored, found.offsets)
        values = stored != 0 if part.native == np.bool_ else stored.astype(part.native, copy=False)
        return Jagged(values, found.offsets)
    if part.native is None:
        letters = rows.reshape(entries, 1).view(np.uint8) if entries else np.zeros((0, 1), np.uint8)
        offsets = np.zeros(entries + 1, np.int64)
        lengths = np.char.str_len(rows)
        if part.data.is_terminated and entries:
            ends = letters == 0
            lengths = np.where(ends.any(axis=1), ends.argmax(axis=1), letters.shape[1])
        np.cumsum(lengths, out=offsets[1:])
        return Texts(letters[np.arange(letters.shape[1]) < np.diff(offsets)[:, None]], offsets)
    if not part.row_shape:
        return rows
    offsets = scratch.array(f"offsets of {name}", entries + 1, np.int64)
    offsets[:] = np.arange(entries + 1) * math.prod(part.row_shape)
    return Jagged(rows.reshape(-1), offsets)


def _texts(letters: Array, offsets: Array) -> Texts:
    """Return texts, each of which ends before its first zero byte."""
    if not (zeros := np.flatnonzero(letters == 0)).size:
        return Texts(letters, offsets)
    lengths = np.diff(offsets)
    entries, first = np.unique(np.searchsorted(offsets, zeros, side="right") - 1, return_index=True)
    kept = lengths.copy()
    kept[entries] = zeros[first] - offsets[entries]
    places = np.arange(len(letters)) - np.repeat(offsets[:-1], lengths)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return Texts(letters[places < np.repeat(kept, lengths)], ends)


def _of_objects(part: Part, rows: Sequence[Any] | Array) -> Jagged:
    """Return texts or vectors of any length."""
    offsets = np.zeros(len(rows) + 1, np.int64)
    if part.native is None:
        texts = [each.encode() if isinstance(each, str) else each or b"" for each in rows]
        np.cumsum(list(map(len, texts)), out=offsets[1:])
        return Texts(np.frombuffer(b"".join(texts), np.uint8), offsets)
    np.cumsum(list(map(len, rows)), out=offsets[1:])
    values = [np.zeros(0, part.native), *(each.astype(part.native) for each in rows)]
    return Jagged(np.concatenate(values, dtype=part.native), offsets)
