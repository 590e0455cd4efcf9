"""The value types that all layers share: columns, pages, file indexes, blocks, batch layouts.

They are frozen dataclasses over plain NumPy arrays and hold no open files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "ABSENT",
    "EMBEDDED",
    "Array",
    "Block",
    "Column",
    "ColumnType",
    "Encoding",
    "FileIndex",
    "Layout",
    "Pages",
    "Part",
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
        For a scalar the native dtype, in which no value is altered.
    """

    text: str
    kind: Literal["scalar", "vector", "text", "other"]
    dtype: np.dtype[Any] | None = None

    def __str__(self) -> str:
        return str(self.dtype) if self.dtype is not None else self.text


@dataclass(frozen=True)
class Encoding:
    """How a page stores its elements.

    Attributes
    ----------
    name : str
        ``plain`` (little-endian), ``swapped`` (big-endian), ``split`` (byte planes),
        ``zigzag`` (byte planes of zigzag integers), ``bit``, ``truncated`` and ``quantized``
        (RNTuple's packed reals), ``mantissa`` and ``ranged`` (TTree's ``Float16_t`` and ``Double32_t``).
    stored : numpy.dtype
        The native dtype of an element once it is decoded, before it is widened to the column's.
    bits : int
        Bits per element of packed encodings.
    low, high : float
        Range of quantized encodings.
    stride, place : int
        Bytes of a whole leaf list and the position of this leaf in it; 0 where a column is alone.
    """

    name: str
    stored: np.dtype[Any]
    bits: int = 0
    low: float = 0.0
    high: float = 0.0
    stride: int = 0
    place: int = 0

    def page_bytes(self, elements: int) -> int:
        """Return the uncompressed size in bytes of a page, other leaves of a leaf list included."""
        if self.stride:
            return self.stride * elements
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
        Page ``i`` holds the file's entries ``[bounds[i], bounds[i + 1])``.
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
    """

    bounds: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    stored_bytes: npt.NDArray[np.int64]
    encoding: npt.NDArray[np.uint8]
    checksum: npt.NDArray[np.bool_]
    encodings: tuple[Encoding, ...]
    embedded: Mapping[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(frozen=True, eq=False)
class Column:
    """One column of one file.

    Attributes
    ----------
    name : str
    type : ColumnType
    pages : Pages or None
        None where the column is read through uproot.
    key : str
        The name under which uproot finds the column.
    leaf : str or None
        The member of a leaf list.
    """

    name: str
    type: ColumnType
    pages: Pages | None
    key: str
    leaf: str | None = None


@dataclass(frozen=True, eq=False)
class FileIndex:
    """One file's storage metadata: a frame's index holds one of these for each file.

    Attributes
    ----------
    path : str
    object_path : str
        Name of the tree or ntuple in the file.
    format : {"TTree", "RNTuple"}
    entries : int
    file_bytes : int
        Size of the file, in bytes, when it was indexed.
    identity : bytes
        16 bytes that stay the same when the file is moved or renamed.
    head : bytes
        The first bytes of a local file, when it was indexed: they change when it is written again.
    columns : mapping of str to Column
        The columns that were asked for.
    """

    path: str
    object_path: str
    format: Literal["TTree", "RNTuple"]
    entries: int
    file_bytes: int
    identity: bytes
    columns: Mapping[str, Column]
    head: bytes = b""

    @property
    def where(self) -> str:
        """The file and the object in it, as messages name them."""
        return f"{self.path}:{self.object_path}"

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the native dtype of a scalar column."""
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


@dataclass(frozen=True)
class Part:
    """One array of a batch: ``x``, ``y`` or ``w``, of shape (n, columns)."""

    columns: tuple[str, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of this part."""
        return len(self.columns) * self.dtype.itemsize


@dataclass(frozen=True)
class Layout:
    """How the parts of a batch lie side by side in a chunk's rows.

    Each part starts at a multiple of the widest item, so that a chunk's rows can be viewed as
    words of any part's size.

    Attributes
    ----------
    parts : tuple of Part
    """

    parts: tuple[Part, ...]

    @property
    def alignment(self) -> int:
        """Bytes to whose multiple each part is padded inside a row."""
        return max(part.dtype.itemsize for part in self.parts)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Position in bytes of each part inside a row."""
        positions, position = [], 0
        for part in self.parts:
            positions.append(position)
            position += -(-part.row_bytes // self.alignment) * self.alignment
        return tuple(positions)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in a chunk."""
        last = self.parts[-1]
        return self.offsets[-1] + -(-last.row_bytes // self.alignment) * self.alignment

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, each once, in the order of the parts."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.columns))
