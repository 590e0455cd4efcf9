"""Columns of a block, side by side, until they are packed into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.dataset import Dataset, DatasetFile
from rootfeed.layout import Layout
from rootfeed.schema import Array
from rootfeed.sources import Scratch

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


def staged(dataset: Dataset, file: DatasetFile, entries: int, scratch: Scratch) -> list[Staging]:
    """Return where stored columns lie, of all entries, and where defined ones, of the rows."""
    return [
        _staging_of(dataset.layout, names, entries, scratch, label)
        for label, names in (("stored", file.projection.stored), ("defined", file.projection.defined))
    ]


def _staging_of(
    layout: Layout, names: Sequence[str], entries: int, scratch: Scratch, label: str
) -> Staging:
    wanted: dict[int, list[tuple[str, np.dtype[Any], int]]] = {}
    for part, offset in zip(layout.parts, layout.offsets, strict=False):
        size = part.dtype.itemsize
        for name, position in part.scalars:
            if name in names:
                wanted.setdefault(size, []).append((name, part.dtype, offset // size + position))
    staging = Staging({name: [] for uses in wanted.values() for name, _, _ in uses}, [], [])
    for size, uses in wanted.items():
        matrix = scratch.array(f"{label} {size}", (len(uses), stride(entries)), f"u{size}")
        for row, (name, dtype, _) in zip(matrix, uses, strict=True):
            staging.columns[name].append(row[:entries].view(dtype))
        staging.matrices.append(matrix)
        staging.places.append(np.array([place for _, _, place in uses], np.int64))
    return staging
