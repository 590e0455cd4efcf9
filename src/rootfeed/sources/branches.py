"""TTree: from uproot's branches to columns and tables of pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import uproot

from rootfeed.errors import DamagedFileError
from rootfeed.schema import EMBEDDED, Column, ColumnType, Encoding, Pages
from rootfeed.sources.reals import real_encoding

__all__ = ["Origin", "branch_column", "branches"]

_BASE_CLASS = 1  # TBranchElement::fType of a branch that holds a base class
_STORED_DTYPES = {
    "TLeafO": ("?", "?"),
    "TLeafB": ("i1", "u1"),
    "TLeafS": ("i2", "u2"),
    "TLeafI": ("i4", "u4"),
    "TLeafL": ("i8", "u8"),
    "TLeafG": ("i8", "u8"),
    "TLeafF": ("f4", "f4"),
    "TLeafD": ("f8", "f8"),
}
"""Signed and unsigned dtype of a leaf's class."""

_PACKED_LEAVES = {"TLeafF16": True, "TLeafD32": False}
_PACKED_TYPES = {int(uproot.const.kFloat16): True, int(uproot.const.kDouble32): False}
"""Whether a packed real is single (``Float16_t``), by class of leaf and by type of a member."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a column comes from: uproot's branch, its key in the tree, the leaf of a leaf list."""

    branch: Any
    key: str
    leaf: str | None = None
    encoding: Encoding | None = None


def branches(tree: Any) -> Iterator[tuple[str, ColumnType, Origin]]:
    """Yield each branch, or each leaf of a leaf list, with its name and type."""
    listing = [
        (key, branch, _branch_name(branch))
        for key, branch in tree.iteritems(recursive=True, full_paths=True)
    ]
    uses = Counter(name for _, _, name in listing)
    for key, branch, column in listing:
        name = column if uses[column] == 1 else key
        origin = Origin(branch, key)
        if any(_packed(branch, leaf) is not None for leaf in branch.member("fLeaves")):
            yield from _packed_columns(name, origin)
            continue
        try:
            interpretation = branch.interpretation
        except Exception:  # uproot raises whatever its parsers meet in exotic streamers
            yield name, ColumnType("unknown to uproot", "other"), origin
            continue
        if type(interpretation) is uproot.interpretation.numerical.AsDtype:
            yield from _plain_columns(name, origin, interpretation)
        elif isinstance(interpretation, uproot.interpretation.grouped.AsGrouped):
            continue  # a split object: its members are columns of their own
        else:
            yield name, ColumnType(str(branch.typename), _kind(interpretation)), origin


def _plain_columns(
    name: str, origin: Origin, interpretation: Any
) -> Iterator[tuple[str, ColumnType, Origin]]:
    stored = interpretation.from_dtype
    if not stored.fields:
        encoding = Encoding("swapped", stored.newbyteorder("="))
        yield name, _numpy_type(interpretation.to_dtype), replace(origin, encoding=encoding)
        return
    for leaf, (dtype, place, *_) in stored.fields.items():
        encoding = Encoding(
            "swapped", dtype.newbyteorder("="), stride=int(stored.itemsize), place=int(place)
        )
        yield f"{name}.{leaf}", _numpy_type(dtype), replace(origin, leaf=leaf, encoding=encoding)


def _packed(branch: Any, leaf: Any) -> bool | None:
    """Tell whether a leaf is a ``Float16_t`` (True), a ``Double32_t`` (False), or neither (None)."""
    if leaf.member("fLeafCount") is not None:
        return None
    if leaf.classname == "TLeafElement":
        return _PACKED_TYPES.get(int(leaf.member("fType")))
    return _PACKED_LEAVES.get(leaf.classname)


def _packed_columns(name: str, origin: Origin) -> Iterator[tuple[str, ColumnType, Origin]]:
    """Yield the leaves of a branch of which at least one is a packed real."""
    leaves = origin.branch.member("fLeaves")
    laid_out: list[tuple[str, ColumnType, Encoding]] = []
    place = 0
    for leaf in leaves:
        type_, encoding = _leaf_layout(origin.branch, leaf)
        if encoding is None or leaf.member("fLeafCount") is not None:
            yield name, ColumnType("packed reals of undefined layout", "other"), origin
            return
        elements = int(leaf.member("fLen"))
        if elements != 1:
            type_ = ColumnType(f"{type_}[{elements}]", "vector")
        laid_out.append((leaf.member("fName"), type_, replace(encoding, place=place)))
        place += elements * encoding.page_bytes(1)
    if len(laid_out) == 1:
        yield name, laid_out[0][1], replace(origin, encoding=laid_out[0][2])
        return
    for leaf_name, type_, encoding in laid_out:
        leaf_origin = replace(origin, leaf=leaf_name, encoding=replace(encoding, stride=place))
        yield f"{name}.{leaf_name}", type_, leaf_origin


def _leaf_layout(branch: Any, leaf: Any) -> tuple[ColumnType, Encoding | None]:
    """Return type and encoding of one element of a leaf."""
    single = _packed(branch, leaf)
    if single is None:
        dtypes = _STORED_DTYPES.get(leaf.classname)
        if dtypes is None:
            return ColumnType(leaf.classname, "other"), None
        dtype = np.dtype(dtypes[bool(leaf.member("fIsUnsigned"))])
        return _numpy_type(dtype), Encoding("swapped", dtype)
    streamed = leaf.classname == "TLeafElement"
    title = branch.streamer.title if streamed and branch.streamer else leaf.member("fTitle")
    type_ = _numpy_type(np.dtype(np.float32 if single else np.float64))
    return type_, real_encoding(str(title), single=single)


def _branch_name(branch: Any) -> str:
    """Return the name that RDataFrame gives a branch: ``object.member``, base classes left out.

    In a branch whose own name ends with a dot, ROOT stores the members' full names.
    """
    name = str(branch.name)
    parent = branch.parent
    while isinstance(parent, uproot.behaviors.TBranch.TBranch):
        prefix = parent.name.rstrip(".") + "."
        base_class = parent.member("fType", none_if_missing=True) == _BASE_CLASS
        if not base_class and not name.startswith(prefix):
            name = prefix + name
        parent = parent.parent
    return name


def _kind(interpretation: Any) -> Any:
    if isinstance(interpretation, uproot.interpretation.jagged.AsJagged):
        return "vector"
    if isinstance(interpretation, uproot.interpretation.strings.AsStrings):
        return "text"
    return "other"


def _numpy_type(dtype: np.dtype[Any]) -> ColumnType:
    base, shape = dtype.subdtype or (dtype, ())
    if shape:
        return ColumnType(f"{base.newbyteorder('=')}{list(shape)}", "vector")
    if base.kind not in "biuf":
        return ColumnType(str(dtype), "other")
    return ColumnType(str(base.newbyteorder("=")), "scalar", base.newbyteorder("="))


def branch_column(
    where: str, tree: Any, entries: int, name: str, type_: ColumnType, origin: Origin
) -> Column:
    """Return a branch's table of baskets.

    Parameters
    ----------
    where : str
        File and tree, for messages.
    tree : object
        uproot's.
    entries : int
        Of the tree.
    name : str
    type_ : ColumnType
    origin : Origin

    Raises
    ------
    DamagedFileError
        Where the branch does not cover all entries.
    """
    branch, encoding = origin.branch, origin.encoding
    if type_.kind != "scalar" or encoding is None:
        return Column(name, type_, None, origin.key, origin.leaf)
    if branch.num_entries != entries:
        raise DamagedFileError(
            f"{where}: column {name!r} has {branch.num_entries} entries, the tree has {entries}: it "
            "was not filled at every entry. Leave it out."
        )
    embedded = list(branch.embedded_baskets)
    normal = int(branch.num_baskets) - len(embedded)
    bounds = np.asarray(branch.entry_offsets, np.int64)
    offset = np.full(len(bounds) - 1, EMBEDDED, np.int64)
    stored = np.zeros(len(bounds) - 1, np.int64)
    offset[:normal] = np.asarray(branch.member("fBasketSeek")[:normal], np.int64)
    stored[:normal] = np.asarray(branch.member("fBasketBytes")[:normal], np.int64)
    if np.any(offset[:normal] <= 0):
        raise DamagedFileError(
            f"{where}: column {name!r} has baskets without a position. Copy or produce the file again."
        )
    keep = np.flatnonzero(np.diff(bounds) != 0)
    position = {int(page): place for place, page in enumerate(keep)}
    pages = Pages(
        bounds=np.append(bounds[keep], bounds[-1]),
        offset=offset[keep],
        stored_bytes=stored[keep],
        encoding=np.zeros(len(keep), np.uint8),
        checksum=np.zeros(len(keep), np.bool_),
        encodings=(encoding,),
        embedded={
            position[normal + i]: bytes(basket.data)
            for i, basket in enumerate(embedded)
            if normal + i in position
        },
    )
    return Column(name, type_, pages, origin.key, origin.leaf)
