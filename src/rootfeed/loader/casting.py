"""Casts to the dtypes of a batch, and a count of what they alter and of what is no number."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from rootfeed import kernels
from rootfeed.errors import ArgumentError
from rootfeed.exact import integer_dtype
from rootfeed.processes import ForkLock
from rootfeed.schema import Array

__all__ = ["CUT", "NOT_FINITE", "Alterations", "altered", "cast", "is_exact"]

CUT = "cut to "
"""Of an alteration: vectors that were longer than what was asked for."""

NOT_FINITE = "NaN or infinite"
"""No alteration, but counted with them."""


class Alterations:
    """Counts, from all threads, of values that were altered, and of those that are no numbers.

    What was told of a column once is not counted again.
    """

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self._told: set[tuple[str, str]] = set()
        self._lock = ForkLock()

    def wants(self, column: str, what: Any) -> bool:
        """Whether anybody will hear of it."""
        return (column, str(what)) not in self._told

    def add(self, column: str, what: Any, count: int, example: str = "") -> None:
        """Count values of a column; `what` is the dtype, `CUT` and a length, or `NOT_FINITE`."""
        key = column, str(what)
        with self._lock:
            self._counts[key] += count
            self._examples.setdefault(key, example)

    def take(self) -> list[tuple[str, str, int, str]]:
        """Return column, what, count and example of what is to be told now."""
        if not self._counts:
            return []
        with self._lock:
            counts, self._counts = self._counts, Counter()
            new = [key for key in counts if key not in self._told]
            self._told.update(new)
            return [(*key, counts[key], self._examples.pop(key)) for key in new]


def cast(values: Array, out: Array) -> bool:
    """Cast a column to a batch dtype, unless it lies there; return whether to look closer at it.

    That is: whether a value may be altered, or is no number. It costs little where none is.

    Raises
    ------
    ArgumentError
        Where an integer is out of the range of an integer dtype.
    """
    if not values.size:
        return False
    real = out.dtype.kind == "f"
    if not real:
        _check_range(values, out.dtype)
    if values is not out:
        with np.errstate(over="ignore"):
            np.copyto(out, values, casting="unsafe")
    if not real or values.dtype.kind != "f":
        return real and not is_exact(values.dtype, out.dtype) and altered(values, out) > 0
    if out.dtype.itemsize == 2:  # which Numba does not know
        return not np.isfinite(out).all()
    return not kernels.all_finite(out)


def altered(values: Array, out: Array) -> int:
    """Return how many values a floating dtype could not represent.

    Counted are integers that it cannot hold exactly, and finite numbers that become infinite; the
    rounding of reals is not.
    """
    if values.dtype.kind == "f":
        return int(np.count_nonzero(np.isfinite(values) & ~np.isfinite(out)))
    if out.dtype.itemsize > 2:
        return int(kernels.count_inexact(values, 2 ** (np.finfo(out.dtype).nmant + 1)))
    # Beyond float16's range integers become infinite, those with a short mantissa too.
    return int(np.count_nonzero(values.astype(np.float64) != out))


def is_exact(stored: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
    """Tell whether a dtype holds every value of another; NumPy calls int64 to float64 safe."""
    if stored.kind in "iu" and wanted.kind == "f":
        return stored.itemsize * 8 - (stored.kind == "i") <= np.finfo(wanted).nmant + 1
    return np.can_cast(stored, wanted, "safe")


def _check_range(values: Array, wanted: np.dtype[Any]) -> None:
    if is_exact(values.dtype, wanted):
        return
    limits = np.iinfo(wanted)
    least, most = int(values.min()), int(values.max())
    if least < limits.min or most > limits.max:
        worst = least if least < limits.min else most
        found = integer_dtype(min(least, 0), most)
        wider = f"Choose a wider dtype, such as {str(found)!r}"
        remedy = "No integer dtype holds all of them: define others" if found is None else wider
        raise ArgumentError(
            f"the value {worst} does not fit into {wanted}. {remedy}, or leave the column out."
        )
