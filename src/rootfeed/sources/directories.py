"""The objects that a ROOT file holds, and where they lie: its header, folders and keys.

``TFile``, ``TDirectoryFile`` and ``TKey`` of ROOT's reference. What is not as every release writes it is
`UnknownError`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from rootfeed.schema import Array
from rootfeed.sources.compression import MOST_EXPANSION, decompress_into
from rootfeed.sources.records import UnknownError
from rootfeed.sources.storage import Storage

__all__ = ["Key", "RootFile"]

Span = tuple[int, int]

_HEADER = (struct.Struct(">4siiiiiiiBiiiH16s"), struct.Struct(">4siiqqiiiBiqiH16s"))
_LARGE_FILE = 1_000_000  # versions from which on positions have eight bytes
_DIRECTORY = (struct.Struct(">hIIiiiii"), struct.Struct(">hIIiiqqq"))
_KEY = (struct.Struct(">ihiIhhii"), struct.Struct(">ihiIhhqq"))
_LARGE = 1000  # ... of folders and keys
_COUNT = struct.Struct(">i")
_DIRECTORIES = frozenset({"TDirectory", "TDirectoryFile"})
_LONG_TEXT = 255  # stands for a length that follows in four bytes

_MOST_DEPTH = 16
_AMBIGUOUS = frozenset("/;:")


class Key(NamedTuple):
    """Where an object of a file lies.

    Attributes
    ----------
    name, class_name : str
    cycle : int
    offset : int
        Of the key in the file.
    stored_bytes : int
        Of key and object together.
    key_bytes, whole_bytes : int
        Of the key; of the object, uncompressed.
    """

    name: str
    class_name: str
    cycle: int
    offset: int
    stored_bytes: int
    key_bytes: int
    whole_bytes: int


class RootFile:
    """A file's header and keys, and ranges of its bytes, each of which is read once.

    Parameters
    ----------
    storage : Storage
    ends_bytes : int
        So much of its head and of its tail is fetched at once: nearly all metadata lies there.

    Attributes
    ----------
    uuid : bytes
    keys : list of (str, Key)
        Of each object, also in folders, with its path: of one path the newest cycle first, mostly.

    Raises
    ------
    UnknownError
        Where the file is not as it is expected, or damaged.
    """

    def __init__(self, storage: Storage, ends_bytes: int) -> None:
        self._storage = storage
        self._held: dict[Span, Array] = {}
        size = storage.file_bytes
        tail = max(0, size - ends_bytes)
        self._ends = ((0, min(size, ends_bytes)), (tail, size - tail))
        self.fetch(self._ends)
        head = self.bytes(0, min(size, _HEADER[1].size))
        if len(head) < _HEADER[1].size:
            raise UnknownError("a file without a header")
        fields = _HEADER[0].unpack_from(head)
        if fields[1] >= _LARGE_FILE:
            fields = _HEADER[1].unpack_from(head)
        magic, _, begin, end, free, _, _, name_bytes, _, _, streamers, streamer_bytes, _, self.uuid = (
            fields
        )
        if magic != b"root" or not 0 < end <= size or free == 0 or streamer_bytes <= 0:
            raise UnknownError("the header")
        self._streamers = (streamers, streamer_bytes)
        [self.keys] = self._walk([("", begin + name_bytes)], 0)

    def fetch(self, spans: Iterable[Span]) -> None:
        """Read some ranges (offset, size) at once, and keep them."""
        missing = [span for span in dict.fromkeys(spans) if span[1] > 0 and self._find(*span) is None]
        for offset, size in missing:
            if offset < 0 or offset + size > self._storage.file_bytes:
                raise UnknownError("a range after the end")
        self._storage.prepare(missing)
        for offset, size in missing:
            data = np.empty(size, np.uint8)
            self._storage.read_into(offset, data)
            self._held[offset, size] = data

    def bytes(self, offset: int, size: int) -> Array:
        """Return a range, which is read if need be."""
        if size < 0:
            raise UnknownError("a range")
        found = self._find(offset, size)
        if found is None:
            self.fetch([(offset, size)])
            found = self._find(offset, size)
        assert found is not None
        return found

    def streamers(self) -> Array:
        """Return what the file says of classes, as it is stored."""
        return self.bytes(*self._streamers)

    def payload(self, key: Key) -> Array:
        """Return an object, uncompressed, as it was streamed; with it come the streamers.

        Raises
        ------
        DamagedPageError
        """
        self.fetch([(key.offset, key.stored_bytes), self._streamers])
        stored = self.bytes(key.offset, key.stored_bytes)
        own = _key(stored, 0)[0]
        if own[1:] != key[1:] or own.name != key.name or key.key_bytes > key.stored_bytes:
            raise UnknownError("a key that is not the one of its folder")
        return self.uncompressed(stored[key.key_bytes :], key.whole_bytes)

    def uncompressed(self, stored: Array, whole_bytes: int) -> Array:
        """Return what is stored, perhaps compressed.

        Raises
        ------
        DamagedPageError
        """
        if len(stored) == whole_bytes:
            return stored
        if not 0 <= whole_bytes <= MOST_EXPANSION * len(stored):
            raise UnknownError("sizes that contradict each other")
        out = np.empty(whole_bytes, np.uint8)
        decompress_into(stored, out)
        return out

    def _find(self, offset: int, size: int) -> Array | None:
        if (data := self._held.get((offset, size))) is not None:
            return data
        for start, length in self._ends:
            if start <= offset and offset + size <= start + length and (start, length) in self._held:
                return self._held[start, length][offset - start : offset - start + size]
        return None

    def _walk(self, folders: list[tuple[str, int]], depth: int) -> Iterator[list[tuple[str, Key]]]:
        """Yield the keys in each of some folders, each with what is below it."""
        if depth > _MOST_DEPTH:
            raise UnknownError("folders in folders")
        # A record has no more bytes than this, but may be the last thing of a file.
        room = self._storage.file_bytes
        records = [(place, min(_DIRECTORY[1].size, room - place)) for _, place in folders]
        self.fetch(records)
        lists = [_list_of_keys(self.bytes(*span)) for span in records]
        self.fetch(lists)
        keys = [list(_keys(self.bytes(*span))) if span[1] else [] for span in lists]
        below = [
            (f"{prefix}{key.name}/", key.offset + key.key_bytes)
            for (prefix, _), inside in zip(folders, keys, strict=True)
            for key in inside
            if key.class_name in _DIRECTORIES
        ]
        if len({path for path, _ in below}) < len(below):
            raise UnknownError("several cycles of a folder")
        deeper = self._walk(below, depth + 1) if below else iter(())
        for (prefix, _), inside in zip(folders, keys, strict=True):
            found: list[tuple[str, Key]] = []
            for key in inside:
                if not _AMBIGUOUS.isdisjoint(key.name):
                    raise UnknownError("a name that could be a path")
                found.append((prefix + key.name, key))
                if key.class_name in _DIRECTORIES:
                    found += next(deeper)
            yield found


def _list_of_keys(record: Array) -> Span:
    """Return where the keys of a folder lie, which its record tells."""
    if len(record) < _DIRECTORY[0].size:
        raise UnknownError("a folder's record")
    fields = _DIRECTORY[0].unpack_from(record)
    if fields[0] > _LARGE:
        if len(record) < _DIRECTORY[1].size:
            raise UnknownError("a folder's record")
        fields = _DIRECTORY[1].unpack_from(record)
    return fields[7], fields[3] if fields[7] else 0


def _keys(data: Array) -> Iterator[Key]:
    """Yield the keys in the list of a folder, which begins with a key of its own."""
    _, place = _key(data, 0)
    if place + _COUNT.size > len(data):
        raise UnknownError("a list of keys")
    (count,) = _COUNT.unpack_from(data, place)
    place += _COUNT.size
    if not 0 <= count * _KEY[0].size <= len(data) - place:
        raise UnknownError("a list of keys")
    for _ in range(count):
        key, place = _key(data, place)
        yield key


def _key(data: Array, place: int) -> tuple[Key, int]:
    """Return the key at a place, and where it ends."""
    if place + _KEY[0].size > len(data):
        raise UnknownError("a key")
    format_ = _KEY[0]
    fields = format_.unpack_from(data, place)
    if fields[1] > _LARGE:
        format_ = _KEY[1]
        if place + format_.size > len(data):
            raise UnknownError("a key")
        fields = format_.unpack_from(data, place)
    stored, _, whole, _, key_bytes, cycle, offset, _ = fields
    texts, end = [], place + format_.size
    for _ in range(3):
        text, end = _text(data, end)
        texts.append(text)
    if stored < 0 or whole < 0 or key_bytes < 0:
        raise UnknownError("a key")
    return Key(texts[1], texts[0], cycle, offset, stored, key_bytes, whole), end


def _text(data: Array, place: int) -> tuple[str, int]:
    if place >= len(data):
        raise UnknownError("a text")
    length, start = int(data[place]), place + 1
    if length == _LONG_TEXT:
        if start + 4 > len(data):
            raise UnknownError("a text")
        length, start = int.from_bytes(data[start : start + 4].tobytes(), "big"), start + 4
    if start + length > len(data):
        raise UnknownError("a text")
    raw: bytes = data[start : start + length].tobytes()
    return raw.decode(errors="surrogateescape"), start + length
