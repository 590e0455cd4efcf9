"""What our kernels do not decode is read by uproot: slower.

uproot compares no names and, of an RNTuple, no checksums of pages: that is done here, before it reads.
Where it fails, the pages tell whether they are damaged or hold a type that it cannot read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Event
from typing import Any

import awkward as ak
import numpy as np

from rootfeed.errors import DamagedFileError, RootfeedError, UnsupportedColumnError
from rootfeed.schema import Array, Column, FileIndex, Jagged, Texts
from rootfeed.sources import baskets, branches, tables
from rootfeed.sources.failures import Located, reason, unavailable
from rootfeed.sources.metadata import open_object
from rootfeed.sources.objects import damaged
from rootfeed.sources.pages import PageReader
from rootfeed.sources.scratch import Scratch
from rootfeed.sources.uproot_internals import branch_record, field_of, ntuple_records

__all__ = ["fill_scalar", "read_array", "read_jagged"]


def read_array(index: FileIndex, column: Column, start: int, stop: int, scratch: Scratch) -> ak.Array:
    """Read the entries ``[start, stop)`` of any column; the scratch keeps the file open.

    Raises
    ------
    UnsupportedColumnError
        Where uproot cannot read its type.
    DamagedFileError
        Where its pages are damaged, or another column's. Both name the file, the column and the entries.
    """
    with _reading(index, column, start, stop, scratch) as values:
        return values


def fill_scalar(
    index: FileIndex, column: Column, start: int, stop: int, out: Array, scratch: Scratch
) -> None:
    """Read the entries ``[start, stop)`` of a scalar column into an array."""
    with _reading(index, column, start, stop, scratch) as values:
        numbers = ak.to_numpy(values, allow_missing=False)
        if numbers.shape != out.shape:
            raise TypeError(f"it gave an array of shape {numbers.shape}")
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
    offsets = np.zeros(stop - start + 1, np.int64)
    with _reading(index, column, start, stop, scratch) as values:
        if shape:
            whole = ak.to_numpy(values, allow_missing=False)
            if whole.shape[1:] == shape:
                values = whole.reshape(len(whole), math.prod(shape))
        counts = ak.to_numpy(ak.num(values, axis=1), allow_missing=False)
        numbers = ak.to_numpy(ak.flatten(values, axis=1), allow_missing=False)
        if len(counts) != stop - start or numbers.ndim != 1 or numbers.dtype.names:
            raise TypeError(f"it gave {len(counts)} entries of elements of shape {numbers.shape[1:]}")
    np.cumsum(counts, out=offsets[1:])
    return Jagged(numbers.astype(dtype, copy=False), offsets)


def _read_texts(index: FileIndex, column: Column, start: int, stop: int, scratch: Scratch) -> Texts:
    with _reading(index, column, start, stop, scratch) as values:
        lists = ak.to_layout(values).to_ListOffsetArray64(True)
        offsets, letters = np.asarray(lists.offsets.data), np.asarray(lists.content.data)
        is_sound = len(offsets) == stop - start + 1 and letters.dtype == np.uint8
        if not is_sound or np.any(np.diff(offsets, prepend=0) < 0) or offsets[-1] > len(letters):
            raise TypeError(f"it gave {len(offsets) - 1} texts")
    return Texts(letters, offsets)


@contextmanager
def _reading(
    index: FileIndex, column: Column, start: int, stop: int, scratch: Scratch
) -> Iterator[ak.Array]:
    """Give what uproot reads; whatever goes wrong in that, or in using it, is told as what it is."""

    def open_(stack: ExitStack) -> Any:
        found = stack.enter_context(open_object(index.address, index.object_path, index.version))
        if found.format == "RNTuple":
            return found, lambda key: field_of(found.handle, int(key)), ntuple_records(found.handle)
        # Not uproot's own look-up, which takes slashes and dots in a name for a path, and can take
        # another branch of that name.
        return found, branches.by_key(found.handle).__getitem__, None

    with Located(lambda: f"Column {column.name!r}, entries [{start}, {stop})."):
        found, stored_of, ntuple = scratch.keep((index.address, index.object_path), open_)
        reader = PageReader(index, found.storage, Scratch(), Event())
        try:
            with damaged(f"{index.where}: the page list of column {column.name!r} cannot be read"):
                stored = stored_of(column.key)
                if index.format == "TTree":
                    listed = [(baskets.branch_pages(branch_record(found.handle, stored)), start, stop)]
                else:
                    listed = list(tables.stored_pages(ntuple, int(column.key), start, stop))
            for pages, first, end in listed:
                check = reader.check_labels if index.format == "TTree" else reader.check_stored
                check(column, pages, first, end)
            try:
                if index.format == "TTree":
                    # Where no array can hold a type, uproot finds out last, after gigabytes at worst.
                    stored.interpretation.awkward_form(stored.file)
                values = stored.array(entry_start=start, entry_stop=stop, array_cache=None)
                found.storage.verify()
                yield values[column.leaf] if column.leaf else values
            except RootfeedError:
                raise
            except Exception as error:  # uproot raises whatever its parsers meet
                what = f"{index.where}: the entries [{start}, {stop}) of column {column.name!r}"
                if (kept_back := unavailable(what, "cannot be read", error)) is not None:
                    raise kept_back from error
                if index.format == "TTree":
                    reader.check_baskets(column, listed[0][0], start, stop)
                    if branches.is_common(stored):
                        raise DamagedFileError(
                            f"{what} are damaged: {reason(error)}. Copy or produce the file again."
                        ) from error
                raise UnsupportedColumnError(
                    f"{what} cannot be read: their pages are whole, but neither rootfeed nor uproot "
                    f"reads the type {column.type.text} ({reason(error)}). Leave the column out, or "
                    "write it in another type, such as vectors of numbers."
                ) from error
        except (DamagedFileError, UnsupportedColumnError):
            found.storage.verify()  # what looks like damage may be another file
            raise
