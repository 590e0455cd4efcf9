"""What a loader was asked for, checked once."""

from __future__ import annotations

import operator
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, MissingColumnError, UnsupportedColumnError, nearest
from rootfeed.frame import Frame
from rootfeed.loader.memory import budget_bytes
from rootfeed.schema import ColumnType, Layout, Part

__all__ = ["Options", "as_tuple", "check_types", "layout", "options"]

_MOST_THREADS = 8


@dataclass(frozen=True)
class Options:
    """A loader's settings, all in their final form."""

    batch_size: int
    shuffle: bool
    seed: int
    budget_bytes: int
    drop_last: bool
    threads: int
    chunk_entries: int | None
    block_entries: int | None


def options(
    *,
    batch_size: int,
    shuffle: bool,
    seed: int | None,
    memory: int | float | str,
    drop_last: bool,
    threads: int | None,
    chunk_entries: int | None,
    block_entries: int | None,
) -> Options:
    """Check the settings of a loader and fill in those that were left open."""
    return Options(
        batch_size=_positive("batch_size", batch_size),
        shuffle=bool(shuffle),
        seed=secrets.randbits(63) if seed is None else _integer("seed", seed),
        budget_bytes=budget_bytes(memory),
        drop_last=bool(drop_last),
        threads=_default_threads() if threads is None else _positive("threads", threads),
        chunk_entries=None if chunk_entries is None else _positive("chunk_entries", chunk_entries),
        block_entries=None if block_entries is None else _positive("block_entries", block_entries),
    )


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return the members of a sequence, or the only one; a text is one, not its characters."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return tuple(value)
    return (value,)


def _integer(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be an integer, got {value!r}.") from None


def _positive(name: str, value: Any) -> int:
    number = _integer(name, value)
    if not 0 < number < 2**31:
        raise ArgumentError(f"{name} must be positive and below 2^31, got {number}.")
    return number


def _default_threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(available or 1, _MOST_THREADS)


def layout(
    frames: Sequence[Frame],
    features: str | Iterable[str] | None,
    target: str | Iterable[str] | None,
    weights: str | None,
    dtype: npt.DTypeLike,
    target_dtype: npt.DTypeLike,
) -> Layout:
    """Return the parts of a batch: features, then target, then weights.

    Raises
    ------
    ArgumentError
        Where names are repeated, weights come without a target, or a dtype is not a number.
    MissingColumnError, UnsupportedColumnError
        Where a column does not exist, or is no number per entry.
    """
    targets = _names("target", target)
    weight = _names("weights", weights)
    if len(weight) > 1:
        raise ArgumentError(f"weights must be one column, got {list(weight)}.")
    if weight and not targets:
        raise ArgumentError(f"weights={weight[0]!r} needs a target: a batch is x, (x, y) or (x, y, w).")
    columns = frames[0].columns
    if features is None:
        chosen = tuple(
            name
            for name, type_ in columns.items()
            if type_.kind == "scalar" and name not in targets and name not in weight
        )
        if not chosen:
            raise ArgumentError(f"{frames[0]!r} has no numeric column left to use as a feature.")
    else:
        chosen = _names("features", features)
        if not chosen:
            raise ArgumentError("features must name at least one column, got none.")
    real = _dtype("dtype", dtype)
    parts = [Part(chosen, real)]
    if targets:
        parts.append(Part(targets, _dtype("target_dtype", target_dtype)))
    if weight:
        parts.append(Part(weight, real if real.kind == "f" else np.dtype(np.float32)))
    for part, use in zip(parts, ("feature", "target", "weight"), strict=False):
        for frame in frames:
            _check_names(frame, part, use)
    return Layout(tuple(parts))


def _names(argument: str, names: str | Iterable[str] | None) -> tuple[str, ...]:
    if names is None or (isinstance(names, str) and not names):
        return ()
    if not isinstance(names, Iterable):
        raise ArgumentError(f"{argument} must be names of columns, got {names!r}.")
    chosen = (names,) if isinstance(names, str) else tuple(names)
    for name in chosen:
        if not isinstance(name, str):
            raise ArgumentError(f"{argument} must be names of columns, got {name!r}.")
    repeated = [name for name in dict.fromkeys(chosen) if chosen.count(name) > 1]
    if repeated:
        raise ArgumentError(f"{argument} names {repeated[0]!r} more than once.")
    return chosen


def _dtype(argument: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    try:
        found = np.dtype(dtype)
    except (TypeError, ValueError):
        raise ArgumentError(f"{argument} must be a NumPy dtype, got {dtype!r}.") from None
    if found.kind not in "iuf" or found.itemsize > 8:
        raise ArgumentError(
            f"{argument} must be an integer or floating dtype of at most 64 bits, got {found}."
        )
    return found.newbyteorder("=")


def _check_names(frame: Frame, part: Part, use: str) -> None:
    where = frame.files[0]
    for name in part.columns:
        type_ = frame.columns.get(name)
        if type_ is None:
            raise MissingColumnError(
                f"{where} has no column {name!r} to use as {use}. {nearest(name, frame.columns)}"
            )
        check_types(where, name, type_, part.dtype, use)


def check_types(
    where: str, name: str, type_: ColumnType, dtype: np.dtype[Any], use: str = "feature"
) -> None:
    """Refuse a column that cannot become one number of this dtype per entry.

    Raises
    ------
    UnsupportedColumnError
    """
    if type_.kind != "scalar" or type_.dtype is None:
        what = {
            "vector": "holds several numbers per entry, which is not supported yet",
            "text": "holds text",
        }.get(type_.kind, "is not a number")
        raise UnsupportedColumnError(
            f"{where}: column {name!r} ({type_.text}) {what}; it cannot be a {use}. "
            "Choose columns whose type in frame.columns is a number."
        )
    if dtype.kind != "f" and type_.dtype.kind == "f":
        argument = "target_dtype" if use == "target" else "dtype"
        raise UnsupportedColumnError(
            f"{where}: column {name!r} is {type_.dtype}; {argument}={str(dtype)!r} would cut its "
            "fractions off. Choose a floating dtype, or leave the column out."
        )
