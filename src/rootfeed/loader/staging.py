"""Columns of a block, side by side, until they are packed into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.dataset import Dataset, DatasetFile
from rootfeed.layout import Layout
from rootfeed.schema import Array
from rootfeed.sources import Scratch
from rootfeed.view import Projection

__all__ = ["Staging", "staged", "stride"]

Positions = npt.NDArray[np.int32]

_ALL = np.empty(0, np.int32)


def stride(items: int) -> int:
    """Return how far apart rows of so many items lie in a matrix.

    A power of two apart, they would share the same few lines of the cache while they are packed.
    """
    return -(-items // 16) * 16 + 16


@dataclass(frozen=True, eq=False)
class Staging:
    """Where a block's columns lie until they are packed.

    Attributes
    ----------
    columns : dict of str to list of ndarray
        A column's places in the matrices, each of the dtype that it has in a batch.
    matrices : list of ndarray
        Words of each item size, shape (columns, entries or more).
    places : list of ndarray of int64
        Position in a row of each column of a matrix, in words.
    """

    columns: dict[str, list[Array]]
    matrices: list[Array]
    places: list[Array]

    def pack(self, take: Positions | None, rows: Array) -> None:
        """Write columns into rows: of the entries in `take`, or the first ones."""
        for matrix, place in zip(self.matrices, self.places, strict=True):
            kernels.pack(matrix, _ALL if take is None else take, place, rows.view(matrix.dtype))


class _Words(NamedTuple):
    """Columns of one item size: names and dtypes of each, and positions in a row, in words."""

    size: int
    columns: list[tuple[str, np.dtype[Any]]]
    places: npt.NDArray[np.int64]


_words: WeakKeyDictionary[Projection, tuple[Layout, list[list[_Words]]]] = WeakKeyDictionary()


def staged(dataset: Dataset, file: DatasetFile, entries: int, scratch: Scratch) -> list[Staging]:
    """Return where stored columns lie, of all entries, and where defined ones, of the rows."""
    layout, projection = dataset.layout, file.projection
    known = _words.get(projection)  # which all files of a frame have in common
    if known is None or known[0] is not layout:
        names = (projection.stored, projection.defined)
        known = _words[projection] = (layout, [_words_of(layout, each) for each in names])
    labels = ("stored", "defined")
    return [
        _staging_of(each, entries, scratch, label) for each, label in zip(known[1], labels, strict=True)
    ]


def _words_of(layout: Layout, names: Sequence[str]) -> list[_Words]:
    wanted: dict[int, list[tuple[str, np.dtype[Any], int]]] = {}
    for part, offset in zip(layout.parts, layout.offsets, strict=False):
        size = part.dtype.itemsize
        for name, position in part.scalars:
            if name in names:
                wanted.setdefault(size, []).append((name, part.dtype, offset // size + position))
    return [
        _Words(size, [each[:2] for each in uses], np.array([place for *_, place in uses], np.int64))
        for size, uses in wanted.items()
    ]


def _staging_of(words: Sequence[_Words], entries: int, scratch: Scratch, label: str) -> Staging:
    staging = Staging({}, [], [])
    for size, columns, places in words:
        matrix = scratch.array(f"{label} {size}", (len(columns), stride(entries)), f"u{size}")
        rows = {dtype: list(matrix.view(dtype)[:, :entries]) for dtype in {each[1] for each in columns}}
        for number, (name, dtype) in enumerate(columns):
            staging.columns.setdefault(name, []).append(rows[dtype][number])
        staging.matrices.append(matrix)
        staging.places.append(places)
    return staging
