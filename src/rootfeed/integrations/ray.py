"""Ray Data: datasets that are read from ROOT files, block by block. Imports ray.

In Ray Train, a loader's ranks are the trainer's: `rootfeed.Loader` needs nothing but a seed there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from rootfeed.errors import UnsupportedColumnError
from rootfeed.frame import Frame, open, view_of
from rootfeed.integrations.arrow import entry_bytes, schema_of, table
from rootfeed.plan import boundaries, cut
from rootfeed.schema import Block

__all__ = ["RootDatasource", "read_root"]

_TABLE_BYTES = 32_000_000


class RootDatasource(Datasource):
    """A frame's entries for ``ray.data.read_datasource``: see `read_root`."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self._view = view_of(frame)
        self._names = list(frame.columns)
        self._projection_map: dict[str, str] | None = None
        for name, type_ in frame.columns.items():
            if type_.kind == "other":
                raise UnsupportedColumnError(
                    f"column {name!r} ({type_.text}) does not fit into tables: choose others, columns=."
                )
        if self._view.cuts_interrupted:
            self._view.selection()  # once here, not in each task

    def supports_projection_pushdown(self) -> bool:
        """Return that columns that nobody needs are not read."""
        return True

    @property
    def _columns(self) -> list[str]:
        """The columns that are needed; one where none is, whose rows are counted."""
        if self._projection_map is None:
            return self._names
        return list(self._projection_map) or self._names[:1]

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all entries before cuts, about."""
        sizes = entry_bytes(self._view, self._columns)
        return round(
            sum(index.entries * size for index, size in zip(self._view.index(()), sizes, strict=True))
        )

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return about so many tasks, each of entries at whose ends pages end, too, if possible."""
        names, cuts = self._columns, self._view.selects
        sizes, stored = entry_bytes(self._view, names), self._view.projection(names).columns
        indexes = self._view.index(stored)
        total = sum(index.entries for index in indexes)
        entries = max(math.ceil(total / max(parallelism, 1)), 1)
        view, schema = ray.put(self._view), schema_of(self._view, names)
        tasks = []
        for number, (index, size) in enumerate(zip(indexes, sizes, strict=True)):
            bounds = boundaries({name: index.columns[name] for name in stored}, index.entries)
            most = max(int(_TABLE_BYTES / max(size, 1)), 1)
            for part in cut(number, 0, index.entries, bounds, entries, False):
                blocks = cut(number, part.start, part.stop, bounds, min(most, entries), False)
                metadata = BlockMetadata(
                    num_rows=None if cuts else len(part),
                    size_bytes=None if cuts else round(len(part) * size),
                    exec_stats=None,
                    input_files=(index.path,),
                )
                read = Read(view, names, blocks, schema)
                tasks.append(ReadTask(read, metadata, schema, per_task_row_limit))
        return tasks


class Read:
    """Reads some blocks, in a worker of Ray.

    Parameters
    ----------
    view : ray.ObjectRef
        Of the view, which all tasks share.
    names : list of str
    blocks : list of Block
    schema : pyarrow.Schema
    """

    def __init__(self, view: Any, names: list[str], blocks: list[Block], schema: Any) -> None:
        self._view, self._names, self._blocks, self._schema = view, names, blocks, schema

    def __call__(self) -> Iterator[Any]:
        """Yield a table for each block."""
        view = ray.get(self._view)
        for block in self._blocks:
            yield table(view, self._names, [block]).cast(self._schema)


def read_root(files: Any, columns: Sequence[str] | None = None, **options: Any) -> ray.data.Dataset:
    """Return a dataset of Ray Data.

    Parameters
    ----------
    files : Frame, or what `rootfeed.open` takes
        A frame's definitions and cuts are evaluated where its entries are read.
    columns : sequence of str, optional
        All that the frame shows, if left out: numbers, vectors as lists, and texts.
    **options
        Of ``ray.data.read_datasource``, such as ``override_num_blocks`` and ``concurrency``.

    Returns
    -------
    ray.data.Dataset
        Columns that ``select_columns`` leaves out are not read. Blocks come as they are ready, unless
        ``DataContext.get_current().execution_options.preserve_order`` of Ray is set.

    Raises
    ------
    MissingColumnError, UnsupportedColumnError
        Where a column does not exist, or is neither numbers nor vectors of them nor text.

    Notes
    -----
    Reads each file's metadata here, and pages in tasks of Ray, which must reach the files under the same
    paths. Cuts that depend on other entries, such as ranges, are evaluated here, once.

    Examples
    --------
    >>> from rootfeed.integrations.ray import read_root  # doctest: +SKIP
    >>> rows = read_root(
    ...     rf.open("data/*.root:events").filter("pt > 20"), ["pt", "eta"]
    ... )  # doctest: +SKIP
    """
    frame = files if isinstance(files, Frame) else open(files)
    if columns is not None:
        frame = frame.select(columns)
    return ray.data.read_datasource(RootDatasource(frame), **options)
