"""From the file to a page in memory: found, fetched, checked, decompressed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
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
from rootfeed.sources.keys import has_sizes, is_labelled, label_bytes, name_of, read_key
from rootfeed.sources.lots import Lots
from rootfeed.sources.metadata import open_object
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Address, Storage

__all__ = ["Basket", "PageReader", "overlapping", "ranges"]

_CHECKSUM_BYTES = 8

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
    lots : Lots, optional
        What is filled from pages that were read together.
    """

    index: FileIndex
    storage: Storage
    scratch: Scratch
    stopped: Event
    lots: Lots | None = None

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
        if self.lots is not None and self.lots.fill(column, start, stop, out):
            return
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
            key_bytes, whole = _plain_basket(stored, elements // per_entry, expected)
            self.check_label(stored, pages)
            stored = stored[key_bytes:]
        else:
            whole = expected
            if stored_bytes > expected:
                raise DamagedPageError(
                    f"it stores {stored_bytes} bytes for {expected} uncompressed ones"
                )
        return self._decompressed(stored, whole)[:expected]

    def basket(self, pages: Pages, page: int, entries: int) -> Basket:
        """Return the contents of a TTree's page of vectors; positions of entries are not checked."""
        embedded, sizes = pages.offset[page] == EMBEDDED, False
        if embedded:
            # An int with the size of the data comes first.
            stored = np.frombuffer(bytearray(pages.embedded[page]), np.uint8)[_INT.size :]
            key_bytes, whole = 0, len(stored)
            data_bytes = int(_INT.unpack_from(pages.embedded[page])[0])
        else:
            stored, _ = self._stored(pages, page)
            key_bytes, whole, data_bytes = read_key(stored, entries)
            self.check_label(stored, pages)
            sizes = whole > data_bytes and has_sizes(stored, key_bytes)
            stored = stored[key_bytes:]
        _bounded(stored, whole)
        if data_bytes < 0 or whole not in (data_bytes, data_bytes + _INT.size * (entries + 2)):
            raise DamagedPageError(
                f"it claims {whole} uncompressed bytes for {data_bytes} bytes of data and the positions "
                f"of {entries} entries"
            )
        raw = stored if embedded else self._decompressed(stored, whole)
        if whole > data_bytes and (found := _INT.unpack_from(raw, data_bytes)[0]) != entries + 1:
            raise DamagedPageError(f"it tells {found} positions for {entries} entries")
        if sizes:
            places = raw[data_bytes + _INT.size :].view(">i4")[:entries]
            places[:] = key_bytes + np.cumsum(places, dtype=np.int64)
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

    def check_labels(self, column: Column, pages: Pages, start: int, stop: int) -> None:
        """Refuse a TTree's pages that are another column's, before somebody else reads them."""
        found = [page for page in overlapping(pages, start, stop) if pages.offset[page] >= 0]
        sizes = np.clip(pages.stored_bytes[found], 0, label_bytes(pages.label)).tolist()
        heads = list(zip(pages.offset[found].tolist(), sizes, strict=True))
        self.storage.prepare(heads)
        for page, (offset, size) in zip(found, heads, strict=True):
            with self.naming(column, f"entries [{pages.bounds[page]}, {pages.bounds[page + 1]})"):
                head = self.scratch.array("head", size, np.uint8)
                self.storage.read_into(offset, head)
                self.check_label(head, pages)

    def check_baskets(self, column: Column, pages: Pages, start: int, stop: int) -> None:
        """Check all that a TTree's pages say of themselves, whatever their contents are."""
        self.storage.prepare(ranges(pages, start, stop))
        for page in overlapping(pages, start, stop):
            first, end = int(pages.bounds[page]), int(pages.bounds[page + 1])
            if pages.offset[page] == EMBEDDED:
                continue
            with self.naming(column, f"entries [{first}, {end})"):
                stored, _ = self._stored(pages, page)
                key_bytes, whole, _ = read_key(stored, end - first)
                self._decompressed(_bounded(stored[key_bytes:], whole), whole)

    def check_stored(self, column: Column, pages: Pages, start: int, stop: int) -> None:
        """Compare all of an RNTuple's pages, which hold these entries, with their checksums."""
        self.storage.prepare(ranges(pages, 0, int(pages.bounds[-1])))
        with self.naming(column, f"entries [{start}, {stop})"):
            for page in range(len(pages)):
                self._stored(pages, page)

    def check_label(self, stored: Array, pages: Pages) -> None:
        """Refuse a TTree's page that is another column's, by the name in its key.

        A branch that was renamed keeps its pages, so a name that no branch has is no fault.
        """
        if is_labelled(stored, pages.label):
            return
        name = name_of(stored)
        if name in _branches(self.index.address, self.index.object_path, self.index.identity):
            raise DamagedPageError(f"it lies where a page of the column {name!r} is")

    def _decompressed(self, stored: Array, whole: int) -> Array:
        if len(stored) == whole:
            return stored
        raw = self.scratch.array("page", whole, np.uint8)
        decompress_into(stored, raw)
        return raw


@lru_cache(maxsize=1000)
def _branches(address: Address, object_path: str, identity: bytes) -> frozenset[str]:
    """Return the names of a tree's branches that were not renamed, as far as the file tells."""
    from rootfeed.sources.branches import first_names

    with open_object(address, object_path) as found:
        return first_names(found.handle)


def _what(column: Column, first: int, end: int) -> str:
    """Name the elements of a page as messages do: by entries where they tell."""
    if column.offsets is not None:
        return f"elements [{first}, {end})"
    length = max(1, column.length)
    return f"entries [{first // length}, {-(-end // length)})"


def _bounded(stored: Array, whole: int) -> Array:
    """Return a page's bytes, of which a few must not claim gigabytes."""
    if whole > MOST_EXPANSION * len(stored):
        raise DamagedPageError(f"it stores {len(stored)} bytes for {whole} uncompressed ones")
    return stored


def _plain_basket(stored: Array, entries: int, expected: int) -> tuple[int, int]:
    """Check the key of a basket of fixed-width entries; return its size and the payload's."""
    key_bytes, whole, data_bytes = read_key(stored, entries)
    if data_bytes != expected:
        raise DamagedPageError(f"it holds {data_bytes} bytes instead of {expected}")
    if not expected <= whole <= expected + 4 * (entries + 4):
        raise DamagedPageError(f"it claims {whole} uncompressed bytes for {expected} bytes of data")
    return key_bytes, whole
