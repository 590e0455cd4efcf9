"""Many small pages, of several columns, in one go: read together, and decoded together.

Where pages hold some thousand elements, as those of NanoAOD do, what is done for each of them in
Python costs more than its bytes do. A lot is a run of pages, of one column after another, whose bytes
stay in the cache of the processor. Each of its pages is compared with its checksum and decompressed; all
else is done for the lot, or for a column in it, by compiled loops.

Whatever is unusual or wrong is left to `PageReader.fill`, which reads page by page, and says what is
wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.errors import RootfeedError
from rootfeed.kernels.decoding import CODINGS
from rootfeed.schema import Array, Column, Encoding, FileIndex, Pages
from rootfeed.sources.compression import DamagedPageError, checked_xxh3, decompress_into
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage

__all__ = ["Lots", "Wanted", "prepare"]

Numbers = npt.NDArray[np.int64]

_LOT_BYTES = 1 << 19
"""Of a lot, uncompressed, about."""

_LARGE_BYTES = 1 << 18
"""A larger page, uncompressed, is read by itself."""

_GAP_BYTES = 1 << 11
"""Reading so many bytes in vain costs less than another read."""

_WORDS = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}

_WORD_BYTES = 8
"""Pages begin at multiples of it in memory."""


Wanted = tuple[Column, int, int]
"""Elements ``[start, stop)`` of a column."""


class _Pages(NamedTuple):
    """Pages of some columns; each array has shape (pages,) and dtype int64.

    Attributes
    ----------
    offset, stored_bytes : ndarray
    trailer : ndarray
        Bytes of the checksum after each.
    elements, entries : ndarray
        In each.
    expected : ndarray
        Uncompressed bytes of the elements.
    column : ndarray
        Which of the columns each is of.
    """

    offset: Numbers
    stored_bytes: Numbers
    trailer: Numbers
    elements: Numbers
    entries: Numbers
    expected: Numbers
    column: Numbers


@dataclass(frozen=True, eq=False)
class _Table:
    """Columns whose pages are usual.

    Attributes
    ----------
    columns : dict of Column to int
        Their numbers.
    codings : sequence of int
        Of `kernels.decode_pages`.
    places : ndarray of int64, shape (columns, 7)
        Of `kernels.select_pages`: the columns keep what has these addresses.
    labels : ndarray of uint8
    label_bounds : ndarray of int64, shape (columns + 1,)
    """

    columns: dict[Column, int]
    codings: list[int]
    places: Numbers
    labels: Array
    label_bounds: Numbers


@dataclass(frozen=True, eq=False)
class _Lot:
    """Some pages, decompressed: where in `raw` each begins, and its elements."""

    pages: range
    raw: Array
    places: Numbers
    elements: Numbers


class Lots:
    """The small pages of what is wanted of a file's columns.

    Parameters
    ----------
    storage : Storage
    scratch : Scratch
    keyed : bool
        Pages are a TTree's baskets, each with a key.
    remote : bool
        The storage has what was prepared, and nothing between.
    """

    def __init__(self, storage: Storage, scratch: Scratch, keyed: bool, remote: bool) -> None:
        self._storage = storage
        self._scratch = scratch
        self._keyed = keyed
        self._gap_bytes = -1 if remote else _GAP_BYTES
        self._numbers: dict[tuple[Column, int, int], int] = {}
        self._lot: _Lot | None = None

    def want(self, index: FileIndex, wanted: Sequence[Wanted]) -> None:
        """Say what is read from now on, in this order; what is unusual is left out."""
        self._numbers, self._lot = {}, None
        table = self._table = _table(index, tuple([column for column, *_ in wanted]))
        usual = list({each[0]: each for each in wanted if each[0] in table.columns}.values())
        if not usual:
            return
        _, *elements = zip(*usual, strict=True)
        starts, stops = (np.array(each, np.int64) for each in elements)
        firsts, skipped = np.zeros(len(usual) + 1, np.int64), np.zeros(len(usual), np.int64)
        count = 4 * len(usual)
        while True:
            room = np.empty((7, count), np.int64)
            count = kernels.select_pages(
                table.places, starts, stops, _LARGE_BYTES, firsts, skipped, room
            )
            if count <= room.shape[1]:
                break
        if count < 2:
            return
        self._firsts, self._skipped = firsts.tolist(), skipped.tolist()
        self._pages = room[:, :count]
        lots = (_Pages(*self._pages).expected.cumsum() - 1) // _LOT_BYTES
        cuts = (np.flatnonzero(lots[1:] != lots[:-1]) + 1).tolist() if lots[-1] else []
        self._bounds = [0, *cuts, count]
        self._numbers = {each: number for number, each in enumerate(usual)}

    def fill(self, column: Column, start: int, stop: int, out: Array) -> bool:
        """Read elements of a column, unless it is unusual: tell whether it was done.

        Parameters
        ----------
        column : Column
        start, stop : int
            As they were wanted.
        out : ndarray
            Of the column's native dtype, shape (stop - start,).
        """
        number = self._numbers.get((column, start, stop))
        if number is None:
            return False
        page, last, skipped = self._firsts[number], self._firsts[number + 1], self._skipped[number]
        coding, words, filled = self._table.codings[number], out.view(_WORDS[out.itemsize]), 0
        while page < last:
            lot = self._lot
            if lot is None or page not in lot.pages:
                lot = self._lot = self._read(page)
            if lot is None:
                self._numbers = {}
                return False
            end = min(lot.pages.stop, last)
            first = lot.pages.start
            filled += kernels.decode_pages(
                lot.raw,
                lot.places,
                lot.elements,
                page - first,
                end - first,
                skipped,
                coding,
                words[filled:] if filled else words,
            )
            skipped, page = 0, end
        return filled == stop - start

    def _read(self, page: int) -> _Lot | None:
        """Read the lot of a page; None where something is wrong with it."""
        number = bisect_right(self._bounds, page) - 1
        first, stop = self._bounds[number], self._bounds[number + 1]
        pages = _Pages(*self._pages[:, first:stop])
        try:
            stored, places = self._stored(pages)
            payloads, wholes = places, pages.expected
            if self._keyed:
                payloads, wholes = np.empty_like(places), np.empty_like(places)
                good = kernels.check_keys(
                    stored,
                    places,
                    pages.stored_bytes,
                    pages.entries,
                    pages.expected,
                    self._table.labels,
                    self._table.label_bounds,
                    pages.column,
                    payloads,
                    wholes,
                )
                if good < len(places):
                    return None
            raw = self._scratch.array("raw", int(wholes.sum()) + _WORD_BYTES * len(wholes), np.uint8)
            source, target, raws, place = stored.data, raw.data, [], 0
            every = (payloads, places + pages.stored_bytes, pages.trailer, wholes)
            for payload, end, trailer, whole in zip(*(each.tolist() for each in every), strict=True):
                content = source[payload:end]
                if trailer:
                    checked_xxh3(content, source[end : end + trailer].tobytes())
                if end - payload == whole:
                    target[place : place + whole] = content
                elif end - payload < whole:
                    decompress_into(content, target[place : place + whole])
                else:
                    return None
                raws.append(place)
                place += -(-whole // _WORD_BYTES) * _WORD_BYTES
        except (DamagedPageError, RootfeedError, OSError, MemoryError):
            return None  # who reads it again says what it is
        return _Lot(range(first, stop), raw, np.array(raws, np.int64), pages.elements)

    def _stored(self, pages: _Pages) -> tuple[Array, Numbers]:
        """Return bytes that hold all pages, and where in them each begins."""
        places, runs = np.empty_like(pages.offset), np.empty((len(pages.offset), 3), np.int64)
        order = pages.offset.argsort()
        count = kernels.join_pages(
            order, pages.offset, pages.stored_bytes, pages.trailer, self._gap_bytes, places, runs
        )
        reads = runs[:count].tolist()
        start, place, size = reads[-1]
        if start + size > self._storage.file_bytes:
            raise DamagedPageError
        stored = self._scratch.array("stored", place + size, np.uint8)
        for start, place, size in reads:
            self._storage.read_into(start, stored[place : place + size])
        return stored, places


def prepare(columns: Iterable[Column]) -> None:
    """Compile the kernel for the words of these columns."""
    sizes = {
        each.dtype.itemsize for each in columns if each.pages is not None and each.dtype is not None
    }
    for size in sizes & _WORDS.keys():
        none = np.empty(0, np.int64)
        kernels.decode_pages(np.empty(0, np.uint8), none, none, 0, 0, 0, 0, np.empty(0, _WORDS[size]))


_tables: WeakKeyDictionary[FileIndex, dict[tuple[Column, ...], _Table]] = WeakKeyDictionary()


def _table(index: FileIndex, columns: tuple[Column, ...]) -> _Table:
    """Return which of some columns are usual, and where their tables of pages lie in memory."""
    known = _tables.setdefault(index, {})
    found = known.get(columns)
    if found is None:
        found = known[columns] = _table_of(columns)
    return found


def _table_of(columns: Sequence[Column]) -> _Table:
    usual = {
        column: (column.pages, coding)
        for column in columns
        if column.pages is not None and (coding := _coding(column.pages, column.dtype)) is not None
    }
    places = [
        (
            *(
                each.ctypes.data
                for each in (pages.bounds, pages.offset, pages.stored_bytes, pages.checksum)
            ),
            len(pages),
            max(column.length, 1),
            pages.encodings[0].page_bytes(8),
        )
        for column, (pages, _) in usual.items()
    ]
    labels = [pages.label for pages, _ in usual.values()]
    return _Table(
        {column: number for number, column in enumerate(usual)},
        [coding for _, coding in usual.values()],
        np.array(places, np.int64).reshape(-1, 7),
        np.frombuffer(b"".join(labels), np.uint8),
        np.cumsum([0, *map(len, labels)]),
    )


def _coding(pages: Pages, dtype: np.dtype[Any] | None) -> int | None:
    """Return how pages are decoded; None where they are unusual."""
    arrays = zip(
        (pages.bounds, pages.offset, pages.stored_bytes, pages.checksum), (8, 8, 8, 1), strict=True
    )
    plain = all(each.flags.c_contiguous and each.itemsize == size for each, size in arrays)
    return _coding_of(pages.encodings[0], dtype) if plain and len(pages.encodings) == 1 else None


@lru_cache(maxsize=256)
def _coding_of(encoding: Encoding, dtype: np.dtype[Any] | None) -> int | None:
    name = encoding.name
    if dtype is None or encoding.stride or encoding.header_bytes:
        return None
    if dtype == np.bool_:
        name = {"plain": "bytes", "swapped": "bytes", "bit": "bit"}.get(name, "")
    elif encoding.stored != dtype or name == "bit" or dtype.kind not in "iuf":
        return None
    elif dtype.itemsize == 1 and name != "zigzag":
        name = "plain"
    return CODINGS.get(name)
