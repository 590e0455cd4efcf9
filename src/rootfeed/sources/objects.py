"""A tree or ntuple of a file, and its columns: whoever parsed it, they are checked here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from rootfeed.errors import (
    DamagedFileError,
    MissingObjectError,
    RootfeedError,
    UnsupportedFileError,
    nearest,
)
from rootfeed.properties import cached_property
from rootfeed.schema import EMBEDDED, Column, ColumnType, FileIndex, Pages, Version
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.failures import reason, unavailable
from rootfeed.sources.paths import spelled
from rootfeed.sources.records import Contents, Listing
from rootfeed.sources.storage import Storage

__all__ = [
    "RNTUPLE",
    "TREES",
    "Friend",
    "RootObject",
    "check_column",
    "checked_entries",
    "choose",
    "damaged",
    "identity",
]

TREES = frozenset({"TTree", "TNtuple", "TNtupleD"})
RNTUPLE = "ROOT::RNTuple"
_RNTUPLE_PREVIEW = "ROOT::Experimental::RNTuple"
_POSITION_BYTES = 4


class Friend(NamedTuple):
    """A tree that another one names as its friend.

    Attributes
    ----------
    alias, tree : str
    path : str
        As it was given when the friend was added; empty for the same file.
    """

    alias: str
    tree: str
    path: str

    def __str__(self) -> str:
        return f"{self.tree!r} in {self.path or 'this file'}"


@dataclass(frozen=True, eq=False)
class RootObject:
    """An open tree or ntuple.

    Attributes
    ----------
    path, object_path : str
    format : {"TTree", "RNTuple"}
    entries : int
    identity : bytes
    storage : Storage
        From which it was read.
    version : Version
        Of the file.
    contents : Contents
    handle : object
        uproot's own object, where uproot read it.
    branches : function, or None
        Of such a tree: returns the names of its branches, in the file's order.
    """

    path: str
    object_path: str
    format: Literal["TTree", "RNTuple"]
    entries: int
    identity: bytes
    storage: Storage
    version: Version
    contents: Contents
    handle: Any = None
    branches: Callable[[], list[str]] | None = None

    def types(self) -> dict[str, ColumnType]:
        """Return every column's type, in the file's order; no data is read."""
        return {name: type_ for name, (type_, _) in self._listing.columns.items()}

    def duplicates(self) -> dict[str, str]:
        """Return the names that several columns have, and a sentence about each."""
        return {
            name: f"{self._where} has {len(types)} columns of the name {name!r} "
            f"({', then '.join(str(type_) for type_ in types)}): the first one counts, as in ROOT. "
            "Rename the others to read them."
            for name, types in self._listing.others.items()
        }

    def friends(self) -> list[Friend]:
        """Return the tree's friends, where it was opened with `friends`."""
        listed = self.handle.member("fFriends", none_if_missing=True) if self.format == "TTree" else None
        return [
            Friend(*(str(friend.member(name)) for name in ("fName", "fTreeName", "fTitle")))
            for friend in listed or []
        ]

    @property
    def is_indexed(self) -> bool:
        """Whether the tree has an index, by which ROOT finds a friend's entries; see `friends`."""
        return self.format == "TTree" and bool(self.handle.member("fTreeIndex", none_if_missing=True))

    def columns(self, names: Iterable[str]) -> dict[str, Column]:
        """Return the page tables of some columns; unknown names are left out."""
        listed, places = self._listing.columns, self._listing.places
        shared: dict[Any, Any] = {}
        known = sorted({name for name in names if name in listed}, key=places.__getitem__)
        return {name: self._column(name, *listed[name], shared) for name in known}

    @property
    def _where(self) -> str:
        return f"{self.path}:{self.object_path}"

    @cached_property
    def _listing(self) -> Listing:
        with damaged(f"{self._where}: the list of its columns cannot be read"):
            return self.contents.listing()

    def _column(self, name: str, type_: ColumnType, origin: Any, shared: dict[Any, Any]) -> Column:
        with damaged(f"{self._where}: the page list of column {name!r} cannot be read"):
            column = self.contents.column(self._where, name, type_, origin, shared)
            check_column(self, column)
        return column


def check_column(found: RootObject | FileIndex, column: Column) -> None:
    """Refuse tables of pages that do not cover all entries once, in order, or that cannot be true.

    Raises
    ------
    DamagedFileError
    """
    if column.offsets is not None:
        _check(found, column.name, column.offsets, found.entries)
    if column.counts is not None and column.counts.pages is not None:
        _check(found, column.counts.name, column.counts.pages, found.entries)
    if (pages := column.pages) is None:
        return
    if column.offsets is not None:
        _check(found, column.name, pages, None)
    elif column.type.is_jagged and not column.length:
        # Entries may be empty, but each has a position, unless it is counted elsewhere.
        entry_bytes = pages.encodings[0].header_bytes + (0 if column.counts else _POSITION_BYTES)
        _check(found, column.name, pages, found.entries, entry_bytes)
    else:
        _check(found, column.name, pages, found.entries * max(1, column.length))


def choose(path: str, classes: Sequence[tuple[str, str]], object_path: str | None) -> tuple[str, str]:
    """Return name and class of the tree or ntuple that is meant.

    Parameters
    ----------
    path : str
    classes : sequence of (str, str)
        Name with cycle, and class, of everything that the file holds, also in folders: of one name the
        newest cycle first.
    object_path : str or None
        None where the file holds only one.

    Raises
    ------
    MissingObjectError
        Where there is none of that name, or several and none was named.
    UnsupportedFileError
        Where it is of an old format.
    """
    found: dict[str, str] = {}
    for key, class_name in classes:
        if class_name in TREES or class_name in (RNTUPLE, _RNTUPLE_PREVIEW):
            # A name without a cycle means the newest.
            found.setdefault(key.rpartition(";")[0], class_name)
            found[key] = class_name
    plain = [key for key in found if ";" not in key]
    if object_path is None:
        if not plain:
            others = sorted({class_name for _, class_name in classes})
            holds = f"only {', '.join(others)}" if others else "nothing"
            raise MissingObjectError(f"{path} holds no TTree and no RNTuple, {holds}.")
        if len(plain) > 1:
            shown = ", ".join(repr(key) for key in plain[:8])
            raise MissingObjectError(
                f"{path} holds {len(plain)} trees and ntuples: {shown}. "
                f"Name one: {spelled(path, plain[0])}."
            )
        object_path = plain[0]
    elif object_path.strip("/") in found:
        object_path = object_path.strip("/")
    else:
        raise MissingObjectError(
            f"{path} holds no tree or ntuple {object_path!r}. {nearest(object_path, plain)}"
        )
    class_name = found[object_path]
    if class_name == _RNTUPLE_PREVIEW:
        raise UnsupportedFileError(
            f"{path}:{object_path} was written by a preview of RNTuple (before ROOT 6.34), a format "
            "that no released program reads. Produce the file again with a current ROOT."
        )
    return object_path, class_name


def checked_entries(where: str, entries: int) -> int:
    """Refuse a number of entries that cannot be."""
    if not 0 <= entries <= np.iinfo(np.int64).max:
        raise DamagedFileError(f"{where} claims {entries} entries. Copy or produce the file again.")
    return entries


def identity(uuid: bytes, object_path: str, entries: int) -> bytes:
    """Return what stays the same when a file is moved or renamed."""
    digest = hashlib.blake2b(digest_size=16)
    for item in (uuid, object_path.rpartition(";")[0] or object_path, entries):
        digest.update(item if isinstance(item, bytes) else f"\0{item}".encode())
    return digest.digest()


@contextmanager
def damaged(what: str, remedy: str = "Copy or produce the file again.") -> Iterator[None]:
    """Turn whatever uproot raises on damaged contents into `DamagedFileError`.

    Parameters
    ----------
    what : str
        The file, and what of it cannot be read.
    remedy : str
    """
    try:
        yield
    except RootfeedError:
        raise
    except Exception as error:
        if (kept_back := unavailable(what, "now", error)) is not None:
            raise kept_back from error
        told = reason(error)
        if "algorithm: b'CS'" in told:
            raise UnsupportedFileError(
                f'{what}: it uses the compression "CS" of very old ROOT releases, which is not '
                "supported. Rewrite the file with a current ROOT."
            ) from error
        raise DamagedFileError(f"{what}: {told}. {remedy}") from error


def _check(
    found: RootObject | FileIndex,
    name: str,
    pages: Pages,
    elements: int | None,
    element_bytes: int | None = None,
) -> None:
    """Refuse a page table that does not cover all entries once, in order, or that cannot be true.

    `elements` is None where their number is what the table says; `element_bytes` where it is what the
    encoding says.
    """
    bounds = pages.bounds
    if (
        bounds[0] != 0
        or (elements is not None and bounds[-1] != elements)
        or np.any(np.diff(bounds) <= 0)
        or np.any(pages.stored_bytes < 0)
        or np.any(pages.offset < EMBEDDED)
    ):
        raise DamagedFileError(
            f"{found.path}:{found.object_path}: the pages of column {name!r} do not cover its "
            f"{found.entries} entries once and in order (they cover [{bounds[0]}, {bounds[-1]})). "
            "Copy or produce the file again."
        )
    # Entries that no compression could have stored would otherwise be planned and allocated.
    bytes_of_eight = np.array(
        [
            encoding.page_bytes(8) if element_bytes is None else 8 * element_bytes
            for encoding in pages.encodings
        ]
    )
    whole = np.diff(bounds) / 8 * bytes_of_eight[pages.encoding]
    impossible = np.flatnonzero((pages.offset >= 0) & (whole > MOST_EXPANSION * pages.stored_bytes))
    if len(impossible):
        page = impossible[0]
        stored = pages.stored_bytes[page]
        raise DamagedFileError(
            f"{found.path}:{found.object_path}: the page of column {name!r} with the entries "
            f"[{bounds[page]}, {bounds[page + 1]}) is damaged: it stores {stored} bytes for "
            f"{whole[page]:.0f} uncompressed ones. Copy or produce the file again."
        )
