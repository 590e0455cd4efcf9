"""The entries that pass, with their definitions, as a new file of ROOT, Parquet, Arrow or HDF5."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from rootfeed.arguments import one_of
from rootfeed.errors import ArgumentError, PrecisionWarning, UnsupportedColumnError, warn
from rootfeed.plan import BitMask, members
from rootfeed.schema import Array, Block, ColumnType, Jagged
from rootfeed.sources.arrowwriting import write_arrow, write_parquet
from rootfeed.sources.hdf5writing import write_hdf5
from rootfeed.sources.paths import suffix
from rootfeed.sources.rootwriting import Format, write
from rootfeed.sources.writing import writable
from rootfeed.view import Columns, Take, View

__all__ = ["Rows", "save", "save_as"]

_CLUSTER_ROWS = 1 << 16
_CLUSTER_BYTES = 32_000_000

_NOT_IN_NAMES: dict[Format, str] = {"ttree": r"[\[\]]", "rntuple": r"[\s/\\]"}
_A: dict[Format, str] = {"ttree": "a tree", "rntuple": "an ntuple"}


_PARQUET = (".parquet", ".parq", ".pq")
_ARROW = (".arrow", ".feather", ".ipc")
_HDF5 = (".h5", ".hdf5", ".hdf", ".he5")


@dataclass(frozen=True, eq=False)
class Rows:
    """Entries of one or several views, one after another.

    Attributes
    ----------
    views : tuple of View
    masks : sequence of ndarray of uint64, or None
        For each file of all views, a bit for each entry that is meant, of those that pass; None for all.
    """

    views: tuple[View, ...]
    masks: Sequence[BitMask] | None = None

    @property
    def paths(self) -> list[str]:
        """The files' paths."""
        return [path for view in self.views for path in view.paths]

    def blocks(self, names: Sequence[str]) -> Iterator[Columns]:
        """Yield some columns, block by block, in the order of the files."""
        first = 0
        for view in self.views:
            masks = None if self.masks is None else self.masks[first : first + len(view.paths)]
            first += len(view.paths)

            def chosen(
                block: Block, take: Take, values: Columns, masks: Sequence[BitMask] | None = masks
            ) -> Columns:
                if masks is None:
                    return values
                is_meant = np.zeros(len(block), np.bool_)
                is_meant[members(masks[block.file], block.start, block.stop)] = True
                kept = np.flatnonzero(is_meant[take])
                return {
                    name: each.taken(kept) if isinstance(each, Jagged) else each[kept]
                    for name, each in values.items()
                }

            for _, _, values in view.scan(names, chosen):
                yield values


def save_as(
    rows: Rows, names: Sequence[str], file: str | os.PathLike[str], format: str, overwrite: bool
) -> None:
    """Write columns of some entries into a file whose name tells its format: see `Frame.save`.

    Raises
    ------
    ArgumentError
        Where the name tells none, there is such a file, it is one of those that are read, or not local;
        or a name cannot be that of a column.
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text.
    EmptyDatasetError
        Where an ntuple would have no row.
    """
    text = os.path.expanduser(os.fspath(file))
    path, of_root, name = text.partition(".root:")
    path = f"{path}.root" if of_root else path
    ending = suffix(path)
    kinds = {**dict.fromkeys(_PARQUET, write_parquet), **dict.fromkeys(_ARROW, write_arrow)}
    kinds |= dict.fromkeys(_HDF5, write_hdf5)
    if ending != ".root" and ending not in kinds:
        raise ArgumentError(
            "a file is saved as 'out.root', 'out.root:name', 'out.parquet', 'out.arrow' or 'out.h5', "
            f"got {str(file)!r}."
        )
    one_of("format", format, ("ttree", "rntuple"))
    if ending != ".root" and format != "ttree":
        raise ArgumentError(f"format={format!r} is for ROOT's files, got {str(file)!r}.")
    if not names:
        raise ArgumentError("there is no column to write. Name at least one.")
    if not overwrite and Path(path).exists():
        raise ArgumentError(f"{path} exists. Name another file, or replace it: overwrite=True.")
    if ending == ".root":
        compression = ("zlib", 1) if format == "ttree" else ("zstd", 5)
        save(rows, names, path, name or "events", cast(Format, format), compression)
        return
    path_ = writable(path, rows.paths)
    types = _types(rows, names)
    kinds[ending](path_, types, _clusters(rows, types))


def save(
    rows: Rows,
    names: Sequence[str],
    file: str | Path,
    object_name: str,
    format: Format,
    compression: tuple[str, int] | None,
) -> None:
    """Write columns of some entries into a ROOT file, cluster by cluster; it is replaced at the end.

    Parameters
    ----------
    rows : Rows
    names : sequence of str
    file : str or Path
    object_name : str
        Of the tree or ntuple.
    format : "ttree" or "rntuple"
    compression : tuple of str and int, or None
        One of uproot's.

    Raises
    ------
    ArgumentError, UnsupportedColumnError, EmptyDatasetError
        See `save_as`.
    """
    path = writable(file, rows.paths)
    types = _types(rows, names)
    written = _written(names, format)
    counters = {}
    if format == "ttree":
        counters = _counters(rows, types)
        types = {name: type_ for name, type_ in types.items() if name not in counters.values()}
    clusters = (
        {written[name]: values for name, values in cluster.items()} for cluster in _clusters(rows, types)
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


def _types(rows: Rows, names: Sequence[str]) -> dict[str, ColumnType]:
    """Return types that hold what the columns have in all files."""
    every = []
    for view in rows.views:
        projection = view.projection(names)
        every += [projection.types(index) for index in view.index(projection.columns)]
    found = {}
    for name in names:
        type_ = every[0][name]
        if other := next((each[name] for each in every if each[name].kind != type_.kind), None):
            raise UnsupportedColumnError(
                f"column {name!r} is a {type_.kind} in some files and a {other.kind} in others. Leave "
                "it out, or write these files on their own."
            )
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


def _counters(rows: Rows, types: Mapping[str, ColumnType]) -> dict[str, str]:
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
        wrong: set[str] = set()
        for values in rows.blocks([*candidates, *candidates.values()]):
            wrong |= {
                name
                for name, counter in candidates.items()
                if not np.array_equal(
                    np.diff(cast(Jagged, values[name]).offsets), cast(Array, values[counter])
                )
            }
        found = {name: counter for name, counter in candidates.items() if name not in wrong}
    for name in vectors:
        if name not in found:
            counter = f"n{name}"
            while counter in types or counter in found.values():
                counter = f"n_{counter[1:]}"
            found[name] = counter
    return found


def _clusters(rows: Rows, types: Mapping[str, ColumnType]) -> Iterator[dict[str, Array | Jagged]]:
    """Yield the columns of so many rows as are written together."""
    some: list[Columns] = []
    count = size = 0
    for values in rows.blocks(list(types)):
        some.append(values)
        count += len(next(iter(values.values())))
        size += sum(_bytes(each) for each in values.values())
        if count >= _CLUSTER_ROWS or size >= _CLUSTER_BYTES:
            yield _joined(some, types)
            some, count, size = [], 0, 0
    if count:
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
