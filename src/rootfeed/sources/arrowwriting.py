"""New files of Parquet and of Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rootfeed.errors import ArgumentError, UnsupportedColumnError
from rootfeed.schema import Array, ColumnType, Jagged
from rootfeed.sources.writing import check_types, unfinished

__all__ = ["write_arrow", "write_parquet"]

_GROUP_ROWS = 1 << 16


def write_parquet(
    path: str | Path, types: Mapping[str, ColumnType], clusters: Iterable[Mapping[str, Array | Jagged]]
) -> None:
    """Write columns into a Parquet file, compressed by zstd: see `write_arrow`."""
    pa = _pyarrow(path)
    import pyarrow.parquet as pq

    schema = _schema(pa, types)
    # Of real numbers few are the same: a dictionary of them takes room, and time.
    few = [
        name
        for name, type_ in types.items()
        if type_.kind == "text" or (type_.kind == "scalar" and np.dtype(type_.dtype).kind != "f")
    ]
    options: dict[str, Any] = {"compression": "zstd", "use_dictionary": few or False}
    with unfinished(path) as part, pq.ParquetWriter(part, schema, **options) as file:
        for cluster in clusters:
            file.write_table(_table(schema, types, cluster), _GROUP_ROWS)


def write_arrow(
    path: str | Path, types: Mapping[str, ColumnType], clusters: Iterable[Mapping[str, Array | Jagged]]
) -> None:
    """Write columns into a file of Arrow (Feather), uncompressed, which is replaced when all is written.

    Row groups, or record batches, have 65 536 rows at most. Vectors become lists, arrays of fixed shape
    lists of fixed size, texts strings.

    Parameters
    ----------
    path : str or Path
    types : mapping of str to ColumnType
        Of each column.
    clusters : iterable of mapping of str to ndarray or Jagged
        Rows, some at a time.

    Raises
    ------
    ArgumentError
        Where pyarrow is not installed.
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text; or text that is no UTF-8.
    """
    pa = _pyarrow(path)
    schema = _schema(pa, types)
    with unfinished(path) as part, pa.ipc.new_file(str(part), schema) as file:
        for cluster in clusters:
            file.write_table(_table(schema, types, cluster), _GROUP_ROWS)


def _pyarrow(path: str | Path) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ArgumentError(
            f"{path} is written with pyarrow, which is not installed: pip install 'rootfeed[arrow]'."
        ) from error
    return pyarrow


def _schema(pa: Any, types: Mapping[str, ColumnType]) -> Any:
    check_types(types)
    return pa.schema([pa.field(name, _type(pa, type_), False) for name, type_ in types.items()])


def _type(pa: Any, type_: ColumnType) -> Any:
    if type_.kind == "text":
        return pa.string()
    found = pa.from_numpy_dtype(type_.dtype)
    for size in reversed(type_.shape):
        found = pa.list_(found, size)
    return pa.list_(found) if type_.kind == "vector" and not type_.shape else found


def _table(schema: Any, types: Mapping[str, ColumnType], cluster: Mapping[str, Array | Jagged]) -> Any:
    import pyarrow as pa

    arrays = [_array(name, type_, cluster[name]) for name, type_ in types.items()]
    return pa.Table.from_arrays(arrays, schema=schema)


def _array(name: str, type_: ColumnType, values: Array | Jagged) -> Any:
    import pyarrow as pa

    if not isinstance(values, Jagged):
        return pa.array(values.astype(type_.dtype, copy=False))
    held = np.ascontiguousarray(values.values[: values.offsets[-1]])
    if type_.kind == "text":
        offsets = pa.py_buffer(values.offsets)
        found = pa.LargeBinaryArray.from_buffers(
            pa.large_binary(), len(values), [None, offsets, pa.py_buffer(held)]
        )
        try:
            return found.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise UnsupportedColumnError(
                f"column {name!r} has texts that are not UTF-8 ({error}), which these files hold. "
                "Leave it out."
            ) from error
    found = pa.array(held.astype(type_.dtype, copy=False))
    for size in reversed(type_.shape):
        found = pa.FixedSizeListArray.from_arrays(found, size)
    if type_.shape:
        return found
    return pa.ListArray.from_arrays(pa.array(values.offsets.astype(np.int32)), found)
