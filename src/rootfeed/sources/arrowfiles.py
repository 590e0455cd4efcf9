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
    UnsupportedFileError,
)
from rootfeed.schema import Array, Column, ColumnType, Encoding, Pages
from rootfeed.sources.arrowcolumns import ArrowColumns
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
    columns : ArrowColumns
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

        self.path, self.address = of.path, of.address
        self.storage, self.modified = storage, modified
        self.source = pa.PythonFile(_StorageFile(storage), "r")
        self._open(scratch, key)
        self.columns = ArrowColumns(self.schema, self.path, of.filling)

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
