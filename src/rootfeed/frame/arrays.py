"""Columns as arrays of all entries that pass, for results that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rootfeed import sources
from rootfeed.errors import PrecisionWarning, warn
from rootfeed.exact import common_dtype
from rootfeed.schema import Array, Block, ColumnType, Jagged, Texts
from rootfeed.view import Columns, Take, View

if TYPE_CHECKING:
    import awkward as ak

__all__ = ["arrays"]


def arrays(
    view: View, names: Sequence[str], most: int | None = None, within: Sequence[Block] | None = None
) -> dict[str, Array | ak.Array]:
    """Return columns of the entries that pass, in the order of the files.

    Parameters
    ----------
    view : View
    names : sequence of str
    most : int, optional
        Only the first so many: what lies behind their block is not read.
    within : sequence of Block, optional
        Only these entries.
    """
    projection = view.projection(names)
    indexes = view.index(projection.columns)

    def copies(block: Block, take: Take, values: Columns) -> dict[str, Any]:
        # Vectors were taken, and are in memory of their own.
        made: dict[str, Any] = {
            name: found if isinstance(found, Jagged) else found.copy() for name, found in values.items()
        }
        for name in projection.stored:
            if name not in made:
                whole = sources.read_awkward(indexes[block.file], name, block.start, block.stop)
                made[name] = whole[take]
        return made

    parts: dict[str, list[Any]] = {name: [] for name in projection.names}
    entries = 0
    for _, take, made in view.scan(names, copies, within=within):
        for name, values in made.items():
            parts[name].append(values)
        entries += len(take)
        if most is not None and entries >= most:
            break
    types = [projection.types(index) for index in indexes]
    found = {}
    for name, some in parts.items():
        type_ = types[0][name]
        if any(each[name].shape != type_.shape for each in types):
            type_ = replace(type_, shape=())  # arrays of one dimension, vectors of several lengths here
        joined, (dtypes, dtype, lost) = _joined(some, type_)
        found[name] = joined[:most]
        if lost:
            warn(
                f"column {name!r} is {' and '.join(dtypes)} in different files: {lost} of its integers "
                f"cannot be represented in {dtype} and were rounded. Open the files of each type on "
                "their own.",
                PrecisionWarning,
            )
    return found


def _joined(parts: Sequence[Any], type_: ColumnType) -> tuple[Array | ak.Array, _Types]:
    """Return the blocks of a column, one after another, and what became of their types."""
    import awkward as ak

    if not parts:
        nothing: Array = np.empty(0, type_.dtype or np.uint8)
        if type_.kind == "scalar":
            return nothing, _types([nothing])
        vectors = Texts if type_.kind == "text" else Jagged
        return vectors(nothing, np.zeros(1, np.int64)).as_awkward(type_.shape), _types([nothing])
    if isinstance(parts[0], np.ndarray):
        kinds = _types(parts)
        return np.concatenate(parts, dtype=kinds[1], casting="unsafe"), kinds
    if isinstance(parts[0], Jagged):
        kinds = _types([part.values for part in parts])
        joined = type(parts[0]).concatenated(parts, kinds[1])
        return joined.as_awkward(type_.shape), kinds
    # Vectors of vectors, or of arrays; objects keep the types that awkward gives them.
    elements = [_elements(part.layout) for part in parts]
    numbers = [each for each in elements if each is not None]
    kinds = _types(numbers if len(numbers) == len(parts) else [])
    if len(kinds[0]) > 1:
        parts = [ak.values_astype(part, kinds[1]) for part in parts]
    return ak.concatenate(parts), kinds


def _elements(layout: Any) -> Array | None:
    """Return the numbers at the bottom of vectors of vectors; None where they are something else."""
    while layout.is_list and layout.parameter("__array__") is None:
        layout = layout.content
    return np.asarray(layout.data) if layout.is_numpy and not layout.parameters else None


_Types = tuple[list[str], np.dtype[Any], int]


def _types(parts: Sequence[Array]) -> _Types:
    """Return the dtypes of some arrays, their common one, and how many integers it cannot represent."""
    filled = [part for part in parts if part.size] or parts[:1]
    if not filled:
        return [], np.dtype(np.float64), 0
    return sorted({str(part.dtype) for part in filled}), *common_dtype(filled)
