"""What an HDF5 file holds: data sets, the columns in them, and where their chunks lie."""

from __future__ import annotations

import contextlib
import importlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import (
    DamagedFileError,
    MissingObjectError,
    UnsupportedColumnError,
    UnsupportedFileError,
    nearest,
)
from rootfeed.schema import ABSENT, Array, ColumnType, Encoding, Pages
from rootfeed.sources.chunks import COMPRESSIONS, SHUFFLE, DataSet, Part
from rootfeed.sources.compression import MOST_EXPANSION

__all__ = ["Found", "columns", "filter_remedy", "found", "laid_out", "refused"]

_PIECE_BYTES = 256 << 10
"""Of what is stored in one piece, so that blocks may end at many places."""

_FEW_CHUNKS = 1_000_000  # that may all be missing, whatever the size of the file

_VALID = "valid"


class Found:
    """A column of an open file.

    Attributes
    ----------
    path : str
        Of its data set.
    data : h5py.Dataset
    fields : tuple of str
    place : int
    stored : numpy.dtype
    shape : tuple of int
        Of an array in each element.
    native : numpy.dtype or None
    is_padded : bool
        Whether a field says which elements of a row count.
    type : ColumnType
    """

    def __init__(self, path: str, data: Any, fields: tuple[str, ...], place: int, dtype: Any) -> None:
        self.path, self.data, self.fields, self.place = path, data, fields, place
        self.stored: np.dtype[Any] = dtype.base
        self.shape: tuple[int, ...] = dtype.shape
        self.is_padded = is_padded(data)
        self.type, self.native = self._type()

    def _type(self) -> tuple[ColumnType, np.dtype[Any] | None]:
        import h5py

        dtype, inner = self.stored, self.data.shape[1:] + self.shape
        if h5py.check_string_dtype(dtype) is not None or dtype.kind == "S":
            return ColumnType("string", "other" if inner or dtype.itemsize == 0 else "text"), None
        if (element := h5py.check_vlen_dtype(dtype)) is not None:
            native = _native(element)
            kind: Any = "other" if native is None or inner else "vector"
            return ColumnType(f"{element}[]", kind, native if kind == "vector" else None), native
        native = _native(dtype)
        text = f"{dtype.newbyteorder('=')}" + "".join(f"[{size}]" for size in inner)
        if native is None or 0 in inner or (self.is_padded and self.shape):
            return ColumnType(text, "other"), None
        if self.is_padded:
            return ColumnType(f"{dtype.newbyteorder('=')}[]", "vector", native), native
        return ColumnType(text, "vector" if inner else "scalar", native, inner), native

    def part(self, data: DataSet) -> Part:
        """Return it as what is read without the file."""
        valid = None
        if self.is_padded:
            _, place = self.data.dtype.fields[_VALID][:2]
            valid = Part(data, (_VALID,), place, np.dtype(np.uint8), np.dtype(np.bool_))
        stored = np.dtype(np.uint8) if self.stored.kind == "b" else self.stored
        return Part(data, self.fields, self.place, stored, self.native, self.shape, valid)


def is_padded(data: Any) -> bool:
    """Tell whether the rows of a table are vectors up to a size, with a flag for what is not padding."""
    fields = data.dtype.fields or {}
    return len(data.shape) == 2 and _VALID in fields and fields[_VALID][0] == np.bool_


def found(path: str, file: Any, object_path: str | None) -> tuple[int, list[tuple[str, Found]]]:
    """Return the entries, and the columns with their names, of what an object's name stands for.

    A name stands for a data set, or for all those in a group; several are divided by commas. What is
    named is left out of the names of its columns, unless it is one of several.
    """
    sets: list[tuple[str, str, Any]] = []
    names = [name.strip("/ ") for name in (object_path or "").split(",")]
    for name in names:
        node = _at(path, file, name)
        before = name.rpartition("/")[2] if len(names) > 1 else ""
        if hasattr(node, "shape"):
            label = before if node.dtype.names or before else name.rpartition("/")[2]
            sets.append((name, label, node))
        else:
            start = f"{before}." if before else ""
            sets.extend(
                (at, start + at[len(name) :].strip("/").replace("/", "."), each)
                for at, each in _walk(node, name, set())
            )
    tables = [each for each in sets if each[2].shape]
    if not tables:
        raise MissingObjectError(f"{path} holds no data set with entries{_in(object_path)}.")
    lengths = {data.shape[0] for _, _, data in tables}
    if len(lengths) > 1:
        raise MissingObjectError(_of_lengths(path, tables))
    return lengths.pop(), [each for at, label, data in tables for each in columns(at, label, data)]


def _in(object_path: str | None) -> str:
    return f" in {object_path!r}" if object_path else ""


def _of_lengths(path: str, tables: Sequence[tuple[str, str, Any]]) -> str:
    by_length: dict[int, list[str]] = {}
    for at, _, data in tables:
        by_length.setdefault(data.shape[0], []).append(at)
    told = "; ".join(
        f"{length} in {', '.join(map(repr, names[:4]))}{', ...' if len(names) > 4 else ''}"
        for length, names in list(by_length.items())[:4]
    )
    most = max(by_length.values(), key=len)
    example = f"{path}:{','.join(most[:2])}"
    return (
        f"{path} holds data sets that differ in their number of entries: {told}. Name a data set, a "
        f"group, or several with commas between: {example!r}."
    )


def _at(path: str, file: Any, name: str) -> Any:
    """Return a group or a data set, without following links that lead elsewhere."""
    import h5py

    node = file
    for part in filter(None, name.split("/")):
        if not isinstance(node, h5py.Group) or (link := node.get(part, getlink=True)) is None:
            names = [at for at, _ in _walk(file, "", set())]
            raise MissingObjectError(
                f"{path} holds no data set or group {name!r}. {nearest(name, names)}"
            )
        if not isinstance(link, h5py.HardLink):
            target = getattr(link, "filename", "") or link.path
            raise UnsupportedFileError(
                f"{path}: {name!r} is a link to {target!r}, which is not followed. Name what it "
                "leads to."
            )
        node = node[part]
    return node


def _walk(node: Any, at: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Yield path and data set of all in a group; links that lead elsewhere are left out."""
    import h5py

    address = h5py.h5o.get_info(node.id).addr
    if address in seen:
        return
    seen.add(address)
    for name in node:
        if isinstance(node.get(name, getlink=True), h5py.HardLink):
            each = node[name]
            place = f"{at}/{name}".strip("/")
            if isinstance(each, h5py.Dataset):
                yield place, each
            elif isinstance(each, h5py.Group):
                yield from _walk(each, place, seen)


def columns(path: str, label: str, data: Any) -> Iterator[tuple[str, Found]]:
    """Yield name and column of each field of a data set; of one without fields itself."""

    def inside(dtype: Any, fields: tuple[str, ...], place: int) -> Iterator[tuple[str, Found]]:
        if dtype.fields is None:
            yield ".".join(filter(None, (label, *fields))), Found(path, data, fields, place, dtype)
            return
        for name in dtype.names:
            of_field, offset = dtype.fields[name][:2]
            yield from inside(of_field, (*fields, name), place + offset)

    yield from inside(data.dtype, (), 0)


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
    entries, row_bytes = data.shape[0], max(1, math.prod(data.shape[1:]) * data.dtype.itemsize)
    if entries * row_bytes > MOST_EXPANSION * file_bytes or _chunks(data) > file_bytes + _FEW_CHUNKS:
        raise DamagedFileError(
            f"{where} claims {entries} entries of {row_bytes} bytes in a file of {file_bytes}. "
            "Copy or produce the file again."
        )
    paddings = set(_paddings(data.id.get_type()))
    is_plain = (
        data.file.userblock_size == 0  # older libraries leave it out of places
        and paddings in (set(), {"null"}, {"end"})
        and _is_plain(data.id.get_type())
        and _are_undone(pipeline, data.dtype.itemsize)
    )
    if data.chunks is None:
        place = data.id.get_offset()
        is_plain = is_plain and (place is not None or data.id.get_storage_size() == 0)
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
    chunk_bytes = math.prod(chunk) * data.dtype.itemsize
    is_there = offset != ABSENT
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
    fill = np.zeros((), data.dtype)
    if is_plain and data.fillvalue is not None:
        fill[...] = data.fillvalue
    return DataSet(
        path=at,
        dtype=data.dtype,
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


def _are_undone(pipeline: Sequence[tuple[Any, ...]], itemsize: int) -> bool:
    """Tell whether filters are a shuffle of whole elements, then a compression, or less than that."""
    if pipeline and pipeline[0][0] == SHUFFLE and pipeline[0][2][:1] == (itemsize,):
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
    return isinstance(type_, h5t.TypeStringID) and not type_.is_variable_str()


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


def filter_remedy(path: str, data: DataSet) -> str | None:
    """Return what is to be done about filters that the HDF5 library lacks; None where it has all.

    What hdf5plugin offers is there once it was imported, which is done here, where a filter is missing.
    """
    import h5py

    if all(map(h5py.h5z.filter_avail, data.filters)):
        return None
    with contextlib.suppress(ImportError):
        importlib.import_module("hdf5plugin")
    missing = [each for each in data.filters if not h5py.h5z.filter_avail(each)]
    if not missing:
        return None
    return (
        f"{path}: the data set {data.path!r} is compressed by HDF5's filter {missing[0]}, which is not "
        "there: pip install hdf5plugin, or write the file again, compressed by gzip or lzf."
    )


def _native(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        return None
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def refused(path: str, name: str, column: Found) -> UnsupportedColumnError:
    """Return the error about a column that is neither numbers, nor vectors of numbers, nor text."""
    return UnsupportedColumnError(
        f"{path}: column {name!r} is of type {column.type.text}, which has no native counterpart. Leave "
        "it out, or write it as numbers of up to 64 bits, one or several in an entry."
    )
