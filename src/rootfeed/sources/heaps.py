"""HDF5's global heaps, in which entries of any length lie: a chunk holds only where.

The HDF5 library trusts what a heap says of itself: a damaged one can keep it busy for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rootfeed import kernels
from rootfeed.schema import Array
from rootfeed.sources.compression import MOST_EXPANSION, DamagedPageError
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage

__all__ = ["POINTER", "Entries"]

POINTER = np.dtype([("count", "<u4"), ("address", "<u8"), ("index", "<u4")])
"""An entry in a chunk: its elements, the collection of a heap that holds them, and the object in it."""

_HEADER = np.dtype([("mark", "S4"), ("version", "u1"), ("reserved", "V3"), ("size", "<u8")])
_MARK = b"GCOL"
_COLLECTION_BYTES = 64 << 10  # of which the library makes none larger, unless for one object
_GROUP_BYTES = 4 << 20  # of collections in memory at once, unless one is larger
_OBJECTS = 1 << 16


@dataclass(frozen=True)
class _Collections:
    """Those that hold some entries, in the order of the file.

    Attributes
    ----------
    order : ndarray of int64, shape (n,)
        The entries that have elements, by collection.
    firsts : ndarray of int64, shape (collections + 1,)
        Which of those are in each.
    places, sizes : ndarray of int64, shape (collections,)
        Where each begins, and the bytes that it has at most, in a file of the library's.
    """

    order: Array
    firsts: Array
    places: Array
    sizes: Array


class Entries:
    """Entries of any length.

    Parameters
    ----------
    pointers : ndarray of `POINTER`, shape (n,)
    element_bytes : int
    first : int
        The number of the first one, for messages.
    file_bytes : int

    Raises
    ------
    DamagedPageError
        Where an entry claims to be in no part of the file, or to be larger than it.
    """

    def __init__(self, pointers: Array, element_bytes: int, first: int, file_bytes: int) -> None:
        self._indices = pointers["index"].astype(np.int64)
        self._sizes = pointers["count"].astype(np.int64) * element_bytes
        self._sizes[pointers["address"] == 0] = 0  # an empty one may be nowhere
        self._first, self._file_bytes = first, file_bytes
        is_there = self._sizes > 0
        address = np.where(is_there, pointers["address"], 0)
        wrong = (address > max(0, file_bytes - _HEADER.itemsize)) | (self._sizes > file_bytes)
        if wrong.any():
            raise self._wrong(int(np.argmax(wrong)))
        if self._sizes.sum(dtype=np.float64) > MOST_EXPANSION * file_bytes:
            raise DamagedPageError(f"they claim more than a file of {file_bytes} bytes can hold")
        self.offsets = np.zeros(len(pointers) + 1, np.int64)
        """Where each entry's elements begin, and the last one's end, in elements."""
        np.cumsum(self._sizes // element_bytes, out=self.offsets[1:])
        self._starts = self.offsets[:-1] * element_bytes
        self._found = self._collections(address.astype(np.int64), np.flatnonzero(is_there))

    def _collections(self, address: Array, order: Array) -> _Collections:
        if np.any(np.diff(address[order]) < 0):
            order = order[np.argsort(address[order], kind="stable")]
        ordered = address[order]
        firsts = np.flatnonzero(np.diff(ordered, prepend=-1))
        places = ordered[firsts]
        if (near := np.flatnonzero(np.diff(places) < _HEADER.itemsize)).size:
            raise self._wrong(int(order[firsts[near[0] + 1]]))
        # Objects have a header each, and begin at multiples of 8 bytes.
        taken = (self._sizes[order] + 7) // 8 * 8 + _HEADER.itemsize
        sizes = np.add.reduceat(taken, firsts) if len(firsts) else places
        sizes = np.maximum(sizes + _HEADER.itemsize, _COLLECTION_BYTES)
        ends = np.append(places[1:], self._file_bytes)
        return _Collections(
            order, np.append(firsts, len(order)), places, np.minimum(sizes, ends - places)
        )

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield position and size of what of the file holds the elements."""
        places, ends = self._found.places, self._found.places + self._found.sizes
        for low, high in self._groups():
            yield int(places[low]), int(ends[high - 1] - places[low])

    def read(self, storage: Storage, name: str, scratch: Scratch) -> Array:
        """Return the bytes of all elements, in memory of `scratch`; each collection is read once.

        Raises
        ------
        DamagedPageError
            Where an entry is not where it claims to be.
        """
        found = self._found
        out: Array = scratch.array(f"values of {name}", int(self._sizes.sum()), np.uint8)
        indices, sizes = self._indices[found.order], self._sizes[found.order]
        starts = self._starts[found.order]
        storage.prepare(self.ranges())
        for low, high in self._groups():
            heap, places, bytes_ = self._group(low, high, storage, scratch)
            begin, end = found.firsts[low], found.firsts[high]
            wrong = kernels.take_objects(
                heap,
                places,
                bytes_,
                found.firsts[low : high + 1] - begin,
                indices[begin:end],
                sizes[begin:end],
                starts[begin:end],
                scratch.array("objects of a heap", _OBJECTS, np.int64),
                out,
            )
            if wrong >= 0:
                raise self._wrong(int(found.order[begin + wrong]))
        return out

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Yield which collections are read at once: near ones, and not too many."""
        places, ends = self._found.places, self._found.places + self._found.sizes
        low, count = 0, len(places)
        breaks = np.append(np.flatnonzero(places[1:] > ends[:-1]) + 1, count)
        while low < count:
            high = int(breaks[np.searchsorted(breaks, low, side="right")])
            high = min(high, int(np.searchsorted(ends, places[low] + _GROUP_BYTES, side="right")))
            high = max(high, low + 1)
            yield low, high
            low = high

    def _group(
        self, low: int, high: int, storage: Storage, scratch: Scratch
    ) -> tuple[Array, Array, Array]:
        """Return a part of the file, and where collections lie in it, with the size that each tells."""
        found = self._found
        begin = int(found.places[low])
        read = int(found.places[high - 1] + found.sizes[high - 1]) - begin
        heap = scratch.array("heap", read, np.uint8)
        storage.read_into(begin, heap)
        places = found.places[low:high] - begin
        header = heap[places[:, None] + np.arange(_HEADER.itemsize)].view(_HEADER)[:, 0]
        ends = np.append(found.places[1:], self._file_bytes)[low:high] - begin
        wrong = (
            (header["mark"] != _MARK)
            | (header["version"] != 1)
            | (header["size"] < _HEADER.itemsize)
            | (header["size"] > (ends - places).astype(np.uint64))
        )
        if wrong.any():
            raise self._wrong(int(found.order[found.firsts[low + int(np.argmax(wrong))]]))
        sizes = header["size"].astype(np.int64)
        if (whole := int(places[-1] + sizes[-1])) > read:  # another library wrote it
            heap = scratch.grown("heap", read, whole, np.uint8)
            storage.read_into(begin + read, heap[read:])
        return heap, places, sizes

    def _wrong(self, entry: int) -> DamagedPageError:
        return DamagedPageError(f"entry {self._first + entry} is not in the heap where it should be")
