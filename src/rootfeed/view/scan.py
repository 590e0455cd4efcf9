"""One pass over all entries, with definitions and cuts: block by block, on threads, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from rootfeed.errors import UnsupportedColumnError
from rootfeed.schema import Array, Block, FileIndex, Jagged
from rootfeed.view.projection import Projection
from rootfeed.view.reading import Columns, read_blocks
from rootfeed.view.selection import CutEvaluation, Selection, Take

__all__ = ["scan"]

Result = TypeVar("Result")


def scan(
    index: Callable[[Iterable[str]], tuple[FileIndex, ...]],
    projection: Projection,
    chosen: Selection | CutEvaluation | None,
    apply: Callable[[Block, Take, Columns], Result],
    within: Sequence[Block] | None = None,
) -> Iterator[tuple[Block, Take, Result]]:
    """Yield blocks in order, their chosen entries, and what a function makes of some columns of these.

    Parameters
    ----------
    index : function of iterable of str
        Returns the storage metadata of stored columns, for each file.
    projection : Projection
    chosen : Selection, CutEvaluation or None
        Which entries pass, what evaluates that meanwhile and notes it, or all.
    apply : function of (Block, ndarray of int32, mapping of str to ndarray or Jagged)
        Called on threads, with the entries relative to the block's first one.
    within : sequence of Block, optional
        Only these entries.

    Raises
    ------
    UnsupportedColumnError
        Where a column holds numbers in one file, and vectors or texts in another.
    """
    cuts = chosen if isinstance(chosen, CutEvaluation) else None
    needed = dict.fromkeys((*projection.columns, *(cuts.columns if cuts else ())))
    indexes = index(needed)
    firsts: list[int] = np.cumsum([0, *(each.entries for each in indexes)]).tolist()
    read = [name for name in needed if indexes[0].columns[name].dtype is not None]
    for name in needed:
        kinds = {each.columns[name].type.kind: each.where for each in indexes}
        if len(kinds) > 1:
            (kind, where), (other, there) = list(kinds.items())[:2]
            raise UnsupportedColumnError(
                f"column {name!r} is a {kind} in {where} and a {other} in {there}. "
                "Leave it out, or open these files on their own."
            )

    def work(block: Block, inputs: Columns) -> tuple[Take, Result, Any]:
        note = None
        if cuts is not None:
            take, note = cuts.choose(block, inputs)
        elif isinstance(chosen, Selection):
            take = chosen.positions(block)
        else:
            take = np.arange(len(block), dtype=np.int32)
        first_number = firsts[block.file] + block.start
        values = _values(projection, indexes[block.file], inputs, block, first_number, take)
        return take, apply(block, take, values), note

    made = projection.types(indexes[0])
    dtypes = [made[name].dtype for name in projection.defined]
    made_bytes = sum(dtype.itemsize for dtype in dtypes if dtype is not None)
    blocks = read_blocks(indexes, read, work, "Reading columns", made_bytes, within)
    for block, (take, result, note) in blocks:
        if cuts is not None:
            cuts.add(block, note)
        yield block, take, result


def _values(
    projection: Projection, file: FileIndex, inputs: Columns, block: Block, first_number: int, take: Take
) -> Columns:
    """Return what was read, or is made of it, for some entries of a block."""
    found: Columns = {}
    for name in projection.stored:
        if name in inputs:
            values = inputs[name]
            found[name] = _chosen(values, take)
    if projection.defined:
        types = projection.types(file)
        outs = {
            name: np.empty(len(take), types[name].dtype)
            for name in projection.defined
            if types[name].kind == "scalar"
        }
        vectors = projection.evaluate(file, inputs, block, first_number, take, outs)
        found.update(outs)
        found.update(vectors)
    return found


def _chosen(values: Array | Jagged, take: Take) -> Array | Jagged:
    """Return some entries of a column, or all of them, in memory of their own."""
    if not isinstance(values, Jagged):
        return values[take]
    return values.taken(take) if len(take) < len(values) else values.copy()
