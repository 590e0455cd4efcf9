"""XRootD (`root://`): many ranges in one request, and a client that would wait for minutes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from threading import Event
from typing import Any

from rootfeed.processes import ForkLock, unforked
from rootfeed.sources.storage.base import Span
from rootfeed.sources.storage.retries import Patience
from rootfeed.sources.storage.servers import Answer, Server

__all__ = ["XRootDServer"]

_SHARES = 3

_lock = ForkLock()
_set: dict[str, int] = {}


class XRootDServer(Server):
    """A file on an XRootD server or behind a redirector."""

    gap_bytes = 512  # a range of a vector read costs 16 bytes
    cancels = False  # its client gives up by itself, and would tell nobody's errors to the log

    def __init__(self, url: str, options: Mapping[str, Any], timeout: float, stopped: Event) -> None:
        _limit(timeout)
        super().__init__(url, options, timeout, stopped)

    @staticmethod
    def defaults(timeout: float) -> dict[str, Any]:
        """Return limits for each request; kept listings go stale, and break looking files up."""
        return {"timeout": max(round(timeout), 1), "use_listings_cache": False}

    def fetch(self, spans: Sequence[Span], file_bytes: int, patience: Patience) -> Answer:
        """Return what each span (start, stop) holds: in one request, or a few."""
        try:
            return super().fetch(spans, file_bytes, patience)
        except ValueError as error:  # of a file that an earlier failure has closed
            raise ConnectionError(f"{error}") from error

    def glob(self, folder: str, patience: Patience) -> list[str]:
        """Return the files of this name, level by level: fsspec's way misses those at a server's top."""
        pattern = self.name.removeprefix(folder)
        if "**" in pattern:
            return super().glob(folder, patience)
        found = [""]
        for level in pattern.split("/"):
            found = [
                f"{parent}/{name}" if parent else name
                for parent in found
                for name in self._names(folder + parent, patience)
                if fnmatchcase(name, level)
            ]
        return sorted(folder + name for name in found)

    def _names(self, folder: str, patience: Patience) -> list[str]:
        listed = self.wait(self.filesystem._ls(folder.rstrip("/") or "/"), patience.left)
        return [posixpath.basename(item["name"]) for item in listed]

    def reconnect(self) -> None:
        """Forget the open file: one whose connection failed does not recover for some time."""
        cache = getattr(self.filesystem, "_readonly_filehandle_cache", None)
        handles = getattr(cache, "_cache", {})
        handles.pop(self.filesystem.unstrip_protocol(self.name), None)


def _limit(timeout: float) -> None:
    """Let the client give up in time, and try again after a failure, as it would not for half an hour.

    These settings belong to the process. What the environment says (``XRD_REQUESTTIMEOUT``) counts more,
    and the longest of several time-outs.
    """
    share = max(int(timeout / _SHARES), 1)
    wanted = {
        "ConnectionWindow": share,
        "ConnectionRetry": 1,
        "StreamErrorWindow": 0,
        "StreamTimeout": share,
        "RequestTimeout": max(round(timeout), 1),
        "TimeoutResolution": 1,
    }
    with _lock:
        wanted = {
            name: value
            for name, value in wanted.items()
            if f"XRD_{name.upper()}" not in os.environ and value > _set.get(name, -1)
        }
        if not wanted:
            return
        try:
            with unforked():
                from XRootD import client
        except ImportError:  # what is missing is said by whoever needs it
            return
        for name, value in wanted.items():
            client.EnvPutInt(name, value)
        _set.update(wanted)
