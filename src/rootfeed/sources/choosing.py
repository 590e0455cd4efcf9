"""Which source a location or an index belongs to."""

from __future__ import annotations

from typing import Any

from rootfeed.schema import FileIndex
from rootfeed.sources import arrays, arrow, csv, hdf5, joined, root
from rootfeed.sources.paths import Location

__all__ = ["register", "source_of"]

# Each takes nothing but locations and indexes of its own; `root` takes those that are no other's.
_OTHERS: list[tuple[Any, tuple[type, ...]]] = [
    (arrays, (arrays.ArraysLocation, arrays.ArraysIndex)),
    (joined, (joined.JoinedLocation, joined.JoinedIndex)),
    (arrow, (arrow.ArrowIndex,)),
    (hdf5, (hdf5.Hdf5Index,)),
    (csv, (csv.CsvIndex,)),
]

_NAMED: tuple[Any, ...] = (arrow, hdf5, csv)


def register(source: Any, *kinds: type) -> None:
    """Add a source that is made of others, with the classes of its locations and indexes."""
    _OTHERS.append((source, kinds))


def source_of(of: Any) -> Any:
    """Return the source of a location or an index."""
    if type(of) is FileIndex:
        return root
    if type(of) is Location:
        return next((source for source in _NAMED if source.is_named_so(of.path)), root)
    return next((source for source, kinds in _OTHERS if isinstance(of, kinds)), root)
