"""Splits: which entries of a file belong to a side, keyed by the file's identity and the entry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.plan.random import random_key

__all__ = ["Sieve", "Split"]

_NONE = np.empty(0, np.int32)


@dataclass(frozen=True)
class Split:
    """One side of a random split.

    Attributes
    ----------
    seed : int
    generation : int
        0 for a first split, 1 for the split of one of its sides, and so on.
    fraction : float
        Share of the entries that are chosen.
    chosen : bool
        Whether this side holds the chosen entries or the others.
    """

    seed: int
    generation: int
    fraction: float
    chosen: bool


@dataclass(frozen=True)
class Sieve:
    """The entries that pass every one of some splits.

    Membership depends on nothing but the seed, the file's identity and the entry's number: not on
    columns, cuts, the order of files, or batch sizes. The two sides of a split are each other's
    complement by construction.
    """

    splits: tuple[Split, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.splits)

    def divide(self, seed: int, fraction: float) -> tuple[Sieve, Sieve]:
        """Return the sieves of the remaining and of the chosen entries."""
        generation = len(self.splits)
        remaining, chosen = (
            Sieve((*self.splits, Split(seed, generation, fraction, side))) for side in (False, True)
        )
        return remaining, chosen

    def words(self, identity: bytes, entries: int, start: int, stop: int) -> npt.NDArray[np.uint64]:
        """Return a bit for each entry of the 64-entry groups that touch ``[start, stop)``.

        Parameters
        ----------
        identity : bytes
            Of the file.
        entries : int
            Entries in the file.
        start, stop : int
        """
        first, last = start // 64, -(-stop // 64)
        passing = np.full(last - first, ~np.uint64(0))
        for split in self.splits:
            key = random_key(split.seed, "split", split.generation, identity)
            chosen = np.empty(last - first, np.uint64)
            kernels.choose(key, split.fraction, entries, first, chosen)
            passing &= chosen if split.chosen else ~chosen
        return passing

    def count(self, identity: bytes, entries: int, start: int, stop: int) -> int:
        """Return how many entries of ``[start, stop)`` pass."""
        if not self.splits:
            return stop - start
        words = self.words(identity, entries, start, stop)
        return int(kernels.positions(words, start, stop, _NONE))

    def positions(self, identity: bytes, entries: int, start: int, stop: int) -> npt.NDArray[np.int32]:
        """Return the entries of ``[start, stop)`` that pass, relative to `start`, in order."""
        words = self.words(identity, entries, start, stop)
        out = np.empty(stop - start, np.int32)
        return out[: kernels.positions(words, start, stop, out)]
