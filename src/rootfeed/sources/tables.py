"""RNTuple: from column records and page lists to tables of pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import DamagedFileError, UnsupportedColumnError
from rootfeed.schema import ABSENT, Column, ColumnType, Encoding, Pages
from rootfeed.sources.fields import OFFSETS, Origin, columns_below
from rootfeed.sources.records import ColumnRecord, Ntuple

__all__ = ["field_column", "stored_pages"]

Entries = npt.NDArray[np.int64]

# Column types of the RNTuple binary format specification: name of the encoding and stored dtype.
_ENCODINGS: dict[int, tuple[str, str]] = {
    0x00: ("bit", "u1"),
    0x01: ("plain", "u1"),
    0x02: ("plain", "i1"),
    0x03: ("plain", "i1"),
    0x04: ("plain", "u1"),
    0x05: ("plain", "i2"),
    0x06: ("plain", "u2"),
    0x07: ("plain", "i4"),
    0x08: ("plain", "u4"),
    0x09: ("plain", "i8"),
    0x0A: ("plain", "u8"),
    0x0B: ("plain", "f2"),
    0x0C: ("plain", "f4"),
    0x0D: ("plain", "f8"),
    0x0E: ("plain", "u4"),
    0x0F: ("plain", "u8"),
    0x11: ("zigzag", "i2"),
    0x12: ("split", "u2"),
    0x13: ("zigzag", "i4"),
    0x14: ("split", "u4"),
    0x15: ("zigzag", "i8"),
    0x16: ("split", "u8"),
    0x17: ("split", "f2"),
    0x18: ("split", "f4"),
    0x19: ("split", "f8"),
    0x1A: ("delta", "u4"),
    0x1B: ("delta", "u8"),
    0x1C: ("truncated", "f4"),
    0x1D: ("quantized", "f8"),
}

# Fewest and most bits of an element of these; one of the others has the bits of its stored dtype.
_BITS = {"bit": (1, 1), "truncated": (10, 31), "quantized": (1, 32)}

# Which alternative of a variant an entry has, and which of its values.
_SWITCH = 0x10

_MOST_ENTRY_BYTES = 1 << 30


def field_column(
    where: str,
    ntuple: Ntuple,
    name: str,
    type_: ColumnType,
    origin: Origin,
    shared: dict[Any, Pages],
) -> Column:
    """Return a field's tables of pages.

    Parameters
    ----------
    where : str
        File and ntuple, for messages.
    ntuple : Ntuple
    name : str
    type_ : ColumnType
    origin : Origin
    shared : dict
        Tables of offsets that were made for other fields: those of a collection are made once.

    Raises
    ------
    DamagedFileError
        Where the pages do not cover all entries.
    UnsupportedColumnError
        Where uproot, which is to read it, reads it wrongly.
    """
    values, offsets = origin.values, origin.offsets
    key = str(origin.field)
    is_jagged = type_.is_jagged and not origin.length
    dtype = Column(name, type_, None, key).dtype
    # The sizes of a collection, which the file calls its cardinality.
    is_sizes = type_.kind == "scalar" and bool(offsets)
    if (
        not values
        or any(record.type not in _ENCODINGS for record in values)
        or any(record.type in OFFSETS for record in values if not is_sizes)
        or any(record.type not in OFFSETS for record in offsets)
        or (is_jagged and not offsets)
    ):
        _check_variants(where, ntuple, name, type_, origin)
        return Column(name, type_, None, key)
    assert dtype is not None
    if origin.length * dtype.itemsize > _MOST_ENTRY_BYTES:
        raise DamagedFileError(
            f"{where}: column {name!r} claims {origin.length} elements for each entry. "
            "Copy or produce the file again."
        )
    pages, spans = _table(where, ntuple, name, values, None if offsets else max(1, origin.length))
    elements = float(pages.bounds[-1])
    entries = ntuple.entries
    ends = None
    if offsets:
        same = (*(record.number for record in offsets), spans.tobytes())
        if same not in shared:
            shared[same], _ = _table(where, ntuple, name, offsets, 1, spans)
        ends = shared[same]
    if is_sizes:
        return Column(name, type_, None, key, offsets=ends)
    return Column(
        name,
        type_,
        pages,
        key,
        offsets=ends,
        length=origin.length,
        value_bytes=elements * dtype.itemsize / max(1, entries),
    )


def _check_variants(where: str, ntuple: Ntuple, name: str, type_: ColumnType, origin: Origin) -> None:
    """Raise if there is a variant in a field of several clusters: uproot takes values of the first."""
    is_variant = any(record.type == _SWITCH for record in columns_below(ntuple, origin.field))
    if is_variant and len(ntuple.clusters) > 1:
        raise UnsupportedColumnError(
            f"{where}: column {name!r} ({type_.text}) cannot be read: uproot mixes up the clusters of "
            "variants. Leave it out, or write it in another type."
        )


def stored_pages(ntuple: Ntuple, field: int, start: int, stop: int) -> Iterator[tuple[Pages, int, int]]:
    """Yield all pages of a field and of those below it, and the entries of their cluster.

    Parameters
    ----------
    ntuple : Ntuple
    field : int
        Its number.
    start, stop : int
        Clusters with some of these entries.
    """
    records = columns_below(ntuple, field)
    for cluster in ntuple.clusters:
        if cluster.start >= stop or cluster.stop <= start:
            continue
        pages = [page for record in records for page in cluster.pages(record) or () if page.elements]
        yield (
            Pages(
                bounds=np.arange(len(pages) + 1, dtype=np.int64),
                offset=np.array([page.offset for page in pages], np.int64),
                stored_bytes=np.array([page.stored_bytes for page in pages], np.int64),
                encoding=np.zeros(len(pages), np.uint8),
                checksum=np.array([page.has_checksum for page in pages], np.bool_),
                encodings=(),
            ),
            cluster.start,
            cluster.stop,
        )


def _table(
    where: str,
    ntuple: Ntuple,
    name: str,
    records: Sequence[ColumnRecord],
    per_entry: int | None,
    spans: Entries | None = None,
) -> tuple[Pages, Entries]:
    """Return a column's table of pages, and the elements ``[first, stop)`` of each cluster.

    Parameters
    ----------
    where : str
    ntuple : Ntuple
    name : str
    records : sequence of ColumnRecord
        Of the column, one for each representation.
    per_entry : int or None
        Elements of an entry; None where their number varies.
    spans : ndarray of int64, shape (clusters, 2), optional
        What the column's elements are offsets of.
    """
    encodings = tuple(_column_encoding(where, name, record) for record in records)
    added = max(record.added for record in records)
    bounds, offset, stored, encoding, checksum = [0], [], [], [], []
    elements_of: list[tuple[int, int]] = []
    cluster_of: list[int] = []
    entry = 0
    for cluster in ntuple.clusters:
        start, stop = cluster.start, cluster.stop
        # Of several representations a cluster stores one.
        listed = [(i, cluster.pages(record)) for i, record in enumerate(records)]
        chosen, pages = next(((i, found) for i, found in listed if found is not None), (0, []))
        elements = sum(page.elements for page in pages)
        missing = 0 if per_entry is None else (stop - start) * per_entry - elements
        first = bounds[-1]
        if start != entry or missing < 0:
            raise DamagedFileError(
                f"{where}: column {name!r} has {elements} elements in the cluster of entries "
                f"[{start}, {stop}). Copy or produce the file again."
            )
        entry = stop
        if missing:
            if first + missing > added:
                raise DamagedFileError(
                    f"{where}: column {name!r} lacks {missing} of the entries [{start}, {stop}). "
                    "Copy or produce the file again."
                )
            bounds.append(first + missing)
            offset.append(ABSENT)
            stored.append(0)
            encoding.append(0)
            checksum.append(False)
            cluster_of.append(len(elements_of))
        for page in pages:
            if page.elements == 0:
                continue
            bounds.append(bounds[-1] + page.elements)
            offset.append(page.offset)
            stored.append(page.stored_bytes)
            encoding.append(chosen)
            checksum.append(page.has_checksum)
            cluster_of.append(len(elements_of))
        elements_of.append((first, bounds[-1]))
    table = Pages(
        bounds=np.array(bounds, np.int64),
        offset=np.array(offset, np.int64),
        stored_bytes=np.array(stored, np.int64),
        encoding=np.array(encoding, np.uint8),
        checksum=np.array(checksum, np.bool_),
        encodings=encodings,
        clusters=None if spans is None else spans[np.array(cluster_of, np.int64)],
    )
    return table, np.array(elements_of, np.int64).reshape(-1, 2)


def _column_encoding(where: str, name: str, record: ColumnRecord) -> Encoding:
    kind, stored = _ENCODINGS[record.type]
    bits = record.bits
    dtype = np.dtype(stored)
    least, most = _BITS.get(kind, (8 * dtype.itemsize,) * 2)
    if not least <= bits <= most:
        expected = f"{least}" if least == most else f"{least} to {most}"
        raise DamagedFileError(
            f"{where}: column {name!r} claims {bits} bits for each element, expected {expected}. "
            "Copy or produce the file again."
        )
    if kind == "bit":
        return Encoding(kind, dtype, bits=1)
    if kind == "truncated":
        return Encoding(kind, dtype, bits=bits)
    if kind != "quantized":
        return Encoding(kind, dtype)
    low, high = record.low, record.high
    if low is None or high is None or not low < high or not math.isfinite(high - low):
        raise DamagedFileError(
            f"{where}: column {name!r} is quantized in the range [{low}, {high}]. "
            "Copy or produce the file again."
        )
    return Encoding(kind, dtype, bits=bits, low=float(low), high=float(high))
