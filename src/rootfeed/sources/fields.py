"""RNTuple: from uproot's field and column records to columns and tables of pages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import uproot

from rootfeed.errors import DamagedFileError
from rootfeed.schema import ABSENT, Column, ColumnType, Encoding, Pages
from rootfeed.sources.compression import MOST_EXPANSION, DamagedPageError, checked_xxh3

__all__ = ["Origin", "check_envelopes", "field_column", "fields"]

_FIELD_DTYPES: dict[str, Any] = {
    "bool": np.bool_,
    "char": np.int8,
    "std::byte": np.uint8,
    "float": np.float32,
    "double": np.float64,
    **{f"std::int{bits}_t": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"std::uint{bits}_t": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
}

Origin = Sequence[Any]
"""A field's column records, the first representation first; empty where only uproot reads it."""

_CARDINALITY = re.compile(r"ROOT::RNTupleCardinality<(.*)>")

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
    0x11: ("zigzag", "i2"),
    0x12: ("split", "u2"),
    0x13: ("zigzag", "i4"),
    0x14: ("split", "u4"),
    0x15: ("zigzag", "i8"),
    0x16: ("split", "u8"),
    0x17: ("split", "f2"),
    0x18: ("split", "f4"),
    0x19: ("split", "f8"),
    0x1C: ("truncated", "f4"),
    0x1D: ("quantized", "f8"),
}

# Fewest and most bits of an element of these; one of the others has the bits of its stored dtype.
_BITS = {"bit": (1, 1), "truncated": (10, 31), "quantized": (1, 32)}

_CHECKSUM_BYTES = 8
_PLACE = ("Seek", "NBytes", "Len")


def fields(ntuple: Any) -> Iterator[tuple[str, ColumnType, Origin]]:
    """Yield each field outside collections with its name and type."""
    records = ntuple.field_records
    children: dict[int, list[int]] = {}
    for number, record in enumerate(records):
        if record.parent_field_id != number:
            children.setdefault(record.parent_field_id, []).append(number)
    columns: dict[int, list[Any]] = {}
    for record in sorted(ntuple.column_records, key=lambda record: record.repr_idx):
        columns.setdefault(record.field_id, []).append(record)
    roles = uproot.const.RNTupleFieldRole

    def walk(number: int, prefix: str) -> Iterator[tuple[str, ColumnType, Origin]]:
        record = records[number]
        # ":_0" is a base class, whose members ROOT addresses as the class's own.
        base_class = record.field_name.startswith(":_")
        name = prefix.rstrip(".") if base_class else prefix + record.field_name
        physical = number if record.source_field_id is None else record.source_field_id
        if record.repetition or record.struct_role == roles.COLLECTION:
            yield name, ColumnType(record.type_name, "vector"), ()
        elif record.struct_role == roles.RECORD:
            for child in children.get(number, []):
                yield from walk(child, f"{name}.")
        elif record.struct_role == roles.LEAF:
            cardinality = _CARDINALITY.fullmatch(record.type_name)
            inner = record.type_name
            # An enumeration or std::atomic keeps its number in a subfield "_0".
            while physical not in columns:
                below = children.get(physical, [])
                if len(below) != 1 or below[0] <= physical:
                    break
                physical = below[0]
                inner = records[physical].type_name
            dtype = _FIELD_DTYPES.get(cardinality[1] if cardinality else inner)
            if dtype is None:
                kind: Any = "text" if inner.startswith("std::string") else "other"
                yield name, ColumnType(record.type_name, kind), ()
            else:
                type_ = ColumnType(record.type_name, "scalar", np.dtype(dtype))
                yield name, type_, () if cardinality else columns.get(physical, ())
        else:
            yield name, ColumnType(record.type_name, "other"), ()

    for number, record in enumerate(records):
        if record.parent_field_id == number:
            yield from walk(number, "")


def check_envelopes(where: str, ntuple: Any) -> None:
    """Compare header, footer and page lists with their checksums, before uproot parses them.

    uproot checks the first two itself, but after it has followed their sizes and counts, and the page
    lists never. Raises `DamagedFileError`.
    """

    def check(what: str, offset: int, stored_bytes: int, whole_bytes: int) -> None:
        locator = SimpleNamespace(offset=offset, num_bytes=stored_bytes)
        try:
            if whole_bytes > MOST_EXPANSION * stored_bytes:
                raise DamagedPageError(
                    f"it stores {stored_bytes} bytes for {whole_bytes} uncompressed ones"
                )
            chunk, _ = ntuple.read_locator(locator, whole_bytes)
            data = np.frombuffer(chunk.raw_data, np.uint8)
            if len(data) != whole_bytes or whole_bytes < _CHECKSUM_BYTES:
                raise DamagedPageError(f"it has {len(data)} bytes instead of {whole_bytes}")
            checked_xxh3(data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:].tobytes())
        except DamagedPageError as error:
            raise DamagedFileError(
                f"{where}: its {what} is damaged: {error}. Copy or produce the file again."
            ) from error

    for what in ("Header", "Footer"):
        seek, stored, whole = (int(ntuple.member(f"f{part}{what}")) for part in _PLACE)
        check(what.lower(), seek, stored, whole)
    for group in ntuple.footer.cluster_group_records:
        link = group.page_list_link
        check("page list", link.locator.offset, link.locator.num_bytes, link.env_uncomp_size)


def field_column(where: str, ntuple: Any, name: str, type_: ColumnType, origin: Origin) -> Column:
    """Return a field's table of pages.

    Parameters
    ----------
    where : str
        File and ntuple, for messages.
    ntuple : object
        uproot's.
    name : str
    type_ : ColumnType
    origin : Origin

    Raises
    ------
    DamagedFileError
        Where the pages do not cover all entries.
    """
    if not origin or any(record.type not in _ENCODINGS for record in origin):
        return Column(name, type_, None, name)
    encodings = tuple(_column_encoding(where, name, record) for record in origin)
    # The entry at which a deferred column was added; ROOT stores it negative where the
    # representation was suppressed at that time, and uproot shows it unsigned.
    added = max(abs(int(np.uint64(record.first_element_index).astype(np.int64))) for record in origin)
    bounds, offset, stored, encoding, checksum = [0], [], [], [], []
    for summary, columns in zip(ntuple.cluster_summaries, ntuple.page_link_list, strict=True):
        first, stop = summary.num_first_entry, summary.num_first_entry + summary.num_entries
        listed = [
            i
            for i, record in enumerate(origin)
            if record.idx < len(columns) and not columns[record.idx].suppressed
        ]
        pages = columns[origin[listed[0]].idx].pages if listed else []
        elements = sum(page.num_elements for page in pages)
        missing = summary.num_entries - elements
        if first != bounds[-1] or missing < 0:
            raise DamagedFileError(
                f"{where}: column {name!r} has {elements} elements in the cluster of entries "
                f"[{first}, {stop}). Copy or produce the file again."
            )
        if missing:
            if first + missing > added:
                raise DamagedFileError(
                    f"{where}: column {name!r} lacks {missing} of the entries [{first}, {stop}). "
                    "Copy or produce the file again."
                )
            bounds.append(first + missing)
            offset.append(ABSENT)
            stored.append(0)
            encoding.append(0)
            checksum.append(False)
        for page in pages:
            if page.num_elements == 0:
                continue
            bounds.append(bounds[-1] + page.num_elements)
            offset.append(page.locator.offset)
            stored.append(page.locator.num_bytes)
            encoding.append(listed[0])
            checksum.append(page.has_checksum)
    table = Pages(
        bounds=np.array(bounds, np.int64),
        offset=np.array(offset, np.int64),
        stored_bytes=np.array(stored, np.int64),
        encoding=np.array(encoding, np.uint8),
        checksum=np.array(checksum, np.bool_),
        encodings=encodings,
    )
    return Column(name, type_, table, name)


def _column_encoding(where: str, name: str, record: Any) -> Encoding:
    kind, stored = _ENCODINGS[record.type]
    bits = int(record.nbits)
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
    low, high = record.min_value, record.max_value
    if low is None or not low < high or not math.isfinite(high - low):
        raise DamagedFileError(
            f"{where}: column {name!r} is quantized in the range [{low}, {high}]. "
            "Copy or produce the file again."
        )
    return Encoding(kind, dtype, bits=bits, low=float(low), high=float(high))
