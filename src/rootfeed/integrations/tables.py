"""Batches of one matrix, labels and weights, as libraries for tables take them. Imports no framework."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rootfeed.errors import ArgumentError
from rootfeed.loader import Loader
from rootfeed.schema import Array

__all__ = ["Table", "checked", "tables"]


class Table(NamedTuple):
    """The rows of a batch.

    Attributes
    ----------
    x : ndarray, shape (n, features)
    y : ndarray, shape (n,) or, of several columns, (n, targets); or None
    w : ndarray, shape (n,), or None
    """

    x: Array
    y: Array | None
    w: Array | None


def tables(loader: Loader) -> Iterator[Table]:
    """Yield the batches of the loader's next epoch."""
    for batch in loader:
        parts = batch if isinstance(batch, tuple) else (batch,)
        x, y, w = (*parts, None, None)[:3]
        if y is not None and y.shape[1] == 1:
            y = y[:, 0]
        yield Table(x, y, None if w is None else w[:, 0])


def checked(loader: Loader, target: bool = False) -> Loader:
    """Return a loader whose batches are tables.

    Raises
    ------
    ArgumentError
        Where it is no loader, its features are several inputs, or it has no target and needs one.
    """
    if not isinstance(loader, Loader):
        raise ArgumentError(f"this takes a rootfeed.Loader, got {loader!r}.")
    if loader._pipeline.spec.layout.mapping:
        raise ArgumentError(
            "this takes one matrix of features: name columns, features=[...], and vectors with "
            "rootfeed.flat, instead of a mapping of inputs."
        )
    if target and not loader.target:
        raise ArgumentError("this needs labels: give the loader a target=.")
    return loader
