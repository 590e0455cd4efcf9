"""Where a file's bytes come from: the local disk, or anything that fsspec reaches.

Files are opened for one task and closed after it (microseconds on a local disk), so that nothing
stays open between tasks and a fork shares no file position.
"""

from __future__ import annotations

from threading import Event

from rootfeed.schema import Version
from rootfeed.sources.storage.address import (
    CACHE_SIZE,
    TIMEOUT_SECONDS,
    Address,
    Cache,
    checked_access,
    is_remote,
    local_path,
    replicas,
    shown,
)
from rootfeed.sources.storage.base import Storage
from rootfeed.sources.storage.cached import CachedStorage
from rootfeed.sources.storage.local import LocalStorage
from rootfeed.sources.storage.remote import RemoteStorage
from rootfeed.sources.storage.store import Store

__all__ = [
    "CACHE_SIZE",
    "TIMEOUT_SECONDS",
    "Address",
    "Cache",
    "CachedStorage",
    "LocalStorage",
    "RemoteStorage",
    "Storage",
    "Store",
    "checked_access",
    "is_remote",
    "local_path",
    "open_storage",
    "replicas",
    "shown",
]


def open_storage(
    address: Address | str, version: Version | None = None, stopped: Event | None = None
) -> Storage:
    """Open a file for reading.

    Parameters
    ----------
    address : Address or str
        A local path, or URLs that fsspec knows.
    version : Version, optional
        What was indexed: anything else is refused.
    stopped : threading.Event, optional
        When it is set, no server is waited for any more.

    Raises
    ------
    MissingFileError
        Where it does not exist.
    AccessError, UnreachableError
        Where it is kept back.
    ChangedFileError
        Where it is another one.
    """
    if isinstance(address, str):
        address = Address(tuple(replicas(address)))
    if address.is_remote and address.cache is not None:
        return CachedStorage(address, version, stopped)
    if address.is_remote:
        return RemoteStorage(address, version, stopped)
    return LocalStorage(local_path(address.urls[0]), version)
