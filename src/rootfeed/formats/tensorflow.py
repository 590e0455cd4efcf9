"""Batches as TensorFlow's tensors, several to an element of a dataset. Imports tensorflow.

An element of `tf.data.Dataset.from_generator` costs some 0.3 ms. So batches that lie side by side in
memory are one element, without a copy, which TensorFlow cuts into batches: without a copy either, where
there are no gaps between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from rootfeed.formats.batch import Batch, nested
from rootfeed.layout import Layout
from rootfeed.schema import Array

__all__ = ["Groups"]

_MOST = 32
"""Batches of an element."""

Arrays = tuple[Array, ...]


class Groups:
    """How batches become elements, and elements batches.

    Parameters
    ----------
    layout : Layout
    batch_size : int
    full : bool
        Whether all batches have so many rows.

    Attributes
    ----------
    signature : tuple of tf.TensorSpec
        Of an element: each array with all its batches; of one with gaps between batches, in one
        dimension, with the gaps.
    """

    def __init__(self, layout: Layout, batch_size: int, full: bool) -> None:
        self._layout = layout
        self._batch_size = batch_size
        self._rows = batch_size if full else None
        _, pitches = layout.places(1, batch_size)
        # Of each array of a batch: shape of a row, dtype, and bytes from batch to batch. Ragged ones
        # stay alone, since they have another shape in each batch.
        self._kinds: list[tuple[tuple[int, ...], Any, int]] = []
        beside = {each.part: place for place, each in enumerate(layout.beside, len(layout.sizes))}
        for number, role in layout.arrays:
            part = layout.parts[number]
            pitch = pitches[beside[number] if role == "mask" else number]
            dtype = {"values": part.dtype, "mask": np.dtype(bool), "offsets": np.dtype(np.int64)}[role]
            self._kinds.append((layout.row_shape(number, role), dtype, 0 if part.ragged else pitch))
        names = layout.names
        offsets = [
            name
            for name, (_, role) in zip(names or (), layout.arrays, strict=False)
            if role == "offsets"
        ]
        self._names = None if names is None else [name for name in names if name not in offsets]
        self._gaps = [self._has_gaps(shape, dtype, pitch) for shape, dtype, pitch in self._kinds]
        self._most = 1 if any(part.ragged for part in layout.parts) else _MOST
        self.signature = tuple(
            tf.TensorSpec((None, None) if gaps else (None, self._rows if pitch else None, *shape), dtype)
            for (shape, dtype, pitch), gaps in zip(self._kinds, self._gaps, strict=True)
        )

    def _has_gaps(self, shape: tuple[int, ...], dtype: Any, pitch: int) -> bool:
        return bool(pitch) and pitch != self._batch_size * int(np.prod(shape)) * dtype.itemsize

    def elements(self, batches: Iterator[Arrays], complete: Callable[[], bool]) -> Iterator[Arrays]:
        """Yield elements: the first batch, which may only be looked at, alone, and then groups.

        Where `complete` says that there are no more, none is asked for: before it has used the last
        ones, TensorFlow shall not be told that they are the last.
        """
        first: Arrays = ()
        count, most, address = 0, 1, 0
        for arrays in batches:
            # Batches of a run share their memory, and all their arrays lie equally far apart: the first
            # one tells of the others.
            found = arrays[0].__array_interface__["data"][0]
            follows = count and arrays[0].base is first[0].base
            follows = follows and found == address + self._kinds[0][2] and count < most
            if count and not (follows and len(arrays[0]) == len(first[0]) == self._batch_size):
                yield self._joined(first, count)
                count = 0
            first = arrays if count == 0 else first
            count, address = count + 1, found
            if most == 1 or complete():
                yield self._joined(first, count)
                count, most = 0, self._most
        if count:
            yield self._joined(first, count)

    def _joined(self, first: Arrays, count: int) -> Arrays:
        """Return the arrays of batches that lie side by side, from a first one on: no copies of them."""
        found: list[Array] = []
        for array, (shape, dtype, pitch), gaps in zip(first, self._kinds, self._gaps, strict=True):
            rest = array.reshape(-1) if gaps else array
            if count == 1:
                found.append(rest[None])
                continue
            # Memory goes on behind the last batch as far as from one to the next.
            inner = (pitch // dtype.itemsize,) if gaps else (self._batch_size, *shape)
            strides = (pitch, *rest.strides)
            found.append(np.lib.stride_tricks.as_strided(rest, (count, *inner), strides))
        return tuple(found)

    def batches(self, *arrays: Any) -> Any:
        """Return a dataset of the batches of an element."""
        if self._most > 1 and not any(self._gaps):
            return tf.data.Dataset.from_tensor_slices(self._nested(*arrays))
        slices = tf.data.Dataset.from_tensor_slices(arrays)
        return slices.map(lambda *each: self._nested(*map(self._whole, each, self._kinds, self._gaps)))

    def _whole(self, array: Any, kind: tuple[tuple[int, ...], Any, int], gaps: bool) -> Any:
        if not gaps:
            return array
        size = self._batch_size * int(np.prod(kind[0]))
        return tf.reshape(array[:size], (self._rows or -1, *kind[0]))

    def _nested(self, *arrays: Any) -> Batch:
        """Return tensors as a batch, ragged ones as such."""
        found: list[Any] = []
        for array, (_, role) in zip(arrays, self._layout.arrays, strict=True):
            if role == "offsets":
                found[-1] = tf.RaggedTensor.from_row_splits(found[-1], array, validate=False)
            else:
                found.append(array)
        return nested(self._names, found)
