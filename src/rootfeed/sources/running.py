"""One pass of ROOT through a node of its RDataFrame, which writes some columns to a scratch file.

Nothing of ROOT is imported here: who has a node has imported it. What is used of it is public.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rootfeed.errors import ArgumentError, MissingFileError
from rootfeed.schema import Array, ColumnType, Jagged, Texts
from rootfeed.sources.arrays import Table, identity_of

__all__ = ["ENTRY", "Seen", "Written", "kind_of", "run", "run_first", "type_of", "written"]

ENTRY = "rdfentry_"
"""What ROOT calls the number of an entry."""

_ALIGNMENT = 64  # bytes

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
_NUMBER = rf"(?:std::)?({'|'.join(sorted(_DTYPES, key=len, reverse=True))})"
_SCALAR = re.compile(rf"(?:const )?{_NUMBER}")
_VECTOR = re.compile(rf"(?:ROOT::(?:VecOps::)?RVec|(?:std::)?vector)<{_NUMBER} ?>")
_ARRAY = re.compile(rf"(?:std::)?array<{_NUMBER}, ?(\d+)[uUlL]* ?>")
_TEXT = re.compile(r"(?:std::)?string")

_FUNCTION = """
namespace rootfeed_nodes {{
Rows {name}(ROOT::RDF::RNode node, const std::vector<std::string> &names,
            const std::vector<int> &vectors, const std::string &folder) {{
   return run<{types}>(node, names, vectors, folder);
}}
}}
"""

_HELPERS = Path(__file__).with_name("running.h")

_passes: dict[tuple[str, ...], str] = {}
"""Names of the functions that ROOT has compiled, by the types of the columns that they write."""


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


def run(node: Any, names: Sequence[str]) -> Seen:
    """Let ROOT go through a node and write some columns.

    Raises
    ------
    ArgumentError
        Where ROOT cannot.
    """
    module: Any = sys.modules["ROOT"]
    kinds = [kind_of(node, name).removeprefix("const ") for name in names]
    types = [(name, type_) for name, kind in zip(names, kinds, strict=True) if (type_ := type_of(kind))]
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


def run_first(node: Any, count: int, names: Sequence[str]) -> Seen:
    """Let ROOT write columns of the first rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "RDataFrame stopped processing")  # which is what we ask for
        return run(node.Range(count), names)


def _compiled(module: Any, kinds: tuple[str, ...]) -> Any:
    """Return ROOT's function that writes columns of some types; it is compiled once."""
    name = _passes.get(kinds)
    if name is None:
        name = f"run_{secrets.token_hex(8)}"  # whoever else has declared some in this process
        source = _FUNCTION.format(name=name, types=", ".join(kinds))
        if not module.gInterpreter.Declare(_HELPERS.read_text(encoding="utf-8") + source):
            raise RuntimeError("its interpreter does not compile what writes the rows")
        _passes[kinds] = name
    return getattr(module.rootfeed_nodes, name)


def kind_of(node: Any, name: str) -> str:
    """Return what C++ calls the type of a node's column."""
    return "ULong64_t" if name == ENTRY else str(node.GetColumnType(name))


def type_of(kind: str) -> ColumnType | None:
    """Return our type of what C++ calls so; None where it is none of ours."""
    if match := _SCALAR.fullmatch(kind):
        return ColumnType(kind, "scalar", np.dtype(_DTYPES[match[1]]))
    if match := _VECTOR.fullmatch(kind):
        return ColumnType(kind, "vector", np.dtype(_DTYPES[match[1]]))
    if match := _ARRAY.fullmatch(kind):
        return ColumnType(kind, "vector", np.dtype(_DTYPES[match[1]]), (int(match[2]),))
    return ColumnType(kind, "text") if _TEXT.fullmatch(kind) else None
