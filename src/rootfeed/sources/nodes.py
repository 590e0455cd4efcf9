"""ROOT's own RDataFrame: what its nodes compute, by one pass through ROOT, as files.

A node without definitions and cuts is nothing but its files. Any other one is run once: ROOT writes
which entries pass, and what is defined, to a scratch file, and stored columns are read from their own
files afterwards. Where the entries of these files cannot be told, ROOT writes all columns.

Nothing of ROOT is imported here: who has a node has imported it. What is used of it is public.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple

import numpy as np
import xxhash

from rootfeed.errors import ArgumentError, RootfeedError, UnsupportedColumnError
from rootfeed.schema import Array, FileIndex, Jagged
from rootfeed.sources import root
from rootfeed.sources.joined import TAKEN, JoinedLocation, Rows
from rootfeed.sources.paths import Location, expand
from rootfeed.sources.scratch import Scratch

__all__ = ["Located", "ScratchLocation", "is_node", "locate"]

_ENTRY = "rootfeed_entry"
_SAMPLE = "rootfeed_sample"
_WITNESSES = tuple(f"rootfeed_witness_{number}" for number in range(4))
_HELPERS = (_ENTRY, _SAMPLE, *_WITNESSES)
_TREE = "rows"

_CHUNK = 1 << 20  # rows that are looked at together

_NODE = re.compile(r"ROOT::(RDataFrame|RDF::RInterface<.*)")
_NUMBER = (
    r"(bool|char|((un)?signed )?(char|short|int|long|long long)|unsigned|float|double|s?size_t"
    r"|(std::)?u?int(8|16|32|64)_t|(Bool|U?Char|U?Short|U?Int|U?Long|U?Long64|Float|Double)_t)"
)
_WRITABLE = re.compile(
    rf"(const )?({_NUMBER}|(std::)?string|(ROOT::(VecOps::)?RVec|(std::)?vector)<{_NUMBER}>"
    rf"|(std::)?array<{_NUMBER}, ?\d+u?l?>)"
)

_TELLING = (
    "double",
    "Double_t",
    "float",
    "Float_t",
    "long",
    "Long64_t",
    "ULong64_t",
    "int",
    "Int_t",
    "UInt_t",
)
"""Types of which few entries have the same value, in this order."""

_RECORDER = """
#include <map>
#include <string>
#include <vector>
namespace rootfeed_nodes {
struct Sample { std::string id; unsigned long long start, stop; };
std::map<int, std::vector<Sample>> passes;
int sample(int pass, const ROOT::RDF::RSampleInfo &info) {
   auto &samples = passes[pass];
   samples.push_back({info.AsString(), info.EntryRange().first, info.EntryRange().second});
   return static_cast<int>(samples.size()) - 1;
}
}  // namespace rootfeed_nodes
"""

_passes = itertools.count()
_declared: set[int] = set()


class Sample(NamedTuple):
    """A file, as ROOT names it, with the range of its entries that ROOT went through."""

    id: str
    start: int
    stop: int


class Located(NamedTuple):
    """Where the entries of a node are.

    Attributes
    ----------
    locations : tuple of Location
    taken : str or None
        The column that says which entries pass; None for all.
    names : tuple of str or None
        Its columns; None for all.
    """

    locations: tuple[Location, ...]
    taken: str | None = None
    names: tuple[str, ...] | None = None


class Folder:
    """A folder that is removed when the process that made it needs it no longer."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="rootfeed-")
        weakref.finalize(self, _remove, self.path, os.getpid())

    def __reduce__(self) -> Any:
        return str, (self.path,)  # who gets a copy does not own the folder


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # not in a forked child
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class ScratchLocation(Location):
    """A file in a folder that lives as long as this.

    Attributes
    ----------
    identity : bytes
        16 bytes that follow from what it holds: its own UUID is another one each time.
    """

    identity: bytes = field(kw_only=True)
    folder: Any = field(kw_only=True, repr=False, compare=False)


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
    As any result of a node does, this runs what else was booked on it. The scratch file has 12 bytes an
    entry that passes, and the values of definitions, uncompressed, in the folder for temporary files
    (``TMPDIR``).
    """
    if node.GetNSlots() > 1:
        raise ArgumentError(
            "the RDataFrame was made with implicit multi-threading, in which ROOT does not tell which "
            "entries its rows are. Make it after ROOT.DisableImplicitMT(): rootfeed has its own threads."
        )
    with _failing():
        defined = [str(name) for name in node.GetDefinedColumnNames()]
        if not defined and not node.GetFilterNames().size():
            samples, count = _counted(node)
            files = _files(samples)
            if files is not None and count == sum(_entries(files)):
                return Located(files)
        usable = _writable(node, defined)
        found = _joined(node, usable)
        return _copied(node) if found is None else found


@contextmanager
def _failing() -> Iterator[None]:
    """Tell what ROOT throws as an error of ours."""
    try:
        yield
    except (RootfeedError, KeyboardInterrupt):
        raise
    except Exception as error:
        raise ArgumentError(f"ROOT cannot run the RDataFrame: {error}") from error


def _counted(node: Any) -> tuple[list[Sample], int]:
    """Return the files that a node goes through, and its number of entries. It reads no column."""
    key = _recorder()
    count = int(node.DefinePerSample(_SAMPLE, _record(key)).Count().GetValue())
    return _recorded(key), count


def _joined(node: Any, names: Sequence[str]) -> Located | None:
    """Return the node's files joined with what ROOT computes; None where that cannot be had."""
    key = _recorder()
    witnesses = dict(zip(_WITNESSES, _telling(node), strict=False))
    made = node.DefinePerSample(_SAMPLE, _record(key)).Define(_ENTRY, "rdfentry_")
    for helper, name in witnesses.items():
        made = made.Define(helper, name)
    helpers = [_SAMPLE, _ENTRY, *witnesses]
    folder = Folder()
    path = _written(made, [*names, *helpers], folder)
    samples = _recorded(key)
    files = _files(samples)
    if files is None:
        return None
    _, known = root.types(files[0])
    witnesses = {
        helper: name for helper, name in witnesses.items() if name in known
    }  # a friend's is not
    if not witnesses:
        return None
    columns = root.index(Location(path, _TREE), [*names, *helpers])
    matched = _matched(columns, files, witnesses, names)
    if matched is None:
        return None
    rows, identity = matched
    other = ScratchLocation(path, _TREE, identity=identity, folder=folder)
    locations = tuple(
        JoinedLocation(
            file.path,
            file.object_path,
            other=other,
            rows=each,
            identity=xxhash.xxh3_128_digest(identity + root.index(file, []).identity),
            hidden=_HELPERS,
        )
        for file, each in zip(files, rows, strict=True)
    )
    stored = [name for name in known if name not in names]
    return Located(locations, TAKEN, (*stored, *names))


def _copied(node: Any) -> Located:
    """Return a file to which ROOT has written all columns of a node."""
    folder = Folder()
    names = _writable(node, [str(name) for name in node.GetColumnNames()])
    if not names:
        raise UnsupportedColumnError("the RDataFrame has no column of numbers, of vectors or of text.")
    path = _written(node, names, folder)
    index = root.index(Location(path, _TREE), names)
    digest = xxhash.xxh3_128()
    for _ in _chunks(index, names, digest):
        pass
    return Located((ScratchLocation(path, _TREE, identity=digest.digest(), folder=folder),))


def _matched(
    index: FileIndex, files: Sequence[Location], witnesses: Mapping[str, str], names: Sequence[str]
) -> tuple[list[Rows], bytes] | None:
    """Return which entries of each file the rows are, and what identifies them; None where they are not.

    A row is the entry of a file whose number follows from ROOT's, if some stored columns, the witnesses,
    have the same values in both: where ROOT goes by a list of entries, for example, they have not.
    """
    indexes = [root.index(file, list(witnesses.values())) for file in files]
    starts = np.cumsum([0, *(each.entries for each in indexes)])
    taken = [np.zeros(each.entries, np.bool_) for each in indexes]
    digest = xxhash.xxh3_128()
    last = -1
    for values in _chunks(index, [*names, _SAMPLE, _ENTRY, *witnesses], digest):
        numbers = values[_ENTRY].astype(np.int64)
        sample = values[_SAMPLE]
        if np.any(np.diff(numbers, prepend=last) <= 0):
            return None
        last = int(numbers[-1])
        for number in np.unique(sample).tolist():
            here = sample == number
            local = numbers[here] - starts[number]
            if local[0] < 0 or local[-1] >= indexes[number].entries:
                return None
            for helper, name in witnesses.items():
                if not _agree(indexes[number], name, local, values[helper][here]):
                    return None
            taken[number][local] = True
    firsts = np.cumsum([0, *(np.count_nonzero(each) for each in taken)])
    if firsts[-1] != index.entries:
        return None
    rows = [Rows.of(each, int(first)) for each, first in zip(taken, firsts, strict=False)]
    return rows, digest.digest()


def _column(index: FileIndex, name: str, start: int, stop: int) -> Array:
    out = np.empty(stop - start, index.dtype(name))
    for _ in root.read(index, [name], start, stop, lambda _: out, Scratch(), Event()):
        pass
    return out


def _agree(index: FileIndex, name: str, entries: Array, values: Array) -> bool:
    """Whether a column has these values in some entries, in ascending order."""
    for start in range(0, index.entries, _CHUNK):
        stop = min(start + _CHUNK, index.entries)
        first, last = np.searchsorted(entries, [start, stop])
        if first == last:
            continue
        stored = _column(index, name, start, stop)
        one, other = stored[entries[first:last] - start], values[first:last]
        if not np.all((one == other) | ((one != one) & (other != other))):  # NaN is NaN
            return False
    return True


def _chunks(index: FileIndex, names: Sequence[str], digest: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all rows of a file, some at a time, and add what they hold to a digest."""
    digest.update(repr([(name, index.columns[name].type) for name in names]).encode())
    for start in range(0, index.entries, _CHUNK):
        stop = min(start + _CHUNK, index.entries)

        def out_for(name: str, count: int = stop - start) -> Array:
            return np.empty(count, index.dtype(name))

        found = dict(root.read(index, names, start, stop, out_for, Scratch(), Event()))
        for values in found.values():
            for part in (values.values, values.offsets) if isinstance(values, Jagged) else (values,):
                digest.update(np.ascontiguousarray(part).view(np.uint8).data)
        yield found


def _entries(files: Sequence[Location]) -> list[int]:
    return [root.index(file, []).entries for file in files]


def _files(samples: Sequence[Sample]) -> tuple[Location, ...] | None:
    """Return the files that ROOT's names of samples stand for; None where they are no files."""
    found: list[Location] = []
    for sample in samples:
        location = _file(sample.id)
        if location is None:
            return None
        found.append(location)
    return tuple(found) or None


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


def _telling(node: Any) -> list[str]:
    """Return stored columns of one number per entry, those first that tell most entries apart."""
    defined = {str(name) for name in node.GetDefinedColumnNames()}
    names = [str(name) for name in node.GetColumnNames()]
    types = {name: str(node.GetColumnType(name)) for name in names if name.isidentifier()}
    found = [name for name in types if name not in defined and re.fullmatch(_NUMBER, types[name])]
    return sorted(found, key=lambda name: [*_TELLING, types[name]].index(types[name]))


def _writable(node: Any, names: Sequence[str]) -> list[str]:
    """Return those columns whose types we read."""
    return [
        name
        for name in dict.fromkeys(names)
        if name.isidentifier() and _WRITABLE.fullmatch(str(node.GetColumnType(name)))
    ]


def _written(node: Any, names: Sequence[str], folder: Folder) -> str:
    """Let ROOT write columns of a node to an ntuple, uncompressed; return its path."""
    module: Any = sys.modules["ROOT"]
    path = os.path.join(folder.path, "rows.root")
    options = module.RDF.RSnapshotOptions()
    options.fOutputFormat = module.RDF.ESnapshotOutputFormat.kRNTuple
    options.fCompressionLevel = 0
    node.Snapshot(_TREE, path, list(names), options)
    return path


def _recorder() -> int:
    """Return the number of a new pass, for which ROOT can note its samples."""
    module: Any = sys.modules["ROOT"]
    if id(module) not in _declared:
        if not module.gInterpreter.Declare(_RECORDER):
            raise RuntimeError("ROOT does not compile what notes its samples")
        _declared.add(id(module))
    return next(_passes)


def _record(key: int) -> str:
    return f"rootfeed_nodes::sample({key}, rdfsampleinfo_)"


def _recorded(key: int) -> list[Sample]:
    passes = sys.modules["ROOT"].rootfeed_nodes.passes
    found = [Sample(str(each.id), int(each.start), int(each.stop)) for each in passes[key]]
    passes.erase(key)
    return found
