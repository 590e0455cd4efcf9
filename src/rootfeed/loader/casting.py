"""Casts to the dtypes of a batch, and a count of what they alter."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rootfeed import kernels
from rootfeed.engine import ForkLock
from rootfeed.errors import ArgumentError
from rootfeed.exact import integer_dtype
from rootfeed.schema import Array

__all__ = ["CUT", "NOT_FINITE", "Alterations", "cast"]

CUT = "cut to "
"""Of an alteration: vectors that were longer than what was asked for."""

NOT_FINITE = "NaN or infinite"
"""Of weights: no alteration, but counted with them."""


class Alterations:
    """Counts, from all threads, of values that were altered, and of weights that are no numbers."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = ForkLock()

    def add(self, column: str, what: Any, count: int) -> None:
        """Count values of a column; `what` is the dtype, `CUT` and a length, or `NOT_FINITE`."""
        with self._lock:
            self._counts[column, str(what)] += count

    def take(self) -> dict[tuple[str, str], int]:
        """Return the counts by (column, dtype), and forget them."""
        if not self._counts:
            return {}
        with self._lock:
            counts, self._counts = dict(self._counts), Counter()
        return counts


def cast(values: Array, out: Array) -> int:
    """Cast a column to a batch dtype; return how many values it could not represent.

    Counted are integers that a floating dtype cannot hold exactly, and finite numbers that become
    infinite; the rounding of reals is not.

    Raises
    ------
    ArgumentError
        Where an integer is out of the range of an integer dtype.
    """
    if not values.size:
        return 0
    if _is_exact(values.dtype, out.dtype):
        out[...] = values
        return 0
    if out.dtype.kind != "f":
        limits = np.iinfo(out.dtype)
        least, most = int(values.min()), int(values.max())
        if least < limits.min or most > limits.max:
            worst = least if least < limits.min else most
            found = integer_dtype(min(least, 0), most)
            wider = f"Choose a wider dtype, such as {str(found)!r}"
            remedy = "No integer dtype holds all of them: define others" if found is None else wider
            raise ArgumentError(
                f"the value {worst} does not fit into {out.dtype}. {remedy}, or leave the column out."
            )
        out[...] = values
        return 0
    with np.errstate(over="ignore"):
        np.copyto(out, values, casting="unsafe")
    if values.dtype.kind != "f":
        inexact = int(kernels.count_inexact(values, 2 ** (np.finfo(out.dtype).nmant + 1)))
        if out.dtype.itemsize > 2:
            return inexact
        # Beyond float16's range integers become infinite, those with a short mantissa too.
        return int(np.count_nonzero(values.astype(np.float64) != out))
    infinite = int(np.count_nonzero(np.isinf(out)))
    return infinite - int(np.count_nonzero(np.isinf(values))) if infinite else 0


def _is_exact(stored: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds every value of another; NumPy calls int64 to float64 safe."""
    if stored.kind in "iu" and wanted.kind == "f":
        return stored.itemsize * 8 - (stored.kind == "i") <= np.finfo(wanted).nmant + 1
    return np.can_cast(stored, wanted, "safe")
