"""What a file's metadata says, in plain values: the same, whoever parsed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt
from numpy import int64

from rootfeed.schema import Array, Column, ColumnType, Encoding

__all__ = [
    "Baskets",
    "BranchOrigin",
    "BranchRecord",
    "Cluster",
    "ColumnRecord",
    "Contents",
    "EmbeddedBasket",
    "FieldRecord",
    "Listing",
    "Ntuple",
    "PageRecord",
    "UnknownError",
    "listing_of",
]

Places = npt.NDArray[int64]


class UnknownError(Exception):
    """Our own readers do not know this to the last byte: uproot reads the whole file."""


class Listing(NamedTuple):
    """The columns of a tree or ntuple, in the file's order.

    Files of one production share it: there is nothing in it that differs between them.

    Attributes
    ----------
    columns : mapping of str to (ColumnType, object)
        Type of each, and what its source knows of it; of several of one name the first.
    others : mapping of str to tuple of ColumnType
        Names that several columns have, and the types of all of them.
    places : mapping of str to int
        In which order the columns come.
    """

    columns: Mapping[str, tuple[ColumnType, Any]]
    others: Mapping[str, tuple[ColumnType, ...]]
    places: Mapping[str, int]


def listing_of(found: Iterable[tuple[str, ColumnType, Any]]) -> Listing:
    """Return the listing of columns, each with its name and type."""
    columns: dict[str, tuple[ColumnType, Any]] = {}
    others: dict[str, tuple[ColumnType, ...]] = {}
    for name, type_, origin in found:
        first, _ = columns.setdefault(name, (type_, origin))
        if first is not type_:
            others[name] = (*others.get(name, (first,)), type_)
    return Listing(columns, others, {name: place for place, name in enumerate(columns)})


@dataclass(frozen=True, eq=False)
class Contents:
    """A tree or ntuple, parsed.

    Attributes
    ----------
    entries : int
    listing : function
        Returns its `Listing`.
    column : function of where, name, type, origin and shared
        Returns a column with its pages; `shared` holds what columns have in common.
    """

    entries: int
    listing: Callable[[], Listing]
    column: Callable[[str, str, ColumnType, Any, dict[Any, Any]], Column]


# --- TTree ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class BranchOrigin:
    """Where a column comes from.

    Attributes
    ----------
    number : int
        Of its branch: branches are counted as they come in the file, each before those below it.
    key : str
        Its key in the tree.
    leaf : str or None
        The leaf of a leaf list.
    encoding : Encoding or None
        None where only uproot reads it.
    length : int
        Elements in each entry of an array; 0 where this is none.
    refused : str
        Why not even uproot reads it, or not rightly; else empty.
    leaves_positions_out : bool
        Whether it was written with ROOT's feature ``kGenerateOffsetMap``: positions that counts tell are
        left out, and for others there are sizes.
    counter : tuple of str, ColumnType and BranchOrigin, or None
        The branch with the counts, where positions are left out.
    """

    number: int
    key: str
    leaf: str | None = None
    encoding: Encoding | None = None
    length: int = 0
    refused: str = ""
    leaves_positions_out: bool = False
    counter: tuple[str, ColumnType, BranchOrigin] | None = None


class EmbeddedBasket(NamedTuple):
    """A basket that lies in its tree's metadata.

    Attributes
    ----------
    data : bytes
        The entries, uncompressed.
    positions : ndarray or None
        Where each entry begins and the last one ends; None where all have one size.
    """

    data: bytes
    positions: Array | None


class Baskets(NamedTuple):
    """Where the baskets of a branch lie, the embedded ones at last.

    Attributes
    ----------
    bounds : ndarray of int64, shape (baskets + 1,)
        Entries between which they end.
    offset, stored_bytes : ndarray of int64
        Of each that is not embedded, with its key, which it begins with.
    embedded : sequence of EmbeddedBasket
    """

    bounds: Places
    offset: Places
    stored_bytes: Places
    embedded: Sequence[EmbeddedBasket] = ()


@dataclass(frozen=True, eq=False)
class BranchRecord:
    """A branch of a tree.

    Attributes
    ----------
    name : str
    entries : int
    whole_bytes : int
        What was written, uncompressed, with the keys; 0 where that is not told.
    has_positions : bool
        Whether baskets may say where each entry lies (``fEntryOffsetLen``).
    other_file : str
        Name of the file that its baskets lie in; empty where it is the tree's own.
    baskets : function
        Returns where they lie.
    """

    name: str
    entries: int
    whole_bytes: int
    has_positions: bool
    other_file: str
    baskets: Callable[[], Baskets]


# --- RNTuple: records of the binary format specification ------------------------------------------


class FieldRecord(NamedTuple):
    """A field of an ntuple.

    Attributes
    ----------
    name, type_name : str
    parent : int
        Number of the field around it; its own where there is none.
    role : int
        Its structural role.
    repetition : int
        Elements of an array; 0 where this is none.
    source : int or None
        Number of the field that a projected one shows.
    """

    name: str
    type_name: str
    parent: int
    role: int
    repetition: int
    source: int | None


class ColumnRecord(NamedTuple):
    """A column of an ntuple: one representation of a field.

    Attributes
    ----------
    number : int
        Its place in the lists of pages.
    field : int
        Number of the field.
    representation : int
        The first one is 0.
    type, bits : int
        Of its elements.
    added : int
        The first element that is stored; 0 unless the column was added while the ntuple was written.
    low, high : float or None
        The range of quantized reals.
    """

    number: int
    field: int
    representation: int
    type: int
    bits: int
    added: int
    low: float | None
    high: float | None


class PageRecord(NamedTuple):
    """Elements, offset in the file and stored bytes of a page, and whether a checksum follows."""

    elements: int
    offset: int
    stored_bytes: int
    has_checksum: bool


class Cluster(Protocol):
    """Entries ``[start, stop)`` of an ntuple, and their pages."""

    @property
    def start(self) -> int:
        """The first entry."""

    @property
    def stop(self) -> int:
        """The entry after the last one."""

    def pages(self, column: ColumnRecord) -> list[PageRecord] | None:
        """Return a column's pages; None where it is suppressed here, or was added later."""


@dataclass(frozen=True, eq=False)
class Ntuple:
    """An ntuple.

    Attributes
    ----------
    entries : int
    fields : sequence of FieldRecord
        By their numbers.
    columns : sequence of ColumnRecord
        By their numbers.
    clusters : sequence of Cluster
        In the file's order.
    """

    entries: int
    fields: Sequence[FieldRecord]
    columns: Sequence[ColumnRecord]
    clusters: Sequence[Cluster]
