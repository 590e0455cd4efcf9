"""Rows that stay on a device, and batches that are gathered there. Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from rich.filesize import decimal

from rootfeed.errors import ArgumentError
from rootfeed.formats.torch import hand_out
from rootfeed.layout import Layout
from rootfeed.schema import Array

__all__ = ["DeviceRows"]

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""Of as many bits: PyTorch picks rows of these only."""


class DeviceRows:
    """All rows of a loader on a device, of which batches are gathered there.

    Parameters
    ----------
    layout : Layout
    rows : int
    device : torch.device
    most_bytes : int
        That they may take there.

    Raises
    ------
    ArgumentError
        Where they take more.
    """

    def __init__(self, layout: Layout, rows: int, device: Any, most_bytes: int) -> None:
        self._device = device
        self._layout = layout
        self._rows = rows
        self._most_bytes = most_bytes
        self._filled = 0
        self._arrays: list[Any] = []
        self._ragged: dict[int, list[Any]] = {}
        kinds: list[tuple[np.dtype[Any], tuple[int, ...]]] = []
        for place, (number, role) in enumerate(layout.arrays):
            part, shape = layout.parts[number], layout.row_shape(number, role)
            if role == "offsets":
                kinds.append((np.dtype(np.int64), (rows + 1,)))
            elif part.ragged:
                self._ragged[place] = []  # how many elements there are is known when they are read
                kinds.append((part.dtype, (0, *shape)))
            else:
                kinds.append((np.dtype(bool) if role == "mask" else part.dtype, (rows, *shape)))
        self._bytes = sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in kinds)
        self._check()
        for dtype, shape in kinds:
            like = torch.from_numpy(np.empty(0, dtype)).dtype
            self._arrays.append(torch.zeros(shape, dtype=like, device=device))

    def _check(self) -> None:
        if self._bytes > self._most_bytes:
            raise ArgumentError(
                f"{self._rows:,} rows take {decimal(self._bytes)} on {self._device}"
                f"{', or more' if self._ragged else ''}; {decimal(self._most_bytes)} are allowed. Leave "
                "resident= out, and batches are copied to the device ahead, beside the steps; or take "
                "fewer rows or columns, or a smaller dtype."
            )

    def fill(self, batches: Iterable[tuple[Array, ...]]) -> None:
        """Copy all rows, a batch at a time."""
        for arrays in batches:
            count = len(arrays[1]) - 1 if 0 in self._ragged else len(arrays[0])
            for place, array in enumerate(arrays):
                tensor = torch.from_numpy(array)
                if place in self._ragged:
                    self._bytes += array.nbytes
                    self._check()
                    self._ragged[place].append(tensor.to(self._device, copy=True))
                    continue
                into = self._arrays[place][self._filled : self._filled + len(array)]
                if place - 1 in self._ragged:
                    into[:] = tensor.to(self._device) + into[0]  # their offsets go on
                else:
                    into[:] = tensor
            self._filled += count
        for place, parts in self._ragged.items():
            self._arrays[place] = torch.cat([self._arrays[place], *parts])
            parts.clear()
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()  # epochs may be on other streams

    def gathered(self, wanted: Any, sizes: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        """Yield the arrays of each batch of a run.

        Parameters
        ----------
        wanted : torch.Tensor of int64, shape (n,)
            Numbers of rows, on the device.
        sizes : sequence of int
            Rows of each batch.
        """
        found: list[Sequence[Any]] = []
        with torch.inference_mode(False):  # another batch of the run may be for training
            for place, array in enumerate(self._arrays):
                if place in self._ragged:
                    found += _vectors(array, self._arrays[place + 1], wanted, sizes)
                elif place - 1 not in self._ragged:
                    found.append(_picked(array, wanted).split(sizes))
        made = None
        if self._device.type == "cuda":
            made = torch.cuda.current_stream(self._device).record_event()
            hand_out(self._arrays, made)
        for views in zip(*found, strict=True):
            # Not as views, which know of each other's changes: gradients would be refused for them.
            tensors = tuple(view.data for view in views)
            if made is not None:
                hand_out(tensors, made)
            yield tensors

    def values(self, number: int, rows: Any) -> Any:
        """Return the values of a part in some rows, as an array of NumPy: (rows, columns)."""
        array = self._arrays[self._layout.arrays.index((number, "values"))]
        return _picked(array, rows.to(self._device)).flatten(1).cpu().numpy()


def _picked(array: Any, rows: Any) -> Any:
    signed = _SIGNED.get(array.dtype)
    if signed is None:
        return array.index_select(0, rows)
    return array.view(signed).index_select(0, rows).view(array.dtype)


def _vectors(
    values: Any, offsets: Any, rows: Any, sizes: Sequence[int]
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the vectors of batches, those of one one after another; and where each begins."""
    begins, ends = offsets[rows], offsets[rows + 1]
    own = torch.zeros(len(rows) + 1, dtype=offsets.dtype, device=offsets.device)
    torch.cumsum(ends - begins, 0, out=own[1:])
    bounds = [0, *accumulate(sizes)]
    edges = own[torch.tensor(bounds, device=own.device)].tolist()
    shifts = torch.repeat_interleave(begins - own[:-1], ends - begins, output_size=edges[-1])
    picked = _picked(values, torch.arange(edges[-1], device=own.device) + shifts)
    counts = [stop - start for start, stop in pairwise(edges)]
    return picked.split(counts), [
        own[start : stop + 1] - edge
        for (start, stop), edge in zip(pairwise(bounds), edges, strict=False)
    ]
