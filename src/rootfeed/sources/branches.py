"""TTree: from uproot's branches to names and types of columns."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import uproot

from rootfeed.schema import ColumnType, Encoding
from rootfeed.sources.reals import real_encoding
from rootfeed.sources.records import BranchOrigin

__all__ = ["all_branches", "branches", "by_key", "first_names", "is_common", "names"]

Named = tuple[str, ColumnType, BranchOrigin]

_DIMENSION = re.compile(r"\[[^\],]*\]")
_GENERATE_OFFSET_MAP = 1  # a bit of ROOT::TIOFeatures
_BITS = 15  # fType of `TObject::fBits`
_BASE_CLASS = 1  # TBranchElement::fType of a branch that holds a base class
_IN_COLLECTIONS = (31, 41)  # ... of members of a TClonesArray's or a container's elements
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
_PACKED_TYPES = {19: True, 9: False}  # EDataType's kFloat16_t, kDouble32_t
"""Whether a packed real is single (``Float16_t``), by class of leaf and by type of a member."""


def branches(tree: Any) -> Iterator[Named]:
    """Yield each branch, or each leaf of a leaf list, with its name and type.

    A name can come more than once: the first one counts. Where another branch has it already, a branch
    comes under its path in the tree, too.
    """
    paths: dict[str, str] = {}
    listed = list(tree.iteritems(recursive=True, full_paths=True))
    numbers = {id(branch): number for number, (_, branch) in enumerate(listed)}
    for number, (key, branch) in enumerate(listed):
        name = _branch_name(branch)
        origin = BranchOrigin(number, key)
        if _leaves_positions_out(branch):
            counter = _counter(branch.count_branch, numbers)
            origin = replace(origin, leaves_positions_out=True, counter=counter)
        yield from _columns(branch, name, origin)
        if paths.setdefault(name, key) != key:
            yield from _columns(branch, key, origin)


def all_branches(tree: Any) -> list[Any]:
    """Return uproot's branches by their numbers."""
    return [branch for _, branch in tree.iteritems(recursive=True, full_paths=True)]


def names(tree: Any) -> list[str]:
    """Return the names of the branches by their numbers."""
    return [str(branch.name) for branch in all_branches(tree)]


def by_key(tree: Any) -> dict[str, Any]:
    """Return the branches by their paths in the tree: of several with one path the first."""
    found: dict[str, Any] = {}
    for key, branch in tree.iteritems(recursive=True, full_paths=True):
        found.setdefault(key, branch)
    return found


def is_common(branch: Any) -> bool:
    """Tell whether uproot reads a type for certain: numbers, texts, and vectors of such."""
    try:
        interpretation = branch.interpretation
    except Exception:  # uproot raises whatever its parsers meet in exotic streamers
        return False
    if isinstance(interpretation, uproot.AsJagged):
        interpretation = interpretation.content
    if not isinstance(interpretation, uproot.AsObjects):
        return type(interpretation) in (uproot.AsDtype, uproot.AsStrings)
    model = interpretation.model
    while isinstance(model, uproot.AsVector):
        model = model.values
    return isinstance(model, np.dtype | uproot.AsString)


def first_names(tree: Any) -> frozenset[str]:
    """Return the names of branches, but of those that seem to have been renamed.

    A leaf that is alone in its branch has its name, and keeps it when the branch is renamed.
    """
    names = set()
    for branch in tree.itervalues(recursive=True):
        leaves = branch.member("fLeaves")
        name = str(branch.name)
        alone = len(leaves) == 1 and leaves[0].classname != "TLeafElement"
        if not alone or leaves[0].member("fName") == name:
            names.add(name)
    return frozenset(names)


def _leaves_positions_out(branch: Any) -> bool:
    features = branch.member("fIOFeatures", none_if_missing=True)
    bits = features.member("fIOBits", none_if_missing=True) if features is not None else None
    return bool(int(bits or 0) & _GENERATE_OFFSET_MAP)


def _counter(branch: Any | None, numbers: Mapping[int, int]) -> Named | None:
    """Return name, type and origin of a branch with one number in each entry; None where it is none."""
    if branch is None or id(branch) not in numbers:
        return None
    name = str(branch.name)
    found = next(_columns(branch, name, BranchOrigin(numbers[id(branch)], name)), None)
    return found if found is not None and found[1].kind == "scalar" else None


def _columns(branch: Any, name: str, origin: BranchOrigin) -> Iterator[Named]:
    """Yield what a branch holds."""
    leaves = branch.member("fLeaves")
    if any(_packed(branch, leaf) is not None for leaf in leaves):
        yield from _packed_columns(branch, name, origin)
        return
    try:
        interpretation = branch.interpretation
    except Exception:  # uproot raises whatever its parsers meet in exotic streamers
        yield name, ColumnType("unknown to uproot", "other"), origin
        return
    in_collection = branch.member("fType", none_if_missing=True) in _IN_COLLECTIONS
    if type(interpretation) is uproot.AsDtype:
        if len(leaves) > 1:
            yield from _leaf_list(branch, name, origin, interpretation)
        else:
            yield _plain_column(name, origin, interpretation)
    elif isinstance(interpretation, uproot.AsGrouped):
        return  # a split object: its members are columns of their own
    elif isinstance(interpretation, uproot.AsJagged):
        yield _jagged_column(branch, name, origin, interpretation)
    elif isinstance(interpretation, uproot.AsStrings) and not in_collection:
        encoding = Encoding(
            "text" if interpretation.length_bytes == "1-5" else "counted text",
            np.dtype(np.uint8),
            header_bytes=int(interpretation.header_bytes),
        )
        yield name, ColumnType(str(branch.typename), "text"), replace(origin, encoding=encoding)
    else:
        if in_collection and (
            isinstance(interpretation, uproot.AsStrings)
            or not isinstance(getattr(interpretation, "model", None), uproot.AsArray | None)
        ):
            origin = replace(origin, refused="uproot takes it for one in each entry")
        yield name, ColumnType(str(branch.typename), "other"), origin


def _plain_column(name: str, origin: BranchOrigin, interpretation: Any) -> Named:
    type_, length = _numpy_type(interpretation.to_dtype)
    encoding = _swapped(interpretation.from_dtype)
    return name, type_, replace(origin, encoding=encoding, length=length)


def _leaf_list(branch: Any, name: str, origin: BranchOrigin, interpretation: Any) -> Iterator[Named]:
    """Yield the leaves of a branch that has several: one after another in each entry.

    uproot looks for dimensions that all of them share, and loses others.
    """
    fields = interpretation.from_dtype.base.fields
    laid_out, place = [], 0
    for leaf in branch.member("fLeaves"):
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


def _jagged_column(branch: Any, name: str, origin: BranchOrigin, interpretation: Any) -> Named:
    content, text = interpretation.content, str(branch.typename)
    if type(content) is not uproot.AsDtype:
        return name, ColumnType(text, "vector"), origin
    element, _ = _numpy_type(content.to_dtype)
    if element.kind != "scalar":
        return name, ColumnType(text, "vector"), origin
    leaf = branch.member("fLeaves")[0]
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


def _packed_columns(branch: Any, name: str, origin: BranchOrigin) -> Iterator[Named]:
    """Yield the leaves of a branch of which at least one is a packed real, or not flat."""
    leaves = branch.member("fLeaves")
    laid_out: list[tuple[str, ColumnType, Encoding, int]] = []
    place = 0
    for leaf in leaves:
        type_, encoding = _leaf_layout(branch, leaf)
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
            refused = "rootfeed does not know how its packed reals are laid out"
            type_ = ColumnType("packed reals of undefined layout", "other")
            yield name, type_, replace(origin, refused=refused)
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
        encoding = replace(encoding, stride=place)
        leaf_origin = replace(origin, leaf=leaf_name, encoding=encoding, length=length)
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
    while isinstance(parent, uproot.TBranch):
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
