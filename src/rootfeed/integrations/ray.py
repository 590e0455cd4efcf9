"""Ray Data: datasets that are read from ROOT files, block by block. Imports ray and pyarrow.

In Ray Train, a loader's ranks are the trainer's: `rootfeed.Loader` needs nothing but a seed there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import ray
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from rootfeed.errors import UnsupportedColumnError
from rootfeed.frame import Frame, arrays, open, view_of
from rootfeed.plan import boundaries, cut
from rootfeed.schema import Block
from rootfeed.view import View, entry_bytes_of

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
                    f"column {name!r} ({type_.text}) is none that Ray's tables take: name others in columns."
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
        indexes, bytes_ = self._entry_bytes()
        return round(sum(index.entries * size for index, size in zip(indexes, bytes_, strict=True)))

    def _entry_bytes(self) -> tuple[Sequence[Any], list[float]]:
        """Return the files' metadata, and the bytes of an entry in each, about."""
        projection = self._view.projection(self._columns)
        indexes = self._view.index(projection.columns)
        sizes = []
        for index in indexes:
            types = projection.types(index)
            dtypes = [types[name].dtype for name in projection.defined]
            made = sum(8 if dtype is None else dtype.itemsize for dtype in dtypes)
            sizes.append(entry_bytes_of(index, projection.stored) + made)
        return indexes, sizes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ReadTask]:
        """Return about so many tasks, each of entries between whose ends pages end where that is possible."""
        names, cuts = self._columns, self._view.selects
        indexes, sizes = self._entry_bytes()
        total = sum(index.entries for index in indexes)
        entries = max(math.ceil(total / max(parallelism, 1)), 1)
        view, schema = ray.put(self._view), _schema(self._view, names)
        tasks = []
        for number, (index, size) in enumerate(zip(indexes, sizes, strict=True)):
            stored = {name: index.columns[name] for name in self._view.projection(names).columns}
            bounds = boundaries(stored, index.entries)
            most = max(int(_TABLE_BYTES / max(size, 1)), 1)
            for part in cut(number, 0, index.entries, bounds, entries, False):
                blocks = cut(number, part.start, part.stop, bounds, min(most, entries), False)
                metadata = BlockMetadata(
                    num_rows=None if cuts else len(part),
                    size_bytes=None if cuts else round(len(part) * size),
                    exec_stats=None,
                    input_files=(index.path,),
                )
                read = _Read(view, names, blocks, schema)
                tasks.append(ReadTask(read, metadata, schema, per_task_row_limit))
        return tasks


class _Read:
    """Reads some blocks, in a worker of Ray."""

    def __init__(self, view: Any, names: list[str], blocks: list[Block], schema: pa.Schema) -> None:
        self._view, self._names, self._blocks, self._schema = view, names, blocks, schema

    def __call__(self) -> Iterator[pa.Table]:
        view: View = ray.get(self._view)
        for block in self._blocks:
            yield _table(view, self._names, [block]).cast(self._schema)


def _schema(view: View, names: list[str]) -> pa.Schema:
    """Return the types of columns in all files."""
    schema = _table(view, names, []).schema
    projection = view.projection(names)
    for index in view.index(projection.columns):
        types = projection.types(index)
        for number, name in enumerate(names):
            dtype, field = types[name].dtype, schema.field(number)
            if types[name].kind == "scalar" and field.type != (found := pa.from_numpy_dtype(dtype)):
                common = np.result_type(field.type.to_pandas_dtype(), found.to_pandas_dtype())
                schema = schema.set(number, pa.field(name, pa.from_numpy_dtype(common)))
    return schema


def _table(view: View, names: list[str], blocks: list[Block]) -> pa.Table:
    found = arrays(view, names, within=blocks)
    columns = [
        pa.array(found[name])
        if isinstance(found[name], np.ndarray)
        else ak.to_arrow(found[name], extensionarray=False)
        for name in names
    ]
    return pa.table(columns, names=names)


def read_root(
    files: Any, columns: Sequence[str] | None = None, *, parallelism: int = -1, **options: Any
) -> ray.data.Dataset:
    """Return a dataset of Ray Data.

    Parameters
    ----------
    files : Frame, or what `rootfeed.open` takes
        A frame's definitions and cuts are evaluated where its entries are read.
    columns : sequence of str, optional
        All that the frame shows, if left out: numbers, vectors as lists, and texts.
    parallelism : int
        Blocks of the dataset, about. Ray chooses, if left out, by the estimated size.
    **options
        Of ``ray.data.read_datasource``, such as ``concurrency`` and ``ray_remote_args``.

    Returns
    -------
    ray.data.Dataset
        Columns that ``select_columns`` leaves out are not read. Ray hands blocks on as they are ready: for the
        order of the files set ``ray.data.DataContext.get_current().execution_options.preserve_order``.

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
    >>> rows = read_root(rf.open("data/*.root:events").filter("pt > 20"), ["pt", "eta"])  # doctest: +SKIP
    """
    frame = files if isinstance(files, Frame) else open(files)
    if columns is not None:
        frame = frame.select(columns)
    if parallelism != -1:
        options["override_num_blocks"] = parallelism
    return ray.data.read_datasource(RootDatasource(frame), **options)
