"""Files on a local or mounted file system."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable

from rootfeed.errors import RootfeedError, UnreachableError
from rootfeed.schema import Version
from rootfeed.sources.failures import irregular, unavailable
from rootfeed.sources.storage.base import HEAD_BYTES, Bytes, Span, changed, too_short

__all__ = ["LocalStorage"]

_SETTLED_NS = 2_000_000_000
"""After which a change gives a file another time: some file systems count whole seconds."""


class LocalStorage:
    """A file on a local or mounted file system; one owner, so seeking is safe.

    Attributes
    ----------
    evidence : tuple
        Size, times of the last change, inode and head; empty where the last change is so near that
        another one may have the same time.
    """

    def __init__(self, path: str, version: Version | None = None) -> None:
        self.path = path
        opened = time.time_ns()
        try:
            self._file = open(path, "rb", buffering=0, opener=_without_waiting)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise self._unavailable(error, "opened") from error
        try:
            self.version = self._now()
            if version is not None and self.version != version:
                raise changed(path, version, self.version)
        except BaseException:
            self._file.close()
            raise
        self.file_bytes = self.version.file_bytes
        status, (_, head, _) = self._status, self.version
        times = status.st_mtime_ns, status.st_ctime_ns
        is_settled = opened - max(times) > _SETTLED_NS
        self.evidence: tuple[int | str | bytes, ...] = (
            (status.st_size, *times, status.st_ino, head) if is_settled else ()
        )

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
            raise too_short(self.path, self.file_bytes, offset, len(out), done)

    def verify(self) -> None:
        """Compare size and head with those that the file had when it was opened."""
        if (now := self._now()) != self.version:
            raise changed(self.path, self.version, now)

    def keep(self) -> None:
        """Keep nothing: the kernel does."""

    def forget(self) -> bool:
        """Tell that a disk gives the same bytes again."""
        return False

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _now(self) -> Version:
        try:
            self._status = status = os.fstat(self._file.fileno())
            if (error := irregular(self.path, status.st_mode)) is not None:
                raise error
            self._file.seek(0)
            return Version(status.st_size, self._file.read(HEAD_BYTES) or b"")
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


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe, too, is opened at once, and refused afterwards."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
