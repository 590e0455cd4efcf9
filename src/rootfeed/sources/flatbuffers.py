"""What Arrow's files say of their record batches, which pyarrow tells only with their values.

The layout is that of FlatBuffers, with Arrow's `File.fbs` and `Message.fbs`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

__all__ = ["Batch", "batch", "blocks", "dictionaries"]

_FOOTER_DICTIONARIES, _FOOTER_BATCHES = 2, 3
_MESSAGE_HEADER = 2
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS, _BATCH_VARIADIC = 0, 1, 2, 4
_BLOCK = struct.Struct("<qi4xq")
_NODE = struct.Struct("<qq")
_COUNT = struct.Struct("<q")


@dataclass(frozen=True)
class Batch:
    """One record batch.

    Attributes
    ----------
    offset : int
        Position in the file.
    body_bytes : int
        Stored bytes of its values.
    entries : int
    nodes : tuple of (int, int)
        Length and number of nulls of each field, and after each of the fields in it.
    buffers : tuple of (int, int)
        Position behind the header, and bytes, of each buffer of each field.
    is_plain : bool
        Whether each type has a number of buffers of its own; views have any number.
    """

    offset: int
    body_bytes: int
    entries: int
    nodes: tuple[tuple[int, int], ...]
    buffers: tuple[tuple[int, int], ...] = ()
    is_plain: bool = True


def blocks(footer: bytes) -> list[tuple[int, int, int]]:
    """Return position, bytes of the header, and bytes of the values of each record batch.

    Raises `struct.error` where positions lie outside, as the other function does.
    """
    table = _number("<I", footer, 0)
    return [*_vector(footer, table, _FOOTER_BATCHES, _BLOCK)]


def dictionaries(footer: bytes) -> list[tuple[int, int, int]]:
    """Return position, bytes of the header, and bytes of the values of each batch of a dictionary."""
    table = _number("<I", footer, 0)
    return [*_vector(footer, table, _FOOTER_DICTIONARIES, _BLOCK)]


def batch(header: bytes, offset: int, body_bytes: int) -> Batch:
    """Return what the header of a record batch says."""
    start = 8 if header[:4] == b"\xff\xff\xff\xff" else 4  # earlier ones have no mark before the size
    message = header[start:]
    table = _followed(message, _place(message, _number("<I", message, 0), _MESSAGE_HEADER))
    length = _place(message, table, _BATCH_LENGTH)
    entries = _number("<q", message, length) if length else 0
    nodes = tuple(_vector(message, table, _BATCH_NODES, _NODE))
    buffers = tuple(_vector(message, table, _BATCH_BUFFERS, _NODE))
    is_plain = not _vector(message, table, _BATCH_VARIADIC, _COUNT)
    return Batch(offset, body_bytes, entries, nodes, buffers, is_plain)


def _place(buffer: bytes, table: int, number: int) -> int:
    """Return where a field of a table lies; 0 where it is left out."""
    directory = table - _number("<i", buffer, table)
    if 4 + 2 * number >= _number("<H", buffer, directory):
        return 0
    place = _number("<H", buffer, directory + 4 + 2 * number)
    return table + place if place else 0


def _followed(buffer: bytes, place: int) -> int:
    return place + _number("<I", buffer, place)


def _vector(buffer: bytes, table: int, number: int, item: struct.Struct) -> list[Any]:
    place = _place(buffer, table, number)
    if not place:
        return []
    start = _followed(buffer, place)
    count = _number("<I", buffer, start)
    stop = start + 4 + count * item.size
    if stop > len(buffer):
        raise struct.error(f"{count} items do not fit into {len(buffer)} bytes")
    return [*item.iter_unpack(buffer[start + 4 : stop])]


def _number(code: str, buffer: bytes, place: int) -> int:
    if place < 0:
        raise struct.error("a position lies before all bytes")
    found: int = struct.unpack_from(code, buffer, place)[0]
    return found
