"""Open a ROOT file with uproot, find the tree or ntuple in it, and describe its columns."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import uproot

from rootfeed.errors import (
    DamagedFileError,
    MissingObjectError,
    RootfeedError,
    UnsupportedFileError,
    nearest,
)
from rootfeed.schema import EMBEDDED, Column, ColumnType, Pages, Version
from rootfeed.sources import baskets, branches, fields, tables
from rootfeed.sources.compression import MOST_EXPANSION
from rootfeed.sources.failures import reason, unavailable
from rootfeed.sources.paths import spelled
from rootfeed.sources.storage import Address, Storage, open_storage
from rootfeed.sources.storage.web import web_page
from rootfeed.sources.uproot_internals import FileClasses, StorageSource

__all__ = ["Friend", "RootObject", "damaged", "open_object"]

_TREES = frozenset({"TTree", "TNtuple", "TNtupleD"})
_RNTUPLE = "ROOT::RNTuple"
_RNTUPLE_PREVIEW = "ROOT::Experimental::RNTuple"
_POSITION_BYTES = 4
_ENDS_BYTES = 64 << 10  # at each end of a file, fetched before they are asked for
_OTHER_FORMATS = (
    (b"PAR1", "Parquet", ".parquet"),
    (b"ARROW1", "Arrow", ".arrow"),
    (b"\x89HDF", "HDF5", ".h5"),
)
_LARGE_FILE_VERSION = 1_000_000  # from which a file's header has positions of eight bytes


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
    handle : object
        uproot's own object, for columns that only uproot reads.
    storage : Storage
        From which uproot reads.
    """

    path: str
    object_path: str
    format: Literal["TTree", "RNTuple"]
    entries: int
    identity: bytes
    handle: Any
    storage: Storage

    def types(self) -> dict[str, ColumnType]:
        """Return every column's type, in the file's order; no data is read."""
        return {name: type_ for name, (type_, _) in self._listing[0].items()}

    def duplicates(self) -> dict[str, str]:
        """Return the names that several columns have, and a sentence about each."""
        return {
            name: f"{self._where} has {len(types)} columns of the name {name!r} "
            f"({', then '.join(str(type_) for type_ in types)}): the first one counts, as in ROOT. "
            "Rename the others to read them."
            for name, types in self._listing[1].items()
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
        wanted = set(names)
        shared: dict[Any, Pages] = {}
        return {
            name: self._column(name, type_, origin, shared)
            for name, (type_, origin) in self._listing[0].items()
            if name in wanted
        }

    @property
    def _where(self) -> str:
        return f"{self.path}:{self.object_path}"

    @cached_property
    def _listing(self) -> tuple[dict[str, tuple[ColumnType, Any]], dict[str, tuple[ColumnType, ...]]]:
        list_: Any = branches.branches if self.format == "TTree" else fields.fields
        listing: dict[str, tuple[ColumnType, Any]] = {}
        others: dict[str, tuple[ColumnType, ...]] = {}
        with damaged(f"{self._where}: the list of its columns cannot be read"):
            for name, type_, origin in list_(self.handle):
                first, _ = listing.setdefault(name, (type_, origin))
                if first is not type_:
                    others[name] = (*others.get(name, (first,)), type_)
        return listing, others

    def _column(self, name: str, type_: ColumnType, origin: Any, shared: dict[Any, Pages]) -> Column:
        with damaged(f"{self._where}: the page list of column {name!r} cannot be read"):
            if self.format == "TTree":
                column = baskets.branch_column(
                    self._where, self.handle, self.entries, name, type_, origin
                )
            else:
                column = tables.field_column(self._where, self.handle, name, type_, origin, shared)
            if column.offsets is not None:
                _check(self, name, column.offsets, self.entries)
            if column.counts is not None and column.counts.pages is not None:
                _check(self, column.counts.name, column.counts.pages, self.entries)
            if (pages := column.pages) is None:
                return column
            if column.offsets is not None:
                _check(self, name, pages, None)
            elif type_.is_jagged and not column.length:
                # Entries may be empty, but each has a position, unless it is counted elsewhere.
                entry_bytes = pages.encodings[0].header_bytes + (0 if column.counts else _POSITION_BYTES)
                _check(self, name, pages, self.entries, entry_bytes)
            else:
                _check(self, name, pages, self.entries * max(1, column.length))
        return column


@contextmanager
def open_object(
    address: Address, object_path: str | None, version: Version | None = None, *, friends: bool = False
) -> Iterator[RootObject]:
    """Open a file, find the tree or ntuple in it, and close the file afterwards.

    Parameters
    ----------
    address : Address
    object_path : str or None
        None where the file holds only one.
    version : Version, optional
        What was indexed: anything else is refused.
    friends : bool
        Read what the file says of a tree's friends, too, which is slower.

    Raises
    ------
    MissingFileError, AccessError, UnreachableError, ChangedFileError
        Where the file's bytes cannot be had.
    MissingObjectError
        Where there is none of that name, or several and none was named.
    DamagedFileError
        Where the file cannot be parsed, or lacks its end.
    """
    path = address.name
    with closing(open_storage(address, version)) as storage:
        # Metadata lies at both ends of a file.
        size = storage.file_bytes
        storage.prepare([(0, _ENDS_BYTES), (max(0, size - _ENDS_BYTES), _ENDS_BYTES)])
        try:
            # A mapping, because uproot splits a name at its colons.
            with damaged(f"{path} cannot be read as a ROOT file"):
                file = uproot.open(
                    {path: None},
                    handler=StorageSource,
                    storage=storage,
                    custom_classes=FileClasses(),
                    minimal_ttree_metadata=not friends,
                )
        except DamagedFileError:
            _explain(address, storage)
            raise
        with file:
            what = object_path or "its tree or ntuple"
            with damaged(f"{path}: the metadata of {what!r} cannot be read"):
                _check_end(path, storage.file_bytes, file.file.fEND)
                _check_closed(path, file.file)
                found = _find(path, storage, file, object_path)
            yield found
        storage.keep()


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


def _find(path: str, storage: Storage, file: Any, object_path: str | None) -> RootObject:
    classes: dict[str, str] = {}
    for key, class_name in file.classnames(recursive=True).items():
        if class_name in _TREES or class_name in (_RNTUPLE, _RNTUPLE_PREVIEW):
            # Keys come newest cycle first; a name without a cycle means the newest.
            classes.setdefault(key.rpartition(";")[0], class_name)
            classes[key] = class_name
    plain = [key for key in classes if ";" not in key]
    if object_path is None:
        if not plain:
            others = sorted(set(file.classnames(recursive=True).values()))
            holds = f"only {', '.join(others)}" if others else "nothing"
            raise MissingObjectError(f"{path} holds no TTree and no RNTuple, {holds}.")
        if len(plain) > 1:
            shown = ", ".join(repr(key) for key in plain[:8])
            raise MissingObjectError(
                f"{path} holds {len(plain)} trees and ntuples: {shown}. "
                f"Name one: {spelled(path, plain[0])}."
            )
        object_path = plain[0]
    elif object_path.strip("/") in classes:
        object_path = object_path.strip("/")
    else:
        raise MissingObjectError(
            f"{path} holds no tree or ntuple {object_path!r}. {nearest(object_path, plain)}"
        )
    class_name = classes[object_path]
    if class_name == _RNTUPLE_PREVIEW:
        raise UnsupportedFileError(
            f"{path}:{object_path} was written by a preview of RNTuple (before ROOT 6.34), a format "
            "that no released program reads. Produce the file again with a current ROOT."
        )
    key = file.key(object_path)
    if key.fObjlen > MOST_EXPANSION * key.fNbytes:
        raise DamagedFileError(
            f"{path}:{object_path} claims {key.fObjlen} bytes of metadata, compressed in {key.fNbytes}. "
            "Copy or produce the file again."
        )
    handle = file[object_path]
    if class_name == _RNTUPLE:
        fields.check_envelopes(f"{path}:{object_path}", handle)
    entries = int(handle.num_entries)
    if not 0 <= entries <= np.iinfo(np.int64).max:
        raise DamagedFileError(
            f"{path}:{object_path} claims {entries} entries. Copy or produce the file again."
        )
    identity = hashlib.blake2b(digest_size=16)
    for item in (file.file.uuid.bytes, object_path.rpartition(";")[0] or object_path, entries):
        identity.update(item if isinstance(item, bytes) else f"\0{item}".encode())
    return RootObject(
        path=path,
        object_path=object_path,
        format="RNTuple" if class_name == _RNTUPLE else "TTree",
        entries=entries,
        identity=identity.digest(),
        handle=handle,
        storage=storage,
    )


def _explain(address: Address, storage: Storage) -> None:
    """Say what is wrong with a file that uproot cannot open (``TFile`` class reference, "header")."""
    path, header = address.name, np.zeros(20, np.uint8)
    if storage.file_bytes >= len(header):
        storage.read_into(0, header)
    if header[:4].tobytes() != b"root":
        if address.is_remote and header.tobytes().lstrip()[:1] == b"<":
            raise web_page(path) from None
        for magic, name, ending in _OTHER_FORMATS:
            if header.tobytes().startswith(magic):
                raise DamagedFileError(
                    f"{path} begins as {name} files do: rename it to end in {ending}."
                ) from None
        raise DamagedFileError(
            f"{path} is not a ROOT file: it has {storage.file_bytes} bytes and does not start with "
            "'root'. Name a ROOT file, or copy or produce it again."
        ) from None
    version = int.from_bytes(header[4:8].tobytes(), "big")
    stop = 20 if version >= _LARGE_FILE_VERSION else 16
    _check_end(path, storage.file_bytes, int.from_bytes(header[12:stop].tobytes(), "big"))


def _check_end(path: str, file_bytes: int, end: int) -> None:
    """Refuse a file that lacks its end: uproot opens some of those as if they were empty."""
    if file_bytes < end:
        raise DamagedFileError(
            f"{path} is truncated: expected {end} bytes, got {file_bytes}. "
            "Copy or produce the file again."
        ) from None


def _check_closed(path: str, file: Any) -> None:
    if file.fNbytesInfo == 0 or file.fSeekFree == 0:
        raise DamagedFileError(
            f"{path} was never closed by the program that wrote it, so its directory is missing and "
            "entries may be too. Run ROOT's recovery (open it once with TFile in UPDATE mode) or "
            "produce it again."
        )


def _check(
    found: RootObject, name: str, pages: Pages, elements: int | None, element_bytes: int | None = None
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
