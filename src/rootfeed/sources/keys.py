"""What the key before a TTree's basket says of it.

``TKey`` and ``TBasket`` write sizes, the class, and the name that the branch had at that time.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from rootfeed.schema import Array
from rootfeed.sources.compression import DamagedPageError

__all__ = ["Key", "has_sizes", "is_labelled", "label", "label_bytes", "name_of", "read_key"]

_HEAD = struct.Struct(">i2xi4xh")  # fNbytes, fObjlen, fKeylen
_TAIL = struct.Struct(">iix")  # fNevBuf, fLast, a byte of flags
_VERSION = struct.Struct(">4xh")
_LENGTH = struct.Struct(">I")
_SHORTEST_KEY_BYTES = 37
_LARGE_VERSION = 1000  # of a key, above which its two positions have eight bytes each
_FIXED_BYTES = 18
_LONG_TEXT = 255  # stands for a length that follows in four bytes
_BASKET_BYTES = 19  # of a basket's own fields, which end its key; one more where it tells features
_SIZES = 1  # TBasket::EIOBits::kGenerateOffsetMap


class Key(NamedTuple):
    """Sizes that a basket's key tells.

    Attributes
    ----------
    key_bytes : int
        Its own.
    whole_bytes : int
        Of what follows it, uncompressed.
    data_bytes : int
        Of the entries in that; their positions may come after them.
    """

    key_bytes: int
    whole_bytes: int
    data_bytes: int


def read_key(stored: Array, entries: int) -> Key:
    """Check the sizes in a basket's key, which `stored` begins with.

    Raises
    ------
    DamagedPageError
    """
    if len(stored) < _SHORTEST_KEY_BYTES:
        raise DamagedPageError(f"its key has {len(stored)} bytes")
    total, whole, key_bytes = _HEAD.unpack_from(stored)
    if total != len(stored) or not _SHORTEST_KEY_BYTES <= key_bytes <= len(stored):
        raise DamagedPageError(f"its key claims {total} bytes, {key_bytes} of them for itself")
    found, last = _TAIL.unpack_from(stored, key_bytes - _TAIL.size)
    if found != entries:
        raise DamagedPageError(f"it holds {found} entries instead of {entries}")
    if len(stored) - key_bytes > whole:
        raise DamagedPageError(f"it stores {len(stored) - key_bytes} bytes for {whole}")
    return Key(key_bytes, whole, last - key_bytes)


def has_sizes(stored: Array, key_bytes: int) -> bool:
    """Tell whether a basket has the size of each entry where others have its position.

    So ROOT writes it with the feature ``kGenerateOffsetMap`` where no counts tell the positions.
    """
    # A negative size of its buffer says that a byte with features follows.
    if stored[key_bytes - 14] < 0x80 or not stored[key_bytes - 10] & _SIZES:
        return False
    place = _label_start(stored)
    for _ in range(3):  # class, name and title
        length, place = _length(stored, place)
        place += length
    return key_bytes - place == _BASKET_BYTES + 1


def label(name: str) -> bytes:
    """Return how the class and a branch's name stand in the keys of its baskets."""
    return _text(b"TBasket") + _text(name.encode(errors="surrogateescape"))


def label_bytes(expected: bytes) -> int:
    """Return how many bytes of a key are enough to compare its label, and to tell another one."""
    return _FIXED_BYTES + 16 + len(expected) + _LONG_TEXT


def is_labelled(stored: Array, expected: bytes) -> bool:
    """Tell whether a basket's key has this label."""
    start = _label_start(stored)
    return stored[start : start + len(expected)].tobytes() == expected


def name_of(stored: Array) -> str:
    """Return the branch's name in a basket's key.

    Raises
    ------
    DamagedPageError
        Where it is another class's.
    """
    start = _label_start(stored)
    prefix = _text(b"TBasket")
    if stored[start : start + len(prefix)].tobytes() != prefix:
        raise DamagedPageError("its key is not a basket's")
    length, start = _length(stored, start + len(prefix))
    return stored[start : start + length].tobytes().decode(errors="surrogateescape")


def _label_start(stored: Array) -> int:
    if len(stored) < _FIXED_BYTES:
        raise DamagedPageError(f"its key has {len(stored)} bytes")
    return _FIXED_BYTES + (16 if _VERSION.unpack_from(stored)[0] > _LARGE_VERSION else 8)


def _length(stored: Array, start: int) -> tuple[int, int]:
    """Return the length of a text, and where its letters begin."""
    length = int(stored[start]) if start < len(stored) else 0
    start += 1
    if length == _LONG_TEXT and start + _LENGTH.size <= len(stored):
        length = _LENGTH.unpack_from(stored, start)[0]
        start += _LENGTH.size
    return length, start


def _text(text: bytes) -> bytes:
    if len(text) < _LONG_TEXT:
        return bytes([len(text)]) + text
    return bytes([_LONG_TEXT]) + _LENGTH.pack(len(text)) + text
