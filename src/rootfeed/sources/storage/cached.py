"""Files on servers, of which a cache on disk keeps the ranges that were read, for their version."""

from __future__ import annotations

import atexit
import hashlib
import struct
import time
from collections.abc import Sequence
from threading import Event

from rootfeed.processes import ForkLock
from rootfeed.schema import Version
from rootfeed.sources.storage.address import Address, Cache
from rootfeed.sources.storage.base import Bytes, Span
from rootfeed.sources.storage.remote import RemoteStorage
from rootfeed.sources.storage.store import Store

__all__ = ["CachedStorage", "store_of"]

_PROVEN_SECONDS = 10.0
"""For so long, what a server has said of a file's version is believed."""

_MOST_PROVEN = 100_000
_RANGE = struct.Struct("<QQ")
_ROOT = b"root"

_lock = ForkLock()
_stores: dict[Cache, Store] = {}
_proven: dict[bytes, float] = {}
"""Until when a version of a file needs no proof."""


@atexit.register
def _close_all() -> None:
    for store in _stores.values():
        store.close()


def store_of(cache: Cache, *, warns: bool = True) -> Store:
    """Return this process's store in a folder; `warns` counts when it is made."""
    with _lock:
        if cache not in _stores:
            _stores[cache] = Store(cache.folder, cache.limit_bytes, warns=warns)
        return _stores[cache]


class CachedStorage(RemoteStorage):
    """A file on a server; ranges that were read before come from a store on disk.

    An entry of the store is a range of one version of a file. What comes from there needs no other proof
    than that the file is of that version still, for which the server is asked now and then. What comes
    from the server is kept when it is known to be of that version.

    Parameters
    ----------
    address : Address
        With a cache.
    version, stopped : optional
        See `RemoteStorage`.
    """

    def __init__(
        self, address: Address, version: Version | None = None, stopped: Event | None = None
    ) -> None:
        assert address.cache is not None
        self._store: Store | None = None
        self._asked: Store | None = None  # as long as what it has is believed
        self._kept: list[Span] = []  # (start, stop) of what it has
        self._fresh: set[Span] = set()  # of what came from the server, and is to be kept
        super().__init__(address, version, stopped)
        head = b"" if self.tag else self.version.head
        if not self.tag and not head.startswith(_ROOT):
            return  # nothing tells this version from another one
        self._identity = _identity(address, self.file_bytes, self.tag, head)
        self._store = self._asked = store_of(address.cache)
        if version is None:
            self._prove()

    def verify(self) -> None:
        """Ask whether the file is the same, unless that is known from a moment ago; keep what came."""
        if self._store is None:
            super().verify()
            return
        fresh = [(span, self.content(*span)) for span in self._fresh if self._has(*span)]
        if fresh or time.monotonic() > _proven.get(self._identity, 0):
            super().verify()
            self._prove()
        self._fresh = set()
        for span, data in fresh:
            self._store.put(self._key(*span), data)

    def keep(self) -> None:
        """Keep what came from the server, if it is of the version that it should be."""
        if self._fresh and self._store is not None:
            self.verify()

    def forget(self) -> bool:
        """Let go of what was read, and believe the store no more."""
        self._asked = None
        self._kept = []
        return super().forget()

    def bring(self, ranges: Sequence[Span]) -> None:
        """Get those ranges from the server that neither are here nor in the store."""
        missing = []
        for start, size in ranges:
            stop = min(start + size, self.file_bytes)
            if start < stop and not self._has(start, stop):
                if self._asked is not None and self._asked.has(self._key(start, stop)):
                    self._kept.append((start, stop))
                else:
                    missing.append((start, size))
                    self._fresh.add((start, stop))
        super().bring(missing)

    def read_into(self, offset: int, out: Bytes) -> None:
        """Copy a range from the store, or what was fetched."""
        start, stop = offset, offset + len(out)
        asked = self._asked if self._find(start, stop) is None else None
        if asked is None or not asked.read_into(self._key(start, stop), out):
            super().read_into(offset, out)

    def content(self, start: int, stop: int) -> bytes | memoryview:
        """Return the bytes ``[start, stop)``."""
        if start < stop and self._find(start, stop) is None:
            around = next((span for span in self._kept if span[0] <= start and stop <= span[1]), None)
            first, end = around or (start, stop)
            found = self._asked.get(self._key(first, end)) if self._asked is not None else None
            if found is not None and len(found) == end - first:
                self._hold(first, end, found)
            else:
                self._fresh.add((start, stop))
                super().bring([(start, stop - start)])
        return super().content(start, stop)

    def _key(self, start: int, stop: int) -> bytes:
        return self._identity + _RANGE.pack(start, stop)

    def _prove(self) -> None:
        if len(_proven) > _MOST_PROVEN:
            _proven.clear()
        _proven[self._identity] = time.monotonic() + _PROVEN_SECONDS


def _identity(address: Address, file_bytes: int, tag: str, head: bytes) -> bytes:
    """Return what tells a version of a file from all others, without a word of it."""
    found = hashlib.blake2b(digest_size=16)
    for text in (*address.places(), f"{file_bytes}", tag, head.hex()):
        found.update(f"{len(text)}:{text}".encode())
    return found.digest()
