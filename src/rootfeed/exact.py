"""Whether integers stay what they are: NumPy makes float64 of int64 and uint64 without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["common_dtype", "exactly", "inexact", "integer_dtype"]

Array = npt.NDArray[Any]
Dtype = np.dtype[Any]


def inexact(values: Array, dtype: Dtype) -> int:
    """Return how many integers another dtype cannot represent."""
    if dtype.kind != "f":
        limits = np.iinfo(dtype)
        fits = (values >= limits.min) & (values <= limits.max)
        return int(np.count_nonzero(~fits))
    with np.errstate(over="ignore"):
        reals = values.astype(dtype).astype(np.float64)
    # What is rounded up to the first number beyond the type's range cannot be converted back.
    fits = reals < 2.0 ** (8 * values.itemsize - (values.dtype.kind == "i"))
    fits &= np.isfinite(reals)
    back = np.where(fits, reals, 0).astype(values.dtype)
    return int(np.count_nonzero(~fits | (back != values)))


def integer_dtype(least: int, most: int) -> Dtype | None:
    """Return the first of int64 and uint64 that holds two numbers and all between; None if neither."""
    for dtype in (np.dtype(np.int64), np.dtype(np.uint64)):
        limits = np.iinfo(dtype)
        if limits.min <= least and most <= limits.max:
            return dtype
    return None


def common_dtype(parts: Sequence[Array]) -> tuple[Dtype, int]:
    """Return the dtype of arrays that are put together, and how many integers it cannot represent.

    That is NumPy's, but integers stay integers where they all fit into int64, or into uint64.
    """
    dtype = np.result_type(*(part.dtype for part in parts))
    wide = [part for part in parts if part.dtype.kind in "iu" and part.itemsize == 8]
    if dtype.kind != "f" or not wide:
        return dtype, 0
    if all(part.dtype.kind in "iub" for part in parts):
        ends = [(int(part.min()), int(part.max())) for part in parts if part.size]
        least, most = (min(a for a, _ in ends), max(b for _, b in ends)) if ends else (0, 0)
        if (found := integer_dtype(least, most)) is not None:
            return found, 0
    return dtype, sum(inexact(part, dtype) for part in wide)


def exactly(value: Any, dtype: Dtype) -> Any:
    """Return a number as one of a dtype; None where that would be another one.

    Integers, and what becomes one, keep their value; real numbers may be rounded to real ones, but not
    to infinity.
    """
    if not isinstance(value, int | float):
        return None
    if dtype.kind != "f":
        if isinstance(value, float) and not value.is_integer():  # NaN and infinities, too
            return None
        least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        return dtype.type(int(value)) if least <= value <= most else None
    try:
        with np.errstate(over="ignore"):
            found = dtype.type(value)
    except OverflowError:  # of an integer
        return None
    if isinstance(value, int):
        return found if np.isfinite(found) and int(found) == value else None
    return None if np.isinf(found) and not np.isinf(value) else found
