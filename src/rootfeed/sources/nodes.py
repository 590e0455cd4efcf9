"""ROOT's own RDataFrame: what its nodes compute, by one pass through ROOT.

A node without definitions and cuts is nothing but its files. Any other one is run once: ROOT writes
which entries pass, and what is defined, to scratch files, and stored columns are read from their own
files afterwards. Where ROOT's rows are not known to be entries of these files, it writes all columns.

Nothing of ROOT is imported here: who has a node has imported it. What is used of it is public.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from rootfeed.errors import ArgumentError, MissingFileError, RootfeedError, UnsupportedColumnError
from rootfeed.processes import ForkLock
from rootfeed.schema import Array, ColumnType, FileIndex, Jagged, Texts
from rootfeed.sources import root
from rootfeed.sources.arrays import ArraysLocation, Table, identity_of
from rootfeed.sources.joined import TAKEN, JoinedLocation, Rows
from rootfeed.sources.paths import Location, expand
from rootfeed.sources.scratch import Scratch

__all__ = ["Located", "is_node", "locate"]

_ENTRY = "rdfentry_"
_CHUNK = 1 << 20  # entries that are looked at together
_SEEN = 1000  # entries by which it is judged whether witnesses tell entries apart
_WITNESSES = 2
_CANDIDATES = 50
_ALIGNMENT = 64  # bytes

_NODE = re.compile(r"ROOT::(RDataFrame|RDF::RInterface<.*)")
_DTYPES = {
    **dict.fromkeys(("double", "Double_t", "Double32_t"), "f8"),
    **dict.fromkeys(("float", "Float_t", "Float16_t"), "f4"),
    **dict.fromkeys(("long", "Long_t", "long long", "Long64_t", "int64_t", "ssize_t"), "i8"),
    **dict.fromkeys(
        ("unsigned long", "ULong_t", "unsigned long long", "ULong64_t", "uint64_t", "size_t"), "u8"
    ),
    **dict.fromkeys(("int", "Int_t", "int32_t"), "i4"),
    **dict.fromkeys(("unsigned int", "unsigned", "UInt_t", "uint32_t"), "u4"),
    **dict.fromkeys(("short", "Short_t", "int16_t"), "i2"),
    **dict.fromkeys(("unsigned short", "UShort_t", "uint16_t"), "u2"),
    **dict.fromkeys(("char", "Char_t", "signed char", "int8_t"), "i1"),
    **dict.fromkeys(("unsigned char", "UChar_t", "uint8_t"), "u1"),
    **dict.fromkeys(("bool", "Bool_t"), "?"),
}
"""NumPy's types of C++'s where ROOT runs."""
_ORDER = ("u8", "i8", "f8", "f4", "u4", "i4", "u2", "i2", "u1", "i1", "?")
"""Those first of which few entries have equal values: numbers of events, reals."""
_NUMBER = rf"(?:std::)?({'|'.join(sorted(_DTYPES, key=len, reverse=True))})"
_SCALAR = re.compile(rf"(?:const )?{_NUMBER}")
_VECTOR = re.compile(rf"(?:ROOT::(?:VecOps::)?RVec|(?:std::)?vector)<{_NUMBER} ?>")
_ARRAY = re.compile(rf"(?:std::)?array<{_NUMBER}, ?(\d+)[uUlL]* ?>")
_TEXT = re.compile(r"(?:std::)?string")

_HELPERS = r"""
#ifndef ROOTFEED_NODES
#define ROOTFEED_NODES
#pragma cling optimize(2)
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
namespace rootfeed_nodes {
// A file that is open only while something is appended to it: there may be more columns than open files.
class File {
   std::string fPath;
   std::vector<char> fBuffer;
   std::size_t fUsed = 0;
   void Store(const void *data, std::size_t size) {
      std::FILE *file = std::fopen(fPath.c_str(), "ab");
      bool good = file && std::fwrite(data, 1, size, file) == size;
      if (file)
         good = std::fclose(file) == 0 && good;
      if (!good)
         throw std::runtime_error("cannot write to " + fPath + ": " + std::strerror(errno));
   }
public:
   explicit File(const std::string &path) : fPath(path), fBuffer(1 << 15) {}
   void Write(const void *data, std::size_t size) {
      if (fUsed + size > fBuffer.size())
         Flush();
      if (size > fBuffer.size())
         return Store(data, size);
      std::memcpy(fBuffer.data() + fUsed, data, size);
      fUsed += size;
   }
   void Flush() {
      Store(fBuffer.data(), fUsed);
      fUsed = 0;
   }
};
class Column {
   File fValues;
   std::unique_ptr<File> fEnds; // of vectors: where they end, after a 0
   std::int64_t fEnd = 0;
public:
   Column(const std::string &path, bool isVector) : fValues(path + ".values") {
      if (isVector) {
         fEnds = std::make_unique<File>(path + ".ends");
         fEnds->Write(&fEnd, sizeof fEnd);
      }
   }
   template <typename T> void Put(const T &value) { fValues.Write(&value, sizeof value); }
   template <typename T> void Put(const ROOT::RVec<T> &some) { PutAll(some.data(), some.size()); }
   template <typename T> void Put(const std::vector<T> &some) { PutAll(some.data(), some.size()); }
   void Put(const std::vector<bool> &some) {
      ROOT::RVec<bool> plain(some.begin(), some.end());
      PutAll(plain.data(), plain.size());
   }
   void Put(const std::string &text) { PutAll(text.data(), text.size()); }
   template <typename T> void PutAll(const T *values, std::size_t count) {
      fValues.Write(values, count * sizeof(T));
      fEnd += count;
      fEnds->Write(&fEnd, sizeof fEnd);
   }
   void Flush() {
      fValues.Flush();
      if (fEnds)
         fEnds->Flush();
   }
};
using Columns = std::deque<Column>;
struct Rows {
   std::vector<std::string> samples;   // ROOT's names of them
   std::vector<std::uint64_t> starts;  // the first row of each
   std::uint64_t count = 0;
};
template <typename... Ts>
class Write : public ROOT::Detail::RDF::RActionImpl<Write<Ts...>> {
   std::shared_ptr<Columns> fColumns;
   std::shared_ptr<Rows> fRows = std::make_shared<Rows>();
   template <std::size_t... Is>
   void Put(std::index_sequence<Is...>, const Ts &...values) { ((*fColumns)[Is].Put(values), ...); }
public:
   using Result_t = Rows;
   explicit Write(std::shared_ptr<Columns> columns) : fColumns(std::move(columns)) {}
   std::shared_ptr<Rows> GetResultPtr() const { return fRows; }
   void Initialize() {}
   void InitTask(TTreeReader *, unsigned int) {}
   void Exec(unsigned int, const Ts &...values) {
      Put(std::index_sequence_for<Ts...>{}, values...);
      ++fRows->count;
   }
   void Finalize() {} // must not throw: `run` writes the rest
   std::string GetActionName() { return "rootfeed"; }
   ROOT::RDF::SampleCallback_t GetSampleCallback() final {
      return [rows = fRows](unsigned int, const ROOT::RDF::RSampleInfo &info) {
         rows->samples.push_back(info.AsString());
         rows->starts.push_back(rows->count);
      };
   }
};
template <typename... Ts>
Rows run(ROOT::RDF::RNode node, const std::vector<std::string> &names, const std::vector<int> &vectors,
         const std::string &folder) {
   auto columns = std::make_shared<Columns>();
   for (std::size_t i = 0; i < names.size(); ++i)
      columns->emplace_back(folder + "/" + std::to_string(i), vectors[i] != 0);
   Rows rows = node.Book<Ts...>(Write<Ts...>(columns), names).GetValue();
   for (auto &each : *columns)
      each.Flush();
   return rows;
}
}  // namespace rootfeed_nodes
#endif
"""

_FUNCTION = """
namespace rootfeed_nodes {{
Rows {name}(ROOT::RDF::RNode node, const std::vector<std::string> &names,
            const std::vector<int> &vectors, const std::string &folder) {{
   return run<{types}>(node, names, vectors, folder);
}}
}}
"""

_passes: dict[tuple[str, ...], str] = {}
"""Names of the functions that ROOT has compiled, by the types of the columns that they write."""

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


class Folder:
    """A folder that is removed when the process that made it needs it no longer."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="rootfeed-")
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(path: str, process: int) -> None:
    if os.getpid() == process:  # not in a forked child
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class Written(Table):
    """A table in a scratch file, which is mapped into memory: a copy in another process maps it, too.

    Attributes
    ----------
    path : str
    places : tuple of (int, int)
        Where the values of each column begin in the file, and where its vectors' ends do.
    folder : Folder or None
        What keeps the file, in the process that made it.
    """

    path: str = field(kw_only=True)
    places: tuple[tuple[int, int], ...] = field(kw_only=True)
    folder: Folder | None = field(kw_only=True)

    def __reduce__(self) -> Any:
        types = tuple(self.types.items())
        return written, (self.path, types, self.places, self.entries, None, self.identity)

    def __deepcopy__(self, memo: Any) -> Written:
        return self  # nothing of it changes


def written(
    path: str,
    types: Sequence[tuple[str, ColumnType]],
    places: tuple[tuple[int, int], ...],
    entries: int,
    folder: Folder | None = None,
    identity: bytes | None = None,
) -> Written:
    """Return what ROOT has written, as a table."""
    if not os.path.exists(path):
        raise MissingFileError(
            f"{path} is gone: it held what ROOT computed, for as long as the frame lived that it was "
            "computed for. Keep that frame, or open the RDataFrame again."
        )
    whole = np.memmap(path, np.uint8, "r") if os.path.getsize(path) else np.empty(0, np.uint8)

    def mapped(place: int, dtype: Any, count: int) -> Array:
        return whole[place : place + count * np.dtype(dtype).itemsize].view(dtype)

    columns: dict[str, Array | Jagged] = {}
    for (name, type_), (values, ends) in zip(types, places, strict=True):
        dtype = np.uint8 if type_.kind == "text" else type_.dtype
        if type_.kind == "scalar":
            columns[name] = mapped(values, dtype, entries)
        elif type_.shape:
            offsets = np.arange(entries + 1) * type_.shape[0]
            columns[name] = Jagged(mapped(values, dtype, int(offsets[-1])), offsets)
        else:
            offsets = mapped(ends, np.int64, entries + 1)
            made = Texts if type_.kind == "text" else Jagged
            columns[name] = made(mapped(values, dtype, int(offsets[-1])), offsets)
    identity = identity_of(columns, dict(types), entries) if identity is None else identity
    return Written(columns, dict(types), entries, identity, path=path, places=places, folder=folder)


def _gathered(folder: str, columns: int) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Put the files of all columns into one, which takes one of the files that can be open."""
    path = os.path.join(folder, "rows")
    places = []
    with open(path, "wb") as out:
        for number in range(columns):
            place = []
            for kind in ("values", "ends"):
                out.seek(-(-out.tell() // _ALIGNMENT) * _ALIGNMENT)
                place.append(out.tell())
                piece = os.path.join(folder, f"{number}.{kind}")
                if os.path.exists(piece):
                    with open(piece, "rb") as file:
                        shutil.copyfileobj(file, out, 1 << 20)
                    os.remove(piece)
            places.append((place[0], place[1]))
    return path, tuple(places)


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
    seen = _run(node, [])
    witnesses = _telling(seen.files[0], []) if seen.files else []
    if seen.files is None or not witnesses:
        return _copied(node)
    indexes = [root.index(file, witnesses) for file in seen.files]
    if seen.table.entries != sum(index.entries for index in indexes):
        return None
    # An older cycle of a tree goes by the same name.
    first = _first(node, _SEEN, [_ENTRY, *witnesses])
    files = first.files or ()
    if files != seen.files[: len(files)] or _matched(first, indexes, witnesses) is None:
        return None
    return Located(seen.files, None, _ordered(node, root.types(seen.files[0])[1]))


def _joined(node: Any, defined: Sequence[str], witnesses: Sequence[str]) -> Located | None:
    """Return the node's files, joined with what ROOT computes; None where its rows are not theirs."""
    names = _usable(node, defined)
    seen = _run(node, [*names, _ENTRY, *witnesses])
    if seen.files is None:
        return None
    if not (telling := _telling(seen.files[0], defined, witnesses)):
        # Those that were likely to tell entries apart do not. Others may.
        others = _telling(seen.files[0], defined)
        return _joined(node, defined, others) if others else None
    witnesses = telling
    _, known = root.types(seen.files[0])
    rows = _matched(seen, [root.index(file, list(witnesses)) for file in seen.files], witnesses)
    if rows is None:
        return None
    other = ArraysLocation(seen.table.path, None, table=seen.table)
    locations = tuple(
        JoinedLocation(file.path, file.object_path, other=other, rows=each, names=tuple(names))
        for file, each in zip(seen.files, rows, strict=True)
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
    table = _run(node, names).table
    return Located((ArraysLocation("ROOT's RDataFrame", None, table=table),), None, tuple(names))


def _matched(seen: Seen, indexes: Sequence[FileIndex], witnesses: Sequence[str]) -> list[Rows] | None:
    """Return which entries of each file the rows are; None where they are not.

    A row is the entry of a file whose number follows from ROOT's, if some stored columns, the witnesses,
    have the same values in both: where ROOT goes by a list of entries, for example, they have not.
    """
    starts = np.cumsum([0, *(each.entries for each in indexes)])
    firsts = [*seen.starts, seen.table.entries]
    numbers = seen.table.columns[_ENTRY]
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
    kinds = {name: _kind(node, name) for name in names if name not in defined}
    dtypes = {name: _DTYPES[match[1]] for name in kinds if (match := _SCALAR.fullmatch(kinds[name]))}
    return sorted(dtypes, key=lambda name: _ORDER.index(dtypes[name]))[:_WITNESSES]


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
    return [name for name in dict.fromkeys(names) if _type(_kind(node, name))]


def _kind(node: Any, name: str) -> str:
    return "ULong64_t" if name == _ENTRY else str(node.GetColumnType(name))


def _type(kind: str) -> ColumnType | None:
    """Return our type of what C++ calls so; None where it is none of ours."""
    if match := _SCALAR.fullmatch(kind):
        return ColumnType(kind, "scalar", np.dtype(_DTYPES[match[1]]))
    if match := _VECTOR.fullmatch(kind):
        return ColumnType(kind, "vector", np.dtype(_DTYPES[match[1]]))
    if match := _ARRAY.fullmatch(kind):
        return ColumnType(kind, "vector", np.dtype(_DTYPES[match[1]]), (int(match[2]),))
    return ColumnType(kind, "text") if _TEXT.fullmatch(kind) else None


class Seen(NamedTuple):
    """What ROOT has written of a node's rows.

    Attributes
    ----------
    table : Written
    samples : list of str
        What ROOT calls its samples.
    starts : list of int
        The first row of each.
    """

    table: Written
    samples: list[str]
    starts: list[int]

    @property
    def files(self) -> tuple[Location, ...] | None:
        """The samples as files; None where they are none."""
        return _files(self.samples)


def _run(node: Any, names: Sequence[str]) -> Seen:
    """Let ROOT go through a node and write some columns.

    Raises
    ------
    ArgumentError
        Where ROOT cannot.
    """
    module: Any = sys.modules["ROOT"]
    kinds = [_kind(node, name).removeprefix("const ") for name in names]
    types = [(name, type_) for name, kind in zip(names, kinds, strict=True) if (type_ := _type(kind))]
    vectors = [int(type_.kind == "text" or (type_.is_jagged and not type_.shape)) for _, type_ in types]
    folder = Folder()
    try:
        rows = _compiled(module, tuple(kinds))(
            module.RDF.AsRNode(node), list(names), vectors, folder.path
        )
    except Exception as error:
        raise ArgumentError(f"ROOT cannot run the RDataFrame: {error}") from error
    path, places = _gathered(folder.path, len(types))
    table = written(path, types, places, int(rows.count), folder)
    return Seen(table, [str(each) for each in rows.samples], [int(each) for each in rows.starts])


def _first(node: Any, count: int, names: Sequence[str]) -> Seen:
    """Let ROOT write columns of the first rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RDataFrame stopped processing")  # which is what we ask for
        return _run(node.Range(count), names)


def _compiled(module: Any, kinds: tuple[str, ...]) -> Any:
    """Return ROOT's function that writes columns of some types; it is compiled once."""
    name = _passes.get(kinds)
    if name is None:
        name = f"run_{secrets.token_hex(8)}"  # whoever else has declared some in this process
        source = _FUNCTION.format(name=name, types=", ".join(kinds))
        if not module.gInterpreter.Declare(_HELPERS + source):
            raise RuntimeError("its interpreter does not compile what writes the rows")
        _passes[kinds] = name
    return getattr(module.rootfeed_nodes, name)
