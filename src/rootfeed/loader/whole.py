"""An epoch as one batch, for libraries that take all rows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.filesize import decimal

from rootfeed.dataset import free_bytes
from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch
from rootfeed.layout import Layout
from rootfeed.schema import Array

__all__ = ["joined"]


def joined(batches: Iterable[Batch], rows: int, layout: Layout) -> dict[str, Any]:
    """Return the batches of an epoch as one: see `Loader.arrays`."""
    needed, free = rows * layout.batch_row_bytes(rows), free_bytes()
    if 2 * needed > free:  # batches, and then what they are joined into
        raise ArgumentError(
            f"{rows:,} rows take up to {decimal(needed)}, and twice that while they are put together; "
            f"{decimal(free)} of memory are free. Iterate over the batches, or take fewer rows."
        )
    parts = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
    names = ("x", "y", "w")[: len(parts[0])]
    found = dict(zip(names, (_joined(each, layout) for each in zip(*parts, strict=True)), strict=True))
    for name in names[1:]:
        if found[name].shape[1:] == (1,):
            found[name] = found[name][:, 0]
    return found


def _joined(parts: Sequence[Any], layout: Layout) -> Any:
    """Return what several batches have in one place, one after another."""
    if not isinstance(parts[0], dict):
        return np.concatenate(parts)
    offsets = {f"{part.name}_offsets" for part in layout.parts if part.ragged}
    return {
        name: (_offsets if name in offsets else np.concatenate)([part[name] for part in parts])
        for name in parts[0]
    }


def _offsets(parts: Sequence[Array]) -> Array:
    """Return offsets that count on, from batch to batch."""
    firsts = np.cumsum([0, *(part[-1] for part in parts)])
    rest = [part[1:] + first for part, first in zip(parts, firsts, strict=False)]
    return np.concatenate([parts[0][:1], *rest])
