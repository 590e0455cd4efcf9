"""Which entries pass the cuts: one pass over the columns that the cuts need, kept as a bit per entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from rootfeed.expression import Cut, Definition, Dialect, compile_cuts
from rootfeed.plan import BitMask, all_set, bit_mask, counted, members
from rootfeed.schema import Block, ColumnType, FileIndex
from rootfeed.view.compiled import Compiled
from rootfeed.view.files import Files
from rootfeed.view.keeping import KeptMasks, Passed
from rootfeed.view.reading import Columns, Entries, Take, Work, read_blocks
from rootfeed.view.transformations import Range, Transformation, check_runs_elsewhere

__all__ = [
    "CompiledCuts",
    "CutCount",
    "CutEvaluation",
    "Noted",
    "Selection",
    "cut_columns",
    "executor_for",
    "interrupts",
    "select",
]

Bits = npt.NDArray[np.uint8]
Noted = tuple[Bits, int, npt.NDArray[np.int64]]
"""Of a block: which entries passed all cuts, as bits; how many entries it has; how many passed each."""

_NO_BITS = np.empty(0, np.uint8)


@dataclass(frozen=True)
class CutCount:
    """How many entries came to a cut, and how many passed it."""

    label: str
    entries: int
    passed: int


@dataclass(frozen=True, eq=False)
class Selection:
    """The entries that pass all cuts of a view.

    Attributes
    ----------
    masks : tuple of ndarray of uint64
        For each file, bit ``e % 64`` of word ``e // 64`` tells whether entry ``e`` passes.
    counts : ndarray of int64, shape (files,)
        Entries that pass, in each file.
    flow : tuple of CutCount
        The cuts in their order.
    """

    masks: tuple[BitMask, ...]
    counts: npt.NDArray[np.int64]
    flow: tuple[CutCount, ...]

    def positions(self, block: Block) -> Take:
        """Return the entries of a block that pass, relative to its first one."""
        return members(self.masks[block.file], block.start, block.stop)


def select(files: Files, transformations: Sequence[Transformation], dialect: Dialect) -> Selection:
    """Evaluate the cuts over all files.

    Reads the columns that the cuts need, on several threads or in processes of the files' executor, with
    a progress bar: once for each run of cuts that no range and no vectorized function interrupts. What
    follows a run is evaluated only for entries that passed it.
    """
    executor = executor_for(files, transformations)
    needed = cut_columns(transformations, files.types, dialect)  # all at once
    entries = [index.entries for index in files.index(needed)]
    result = Selection(tuple(map(all_set, entries)), np.array(entries, np.int64), ())
    program: list[Definition | Cut] = []
    for following in (*transformations, None):
        if interrupts(following) and any(isinstance(each, Cut) for each in program):
            result = _cut(files, program, dialect, result, executor)
            program = [each for each in program if isinstance(each, Definition)]
        if isinstance(following, Range):
            result = _within(result, following, entries)
        elif following is not None:
            program.append(following)
    return result


def cut_columns(
    transformations: Sequence[Transformation], types: Mapping[str, ColumnType], dialect: Dialect
) -> tuple[str, ...]:
    """Return the stored columns that `select` will need."""
    steps = [each for each in transformations if not isinstance(each, Range)]
    found: dict[str, None] = {}
    for cut in (number for number, each in enumerate(steps) if isinstance(each, Cut)):
        alone = [each for each in steps[:cut] if isinstance(each, Definition)]
        program = partial(compile_cuts, [*alone, steps[cut]], dialect=dialect)
        found.update(dict.fromkeys(Compiled(program, types).inputs))
    return tuple(found)


def interrupts(following: Transformation | None) -> bool:
    """Whether cuts before a transformation, or before the end, must be known before those after it."""
    if isinstance(following, Definition):
        return following.vectorized
    return not isinstance(following, Cut)


class CompiledCuts:
    """All cuts of some transformations, compiled; they can be sent to other processes.

    Attributes
    ----------
    compiled : Compiled
    labels : list of str
    """

    def __init__(
        self,
        transformations: Sequence[Definition | Cut],
        types: Mapping[str, ColumnType],
        dialect: Dialect,
    ) -> None:
        program = partial(compile_cuts, list(transformations), dialect=dialect)
        self.compiled = Compiled(program, types)
        self.labels = [each.label for each in transformations if isinstance(each, Cut)]

    def choose(self, entries: Entries, inputs: Columns) -> tuple[Take, Noted]:
        """Return which entries pass, and what there is to note of that."""
        count = len(entries.block)
        passed = np.empty(count, np.uint8)
        counts = np.zeros(len(self.labels), np.int64)
        self.compiled.of(entries.file).run(
            inputs,
            entries.block.start,
            entries.first_number,
            count,
            entries.file.where,
            passed,
            counts,
            entries.chosen,
        )
        note = np.packbits(passed, bitorder="little"), count, counts
        return np.flatnonzero(passed).astype(np.int32), note

    def count(self, entries: Entries, inputs: Columns) -> Noted:
        """Return what there is to note of the entries that pass."""
        return self.choose(entries, inputs)[1]


class CutEvaluation:
    """All cuts of some transformations, as they are evaluated block by block.

    Parameters
    ----------
    files : Files
    transformations : sequence of Definition or Cut
    dialect : str
    before : Selection, optional
        The only entries that are looked at.

    Attributes
    ----------
    cuts : CompiledCuts
    columns : tuple of str
        The stored columns that the cuts need.
    missing : list of Block
        The entries of files of which nothing is known from other processes: these have to be added, and
        others may be.
    """

    def __init__(
        self,
        files: Files,
        transformations: Sequence[Definition | Cut],
        dialect: Dialect,
        before: Selection | None = None,
    ) -> None:
        self.cuts = CompiledCuts(transformations, files.types, dialect)
        self.columns = self.cuts.compiled.inputs
        self._indexes = files.index(self.columns)
        for index in self._indexes:
            self.cuts.compiled.of(index)  # before threads need it
        self._firsts = np.cumsum([0, *(index.entries for index in self._indexes)]).tolist()
        self._counts = np.zeros((len(self._indexes), len(self.cuts.labels)), np.int64)
        self._bits: list[list[tuple[Bits, int]]] = [[] for _ in self._indexes]
        self._before = before
        # What passes these cuts depends on what passed those before.
        is_first = before is None or int(before.counts.sum()) == self._firsts[-1]
        self._kept = KeptMasks(transformations, self.columns, dialect) if is_first else None
        self._known: dict[int, Passed] = {}
        if self._kept is not None:
            pairs = zip(self._indexes, self._firsts, strict=False)
            found = [self._kept.get(index, first) for index, first in pairs]
            self._known = {number: each for number, each in enumerate(found) if each is not None}
        self.missing = [
            Block(number, 0, index.entries)
            for number, index in enumerate(self._indexes)
            if number not in self._known
        ]

    def add(self, block: Block, note: Noted) -> None:
        """Take in what the cuts found, block after block."""
        passed, count, counts = note
        self._bits[block.file].append((passed, count))
        self._counts[block.file] += counts

    def selection(self) -> Selection:
        """Return all that was found, after all blocks."""
        every = [self._passed(number, index) for number, index in enumerate(self._indexes)]
        masks = tuple(each.bits for each in every)
        came = self._firsts[-1] if self._before is None else int(self._before.counts.sum())
        passed = sum((each.counts for each in every), np.zeros(len(self.cuts.labels), np.int64))
        entries = [came, *passed.tolist()]
        flow = tuple(
            CutCount(label, came, passed)
            for label, came, passed in zip(self.cuts.labels, entries, entries[1:], strict=False)
        )
        earlier = () if self._before is None else self._before.flow
        return Selection(
            masks, _counts(masks, [index.entries for index in self._indexes]), (*earlier, *flow)
        )

    def _passed(self, number: int, index: FileIndex) -> Passed:
        """Return what passes in a file; keep it, if it is new."""
        known = self._known.get(number)
        if known is None:
            bits = bit_mask(_unpacked(self._bits[number]))
            known = Passed(bits, self._counts[number])
            if self._kept is not None:
                self._kept.put(index, self._firsts[number], known)
        return known


def executor_for(files: Files, transformations: Sequence[Transformation]) -> Executor | None:
    """Return where all files are gone through; None where that is here, on threads."""
    executor = files.executor
    if executor is not None:
        check_runs_elsewhere(transformations, executor)
    return executor


def _cut(
    files: Files,
    transformations: Sequence[Definition | Cut],
    dialect: Dialect,
    before: Selection,
    executor: Executor | None,
) -> Selection:
    evaluation = CutEvaluation(files, transformations, dialect, before)
    work: Work[Noted] = evaluation.cuts.count
    if evaluation.missing:
        found = read_blocks(
            files.index(evaluation.columns),
            evaluation.columns,
            work,
            "Counting entries",
            within=evaluation.missing,
            masks=before.masks,
            executor=executor,
        )
        for block, note in found:
            evaluation.add(block, note)
    return evaluation.selection()


def _unpacked(parts: Sequence[tuple[Bits, int]]) -> npt.NDArray[np.bool_]:
    """Return for each entry of a file whether it passes, given the bits of its blocks."""
    every = [np.unpackbits(bits, count=count, bitorder="little") for bits, count in parts]
    return np.concatenate([_NO_BITS, *every]).view(np.bool_)


def _counts(masks: Sequence[BitMask], entries: Sequence[int]) -> npt.NDArray[np.int64]:
    counts = [counted(bits, 0, length) for bits, length in zip(masks, entries, strict=True)]
    return np.array(counts, np.int64)


def _within(before: Selection, chosen: Range, entries: Sequence[int]) -> Selection:
    """Keep those whose number among the passing entries lies in a range."""
    masks, first = [], 0
    for bits, count, length in zip(before.masks, before.counts.tolist(), entries, strict=True):
        out = members(bits, 0, length)
        numbers = np.arange(first, first + count)
        kept = numbers >= chosen.start
        if chosen.stop is not None:
            kept &= numbers < chosen.stop
        kept &= (numbers - chosen.start) % chosen.step == 0
        mask = np.zeros(length, bool)
        mask[out[kept]] = True
        masks.append(bit_mask(mask))
        first += count
    return Selection(tuple(masks), _counts(masks, entries), before.flow)
