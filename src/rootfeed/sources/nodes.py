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
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NamedTuple

import numpy as np

from rootfeed.errors import ArgumentError, RootfeedError, UnsupportedColumnError
from rootfeed.schema import Array, ColumnType, FileIndex, Jagged, Texts
from rootfeed.sources import root
from rootfeed.sources.arrays import ArraysLocation, Table, identity_of
from rootfeed.sources.joined import TAKEN, JoinedLocation, Rows
from rootfeed.sources.paths import Location, expand
from rootfeed.sources.scratch import Scratch

__all__ = ["Located", "is_node", "locate"]

_ENTRY = "rdfentry_"
_SAMPLE = "number of the sample"
_CHUNK = 1 << 20  # entries that are looked at together
_WITNESSES = 2

_NODE = re.compile(r"ROOT::(RDataFrame|RDF::RInterface<.*)")
_DTYPES = {
    **dict.fromkeys(("double", "Double_t"), "f8"),
    **dict.fromkeys(("float", "Float_t"), "f4"),
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
"""NumPy's types of C++'s where ROOT runs; those first of which few entries have equal values."""
_NUMBER = rf"(?:std::)?({'|'.join(sorted(_DTYPES, key=len, reverse=True))})"
_SCALAR = re.compile(rf"(?:const )?{_NUMBER}")
_VECTOR = re.compile(rf"(?:ROOT::(?:VecOps::)?RVec|(?:std::)?vector)<{_NUMBER} ?>")
_ARRAY = re.compile(rf"(?:std::)?array<{_NUMBER}, ?(\d+)[uUlL]* ?>")
_TEXT = re.compile(r"(?:std::)?string")

_HELPERS = r"""
#pragma cling optimize(2)
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>
namespace rootfeed_nodes {
class File {
   std::FILE *fFile;
   std::string fPath;
   std::vector<char> fBuffer;
   std::size_t fUsed = 0;
   void Store(const void *data, std::size_t size) {
      if (std::fwrite(data, 1, size, fFile) != size)
         throw std::runtime_error("cannot write to " + fPath + ": is the disk full?");
   }
public:
   explicit File(const std::string &path)
      : fFile(std::fopen(path.c_str(), "wb")), fPath(path), fBuffer(1 << 17) {
      if (!fFile)
         throw std::runtime_error("cannot write to " + path);
      std::setbuf(fFile, nullptr);
   }
   File(const File &) = delete;
   ~File() { if (fFile) std::fclose(fFile); }
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
   File fValues, fEnds;
   std::int64_t fEnd = 0;
public:
   explicit Column(const std::string &path) : fValues(path + ".values"), fEnds(path + ".ends") {}
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
      fEnds.Write(&fEnd, sizeof fEnd);
   }
   void Flush() { fValues.Flush(); fEnds.Flush(); }
};
}  // namespace rootfeed_nodes
"""

_PASS = """
#pragma cling optimize(2)
namespace rootfeed_nodes {{
class Pass_{number} : public ROOT::Detail::RDF::RActionImpl<Pass_{number}> {{
   std::shared_ptr<std::deque<Column>> fColumns;
   std::shared_ptr<std::vector<std::string>> fSamples;
public:
   using Result_t = std::vector<std::string>;
   Pass_{number}(const std::string &folder, std::size_t count)
      : fColumns(std::make_shared<std::deque<Column>>()), fSamples(std::make_shared<Result_t>()) {{
      for (std::size_t i = 0; i < count; ++i)
         fColumns->emplace_back(folder + "/" + std::to_string(i));
   }}
   std::shared_ptr<Result_t> GetResultPtr() const {{ return fSamples; }}
   void Initialize() {{}}
   void InitTask(TTreeReader *, unsigned int) {{}}
   void Exec(unsigned int{parameters}) {{
      auto &columns = *fColumns;
      columns[0].Put(static_cast<int>(fSamples->size()) - 1);
      {puts}
   }}
   void Finalize() {{
      for (auto &each : *fColumns)
         each.Flush();
   }}
   std::string GetActionName() {{ return "rootfeed"; }}
   ROOT::RDF::SampleCallback_t GetSampleCallback() final {{
      return [samples = fSamples](unsigned int, const ROOT::RDF::RSampleInfo &info) {{
         samples->push_back(info.AsString());
      }};
   }}
}};
std::vector<std::string> pass_{number}(ROOT::RDF::RNode node, const std::vector<std::string> &names,
                                       const std::string &folder) {{
   return node.Book<{types}>(Pass_{number}(folder, names.size() + 1), names).GetValue();
}}
}}  // namespace rootfeed_nodes
"""

_numbers = itertools.count()
_declared: set[int] = set()


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
    """A table in scratch files, which are mapped into memory: a copy in another process maps them, too.

    Attributes
    ----------
    path : str
        Of the folder.
    folder : Folder or None
        What keeps it, in the process that made it.
    """

    path: str = field(kw_only=True)
    folder: Folder | None = field(kw_only=True)

    def __reduce__(self) -> Any:
        return written, (self.path, tuple(self.types.items()), None, self.identity)


def written(
    path: str,
    types: Sequence[tuple[str, ColumnType]],
    folder: Folder | None = None,
    identity: bytes | None = None,
) -> Written:
    """Return what ROOT has written to a folder: for each column its values, and where vectors end."""
    columns: dict[str, Array | Jagged] = {}
    for number, (name, type_) in enumerate(types):
        dtype = np.dtype(np.uint8) if type_.kind == "text" else type_.dtype
        values = _mapped(f"{path}/{number}.values", dtype)
        if type_.kind == "scalar":
            columns[name] = values
        elif type_.shape:
            columns[name] = Jagged(values, np.arange(0, len(values) + 1, type_.shape[0]))
        else:
            offsets = np.concatenate([[0], _mapped(f"{path}/{number}.ends", np.dtype(np.int64))])
            columns[name] = (Texts if type_.kind == "text" else Jagged)(values, offsets)
    entries = len(next(iter(columns.values())))
    identity = identity_of(columns, dict(types), entries) if identity is None else identity
    return Written(columns, dict(types), entries, identity, path=path, folder=folder)


def _mapped(path: str, dtype: Any) -> Array:
    if not os.path.getsize(path):
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r")


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
    As any result of a node does, this runs what else was booked on it. The scratch files have 20 bytes
    for each entry that passes, and the values of definitions, in the folder for temporary files
    (``TMPDIR``).
    """
    if node.GetNSlots() > 1:
        raise ArgumentError(
            "the RDataFrame was made with implicit multi-threading, in which ROOT does not tell which "
            "entries its rows are. Make it after ROOT.DisableImplicitMT(): rootfeed has its own threads."
        )
    with _failing():
        defined = [str(name) for name in node.GetDefinedColumnNames()]
        found = None
        if not defined and not node.GetFilterNames().size():
            found = _alone(node)
        return found or _joined(node, defined) or _copied(node)


@contextmanager
def _failing() -> Iterator[None]:
    """Tell what ROOT throws as an error of ours."""
    try:
        yield
    except (RootfeedError, OSError):
        raise
    except Exception as error:
        raise ArgumentError(f"ROOT cannot run the RDataFrame: {error}") from error


def _alone(node: Any) -> Located | None:
    """Return the node's files, if its rows are all of their entries. ROOT reads no column for this."""
    table, samples = _run(node, [_ENTRY])
    files = _files(samples)
    if files is None or table.entries != sum(root.index(file, []).entries for file in files):
        return None
    return Located(files, None, _ordered(node, root.types(files[0])[1]))


def _joined(node: Any, defined: Sequence[str]) -> Located | None:
    """Return the node's files, joined with what ROOT computes; None where its rows are not theirs."""
    names = _usable(node, defined)
    witnesses = _telling(node, defined)
    table, samples = _run(node, [*names, _ENTRY, *witnesses])
    files = _files(samples)
    if files is None:
        return None
    _, known = root.types(files[0])
    witnesses = [name for name in witnesses if name in known]  # a friend's is not
    rows = _matched(table, files, witnesses) if witnesses else None
    if rows is None:
        return None
    other = ArraysLocation(table.path, None, table=table)
    locations = tuple(
        JoinedLocation(file.path, file.object_path, other=other, rows=each, names=names)
        for file, each in zip(files, rows, strict=True)
    )
    return Located(locations, TAKEN, _ordered(node, [*known, *names]))


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
    table, _ = _run(node, names)
    return Located((ArraysLocation("ROOT's RDataFrame", None, table=table),), None, tuple(names))


def _matched(table: Table, files: Sequence[Location], witnesses: Sequence[str]) -> list[Rows] | None:
    """Return which entries of each file the rows are; None where they are not.

    A row is the entry of a file whose number follows from ROOT's, if some stored columns, the witnesses,
    have the same values in both: where ROOT goes by a list of entries, for example, they have not.
    """
    indexes = [root.index(file, list(witnesses)) for file in files]
    starts = np.cumsum([0, *(each.entries for each in indexes)])
    entries, samples = (table.columns[name] for name in (_ENTRY, _SAMPLE))
    assert isinstance(entries, np.ndarray)
    assert isinstance(samples, np.ndarray)
    firsts = np.searchsorted(samples, np.arange(len(files) + 1))
    rows = []
    for number, index in enumerate(indexes):
        first, last = int(firsts[number]), int(firsts[number + 1])
        local = entries[first:last].astype(np.int64) - starts[number]
        if np.any(np.diff(local) <= 0) or np.any(samples[first:last] != number):
            return None
        if last > first and not 0 <= local[0] <= local[-1] < index.entries:
            return None
        for name in witnesses:
            if not _agree(index, name, local, np.asarray(table.columns[name])[first:last]):
                return None
        rows.append(Rows.of(local, index.entries, first))
    return rows if firsts[-1] == table.entries else None


def _agree(index: FileIndex, name: str, entries: Array, values: Array) -> bool:
    """Whether a column has these values in some entries, in ascending order."""
    for start in range(0, index.entries, _CHUNK):
        stop = min(start + _CHUNK, index.entries)
        first, last = np.searchsorted(entries, [start, stop])
        if first < last:
            stored = _column(index, name, start, stop)[entries[first:last] - start]
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


def _telling(node: Any, defined: Sequence[str]) -> list[str]:
    """Return some stored columns of one number per entry, those that tell most entries apart."""
    names = [str(name) for name in node.GetColumnNames()]
    kinds = {
        name: match[1]
        for name in names
        if name.isidentifier()
        and name not in defined
        and (match := _SCALAR.fullmatch(_kind(node, name)))
    }
    return sorted(kinds, key=lambda name: list(_DTYPES).index(kinds[name]))[:_WITNESSES]


def _usable(node: Any, names: Sequence[str]) -> list[str]:
    """Return those columns that hold numbers, vectors of numbers, or text."""
    return [name for name in dict.fromkeys(names) if name.isidentifier() and _type(_kind(node, name))]


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


def _run(node: Any, names: Sequence[str]) -> tuple[Written, list[str]]:
    """Let ROOT go through a node and write some columns.

    Returns
    -------
    Written
        These columns, and the number of each row's sample.
    list of str
        What ROOT calls its samples.
    """
    module: Any = sys.modules["ROOT"]
    kinds = [_kind(node, name).removeprefix("const ") for name in names]
    number = next(_numbers)
    source = _PASS.format(
        number=number,
        types=", ".join(kinds),
        parameters="".join(f", const {kind} &a{i}" for i, kind in enumerate(kinds)),
        puts=" ".join(f"columns[{i + 1}].Put(a{i});" for i in range(len(kinds))),
    )
    if id(module) not in _declared:
        _declare(module, _HELPERS)
        _declared.add(id(module))
    _declare(module, source)
    run = getattr(module.rootfeed_nodes, f"pass_{number}")
    run.__release_gil__ = True
    folder = Folder()
    samples = run(module.RDF.AsRNode(node), list(names), folder.path)
    types = [(_SAMPLE, ColumnType("int", "scalar", np.dtype(np.int32)))]
    types += [(name, type_) for name, kind in zip(names, kinds, strict=True) if (type_ := _type(kind))]
    return written(folder.path, types, folder), [str(sample) for sample in samples]


def _declare(module: Any, source: str) -> None:
    if not module.gInterpreter.Declare(source):
        raise RuntimeError("the interpreter does not compile what reads its rows")
