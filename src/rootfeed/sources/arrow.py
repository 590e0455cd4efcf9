"""Parquet and Arrow (Feather): pyarrow decodes, on our threads and from our storage.

Row groups, or record batches, are the pages of each column, so that blocks end where they do. Nothing is
open between two readings; a thread keeps the metadata of the file that it read last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from rootfeed.errors import (
    DamagedFileError,
    DuplicateNameWarning,
    MissingColumnError,
    MissingObjectError,
    RootfeedError,
    UnsupportedFileError,
    nearest,
    warn,
)
from rootfeed.processes import unforked
from rootfeed.schema import Array, ColumnType, FileIndex, Jagged
from rootfeed.sources.arrowarrays import decoded, filled, load
from rootfeed.sources.arrowfiles import ArrowFile, is_kept
from rootfeed.sources.awkwardly import as_awkward
from rootfeed.sources.filling import Filling
from rootfeed.sources.ipc import IpcFile
from rootfeed.sources.objects import damaged
from rootfeed.sources.pages import overlapping, ranges
from rootfeed.sources.parquet import ParquetFile
from rootfeed.sources.paths import Location, suffix
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage, open_storage
from rootfeed.sources.wholefiles import bytes_of, changed, modified_at

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


@dataclass(frozen=True, eq=False)
class ArrowIndex(FileIndex):
    """What a loader knows of a file: row groups or record batches are the pages of each column.

    Attributes
    ----------
    footer_bytes : int
        Length of the metadata at the end of the file.
    modified : int
        When a local file was changed last, in nanoseconds: its first bytes may stay what they are.
    filling : Filling or None
        What stands for values that are missing.
    always : tuple of (int, int)
        Offset and bytes of what any reading reads.
    spans : mapping of str to ndarray of int64, shape (pages, pieces, 2)
        Offset and bytes of what reading a page of a column reads, where its place does not tell.
    """

    footer_bytes: int = field(kw_only=True, repr=False)
    modified: int = field(kw_only=True, repr=False)
    filling: Filling | None = field(kw_only=True, repr=False)
    always: Sequence[tuple[int, int]] = field(kw_only=True, repr=False)
    spans: Mapping[str, Array] = field(kw_only=True, repr=False)

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
        for text in file.columns.duplicates().values():
            warn(text, DuplicateNameWarning)
        return "", file.columns.types()


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
        found = file.columns.types()
        for name in names:
            if name not in found:
                raise MissingColumnError(f"{file.path} has no column {name!r}. {nearest(name, found)}")
            file.columns.check(name)
        with damaged(f"{file.path}: its metadata cannot be read"):
            columns = {name: file.column(name, found[name]) for name in names}
            identity = file.identity()
            is_filled = np.diff(file.bounds) > 0
            spans = {name: spans[is_filled] for name in names if (spans := file.spans(name)) is not None}
        made = ArrowIndex(
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
            duplicates={
                name: text for name, text in file.columns.duplicates().items() if name in columns
            },
            footer_bytes=file.parsed.footer_bytes,
            modified=file.modified,
            filling=location.filling,
            joined=b"" if location.filling is None else location.filling.identity,
            always=file.always,
            spans=spans,
        )
        file.keep(made)
        return made


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
        Where an entry has no value (null), and nothing was given for it.
    DamagedFileError
        Names the file, the column and the entries.
    """
    with _opened(index, names, start, stop, fetched) as file:
        if stopped.is_set():
            return
        for name in names:
            with file.reading(name, start, stop):
                parts = [decoded(part) for part in file.parts(name, start, stop)]
                if (got := sum(map(len, parts))) != stop - start:
                    raise DamagedFileError(
                        f"{got} entries came of {stop - start}, against what its metadata say"
                    )
                out = filled(parts, index.path, index.columns[name], index.filling, out_for, scratch)
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
    if not stopped.is_set():
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
            _opened(index, [name], start, stop) as file,
            file.reading(name, start, stop),
        ):
            parts = list(file.parts(name, start, stop))
            found = ak.from_arrow(pa.chunked_array(parts, file.columns.fields[name].type))
            file.verify()
            return found
    return as_awkward(read, index, name, start, stop)


def vector_bytes(index: ArrowIndex, name: str) -> float:
    """Return the bytes of an entry of a vector, on average; of texts an estimate."""
    return index.columns[name].value_bytes + _OFFSET_BYTES


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile nothing: pyarrow is compiled."""
    load()


@contextmanager
def _opened(
    of: Location | ArrowIndex,
    names: Sequence[str] = (),
    start: int = 0,
    stop: int = 0,
    fetched: Storage | None = None,
) -> Iterator[ArrowFile]:
    """Open a file, to read some entries of it, and close it afterwards."""
    path = of.path
    if isinstance(of, Location) and of.object_path:
        raise MissingObjectError(
            f"{path} holds one table, which has no name: leave {of.object_path!r} out."
        )
    try:
        with unforked():
            import pyarrow  # noqa: F401  # named here, where it is missing
    except ImportError as error:
        raise UnsupportedFileError(
            f"{path} is read with pyarrow, which is not installed: pip install 'rootfeed[arrow]'."
        ) from error
    with ExitStack() as stack:
        modified = modified_at(of.address)
        if isinstance(of, ArrowIndex):
            storage = fetched or open_storage(of.address, of.version)
            stack.callback(storage.close)
            if modified != of.modified:
                raise changed(path)
            if fetched is None:
                storage.prepare(_ranges(of, names, start, stop))
            kind: type[ArrowFile] = ParquetFile if of.format == "Parquet" else IpcFile
        else:
            storage = open_storage(of.address)
            stack.callback(storage.close)
            size = storage.file_bytes
            storage.prepare([(0, _MAGIC_BYTES), (max(0, size - _END_BYTES), _END_BYTES)])
            kind = _kind(path, size, bytes_of(storage, 0, min(size, _MAGIC_BYTES)))
        with damaged(f"{path} cannot be read as a file of {kind.format}"):
            file = kind(of, storage, modified)
        stack.callback(file.close)
        file.use(names)
        yield file
        storage.keep()


def _ranges(index: ArrowIndex, names: Sequence[str], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield offset and size of what reading some entries needs, as far as metadata tell."""
    if not is_kept(index):
        yield index.file_bytes - index.footer_bytes, index.footer_bytes
    yield from index.always
    for name in names:
        pages = index.columns[name].pages
        if pages is not None and name in index.spans:
            found = index.spans[name][overlapping(pages, start, stop)].reshape(-1, 2)
            yield from ((offset, size) for offset, size in found.tolist() if size)
        elif pages is not None:
            yield from ranges(pages, start, stop)


def _kind(path: str, size: int, magic: bytes) -> type[ArrowFile]:
    if magic[:4] == b"PAR1":
        return ParquetFile
    if magic[:6] == b"ARROW1":
        return IpcFile
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
