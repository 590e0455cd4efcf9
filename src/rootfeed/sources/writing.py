"""New files of columns of numbers, vectors and texts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rootfeed.errors import ArgumentError, EmptyDatasetError, UnsupportedColumnError
from rootfeed.schema import Array, ColumnType, Jagged
from rootfeed.sources.storage import is_remote

__all__ = ["COMPRESSIONS", "Format", "writable", "write"]

Format = Literal["ttree", "rntuple"]

COMPRESSIONS = ("zlib", "lzma", "lz4", "zstd")
"""Each has levels from 1 to 9."""

_FAST = ("zlib", 1)


def write(
    path: str | Path,
    name: str,
    types: Mapping[str, ColumnType],
    clusters: Iterable[Mapping[str, Array | Jagged]],
    format: Format,
    *,
    counters: Mapping[str, str] | None = None,
    compression: tuple[str, int] | None = _FAST,
) -> None:
    """Write columns into a file, which is replaced when all is written.

    Parameters
    ----------
    path : str or Path
    name : str
        Of the tree or ntuple.
    types : mapping of str to ColumnType
        Of each column.
    clusters : iterable of mapping of str to ndarray or Jagged
        Rows that are written together.
    format : "ttree" or "rntuple"
    counters : mapping of str to str, optional
        The name of the branch with the number of elements of each vector's entries, for a tree, which
        cannot do without.
    compression : tuple of str and int, or None
        One of `COMPRESSIONS`, and its level.

    Raises
    ------
    UnsupportedColumnError
        Where a column holds neither numbers, nor vectors of numbers, nor text.
    EmptyDatasetError
        Where an ntuple would have no row.
    """
    for column, type_ in types.items():
        if type_.dtype is None and type_.kind != "text":
            raise UnsupportedColumnError(
                f"column {column!r} ({type_.text}) holds neither numbers, nor vectors of numbers, nor "
                "text, which are all that is written. Name the columns without it."
            )
    import awkward as ak
    import uproot

    packing = None if compression is None else getattr(uproot, compression[0].upper())(compression[1])
    unfinished = Path(f"{path}.part{os.getpid()}")
    try:
        with uproot.recreate(unfinished, compression=packing) as file:
            out: Any
            if format == "ttree":
                branches = {key: _branch(type_) for key, type_ in types.items()}
                out = file.mktree(name, branches, counter_name=_named(counters or {}))
            else:
                fields = [_field(type_) for type_ in types.values()]
                out = file.mkrntuple(name, ak.forms.RecordForm(fields, list(types)))
            rows = 0
            for cluster in clusters:
                typed = {key: _typed(cluster[key], type_) for key, type_ in types.items()}
                # A mapping's columns come in another order from uproot before 5.7.7.
                out.extend(typed if format == "ttree" else ak.zip(typed, depth_limit=1))
                rows += len(next(iter(cluster.values())))
            if format == "rntuple" and not rows:
                # ROOT cannot open what uproot writes then.
                raise EmptyDatasetError("there is no row, and an ntuple needs one. Write a tree.")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def writable(file: str | Path, read: Iterable[str]) -> Path:
    """Return the path of a file that may be written while others are read.

    Raises
    ------
    ArgumentError
        Where it is one of these, or not local.
    """
    if is_remote(str(file)):
        raise ArgumentError(
            f"a file that is written must be local, got {str(file)!r}. Copy it afterwards."
        )
    path = Path(file)
    if path.exists() and any(Path(other).exists() and path.samefile(other) for other in read):
        raise ArgumentError(f"{path} is one of the files that are read. Name another one to write.")
    return path


def _named(counters: Mapping[str, str]) -> Any:
    return lambda vector: counters.get(vector, f"n{vector}")


def _branch(type_: ColumnType) -> Any:
    if type_.kind == "text":
        return "string"
    if type_.kind == "vector" and not type_.shape:
        return f"var * {type_.dtype}"
    return np.dtype((type_.dtype, type_.shape))


def _field(type_: ColumnType) -> Any:
    import awkward as ak

    if type_.kind == "text":
        letters = ak.forms.NumpyForm("uint8", parameters={"__array__": "char"})
        return ak.forms.ListOffsetForm("i64", letters, parameters={"__array__": "string"})
    form: Any = ak.forms.NumpyForm(str(type_.dtype))
    if type_.kind == "vector" and not type_.shape:
        return ak.forms.ListOffsetForm("i64", form)
    for size in reversed(type_.shape):
        form = ak.forms.RegularForm(form, size)
    return form


def _typed(values: Array | Jagged, type_: ColumnType) -> Any:
    """Return a column as what uproot takes."""
    if not isinstance(values, Jagged):
        return values.astype(type_.dtype, copy=False)
    if type_.kind == "text":
        return values.as_awkward()
    numbers = values.values[: values.offsets[-1]].astype(type_.dtype, copy=False)
    if type_.shape:
        return numbers.reshape(len(values), *type_.shape)
    return Jagged(numbers, values.offsets).as_awkward()
