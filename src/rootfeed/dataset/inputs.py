"""What a loader's features can be besides columns of numbers: collections."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from rootfeed.arguments import in_order
from rootfeed.errors import ArgumentError

__all__ = ["FixedArray", "Flat", "Padded", "Ragged", "array", "flat", "padded", "ragged"]

MOST_ELEMENTS = 2**20
"""Of a vector in a row, exclusive."""


@dataclass(frozen=True)
class Padded:
    """Vector columns as an array (n, length, columns) and a mask: see `padded`."""

    columns: tuple[str, ...]
    length: int
    value: float
    sort_by: str | None


@dataclass(frozen=True)
class Ragged:
    """Vector columns as values (total, columns) and offsets: see `ragged`."""

    columns: tuple[str, ...]
    sort_by: str | None


@dataclass(frozen=True)
class Flat:
    """A vector column as some columns of a matrix: see `flat`."""

    column: str
    length: int
    value: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that it becomes."""
        return tuple(f"{self.column}_{number}" for number in range(self.length))


@dataclass(frozen=True)
class FixedArray:
    """Arrays of fixed dimensions, as they are: see `array`."""

    columns: tuple[str, ...]
    is_stacked: bool


def array(columns: str | Iterable[str]) -> FixedArray:
    """Ask for arrays of fixed dimensions as they are, such as ``float image[28][28]``.

    ``rf.array("image")`` gives ``x`` of shape (n, 28, 28), as the only feature or as an input in a
    mapping. Nothing is padded, so there is no mask.

    Parameters
    ----------
    columns : str or iterable of str
        Columns of one shape, the same in all files. Several, or one in a list, are stacked along a last
        axis, as the columns of `padded` are: (n, 28, 28, columns).

    Examples
    --------
    >>> import rootfeed as rf
    >>> rf.array(["red", "green", "blue"])
    FixedArray(columns=('red', 'green', 'blue'), is_stacked=True)
    """
    return FixedArray(_columns("array", columns), not isinstance(columns, str))


def padded(
    columns: str | Iterable[str], length: int, value: float = 0.0, sort_by: str | None = None
) -> Padded:
    """Ask for vector columns as an array of one length, and a mask of what is real.

    In a loader's mapping of features, ``"jets": padded(...)`` gives ``x["jets"]``, shape
    (n, length, columns), and ``x["jets_mask"]``, shape (n, length), True where there is an element.

    Parameters
    ----------
    columns : str or iterable of str
        Vector columns that have the same length in each entry.
    length : int
        Longer vectors are cut, and the number of such entries is reported.
    value : float
        What shorter ones are filled up with.
    sort_by : str, optional
        A vector column in whose descending order the elements come, NaN last.

    Examples
    --------
    >>> import rootfeed as rf
    >>> rf.padded(["Jet_pt", "Jet_eta"], length=16, sort_by="Jet_pt")
    Padded(columns=('Jet_pt', 'Jet_eta'), length=16, value=0.0, sort_by='Jet_pt')
    """
    return Padded(
        _columns("padded", columns),
        _length("padded", length),
        _value("padded", value),
        _key("padded", sort_by),
    )


def ragged(columns: str | Iterable[str], sort_by: str | None = None) -> Ragged:
    """Ask for vector columns one after another, as attention with ``cu_seqlens`` and graphs take them.

    In a loader's mapping of features, ``"jets": ragged(...)`` gives ``x["jets"]``, shape
    (total, columns), and ``x["jets_offsets"]``, int64 of shape (n + 1,): entry i has the elements
    ``offsets[i]`` to ``offsets[i + 1]``.

    Parameters
    ----------
    columns : str or iterable of str
        Vector columns that have the same length in each entry.
    sort_by : str, optional
        A vector column in whose descending order the elements come, NaN last.
    """
    return Ragged(_columns("ragged", columns), _key("ragged", sort_by))


def flat(column: str, length: int, value: float = 0.0) -> Flat:
    """Ask for the first elements of a vector as columns of a matrix: ``v_0``, ``v_1``, ...

    Parameters
    ----------
    column : str
        A vector column.
    length : int
        Elements that are taken; the number of entries that have more is reported.
    value : float
        What shorter vectors are filled up with.
    """
    if not isinstance(column, str):
        raise ArgumentError(f"flat takes the name of one vector column, got {column!r}.")
    return Flat(_columns("flat", column)[0], _length("flat", length), _value("flat", value))


def _columns(what: str, columns: str | Iterable[str]) -> tuple[str, ...]:
    several = columns if isinstance(columns, Iterable) else ()
    names = (columns,) if isinstance(columns, str) else tuple(in_order(what, several))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(f"{what} takes names of vector columns, got {columns!r}.")
    return names


def _length(what: str, length: int) -> int:
    try:
        number = -1 if isinstance(length, bool) else operator.index(length)
    except TypeError:
        number = -1
    if not 0 < number < MOST_ELEMENTS:
        raise ArgumentError(f"{what} takes a length from 1 to {MOST_ELEMENTS - 1}, got {length!r}.")
    return number


def _value(what: str, value: float) -> float:
    if not isinstance(value, int | float | np.number):
        raise ArgumentError(f"{what} takes a number to fill up with, got {value!r}.")
    return float(value)


def _key(what: str, sort_by: str | None) -> str | None:
    if sort_by is not None and not isinstance(sort_by, str):
        raise ArgumentError(f"{what} takes the name of one column to sort by, got {sort_by!r}.")
    return sort_by
