"""What our kernels do not decode is read by uproot: slower, and exact."""

from __future__ import annotations

import math
from contextlib import ExitStack
from typing import Any

import awkward as ak
import numpy as np

from rootfeed.errors import DamagedFileError, UnsupportedColumnError
from rootfeed.schema import Array, Column, FileIndex, Jagged, Texts
from rootfeed.sources.metadata import damaged, open_object
from rootfeed.sources.scratch import Scratch

__all__ = ["fill_scalar", "read_array", "read_jagged"]


def read_array(index: FileIndex, column: Column, start: int, stop: int, scratch: Scratch) -> ak.Array:
    """Read the entries ``[start, stop)`` of any column; the scratch keeps the file open.

    Raises
    ------
    DamagedFileError
        Names the file, the column and the entries.
    """

    def open_(stack: ExitStack) -> Any:
        found = stack.enter_context(open_object(index.path, index.object_path))
        return found.handle

    with damaged(f"{index.where}: {_entries(column, start, stop)} cannot be read"):
        handle = scratch.keep((index.path, index.object_path), open_)
        values = handle[column.key].array(entry_start=start, entry_stop=stop, array_cache=None)
        return values[column.leaf] if column.leaf else values


def fill_scalar(
    index: FileIndex, column: Column, start: int, stop: int, out: Array, scratch: Scratch
) -> None:
    """Read the entries ``[start, stop)`` of a scalar column into an array."""
    values = read_array(index, column, start, stop, scratch)
    with damaged(f"{index.where}: {_entries(column, start, stop)} cannot be read"):
        numbers = ak.to_numpy(values, allow_missing=False)
    if numbers.shape != out.shape:
        raise _unexpected(index, column, start, stop, f"an array of shape {numbers.shape}")
    out[:] = numbers


def read_jagged(index: FileIndex, column: Column, start: int, stop: int, scratch: Scratch) -> Jagged:
    """Read the entries ``[start, stop)`` of a vector of numbers.

    Raises
    ------
    UnsupportedColumnError
        Where its elements are no numbers.
    DamagedFileError
    """
    if column.type.kind == "text":
        return _read_texts(index, column, start, stop, scratch)
    dtype, shape = column.type.dtype, column.type.shape
    if dtype is None:
        raise UnsupportedColumnError(
            f"{index.where}: column {column.name!r} ({column.type.text}) is no vector of numbers: "
            "read it with read_awkward."
        )
    values = read_array(index, column, start, stop, scratch)
    with damaged(f"{index.where}: {_entries(column, start, stop)} cannot be read"):
        if shape:
            whole = ak.to_numpy(values, allow_missing=False)
            if whole.shape[1:] == shape:
                values = whole.reshape(len(whole), math.prod(shape))
        counts = ak.to_numpy(ak.num(values, axis=1), allow_missing=False)
        numbers = ak.to_numpy(ak.flatten(values, axis=1), allow_missing=False)
    offsets = np.zeros(stop - start + 1, np.int64)
    if len(counts) != stop - start or numbers.ndim != 1 or numbers.dtype.names:
        found = f"{len(counts)} entries of elements of shape {numbers.shape[1:]}"
        raise _unexpected(index, column, start, stop, found)
    np.cumsum(counts, out=offsets[1:])
    return Jagged(numbers.astype(dtype, copy=False), offsets)


def _read_texts(index: FileIndex, column: Column, start: int, stop: int, scratch: Scratch) -> Texts:
    values = read_array(index, column, start, stop, scratch)
    with damaged(f"{index.where}: {_entries(column, start, stop)} cannot be read"):
        lists = ak.to_layout(values).to_ListOffsetArray64(True)
        offsets = np.asarray(lists.offsets.data)
        letters = np.asarray(lists.content.data)
    is_sound = len(offsets) == stop - start + 1 and letters.dtype == np.uint8
    if not is_sound or np.any(np.diff(offsets, prepend=0) < 0) or offsets[-1] > len(letters):
        raise _unexpected(index, column, start, stop, f"{len(offsets) - 1} texts")
    return Texts(letters, offsets)


def _entries(column: Column, start: int, stop: int) -> str:
    return f"the entries [{start}, {stop}) of column {column.name!r}"


def _unexpected(index: FileIndex, column: Column, start: int, stop: int, found: str) -> DamagedFileError:
    return DamagedFileError(
        f"{index.where}: {_entries(column, start, stop)} gave {found}. Copy or produce the file again."
    )
