"""How well rows mix, and what is said where they do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rootfeed.dataset import Built, Dataset, Spec
from rootfeed.errors import MixingWarning, warn
from rootfeed.plan import (
    MOST_DECOMPRESSED,
    MOST_LACKING_BITS,
    Found,
    Offered,
    Sizes,
    Stock,
    budget_for,
    found_lacking,
)
from rootfeed.plan.budget import ORDER_BYTES
from rootfeed.properties import cached_property

__all__ = ["Mixing", "found_in"]


_LOOKED_AT = 1024
"""Rows of a block, at most."""

_MOST = 200_000
"""Rows of all blocks."""

_MOST_LABELS = 256
"""Different ones that are classes; of more, such as energies, each eighth of all counts as one."""

_SHARES = 8

_MOST_COLUMNS = 16
"""That are looked at one by one."""


_SPARE = 1.05
"""Of memory, more than what is computed: blocks end where pages do."""

_MORE = 1.2
"""Times the memory that there is, at least: where it seems to suffice, rows lie unevenly in files."""

_UNLIKE = 1.25
"""Power of the number of blocks, below which labels in memory tell little of others."""

_WORSE = 1.25
"""Lacking so much more than what was told is told again."""


@dataclass(frozen=True, eq=False)
class Mixing:
    """How the rows of a loader mix.

    Attributes
    ----------
    built : Built
    offered : Offered
    spec : Spec
    """

    built: Built
    offered: Offered
    spec: Spec

    @property
    def dataset(self) -> Dataset:
        """The blocks."""
        return self.built.dataset

    @property
    def sizes(self) -> Sizes:
        """Of window and blocks."""
        return self.built.sizes

    @property
    def stock(self) -> Stock:
        """What the blocks were cut of."""
        return self.built.stock

    @cached_property
    def blocks(self) -> float:
        """Blocks that are in memory together, as an average row sees them."""
        dataset = self.dataset
        if self.sizes.in_memory or self.offered.cached.all():
            return float(len(dataset.blocks))
        counts = (self.offered.counts * ~self.offered.cached).sum(1)
        kept = (self.offered.counts * self.offered.cached).sum(1) @ self.offered.row_bytes
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
        if not self.spec.shuffle:
            return None
        bytes_ = self.dataset.rows * self.dataset.mean_row_bytes
        if self.sizes.in_memory or bytes_ <= self.sizes.window_bytes or self.dataset.strata is not None:
            return 0.0
        return self.stock.lacking_in(self.sizes.regions, self.blocks)

    def explained(self) -> str:
        """Return what it means that so many blocks are in memory together."""
        pages = f"Pages are decompressed {self.decompressed:.1f} times in an epoch."
        if self.sizes.in_memory or self.lacking_bits is None:
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
        # Where neighbours are no more alike than others, what was not seen may differ, too.
        more = ", or more, as other blocks may hold other labels" if found.power < _UNLIKE else ""
        if of_kinds > 2 * lacking:
            more = (
                "; of ten kinds of entries, such as processes, that are stored one after another, too, "
                f"it would be {of_kinds:.2g}"
            )
        stock = replace(self.stock, found=found)
        known = replace(self, built=replace(self.built, stock=stock))
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
        if (now := self.spec.chunk_entries) is not None:
            return f"chunk_entries={_rounded(max(window / row_bytes, now * _MORE))} instead of {now}"
        share = self.spec.budget_bytes / self.spec.shared_bytes  # of a part of a split
        needed = budget_for(self.dataset.rows, window, row_bytes - ORDER_BYTES) / share
        now = self.spec.shared_bytes
        unit, name = (1e9, "GB") if now >= 1e9 else (1e6, "MB")
        more = _rounded(max(needed, now * _MORE)) / unit
        return f'memory="{more:g} {name}" instead of {now / unit:.3g} {name}'


def _rounded(number: float) -> int:
    """Return a number that is not smaller, and has two digits."""
    unit = int(10 ** max(math.floor(math.log10(number)) - 1, 0))
    return math.ceil(number / unit) * unit


def found_in(
    dataset: Dataset,
    blocks: Mapping[int, npt.NDArray[np.uint32]],
    labels: Callable[[npt.NDArray[np.uint32]], npt.NDArray[np.generic]],
    regions: Sequence[int],
) -> Found:
    """Return what batches' labels lack, by the labels of blocks in memory.

    Nothing where there is no target of numbers in rows, and where classes have fixed shares of a batch.

    Parameters
    ----------
    dataset : Dataset
    blocks : mapping of int to ndarray of uint32
        Of those that are in memory together, by their number, where rows lie.
    labels : function
        What the targets of rows are, of shape (rows, columns), by where they lie.
    regions : sequence of int
        First file of each.
    """
    layout = dataset.layout
    if dataset.strata is not None or len(layout.parts) == layout.inputs:
        return Found(0.0)
    found = {number: places for number, places in blocks.items() if len(places) >= 2}
    if layout.parts[layout.inputs].is_beside or len(found) < 2:
        return Found(0.0)
    numbers = np.array(sorted(found))  # in the order of files, and of entries there
    most = max(min(_LOOKED_AT, _MOST // len(numbers)), 2)
    # From all over a block, whose rows may be in the order of the file.
    places = [found[number][:: -(-len(found[number]) // most)] for number in numbers.tolist()]
    seen = labels(np.concatenate(places))
    owner = np.repeat(np.arange(len(numbers)), [len(each) for each in places])
    rows_of = dataset.counts[numbers].sum(1)
    region = np.searchsorted(regions, dataset.block_files[numbers], "right")
    judged = []
    for codes in _codes(seen):
        counts = np.zeros((len(numbers), int(codes.max()) + 1), np.int64)
        np.add.at(counts, (owner, codes), 1)
        judged.append(found_lacking(counts, rows_of, region))
    return max(judged, key=lambda each: each.bits)


def _codes(seen: npt.NDArray[np.generic]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield which label each row has: what all columns are together, or each of them, if that varies."""
    labels, codes = np.unique(seen, axis=0, return_inverse=True)
    if len(labels) <= _MOST_LABELS:
        yield codes.ravel()
        return
    for column in seen.T[:_MOST_COLUMNS]:
        labels, codes = np.unique(column, return_inverse=True)
        yield codes if len(labels) <= _MOST_LABELS else _shares_of(column)


def _shares_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Return in which eighth of all each value is; equal ones are in the same."""
    order = np.sort(values)
    bounds = order[np.arange(1, _SHARES) * len(order) // _SHARES]
    return np.searchsorted(bounds, values, "right")
