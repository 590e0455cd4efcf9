"""What open files of Parquet and of Arrow have in common: columns, groups of entries, identity."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rootfeed.errors import (
    DamagedFileError,
    UnsupportedFileError,
)
from rootfeed.processes import ForkLock
from rootfeed.schema import Array, Column, ColumnType, Encoding, Pages
from rootfeed.sources.arrowcolumns import ArrowColumns
from rootfeed.sources.objects import damaged
from rootfeed.sources.storage import Storage
from rootfeed.sources.wholefiles import StorageFile, bytes_of, changed, fingerprint, modified_at

__all__ = ["ArrowFile", "Parsed", "bounds_of", "is_kept"]

_KEPT_BYTES = 64 << 20  # of metadata, as they are stored


@dataclass(frozen=True, eq=False)
class Parsed:
    """What the metadata of a file say.

    Attributes
    ----------
    footer_bytes : int
        Length of the metadata at the end of the file.
    bounds : ndarray of int64, shape (groups + 1,)
        Entries between which row groups or record batches end, empty ones included.
    schema : pyarrow.Schema
    columns : ArrowColumns
    groups : object
        What the format knows of them.
    """

    footer_bytes: int
    bounds: Array
    schema: Any
    columns: ArrowColumns
    groups: Any


class _Kept:
    """What was parsed of the files that were used last, for all threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[Any, Parsed] = OrderedDict()
        self._bytes = 0
        self._lock = ForkLock()

    def get(self, key: Any) -> Parsed | None:
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def put(self, key: Any, parsed: Parsed) -> None:
        with self._lock:
            if key not in self._found:
                self._bytes += parsed.footer_bytes
            self._found[key] = parsed
            while self._bytes > _KEPT_BYTES and len(self._found) > 1:
                self._bytes -= self._found.popitem(last=False)[1].footer_bytes


_kept = _Kept()


def is_kept(of: Any) -> bool:
    """Tell whether the metadata of an indexed file need not be read."""
    return _kept.get(_key(of)) is not None


def _key(of: Any) -> Any:
    return of.path, of.identity, of.filling


class ArrowFile:
    """An open file of either format.

    Parameters
    ----------
    of : Location or ArrowIndex
        Of an index, what was parsed of the file is kept.
    storage : Storage
    modified : int
        When it was changed last.
    """

    format: Literal["Parquet", "Arrow"]

    def __init__(self, of: Any, storage: Storage, modified: int) -> None:
        import pyarrow as pa

        self.path, self.address, self._filling = of.path, of.address, of.filling
        self.storage, self.modified = storage, modified
        self.source = pa.PythonFile(StorageFile(storage), "r")
        is_known = hasattr(of, "identity")
        found = _kept.get(_key(of)) if is_known else None
        if found is None:
            found = self._parsed()
            if is_known:
                _kept.put(_key(of), found)
        self.parsed = found
        self.bounds, self.columns = found.bounds, found.columns
        self._open()

    def keep(self, of: Any) -> None:
        """Keep what was parsed, for whoever reads the file by this index."""
        _kept.put(_key(of), self.parsed)

    def _parsed(self) -> Parsed:
        raise NotImplementedError

    def _open(self) -> None:
        raise NotImplementedError

    def spans(self, name: str) -> Array | None:
        """Return where reading each group of a column reads, shape (groups, pieces, 2): offset, bytes.

        None where that is what `stored` tells.
        """
        return None

    @property
    def always(self) -> tuple[tuple[int, int], ...]:
        """Offset and bytes of what any reading reads."""
        return ()

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
        """Return 16 bytes that tell the file from others: of its footer, and of samples."""
        footer_bytes = self.parsed.footer_bytes
        place = self.storage.file_bytes - footer_bytes
        return fingerprint(self.storage, [bytes_of(self.storage, place, footer_bytes)])

    def verify(self) -> None:
        """Make sure that the file is what it was when it was opened."""
        self.storage.verify()
        if modified_at(self.address) != self.modified:
            raise changed(self.path)

    @contextmanager
    def reading(self, name: str, start: int, stop: int) -> Iterator[None]:
        """Say of an error what was being read; what looks like damage may be another file."""
        import pyarrow as pa

        what = f"{self.path}: the entries [{start}, {stop}) of column {name!r} cannot be read"
        try:
            with damaged(what, "Copy or produce the file again, or install a newer pyarrow."):
                yield
        except DamagedFileError as error:
            self.verify()
            if isinstance(error.__cause__, pa.ArrowNotImplementedError):
                raise UnsupportedFileError(
                    f"{what}: {error.__cause__}. Write the file again, for example compressed by zstd."
                ) from error
            raise


def bounds_of(path: str, lengths: Iterable[int], entries: int | None = None) -> Array:
    """Return the entries between which groups of some lengths end."""
    every = list(lengths)
    total = sum(every)
    if min(every, default=0) < 0 or total > np.iinfo(np.int64).max or entries not in (None, total):
        raise DamagedFileError(
            f"{path}: its parts do not have the {entries} entries that it claims. "
            "Copy or produce the file again."
        )
    return np.cumsum([0, *every], dtype=np.int64)
