"""TTree: from a branch to its table of baskets."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from rootfeed.errors import DamagedFileError, UnsupportedColumnError
from rootfeed.schema import EMBEDDED, Column, ColumnType, Encoding, Pages
from rootfeed.sources.branches import Origin, counter
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.keys import label
from rootfeed.sources.uproot_internals import EmbeddedBasket, embedded_baskets, other_file

__all__ = ["branch_column", "branch_pages"]

_TYPICAL_EXPANSION = 4
_POSITION_BYTES = 4
_SHORTEST_KEY_BYTES = 60
_GENERATE_OFFSET_MAP = 1  # a bit of ROOT::TIOFeatures
_NOWHERE = 0  # the position of the file's own header


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
    if origin.refused:
        raise UnsupportedColumnError(
            f"{where}: column {name!r} ({type_.text}) cannot be read: {origin.refused}. Leave it out, "
            "or write it in another type."
        )
    if elsewhere := other_file(tree, branch):
        raise UnsupportedColumnError(
            f"{where}: the data of column {name!r} lies in another file, {elsewhere!r} "
            "(TBranch::SetFile), which rootfeed does not read. Leave it out, or write the tree into one "
            "file (with TTree::CloneTree, or Snapshot of ROOT's RDataFrame)."
        )
    if branch.num_entries != entries:
        raise UnsupportedColumnError(
            f"{where}: column {name!r} has {branch.num_entries} entries, the tree has {entries}: it "
            "was not filled at every entry. Leave it out."
        )
    dtype = Column(name, type_, None, origin.key).dtype
    if dtype is None or encoding is None:
        if _leaves_positions_out(branch) and branch.member("fEntryOffsetLen"):
            raise UnsupportedColumnError(
                f"{where}: column {name!r} ({type_.text}) cannot be read: uproot, which reads such "
                "types, does not know ROOT's feature kGenerateOffsetMap. Leave it out, or write the "
                "tree without that feature."
            )
        return Column(name, type_, None, origin.key, origin.leaf)
    is_jagged = type_.is_jagged and not origin.length
    pages = branch_pages(branch, encoding, max(1, origin.length), with_sizes=is_jagged)
    if np.any(pages.offset == _NOWHERE):
        raise DamagedFileError(
            f"{where}: column {name!r} has baskets without a position. Copy or produce the file again."
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


def branch_pages(
    branch: Any, encoding: Encoding | None = None, length: int = 1, *, with_sizes: bool = False
) -> Pages:
    """Return where the baskets of a branch lie.

    Parameters
    ----------
    branch : object
        uproot's.
    encoding : Encoding, optional
        None where only uproot reads it.
    length : int
        Elements in each entry of an array.
    with_sizes : bool
        Embedded baskets begin with the size of their data, as `Basket` needs it.
    """
    embedded = embedded_baskets(branch)
    normal = int(branch.num_baskets) - len(embedded)
    bounds = np.asarray(branch.entry_offsets, np.int64)
    offset = np.full(len(bounds) - 1, EMBEDDED, np.int64)
    stored = np.zeros(len(bounds) - 1, np.int64)
    offset[:normal] = np.maximum(branch.member("fBasketSeek")[:normal], _NOWHERE)
    stored[:normal] = np.asarray(branch.member("fBasketBytes")[:normal], np.int64)
    keep = np.flatnonzero(np.diff(bounds) != 0)
    position = {int(page): place for place, page in enumerate(keep)}
    return Pages(
        bounds=np.append(bounds[keep], bounds[-1]) * length,
        offset=offset[keep],
        stored_bytes=stored[keep],
        encoding=np.zeros(len(keep), np.uint8),
        checksum=np.zeros(len(keep), np.bool_),
        encodings=() if encoding is None else (encoding,),
        embedded={
            position[normal + i]: _embedded_bytes(basket, with_sizes)
            for i, basket in enumerate(embedded)
            if normal + i in position
        },
        label=label(str(branch.name)),
    )


def _leaves_positions_out(branch: Any) -> bool:
    """Tell whether a branch was written with ROOT's feature ``kGenerateOffsetMap``.

    Positions that counts tell are left out then, and for others there are sizes.
    """
    features = branch.member("fIOFeatures", none_if_missing=True)
    bits = features.member("fIOBits", none_if_missing=True) if features is not None else None
    return bool(int(bits or 0) & _GENERATE_OFFSET_MAP)


def _embedded_bytes(basket: EmbeddedBasket, is_jagged: bool) -> bytes:
    """Return a basket's contents; of vectors first the size of their data, at last the positions."""
    data, places = basket
    if not is_jagged:
        return data
    data = struct.pack(">i", len(data)) + data
    if places is None:
        return data
    return data + struct.pack(">i", len(places)) + places.astype(">i4").tobytes()


def _counts(where: str, tree: Any, entries: int, branch: Any) -> Column | None:
    """Return the column with the numbers of elements, where baskets leave positions out."""
    if not _leaves_positions_out(branch) or (counting := branch.count_branch) is None:
        return None
    if (found := counter(counting)) is None:
        return None
    name, type_, origin = found
    return branch_column(where, tree, entries, name, type_, origin)


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
