"""TTree: from a branch to its table of baskets."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

from rootfeed.errors import DamagedFileError, UnsupportedColumnError
from rootfeed.schema import EMBEDDED, Column, ColumnType, Encoding, Pages
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.keys import label
from rootfeed.sources.records import BranchOrigin, BranchRecord, EmbeddedBasket

__all__ = ["branch_column", "branch_pages"]

_TYPICAL_EXPANSION = 4
_POSITION_BYTES = 4
_SHORTEST_KEY_BYTES = 60
_NOWHERE = 0  # the position of the file's own header


def branch_column(
    where: str,
    record_of: Callable[[int], BranchRecord],
    entries: int,
    name: str,
    type_: ColumnType,
    origin: BranchOrigin,
) -> Column:
    """Return a branch's table of baskets.

    Parameters
    ----------
    where : str
        File and tree, for messages.
    record_of : function of int
        Returns the branch of a number.
    entries : int
        Of the tree.
    name : str
    type_ : ColumnType
    origin : BranchOrigin

    Raises
    ------
    DamagedFileError
        Where the branch does not cover all entries.
    """
    encoding = origin.encoding
    if origin.refused:
        raise UnsupportedColumnError(
            f"{where}: column {name!r} ({type_.text}) cannot be read: {origin.refused}. Leave it out, "
            "or write it in another type."
        )
    branch = record_of(origin.number)
    if elsewhere := branch.other_file:
        raise UnsupportedColumnError(
            f"{where}: the data of column {name!r} lies in another file, {elsewhere!r} "
            "(TBranch::SetFile), which rootfeed does not read. Leave it out, or write the tree into one "
            "file (with TTree::CloneTree, or Snapshot of ROOT's RDataFrame)."
        )
    if branch.entries != entries:
        raise UnsupportedColumnError(
            f"{where}: column {name!r} has {branch.entries} entries, the tree has {entries}: it "
            "was not filled at every entry. Leave it out."
        )
    dtype = Column(name, type_, None, origin.key).dtype
    if dtype is None or encoding is None:
        if origin.leaves_positions_out and branch.has_positions:
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
        position_bytes = 0 if origin.leaves_positions_out else _POSITION_BYTES
        value_bytes = _value_bytes(branch.whole_bytes, pages, dtype.itemsize, position_bytes)
    else:
        value_bytes = float(origin.length * dtype.itemsize)
    return Column(
        name,
        type_,
        pages,
        origin.key,
        origin.leaf,
        length=origin.length,
        counts=_counts(where, record_of, entries, origin) if is_jagged else None,
        value_bytes=value_bytes,
    )


def branch_pages(
    branch: BranchRecord, encoding: Encoding | None = None, length: int = 1, *, with_sizes: bool = False
) -> Pages:
    """Return where the baskets of a branch lie.

    Parameters
    ----------
    branch : BranchRecord
    encoding : Encoding, optional
        None where only uproot reads it.
    length : int
        Elements in each entry of an array.
    with_sizes : bool
        Embedded baskets begin with the size of their data, as `Basket` needs it.
    """
    bounds, offset, stored, embedded = branch.baskets()
    normal = len(offset)
    offset = np.append(np.maximum(offset, _NOWHERE), np.full(len(embedded), EMBEDDED, np.int64))
    stored = np.append(stored, np.zeros(len(embedded), np.int64))
    keep = np.flatnonzero(np.diff(bounds) != 0)
    position = {int(page): place for place, page in enumerate(keep)} if embedded else {}
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
        label=label(branch.name),
    )


def _embedded_bytes(basket: EmbeddedBasket, is_jagged: bool) -> bytes:
    """Return a basket's contents; of vectors first the size of their data, at last the positions."""
    data, places = basket
    if not is_jagged:
        return data
    data = struct.pack(">i", len(data)) + data
    if places is None:
        return data
    return data + struct.pack(">i", len(places)) + places.astype(">i4").tobytes()


def _counts(
    where: str, record_of: Callable[[int], BranchRecord], entries: int, origin: BranchOrigin
) -> Column | None:
    """Return the column with the numbers of elements, where baskets leave positions out."""
    if origin.counter is None:
        return None
    name, type_, counter = origin.counter
    return branch_column(where, record_of, entries, name, type_, counter)


def _value_bytes(whole: int, pages: Pages, item_bytes: int, position_bytes: int) -> float:
    """Estimate the decoded bytes of an entry of vectors."""
    encoding, entries = pages.encodings[0], int(pages.bounds[-1])
    stored = int(pages.stored_bytes.sum()) + sum(len(data) for data in pages.embedded.values())
    if not stored <= whole <= MOST_EXPANSION * stored:
        whole = _TYPICAL_EXPANSION * stored
    apart = encoding.header_bytes + position_bytes
    payload = whole - _SHORTEST_KEY_BYTES * len(pages) - apart * entries
    return max(0, payload) / max(1, entries) * item_bytes / encoding.page_bytes(1)
