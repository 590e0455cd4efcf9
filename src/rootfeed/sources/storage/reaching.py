"""Servers that have the same file, and how often each is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any, TypeVar

from rootfeed.errors import RootfeedError, UnreachableError
from rootfeed.sources.failures import cause, is_transient, unavailable
from rootfeed.sources.storage.address import Address, shown
from rootfeed.sources.storage.retries import Patience
from rootfeed.sources.storage.s3 import S3Server
from rootfeed.sources.storage.servers import Server, fsspec, merged
from rootfeed.sources.storage.web import WebServer
from rootfeed.sources.storage.xrootd import XRootDServer

__all__ = ["Servers"]

Found = TypeVar("Found")

_KINDS: Mapping[str, type[Server]] = {
    "http": WebServer,
    "https": WebServer,
    "root": XRootDServer,
    "roots": XRootDServer,
    "s3": S3Server,
    "s3a": S3Server,
}
_CHAIN = re.compile(r"::(?![\da-f:.]*\])", re.IGNORECASE)  # not those of IPv6: http://[::1]/f.root

_first: dict[tuple[str, ...], int] = {}
"""Of the replicas of a file, the one that answered last: the others are not asked before it."""

_ONE_LOOK_SECONDS = 2.0


class Servers:
    """All servers at an address, of which one at a time is asked.

    Parameters
    ----------
    address : Address
    stopped : threading.Event, optional
        When it is set, none is waited for any more.

    Attributes
    ----------
    address : Address
    several : bool
        Whether there are replicas.
    """

    def __init__(self, address: Address, stopped: Event | None = None) -> None:
        self.address = address
        self.several = len(address.urls) > 1
        self._stopped = stopped or Event()
        self._servers: dict[int, Server] = {}

    def persist(self, attempt: Callable[[Server, Patience], Found]) -> Found:
        """Return what a request gives, of whichever server answers first.

        What fails for a passing reason is tried again, until the time of the address is up; what will
        fail again is not.

        Raises
        ------
        RootfeedError
            Why the last try failed, and how many there were.
        """
        patience = Patience(self.address.timeout, self._stopped)
        failures: dict[int, Exception] = {}
        lasting: set[int] = set()
        urls = self.address.urls
        while True:
            first = _first.get(urls, 0)
            for number in sorted(range(len(urls)), key=lambda each: (each - first) % len(urls)):
                if number in lasting:
                    continue
                patience.tries += 1
                try:
                    found = attempt(self._server(number), patience)
                except Exception as error:
                    failures[number] = error
                    if not is_transient(error):
                        lasting.add(number)
                    elif number in self._servers:
                        self._servers[number].reconnect()
                else:
                    _first[urls] = number
                    return found
            if len(lasting) == len(urls) or not patience.pause():
                raise self._failed(failures, patience) from self.address.without_secrets(
                    next(iter(failures.values()))
                )

    def once(self, attempt: Callable[[Server, Patience], Found]) -> Found | None:
        """Return what a request gives, with one try in a short time; None where it fails."""
        patience = Patience(min(_ONE_LOOK_SECONDS, self.address.timeout), self._stopped)
        try:
            return attempt(self._server(_first.get(self.address.urls, 0)), patience)
        except Exception:  # that the server fails is known
            return None

    @property
    def gap_bytes(self) -> int:
        """Fetching so many bytes in vain costs less than another range."""
        first, *others = _protocols(self.address.urls[0])
        return Server.gap_bytes if others else _kind(first).gap_bytes

    def _server(self, number: int) -> Server:
        if number not in self._servers:
            url, timeout = self.address.urls[number], self.address.timeout
            options = dict(self.address.options)
            first, *others = _protocols(url)
            if not others:
                options = _with_defaults(first, options, timeout)
            for protocol in others:
                # Of a chain, such as "simplecache::https://host/f", each part has options of its own.
                if _kind(protocol) is not Server:
                    options[protocol] = _with_defaults(protocol, options.get(protocol, {}), timeout)
            kind = Server if others else _kind(first)
            self._servers[number] = kind(url, options, timeout, self._stopped)
        return self._servers[number]

    def _failed(self, failures: Mapping[int, Exception], patience: Patience) -> RootfeedError:
        told = [self.meaning(failures[number], number) for number in sorted(failures)]
        if len(told) == 1:
            [error] = told
            if not isinstance(failures[0], RootfeedError) and is_transient(failures[0]):
                return type(error)(f"{error} ({patience.told()})")
            return error
        kind = type(told[0]) if len({type(each) for each in told}) == 1 else UnreachableError
        texts = " ".join(f"{each}" for each in told)
        what = f"{self.address.name}: none of its {len(told)} replicas can be read."
        return kind(f"{what} {texts} ({patience.told()})")

    def meaning(self, error: Exception, number: int = 0) -> RootfeedError:
        """Return the error of ours that tells what one of a server's means, without secrets."""
        if isinstance(error, RootfeedError):
            return error
        url, why = shown(self.address.urls[number]), cause(error)
        if isinstance(error, ImportError):
            # fsspec's message names the package to install.
            return UnreachableError(f"{url} cannot be reached: {error}.")
        found = unavailable(url, "cannot be read", error) or UnreachableError(
            f"{url} cannot be read: {type(why).__name__}: {f'{why}'.strip()}. "
            + ("Check the network, and try again." if is_transient(error) else "Check the address.")
        )
        return type(found)(self.address.scrubbed(f"{found}"))


def _protocols(url: str) -> list[str]:
    """Return the protocol of an address; of each part of a chain, where it is one."""
    return [part.partition("://")[0] for part in _CHAIN.split(url)]


def _kind(protocol: str) -> type[Server]:
    return _KINDS.get(protocol.lower(), Server)


def _with_defaults(protocol: str, options: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return what the user says, or fsspec's configuration, or we do."""
    return merged(
        _kind(protocol).defaults(timeout), merged(fsspec().config.conf.get(protocol, {}), options)
    )
