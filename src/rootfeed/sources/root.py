"""TTree and RNTuple: pages are fetched, checked, decompressed and decoded by kernels.

Columns without a page table (`rootfeed.schema.Column.pages` is None) go through uproot's own reader:
slower, and exact.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from threading import Event
from typing import Any

import awkward as ak
import numpy as np

from rootfeed import kernels
from rootfeed.errors import DamagedFileError, MissingColumnError, nearest
from rootfeed.schema import ABSENT, EMBEDDED, Array, Column, ColumnType, Encoding, FileIndex, Pages
from rootfeed.sources.compression import DamagedPageError, checked_xxh3, decompress_into
from rootfeed.sources.metadata import damaged, open_object
from rootfeed.sources.paths import Location
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage, open_storage

__all__ = ["decode", "index", "prepare", "read", "types"]

_CHECKSUM_BYTES = 8

# Of a basket's key: fNbytes, fObjlen, fKeylen; at its end fNevBuf and fLast, and a byte of flags.
_KEY_HEAD = struct.Struct(">i2xi4xh")
_KEY_TAIL = struct.Struct(">iix")
_SHORTEST_KEY_BYTES = 37

_LEAF_BYTES = {"mantissa": 3, "ranged": 4}


def types(location: Location) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the name of a file's tree or ntuple and the type of each of its columns.

    Costs one parse of the file's metadata; no page is read.
    """
    with open_object(location.path, location.object_path) as found:
        return found.object_path, found.types()


def index(location: Location, names: Sequence[str]) -> FileIndex:
    """Return the page tables of some columns of a file.

    Costs one parse of the file's metadata; no page is read.

    Raises
    ------
    MissingColumnError
        Where the file has no column of that name.
    """
    with open_object(location.path, location.object_path) as found:
        columns = found.columns(names)
        for name in names:
            if name not in columns:
                raise MissingColumnError(
                    f"{found.path}:{found.object_path} has no column {name!r}. "
                    f"{nearest(name, found.types())}"
                )
        return FileIndex(
            path=location.path,
            object_path=found.object_path,
            format=found.format,
            entries=found.entries,
            file_bytes=found.file_bytes,
            identity=found.identity,
            head=found.head,
            columns=columns,
        )


def read(
    index: FileIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
) -> Iterator[tuple[str, Array]]:
    """Read the entries ``[start, stop)`` of some columns in their native dtypes.

    Parameters
    ----------
    index : FileIndex
        Holds these columns.
    names : sequence of str
    start, stop : int
        Entries of the file.
    out_for : function of a name
        Returns where to put a column: C-contiguous, shape (stop - start,), of its native dtype. It is
        asked just before the column is read, so that columns may share memory.
    scratch : Scratch
    stopped : threading.Event
        Looked at between pages; when it is set, nothing more is yielded.

    Yields
    ------
    tuple of str and ndarray
        Each column, when it is filled.

    Raises
    ------
    DamagedFileError
        Names the file, the column and the entries.
    """
    storage = open_storage(index.path)
    try:
        if (storage.file_bytes, storage.head) != (index.file_bytes, index.head):
            raise DamagedFileError(
                f"{index.path} was changed while it was being read: it had {index.file_bytes} bytes "
                f"when it was indexed and has {storage.file_bytes} now"
                + (", and another header" if storage.file_bytes == index.file_bytes else "")
                + ". Open it again."
            )
        columns = [index.columns[name] for name in names]
        storage.prepare(_ranges(columns, start, stop))
        for column in columns:
            out = out_for(column.name)
            if column.pages is None:
                _read_with_uproot(index, column, start, stop, out, scratch)
            else:
                _read_pages(index, column, start, stop, out, storage, scratch, stopped)
            if stopped.is_set():
                return
            yield column.name, out
    finally:
        storage.close()


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile every kernel that reading these columns needs: each encoding once, on no elements."""
    nothing, scratch = np.empty(0, np.uint8), Scratch()
    wanted = {
        (encoding, column.type.dtype)
        for index in indexes
        for column in index.columns.values()
        if column.pages is not None
        for encoding in column.pages.encodings
    }
    for encoding, dtype in wanted:
        decode(encoding, nothing, 0, 0, np.empty(0, dtype), scratch)


def _overlapping(pages: Pages, start: int, stop: int) -> range:
    """Return the numbers of the pages that hold some of these entries."""
    first = pages.bounds.searchsorted(start, "right") - 1
    return range(int(first), int(pages.bounds.searchsorted(stop, "left")))


def _ranges(columns: Sequence[Column], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of all page contents that these entries need."""
    for column in columns:
        if (pages := column.pages) is not None:
            for page in _overlapping(pages, start, stop):
                if pages.offset[page] >= 0:
                    trailer = _CHECKSUM_BYTES if pages.checksum[page] else 0
                    yield int(pages.offset[page]), int(pages.stored_bytes[page]) + trailer


def _read_pages(
    index: FileIndex,
    column: Column,
    start: int,
    stop: int,
    out: Array,
    storage: Storage,
    scratch: Scratch,
    stopped: Event,
) -> None:
    pages = column.pages
    assert pages is not None
    bounds = pages.bounds
    for page in _overlapping(pages, start, stop):
        if stopped.is_set():
            return
        first, end = int(bounds[page]), int(bounds[page + 1])
        low, high = max(start, first), min(stop, end)
        target = out[low - start : high - start]
        encoding = pages.encodings[pages.encoding[page]]
        try:
            if pages.offset[page] == ABSENT:
                target[...] = 0
                continue
            raw = _page(index, pages, page, end - first, encoding, storage, scratch)
            decode(encoding, raw, end - first, low - first, target, scratch)
        except DamagedPageError as error:
            raise DamagedFileError(
                f"{index.where}: the page of column {column.name!r} with the entries [{first}, {end}) "
                f"is damaged: {error}. Copy or produce the file again."
            ) from error
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{error} (Column {column.name!r}, entries [{first}, {end}).)"
            ) from error


def _page(
    index: FileIndex,
    pages: Pages,
    page: int,
    elements: int,
    encoding: Encoding,
    storage: Storage,
    scratch: Scratch,
) -> Array:
    """Return a page's uncompressed bytes."""
    expected = encoding.page_bytes(elements)
    if pages.offset[page] == EMBEDDED:
        data = np.frombuffer(bytearray(pages.embedded[page]), np.uint8)
        if len(data) != expected:
            raise DamagedPageError(f"it is embedded with {len(data)} bytes instead of {expected}")
        return data
    stored_bytes = int(pages.stored_bytes[page])
    offset = int(pages.offset[page])
    trailer = _CHECKSUM_BYTES if pages.checksum[page] else 0
    if stored_bytes == 0 or offset + stored_bytes + trailer > storage.file_bytes:
        raise DamagedPageError(
            f"it claims {stored_bytes} bytes at position {offset} of a file of "
            f"{storage.file_bytes} bytes: the file is truncated"
        )
    stored = scratch.array("stored", stored_bytes + trailer, np.uint8)
    storage.read_into(offset, stored)
    if trailer:
        checked_xxh3(stored[:stored_bytes], stored[stored_bytes:].tobytes())
        stored = stored[:stored_bytes]
    if index.format == "TTree":
        stored, whole = _basket_payload(stored, elements, expected)
    else:
        whole = expected
        if stored_bytes > expected:
            raise DamagedPageError(f"it stores {stored_bytes} bytes for {expected} uncompressed ones")
    if len(stored) == whole:
        return stored[:expected]
    raw = scratch.array("page", whole, np.uint8)
    decompress_into(stored, raw)
    return raw[:expected]


def _basket_payload(stored: Array, elements: int, expected: int) -> tuple[Array, int]:
    """Check a basket's key (ROOT's ``TKey`` and ``TBasket`` streamers); return payload and its size.

    The payload may hold entry offsets after the data, of which a fixed-width column has no need.
    """
    if len(stored) < _SHORTEST_KEY_BYTES:
        raise DamagedPageError(f"its key has {len(stored)} bytes")
    total, whole, key_bytes = _KEY_HEAD.unpack_from(stored)
    if total != len(stored) or not _SHORTEST_KEY_BYTES <= key_bytes <= len(stored):
        raise DamagedPageError(f"its key claims {total} bytes, {key_bytes} of them for itself")
    entries, last = _KEY_TAIL.unpack_from(stored, key_bytes - _KEY_TAIL.size)
    if entries != elements:
        raise DamagedPageError(f"it holds {entries} entries instead of {elements}")
    if last - key_bytes != expected:
        raise DamagedPageError(f"it holds {last - key_bytes} bytes instead of {expected}")
    if not expected <= whole <= expected + 4 * (elements + 4):
        raise DamagedPageError(f"it claims {whole} uncompressed bytes for {expected} bytes of data")
    if len(stored) - key_bytes > whole:
        raise DamagedPageError(f"it stores {len(stored) - key_bytes} bytes for {whole}")
    return stored[key_bytes:], whole


def decode(
    encoding: Encoding, raw: Array, elements: int, start: int, out: Array, scratch: Scratch
) -> None:
    """Decode elements ``[start, start + len(out))`` of a page.

    Parameters
    ----------
    encoding : Encoding
    raw : ndarray of uint8
        The page's uncompressed bytes, exactly as many as the encoding says.
    elements : int
        Elements in the page.
    start : int
        ``start + len(out) <= elements``.
    out : ndarray
        Of the column's native dtype, at least as wide as the stored one.
    scratch : Scratch
    """
    if len(raw) != encoding.page_bytes(elements) or not 0 <= start <= elements - len(out):
        raise DamagedPageError(f"it has {len(raw)} bytes for {elements} elements")
    if out.dtype == np.bool_:
        bits = scratch.array("bits", len(out), np.uint8)
        if encoding.name == "bit":
            kernels.unpack(raw, 1, start, bits)
        else:
            bits[:] = _strided(encoding, raw, start, len(out), np.dtype(np.uint8))
        np.not_equal(bits, 0, out=out)
        return
    stored = encoding.stored
    decoded = out if stored == out.dtype else scratch.array("decoded", len(out), stored)
    words = decoded.view(f"u{stored.itemsize}")
    if encoding.stride and encoding.name in _LEAF_BYTES:
        width = _LEAF_BYTES[encoding.name]
        leaf = scratch.array("leaf", (len(out), width), np.uint8)
        rows = raw.reshape(elements, encoding.stride)[start : start + len(out)]
        leaf[:] = rows[:, encoding.place : encoding.place + width]
        raw, start = leaf.reshape(-1), 0
    match encoding.name:
        case "plain":
            words[:] = raw.view(words.dtype)[start : start + len(out)]
        case "swapped":
            words[:] = _strided(encoding, raw, start, len(out), words.dtype.newbyteorder(">"))
        case "split":
            kernels.unsplit(raw, elements, start, words)
        case "zigzag":
            kernels.unsplit(raw, elements, start, words)
            kernels.unzigzag(words)
        case "bit":
            kernels.unpack(raw, 1, start, words)
        case "truncated":
            kernels.unpack(raw, encoding.bits, start, words)
            words <<= np.uint32(32 - encoding.bits)
        case "mantissa":
            kernels.mantissa(raw, encoding.bits, start, words)
        case "quantized":
            packed = scratch.array("packed", len(out), np.uint32)
            kernels.unpack(raw, encoding.bits, start, packed)
            _dequantize(encoding, packed, decoded)
        case "ranged":
            packed = raw.view(">u4")[start : start + len(out)]
            _unrange(encoding, packed, decoded)
        case _:
            raise AssertionError(encoding.name)
    if decoded is not out:
        out[:] = decoded


def _strided(encoding: Encoding, raw: Array, start: int, count: int, dtype: np.dtype[Any]) -> Array:
    """View one leaf of each entry."""
    if count == 0:
        return np.empty(0, dtype)
    stride = encoding.stride or dtype.itemsize
    return np.ndarray((count,), dtype, raw, offset=start * stride + encoding.place, strides=(stride,))


def _dequantize(encoding: Encoding, packed: Array, out: Array) -> None:
    """RNTuple's Real32Quant: ``min(q (high - low) / (2^bits - 1) + low, high)``, in double precision."""
    scale = (encoding.high - encoding.low) / ((1 << encoding.bits) - 1)
    np.multiply(packed, scale, out=out)
    np.add(out, encoding.low, out=out)
    np.minimum(out, encoding.high, out=out)


def _unrange(encoding: Encoding, packed: Array, out: Array) -> None:
    """TTree's Double32_t with a range: ``q / factor + low`` (``TBufferFile::ReadWithFactor``)."""
    steps = 1 << encoding.bits if encoding.bits < 32 else 0xFFFFFFFF
    np.divide(packed, steps / (encoding.high - encoding.low), out=out)
    np.add(out, encoding.low, out=out)


def _read_with_uproot(
    index: FileIndex, column: Column, start: int, stop: int, out: Array, scratch: Scratch
) -> None:
    def open_(stack: ExitStack) -> Any:
        found = stack.enter_context(open_object(index.path, index.object_path))
        return found.handle

    entries = f"the entries [{start}, {stop}) of column {column.name!r}"
    with damaged(f"{index.where}: {entries} cannot be read"):
        handle = scratch.keep((index.path, index.object_path), open_)
        values = handle[column.key].array(entry_start=start, entry_stop=stop, array_cache=None)
        values = ak.to_numpy(values[column.leaf] if column.leaf else values, allow_missing=False)
    if values.shape != out.shape:
        raise DamagedFileError(
            f"{index.where}: {entries} gave an array of shape {values.shape}. "
            "Copy or produce the file again."
        )
    out[:] = values
