"""The parts of a program, which run one after another: compiled kernels, and functions beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import EvaluationError, PrecisionWarning, RootfeedError, warn
from rootfeed.expression.body import NUMBERS, Body, Types, key_of
from rootfeed.expression.builder import Dialect
from rootfeed.expression.kernels import compiled
from rootfeed.expression.python import nothing, vectorized_result
from rootfeed.expression.steps import Cut, Definition, Step
from rootfeed.expression.values import BOOL, Dtype, Scalar, Vector, type_text
from rootfeed.schema import Array, ColumnType, Jagged

__all__ = ["Entries", "Function", "Kernel", "Known", "taken"]

Known = Mapping[str, Array | Jagged]
"""Stored columns by name, for all entries of a block; made ones by key, for the entries in work."""

_STATUS = 4
"""Numbers in which a kernel tells why it stopped: a failure, an entry, and two for the message."""

_NO_CUTS = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Entries:
    """Those that a program works on.

    Attributes
    ----------
    take : ndarray of int32
        Relative to the first one of the block.
    first_entry, first_number : int
        Number of that in its file, and in the whole dataset.
    where : str
        The file, for messages.
    """

    take: npt.NDArray[np.int32]
    first_entry: int
    first_number: int
    where: str

    def among(self, kept: npt.NDArray[np.int32]) -> Entries:
        """Return some of them."""
        return replace(self, take=self.take[kept])

    def failed(self, error: Exception, what: str) -> RootfeedError:
        """Return an error that names the place, for what a function of the user's raised."""
        if isinstance(error, RootfeedError):
            return error
        return EvaluationError(
            f"{self.where}: {what} failed in the entries from {self.first_entry} on: "
            f"{type(error).__name__}: {error}."
        )


def taken(column: Array | Jagged, take: npt.NDArray[np.int32]) -> Array | Jagged:
    """Return a column for some entries."""
    some: Array | Jagged = column.taken(take) if isinstance(column, Jagged) else column[take]
    return some


class Function:
    """A function of the user's that takes arrays of many entries.

    Parameters
    ----------
    step : Definition
    place : int
        Among the steps of the program.
    before : mapping of str to str
        Keys of the columns that names stand for, where these are made.
    columns : mapping of str to ColumnType
        The stored ones.
    type_ : ColumnType
        Of what it makes.
    """

    cuts = 0

    def __init__(
        self,
        step: Definition,
        place: int,
        before: Mapping[str, str],
        columns: Types,
        type_: ColumnType,
    ) -> None:
        self._step, self._type = step, type_
        self._key = key_of(step, place)
        self._warned = False
        self._needs = [before.get(name, name) for name in step.needs]
        # What is neither made nor stored is an entry's number.
        self.stored = tuple(name for name in self._needs if name in columns)

    def run(
        self, known: Known, entries: Entries, outs: Mapping[str, Array], *_: Array
    ) -> dict[str, Any]:
        """Call it."""
        given: list[Array | Jagged] = []
        for name in self._needs:
            if name in self.stored:
                given.append(taken(known[name], entries.take))
            elif name in known:
                given.append(known[name])
            else:
                given.append((entries.first_number + entries.take).astype(NUMBERS[name]))
        try:
            found, lost = vectorized_result(self._step, given, len(entries.take), self._type)
        except Exception as error:
            raise entries.failed(error, f"the function for {self._step.label!r}") from error
        if lost and not self._warned:
            self._warned = True
            warn(f"{entries.where}: {lost}", PrecisionWarning)
        if self._key in outs:
            outs[self._key][:] = found
        return {self._key: found}


class Kernel:
    """Some steps of a program, compiled into one loop over entries.

    Parameters
    ----------
    steps : mapping of int to Step
        By their places in the program.
    outputs : mapping of str to ColumnType
        Keys of the definitions among them which something after the kernel needs.
    before, made : mapping
        Keys of the columns that names stand for, and types of these columns, which are made earlier.
    columns : mapping of str to ColumnType
        The stored ones.
    dialect : str
    uses : mapping of int to int
        How often the definition at a place is used.

    Attributes
    ----------
    cuts : int
    stored : tuple of str
        Stored columns that it needs.
    source : str
    """

    def __init__(
        self,
        steps: Mapping[int, Step],
        outputs: Mapping[str, ColumnType],
        before: Mapping[str, str],
        made: Mapping[str, ColumnType],
        columns: Types,
        dialect: Dialect,
        uses: Mapping[int, int],
    ) -> None:
        self._columns = columns
        self._body = body = Body(columns, dialect)
        body.before.update(before)
        body.made.update(made)
        self._writer = body.writer
        self.cuts = sum(isinstance(step, Cut) for step in steps.values())
        self._scalars = {key: t.dtype for key, t in outputs.items() if t.kind == "scalar"}
        self._vectors: dict[str, Dtype] = {
            key: t.dtype for key, t in outputs.items() if t.kind == "vector" and t.dtype is not None
        }
        names = {key_of(step, k): step.name for k, step in steps.items() if isinstance(step, Definition)}
        self._write(steps, uses, names)
        asked = (name for test in body.tests for name in (test.column, *test.columns))
        numbers = (name for name in body.inputs if name not in body.made)
        self.stored = tuple(dict.fromkeys([*numbers, *asked]))
        self._failures = tuple(body.writer.failures)
        self.compiled = compiled(self.source, body.functions, self._nothing())

    # --- its source ---------------------------------------------------------------------------

    def _write(
        self, steps: Mapping[int, Step], uses: Mapping[int, int], names: Mapping[str, str]
    ) -> None:
        body, writer = self._body, self._writer
        arrays = [f"v_{number}" for number in range(len(self._vectors))]
        returns = not self.cuts or bool(self._scalars or self._vectors)
        writer.leave = f"return ({', '.join([*arrays, '0'])},)" if returns else "return"
        # Of the entries that pass the cuts, which are fewer.
        at = "passes" if self.cuts and returns else "j"
        with writer.block(""):
            for array, dtype in zip(arrays, self._vectors.values(), strict=True):
                writer.line(f"{array} = np.empty(1024, {type_text(dtype)})")
                writer.line(f"n_{array} = 0")
            if at != "j":
                writer.line(f"{at} = 0")
            with writer.block("for j in range(take.size):"):
                writer.line("i = np.int64(take[j])")
                cut = 0
                for place, step in steps.items():
                    if isinstance(step, Definition):
                        body.keep(step, uses[place])
                    else:
                        self._write_cut(step, cut)
                        cut += 1
                for number, key in enumerate(self._scalars):
                    scalar = body.values[names[key]]
                    assert isinstance(scalar, Scalar)
                    writer.line(f"s_{number}[{at}] = {scalar.text}")
                for number, key in enumerate(self._vectors):
                    vector = body.values[names[key]]
                    assert isinstance(vector, Vector)
                    self._write_vector(vector, arrays[number], f"o_{number}[{at} + 1]")
                if self.cuts:
                    writer.line("passed[i] = 1")
                if at != "j":
                    writer.line(f"{at} += 1")
            if returns:
                writer.line(f"return ({', '.join([*(f'{a}[:n_{a}]' for a in arrays), '0'])},)")
        head = ["status", "first_number", "take", *(["passed", "passing"] if self.cuts else [])]
        head += [f"s_{number}" for number in range(len(self._scalars))]
        head += [f"o_{number}" for number in range(len(self._vectors))]
        for column, argument in body.inputs.items():
            scalar_column = self._type_of(column).kind == "scalar"
            head += [argument] if scalar_column else [f"{argument}_v", f"{argument}_o"]
        lines = [f"def kernel({', '.join(head)}):", *writer.lines[1:]]
        self.source = "\n".join(lines) + "\n"

    def _write_cut(self, step: Cut, number: int) -> None:
        value, writer = self._body.written(step), self._writer
        assert isinstance(value, Scalar)
        fails = f"not {value.text}" if value.dtype == BOOL else f"{value.text} == 0"
        with writer.block(f"if {fails}:"):
            writer.line("continue")
        writer.line(f"passing[{number}] += 1")

    def _write_vector(self, vector: Vector, array: str, end: str) -> None:
        writer, one = self._writer, type_text(vector.dtype)
        with writer.block(f"if n_{array} + {vector.most} > {array}.size:"):
            writer.line(f"{array} = grown({array}, n_{array} + {vector.most})")

        def store(element: str) -> None:
            writer.line(f"{array}[n_{array}] = {one}({element})")
            writer.line(f"n_{array} += 1")

        vector.each(store)
        writer.line(f"{end} = n_{array}")

    def _type_of(self, name: str) -> ColumnType:
        return self._body.made.get(name) or self._columns[name]

    def _nothing(self) -> tuple[Any, ...]:
        """Return arguments of the types that it is called with, for no entries."""
        known: dict[str, Array | Jagged] = {}
        for name in self._body.inputs:
            known[name] = nothing(self._type_of(name))
        scalars = [np.empty(0, dtype) for dtype in self._scalars.values()]
        return self._arguments(
            known,
            0,
            np.empty(0, np.int32),
            scalars,
            np.empty(0, np.uint8),
            np.zeros(self.cuts, np.int64),
        )

    # --- running it ---------------------------------------------------------------------------

    def _arguments(
        self,
        known: Known,
        first_number: int,
        take: npt.NDArray[np.int32],
        scalars: Sequence[Array],
        passed: Array,
        passing: Array,
    ) -> tuple[Any, ...]:
        flat: list[Array] = []
        for name in self._body.inputs:
            value = known[name]
            flat += [value.values, value.offsets] if isinstance(value, Jagged) else [value]
        offsets = (np.zeros(len(take) + 1, np.int64) for _ in self._vectors)
        counts = (passed, passing) if self.cuts else ()
        return (np.zeros(_STATUS, np.int64), first_number, take, *counts, *scalars, *offsets, *flat)

    def run(
        self,
        known: Known,
        entries: Entries,
        outs: Mapping[str, Array],
        passed: Array = _NO_CUTS,
        passing: Array = _NO_CUTS,
    ) -> dict[str, Any]:
        """Evaluate it for some entries; return the definitions that are needed after it, by key.

        Parameters
        ----------
        known : mapping of str to ndarray or Jagged
        entries : Entries
        outs : mapping of str to ndarray
            Receives scalars; for others there is fresh memory.
        passed : ndarray of uint8
            Of all entries of the block; set to 1 for those that pass the cuts.
        passing : ndarray of int64, shape (cuts,)
            The number of entries that passed a cut is added.
        """
        scalars = [
            outs[key] if key in outs else np.empty(len(entries.take), dtype)
            for key, dtype in self._scalars.items()
        ]
        if self._body.tests:
            tests = self._body.tests.items()
            known = {**known, **{key: test.run(known, entries.take) for test, key in tests}}
        given = self._arguments(known, entries.first_number, entries.take, scalars, passed, passing)
        try:
            vectors = self.compiled(*given)
        except Exception as error:
            raise entries.failed(error, "a function") from error
        self._check(given[0], entries)
        found: dict[str, Any] = dict(zip(self._scalars, scalars, strict=True))
        begin = 3 + 2 * bool(self.cuts) + len(scalars)
        ends = given[begin : begin + len(self._vectors)]
        for key, values, offsets in zip(self._vectors, vectors or (), ends, strict=False):
            found[key] = Jagged(values, offsets)
        return found

    def _check(self, status: Array, entries: Entries) -> None:
        if status[0] == 0:
            return
        text, message = self._failures[int(status[0]) - 1]
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        what = message.format(a=int(status[2]), b=int(status[3]))
        raise EvaluationError(
            f"{entries.where}: {what}, in entry {entries.first_entry + int(status[1])}, evaluating:\n"
            f"  {shown}\n"
            "Guard it, as in 'n > 0 && v[0] > 3', or give a default: 'at(v, 0, -1)'."
        )
