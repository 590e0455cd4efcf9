"""What follows from a spec: the plan of its epochs, threads, and where the iteration is."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.filesize import decimal

from rootfeed.arguments import integer
from rootfeed.dataset import Sampler, Spec, build, columns_of, longest_page
from rootfeed.errors import ArgumentError, MemoryWarning, RootfeedError, warn
from rootfeed.formats import Batch, Format
from rootfeed.loader.epoch_plan import EpochPlan, epoch_plan, explained
from rootfeed.loader.iteration import Iteration, Passes
from rootfeed.loader.memory import Pool
from rootfeed.loader.mixing import Mixing
from rootfeed.loader.position import Course, IteratorState, Received
from rootfeed.loader.reader import Reader
from rootfeed.loader.schedule import Schedule
from rootfeed.loader.state import Fingerprint, fingerprint, loaded, said, saved, unlike
from rootfeed.plan import Shard
from rootfeed.plan.budget import SCRATCH_SHARE
from rootfeed.properties import cached_property
from rootfeed.ranks import distributed_ranks, first_said

__all__ = ["Pipeline"]


_EXCESS_BYTES = 32_000_000
"""Beyond the budget, and a tenth of that, that are not worth a warning."""


class Pipeline:
    """From a spec to batches.

    Parameters
    ----------
    spec : Spec
    pool : Pool
        That parts which are iterated in turns have in common.
    told_bits : float
        How much entropy a warning has said to be lacking.
    state : IteratorState, optional
        Where the iteration is; at the beginning, if left out.

    Attributes
    ----------
    spec : Spec
    pool : Pool
    schedule : Schedule
    mixing : Mixing
    threads : int
        That decode.
    reader : Reader
    course : Course
    passes : Passes
    state : IteratorState
    told_bits : float

    Raises
    ------
    EmptyDatasetError, ArgumentError
        Where an epoch would have no batch.
    """

    def __init__(
        self, spec: Spec, pool: Pool, told_bits: float = 0.0, state: IteratorState | None = None
    ) -> None:
        self.spec = spec
        self.pool = pool
        self.told_bits = told_bits
        self._begin()
        self.state = IteratorState(self.course) if state is None else state

    def _begin(self) -> None:
        self._compared = False  # with what other ranks have
        built = build(self.spec)
        self.schedule = Schedule(built.dataset, built.sizes, self.spec)
        self.schedule.batches(self.shard())  # an epoch of no batches is an error, and now
        self.course = Course(
            self.spec.epoch_batches, self.schedule.batches_left, not self.spec.sampler.selects
        )
        self.mixing = Mixing(built, self.schedule.offered, self.spec)
        self.threads = built.threads
        self.reader = Reader(self.schedule, built.threads, self.pool, self.mixing)
        self.passes = Passes(self.reader, self.course)

    def sent(self) -> dict[str, Any]:
        """Return what a copy is made of, here or in another process: arguments of `Pipeline`."""
        # A worker of this rank has no torch.distributed; another rank has its own.
        ranks = distributed_ranks() or self.spec.sent_ranks
        spec = replace(self.spec, saved_sizes=self.schedule.sizes, sent_ranks=ranks)
        return {"spec": spec, "told_bits": self.told_bits, "state": deepcopy(self.state)}

    def varied(
        self, sampling: Sampler | None, dtype: npt.DTypeLike | None = None, **options: Any
    ) -> Pipeline:
        """Return one for the same rows, with other options: see `rootfeed.loader.varied`."""
        spec, sampler = self.spec, Sampler() if sampling is None else sampling
        layout = spec.layout
        if dtype is not None:
            layout = replace(
                layout, parts=tuple(replace(part, dtype=np.dtype(dtype)) for part in layout.parts)
            )
        spec = replace(
            spec,
            layout=layout,
            sampler=sampler,
            strata=sampler.classes(spec.frames),
            values=columns_of(spec.frames, sampler.columns),
            **options,
        )
        return Pipeline(spec, self.pool, self.told_bits)

    # --- what it is ---------------------------------------------------------------------------

    @property
    def sampler(self) -> Sampler | None:
        """What chooses rows; None where each is used once."""
        return None if type(self.spec.sampler) is Sampler else self.spec.sampler

    @property
    def num_rows(self) -> int:
        """Entries that pass the cuts and are in this part of all splits, on all ranks together."""
        return self.schedule.dataset.rows

    @property
    def num_batches(self) -> int:
        """Batches of the next epoch, on this rank."""
        return self.spec.epoch_batches or self.schedule.batches(self.shard(), self.state.next.passes)

    @property
    def next_batches(self) -> int:
        """Batches of the next iteration, on this rank: after a loaded state, the rest of its epoch."""
        return self.course.remaining(self.state.next, self.shard())

    @property
    def repeats(self) -> int:
        """Rows at the end of this rank's last batch of a pass that repeat others."""
        shard = self.shard()
        return self.schedule.remainder(0, (), shard.world_size).batch_quotas.repeats(shard)

    def shard(self, worker: int = 0, workers: int = 1) -> Shard:
        """Return which of all shards this process, or a worker of it, is."""
        rank, world_size = self._ranks()
        return Shard(rank, world_size, worker, workers)

    def _ranks(self) -> tuple[int, int]:
        """Return rank and world size: as given, or as torch.distributed says, here or where it was."""
        found = self.spec.ranks or distributed_ranks() or self.spec.sent_ranks
        if found[1] > 1:
            self._check_alike(found[1])
            if not self._compared and found == distributed_ranks():
                self._compare_with_others(*found)
                self._compared = True
        return found

    def _compare_with_others(self, rank: int, ranks: int) -> None:
        """Refuse what another rank has otherwise: files that it does not see, or skips; seed; memory."""
        subject, text = said(self._fingerprint, self.schedule.sizes)
        first = first_said(subject, text)
        if first is not None and first != text:
            lines = unlike(first, self._fingerprint, self.schedule.sizes)
            raise ArgumentError(
                f"rank {rank} of {ranks} has another dataset than another rank: rows would be lost, and "
                "others repeated. What differs:\n  " + "\n  ".join(lines) + "\n"
                "Give all ranks the same; a loader that this rank alone has takes rank=0, world_size=1."
            )

    def _check_alike(self, ranks: int) -> None:
        """Refuse what would give each rank an order of its own: rows would be lost, others repeated."""
        spec, sizes = self.spec, self.schedule.sizes
        if not spec.seed_given and (spec.shuffle or type(spec.sampler) is not Sampler):
            raise ArgumentError(
                f"{ranks} ranks must agree on the order of the entries: give the loader a seed."
            )
        chosen = spec.saved_sizes is not None or spec.chunk_entries is not None or sizes.in_memory
        if spec.budget_measured and not chosen:
            raise ArgumentError(
                f"{ranks} ranks must agree on the sizes of window and blocks, which follow from memory: "
                f'"auto" is a share of what is free, {spec.shared_bytes} bytes here, and may differ. '
                'Say how much each rank may take, such as memory="1 GB" (the loaders of rootfeed.root '
                "take none: use rootfeed.Loader)."
            )

    def plan(self, epoch: int) -> EpochPlan:
        """Return what an epoch will be: see `rootfeed.Loader.plan`."""
        number = integer("epoch", epoch, least=0)
        shard = self.shard()
        passes = self.course.begin(self.course.start(number), shard).passes
        plan = epoch_plan(self.schedule, self.mixing, self.threads, passes, shard)
        return replace(plan, epoch=number, epoch_batches=self.spec.epoch_batches)

    def explain(self) -> str:
        """Return why window and blocks have their sizes, and how well rows mix in them."""
        return explained(self.schedule, self.mixing, self.threads)

    def warn_of_mixing(self, part: str = "") -> None:
        """Warn where rows cannot mix, unless about as much was told; of a part of a split, if named."""
        self.told_bits = self.mixing.warn(self.told_bits, part)

    def warn_of_memory(self) -> None:
        """Warn where a page takes much more than the memory for decoding."""
        budget = self.spec.shared_bytes
        excess = self.mixing.built.page_bytes - int(budget * SCRATCH_SHARE)
        if excess <= max(budget / 10, _EXCESS_BYTES):
            return
        where, column, page = longest_page(self.schedule.dataset.files)
        warn(
            f"memory={decimal(budget)} will be exceeded by some {decimal(excess)}: {where} has a page "
            f"of column {column!r} that takes {decimal(page)} when it is decompressed, as it was "
            "written. Give more memory, or write the file with shorter pages, as Frame.save does.",
            MemoryWarning,
        )

    # --- where the iteration is ---------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Choose the next epoch: see `rootfeed.Loader.set_epoch`."""
        self.state.choose(_epoch(epoch), self.course)

    def follow(self, epoch: int | None, is_new: bool = False) -> bool:
        """Take a trainer's epoch for the next one: see `rootfeed.Loader.follow`."""
        return self.state.follow(None if epoch is None else _epoch(epoch), self.course, is_new)

    def state_dict(self, used: int | None = None) -> dict[str, Any]:
        """Return where the iteration is, as plain data."""
        count = None if used is None else integer("used", used, least=0)
        return saved(self.state.now(self.course, count), self.schedule.sizes, self._fingerprint)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state ends, with the sizes on which its order depends."""
        position, sizes = loaded(state, self._fingerprint, self.schedule.sizes)
        if sizes != self.schedule.sizes:
            self.close()
            self.spec = replace(self.spec, saved_sizes=sizes)
            self._begin()
        self.state.go_to(position)

    @cached_property
    def _fingerprint(self) -> Fingerprint:
        return fingerprint(self.schedule.dataset, self.spec)

    def start(
        self,
        format: Format,
        worker: int = 0,
        workers: int = 1,
        seed: int | None = None,
        passes: Passes | None = None,
    ) -> Iterator[Batch]:
        """Return the batches of the next epoch; in a worker of a DataLoader, its part of them.

        The epoch counts as begun when its first batch is asked for; in a worker, at once.

        Parameters
        ----------
        format : Format
        worker, workers : int
        seed : int or None
            That a DataLoader has drawn for all workers that iterate together; None outside of workers.
        passes : Passes, optional
            Where arrays come from; from files, if left out.
        """
        if seed is None:
            return Iteration(self._batches(format, None, passes))
        try:
            begun = self.state.take(self.shard(worker, workers), self.course, seed)
            return Iteration(self._batches(format, begun))
        except RootfeedError as error:
            return map(_refuse, (error,))  # PyTorch tells of what happens while it asks for a batch

    def iteration(self, format: Format, begun: Received) -> Iteration:
        """Return the batches of an iteration that was begun, in this process."""
        return Iteration(self._batches(format, begun))

    def _batches(
        self, format: Format, begun: Received | None, passes: Passes | None = None
    ) -> Generator[Batch, None, None]:
        course, state, passes = self.course, self.state, passes or self.passes
        begun = state.take(self.shard(), course) if begun is None else begun
        position, alone = begun.position, begun.position.shard.workers == 1
        with ExitStack() as stack:
            arrays = stack.enter_context(closing(passes.begin(position)))
            for batch in format(islice(arrays, course.left(position))):
                begun.batches += 1
                state.last = begun
                yield batch
            if alone and course.epoch_batches is not None:
                stack.pop_all()  # the next epoch goes on with them
                passes.leave(course.after(position), arrays)
        begun.over = alone  # also of a rank with a batch less than others

    def close(self) -> None:
        """Give the memory back."""
        self.passes.close()
        self.reader.close()


def _epoch(epoch: Any) -> int:
    try:
        number = integer("epoch", epoch, least=0)
    except ArgumentError:
        raise ArgumentError(f"epoch must be a non-negative integer, got {epoch!r}.") from None
    if number >= 2**31:
        raise ArgumentError(f"epoch must be below 2^31, got {number}.")
    return number


def _refuse(error: Exception) -> Batch:
    raise error
