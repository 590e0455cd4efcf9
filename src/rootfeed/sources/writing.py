"""New files: complete under their names, or not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rootfeed.errors import (
    AccessError,
    ArgumentError,
    MissingFileError,
    RootfeedError,
    UnreachableError,
    UnsupportedColumnError,
)
from rootfeed.schema import ColumnType
from rootfeed.sources.storage import is_remote

__all__ = ["check_types", "unfinished", "writable"]

_FULL = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))


@contextmanager
def unfinished(path: str | Path) -> Iterator[Path]:
    """Give a path beside that of a file, which is replaced when all is written, and on the disk.

    Raises
    ------
    MissingFileError, AccessError, UnreachableError
        Where it cannot be written; nothing of it is left.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part{os.getpid()}")
    try:
        yield part
        _synchronize(part)
        part.replace(path)
    except RootfeedError:
        raise
    except OSError as error:
        raise _told(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def check_types(types: Mapping[str, ColumnType]) -> None:
    """Refuse columns that are not written.

    Raises
    ------
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text.
    """
    for column, type_ in types.items():
        if type_.dtype is None and type_.kind != "text":
            raise UnsupportedColumnError(
                f"column {column!r} ({type_.text}) holds neither numbers, nor vectors of numbers, nor "
                "text, which are all that is written. Name the columns without it."
            )


def writable(file: str | Path, read: Iterable[str]) -> Path:
    """Return the path of a file that may be written while others are read.

    Raises
    ------
    ArgumentError
        Where it is one of these, or not local.
    """
    if is_remote(str(file)):
        raise ArgumentError(
            f"a file that is written must be local, got {str(file)!r}. Copy it afterwards."
        )
    path = Path(file)
    if path.exists() and any(Path(other).exists() and path.samefile(other) for other in read):
        raise ArgumentError(f"{path} is one of the files that are read. Name another one to write.")
    return path


def _synchronize(path: Path) -> None:
    """Wait until a file is on the disk, or a server's: some tell only then that they are full."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _told(path: Path, error: OSError) -> RootfeedError:
    text = f"{path} cannot be written: {error.strerror or error}."
    if not path.parent.is_dir():
        return MissingFileError(f"{text} There is no directory {str(path.parent)!r}: make it first.")
    if isinstance(error, PermissionError):
        return AccessError(f"{text} Name a place that you may write to.")
    if error.errno in _FULL:
        return UnreachableError(f"{text} Free some room, or name another place. Nothing of it is left.")
    return UnreachableError(f"{text} Check the disk or the mount. Nothing of it is left.")
