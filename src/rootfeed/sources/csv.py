"""CSV and TSV: tables of text, of which one pass finds lines and types; pyarrow parses.

Groups of whole lines are the pages of each column, so that one is parsed without what is before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from rootfeed.errors import (
    DamagedFileError,
    DuplicateNameWarning,
    MissingColumnError,
    MissingObjectError,
    UnsupportedColumnError,
    UnsupportedFileError,
    nearest,
    warn,
)
from rootfeed.processes import ForkLock
from rootfeed.schema import Array, Column, ColumnType, Encoding, FileIndex, Jagged, Pages, Version
from rootfeed.sources.arrowarrays import filled, load
from rootfeed.sources.arrowtypes import column_type
from rootfeed.sources.awkwardly import as_awkward
from rootfeed.sources.csvlines import Kind, Lines, is_nulled, parsed, scanned
from rootfeed.sources.filling import Filling
from rootfeed.sources.known import Known, stamp
from rootfeed.sources.knownlines import lines_bytes, lines_from
from rootfeed.sources.objects import damaged
from rootfeed.sources.pages import overlapping, ranges
from rootfeed.sources.paths import Location, suffix
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage, open_storage
from rootfeed.sources.wholefiles import changed, modified_at, state_of

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "CsvIndex",
    "fetch",
    "friends",
    "index",
    "is_named_so",
    "prepare",
    "read",
    "read_awkward",
    "types",
    "vector_bytes",
]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PACKED = re.compile(r"\.[ct]sv(?=\.(gz|bz2|xz|zst|zip|lz4)($|[?#]))", re.IGNORECASE)
_OFFSET_BYTES = 8
_KEPT = 256  # files of which this process remembers what a pass told


@dataclass(frozen=True, eq=False)
class CsvIndex(FileIndex):
    """What a loader knows of a file: groups of lines are the pages of each column.

    Attributes
    ----------
    names : tuple of str
        Of all columns, in their order.
    kinds : mapping of str to Kind
    places : mapping of str to int
    delimiter : str
    filling : Filling or None
        What stands for values that are missing.
    modified : int
        When a local file was changed last, in nanoseconds.
    """

    names: tuple[str, ...] = field(kw_only=True, repr=False)
    kinds: Mapping[str, Kind] = field(kw_only=True, repr=False)
    places: Mapping[str, int] = field(kw_only=True, repr=False)
    delimiter: str = field(kw_only=True)
    filling: Filling | None = field(kw_only=True, repr=False)
    modified: int = field(kw_only=True, repr=False)

    @property
    def where(self) -> str:
        """The file, as messages name it: what is in it has no name."""
        return self.path


def is_named_so(path: str) -> bool:
    """Tell whether a path is called like a file of this format, be it compressed."""
    return suffix(path) in _DELIMITERS or _PACKED.search(path) is not None


def types(location: Location) -> tuple[str, Mapping[str, ColumnType]]:
    """Return no name, since these files name nothing in them, and the type of each column.

    Costs a pass over the file, which `index` need not repeat. Where several columns have one name there
    is a `DuplicateNameWarning`.
    """
    lines = _lines(location)[0]
    for text in _duplicates(location.path, lines).values():
        warn(text, DuplicateNameWarning)
    return "", {name: _type(kind) for name, kind in lines.kinds.items()}


def friends(location: Location) -> list[str]:
    """Return nothing: these files name no others."""
    return []


def index(location: Location, names: Sequence[str]) -> CsvIndex:
    """Return where the lines of a file lie, and what some columns hold in all of them.

    Costs a pass over the file, unless this process made it before, or another one that has kept it
    (`known`).

    Raises
    ------
    MissingColumnError
        Where the file has no column of that name.
    UnsupportedColumnError
        Where an entry has no value, with its line, or an integer has more than 64 bits.
    """
    path = location.path
    lines, version, when, of = _lines(location)
    for name in names:
        if name not in lines.kinds:
            raise MissingColumnError(f"{path} has no column {name!r}. {nearest(name, lines.kinds)}")
        _check(path, name, lines, location.filling)
    row_bytes = int(np.ceil(lines.stored_bytes.sum() / max(1, int(lines.bounds[-1]))))
    pages = Pages(
        bounds=lines.bounds,
        offset=lines.offset,
        stored_bytes=lines.stored_bytes,
        encoding=np.zeros(len(lines.offset), np.uint8),
        checksum=np.zeros(len(lines.offset), np.bool_),
        encodings=(Encoding("plain", np.dtype(np.uint8), stride=max(1, row_bytes)),),
    )
    found = {name: _type(lines.kinds[name]) for name in names}
    return CsvIndex(
        path=path,
        address=location.address,
        object_path="",
        format="CSV",
        entries=int(lines.bounds[-1]),
        file_bytes=version.file_bytes,
        identity=lines.identity,
        columns={
            name: Column(
                name, type_, pages, name, value_bytes=lines.letters[name] if type_.is_jagged else 0.0
            )
            for name, type_ in found.items()
        },
        head=version.head,
        tag=version.tag,
        duplicates={name: text for name, text in _duplicates(path, lines).items() if name in found},
        names=lines.names,
        kinds={name: lines.kinds[name] for name in names},
        places={name: lines.places[name] for name in names},
        delimiter=lines.delimiter,
        filling=location.filling,
        joined=b"" if location.filling is None else location.filling.identity,
        modified=when,
        stamp=of,
    )


def read(
    index: CsvIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read the entries ``[start, stop)`` of some columns: see `Source.read`.

    A group of lines is parsed once for all of these columns, and whole.

    Raises
    ------
    ChangedFileError
        Where the lines are not those that were counted.
    """
    with closing(fetched or open_storage(index.address, index.version)) as storage:
        if modified_at(index.address) != index.modified:
            raise changed(index.path)
        parts: dict[str, list[Any]] = {name: [] for name in names}
        wanted = {index.places[name]: _arrow_type(index.kinds[name]) for name in names}
        if names and stop > start:
            pages = _pages(index)
            if fetched is None:
                storage.prepare(ranges(pages, start, stop))
            for page in overlapping(pages, start, stop):
                if stopped.is_set():
                    return
                table = _page(index, storage, page, wanted, scratch)
                first = int(pages.bounds[page])
                low, high = max(start - first, 0), min(stop - first, table.num_rows)
                for name in names:
                    column = table.column(str(index.places[name])).slice(low, high - low)
                    parts[name].extend(column.chunks)
        for name in names:
            if stopped.is_set():
                return
            yield (
                name,
                filled(
                    parts.pop(name), index.path, index.columns[name], index.filling, out_for, scratch
                ),
            )
        _verify(index, storage)


def fetch(
    index: CsvIndex, names: Sequence[str], start: int, stop: int, stopped: Event
) -> Storage | None:
    """Bring what `read` needs from a server; None where the file is local."""
    if not index.address.is_remote:
        return None
    storage = open_storage(index.address, index.version, stopped)
    if names:
        storage.prepare(ranges(_pages(index), start, stop))
    if not stopped.is_set():
        storage.verify()
    return storage


def read_awkward(
    index: CsvIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of any column."""
    return as_awkward(read, index, name, start, stop)


def vector_bytes(index: CsvIndex, name: str) -> float:
    """Return the bytes of an entry of a text, on average."""
    return index.columns[name].value_bytes + _OFFSET_BYTES


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile nothing: pyarrow is compiled."""
    load()


def _pages(index: CsvIndex) -> Pages:
    pages = next(iter(index.columns.values())).pages
    assert pages is not None
    return pages


def _page(
    index: CsvIndex, storage: Storage, page: int, wanted: Mapping[int, Any], scratch: Scratch
) -> Any:
    """Return a group of lines as a table."""
    pages = _pages(index)
    contents = scratch.array("lines", int(pages.stored_bytes[page]), np.uint8)
    storage.read_into(int(pages.offset[page]), contents)
    first, end = int(pages.bounds[page]), int(pages.bounds[page + 1])
    try:
        with damaged(f"{index.path}: the entries [{first}, {end}) cannot be read"):
            table = parsed(contents, index.names, index.delimiter, wanted)
            if table.num_rows != end - first:
                raise DamagedFileError(f"{index.path} has {table.num_rows} entries for {end - first}.")
    except DamagedFileError as error:  # they were read before
        _verify(index, storage)
        raise changed(index.path) from error
    return table


def _verify(index: CsvIndex, storage: Storage) -> None:
    storage.verify()
    if modified_at(index.address) != index.modified:
        raise changed(index.path)


def _check(path: str, name: str, lines: Lines, filling: Filling | None) -> None:
    """Refuse a column that is not a number, or a text, in each entry."""
    kind = lines.kinds[name]
    if kind == "huge":
        raise UnsupportedColumnError(
            f"{path}: column {name!r} holds integers that do not fit into 64 bits. Write them with a "
            "decimal point to have them as float64, or in quotes and with a letter, as text."
        )
    given = None if filling is None else filling.of(name)
    if given is None and name in lines.nulls and is_nulled(kind):
        count, line = lines.nulls[name]
        raise UnsupportedColumnError(
            f"{path}: column {name!r} has no value in {count} of its entries, for the first time "
            f"in line {line}, and no number stands for that. Say what does, "
            f"rootfeed.open(..., fill_null={{{name!r}: ...}}), or write something there: pandas writes "
            "NaN as nothing, unless to_csv(na_rep='nan') is asked for."
        )


def _arrow_type(kind: Kind) -> Any:
    """Return the type in which pyarrow reads a column."""
    import pyarrow as pa

    plain = {
        "natural": pa.int64(),
        "integer": pa.int64(),
        "large": pa.uint64(),
        "huge": pa.string(),
        "real": pa.float64(),
        "bool": pa.bool_(),
        "text": pa.string(),
        "bytes": pa.binary(),
        "nothing": pa.float64(),
        "date32[day]": pa.date32(),
        "time32[s]": pa.time32("s"),
        "timestamp[s]": pa.timestamp("s"),
        "timestamp[ns]": pa.timestamp("ns"),
        "timestamp[s, tz=UTC]": pa.timestamp("s", "UTC"),
        "timestamp[ns, tz=UTC]": pa.timestamp("ns", "UTC"),
    }
    return plain[kind]


def _type(kind: Kind) -> ColumnType:
    return column_type(_arrow_type(kind))


def _duplicates(path: str, lines: Lines) -> dict[str, str]:
    """Return the names that several columns have, and a sentence about each."""
    if len(lines.kinds) == len(lines.names):
        return {}
    return {
        name: f"{path} has {lines.names.count(name)} columns of the name {name!r}: the first one "
        "counts. Rename the others to read them."
        for name in lines.kinds
        if lines.names.count(name) > 1
    }


_known: dict[Any, Lines] = {}
_lock = ForkLock()


def _lines(location: Location) -> tuple[Lines, Version, int, bytes]:
    """Return what a pass over a file told, the file's version, when it was changed, and its stamp."""
    path = location.path
    if location.object_path:
        raise MissingObjectError(
            f"{path} holds one table, which has no name: leave {location.object_path!r} out."
        )
    if (packed := _PACKED.search(path)) is not None:
        raise UnsupportedFileError(
            f"{path} is compressed ({packed[1]}), so that no part of it can be read without all that is "
            "before. Decompress it first, or write it as Parquet: pandas.read_csv(path).to_parquet(...)."
        )
    try:
        load()  # pyarrow is named here, where it is missing
    except ImportError as error:
        raise UnsupportedFileError(
            f"{path} is read with pyarrow, which is not installed: pip install 'rootfeed[arrow]'."
        ) from error
    when, state = modified_at(location.address), state_of(location.address)
    with closing(open_storage(location.address)) as storage:
        version = storage.version
        key, of = (location.address.urls, version, when, state), stamp(location.address, storage)
        with _lock:
            if (lines := _known.get(key)) is not None:
                return lines, version, when, of
        known = Known(location.address, "lines", lines_bytes, lambda data, *_: lines_from(data, storage))
        if (lines := known.get(storage)) is None:
            lines = scanned(path, storage, _DELIMITERS[suffix(path)])
            if modified_at(location.address) != when:
                raise changed(path)
            known.put(storage, lines)
        with _lock:
            while len(_known) >= _KEPT:
                _known.pop(next(iter(_known)))
            _known[key] = lines
        return lines, version, when, of
