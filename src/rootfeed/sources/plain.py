"""What is known of a file as plain bytes: JSON and arrays, from which nothing is ever executed.

Whoever reads them believes nothing: other bytes than those written here are `ValueError`, or some other
exception, and never a table of pages that no file could have.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from functools import lru_cache
from typing import Any, cast, get_args, get_type_hints

import numpy as np

from rootfeed.schema import Array, Column, ColumnType, Encoding, FileIndex, Pages, Version
from rootfeed.sources.objects import check_column
from rootfeed.sources.paths import Location
from rootfeed.sources.storage import Storage

__all__ = ["index_bytes", "index_from", "packed", "types_bytes", "types_from", "unpacked"]

_HEAD = struct.Struct("<4sI")
_MAGIC = b"rfp1"
_ALIGNED = 8
_DTYPES = {name: np.dtype(name) for name in ("<i8", "<u8", "|u1", "|b1")}  # of arrays

_NUMBERS = {
    np.dtype(name).str: np.dtype(name)  # of columns
    for name in ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
}
_KINDS = frozenset(get_args(get_type_hints(ColumnType)["kind"]))
_FORMATS = frozenset(get_args(get_type_hints(FileIndex)["format"]))
_ENCODINGS = frozenset(
    ("plain", "swapped", "split", "zigzag", "bit", "truncated", "quantized", "mantissa", "ranged")
) | {"text", "counted text", "delta"}

_MOST = 2**62
_MOST_ENTRY_BYTES = 1 << 30


def packed(told: Any, arrays: Sequence[Array]) -> bytes:
    """Return JSON and arrays as bytes.

    Parameters
    ----------
    told : object
        Of dicts, lists, texts and numbers.
    arrays : sequence of ndarray
        Of int64, uint64, uint8 or bool.
    """
    shapes = [[array.dtype.str, *array.shape] for array in arrays]
    text = json.dumps([told, shapes], separators=(",", ":")).encode()
    parts = [_HEAD.pack(_MAGIC, len(text)), text, b"\0" * _gap(_HEAD.size + len(text))]
    for array in arrays:
        parts += [array.tobytes(), b"\0" * _gap(array.nbytes)]
    return b"".join(parts)


def unpacked(data: bytes) -> tuple[Any, list[Array]]:
    """Return what `packed` was given; the arrays can be written to, and are aligned."""
    magic, size = _HEAD.unpack_from(data)
    place = _HEAD.size + size
    if magic != _MAGIC or place > len(data):
        raise ValueError("other bytes")
    told, shapes = json.loads(data[_HEAD.size : place])
    rest = np.frombuffer(data, np.uint8, offset=min(place + _gap(place), len(data))).copy()
    arrays, place = [], 0
    for name, *shape in shapes:
        dtype, count = _DTYPES[name], 1
        for length in shape:
            count *= _whole(length, 0, len(data))
        stop = place + count * dtype.itemsize
        if stop > len(rest):
            raise ValueError("an array that ends too late")
        array = rest[place:stop].view(np.uint8 if dtype == np.bool_ else dtype).reshape(shape)
        arrays.append(array != 0 if dtype == np.bool_ else array)
        place = stop + _gap(stop)
    return told, arrays


def _gap(size: int) -> int:
    return -size % _ALIGNED


def _whole(value: Any, low: int, high: int = _MOST) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} for an integer from {low} to {high}")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} for a text")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {_text(name): _text(text) for name, text in value.items()}


# --- types of columns -----------------------------------------------------------------------------


def types_bytes(told: tuple[str, Mapping[str, ColumnType], Mapping[str, str]]) -> bytes:
    """Return an object's name, its columns' types and duplicates as bytes."""
    name, types, duplicates = told
    return packed(
        [name, [[each, *_of_type(type_)] for each, type_ in types.items()], {**duplicates}], []
    )


def types_from(data: bytes) -> tuple[str, Mapping[str, ColumnType], Mapping[str, str]]:
    """Return what `types_bytes` was given."""
    (name, types, duplicates), _ = unpacked(data)
    return _text(name), {_text(each): _type(*how) for each, *how in types}, _texts(duplicates)


def _of_type(type_: ColumnType) -> list[Any]:
    return [
        type_.text,
        type_.kind,
        None if type_.dtype is None else type_.dtype.str,
        list(map(int, type_.shape)),
    ]


def _type(text: str, kind: str, dtype: str | None, shape: Sequence[int]) -> ColumnType:
    return _same_type(text, kind, dtype, tuple(shape))


@lru_cache(4096)  # files of one production share them
def _same_type(text: str, kind: str, dtype: str | None, shape: tuple[int, ...]) -> ColumnType:
    if kind not in _KINDS or (kind == "scalar" and dtype is None):
        raise ValueError("a type")
    dimensions = tuple(_whole(each, 0) for each in shape)
    return ColumnType(
        _text(text), cast(Any, kind), None if dtype is None else _NUMBERS[dtype], dimensions
    )


# --- indexes --------------------------------------------------------------------------------------


def index_bytes(index: FileIndex) -> bytes:
    """Return all of an index as bytes, but what its location says."""
    tables = _Tables()
    columns = [tables.of_column(column) for column in index.columns.values()]
    told = {
        "object": index.object_path,
        "format": index.format,
        "entries": index.entries,
        "identity": index.identity.hex(),
        "version": [index.file_bytes, index.head.hex(), index.tag],
        "duplicates": dict(index.duplicates),
        "columns": columns,
        "pages": tables.told,
    }
    return packed(told, tables.arrays)


def index_from(
    data: bytes, location: Location, names: Sequence[str], stamp: bytes, storage: Storage
) -> FileIndex:
    """Return the index that `index_bytes` was given.

    Parameters
    ----------
    data : bytes
    location : Location
    names : sequence of str
        Of the columns: all of them have to be there.
    stamp : bytes
    storage : Storage
        The file, which is open.
    """
    told, arrays = unpacked(data)
    size, head, tag = told["version"]
    found = Version(_whole(size, 0), bytes.fromhex(head), _text(tag))
    local = None if location.address.is_remote else storage.version
    if (local or found) != found or size != storage.file_bytes or told["format"] not in _FORMATS:
        raise ValueError("another file")
    pages = [_pages(arrays, *each) for each in told["pages"]]
    columns = {each.name: each for each in (_column(pages, *how) for how in told["columns"])}
    index = FileIndex(
        path=location.path,
        object_path=_text(told["object"]),
        format=told["format"],
        entries=_whole(told["entries"], 0),
        file_bytes=found.file_bytes,
        identity=_identity(told["identity"]),
        columns={name: columns[name] for name in columns if name in names},
        head=found.head,
        tag=found.tag,
        duplicates=_texts(told["duplicates"]),
        address=location.address,
        stamp=stamp,
    )
    if set(index.columns) != set(names):
        raise ValueError("other columns")
    for column in index.columns.values():
        check_column(index, column)
    return index


def _identity(text: str) -> bytes:
    found = bytes.fromhex(text)
    if len(found) != 16:
        raise ValueError("an identity")
    return found


class _Tables:
    """Tables of pages, each of which is written once, also where several columns share it."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.arrays: list[Array] = []
        self._places: dict[int, int] = {}

    def of_column(self, column: Column) -> list[Any]:
        return [
            column.name,
            _of_type(column.type),
            self._of_pages(column.pages),
            column.key,
            column.leaf,
            self._of_pages(column.offsets),
            int(column.length),
            None if column.counts is None else self.of_column(column.counts),
            float(column.value_bytes),
        ]

    def _of_pages(self, pages: Pages | None) -> int | None:
        if pages is None:
            return None
        if id(pages) not in self._places:
            self._places[id(pages)] = len(self.told)
            first = len(self.arrays)
            self.arrays += [
                np.asarray(pages.bounds, np.int64),
                np.asarray(pages.offset, np.int64),
                np.asarray(pages.stored_bytes, np.int64),
                np.asarray(pages.encoding, np.uint8),
                np.asarray(pages.checksum, np.bool_),
            ]
            if pages.clusters is not None:
                self.arrays.append(np.asarray(pages.clusters, np.int64))
            embedded = [[int(page), data.hex()] for page, data in pages.embedded.items()]
            encodings = [_of_encoding(each) for each in pages.encodings]
            self.told.append([first, pages.clusters is not None, encodings, embedded, pages.label.hex()])
        return self._places[id(pages)]


def _column(
    tables: Sequence[Pages],
    name: str,
    type_: Sequence[Any],
    pages: int | None,
    key: str,
    leaf: str | None,
    offsets: int | None,
    length: int,
    counts: Sequence[Any] | None,
    value_bytes: float,
) -> Column:
    own = _type(*type_)
    if not 0 <= value_bytes < _MOST:
        raise ValueError("a size")
    if length and own.dtype is not None and length * own.dtype.itemsize > _MOST_ENTRY_BYTES:
        raise ValueError("a length")
    ends = None if offsets is None else tables[_whole(offsets, 0)]
    found = Column(
        name=_text(name),
        type=own,
        pages=None if pages is None else tables[_whole(pages, 0)],
        key=_text(key),
        leaf=None if leaf is None else _text(leaf),
        offsets=ends,
        length=_whole(length, 0),
        counts=None if counts is None else _column(tables, *counts),
        value_bytes=float(value_bytes),
    )
    if found.counts is not None and (found.counts.counts or found.counts.offsets):
        raise ValueError("counts of counts")
    if ends is not None:
        _check_clusters(ends, None if found.pages is None else int(found.pages.bounds[-1]))
    return found


def _pages(
    arrays: Sequence[Array],
    first: int,
    has_clusters: bool,
    encodings: Sequence[Sequence[Any]],
    embedded: Sequence[tuple[int, str]],
    label: str,
) -> Pages:
    stop = _whole(first, 0) + 5 + bool(has_clusters)
    some = arrays[first:stop]
    bounds, offset, stored_bytes, encoding, checksum = some[:5]
    pages = len(offset)
    dtypes = [array.dtype for array in some]
    if (
        dtypes != [np.int64, np.int64, np.int64, np.uint8, np.bool_, np.int64][: len(some)]
        or [array.shape for array in some[:5]] != [(pages + 1,), *[(pages,)] * 4]
        or (has_clusters and some[5].shape != (pages, 2))
        or int(encoding.max(initial=0)) >= max(1, len(encodings))
    ):
        raise ValueError("a table of pages")
    inside = {_whole(page, 0, pages - 1): bytes.fromhex(text) for page, text in embedded}
    if not set(np.flatnonzero(offset == -2).tolist()) <= set(inside):
        raise ValueError("pages that are nowhere")
    return Pages(
        bounds=bounds,
        offset=offset,
        stored_bytes=stored_bytes,
        encoding=encoding,
        checksum=checksum,
        encodings=tuple(_encoding(*each) for each in encodings),
        embedded=inside,
        clusters=some[5] if has_clusters else None,
        label=bytes.fromhex(label),
    )


def _check_clusters(ends: Pages, elements: int | None) -> None:
    """Refuse clusters that do not follow each other, or have elements that are not there."""
    clusters = ends.clusters
    if clusters is None:
        raise ValueError("offsets without clusters")
    first, stop = clusters[:, 0], clusters[:, 1]
    new = np.any(clusters[1:] != clusters[:-1], axis=1)
    if len(clusters) and (
        first[0] != 0
        or np.any(first > stop)
        or np.any(first[1:][new] != stop[:-1][new])
        or (elements is not None and stop[-1] != elements)
    ):
        raise ValueError("clusters")


def _of_encoding(encoding: Encoding) -> list[Any]:
    name, stored, *rest = astuple(encoding)
    return [name, stored.str, *rest]


@lru_cache(4096)
def _encoding(
    name: str,
    stored: str,
    bits: int,
    low: float,
    high: float,
    stride: int,
    place: int,
    length: int,
    header_bytes: int,
) -> Encoding:
    dtype = _NUMBERS[stored]
    plain = Encoding(
        name,
        dtype,
        _whole(bits, 0, 64),
        float(low),
        float(high),
        length=_whole(length, 1, _MOST_ENTRY_BYTES),
        header_bytes=_whole(header_bytes, 0, 1 << 16),
    )
    found = replace(plain, stride=_whole(stride, 0, _MOST_ENTRY_BYTES), place=_whole(place, 0, stride))
    if name not in _ENCODINGS or (stride and place + plain.page_bytes(length) > stride):
        raise ValueError("an encoding")
    return found
