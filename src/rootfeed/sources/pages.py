"""From the file to a page in memory: found, fetched, checked, decompressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

import numpy as np

from rootfeed.errors import DamagedFileError, RootfeedError
from rootfeed.schema import ABSENT, EMBEDDED, Array, Column, FileIndex, Pages
from rootfeed.sources.compression import (
    MOST_EXPANSION,
    DamagedPageError,
    checked_xxh3,
    decompress_into,
)
from rootfeed.sources.decoding import decode
from rootfeed.sources.failures import Located, unavailable
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage

__all__ = ["Basket", "PageReader", "overlapping", "ranges"]

_CHECKSUM_BYTES = 8

# Of a basket's key: fNbytes, fObjlen, fKeylen; at its end fNevBuf and fLast, and a byte of flags.
_KEY_HEAD = struct.Struct(">i2xi4xh")
_KEY_TAIL = struct.Struct(">iix")
_SHORTEST_KEY_BYTES = 37
_INT = struct.Struct(">i")


def overlapping(pages: Pages, start: int, stop: int) -> range:
    """Return the numbers of the pages that hold some of these entries (or elements, as `pages` has)."""
    if start >= stop:
        return range(0)
    first = pages.bounds.searchsorted(start, "right") - 1
    return range(int(first), int(pages.bounds.searchsorted(stop, "left")))


def ranges(pages: Pages, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of all page contents that these entries (or elements) need."""
    for page in overlapping(pages, start, stop):
        if pages.offset[page] >= 0:
            trailer = _CHECKSUM_BYTES if pages.checksum[page] else 0
            yield int(pages.offset[page]), int(pages.stored_bytes[page]) + trailer


@dataclass(frozen=True, eq=False)
class Basket:
    """The contents of a TTree's page of vectors.

    Attributes
    ----------
    raw : ndarray of uint8
        The entries' bytes; after them, unless the basket leaves that out, a count, and the position of
        each entry and of the end, as big-endian integers of four bytes.
    key_bytes : int
        By how much these positions are too large.
    data_bytes : int
        Bytes of the entries.
    """

    raw: Array
    key_bytes: int
    data_bytes: int

    @property
    def has_places(self) -> bool:
        """Whether the positions of entries are there."""
        return len(self.raw) > self.data_bytes

    def places(self, start: int, stop: int) -> Array:
        """Return the bytes that tell where the entries ``[start, stop)`` of the basket lie."""
        first = self.data_bytes + 4 * (start + 1)
        return self.raw[first : first + 4 * (stop - start + 1)]


@dataclass(frozen=True, eq=False)
class PageReader:
    """Reads pages of one file.

    Attributes
    ----------
    index : FileIndex
    storage : Storage
    scratch : Scratch
    stopped : threading.Event
        Looked at between pages: when it is set, what is being filled stays incomplete.
    """

    index: FileIndex
    storage: Storage
    scratch: Scratch
    stopped: Event

    def fill(self, column: Column, start: int, stop: int, out: Array) -> None:
        """Read the elements ``[start, stop)`` of a column whose pages hold nothing but elements.

        Parameters
        ----------
        column : Column
            A scalar (where elements are entries), an array, or the values of an RNTuple's vector.
        start, stop : int
            Elements of the file.
        out : ndarray
            Of the column's native dtype, shape (stop - start,).
        """
        pages = column.pages
        assert pages is not None
        for page in overlapping(pages, start, stop):
            if self.stopped.is_set():
                return
            first, end = int(pages.bounds[page]), int(pages.bounds[page + 1])
            low, high = max(start, first), min(stop, end)
            target = out[low - start : high - start]
            encoding = pages.encodings[pages.encoding[page]]
            with self.naming(column, _what(column, first, end)):
                if pages.offset[page] == ABSENT:
                    target[...] = 0
                    continue
                raw = self.contents(pages, page, end - first, max(1, column.length))
                decode(encoding, raw, end - first, low - first, target, self.scratch)

    @contextmanager
    def naming(self, column: Column, what: str) -> Iterator[None]:
        """Add file, column and entries to what is wrong with a page."""
        try:
            yield
        except DamagedPageError as error:
            raise DamagedFileError(
                f"{self.index.where}: the page of column {column.name!r} with the {what} is damaged: "
                f"{error}. Copy or produce the file again."
            ) from error
        except DamagedFileError as error:
            raise DamagedFileError(f"{error} (Column {column.name!r}, {what}.)") from error
        except (OSError, MemoryError) as error:
            with Located(lambda: f"Column {column.name!r}, {what}."):
                found = unavailable(self.index.where, "cannot be read", error)
                if found is None or isinstance(error, RootfeedError):
                    raise
                raise found from error

    def contents(self, pages: Pages, page: int, elements: int, per_entry: int = 1) -> Array:
        """Return the uncompressed bytes of a page that holds nothing but elements.

        Parameters
        ----------
        pages : Pages
        page : int
        elements : int
        per_entry : int
            Elements of an entry.
        """
        expected = pages.encodings[pages.encoding[page]].page_bytes(elements)
        if pages.offset[page] == EMBEDDED:
            data = np.frombuffer(bytearray(pages.embedded[page]), np.uint8)
            if len(data) != expected:
                raise DamagedPageError(f"it is embedded with {len(data)} bytes instead of {expected}")
            return data
        stored, stored_bytes = self._stored(pages, page)
        if self.index.format == "TTree":
            stored, whole = _plain_basket(stored, elements // per_entry, expected)
        else:
            whole = expected
            if stored_bytes > expected:
                raise DamagedPageError(
                    f"it stores {stored_bytes} bytes for {expected} uncompressed ones"
                )
        return self._decompressed(stored, whole)[:expected]

    def basket(self, pages: Pages, page: int, entries: int) -> Basket:
        """Return the contents of a TTree's page of vectors; positions of entries are not checked."""
        embedded = pages.offset[page] == EMBEDDED
        if embedded:
            # An int with the size of the data comes first.
            stored = np.frombuffer(bytearray(pages.embedded[page]), np.uint8)[_INT.size :]
            key_bytes, whole = 0, len(stored)
            data_bytes = int(_INT.unpack_from(pages.embedded[page])[0])
        else:
            stored, _ = self._stored(pages, page)
            key_bytes, whole, data_bytes = _key(stored, entries)
            stored = stored[key_bytes:]
        # A few bytes must not claim gigabytes.
        if whole > MOST_EXPANSION * len(stored):
            raise DamagedPageError(f"it stores {len(stored)} bytes for {whole} uncompressed ones")
        if data_bytes < 0 or whole not in (data_bytes, data_bytes + _INT.size * (entries + 2)):
            raise DamagedPageError(
                f"it claims {whole} uncompressed bytes for {data_bytes} bytes of data and the positions "
                f"of {entries} entries"
            )
        raw = stored if embedded else self._decompressed(stored, whole)
        if whole > data_bytes and (found := _INT.unpack_from(raw, data_bytes)[0]) != entries + 1:
            raise DamagedPageError(f"it tells {found} positions for {entries} entries")
        return Basket(raw, key_bytes, data_bytes)

    def _stored(self, pages: Pages, page: int) -> tuple[Array, int]:
        """Return a page as it lies in the file, and its size without the checksum, which is compared."""
        stored_bytes = int(pages.stored_bytes[page])
        offset = int(pages.offset[page])
        trailer = _CHECKSUM_BYTES if pages.checksum[page] else 0
        if stored_bytes == 0 or offset + stored_bytes + trailer > self.storage.file_bytes:
            raise DamagedPageError(
                f"it claims {stored_bytes} bytes at position {offset} of a file of "
                f"{self.storage.file_bytes} bytes: the file is truncated"
            )
        stored = self.scratch.array("stored", stored_bytes + trailer, np.uint8)
        self.storage.read_into(offset, stored)
        if trailer:
            checked_xxh3(stored[:stored_bytes], stored[stored_bytes:].tobytes())
        return stored[:stored_bytes], stored_bytes

    def _decompressed(self, stored: Array, whole: int) -> Array:
        if len(stored) == whole:
            return stored
        raw = self.scratch.array("page", whole, np.uint8)
        decompress_into(stored, raw)
        return raw


def _what(column: Column, first: int, end: int) -> str:
    """Name the elements of a page as messages do: by entries where they tell."""
    if column.offsets is not None:
        return f"elements [{first}, {end})"
    length = max(1, column.length)
    return f"entries [{first // length}, {-(-end // length)})"


def _key(stored: Array, entries: int) -> tuple[int, int, int]:
    """Check a basket's key (ROOT's ``TKey`` and ``TBasket`` streamers).

    Returns its size, the payload's uncompressed size, and that of the data in it. Entry offsets may
    follow the data.
    """
    if len(stored) < _SHORTEST_KEY_BYTES:
        raise DamagedPageError(f"its key has {len(stored)} bytes")
    total, whole, key_bytes = _KEY_HEAD.unpack_from(stored)
    if total != len(stored) or not _SHORTEST_KEY_BYTES <= key_bytes <= len(stored):
        raise DamagedPageError(f"its key claims {total} bytes, {key_bytes} of them for itself")
    found, last = _KEY_TAIL.unpack_from(stored, key_bytes - _KEY_TAIL.size)
    if found != entries:
        raise DamagedPageError(f"it holds {found} entries instead of {entries}")
    if len(stored) - key_bytes > whole:
        raise DamagedPageError(f"it stores {len(stored) - key_bytes} bytes for {whole}")
    return key_bytes, whole, last - key_bytes


def _plain_basket(stored: Array, entries: int, expected: int) -> tuple[Array, int]:
    """Check the key of a basket of fixed-width entries; return payload and its uncompressed size."""
    key_bytes, whole, data_bytes = _key(stored, entries)
    if data_bytes != expected:
        raise DamagedPageError(f"it holds {data_bytes} bytes instead of {expected}")
    if not expected <= whole <= expected + 4 * (entries + 4):
        raise DamagedPageError(f"it claims {whole} uncompressed bytes for {expected} bytes of data")
    return stored[key_bytes:], whole
