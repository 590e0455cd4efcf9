"""Definitions and cuts as a program: what it needs, and the parts that it is made of.

What a cut or a wanted definition needs is written once, in the order of the steps, into one kernel: a
loop over entries. A cut leaves the entry, so that what follows is evaluated only where it passes.
Where a kernel would take too long to compile, another one follows, for the entries that passed so far;
and a function that takes whole arrays stands between two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import PrecisionWarning, warn
from rootfeed.expression.kernels import Entries, Kernel, Known
from rootfeed.expression.python import vectorized_result
from rootfeed.expression.steps import MOST_WORDS, Cut, Definition, Step, TypedStep, Types, typed_steps
from rootfeed.expression.typed import Column, Dialect, TextColumn
from rootfeed.schema import Array, Jagged

__all__ = ["Cuts", "Outputs", "compile_cuts", "compile_outputs", "needed_steps"]


class _Function:
    """A function of the user's that takes arrays of many entries."""

    cuts = 0

    def __init__(self, step: TypedStep) -> None:
        assert isinstance(step.step, Definition)
        assert callable(step.step.how)
        self._label, self._function, self._type = step.step.label, step.step.how, step.type
        self._key, self._given = step.key, step.given
        self._warned = False
        self.stored = tuple(
            each.key
            for each in step.given
            if isinstance(each, TextColumn) or (isinstance(each, Column) and not each.is_made)
        )

    def run(
        self, known: Known, entries: Entries, outs: Mapping[str, Array], *_: Array
    ) -> dict[str, Any]:
        """Call it."""
        given: list[Array | Jagged] = []
        for each in self._given:
            match each:
                case Column(is_made=True):
                    given.append(known[each.key])
                case Column() | TextColumn():
                    given.append(_taken(known[each.key], entries.take))
                case _:
                    given.append((entries.first_number + entries.take).astype(each.dtype))
        try:
            found, lost = vectorized_result(
                self._label, self._function, given, len(entries.take), self._type
            )
        except Exception as error:
            raise entries.failed(error, f"the function for {self._label!r}") from error
        if lost and not self._warned:
            self._warned = True
            warn(f"{entries.where}: {lost}", PrecisionWarning)
        if self._key in outs:
            outs[self._key][:] = found
        return {self._key: found}


def _taken(column: Array | Jagged, take: npt.NDArray[np.int32]) -> Array | Jagged:
    """Return a column for some entries."""
    some: Array | Jagged = column.taken(take) if isinstance(column, Jagged) else column[take]
    return some


class _Program:
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
        typed = typed_steps(needed, columns, dialect)
        made = {each.step.name: each for each in typed if isinstance(each.step, Definition)}
        self._wanted = {name: made[name].key for name in names}
        self.types = {name: made[name].type for name in names}
        # Other names for texts are no part of a kernel.
        written = [each for each in typed if not isinstance(each.made, TextColumn)]
        counts = {each.key: uses[place] for place, each in enumerate(typed)}
        groups = list(_groups(written))
        outputs = _needed_later(groups) | set(self._wanted.values())
        self._parts: list[Kernel | _Function] = []
        for group in groups:
            is_function = group[0].tree is None
            self._parts.append(_Function(group[0]) if is_function else Kernel(group, outputs, counts))
        texts = (key for key in self._wanted.values() if key in columns)
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
                made = {key: _taken(column, kept) for key, column in made.items()}
                found = {key: _first(column, len(kept)) for key, column in found.items()}
                entries = entries.among(kept)
            made |= found
        return made


def _first(column: Array | Jagged, count: int) -> Array | Jagged:
    if isinstance(column, Jagged):
        return Jagged(column.values, column.offsets[: count + 1])
    return column[:count]


def needed_steps(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that the cuts among them need, with these, in their order."""
    return _needed(steps, (), True)[0]


def _needed(steps: Sequence[Step], names: Sequence[str], cuts: bool) -> tuple[list[Step], Counter[int]]:
    """Return the steps that some columns or the cuts need, and how often each of them is used."""
    needed: dict[int, None] = {}
    uses: Counter[int] = Counter()
    made: dict[str, list[int]] = {}
    for place, step in enumerate(steps):
        if isinstance(step, Definition):
            made.setdefault(step.name, []).append(place)
    # Names, each with the place before which the definition stands that it means.
    stack: list[tuple[str, int]] = [(name, len(steps)) for name in names]
    if cuts:
        for place, step in enumerate(steps):
            if isinstance(step, Cut):
                needed[place] = None
                stack += [(name, place) for name in step.needs]
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


def _groups(steps: Sequence[TypedStep]) -> Iterator[list[TypedStep]]:
    """Divide the steps into those of one kernel each, and functions between them."""
    group: list[TypedStep] = []
    words = 0
    for step in steps:
        alone = step.tree is None
        if group and (alone or words + step.words > MOST_WORDS):
            yield group
            group, words = [], 0
        if alone:
            yield [step]
        else:
            group.append(step)
            words += step.words
    if group:
        yield group


def _needed_later(groups: Sequence[Sequence[TypedStep]]) -> set[str]:
    """Return the keys of columns that another group needs than the one that makes them."""
    later: set[str] = set()
    for group in groups:
        own = {step.key for step in group}
        later |= {key for step in group for key in step.needs} - own
    return later


class Outputs(_Program):
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
        places = {self._wanted[name]: outs[name] for name in outs if name in self._wanted}
        entries = Entries(take, first_entry, first_number, where)
        made = self._run(inputs, entries, places, np.empty(0, np.uint8), np.empty(0, np.int64))
        found: dict[str, Jagged] = {}
        for name, key in self._wanted.items():
            column = made[key] if key in made else _taken(inputs[key], take)
            if isinstance(column, Jagged):
                found[name] = column
        return found


class Cuts(_Program):
    """All cuts of a program, compiled.

    Attributes
    ----------
    inputs : tuple of str
        The stored columns that they need.
    """

    def __init__(self, steps: Sequence[Step], columns: Types, dialect: Dialect) -> None:
        super().__init__(steps, (), columns, dialect, cuts=True)

    def run(
        self,
        inputs: Known,
        first_entry: int,
        first_number: int,
        count: int,
        where: str,
        passed: npt.NDArray[np.uint8],
        passing: npt.NDArray[np.int64],
        take: npt.NDArray[np.int32] | None = None,
    ) -> None:
        """Evaluate the cuts for `count` entries.

        Parameters
        ----------
        inputs : mapping of str to ndarray or Jagged
        first_entry, first_number : int
            Number of the first one in its file, and in the whole dataset.
        count : int
        where : str
            The file, for messages.
        passed : ndarray of uint8, shape (count,)
            Receives 1 for entries that pass all cuts, 0 for the others.
        passing : ndarray of int64, shape (cuts,)
            The number of entries that passed a cut, and all before it, is added.
        take : ndarray of int32, optional
            The only entries that are looked at; the others do not pass.

        Raises
        ------
        EvaluationError
        """
        if take is None:
            take = np.arange(count, dtype=np.int32)
        passed[:count] = 0
        entries = Entries(take, first_entry, first_number, where)
        self._run(inputs, entries, {}, passed[:count], passing)


def compile_outputs(
    steps: Sequence[Step], names: Sequence[str], columns: Types, dialect: Dialect
) -> Outputs:
    """Compile the definitions of some columns; cuts among the steps are left out."""
    plain = [step for step in steps if isinstance(step, Definition)]
    return Outputs(plain, names, columns, dialect)


def compile_cuts(steps: Sequence[Step], columns: Types, dialect: Dialect) -> Cuts:
    """Compile all cuts of some steps, and the definitions that they need."""
    return Cuts(steps, columns, dialect)
