"""What a batch is, and a format of batches; and that of NumPy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from rootfeed.schema import Array

__all__ = ["Batch", "Format", "Names", "each", "nested", "numpy_format"]

Batch = Any
"""``x``; ``(x, y)`` with a target; ``(x, y, w)`` with a target and weights; ``x`` may be a dict."""

Names = Sequence[str] | None
"""Names of the first arrays, which ``x`` is a dict of; None where ``x`` is the first array."""

Format = Callable[[Iterator[tuple[Array, ...]]], Iterator[Batch]]
"""Makes batches of gathered arrays, one for one. It can be pickled."""


def nested(names: Names, arrays: Sequence[Any]) -> Batch:
    """Return arrays as a batch: ``x``, ``(x, y)`` or ``(x, y, w)``."""
    if names is not None:
        count = len(names)
        arrays = [dict(zip(names, arrays, strict=False)), *arrays[count:]]
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


def each(convert: Callable[[tuple[Array, ...]], Batch]) -> Format:
    """Return the format that makes each batch by itself, when it is asked for."""
    return partial(map, convert)


def numpy_format(names: Names) -> Format:
    """Return the format of NumPy arrays: those that were gathered."""
    return each(partial(nested, names))
