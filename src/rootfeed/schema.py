"""What storage knows, in types that all layers share: columns, pages, file indexes, blocks.

They are frozen dataclasses over plain NumPy arrays and hold no open files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "ABSENT",
    "EMBEDDED",
    "Array",
    "Block",
    "Column",
    "ColumnType",
    "Encoding",
    "FileIndex",
    "Jagged",
    "Pages",
    "Texts",
]

Array = npt.NDArray[Any]

ABSENT = -1
"""Page offset of entries that a file does not store: they read as zero (deferred columns)."""

EMBEDDED = -2
"""Page offset of entries that lie inside the file's metadata (a TTree's embedded basket)."""


@dataclass(frozen=True)
class ColumnType:
    """What a column holds in each entry.

    Attributes
    ----------
    text : str
        The type as the file declares it, such as ``"float"`` or ``"std::vector<float>"``.
    kind : {"scalar", "vector", "text", "other"}
        One number, several numbers, characters, or anything else.
    dtype : numpy.dtype or None
        For a scalar the native dtype, in which no value is altered. For a vector the native dtype of its
        elements where they are plain numbers; None where they are not (text, objects, vectors), so that
        only awkward arrays hold it.
    shape : tuple of int
        Of an array of fixed dimensions those of an entry, such as ``(2, 3)``; empty for everything else.
        As a vector it is flattened, the last dimension fastest.
    unit : str
        What integers count, of dates, times and durations, such as ``"ms"`` or ``"days"``; else empty.
    """

    text: str
    kind: Literal["scalar", "vector", "text", "other"]
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()
    unit: str = ""

    @property
    def is_jagged(self) -> bool:
        """Whether `Jagged` holds its entries, not one number each."""
        return self.kind in ("vector", "text")

    def counts_as(self, other: ColumnType) -> bool:
        """Tell whether a number means the same in both, as far as they say what is counted."""
        return not self.unit or not other.unit or self.unit == other.unit

    def __str__(self) -> str:
        return str(self.dtype) if self.kind == "scalar" else self.text

    def __repr__(self) -> str:
        return f"<{self}>"  # of hundreds of columns, a line each is too much


@dataclass(frozen=True, eq=False)
class Jagged:
    """Entries of a vector column: entry ``i`` holds ``values[offsets[i] : offsets[i + 1]]``.

    Attributes
    ----------
    values : ndarray, shape (offsets[-1],)
        In the native dtype of the column's elements.
    offsets : ndarray of int64, shape (entries + 1,)
        Starts at 0 and never falls. Columns of one collection may share this very array.
    """

    values: Array
    offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Elements of each entry."""
        return np.diff(self.offsets)

    def copy(self) -> Self:
        """Return the same entries in memory of their own."""
        return type(self)(self.values[: self.offsets[-1]].copy(), self.offsets.copy())

    @classmethod
    def concatenated(cls, parts: Sequence[Self], dtype: np.dtype[Any]) -> Self:
        """Return the entries of several, one after another, in one dtype."""
        firsts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        ends = [part.offsets[1:] + first for part, first in zip(parts, firsts, strict=False)]
        values = [part.values[: part.offsets[-1]] for part in parts]
        joined = np.concatenate(values, dtype=dtype, casting="unsafe")
        return cls(joined, np.concatenate([firsts[:1], *ends]))

    def taken(self, entries: npt.NDArray[np.integer[Any]]) -> Self:
        """Return some entries, in memory of their own."""
        lengths = self.lengths[entries]
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        starts = np.repeat(self.offsets[:-1][entries] - offsets[:-1], lengths)
        return type(self)(self.values[starts + np.arange(offsets[-1])], offsets)

    def as_awkward(self, shape: tuple[int, ...] = ()) -> ak.Array:
        """Return an awkward array over the same memory; `shape` is that of fixed arrays."""
        import awkward as ak

        values = self.values[: self.offsets[-1]]
        if shape:
            return ak.Array(ak.contents.NumpyArray(values.reshape(len(self), *shape)))
        return ak.Array(
            ak.contents.ListOffsetArray(ak.index.Index64(self.offsets), ak.contents.NumpyArray(values))
        )


class Texts(Jagged):
    """Entries of a text column: `values` are bytes (uint8), of UTF-8 mostly, which nobody checks."""

    def as_awkward(self, shape: tuple[int, ...] = ()) -> ak.Array:
        """Return an awkward array of strings over the same memory."""
        import awkward as ak

        letters = ak.contents.NumpyArray(
            self.values[: self.offsets[-1]], parameters={"__array__": "char"}
        )
        offsets = ak.index.Index64(self.offsets)
        return ak.Array(
            ak.contents.ListOffsetArray(offsets, letters, parameters={"__array__": "string"})
        )


@dataclass(frozen=True)
class Encoding:
    """How a page stores its elements.

    Attributes
    ----------
    name : str
        ``plain`` (little-endian), ``swapped`` (big-endian), ``split`` (byte planes),
        ``zigzag`` (byte planes of zigzag integers), ``bit``, ``truncated`` and ``quantized``
        (RNTuple's packed reals), ``mantissa`` and ``ranged`` (TTree's ``Float16_t`` and ``Double32_t``),
        ``text`` and ``counted text`` (a TTree's texts, whose length is in one byte, and in four after
        255, or always in four); of offsets also ``delta`` (byte planes of the differences).
    stored : numpy.dtype
        The native dtype of an element once it is decoded, before it is widened to the column's.
    bits : int
        Bits per element of packed encodings.
    low, high : float
        Range of quantized encodings.
    stride, place : int
        Bytes of a whole leaf list and the position of this leaf in it; 0 where a column is alone.
    length : int
        Elements of a leaf that is an array, in each entry.
    header_bytes : int
        Bytes before each entry's elements where a TTree's basket says where each entry lies.
    """

    name: str
    stored: np.dtype[Any]
    bits: int = 0
    low: float = 0.0
    high: float = 0.0
    stride: int = 0
    place: int = 0
    length: int = 1
    header_bytes: int = 0

    def page_bytes(self, elements: int) -> int:
        """Return the uncompressed size in bytes of a page, other leaves of a leaf list included.

        Without the headers of its entries, of which there are fewer.
        """
        if self.stride:
            return self.stride * (elements // self.length)
        if self.name == "mantissa":
            return 3 * elements
        if self.name == "ranged":
            return 4 * elements
        if self.bits:
            return (elements * self.bits + 7) // 8
        return elements * self.stored.itemsize


@dataclass(frozen=True, eq=False)
class Pages:
    """Where the pages of one column lie, in the order of their entries.

    Attributes
    ----------
    bounds : ndarray of int64, shape (pages + 1,)
        Page ``i`` holds the file's entries ``[bounds[i], bounds[i + 1])``; its elements where these are
        the values of an RNTuple's vector, or of an array (see `Column`).
    offset : ndarray of int64, shape (pages,)
        Position in the file in bytes, or `ABSENT`, or `EMBEDDED`.
    stored_bytes : ndarray of int64, shape (pages,)
        Size in the file, compressed, without a trailing checksum.
    encoding : ndarray of uint8, shape (pages,)
        Position in `encodings`.
    checksum : ndarray of bool, shape (pages,)
        Whether an xxhash3 checksum of 8 bytes follows the page.
    encodings : tuple of Encoding
    embedded : mapping of int to bytes
        Contents of embedded pages, by page number.
    clusters : ndarray of int64, shape (pages, 2), or None
        For offsets: the elements ``[first, stop)`` of the cluster that the page is part of. An offset
        says where an entry's elements end, counted from `first`.
    label : bytes
        How a TTree's pages name their column; empty where pages have no names.
    """

    bounds: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    stored_bytes: npt.NDArray[np.int64]
    encoding: npt.NDArray[np.uint8]
    checksum: npt.NDArray[np.bool_]
    encodings: tuple[Encoding, ...]
    embedded: Mapping[int, bytes] = field(default_factory=dict)
    clusters: npt.NDArray[np.int64] | None = None
    label: bytes = b""

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def cluster_bounds(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of offsets: the entries at which clusters begin, and the elements; at last where all end."""
        assert self.clusters is not None
        if not len(self):
            return self.bounds, np.zeros(1, np.int64)
        new = np.any(self.clusters[1:] != self.clusters[:-1], axis=1)
        first = np.concatenate([[0], np.flatnonzero(new) + 1])
        entries = np.append(self.bounds[first], self.bounds[-1])
        return entries, np.append(self.clusters[first, 0], self.clusters[-1, 1])


@dataclass(frozen=True, eq=False)
class Column:
    """One column of one file.

    A vector's numbers of elements are in `offsets` (RNTuple), `length` (arrays), or in the pages (a
    TTree's baskets).

    Attributes
    ----------
    name : str
    type : ColumnType
    pages : Pages or None
        None where the column is read through uproot, or has `offsets` alone. Bounds are in entries; in
        elements where there are `offsets` or a `length`.
    key : str
        What uproot finds the column by: the path of its branch, the number of its field.
    leaf : str or None
        The member of a leaf list.
    offsets : Pages or None
        Where the elements of each entry of an RNTuple's vector end. Columns of one collection share it.
        The column with a collection's sizes has it too, and no pages of its own.
    length : int
        Elements in each entry of an array; 0 where this is none.
    counts : Column or None
        The scalar with the number of elements of each entry, where a TTree's baskets leave the positions
        of entries out.
    value_bytes : float
        Decoded bytes of an entry's elements, on average: of a TTree's vector an estimate.
    """

    name: str
    type: ColumnType
    pages: Pages | None
    key: str
    leaf: str | None = None
    offsets: Pages | None = None
    length: int = 0
    counts: Column | None = None
    value_bytes: float = 0.0

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The native dtype of its elements, which are bytes where it holds text."""
        return np.dtype(np.int8) if self.type.kind == "text" else self.type.dtype

    @property
    def entry_bounds(self) -> npt.NDArray[np.int64]:
        """Entries between which pages end, the first and the last one of the file included.

        Of an RNTuple's vector those of its clusters: within one, where the pages of its values end
        depends on the vectors (`page_bounds` estimates it).
        """
        if self.offsets is not None:
            return self.offsets.bounds if self.pages is None else self.offsets.cluster_bounds[0]
        assert self.pages is not None, self.name
        if not self.length:
            return self.pages.bounds
        entries = self.pages.bounds // self.length
        whole: npt.NDArray[np.int64] = entries[entries * self.length == self.pages.bounds]
        return whole

    @property
    def page_bounds(self) -> npt.NDArray[np.float64]:
        """Entries at which each page begins, and the last one ends, shape (pages + 1,).

        A page that holds a part of an entry ends between two whole numbers. Of an RNTuple's vector this
        is an estimate: the vectors of a cluster are taken to be equally long.
        """
        assert self.pages is not None, self.name
        if self.offsets is None:
            return self.pages.bounds / max(self.length, 1)
        entries, elements = self.offsets.cluster_bounds
        return np.interp(self.pages.bounds, elements, entries)


class Version(NamedTuple):
    """What tells a file from another one that takes its place.

    Attributes
    ----------
    file_bytes : int
    head : bytes
        The first bytes: a ROOT file's own size, places and UUID.
    tag : str
        What a server says of its version (an ETag, or the time of its last change); empty where it says
        nothing, and for local files.
    """

    file_bytes: int
    head: bytes
    tag: str = ""


@dataclass(frozen=True, eq=False)
class FileIndex:
    """One file's storage metadata: a frame's index holds one of these for each file.

    Attributes
    ----------
    path : str
    object_path : str
        Name of the tree or ntuple in the file.
    format : {"TTree", "RNTuple", "Parquet", "Arrow", "HDF5", "CSV", "arrays"}
    entries : int
    file_bytes : int
        Size of the file, in bytes, when it was indexed.
    identity : bytes
        16 bytes that stay the same when the file is moved or renamed.
    head, tag : bytes, str
        The rest of the `version` that was indexed.
    columns : mapping of str to Column
        The columns that were asked for.
    duplicates : mapping of str to str
        Those of them whose name others have, too, and what to say of that.
    joined : bytes
        The identities of what lies beside the file, and of what fills its missing values; empty where
        nothing does. States know them; splits do not.
    address : object
        How the file is reached, as its source knows it; the path says no secrets.
    stamp : bytes
        What tells this version of the file from all others, also in another process (`sources.known`);
        empty where nothing does, and of what is made of several files.
    """

    path: str
    object_path: str
    format: Literal["TTree", "RNTuple", "Parquet", "Arrow", "HDF5", "CSV", "arrays"]
    entries: int
    file_bytes: int
    identity: bytes
    columns: Mapping[str, Column]
    head: bytes = b""
    duplicates: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""
    joined: bytes = b""
    address: Any = field(default=None, repr=False)
    stamp: bytes = field(default=b"", repr=False)

    @property
    def version(self) -> Version:
        """What the file was when it was indexed."""
        return Version(self.file_bytes, self.head, self.tag)

    @property
    def where(self) -> str:
        """The file and the object in it, as messages name them."""
        return f"{self.path}:{self.object_path}"

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the native dtype of a scalar column, or of a vector's elements."""
        dtype = self.columns[name].type.dtype
        assert dtype is not None, name
        return dtype


@dataclass(frozen=True)
class Block:
    """Consecutive entries ``[start, stop)`` of one file: the unit of reading and of coarse shuffling."""

    file: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start
