"""A column as an awkward array, of what a source's `read` gives."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from rootfeed.schema import Array, FileIndex, Jagged
from rootfeed.sources.scratch import Scratch

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["as_awkward"]


def as_awkward(read: Callable[..., Any], index: FileIndex, name: str, start: int, stop: int) -> ak.Array:
    """Return the entries ``[start, stop)`` of a column that a source reads: see its `read`."""
    import awkward as ak

    def out_for(_: str) -> Array:
        return np.empty(stop - start, index.dtype(name))

    # A scratch of its own, whose memory the array keeps.
    [(_, values)] = read(index, [name], start, stop, out_for, Scratch(), Event())
    if not isinstance(values, Jagged):
        return ak.Array(values)
    return values.as_awkward(index.columns[name].type.shape)
