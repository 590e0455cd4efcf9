"""One pass over all entries, with definitions and cuts: block by block, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from rootfeed.errors import UnsupportedColumnError
from rootfeed.schema import Array, Block, FileIndex, Jagged
from rootfeed.view.projection import Projection
from rootfeed.view.reading import Columns, Entries, Take, read_blocks
from rootfeed.view.selection import CompiledCuts, CutEvaluation, Noted, Selection

__all__ = ["Apply", "scan"]

Result = TypeVar("Result")
Apply = Callable[[Block, Take, Columns], Result]


def scan(
    index: Callable[[Iterable[str]], tuple[FileIndex, ...]],
    projection: Projection,
    chosen: Selection | CutEvaluation | None,
    apply: Apply[Result],
    within: Sequence[Block] | None = None,
    executor: Executor | None = None,
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
    executor : Executor, optional
        Whose processes read and apply. Of the chosen entries they return nothing: an empty array.

    Raises
    ------
    UnsupportedColumnError
        Where a column holds numbers in one file, and vectors or texts in another.
    """
    evaluation = chosen if isinstance(chosen, CutEvaluation) else None
    needed = dict.fromkeys((*projection.columns, *(evaluation.columns if evaluation else ())))
    indexes = index(needed)
    read = [name for name in needed if indexes[0].columns[name].dtype is not None]
    for name in needed:
        kinds = {each.columns[name].type.kind: each.where for each in indexes}
        if len(kinds) > 1:
            (kind, where), (other, there) = list(kinds.items())[:2]
            raise UnsupportedColumnError(
                f"column {name!r} is a {kind} in {where} and a {other} in {there}. "
                "Leave it out, or open these files on their own."
            )
    made = projection.types(indexes[0])
    dtypes = [made[name].dtype for name in projection.defined]
    blocks = read_blocks(
        indexes,
        read,
        _Work(projection, None if evaluation is None else evaluation.cuts, apply, executor is None),
        "Reading columns",
        sum(dtype.itemsize for dtype in dtypes if dtype is not None),
        within,
        chosen.masks if isinstance(chosen, Selection) else None,
        executor,
    )
    for block, (take, result, note) in blocks:
        if evaluation is not None and note is not None:
            evaluation.add(block, note)
        yield block, take, result


@dataclass(frozen=True, eq=False)
class _Work(Generic[Result]):
    """What is made of a block: it can be sent to other processes, if what is applied can."""

    projection: Projection
    cuts: CompiledCuts | None
    apply: Apply[Result]
    tells_entries: bool

    def __call__(self, entries: Entries, inputs: Columns) -> tuple[Take, Result, Noted | None]:
        note = None
        if self.cuts is not None:
            take, note = self.cuts.choose(entries, inputs)
        elif entries.chosen is not None:
            take = entries.chosen
        else:
            take = np.arange(len(entries.block), dtype=np.int32)
        result = self.apply(entries.block, take, _values(self.projection, entries, inputs, take))
        return take if self.tells_entries else take[:0].copy(), result, note


def _values(projection: Projection, entries: Entries, inputs: Columns, take: Take) -> Columns:
    """Return what was read, or is made of it, for some entries of a block."""
    found: Columns = {}
    for name in projection.stored:
        if name in inputs:
            values = inputs[name]
            found[name] = _chosen(values, take)
    if projection.defined:
        file = entries.file
        types = projection.defined_types(file)
        outs = {
            name: np.empty(len(take), types[name].dtype)
            for name in projection.defined
            if types[name].kind == "scalar"
        }
        vectors = projection.evaluate(file, inputs, entries.block, entries.first_number, take, outs)
        found.update(outs)
        found.update(vectors)
    return found


def _chosen(values: Array | Jagged, take: Take) -> Array | Jagged:
    """Return some entries of a column, or all of them, in memory of their own."""
    if not isinstance(values, Jagged):
        return values[take]
    return values.taken(take) if len(take) < len(values) else values.copy()
