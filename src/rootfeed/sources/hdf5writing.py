"""New HDF5 files: a data set for each column."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rootfeed.errors import ArgumentError, UnsupportedColumnError
from rootfeed.schema import Array, ColumnType, Jagged
from rootfeed.sources.writing import check_types, unfinished

__all__ = ["write_hdf5"]

_CHUNK_ROWS = 1 << 14
_CHUNK_BYTES = 1 << 20
"""Of the widest column's chunk, about: what the HDF5 library keeps of a data set."""

_POINTER_BYTES = 16  # of a vector or a text, which lies elsewhere in the file


def write_hdf5(
    path: str | Path, types: Mapping[str, ColumnType], clusters: Iterable[Mapping[str, Array | Jagged]]
) -> None:
    """Write columns into an HDF5 file, which is replaced when all is written.

    Each column is a data set of its name, at the top of the file, in chunks of as many rows, compressed
    by gzip at level 1 after a shuffle. Arrays of fixed shape have more dimensions; vectors are of
    `h5py.vlen_dtype`, texts of `h5py.string_dtype`, neither compressed.

    Parameters
    ----------
    path : str or Path
    types : mapping of str to ColumnType
        Of each column.
    clusters : iterable of mapping of str to ndarray or Jagged
        Rows, some at a time.

    Raises
    ------
    ArgumentError
        Where h5py is not installed, or a name cannot be that of a data set.
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text; or text with zero bytes.
    """
    try:
        import h5py
    except ImportError as error:
        raise ArgumentError(
            f"{path} is written with h5py, which is not installed: pip install 'rootfeed[hdf5]'."
        ) from error
    check_types(types)
    for name in types:
        if "/" in name or name == ".":
            raise ArgumentError(
                f"HDF5 has no data set that is called {name!r}: a slash leads into a group. Write it "
                f"under another name: frame.alias('name', {name!r})."
            )
    widest = max([math.prod(type_.shape) * _item_bytes(type_) for type_ in types.values()], default=1)
    rows = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // max(1, widest)))
    with unfinished(path) as part, part.open("wb+") as raw:
        sink = _Sink(raw)
        with h5py.File(sink, "w", track_order=True) as file:
            sets = {name: _data_set(file, name, type_, rows) for name, type_ in types.items()}
            done = 0
            for cluster in clusters:
                count = len(next(iter(cluster.values())))
                for name, data in sets.items():
                    data.resize(done + count, axis=0)
                    _append(data, done, _values(name, types[name], cluster[name]))
                done += count
                sink.check()
        sink.check()


class _Sink:
    """A file that tells later that writing failed: the HDF5 library would crash the process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong since the file was opened."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:  # by which h5py tells that this is a file
        return self._file.read(size)

    def readinto(self, out: Any) -> int:
        return self._file.readinto(out)  # type: ignore[attr-defined, no-any-return]  # of files, it is there

    def write(self, content: Any) -> int:
        self._try(lambda: self._file.write(content))
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        self._try(lambda: self._file.truncate(size))
        return self._file.tell() if size is None else size

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, do: Callable[[], Any]) -> None:
        if self._error is None:
            try:
                do()
            except OSError as error:
                self._error = error


def _item_bytes(type_: ColumnType) -> int:
    is_elsewhere = type_.is_jagged and not type_.shape
    return _POINTER_BYTES if is_elsewhere or type_.dtype is None else type_.dtype.itemsize


def _data_set(file: Any, name: str, type_: ColumnType, rows: int) -> Any:
    import h5py

    packed: dict[str, Any] = {}
    if type_.kind == "text":
        dtype = h5py.string_dtype()
    elif type_.kind == "vector" and not type_.shape:
        dtype = h5py.vlen_dtype(type_.dtype)
    else:
        dtype = type_.dtype
        packed = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    return file.create_dataset(
        name,
        (0, *type_.shape),
        dtype,
        maxshape=(None, *type_.shape),
        chunks=(rows, *type_.shape),
        **packed,
    )


def _append(data: Any, done: int, values: Array) -> None:
    """Write the entries after those that are there.

    Assigning to the data set would make one array of vectors that are all as long as each other: an
    error, or with NumPy before 2.4 all of them in each row, where each has one element.
    """
    from h5py import h5s, h5t

    if not len(values):
        return
    space = data.id.get_space()
    space.select_hyperslab((done, *(0 for _ in values.shape[1:])), values.shape)
    memory = h5s.create_simple(values.shape)
    data.id.write(memory, space, np.ascontiguousarray(values), h5t.py_create(data.dtype))


def _values(name: str, type_: ColumnType, values: Array | Jagged) -> Any:
    """Return the entries of a column as h5py takes them."""
    if not isinstance(values, Jagged):
        return values.astype(type_.dtype, copy=False)
    held, ends = values.values[: values.offsets[-1]], values.offsets
    if type_.shape:
        return held.astype(type_.dtype, copy=False).reshape(len(values), *type_.shape)
    found = np.empty(len(values), object)
    if type_.kind == "text":
        texts = held.tobytes()
        if 0 in held:
            raise UnsupportedColumnError(
                f"column {name!r} has texts with a zero byte, at which texts of HDF5 end. Leave it out."
            )
        for number, (start, stop) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
            found[number] = texts[start:stop]
        return found
    held = held.astype(type_.dtype, copy=False)
    for number, (start, stop) in enumerate(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)):
        found[number] = held[start:stop]
    return found
