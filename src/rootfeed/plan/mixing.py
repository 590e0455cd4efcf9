"""How well rows mix, and how small blocks must be for it.

Entries are often stored one class after another. What counts then is how many blocks share a chunk, and
whether each region of the dataset has one in every chunk. Small blocks cut pages, which are decompressed
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

__all__ = ["CARRIED_SHARE", "MOST_DECOMPRESSED", "MOST_LACKING_BITS", "Stock", "lacking_bits"]

MIXING_BLOCKS = 16
"""Blocks are made so small that as many share a chunk."""

MOST_DECOMPRESSED = 4.0
"""Unless that takes decompressing more times the bytes."""

MOST_LACKING_BITS = 0.05
"""Of a label's entropy, of which more is worth a warning: what 15 blocks of two classes lack."""

CARRIED_SHARE = 0.5
"""Rows of a chunk that may be carried to the next, at most: less than a block of each region."""

_MARGIN = 0.9
"""Of `CARRIED_SHARE`, aimed at: blocks that are cut elsewhere may hold somewhat more rows."""

_FINEST = 4096
"""Blocks are never made smaller than by this factor."""

_PRECISION = 1.05
"""To which a size is searched."""

_MOST_JUDGED = 20_000
"""Pages of a dataset, of those that hold the most bytes, on which decompression is judged."""

Counts = npt.NDArray[np.int64]


def lacking_bits(kinds: int, blocks: float) -> float:
    """Return the entropy that batches' labels lack, in bits, where so many blocks share a chunk.

    Expected where as many kinds of entries are equally frequent and stored one after another, and
    blocks were drawn independently of each other; they are dealt, which is better.
    """
    return min((kinds - 1) / (2 * math.log(2) * blocks), math.log2(kinds))


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
    regions : tuple of int
        The first file of each region that should have its share of every chunk.
    """

    files: tuple[Boundaries, ...]
    entries: tuple[int, ...]
    taken: tuple[Words | None, ...]
    spans: tuple[Block, ...]
    regions: tuple[int, ...] = (0,)

    @cached_property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(
            int(before(np.array([entries], np.int64))[0])
            for before, entries in zip(self._before, self.entries, strict=True)
        )

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
        spans = self.spans[::every]
        of_each = max(most // len(spans), 1)
        return replace(self, spans=tuple(replace(s, stop=min(s.stop, s.start + of_each)) for s in spans))

    def blocks_per_chunk(self, counts: Counts, chunk_rows: int) -> float:
        """Return how many blocks share a chunk, as an average row sees them."""
        return _chunk(int(counts.sum()), chunk_rows) / _seen(counts)

    def mixes(self, block_entries: int, chunk_rows: int) -> bool:
        """Whether enough blocks of about `block_entries` share a chunk, and all regions do."""
        return self.rows <= chunk_rows or self.chunk_rows(block_entries) <= _chunk(self.rows, chunk_rows)

    def chunk_rows(self, block_entries: int) -> int:
        """Return how many rows a chunk needs, so that such blocks mix in it."""
        counts = [
            np.diff(before(np.append(np.arange(0, entries, block_entries), entries)))
            for before, entries in zip(self._before, self.entries, strict=True)
        ]
        needed = MIXING_BLOCKS * _seen(np.concatenate(counts))
        if len(self.regions) > 1:
            largest = [int(each.max(initial=0)) for each in counts]
            carried = sum(np.maximum.reduceat(largest, self.regions).tolist())
            needed = max(needed, carried / (CARRIED_SHARE * _MARGIN))
        return math.ceil(needed)

    def block_entries(self, most: int, chunk_rows: int) -> int:
        """Return the largest size of blocks, up to `most`, with which rows mix in chunks.

        Where pages would be decompressed too often, the smallest with which they are not.
        """
        small = self.mixing_entries(most, chunk_rows)
        return small if small == most else max(small, self.affordable(most, small))

    def mixing_entries(self, most: int, chunk_rows: int) -> int:
        """Return the largest size of blocks, up to `most`, with which rows mix, whatever that costs.

        The smallest that is looked at where they mix with none.
        """
        if self.mixes(most, chunk_rows):
            return most
        return _between(most / _FINEST, most, lambda size: not self.mixes(size, chunk_rows))

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


def _chunk(rows: int, chunk_rows: int) -> float:
    """Return the rows of a chunk: chunks are of about equal size."""
    return rows / -(-rows // chunk_rows)


def _seen(counts: Counts) -> float:
    """Return the rows of the block that a row is in, on average over rows."""
    rows = counts.astype(np.float64)
    return float((rows * rows).sum() / max(rows.sum(), 1.0))
