"""TTrees written by ROOT: layouts of branches, baskets, clusters and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .environment import create_file, load_root
from .values import Columns, any_values, generator, reals_between


@dataclass(frozen=True)
class Tree:
    """How a tree is to be laid out.

    Parameters
    ----------
    name
        The tree's name, with its directories: `"directory/events"`.
    cluster_entries
        Entries in a cluster (`TTree::SetAutoFlush`).
    basket_bytes
        Room of a basket in bytes, before compression. Where it is small, columns' baskets end in
        different places.
    embedded
        Leave the baskets that are not full inside the branches, as a job does that ends before it
        flushes them.
    """

    name: str = "events"
    cluster_entries: int = 1000
    basket_bytes: int = 2000
    embedded: bool = False


class Filler:
    """Feeds a tree: copies the bytes of arrays, entry by entry, to the addresses of branches."""

    def __init__(self, tree: Any, basket_bytes: int) -> None:
        self.tree = tree
        self.basket_bytes = basket_bytes
        self.rows = load_root().rootfeed_test.Rows()
        self.kept: list[NDArray[Any]] = []  # ROOT knows only the addresses of these

    def branch(self, name: str, leaves: str, values: NDArray[Any]) -> None:
        """Add a branch whose leaf list is `leaves`; `values` are plain or structured."""
        values = np.ascontiguousarray(values)
        place = np.zeros(1, values.dtype)
        self.tree.Branch(name, place, leaves, self.basket_bytes)
        self.copy(values, place.ctypes.data)
        self.kept.append(place)

    def object(self, name: str, class_name: str, members: Mapping[str, NDArray[Any]]) -> None:
        """Add a split object of a class of `helpers.cpp`; a nested member is `outer.inner`."""
        helpers = load_root().rootfeed_test
        address = helpers.add_object(self.tree, name, class_name, self.basket_bytes, 99)
        for member, values in members.items():
            outer, _, inner = member.partition(".")
            offset = helpers.member_offset(class_name, outer)
            if inner:
                offset += helpers.member_offset("rootfeed_test::Point", inner)
            self.copy(np.ascontiguousarray(values), address + offset)

    def copy(self, values: NDArray[Any], address: int) -> None:
        """Let each entry of `values` be copied to `address` before the tree is filled."""
        self.kept.append(values)
        self.rows.add(values.ctypes.data, address, values.itemsize)

    def fill(self, start: int, stop: int, cluster_entries: int) -> None:
        """Fill entries `[start, stop)`, in clusters of `cluster_entries`."""
        self.tree.SetAutoFlush(cluster_entries)
        first = min(stop, start + cluster_entries)
        load_root().rootfeed_test.fill_tree(self.tree, self.rows, start, first)
        # After its first cluster ROOT makes each basket as large as a cluster: take that back.
        self.tree.SetBasketSize("*", self.basket_bytes)
        load_root().rootfeed_test.fill_tree(self.tree, self.rows, first, stop)


def directory_of(file: Any, name: str) -> tuple[Any, str]:
    """Return the directory (made if need be) of `directory/name` in a file, and the plain name."""
    *directories, plain = name.split("/")
    place = file
    for directory in directories:
        place = place.GetDirectory(directory) or place.mkdir(directory)
    return place, plain


def new_tree(file: Any, name: str) -> tuple[Any, Any]:
    """Make an empty tree in a file. Returns its directory and the tree."""
    place, plain = directory_of(file, name)
    place.cd()
    tree = load_root().TTree(plain, "written for tests of rootfeed")
    tree.SetDirectory(place)
    return place, tree


def write_leaves(
    path: Path | str, leaves: Mapping[str, str], columns: Columns, compression: str, layout: Tree
) -> Columns:
    """Write a tree with one branch per column, whose leaf lists are given. Returns the columns."""
    file = create_file(path, compression)
    place, tree = new_tree(file, layout.name)
    filler = Filler(tree, layout.basket_bytes)
    for name, values in columns.items():
        filler.branch(name, leaves[name], values)
    entries = len(next(iter(columns.values())))
    filler.fill(0, entries, layout.cluster_entries)
    finish(file, place, tree, layout)
    return columns


def finish(file: Any, place: Any, tree: Any, layout: Tree) -> None:
    """Write the tree's own record and close the file."""
    place.cd()
    if layout.embedded:
        load_root().rootfeed_test.write_embedded(place, tree)
    else:
        tree.Write()
    file.Close()


@dataclass(frozen=True)
class Leaf:
    """A column of one leaf.

    Parameters
    ----------
    name
        The branch's and the leaf's name.
    code
        The leaf's type in a leaf list.
    dtype
        The NumPy type of the value in memory.
    limits
        The range of the values.
    """

    name: str
    code: str
    dtype: str
    limits: tuple[float, float] | None = None


#: One leaf of every fixed-width type.
FLAT_LEAVES = (
    Leaf("boolean", "O", "bool"),
    Leaf("int8", "B", "int8"),
    Leaf("uint8", "b", "uint8"),
    Leaf("int16", "S", "int16"),
    Leaf("uint16", "s", "uint16"),
    Leaf("int32", "I", "int32"),
    Leaf("uint32", "i", "uint32"),
    Leaf("int64", "L", "int64"),
    Leaf("uint64", "l", "uint64"),
    Leaf("long64", "G", "int64"),
    Leaf("ulong64", "g", "uint64"),
    Leaf("float32", "F", "float32"),
    Leaf("float64", "D", "float64"),
    # Without a range: Float16_t keeps 8 bits of exponent and 12 of mantissa, Double32_t a float32.
    Leaf("float16", "f", "float32"),
    Leaf("double32", "d", "float64"),
    # With bits only: 8 bits of exponent and so many of mantissa.
    Leaf("float16_bits10", "f[0,0,10]", "float32"),
    Leaf("double32_bits14", "d[0,0,14]", "float64"),
    Leaf("double32_bits2", "d[0,0,2]", "float64"),
    # With a range: an unsigned integer of 32 bits, of which `nbits` (32 by default) are used.
    Leaf("float16_range9", "f[-10,10,9]", "float32", (-10.0, 10.0)),
    Leaf("float16_range", "f[0,100]", "float32", (0.0, 100.0)),
    Leaf("double32_range20", "d[-10,10,20]", "float64", (-10.0, 10.0)),
    Leaf("double32_range31", "d[0,1,31]", "float64", (0.0, 1.0)),
    Leaf("double32_range", "d[-pi,pi]", "float64", (-np.pi, np.pi)),
    Leaf("double32_range3", "d[1,2,3]", "float64", (1.0, 2.0)),
)


def flat_columns(entries: int, seed: int = 0, leaves: tuple[Leaf, ...] = FLAT_LEAVES) -> Columns:
    """Return the values that `flat_ttree` writes: name to array of shape `(entries,)`."""
    columns: Columns = {}
    for leaf in leaves:
        random = generator(seed, "tree", leaf.name)
        if leaf.limits is None:
            columns[leaf.name] = any_values(leaf.dtype, entries, random)
        else:
            columns[leaf.name] = reals_between(leaf.dtype, *leaf.limits, entries, random)
    return columns


def flat_ttree(
    path: Path | str,
    entries: int,
    *,
    compression: str = "zstd",
    cluster_entries: int = 1000,
    basket_bytes: int = 2000,
    seed: int = 0,
    name: str = "events",
    embedded: bool = False,
) -> Columns:
    """Write a TTree with one column of every fixed-width leaf type (`FLAT_LEAVES`).

    Returns the values that were given to ROOT; those of `Float16_t`, `Double32_t` lose precision on
    their way, so compare readings with `read_with_root`.
    """
    columns = flat_columns(entries, seed)
    leaves = {leaf.name: f"{leaf.name}/{leaf.code}" for leaf in FLAT_LEAVES}
    layout = Tree(name, cluster_entries, basket_bytes, embedded)
    return write_leaves(path, leaves, columns, compression, layout)


# ------------------------------------------------------------------------------------- odd branches


def leaf_lists(path: Path | str, entries: int = 2500, compression: str = "zstd") -> Columns:
    """Write branches of several leaves, and one of one leaf that has another name than its branch.

    `mixed` has leaves that C++ would align and TTree does not, `sorted` the widest leaves first,
    `repeated` leaves that all have one type, and `renamed` the leaf `value`. In memory and in the
    file the leaves follow each other without padding.
    """
    lists = {
        "mixed": ("flag/O:energy/D:n/S:pt/F:letter/B:id/L", "?,f8,i2,f4,i1,i8"),
        "sorted": ("x/F:n/I:count/s:low/b:flag/O", "f4,i4,u2,u1,?"),
        "repeated": ("px/F:py:pz", "f4,f4,f4"),
        "renamed": ("value/F", "f4"),
    }
    columns: Columns = {}
    for name, (leaves, formats) in lists.items():
        names = [leaf.split("/")[0] for leaf in leaves.split(":")]
        dtype = np.dtype({"names": names, "formats": formats.split(",")})
        values = np.zeros(entries, dtype)
        for leaf in names:
            values[leaf] = any_values(dtype[leaf], entries, generator(0, name, leaf))
        columns[name] = values if len(names) > 1 else values[names[0]].copy()
    write_leaves(
        path, {name: leaves for name, (leaves, _) in lists.items()}, columns, compression, Tree()
    )
    return columns


#: The members of the class `rootfeed_test::Members`: name and NumPy type in memory; in C++ order.
MEMBERS = {
    "number": "int32",
    "weight": "float32",
    "flag": "bool",
    "letter": "int8",
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "long64": "int64",
    "ulong64": "uint64",
    "float32": "float32",
    "float64": "float64",
    "double32": "float64",
    "double32_range20": "float64",
    "double32_range": "float64",
    "double32_bits14": "float64",
    "float16": "float32",
    "float16_range9": "float32",
    "float16_bits10": "float32",
    "plain": "int32",
    "scoped": "int32",
    "narrow": "int8",
    "plain_short": "int16",
    "unsigned_": "uint16",
    "point.x": "float32",
    "point.y": "float64",
}
MEMBER_LIMITS = {
    "double32_range20": (-10.0, 10.0),
    "double32_range": (-np.pi, np.pi),
    "float16_range9": (0.0, 10.0),
}


def member_columns(entries: int, seed: int = 0) -> Columns:
    """Return values for every member of `rootfeed_test::Members`."""
    columns: Columns = {}
    for name, dtype in MEMBERS.items():
        random = generator(seed, "member", name)
        if name in MEMBER_LIMITS:
            columns[name] = reals_between(dtype, *MEMBER_LIMITS[name], entries, random)
        else:
            columns[name] = any_values(dtype, entries, random)
    return columns


def split_class(path: Path | str, entries: int = 2500, compression: str = "zstd") -> Columns:
    """Write one class twice, as `event.` (members named after it too) and `other` (without).

    It has a base class, a nested class, enumerations of several widths and all scalar types.
    """
    file = create_file(path, compression)
    place, tree = new_tree(file, "events")
    filler = Filler(tree, 2000)
    columns = member_columns(entries)
    filler.object("event.", "rootfeed_test::Members", columns)
    filler.object("other", "rootfeed_test::Members", member_columns(entries, seed=1))
    filler.fill(0, entries, 1000)
    finish(file, place, tree, Tree())
    return columns


def tuples(path: Path | str, entries: int = 2500, compression: str = "zstd") -> Columns:
    """Write a `TNtuple` named `singles` (float32) and a `TNtupleD` named `doubles` (float64)."""
    root = load_root()
    file = create_file(path, compression)
    columns: Columns = {}
    for name, kind, c_type, dtype in [
        ("singles", "TNtuple", "float", "f4"),
        ("doubles", "TNtupleD", "double", "f8"),
    ]:
        axes = [any_values(dtype, entries, generator(0, name, axis)) for axis in "xyz"]
        values = columns[name] = np.ascontiguousarray(np.stack(axes, axis=1))
        write = root.rootfeed_test.write_tuple[kind, c_type]
        write(file, name, "x:y:z", values.ctypes.data, entries, 3)
    file.Close()
    return columns


# ---------------------------------------------------------------------------------------- odd files


def small_columns(entries: int, seed: int) -> Columns:
    """Return two columns, for cases where the types do not matter."""
    return {
        "number": np.arange(entries, dtype=np.int32) + 1_000_000 * seed,
        "energy": any_values("float32", entries, generator(seed, "energy")),
    }


SMALL_LEAVES = {"number": "number/I", "energy": "energy/F"}


def two_trees(path: Path | str, compression: str = "zstd") -> None:
    """Write `first` (1500 entries) and `directory/second` (700), which differ in their branches."""
    file = create_file(path, compression)
    for name, entries, seed in [("first", 1500, 0), ("directory/second", 700, 1)]:
        place, tree = new_tree(file, name)
        filler = Filler(tree, 1000)
        for column, values in small_columns(entries, seed).items():
            filler.branch(column + "_2" * seed, SMALL_LEAVES[column], values)
        filler.fill(0, entries, 400)
        place.cd()
        tree.Write()
    file.Close()


def two_cycles(path: Path | str, compression: str = "zstd") -> None:
    """Write `events;1` (600 entries) and, the same tree filled on, `events;2` (1000 entries)."""
    file = create_file(path, compression)
    _, tree = new_tree(file, "events")
    filler = Filler(tree, 1000)
    for column, values in small_columns(1000, 0).items():
        filler.branch(column, SMALL_LEAVES[column], values)
    filler.fill(0, 600, 250)
    tree.Write()
    filler.fill(600, 1000, 250)
    tree.Write()
    file.Close()


def no_tree(path: Path | str) -> None:
    """Write a file that holds a histogram and a named text, but neither tree nor ntuple."""
    root = load_root()
    file = create_file(path, "zlib")
    root.TNamed("note", "no tree here").Write()
    histogram = root.TH1F("histogram", "no tree either", 4, 0.0, 1.0)
    histogram.Write()
    file.Close()


def large_basket(path: Path | str, compression: str) -> Columns:
    """Write 2.5 million float64 into one basket of 20 MB, which ROOT compresses in two pieces.

    A piece holds at most 16 MiB - 1 bytes. The column `value` has few distinct values, so that it
    compresses; `number` is int64 in a basket of its own.
    """
    entries = 2_500_000
    random = generator(0, "large")
    columns: Columns = {
        "value": random.integers(0, 1000, entries).astype(np.float64) / 8.0,
        "number": random.integers(-(2**20), 2**20, entries) << 20,
    }
    leaves = {"value": "value/D", "number": "number/L"}
    return write_leaves(path, leaves, columns, compression, Tree("events", entries + 1, 64_000_000))
