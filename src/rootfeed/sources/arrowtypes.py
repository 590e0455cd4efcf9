"""Arrow's types and arrays as ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from rootfeed.schema import Array, ColumnType

__all__ = ["as_numbers", "as_text", "as_vectors", "column_type", "decoded", "nodes_of"]


def column_type(type_: Any) -> ColumnType:
    """Return what a column of an Arrow type holds."""
    import pyarrow as pa

    plain, text = _plain(type_), str(type_)
    if (dtype := _dtype(plain)) is not None:
        return ColumnType(text, "scalar", dtype)
    if _is_text(plain):
        return ColumnType(text, "text")
    shape: tuple[int, ...] = ()
    if isinstance(type_, pa.FixedShapeTensorType) and type_.permutation in (
        None,
        [*range(len(type_.shape))],
    ):
        shape = tuple(type_.shape)
        element = _plain(type_.value_type)
    elif pa.types.is_fixed_size_list(plain):
        element = plain
        while pa.types.is_fixed_size_list(element):
            shape, element = (*shape, element.list_size), _plain(element.value_type)
    elif _is_list(plain):
        element = _plain(plain.value_type)
    else:
        return ColumnType(text, "other")
    dtype = _dtype(element)
    return ColumnType(text, "other") if dtype is None else ColumnType(text, "vector", dtype, shape)


def decoded(array: Any) -> Any:
    """Return an array without dictionary and extension type."""
    import pyarrow as pa

    while True:
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        elif pa.types.is_run_end_encoded(array.type):
            array = pa.compute.run_end_decode(array)
        else:
            return array


def as_numbers(array: Any) -> Array:
    """Return a decoded array without nulls as NumPy's; without a copy, but of booleans."""
    import pyarrow as pa

    if pa.types.is_temporal(array.type):
        array = array.view(pa.int64() if array.type.bit_width == 64 else pa.int32())
    found: Array = array.to_numpy(zero_copy_only=False)
    return found


def as_vectors(array: Any) -> tuple[Any, Array]:
    """Return the elements of lists without nulls, in one Arrow array, and where each list ends."""
    import pyarrow as pa

    if isinstance(array, pa.FixedSizeListArray):
        size, entries, values = 1, len(array), array
        while isinstance(values, pa.FixedSizeListArray) and values.null_count == 0:
            size *= values.type.list_size
            values = decoded(values.flatten())
        return values, np.arange(1, entries + 1, dtype=np.int64) * size
    if isinstance(array, pa.ListViewArray | pa.LargeListViewArray):
        # In any order: pyarrow's cast to lists in a row goes wrong.
        ends = array.sizes.to_numpy().cumsum(dtype=np.int64)
        return decoded(array.flatten()), ends
    if len(array) == 0:  # which may have no offsets
        return decoded(array.values.slice(0, 0)), np.zeros(0, np.int64)
    offsets = array.offsets.to_numpy().astype(np.int64, copy=False)
    values = decoded(array.values.slice(offsets[0], offsets[-1] - offsets[0]))
    return values, offsets[1:] - offsets[0]


def as_text(array: Any) -> tuple[Array, Array]:
    """Return the bytes of texts without nulls, and where each ends."""
    import pyarrow as pa

    array = array.cast(pa.large_binary())
    if len(array) == 0:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    _, places, letters = array.buffers()
    offsets = np.frombuffer(places, np.int64, len(array) + 1, 8 * array.offset)
    if letters is None:
        return np.zeros(0, np.uint8), offsets[1:] - offsets[0]
    values = np.frombuffer(letters, np.uint8)[offsets[0] : offsets[-1]]
    return values, offsets[1:] - offsets[0]


def nodes_of(type_: Any) -> tuple[int, int]:
    """Return how many nodes a field has in a record batch, itself included, and columns in Parquet."""
    import pyarrow as pa

    if isinstance(type_, pa.BaseExtensionType):
        return nodes_of(type_.storage_type)
    if pa.types.is_dictionary(type_) or type_.num_fields == 0:
        return 1, 1
    inside = [nodes_of(type_.field(number).type) for number in range(type_.num_fields)]
    return 1 + sum(nodes for nodes, _ in inside), sum(leaves for _, leaves in inside)


def _plain(type_: Any) -> Any:
    import pyarrow as pa

    while True:
        if isinstance(type_, pa.BaseExtensionType):
            type_ = type_.storage_type
        elif pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_):
            type_ = type_.value_type
        else:
            return type_


def _dtype(type_: Any) -> np.dtype[Any] | None:
    """Return the native dtype of numbers, and of times, which count their unit."""
    import pyarrow as pa

    if pa.types.is_float16(type_):
        return np.dtype(np.float32)
    if pa.types.is_temporal(type_) and not pa.types.is_interval(type_):
        return np.dtype(np.int64 if type_.bit_width == 64 else np.int32)
    if pa.types.is_boolean(type_):
        return np.dtype(np.bool_)
    if pa.types.is_integer(type_):
        return np.dtype(str(type_))
    if pa.types.is_floating(type_):
        return np.dtype(f"f{type_.bit_width // 8}")
    return None


def _is_text(type_: Any) -> bool:
    import pyarrow as pa

    return any(
        each(type_)
        for each in (
            *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
            *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
        )
    )


def _is_list(type_: Any) -> bool:
    import pyarrow as pa

    return any(
        each(type_)
        for each in (
            *(pa.types.is_list, pa.types.is_large_list),
            *(pa.types.is_list_view, pa.types.is_large_list_view),
        )
    )
