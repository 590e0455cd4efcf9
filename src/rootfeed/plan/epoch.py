"""An epoch: blocks in an order, cut into chunks, whose rows are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key

__all__ = ["Chunk", "deal"]


@dataclass(frozen=True, eq=False)
class Chunk:
    """The blocks that are in memory together.

    Its rows are those carried in from the previous chunk, then the blocks' rows in order. The first
    `rows` of them make batches, in the order that `order` gives; the others are carried out.

    Attributes
    ----------
    number : int
        Position in the epoch.
    blocks : ndarray of int64
        Numbers of the dataset's blocks.
    starts : ndarray of int64
        Row at which each block starts in the chunk.
    carried_in, rows, carried_out : int
    seed, epoch : int
    shuffle : bool
    """

    number: int
    blocks: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    carried_in: int
    rows: int
    carried_out: int
    seed: int
    epoch: int
    shuffle: bool

    def shuffled(self, shuffle: bool) -> Chunk:
        """Return the same chunk with its rows in random order, or not."""
        return replace(self, shuffle=shuffle)

    def order(self, length: int, out: npt.NDArray[np.uint32]) -> Iterator[npt.NDArray[np.uint32]]:
        """Yield the order in which the rows make batches, part by part, as it is made.

        Parameters
        ----------
        length : int
            Rows of a part; the last one may be shorter.
        out : ndarray of uint32, shape (rows,)
            Receives the order. A part does not change any more once it was yielded.
        """
        out = out[: self.rows]
        key = random_key(self.seed, "rows", self.epoch, self.number)
        ends = np.empty(256, np.int64)
        shuffled, counter = 0, self.rows
        if self.shuffle:
            kernels.scatter(key, out, ends)
        else:
            out[:] = np.arange(self.rows, dtype=np.uint32)
            shuffled = self.rows
        buckets = iter(ends.tolist())
        for start in range(0, self.rows, length):
            stop = min(start + length, self.rows)
            while shuffled < stop:
                end = next(buckets)
                counter = kernels.shuffle(key, counter, out[shuffled:end])
                shuffled = end
            yield out[start:stop]


def deal(
    rows: Sequence[int] | npt.NDArray[np.int64],
    capacity: int,
    batch_size: int,
    drop_last: bool,
    shuffle: bool,
    seed: int,
    epoch: int,
) -> list[Chunk]:
    """Deal the blocks into the chunks of an epoch.

    With C chunks, each run of C consecutive blocks of the dataset is dealt one block to a chunk, at
    random: so each chunk holds blocks from all over the dataset, every file in its share, and files
    written one class after another are mixed in every chunk. A chunk's rows beyond a multiple of
    the batch size are its last ones and travel into the next chunk, so that only the last batch of
    the epoch can be short.

    Parameters
    ----------
    rows : sequence of int
        Rows of each block, in the order of the dataset.
    capacity : int
        Most rows of a chunk's blocks; a single block may exceed it. Rows carried in (less than a
        batch) come on top.
    batch_size : int
    drop_last : bool
        Leave out the last batch if it is short.
    shuffle : bool
        False keeps the order of the dataset.
    seed, epoch : int

    Returns
    -------
    list of Chunk
        None of them is without blocks.
    """
    counts = np.asarray(rows, np.int64)
    numbers = np.flatnonzero(counts)  # a block without rows belongs nowhere
    counts = counts[numbers]
    total = int(counts.sum())
    if total == 0:
        return []
    capacity = max(capacity, int(counts.max()))
    groups = _dealt(counts, capacity, seed, epoch) if shuffle else _in_order(counts, capacity)
    plan: list[Chunk] = []
    carried = 0
    for number, group in enumerate(groups):
        last = number == len(groups) - 1
        lengths = counts[group]
        available = carried + int(lengths.sum())
        leftover = available % batch_size if drop_last or not last else 0
        plan.append(
            Chunk(
                number=number,
                blocks=numbers[group],
                starts=carried + np.cumsum(lengths) - lengths,
                carried_in=carried,
                rows=available - leftover,
                carried_out=0 if last else leftover,
                seed=seed,
                epoch=epoch,
                shuffle=shuffle,
            )
        )
        carried = leftover
    return plan


def _in_order(counts: npt.NDArray[np.int64], capacity: int) -> list[npt.NDArray[np.int64]]:
    """Fill one chunk after another with the blocks in their order."""
    firsts, filled = [0], 0
    for number, count in enumerate(counts.tolist()):
        if filled + count > capacity:
            firsts.append(number)
            filled = 0
        filled += count
    return np.split(np.arange(len(counts)), firsts[1:])


def _dealt(
    counts: npt.NDArray[np.int64], capacity: int, seed: int, epoch: int
) -> list[npt.NDArray[np.int64]]:
    """Deal the blocks into the fewest chunks that none overflows; each chunk's in random order."""
    blocks = len(counts)
    place = np.empty(blocks, np.uint32)
    kernels.permute(random_key(seed, "places", epoch), place)
    chunks = -(-int(counts.sum()) // capacity)
    while True:
        owner = _owners(blocks, chunks, seed, epoch)
        if chunks >= blocks or np.bincount(owner, counts, chunks).max() <= capacity:
            break
        chunks = min(max(chunks + 1, chunks * 21 // 20), blocks)
    order = np.lexsort((place, owner))
    ends = np.cumsum(np.bincount(owner, minlength=chunks))
    return [group for group in np.split(order, ends[:-1]) if len(group)]


def _owners(blocks: int, chunks: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return each block's chunk: a run of as many consecutive blocks as chunks has one for each."""
    owner = np.empty(blocks, np.int64)
    hands = np.empty(chunks, np.uint32)
    for run, start in enumerate(range(0, blocks, chunks)):
        size = min(chunks, blocks - start)
        kernels.permute(random_key(seed, "blocks", epoch, run), hands)
        owner[start : start + size] = hands[:size]
    return owner
