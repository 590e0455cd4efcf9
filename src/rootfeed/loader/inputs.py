"""What a loader's features can be besides columns of numbers: collections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rootfeed.errors import ArgumentError

__all__ = ["Flat", "Padded", "Ragged", "flat", "padded", "ragged"]


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
    return Padded(_columns("padded", columns), _length("padded", length), float(value), sort_by)


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
    return Ragged(_columns("ragged", columns), sort_by)


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
    return Flat(_columns("flat", column)[0], _length("flat", length), float(value))


def _columns(what: str, columns: str | Iterable[str]) -> tuple[str, ...]:
    names = (columns,) if isinstance(columns, str) else tuple(columns)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ArgumentError(f"{what} takes names of vector columns, got {columns!r}.")
    return names


def _length(what: str, length: int) -> int:
    if isinstance(length, bool) or not isinstance(length, int) or not 0 < length < 2**20:
        raise ArgumentError(f"{what} takes a length of at least 1, got {length!r}.")
    return length
