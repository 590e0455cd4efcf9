"""Where a file's bytes come from: the local disk, or anything that fsspec reaches.

Files are opened for one task and closed after it (microseconds on a local disk), so that nothing
stays open between tasks and a fork shares no file position.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import fsspec
import numpy as np
import numpy.typing as npt

from rootfeed.errors import DamagedFileError, MissingFileError

__all__ = ["LocalStorage", "RemoteStorage", "Storage", "is_remote", "open_storage", "reached"]

Bytes = npt.NDArray[np.uint8]

_HEAD_BYTES = 75  # up to the end of the UUID, also in a file with large positions (ROOT's `TFile`)

_GAP_BYTES = 64 << 10
"""Fetching so many bytes in vain costs less than another request."""

_REQUEST_BYTES = 8 << 20
"""Larger requests are divided, so that several run at a time."""


class Storage(Protocol):
    """Random access to the bytes of one file."""

    file_bytes: int
    head: bytes
    """The first bytes, where they cost no request: a ROOT file's own size, places and UUID."""

    def prepare(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Announce the ranges (offset, size) to be read next, so that they can be fetched at once."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Read ``len(out)`` bytes from `offset` on; `DamagedFileError` where the file ends earlier."""

    def close(self) -> None:
        """Release the file."""


def is_remote(path: str) -> bool:
    """Tell whether a path names a protocol other than the local file system's."""
    scheme, found, _ = path.partition("://")
    return bool(found) and scheme != "file"


def open_storage(path: str) -> Storage:
    """Open a file for reading.

    Parameters
    ----------
    path : str
        A local path or a URL that fsspec knows.

    Raises
    ------
    MissingFileError
        Where it does not exist.
    """
    if is_remote(path):
        return RemoteStorage(path)
    return LocalStorage(path.removeprefix("file://"))


def _too_short(path: str, offset: int, wanted: int, got: int) -> DamagedFileError:
    return DamagedFileError(
        f"{path} is truncated: expected {wanted} bytes at position {offset}, got {got}. "
        "Copy or produce the file again."
    )


class LocalStorage:
    """A file on a local or mounted file system; one owner, so seeking is safe."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingFileError(f"{path} does not exist.") from error
        except OSError as error:
            raise MissingFileError(f"{path} cannot be opened: {error.strerror}.") from error
        self.file_bytes = os.fstat(self._file.fileno()).st_size
        self.head = self._file.read(_HEAD_BYTES)

    def prepare(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Do nothing: the kernel reads ahead by itself."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Read ``len(out)`` bytes from `offset` on."""
        self._file.seek(offset)
        done = 0
        while done < len(out):
            got = self._file.readinto(memoryview(out)[done:])
            if not got:
                raise _too_short(self.path, offset, len(out), done)
            done += got

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RemoteStorage:
    """A file behind any fsspec protocol (https, s3, root, ...); ranges are fetched concurrently."""

    def __init__(self, url: str) -> None:
        self.path = url
        self._filesystem: Any
        with reached(url):
            self._filesystem, self._name = fsspec.core.url_to_fs(url)
            self.file_bytes = int(self._filesystem.size(self._name))
        self.head = b""
        self._starts: list[int] = []
        self._contents: list[bytes | Exception] = []

    def prepare(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Fetch the ranges at once, near ones in one request; they are kept until the file is closed."""
        spans: list[list[int]] = []
        for start, size in sorted(ranges):
            # Some servers answer with an error to a range that ends after the file: `read_into` tells.
            stop = min(start + size, self.file_bytes)
            if spans and start <= spans[-1][1] + _GAP_BYTES and stop - spans[-1][0] <= _REQUEST_BYTES:
                spans[-1][1] = max(stop, spans[-1][1])
            elif start < stop:
                spans.append([start, stop])
        self._starts = [start for start, _ in spans]
        with reached(self.path):
            self._contents = self._filesystem.cat_ranges(
                [self._name] * len(spans), self._starts, [stop for _, stop in spans]
            )

    def read_into(self, offset: int, out: Bytes) -> None:
        """Copy a range that was prepared, or fetch it."""
        stop = offset + len(out)
        if stop > self.file_bytes:
            raise _too_short(self.path, offset, len(out), max(0, self.file_bytes - offset))
        with reached(self.path):
            data = self._prepared(offset, stop)
            if data is None:
                data = self._filesystem.cat_file(self._name, start=offset, end=stop)
        if len(data) != len(out):
            raise _too_short(self.path, offset, len(out), len(data))
        out[:] = np.frombuffer(data, np.uint8)

    def _prepared(self, offset: int, stop: int) -> memoryview | None:
        span = bisect_right(self._starts, offset) - 1
        if span < 0:
            return None
        contents = self._contents[span]
        if isinstance(contents, Exception):
            raise contents
        start = self._starts[span]
        if stop > start + len(contents):
            return None
        return memoryview(contents)[offset - start : stop - start]

    def close(self) -> None:
        """Forget what was fetched."""
        self._starts, self._contents = [], []


@contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn what a protocol raises (each has errors of its own) into `MissingFileError`."""
    try:
        yield
    except FileNotFoundError as error:
        # fsspec says the same of a server that does not answer.
        raise MissingFileError(
            f"{url} does not exist, or its server cannot be reached. Check the address and the network."
        ) from error
    except ImportError as error:
        # fsspec's message names the package to install.
        raise MissingFileError(f"{url} cannot be reached: {error}.") from error
    except Exception as error:
        raise MissingFileError(
            f"{url} cannot be reached: {type(error).__name__}: {error}. "
            "Check the address, the network and the access rights."
        ) from error
