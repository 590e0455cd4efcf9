"""How often the rows of an epoch were used, where the rest of it is dealt anew."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rootfeed.loader.dataset import Dataset
from rootfeed.plan import members, words_of

__all__ = ["Uses"]

Counts = npt.NDArray[np.int64]


class Uses:
    """Counts the uses of each entry, beyond those that all entries of its stratum have had.

    Parameters
    ----------
    dataset : Dataset
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._strata = dataset.counts.shape[1]
        self._used = np.zeros(self._strata, bool)
        self._files = [np.empty(0, np.uint16)] * len(dataset.files)

    def add(self, file: int, entries: npt.NDArray[np.int64], uses: int = 1) -> None:
        """Count entries of a file, some of them several times."""
        if not len(self._files[file]):
            self._files[file] = self._uses(file)
        np.add.at(self._files[file], entries, np.uint16(uses % 2**16))

    def left(self, repeat: bool) -> tuple[tuple[Dataset, ...], Counts]:
        """Return what is left for the next rounds, and how many rows of each stratum were not used.

        Parameters
        ----------
        repeat : bool
            There are rounds of all rows after those that bring all to the same number of uses.

        Returns
        -------
        tuple of Dataset
            Of each round; the last one is repeated.
        ndarray of int64, shape (strata,)
        """
        if not repeat:
            dataset = self._without(0)
            return (dataset,), dataset.counts.sum(0)
        fewest = np.full(self._strata, 2**16, np.int64)
        most = np.zeros(self._strata, np.int64)
        for file in range(len(self._files)):
            uses, codes = self._of_rows(file)
            np.minimum.at(fewest, codes, uses)
            np.maximum.at(most, codes, uses)
        fewest[fewest == 2**16] = 0  # there are no rows
        for file, counted in enumerate(self._files):
            if len(counted):
                counted -= fewest[self._codes(file)].astype(np.uint16)
        self._used |= fewest > 0
        rounds = int((most - fewest).max())
        datasets = (*(self._without(uses) for uses in range(rounds)), self._dataset)
        return datasets, datasets[0].counts.sum(0) * ~self._used

    def _without(self, uses: int) -> Dataset:
        """Return the dataset without entries that were used more often."""
        return self._dataset.without(
            [words_of(self._uses(file) > uses) for file in range(len(self._files))]
        )

    def _uses(self, file: int) -> npt.NDArray[np.uint16]:
        """Return the uses of each entry of a file, those included that make no rows."""
        counted = self._files[file]
        return counted if len(counted) else np.zeros(self._entries(file), np.uint16)

    def _codes(self, file: int) -> npt.NDArray[np.uint8]:
        strata, entries = self._dataset.strata, self._entries(file)
        return np.zeros(entries, np.uint8) if strata is None else strata.codes(file, 0, entries)

    def _of_rows(self, file: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
        """Return uses and stratum of each entry that makes a row."""
        taken, entries = self._dataset.files[file].taken, self._entries(file)
        rows = slice(None) if taken is None else members(taken, 0, entries)
        return self._uses(file)[rows], self._codes(file)[rows]

    def _entries(self, file: int) -> int:
        return self._dataset.files[file].index.entries
