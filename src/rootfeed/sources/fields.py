"""RNTuple: from uproot's field and column records to columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rootfeed.schema import ColumnType
from rootfeed.sources.records import ColumnRecord, FieldRecord, Ntuple

__all__ = ["OFFSETS", "Origin", "columns_below", "fields"]

_FIELD_DTYPES: dict[str, Any] = {
    "bool": np.bool_,
    "char": np.int8,
    "std::byte": np.uint8,
    "float": np.float32,
    "double": np.float64,
    **{f"std::int{bits}_t": np.dtype(f"i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"std::uint{bits}_t": np.dtype(f"u{bits // 8}") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a column comes from.

    Attributes
    ----------
    field : int
        Number of the field.
    values : sequence of ColumnRecord
        Those of its values, the first representation first; empty where only uproot reads it.
    offsets : sequence of ColumnRecord
        Those of the offsets of the collection that it is part of, or whose sizes it is.
    length : int
        Elements in each entry of an array; 0 where this is none.
    """

    field: int
    values: Sequence[ColumnRecord] = ()
    offsets: Sequence[ColumnRecord] = ()
    length: int = 0


OFFSETS = frozenset({0x0E, 0x0F, 0x1A, 0x1B})
"""Types of columns that say where elements end (RNTuple binary format specification)."""

_OPTIONALS = ("std::optional", "std::unique_ptr")
"""Stored as collections of one element at most, and no vectors all the same."""

_BASE_CLASS = re.compile(r"\.?:_\d+")

_CARDINALITY = re.compile(r"ROOT::RNTupleCardinality<(.*)>")

# Structural roles of a field (RNTuple binary format specification).
_LEAF, _COLLECTION, _RECORD = 0, 1, 2


def fields(ntuple: Ntuple) -> Iterator[tuple[str, ColumnType, Origin]]:
    """Yield each field with its name and type; of collections of records also the members.

    Names are those of ROOT's RDataFrame: ``Jet.pt``.
    """
    listing = _Listing(ntuple.fields, ntuple.columns)
    found = [
        each
        for number, record in enumerate(listing.records)
        if record.parent == number
        for each in listing.walk(number, "", None)
    ]
    paths = {path for path, _, _ in found}
    for path, type_, origin in found:
        # A base class's members are the class's own in ROOT, unless it has another one of that name.
        name = _BASE_CLASS.sub("", path)
        yield path if name in paths else name, type_, origin


def columns_below(ntuple: Ntuple, number: int) -> list[ColumnRecord]:
    """Return the column records of a field and of all fields below it."""
    listing = _Listing(ntuple.fields, ntuple.columns)
    todo, seen, records = [number], set[int](), []
    while todo:
        field = listing.physical(todo.pop())
        if field in seen:  # a damaged file can make a field its own descendant
            continue
        seen.add(field)
        records += listing.columns.get(field, [])
        todo += listing.children.get(field, [])
    return records


class _Listing:
    """Goes through the fields of an ntuple."""

    def __init__(self, records: Sequence[FieldRecord], columns: Sequence[ColumnRecord]) -> None:
        self.records = records
        self.children: dict[int, list[int]] = {}
        for number, record in enumerate(self.records):
            if record.parent != number:
                self.children.setdefault(record.parent, []).append(number)
        self.columns: dict[int, list[ColumnRecord]] = {}
        for column in sorted(columns, key=lambda column: column.representation):
            self.columns.setdefault(column.field, []).append(column)

    def walk(
        self, number: int, prefix: str, offsets: Sequence[ColumnRecord] | None
    ) -> Iterator[tuple[str, ColumnType, Origin]]:
        """Yield a field and what is below it; `offsets` are those of the collection around it."""
        record = self.records[number]
        name = prefix + record.name
        if record.repetition or record.role == _COLLECTION:
            yield from self._repeated(number, name, offsets)
        elif record.role == _RECORD:
            for child in self.children.get(number, []):
                yield from self.walk(child, f"{name}.", offsets)
        elif record.role == _LEAF:
            yield self._leaf(number, name, offsets)
        else:
            yield name, _type(record.type_name, "other", offsets), Origin(number)

    def _leaf(
        self, number: int, name: str, offsets: Sequence[ColumnRecord] | None
    ) -> tuple[str, ColumnType, Origin]:
        type_name = self.records[number].type_name
        cardinality = _CARDINALITY.fullmatch(type_name)
        inner, columns = self._number(number)
        dtype = _FIELD_DTYPES.get(cardinality[1] if cardinality else inner)
        if dtype is None or (cardinality and offsets is not None):
            is_text = inner.startswith("std::string")
            type_ = _type(type_name, "text" if is_text else "other", offsets)
            if not is_text or offsets is not None:
                return name, type_, Origin(number)
            ends = [record for record in columns if record.type in OFFSETS]
            characters = [record for record in columns if record.type not in OFFSETS]
            return name, type_, Origin(number, characters, ends)
        if cardinality:
            offsets_of, columns = columns, self._elements(self.physical(number))
            type_ = ColumnType(type_name, "scalar", np.dtype(dtype))
            return name, type_, Origin(number, columns, offsets_of)
        type_ = _type(type_name, "scalar", offsets, np.dtype(dtype))
        return name, type_, Origin(number, columns, offsets or ())

    def _repeated(
        self, number: int, name: str, around: Sequence[ColumnRecord] | None
    ) -> Iterator[tuple[str, ColumnType, Origin]]:
        """Yield an array or a collection, and the members of a collection of records."""
        record = self.records[number]
        type_ = ColumnType(record.type_name, "vector")
        below = self.children.get(number, [])
        if around is not None or record.type_name.startswith(_OPTIONALS) or len(below) > 1:
            yield name, type_, Origin(number)
            return
        # A std::bitset has its column itself.
        inner = below[0] if below else number
        shape: tuple[int, ...] = (record.repetition,) if record.repetition else ()
        for _ in self.records:  # a damaged file can make a field its own descendant
            again, deeper = self.records[inner].repetition, self.children.get(inner, [])
            if inner == number or not shape or not again or len(deeper) != 1:
                break
            shape, inner = (*shape, again), deeper[0]
        role = self.records[inner].role
        offsets = self.columns.get(self.physical(number), ())
        if role == _LEAF and not (below and self.records[inner].repetition):
            element, columns = self._number(inner)
            bits = record.type_name.startswith("std::bitset")
            dtype = np.bool_ if bits else _FIELD_DTYPES.get(element)
            if dtype is None:
                yield name, type_, Origin(number)
            else:
                type_ = ColumnType(record.type_name, "vector", np.dtype(dtype), shape)
                length = math.prod(shape) if shape else 0
                yield name, type_, Origin(number, columns, () if length else offsets, length)
            return
        yield name, type_, Origin(number)
        if role == _RECORD and not record.repetition:
            for child in self.children.get(inner, []):
                yield from self.walk(child, f"{name}.", offsets)

    def _number(self, number: int) -> tuple[str, Sequence[ColumnRecord]]:
        """Return type and column records of the number in a field."""
        number, type_name = self.physical(number), self.records[number].type_name
        # An enumeration or std::atomic keeps its number in a subfield "_0".
        while number not in self.columns:
            below = self.children.get(number, [])
            if len(below) != 1 or below[0] <= number:
                break
            number = below[0]
            type_name = self.records[number].type_name
        return type_name, self.columns.get(number, ())

    def _elements(self, number: int) -> Sequence[ColumnRecord]:
        """Return records of a column with an element for each one of a collection, if there is any."""
        below = self.children.get(number, [])
        for _ in self.records:  # a damaged file can make a field its own descendant
            if not below or self.records[below[0]].repetition:
                break
            number = self.physical(below[0])
            if number in self.columns:
                return self.columns[number]
            below = self.children.get(number, [])
        return ()

    def physical(self, number: int) -> int:
        """Return the field whose columns a field has: a projected one has another's."""
        source = self.records[number].source
        return number if source is None else source


def _type(
    text: str, kind: Any, offsets: Sequence[ColumnRecord] | None, dtype: np.dtype[Any] | None = None
) -> ColumnType:
    """Return the type of a field, or of a collection's member, as RDataFrame gives it."""
    if offsets is None:
        return ColumnType(text, kind, dtype)
    return ColumnType(f"ROOT::VecOps::RVec<{text}>", "vector", dtype)
