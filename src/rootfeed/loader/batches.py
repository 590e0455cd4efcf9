"""From gathered rows to the arrays of each batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.layout import Layout
from rootfeed.schema import Array

__all__ = ["batches", "gathered"]

Rows = npt.NDArray[np.uint8]
Order = npt.NDArray[np.uint32]


def gathered(
    layout: Layout, memory: Rows, rows: Rows, wanted: Order, sizes: Sequence[int], batch_size: int
) -> list[tuple[Array, ...]]:
    """Copy rows, and what lies beside them, into the arrays of a run of batches.

    Parameters
    ----------
    layout : Layout
    memory : ndarray of uint8
        As long as `layout.places` says, or longer, at a multiple of 64 bytes. Nothing else is written.
    rows : ndarray of uint8, shape (rows, layout.row_bytes)
        The vectors that they refer to must stay where they are meanwhile: somebody must hold them.
    wanted : ndarray of uint32, shape (n,)
        Rows to copy.
    sizes : sequence of int
        Of each batch; n, together.
    batch_size : int
        Of which no batch has more.

    Returns
    -------
    list of tuple of ndarray
        For each part, with all batches, equally far from one to the next: matrices (batches, most,
        columns), or arrays (batches, most, *shape); for padded vectors (batches, batch_size, length,
        columns) and masks (batches, batch_size, length); for ragged ones values (batches, most, columns)
        and offsets (batches, most). What lies behind the rows of a batch means nothing.
    """
    parts, count = layout.parts, len(sizes)
    places, pitches = layout.places(count, batch_size)
    pitch = layout.pitch(batch_size)
    arrays = [
        memory[place : place + count * size].reshape(count, size)
        for place, size in zip(places, pitches, strict=False)
    ]
    wanted = _apart(wanted, sizes, pitch)
    fixed = [number for number, size in enumerate(layout.sizes) if size]
    offsets = np.array([layout.offsets[number] for number in fixed], np.int64)
    outs = [arrays[number].reshape(-1, layout.sizes[number])[: len(wanted)] for number in fixed]
    kernels.gather(rows, wanted, offsets, tuple(outs))
    found: list[tuple[Array, ...]] = []
    for part, array in zip(parts, arrays, strict=False):
        if part.is_beside:
            found.append(())
        else:
            shape = (len(part.columns),) if part.shape is None else part.shape
            found.append((array.view(part.dtype).reshape(count, pitch, *shape),))
    if not layout.beside:
        return found
    kinds = len(layout.beside)
    addresses, lengths = arrays[len(parts)].view(np.uint64), arrays[len(parts) + 1].view(np.int32)
    vectors, lasts = (addresses.reshape(-1, kinds), lengths.reshape(-1, kinds)), arrays[-kinds:]
    numbers = np.array(sizes, np.int64)
    for number, (each, last) in enumerate(zip(layout.beside, lasts, strict=True)):
        part, out = parts[each.part], arrays[each.part]
        columns = len(part.columns)
        element_bytes = columns * part.dtype.itemsize
        values = out[:, : batch_size * each.length * element_bytes].view(part.dtype)
        if part.ragged:
            ends = last.view(np.int64)
            kernels.gather_ragged(*vectors, number, element_bytes, numbers, out, ends)
            found[each.part] = values.reshape(count, batch_size * each.length, columns), ends
        else:
            padding = np.full(each.length * columns, each.value, part.dtype).view(np.uint8)
            marks = np.repeat(np.array([1, 0], np.uint8), each.length)
            kernels.gather_padded(*vectors, number, element_bytes, numbers, padding, marks, out, last)
            mask = last[:, : batch_size * each.length].view(np.bool_)
            found[each.part] = (
                values.reshape(count, batch_size, each.length, columns),
                mask.reshape(count, batch_size, each.length),
            )
    return found


def _apart(wanted: Order, sizes: Sequence[int], pitch: int) -> Order:
    """Return the rows of batches at equal distances: between two of them, any row."""
    if not sizes or len(wanted) == pitch * (len(sizes) - 1) + sizes[-1]:
        return wanted
    found = np.full((len(sizes), pitch), wanted[0])
    stop = 0
    for batch, size in zip(found, sizes, strict=True):
        start, stop = stop, stop + size
        batch[:size] = wanted[start:stop]
    return found.reshape(-1)


def batches(
    layout: Layout, run: Sequence[tuple[Array, ...]], sizes: Sequence[int]
) -> Iterator[tuple[Array, ...]]:
    """Yield the arrays of each batch of a run.

    Parameters
    ----------
    layout : Layout
    run : sequence of tuple of ndarray
        What was `gathered`: a batch has the same arrays, without the first dimension.
    sizes : sequence of int
        Rows of each batch.
    """
    for number, size in enumerate(sizes):
        arrays: list[Array] = []
        for part, found in zip(layout.parts, run, strict=True):
            if part.ragged:
                values, ends = found
                offsets = ends[number, : size + 1]
                arrays += [values[number, : offsets[size]], offsets]
            else:
                arrays += [array[number, :size] for array in found]
        yield tuple(arrays)
