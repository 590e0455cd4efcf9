"""Which entries pass the cuts: one pass over the columns that the cuts need, kept as a bit per entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.expression import Cut, Definition, Dialect, compile_cuts
from rootfeed.plan import BitMask, all_set, bit_mask, counted, members
from rootfeed.schema import Block, ColumnType, FileIndex
from rootfeed.view.compiled import Compiled
from rootfeed.view.files import Files
from rootfeed.view.keeping import KeptMasks, Passed
from rootfeed.view.reading import Columns, read_blocks
from rootfeed.view.transformations import Range, Transformation

__all__ = ["CutCount", "CutEvaluation", "Selection", "Take", "cut_columns", "interrupts", "select"]

Take = npt.NDArray[np.int32]

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

    Reads the columns that the cuts need, on several threads, with a progress bar: once for each run of
    cuts that no range and no vectorized function interrupts. What follows a run is evaluated only for
    entries that passed it.
    """
    entries = [index.entries for index in files.index(())]
    result = Selection(tuple(map(all_set, entries)), np.array(entries, np.int64), ())
    program: list[Definition | Cut] = []
    for following in (*transformations, None):
        if interrupts(following) and any(isinstance(each, Cut) for each in program):
            result = _cut(files, program, dialect, result)
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


class CutEvaluation:
    """All cuts of some transformations, evaluated block by block.

    Parameters
    ----------
    files : Files
    transformations : sequence of Definition or Cut
    dialect : str

    Attributes
    ----------
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
        self._compiled = Compiled(
            partial(compile_cuts, list(transformations), dialect=dialect), files.types
        )
        self.columns = self._compiled.inputs
        self._indexes = files.index(self.columns)
        for index in self._indexes:
            self._compiled.of(index)  # before threads need it
        self._firsts = np.cumsum([0, *(index.entries for index in self._indexes)]).tolist()
        self._labels = [each.label for each in transformations if isinstance(each, Cut)]
        self._counts = np.zeros((len(self._indexes), len(self._labels)), np.int64)
        self._bits: list[list[npt.NDArray[np.uint8]]] = [[] for _ in self._indexes]
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

    def choose(self, block: Block, inputs: Columns) -> tuple[Take, Any]:
        """Evaluate the cuts; return which entries of a block pass, and a note for `add`."""
        index = self._indexes[block.file]
        passed = np.empty(len(block), np.uint8)
        counts = np.zeros(len(self._labels), np.int64)
        take = None if self._before is None else self._before.positions(block)
        first_number = self._firsts[block.file] + block.start
        self._compiled.of(index).run(
            inputs, block.start, first_number, len(block), index.where, passed, counts, take
        )
        return np.flatnonzero(passed).astype(np.int32), (passed, counts)

    def add(self, block: Block, note: Any) -> None:
        """Take in what `choose` found, block after block."""
        passed, counts = note
        self._bits[block.file].append(passed)
        self._counts[block.file] += counts

    def selection(self) -> Selection:
        """Return all that was found, after all blocks."""
        every = [self._passed(number, index) for number, index in enumerate(self._indexes)]
        masks = tuple(each.bits for each in every)
        came = self._firsts[-1] if self._before is None else int(self._before.counts.sum())
        passed = sum((each.counts for each in every), np.zeros(len(self._labels), np.int64))
        entries = [came, *passed.tolist()]
        flow = tuple(
            CutCount(label, came, passed)
            for label, came, passed in zip(self._labels, entries, entries[1:], strict=False)
        )
        earlier = () if self._before is None else self._before.flow
        return Selection(
            masks, _counts(masks, [index.entries for index in self._indexes]), (*earlier, *flow)
        )

    def _passed(self, number: int, index: FileIndex) -> Passed:
        """Return what passes in a file; keep it, if it is new."""
        known = self._known.get(number)
        if known is None:
            bits = bit_mask(np.concatenate([_NO_BITS, *self._bits[number]]))
            known = Passed(bits, self._counts[number])
            if self._kept is not None:
                self._kept.put(index, self._firsts[number], known)
        return known


def _cut(
    files: Files, transformations: Sequence[Definition | Cut], dialect: Dialect, before: Selection
) -> Selection:
    cuts = CutEvaluation(files, transformations, dialect, before)
    indexes = files.index(cuts.columns)

    def work(block: Block, inputs: Columns) -> Any:
        return cuts.choose(block, inputs)[1]

    if cuts.missing:
        blocks = read_blocks(indexes, cuts.columns, work, "Counting entries", within=cuts.missing)
        for block, note in blocks:
            cuts.add(block, note)
    return cuts.selection()


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
