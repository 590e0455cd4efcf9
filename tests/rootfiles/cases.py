"""The table of cases over which tests are parametrized: what each writes and what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from . import merged, rntuple, rntuple_files, ttree
from .environment import COMPRESSIONS


@dataclass(frozen=True)
class Case:
    """A file written by ROOT.

    Parameters
    ----------
    id
        For pytest's parametrizations.
    format
        `"TTree"` or `"RNTuple"`.
    write
        Writes the file at a path. What it returns is of no concern: compare with `read_with_root`.
    name
        The object in the file, with directories and cycle where it needs them.
    entries
        Its number of entries.
    columns
        ROOT's full name of every scalar column, in ROOT's order, and the NumPy type of its values
        as `read_with_root` gives them.
    shows
        What the case is for.
    large
        The file needs some seconds and 50 MB of memory or more.
    """

    id: str
    format: str
    write: Callable[[Path | str], object]
    name: str
    entries: int
    columns: Mapping[str, str] = field(hash=False)
    shows: str
    large: bool = False


def case(
    id: str,  # pytest's own word
    write: Callable[..., object],
    entries: int,
    columns: Mapping[str, Any],
    shows: str,
    *,
    format: str,
    name: str = "events",
    large: bool = False,
    **options: Any,
) -> Case:
    """Make a case; `options` go to `write`."""
    frozen = MappingProxyType({column: str(dtype) for column, dtype in columns.items()})
    return Case(id, format, partial(write, **options), name, entries, frozen, shows, large)


FLAT_TREE = {leaf.name: leaf.dtype for leaf in ttree.FLAT_LEAVES}
FLAT_NTUPLE = {entry.name: entry.dtype for entry in rntuple.FLAT_FIELDS}
SMALL = {"number": "int32", "energy": "float32"}

tree_case = partial(case, format="TTree")
ntuple_case = partial(case, format="RNTuple")


def flat_tree(id: str, entries: int, shows: str, *, name: str = "events", **options: Any) -> Case:
    """Make a case of `flat_ttree`."""
    return tree_case(
        id,
        partial(ttree.flat_ttree, entries=entries, name=name),
        entries,
        FLAT_TREE,
        shows,
        name=name,
        **options,
    )


def flat_ntuple(id: str, entries: int, shows: str, *, name: str = "events", **options: Any) -> Case:
    """Make a case of `flat_rntuple`."""
    return ntuple_case(
        id,
        partial(rntuple.flat_rntuple, entries=entries, name=name),
        entries,
        FLAT_NTUPLE,
        shows,
        name=name,
        **options,
    )


#: Entries in all, entries in a cluster, and what that shows.
LAYOUTS = (
    (1, 1, "one entry"),
    (20_000, 20_001, "all in one cluster of many pages"),
    (3000, 7, "hundreds of clusters of seven entries, one page each"),
    (5000, 2500, "clusters that end where the entries do"),
)


def flat_cases() -> list[Case]:
    """Return all fixed-width types × formats × compressions × sizes of clusters and pages."""
    cases = []
    for make, kind in [(flat_tree, "tree"), (flat_ntuple, "ntuple")]:
        for compression in COMPRESSIONS:
            shows = f"every fixed-width type, {compression}, pages that end in different places"
            cases.append(make(f"{kind}-flat-{compression}", 2500, shows, compression=compression))
        for compression in ("zlib:9", "zstd:12", "lz4:9", "lzma:1"):
            shows = f"another level of compression: {compression}"
            cases.append(
                make(
                    f"{kind}-flat-{compression.replace(':', '')}",
                    700,
                    shows,
                    compression=compression,
                )
            )
        for entries, cluster_entries, shows in LAYOUTS:
            id = f"{kind}-flat-{entries}-by-{cluster_entries}"
            cases.append(make(id, entries, shows, cluster_entries=cluster_entries, seed=1))
    return cases


def tree_cases() -> list[Case]:
    """Return the odd TTrees."""
    base = "event.rootfeed_test::Base."
    members = {}
    for name, dtype in ttree.MEMBERS.items():
        members[(base if name in ("number", "weight") else "event.") + name] = dtype
    members |= {"other." + name: dtype for name, dtype in ttree.MEMBERS.items()}
    for name in members:
        if name.partition(".")[2] in ("narrow", "plain_short", "unsigned_"):
            members[name] = "int32"  # a TTree stores every enumeration as an int
    leaf_lists = {
        "mixed.flag": "bool",
        "mixed.energy": "float64",
        "mixed.n": "int16",
        "mixed.pt": "float32",
        "mixed.letter": "int8",
        "mixed.id": "int64",
        "sorted.x": "float32",
        "sorted.n": "int32",
        "sorted.count": "uint16",
        "sorted.low": "uint8",
        "sorted.flag": "bool",
        "repeated.px": "float32",
        "repeated.py": "float32",
        "repeated.pz": "float32",
        "renamed": "float32",
    }
    xyz32, xyz64 = dict.fromkeys("xyz", "float32"), dict.fromkeys("xyz", "float64")
    second = {"number_2": "int32", "energy_2": "float32"}
    pieces = {"value": "float64", "number": "int64"}
    return [
        flat_tree(
            "tree-embedded", 2500, "last baskets that are stored inside the branches", embedded=True
        ),
        flat_tree("tree-embedded-only", 50, "no basket but those inside the branches", embedded=True),
        flat_tree("tree-empty", 0, "no entries"),
        flat_tree("tree-in-directory", 300, "a tree two directories deep", name="one/two/events"),
        tree_case(
            "tree-leaf-lists",
            ttree.leaf_lists,
            2500,
            leaf_lists,
            "several leaves interleaved in one basket, and a leaf named unlike its branch",
        ),
        tree_case(
            "tree-split-class",
            ttree.split_class,
            2500,
            members,
            "members of a class, of its base class and of a nested class; enumerations; ranges",
        ),
        tree_case("tree-tntuple", ttree.tuples, 2500, xyz32, "a TNtuple", name="singles"),
        tree_case("tree-tntupled", ttree.tuples, 2500, xyz64, "a TNtupleD", name="doubles"),
        tree_case(
            "tree-two-first", ttree.two_trees, 1500, SMALL, "the first of two trees", name="first"
        ),
        tree_case(
            "tree-two-second",
            ttree.two_trees,
            700,
            second,
            "the second of two trees",
            name="directory/second",
        ),
        tree_case(
            "tree-cycle-old",
            ttree.two_cycles,
            600,
            SMALL,
            "an old cycle of a tree",
            name="events;1",
        ),
        tree_case(
            "tree-cycle-new",
            ttree.two_cycles,
            1000,
            SMALL,
            "the newest cycle of a tree",
            name="events;2",
        ),
        tree_case(
            "tree-merged",
            merged.merged_ttree,
            merged.ENTRIES,
            FLAT_TREE,
            "baskets of five compressions and cluster sizes in one tree",
        ),
        tree_case(
            "tree-large-basket",
            ttree.large_basket,
            2_500_000,
            pieces,
            "baskets of 20 MB, compressed in two pieces",
            compression="zstd",
            large=True,
        ),
        tree_case(
            "tree-large-basket-lz4",
            ttree.large_basket,
            2_500_000,
            pieces,
            "pieces of lz4, each with a checksum",
            compression="lz4",
            large=True,
        ),
    ]


def ntuple_cases() -> list[Case]:
    """Return the odd RNTuples."""
    encoded = {entry.name: entry.dtype for entry in rntuple.encoded_fields()}
    structured = {
        "point.x": "float32",
        "point.y": "float64",
        "record.:_0.number": "int32",
        "record.:_0.weight": "float32",
        "record.x": "float32",
        "record.y": "float64",
        "record.n": "int16",
        "record.flag": "bool",
        "record.narrow": "int8",
        "record.point.x": "float32",
        "record.point.y": "float64",
        "pair._0": "int32",
        "pair._1": "float32",
        "atomic": "int32",
        "narrow": "int8",
        "unsigned_": "uint16",
        "wide": "int64",
        "scoped": "int32",
        "plain": "int32",
        "plain_short": "int16",
    }
    late = {
        "number": "int32",
        "energy": "float32",
        "late": "int32",
        "later": "float64",
        "flag": "bool",
    }
    alternatives = {
        "number": "int32",
        "truncated": "float32",
        "double_": "float64",
        "quantized": "float64",
    }
    alternatives |= {"integer": "int64", "late": "float32"}
    shared = {"zero": "int32", "twin_1": "float32", "twin_2": "float32", "cyclic": "int32"}
    return [
        ntuple_case("ntuple-empty", rntuple_files.no_entries, 0, SMALL, "no entries, no cluster"),
        flat_ntuple(
            "ntuple-in-directory", 300, "an RNTuple two directories deep", name="one/two/events"
        ),
        ntuple_case(
            "ntuple-encodings",
            rntuple.every_encoding,
            2500,
            encoded,
            "every encoding of every scalar; pages of half-used bytes",
        ),
        ntuple_case(
            "ntuple-encodings-uncompressed",
            partial(rntuple.every_encoding, entries=700),
            700,
            encoded,
            "the same without compression",
            compression="none",
            cluster_entries=99,
        ),
        ntuple_case(
            "ntuple-structures",
            rntuple.write_structures,
            2500,
            structured,
            "records, a base class, a pair, std::atomic, enumerations",
        ),
        ntuple_case(
            "ntuple-deferred",
            rntuple_files.deferred,
            3500,
            late,
            "columns that begin later, in the middle of a cluster and between clusters",
        ),
        ntuple_case(
            "ntuple-alternatives",
            rntuple_files.alternatives,
            3500,
            alternatives,
            "fields whose encoding changes from cluster to cluster, one of them deferred",
        ),
        ntuple_case(
            "ntuple-shared-pages",
            rntuple_files.shared_pages,
            4096,
            shared,
            "identical pages of a cluster stored once",
        ),
        ntuple_case(
            "ntuple-sizes",
            rntuple_files.collection_sizes,
            2500,
            {"energy": "float32", "hit_count": "uint64", "e": "float32"},
            "projected fields: the sizes of a collection, a second name for a column",
        ),
        ntuple_case(
            "ntuple-two-first",
            rntuple_files.two_ntuples,
            1500,
            SMALL,
            "the first of two",
            name="first",
        ),
        ntuple_case(
            "ntuple-two-second",
            rntuple_files.two_ntuples,
            700,
            SMALL,
            "the second of two",
            name="directory/second",
        ),
        ntuple_case(
            "ntuple-merged",
            merged.merged_rntuple,
            merged.ENTRIES,
            FLAT_NTUPLE,
            "clusters of five compressions; five cycles, of which the newest counts",
        ),
        ntuple_case(
            "ntuple-merged-union",
            merged.merged_rntuple,
            merged.ENTRIES,
            FLAT_NTUPLE | {"extra": "int16"},
            "a column that only some of the merged files had",
            extra_field=True,
        ),
        ntuple_case(
            "ntuple-large-page",
            rntuple_files.large_page,
            2_500_000,
            {"value": "float64"},
            "a page of 20 MB, compressed in two pieces",
            compression="zstd",
            large=True,
        ),
        ntuple_case(
            "ntuple-large-page-lz4",
            rntuple_files.large_page,
            2_500_000,
            {"value": "float64"},
            "pieces of lz4",
            compression="lz4",
            large=True,
        ),
    ]


CASES: tuple[Case, ...] = (*flat_cases(), *tree_cases(), *ntuple_cases())
