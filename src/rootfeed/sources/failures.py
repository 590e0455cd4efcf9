"""Why bytes cannot be had: what a system, a server or a protocol raises, told as errors of ours.

Bytes that are wrong are another matter: see `rootfeed.errors`.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from collections.abc import Callable
from http import HTTPStatus

from rootfeed.errors import (
    AccessError,
    ChangedFileError,
    LimitError,
    MissingFileError,
    RootfeedError,
    UnreachableError,
    UnsupportedFileError,
)

__all__ = ["Located", "cause", "irregular", "is_denied", "is_transient", "reason", "unavailable"]

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_DENIED = frozenset(
    getattr(errno, name)
    for name in ("EACCES", "EPERM", "ENOKEY", "EKEYEXPIRED", "EKEYREVOKED", "EKEYREJECTED")
    if hasattr(errno, name)
)

_MISSING_STATUS = frozenset({404, 410})
_DENIED_STATUS = frozenset({401, 403, 407})
_TRANSIENT_STATUS = frozenset({408, 423, 425, 429, *range(500, 600)} - {501, 505})

# XRootD's numbers for what is not there and what may not be read, in the text of an OSError.
_XROOTD = re.compile(r"\[(?P<missing>3011)\]|\[(?P<denied>3010)\]|(?P<token>Auth failed)")

_PLENTY = 65536
"""Open files, where a user may have any number."""

_KEPT_BACK = (AccessError, ChangedFileError, MissingFileError, UnreachableError)

_LASTING = (
    RootfeedError,
    FileNotFoundError,
    IsADirectoryError,
    PermissionError,
    MemoryError,
    ImportError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    NotImplementedError,
)

_LASTING_NAMES = frozenset({"TooManyRedirects"})
_UNKNOWN_HOST = frozenset(
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA") if hasattr(socket, name)
)
"""What resolving a name says that no server knows; where none answers, it may pass."""

_CHECK_RIGHTS = (
    "Check the access rights, and that your token, certificate or ticket is there and has not expired."
)


def unavailable(path: str, what: str, error: BaseException) -> RootfeedError | None:
    """Return the error that tells why bytes cannot be had.

    Parameters
    ----------
    path : str
        The file, and what of it.
    what : str
        What went wrong with it: ``"cannot be opened"``.
    error : exception
        As it was raised.

    Returns
    -------
    RootfeedError or None
        None where the exception may as well be about the bytes themselves.
    """
    error = cause(error)
    if isinstance(error, RootfeedError):
        return error
    what = f"{path} {what}"
    if isinstance(error, MemoryError) or _number(error) == errno.ENOMEM:
        text = f" ({error})" if str(error) else ""
        return LimitError(
            f"{what}: out of memory{text}. The file may be whole. Free memory, use fewer workers, or "
            "give the loader less with memory=."
        )
    found = re.search(_XROOTD, str(error)) if isinstance(error, OSError) else None
    status, number = _status(error), _number(error)
    if found and found["missing"]:
        return MissingFileError(f"{path} does not exist ({_text(error)}).")
    if found:
        return AccessError(f"{what}: {_text(error)}. {_CHECK_RIGHTS}")
    if status is not None:
        if status in _MISSING_STATUS:
            return MissingFileError(f"{path} does not exist ({_said(status)}). Check the address.")
        if status in _DENIED_STATUS:
            return AccessError(f"{what}: {_said(status)}. {_CHECK_RIGHTS}")
        remedy = "Try again later." if status in _TRANSIENT_STATUS else "Check the address."
        return UnreachableError(f"{what}: {_said(status)}. {remedy}")
    if isinstance(error, FileNotFoundError) or number in _MISSING:
        return MissingFileError(
            f"{path} leads to links that lead to each other."
            if number == errno.ELOOP
            else f"{path} does not exist."
        )
    if isinstance(error, PermissionError) or number in _DENIED:
        return AccessError(f"{what}: {_text(error)}. {_CHECK_RIGHTS}")
    if number in (errno.EMFILE, errno.ENFILE):
        return LimitError(f"{what}: {_too_many(number)}")
    if isinstance(error, TimeoutError) or number == errno.ETIMEDOUT:
        return UnreachableError(
            f"{what}: no answer came in time ({_text(error)}). Check the network and the server, and "
            "try again."
        )
    if number is not None or isinstance(error, ConnectionError):
        return UnreachableError(
            f"{what}: {_text(error)}. The file may be whole: check the disk, the mount or the network "
            "that it comes from, and try again."
        )
    return None


def is_transient(error: BaseException) -> bool:
    """Tell whether the same request may succeed a little later."""
    error = cause(error)
    if (status := _status(error)) is not None:
        return status in _TRANSIENT_STATUS
    if type(error).__name__ in _LASTING_NAMES or _number(error) in _UNKNOWN_HOST:
        return False
    return not isinstance(error, _LASTING) and not re.search(_XROOTD, str(error))


def is_denied(error: BaseException) -> bool:
    """Tell whether a web server wants to know who asks, or does not give to this one."""
    return _status(cause(error)) in _DENIED_STATUS


def cause(error: BaseException) -> BaseException:
    """Return what an exception stands for: fsspec says of any failed request that a file is missing."""
    while isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


class Located:
    """A context that adds to an error about bytes that cannot be had which of them were being read.

    Parameters
    ----------
    what : function
        Returns a sentence; asked where there is an error only. May be entered several times.
    """

    def __init__(self, what: Callable[[], str]) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _KEPT_BACK):
            raise type(error)(f"{error} ({self._what()})") from error


def irregular(path: str, mode: int) -> RootfeedError | None:
    """Return the error for what is no plain file, given the mode that the system tells of it."""
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        # Directories of Parquet files are often called as the files are.
        every = "*" + (os.path.splitext(path)[1] or ".root")
        return MissingFileError(
            f"{path} is a directory. To take the files in it, say {os.path.join(path, every)!r}."
        )
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    return UnsupportedFileError(
        f"{path} is {kind}, which can be read only once and in order. Name a file on a disk."
    )


def _status(error: BaseException) -> int | None:
    """Return the HTTP status in an exception of aiohttp, requests, botocore or gcsfs."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return _as_status(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    own = "status" if hasattr(error, "status") else "code"  # aiohttp has both, and warns of its code
    for holder, name in ((response, "status_code"), (error, own)):
        if (status := _as_status(getattr(holder, name, None))) is not None:
            return status
    return None


def _as_status(value: object) -> int | None:
    return int(str(value)) if str(value).isdecimal() and 400 <= int(str(value)) < 600 else None


def _said(status: int) -> str:
    try:
        return f"its server answered {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"its server answered {status}"


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _text(error: BaseException) -> str:
    """Return the first line of what an exception says, and what the system calls it."""
    number = _number(error)
    if number in errno.errorcode and type(error).__module__ == "builtins":
        assert number is not None
        return f"{error.strerror if isinstance(error, OSError) else error} ({errno.errorcode[number]})"
    return reason(error)


def reason(error: BaseException) -> str:
    """Return what an error says, in a line without a stop: others are advice to uproot's own users."""
    text = f"{error}".strip().split("\n")[0][:200].rstrip(" .:")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _too_many(number: int) -> str:
    if number == errno.ENFILE:
        return (
            "too many open files on this machine (ENFILE). Close programs, or have the administrator "
            "raise the limit `fs.file-max`."
        )
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except (ImportError, OSError, ValueError):
        return "too many open files (EMFILE). Close files that are not needed any more."
    if soft == hard:
        remedy = "Have the administrator raise it"
    else:
        most = _PLENTY if hard == resource.RLIM_INFINITY else hard
        remedy = f"Raise it in the shell (`ulimit -n {most}`)"
    return (
        f"too many open files (EMFILE): this process may have {soft} (`ulimit -n`). {remedy}, or close "
        "files that are not needed any more."
    )
