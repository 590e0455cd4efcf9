"""From gathered rows to the arrays of each batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rootfeed import kernels
from rootfeed.schema import Array, Layout

__all__ = ["batches", "names"]


def names(layout: Layout) -> tuple[str, ...] | None:
    """Return the names of the arrays of ``x``; None where it is one array."""
    if not layout.mapping:
        return None
    found: list[str] = []
    for part in layout.parts[: layout.inputs]:
        found.append(part.name)
        if part.length is not None and part.shape is None:
            found.append(f"{part.name}_offsets" if part.ragged else f"{part.name}_mask")
    return tuple(found)


def batches(layout: Layout, parts: Sequence[Array], size: int) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays of each batch of a run.

    Parameters
    ----------
    layout : Layout
    parts : sequence of ndarray of uint8
        The rows' parts, and the lengths of their vectors if there are any.
    size : int
        Rows of a batch.

    Yields
    ------
    tuple of ndarray
        A matrix (n, columns) for each part of numbers; for padded vectors (n, length, columns) and a
        mask (n, length); for ragged ones values (total, columns) and offsets (n + 1,); for arrays of
        fixed dimensions (n, *shape).
    """
    wholes = [rows.view(part.dtype) for rows, part in zip(parts, layout.parts, strict=False)]
    lengths = parts[-1].view(np.int32) if layout.vectors else None
    whose = {each.part: number for number, each in enumerate(layout.vectors)}
    for start in range(0, len(parts[0]), size):
        arrays: list[Array] = []
        for number, (whole, part) in enumerate(zip(wholes, layout.parts, strict=True)):
            rows = whole[start : start + size]
            if part.length is None:
                arrays.append(rows)
                continue
            if part.shape is not None:
                arrays.append(rows.reshape(len(rows), *part.shape))
                continue
            assert lengths is not None
            real = lengths[start : start + size, whose[number]]
            shaped = rows.reshape(len(rows), part.length, len(part.columns))
            if part.ragged:
                arrays += _ragged(shaped, real)
            else:
                arrays += [shaped, np.arange(part.length) < real[:, None]]
        yield tuple(arrays)


def _ragged(padded: Array, lengths: Array) -> list[Array]:
    """Return the real elements one after another, and where each row's begin."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    words = padded.view(f"u{padded.dtype.itemsize}")
    out = np.empty((int(offsets[-1]), padded.shape[2]), padded.dtype)
    kernels.unpad(words, offsets, out.view(words.dtype))
    return [out, offsets]
