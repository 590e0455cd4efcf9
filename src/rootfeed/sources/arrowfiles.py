"""What open files of Parquet and of Arrow have in common: columns, groups of entries, identity."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from rootfeed.errors import (
    ChangedFileError,
    DamagedFileError,
    UnsupportedColumnError,
    UnsupportedFileError,
)
from rootfeed.schema import Array, Column, ColumnType, Encoding, Pages
from rootfeed.sources.arrowarrays import nulls
from rootfeed.sources.arrowtypes import Field, column_type, fields_of
from rootfeed.sources.filling import as_type, type_of
from rootfeed.sources.metadata import damaged
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Address, Storage, local_path

__all__ = ["ArrowFile", "bounds_of", "bytes_of", "changed", "modified_at"]

_SAMPLES = 16
_SAMPLE_BYTES = 4096
"""Of the values, for the identity: footers of files of equal length can be equal."""


def changed(path: str) -> ChangedFileError:
    """Return the error about a file that was written to."""
    return ChangedFileError(
        f"{path} was changed while it was being read: it was written to after it was opened. "
        "Open it again."
    )


def modified_at(address: Address) -> int:
    """Return when a local file was changed; 0 of what storage tells to be missing, or of a server's."""
    try:
        return 0 if address.is_remote else os.stat(local_path(address.urls[0])).st_mtime_ns
    except OSError:
        return 0


def bytes_of(storage: Storage, offset: int, size: int) -> bytes:
    """Return some bytes of a file."""
    out = np.empty(size, np.uint8)
    storage.read_into(offset, out)
    return out.tobytes()


class _StorageFile:
    """Storage as the file that pyarrow reads."""

    mode = "rb"
    closed = False

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        return self._next(size).tobytes()

    def read_buffer(self, size: int = -1) -> Any:
        import pyarrow as pa

        return pa.py_buffer(self._next(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size()}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def size(self) -> int:
        return self._storage.file_bytes

    def close(self) -> None:
        """Do nothing: storage is closed by who opened it."""

    def _next(self, size: int) -> Array:
        left = max(0, self.size() - self._position)
        out = np.empty(left if size < 0 else min(size, left), np.uint8)
        self._storage.read_into(self._position, out)
        self._position += len(out)
        return out


class ArrowFile:
    """An open file of either format.

    Attributes
    ----------
    schema : pyarrow.Schema
    bounds : ndarray of int64, shape (groups + 1,)
        Entries between which row groups or record batches end, empty ones included.
    """

    format: Literal["Parquet", "Arrow"]
    schema: Any
    bounds: Array
    footer_bytes: int

    def __init__(
        self,
        of: Any,
        storage: Storage,
        modified: int,
        scratch: Scratch,
        key: Any,
    ) -> None:
        import pyarrow as pa

        self.path, self.address, self.filling = of.path, of.address, of.filling
        self.storage, self.modified = storage, modified
        self.source = pa.PythonFile(_StorageFile(storage), "r")
        self._open(scratch, key)
        fields = fields_of(self.schema)
        first: dict[str, int] = {}
        for each in fields:
            first.setdefault(each.path[0], each.position)
        self._names = [
            each.name for each in fields if len(each.path) == 1 or first[each.path[0]] == each.position
        ]
        # A member of structs that is called like a column gives way.
        self.fields: dict[str, Field] = {}
        for each in sorted(fields, key=lambda each: len(each.path) > 1):
            if first[each.path[0]] == each.position:
                self.fields.setdefault(each.name, each)

    def _open(self, scratch: Scratch, key: Any) -> None:
        raise NotImplementedError

    def parts(self, name: str, start: int, stop: int) -> Iterator[Any]:
        """Yield the entries ``[start, stop)`` of a column as Arrow arrays."""
        raise NotImplementedError

    def use(self, names: Sequence[str]) -> None:
        """Say which columns are going to be read."""

    def stored(self, name: str, type_: ColumnType) -> tuple[Array, Array, float]:
        """Return of each group where a column lies and its bytes, and the decoded bytes of an entry."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go what was opened."""
        self.source.close()

    def types(self) -> dict[str, ColumnType]:
        """Return the type of each column; a struct is followed by its members."""
        return {name: self.type(name) for name in dict.fromkeys(self._names)}

    def type(self, name: str) -> ColumnType:
        """Return the type of a column: of one that has no values, that of what fills it."""
        fill = self.fill(name)
        if self._is_null(name) and fill is not None:
            return type_of(fill)
        return column_type(self.fields[name].type)

    def fill(self, name: str) -> Any:
        """Return what was given for values of a column that are missing; None where nothing was."""
        return None if self.filling is None else self.filling.of(name)

    def check(self, name: str) -> None:
        """Refuse a column that cannot be read at all."""
        import pyarrow as pa

        type_ = self.fields[name].type
        if self._is_null(name) and self.fill(name) is None:
            raise nulls(self.path, name, "all of its entries")
        if pa.types.is_decimal(type_) or pa.types.is_interval(type_):
            raise UnsupportedColumnError(
                f"{self.path}: column {name!r} is of type {type_}, which has no native counterpart. "
                "Leave it out, or write it as numbers: column.cast('float64') in pyarrow, "
                "astype('float64') in pandas."
            )

    def _is_null(self, name: str) -> bool:
        import pyarrow as pa

        found: bool = pa.types.is_null(self.fields[name].type)
        return found

    def duplicates(self) -> dict[str, str]:
        """Return the names that several columns have, and a sentence about each."""
        if len(self.fields) == len(self._names):
            return {}
        return {
            name: f"{self.path} has {self._names.count(name)} columns of the name {name!r}: the first "
            "counts; of a column and a member of a struct, the column. Rename the others to read them."
            for name in self.fields
            if self._names.count(name) > 1
        }

    def check_nulls(self, name: str, type_: ColumnType, count: int) -> None:
        """Refuse a column of which metadata say that values are missing, unless something fills them."""
        if count and (fill := self.fill(name)) is None:
            raise nulls(self.path, name, f"{count} of its entries")
        if count:
            as_type(fill, self.path, name, type_)

    def column(self, name: str, type_: ColumnType) -> Column:
        """Return where a column lies."""
        offset, stored, value_bytes = self.stored(name, type_)
        filled = np.diff(self.bounds) > 0
        element = np.dtype(np.uint8) if type_.dtype is None else type_.dtype
        pages = Pages(
            bounds=np.append(0, self.bounds[1:][filled]),
            offset=offset[filled],
            stored_bytes=stored[filled],
            encoding=np.zeros(int(filled.sum()), np.uint8),
            checksum=np.zeros(int(filled.sum()), np.bool_),
            encodings=(Encoding("plain", element),),
        )
        return Column(name, type_, pages, name, value_bytes=value_bytes)

    def groups(self, start: int, stop: int) -> range:
        """Return the groups that hold some entries."""
        first = int(np.searchsorted(self.bounds, start, "right")) - 1
        return range(first, max(first, int(np.searchsorted(self.bounds, stop, "left"))))

    def identity(self) -> bytes:
        """Return 16 bytes that tell the file from others: of its footer, and of samples before it."""
        size = self.storage.file_bytes
        last = max(0, size - self.footer_bytes - _SAMPLE_BYTES)
        places = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
        ranges = [(place, min(_SAMPLE_BYTES, size - place)) for place in places]
        ranges.append((size - self.footer_bytes, self.footer_bytes))
        self.storage.prepare(ranges)
        digest = hashlib.blake2b(f"{size}".encode(), digest_size=16)
        for offset, length in ranges:
            digest.update(bytes_of(self.storage, offset, length))
        return digest.digest()

    def verify(self) -> None:
        """Make sure that the file is what it was when it was opened."""
        self.storage.verify()
        if modified_at(self.address) != self.modified:
            raise changed(self.path)

    @contextmanager
    def reading(self, name: str, start: int, stop: int) -> Iterator[None]:
        """Say of an error what was being read; what looks like damage may be another file."""
        import pyarrow as pa

        what = f"{self.path}: the entries [{start}, {stop}) of column {name!r} cannot be read"
        try:
            with damaged(what):
                yield
        except DamagedFileError as error:
            self.verify()
            if isinstance(error.__cause__, pa.ArrowNotImplementedError):
                raise UnsupportedFileError(
                    f"{what}: {error.__cause__}. Write the file again, for example compressed by zstd."
                ) from error
            raise


def bounds_of(path: str, lengths: Iterable[int], entries: int | None = None) -> Array:
    """Return the entries between which groups of some lengths end."""
    every = list(lengths)
    total = sum(every)
    if min(every, default=0) < 0 or total > np.iinfo(np.int64).max or entries not in (None, total):
        raise DamagedFileError(
            f"{path}: its parts do not have the {entries} entries that it claims. "
            "Copy or produce the file again."
        )
    return np.cumsum([0, *every], dtype=np.int64)
