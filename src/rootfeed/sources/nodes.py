"""ROOT's own RDataFrame: whose entries the rows of its nodes are.

A node without definitions and cuts is nothing but its files. Any other one is run once: ROOT writes
which entries pass, and what is defined, to scratch files, and stored columns are read from their own
files afterwards. Where ROOT's rows are not known to be entries of these files, it writes all columns.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from rootfeed.errors import ArgumentError, RootfeedError, UnsupportedColumnError
from rootfeed.processes import ForkLock
from rootfeed.schema import Array, FileIndex
from rootfeed.sources import root
from rootfeed.sources.arrays import ArraysLocation
from rootfeed.sources.joined import TAKEN, JoinedLocation, Rows
from rootfeed.sources.paths import Location, expand
from rootfeed.sources.running import ENTRY, Seen, kind_of, run, run_first, type_of
from rootfeed.sources.scratch import Scratch

__all__ = ["Located", "is_node", "locate"]

_CHUNK = 1 << 20  # entries that are looked at together
_SEEN = 1000  # entries by which it is judged whether witnesses tell entries apart
_WITNESSES = 2
_CANDIDATES = 50

_NODE = re.compile(r"ROOT::(RDataFrame|RDF::RInterface<.*)")
_ORDER = [np.dtype(code) for code in ("u8", "i8", "f8", "f4", "u4", "i4", "u2", "i2", "u1", "i1", "?")]
"""Those first of which few entries have equal values: numbers of events, reals."""

_lock = ForkLock()  # ROOT's interpreter is for one thread at a time


class Located(NamedTuple):
    """Where the entries of a node are.

    Attributes
    ----------
    locations : tuple of Location
    taken : str or None
        The column that says which entries pass; None for all.
    names : tuple of str
        Its columns.
    """

    locations: tuple[Location, ...]
    taken: str | None
    names: tuple[str, ...]


def is_node(value: Any) -> bool:
    """Whether something is a data frame of ROOT, or what its methods make of one."""
    return _NODE.fullmatch(str(getattr(type(value), "__cpp_name__", ""))) is not None


def locate(node: Any) -> Located:
    """Return where the entries of a node are; run it once, if it has definitions or cuts.

    Parameters
    ----------
    node : ROOT.RDataFrame, or what its methods return

    Raises
    ------
    ArgumentError
        Where the node uses several threads, or ROOT cannot run it.
    UnsupportedColumnError
        Where it has no column that can be used.

    Notes
    -----
    As any result of a node does, this runs what else was booked on it. ROOT goes through all entries
    once; again where its rows turn out not to be entries of files, or the witnesses not to tell. The
    scratch files have some 20 bytes for each entry that passes, and the values of definitions, in the
    folder for temporary files (``TMPDIR``).
    """
    if node.GetNSlots() > 1:
        raise ArgumentError(
            "the RDataFrame was made with implicit multi-threading, in which ROOT does not tell which "
            "entries its rows are. Make it after ROOT.DisableImplicitMT(): rootfeed has its own threads."
        )
    with _lock:
        defined = [str(name) for name in node.GetDefinedColumnNames()]
        found = None
        if not defined and not node.GetFilterNames().size():
            found = _alone(node)
        return found or _joined(node, defined, _likely(node, defined)) or _copied(node)


def _alone(node: Any) -> Located | None:
    """Return the node's files, if its rows are all of their entries, which ROOT only counts."""
    seen = run(node, [])
    files = _files(seen.samples)
    witnesses = _telling(files[0], []) if files else []
    if files is None or not witnesses:
        return _copied(node)
    indexes = [root.index(file, witnesses) for file in files]
    if seen.table.entries != sum(index.entries for index in indexes):
        return None
    # An older cycle of a tree goes by the same name.
    first = run_first(node, _SEEN, [ENTRY, *witnesses])
    begun = _files(first.samples) or ()
    if begun != files[: len(begun)] or _matched(first, indexes, witnesses) is None:
        return None
    return Located(files, None, _ordered(node, root.types(files[0])[1]))


def _joined(node: Any, defined: Sequence[str], witnesses: Sequence[str]) -> Located | None:
    """Return the node's files, joined with what ROOT computes; None where its rows are not theirs."""
    names = _usable(node, defined)
    seen = run(node, [*names, ENTRY, *witnesses])
    files = _files(seen.samples)
    if files is None:
        return None
    if not (telling := _telling(files[0], defined, witnesses)):
        # Those that were likely to tell entries apart do not. Others may.
        others = _telling(files[0], defined)
        return _joined(node, defined, others) if others else None
    witnesses = telling
    _, known = root.types(files[0])
    rows = _matched(seen, [root.index(file, list(witnesses)) for file in files], witnesses)
    if rows is None:
        return None
    other = ArraysLocation(seen.table.path, None, table=seen.table)
    gone = tuple(name for name in defined if name not in names)
    locations = tuple(
        JoinedLocation(
            file.path, file.object_path, other=other, rows=each, names=tuple(names), gone=gone
        )
        for file, each in zip(files, rows, strict=True)
    )
    stored = [name for name in known if name not in defined]
    return Located(locations, TAKEN, _ordered(node, [*stored, *names]))


def _ordered(node: Any, names: Iterable[str]) -> tuple[str, ...]:
    """Return names in the order in which the node has them; those that it calls otherwise come last."""
    names = dict.fromkeys(names)
    first = [name for name in map(str, node.GetColumnNames()) if name in names]
    return tuple(dict.fromkeys([*first, *names]))


def _copied(node: Any) -> Located:
    """Return all columns of a node, as ROOT has written them."""
    names = _usable(node, [str(name) for name in node.GetColumnNames()])
    if not names:
        raise UnsupportedColumnError("the RDataFrame has no column of numbers, of vectors or of text.")
    table = run(node, names).table
    return Located((ArraysLocation("ROOT's RDataFrame", None, table=table),), None, tuple(names))


def _matched(seen: Seen, indexes: Sequence[FileIndex], witnesses: Sequence[str]) -> list[Rows] | None:
    """Return which entries of each file the rows are; None where they are not.

    A row is the entry of a file whose number follows from ROOT's, if some stored columns, the witnesses,
    have the same values in both: where ROOT goes by a list of entries, for example, they have not.
    """
    starts = np.cumsum([0, *(each.entries for each in indexes)])
    firsts = [*seen.starts, seen.table.entries]
    numbers = seen.table.columns[ENTRY]
    assert isinstance(numbers, np.ndarray)
    rows = []
    for number, (first, last) in enumerate(itertools.pairwise(firsts)):
        index = indexes[number]
        taken = np.zeros(index.entries, np.bool_)
        previous = -1
        for start in range(first, last, _CHUNK):
            stop = min(start + _CHUNK, last)
            local = numbers[start:stop].astype(np.int64) - starts[number]
            if local[0] <= previous or local[-1] >= index.entries or np.any(np.diff(local) <= 0):
                return None
            for name in witnesses:
                if not _agree(index, name, local, np.asarray(seen.table.columns[name])[start:stop]):
                    return None
            taken[local] = True
            previous = int(local[-1])
        rows.append(Rows.of(taken, first))
    rows += [Rows.of(np.zeros(each.entries, np.bool_), firsts[-1]) for each in indexes[len(rows) :]]
    return rows


def _agree(index: FileIndex, name: str, entries: Array, values: Array) -> bool:
    """Whether a column has these values in some entries, in ascending order."""
    begin, end = int(entries[0]), int(entries[-1]) + 1
    for start in range(begin, end, _CHUNK):
        first, last = np.searchsorted(entries, [start, start + _CHUNK])
        if first < last:
            stored = _column(index, name, start, min(start + _CHUNK, end))[entries[first:last] - start]
            found = values[first:last]
            if not np.all((stored == found) | ((stored != stored) & (found != found))):  # NaN is NaN
                return False
    return True


def _column(index: FileIndex, name: str, start: int, stop: int) -> Array:
    out = np.empty(stop - start, index.dtype(name))
    for _ in root.read(index, [name], start, stop, lambda _: out, Scratch(), Event()):
        pass
    return out


def _files(samples: Sequence[str]) -> tuple[Location, ...] | None:
    """Return the files that ROOT's names of samples stand for; None where they are no files."""
    found = [_file(sample) for sample in samples]
    return None if None in found or not found else tuple(each for each in found if each is not None)


def _file(sample: str) -> Location | None:
    """Return what ROOT's ``path/tree`` stands for: the tree's name may have folders, too."""
    parts = sample.split("/")
    for end in range(len(parts) - 1, 0, -1):
        path, tree = "/".join(parts[:end]), "/".join(parts[end:])
        if "://" in path or os.path.isfile(path):
            try:
                [location] = expand([path], tree)
                root.types(location)
            except RootfeedError:
                continue
            return location
    return None


def _likely(node: Any, defined: Sequence[str]) -> list[str]:
    """Return stored columns of types with which entries are probably told apart."""
    names = [str(name) for name in node.GetColumnNames()]
    types = {name: type_of(kind_of(node, name)) for name in names if name not in defined}
    places = {
        name: _ORDER.index(type_.dtype)
        for name, type_ in types.items()
        if type_ and type_.kind == "scalar" and type_.dtype
    }
    return sorted(places, key=lambda name: places[name])[:_WITNESSES]


def _telling(file: Location, defined: Sequence[str], among: Sequence[str] | None = None) -> list[str]:
    """Return stored columns of one number per entry that tell entries apart; none where none do."""
    _, types = root.types(file)
    names = [
        name
        for name, type_ in types.items()
        if type_.kind == "scalar" and name not in defined and (among is None or name in among)
    ]
    names.sort(key=lambda name: -np.dtype(types[name].dtype).itemsize)
    index = root.index(file, names[:_CANDIDATES])
    count = min(index.entries, _SEEN)
    values = {name: _column(index, name, 0, count) for name in index.columns}
    different = {name: len(np.unique(column)) for name, column in values.items()}
    chosen = sorted(different, key=lambda name: -different[name])[:_WITNESSES]
    together = len({*zip(*(values[name].tolist() for name in chosen), strict=True)})
    return chosen if 2 * together > count else []


def _usable(node: Any, names: Sequence[str]) -> list[str]:
    """Return those columns that hold numbers, vectors of numbers, or text."""
    return [name for name in dict.fromkeys(names) if type_of(kind_of(node, name))]
