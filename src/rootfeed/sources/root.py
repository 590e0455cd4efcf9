"""TTree and RNTuple: pages are fetched, checked, decompressed and decoded by kernels.

Columns without a page table (`rootfeed.schema.Column.pages` is None) go through uproot's own reader:
slower, and exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from rootfeed.errors import DamagedFileError, DuplicateNameWarning, MissingColumnError, nearest, warn
from rootfeed.processes import unforked
from rootfeed.schema import Array, Column, ColumnType, FileIndex, Jagged
from rootfeed.sources import lots, plain, vectors
from rootfeed.sources.awkwardly import as_awkward
from rootfeed.sources.decoding import decode
from rootfeed.sources.failures import Located
from rootfeed.sources.known import Known, stamp
from rootfeed.sources.lots import Lots, Wanted
from rootfeed.sources.metadata import described, keep, open_object
from rootfeed.sources.objects import RootObject
from rootfeed.sources.pages import PageReader, ranges
from rootfeed.sources.paths import Location
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage, open_storage

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["fetch", "friends", "index", "prepare", "read", "read_awkward", "types", "vector_bytes"]

Types = tuple[str, Mapping[str, ColumnType], Mapping[str, str]]

_OFFSET_BYTES = 8

_TRIES = 3
"""To get a page of a server's file undamaged."""


def types(location: Location) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the name of a file's tree or ntuple and the type of each of its columns.

    Costs one parse of the file's metadata; no page is read. Where several columns have one name there is
    a `DuplicateNameWarning`.
    """
    parsed: list[RootObject] = []

    def ask(found: RootObject) -> Types:
        told = found.object_path, found.types(), found.duplicates()
        parsed[:] = [found]
        return told

    known = Known(
        location.address,
        ("types", location.object_path),
        plain.types_bytes,
        lambda data, *_: plain.types_from(data),
    )
    object_path, types, duplicates = described(location.address, location.object_path, ask, known)
    for text in duplicates.values():
        warn(text, DuplicateNameWarning)
    for found in parsed:
        keep(location.address, location.object_path, found)
    return object_path, types


def friends(location: Location) -> list[str]:
    """Return which friends a tree has, and in which files; none where that cannot be read."""
    try:
        with open_object(location.address, location.object_path, friends=True) as found:
            return [str(friend) for friend in found.friends()]
    except Exception:  # it is only asked for to help with another error
        return []


def index(location: Location, names: Sequence[str]) -> FileIndex:
    """Return the page tables of some columns of a file.

    Costs one parse of the file's metadata, unless `types` has just parsed it, or a process before has
    asked the same (`known`); no page is read.

    Raises
    ------
    MissingColumnError
        Where the file has no column of that name.
    """

    def ask(found: RootObject) -> FileIndex:
        version = found.version
        columns = found.columns(names)
        for name in names:
            if name not in columns:
                raise MissingColumnError(
                    f"{found.path}:{found.object_path} has no column {name!r}. "
                    f"{nearest(name, found.types())}"
                )
        return FileIndex(
            path=location.path,
            object_path=found.object_path,
            format=found.format,
            entries=found.entries,
            file_bytes=version.file_bytes,
            identity=found.identity,
            columns=columns,
            head=version.head,
            tag=version.tag,
            duplicates={name: text for name, text in found.duplicates().items() if name in columns},
            address=location.address,
            stamp=stamp(location.address, found.storage),
        )

    def from_bytes(data: bytes, storage: Storage, stamp: bytes) -> FileIndex:
        return plain.index_from(data, location, names, stamp, storage)

    wanted = tuple(sorted(set(names)))
    about = ("index", location.object_path, wanted)
    known = Known(location.address, about, plain.index_bytes, from_bytes)
    return described(location.address, location.object_path, ask, known)


def read(
    index: FileIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read the entries ``[start, stop)`` of some columns in their native dtypes.

    Parameters
    ----------
    index : FileIndex
        Holds these columns: scalars, vectors of numbers, and text.
    names : sequence of str
    start, stop : int
        Entries of the file.
    out_for : function of a name
        Returns where to put a scalar column: C-contiguous, shape (stop - start,), of its native dtype.
        It is asked just before the column is read, so that columns may share memory. It is not asked
        for vectors.
    scratch : Scratch
        Holds the vectors: all of one reading are valid together, until one of them is asked again.
    stopped : threading.Event
        Looked at between pages; when it is set, nothing more is yielded.
    fetched : Storage, optional
        What `fetch` gave for these columns and entries; it is closed.

    Yields
    ------
    tuple of str and ndarray or Jagged
        Each column, when it is filled. Vectors of one collection of an RNTuple share their offsets.

    Raises
    ------
    DamagedFileError
        Names the file, the column and the entries.
    MissingFileError, AccessError, UnreachableError, ChangedFileError
        Where bytes cannot be had.
    """
    columns = [index.columns[name] for name in names]
    naming = Located(partial(_reading, names, start, stop))
    with naming:
        storage = fetched or open_storage(index.address, index.version, stopped)
    with closing(storage):
        together = Lots(storage, scratch, index.format == "TTree", index.address.is_remote)
        reader = PageReader(index, storage, scratch, stopped, together)
        try:
            yield from _read(reader, columns, start, stop, out_for, naming)
        except DamagedFileError:
            storage.verify()  # what looks like damage may be another file
            raise
        with naming:
            storage.verify()


def fetch(
    index: FileIndex, names: Sequence[str], start: int, stop: int, stopped: Event
) -> Storage | None:
    """Bring what `read` needs of these columns and entries from a server; None where it is local."""
    if not index.address.is_remote:
        return None
    columns = [index.columns[name] for name in names]
    with Located(partial(_reading, names, start, stop)):
        storage = open_storage(index.address, index.version, stopped)
        spans: Mapping[str, vectors.Span] = {}
        if any(column.offsets is not None for column in columns):
            storage.prepare(_offset_ranges(columns, start, stop))
            reader = PageReader(index, storage, Scratch(), stopped)
            try:
                spans = vectors.read_spans(reader, columns, start, stop)
            except DamagedFileError:
                return storage  # `read` finds it, too, and sees to it
        if not stopped.is_set():
            storage.prepare(_ranges(columns, start, stop, spans))
            storage.verify()  # here, where there are threads that wait
    return storage


def _read(
    reader: PageReader,
    columns: Sequence[Column],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    naming: Located,
) -> Iterator[tuple[str, Array | Jagged]]:
    storage, stopped = reader.storage, reader.stopped
    if any(column.offsets is not None for column in columns):
        with naming:
            storage.prepare(_offset_ranges(columns, start, stop))
    try:
        spans = vectors.read_spans(reader, columns, start, stop)
    except DamagedFileError:
        if not storage.forget():
            raise
        spans = vectors.read_spans(reader, columns, start, stop)
    if stopped.is_set():
        return
    with naming:
        storage.prepare(_ranges(columns, start, stop, spans))
    if reader.lots is not None:
        reader.lots.want(reader.index, _wanted(columns, start, stop, spans))
    for column in columns:
        target = out_for(column.name) if column.type.kind == "scalar" else None
        span = spans.get(column.name)
        for tries_left in reversed(range(_TRIES)):
            try:
                out = _column(reader, column, start, stop, target, span)
                break
            except DamagedFileError:
                if not tries_left or not storage.forget():
                    raise
                # It may have been spoilt on its way.
                with naming:
                    storage.prepare(_ranges([column], start, stop, spans))
        if stopped.is_set():
            return
        yield column.name, out


def _column(
    reader: PageReader,
    column: Column,
    start: int,
    stop: int,
    out: Array | None,
    span: vectors.Span | None,
) -> Array | Jagged:
    """Return a column's entries; those of a scalar in the array that is given."""
    index, scratch = reader.index, reader.scratch
    if out is None:
        if column.pages is None:
            from rootfeed.sources import fallback

            return fallback.read_jagged(index, column, start, stop, scratch)
        return vectors.read_vector(reader, column, start, stop, span)
    if span is not None:
        np.subtract(span.offsets[1:], span.offsets[:-1], out=out, casting="unsafe")
    elif column.pages is None:
        from rootfeed.sources import fallback

        fallback.fill_scalar(index, column, start, stop, out, scratch)
    else:
        reader.fill(column, start, stop, out)
    return out


def _reading(names: Sequence[str], start: int, stop: int) -> str:
    """Say what was being read, as an error's last words."""
    shown = ", ".join(repr(name) for name in names[:4])
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"Reading the entries [{start}, {stop}) of {shown}{rest}."


def read_awkward(
    index: FileIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Read the entries ``[start, stop)`` of any column.

    For what `read` does not give: vectors of vectors, objects. Those are read by uproot, others by
    our kernels.

    Parameters
    ----------
    index : FileIndex
        Holds this column.
    name : str
    start, stop : int
    scratch : Scratch, optional
        Keeps the file open for the next call; without one its metadata is parsed each time.

    Raises
    ------
    DamagedFileError
        Names the file, the column and the entries.
    """
    column = index.columns[name]
    if column.pages is None and column.offsets is None:
        from rootfeed.sources import fallback

        with closing(Scratch()) as own:
            return fallback.read_array(index, column, start, stop, scratch or own)

    return as_awkward(read, index, name, start, stop)


def vector_bytes(index: FileIndex, name: str) -> float:
    """Return the bytes that an entry of a vector column takes in a `Jagged`, on average.

    From metadata alone: exact for an RNTuple and for arrays. For the vectors of a TTree it is from the
    bytes that were written before compression, or four times the stored ones where the file does not
    tell those; headers and positions of entries are taken off. Of columns that uproot reads it is zero
    elements.
    """
    return index.columns[name].value_bytes + _OFFSET_BYTES


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile every kernel that reading these columns needs: each encoding once, on no elements."""
    nothing, scratch = np.empty(0, np.uint8), Scratch()
    columns = [column for index in indexes for column in index.columns.values()]
    if any(column.pages is None for column in columns):
        with unforked():
            from rootfeed.sources import fallback  # noqa: F401  # so that threads need not
    vectors.prepare(columns)
    lots.prepare(columns)
    wanted = {
        (encoding, column.dtype)
        for column in columns
        if column.pages is not None
        for encoding in column.pages.encodings
        if "text" not in encoding.name
    }
    for encoding, dtype in wanted:
        decode(encoding, nothing, 0, 0, np.empty(0, dtype), scratch)


def _offset_ranges(columns: Sequence[Column], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of the page contents that tell where these entries' elements lie."""
    for pages in {id(column.offsets): column.offsets for column in columns}.values():
        if pages is not None:
            # The first entry begins where the one before it ends.
            yield from ranges(pages, max(0, start - 1), stop)


def _wanted(
    columns: Sequence[Column], start: int, stop: int, spans: Mapping[str, vectors.Span]
) -> list[Wanted]:
    """Return which elements of which columns these entries need, where pages hold nothing else."""
    found = []
    for column in columns:
        if (span := spans.get(column.name)) is not None:
            found.append((column, span.first, span.stop))
        elif length := column.length:
            found.append((column, start * length, stop * length))
        elif column.type.kind == "scalar":
            found.append((column, start, stop))
    return found


def _ranges(
    columns: Sequence[Column], start: int, stop: int, spans: Mapping[str, vectors.Span]
) -> Iterator[tuple[int, int]]:
    """Yield offset and size of all page contents that these entries need."""
    for column in columns:
        if column.pages is None:
            continue
        if (span := spans.get(column.name)) is not None:
            yield from ranges(column.pages, span.first, span.stop)
        else:
            length = max(1, column.length)
            yield from ranges(column.pages, start * length, stop * length)
            if column.counts is not None and (pages := column.counts.pages) is not None:
                # Where entries lie depends on all that come before them in their basket.
                bounds = column.pages.bounds
                first = bounds[max(0, int(bounds.searchsorted(start, "right")) - 1)]
                yield from ranges(pages, int(first), stop)
