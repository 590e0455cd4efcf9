"""How the labels of the blocks in memory are stored: in an order that batches would tell of, or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rootfeed.loader.dataset import Dataset
from rootfeed.loader.held import HeldBlock
from rootfeed.plan import Found, found_lacking

__all__ = ["found_in"]

_LOOKED_AT = 1024
"""Rows of a block, at most."""

_MOST = 200_000
"""Rows of all blocks."""

_MOST_LABELS = 256
"""Different ones that are classes; of more, such as energies, each eighth of all counts as one."""

_SHARES = 8

_MOST_COLUMNS = 16
"""That are looked at one by one."""


def found_in(
    dataset: Dataset, blocks: Sequence[HeldBlock], rows: npt.NDArray[np.uint8], regions: Sequence[int]
) -> Found:
    """Return what batches' labels lack, by the labels of blocks in memory.

    Nothing where there is no target of numbers in rows, and where classes have fixed shares of a batch.

    Parameters
    ----------
    dataset : Dataset
    blocks : sequence of HeldBlock
        Those that are in memory together.
    rows : ndarray of uint8, shape (rows of the arena, bytes of a row)
    regions : sequence of int
        First file of each.
    """
    layout = dataset.layout
    if dataset.strata is not None or len(layout.parts) == layout.inputs:
        return Found(0.0)
    start, size = layout.offsets[layout.inputs], layout.sizes[layout.inputs]
    found: dict[int, npt.NDArray[np.uint32]] = {}
    for block in blocks:
        if any(len(places) >= 2 for places in block.places):
            found[block.read.block] = max(block.places, key=len)
    if not size or len(found) < 2:
        return Found(0.0)
    numbers = np.array(sorted(found))  # in the order of files, and of entries there
    most = max(min(_LOOKED_AT, _MOST // len(numbers)), 2)
    # From all over a block, whose rows may be in the order of the file.
    places = [found[number][:: -(-len(found[number]) // most)] for number in numbers.tolist()]
    part = layout.parts[layout.inputs]
    seen = np.ascontiguousarray(rows[np.concatenate(places), start : start + size]).view(part.dtype)
    owner = np.repeat(np.arange(len(numbers)), [len(each) for each in places])
    rows_of = dataset.counts[numbers].sum(1)
    region = np.searchsorted(regions, dataset.block_files[numbers], "right")
    judged = []
    for codes in _codes(seen):
        counts = np.zeros((len(numbers), int(codes.max()) + 1), np.int64)
        np.add.at(counts, (owner, codes), 1)
        judged.append(found_lacking(counts, rows_of, region))
    return max(judged, key=lambda each: each.bits)


def _codes(seen: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield which label each row has: what all columns are together, or each of them, if that varies."""
    labels, codes = np.unique(seen, axis=0, return_inverse=True)
    if len(labels) <= _MOST_LABELS:
        yield codes.ravel()
        return
    for column in seen.T[:_MOST_COLUMNS]:
        labels, codes = np.unique(column, return_inverse=True)
        yield codes if len(labels) <= _MOST_LABELS else _shares_of(column)


def _shares_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return in which eighth of all each value is; equal ones are in the same."""
    order = np.sort(values)
    bounds = order[np.arange(1, _SHARES) * len(order) // _SHARES]
    return np.searchsorted(bounds, values, "right")
