"""HDF5: h5py tells what is in a file, and chunks are read and decompressed by our threads.

Chunks are the pages of a data set's columns, so that blocks end where they do. The HDF5 library does one
thing at a time in a process; it reads only what `chunks` does not understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from rootfeed.errors import (
    DamagedFileError,
    DuplicateNameWarning,
    MissingColumnError,
    UnsupportedFileError,
    nearest,
    warn,
)
from rootfeed.kernels import take_objects, unlzf, unsplit
from rootfeed.processes import unforked
from rootfeed.schema import Array, Column, ColumnType, FileIndex, Jagged
from rootfeed.sources import hdf5contents
from rootfeed.sources.awkwardly import as_awkward
from rootfeed.sources.chunks import DataSet, Part, columns_of, entries_of
from rootfeed.sources.compression import DamagedPageError
from rootfeed.sources.hdf5contents import Found
from rootfeed.sources.hdf5layout import laid_out
from rootfeed.sources.objects import damaged
from rootfeed.sources.paths import Location, spelled, suffix
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.storage import Storage, open_storage
from rootfeed.sources.storage.web import web_page
from rootfeed.sources.wholefiles import StorageFile, bytes_of, changed, fingerprint, modified_at

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "Hdf5Index",
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

_SUFFIXES = frozenset({".h5", ".hdf5", ".hdf", ".he5", ".h5py"})
_MAGIC = b"\x89HDF\r\n\x1a\n"
_FIRST_BYTES = 64 << 10  # of a file, fetched before they are asked for
_AROUND_BYTES = 16 << 10  # of metadata, which lie in small pieces
_OFFSET_BYTES = 8
_SAMPLED_PAGES = 3  # in which padding is counted


@dataclass(frozen=True, eq=False)
class Hdf5Index(FileIndex):
    """What a loader knows of a file: chunks are the pages of each column.

    Attributes
    ----------
    parts : mapping of str to Part
        Where the values of each column lie.
    modified : int
        When a local file was changed last, in nanoseconds.
    """

    parts: Mapping[str, Part] = field(kw_only=True, repr=False)
    modified: int = field(kw_only=True, repr=False)

    @property
    def where(self) -> str:
        """The file and the object in it, as messages name them."""
        return f"{self.path}:{self.object_path}" if self.object_path else self.path


def is_named_so(path: str) -> bool:
    """Tell whether a path is called like a file of this format."""
    return suffix(path) in _SUFFIXES


def types(location: Location) -> tuple[str, Mapping[str, ColumnType]]:
    """Return the name of the data set or group, empty for all of the file, and the type of each column.

    Where several columns have one name there is a `DuplicateNameWarning`.
    """
    with _opened(location) as (_, _, _, found, twice):
        for text in twice.values():
            warn(text, DuplicateNameWarning)
        return location.object_path or "", {name: column.type for name, column in found.items()}


def friends(location: Location) -> list[str]:
    """Return nothing: these files name no others."""
    return []


def index(location: Location, names: Sequence[str]) -> Hdf5Index:
    """Return where the chunks of some columns lie.

    Costs one look at all that is in the file, at the place of each chunk, and at three chunks of padded
    tables and of entries of any length.

    Raises
    ------
    MissingColumnError
        Where there is no column of that name.
    UnsupportedColumnError
        Where it holds neither numbers, nor vectors of numbers, nor text.
    UnsupportedFileError
        Where its values are in other files, or compressed by what is not installed.
    """
    path = location.path
    with _opened(location) as (storage, entries, when, found, twice):
        sets: dict[str, DataSet] = {}
        parts: dict[str, Part] = {}
        for name in names:
            if name not in found:
                where = f"{path}:{location.object_path}" if location.object_path else path
                raise MissingColumnError(f"{where} has no column {name!r}. {nearest(name, found)}")
            column = found[name]
            if column.type.kind == "other":
                raise hdf5contents.refused(path, name, column)
            if column.path not in sets:
                sets[column.path] = data = laid_out(path, column.path, column.data, storage.file_bytes)
                if not data.is_plain and (remedy := hdf5contents.filter_remedy(path, data)):
                    raise UnsupportedFileError(remedy)
            parts[name] = part = column.part(sets[column.path])
            if part.is_mixed_up:
                raise UnsupportedFileError(
                    f"{path}: the vectors of {name!r} are big-endian, and stored so that only h5py can "
                    "read them, which mixes up their bytes. Write them again, little-endian."
                )
        described = [f"\0{location.object_path or ''}\0{entries}".encode()]
        described += [f"\0{name}\0{column.type.text}".encode() for name, column in found.items()]
        result = Hdf5Index(
            path=path,
            address=location.address,
            object_path=location.object_path or "",
            format="HDF5",
            entries=entries,
            file_bytes=storage.file_bytes,
            identity=fingerprint(storage, described),
            columns={
                name: Column(name, found[name].type, part.data.pages, name)
                for name, part in parts.items()
            },
            head=storage.version.head,
            tag=storage.version.tag,
            duplicates={name: text for name, text in twice.items() if name in names},
            parts=parts,
            modified=when,
        )
        return replace(result, columns=_with_value_bytes(result, storage))


def read(
    index: Hdf5Index,
    names: Sequence[str],
    start: int,
    stop: int,
    out_for: Callable[[str], Array],
    scratch: Scratch,
    stopped: Event,
    fetched: Storage | None = None,
) -> Iterator[tuple[str, Array | Jagged]]:
    """Read the entries ``[start, stop)`` of some columns: see `Source.read`.

    A chunk is decompressed once for all columns in it, and whole, where a part of it is wanted, too.

    Raises
    ------
    DamagedFileError
        Names the file, the data set and the entries.
    """
    with ExitStack() as stack:
        storage = fetched or open_storage(index.address, index.version)
        stack.callback(storage.close)
        if modified_at(index.address) != index.modified:
            raise changed(index.path)
        if fetched is None:
            storage.prepare(_ranges(index, names, start, stop))
        ready: dict[str, Array | Jagged] = {}
        for name in names:
            if stopped.is_set():
                return
            if name not in ready:
                data = index.parts[name].data
                together = {each: index.parts[each] for each in names if index.parts[each].data is data}
                ready |= _read(index, together, start, stop, storage, scratch, stack)
            found = ready.pop(name)
            if not isinstance(found, Jagged):
                out = out_for(name)
                out[:] = found
                found = out
            if stopped.is_set():
                return
            yield name, found
        _verify(index, storage)


def fetch(
    index: Hdf5Index, names: Sequence[str], start: int, stop: int, stopped: Event
) -> Storage | None:
    """Bring what `read` needs from a server; None where the file is local."""
    if not index.address.is_remote:
        return None
    storage = open_storage(index.address, index.version, stopped)
    storage.prepare(_ranges(index, names, start, stop))
    with suppress(DamagedPageError):  # which `read` tells
        ranges: list[tuple[int, int]] = []
        for parts in _by_data_set(index, names):
            for entries in entries_of(parts, start, stop, storage, Scratch()):
                ranges += entries.ranges()
        storage.prepare(ranges)
    if not stopped.is_set() and all(index.parts[name].data.is_plain for name in names):
        storage.verify()
    return storage


def read_awkward(
    index: Hdf5Index, name: str, start: int, stop: int, scratch: Scratch | None = None
) -> ak.Array:
    """Return the entries ``[start, stop)`` of any column."""
    return as_awkward(read, index, name, start, stop)


def vector_bytes(index: Hdf5Index, name: str) -> float:
    """Return the bytes of an entry of a vector, on average; an estimate where rows are padded."""
    return index.columns[name].value_bytes + _OFFSET_BYTES


def prepare(indexes: Iterable[FileIndex]) -> None:
    """Compile what undoes LZF and the shuffle, where a data set has them, and what reads heaps."""
    if any(indexes):
        raw, none = np.zeros(8, np.uint8), np.zeros(0, np.int64)
        take_objects(raw, none, none, np.zeros(1, np.int64), none, none, none, none, raw)
        unlzf(raw[:0], raw[:0])
        for size in (2, 4, 8):
            unsplit(raw, 1, 0, raw[:size].copy().view(f"u{size}"))


def _read(
    index: Hdf5Index,
    parts: Mapping[str, Part],
    start: int,
    stop: int,
    storage: Storage,
    scratch: Scratch,
    stack: ExitStack,
) -> dict[str, Array | Jagged]:
    """Return columns of one data set."""
    opened: list[Any] = []

    def others(data: DataSet, low: int, high: int) -> Array:
        if not opened:
            opened.append(stack.enter_context(_file(index.path, storage)))
            if remedy := hdf5contents.filter_remedy(index.path, data):  # in a process of its own
                raise UnsupportedFileError(remedy)
        return np.asarray(opened[0][data.path][low:high])

    with _telling(index, next(iter(parts.values())).data, start, stop, storage):
        return columns_of(parts, start, stop, storage, others, scratch)


@contextmanager
def _telling(index: Hdf5Index, data: DataSet, start: int, stop: int, storage: Storage) -> Iterator[None]:
    """Name what is damaged."""
    what = f"{index.path}: the entries [{start}, {stop}) of the data set {data.path!r}"
    try:
        with damaged(f"{what} cannot be read"):
            try:
                yield
            except DamagedPageError as error:
                raise DamagedFileError(
                    f"{what} are damaged: {error}. Copy or produce the file again."
                ) from error
    except DamagedFileError:
        _verify(index, storage)  # what looks like damage may be another file
        raise


def _verify(index: Hdf5Index, storage: Storage) -> None:
    storage.verify()
    if modified_at(index.address) != index.modified:
        raise changed(index.path)


def _by_data_set(index: Hdf5Index, names: Sequence[str]) -> Iterable[dict[str, Part]]:
    found: dict[int, dict[str, Part]] = {}
    for name in names:
        part = index.parts[name]
        found.setdefault(id(part.data), {})[name] = part
    return found.values()


def _ranges(index: Hdf5Index, names: Sequence[str], start: int, stop: int) -> Iterator[tuple[int, int]]:
    for parts in _by_data_set(index, names):
        yield from next(iter(parts.values())).data.ranges(start, stop)


def _with_value_bytes(index: Hdf5Index, storage: Storage) -> dict[str, Column]:
    """Return the columns with the bytes of an entry's elements."""
    filled: dict[str, float] = {}
    columns = {}
    for name, part in index.parts.items():
        column, data = index.columns[name], part.data
        element = (part.elements or part.stored) if part.native is None else part.native
        of_row = float(np.prod(part.row_shape)) * element.itemsize
        if part.elements is not None:
            of_row = _elsewhere(index, part, storage) * element.itemsize
        if part.valid is not None:
            if data.path not in filled:
                filled[data.path] = _filled(index, part, storage)
            of_row *= filled[data.path]
        columns[name] = replace(column, value_bytes=of_row if column.type.is_jagged else 0.0)
    return columns


def _filled(index: Hdf5Index, part: Part, storage: Storage) -> float:
    """Return the fraction of a padded table that is no padding, in some of its chunks."""
    assert part.valid is not None
    flags = {"": replace(part.valid, valid=part.valid)}
    counted = rows = 0
    for start, stop in _sampled(index, part):
        with ExitStack() as stack:
            found = _read(index, flags, start, stop, storage, Scratch(), stack)[""]
        assert isinstance(found, Jagged)
        counted, rows = counted + int(found.offsets[-1]), rows + len(found)
    return counted / (rows * part.data.shape[1]) if rows else 0.0


def _elsewhere(index: Hdf5Index, part: Part, storage: Storage) -> float:
    """Return the elements of an entry of any length, in some chunks: they are not in them."""
    if not part.data.is_plain:  # no more than a guess
        return float(part.data.pages.stored_bytes.sum()) / max(1, index.entries)
    counted = rows = 0
    for start, stop in _sampled(index, part):
        with _telling(index, part.data, start, stop, storage):
            for entries in entries_of({"": part}, start, stop, storage, Scratch()):
                counted, rows = counted + int(entries.offsets[-1]), rows + stop - start
    return counted / max(1, rows)


def _sampled(index: Hdf5Index, part: Part) -> Iterator[tuple[int, int]]:
    """Yield which rows are in some chunks."""
    bounds = part.data.pages.bounds
    if index.entries:
        places = np.linspace(0, len(bounds) - 2, _SAMPLED_PAGES).astype(int)
        for page in dict.fromkeys(places.tolist()):
            yield int(bounds[page]), int(bounds[page + 1])


Opened = tuple[Storage, int, int, dict[str, Found], dict[str, str]]


@contextmanager
def _opened(location: Location) -> Iterator[Opened]:
    """Open a file, and yield its storage, its entries, when it was changed, columns, duplicate names."""
    path = location.path
    with ExitStack() as stack:
        when = modified_at(location.address)
        storage = open_storage(location.address)
        stack.callback(storage.close)
        size = storage.file_bytes
        storage.prepare([(0, min(size, _FIRST_BYTES))])
        file = stack.enter_context(_file(path, storage))
        entries, listed = hdf5contents.found(path, file, location.object_path)
        found: dict[str, Found] = {}
        twice: dict[str, str] = {}
        for name, column in listed:
            if name in found:
                twice[name] = (
                    f"{path} has several columns of the name {name!r}: the first one counts. Name the "
                    f"data set of another one: {spelled(path, column.path)}."
                )
            found.setdefault(name, column)
        yield storage, entries, when, found, twice


@contextmanager
def _file(path: str, storage: Storage) -> Iterator[Any]:
    """Open a file by h5py, through our storage, and close it afterwards."""
    try:
        with unforked():
            import h5py
    except ImportError as error:
        raise UnsupportedFileError(
            f"{path} is read with h5py, which is not installed: pip install 'rootfeed[hdf5]'."
        ) from error
    _check_magic(path, storage)
    source = StorageFile(storage, _AROUND_BYTES)
    try:
        with damaged(f"{path} cannot be read as a file of HDF5"):
            file = h5py.File(source, "r")
            try:
                yield file
            finally:
                file.close()
    except DamagedFileError as error:
        if source.error is not None:
            raise source.error from error
        raise


def _check_magic(path: str, storage: Storage) -> None:
    """Refuse what is no HDF5 file: the mark is at the beginning, or after 512, 1024, ... bytes."""
    place, size = 0, storage.file_bytes
    while place + len(_MAGIC) <= size:
        if bytes_of(storage, place, len(_MAGIC)) == _MAGIC:
            return
        place = max(512, 2 * place)
    begins = bytes_of(storage, 0, min(8, size))
    if begins[:4] == b"root":
        raise UnsupportedFileError(f"{path} is a ROOT file: rename it to end in .root.")
    if "://" in path and begins.lstrip()[:1] == b"<":
        raise web_page(path)
    raise DamagedFileError(
        f"{path} is no HDF5 file: it has {size} bytes and begins with {begins!r}. "
        "Copy or produce the file again."
    )
