"""Vectors written by ROOT: every type × layout × format, and ROOT's own reading of them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environment import create_file, load_root, load_vectors
from .oracle import class_of, opened
from .rntuple import Writer
from .ttree import Filler, Tree, finish, new_tree
from .values import any_values, generator, reals_between

Array = NDArray[Any]


@dataclass(frozen=True)
class Vector:
    """The values of all entries, and where the entries begin."""

    values: Array
    offsets: Array


Vectors = dict[str, Vector]

#: NumPy type of the elements: code in a leaf list, C++ type in TTrees, type of an RNTuple's field.
TYPES = {
    "bool": ("O", "bool", "bool"),
    "int8": ("B", "char", "std::int8_t"),
    "uint8": ("b", "unsigned char", "std::uint8_t"),
    "int16": ("S", "short", "std::int16_t"),
    "uint16": ("s", "unsigned short", "std::uint16_t"),
    "int32": ("I", "int", "std::int32_t"),
    "uint32": ("i", "unsigned int", "std::uint32_t"),
    "int64": ("L", "Long64_t", "std::int64_t"),
    "uint64": ("l", "ULong64_t", "std::uint64_t"),
    "float32": ("F", "float", "float"),
    "float64": ("D", "double", "double"),
}

#: Packed reals of leaf lists: type in memory and limits of the values.
PACKED = {
    "f": ("float32", None),
    "d": ("float64", None),
    "f[0,0,10]": ("float32", None),
    "d[0,0,14]": ("float64", None),
    "f[-10,10,9]": ("float32", (-10.0, 10.0)),
    "d[-10,10,20]": ("float64", (-10.0, 10.0)),
}


def counts(entries: int, pattern: str, random: np.random.Generator) -> Array:
    """Return how many elements each entry has.

    Patterns are ``few`` (0 to 5), ``rare`` (nearly always none), ``never``, ``long`` (few,
    and now and then 700, more than a page holds).
    """
    found = random.integers(0, 6, entries)
    if pattern == "rare":
        found *= random.random(entries) < 0.02
    elif pattern == "never":
        found[:] = 0
    elif pattern == "long":
        found[random.random(entries) < 0.02] = 700
    return found


def offsets_of(numbers: Array) -> Array:
    return np.concatenate([[0], np.cumsum(numbers)]).astype(np.int64)


def make_vector(dtype: str, offsets: Array, *words: str, limits: Any = None) -> Vector:
    random = generator(0, "vector", *words)
    elements = int(offsets[-1])
    if limits is None:
        return Vector(any_values(dtype, elements, random), offsets)
    return Vector(reals_between(dtype, *limits, elements, random), offsets)


# ------------------------------------------------------------------------------------------------- TTree


class VectorFiller(Filler):
    """Feeds a tree with vectors."""

    def leaves(self, name: str, code: str, vector: Vector, count: str | None) -> None:
        """Add a branch of one array, counted by another branch, or fixed."""
        native, values = load_vectors(), np.ascontiguousarray(vector.values)
        most = int(np.diff(vector.offsets).max(initial=0))
        place = np.zeros(1, np.int32)
        self.kept += [values, vector.offsets, place]
        address = native.add_array(
            self.rows,
            values.ctypes.data,
            vector.offsets.ctypes.data,
            values.itemsize,
            most,
            place.ctypes.data,
        )
        if count is None:
            native.add_leaves(self.tree, name, address, f"{name}[{most}]/{code}", self.basket_bytes)
            return
        if not self.tree.GetBranch(count):
            native.add_leaves(self.tree, count, place.ctypes.data, f"{count}/I", self.basket_bytes)
        native.add_leaves(self.tree, name, address, f"{name}[{count}]/{code}", self.basket_bytes)

    def container(self, name: str, value: str, vector: Vector, template: str) -> None:
        """Add a branch of a C++ container."""
        native, values = load_vectors(), np.ascontiguousarray(vector.values)
        self.kept += [values, vector.offsets]
        container = template.format(value)
        address = native.add_container[container, value](
            self.rows, values.ctypes.data, vector.offsets.ctypes.data
        )
        native.add_branch[container](self.tree, name, address, self.basket_bytes)

    def nested(self, name: str, vector: Vector) -> None:
        """Add a branch of vectors of vectors."""
        native = load_vectors()
        self.kept += [vector.values, vector.offsets]
        address = native.add_nested(self.rows, vector.values.ctypes.data, vector.offsets.ctypes.data)
        native.add_branch["std::vector<std::vector<float>>"](self.tree, name, address, self.basket_bytes)

    def lines(self, name: str, vector: Vector) -> None:
        """Add a split TClonesArray."""
        self.kept += [vector.values, vector.offsets]
        load_vectors().add_lines(
            self.tree,
            self.rows,
            name,
            vector.values.ctypes.data,
            vector.offsets.ctypes.data,
            self.basket_bytes,
        )


def tree_vectors(
    path: Path | str,
    entries: int,
    *,
    compression: str = "zstd",
    cluster_entries: int = 300,
    basket_bytes: int = 1500,
    pattern: str = "few",
    embedded: bool = False,
    positions: bool = True,
) -> Vectors:
    """Write a TTree with vectors in every layout and of every type. Returns what ROOT was given.

    `positions` says whether baskets tell where entries lie: without, ROOT's feature
    ``kGenerateOffsetMap`` is on.
    """
    root = load_root()
    file = create_file(path, compression)
    layout = Tree("events", cluster_entries, basket_bytes, embedded)
    place, tree = new_tree(file, layout.name)
    if not positions:
        features = root.ROOT.TIOFeatures()
        features.Set(root.ROOT.Experimental.EIOFeatures.kGenerateOffsetMap)
        tree.SetIOFeatures(features)
    filler = VectorFiller(tree, basket_bytes)
    vectors: Vectors = {}
    shared = offsets_of(counts(entries, pattern, generator(0, "shared", pattern)))
    triples = offsets_of(np.full(entries, 3))
    for dtype, (code, cpp_type, _) in TYPES.items():
        name = f"leaf_{dtype}"
        vectors[name] = make_vector(dtype, shared, name)
        filler.leaves(name, code, vectors[name], "n")
        name = f"array_{dtype}"
        vectors[name] = make_vector(dtype, triples, name)
        filler.leaves(name, code, vectors[name], None)
        name = f"vector_{dtype}"
        own = offsets_of(counts(entries, pattern, generator(0, name, pattern)))
        vectors[name] = make_vector(dtype, own, name)
        filler.container(name, cpp_type, vectors[name], "std::vector<{}>")
    for number, (code, (dtype, limits)) in enumerate(PACKED.items()):
        for name, offsets, count in [
            (f"packed_{number}", shared, "n"),
            (f"triple_{number}", triples, None),
        ]:
            vectors[name] = make_vector(dtype, offsets, name, limits=limits)
            kind, bracket, rest = code.partition("[")
            filler.leaves(name, kind + bracket + rest, vectors[name], count)
    name = "lines"
    own = offsets_of(counts(entries, pattern, generator(0, name, pattern)))
    vectors["lines.fX1"] = make_vector("float64", own, name)
    filler.lines(name, vectors["lines.fX1"])
    colors = (np.arange(int(own[-1])) % 1000).astype(np.int16)
    vectors["lines.fLineColor"] = Vector(colors, own)
    filler.nested("nested", make_vector("float32", shared, "nested"))
    filler.fill(0, entries, cluster_entries)
    finish(file, place, tree, layout)
    return vectors


# ----------------------------------------------------------------------------------------------- RNTuple

#: Encodings of a vector's elements, beside ROOT's own choice: field, element, bits, limits.
ELEMENT_ENCODINGS = {
    "plain_float": ("float32", "float", "Real32", 0, None),
    "half_float": ("float32", "float", "Real16", 0, None),
    "truncated": ("float32", "float", "Real32Trunc", 17, None),
    "quantized": ("float64", "double", "Real32Quant", 13, (-3.0, 3.0)),
    "narrow": ("float64", "double", "SplitReal32", 0, None),
    "zigzag": ("int64", "std::int64_t", "SplitInt64", 0, None),
    "plain_int": ("int16", "std::int16_t", "Int16", 0, None),
}
OFFSET_ENCODINGS = ("Index32", "Index64", "SplitIndex32", "SplitIndex64")

POINTS = {"x": ("float32", "f4"), "y": ("float64", "f8")}


class VectorWriter(Writer):
    """Writes an RNTuple with vectors."""

    def vector(
        self,
        name: str,
        template: str,
        dtype: str,
        vector: Vector,
        offsets: tuple[str, ...] = (),
        elements: str | None = None,
        bits: int = 0,
        limits: Any = None,
    ) -> None:
        """Add a field of a container, or of an array."""
        native, root = load_vectors(), load_root()
        value = TYPES[dtype][2]
        values = np.ascontiguousarray(vector.values)
        self.kept += [values, vector.offsets]
        type_name = template.format(value)
        if type_name.startswith("std::array"):
            length = int(vector.offsets[1])
            address = native.add_array(
                self.rows,
                values.ctypes.data,
                vector.offsets.ctypes.data,
                values.itemsize,
                length,
                0,
            )
        else:
            address = native.add_container[type_name, value](
                self.rows, values.ctypes.data, vector.offsets.ctypes.data
            )

        def encodings(*names: str) -> Any:
            result = root.std.vector["std::vector<int>"]()
            for each in names:
                number = int(getattr(root.ENTupleColumnType, "k" + each))
                result.push_back(root.std.vector["int"]([number]))
            return result

        low, high = limits or (0.0, 0.0)
        native.add_vector_field(
            self.native,
            name,
            type_name,
            address,
            encodings(*offsets),
            encodings(elements) if elements and not bits else encodings(),
            bits,
            low,
            high,
        )

    def nested(self, name: str, vector: Vector) -> None:
        """Add a field of vectors of vectors."""
        native = load_vectors()
        self.kept += [vector.values, vector.offsets]
        address = native.add_nested(self.rows, vector.values.ctypes.data, vector.offsets.ctypes.data)
        empty = load_root().std.vector["std::vector<int>"]()
        self.native.add(name, "std::vector<std::vector<float>>", address, empty, 0, 0.0, 0.0)

    def points(self, name: str, values: Array, offsets: Array) -> None:
        """Add a field of a vector of records."""
        native = load_vectors()
        self.kept += [values, offsets]
        point = "rootfeed_test::Point"
        container = f"std::vector<{point}>"
        address = native.add_container[container, point](
            self.rows, values.ctypes.data, offsets.ctypes.data
        )
        empty = load_root().std.vector["std::vector<int>"]()
        self.native.add(name, container, address, empty, 0, 0.0, 0.0)


def ntuple_vectors(
    path: Path | str,
    entries: int,
    *,
    compression: str = "zstd",
    cluster_entries: int = 300,
    page_bytes: int = 512,
    pattern: str = "few",
    late: int = 0,
) -> Vectors:
    """Write an RNTuple with vectors in every layout and of every type. Returns what ROOT was given.

    From the entry `late` on there are two fields more, which are empty, or zero, before.
    """
    writer = VectorWriter(compression, page_bytes)
    vectors: Vectors = {}

    def own(name: str) -> Array:
        return offsets_of(counts(entries, pattern, generator(0, name, pattern)))

    for dtype in TYPES:
        for name, template in [
            (f"vector_{dtype}", "std::vector<{}>"),
            (f"rvec_{dtype}", "ROOT::RVec<{}>"),
        ]:
            vectors[name] = make_vector(dtype, own(name), name)
            writer.vector(name, template, dtype, vectors[name])
        name = f"array_{dtype}"
        vectors[name] = make_vector(dtype, offsets_of(np.full(entries, 3)), name)
        writer.vector(name, "std::array<{},3>", dtype, vectors[name])
    for name, (dtype, _, encoding, bits, limits) in ELEMENT_ENCODINGS.items():
        vectors[name] = make_vector(dtype, own(name), name, limits=limits)
        writer.vector(name, "std::vector<{}>", dtype, vectors[name], (), encoding, bits, limits)
    for encoding in OFFSET_ENCODINGS:
        name = f"by_{encoding.lower()}"
        vectors[name] = make_vector("float32", own(name), name)
        writer.vector(name, "std::vector<{}>", "float32", vectors[name], (encoding,))
    offsets = own("points")
    points = np.zeros(int(offsets[-1]), np.dtype([("x", "f4"), ("y", "f8")], align=True))
    for member, (dtype, _) in POINTS.items():
        vector = make_vector(dtype, offsets, "points", member)
        points[member] = vector.values
        vectors[f"points.{member}"] = vector
    writer.points("points", points, offsets)
    writer.nested("nested", make_vector("float32", own("nested"), "nested"))
    writer.native.add_sizes("n_points", "points")
    writer.native.add_alias("also_float32", "std::vector<float>", "vector_float32")
    vectors["also_float32"] = vectors["vector_float32"]
    writer.open(path, "events")
    if late:
        writer.fill(0, late, cluster_entries)
        numbers = counts(entries, pattern, generator(0, "late", pattern))
        numbers[:late] = 0
        vectors["late"] = make_vector("float32", offsets_of(numbers), "late")
        writer.vector("late", "std::vector<{}>", "float32", vectors["late"])
        triples = make_vector("int32", offsets_of(np.full(entries, 3)), "late_array")
        triples.values[: 3 * late] = 0
        vectors["late_array"] = triples
        writer.vector("late_array", "std::array<{},3>", "int32", triples)
    writer.fill(late, entries, cluster_entries)
    writer.close()
    return vectors


# ----------------------------------------------------------------------------------------------- reading


def read_vectors_with_root(path: Path | str, name: str, dtypes: dict[str, str]) -> Vectors:
    """Read vectors with ROOT itself: leaves, `TTreeReaderArray`, `RNTupleView`.

    Parameters
    ----------
    path, name
    dtypes
        NumPy's type of each column's elements in memory.
    """
    native = load_vectors()
    result: Vectors = {}
    with opened(path) as file:
        is_tree = class_of(file, name) != "ROOT::RNTuple"
        tree = file.Get(name) if is_tree else None
        for column, dtype in dtypes.items():
            value = TYPES[dtype][1 if is_tree else 2]
            if not is_tree:
                found = native.read_field_vectors[value](name, str(path), column)
            elif tree.GetBranch(column).ClassName() == "TBranch":
                leaf = tree.GetLeaf(column)
                found = native.read_leaf_vectors(leaf, np.dtype(dtype).itemsize, tree.GetEntries())
            elif dtype == "bool":
                found = native.read_bools(tree, column)
            else:
                found = native.read_branch_vectors[value](tree, column)
            offsets = np.array(found.offsets, np.int64)
            text = ctypes.string_at(found.bytes_address(), found.bytes.size())
            result[column] = Vector(np.frombuffer(text, dtype), offsets)
    return result
