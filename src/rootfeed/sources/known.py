"""What other processes have learnt of a file: its index and more, in a cache on this machine's disk.

Nothing in it is needed, and nothing that goes wrong with it is an error. What is found is believed where
its key says all that it depends on: the version of the file, and the code that made it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Generic, TypeVar

import numba
import numpy as np

from rootfeed.arguments import size_bytes
from rootfeed.sources.storage import Address, Cache, Storage, Store, local_path
from rootfeed.sources.storage.cached import store_of

__all__ = ["FOLDER_VARIABLE", "SIZE_VARIABLE", "Known", "keep", "kept", "stamp"]

FOLDER_VARIABLE = "ROOTFEED_CACHE"
"""The cache's folder; ``off`` for none."""

SIZE_VARIABLE = "ROOTFEED_CACHE_SIZE"
"""What it takes on disk at most."""

_SIZE = "1 GB"
_OFF = "off"
_SUBFOLDER = "files"
_FORMAT = 1  # of what is kept

Answer = TypeVar("Answer")


class Known(Generic[Answer]):
    """Answers about a file, which are kept for its version.

    Parameters
    ----------
    address : Address
        Of the file.
    about : object
        What was asked: of texts, numbers and tuples.
    to_bytes : function of the answer
    from_bytes : function of bytes, storage and stamp
        Raises anything where they are no answer.
    """

    def __init__(
        self,
        address: Address,
        about: object,
        to_bytes: Callable[[Answer], bytes],
        from_bytes: Callable[[bytes, Storage, bytes], Answer],
    ) -> None:
        self._address, self._about = address, about
        self._to_bytes, self._from_bytes = to_bytes, from_bytes

    def get(self, storage: Storage) -> Answer | None:
        """Return what is known of an open file; None where nothing is."""
        of = stamp(self._address, storage)
        return kept(of, self._about, lambda data: self._from_bytes(data, storage, of))

    def put(self, storage: Storage, answer: Answer) -> None:
        """Keep what was learnt of an open file."""
        if of := stamp(self._address, storage):
            with suppress(ValueError, TypeError):  # it is of a kind that is not kept
                keep(of, self._about, self._to_bytes(answer))


def keep(of: bytes, about: object, data: bytes) -> None:
    """Keep something under a stamp; nothing under an empty one."""
    if of and (store := _store()) is not None:
        store.put(_key(of, about), data)


def kept(of: bytes, about: object, from_bytes: Callable[[bytes], Answer]) -> Answer | None:
    """Return what is kept under a stamp; None where that is nothing, or not to be believed."""
    store = _store() if of else None
    data = None if store is None else store.get(_key(of, about))
    if data is None:
        return None
    try:
        return from_bytes(data)
    except Exception:  # whatever somebody has written there
        return None


def stamp(address: Address, storage: Storage) -> bytes:
    """Return what stands for a version of a file, and for our own; empty where nothing can."""
    evidence = storage.evidence
    if not evidence or _store() is None:
        return b""
    places = address.places() if address.is_remote else [os.path.abspath(local_path(address.urls[0]))]
    return hashlib.blake2b(
        repr((_code(), places, evidence)).encode(errors="surrogatepass"), digest_size=16
    ).digest()


def _key(of: bytes, about: object) -> bytes:
    return of + repr(about).encode(errors="surrogatepass")


def _store() -> Store | None:
    place = _place(os.environ.get(FOLDER_VARIABLE, ""), os.environ.get(SIZE_VARIABLE, ""))
    return None if place is None else store_of(place[0], warns=place[1])


@cache
def _place(folder: str, size: str) -> tuple[Cache, bool] | None:
    """Return the cache's place, and whether to say that it cannot be written: if somebody named it."""
    limit = size_bytes(SIZE_VARIABLE, size or _SIZE)
    if folder.lower() == _OFF:
        return None
    if folder:
        path = Path(os.path.expanduser(folder)).absolute()
        if folder.startswith("~") and "~" in path.parts:  # the user has no home
            return None
    else:
        import platformdirs  # some milliseconds, which `import rootfeed` need not take

        try:
            path = platformdirs.user_cache_path("rootfeed")
        except RuntimeError:  # the user has no home
            return None
    return Cache(os.fspath(path / _SUBFOLDER), limit), bool(folder)


@cache
def _code() -> bytes:
    """Return what stands for our code: times and sizes of its modules, by which Python goes, too."""
    package = Path(__file__).parents[1]
    folders = (package, package / "sources", package / "sources/storage", package / "expression")
    modules = []
    for folder in (*folders, package / "kernels", package / "view"):
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    modules.append((folder.name, entry.name, status.st_size, status.st_mtime_ns))
    versions = [numba.__version__, np.__version__, version("uproot"), sys.version, sys.platform]
    with suppress(PackageNotFoundError):
        versions.append(version("pyarrow"))  # which parses tables of text
    told = (_FORMAT, *versions, platform.machine(), *modules)
    return hashlib.blake2b(repr(told).encode(), digest_size=16).digest()
