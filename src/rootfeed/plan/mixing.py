"""How well rows mix, and how small blocks must be for it.

Entries are often stored one class after another. What counts then is how many blocks are in memory
together, and whether each region of the dataset has one. Small blocks cut pages, which are decompressed
once for each part. The rules, and what was measured, are in ``docs/decisions/block-size.md``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rootfeed.plan.blocks import Boundaries, cut, page_bytes, page_entries
from rootfeed.plan.masks import BitMask, rows_before
from rootfeed.properties import cached_property
from rootfeed.schema import Block

__all__ = ["MOST_DECOMPRESSED", "MOST_LACKING_BITS", "Found", "Stock", "found_lacking", "lacking_bits"]

MOST_LACKING_BITS = 0.01
"""Of a label's entropy: blocks are made so small that no more is lacking."""

MOST_DECOMPRESSED = 4.0
"""Unless that takes decompressing more times the bytes."""

_LACKING = 0.5
"""What a window lacks, of bits times blocks squared, over pairs of kinds: measured."""

_SIGMA = 4.0
"""Standard deviations of what is found by chance."""

_UNKNOWN_KINDS = 10
"""So many may be stored one after another where labels are."""

_FINEST = 4096
"""Blocks are never made smaller than by this factor."""

_FEW_BLOCKS = 8
"""Of fewer, the one that begins while another ends counts, and so does what is no whole block."""

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


@dataclass(frozen=True)
class Found:
    """What labels were found to lack.

    Attributes
    ----------
    bits : float
    power : float
        Of the number of blocks, by which it falls: 1 if blocks are as different from their neighbours
        as from all others, up to 2 if most are alike.
    blocks : float
        That were in memory together.
    order : float
        How much of the labels' variance lies between blocks of a region, surely: 0 to 1, if one label
        after another is stored.
    """

    bits: float
    power: float = 2.0
    blocks: float = 1.0
    order: float = 0.0

    def at(self, blocks: float) -> float:
        """Return what labels lack with another number of blocks."""
        return float(self.bits * (self.blocks / blocks) ** self.power)

    def of_kinds(self, blocks: float) -> float:
        """Return what kinds of entries may lack that labels do not tell of, such as processes.

        Where labels are stored in an order, such kinds are, too, probably.
        """
        return self.order * lacking_bits(_UNKNOWN_KINDS, blocks) if self.order > 0.5 else 0.0


def found_lacking(counts: Counts, rows: Counts, regions: Counts) -> Found:
    """Return the entropy that batches' labels lack, by the labels of the blocks in memory.

    Each block stands for one of so many parts of its region. Where neighbours differ, a kind of entries
    ends between them, and the window has a block too many or too few of it: `lacking_bits` follows, if
    that is so for each kind once. What rows in random order may lack by chance, is taken off.

    Parameters
    ----------
    counts : ndarray of int64, shape (blocks, labels)
        How often each label is among some rows, at least 2, of each block, in the order in which blocks
        are stored.
    rows : ndarray of int64, shape (blocks,)
        Of each block.
    regions : ndarray of int64, shape (blocks,)
    """
    looked_at = counts.sum(1, keepdims=True)
    shares = counts / looked_at
    weights = rows / rows.sum()
    mean = weights @ shares
    noise = shares * (1 - shares) / (looked_at - 1)
    change = np.diff(shares, axis=0) ** 2 - noise[1:] - noise[:-1]
    pair = np.where(np.diff(regions) == 0, (weights[1:] + weights[:-1]) / 2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = _LACKING * (pair**2 @ change) / (2 * mean)
        # A rare label is worth little, wherever it is.
        bits = float(np.nansum(np.minimum(each, -mean * np.log2(mean))))
        # Of squares of normal numbers: each block is in two of them.
        chance = mean * (1 - mean) * (1 / looked_at[1:] + 1 / looked_at[:-1])
        errors = _LACKING * np.sqrt(3 * (pair**4 @ chance**2)) / (2 * mean)
        bits -= _SIGMA * float(np.sqrt(np.nansum(errors**2)))
        # Of independent blocks, neighbours differ by twice the variance.
        spread = weights @ ((shares - mean) ** 2 - noise)
        independent = (pair @ change).sum() / (2 * pair.sum() * spread.sum())
    # What lies between blocks of one region: regions have windows of their own.
    which = np.unique(regions, return_inverse=True)[1]
    of_regions, sums = np.zeros((which.max() + 1, len(mean))), np.bincount(which, weights)
    np.add.at(of_regions, which, weights[:, None] * shares)
    apart = (shares - (of_regions / sums[:, None])[which]) ** 2 - noise
    order = (weights @ apart).sum() / max((mean * (1 - mean)).sum(), 1e-12)
    order -= _SIGMA * math.sqrt(2 * (weights**2 @ looked_at.ravel() ** -2.0))
    power = 2 - float(np.nan_to_num(independent, posinf=1).clip(0, 1))
    return Found(max(bits, 0.0), power, len(rows), float(np.clip(order, 0, 1)))


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
    found : Found
        What is known of labels, if that is more than is expected without.
    beyond_bytes : float
        Of pages that reach beyond the end of stretches that were shortened: they count in part.
    """

    files: tuple[Boundaries, ...]
    entries: tuple[int, ...]
    taken: tuple[BitMask | None, ...]
    spans: tuple[Block, ...]
    row_bytes: tuple[int, ...]
    partitions: tuple[Regions, ...] = ((0,),)
    wanted: Regions = (0,)
    kinds: int = 2
    in_stretches: bool = True
    found: Found = Found(0.0)
    beyond_bytes: float = 0.0

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
        return page_bytes(self.files, self.spans)[1] - self.beyond_bytes

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
        shorter = tuple(self._shortened(span, of_each) for span in spans)
        # A page in which a shortened stretch ends counts as far as the stretch goes.
        beyond = 0.0
        for span, whole in zip(shorter, spans, strict=True):
            stop = np.array([span.stop], np.int64)
            for table in self.files[span.file].tables if span.stop < whole.stop else ():
                _, last = table.overlapping(stop - 1, stop)
                reached = np.interp(stop, table.bounds, table.contents)
                beyond += float((table.contents[last] - reached)[0])
        return replace(self, spans=shorter, beyond_bytes=beyond)

    def _shortened(self, span: Block, entries: int) -> Block:
        """Return the beginning of a stretch, up to a page's end if there is one."""
        stop = min(span.stop, span.start + entries)
        pages = self.files[span.file].pages
        end = int(pages[np.searchsorted(pages, stop, "right") - 1])
        return replace(span, stop=end if span.start < end and stop < span.stop else stop)

    def blocks_in(self, counts: Counts, files: Counts, window_bytes: float) -> float:
        """Return how many blocks are in memory together, as an average row sees them."""
        bytes_ = counts * np.array(self.row_bytes)[files]
        blocks = window_bytes / _seen(bytes_)
        if blocks < min(_FEW_BLOCKS, bytes_.sum() / _seen(bytes_)):
            blocks = math.floor(blocks) - 1.0  # whole ones, and one begins while another ends
        return max(min(blocks, float(np.count_nonzero(bytes_))), 1.0)

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
            expected = lacking_bits(2, blocks, len(regions))
        else:
            expected = lacking_bits(self.kinds, blocks, in_stretches=self.in_stretches)
        return max(expected, self.found.at(blocks), self.found.of_kinds(blocks))

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
