"""The lazy frame: which files, which object in them, which columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from rootfeed import sources
from rootfeed.engine import ForkLock
from rootfeed.errors import MissingColumnError, nearest
from rootfeed.progress import progress
from rootfeed.schema import ColumnType, FileIndex
from rootfeed.sources import Location, PathLike

__all__ = ["Frame", "open"]

_INDEX_THREADS = 8


class Frame:
    """A lazy, immutable description of a dataset; made by `rootfeed.open`.

    A frame holds no open file. What it learns about its files is kept, so that several loaders of one
    frame read the metadata once.
    """

    def __init__(self, locations: Sequence[Location], columns: Mapping[str, ColumnType]) -> None:
        self._locations = tuple(locations)
        self._columns = MappingProxyType(dict(columns))
        self._indexes: dict[int, FileIndex] = {}
        self._lock = ForkLock()

    def __getstate__(self) -> dict[str, Any]:
        return {
            "locations": self._locations,
            "columns": dict(self._columns),
            "indexes": dict(self._indexes),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["locations"], state["columns"])  # type: ignore[misc]
        self._indexes = state["indexes"]

    @property
    def columns(self) -> Mapping[str, ColumnType]:
        """Name and type of every column, as the first file declares them."""
        return self._columns

    @property
    def files(self) -> tuple[str, ...]:
        """The files' paths, in order."""
        return tuple(location.path for location in self._locations)

    @property
    def entries(self) -> int:
        """Entries in all files. The first time, this reads the metadata of each file."""
        return sum(index.entries for index in self.index(()))

    def index(self, names: Iterable[str]) -> tuple[FileIndex, ...]:
        """Return the storage metadata of some columns, for each file.

        Reads the metadata of each file once, on several threads, with a progress bar if that takes
        longer than a second; files whose columns are known already are not opened again.

        Parameters
        ----------
        names : iterable of str

        Raises
        ------
        MissingColumnError
            Names the file that lacks a column.
        """
        wanted = tuple(dict.fromkeys(names))
        for name in wanted:
            if name not in self._columns:
                where = self._locations[0].path
                raise MissingColumnError(
                    f"{where} has no column {name!r}. {nearest(name, self._columns)}"
                )
        with self._lock:
            missing = [
                number
                for number in range(len(self._locations))
                if number not in self._indexes or not set(wanted) <= set(self._indexes[number].columns)
            ]
            self._read_indexes(missing, wanted)
            return tuple(self._indexes[number] for number in range(len(self._locations)))

    def _read_indexes(self, numbers: Sequence[int], wanted: Sequence[str]) -> None:
        def read(number: int) -> FileIndex:
            known = self._indexes.get(number)
            names = dict.fromkeys([*(known.columns if known else ()), *wanted])
            return sources.index(self._locations[number], list(names))

        if len(numbers) <= 1:
            for number in numbers:
                self._indexes[number] = read(number)
            return
        threads = min(_INDEX_THREADS, len(numbers))
        with (
            ThreadPoolExecutor(threads, thread_name_prefix="rootfeed-index") as pool,
            progress("Indexing files", len(numbers)) as advance,
        ):
            try:
                for number, index in zip(numbers, pool.map(read, numbers), strict=True):
                    self._indexes[number] = index
                    advance(1)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def __repr__(self) -> str:
        first = self._locations[0]
        name = f":{first.object_path}" if first.object_path else ""
        others = f" and {len(self._locations) - 1} more" if len(self._locations) > 1 else ""
        return f"<Frame {first.path}{name}{others}, {len(self._columns)} columns>"


def open(files: PathLike | Iterable[PathLike] | Mapping[Any, str | None]) -> Frame:
    """Describe a dataset in ROOT files.

    Parameters
    ----------
    files : str, Path, iterable of these, or mapping
        ``"file.root"``, ``"file.root:tree"``, a pattern such as ``"data/*.root:tree"``, a list of
        these, or ``{path: tree}``. The tree's name may be left out where a file holds only one tree
        or ntuple. Paths may be URLs of any protocol that fsspec knows.

    Returns
    -------
    Frame

    Raises
    ------
    MissingFileError
        Where a file does not exist, or a pattern matches none.
    MissingObjectError
        Where the first file holds no such tree or ntuple, or several and none was named.
    DamagedFileError
        Where the first file cannot be parsed.

    Notes
    -----
    Costs one look at each local path, and one parse of the first file's metadata. The other files
    are opened when a loader, or `Frame.entries`, needs them.

    Examples
    --------
    >>> import rootfeed as rf
    >>> frame = rf.open("data/*.root:events")  # doctest: +SKIP
    """
    locations = sources.expand(files)
    _, columns = sources.types(locations[0])
    return Frame(locations, columns)
