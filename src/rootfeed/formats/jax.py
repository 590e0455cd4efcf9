"""Batches as JAX arrays. Imports jax."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from rootfeed.errors import ArgumentError
from rootfeed.formats.batch import Batch, Format, Names, nested
from rootfeed.layout import LINE_BYTES, Layout
from rootfeed.schema import Array

__all__ = ["check", "jax_format"]


def jax_format(
    layout: Layout,
    batch_size: int,
    device: Any = None,
    sharding: Any = None,
    pad: bool = False,
    prefetch: int = 2,
) -> Format:
    """Return the format of JAX arrays.

    Parameters
    ----------
    layout : Layout
    batch_size : int
    device : jax.Device or None
        None is JAX's own choice. On a CPU arrays share memory with those that were gathered.
    sharding : jax.sharding.Sharding or None
        Of arrays of all processes, of which this one has a part of the rows.
    pad : bool
        Fill shorter batches up, and add a mask of the rows that are real.
    prefetch : int
        Batches that are copied to an accelerator ahead.
    """
    offsets = tuple(role == "offsets" for _, role in layout.arrays)
    return ToJax(layout.names, offsets, batch_size if pad else None, device, sharding, prefetch)


class ToJax:
    """Makes JAX arrays, some batches ahead on an accelerator; it can be pickled where its device can."""

    def __init__(
        self,
        names: Names,
        offsets: tuple[bool, ...],
        rows: int | None,
        device: Any,
        sharding: Any,
        prefetch: int,
    ) -> None:
        self.names = names
        self.offsets = offsets
        self.rows = rows
        self.device = device
        self.sharding = sharding
        self.prefetch = prefetch

    def __call__(self, batches: Iterator[tuple[Array, ...]]) -> Iterator[Batch]:
        every = None if self.rows is None else self._put([np.ones(self.rows, np.bool_)])
        ahead = self.prefetch if self._copies else 0
        waiting: deque[list[Any]] = deque()
        for arrays in batches:
            # Copies run beside the consumer's steps: JAX returns before they have ended.
            waiting.append(self._whole(arrays, every))
            if len(waiting) > ahead:
                yield nested(self.names, waiting.popleft())
        while waiting:
            yield nested(self.names, waiting.popleft())

    @property
    def _copies(self) -> bool:
        """Whether arrays are copied to where they are used."""
        if self.sharding is not None:
            return any(device.platform != "cpu" for device in self.sharding.device_set)
        platform: str = jax.default_backend() if self.device is None else self.device.platform
        return platform != "cpu"

    def _whole(self, arrays: tuple[Array, ...], every: list[Any] | None) -> list[Any]:
        narrowed = [
            _narrowed(array) if is_offsets else array
            for array, is_offsets in zip(arrays, self.offsets, strict=True)
        ]
        if every is None or self.rows is None:
            return self._put(narrowed)
        if len(arrays[0]) == self.rows:
            return self._put(narrowed) + every
        mask = _padded(np.ones(len(arrays[0]), np.bool_), self.rows)
        return self._put([*(_padded(array, self.rows) for array in narrowed), mask])

    def _put(self, arrays: list[Array]) -> list[Any]:
        if self.sharding is None:
            found: list[Any] = jax.device_put(arrays, self.device)
            return found
        return [jax.make_array_from_process_local_data(self.sharding, array) for array in arrays]


def check(layout: Layout, shard: Any) -> None:
    """Refuse what JAX would alter without a word, before the first batch."""
    for number, part in enumerate(layout.parts):
        kept = jax.dtypes.canonicalize_dtype(part.dtype)
        if kept != part.dtype:
            argument = "target_dtype" if number == layout.inputs else "dtype"
            raise ArgumentError(
                f"JAX would make {kept} of {part.dtype}, as long as it is not told to keep 64 bits: "
                f'jax.config.update("jax_enable_x64", True). Or choose {argument}={str(kept)!r} where '
                "the loader is made."
            )
    own, mine = (jax.process_index(), jax.process_count()), (shard.rank, shard.world_size)
    if own[1] > 1 and own != mine:
        raise ArgumentError(
            f"this is process {own[0]} of JAX's {own[1]}, and rank {mine[0]} of the loader's {mine[1]}: "
            "all processes must share an epoch. Make the loader with rank=jax.process_index(), "
            "world_size=jax.process_count()."
        )


def _narrowed(offsets: Array) -> Array:
    """Return the offsets of a batch's vectors in the widest integers that JAX has now."""
    return offsets.astype(jax.dtypes.canonicalize_dtype(offsets.dtype), copy=False)


def _padded(array: Array, rows: int) -> Array:
    """Return an array with rows of zeros behind its own, at a multiple of 64 bytes."""
    row_bytes = array.nbytes // len(array)
    memory = np.zeros(rows * row_bytes + LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    found: Array = memory[start : start + rows * row_bytes].view(array.dtype)
    found = found.reshape(rows, *array.shape[1:])
    found[: len(array)] = array
    return found
