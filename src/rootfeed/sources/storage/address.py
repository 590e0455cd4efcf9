"""Where a file is and how it is reached, and what of that may be shown: no secrets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rootfeed.errors import ArgumentError

__all__ = [
    "TIMEOUT_SECONDS",
    "Address",
    "checked_access",
    "is_remote",
    "local_path",
    "replicas",
    "shown",
]

TIMEOUT_SECONDS = 30.0
"""How long a server that does not answer is waited for, unless somebody says otherwise."""

_LOCAL_PROTOCOL = re.compile(r"(file|local)://(localhost(?=/))?")
_REPLICA = re.compile(r"\|(?=[a-z][a-z0-9+.-]*(?:::|://))", re.IGNORECASE)

# What of an address is a secret: the value of anything in a query, and a password.
_QUERY_VALUE = re.compile(r"(?P<name>[?&][\w.~%+\[\]-]+=)(?P<secret>[^&#|\s'\"]+)")
_WHOLE_QUERY = re.compile(r"(?P<name>https?://[^?#|\s]*\?)(?P<secret>(?![\w.~%+\[\]-]+=)[^#|\s'\"]+)")
_PASSWORD = re.compile(r"(?P<name>://[^/@:\s]*:)(?P<secret>[^/@\s]+)(?=@)")
_WEB_USER = re.compile(r"(?P<name>https?://)(?P<secret>[^/@:\s]+)(?=@)")
_SECRETS = (_QUERY_VALUE, _WHOLE_QUERY, _PASSWORD, _WEB_USER)

_HIDDEN = "***"
_SHORTEST_SECRET = 4
"""Letters of a text in options that is hidden in what others say: shorter ones are parts of words."""


def is_remote(path: str) -> bool:
    """Tell whether a path names a protocol other than the local file system's."""
    return "://" in path and not _LOCAL_PROTOCOL.match(path)


def local_path(path: str) -> str:
    """Return a local path without its protocol."""
    return _LOCAL_PROTOCOL.sub("", path, count=1)


def replicas(path: str) -> list[str]:
    """Return the addresses in ``root://a//f.root|root://b//f.root``; a local path is always one."""
    return (
        [part for part in _REPLICA.split(path) if part and "://" in part] if is_remote(path) else [path]
    )


def shown(path: str) -> str:
    """Return a path as messages name it: without passwords, and without what a query says."""
    if "://" not in path:
        return path
    for pattern in _SECRETS:
        path = pattern.sub(rf"\g<name>{_HIDDEN}", path)
    return path


def checked_access(storage_options: Mapping[str, Any] | None, timeout: float) -> dict[str, Any]:
    """Return what an `Address` takes beside its URLs.

    Raises
    ------
    ArgumentError
        Where it cannot be meant.
    """
    if storage_options is not None and not (
        isinstance(storage_options, Mapping) and all(isinstance(name, str) for name in storage_options)
    ):
        kind = type(storage_options).__name__  # and not the value, which may be a secret
        raise ArgumentError(
            f"storage_options must be a dict of what fsspec takes for the protocol, got a {kind}."
        )
    given: object = timeout
    if (
        not isinstance(given, int | float | np.number)
        or isinstance(given, bool)
        or not 0 < timeout < math.inf
    ):
        raise ArgumentError(f"timeout must be a positive number of seconds, got {timeout!r}.")
    return {"options": dict(storage_options or {}), "timeout": float(timeout)}


@dataclass(frozen=True, repr=False)
class Address:
    """Where a file is, and how it is reached.

    Attributes
    ----------
    urls : tuple of str
        A local path, or one or several URLs of the same file, in the order in which they are tried.
    options : dict
        What fsspec takes for the protocol: credentials, endpoints.
    timeout : float
        Seconds after which a server that does not answer is given up.
    """

    urls: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    timeout: float = TIMEOUT_SECONDS

    @property
    def name(self) -> str:
        """The file as messages name it: its first URL, without secrets."""
        return shown(self.urls[0])

    @property
    def is_remote(self) -> bool:
        """Whether it lies on a server, and not on a disk of this machine."""
        return is_remote(self.urls[0])

    def scrubbed(self, text: str) -> str:
        """Return what somebody else says, without the secrets of this address."""
        for secret in sorted(set(self._secrets()), key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return shown(text)

    def without_secrets(self, error: BaseException | None) -> BaseException | None:
        """Return an exception that may be shown as the cause of another; None where it tells secrets."""
        each, seen = error, set[int]()
        while each is not None and id(each) not in seen:
            if self.scrubbed(f"{each}") != f"{each}":
                return None
            seen.add(id(each))
            each = each.__cause__ or each.__context__
        return error

    def __repr__(self) -> str:
        more = f" and {len(self.urls) - 1} more" if len(self.urls) > 1 else ""
        return f"<Address {self.name}{more}>"

    def _secrets(self) -> Iterator[str]:
        for url in self.urls:
            for pattern in _SECRETS:
                yield from (found["secret"] for found in pattern.finditer(url))
        for text in _texts(self.options):
            if "://" in text:
                for pattern in _SECRETS:
                    yield from (found["secret"] for found in pattern.finditer(text))
            else:
                yield from (word for word in text.split() if len(word) >= _SHORTEST_SECRET)


def _texts(value: object) -> Iterator[str]:
    """Yield all texts in options, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _texts(each)
