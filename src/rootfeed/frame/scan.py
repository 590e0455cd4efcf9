"""Columns of a whole dataset, block by block: for statistics, and for arrays that are small."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from rootfeed import kernels, sources
from rootfeed.frame.answers import Sketch, Summary
from rootfeed.frame.passing import Words
from rootfeed.frame.sweep import Inputs, sweep
from rootfeed.frame.wanted import Wanted
from rootfeed.schema import Array, Block, ColumnType, FileIndex, Jagged

__all__ = ["collect", "describe", "longest"]

Index = Callable[[Iterable[str]], tuple[FileIndex, ...]]
Take = npt.NDArray[np.int32]


def describe(index: Index, wanted: Wanted, bits: Sequence[Words | None]) -> Summary:
    """Return statistics of the wanted columns over the entries that pass."""
    indexes = index(wanted.columns)
    sketches: dict[str, Sketch] = {name: Sketch() for name in wanted.names}
    firsts = _firsts(indexes)

    def work(block: Block, inputs: Inputs) -> Mapping[str, Any]:
        file = indexes[block.file]
        take = _take(bits[block.file], block)
        values = _values(wanted, file, inputs, block, firsts[block.file] + block.start, take)
        return {
            name: Sketch.summary(found.values if isinstance(found, Jagged) else found)
            for name, found in values.items()
        }

    for _, summaries in sweep(indexes, wanted.columns, work, "Reading columns"):
        for name, summary in summaries.items():
            sketches[name].add(summary)
    return Summary({name: sketch.statistics() for name, sketch in sketches.items()})


def collect(index: Index, wanted: Wanted, bits: Sequence[Words | None]) -> dict[str, Array | ak.Array]:
    """Return the wanted columns of the entries that pass, in the order of the files."""
    indexes = index(wanted.columns)
    firsts = _firsts(indexes)
    plain = [name for name in wanted.columns if indexes[0].columns[name].type.dtype is not None]
    parts: dict[str, list[Any]] = {name: [] for name in wanted.names}

    def work(block: Block, inputs: Inputs) -> Mapping[str, Any]:
        file = indexes[block.file]
        take = _take(bits[block.file], block)
        found = _values(wanted, file, inputs, block, firsts[block.file] + block.start, take)
        made: dict[str, Any] = {
            name: _awkward(values) if isinstance(values, Jagged) else values.copy()
            for name, values in found.items()
        }
        for name in wanted.stored:
            if name not in made:
                made[name] = sources.read_awkward(file, name, block.start, block.stop)[take]
        return made

    for _, made in sweep(indexes, plain, work, "Reading columns"):
        for name, values in made.items():
            parts[name].append(values)
    types = wanted.types(indexes[0])
    return {name: _joined(values, types[name]) for name, values in parts.items()}


def longest(index: Index, wanted: Wanted, bits: Sequence[Words | None]) -> int:
    """Return the length of the longest vector of the wanted columns."""
    indexes = index(wanted.columns)
    firsts = _firsts(indexes)

    def work(block: Block, inputs: Inputs) -> int:
        file = indexes[block.file]
        take = _take(bits[block.file], block)
        found = _values(wanted, file, inputs, block, firsts[block.file] + block.start, take)
        vectors = [values for values in found.values() if isinstance(values, Jagged)]
        return max((int(np.diff(each.offsets).max(initial=0)) for each in vectors), default=0)

    return max((most for _, most in sweep(indexes, wanted.columns, work, "Reading lengths")), default=0)


def _firsts(indexes: Sequence[FileIndex]) -> list[int]:
    firsts: list[int] = np.cumsum([0, *(index.entries for index in indexes)]).tolist()
    return firsts


def _take(words: Words | None, block: Block) -> Take:
    if words is None:
        return np.arange(len(block), dtype=np.int32)
    out = np.empty(len(block), np.int32)
    near = words[block.start // 64 : -(-block.stop // 64)]
    return out[: kernels.positions(near, block.start, block.stop, out)]


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
    array = _awkward(vectors, copy=False)[take]
    values = np.asarray(ak.flatten(array))
    offsets = np.concatenate([[0], np.cumsum(np.asarray(ak.num(array)))]).astype(np.int64)
    return Jagged(values, offsets)


def _awkward(vectors: Jagged, *, copy: bool = True) -> ak.Array:
    offsets = vectors.offsets.copy() if copy else vectors.offsets
    values = vectors.values[: offsets[-1]]
    content = ak.contents.NumpyArray(values.copy() if copy else values)
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), content))


def _joined(parts: Sequence[Any], type_: ColumnType) -> Array | ak.Array:
    if not parts:
        nothing: Array = np.empty(0, type_.dtype or np.float64)
        return nothing if type_.kind == "scalar" else ak.Array([nothing])[:0]
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate(parts)
    return ak.concatenate(parts)
