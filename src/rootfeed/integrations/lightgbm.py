"""LightGBM: its datasets, read block by block. Imports lightgbm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightgbm
import numpy as np

from rootfeed.errors import ArgumentError
from rootfeed.integrations.tables import Table, checked, tables
from rootfeed.loader import Loader
from rootfeed.schema import Array

__all__ = ["Rows", "dataset"]


class Rows(lightgbm.Sequence):
    """The rows of a loader in the order of the files, for ``lightgbm.Dataset``.

    LightGBM asks for a sample of single rows, and then for all, in ascending order: each time the
    files are read once, and a batch is in memory. To ask for a row before the last one begins anew.

    Parameters
    ----------
    loader : Loader
        Of one matrix of features, made with ``shuffle=False``. Large batches cost least.
    """

    def __init__(self, loader: Loader) -> None:
        self._loader = checked(loader)
        if loader._pipeline.spec.shuffle:
            raise ArgumentError(
                "LightGBM asks for rows by their number: make the loader with shuffle=False."
            )
        if loader._pipeline.spec.epoch_batches is not None:
            raise ArgumentError("LightGBM takes all rows: make the loader without epoch=.")
        self.batch_size = loader.batch_size
        self._length = loader.plan().batch_rows
        self._begin()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    def __getitem__(self, rows: int | slice | list[int]) -> Array:
        """Return a row, shape (features,), or several, shape (n, features)."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self._length)
            return self[list(range(start, stop, step))] if step < 0 else self._between(start, stop, step)
        if isinstance(rows, int | np.integer):
            number = range(self._length)[int(rows)]
            one: Array = self._between(number, number + 1, 1)[0]
            return one
        return np.array([self[row] for row in rows]).reshape(len(rows), len(self._loader.features))

    def _between(self, start: int, stop: int, step: int) -> Array:
        parts = []
        if start < self._first:
            self._begin()
        while self._first < stop:
            if start < self._first + len(self._x):
                parts.append(self._x[max(0, start - self._first) : stop - self._first])
            if stop <= self._first + len(self._x):
                break
            self._advance()
        found = np.concatenate(parts) if parts else self._x[:0]
        return found[::step].astype(np.float64)  # LightGBM takes no other

    def _begin(self) -> None:
        self._loader.set_epoch(0)
        self._batches: Iterator[Table] = tables(self._loader)
        self._first, self._x = 0, next(self._batches).x

    def _advance(self) -> None:
        self._first += len(self._x)
        self._x = next(self._batches).x


def dataset(loader: Loader, **options: Any) -> lightgbm.Dataset:
    """Return a dataset of LightGBM with a loader's rows, labels and weights.

    Parameters
    ----------
    loader : Loader
        With a target of one column, made with ``shuffle=False``.
    **options
        Of ``lightgbm.Dataset``, such as ``params`` and ``reference``.

    Raises
    ------
    ArgumentError
        Where the loader shuffles, has no target, or features of several inputs.

    Notes
    -----
    Reads the files three times: for labels and weights, which are kept; for LightGBM's sample; and for
    all rows, of which LightGBM keeps the numbers of bins.
    """
    rows = Rows(checked(loader, target=True))
    if len(loader.target) > 1:
        raise ArgumentError(f"LightGBM takes one column of labels, got {list(loader.target)}.")
    loader.set_epoch(0)
    found = list(_labels(loader))
    label = np.concatenate([y for y, _ in found])
    weight = None if found[0][1] is None else np.concatenate([w for _, w in found if w is not None])
    names = list(loader.features)
    return lightgbm.Dataset(rows, label=label, weight=weight, feature_name=names, **options)


def _labels(loader: Loader) -> Iterator[tuple[Array, Array | None]]:
    for table in tables(loader):
        assert table.y is not None
        # Copies: views would keep all batches.
        yield table.y.copy(), None if table.w is None else table.w.copy()
