"""What a loader was asked for, checked once."""

from __future__ import annotations

import operator
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rootfeed.errors import ArgumentError
from rootfeed.loader.memory import budget_bytes

__all__ = ["Options", "as_tuple", "options"]

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
