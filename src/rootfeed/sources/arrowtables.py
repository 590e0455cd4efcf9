"""Tables in memory that speak Arrow's C protocol, such as data frames of pandas and polars."""

from __future__ import annotations

import json
import re
from typing import Any, Protocol

import numpy as np

from rootfeed.errors import ArgumentError, UnsupportedColumnError
from rootfeed.schema import Array, Column, ColumnType, Jagged
from rootfeed.sources.arrays import IN_MEMORY, Table, identity_of
from rootfeed.sources.arrowarrays import decoded, filled, member, numbers
from rootfeed.sources.arrowcolumns import ArrowColumns
from rootfeed.sources.filling import Filling
from rootfeed.sources.scratch import Scratch

__all__ = ["ArrowTable", "arrow_table", "is_arrow_table"]

_INDEX = re.compile(r"__index_level_\d+__")


class ArrowTable(Protocol):
    """What gives its rows by Arrow's C protocol."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return a capsule with the rows."""


def is_arrow_table(data: Any) -> bool:
    """Tell whether an object in memory gives its rows by Arrow's C protocol."""
    kind = type(data)
    return any(hasattr(kind, name) for name in ("__arrow_c_stream__", "__arrow_c_array__"))


def arrow_table(data: Any, filling: Filling | None) -> Table:
    """Return such an object as columns of a table; numbers without a copy where they lie in one piece.

    Columns that are neither numbers, nor vectors of numbers, nor text, or in which values are missing
    that nothing fills, can be named and not be read. The index of a pandas data frame is left out where
    it has no name, and NaN in its columns of NumPy's floats is no missing value.

    Raises
    ------
    ArgumentError
        Where pyarrow is not installed, or makes no table of it.
    """
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ArgumentError(
            f"a {type(data).__name__} is read with pyarrow, which is not installed: pip install "
            "'rootfeed[arrow]'."
        ) from error
    try:
        found = pa.table(data)
    except Exception as error:  # of pandas, polars, pyarrow, ...
        raise ArgumentError(
            f"a {type(data).__name__} gives no table ({error}): give a data frame, or a mapping of "
            "names to arrays."
        ) from error
    described = _of_pandas(found.schema)
    found = found.drop_columns([name for name in found.column_names if _INDEX.fullmatch(name)])
    known = ArrowColumns(found.schema, IN_MEMORY, filling)
    columns: dict[str, Array | Jagged] = {}
    types, refused = known.types(), {}
    for name, type_ in types.items():
        given = filling
        if known.fill(name) is None and name in described:
            given = Filling(np.nan)
        try:
            known.check(name)
            columns[name] = _column(found, known, name, type_, given)
        except UnsupportedColumnError as error:
            refused[name] = str(error)
    return Table(columns, types, len(found), identity_of(columns, types, len(found)), refused)


def _column(
    table: Any, known: ArrowColumns, name: str, type_: ColumnType, filling: Filling | None
) -> Array | Jagged:
    if type_.kind == "other" or (type_.kind == "vector" and type_.dtype is None):
        raise UnsupportedColumnError(
            f"column {name!r} is of type {type_.text}: of tables in memory, numbers, vectors of numbers "
            "and text are read."
        )
    field = known.fields[name]
    parts = [decoded(member(part, field.path[1:])) for part in table.column(field.position).chunks]
    if type_.kind == "scalar" and len(parts) == 1 and len(table) and not parts[0].null_count:
        return numbers(parts[0]).astype(type_.dtype, copy=False)
    column = Column(name, type_, None, name)

    def out_for(_: str) -> Array:
        return np.empty(len(table), type_.dtype)

    return filled(parts, IN_MEMORY, column, filling, out_for, Scratch())


def _of_pandas(schema: Any) -> set[str]:
    """Return which columns were NumPy's floats in pandas, which have no missing values, but NaN."""
    told = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
    return {
        each["field_name"]
        for each in told.get("columns", ())
        if str(each.get("numpy_type")).startswith("float")
    }
