"""Where the chunks of an HDF5 data set lie, and whether they are read here or by the HDF5 library."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import DamagedFileError, UnsupportedFileError
from rootfeed.schema import ABSENT, Array, Encoding, Pages
from rootfeed.sources.chunks import COMPRESSIONS, SHUFFLE, DataSet
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.heaps import POINTER

__all__ = ["laid_out", "place_of"]

_PIECE_BYTES = 256 << 10
"""Of what is stored in one piece, so that blocks may end at many places."""

_FEW_CHUNKS = 1_000_000  # that may all be missing, whatever the size of the file


def laid_out(path: str, at: str, data: Any, file_bytes: int) -> DataSet:
    """Return where the chunks of a data set lie.

    Raises
    ------
    UnsupportedFileError
        Where its values are in other files, or compressed by what is not installed.
    DamagedFileError
        Where it claims more than a file of this size can hold.
    """
    plist = data.id.get_create_plist()
    where = f"{path}: the data set {at!r}"
    if data.is_virtual:
        sources = dict.fromkeys(source.file_name for source in data.virtual_sources())
        raise UnsupportedFileError(
            f"{where} is a virtual one, whose values are in other files, such as "
            f"{next(iter(sources), '')!r}. Open those: rootfeed.open takes a list, or a pattern."
        )
    if plist.get_external_count():
        raise UnsupportedFileError(
            f"{where} has its values in another file, {plist.get_external(0)[0]!r}, which is not "
            "followed. Write it again with its values in it."
        )
    pipeline = [plist.get_filter(number) for number in range(plist.get_nfilters())]
    filters = tuple(each[0] for each in pipeline)
    dtype = _in_file(data.dtype)
    entries, row_bytes = data.shape[0], max(1, math.prod(data.shape[1:]) * dtype.itemsize)
    if entries * row_bytes > MOST_EXPANSION * file_bytes or _chunks(data) > file_bytes + _FEW_CHUNKS:
        raise DamagedFileError(
            f"{where} claims {entries} entries of {row_bytes} bytes in a file of {file_bytes}. "
            "Copy or produce the file again."
        )
    if data.chunks is None:
        place = data.id.get_offset()
        step = max(1, min(entries or 1, _PIECE_BYTES // row_bytes))
        chunk = (step, *data.shape[1:])
        starts = np.arange(0, entries, step, dtype=np.int64)
        stored = np.minimum(step, entries - starts) * row_bytes
        offset = np.full(len(starts), ABSENT) if place is None else place + starts * row_bytes
        tables = [each.astype(np.int64).reshape(-1, 1) for each in (offset, stored, 0 * starts)]
    else:
        chunk = data.chunks
        tables = _chunk_tables(data)
    offset, stored, skipped = tables
    chunk_bytes = math.prod(chunk) * dtype.itemsize
    is_there = offset != ABSENT
    paddings = set(_paddings(data.id.get_type()))
    is_plain = (
        data.file.userblock_size == 0  # older libraries leave it out of places
        and paddings in (set(), {"null"}, {"end"})
        and _is_plain(data.id.get_type())
        and _are_undone(pipeline, dtype.itemsize, skipped[is_there])
        and (data.chunks is not None or data.id.get_storage_size() == stored[is_there].sum())
        and (not data.dtype.hasobject or _are_pointers_known(data, is_there))
    )
    if (
        np.any(offset[is_there] < 0)
        or np.any(stored[is_there] < 0)
        or np.any(offset[is_there] + stored[is_there] > file_bytes)
        or np.any(chunk_bytes > MOST_EXPANSION * stored[is_there])
    ):
        raise DamagedFileError(
            f"{where} has chunks that cannot be where they claim to be: the file is truncated or "
            "damaged. Copy or produce the file again."
        )
    stored = np.where(is_there, stored, 0)
    bounds = np.minimum(np.arange(len(offset) + 1, dtype=np.int64) * chunk[0], entries)
    pages = Pages(
        bounds=bounds,
        offset=np.where(is_there.all(axis=1), offset[:, 0], ABSENT) if len(offset) else offset[:, 0],
        stored_bytes=stored.sum(axis=1),
        encoding=np.zeros(len(offset), np.uint8),
        checksum=np.zeros(len(offset), np.bool_),
        encodings=(Encoding("plain", np.dtype(np.uint8), stride=row_bytes),),
    )
    fill = np.zeros((), dtype)
    if is_plain and not data.dtype.hasobject and data.fillvalue is not None:
        fill[...] = data.fillvalue
    return DataSet(
        path=at,
        dtype=dtype,
        shape=data.shape,
        chunk_shape=chunk,
        pages=pages,
        offset=offset,
        stored_bytes=stored,
        skipped=skipped,
        filters=filters,
        fill=fill.tobytes() if is_plain else b"",
        is_plain=is_plain,
        is_terminated=paddings == {"end"},
    )


def _chunks(data: Any) -> int:
    """Return the number of chunks of a data set, stored or not."""
    if data.chunks is None:
        return 1
    return math.prod(-(-size // step) for size, step in zip(data.shape, data.chunks, strict=True))


def _chunk_tables(data: Any) -> list[Array]:
    """Return place, size and mask of each chunk, by page and number within it."""
    grid = tuple(-(-size // step) for size, step in zip(data.shape, data.chunks, strict=True))
    tables = [np.full(grid, ABSENT, np.int64), np.zeros(grid, np.int64), np.zeros(grid, np.int64)]

    def note(chunk: Any) -> None:
        place = tuple(begin // step for begin, step in zip(chunk.chunk_offset, data.chunks, strict=True))
        if all(0 <= each < size for each, size in zip(place, grid, strict=True)):
            for table, value in zip(
                tables, (chunk.byte_offset, chunk.size, chunk.filter_mask), strict=True
            ):
                table[place] = value

    if data.id.get_num_chunks():
        data.id.chunk_iter(note)
    return [table.reshape(grid[0], math.prod(grid[1:])) for table in tables]


def _in_file(dtype: Any) -> Any:
    """Return a dtype as it is stored, where h5py gives one of elements in memory.

    What is of any length is a `POINTER` in a file. In memory it is an address, with its length unless
    it is a text, and the fields that follow it begin elsewhere.
    """
    if dtype.subdtype is not None:
        return np.dtype((_in_file(dtype.base), dtype.shape))
    if not dtype.hasobject:
        return dtype
    if dtype.fields is None:
        return POINTER
    shift, formats, offsets = 0, [], []
    names = sorted(dtype.names, key=lambda name: dtype.fields[name][1])
    for name in names:
        of_field, offset = dtype.fields[name][:2]
        formats.append(_in_file(of_field))
        offsets.append(offset + shift)
        shift += formats[-1].itemsize - _bytes_in_memory(of_field)
    itemsize = dtype.itemsize + shift
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})


def _are_pointers_known(data: Any, is_there: Array) -> bool:
    """Tell whether what is of any length is stored as `POINTER`, or not at all and empty."""
    from h5py import h5d

    plist = data.id.get_create_plist()
    is_empty = plist.fill_value_defined() != h5d.FILL_VALUE_USER_DEFINED
    sizes = data.file.id.get_create_plist().get_sizes()
    return sizes == (8, 8) and bool(is_empty or is_there.all())


def _bytes_in_memory(dtype: Any) -> int:
    """Return the size of an element in the HDF5 library's memory."""
    import h5py

    if dtype.subdtype is not None:
        return int(math.prod(dtype.shape)) * _bytes_in_memory(dtype.base)
    is_text = h5py.check_string_dtype(dtype) is not None
    has_length = not is_text and h5py.check_vlen_dtype(dtype) is not None
    size: int = dtype.itemsize
    return 2 * size if has_length else size


def _are_undone(pipeline: Sequence[tuple[Any, ...]], itemsize: int, skipped: Array) -> bool:
    """Tell whether filters are a shuffle of whole elements, then a compression, or less than that.

    The library notes a shuffle for entries of any length, and skips it.
    """
    if (
        pipeline
        and pipeline[0][0] == SHUFFLE
        and (pipeline[0][2][:1] == (itemsize,) or np.all(skipped & 1))
    ):
        pipeline = pipeline[1:]
    return not pipeline or (len(pipeline) == 1 and pipeline[0][0] in COMPRESSIONS)


def _is_plain(type_: Any) -> bool:
    """Tell whether the stored bytes of a type are those of NumPy's dtype, in either order of bytes."""
    from h5py import h5t

    if isinstance(type_, h5t.TypeCompoundID):
        return (
            all(_is_plain(type_.get_member_type(number)) for number in range(type_.get_nmembers()))
            and type_.dtype.itemsize == type_.get_size()
        )
    if isinstance(type_, h5t.TypeEnumID | h5t.TypeArrayID):
        return _is_plain(type_.get_super())
    if isinstance(type_, h5t.TypeIntegerID):
        return bool(type_.get_precision() == 8 * type_.get_size() and type_.get_offset() == 0)
    if isinstance(type_, h5t.TypeFloatID):
        kinds = ("IEEE_F16LE", "IEEE_F16BE", "IEEE_F32LE", "IEEE_F32BE", "IEEE_F64LE", "IEEE_F64BE")
        return any(bool(type_.equal(getattr(h5t, kind))) for kind in kinds)
    if isinstance(type_, h5t.TypeVlenID):
        return _is_plain(type_.get_super())
    return isinstance(type_, h5t.TypeStringID)


def place_of(data: DataSet, *fields: str) -> int:
    """Return where a field begins in a stored element."""
    dtype, place = data.dtype, 0
    for name in fields:
        assert dtype.fields is not None
        dtype, offset = dtype.fields[name][:2]
        place += offset
    return place


def _paddings(type_: Any) -> Iterator[str]:
    """Yield what follows the texts of fixed length in a type: null bytes, anything after one, spaces."""
    from h5py import h5t

    if isinstance(type_, h5t.TypeCompoundID):
        for number in range(type_.get_nmembers()):
            yield from _paddings(type_.get_member_type(number))
    elif isinstance(type_, h5t.TypeArrayID):
        yield from _paddings(type_.get_super())
    elif isinstance(type_, h5t.TypeStringID) and not type_.is_variable_str():
        kinds = {h5t.STR_NULLPAD: "null", h5t.STR_NULLTERM: "end"}
        yield kinds.get(type_.get_strpad(), "spaces")
