"""What all kinds of storage have in common: the protocol, and errors about what is not there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ChangedFileError, DamagedFileError, RootfeedError, UnreachableError
from rootfeed.schema import Version

__all__ = ["HEAD_BYTES", "Bytes", "Span", "Storage", "changed", "too_short"]

Bytes = npt.NDArray[np.uint8]
Span = tuple[int, int]

HEAD_BYTES = 75
"""Up to the end of the UUID, also in a file with large positions (ROOT's `TFile`)."""


class Storage(Protocol):
    """Random access to the bytes of one file, of one version.

    All but `close` and `forget` raise `ChangedFileError` where it was opened as a version that it is not
    any more, and the errors of `failures.unavailable`.
    """

    file_bytes: int

    @property
    def version(self) -> Version:
        """What the file was when it was opened."""

    @property
    def evidence(self) -> tuple[int | str | bytes, ...]:
        """What tells this version of the file from all others, also later; empty where nothing does."""

    def prepare(self, ranges: Iterable[Span]) -> None:
        """Announce the ranges (offset, size) to be read next, so that they can be fetched at once."""

    def read_into(self, offset: int, out: Bytes) -> None:
        """Read ``len(out)`` bytes from `offset` on; `DamagedFileError` where the file ends earlier."""

    def verify(self) -> None:
        """Make sure that all that was read is of one version of the file."""

    def keep(self) -> None:
        """Let a cache keep what was read: after `verify`, or where nobody verifies."""

    def forget(self) -> bool:
        """Let go of what was fetched, and tell whether reading again may give other bytes."""

    def close(self) -> None:
        """Release the file."""


def changed(path: str, then: Version, now: Version) -> ChangedFileError:
    """Return the error about a file that is another one by now."""
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


def too_short(path: str, file_bytes: int, offset: int, wanted: int, got: int) -> RootfeedError:
    """Return the error about bytes that did not come: of a damaged file only where it ends there."""
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
