"""What an epoch will be: blocks, chunks, memory, reads, batches; and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from rootfeed.frame.answers import printed
from rootfeed.loader.dataset import scratch_page_bytes, scratch_row_bytes
from rootfeed.loader.mixing import Mixing
from rootfeed.loader.schedule import Schedule
from rootfeed.plan import Shard, page_bytes
from rootfeed.plan.budget import BATCHES_SHARE, CHUNK_SHARE, ORDER_BYTES, SCRATCH_SHARE

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
        That share one, as an average row sees them.
    lacking_bits : float or None
        Entropy that a batch's label may lack, where classes are stored one after another; None where
        rows are not shuffled.
    decompressed : float
        How often a page is decompressed, on average over bytes: more than once where blocks cut it.
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
    lacking_bits: float | None
    decompressed: float
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
        lacking = "not shuffled" if self.lacking_bits is None else f"{self.lacking_bits:.3f} bit"
        for name, value in (
            ("entries of the loader", f"{self.entries:,}"),
            ("batches", f"{self.batches:,}"),
            ("rows of all batches", f"{self.rows:,}{again}"),
            ("chunks", f"{self.chunks:,}{of}"),
            ("rows of the largest chunk", f"{rows:,}"),
            ("label entropy lacking, at most", lacking),
            ("blocks read", f"{self.blocks:,}"),
            ("entries read", f"{self.entries_read:,}"),
            ("pages decompressed", f"{self.decompressed:.1f} times"),
            ("stored bytes read", f"{self.bytes_read / 1e6:,.1f} MB"),
            ("memory, about", f"{self.memory_bytes / 1e6:,.1f} of {self.budget_bytes / 1e6:,.1f} MB"),
            ("threads", f"{self.threads}"),
        ):
            table.add_row(name, value)
        return printed(table)

    __repr__ = __str__


def outlook(schedule: Schedule, mixing: Mixing, threads: int, epoch: int, shard: Shard) -> EpochPlan:
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
        blocks_per_chunk=mixing.blocks,
        lacking_bits=mixing.lacking_bits,
        decompressed=mixing.decompressed,
        entries_read=sum(map(len, blocks)),
        bytes_read=int(page_bytes(mixing.stock.files, blocks)[0]),
        in_memory=sizes.whole,
        memory_bytes=int(memory),
        budget_bytes=mixing.budget_bytes,
        threads=threads,
    )


def explained(schedule: Schedule, mixing: Mixing, threads: int) -> str:
    """Return why chunks and blocks are as large as they are."""
    dataset, sizes = schedule.dataset, schedule.sizes
    options, budget_bytes = mixing.options, mixing.budget_bytes
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
    lines += [_blocks_explained(mixing), mixing.explained()]
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


def _blocks_explained(mixing: Mixing) -> str:
    every = mixing.dataset.blocks
    usual, most = int(np.median([len(block) for block in every])), mixing.sizes.block_entries
    blocks = f"There are {len(every):,} blocks of {usual:,} entries (median), at most {most:,}"
    if mixing.sizes.exact:
        return f"{blocks}, as block_entries says."
    files = mixing.stock.files
    ends = sum(block.stop in files[block.file].clusters for block in every)
    return f"{blocks}; {ends:,} end where pages of all columns end."
