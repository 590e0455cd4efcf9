"""How well rows mix, and what is said where they do not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from rootfeed.errors import MixingWarning, warn
from rootfeed.loader.dataset import Dataset
from rootfeed.loader.options import Options
from rootfeed.plan import MOST_DECOMPRESSED, MOST_LACKING_BITS, Found, Offered, Sizes, Stock, budget_for
from rootfeed.plan.budget import ORDER_BYTES

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
    offered : Offered
    sizes : Sizes
    options : Options
    budget_bytes : int
    """

    stock: Stock
    dataset: Dataset
    offered: Offered
    sizes: Sizes
    options: Options
    budget_bytes: int

    @cached_property
    def blocks(self) -> float:
        """Blocks that are in memory together, as an average row sees them."""
        dataset = self.dataset
        if self.sizes.whole:
            return float(len(dataset.blocks))
        counts = (self.offered.counts * ~self.offered.resident).sum(1)
        kept = (self.offered.counts * self.offered.resident).sum(1) @ self.offered.row_bytes
        window = self.sizes.window_bytes - int(kept)
        return self.stock.blocks_in(counts, dataset.block_files, window)

    @cached_property
    def decompressed(self) -> float:
        """How often a page is decompressed in an epoch, on average over bytes."""
        return self.stock.decompressed(self.dataset.blocks)

    @cached_property
    def lacking_bits(self) -> float | None:
        """Entropy that a batch's label may lack, where classes are stored one after another.

        Shares of balanced classes are exact. None where rows are not shuffled.
        """
        if not self.options.shuffle:
            return None
        bytes_ = self.dataset.rows * self.dataset.mean_row_bytes
        if self.sizes.whole or bytes_ <= self.sizes.window_bytes or self.dataset.strata is not None:
            return 0.0
        return self.stock.lacking_in(self.sizes.regions, self.blocks)

    def explained(self) -> str:
        """Return what it means that so many blocks are in memory together."""
        pages = f"Pages are decompressed {self.decompressed:.1f} times in an epoch."
        if self.sizes.whole or self.lacking_bits is None:
            return pages
        shared = f"{self.blocks:.1f} blocks are in memory together"
        if self.dataset.strata is not None:
            return f"{shared}; the shares of classes in a batch are fixed. {pages}"
        return (
            f"{shared}: where {self._kinds} are stored one after another, the label of a batch "
            f"may lack {self.lacking_bits:.3f} bits of entropy. {pages}"
        )

    @property
    def _apart(self) -> bool:
        """Whether files of all kinds have blocks in memory at any time."""
        return self.stock.apart(self.sizes.regions)

    @property
    def _kinds(self) -> str:
        """Of what so much may be lacking."""
        if self._apart and len(self.sizes.regions) > 1:
            return f"2 classes in each of {len(self.sizes.regions)} regions"
        return f"{self.stock.kinds} classes"

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
        if lacking <= max(MOST_LACKING_BITS * _SPARE, told * _WORSE):
            return told
        warn(f"{of}{self._warning(lacking)}", MixingWarning)
        return lacking

    def _warning(self, lacking: float) -> str:
        wanted = len(self.stock.wanted)
        of = "files" if wanted == len(self.dataset.files) else "kinds of files"
        held = "" if self._apart or wanted == 1 else f", too few to hold one of each of {wanted} {of}"
        is_guess = self._apart or self.stock.kinds == 2
        more = " (of K classes, K (K - 1) / 2 times as much)" if is_guess else ""
        return (
            f"rows mix badly: {self.blocks:.1f} blocks of consecutive entries are in memory "
            f"together{held}. Where {self._kinds} are stored one after another, the label of a batch "
            f"may lack {lacking:.2g} bits of entropy{more}. {self._help()}"
        )

    def warn_of_labels(self, found: Found) -> None:
        """Warn of labels that are stored in an order, unless about as much was told without them.

        Parameters
        ----------
        found : Found
            What a batch's label lacks, by the labels of the blocks in memory.
        """
        least = MOST_LACKING_BITS * _SPARE
        expected, lacking = self.lacking_bits or 0.0, found.at(self.blocks)
        of_kinds = found.of_kinds(self.blocks)
        if max(lacking, of_kinds) <= (least if expected <= least else expected * _WORSE):
            return
        more = ""
        if of_kinds > 2 * lacking:
            more = (
                "; of ten kinds of entries, such as processes, that are stored one after another, too, "
                f"it would be {of_kinds:.2g}"
            )
        known = replace(self, stock=replace(self.stock, found=found))
        warn(
            f"rows mix badly: {self.blocks:.1f} blocks of consecutive entries are in memory together, "
            "and the labels of neighbours differ. The label of a batch lacks some "
            f"{lacking:.2g} bits of entropy{more}. {known._help()}",
            MixingWarning,
        )

    def _help(self) -> str:
        remedies = "".join(f"\n  {text}" for text in self._remedies())
        return f"What helps, in this order:{remedies}\nloader.explain() tells more."

    def _remedies(self) -> list[str]:
        columns = self.dataset.layout.parts[self.dataset.layout.inputs :]
        label = repr(columns[0].columns[0]) if columns and len(columns[0].columns) == 1 else "..."
        remedies = [
            self._memory(),
            f"sampling=rf.balanced({label}): batches with a fixed share of each class",
        ]
        window = self.sizes.window_bytes
        size = self.stock.mixing_entries(max(self.stock.entries), window)
        if self.stock.lacking(size, window) <= MOST_LACKING_BITS:
            times = self.stock.times(size, exact=True)
            remedies.append(
                f"block_entries={size}, with which pages are decompressed {times:.1f} times, not "
                f"{self.decompressed:.1f} times"
            )
        row_bytes = round(self.dataset.mean_row_bytes - ORDER_BYTES)
        remedies.append(f"fewer columns, or shorter vectors: a row takes {row_bytes} bytes in memory")
        return remedies

    def _memory(self) -> str:
        """Return how much memory is enough for rows to mix."""
        entries = self.sizes.block_entries
        if not self.sizes.exact and self.decompressed > MOST_DECOMPRESSED:
            entries = self.stock.affordable(max(self.stock.entries))
        row_bytes = self.dataset.mean_row_bytes
        window = self.stock.window_bytes(entries) * _SPARE
        if (now := self.options.chunk_entries) is not None:
            return f"chunk_entries={_rounded(max(window / row_bytes, now * _MORE))} instead of {now}"
        share = self.budget_bytes / self.options.budget_bytes  # of a part of a split
        needed = budget_for(self.dataset.rows, window, row_bytes - ORDER_BYTES) / share
        now = self.options.budget_bytes
        unit, name = (1e9, "GB") if now >= 1e9 else (1e6, "MB")
        more = _rounded(max(needed, now * _MORE)) / unit
        return f'memory="{more:g} {name}" instead of {now / unit:.3g} {name}'


def _rounded(number: float) -> int:
    """Return a number that is not smaller, and has two digits."""
    unit = int(10 ** max(math.floor(math.log10(number)) - 1, 0))
    return math.ceil(number / unit) * unit
