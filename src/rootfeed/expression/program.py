"""Definitions and cuts as a program: what it needs, and the parts that it is made of.

What a cut or a wanted definition needs is written once, in the order of the steps, into one kernel: a
loop over entries. A cut leaves the entry, so that what follows is evaluated only where it passes.
Where a kernel would take too long to compile, another one follows, for the entries that passed so far;
and a function that takes whole arrays stands between two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from rootfeed.expression.body import MOST_WORDS, Measured, Types, key_of, measured
from rootfeed.expression.builder import Dialect
from rootfeed.expression.parts import Entries, Function, Kernel, Known, taken
from rootfeed.expression.steps import Cut, Definition, Step, names_in
from rootfeed.schema import Array, ColumnType, Jagged

__all__ = ["Outputs", "Program", "compile_outputs"]


class Program:
    """Some steps, compiled: what `Cuts` and `Outputs` share.

    Parameters
    ----------
    steps : sequence of Step
    names : sequence of str
        Definitions that are wanted.
    columns : mapping of str to ColumnType
        The stored ones.
    dialect : str
    cuts : bool
        Whether the cuts are wanted.

    Attributes
    ----------
    inputs : tuple of str
        The stored columns that it needs.
    types : mapping of str to ColumnType
        Of the wanted definitions.
    """

    def __init__(
        self, steps: Sequence[Step], names: Sequence[str], columns: Types, dialect: Dialect, cuts: bool
    ) -> None:
        needed, uses = _needed(steps, names, cuts)
        sizes = measured(needed, columns, dialect)
        groups = list(_groups(needed, sizes))
        places = {step.name: place for place, step in enumerate(needed) if isinstance(step, Definition)}
        later = _used_later(needed, groups) | {places[name] for name in names}
        self._parts: list[Kernel | Function] = []
        before: dict[str, str] = {}
        made: dict[str, ColumnType] = {}
        for group in groups:
            first = needed[group[0]]
            some = [place for place in group if place in later]
            types = {key_of_place(needed, place): sizes[place].type for place in some}
            if all(sizes[place].type.kind == "text" for place in group):
                pass  # other names for stored columns
            elif isinstance(first, Definition) and first.vectorized:
                self._parts.append(Function(first, group[0], before, columns, sizes[group[0]].type))
            else:
                its = {place: needed[place] for place in group}
                self._parts.append(Kernel(its, types, before, made, columns, dialect, uses))
            made |= types
            for place in group:
                step = needed[place]
                if isinstance(step, Definition):
                    is_text = sizes[place].type.kind == "text"
                    key = step.same if is_text else key_of_place(needed, place)
                    assert key is not None
                    before[step.name] = before.get(key, key)
        self.wanted = {name: before[name] for name in names}
        self.types = {name: sizes[places[name]].type for name in names}
        texts = (key for key in self.wanted.values() if key in columns)
        used = (name for part in self._parts for name in part.stored)
        self.inputs = tuple(dict.fromkeys([*used, *texts]))

    @property
    def kernels(self) -> list[Kernel]:
        """The compiled parts."""
        return [part for part in self._parts if isinstance(part, Kernel)]

    @property
    def source(self) -> str:
        """The sources of the kernels."""
        return "\n".join(kernel.source for kernel in self.kernels)

    def _run(
        self,
        inputs: Known,
        entries: Entries,
        outs: Mapping[str, Array],
        passed: npt.NDArray[np.uint8],
        passing: npt.NDArray[np.int64],
    ) -> dict[str, Array | Jagged]:
        """Run the parts one after another; return what they make, by key."""
        known, made, cut = dict(inputs), dict[str, Array | Jagged](), 0
        for number, part in enumerate(self._parts):
            found = part.run(known | made, entries, outs, passed, passing[cut : cut + part.cuts])
            cut += part.cuts
            if part.cuts and number + 1 < len(self._parts):
                kept = np.flatnonzero(passed[entries.take]).astype(np.int32)
                passed[:] = 0  # until the last cuts have passed
                # What this part has made, it has made of the entries that passed.
                made = {key: taken(column, kept) for key, column in made.items()}
                found = {key: _first(column, len(kept)) for key, column in found.items()}
                entries = entries.among(kept)
            made |= found
        return made


def key_of_place(steps: Sequence[Step], place: int) -> str:
    """Return the key of the column that a definition makes."""
    step = steps[place]
    assert isinstance(step, Definition)
    return key_of(step, place)


def _first(column: Array | Jagged, count: int) -> Array | Jagged:
    if isinstance(column, Jagged):
        return Jagged(column.values, column.offsets[: count + 1])
    return column[:count]


def _needed(steps: Sequence[Step], names: Sequence[str], cuts: bool) -> tuple[list[Step], Counter[int]]:
    """Return the steps that some columns or the cuts need, and how often each of them is used."""
    needed: dict[int, None] = {}
    uses: Counter[int] = Counter()
    made: dict[str, list[int]] = {}
    for place, step in enumerate(steps):
        if isinstance(step, Definition):
            made.setdefault(step.name, []).append(place)
    stack: list[tuple[str, int]] = [(name, len(steps)) for name in names]
    if cuts:
        for place, step in enumerate(steps):
            if isinstance(step, Cut):
                needed[place] = None
                stack += [(name, place) for name in names_in(step.how.node)]
    while stack:
        name, before = stack.pop()
        found = [place for place in made.get(name, ()) if place < before]
        if not found:
            continue
        place = found[-1]
        step = steps[place]
        assert isinstance(step, Definition)
        uses[place] += 1
        if place not in needed:
            needed[place] = None
            stack += [(each, place) for each in step.needs]
    order = sorted(needed)
    return [steps[place] for place in order], Counter({k: uses[place] for k, place in enumerate(order)})


def _groups(steps: Sequence[Step], sizes: Sequence[Measured]) -> Iterator[list[int]]:
    """Divide the steps, by their places, into those of one kernel each, and functions between them."""
    group: list[int] = []
    words = 0
    for place, (step, size) in enumerate(zip(steps, sizes, strict=True)):
        alone = isinstance(step, Definition) and step.vectorized
        if group and (alone or words + size.words > MOST_WORDS):
            yield group
            group, words = [], 0
        if alone:
            yield [place]
        else:
            group.append(place)
            words += size.words
    if group:
        yield group


def _used_later(steps: Sequence[Step], groups: Sequence[Sequence[int]]) -> set[int]:
    """Return the places of definitions that another group needs than their own."""
    later: set[int] = set()
    made: dict[str, tuple[int, int]] = {}
    for number, group in enumerate(groups):
        for place in group:
            step = steps[place]
            needs = step.needs if isinstance(step, Definition) else names_in(step.how.node)
            for name in needs:
                its_group, its_place = made.get(name, (number, place))
                if its_group != number:
                    later.add(its_place)
            if isinstance(step, Definition):
                made[step.name] = number, place
    return later


class Outputs(Program):
    """Some definitions of a program, compiled.

    Attributes
    ----------
    inputs : tuple of str
        The stored columns that they need.
    types : mapping of str to ColumnType
    """

    def __init__(
        self, steps: Sequence[Step], names: Sequence[str], columns: Types, dialect: Dialect
    ) -> None:
        super().__init__(steps, names, columns, dialect, cuts=False)

    def run(
        self,
        inputs: Known,
        first_entry: int,
        first_number: int,
        take: npt.NDArray[np.int32],
        where: str,
        outs: Mapping[str, Array],
    ) -> dict[str, Jagged]:
        """Evaluate the definitions for some entries.

        Parameters
        ----------
        inputs : mapping of str to ndarray or Jagged
            Stored columns, for all entries of a block.
        first_entry, first_number : int
            Number of the first of these in its file, and in the whole dataset.
        take : ndarray of int32
            The entries, relative to the first one.
        where : str
            The file, for messages.
        outs : mapping of str to ndarray
            Receives the scalars, each of shape (len(take),) and of its column's dtype.

        Returns
        -------
        dict of str to Jagged
            The vectors and texts, in fresh memory.

        Raises
        ------
        EvaluationError
        """
        places = {self.wanted[name]: outs[name] for name in outs if name in self.wanted}
        entries = Entries(take, first_entry, first_number, where)
        made = self._run(inputs, entries, places, _NONE_PASSED, _NO_COUNTS)
        found: dict[str, Jagged] = {}
        for name, key in self.wanted.items():
            column = made[key] if key in made else taken(inputs[key], take)
            if isinstance(column, Jagged):
                found[name] = column
        return found


_NONE_PASSED = np.empty(0, np.uint8)
_NO_COUNTS = np.empty(0, np.int64)


def compile_outputs(
    steps: Sequence[Step], names: Sequence[str], columns: Types, dialect: Dialect
) -> Outputs:
    """Compile the definitions of some columns; cuts among the steps are left out."""
    plain = [step for step in steps if isinstance(step, Definition)]
    return Outputs(plain, names, columns, dialect)
