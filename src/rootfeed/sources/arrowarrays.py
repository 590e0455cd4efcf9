"""Arrow's arrays as NumPy's, and as vectors and texts; what is missing is filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rootfeed.errors import UnsupportedColumnError
from rootfeed.processes import unforked
from rootfeed.schema import Array, Column, ColumnType, Jagged, Texts
from rootfeed.sources.arrowtypes import list_of
from rootfeed.sources.filling import Filling, as_type
from rootfeed.sources.scratch import Scratch

__all__ = ["decoded", "filled", "member", "nulls", "numbers"]


def filled(
    parts: Sequence[Any],
    where: str,
    column: Column,
    filling: Filling | None,
    out_for: Callable[[str], Array],
    scratch: Scratch,
) -> Array | Jagged:
    """Return the entries of all parts, decoded arrays of one column, in memory of ours.

    Parameters
    ----------
    parts : sequence of pyarrow.Array
    where : str
        The file, in messages.
    column : Column
    filling : Filling or None
        What stands for what is missing. A vector that is missing is empty; of a fixed shape, full of it.
    out_for : function of a name
        Returns where numbers go.
    scratch : Scratch
        Where the rest goes.

    Raises
    ------
    UnsupportedColumnError
        Where something is missing, and nothing was given for it.
    ArgumentError
        Where the column cannot hold what was given.
    """
    name, type_ = column.name, column.type
    parts = [_typed(part, type_) for part in parts]
    given = None if filling is None else filling.of(name)

    value: Any = None

    def fill(what: str, missing: int) -> None:
        nonlocal value
        if missing and given is None:
            raise nulls(where, name, type_, f"{missing} {what}")
        if missing:
            value = as_type(given, where, name, type_)

    fill("of its entries", sum(part.null_count for part in parts))
    done, entries = 0, sum(map(len, parts))
    if type_.kind == "scalar":
        out = out_for(name)
        for part in parts:
            out[done : done + len(part)] = numbers(part, value)
            done += len(part)
        return out
    offsets = scratch.array(f"offsets of {name}", entries + 1, np.int64)
    offsets[0] = first = 0
    if type_.kind == "text":
        pieces: list[Any] = [_texts(part, value) for part in parts]
    else:
        pieces = [_vectors(part) for part in parts]
        fill("elements of its vectors", sum(values.null_count for values, *_ in pieces))
    dtype = np.dtype(np.uint8) if type_.dtype is None else type_.dtype
    values = scratch.array(f"values of {name}", sum(len(each) for each, *_ in pieces), dtype)
    for each, ends, *missing in pieces:
        np.add(ends, first, out=offsets[done + 1 : done + 1 + len(ends)])
        piece = values[first : first + len(each)]
        piece[:] = each if type_.kind == "text" else numbers(each, value)
        if missing and missing[0] is not None:
            piece[missing[0]] = value
        done, first = done + len(ends), first + len(each)
    return (Texts if type_.kind == "text" else Jagged)(values, offsets)


def nulls(where: str, name: str, type_: ColumnType, what: str) -> UnsupportedColumnError:
    """Return the error about values that are missing."""
    value: Any = "" if type_.kind == "text" else 0
    is_real = type_.dtype is not None and type_.dtype.kind == "f"
    told = " pandas writes NaN as null: fill_null=float('nan') gives it back." if is_real else ""
    return UnsupportedColumnError(
        f"{where}: column {name!r} has no value (null) in {what}, and nothing stands for that. Say what "
        f"does when it is opened, fill_null={{{name!r}: {value!r}}}, or leave the column out.{told}"
    )


def load() -> None:
    """Import what reading needs, so that threads need not."""
    with unforked():
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.csv

        pa.nulls(0).to_numpy(zero_copy_only=False)  # which looks for pandas


def member(array: Any, path: Sequence[str]) -> Any:
    """Return members of an array of structs, or of lists of structs; missing where the struct is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not path:
        return array
    if isinstance(array, pa.StructArray):
        number = [each.name for each in array.type].index(path[0])
        return member(pc.struct_field(array, [number]), path[1:])
    values = member(array.values, path)
    lists = list_of(array.type)
    assert lists is not None, array.type
    own = {pa.FixedSizeListArray: 1, pa.ListViewArray: 3, pa.LargeListViewArray: 3}.get(type(array), 2)
    return pa.Array.from_buffers(
        lists(values.type),
        len(array),
        array.buffers()[:own],
        offset=array.offset,
        children=[values],
    )


def decoded(array: Any) -> Any:
    """Return an array without dictionary and extension type."""
    import pyarrow as pa

    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = _decodable(array).dictionary_decode()
        elif pa.types.is_run_end_encoded(array.type):
            array = pa.compute.run_end_decode(array)
        else:
            return array


def _decodable(array: Any) -> Any:
    """Return an array with a dictionary of texts as polars has them as one that pyarrow decodes."""
    import pyarrow as pa

    type_ = array.type.value_type
    if not (pa.types.is_string_view(type_) or pa.types.is_binary_view(type_)):
        return array
    return pa.DictionaryArray.from_arrays(array.indices, array.dictionary.cast(pa.large_binary()))


def _typed(array: Any, type_: ColumnType) -> Any:
    """Give an array of no type, in which all is missing, one in which it can be filled."""
    import pyarrow as pa

    if not pa.types.is_null(array.type):
        return array
    return array.cast(pa.string() if type_.dtype is None else pa.from_numpy_dtype(type_.dtype))


def numbers(array: Any, fill: Any = None) -> Array:
    """Return a decoded array as NumPy's, with a number where there is none; a copy where it must be."""
    import pyarrow as pa

    if pa.types.is_temporal(array.type):
        array = array.view(pa.int64() if array.type.bit_width == 64 else pa.int32())
    if array.null_count == 0:
        found: Array = array.to_numpy(zero_copy_only=False)
        return found
    # Of an array with nulls pyarrow makes float64.
    bare = pa.Array.from_buffers(array.type, len(array), [None, array.buffers()[1]], 0, array.offset)
    found = bare.to_numpy(zero_copy_only=False)
    return np.where(_valid(array), found, np.asarray(fill))


def _vectors(array: Any) -> tuple[Any, Array, Array | None]:
    """Return the elements of lists in one Arrow array, where each list ends, and which are missing.

    A list that is missing is empty; one of fixed size has elements, of which the last of these tells,
    or None where all are there.
    """
    import pyarrow as pa

    if isinstance(array, pa.FixedSizeListArray):
        size, entries, values = 1, len(array), array
        missing: Array | None = None
        while isinstance(values, pa.FixedSizeListArray):
            length = values.type.list_size
            if values.null_count or missing is not None:
                here = ~_valid(values)
                missing = np.repeat(here if missing is None else missing | here, length)
            size *= length
            values = decoded(values.values.slice(values.offset * length, len(values) * length))
        ends = np.arange(1, entries + 1, dtype=np.int64) * size
        return values, ends, missing
    is_view = isinstance(array, pa.ListViewArray | pa.LargeListViewArray)
    if is_view or array.null_count:
        # In any order: pyarrow's cast to lists in a row goes wrong.
        lengths = array.sizes.to_numpy() if is_view else np.diff(array.offsets.to_numpy())
        ends = np.cumsum(np.where(_valid(array), lengths, 0), dtype=np.int64)
        return decoded(array.flatten()), ends, None
    if len(array) == 0:  # which may have no offsets
        return decoded(array.values.slice(0, 0)), np.zeros(0, np.int64), None
    offsets = array.offsets.to_numpy().astype(np.int64, copy=False)
    values = decoded(array.values.slice(offsets[0], offsets[-1] - offsets[0]))
    return values, offsets[1:] - offsets[0], None


def _texts(array: Any, fill: bytes = b"") -> tuple[Array, Array]:
    """Return the bytes of texts, and where each ends; others where there is none."""
    import pyarrow as pa

    array = array.cast(pa.large_binary())
    if array.null_count:
        array = array.fill_null(fill)
    if len(array) == 0:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    _, places, letters = array.buffers()
    offsets = np.frombuffer(places, np.int64, len(array) + 1, 8 * array.offset)
    if letters is None:
        return np.zeros(0, np.uint8), offsets[1:] - offsets[0]
    values = np.frombuffer(letters, np.uint8)[offsets[0] : offsets[-1]]
    return values, offsets[1:] - offsets[0]


def _valid(array: Any) -> Array:
    """Return which entries of an array have a value."""
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    found: Array = array.is_valid().to_numpy(zero_copy_only=False)
    return found
