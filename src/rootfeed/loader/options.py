"""What a loader was asked for, checked once."""

from __future__ import annotations

import operator
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from rootfeed.errors import ArgumentError
from rootfeed.loader.memory import budget_bytes
from rootfeed.plan import Tail

__all__ = ["NotFinite", "Options", "as_tuple", "integer", "options"]

NotFinite = Literal["warn", "error", "keep"]
"""What becomes of values in a batch that are NaN or infinite."""

_MOST_THREADS = 8


@dataclass(frozen=True)
class Options:
    """A loader's settings, all in their final form."""

    batch_size: int
    shuffle: bool
    seed: int
    seed_given: bool
    budget_bytes: int
    drop_last: bool
    threads: int
    chunk_entries: int | None
    block_entries: int | None
    ranks: tuple[int, int] | None = None
    tail: Tail = "drop"
    nonfinite: NotFinite = "warn"
    epoch: int | None = None


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
    rank: int | None = None,
    world_size: int | None = None,
    tail: str = "drop",
    nonfinite: str = "warn",
    epoch: int | None = None,
) -> Options:
    """Check the settings of a loader and fill in those that were left open."""
    if epoch is not None and tail == "uneven":
        raise ArgumentError(
            'epoch= gives each rank as many batches as the others, which tail="uneven" does not. '
            'Choose tail="drop" or tail="pad".'
        )
    return Options(
        batch_size=_positive("batch_size", batch_size),
        shuffle=bool(shuffle),
        seed=secrets.randbits(63) if seed is None else integer("seed", seed),
        seed_given=seed is not None,
        budget_bytes=budget_bytes(memory),
        drop_last=bool(drop_last),
        threads=_default_threads() if threads is None else _positive("threads", threads),
        chunk_entries=None if chunk_entries is None else _positive("chunk_entries", chunk_entries),
        block_entries=None if block_entries is None else _positive("block_entries", block_entries),
        ranks=_ranks(rank, world_size),
        tail=_tail(tail),
        nonfinite=_nonfinite(nonfinite),
        epoch=None if epoch is None else _positive("epoch", epoch),
    )


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Return the members of a sequence, or the only one; a text is one, not its characters."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return tuple(value)
    return (value,)


def integer(name: str, value: Any, least: int | None = None) -> int:
    """Return an argument as an int.

    Raises
    ------
    ArgumentError
        Where it is none, or less than `least`.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ArgumentError(f"{name} must be an integer, got {value!r}.") from None
    if least is not None and number < least:
        raise ArgumentError(f"{name} must be at least {least}, got {number}.")
    return number


def _positive(name: str, value: Any) -> int:
    number = integer(name, value)
    if not 0 < number < 2**31:
        raise ArgumentError(f"{name} must be positive and below 2^31, got {number}.")
    return number


def _ranks(rank: Any, world_size: Any) -> tuple[int, int] | None:
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise ArgumentError("rank and world_size belong together: give both, or neither.")
    count = integer("world_size", world_size, least=1)
    number = integer("rank", rank, least=0)
    if number >= count:
        raise ArgumentError(f"rank must be below world_size ({count}), got {number}.")
    return number, count


def _tail(tail: Any) -> Tail:
    if tail not in ("drop", "pad", "uneven"):
        raise ArgumentError(f'tail must be "drop", "pad" or "uneven", got {tail!r}.')
    return tail  # type: ignore[no-any-return]  # one of the literals, as was just checked


def _nonfinite(nonfinite: Any) -> NotFinite:
    if nonfinite not in ("warn", "error", "keep"):
        raise ArgumentError(f'nonfinite must be "warn", "error" or "keep", got {nonfinite!r}.')
    return nonfinite  # type: ignore[no-any-return]  # one of the literals, as was just checked


def _default_threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(available or 1, _MOST_THREADS)
