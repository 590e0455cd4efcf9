"""The files of a store: packs of entries, their indexes, and one table over all of them in memory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = [
    "HEAD_BYTES",
    "PACK",
    "RECORD_BYTES",
    "Place",
    "Places",
    "Table",
    "Unit",
    "Writer",
    "listed",
    "records",
]

PACK, INDEX = ".pack1", ".index1"
"""How files end; another layout has another number."""

HEAD_BYTES = 32
"""Before an entry's bytes in a pack: its key, and a checksum."""

_RECORD = np.dtype([("key", "<u8"), ("offset", "<u8"), ("size", "<u8")])
RECORD_BYTES = _RECORD.itemsize

_STRUCK = np.iinfo(np.uint64).max
"""The offset of an entry that turned out to be damaged."""

_LATEST = 4096
"""Entries that a table keeps apart, until they are sorted in with the others."""

_TAKEN_SHARE = 0.75
"""A pack that is fuller is not appended to by another process."""

_CANDIDATES = 8

Place = tuple[str, int, int]
"""A pack, and the offset and size of an entry in it."""

Places = npt.NDArray[Any]


class Unit(NamedTuple):
    """A pack and its index, as the folder shows them.

    Attributes
    ----------
    pack : str
        Its name, without an ending.
    used : int
        When it was used, in nanoseconds.
    pack_bytes, index_bytes : int
    """

    pack: str
    used: int
    pack_bytes: int
    index_bytes: int

    def remove(self, folder: str) -> None:
        """Delete both; who reads them goes on to the end."""
        for ending in (INDEX, PACK):
            with suppress(OSError):
                os.unlink(os.path.join(folder, self.pack + ending))


def listed(folder: str) -> list[Unit]:
    """Return what a folder holds; nothing where it cannot be read."""
    found: dict[str, dict[str, os.stat_result]] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            name, ending = os.path.splitext(entry.name)
            if ending in (PACK, INDEX):
                with suppress(OSError):  # removed meanwhile
                    found.setdefault(name, {})[ending] = entry.stat()
    return [
        Unit(
            name,
            max(each.st_mtime_ns for each in files.values()),
            files[PACK].st_size if PACK in files else 0,
            files[INDEX].st_size if INDEX in files else 0,
        )
        for name, files in found.items()
    ]


def records(folder: str, pack: str, first: int, struck: int | None = None) -> Places:
    """Return the records of a pack's index from one on, whole ones; strike out an offset for all."""
    try:
        file = os.open(os.path.join(folder, pack + INDEX), os.O_RDONLY if struck is None else os.O_RDWR)
    except OSError:
        return np.empty(0, _RECORD)
    try:
        size = os.fstat(file).st_size // RECORD_BYTES - first
        got = os.pread(file, max(0, size) * RECORD_BYTES, first * RECORD_BYTES)
        found = np.frombuffer(got, _RECORD, len(got) // RECORD_BYTES)
        if struck is not None:
            for number in np.flatnonzero(found["offset"] == struck):
                gone = np.array([(0, _STRUCK, 0)], _RECORD).tobytes()
                os.pwrite(file, gone, int(first + number) * RECORD_BYTES)
    except OSError:
        return np.empty(0, _RECORD)
    finally:
        os.close(file)
    return found


class Writer:
    """The pack that a process appends to.

    Room is taken before it is written, by the file's length: so all processes together keep to a limit
    that each of them looks at.

    Attributes
    ----------
    pack : str
    """

    def __init__(self, folder: str, pack: str, limit: int, file: int, index: int) -> None:
        self.pack = pack
        self._limit = limit
        self._file, self._index = file, index
        found = records(folder, pack, 0)
        ends = found["offset"] + found["size"]
        self._rows = len(found)
        self._end = int(ends[found["offset"] != _STRUCK].max(initial=0))
        self._end += HEAD_BYTES if self._end else 0
        self._reserved = os.fstat(file).st_size

    @classmethod
    def begun(cls, folder: str, limit: int, needed: int) -> Writer:
        """Go on with a pack that nobody appends to, or begin one."""
        for unit in sorted(listed(folder), key=lambda unit: -unit.used)[:_CANDIDATES]:
            if unit.index_bytes and (found := cls._taken_over(folder, unit.pack, limit, needed)):
                return found
        pack = secrets.token_hex(8)
        path, flags = os.path.join(folder, pack), os.O_RDWR | os.O_CREAT | os.O_EXCL
        file = os.open(path + PACK, flags, 0o666)
        _lock(file)
        try:
            index = os.open(path + INDEX, flags, 0o666)
        except OSError:
            os.close(file)
            raise
        return cls(folder, pack, limit, file, index)

    @classmethod
    def _taken_over(cls, folder: str, pack: str, limit: int, needed: int) -> Writer | None:
        path, files = os.path.join(folder, pack), []
        try:
            files.append(os.open(path + PACK, os.O_RDWR))
            if _lock(files[0]):
                files.append(os.open(path + INDEX, os.O_RDWR))
                found = cls(folder, pack, limit, *files)
                if found.used_bytes <= _TAKEN_SHARE * limit and found.takes(needed):
                    return found
        except OSError:
            pass
        for file in files:
            os.close(file)
        return None

    @property
    def used_bytes(self) -> int:
        """How much of the pack is written."""
        return self._end

    def takes(self, needed: int) -> bool:
        """Whether there is room for so many bytes, and the pack was not removed."""
        return self._end + needed <= self._limit and os.fstat(self._file).st_nlink > 0

    def reserve(self, needed: int, share: int) -> bool:
        """Take room for so many bytes; return whether that changed anything."""
        if self._end + needed <= self._reserved:
            return False
        self._reserved = min(max(self._end + needed, self._reserved + share), self._limit)
        os.ftruncate(self._file, self._reserved)
        return True

    def append(self, key: int, head: bytes, data: bytes | memoryview) -> int:
        """Write an entry, and then that it is there; return where."""
        offset = self._end
        _write(self._file, b"".join((head, data)), offset)
        record = np.array([(key, offset, len(data))], _RECORD).tobytes()
        _write(self._index, record, self._rows * RECORD_BYTES)
        self._end, self._rows = offset + len(head) + len(data), self._rows + 1
        return offset

    def close(self) -> int:
        """Give back the room that was not used; return how many records there are."""
        with suppress(OSError):
            os.ftruncate(self._file, self._end)
        self.abandon()
        return self._rows

    def abandon(self) -> None:
        """Leave the pack to another process."""
        for file in (self._index, self._file):
            with suppress(OSError):
                os.close(file)


def _lock(file: int) -> bool:
    """Claim a pack until its file is closed; return whether that worked: not on all file systems."""
    try:
        import fcntl  # of POSIX

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _write(file: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(file, data[done:] if done else data, offset + done)


class Table:
    """Where the entries of all packs lie: sorted arrays, and the latest in a dict.

    One thread at a time may change it; others may look meanwhile.
    """

    def __init__(self) -> None:
        self._packs: list[str] = []
        self._numbers: dict[str, int] = {}
        self._latest: dict[int, Place | None] = {}
        self._sorted = np.empty(0, np.uint64), np.empty((0, 3), np.uint64)

    def find(self, key: int) -> Place | None:
        """Return where an entry lies."""
        latest, (keys, places) = self._latest, self._sorted
        if key in latest:
            return latest[key]
        number = int(keys.searchsorted(np.uint64(key)))
        if number == len(keys) or int(keys[number]) != key:
            return None
        pack, offset, size = places[number].tolist()
        return self._packs[pack], offset, size

    def put(self, key: int, place: Place | None) -> None:
        """Note an entry; None where it is gone."""
        self._latest[key] = place
        if len(self._latest) > max(_LATEST, len(self._sorted[0]) // 8):
            self._merge([])

    def remove(self, key: int) -> None:
        """Forget an entry."""
        self.put(key, None)

    def add(self, arrived: Sequence[tuple[str, Places]]) -> None:
        """Note the records of indexes."""
        arrived = [(pack, found[found["offset"] != _STRUCK]) for pack, found in arrived]
        if sum(len(found) for _, found in arrived) > _LATEST:
            self._merge(arrived)
            return
        for pack, found in arrived:
            for key, offset, size in found.tolist():
                self.put(key, (pack, offset, size))

    def _merge(self, arrived: Sequence[tuple[str, Places]]) -> None:
        keys, places = [self._sorted[0]], [self._sorted[1]]
        for pack, found in arrived:
            number = np.full(len(found), self._number(pack), np.uint64)
            keys.append(found["key"])
            places.append(np.stack([number, found["offset"], found["size"]], axis=1))
        latest = list(self._latest.items())
        keys.append(np.array([key for key, _ in latest], np.uint64))
        rows = [
            (self._number(place[0]), place[1], place[2]) if place else (0, _STRUCK, 0)
            for _, place in latest
        ]
        places.append(np.array(rows, np.uint64).reshape(-1, 3))
        all_keys, all_places = np.concatenate(keys), np.concatenate(places)
        order = all_keys.argsort(kind="stable")
        all_keys, all_places = all_keys[order], all_places[order]
        last = np.append(all_keys[1:] != all_keys[:-1], True)[: len(all_keys)]
        last &= all_places[:, 1] != _STRUCK
        self._sorted, self._latest = (all_keys[last], all_places[last]), {}

    def _number(self, pack: str) -> int:
        if pack not in self._numbers:
            self._numbers[pack] = len(self._packs)
            self._packs.append(pack)
        return self._numbers[pack]
