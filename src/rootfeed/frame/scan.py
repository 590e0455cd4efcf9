"""Columns of a whole dataset, block by block: for statistics, and for arrays that are small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import awkward as ak
import numpy as np
import numpy.typing as npt

from rootfeed import sources
from rootfeed.errors import PrecisionWarning, UnsupportedColumnError, warn
from rootfeed.exact import common_dtype
from rootfeed.frame.answers import Sketch, Summary
from rootfeed.frame.passing import Passing
from rootfeed.frame.sweep import Inputs, sweep
from rootfeed.frame.wanted import Wanted
from rootfeed.schema import Array, Block, ColumnType, FileIndex, Jagged, Texts

__all__ = ["Index", "Known", "Selection", "Take", "collect", "describe", "longest", "walk"]

Index = Callable[[Iterable[str]], tuple[FileIndex, ...]]
Take = npt.NDArray[np.int32]
Result = TypeVar("Result")


class Selection(Protocol):
    """Which entries of a block count, and what is noted while that is found out."""

    columns: tuple[str, ...]

    def choose(self, block: Block, inputs: Inputs) -> tuple[Take, Any]:
        """Return the entries, relative to the block's first one, and a note; called on threads."""

    def add(self, block: Block, note: Any) -> None:
        """Take in a note, block after block."""


class Known:
    """Entries that are known to pass, or all of them."""

    columns: tuple[str, ...] = ()

    def __init__(self, passing: Passing | None) -> None:
        self._passing = passing

    def choose(self, block: Block, _: Inputs) -> tuple[Take, Any]:
        """Return the entries that pass."""
        if self._passing is None:
            return np.arange(len(block), dtype=np.int32), None
        return self._passing.positions(block), None

    def add(self, block: Block, note: Any) -> None:
        """Do nothing."""


def _scan(
    index: Index,
    wanted: Wanted,
    selection: Selection,
    use: Callable[[FileIndex, Block, Take, dict[str, Array | Jagged]], Result],
) -> Iterator[Result]:
    """Yield what `use` makes of the wanted columns of the entries that count, block by block."""
    needed = dict.fromkeys((*wanted.columns, *selection.columns))
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

    def work(block: Block, inputs: Inputs) -> tuple[Result, Any]:
        file = indexes[block.file]
        take, note = selection.choose(block, inputs)
        values = _values(wanted, file, inputs, block, firsts[block.file] + block.start, take)
        return use(file, block, take, values), note

    for block, (result, note) in sweep(indexes, read, work, "Reading columns"):
        selection.add(block, note)
        yield result


def describe(index: Index, wanted: Wanted, selection: Selection) -> Summary:
    """Return statistics of the wanted columns over the entries that count."""
    sketches: dict[str, Sketch] = {name: Sketch() for name in wanted.names}

    def summaries(
        _file: FileIndex, _block: Block, _take: Take, values: dict[str, Array | Jagged]
    ) -> dict[str, Any]:
        return {
            name: Sketch.summary(found.values if isinstance(found, Jagged) else found)
            for name, found in values.items()
        }

    for found in _scan(index, wanted, selection, summaries):
        for name, summary in found.items():
            sketches[name].add(summary)
    return Summary({name: sketch.statistics() for name, sketch in sketches.items()})


def collect(index: Index, wanted: Wanted, selection: Selection) -> dict[str, Array | ak.Array]:
    """Return the wanted columns of the entries that count, in the order of the files."""
    parts: dict[str, list[Any]] = {name: [] for name in wanted.names}

    def copies(
        file: FileIndex, block: Block, take: Take, values: dict[str, Array | Jagged]
    ) -> dict[str, Any]:
        # Vectors were taken, and are in memory of their own.
        made: dict[str, Any] = {
            name: found if isinstance(found, Jagged) else found.copy() for name, found in values.items()
        }
        for name in wanted.stored:
            if name not in made:
                made[name] = sources.read_awkward(file, name, block.start, block.stop)[take]
        return made

    for made in _scan(index, wanted, selection, copies):
        for name, values in made.items():
            parts[name].append(values)
    types = [wanted.types(file) for file in index(wanted.columns)]
    found = {}
    for name, values in parts.items():
        type_ = types[0][name]
        if any(each[name].shape != type_.shape for each in types):
            type_ = replace(type_, shape=())  # arrays of one dimension, vectors of several lengths here
        found[name], (dtypes, dtype, lost) = _joined(values, type_)
        if lost:
            warn(
                f"column {name!r} is {' and '.join(dtypes)} in different files: {lost} of its integers "
                f"cannot be represented in {dtype} and were rounded. Open the files of each type on "
                "their own.",
                PrecisionWarning,
            )
    return found


def walk(
    index: Index,
    wanted: Wanted,
    selection: Selection,
    use: Callable[[Block, Take, Mapping[str, Any]], Result],
) -> Iterator[tuple[Block, Take, Result]]:
    """Yield what `use` makes of wanted columns of the entries that count, block by block."""

    def work(
        _: FileIndex, block: Block, take: Take, values: dict[str, Array | Jagged]
    ) -> tuple[Block, Take, Result]:
        return block, take, use(block, take, values)

    return _scan(index, wanted, selection, work)


def longest(index: Index, wanted: Wanted, selection: Selection) -> dict[str, int]:
    """Return the length of the longest vector of each wanted column."""
    found = dict.fromkeys(wanted.names, 0)

    def most(
        _file: FileIndex, _block: Block, _take: Take, values: dict[str, Array | Jagged]
    ) -> dict[str, int]:
        return {
            name: int(np.diff(vectors.offsets).max(initial=0))
            for name, vectors in values.items()
            if isinstance(vectors, Jagged)
        }

    for lengths in _scan(index, wanted, selection, most):
        for name, length in lengths.items():
            found[name] = max(found[name], length)
    return found


def _values(
    wanted: Wanted, file: FileIndex, inputs: Inputs, block: Block, first_number: int, take: Take
) -> dict[str, Array | Jagged]:
    """Return what was read, or is made of it, for some entries of a block."""
    found: dict[str, Array | Jagged] = {}
    for name in wanted.stored:
        if name in inputs:
            values = inputs[name]
            found[name] = _taken(values, take) if isinstance(values, Jagged) else values[take]
    if wanted.defined:
        types = wanted.types(file)
        outs = {
            name: np.empty(len(take), types[name].dtype)
            for name in wanted.defined
            if types[name].kind == "scalar"
        }
        vectors = wanted.evaluate(file, inputs, block, first_number, take, outs)
        found.update(outs)
        found.update(vectors)
    return found


def _taken(vectors: Jagged, take: Take) -> Jagged:
    """Return some entries, or all of them, in memory of their own."""
    if len(take) < len(vectors):
        return vectors.taken(take)
    values, offsets = vectors.values[: vectors.offsets[-1]], vectors.offsets
    return type(vectors)(values.copy(), offsets.copy())


def _joined(parts: Sequence[Any], type_: ColumnType) -> tuple[Array | ak.Array, _Types]:
    """Return the blocks of a column, one after another, and what became of their types."""
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
        firsts = np.cumsum([0, *(part.offsets[-1] for part in parts)])
        ends = [part.offsets[1:] + first for part, first in zip(parts, firsts, strict=False)]
        values, kinds = _joined([part.values for part in parts], _ELEMENTS)
        vectors = type(parts[0])
        return vectors(values, np.concatenate([firsts[:1], *ends])).as_awkward(type_.shape), kinds
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
_ELEMENTS = ColumnType("elements", "scalar")


def _types(parts: Sequence[Array]) -> _Types:
    """Return the dtypes of some arrays, their common one, and how many integers it cannot represent."""
    filled = [part for part in parts if part.size] or parts[:1]
    if not filled:
        return [], np.dtype(np.float64), 0
    return sorted({str(part.dtype) for part in filled}), *common_dtype(filled)
