"""What an epoch will be: blocks, window, memory, reads, batches; and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.filesize import decimal

from rootfeed.dataset import scratch_row_bytes
from rootfeed.loader.mixing import Mixing
from rootfeed.loader.schedule import Schedule
from rootfeed.plan import Shard, page_bytes
from rootfeed.plan.budget import AHEAD_SHARE, BATCHES_SHARE, SCRATCH_SHARE, WINDOW_SHARE
from rootfeed.tables import html_table, text_table

__all__ = ["EpochPlan", "epoch_plan", "explained"]


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch will be, on one rank. Printed, it is a table.

    Attributes
    ----------
    epoch : int
    rank, world_size : int
    num_rows : int
        That the loader has, on all ranks together.
    batches : int
    batch_rows : int
        Of all batches, repeated ones included: with a `sampling`, not those that the loader has.
    repeats : int
        Rows at the end of the last batch that repeat others.
    blocks : int
        That are read; a block counts each time.
    window_blocks : float
        That are in memory together, as an average row sees them.
    window_rows : int
        Rows that are in memory together, at most, those included that stay there.
    first_bytes : int
        Stored bytes of the pages that are read before the first batch.
    lacking_bits : float or None
        Entropy that a batch's label may lack, where classes are stored one after another; None where
        rows are not shuffled.
    decompressed : float
        How often a page is decompressed, on average over bytes: more than once where blocks cut it.
    entries_read : int
        Entries of the blocks that are read.
    bytes_read : int
        Stored bytes of the pages that are read: those of a block, each time. Nothing more is read once a
        dataset is in memory.
    in_memory : bool
    memory_bytes : int
        What blocks, rows that stay, orders, decoding and batches take, about.
    budget_bytes : int
    threads : int
    epoch_batches : int or None
        Of an epoch that goes on where the last one ended; all else is of a pass over the data then.
    """

    epoch: int
    rank: int
    world_size: int
    num_rows: int
    batches: int
    batch_rows: int
    repeats: int
    blocks: int
    window_blocks: float
    window_rows: int
    first_bytes: int
    lacking_bits: float | None
    decompressed: float
    entries_read: int
    bytes_read: int
    in_memory: bool
    memory_bytes: int
    budget_bytes: int
    threads: int
    epoch_batches: int | None = None

    def __str__(self) -> str:
        return text_table(*self._table())

    def __repr__(self) -> str:
        return (
            f"<EpochPlan of epoch {self.epoch}: {self.batches} batches, {self.blocks} blocks, "
            f"{self.window_blocks:.1f} in memory together>"
        )

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        ranks = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        again = f", {self.repeats} repeated" if self.repeats else ""
        of = "all" if self.in_memory else f"{self.window_blocks:.1f}"
        asked = self.epoch_batches
        batches = f"{self.batches:,}" if asked is None else f"{asked:,}, a pass has {self.batches:,}"
        lacking = "not shuffled" if self.lacking_bits is None else f"{self.lacking_bits:.3f} bit"
        rows = [
            ["rows of the loader", f"{self.num_rows:,}"],
            ["batches", batches],
            ["rows of all batches", f"{self.batch_rows:,}{again}"],
            ["blocks in memory together", of],
            ["rows in memory together, at most", f"{self.window_rows:,}"],
            ["label entropy lacking, at most", lacking],
            ["blocks read", f"{self.blocks:,}"],
            ["entries read", f"{self.entries_read:,}"],
            ["pages decompressed", f"{self.decompressed:.1f} times"],
            ["stored bytes read", decimal(self.bytes_read)],
            ["of these before the first batch", decimal(self.first_bytes)],
            ["memory, about", f"{decimal(self.memory_bytes)} of {decimal(self.budget_bytes)}"],
            ["threads", f"{self.threads}"],
        ]
        return [f"epoch {self.epoch}{ranks}", ""], rows


def epoch_plan(schedule: Schedule, mixing: Mixing, threads: int, epoch: int, shard: Shard) -> EpochPlan:
    """Return what an epoch of a shard will be. It reads nothing."""
    work = schedule.work(epoch, (), shard)
    dataset, sizes, reads = schedule.dataset, schedule.sizes, work.plan.reads
    layout, files = dataset.layout, mixing.stock.files
    stay = [
        dataset.blocks[number]
        for number in np.flatnonzero((dataset.counts * schedule.offered.cached).any(1))
    ]
    parts = [dataset.part(reads[number]).block for number in range(len(reads))]
    blocks = [*stay, *parts]
    per_run = schedule.batches_of_run
    cached_bytes = sizes.window_bytes - schedule.room_bytes
    longest = max((len(block) for block in blocks), default=0)
    scratch = longest * scratch_row_bytes(layout, dataset.files) + mixing.built.page_bytes
    batches = sizes.runs_ahead * sizes.run_rows * layout.batch_row_bytes(schedule.spec.batch_size)
    needed = int(np.searchsorted(reads.first, per_run))
    return EpochPlan(
        epoch=epoch,
        rank=shard.rank,
        world_size=shard.world_size,
        num_rows=dataset.rows,
        batches=work.batches,
        batch_rows=work.plan.rows,
        repeats=work.plan.repeats,
        blocks=len(blocks),
        window_blocks=mixing.blocks,
        window_rows=schedule.cached_rows + reads.peak(reads.rows, 0, per_run),
        first_bytes=int(page_bytes(files, [*stay, *parts[:needed]])[0]),
        lacking_bits=mixing.lacking_bits,
        decompressed=mixing.decompressed,
        entries_read=sum(map(len, blocks)),
        bytes_read=int(page_bytes(files, blocks)[0]),
        in_memory=sizes.in_memory,
        memory_bytes=cached_bytes + schedule.held_bytes(work) + threads * scratch + batches,
        budget_bytes=mixing.spec.budget_bytes,
        threads=threads,
    )


def explained(schedule: Schedule, mixing: Mixing, threads: int) -> str:
    """Return why the window and its blocks are as large as they are."""
    dataset, sizes = schedule.dataset, schedule.sizes
    spec, budget_bytes = mixing.spec, mixing.spec.budget_bytes
    row_bytes = dataset.mean_row_bytes
    room = budget_bytes * (WINDOW_SHARE + AHEAD_SHARE + BATCHES_SHARE)
    budget, share = f"the budget of {decimal(budget_bytes)}", f"{room / budget_bytes:.0%}"
    lines = [
        f"{dataset.rows:,} rows of {row_bytes:.0f} bytes, their place in the order included, take "
        f"{decimal(int(dataset.rows * row_bytes))}."
    ]
    if sizes.in_memory:
        lines.append(f"They are kept in memory: {share} of {budget} are {decimal(int(room))}.")
    elif spec.chunk_entries is not None:
        lines.append(f"{spec.chunk_entries:,} rows are in memory together, as chunk_entries says.")
    else:
        lines.append(
            f"That is more than {share} of {budget}: block after block enters memory, and leaves it "
            f"when all its rows were used. {WINDOW_SHARE:.0%} of it, "
            f"{int(sizes.window_bytes / row_bytes):,} rows, are for blocks that are used together, "
            f"{AHEAD_SHARE:.0%} for those that are read ahead, {SCRATCH_SHARE:.0%} for decoding, "
            f"{BATCHES_SHARE:.0%} for batches."
        )
    lines += [_blocks_explained(mixing), mixing.explained()]
    if len(sizes.regions) > 1:
        of = "file" if len(sizes.regions) == len(dataset.files) else "run of files of one kind"
        lines.append(
            f"Each {of} has a block in memory at any time, and its share of every part of the epoch: "
            f"there are {len(sizes.regions)}."
        )
    for stratum in np.flatnonzero(schedule.offered.cached) if not sizes.in_memory else ():
        assert dataset.strata is not None
        rows, value = int(dataset.counts[:, stratum].sum()), dataset.strata.values[stratum]
        lines.append(
            f"The {rows:,} rows of class {value!r} are used several times in an epoch and stay."
        )
    if threads < spec.most_threads:
        lines.append(
            f"{threads} of {spec.most_threads} threads decode: there is no memory for more blocks."
        )
    return "\n".join(lines)


def _blocks_explained(mixing: Mixing) -> str:
    every = mixing.dataset.blocks
    usual, most = int(np.median([len(block) for block in every])), mixing.sizes.block_entries
    blocks = f"There are {len(every):,} blocks of {usual:,} entries (median), at most {most:,}"
    if mixing.sizes.exact:
        return f"{blocks}, as block_entries says."
    files = mixing.stock.files
    ends = sum(block.stop in files[block.file].clusters for block in every)
    return f"{blocks}; {ends:,} end where pages of all columns end."
