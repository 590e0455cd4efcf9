"""Parquet and Arrow (Feather): pyarrow decodes, on our threads and from our storage.

Row groups, or record batches, are the pages of each column, so that blocks end where they do. Nothing is
open between two readings; a thread keeps the metadata of the file that it read last.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rootfeed.errors import (
    ChangedFileError,
    DamagedFileError,
    DuplicateNameWarning,
    MissingColumnError,
    MissingObjectError,
    RootfeedError,
    UnsupportedColumnError,
    UnsupportedFileError,
    nearest,
    warn,
)
from rootfeed.schema import Array, Column, ColumnType, Encoding, FileIndex, Jagged, Pages, Texts
from rootfeed.sources import flatbuffers
from rootfeed.sources.arrowtypes import as_numbers, as_text, as_vectors, column_type, decoded, nodes_of
from rootfeed.sources.objects import damaged
from rootfeed.sources.pages import ranges
from rootfeed.sources.paths import Location, suffix
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Address, Storage, local_path, open_storage

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "ArrowIndex",
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

_SUFFIXES = frozenset({".parquet", ".parq", ".pq", ".arrow", ".feather", ".ipc"})
_MAGIC_BYTES = 8
_END_BYTES = 64 << 10  # of a file, fetched before it is asked for
_OFFSET_BYTES = 8

_SAMPLES = 16
_SAMPLE_BYTES = 4096
"""Of the values, for the identity: footers of files of equal length can be equal."""


@dataclass(frozen=True, eq=False)
class ArrowIndex(FileIndex):
    """What a loader knows of a file: row groups or record batches are the pages of each column.

    Attributes
    ----------
    footer_bytes : int
        Length of the metadata at the end of the file.
    modified : int
        When a local file was changed last, in nanoseconds: its first bytes may stay what they are.
    """

    footer_bytes: int = field(kw_only=True, repr=False)
    modified: int = field(kw_only=True, repr=False)

    @property
    def where(self) -> str:
        """The file, as messages name it: what is in it has no name."""
        return self.path


def is_named_so(path: str) -> bool:
    """Tell whether a path is called like a file of these formats."""
    return suffix(path) in _SUFFIXES


def types(location: Location) -> tuple[str, Mapping[str, ColumnType]]:
    """Return no name, since these files name nothing in them, and the type of each column.

    Where several columns have one name there is a `DuplicateNameWarning`.
    """
    with _opened(location) as file:
        for text in file.duplicates().values():
            warn(text, DuplicateNameWarning)
        return "", file.types()


def friends(location: Location) -> list[str]:
    """Return nothing: these files name no others."""
    return []


def index(location: Location, names: Sequence[str]) -> ArrowIndex:
    """Return where the row groups or record batches of some columns lie.

    Costs one parse of the file's metadata, and for its identity some small reads between.

    Raises
    ------
    MissingColumnError
        Where the file has no column of that name.
    UnsupportedColumnError
        Where it is of a type that has no native one, or where the metadata tell that it has nulls.
    """
    with _opened(location) as file:
        found = file.types()
        for name in names:
            if name not in found:
                raise MissingColumnError(f"{file.path} has no column {name!r}. {nearest(name, found)}")
            if file.is_refused(name):
                raise UnsupportedColumnError(
                    f"{file.path}: column {name!r} is of type {file.field(name).type}, which has no "
                    "native counterpart. Leave it out, or write it as numbers: "
                    f"column.cast('float64') in pyarrow, astype('float64') in pandas."
                )
        with damaged(f"{file.path}: its metadata cannot be read"):
            columns = {name: file.column(name, found[name]) for name in names}
            identity = file.identity()
        return ArrowIndex(
            path=location.path,
            address=location.address,
            object_path="",
            format=file.format,
            entries=int(file.bounds[-1]),
            file_bytes=file.storage.version.file_bytes,
            identity=identity,
            columns=columns,
            head=file.storage.version.head,
            tag=file.storage.version.tag,
            duplicates={name: text for name, text in file.duplicates().items() if name in columns},
            footer_bytes=file.footer_bytes,
            modified=file.modified,
        )


def read(
    index: ArrowIndex,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read the entries ``[start, stop)`` of some columns: see `Source.read`.

    Of a row group that is wanted in part, all is decoded.

    Raises
    ------
    UnsupportedColumnError
        Where an entry has no value (null).
    DamagedFileError
        Names the file, the column and the entries.
    """
    with _opened(index, scratch, names, start, stop, fetched) as file:
        if stopped.is_set():
            return
        for name in names:
            with file.reading(name, start, stop):
                parts = [decoded(part) for part in file.parts(name, start, stop)]
                if nulls := sum(part.null_count for part in parts):
                    raise _nulls(index.path, name, f"{nulls} of its entries")
                out = _filled(index, name, parts, stop - start, out_for, scratch)
                del parts
            if stopped.is_set():
                return
            yield name, out
        file.verify()


def fetch(
    index: ArrowIndex, names: Sequence[str], start: int, stop: int, stopped: Event
) -> Storage | None:
    """Bring what `read` needs from a server, as far as metadata tell; None where the file is local."""
    if not index.address.is_remote:
        return None
    storage = open_storage(index.address, index.version, stopped)
    storage.prepare(_ranges(index, names, start, stop))
    if index.format == "Parquet" and not stopped.is_set():  # of Arrow's, `read` asks for more
        storage.verify()
    return storage


def read_awkward(
    index: ArrowIndex, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of any column."""
    import awkward as ak

    type_ = index.columns[name].type
    if type_.dtype is None and type_.kind != "text":
        import pyarrow as pa

        with (
            _opened(index, scratch, [name], start, stop) as file,
            file.reading(name, start, stop),
        ):
            parts = list(file.parts(name, start, stop))
            found = ak.from_arrow(pa.chunked_array(parts, file.field(name).type))
            file.verify()
            return found
    own = Scratch()  # whose memory the array keeps

    def out_for(_: str) -> Array:
        return np.empty(stop - start, index.dtype(name))

    [(_, values)] = read(index, [name], start, stop, out_for, own, Event())
    return values.as_awkward(type_.shape) if isinstance(values, Jagged) else ak.Array(values)


def vector_bytes(index: ArrowIndex, name: str) -> float:
    """Return the bytes of an entry of a vector, on average; of texts an estimate."""
    return index.columns[name].value_bytes + _OFFSET_BYTES


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile nothing: pyarrow is compiled."""


def _nulls(path: str, name: str, what: str) -> UnsupportedColumnError:
    return UnsupportedColumnError(
        f"{path}: column {name!r} has no value (null) in {what}, and no number stands for that. "
        "Fill them when the file is written, for example with table.fillna(0) in pandas or "
        "pyarrow.compute.fill_null(column, 0); pandas writes NaN as null."
    )


def _filled(
    index: ArrowIndex,
    name: str,
    parts: Sequence[Any],
    entries: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
) -> Array | Jagged:
    """Return the entries of all parts in memory of ours."""
    column, done = index.columns[name], 0
    if sum(map(len, parts)) != entries:
        raise DamagedFileError(
            f"{sum(map(len, parts))} entries came of {entries}, against what its metadata say"
        )
    if column.type.kind == "scalar":
        out = out_for(name)
        for part in parts:
            out[done : done + len(part)] = as_numbers(part)
            done += len(part)
        return out
    is_text = column.type.kind == "text"
    pairs: list[tuple[Any, Array]] = [as_text(part) if is_text else as_vectors(part) for part in parts]
    if not is_text and (nulls := sum(each.null_count for each, _ in pairs)):
        raise _nulls(index.path, name, f"{nulls} elements of its vectors")
    dtype = np.dtype(np.uint8) if is_text else column.type.dtype
    offsets = scratch.array(f"offsets of {name}", entries + 1, np.int64)
    values = scratch.array(f"values of {name}", sum(len(each) for each, _ in pairs), dtype)
    offsets[0] = first = 0
    for each, ends in pairs:
        np.add(ends, first, out=offsets[done + 1 : done + 1 + len(ends)])
        values[first : first + len(each)] = each if is_text else as_numbers(each)
        done, first = done + len(ends), first + len(each)
    return (Texts if is_text else Jagged)(values, offsets)


@contextmanager
def _opened(
    of: Location | ArrowIndex,
    scratch: Scratch | None = None,
    names: Sequence[str] = (),
    start: int = 0,
    stop: int = 0,
    fetched: Storage | None = None,
) -> Iterator[_File]:
    """Open a file, to read some entries of it, and close it afterwards."""
    path = of.path
    if isinstance(of, Location) and of.object_path:
        raise MissingObjectError(
            f"{path} holds one table, which has no name: leave {of.object_path!r} out."
        )
    try:
        import pyarrow  # noqa: F401  # named here, where it is missing
    except ImportError as error:
        raise UnsupportedFileError(
            f"{path} is read with pyarrow, which is not installed: pip install 'rootfeed[arrow]'."
        ) from error
    with ExitStack() as stack:
        modified = _modified(of.address)
        if isinstance(of, ArrowIndex):
            storage = fetched or open_storage(of.address, of.version)
            stack.callback(storage.close)
            if modified != of.modified:
                raise _changed(path)
            if fetched is None:
                storage.prepare(_ranges(of, names, start, stop))
            kind: type[_File] = _Parquet if of.format == "Parquet" else _Arrow
            key: Any = (of.path, of.identity)
        else:
            storage = open_storage(of.address)
            stack.callback(storage.close)
            size = storage.file_bytes
            storage.prepare([(0, _MAGIC_BYTES), (max(0, size - _END_BYTES), _END_BYTES)])
            kind = _kind(path, size, _bytes(storage, 0, min(size, _MAGIC_BYTES)))
            key = object()
        with damaged(f"{path} cannot be read as a file of {kind.format}"):
            file = kind(of, storage, modified, scratch or Scratch(), key)
        stack.callback(file.close)
        file.use(names)
        yield file


def _ranges(index: ArrowIndex, names: Sequence[str], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of what reading some entries needs, as far as metadata tell."""
    yield index.file_bytes - index.footer_bytes, index.footer_bytes
    if index.format == "Parquet":
        for name in names:
            if (pages := index.columns[name].pages) is not None:
                yield from ranges(pages, start, stop)


def _kind(path: str, size: int, magic: bytes) -> type[_File]:
    if magic[:4] == b"PAR1":
        return _Parquet
    if magic[:6] == b"ARROW1":
        return _Arrow
    raise _unknown(path, size, magic)


def _unknown(path: str, size: int, magic: bytes) -> RootfeedError:
    if magic[:4] == b"PARE":
        return UnsupportedFileError(f"{path} is encrypted, which is not supported. Decrypt it first.")
    if magic[:4] == b"FEA1":
        return UnsupportedFileError(
            f"{path} is of the first version of Feather. Write it again with a current one: "
            "pyarrow.feather.write_feather."
        )
    if magic[:4] == b"\xff\xff\xff\xff":
        return UnsupportedFileError(
            f"{path} is a stream of Arrow, in which entries are not found by number. Write it as a "
            "file: pyarrow.ipc.new_file."
        )
    if magic[:4] == b"root":
        return UnsupportedFileError(f"{path} is a ROOT file: rename it to end in .root.")
    return DamagedFileError(
        f"{path} is neither a Parquet file nor one of Arrow: it has {size} bytes and begins with "
        f"{magic!r}. Copy or produce the file again."
    )


def _changed(path: str) -> ChangedFileError:
    return ChangedFileError(
        f"{path} was changed while it was being read: it was written to after it was opened. "
        "Open it again."
    )


def _modified(address: Address) -> int:
    """Return when a local file was changed; 0 of what storage tells to be missing, or of a server's."""
    try:
        return 0 if address.is_remote else os.stat(local_path(address.urls[0])).st_mtime_ns
    except OSError:
        return 0


def _bytes(storage: Storage, offset: int, size: int) -> bytes:
    out = np.empty(size, np.uint8)
    storage.read_into(offset, out)
    return out.tobytes()


class _StorageFile:
    """Storage as the file that pyarrow reads."""

    mode = "rb"
    closed = False

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        return self._next(size).tobytes()

    def read_buffer(self, size: int = -1) -> Any:
        import pyarrow as pa

        return pa.py_buffer(self._next(size))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size()}[whence]
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def size(self) -> int:
        return self._storage.file_bytes

    def close(self) -> None:
        """Do nothing: storage is closed by who opened it."""

    def _next(self, size: int) -> Array:
        left = max(0, self.size() - self._position)
        out = np.empty(left if size < 0 else min(size, left), np.uint8)
        self._storage.read_into(self._position, out)
        self._position += len(out)
        return out


class _File:
    """An open file of either format.

    Attributes
    ----------
    schema : pyarrow.Schema
    bounds : ndarray of int64, shape (groups + 1,)
        Entries between which row groups or record batches end, empty ones included.
    """

    format: Literal["Parquet", "Arrow"]
    schema: Any
    bounds: Array
    footer_bytes: int

    def __init__(
        self,
        of: Location | ArrowIndex,
        storage: Storage,
        modified: int,
        scratch: Scratch,
        key: Any,
    ) -> None:
        import pyarrow as pa

        self.path, self.address, self.storage, self.modified = of.path, of.address, storage, modified
        self.source = pa.PythonFile(_StorageFile(storage), "r")
        self._open(scratch, key)
        self._first: dict[str, int] = {}
        for number, name in enumerate(self.schema.names):
            self._first.setdefault(name, number)

    def _open(self, scratch: Scratch, key: Any) -> None:
        raise NotImplementedError

    def parts(self, name: str, start: int, stop: int) -> Iterator[Any]:
        """Yield the entries ``[start, stop)`` of a column as Arrow arrays."""
        raise NotImplementedError

    def use(self, names: Sequence[str]) -> None:
        """Say which columns are going to be read."""

    def stored(self, name: str, type_: ColumnType) -> tuple[Array, Array, float]:
        """Return of each group where a column lies and its bytes, and the decoded bytes of an entry."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go what was opened."""
        self.source.close()

    def field(self, name: str) -> Any:
        """Return the first field of a name."""
        return self.schema.field(self._first[name])

    def position(self, name: str) -> int:
        """Return the number of the first field of a name."""
        return self._first[name]

    def types(self) -> dict[str, ColumnType]:
        """Return the type of each column."""
        return {name: column_type(self.field(name).type) for name in self._first}

    def is_refused(self, name: str) -> bool:
        """Tell whether a column cannot be read at all."""
        import pyarrow as pa

        type_ = self.field(name).type
        return any(each(type_) for each in (pa.types.is_null, pa.types.is_decimal, pa.types.is_interval))

    def duplicates(self) -> dict[str, str]:
        """Return the names that several columns have, and a sentence about each."""
        names = self.schema.names
        if len(self._first) == len(names):
            return {}
        return {
            name: f"{self.path} has {names.count(name)} columns of the name {name!r}: the first one "
            "counts. Rename the others to read them."
            for name in self._first
            if names.count(name) > 1
        }

    def column(self, name: str, type_: ColumnType) -> Column:
        """Return where a column lies."""
        offset, stored, value_bytes = self.stored(name, type_)
        filled = np.diff(self.bounds) > 0
        element = np.dtype(np.uint8) if type_.dtype is None else type_.dtype
        pages = Pages(
            bounds=np.append(0, self.bounds[1:][filled]),
            offset=offset[filled],
            stored_bytes=stored[filled],
            encoding=np.zeros(int(filled.sum()), np.uint8),
            checksum=np.zeros(int(filled.sum()), np.bool_),
            encodings=(Encoding("plain", element),),
        )
        return Column(name, type_, pages, name, value_bytes=value_bytes)

    def groups(self, start: int, stop: int) -> range:
        """Return the groups that hold some entries."""
        first = int(np.searchsorted(self.bounds, start, "right")) - 1
        return range(first, max(first, int(np.searchsorted(self.bounds, stop, "left"))))

    def identity(self) -> bytes:
        """Return 16 bytes that tell the file from others: of its footer, and of samples before it."""
        size = self.storage.file_bytes
        last = max(0, size - self.footer_bytes - _SAMPLE_BYTES)
        places = sorted({last * number // (_SAMPLES - 1) for number in range(_SAMPLES)})
        ranges = [(place, min(_SAMPLE_BYTES, size - place)) for place in places]
        ranges.append((size - self.footer_bytes, self.footer_bytes))
        self.storage.prepare(ranges)
        digest = hashlib.blake2b(f"{size}".encode(), digest_size=16)
        for offset, length in ranges:
            digest.update(_bytes(self.storage, offset, length))
        return digest.digest()

    def verify(self) -> None:
        """Make sure that the file is what it was when it was opened."""
        self.storage.verify()
        if _modified(self.address) != self.modified:
            raise _changed(self.path)

    @contextmanager
    def reading(self, name: str, start: int, stop: int) -> Iterator[None]:
        """Say of an error what was being read; what looks like damage may be another file."""
        import pyarrow as pa

        what = f"{self.path}: the entries [{start}, {stop}) of column {name!r} cannot be read"
        try:
            with damaged(what):
                yield
        except DamagedFileError as error:
            self.verify()
            if isinstance(error.__cause__, pa.ArrowNotImplementedError):
                raise UnsupportedFileError(
                    f"{what}: {error.__cause__}. Write the file again, for example compressed by zstd."
                ) from error
            raise


class _Parquet(_File):
    """A Parquet file."""

    format = "Parquet"

    def _open(self, scratch: Scratch, key: Any) -> None:
        import pyarrow.parquet as pq

        size = self.storage.file_bytes
        end = _bytes(self.storage, max(0, size - 8), min(8, size))
        if size < 12 or end[4:] != b"PAR1":
            text = "encrypted" if end[4:] == b"PARE" else "truncated"
            raise DamagedFileError(
                f"{self.path} is {text}: it does not end as Parquet files do. "
                "Copy or produce the file again."
            )
        self.footer_bytes = int.from_bytes(end[:4], "little") + 8
        if self.footer_bytes + 4 > size:
            raise DamagedFileError(
                f"{self.path} is damaged: it claims {self.footer_bytes} bytes of metadata, and has "
                f"{size} in all. Copy or produce the file again."
            )

        def parse(_: ExitStack) -> tuple[Any, Array]:
            metadata = pq.read_metadata(self.source)
            groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
            return metadata, _bounds(self.path, (group.num_rows for group in groups), metadata.num_rows)

        self._metadata, self.bounds = scratch.keep(key, parse)
        self._reader = pq.ParquetFile(
            self.source, metadata=self._metadata, page_checksum_verification=True
        )
        self.schema = self._reader.schema_arrow

    def parts(self, name: str, start: int, stop: int) -> Iterator[Any]:
        groups = self.groups(start, stop)
        if not groups:
            return
        table = self._reader.read_row_groups(list(groups), columns=[name], use_threads=False)
        # Others may be of that name, or have it as a part of theirs.
        column = table.column(table.column_names.index(name))
        yield from column.slice(start - int(self.bounds[groups[0]]), stop - start).chunks

    def stored(self, name: str, type_: ColumnType) -> tuple[Array, Array, float]:
        leaf = sum(nodes_of(self.schema.field(k).type)[1] for k in range(self.position(name)))
        rows = []
        for number in range(self._metadata.num_row_groups):
            chunk = self._metadata.row_group(number).column(leaf)
            statistics = chunk.statistics if chunk.is_stats_set else None
            nulls = statistics.null_count if statistics and statistics.has_null_count else 0
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            size = chunk.total_compressed_size
            if not 0 <= start <= start + size <= self.storage.file_bytes:
                raise DamagedFileError(
                    f"{self.path}: column {name!r} claims to lie outside of the file. "
                    "Copy or produce the file again."
                )
            rows.append((start, size, chunk.num_values, chunk.total_uncompressed_size, nulls))
        places = np.array(rows, np.int64).reshape(-1, 5)
        if type_.kind in ("scalar", "text") and (nulls := int(places[:, 4].sum())):
            raise _nulls(self.path, name, f"{nulls} of its entries")
        decoded_bytes = int(places[:, 3].sum())
        if type_.dtype is not None:
            decoded_bytes = int(places[:, 2].sum()) * type_.dtype.itemsize
        entries = max(1, int(self.bounds[-1]))
        return places[:, 0], places[:, 1], decoded_bytes / entries if type_.is_jagged else 0.0

    def close(self) -> None:
        self._reader.close()
        super().close()


class _Arrow(_File):
    """A file of Arrow's, which is version 2 of Feather."""

    format = "Arrow"

    def _open(self, scratch: Scratch, key: Any) -> None:
        import pyarrow as pa

        size = self.storage.file_bytes
        end = _bytes(self.storage, max(0, size - 10), min(10, size))
        self.footer_bytes = int.from_bytes(end[:4], "little") + 10
        if end[4:] != b"ARROW1" or self.footer_bytes + 8 > size:
            raise DamagedFileError(
                f"{self.path} is truncated: it does not end as Arrow's files do. "
                "Copy or produce the file again."
            )

        def parse(_: ExitStack) -> tuple[list[flatbuffers.Batch], Array]:
            footer = _bytes(self.storage, size - self.footer_bytes, self.footer_bytes - 10)
            blocks = flatbuffers.blocks(footer)
            for offset, header_bytes, body_bytes in blocks:
                if not 0 <= offset <= offset + header_bytes + body_bytes <= size:
                    raise DamagedFileError(
                        f"{self.path}: a record batch claims to lie outside of the file. "
                        "Copy or produce the file again."
                    )
            self.storage.prepare([(offset, header_bytes) for offset, header_bytes, _ in blocks])
            batches = [
                flatbuffers.batch(_bytes(self.storage, offset, header_bytes), offset, body_bytes)
                for offset, header_bytes, body_bytes in blocks
            ]
            return batches, _bounds(self.path, (batch.entries for batch in batches))

        self._batches, self.bounds = scratch.keep(key, parse)
        self._reader: Any = None
        self._held: dict[int, Any] = {}
        self._names: dict[str, int] = {}
        self.schema = pa.ipc.open_file(self.source).schema

    def parts(self, name: str, start: int, stop: int) -> Iterator[Any]:
        for number in self.groups(start, stop):
            first, last = (int(bound) for bound in self.bounds[number : number + 2])
            if first == last:
                continue
            if number not in self._held:  # with all columns that are wanted
                self._held[number] = self._reader.get_batch(number)
            column = self._held[number].column(self._names[name])
            low = max(start - first, 0)
            yield column.slice(low, min(stop, last) - first - low)

    def use(self, names: Sequence[str]) -> None:
        import pyarrow as pa

        if not names:
            return

        fields = sorted({self.position(name) for name in names})
        self._names = {name: fields.index(self.position(name)) for name in names}
        options = pa.ipc.IpcReadOptions(use_threads=False, included_fields=fields)
        self._reader = pa.ipc.open_file(self.source, options=options)

    def stored(self, name: str, type_: ColumnType) -> tuple[Array, Array, float]:
        node = sum(nodes_of(self.schema.field(k).type)[0] for k in range(self.position(name)))
        innermost = node + nodes_of(self.field(name).type)[0] - 1
        rows, elements = [], 0
        for batch in self._batches:
            length, nulls = batch.nodes[node]
            if length != batch.entries:
                raise DamagedFileError(
                    f"{self.path}: column {name!r} has {length} entries in a batch of {batch.entries}. "
                    "Copy or produce the file again."
                )
            if type_.is_jagged and type_.dtype is not None:
                elements += batch.nodes[innermost][0]
            rows.append((batch.offset, batch.body_bytes // max(1, len(self.schema)), nulls))
        places = np.array(rows, np.int64).reshape(-1, 3)
        if type_.kind != "other" and (nulls := int(places[:, 2].sum())):
            raise _nulls(self.path, name, f"{nulls} of its entries")
        entries = max(1, int(self.bounds[-1]))
        decoded_bytes = int(places[:, 1].sum())
        if type_.dtype is not None:
            decoded_bytes = elements * type_.dtype.itemsize
        return places[:, 0], places[:, 1], decoded_bytes / entries if type_.is_jagged else 0.0


def _bounds(path: str, lengths: Iterable[int], entries: int | None = None) -> Array:
    every = list(lengths)
    total = sum(every)
    if min(every, default=0) < 0 or total > np.iinfo(np.int64).max or entries not in (None, total):
        raise DamagedFileError(
            f"{path}: its parts do not have the {entries} entries that it claims. "
            "Copy or produce the file again."
        )
    return np.cumsum([0, *every], dtype=np.int64)
