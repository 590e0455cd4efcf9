"""A file on a server, through a file system of fsspec that does not wait forever."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Any, NamedTuple

from rootfeed.errors import UnreachableError
from rootfeed.processes import unforked
from rootfeed.sources.storage.address import shown
from rootfeed.sources.storage.base import Span
from rootfeed.sources.storage.retries import Patience

__all__ = ["Answer", "Server", "fsspec", "merged", "tag_of"]

_LOOK_SECONDS = 0.1
"""How often somebody who waits looks whether he should go on."""

_SLOWEST_BYTES = 1_000_000
"""A second: what is slower is not waited for, where silence cannot be told from slowness."""

_TAGS = ("ETag", "etag", "md5Hash", "checksum", "Content-MD5", "generation", "content_md5")
_TIMES = ("Last-Modified", "LastModified", "last_modified", "mtime", "modified", "updated", "created")
"""What file systems of fsspec call a version of a file, and the time of its last change."""


class Answer(NamedTuple):
    """What came for some ranges.

    Attributes
    ----------
    contents : list of bytes or Exception
    tags : set of str or None
        What was said of the file's version with them; None where nothing was.
    """

    contents: list[bytes | memoryview | Exception]
    tags: set[str] | None


def fsspec() -> Any:
    """Import fsspec, which only files on servers need; it brings asyncio."""
    with unforked():
        import fsspec
        import fsspec.asyn
        import fsspec.config
    return fsspec


def tag_of(told: Mapping[str, Any]) -> str:
    """Return what stands for a file's version in what is told of it; empty where nothing does."""
    tags = [told[key] for names in (_TAGS, _TIMES) for key in names if told.get(key)]
    # A proxy that compresses on the way says of a tag that it is weak.
    return f"{tags[0]}".removeprefix("W/") if tags else ""


def merged(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, with defaults where they say nothing; mappings in them likewise."""
    found = {**defaults, **options}
    for name, value in defaults.items():
        if isinstance(value, dict) and isinstance(options.get(name), Mapping):
            found[name] = {**value, **options[name]}
    return found


class Server:
    """One server's copy of a file.

    Parameters
    ----------
    url : str
    options : mapping
        What fsspec takes for the protocol.
    timeout : float
        Seconds that it has to answer.
    stopped : threading.Event
        Nobody waits any more when it is set.

    Attributes
    ----------
    filesystem : fsspec's file system
    name : str
        Of the file in it.
    gap_bytes : int
        Fetching so many bytes in vain costs less than another range.
    cancels : bool
        Whether what nobody waits for any more can be cancelled.
    """

    gap_bytes = 64 << 10
    cancels = True

    def __init__(self, url: str, options: Mapping[str, Any], timeout: float, stopped: Event) -> None:
        self.url = url
        self.stopped = stopped
        self.filesystem: Any
        self.filesystem, self.name = fsspec().core.url_to_fs(url, **options)

    @staticmethod
    def defaults(timeout: float) -> dict[str, Any]:
        """Return the options that a server of this kind gets unless the user says otherwise."""
        return {}

    def info(self, patience: Patience) -> dict[str, Any]:
        """Return what the server tells of the file."""
        if not self._is_asynchronous:
            found: dict[str, Any] = self.filesystem.info(self.name)
            return found
        asked: dict[str, Any] = self.wait(self.filesystem._info(self.name), patience.silence)
        return asked

    def fetch(self, spans: Sequence[Span], file_bytes: int, patience: Patience) -> Answer:
        """Return what each span (start, stop) holds, or what went wrong with it."""
        wanted = [self.name] * len(spans), [start for start, _ in spans], [stop for _, stop in spans]
        if not self._is_asynchronous:
            return Answer(self.filesystem.cat_ranges(*wanted), None)
        size = sum(stop - start for start, stop in spans)
        seconds = patience.left + size / _SLOWEST_BYTES
        return Answer(self.wait(self.filesystem._cat_ranges(*wanted), seconds), None)

    def glob(self, folder: str, patience: Patience) -> list[str]:
        """Return the files of this name, which is a pattern; what is wrong with its folder is raised."""
        if not self._is_asynchronous:
            if not (found := self.filesystem.glob(self.name)):
                with suppress(FileNotFoundError):
                    self.filesystem.ls(folder or "/")  # which raises what `glob` passes over
            return sorted(found)
        if not (found := self.wait(self.filesystem._glob(self.name), patience.left)):
            with suppress(FileNotFoundError):
                self.wait(self.filesystem._ls(folder), patience.left)
        return sorted(found)

    def wait(self, coroutine: Coroutine[Any, Any, Any], seconds: float | None) -> Any:
        """Run something on fsspec's thread, and wait for it: not for long, nor for nobody."""
        if self.stopped.is_set():
            coroutine.close()
            raise UnreachableError(f"{shown(self.url)} was not waited for.")
        until = None if seconds is None else time.monotonic() + seconds
        import asyncio  # which came with fsspec

        future = asyncio.run_coroutine_threadsafe(coroutine, self.filesystem.loop)
        try:
            while not future.done():
                left = _LOOK_SECONDS if until is None else until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                concurrent.futures.wait([future], min(left, _LOOK_SECONDS))
                if self.stopped.is_set():
                    raise UnreachableError(f"{shown(self.url)} was not waited for.")
            return future.result()
        finally:
            if self.cancels:
                future.cancel()

    def reconnect(self) -> None:
        """Forget what belongs to a connection that failed."""

    @property
    def _is_asynchronous(self) -> bool:
        return isinstance(self.filesystem, fsspec().asyn.AsyncFileSystem)
