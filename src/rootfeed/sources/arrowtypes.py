"""Arrow's types, and the columns of its schemas, as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rootfeed.schema import ColumnType

__all__ = [
    "Field",
    "buffers_of",
    "column_type",
    "fields_of",
    "list_of",
    "nodes_of",
]


class Field(NamedTuple):
    """A column: a field of a schema, or a member of structs in it.

    Attributes
    ----------
    position : int
        Number of the field in the schema.
    path : tuple of str
        The field's name, and those of the members that lead to this one.
    type : pyarrow.DataType
        With the lists in which the structs are: a member of a list of structs is a list.
    nodes : tuple of (int, int)
        Its own nodes in a record batch: the first, and the one after the last.
    leaves : tuple of (int, int)
        Its columns in Parquet, likewise.
    """

    position: int
    path: tuple[str, ...]
    type: Any
    nodes: tuple[int, int]
    leaves: tuple[int, int]

    @property
    def name(self) -> str:
        """What the column is called: names with points between them."""
        return ".".join(self.path)


def fields_of(schema: Any) -> list[Field]:
    """Return the columns of a schema, each struct followed by its members."""
    found: list[Field] = []
    node = leaf = 0
    for position, each in enumerate(schema):
        nodes, leaves = nodes_of(each.type)
        whole = Field(position, (each.name,), each.type, (node, node + nodes), (leaf, leaf + leaves))
        found += [whole, *_members(whole, lambda type_: type_)]
        node, leaf = node + nodes, leaf + leaves
    return found


def _members(of: Field, within: Callable[[Any], Any]) -> Iterator[Field]:
    """Yield the members of a field's structs; `within` puts their types into the lists around them."""
    import pyarrow as pa

    type_, (node, _), (leaf, _) = of.type, of.nodes, of.leaves
    if (lists := list_of(type_)) is not None:
        inner = of._replace(type=type_.value_type, nodes=(node + 1, of.nodes[1]))
        yield from _members(inner, lambda element: within(lists(element)))
    elif pa.types.is_struct(type_):
        node += 1
        for each in type_:
            nodes, leaves = nodes_of(each.type)
            path = (*of.path, each.name)
            found = Field(of.position, path, each.type, (node, node + nodes), (leaf, leaf + leaves))
            yield found._replace(type=within(each.type))
            yield from _members(found, within)
            node, leaf = node + nodes, leaf + leaves


def list_of(type_: Any) -> Callable[[Any], Any] | None:
    """Return what makes lists of the kind of a type; None where it is no list."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(type_):
        return lambda element: pa.list_(element, type_.list_size)
    kinds = (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_list_view, pa.list_view),
        (pa.types.is_large_list_view, pa.large_list_view),
    )
    return next((lists for is_one, lists in kinds if is_one(type_)), None)


def column_type(type_: Any) -> ColumnType:
    """Return what a column of an Arrow type holds."""
    import pyarrow as pa

    plain, text = _plain(type_), str(type_)
    if (dtype := _dtype(plain)) is not None:
        return ColumnType(text, "scalar", dtype, unit=_unit(plain))
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
    if dtype is None:
        return ColumnType(text, "other")
    return ColumnType(text, "vector", dtype, shape, _unit(element))


def nodes_of(type_: Any) -> tuple[int, int]:
    """Return how many nodes a field has in a record batch, itself included, and columns in Parquet."""
    import pyarrow as pa

    if isinstance(type_, pa.BaseExtensionType):
        return nodes_of(type_.storage_type)
    if pa.types.is_dictionary(type_) or type_.num_fields == 0:
        return 1, 1
    inside = [nodes_of(type_.field(number).type) for number in range(type_.num_fields)]
    return 1 + sum(nodes for nodes, _ in inside), sum(leaves for _, leaves in inside)


def buffers_of(type_: Any) -> int:
    """Return how many buffers a field has in a record batch, those of the fields in it included."""
    import pyarrow as pa

    if isinstance(type_, pa.BaseExtensionType):
        return buffers_of(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return 2
    inside = sum(buffers_of(type_.field(number).type) for number in range(type_.num_fields))
    if pa.types.is_null(type_) or pa.types.is_run_end_encoded(type_):
        return inside
    if pa.types.is_union(type_):
        return inside + (2 if type_.mode == "dense" else 1)
    if pa.types.is_struct(type_) or pa.types.is_fixed_size_list(type_):
        return inside + 1
    views = (pa.types.is_list_view, pa.types.is_large_list_view)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return inside + (3 if any(each(type_) for each in (*views, *texts)) else 2)


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


def _unit(type_: Any) -> str:
    """Return what dates, times and durations count; nothing of other types."""
    import pyarrow as pa

    if pa.types.is_date32(type_):
        return "days"
    if pa.types.is_date64(type_):
        return "ms"
    return type_.unit if pa.types.is_temporal(type_) else ""


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
