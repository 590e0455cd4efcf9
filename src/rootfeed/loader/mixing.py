"""How well rows mix, and what is said where they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from rootfeed.errors import MixingWarning, warn
from rootfeed.loader.dataset import Dataset
from rootfeed.loader.options import Options
from rootfeed.loader.regions import kinds
from rootfeed.plan import MOST_DECOMPRESSED, MOST_LACKING_BITS, Sizes, Stock, budget_for, lacking_bits

__all__ = ["Mixing"]


_SPARE = 1.05
"""Of memory, more than what is computed: blocks end where pages do."""

_MORE = 1.2
"""Times the memory that there is, at least: where it seems to suffice, rows lie unevenly in files."""

_WORSE = 1.25
"""Lacking so much more than what was told is told again."""


@dataclass(frozen=True, eq=False)
class Mixing:
    """How the rows of a loader mix.

    Attributes
    ----------
    stock : Stock
    dataset : Dataset
    sizes : Sizes
    options : Options
    budget_bytes : int
    """

    stock: Stock
    dataset: Dataset
    sizes: Sizes
    options: Options
    budget_bytes: int

    @cached_property
    def blocks(self) -> float:
        """Blocks that share a chunk, as an average row sees them."""
        if self.sizes.whole:
            return float(len(self.dataset.blocks))
        return max(self.stock.blocks_per_chunk(self.dataset.counts.sum(1), self.sizes.chunk_rows), 1.0)

    @cached_property
    def decompressed(self) -> float:
        """How often a page is decompressed in an epoch, on average over bytes."""
        return self.stock.decompressed(self.dataset.blocks)

    @property
    def kinds(self) -> int:
        """Kinds of entries that may be stored one after another, as far as names of files tell."""
        wanted, had = set(self.stock.regions), set(self.sizes.regions)
        if len(had) > 1 and wanted <= had:
            return 2  # in each region; chunks have their share of all
        counts = self.dataset.counts.sum(1)
        files = [block.file for block, rows in zip(self.dataset.blocks, counts, strict=True) if rows]
        if len(wanted) > 1:
            regions = {sum(start <= file for start in self.stock.regions) for file in set(files)}
            return max(len(regions), 2)
        return max(kinds([self.dataset.files[file].index.path for file in files]), 2)

    @cached_property
    def lacking_bits(self) -> float | None:
        """Entropy that a batch's label may lack, where classes are stored one after another.

        Shares of balanced classes are exact. None where rows are not shuffled.
        """
        if not self.options.shuffle:
            return None
        one_chunk = self.sizes.whole or self.dataset.rows <= self.sizes.chunk_rows
        if one_chunk or self.dataset.strata is not None:
            return 0.0
        return lacking_bits(self.kinds, self.blocks)

    def explained(self) -> str:
        """Return what it means that so many blocks share a chunk."""
        pages = f"Pages are decompressed {self.decompressed:.1f} times in an epoch."
        if self.sizes.whole or self.lacking_bits is None:
            return pages
        shared = f"{self.blocks:.1f} blocks share a chunk"
        if self.dataset.strata is not None:
            return f"{shared}; the shares of classes in a batch are fixed. {pages}"
        return (
            f"{shared}: where {self.kinds} classes are stored one after another, the label of a batch "
            f"may lack {self.lacking_bits:.3f} bits of entropy. {pages}"
        )

    def warn(self, told: float = 0.0, of: str = "") -> float:
        """Warn where rows cannot mix, unless about as much was told.

        Parameters
        ----------
        told : float
            Bits that a warning has said to be lacking.
        of : str
            What this is part of the dataset.

        Returns
        -------
        float
            Bits that were told now or before.
        """
        lacking = self.lacking_bits or 0.0
        if lacking <= max(MOST_LACKING_BITS, told * _WORSE):
            return told
        warn(f"{of}{self._warning(lacking)}", MixingWarning)
        return lacking

    def _warning(self, lacking: float) -> str:
        missed = len(self.stock.regions) if self.kinds > 2 and len(self.stock.regions) > 1 else 0
        regions = "files" if missed == len(self.dataset.files) else "kinds of files"
        held = f", too few to hold some of each of {missed} {regions}" if missed else ""
        more = " (of K classes, K - 1 times as much)" if self.kinds == 2 else ""
        remedies = "".join(f"\n  {text}" for text in self._remedies())
        return (
            f"rows mix badly: {self.blocks:.1f} blocks of consecutive entries share a chunk{held}. "
            f"Where {self.kinds} classes are stored one after another, the label of a batch may lack "
            f"{lacking:.2g} bits of entropy{more}. What helps, in this order:{remedies}\n"
            "loader.explain() tells more."
        )

    def _remedies(self) -> list[str]:
        columns = self.dataset.layout.parts[self.dataset.layout.inputs :]
        label = repr(columns[0].columns[0]) if columns and len(columns[0].columns) == 1 else "..."
        remedies = [
            self._memory(),
            f"sampling=rf.balanced({label}): batches with a fixed share of each class",
        ]
        size = self.stock.mixing_entries(max(self.stock.entries), self.sizes.chunk_rows)
        if self.stock.mixes(size, self.sizes.chunk_rows):
            times = self.stock.times(size, exact=True)
            remedies.append(
                f"block_entries={size}, with which pages are decompressed {times:.1f} times, not "
                f"{self.decompressed:.1f} times"
            )
        row_bytes = self.dataset.layout.row_bytes
        remedies.append(f"fewer columns, or shorter vectors: a row takes {row_bytes} bytes in memory")
        return remedies

    def _memory(self) -> str:
        """Return how much memory is enough for rows to mix."""
        entries = self.sizes.block_entries
        if not self.sizes.exact and self.decompressed > MOST_DECOMPRESSED:
            entries = self.stock.affordable(max(self.stock.entries))
        rows, chunk_rows = self.dataset.rows, self.stock.chunk_rows(entries) * _SPARE
        chunks = int(rows / chunk_rows)
        chunk_rows = math.ceil(rows / max(chunks, 1))
        if (now := self.options.chunk_entries) is not None:
            return f"chunk_entries={_rounded(max(chunk_rows, now * _MORE))} instead of {now}"
        size, row_bytes = self.options.batch_size, self.dataset.layout.row_bytes
        share = self.budget_bytes / self.options.budget_bytes  # of a part of a split
        now, needed = self.options.budget_bytes, budget_for(rows, chunk_rows, row_bytes, size) / share
        unit, name = (1e9, "GB") if now >= 1e9 else (1e6, "MB")
        more = _rounded(max(needed, now * _MORE)) / unit
        return f'memory="{more:g} {name}" instead of {now / unit:.3g} {name}'


def _rounded(number: float) -> int:
    """Return a number that is not smaller, and has two digits."""
    unit = int(10 ** max(math.floor(math.log10(number)) - 1, 0))
    return math.ceil(number / unit) * unit
