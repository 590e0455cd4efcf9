"""What a pass over a table of text told, as plain bytes: see `known` and `plain`."""

from __future__ import annotations

from typing import Any

import numpy as np

from rootfeed.schema import Array
from rootfeed.sources.csvlines import KINDS, Lines
from rootfeed.sources.plain import packed, unpacked
from rootfeed.sources.storage import Storage

__all__ = ["lines_bytes", "lines_from"]

_IDENTITY_BYTES = 16


def lines_bytes(lines: Lines) -> bytes:
    """Return what a pass told as bytes."""
    columns = [
        [name, kind, lines.places[name], lines.letters[name], lines.nulls.get(name)]
        for name, kind in lines.kinds.items()
    ]
    told = [list(lines.names), lines.delimiter, columns, lines.identity.hex()]
    arrays = [np.asarray(each, np.int64) for each in (lines.bounds, lines.offset, lines.stored_bytes)]
    return packed(told, arrays)


def lines_from(data: bytes, storage: Storage) -> Lines:
    """Return what `lines_bytes` was given; whatever no file could have told is `ValueError`."""
    (names, delimiter, columns, identity), (bounds, offset, stored_bytes) = unpacked(data)
    kinds, places, letters, nulls = {}, {}, {}, {}
    for name, kind, place, mean, none in columns:
        if kind not in KINDS or names[place] != name or not 0 <= mean <= storage.file_bytes:
            raise ValueError("a column")
        kinds[name], places[name], letters[name] = kind, place, float(mean)
        if none is not None:
            nulls[name] = (int(none[0]), int(none[1]))
    found = Lines(
        names=tuple(map(str, names)),
        delimiter=str(delimiter),
        kinds=kinds,
        places=places,
        nulls=nulls,
        bounds=bounds,
        offset=offset,
        stored_bytes=stored_bytes,
        letters=letters,
        identity=bytes.fromhex(identity),
    )
    if set(kinds) != set(found.names) or len(found.identity) != _IDENTITY_BYTES:
        raise ValueError("columns")
    _check_groups(bounds, offset, stored_bytes, storage.file_bytes)
    return found


def _check_groups(bounds: Array, offset: Array, stored_bytes: Array, file_bytes: int) -> None:
    """Refuse groups of lines that do not follow each other in the file."""
    groups: Any = (offset.shape, stored_bytes.shape, (len(bounds) - 1,))
    if (
        {each.dtype for each in (bounds, offset, stored_bytes)} != {np.dtype(np.int64)}
        or len(set(groups)) != 1
        or bounds[0] != 0
        or np.any(np.diff(bounds) < 0)
        or np.any(offset < 0)
        or np.any(stored_bytes < 0)
        or np.any(stored_bytes > file_bytes)
        or np.any(offset > file_bytes - stored_bytes)
    ):
        raise ValueError("groups of lines")
