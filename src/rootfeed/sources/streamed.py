"""TTree: the branches of a streamed tree, and where their baskets lie.

The branches are gone through once, by a kernel that knows the classes of current ROOT releases to the
last byte. It tells apart what differs from file to file of one production (numbers of entries, places of
baskets, the largest counts) from everything else, on which names and types depend. What it does not know
is `UnknownError`.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from rootfeed.kernels import streams
from rootfeed.schema import Array
from rootfeed.sources.records import Baskets, BranchRecord, UnknownError

__all__ = ["Tree"]

_NAMES = np.frombuffer("".join(streams.CLASSES).encode(), np.uint8)
_ENDS = np.cumsum([len(name) for name in streams.CLASSES], dtype=np.int64)
_CLASS_BYTES = np.array(streams.CLASS_BYTES, np.int64)
_LONG_TEXT = 255  # stands for a length that follows in four bytes

_NTUPLE = struct.Struct(">IH")  # a count of bytes, and a version
_NTUPLE_VERSIONS = {"TNtuple": 2, "TNtupleD": 1}
_COUNTED = 0x40000000

_LEAST_BRANCH_BYTES = 200
_LEAST_OBJECT_BYTES = 60


class Tree:
    """A TTree.

    Parameters
    ----------
    data : ndarray of uint8
        The tree as it was streamed, uncompressed.
    key_bytes : int
        Size of the key before it.
    class_name : {"TTree", "TNtuple", "TNtupleD"}

    Attributes
    ----------
    entries : int
    production : bytes
        A digest of all that names and types depend on, but for what the file says of classes.

    Raises
    ------
    UnknownError
    """

    def __init__(self, data: Array, key_bytes: int, class_name: str = "TTree") -> None:
        if class_name != "TTree":
            # A tree, and after it the number of its branches.
            head = _NTUPLE.pack(_COUNTED | max(0, len(data) - 4), _NTUPLE_VERSIONS[class_name])
            if data[: len(head)].tobytes() != head:
                raise UnknownError(f"a streamed {class_name}")
            data, key_bytes = data[len(head) : -4], key_bytes + len(head)
        branches = np.empty((len(data) // _LEAST_BRANCH_BYTES + 1, streams.FIELDS), np.int64)
        places = np.empty(len(data) // _LEAST_OBJECT_BYTES + 1, np.int64)
        shared = np.empty(len(data), np.uint8)
        self.entries, count, written = streams.walk_tree(
            data, key_bytes, _NAMES, _ENDS, _CLASS_BYTES, branches, places, shared
        )
        if count < 0:
            raise UnknownError("a streamed TTree")
        self.production = xxhash.xxh3_128_digest(shared[:written])
        self._data = data
        self._branches = branches[:count].copy()

    def names(self) -> list[str]:
        """Return the names of the branches, in the file's order."""
        return [self._text(int(place)) for place in self._branches[:, streams.NAME]]

    def branch(self, number: int) -> BranchRecord:
        """Return a branch."""
        row = [int(value) for value in self._branches[number]]
        return BranchRecord(
            name=self._text(row[streams.NAME]),
            entries=row[streams.ENTRIES],
            whole_bytes=row[streams.WHOLE_BYTES],
            has_positions=bool(row[streams.HAS_POSITIONS]),
            other_file=self._text(row[streams.FILE_NAME]),
            baskets=lambda: self._baskets(row),
        )

    def _baskets(self, row: list[int]) -> Baskets:
        entries, last, most = row[streams.ENTRIES], row[streams.WRITE_BASKET], row[streams.MAX_BASKETS]
        places = self._numbers(">i8", row[streams.BASKET_SEEK], most)
        none = np.flatnonzero(places == 0)
        count = min(int(none[0]) if len(none) else most, last if last >= 0 else most)
        bounds = self._numbers(">i8", row[streams.BASKET_ENTRY], most)[: count + 1]
        if len(bounds) <= count or bounds[-1] != entries or (count == 0 and entries):
            raise UnknownError("entries in baskets that lie in the tree's metadata")
        sizes = self._numbers(">i4", row[streams.BASKET_BYTES], most)[:count]
        return Baskets(bounds, places[:count], sizes)

    def _numbers(self, dtype: str, place: int, count: int) -> npt.NDArray[np.int64]:
        return np.frombuffer(self._data, dtype, count, place).astype(np.int64)

    def _text(self, place: int) -> str:
        data: Any = self._data
        length, start = int(data[place]), place + 1
        if length == _LONG_TEXT:
            length, start = int.from_bytes(data[start : start + 4].tobytes(), "big"), start + 4
        text: bytes = data[start : start + length].tobytes()
        return text.decode(errors="surrogateescape")
