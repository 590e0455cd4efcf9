"""What was asked for: checked, in its final form, in one place."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy.typing as npt

from rootfeed.arguments import as_tuple, integer, one_of, positive
from rootfeed.dataset.budget import budget_bytes, is_measured
from rootfeed.dataset.sampling import Mixed, Sampler, access_given
from rootfeed.dataset.strata import Strata, columns_of
from rootfeed.dataset.structure import Columns, Features, layout
from rootfeed.dataset.weights import Normalized, weighted
from rootfeed.errors import ArgumentError
from rootfeed.frame import Frame, open
from rootfeed.layout import Layout
from rootfeed.plan import BitMask, Sizes, Tail
from rootfeed.schema import Array
from rootfeed.sources import ArrowTable, Named, PathLike, is_arrow_table, is_node

__all__ = ["Frames", "NotFinite", "Spec", "checked_spec"]

Frames = Named | ArrowTable | Frame | Sequence[Frame | ArrowTable] | Mixed
"""A dataset: what `rootfeed.open` takes or returns, several frames, or what `rootfeed.mixed` returns."""

NotFinite = Literal["warn", "error", "keep"]
"""What becomes of values in a batch that are NaN or infinite."""

_MOST_THREADS = 8


@dataclass(frozen=True, eq=False)
class Spec:
    """What a loader was asked for. It does not change: the parts of a split derive their own from it.

    Attributes
    ----------
    frames : tuple of Frame
        With the weights as a column.
    layout : Layout
    sampler : Sampler
    strata : Strata or None
        The sampler's classes, as its label tells; None for one class of all rows.
    values : sequence of mapping of str to ndarray
        For each file, the sampler's columns of all entries.
    batch_size : int
    shuffle : bool
    seed : int
    seed_given : bool
        Whether a user has chosen it.
    budget_bytes : int
        Memory that this loader may take.
    shared_bytes : int
        Memory that all parts of its dataset may take together: they are iterated in turns.
    drop_last : bool
    most_threads : int
        That decode; fewer where memory is short.
    chunk_entries, block_entries : int or None
    ranks : tuple of int or None
        Rank and number of ranks, as given.
    tail : "drop", "pad" or "uneven"
    nonfinite : "warn", "error" or "keep"
    epoch_batches : int or None
        Of an epoch; None where each is a pass over the data.
    masks : tuple of ndarray of uint64 or None
        For each file, a bit for each entry that is in this part of all splits; None for all.
    history : tuple of str
        What each split was that led to this part.
    keep_in_memory : bool
        Whether the rows stay in memory, whatever the budget.
    saved_sizes : Sizes or None
        Those of a saved state, on which the order of rows depends; None to choose them.
    sent_ranks : tuple of int
        Rank and number of ranks of the process that a worker is a copy of.
    budget_measured : bool
        Whether the budget is what was free here, and so another one in other processes.
    """

    frames: tuple[Frame, ...]
    layout: Layout
    sampler: Sampler
    strata: Strata | None
    values: Sequence[Mapping[str, Array]]
    batch_size: int
    shuffle: bool
    seed: int
    seed_given: bool
    budget_bytes: int
    shared_bytes: int
    drop_last: bool
    most_threads: int
    chunk_entries: int | None
    block_entries: int | None
    ranks: tuple[int, int] | None
    tail: Tail
    nonfinite: NotFinite
    epoch_batches: int | None
    masks: tuple[BitMask, ...] | None = None
    history: tuple[str, ...] = ()
    keep_in_memory: bool = False
    saved_sizes: Sizes | None = None
    sent_ranks: tuple[int, int] = (0, 1)
    budget_measured: bool = False


def checked_spec(
    frames: Frames,
    features: Features | None,
    target: Columns | None,
    weights: str | Normalized | None,
    sampling: Sampler | None,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int | None,
    memory: int | float | str,
    drop_last: bool,
    dtype: npt.DTypeLike,
    target_dtype: npt.DTypeLike,
    threads: int | None,
    chunk_entries: int | None,
    block_entries: int | None,
    rank: int | None,
    world_size: int | None,
    tail: str,
    nonfinite: str,
    epoch: int | None,
    fill_null: Any,
    storage_options: Mapping[str, Any] | None,
    timeout: float | None,
    cache: PathLike | None,
    cache_size: int | float | str | None,
) -> Spec:
    """Check the arguments of a loader, and fill in those that were left open: see `rootfeed.Loader`.

    Reads each file's metadata, and the columns of labels, of ragged inputs and of normalized weights.
    """
    if epoch is not None and tail == "uneven":
        raise ArgumentError(
            'epoch= gives each rank as many batches as the others, which tail="uneven" does not. '
            'Choose tail="drop" or tail="pad".'
        )
    memory_bytes = budget_bytes(memory)
    options = {
        "batch_size": positive("batch_size", batch_size),
        "shuffle": bool(shuffle),
        "seed": secrets.randbits(63) if seed is None else integer("seed", seed),
        "seed_given": seed is not None,
        "budget_bytes": memory_bytes,
        "budget_measured": is_measured(memory, memory_bytes),
        "shared_bytes": memory_bytes,
        "drop_last": bool(drop_last),
        "most_threads": _default_threads() if threads is None else positive("threads", threads),
        "chunk_entries": None if chunk_entries is None else positive("chunk_entries", chunk_entries),
        "block_entries": None if block_entries is None else positive("block_entries", block_entries),
        "ranks": _ranks(rank, world_size),
        "tail": one_of("tail", tail, ("drop", "pad", "uneven")),
        "nonfinite": one_of("nonfinite", nonfinite, ("warn", "error", "keep")),
        "epoch_batches": None if epoch is None else positive("epoch", epoch),
    }
    access = {
        "fill_null": fill_null, "storage_options": storage_options, "timeout": timeout,
        "cache": cache, "cache_size": cache_size,
    }  # fmt: skip
    chosen, sampler = _frames(frames, sampling, access)
    chosen, weight, made_from = weighted(chosen, weights)
    rows = layout(chosen, features, target, weight, dtype, target_dtype, others=made_from)
    strata = sampler.classes(chosen)
    values = columns_of(chosen, as_tuple(sampler.columns))
    if sampler.selects and epoch is not None:
        raise ArgumentError(
            f"{sampler!r} offers other rows in each epoch, which epoch= does not know where "
            "to end. Leave epoch= out."
        )
    return Spec(chosen, rows, sampler, strata, values, **options)


def _frames(
    frames: Frames, sampling: Sampler | None, access: Mapping[str, Any]
) -> tuple[tuple[Frame, ...], Sampler]:
    if sampling is not None and not isinstance(sampling, Sampler):
        raise ArgumentError(
            f"sampling must be rootfeed.balanced(...), another Sampler or None, got {sampling!r}."
        )
    given: tuple[Any, ...] = (frames,)
    if isinstance(frames, Mixed):
        given = frames.frames
    elif not is_arrow_table(frames):
        given = as_tuple(frames)
    given = tuple(open(frame) if is_node(frame) else frame for frame in given)
    if not given:
        raise ArgumentError("a loader needs at least one frame, got none.")
    wanted = access_given(given, **access)
    given = tuple(open(each, **wanted) if is_arrow_table(each) else each for each in given)
    if isinstance(frames, Mixed):
        if sampling is not None:
            raise ArgumentError("rootfeed.mixed fixes the sampling: leave sampling= out.")
        sampling = frames.sampling
    elif isinstance(frames, Mapping) or not any(isinstance(frame, Frame) for frame in given):
        given = (open(frames if isinstance(frames, Mapping) else cast(Named, given), **wanted),)
    for frame in given:
        if not isinstance(frame, Frame):
            raise ArgumentError(
                f"a loader takes frames, got {frame!r} among them. Make one: rootfeed.open({frame!r})."
            )
    return given, Sampler() if sampling is None else sampling


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


def _default_threads() -> int:
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(available or 1, _MOST_THREADS)
