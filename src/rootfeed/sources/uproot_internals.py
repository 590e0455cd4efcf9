"""All that we use of uproot's insides, which may change from release to release.

Other modules get plain values from here. Of uproot itself they use what its reference documents at the
top level (`uproot.open`, interpretations such as `uproot.AsJagged`) and the methods of files, trees and
branches, such as ``branch.member("fLeaves")``; `tests/test_layers.py` refuses anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import uproot

from rootfeed.schema import Array
from rootfeed.sources.records import (
    Baskets,
    BranchRecord,
    ColumnRecord,
    EmbeddedBasket,
    FieldRecord,
    Ntuple,
    PageRecord,
)
from rootfeed.sources.storage import Storage

__all__ = [
    "Envelope",
    "FileClasses",
    "StorageSource",
    "branch_record",
    "envelopes",
    "field_of",
    "ntuple_records",
    "read_envelope",
]

_LONG_TEXT = 255  # stands for a length that follows in four bytes


# --- Files ----------------------------------------------------------------------------------------


class StorageSource(uproot.source.chunk.Source):  # type: ignore[misc]  # uproot has no types
    """Gives uproot a file's bytes from our storage, on the thread that asks: `uproot.open(handler=...)`.

    So all bytes come from one place. Without threads of its own, and without a memory map: where a
    mapped file is cut or its disk fails, the process dies of a SIGBUS.

    Parameters
    ----------
    path : str
    storage : Storage
        Closed by whoever opened it.
    **options
        uproot's own.
    """

    def __init__(self, path: str, *, storage: Storage, **options: Any) -> None:
        super().__init__()
        self._file_path = path
        self._num_bytes = storage.file_bytes
        self._storage = storage
        self._closed = False

    def chunk(self, start: int, stop: int) -> Any:
        """Return the bytes ``[start, stop)``: fewer where the file ends, which uproot notices."""
        size = max(0, min(stop, self._storage.file_bytes) - start)
        data = np.empty(size, np.uint8)
        self._storage.read_into(start, data)
        return uproot.source.chunk.Chunk(self, start, stop, uproot.source.futures.TrivialFuture(data))

    def chunks(self, ranges: Sequence[tuple[int, int]], notifications: Any) -> list[Any]:
        """Return several ranges, which are fetched at once, and announce each."""
        self._storage.prepare((start, stop - start) for start, stop in ranges)
        chunks = [self.chunk(start, stop) for start, stop in ranges]
        for chunk in chunks:
            notifications.put(chunk)
        return chunks

    @property
    def closed(self) -> bool:
        """Whether uproot has closed it."""
        return self._closed

    def __enter__(self) -> StorageSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True


_Dispatch: Any = uproot.model.DispatchByVersion


def _own(class_: Any) -> bool:
    """Tell whether a class is uproot's own, and not made from some file's streamers."""
    return bool(class_.__module__ != "uproot.dynamic")


_BUILT_IN = MappingProxyType({name: class_ for name, class_ in uproot.classes.items() if _own(class_)})
_VERSIONS = MappingProxyType(
    {
        name: {version: each for version, each in class_.known_versions.items() if _own(each)}
        for name, class_ in _BUILT_IN.items()
        if issubclass(class_, _Dispatch)
    }
)
_PLAIN = {name: class_ for name, class_ in _BUILT_IN.items() if name not in _VERSIONS}


class FileClasses(dict[str, Any]):
    """The C++ classes that uproot knows while it reads one file: `uproot.open(custom_classes=...)`.

    uproot makes Python classes from a file's streamers and keeps them in one table for the whole
    process. What it learns from a damaged file, or from one whose class has another layout under the
    same name and version, would then be used for all others. Here each file has a table of its own,
    which starts with what uproot itself brings along.

    A class that chooses by version keeps what it learns in itself, so a file gets one of its own: made
    when it is first asked for, because few of them are.
    """

    def __init__(self) -> None:
        super().__init__(_PLAIN)
        self._unused = set(_VERSIONS)

    def __missing__(self, name: str) -> Any:
        if name not in self._unused:
            raise KeyError(name)
        self._unused.remove(name)
        class_ = _BUILT_IN[name]
        own = type(class_.__name__, (class_,), {"known_versions": dict(_VERSIONS[name])})
        self[name] = own
        return own

    def get(self, name: str, default: Any = None) -> Any:
        """Return a class, or the default."""
        try:
            return self[name]
        except KeyError:
            return default


# --- TTree ----------------------------------------------------------------------------------------


def branch_record(tree: Any, branch: Any) -> BranchRecord:
    """Return what uproot parsed of a branch; it parses more when it is asked where baskets lie."""
    return BranchRecord(
        name=str(branch.name),
        entries=int(branch.num_entries),
        whole_bytes=int(branch.member("fTotBytes", none_if_missing=True) or 0),
        has_positions=bool(branch.member("fEntryOffsetLen")),
        other_file=_other_file(tree, branch),
        baskets=lambda: _baskets(branch),
    )


def _baskets(branch: Any) -> Baskets:
    embedded = [
        EmbeddedBasket(
            bytes(basket.data),
            None if basket.byte_offsets is None else np.asarray(basket.byte_offsets),
        )
        for basket in branch.embedded_baskets
    ]
    separate = int(branch.num_baskets) - len(embedded)
    return Baskets(
        bounds=np.asarray(branch.entry_offsets, np.int64),
        offset=np.asarray(branch.member("fBasketSeek")[:separate], np.int64),
        stored_bytes=np.asarray(branch.member("fBasketBytes")[:separate], np.int64),
        embedded=embedded,
    )


def _other_file(tree: Any, branch: Any) -> str:
    """Return the name of the file that a branch's baskets lie in; empty where it is the tree's own.

    It is the last member of ``TBranch``, which uproot skips because it is nearly always empty.
    """
    holder = branch
    while "fBasketSeek" not in holder.members and holder.bases:
        holder = holder.bases[0]
    if "fFileName" in holder.members:
        return str(holder.members["fFileName"])
    if holder.num_bytes is None or "fBasketSeek" not in holder.members:
        return ""
    stop = holder.cursor.index + holder.num_bytes
    if not tree.chunk.get(stop - 1, stop, holder.cursor, {})[0]:
        return ""  # a text that is empty is its length, which is zero
    contents = tree.chunk.get(holder.cursor.index, stop, holder.cursor, {}).tobytes()
    places = np.asarray(holder.members["fBasketSeek"]).tobytes()
    text: bytes = contents[contents.rfind(places) + len(places) :]
    return text[5 if text[0] == _LONG_TEXT else 1 :].decode(errors="replace")


# --- RNTuple ---------------------------------------------------------------------------------------


class Envelope(NamedTuple):
    """Where a part of an ntuple's metadata lies.

    Attributes
    ----------
    what : {"header", "footer", "page list"}
    offset : int
        In the file.
    stored_bytes, whole_bytes : int
        Its size in the file, and uncompressed, with its checksum.
    """

    what: str
    offset: int
    stored_bytes: int
    whole_bytes: int


class _Cluster(NamedTuple):
    """A `records.Cluster`, whose `columns` are uproot's lists of pages."""

    start: int
    stop: int
    columns: Sequence[Any]

    def pages(self, column: ColumnRecord) -> list[PageRecord] | None:
        """Return a column's pages; None where it is suppressed here, or was added later."""
        if column.number >= len(self.columns) or self.columns[column.number].suppressed:
            return None
        return [
            PageRecord(page.num_elements, page.locator.offset, page.locator.num_bytes, page.has_checksum)
            for page in self.columns[column.number].pages
        ]


def envelopes(ntuple: Any) -> Iterator[Envelope]:
    """Yield header, footer and page lists. uproot parses the first two when a page list is asked for."""
    for what in ("Header", "Footer"):
        offset, stored, whole = (
            int(ntuple.member(f"f{part}{what}")) for part in ("Seek", "NBytes", "Len")
        )
        yield Envelope(what.lower(), offset, stored, whole)
    for group in ntuple.footer.cluster_group_records:
        link = group.page_list_link
        yield Envelope("page list", link.locator.offset, link.locator.num_bytes, link.env_uncomp_size)


def read_envelope(ntuple: Any, envelope: Envelope) -> Array:
    """Return an envelope's bytes, uncompressed and not yet compared with its checksum."""
    locator = SimpleNamespace(offset=envelope.offset, num_bytes=envelope.stored_bytes)
    chunk, _ = ntuple.read_locator(locator, envelope.whole_bytes)
    return np.frombuffer(chunk.raw_data, np.uint8)


def ntuple_records(ntuple: Any) -> Ntuple:
    """Return what uproot parsed of an ntuple."""
    fields = [
        FieldRecord(
            record.field_name,
            record.type_name,
            record.parent_field_id,
            int(record.struct_role),
            int(record.repetition),
            record.source_field_id,
        )
        for record in ntuple.field_records
    ]
    columns = [
        ColumnRecord(
            record.idx,
            record.field_id,
            record.repr_idx,
            record.type,
            int(record.nbits),
            # ROOT stores it negative where the representation was suppressed at that time, and uproot
            # shows it unsigned.
            abs(int(np.uint64(record.first_element_index).astype(np.int64))),
            record.min_value,
            record.max_value,
        )
        for record in ntuple.column_records
    ]
    clusters = [
        _Cluster(int(summary.num_first_entry), int(summary.num_first_entry + summary.num_entries), pages)
        for summary, pages in zip(ntuple.cluster_summaries, ntuple.page_link_list, strict=True)
    ]
    return Ntuple(int(ntuple.num_entries), fields, columns, clusters)


def field_of(ntuple: Any, number: int) -> Any:
    """Return uproot's field of a number."""
    return ntuple.all_fields[number]
