"""Bytes by key in a folder: of bounded size, checked when they are read, for many processes at once.

Entries are appended to *packs*, so that a million of them are a few hundred files. Each process appends
to a pack of its own, and reads all of them: nobody waits for a lock, so that any file system will do. A
pack's index, beside it, tells where its entries lie; it is written after them, and what it says is
compared with what is there. So a process may be killed at any time.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from rootfeed.errors import CacheWarning, warn
from rootfeed.processes import ForkLock, process
from rootfeed.sources.storage.packs import (
    HEAD_BYTES,
    PACK,
    RECORD_BYTES,
    Place,
    Places,
    Table,
    Writer,
    listed,
    records,
)

__all__ = ["Store"]

_PACKS = 16
"""That a full store has, at least: room is made by a pack at a time."""

_LARGEST_PACK = 256 << 20
_SHARES = 8
"""In which a pack takes its room, before it is written."""

_BLOCK_BYTES = 4096
"""In which disks count."""

_LOOK_SECONDS = 1.0
"""How often somebody who misses something looks for what others have put."""

_TOUCH_SECONDS = 5.0
"""How often the use of a pack is noted."""

_KEY = struct.Struct("<Q")


Out = bytearray | npt.NDArray[np.uint8]


class _Found(NamedTuple):
    key: bytes
    short: int


class Store:
    """Bytes by key in a folder.

    What was used longest ago makes room for what is new. A damaged entry is as good as none. Several
    processes may use a folder at once, also with limits of their own, of which the smallest counts.

    Parameters
    ----------
    folder : str
        Made when something is put. Files of others in it are left alone.
    limit_bytes : int
        That its packs occupy at most, with those of all processes. An entry above 1/16 of it, or 256
        MiB, is not kept.
    warns : bool
        Whether it says when nothing can be put.

    Notes
    -----
    Costs about 40 bytes of memory for each entry in the folder. `get` and `put` take 10 to 20
    microseconds, and what the disk takes. Several threads may call them.
    """

    def __init__(self, folder: str, limit_bytes: int, *, warns: bool = True) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        self._warns = warns
        self._pack_bytes = min(limit_bytes // _PACKS, _LARGEST_PACK)
        self._lock = ForkLock()
        self._process = process()
        self._table = Table()
        self._seen: dict[str, int] = {}  # of each pack, the records that were read
        self._touched: dict[str, float] = {}
        self._looked = -_LOOK_SECONDS
        self._writer: Writer | None = None
        self._fails = False

    def get(self, key: bytes) -> bytes | None:
        """Return what was put last under a key; None where that is not there, or not what it was."""
        found = _hashed(key)
        place = self._place(found)
        if place is None:
            return None
        out = bytearray(min(place[2], self._most_bytes(place[0])))
        return bytes(out) if self._read_into(found, place, out) else None

    def read_into(self, key: bytes, out: Out) -> bool:
        """Fill an array with what `get` returns, if it is as long; return whether that was possible."""
        found = _hashed(key)
        place = self._place(found)
        return place is not None and self._read_into(found, place, out)

    def has(self, key: bytes) -> bool:
        """Tell whether something is there under a key; whether it is whole, `get` tells."""
        return self._place(_hashed(key)) is not None

    def put(self, key: bytes, data: bytes | memoryview) -> None:
        """Keep bytes under a key. Where that is impossible, there is a `CacheWarning`, once."""
        if self._fails or HEAD_BYTES + len(data) > self._pack_bytes:
            return
        found = _hashed(key)
        with self._lock:
            try:
                self._append(found, data)
            except OSError as error:
                self._fails = True
                self._drop_writer()
                why = error.strerror or type(error).__name__
            else:
                return
        if not self._warns:
            return
        warn(
            f"The cache in {self.folder} cannot be written ({why}): what is read is not kept in it. "
            "Make room on that disk, or name another folder.",
            CacheWarning,
        )

    def close(self) -> None:
        """Give back what was reserved on disk; the store can be used again."""
        with self._lock:
            self._drop_writer()

    # --- reading ------------------------------------------------------------------------------

    def _place(self, found: _Found) -> Place | None:
        place = self._table.find(found.short)
        if place is None and self._look():
            place = self._table.find(found.short)
        return place

    def _most_bytes(self, pack: str) -> int:
        try:
            return os.stat(os.path.join(self.folder, pack + PACK)).st_size
        except OSError:
            return 0

    def _read_into(self, found: _Found, place: Place, out: Out) -> bool:
        """Fill an array with an entry; False where it is another one than was put under the key."""
        pack, offset, size = place
        head = bytearray(HEAD_BYTES)
        try:
            file = os.open(os.path.join(self.folder, pack + PACK), os.O_RDONLY)
            try:
                got = os.preadv(file, [head, out], offset) if size == len(out) else -1
            finally:
                os.close(file)
        except (OSError, OverflowError):
            got = -1
        if got != HEAD_BYTES + len(out) or head != _head(found.key, out):
            self._strike(found.short, pack, offset)
            return False
        self._touch(pack)
        return True

    def _look(self) -> bool:
        """Learn of entries that others have put; return whether there may be some."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return False
        with self._lock:
            self._looked = now
            own = self._writer.pack if self._writer and self._process is process() else None
            arrived: list[tuple[str, Places]] = []
            for pack, _, _, index_bytes in listed(self.folder):
                known = self._seen.get(pack, 0)
                if pack != own and index_bytes // RECORD_BYTES > known:
                    found = records(self.folder, pack, known)
                    self._seen[pack] = known + len(found)
                    arrived.append((pack, found))
            self._table.add(arrived)
        return True

    def _touch(self, pack: str) -> None:
        now = time.monotonic()
        if now - self._touched.get(pack, -_TOUCH_SECONDS) >= _TOUCH_SECONDS:
            self._touched[pack] = now
            with suppress(OSError):
                os.utime(os.path.join(self.folder, pack + PACK))

    def _strike(self, short: int, pack: str, offset: int) -> None:
        """Forget an entry that is damaged or gone, here and for others."""
        with self._lock:
            self._table.remove(short)
            records(self.folder, pack, 0, struck=offset)

    # --- writing ------------------------------------------------------------------------------

    def _append(self, found: _Found, data: bytes | memoryview) -> None:
        if self._process is not process():  # forked: the writer is the parent's
            if self._writer is not None:
                self._writer.abandon()
            self._process, self._writer = process(), None
        needed = HEAD_BYTES + len(data)
        if self._writer is not None and not self._writer.takes(needed):
            self._drop_writer()
        if self._writer is None:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._writer = Writer.begun(self.folder, self._pack_bytes, needed)
            pack = self._writer.pack  # perhaps with entries of the process before
            self._table.add([(pack, records(self.folder, pack, self._seen.get(pack, 0)))])
        writer = self._writer
        if writer.reserve(needed, self._pack_bytes // _SHARES):
            self._make_room(writer.pack)
        offset = writer.append(found.short, _head(found.key, data), data)
        self._table.put(found.short, (writer.pack, offset, len(data)))

    def _make_room(self, own: str) -> None:
        """Remove what was used longest ago, where all that is reserved is more than may be."""
        units = sorted(listed(self.folder), key=lambda unit: unit.used)
        total = sum(_blocks(unit.pack_bytes) + _blocks(unit.index_bytes) for unit in units)
        for unit in units:
            if total <= self.limit_bytes:
                return
            if unit.pack != own:
                unit.remove(self.folder)
                self._seen.pop(unit.pack, None)
                total -= _blocks(unit.pack_bytes) + _blocks(unit.index_bytes)

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None and self._process is process():
            self._seen[writer.pack] = writer.close()


def _hashed(key: bytes) -> _Found:
    digest = hashlib.blake2b(key, digest_size=16).digest()
    return _Found(digest, _KEY.unpack_from(digest)[0])


def _head(key: bytes, data: bytes | memoryview | Out) -> bytes:
    """Return what stands before an entry's bytes: its key, and a checksum of both."""
    checksum = xxhash.xxh3_128(key)
    checksum.update(data)
    return key + checksum.digest()


def _blocks(size: int) -> int:
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES
