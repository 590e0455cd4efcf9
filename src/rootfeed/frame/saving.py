"""The entries that pass, with their definitions, as a new file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from rootfeed.errors import ArgumentError, PrecisionWarning, warn
from rootfeed.schema import Array, Block, ColumnType, Jagged
from rootfeed.sources.writing import Format, writable, write
from rootfeed.view import Columns, Take, View

__all__ = ["save"]

_CLUSTER_ROWS = 1 << 16
_CLUSTER_BYTES = 32_000_000

_NOT_IN_NAMES: dict[Format, str] = {"ttree": r"[\[\]]", "rntuple": r"[\s/\\]"}
_A: dict[Format, str] = {"ttree": "a tree", "rntuple": "an ntuple"}


def save(
    view: View,
    names: Sequence[str],
    file: str | Path,
    object_name: str,
    format: Format,
    compression: tuple[str, int] | None,
) -> None:
    """Write columns of the entries that pass, cluster by cluster; the file is replaced at the end.

    Parameters
    ----------
    view : View
    names : sequence of str
    file : str or Path
    object_name : str
        Of the tree or ntuple.
    format : "ttree" or "rntuple"
    compression : tuple of str and int, or None
        One of uproot's.

    Raises
    ------
    ArgumentError
        Where the file is one of those that are read, or not local; or a name cannot be read by ROOT.
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text.
    EmptyDatasetError
        Where an ntuple would have no row.
    """
    path = writable(file, view.paths)
    types = _types(view, names)
    written = _written(names, format)
    counters = {}
    if format == "ttree":
        counters = _counters(view, types)
        types = {name: type_ for name, type_ in types.items() if name not in counters.values()}
    clusters = (
        {written[name]: values for name, values in cluster.items()} for cluster in _clusters(view, types)
    )
    types = {written[name]: type_ for name, type_ in types.items()}
    write(path, object_name, types, clusters, format, counters=counters, compression=compression)


def _written(names: Sequence[str], format: Format) -> dict[str, str]:
    """Return what columns are called in a file that ROOT can read: an ntuple's names have no points."""
    found: dict[str, str] = {}
    for name in names:
        called = name.replace(".", "_") if format == "rntuple" else name
        beside = " beside another one of that name" if called in found.values() else ""
        if beside or re.search(_NOT_IN_NAMES[format], called):
            raise ArgumentError(
                f"ROOT cannot read a column {called!r} of {_A[format]}{beside}. Write it under another "
                f"name: Alias('name', {name!r})."
            )
        found[name] = called
    return found


def _types(view: View, names: Sequence[str]) -> dict[str, ColumnType]:
    """Return types that hold what the columns have in all files."""
    projection = view.projection(names)
    every = [projection.types(index) for index in view.index(projection.columns)]
    found = {}
    for name in names:
        type_ = every[0][name]
        if any(each[name].shape != type_.shape for each in every):
            type_ = replace(type_, shape=())
        dtypes = {dtype for each in every if (dtype := each[name].dtype) is not None}
        if len(dtypes) > 1:
            dtype = np.result_type(*dtypes)
            type_ = replace(type_, dtype=dtype)
            if dtype.kind == "f" and any(each.kind in "iu" and each.itemsize == 8 for each in dtypes):
                told = " and ".join(sorted(map(str, dtypes)))
                warn(
                    f"column {name!r} is {told} in different files: integers that cannot be represented "
                    f"in {dtype} are rounded. Write the files of each type on their own.",
                    PrecisionWarning,
                )
        found[name] = type_
    return found


def _counters(view: View, types: Mapping[str, ColumnType]) -> dict[str, str]:
    """Return the name of the branch with each vector's number of elements.

    As where a tree was written like this before, a column ``nv`` is that of ``v`` if it holds just
    these numbers. To know that, both are read once before.
    """
    vectors = [name for name, type_ in types.items() if type_.kind == "vector" and not type_.shape]
    candidates = {
        name: counter
        for name in vectors
        if (counter := f"n{name}") in types
        and types[counter].kind == "scalar"
        and types[counter].dtype == np.int32
    }
    found = {}
    if candidates:

        def agree(_: Block, __: Take, values: Columns) -> set[str]:
            return {
                name
                for name, counter in candidates.items()
                if not np.array_equal(
                    np.diff(cast(Jagged, values[name]).offsets), cast(Array, values[counter])
                )
            }

        wrong: set[str] = set()
        for _, _, some in view.scan([*candidates, *candidates.values()], agree):
            wrong |= some
        found = {name: counter for name, counter in candidates.items() if name not in wrong}
    for name in vectors:
        if name not in found:
            counter = f"n{name}"
            while counter in types or counter in found.values():
                counter = f"n_{counter[1:]}"
            found[name] = counter
    return found


def _clusters(view: View, types: Mapping[str, ColumnType]) -> Iterator[dict[str, Array | Jagged]]:
    """Yield the columns of so many rows as are written together."""

    def all_of(_: Block, __: Take, values: Columns) -> Columns:
        return values

    some: list[Columns] = []
    rows = size = 0
    for _, take, values in view.scan(list(types), all_of):
        some.append(values)
        rows += len(take)
        size += sum(_bytes(each) for each in values.values())
        if rows >= _CLUSTER_ROWS or size >= _CLUSTER_BYTES:
            yield _joined(some, types)
            some, rows, size = [], 0, 0
    if rows:
        yield _joined(some, types)


def _bytes(values: Array | Jagged) -> int:
    return values.values.nbytes + values.offsets.nbytes if isinstance(values, Jagged) else values.nbytes


def _joined(parts: Sequence[Columns], types: Mapping[str, ColumnType]) -> dict[str, Array | Jagged]:
    found: dict[str, Array | Jagged] = {}
    for name, type_ in types.items():
        some: list[Any] = [part[name] for part in parts]
        if isinstance(some[0], Jagged):
            dtype = some[0].values.dtype if type_.dtype is None else type_.dtype
            found[name] = type(some[0]).concatenated(some, dtype)
        else:
            found[name] = np.concatenate(some, dtype=type_.dtype, casting="unsafe")
    return found
