"""From gathered rows to the arrays of each batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.layout import Layout
from rootfeed.schema import Array

__all__ = ["batches", "gathered", "run_places"]

_LINE_BYTES = 64

Rows = npt.NDArray[np.uint8]
Order = npt.NDArray[np.uint32]


def run_places(layout: Layout, rows: int) -> list[int]:
    """Return where each array of a run of batches starts in its memory, and where the last one ends."""
    places = [0]
    for size in layout.batch_sizes:
        places.append(-(-(places[-1] + rows * size) // _LINE_BYTES) * _LINE_BYTES)
    return places


def gathered(layout: Layout, memory: Rows, rows: Rows, wanted: Order) -> list[tuple[Array, ...]]:
    """Copy rows, and what lies beside them, into the arrays of a run of batches.

    Parameters
    ----------
    layout : Layout
    memory : ndarray of uint8
        Of `run_places` for so many rows, or more. Nothing else is written to.
    rows : ndarray of uint8, shape (rows, layout.row_bytes)
        The vectors that they refer to must stay where they are meanwhile: somebody must hold them.
    wanted : ndarray of uint32, shape (n,)
        Rows to copy.

    Returns
    -------
    list of tuple of ndarray
        For each part: a matrix (n, columns), or an array (n, *shape); for padded vectors (n, length,
        columns) and a mask (n, length); for ragged ones values (total, columns) and offsets (n + 1,).
    """
    count, parts = len(wanted), layout.parts
    starts = run_places(layout, count)
    outs = [
        memory[start : start + count * size].reshape(count, size)
        for start, size in zip(starts, layout.batch_sizes, strict=False)
    ]
    fixed = [number for number, size in enumerate(layout.sizes) if size]
    offsets = np.array([layout.offsets[number] for number in fixed], np.int64)
    kernels.gather(rows, wanted, offsets, tuple(outs[number] for number in fixed))
    found: list[tuple[Array, ...]] = []
    for part, out in zip(parts, outs, strict=False):
        if part.is_beside:
            found.append(())
        else:
            shape = (len(part.columns),) if part.shape is None else part.shape
            found.append((out.view(part.dtype).reshape(count, *shape),))
    if not layout.beside:
        return found
    addresses, lengths = outs[len(parts)].view(np.uint64), outs[len(parts) + 1].view(np.int32)
    masks = iter(outs[len(layout.sizes) :])
    for number, each in enumerate(layout.beside):
        part, out = parts[each.part], outs[each.part]
        columns = len(part.columns)
        element_bytes = columns * part.dtype.itemsize
        if part.ragged:
            flat = out.reshape(-1)
            kernels.gather_ragged(addresses, lengths, number, element_bytes, flat)
            ends = np.zeros(count + 1, np.int64)
            np.cumsum(lengths[:, number], out=ends[1:])
            values = flat[: ends[-1] * element_bytes].view(part.dtype)
            found[each.part] = values.reshape(-1, columns), ends
        else:
            mask = next(masks)
            padding = np.full(each.length * columns, each.value, part.dtype).view(np.uint8)
            marks = np.repeat(np.array([1, 0], np.uint8), each.length)
            kernels.gather_padded(addresses, lengths, number, element_bytes, padding, marks, out, mask)
            shaped = out.view(part.dtype).reshape(count, each.length, columns)
            found[each.part] = shaped, mask.view(np.bool_)
    return found


def batches(
    layout: Layout, run: Sequence[tuple[Array, ...]], sizes: Iterable[int]
) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays of each batch of a run.

    Parameters
    ----------
    layout : Layout
    run : sequence of tuple of ndarray
        What was `gathered`: a batch has the same arrays, of fewer rows. Offsets begin at zero in each.
    sizes : iterable of int
        Rows of each batch.
    """
    stop = 0
    for size in sizes:
        start, stop = stop, stop + size
        arrays: list[Array] = []
        for part, found in zip(layout.parts, run, strict=True):
            if part.ragged:
                values, ends = found
                offsets = ends[start : stop + 1] - ends[start]
                arrays += [values[ends[start] : ends[stop]], offsets]
            else:
                arrays += [array[start:stop] for array in found]
        yield tuple(arrays)
