"""What an HDF5 file holds: data sets, and the columns in them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import (
    MissingObjectError,
    UnsupportedColumnError,
    UnsupportedFileError,
    nearest,
)
from rootfeed.processes import unforked
from rootfeed.schema import ColumnType
from rootfeed.sources.chunks import DataSet, Part
from rootfeed.sources.hdf5layout import place_of
from rootfeed.sources.heaps import POINTER

__all__ = ["Found", "columns", "filter_remedy", "found", "refused"]

_VALID = "valid"


class Found:
    """A column of an open file.

    Attributes
    ----------
    path : str
        Of its data set.
    data : h5py.Dataset
    fields : tuple of str
    stored : numpy.dtype
        As h5py gives it: of objects where entries are of any length.
    shape : tuple of int
        Of an array in each element.
    native : numpy.dtype or None
    is_padded : bool
        Whether a field says which elements of a row count.
    type : ColumnType
    """

    def __init__(self, path: str, data: Any, fields: tuple[str, ...], dtype: Any) -> None:
        self.path, self.data, self.fields = path, data, fields
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
        import h5py

        valid = elements = None
        if self.is_padded:
            valid = Part(data, (_VALID,), place_of(data, _VALID), np.dtype(np.uint8), np.dtype(np.bool_))
        stored = _of_bytes(self.stored)
        if stored.kind == "O":
            is_text = h5py.check_string_dtype(self.stored) is not None
            elements = np.dtype(np.uint8) if is_text else _of_bytes(h5py.check_vlen_dtype(self.stored))
            stored = POINTER
        place = place_of(data, *self.fields)
        return Part(data, self.fields, place, stored, self.native, self.shape, valid, elements)


def _of_bytes(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype by which booleans are read: their bytes may hold anything."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype


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

    def inside(dtype: Any, fields: tuple[str, ...]) -> Iterator[tuple[str, Found]]:
        if dtype.fields is None:
            yield ".".join(filter(None, (label, *fields))), Found(path, data, fields, dtype)
            return
        for name in dtype.names:
            yield from inside(dtype.fields[name][0], (*fields, name))

    yield from inside(data.dtype, ())


def filter_remedy(path: str, data: DataSet) -> str | None:
    """Return what is to be done about filters that the HDF5 library lacks; None where it has all.

    What hdf5plugin offers is there once it was imported, which is done here, where a filter is missing.
    """
    import h5py

    if all(map(h5py.h5z.filter_avail, data.filters)):
        return None
    with contextlib.suppress(ImportError), unforked():
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
    native = dtype.newbyteorder("=")
    return np.dtype(np.float32) if native == np.float16 else native


def refused(path: str, name: str, column: Found) -> UnsupportedColumnError:
    """Return the error about a column that is neither numbers, nor vectors of numbers, nor text."""
    return UnsupportedColumnError(
        f"{path}: column {name!r} is of type {column.type.text}, which has no native counterpart. Leave "
        "it out, or write it as numbers of up to 64 bits, one or several in an entry."
    )
