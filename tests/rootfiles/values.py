"""Values to be written: random numbers with every extreme of their type scattered among them."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

Columns = dict[str, NDArray[np.generic]]


def generator(seed: int, *words: str) -> np.random.Generator:
    """Return a generator for `(seed, *words)`, so that columns do not depend on each other."""
    return np.random.default_rng([seed, *(byte for word in words for byte in word.encode())])


def extremes(dtype: DTypeLike) -> NDArray[np.generic]:
    """Return the values of `dtype` at which decoders go wrong.

    Integers: both ends of the range, the sign change and the first integers that float32
    (2**24 + 1) and float64 (2**53 + 1) cannot hold. Floats: NaN of both signs, both infinities,
    both zeros, subnormals, the ends of the range, and integers about those two.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        wanted = [info.min, info.min + 1, info.max, info.max - 1, info.max // 2 + 1]
        wanted += [
            -1,
            0,
            1,
            127,
            128,
            255,
            256,
            2**15,
            2**16,
            2**24 + 1,
            -(2**24) - 1,
            2**31,
            2**32,
        ]
        wanted += [2**53 + 1, -(2**53) - 1]
        return np.array([value for value in wanted if info.min <= value <= info.max], dtype)
    float_info = np.finfo(dtype)
    tiny, smallest = float_info.tiny, float_info.smallest_subnormal
    values = [np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, smallest, -smallest]
    values += [tiny - smallest, float_info.max, float_info.min, 1.0, -1.0, 1.0 + float_info.eps]
    # The last ones lie outside of float16, then of float32, and show what narrowing does.
    values += [2.0**24 + 1, 2.0**24 + 2, 2.0**53 + 2, 65504.0, 65520.0, 2.0**-24, 2.0**-25, 1e-40]
    if dtype.itemsize == 8:
        values += [2.0**53 - 1, 3.4028235677973366e38, -1e39, 1e-46]
    return np.array(values, dtype)


def scatter(
    values: NDArray[np.generic], special: NDArray[np.generic], random: np.random.Generator
) -> None:
    """Put each of `special` at one random place of `values`, or as many of them as fit."""
    places = random.permutation(len(values))[: len(special)]
    values[places] = special[: len(places)]


def any_values(dtype: DTypeLike, entries: int, random: np.random.Generator) -> NDArray[np.generic]:
    """Return `entries` values of `dtype` from all over its range, extremes among them."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return random.integers(0, 2, entries).astype(np.bool_)
    values: NDArray[np.generic]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = random.integers(info.min, info.max, entries, dtype=dtype, endpoint=True)
        # Half of them small: split and zigzag encodings look different for those.
        small = random.integers(max(info.min, -100), 100, entries).astype(dtype)
        values = np.where(random.integers(0, 2, entries) == 0, values, small)
    else:
        exponents = random.uniform(-6.0, 6.0, entries)
        values = (random.standard_normal(entries) * 10.0**exponents).astype(dtype)
    scatter(values, extremes(dtype), random)
    return values


def integers_between(
    dtype: DTypeLike, low: int, high: int, entries: int, random: np.random.Generator
) -> NDArray[np.generic]:
    """Return `entries` integers of `dtype` in `[low, high]`, both ends among them."""
    values: NDArray[np.generic] = random.integers(
        low, high, entries, dtype=np.int64, endpoint=True
    ).astype(dtype)
    scatter(values, np.array([low, high], dtype), random)
    return values


def reals_between(
    dtype: DTypeLike, low: float, high: float, entries: int, random: np.random.Generator
) -> NDArray[np.generic]:
    """Return `entries` reals of `dtype` in `[low, high]`, both ends and the middle among them.

    NaN is left out: ROOT converts it to an unsigned integer there, which C++ leaves undefined.
    """
    low_value, high_value = np.array([low, high], dtype)
    values = random.uniform(low, high, entries).astype(dtype)
    np.clip(values, low_value, high_value, out=values)
    scatter(values, np.array([low, high, low / 2 + high / 2], dtype), random)
    return values
