"""TTree: from uproot's branches to columns and tables of pages."""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import uproot

from rootfeed.errors import DamagedFileError
from rootfeed.schema import EMBEDDED, Column, ColumnType, Encoding, Pages
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.reals import real_encoding

__all__ = ["Origin", "branch_column", "branches"]

_TYPICAL_EXPANSION = 4
_POSITION_BYTES = 4
_SHORTEST_KEY_BYTES = 60
_DIMENSION = re.compile(r"\[[^\],]*\]")
_GENERATE_OFFSET_MAP = 1  # a bit of ROOT::TIOFeatures
_BITS = 15  # fType of `TObject::fBits`
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
    """Where a column comes from.

    Attributes
    ----------
    branch : object
        uproot's.
    key : str
        Its key in the tree.
    leaf : str or None
        The leaf of a leaf list.
    encoding : Encoding or None
        None where only uproot reads it.
    length : int
        Elements in each entry of an array; 0 where this is none.
    """

    branch: Any
    key: str
    leaf: str | None = None
    encoding: Encoding | None = None
    length: int = 0


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
            is_list = len(branch.member("fLeaves")) > 1
            yield from (_leaf_list if is_list else _plain_columns)(name, origin, interpretation)
        elif isinstance(interpretation, uproot.interpretation.grouped.AsGrouped):
            continue  # a split object: its members are columns of their own
        elif isinstance(interpretation, uproot.interpretation.jagged.AsJagged):
            yield _jagged_column(name, origin, interpretation)
        elif isinstance(interpretation, uproot.interpretation.strings.AsStrings):
            encoding = Encoding(
                "text" if interpretation.length_bytes == "1-5" else "counted text",
                np.dtype(np.uint8),
                header_bytes=int(interpretation.header_bytes),
            )
            yield name, ColumnType(str(branch.typename), "text"), replace(origin, encoding=encoding)
        else:
            yield name, ColumnType(str(branch.typename), "other"), origin


def _plain_columns(
    name: str, origin: Origin, interpretation: Any
) -> Iterator[tuple[str, ColumnType, Origin]]:
    type_, length = _numpy_type(interpretation.to_dtype)
    encoding = _swapped(interpretation.from_dtype)
    yield name, type_, replace(origin, encoding=encoding, length=length)


def _leaf_list(
    name: str, origin: Origin, interpretation: Any
) -> Iterator[tuple[str, ColumnType, Origin]]:
    """Yield the leaves of a branch that has several: one after another in each entry.

    uproot looks for dimensions that all of them share, and loses others.
    """
    fields = interpretation.from_dtype.base.fields
    laid_out, place = [], 0
    for leaf in origin.branch.member("fLeaves"):
        leaf_name = str(leaf.member("fName"))
        base = fields[leaf_name][0].base
        type_, length = _numpy_type(np.dtype((base, _leaf_shape(leaf))))
        laid_out.append((leaf_name, type_, replace(_swapped(base), place=place), length))
        place += base.itemsize * int(leaf.member("fLen"))
    for leaf_name, type_, encoding, length in laid_out:
        encoding = replace(encoding, stride=place, length=max(1, length))
        leaf_origin = replace(origin, leaf=leaf_name, encoding=encoding, length=length)
        yield f"{name}.{leaf_name}", type_, leaf_origin


def _leaf_shape(leaf: Any) -> tuple[int, ...]:
    """Return the dimensions of a leaf that is an array; none for a number."""
    # Brackets with a comma are a range, the others are dimensions.
    found = [each[1:-1].strip() for each in _DIMENSION.findall(leaf.member("fTitle"))]
    shape, elements = tuple(int(each) for each in found if each.isdecimal()), int(leaf.member("fLen"))
    if shape and math.prod(shape) == elements:
        return shape
    return () if elements == 1 else (elements,)


def _swapped(stored: np.dtype[Any]) -> Encoding:
    return Encoding("swapped", stored.base.newbyteorder("="))


def _jagged_column(name: str, origin: Origin, interpretation: Any) -> tuple[str, ColumnType, Origin]:
    content, text = interpretation.content, str(origin.branch.typename)
    if type(content) is not uproot.interpretation.numerical.AsDtype:
        return name, ColumnType(text, "vector"), origin
    element, _ = _numpy_type(content.to_dtype)
    if element.kind != "scalar":
        return name, ColumnType(text, "vector"), origin
    leaf = origin.branch.member("fLeaves")[0]
    if leaf.member("fType", none_if_missing=True) == _BITS:
        # Of variable width: those of a referenced TObject have two bytes more, which uproot overlooks.
        return name, ColumnType("bits of TObjects", "other"), origin
    encoding = replace(_swapped(content.from_dtype), header_bytes=int(interpretation.header_bytes))
    return name, ColumnType(text, "vector", element.dtype), replace(origin, encoding=encoding)


def _packed(branch: Any, leaf: Any) -> bool | None:
    """Tell whether a leaf is a ``Float16_t`` (True), a ``Double32_t`` (False), or neither (None)."""
    if leaf.classname == "TLeafElement":
        return _PACKED_TYPES.get(int(leaf.member("fType")))
    return _PACKED_LEAVES.get(leaf.classname)


def _packed_columns(name: str, origin: Origin) -> Iterator[tuple[str, ColumnType, Origin]]:
    """Yield the leaves of a branch of which at least one is a packed real."""
    leaves = origin.branch.member("fLeaves")
    laid_out: list[tuple[str, ColumnType, Encoding, int]] = []
    place = 0
    for leaf in leaves:
        type_, encoding = _leaf_layout(origin.branch, leaf)
        counted = leaf.member("fLeafCount") is not None
        if encoding is not None and counted and len(leaves) == 1 and int(leaf.member("fLen")) == 1:
            # uproot takes these for plain reals.
            yield (
                name,
                ColumnType(f"{type_}[]", "vector", type_.dtype),
                replace(origin, encoding=encoding),
            )
            return
        if encoding is None or counted:
            yield name, ColumnType("packed reals of undefined layout", "other"), origin
            return
        elements, length = int(leaf.member("fLen")), 0
        if elements != 1:
            shape, length = _leaf_shape(leaf), elements
            type_ = ColumnType(f"{type_}{list(shape)}", "vector", type_.dtype, shape)
        encoding = replace(encoding, place=place, length=max(1, length))
        laid_out.append((leaf.member("fName"), type_, encoding, length))
        place += elements * encoding.page_bytes(1)
    if len(laid_out) == 1:
        _, type_, encoding, length = laid_out[0]
        yield name, type_, replace(origin, encoding=encoding, length=length)
        return
    for leaf_name, type_, encoding, length in laid_out:
        leaf_origin = replace(
            origin, leaf=leaf_name, encoding=replace(encoding, stride=place), length=length
        )
        yield f"{name}.{leaf_name}", type_, leaf_origin


def _leaf_layout(branch: Any, leaf: Any) -> tuple[ColumnType, Encoding | None]:
    """Return type and encoding of one element of a leaf."""
    single = _packed(branch, leaf)
    if single is None:
        dtypes = _STORED_DTYPES.get(leaf.classname)
        if dtypes is None:
            return ColumnType(leaf.classname, "other"), None
        dtype = np.dtype(dtypes[bool(leaf.member("fIsUnsigned"))])
        return _numpy_type(dtype)[0], Encoding("swapped", dtype)
    streamed = leaf.classname == "TLeafElement"
    title = branch.streamer.title if streamed and branch.streamer else leaf.member("fTitle")
    type_, _ = _numpy_type(np.dtype(np.float32 if single else np.float64))
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


def _numpy_type(dtype: np.dtype[Any]) -> tuple[ColumnType, int]:
    """Return the type of a column of this dtype, and the elements of an array."""
    base, shape = dtype.subdtype or (dtype, ())
    native = base.newbyteorder("=")
    is_number = base.kind in "biuf"
    if shape:
        if not is_number or min(shape) < 1:
            return ColumnType(f"{native}{list(shape)}", "vector"), 0
        return ColumnType(f"{native}{list(shape)}", "vector", native, shape), math.prod(shape)
    if not is_number:
        return ColumnType(str(dtype), "other"), 0
    return ColumnType(str(native), "scalar", native), 0


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
    dtype = Column(name, type_, None, origin.key).dtype
    if dtype is None or encoding is None:
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
    is_jagged = type_.is_jagged and not origin.length
    pages = Pages(
        bounds=np.append(bounds[keep], bounds[-1]) * max(1, origin.length),
        offset=offset[keep],
        stored_bytes=stored[keep],
        encoding=np.zeros(len(keep), np.uint8),
        checksum=np.zeros(len(keep), np.bool_),
        encodings=(encoding,),
        embedded={
            position[normal + i]: _embedded_bytes(basket, is_jagged)
            for i, basket in enumerate(embedded)
            if normal + i in position
        },
    )
    if is_jagged:
        value_bytes = _value_bytes(branch, pages, dtype.itemsize)
    else:
        value_bytes = float(origin.length * dtype.itemsize)
    return Column(
        name,
        type_,
        pages,
        origin.key,
        origin.leaf,
        length=origin.length,
        counts=_counts(where, tree, entries, branch) if is_jagged else None,
        value_bytes=value_bytes,
    )


def _leaves_positions_out(branch: Any) -> bool:
    """Tell whether a branch was written with ROOT's feature ``kGenerateOffsetMap``."""
    features = branch.member("fIOFeatures", none_if_missing=True)
    bits = features.member("fIOBits", none_if_missing=True) if features is not None else None
    return bool(int(bits or 0) & _GENERATE_OFFSET_MAP)


def _embedded_bytes(basket: Any, is_jagged: bool) -> bytes:
    """Return a basket's contents; of vectors first the size of their data, at last the positions."""
    data = bytes(basket.data)
    if not is_jagged:
        return data
    data = struct.pack(">i", len(data)) + data
    if basket.byte_offsets is None:
        return data
    places = np.asarray(basket.byte_offsets)
    return data + struct.pack(">i", len(places)) + places.astype(">i4").tobytes()


def _counts(where: str, tree: Any, entries: int, branch: Any) -> Column | None:
    """Return the column with the numbers of elements, where baskets leave positions out."""
    if not _leaves_positions_out(branch) or (counting := branch.count_branch) is None:
        return None
    interpretation = counting.interpretation
    if type(interpretation) is not uproot.interpretation.numerical.AsDtype:
        return None
    listed = _plain_columns(str(counting.name), Origin(counting, str(counting.name)), interpretation)
    name, type_, origin = next(listed)
    return branch_column(where, tree, entries, name, type_, origin) if type_.kind == "scalar" else None


def _value_bytes(branch: Any, pages: Pages, item_bytes: int) -> float:
    """Estimate the decoded bytes of an entry of vectors."""
    encoding, entries = pages.encodings[0], int(pages.bounds[-1])
    stored = int(pages.stored_bytes.sum()) + sum(len(data) for data in pages.embedded.values())
    whole = int(branch.member("fTotBytes", none_if_missing=True) or 0)
    if not stored <= whole <= MOST_EXPANSION * stored:
        whole = _TYPICAL_EXPANSION * stored
    apart = encoding.header_bytes + (0 if _leaves_positions_out(branch) else _POSITION_BYTES)
    payload = whole - _SHORTEST_KEY_BYTES * len(pages) - apart * entries
    return max(0, payload) / max(1, entries) * item_bytes / encoding.page_bytes(1)
