"""Where a file is and how it is reached, and what of that may be shown: no secrets."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from rootfeed.arguments import size_bytes
from rootfeed.errors import ArgumentError

__all__ = [
    "CACHE_SIZE",
    "TIMEOUT_SECONDS",
    "Address",
    "Cache",
    "checked_access",
    "is_remote",
    "local_path",
    "replicas",
    "shown",
]

TIMEOUT_SECONDS = 30.0
"""How long a server that does not answer is waited for, unless somebody says otherwise."""

CACHE_SIZE = "50 GB"
"""What a cache takes on disk at most, unless somebody says otherwise."""

_LOCAL_PROTOCOL = re.compile(r"(file|local)://(localhost(?=/))?")
_REPLICA = re.compile(r"\|(?=[a-z][a-z0-9+.-]*(?:::|://))", re.IGNORECASE)

# What of an address is a secret: the value of anything in a query, and a password.
_QUERY_VALUE = re.compile(r"(?P<name>[?&][\w.~%+\[\]-]+=)(?P<secret>[^&#|\s'\"]+)")
_WHOLE_QUERY = re.compile(r"(?P<name>https?://[^?#|\s]*\?)(?P<secret>(?![\w.~%+\[\]-]+=)[^#|\s'\"]+)")
_PASSWORD = re.compile(r"(?P<name>://[^/@:\s]*:)(?P<secret>[^/@\s]+)(?=@)")
_WEB_USER = re.compile(r"(?P<name>https?://)(?P<secret>[^/@:\s]+)(?=@)")
_SECRETS = (_QUERY_VALUE, _WHOLE_QUERY, _PASSWORD, _WEB_USER)

# What of a query changes from one day to the next, though the file is the same: tokens and signatures.
_PASSING = re.compile(
    r".*(token|authz|signature|credential|password|secret).*|x-(amz|goog)-.*|auth|sig|expires|policy"
    r"|(aws)?access_?key(id)?|api_?key|key-pair-id|googleaccessid|s[eprtv]|spr|sip|sk(oid|tid|[testv])",
    re.IGNORECASE,
)

# Options without which an address does not tell where a file is.
_PLACES = ("host", "port", "endpoint", "account_name")

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


def checked_access(
    storage_options: Mapping[str, Any] | None,
    timeout: float,
    cache: str | os.PathLike[str] | None = None,
    cache_size: int | float | str | None = None,
) -> dict[str, Any]:
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
    return {
        "options": dict(storage_options or {}),
        "timeout": float(timeout),
        "cache": _checked_cache(cache, cache_size),
    }


def _checked_cache(
    folder: str | os.PathLike[str] | None, size: int | float | str | None
) -> Cache | None:
    if folder is None:
        if size is not None:
            raise ArgumentError(f"cache_size={size!r} limits what cache= keeps: name a folder there.")
        return None
    given = os.fspath(folder) if isinstance(folder, str | os.PathLike) else None
    if not isinstance(given, str) or not given or "://" in given:
        raise ArgumentError(f"cache must be a folder on this machine, got {folder!r}.")
    path = Path(os.path.expanduser(given))
    if path.parts[:1] == ("~",):
        raise ArgumentError(f"cache={given!r}: there is no home directory. Name another folder.")
    if path.exists() and not path.is_dir():
        raise ArgumentError(f"cache must be a folder, and {given!r} is a file.")
    return Cache(
        os.fspath(path.absolute()), size_bytes("cache_size", CACHE_SIZE if size is None else size)
    )


@dataclass(frozen=True)
class Cache:
    """Where what is read from servers is kept.

    Attributes
    ----------
    folder : str
        An absolute path.
    limit_bytes : int
        That it takes on disk at most.
    """

    folder: str
    limit_bytes: int


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
    cache : Cache, optional
        What keeps a file's bytes that came from a server.
    """

    urls: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    timeout: float = TIMEOUT_SECONDS
    cache: Cache | None = None

    @property
    def name(self) -> str:
        """The file as messages name it: its first URL, without secrets."""
        return shown(self.urls[0])

    @property
    def is_remote(self) -> bool:
        """Whether it lies on a server, and not on a disk of this machine."""
        return is_remote(self.urls[0])

    def places(self) -> list[str]:
        """Return what tells this file from others: without passwords, and what else passes."""
        named = {name: value for name, value in _named(self.options) if name in _PLACES}
        urls = [text for text in _texts(self.options) if "://" in text]
        return [_lasting(url) for url in (*self.urls, *urls)] + [
            f"{name}={named[name]}" for name in sorted(named)
        ]

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


def _lasting(url: str) -> str:
    """Return a URL without passwords and tokens, of which another one leads to the same file."""
    before, mark, query = url.partition("?")
    for pattern in (_PASSWORD, _WEB_USER):
        before = pattern.sub(r"\g<name>", before)
    if not mark:
        return before
    pairs = parse_qsl(query, keep_blank_values=True)
    kept = [f"{name}={value}" for name, value in pairs if not _PASSING.fullmatch(name)]
    return f"{before}?{'&'.join(kept)}"


def _named(value: object) -> Iterator[tuple[str, object]]:
    """Yield all names in options with what they stand for, however deep."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield name, each
            yield from _named(each)


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
