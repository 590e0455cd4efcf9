"""How well rows mix, and how small blocks must be for it.

Entries are often stored one class after another. What counts then is how many blocks are in memory
together, and whether each region of the dataset has one. Small blocks cut pages, which are decompressed
once for each part. The rules, and what was measured, are in ``docs/decisions/block-size.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rootfeed.plan.blocks import Boundaries, cut, page_bytes, page_entries
from rootfeed.plan.sides import Words, rows_before
from rootfeed.schema import Block

__all__ = ["MOST_DECOMPRESSED", "MOST_LACKING_BITS", "Stock", "lacking_bits"]

MOST_LACKING_BITS = 0.01
"""Of a label's entropy: blocks are made so small that no more is lacking."""

MOST_DECOMPRESSED = 4.0
"""Unless that takes decompressing more times the bytes."""

_LACKING = 0.5
"""What a window lacks, of bits times blocks squared, over pairs of kinds: measured."""

_FINEST = 4096
"""Blocks are never made smaller than by this factor."""

_PRECISION = 1.05
"""To which a size is searched."""

_FEW = 1000
"""Stretches of which each is looked at."""

_MOST_JUDGED = 20_000
"""Pages of a dataset, of those that hold the most bytes, on which decompression is judged."""

Counts = npt.NDArray[np.int64]
Regions = tuple[int, ...]


def lacking_bits(kinds: int, blocks: float, regions: int = 1, in_stretches: bool = True) -> float:
    """Return the entropy that batches' labels lack, in bits, where so many blocks are in memory.

    Expected where as many kinds of entries are equally frequent and stored one after another, in each
    region. The window holds one block of each of so many parts of the dataset: where a kind ends within
    one, it has a block too many, or one too few (``benchmarks/topologies.py`` compares). With few blocks
    it is as if they were drawn independently.
    """
    drawn = (kinds - 1) / (2 * math.log(2) * blocks)
    spread = _LACKING * kinds * (kinds - 1) * regions / blocks**2
    return min(drawn, spread if in_stretches else drawn, math.log2(kinds))


@dataclass(frozen=True, eq=False)
class Stock:
    """A dataset's rows before they are cut into blocks.

    Attributes
    ----------
    files : tuple of Boundaries
    entries : tuple of int
        Of each file.
    taken : tuple of (ndarray of uint64 or None)
        For each file a bit for each entry that makes a row; None for all.
    spans : tuple of Block
        Stretches that hold all rows, in the order of the files: what lies between them is not read.
    row_bytes : tuple of int
        What a row of each file takes in memory, about.
    partitions : tuple of tuple of int
        Ways to divide the files into regions, the finest first: the first file of each region.
    wanted : tuple of int
        The first file of each region that should have a block in memory at any time.
    kinds : int
        Kinds of entries that may be stored one after another, at least 2: as many as files have.
    in_stretches : bool
        Whether files of a kind follow one another.
    """

    files: tuple[Boundaries, ...]
    entries: tuple[int, ...]
    taken: tuple[Words | None, ...]
    spans: tuple[Block, ...]
    row_bytes: tuple[int, ...]
    partitions: tuple[Regions, ...] = ((0,),)
    wanted: Regions = (0,)
    kinds: int = 2
    in_stretches: bool = True

    @cached_property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(
            int(before(np.array([entries], np.int64))[0])
            for before, entries in zip(self._before, self.entries, strict=True)
        )

    @cached_property
    def mean_row_bytes(self) -> float:
        """What a row takes in memory, on average."""
        bytes_ = sum(
            int(before(np.array([entries], np.int64))[0]) * row_bytes
            for before, entries, row_bytes in zip(
                self._before, self.entries, self.row_bytes, strict=True
            )
        )
        return bytes_ / max(self.rows, 1)

    @cached_property
    def _before(self) -> list[Callable[[Counts], Counts]]:
        return [rows_before(words) for words in self.taken]

    @cached_property
    def _once(self) -> float:
        return page_bytes(self.files, self.spans)[1]

    def cut(self, block_entries: int, exact: bool) -> tuple[Block, ...]:
        """Cut all rows into blocks of at most `block_entries`."""
        return tuple(
            block
            for span in self.spans
            for block in cut(
                span.file, span.start, span.stop, self.files[span.file], block_entries, exact
            )
        )

    def decompressed(self, blocks: tuple[Block, ...]) -> float:
        """Return how often pages are decompressed for these blocks, on average over their bytes."""
        return page_bytes(self.files, blocks)[1] / self._once if self._once else 1.0

    def times(self, block_entries: int, exact: bool = False) -> float:
        """Return how often pages would be decompressed for blocks of this size, about."""
        return self._some.decompressed(self._some.cut(block_entries, exact))

    @cached_property
    def _some(self) -> Stock:
        """Enough of the dataset to judge decompression: to cut all of a large one takes minutes."""
        most = _MOST_JUDGED * page_entries(self.files)
        every = -(-sum(map(len, self.spans)) // most)
        if every <= 1:
            return self
        # Some of many stretches; of few, of which one may hold most, the beginning of each.
        spans = self.spans[::every] if len(self.spans) > _FEW else self.spans
        of_each = max(most // len(spans), 1)
        return replace(self, spans=tuple(replace(s, stop=min(s.stop, s.start + of_each)) for s in spans))

    def blocks_in(self, counts: Counts, files: Counts, window_bytes: float) -> float:
        """Return how many blocks are in memory together, as an average row sees them."""
        bytes_ = counts * np.array(self.row_bytes)[files]
        return max(min(window_bytes / _seen(bytes_), float(np.count_nonzero(bytes_))), 1.0)

    def regions(self, largest: Counts, window_bytes: float) -> Regions:
        """Return the finest regions of which there is room for a block of each.

        Parameters
        ----------
        largest : ndarray of int64, shape (files,)
            Rows of the largest block of each file.
        window_bytes : float
        """
        bytes_ = largest * np.array(self.row_bytes)
        for starts in self.partitions:
            # While blocks come to an end, others have begun: of two regions at once, at most.
            more = min(len(starts) - 1, 2) * bytes_.max(initial=0)
            needed = np.maximum.reduceat(bytes_, starts).sum() + more
            if needed <= window_bytes:
                return starts
        return (0,)

    def lacking(self, block_entries: int, window_bytes: float) -> float:
        """Return the entropy that labels may lack with blocks of about this size."""
        counts = [
            np.diff(before(np.append(np.arange(0, entries, block_entries), entries)))
            for before, entries in zip(self._before, self.entries, strict=True)
        ]
        files = np.repeat(np.arange(len(counts)), [len(each) for each in counts])
        every = np.concatenate(counts)
        if (every * np.array(self.row_bytes)[files]).sum() <= window_bytes:
            return 0.0
        largest = np.array([int(each.max(initial=0)) for each in counts])
        regions = self.regions(largest, window_bytes)
        blocks = self.blocks_in(every, files, window_bytes)
        return self.lacking_in(regions, blocks)

    def apart(self, regions: Regions) -> bool:
        """Whether each kind that is known of has regions of its own among these."""
        return set(self.wanted) <= set(regions) and (self.kinds == 2 or len(regions) > 1)

    def lacking_in(self, regions: Regions, blocks: float) -> float:
        """Return the entropy that labels may lack, with so many blocks of these regions in memory."""
        if self.apart(regions):
            return lacking_bits(2, blocks, len(regions))
        return lacking_bits(self.kinds, blocks, in_stretches=self.in_stretches)

    def block_entries(self, most: int, window_bytes: float) -> int:
        """Return the largest size of blocks, up to `most`, with which rows mix in a window.

        Where pages would be decompressed too often, the smallest with which they are not.
        """
        small = self.mixing_entries(most, window_bytes)
        return small if small == most else max(small, self.affordable(most, small))

    def mixing_entries(self, most: int, window_bytes: float) -> int:
        """Return the largest size of blocks, up to `most`, with which rows mix, whatever that costs.

        The smallest that is looked at where they mix with none.
        """

        def lacks(size: int) -> bool:
            return self.lacking(size, window_bytes) > MOST_LACKING_BITS

        return _between(most / _FINEST, most, lacks) if lacks(most) else most

    def window_bytes(self, block_entries: int) -> int:
        """Return the least memory of a window in which rows mix, with blocks of about this size."""
        most = self.rows * self.mean_row_bytes

        def mixes(size: float) -> bool:
            return self.lacking(block_entries, size) <= MOST_LACKING_BITS

        return _between(most / _FINEST, most, mixes, above=True)

    def affordable(self, most: int, least: int = 1) -> int:
        """Return the smallest blocks of at least `least` entries whose pages are not decompressed often.

        `most` where those are, too.
        """

        def costs_little(size: int) -> bool:
            return self.times(size) <= MOST_DECOMPRESSED

        if not costs_little(most):
            return most
        least, size = max(least, -(-most // _FINEST)), most
        # Step by step: how many blocks the smallest ones would be, nobody needs to know.
        while size > least:
            if not costs_little(smaller := max(size // 2, least)):
                return _between(smaller, size, costs_little, above=True)
            size = smaller
        return size


def _between(low: float, high: float, is_high: Callable[[int], bool], above: bool = False) -> int:
    """Return where a property of sizes begins, to some percent: the last size below, or one above."""
    while high / low > _PRECISION and high - low > 1:
        middle = int(max(math.sqrt(low * high), low + 1))
        low, high = (low, middle) if is_high(middle) else (middle, high)
    return max(int(high if above else low), 1)


def _seen(sizes: Counts) -> float:
    """Return the size of the block that a row is in, on average over rows."""
    weights = sizes.astype(np.float64)
    return float((weights * weights).sum() / max(weights.sum(), 1.0))
