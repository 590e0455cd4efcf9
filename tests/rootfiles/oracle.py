"""What ROOT itself reads from a file: the truth that every other reading is compared with.

Names are ROOT's full names, which `RDataFrame` takes too:

- a TTree branch with one leaf: the branch's name, also where the leaf has another name
  (`RDataFrame` takes `branch.leaf` for it too, but does not list that);
- a leaf of a branch with several: `branch.leaf`;
- a member of a split class: `branch.member`, also where the branch is stored as plain `member`; a
  member of a nested class: `branch.outer.inner`; a member of a base class: `branch.member`, but
  `branch.Base.member` where the branch's own name ends with a dot (`"event."`);
- an RNTuple field: its name; a member of a record: `record.member`; a member of a record's base
  class: `record.:_0.member`; of a `std::pair`: `pair._0`, `pair._1`. Enumerations and `std::atomic`
  keep the field's name: the integer is read from their only subfield, `field._0`.

`RDataFrame` lists more: whole objects, and in a branch `other` without a dot each member also as
plain `member`, where the first of several such branches wins.

Types are the ones that ROOT has in memory: `Float16_t` is float32, `Double32_t` float64, `char` and
`signed char` are int8, `bool` is bool, `std::byte` uint8, `long` int64; an enumeration of an
RNTuple is the integer under it, in a TTree it is always an int32. `std::int8_t` is a field type of
its own in RNTuple, but an enumeration over it is stored as `char`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .environment import load_root
from .values import Columns

#: Type names of leaves and members of TTrees, as ROOT spells them, and NumPy's of them in memory.
TREE_TYPES = {
    "Bool_t": "bool",
    "bool": "bool",
    "Char_t": "int8",
    "char": "int8",
    "signed char": "int8",
    "UChar_t": "uint8",
    "unsigned char": "uint8",
    "Short_t": "int16",
    "short": "int16",
    "UShort_t": "uint16",
    "unsigned short": "uint16",
    "Int_t": "int32",
    "int": "int32",
    "UInt_t": "uint32",
    "unsigned int": "uint32",
    "Long_t": "int64",
    "ULong_t": "uint64",
    "Long64_t": "int64",
    "ULong64_t": "uint64",
    "Float_t": "float32",
    "Double_t": "float64",
    "Float16_t": "float32",
    "Double32_t": "float64",
}

#: Type names of RNTuple fields and the NumPy types they have in memory.
NTUPLE_TYPES = {
    "bool": "bool",
    "char": "int8",
    "std::byte": "uint8",
    "std::int8_t": "int8",
    "std::uint8_t": "uint8",
    "std::int16_t": "int16",
    "std::uint16_t": "uint16",
    "std::int32_t": "int32",
    "std::uint32_t": "uint32",
    "std::int64_t": "int64",
    "std::uint64_t": "uint64",
    "float": "float32",
    "double": "float64",
    "ROOT::RNTupleCardinality<std::uint32_t>": "uint32",
    "ROOT::RNTupleCardinality<std::uint64_t>": "uint64",
}


@contextmanager
def opened(path: Path | str) -> Iterator[Any]:
    """Open a file in ROOT for the length of a `with` block."""
    file = load_root().TFile.Open(str(path))
    try:
        yield file
    finally:
        file.Close()


def full_name(leaf: Any) -> str:
    """Return the name under which the oracle, and `RDataFrame`, know a leaf of a TTree."""
    branch = leaf.GetBranch()
    mother = branch.GetMother()
    name = str(branch.GetName())
    if mother and branch != mother:
        prefix = str(mother.GetName())
        # A trailing dot in the branch's name makes ROOT put it before all its members by itself.
        return name if prefix.endswith(".") else f"{prefix}.{name}"
    if branch.GetNleaves() > 1:
        return f"{name}.{leaf.GetName()}"
    return name


def read_with_root(path: Path | str, name: str, columns: Iterable[str] | None = None) -> Columns:
    """Read columns with ROOT's own `TTree::GetEntry` or `RNTupleView`, bit for bit.

    Parameters
    ----------
    path
        The file.
    name
        The object in it: `"events"`, `"directory/events"`, `"events;1"`.
    columns
        The columns by ROOT's full names (see the module), by default every column of one scalar an
        entry.

    Returns
    -------
    dict
        Name to array of shape `(entries,)`, in ROOT's order, in the type that ROOT has in memory.

    Notes
    -----
    This is not `RDataFrame.AsNumpy` (that is `read_with_rdataframe`), which refuses `char`,
    `std::byte`, `std::atomic` and the enumerations of an RNTuple, reads members of a TTree that are
    enumerations narrower than four bytes together with their neighbours, and compiles code for each
    new type (0.7 s a type). Wherever it gives an answer but those last, the two agree bit for bit.
    """
    with opened(path) as file:
        stored_class = class_of(file, name)
        if stored_class is None:
            raise KeyError(f"ROOT finds no {name!r} in {path}")
        if stored_class != "ROOT::RNTuple":
            return read_tree(file.Get(name), columns)
    return read_ntuple(path, name, columns)


def class_of(file: Any, name: str) -> str | None:
    """Return the class of the object `directory/name;cycle` in an open file."""
    directory, _, plain = name.rpartition("/")
    place = file.GetDirectory(directory) if directory else file
    plain, _, cycle = plain.partition(";")
    key = place.GetKey(plain, int(cycle or 9999)) if place else None
    return str(key.GetClassName()) if key else None


def read_tree(tree: Any, columns: Iterable[str] | None) -> Columns:
    """Read scalar leaves of an open TTree. See `read_with_root`."""
    root = load_root()
    leaves = {}
    for leaf in tree.GetListOfLeaves():
        one_scalar = leaf.GetLeafCount() == root.nullptr and leaf.GetLenStatic() == 1
        if one_scalar and leaf.GetTypeName() in TREE_TYPES:
            leaves[full_name(leaf)] = leaf
    entries = tree.GetEntries()
    result: Columns = {}
    for name in leaves if columns is None else columns:
        leaf = leaves[name]
        values = np.empty(entries, TREE_TYPES[str(root.rootfeed_test.member_type(leaf))])
        root.rootfeed_test.read_leaf(leaf, values.ctypes.data, values.itemsize, entries)
        # ROOT stores every enumeration as Int_t: what a reader without the class must give.
        declared = np.dtype(TREE_TYPES[str(leaf.GetTypeName())])
        result[name] = values if leaf.GetTypeName() != "Int_t" else values.astype(declared)
    return result


def read_ntuple(path: Path | str, name: str, columns: Iterable[str] | None) -> Columns:
    """Read scalar fields of an RNTuple in a file. See `read_with_root`."""
    root = load_root()
    reader = root.rootfeed_test.NtupleReader(name, str(path))
    listed = [str(text) for text in reader.scalars()]
    fields = {shown: pair for shown, *pair in zip(listed[::3], listed[1::3], listed[2::3], strict=True)}
    result: Columns = {}
    for column in fields if columns is None else columns:
        field_name, type_name = fields[column]
        values = np.empty(reader.entries(), NTUPLE_TYPES[type_name])
        reader.read(field_name, type_name, values.ctypes.data, values.itemsize)
        result[column] = values
    return result


def read_with_rdataframe(path: Path | str, name: str, columns: Iterable[str]) -> Columns:
    """Read columns with `RDataFrame.AsNumpy`, as users of ROOT in Python do.

    It gives bool as bool, integers and floats as they are, `Double32_t` as float64, `Float16_t` as
    float32, enumerations of a TTree as int32. See `read_with_root` for what it raises on.
    """
    frame = load_root().RDataFrame(name, str(path))
    return {column: np.asarray(frame.AsNumpy([column])[column]) for column in columns}
