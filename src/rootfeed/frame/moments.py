"""Count, sum, mean, spread and limits of numbers that come block by block."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Measured", "Moments", "measured"]

_EXACT = 2**53
"""Up to here every integer is a float64."""

Floats = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """What `Moments` takes of a block.

    Attributes
    ----------
    origin : int
        What `mean` is relative to.
    finite, nan, above, below : int
        Values that are numbers, NaN, infinite and minus infinite.
    mean, squares : float
        Of the finite ones, and the sum of squares of their distances from it.
    total, minimum, maximum : float or int
        Of the finite ones; of integers exact.
    """

    origin: int
    finite: int
    nan: int
    above: int
    below: int
    mean: float
    squares: float
    total: float | int
    minimum: float | int
    maximum: float | int


def measured(values: npt.NDArray[Any]) -> tuple[Measured, Floats]:
    """Return what is known of a block's values, and the finite ones relative to its origin.

    Integers that float64 does not hold are looked at relative to the block's least one: exactly, unless
    they spread over more than 2^53.
    """
    is_integer, origin = values.dtype.kind in "iu", 0
    least: float | int = 0
    most: float | int = 0
    real = values.astype(np.float64)
    if is_integer and values.size:
        least, most = int(values.min()), int(values.max())
        if max(-least, most) > _EXACT and most - least < _EXACT:
            origin = int(least)
            real = (values - values.min()).astype(np.float64)
    finite = real[np.isfinite(real)]
    count = len(finite)
    nan = int(np.count_nonzero(np.isnan(real)))
    above = int(np.count_nonzero(real == np.inf))
    mean = float(finite.mean()) if count else 0.0
    squares = float(((finite - mean) ** 2).sum())
    total: float | int = _integer_sum(values) if is_integer else float(finite.sum())
    if not is_integer and count:
        least, most = float(finite.min()), float(finite.max())
    below = len(real) - count - nan - above
    return Measured(origin, count, nan, above, below, mean, squares, total, least, most), finite


def _integer_sum(values: npt.NDArray[Any]) -> int:
    """Return a sum that does not overflow: high and low halves are added up on their own."""
    if values.dtype.itemsize < 8:
        return int(values.sum(dtype=np.int64))
    return (int((values >> 32).sum()) << 32) + int((values & 0xFFFFFFFF).sum())


class Moments:
    """Count, sum, mean, spread and limits of all blocks so far.

    Attributes
    ----------
    finite, nan, above, below : int
        Values that are numbers, NaN, infinite and minus infinite.
    mean, squares, total, minimum, maximum : float or int
        Of the finite ones: see `Measured`; `mean` is relative to `origin`. Limits are infinite where
        there is none.
    origin : int or None
        That of the first block with finite values.
    """

    def __init__(self) -> None:
        self.finite = self.nan = self.above = self.below = 0
        self.mean = self.squares = 0.0
        self.total: float | int = 0
        self.minimum: float | int = math.inf
        self.maximum: float | int = -math.inf
        self.origin: int | None = None

    @property
    def count(self) -> int:
        """All values."""
        return self.finite + self.nan + self.above + self.below

    def add(self, block: Measured) -> float:
        """Take in what was measured of a block; return how far its origin lies from the first one's.

        Chan, Golub, LeVeque 1983.
        """
        known, new = self.finite, block.finite
        self.finite += new
        self.nan += block.nan
        self.above += block.above
        self.below += block.below
        if new == 0:
            return 0.0
        if self.origin is None:
            self.origin = block.origin
        shift = float(block.origin - self.origin)
        step = block.mean + shift - self.mean
        self.mean += step * new / (known + new)
        self.squares += block.squares + step * step * known * new / (known + new)
        self.total += block.total
        self.minimum = min(self.minimum, block.minimum)
        self.maximum = max(self.maximum, block.maximum)
        return shift
