"""What an epoch will be: blocks, chunks, memory, reads, batches; and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from rootfeed.frame.answers import printed
from rootfeed.loader.dataset import Dataset, DatasetFile, scratch_page_bytes, scratch_row_bytes
from rootfeed.loader.options import Options
from rootfeed.loader.schedule import Run, Schedule
from rootfeed.plan import Shard
from rootfeed.plan.budget import BATCHES_SHARE, CHUNK_SHARE, ORDER_BYTES, SCRATCH_SHARE
from rootfeed.schema import Column

__all__ = ["EpochPlan", "explained", "outlook"]


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch will be, on one rank. Printed, it is a table.

    Attributes
    ----------
    epoch : int
    rank, world_size : int
    entries : int
        That the loader has, on all ranks together.
    batches : int
    rows : int
        Of all batches, repeated ones included: with a `sampling`, not those that the loader has.
    repeats : int
        Rows at the end of the last batch that repeat others.
    chunks : int
    chunk_rows : tuple of int
        Rows of each chunk that lie in memory, those included that stay there.
    blocks : int
        That are read; a block counts each time.
    blocks_per_chunk : float
    entries_read : int
        Entries of the blocks that are read.
    bytes_read : int
        Stored bytes of the pages that are read: those a chunk needs, each time. Nothing more is read
        once a dataset is in memory.
    in_memory : bool
    memory_bytes : int
        What chunks, rows that stay, orders, decoding and batches take, about.
    budget_bytes : int
    threads : int
    """

    epoch: int
    rank: int
    world_size: int
    entries: int
    batches: int
    rows: int
    repeats: int
    chunks: int
    chunk_rows: tuple[int, ...]
    blocks: int
    blocks_per_chunk: float
    entries_read: int
    bytes_read: int
    in_memory: bool
    memory_bytes: int
    budget_bytes: int
    threads: int

    def __str__(self) -> str:
        ranks = f", rank {self.rank} of {self.world_size}" if self.world_size > 1 else ""
        table = Table(f"epoch {self.epoch}{ranks}", "")
        table.columns[1].justify = "right"
        again = f", {self.repeats} repeated" if self.repeats else ""
        of = ", in memory" if self.in_memory else f" of {self.blocks_per_chunk:.1f} blocks"
        rows = max(self.chunk_rows, default=0)
        for name, value in (
            ("entries of the loader", f"{self.entries:,}"),
            ("batches", f"{self.batches:,}"),
            ("rows of all batches", f"{self.rows:,}{again}"),
            ("chunks", f"{self.chunks:,}{of}"),
            ("rows of the largest chunk", f"{rows:,}"),
            ("blocks read", f"{self.blocks:,}"),
            ("entries read", f"{self.entries_read:,}"),
            ("stored bytes read", f"{self.bytes_read / 1e6:,.1f} MB"),
            ("memory, about", f"{self.memory_bytes / 1e6:,.1f} of {self.budget_bytes / 1e6:,.1f} MB"),
            ("threads", f"{self.threads}"),
        ):
            table.add_row(name, value)
        return printed(table)

    __repr__ = __str__


def outlook(
    schedule: Schedule, options: Options, budget_bytes: int, threads: int, epoch: int, shard: Shard
) -> EpochPlan:
    """Return what an epoch of a shard will be. It reads nothing."""
    run = schedule.run(epoch, (), shard)
    dataset, sizes = schedule.dataset, schedule.sizes
    pieces = [run.stage.part(piece) for chunk in run.chunks for piece in chunk.pieces]
    blocks = [part.block for part in pieces]
    if schedule.kept_rows:
        blocks += [
            block
            for block, counts in zip(dataset.blocks, dataset.counts * schedule.kept, strict=True)
            if counts.any()
        ]
    held = max((chunk.memory_rows for chunk in run.chunks), default=0)
    uses = max((chunk.rows for chunk in run.chunks), default=0)
    row_bytes = dataset.layout.row_bytes
    if sizes.whole:
        memory = schedule.kept_rows * (row_bytes + ORDER_BYTES)
    else:
        memory = schedule.kept_rows * row_bytes
        memory += 2 * ((held - schedule.kept_rows) * row_bytes + uses * ORDER_BYTES)
    longest = max((len(block) for block in blocks), default=0)
    scratch = longest * scratch_row_bytes(dataset.layout, dataset.files) + scratch_page_bytes(
        dataset.files
    )
    memory += threads * scratch + sizes.runs_ahead * sizes.run_rows * row_bytes
    return EpochPlan(
        epoch=epoch,
        rank=shard.rank,
        world_size=shard.world_size,
        entries=dataset.rows,
        batches=run.batches,
        rows=sum(chunk.rows for chunk in run.chunks),
        repeats=sum(chunk.repeats for chunk in run.chunks),
        chunks=len(run.chunks),
        chunk_rows=tuple(
            schedule.kept_rows if sizes.whole else chunk.memory_rows for chunk in run.chunks
        ),
        blocks=len(blocks),
        blocks_per_chunk=_blocks_per_chunk(run, len(blocks)),
        entries_read=sum(map(len, blocks)),
        bytes_read=sum(_stored(dataset.files[block.file], block.start, block.stop) for block in blocks),
        in_memory=sizes.whole,
        memory_bytes=int(memory),
        budget_bytes=budget_bytes,
        threads=threads,
    )


def _blocks_per_chunk(run: Run, blocks: int) -> float:
    pieces = sum(len(chunk.pieces) for chunk in run.chunks)
    return (pieces or blocks) / max(len(run.chunks), 1)


def _stored(file: DatasetFile, start: int, stop: int) -> int:
    """Return the stored bytes of the pages that hold some entries; of vectors, their share."""
    total = 0.0
    for column in file.index.columns.values():
        if column.pages is not None and stop > start:
            total += _column_bytes(column, start, stop, file.index.entries)
    return int(total)


def _column_bytes(column: Column, start: int, stop: int, entries: int) -> float:
    assert column.pages is not None
    bounds, stored = column.entry_bounds, column.pages.stored_bytes
    if len(bounds) != len(stored) + 1:
        return float(stored.sum()) * (stop - start) / max(entries, 1)
    first = int(np.searchsorted(bounds, start, "right")) - 1
    last = int(np.searchsorted(bounds, stop, "left"))
    return float(stored[max(first, 0) : last].sum())


def explained(schedule: Schedule, options: Options, budget_bytes: int, threads: int) -> str:
    """Return why chunks and blocks are as large as they are."""
    dataset, sizes = schedule.dataset, schedule.sizes
    row_bytes = dataset.layout.row_bytes + ORDER_BYTES
    needed, room = dataset.rows * row_bytes, budget_bytes * (1 - SCRATCH_SHARE)
    budget, share = f"the budget of {budget_bytes / 1e6:,.1f} MB", f"{1 - SCRATCH_SHARE:.0%}"
    lines = [
        f"{dataset.rows:,} rows of {row_bytes} bytes, their place in the order included, take "
        f"{needed / 1e6:,.1f} MB."
    ]
    if sizes.whole:
        lines.append(f"They are kept in memory: {share} of {budget} are {room / 1e6:,.1f} MB.")
    elif options.chunk_entries is not None:
        lines.append(f"A chunk has {options.chunk_entries:,} rows, as chunk_entries says.")
    else:
        lines.append(
            f"That is more than {share} of {budget}: they are read chunk by chunk. A chunk has "
            f"{CHUNK_SHARE:.0%} of it, {sizes.chunk_rows:,} rows; two of them are in memory, "
            f"{SCRATCH_SHARE:.0%} are for decoding, {BATCHES_SHARE:.0%} for batches."
        )
    lines.append(_blocks_explained(schedule, options, dataset))
    if len(sizes.regions) > 1:
        of = "file" if len(sizes.regions) == len(dataset.files) else "run of files of one kind"
        lines.append(
            f"Every chunk takes its share of each {of}: there are {len(sizes.regions)}. What is left "
            "of their blocks is carried to the next chunk, so that a chunk has room for fewer blocks."
        )
    for stratum in np.flatnonzero(schedule.kept) if not sizes.whole else ():
        assert dataset.strata is not None
        rows, value = int(dataset.counts[:, stratum].sum()), dataset.strata.values[stratum]
        lines.append(
            f"The {rows:,} rows of class {value!r} are used several times in an epoch and stay."
        )
    if threads < options.threads:
        lines.append(
            f"{threads} of {options.threads} threads decode: there is no memory for more blocks."
        )
    return "\n".join(lines)


def _blocks_explained(schedule: Schedule, options: Options, dataset: Dataset) -> str:
    lengths = np.array([len(block) for block in dataset.blocks])
    most, usual = schedule.sizes.block_entries, int(np.median(lengths))
    blocks = f"There are {len(lengths):,} blocks of {usual:,} entries (median), at most {most:,}"
    if options.block_entries is not None:
        return f"{blocks}, as block_entries says."
    ends = 0
    for block in dataset.blocks:
        columns = dataset.files[block.file].index.columns.values()
        ends += all(block.stop in each.entry_bounds for each in columns if each.pages is not None)
    return (
        f"{blocks}: a chunk should hold 64 of them, and {ends:,} end where pages of all columns end. "
        "A page that is cut in two is decompressed twice."
    )
