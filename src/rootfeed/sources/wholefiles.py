"""What the readers of other libraries need of a storage: a file object, and whether a file changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import numpy as np

from rootfeed.errors import ChangedFileError, RootfeedError
from rootfeed.schema import Array
from rootfeed.sources.storage import Address, Storage, local_path

__all__ = ["StorageFile", "bytes_of", "changed", "fingerprint", "modified_at", "state_of"]

_SAMPLES = 16
_SAMPLE_BYTES = 4096


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


def state_of(address: Address) -> tuple[int, ...]:
    """Return what tells a local file from those that were there before, also of the same time and size.

    Other than `modified_at`, it may change where the file does not: it decides what is looked at anew.
    """
    if address.is_remote:
        return ()
    with suppress(OSError):
        status = os.stat(local_path(address.urls[0]))
        return status.st_ino, status.st_ctime_ns
    return ()


def bytes_of(storage: Storage, offset: int, size: int) -> bytes:
    """Return some bytes of a file."""
    out = np.empty(size, np.uint8)
    storage.read_into(offset, out)
    return out.tobytes()


def fingerprint(storage: Storage, also: Iterable[bytes]) -> bytes:
    """Return 16 bytes of a file's size, of samples of its bytes, and of what else tells it apart."""
    size = storage.file_bytes
    last = max(0, size - _SAMPLE_BYTES)
    places = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
    ranges = [(place, min(_SAMPLE_BYTES, size - place)) for place in places]
    storage.prepare(ranges)
    digest = hashlib.blake2b(f"{size}".encode(), digest_size=16)
    for offset, length in ranges:
        digest.update(bytes_of(storage, offset, length))
    for each in also:
        digest.update(each)
    return digest.digest()


class StorageFile:
    """Storage as a file that is read; what fails is kept, since libraries hide it.

    Parameters
    ----------
    storage : Storage
    around : int
        Bytes that are asked of a server at once where fewer are read; 1 to ask for no more.
    """

    mode = "rb"
    closed = False

    def __init__(self, storage: Storage, around: int = 1) -> None:
        self._storage = storage
        self._around = around
        self._position = 0
        self.error: RootfeedError | None = None

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        return self._next(size).tobytes()

    def readinto(self, out: Any) -> int:
        """Fill a buffer, all of which must lie in the file."""
        found = self._next(len(out))
        if len(found) < len(out):
            raise OSError(
                f"{len(out)} bytes are expected at position {self._position}: the file ends before"
            )
        memoryview(out)[:] = found.data
        return len(found)

    def read_buffer(self, size: int = -1) -> Any:
        """Return the next bytes as pyarrow's buffer."""
        import pyarrow as pa

        return pa.py_buffer(self._next(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size()}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def size(self) -> int:
        """Return the bytes of the file."""
        return self._storage.file_bytes

    def flush(self) -> None:
        """Do nothing: nothing is written."""

    def close(self) -> None:
        """Do nothing: storage is closed by who opened it."""

    def _next(self, size: int) -> Array:
        left = max(0, self.size() - self._position)
        out = np.empty(left if size < 0 else min(size, left), np.uint8)
        if not len(out):
            return out
        try:
            if self._around > 1:
                start = self._position // self._around * self._around
                stop = -(-(self._position + len(out)) // self._around) * self._around
                self._storage.prepare([(start, stop - start)])
            self._storage.read_into(self._position, out)
        except RootfeedError as error:
            self.error = error
            raise
        self._position += len(out)
        return out
