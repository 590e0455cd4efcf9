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
from rootfeed.sources.storage import Storage

__all__ = [
    "Cluster",
    "ColumnRecord",
    "EmbeddedBasket",
    "Envelope",
    "FieldRecord",
    "FileClasses",
    "PageRecord",
    "StorageSource",
    "clusters",
    "column_records",
    "embedded_baskets",
    "envelopes",
    "field_number",
    "field_path",
    "field_records",
    "other_file",
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


class EmbeddedBasket(NamedTuple):
    """A basket that lies in its tree's metadata.

    Attributes
    ----------
    data : bytes
        The entries, uncompressed.
    positions : ndarray or None
        Where each entry begins and the last one ends; None where all have one size.
    """

    data: bytes
    positions: Array | None


def embedded_baskets(branch: Any) -> list[EmbeddedBasket]:
    """Return a branch's baskets that lie in the tree's metadata; they come after all others."""
    return [
        EmbeddedBasket(
            bytes(basket.data),
            None if basket.byte_offsets is None else np.asarray(basket.byte_offsets),
        )
        for basket in branch.embedded_baskets
    ]


def other_file(tree: Any, branch: Any) -> str:
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


# --- RNTuple: records of the binary format specification ------------------------------------------


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


class FieldRecord(NamedTuple):
    """A field of an ntuple.

    Attributes
    ----------
    name, type_name : str
    parent : int
        Number of the field around it; its own where there is none.
    role : int
        Its structural role.
    repetition : int
        Elements of an array; 0 where this is none.
    source : int or None
        Number of the field that a projected one shows.
    """

    name: str
    type_name: str
    parent: int
    role: int
    repetition: int
    source: int | None


class ColumnRecord(NamedTuple):
    """A column of an ntuple: one representation of a field.

    Attributes
    ----------
    number : int
        Its place in the lists of pages.
    field : int
        Number of the field.
    representation : int
        The first one is 0.
    type, bits : int
        Of its elements.
    added : int
        The first element that is stored; 0 unless the column was added while the ntuple was written.
    low, high : float or None
        The range of quantized reals.
    """

    number: int
    field: int
    representation: int
    type: int
    bits: int
    added: int
    low: float | None
    high: float | None


class PageRecord(NamedTuple):
    """Elements, offset in the file and stored bytes of a page, and whether a checksum follows."""

    elements: int
    offset: int
    stored_bytes: int
    has_checksum: bool


class Cluster(NamedTuple):
    """Entries ``[start, stop)`` of an ntuple, and their pages.

    Attributes
    ----------
    start, stop : int
    columns : sequence
        uproot's lists of pages; see `pages`.
    """

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


def field_records(ntuple: Any) -> list[FieldRecord]:
    """Return the fields of an ntuple by their numbers, without those that only uproot makes up."""
    return [
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


def column_records(ntuple: Any) -> list[ColumnRecord]:
    """Return the columns of an ntuple by their numbers."""
    return [
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


def clusters(ntuple: Any) -> Iterator[Cluster]:
    """Yield an ntuple's clusters in the file's order."""
    for summary, columns in zip(ntuple.cluster_summaries, ntuple.page_link_list, strict=True):
        start = int(summary.num_first_entry)
        yield Cluster(start, start + int(summary.num_entries), columns)


def field_path(ntuple: Any, number: int) -> str:
    """Return the name by which uproot looks a field up.

    It leaves the underscore of a pair's members out.
    """
    return str(ntuple.all_fields[number].path)


def field_number(field: Any) -> int:
    """Return the number of a field that was looked up."""
    return int(field.field_id)
