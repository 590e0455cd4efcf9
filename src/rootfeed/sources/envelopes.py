"""RNTuple: the fields, columns, clusters and pages of an ntuple.

Header, footer and page lists as the binary format specification (version 1.0) has them. What files of
one production have in common, the header, is parsed once. Page lists are gone through by a kernel. What
the specification does not have is `UnknownError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import xxhash

from rootfeed.kernels import frames
from rootfeed.schema import Array
from rootfeed.sources.compression import checked_xxh3
from rootfeed.sources.directories import RootFile
from rootfeed.sources.productions import once
from rootfeed.sources.records import ColumnRecord, FieldRecord, Ntuple, PageRecord, UnknownError

__all__ = ["read_ntuple"]

_ANCHOR = struct.Struct(">4xhHHHHQQQQQQQ")
_ANCHOR_START = 6  # of what its checksum is of: a count of bytes and a version come before
_ANCHOR_VERSION = 2

_CHECKSUM_BYTES = 8
_LONG, _INT, _SIZE = struct.Struct("<Q"), struct.Struct("<I"), struct.Struct("<q")
_FIELD, _COLUMN, _RANGE = struct.Struct("<IIIHH"), struct.Struct("<HHIHH"), struct.Struct("<dd")
_GROUP, _LOCATOR = struct.Struct("<QQIQ"), struct.Struct("<iQ")
_SUMMARY = struct.Struct("<QQ")

_HEADER, _FOOTER, _PAGE_LIST = 1, 2, 3  # types of envelopes

# What a field or a column has beside.
_REPETITIVE, _PROJECTED, _CHECKSUM = 1, 2, 4
_DEFERRED, _RANGED = 1, 2

_MOST_ROLE = 4  # of the roles that fields can have
_MOST_PLACES = 1 << 20  # of columns in clusters, where a page list is small

_ENTRIES_BITS = 56  # of a cluster's number of entries, above which there are flags


class _Span(NamedTuple):
    """Where an envelope lies, its size there and uncompressed."""

    offset: int
    stored_bytes: int
    whole_bytes: int


class _Schema(NamedTuple):
    fields: tuple[FieldRecord, ...]
    columns: tuple[ColumnRecord, ...]


def read_ntuple(file: RootFile, anchor: Array) -> tuple[Ntuple, bytes]:
    """Return an ntuple, and a digest of all that names and types of its columns depend on.

    Parameters
    ----------
    file : RootFile
    anchor : ndarray of uint8
        The ``ROOT::RNTuple`` as it was streamed.

    Raises
    ------
    UnknownError
    DamagedPageError
        Where a checksum differs.
    """
    if len(anchor) != _ANCHOR.size + _CHECKSUM_BYTES:
        raise UnknownError("the anchor")
    version, epoch, _, _, _, *places, _ = _ANCHOR.unpack_from(anchor)
    checked_xxh3(
        anchor[_ANCHOR_START:-_CHECKSUM_BYTES], anchor[-1 : -_CHECKSUM_BYTES - 1 : -1].tobytes()
    )
    if version != _ANCHOR_VERSION or epoch != 1:
        raise UnknownError("the anchor")
    header, footer = _Span(*places[:3]), _Span(*places[3:])
    file.fetch([header[:2], footer[:2]])
    stored = file.bytes(*header[:2])
    production = xxhash.xxh3_128_digest(stored) + _LONG.pack(header.whole_bytes)
    schema, checksum = once(
        ("header", production), lambda: _parse_header(_envelope(file, header, _HEADER))
    )

    content = _Frame(_envelope(file, footer, _FOOTER).tobytes()).after_header()
    if content.unpack(_LONG) != (0,) or content.unpack(_LONG) != (checksum,):
        raise UnknownError("a footer with features, or of another header")
    extension = content.record()
    production += xxhash.xxh3_128_digest(extension.rest())
    whole = once(("ntuple", production), lambda: _extended(schema, extension))
    groups = [_group(record) for record in content.records()]
    file.fetch([span[:2] for span, _ in groups])
    lists = _PageLists(len(whole.columns))
    for span, count in groups:
        lists.add(_envelope(file, span, _PAGE_LIST), count, checksum)
    return Ntuple(lists.entries, whole.fields, whole.columns, lists.clusters), production


class _Frame:
    """Bytes of an envelope or a frame, read from its beginning on."""

    def __init__(self, data: bytes, at: int = 0, stop: int | None = None) -> None:
        self._data = data
        self.at, self._stop = at, len(data) if stop is None else stop

    def after_header(self) -> _Frame:
        """Return what lies between an envelope's header and its checksum."""
        return _Frame(self._data, self.at + _LONG.size, self._stop - _CHECKSUM_BYTES)

    def unpack(self, format_: struct.Struct) -> tuple[Any, ...]:
        self._need(format_.size)
        fields = format_.unpack_from(self._data, self.at)
        self.at += format_.size
        return fields

    def text(self) -> str:
        (length,) = self.unpack(_INT)
        self._need(length)
        self.at += length
        return self._data[self.at - length : self.at].decode()

    def rest(self) -> bytes:
        return self._data[self.at : self._stop]

    def record(self) -> _Frame:
        """Return what is in a record, and go on behind it."""
        start, (size,) = self.at, self.unpack(_SIZE)
        return self._within(start, size)

    def records(self) -> Iterator[_Frame]:
        """Return what is in each record of a list, and go on behind it."""
        start, (size,), (count,) = self.at, self.unpack(_SIZE), self.unpack(_INT)
        content = self._within(start, -size)
        return (content.record() for _ in range(count))

    def _within(self, start: int, size: int) -> _Frame:
        if not self.at - start <= size <= self._stop - start:
            raise UnknownError("the size of a frame")
        content = _Frame(self._data, self.at, start + size)
        self.at = start + size
        return content

    def _need(self, size: int) -> None:
        if size > self._stop - self.at:
            raise UnknownError("the end of a frame")


def _envelope(file: RootFile, span: _Span, type_: int) -> Array:
    """Return an envelope, whole and of this type."""
    data = file.uncompressed(file.bytes(span.offset, span.stored_bytes), span.whole_bytes)
    if len(data) < _LONG.size + _CHECKSUM_BYTES:
        raise UnknownError("an envelope")
    checked_xxh3(data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:].tobytes())
    if _LONG.unpack_from(data) != (type_ | len(data) << 16,):
        raise UnknownError("an envelope of another type or size")
    return data


def _parse_header(data: Array) -> tuple[_Schema, int]:
    """Return what a header says, and its checksum."""
    content = _Frame(data.tobytes()).after_header()
    if content.unpack(_LONG) != (0,):
        raise UnknownError("a header with features")
    for _ in range(3):  # name, description and writer
        content.text()
    return _extended(_Schema((), ()), content), _LONG.unpack(data[-_CHECKSUM_BYTES:])[0]


def _extended(schema: _Schema, content: _Frame) -> _Schema:
    """Return a schema with the fields and columns of a header, or of a footer, which counts on."""
    fields = [_field(record) for record in content.records()]
    first = len(schema.columns)
    columns = [_column(first + i, record) for i, record in enumerate(content.records())]
    return _Schema((*schema.fields, *fields), (*schema.columns, *columns))


def _field(record: _Frame) -> FieldRecord:
    _, _, parent, role, flags = record.unpack(_FIELD)
    name, type_name, _, _ = (record.text() for _ in range(4))
    if role > _MOST_ROLE or flags & ~(_REPETITIVE | _PROJECTED | _CHECKSUM):
        raise UnknownError("a field")
    repetition = record.unpack(_LONG)[0] if flags & _REPETITIVE else 0
    source = record.unpack(_INT)[0] if flags & _PROJECTED else None
    return FieldRecord(name, type_name, parent, role, repetition, source)


def _column(number: int, record: _Frame) -> ColumnRecord:
    type_, bits, field, flags, representation = record.unpack(_COLUMN)
    if flags & ~(_DEFERRED | _RANGED):
        raise UnknownError("a column")
    # Negative where the representation was suppressed at that time.
    added = abs(record.unpack(_SIZE)[0]) if flags & _DEFERRED else 0
    low, high = record.unpack(_RANGE) if flags & _RANGED else (None, None)
    return ColumnRecord(number, field, representation, type_, bits, added, low, high)


def _group(record: _Frame) -> tuple[_Span, int]:
    """Return where a group's page list lies, and how many clusters it has."""
    _, _, clusters, whole = record.unpack(_GROUP)
    stored, offset = record.unpack(_LOCATOR)
    if stored < 0:
        raise UnknownError("a locator")
    return _Span(offset, stored, whole), clusters


class _Pages(NamedTuple):
    """A column's pages in some clusters: how many, where each cluster's begin, and `frames.pages`."""

    counts: list[int]
    firsts: list[int]
    numbers: Array


class _Group:
    """The page lists of some clusters."""

    def __init__(self, data: Array, starts: Array) -> None:
        self._data, self._starts = data, starts
        self._known: dict[int, _Pages] = {}

    def column(self, number: int) -> _Pages:
        if number not in self._known:
            starts = np.ascontiguousarray(self._starts[:, number])
            counts = np.empty(len(starts), np.int64)
            frames.count_pages(self._data, starts, counts)
            firsts = np.cumsum([0, *np.maximum(counts, 0)])
            numbers = np.empty((4, int(firsts[-1])), np.int64)
            if not frames.pages(self._data, starts, counts, numbers):
                raise UnknownError("a locator")
            self._known[number] = _Pages(counts.tolist(), firsts.tolist(), numbers)
        return self._known[number]


class _Cluster(NamedTuple):
    """A `records.Cluster`."""

    start: int
    stop: int
    place: int
    group: _Group

    def pages(self, column: ColumnRecord) -> list[PageRecord] | None:
        counts, firsts, numbers = self.group.column(column.number)
        if counts[self.place] < 0:
            return None
        listed = numbers[:, firsts[self.place] : firsts[self.place + 1]].T.tolist()
        return [
            PageRecord(elements, offset, stored_bytes, bool(has_checksum))
            for elements, offset, stored_bytes, has_checksum in listed
        ]


class _PageLists:
    """The clusters of an ntuple of so many columns."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self.entries = 0
        self.clusters: list[_Cluster] = []

    def add(self, data: Array, count: int, checksum: int) -> None:
        """Add a page list of so many clusters, which has to be of the header of this checksum."""
        content = _Frame(data.tobytes()).after_header()
        if content.unpack(_LONG) != (checksum,):
            raise UnknownError("a page list of another header")
        spans = [record.unpack(_SUMMARY) for record in content.records()]
        if len(spans) != count or count * self._columns > _MOST_PLACES + len(data):
            raise UnknownError("a page list")
        starts = np.empty((count, self._columns), np.int64)
        if frames.column_frames(data, content.at, len(data) - _CHECKSUM_BYTES, 0, count, starts) < 0:
            raise UnknownError("a page list")
        group = _Group(data, starts)
        for place, (start, entries) in enumerate(spans):
            if entries >> _ENTRIES_BITS or start >> 62:
                raise UnknownError("a cluster with features")
            self.clusters.append(_Cluster(start, start + entries, place, group))
            self.entries += entries
