"""Where a file's bytes come from: the local disk, or anything that fsspec reaches.

Files are opened for one task and closed after it (microseconds on a local disk), so that nothing
stays open between tasks and a fork shares no file position.
"""

from __future__ import annotations

import os
import re
import stat
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import fsspec
import numpy as np
import numpy.typing as npt

from rootfeed.errors import (
    ChangedFileError,
    DamagedFileError,
    RootfeedError,
    UnreachableError,
)
from rootfeed.schema import Version
from rootfeed.sources import web
from rootfeed.sources.failures import cause, irregular, is_transient, unavailable

__all__ = [
    "LocalStorage",
    "RemoteStorage",
    "Storage",
    "is_remote",
    "local_path",
    "open_storage",
    "persist",
]

Bytes = npt.NDArray[np.uint8]
Found = TypeVar("Found")
Span = tuple[int, int]

_LOCAL_PROTOCOL = re.compile(r"(file|local)://(localhost(?=/))?")

_HEAD_BYTES = 75  # up to the end of the UUID, also in a file with large positions (ROOT's `TFile`)

_GAP_BYTES = 64 << 10
"""Fetching so many bytes in vain costs less than another request."""

_REQUEST_BYTES = 8 << 20
"""Larger requests are divided, so that several run at a time."""

_WAITS_SECONDS = (0.1, 0.5, 2.0)
"""Before what failed is asked for again."""

_PATIENCE_SECONDS = 60
"""After which it is not: each request may have waited long for its answer."""

_ASKED_AGAIN = 3
"""How often a server is asked whether it stays with a version that is another one."""

_TAGS = ("ETag", "etag", "md5Hash", "checksum", "Content-MD5", "generation", "content_md5")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""What file systems of fsspec call a version of a file, and the time of its last change."""


class Storage(Protocol):
    """Random access to the bytes of one file, of one version.

    All but `close` raise `ChangedFileError` where it was opened as a version that it is not any more,
    and the errors of `failures.unavailable`.
    """

    file_bytes: int

    @property
    def version(self) -> Version:
        """What the file was when it was opened."""

    def prepare(self, ranges: Iterable[Span]) -> None:
        """Announce the ranges (offset, size) to be read next, so that they can be fetched at once."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Read ``len(out)`` bytes from `offset` on; `DamagedFileError` where the file ends earlier."""

    def verify(self) -> None:
        """Make sure that all that was read is of one version of the file."""

    def close(self) -> None:
        """Release the file."""


def is_remote(path: str) -> bool:
    """Tell whether a path names a protocol other than the local file system's."""
    return "://" in path and not _LOCAL_PROTOCOL.match(path)


def local_path(path: str) -> str:
    """Return a local path without its protocol."""
    return _LOCAL_PROTOCOL.sub("", path, count=1)


def open_storage(path: str, version: Version | None = None) -> Storage:
    """Open a file for reading.

    Parameters
    ----------
    path : str
        A local path or a URL that fsspec knows.
    version : Version, optional
        What was indexed: anything else is refused.

    Raises
    ------
    MissingFileError
        Where it does not exist.
    AccessError, UnreachableError
        Where it is kept back.
    ChangedFileError
        Where it is another one.
    """
    if is_remote(path):
        return RemoteStorage(path, version)
    return LocalStorage(local_path(path), version)


class LocalStorage:
    """A file on a local or mounted file system; one owner, so seeking is safe."""

    def __init__(self, path: str, version: Version | None = None) -> None:
        self.path = path
        try:
            self._file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._unavailable(error, "opened") from error
        try:
            self.version = self._now()
            if version is not None and self.version != version:
                raise _changed(path, version, self.version)
        except BaseException:
            self._file.close()
            raise
        self.file_bytes = self.version.file_bytes

    def prepare(self, ranges: Iterable[Span]) -> None:
        """Do nothing: the kernel reads ahead by itself."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Read ``len(out)`` bytes from `offset` on."""
        done = 0
        try:
            self._file.seek(offset)
            while done < len(out) and (got := self._file.readinto(memoryview(out)[done:])):
                done += got
        except OSError as error:
            raise self._unavailable(error, "read") from error
        if done < len(out):
            self.verify()
            raise _too_short(self.path, self.file_bytes, offset, len(out), done)

    def verify(self) -> None:
        """Compare size and head with those that the file had when it was opened."""
        if (now := self._now()) != self.version:
            raise _changed(self.path, self.version, now)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _now(self) -> Version:
        try:
            status = os.fstat(self._file.fileno())
            if (error := irregular(self.path, status.st_mode)) is not None:
                raise error
            self._file.seek(0)
            return Version(status.st_size, self._file.read(_HEAD_BYTES) or b"")
        except RootfeedError:
            raise
        except OSError as error:
            raise self._unavailable(error, "read") from error

    def _unavailable(self, error: OSError, done: str) -> RootfeedError:
        if isinstance(error, IsADirectoryError):
            found = irregular(self.path, stat.S_IFDIR)
        else:
            found = unavailable(self.path, f"cannot be {done}", error)
        return found or UnreachableError(f"{self.path} cannot be {done}: {error}.")


class RemoteStorage:
    """A file behind any fsspec protocol (https, s3, root, ...); ranges are fetched concurrently.

    What fails for a passing reason is asked for again. Of a known version, nothing is asked for when it
    is opened: `prepare` fetches the head with the other ranges, and `verify` asks for size and tag.
    """

    def __init__(self, url: str, version: Version | None = None) -> None:
        self.path = url
        self._known = version
        self._starts: list[int] = []
        self._contents: list[bytes | Exception] = []
        self._filesystem: Any
        filesystem, self._name = persist(url, lambda: fsspec.core.url_to_fs(url))
        self._filesystem = web.patient(filesystem)
        self.file_bytes, self._tag = (version.file_bytes, version.tag) if version else self._ask()
        self._options = web.range_options(self._filesystem, url, self.file_bytes)

    @property
    def version(self) -> Version:
        """What the file was when it was opened; costs a request unless its head was prepared."""
        return self._known or Version(self.file_bytes, self._head(), self._tag)

    def prepare(self, ranges: Iterable[Span]) -> None:
        """Fetch the ranges at once, near ones in one request; they are kept until the file is closed."""
        spans: list[list[int]] = []
        for start, size in sorted([(0, _HEAD_BYTES), *ranges]):
            # Some servers answer with an error to a range that ends after the file: `read_into` tells.
            stop = min(start + size, self.file_bytes)
            if spans and start <= spans[-1][1] + _GAP_BYTES and stop - spans[-1][0] <= _REQUEST_BYTES:
                spans[-1][1] = max(stop, spans[-1][1])
            elif start < stop:
                spans.append([start, stop])
        self._starts = [start for start, _ in spans]
        self._contents = self._fetch([(start, stop) for start, stop in spans])
        if self._known is not None:
            self._compare_head(self._known)

    def read_into(self, offset: int, out: Bytes) -> None:
        """Copy a range that was prepared, or fetch it."""
        stop = offset + len(out)
        if stop > self.file_bytes:
            got = max(0, self.file_bytes - offset)
            raise _too_short(self.path, self.file_bytes, offset, len(out), got)
        out[:] = np.frombuffer(self._bytes(offset, stop), np.uint8)

    def verify(self) -> None:
        """Ask again for size and tag; where there is no tag that tells, compare the head again."""
        version, (file_bytes, tag) = self.version, self._ask()
        # Several servers behind one address can have tags of their own: those tell no versions.
        is_steady = tag == version.tag or all(self._ask()[1] == tag for _ in range(_ASKED_AGAIN))
        self._compare(file_bytes, tag if is_steady else version.tag)
        if not tag or not is_steady:
            self._starts = []
            self._compare_head(version)

    def close(self) -> None:
        """Forget what was fetched."""
        self._starts, self._contents = [], []

    def _ask(self) -> tuple[int, str]:
        """Return the file's size and what stands for its version."""
        return self._told(persist(self.path, lambda: self._filesystem.info(self._name)))

    def _told(self, info: dict[str, Any]) -> tuple[int, str]:
        size = info.get("size")
        if size is None:
            raise UnreachableError(
                f"{self.path} cannot be read in parts: its server does not tell its size. "
                "Download it first."
            )
        tags = [info[key] for names in (_TAGS, _TIMES) for key in names if info.get(key)]
        # A proxy that compresses on the way says of a tag that it is weak.
        return int(size), f"{tags[0]}".removeprefix("W/") if tags else ""

    def _compare(self, file_bytes: int, tag: str) -> None:
        version = self.version
        if (file_bytes, tag) != (version.file_bytes, version.tag):
            raise _changed(self.path, version, version._replace(file_bytes=file_bytes, tag=tag))

    def _compare_head(self, version: Version) -> None:
        if (head := self._head()) != version.head:
            raise _changed(self.path, version, version._replace(head=head))

    def _head(self) -> bytes:
        return bytes(self._bytes(0, min(_HEAD_BYTES, self.file_bytes)))

    def _bytes(self, start: int, stop: int) -> bytes | memoryview:
        if start == stop:
            return b""
        span = bisect_right(self._starts, start) - 1
        first = self._starts[span] if span >= 0 else 0
        found = self._contents[span] if span >= 0 else b""
        if not isinstance(found, Exception) and stop - first > len(found):
            first, [found] = start, self._fetch([(start, stop)])
        if isinstance(found, Exception):
            raise self._meant(found)
        return memoryview(found)[start - first : stop - first]

    def _fetch(self, spans: Sequence[Span]) -> list[bytes | Exception]:
        """Return what each span (start, stop) holds, or what it raised at last."""
        contents: list[bytes | Exception] = [b""] * len(spans)
        missing = list(range(len(spans)))

        def ask() -> None:
            nonlocal missing
            asked = [spans[number] for number in missing]
            answers = self._filesystem.cat_ranges(
                [self._name] * len(asked),
                [start for start, _ in asked],
                [stop for _, stop in asked],
                **self._options,
            )
            for number, (start, stop), answer in zip(missing, asked, answers, strict=True):
                contents[number] = self._checked(answer, stop - start)
            failures = {
                number: content
                for number in missing
                if isinstance(content := contents[number], Exception) and is_transient(content)
            }
            missing = list(failures)
            for failure in failures.values():
                raise failure

        try:
            _repeat(ask)
        except Exception as error:
            for number in missing:
                if not isinstance(contents[number], Exception):
                    contents[number] = error
        return contents

    def _checked(self, answer: bytes | Exception, wanted: int) -> bytes | Exception:
        if isinstance(answer, Exception) or len(answer) == wanted:
            return answer
        if len(answer) > wanted:
            return web.no_ranges(self.path)
        return OSError(f"{len(answer)} bytes came of {wanted} that were asked for")

    def _meant(self, error: Exception) -> RootfeedError:
        """Return what an exception means: perhaps that the file is another one by now."""
        found = _unreachable(self.path, error)
        if self._known is not None and type(found) is UnreachableError:
            told = None
            with suppress(Exception):  # once: that the server fails is known
                told = self._told(self._filesystem.info(self._name))
            if told is not None:
                self._compare(*told)
        if found is not error:
            found.__cause__ = error
        return found


def persist(url: str, attempt: Callable[[], Found]) -> Found:
    """Return what a request gives; after some attempts raise an error of ours."""
    try:
        return _repeat(attempt)
    except RootfeedError:
        raise
    except Exception as error:
        raise _unreachable(url, error) from error


def _repeat(attempt: Callable[[], Found]) -> Found:
    """Try again, after growing waits, what fails for a reason that may pass."""
    started = time.monotonic()
    for wait_seconds in _WAITS_SECONDS:
        try:
            return attempt()
        except Exception as error:
            if not is_transient(error) or time.monotonic() - started > _PATIENCE_SECONDS:
                raise
        time.sleep(wait_seconds)
    return attempt()


def _unreachable(url: str, error: Exception) -> RootfeedError:
    reason = cause(error)
    if isinstance(error, ImportError):
        # fsspec's message names the package to install.
        return UnreachableError(f"{url} cannot be reached: {error}.")
    return unavailable(url, "cannot be read", error) or UnreachableError(
        f"{url} cannot be read: {type(reason).__name__}: {reason}. "
        + ("Check the network, and try again." if is_transient(error) else "Check the address.")
    )


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe, too, is opened at once, and refused afterwards."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _changed(path: str, then: Version, now: Version) -> ChangedFileError:
    if then.file_bytes != now.file_bytes:
        found = f"it had {then.file_bytes} bytes when it was opened and has {now.file_bytes} now"
    elif then.head != now.head:
        found = f"it has {now.file_bytes} bytes as before, and another header"
    else:
        return ChangedFileError(
            f"{path} was changed while it was being read: its server calls this version {now.tag!r}, "
            f"and called the one before {then.tag!r}. Open it again. If it is the same, several servers "
            "answer for it that do not agree on its version: download it first."
        )
    return ChangedFileError(f"{path} was changed while it was being read: {found}. Open it again.")


def _too_short(path: str, file_bytes: int, offset: int, wanted: int, got: int) -> RootfeedError:
    if offset + wanted <= file_bytes:
        return UnreachableError(
            f"{path} cannot be read: {got} bytes came of {wanted} at position {offset}, though it has "
            f"{file_bytes}. The file may be whole: check the disk or the mount that it comes from, and "
            "try again."
        )
    return DamagedFileError(
        f"{path} is truncated: expected {wanted} bytes at position {offset}, got {got}. "
        "Copy or produce the file again."
    )
