"""Trees and ntuples that uproot parses: what our own readers do not know, and what only it tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import uproot

from rootfeed.errors import DamagedFileError
from rootfeed.schema import Column, ColumnType
from rootfeed.sources import baskets, branches, fields, tables
from rootfeed.sources.compression import MOST_EXPANSION, DamagedPageError, checked_xxh3
from rootfeed.sources.objects import (
    RNTUPLE,
    RootObject,
    checked_entries,
    choose,
    damaged,
    identity,
)
from rootfeed.sources.records import BranchRecord, Contents, listing_of
from rootfeed.sources.storage import Address, Storage
from rootfeed.sources.storage.web import web_page
from rootfeed.sources.uproot_internals import (
    Envelope,
    FileClasses,
    StorageSource,
    branch_record,
    envelopes,
    ntuple_records,
    read_envelope,
)

__all__ = ["check_envelopes", "opened"]

_OTHER_FORMATS = ((b"PAR1", "Parquet", ".parquet"), (b"ARROW1", "Arrow", ".arrow"))
_LARGE_FILE_VERSION = 1_000_000  # from which a file's header has positions of eight bytes
_CHECKSUM_BYTES = 8


@contextmanager
def opened(
    address: Address, storage: Storage, object_path: str | None, *, friends: bool = False
) -> Iterator[RootObject]:
    """Give a tree or ntuple of an open file: see `metadata.open_object`."""
    path = address.name
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


def _find(path: str, storage: Storage, file: Any, object_path: str | None) -> RootObject:
    # Keys come newest cycle first.
    classes = list(file.classnames(recursive=True).items())
    object_path, class_name = choose(path, classes, object_path)
    where = f"{path}:{object_path}"
    key = file.key(object_path)
    if key.fObjlen > MOST_EXPANSION * key.fNbytes:
        raise DamagedFileError(
            f"{where} claims {key.fObjlen} bytes of metadata, compressed in {key.fNbytes}. "
            "Copy or produce the file again."
        )
    handle = file[object_path]
    if class_name == RNTUPLE:
        check_envelopes(where, handle)
    entries = checked_entries(where, int(handle.num_entries))
    return RootObject(
        path=path,
        object_path=object_path,
        format="RNTuple" if class_name == RNTUPLE else "TTree",
        entries=entries,
        identity=identity(file.file.uuid.bytes, object_path, entries),
        storage=storage,
        version=storage.version,
        contents=_ntuple(handle) if class_name == RNTUPLE else _tree(handle, entries),
        handle=handle,
        branches=None
        if class_name == RNTUPLE
        else lambda: [str(each.name) for each in branches.all_branches(handle)],
    )


def _tree(tree: Any, entries: int) -> Contents:
    listed: list[Any] = []

    def branch(number: int) -> BranchRecord:
        if not listed:
            listed.extend(branches.all_branches(tree))
        return branch_record(tree, listed[number])

    def column(where: str, name: str, type_: ColumnType, origin: Any, shared: dict[Any, Any]) -> Column:
        return baskets.branch_column(where, branch, entries, name, type_, origin)

    return Contents(entries, lambda: listing_of(branches.branches(tree)), column)


def _ntuple(handle: Any) -> Contents:
    ntuple = ntuple_records(handle)

    def column(where: str, name: str, type_: ColumnType, origin: Any, shared: dict[Any, Any]) -> Column:
        return tables.field_column(where, ntuple, name, type_, origin, shared)

    return Contents(ntuple.entries, lambda: listing_of(fields.fields(ntuple)), column)


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


def check_envelopes(where: str, ntuple: Any) -> None:
    """Compare header, footer and page lists with their checksums, before uproot parses them.

    uproot checks the first two itself, but after it has followed their sizes and counts, and the page
    lists never. Raises `DamagedFileError`.
    """

    def check(envelope: Envelope) -> None:
        stored_bytes, whole_bytes = envelope.stored_bytes, envelope.whole_bytes
        if whole_bytes > MOST_EXPANSION * stored_bytes:
            raise DamagedPageError(f"it stores {stored_bytes} bytes for {whole_bytes} uncompressed ones")
        data = read_envelope(ntuple, envelope)
        if len(data) != whole_bytes or whole_bytes < _CHECKSUM_BYTES:
            raise DamagedPageError(f"it has {len(data)} bytes instead of {whole_bytes}")
        checked_xxh3(data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:].tobytes())

    for envelope in envelopes(ntuple):
        try:
            check(envelope)
        except DamagedPageError as error:
            raise DamagedFileError(
                f"{where}: its {envelope.what} is damaged: {error}. Copy or produce the file again."
            ) from error
