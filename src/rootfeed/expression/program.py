"""Definitions and cuts as a program: what a kernel needs, its inputs, and its outputs.

A kernel is one loop over entries. What a cut or a wanted definition needs is written once, in the order
of the steps; a cut leaves the entry, so that what follows is evaluated only where it passes.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import EvaluationError, PrecisionWarning, RootfeedError
from rootfeed.expression.body import Body, Types, infer
from rootfeed.expression.builder import Dialect
from rootfeed.expression.kernels import compiled
from rootfeed.expression.python import nothing, vectorized_result
from rootfeed.expression.steps import Cut, Definition, Step, names_in
from rootfeed.expression.values import Scalar, Vector, type_text
from rootfeed.schema import Array, ColumnType, Jagged

__all__ = ["STATUS", "Inputs", "Outputs", "Program", "compile_outputs"]

Inputs = Mapping[str, Array | Jagged]

STATUS = 4
"""Numbers in which a kernel tells why it stopped: a failure, an entry, and two for the message."""


def _needed(steps: Sequence[Step], names: Sequence[str], cuts: bool) -> tuple[list[Step], Counter[int]]:
    """Return the steps that some columns or the cuts need, and how often each is used."""
    needed: dict[int, None] = {}
    uses: Counter[int] = Counter()
    stack: list[tuple[str, int]] = [(name, len(steps)) for name in names]
    if cuts:
        for place, step in enumerate(steps):
            if isinstance(step, Cut):
                needed[place] = None
                stack += [(name, place) for name in names_in(step.how.node)]
    while stack:
        name, before = stack.pop()
        for place in range(before - 1, -1, -1):
            step = steps[place]
            if isinstance(step, Definition) and step.name == name:
                uses[place] += 1
                if place not in needed:
                    needed[place] = None
                    stack += [(each, place) for each in step.needs]
                break
    return [steps[place] for place in sorted(needed)], Counter(
        {id(steps[place]): count for place, count in uses.items()}
    )


class Program:
    """What `Cuts` and `Outputs` share: inputs, functions beside the kernel, and the kernel itself."""

    def __init__(
        self, steps: Sequence[Step], names: Sequence[str], columns: Types, dialect: Dialect, cuts: bool
    ) -> None:
        self._steps, uses = _needed(steps, names, cuts)
        self._before: list[tuple[Definition, str, Outputs]] = []
        kernel = Body(self._steps, columns, dialect)
        types = infer(self._steps, columns, dialect)
        for number_, step in enumerate(self._steps):
            if isinstance(step, Definition) and step.vectorized:
                earlier = [each for each in self._steps[:number_] if isinstance(each, Definition)]
                made = {each.name for each in earlier}
                outputs = Outputs(
                    earlier, [n for n in step.needs if n in made], columns, dialect, stored=step.needs
                )
                key = kernel.keys[id(step)] = f"{step.name}#{number_}"
                kernel.made[key] = infer(self._steps[: number_ + 1], columns, dialect)[step.name]
                self._before.append((step, key, outputs))
        self._kernel, self._uses, self._types = kernel, uses, types
        self._columns = columns
        self._warned: set[str] = set()
        self.inputs: tuple[str, ...] = ()

    def _finish(self, head: str, body: Sequence[str], arguments: tuple[Any, ...]) -> None:
        kernel = self._kernel
        names = [
            text
            for column, argument in kernel.inputs.items()
            for text in self._argument_names(column, argument)
        ]
        source = "\n".join([f"def kernel({', '.join([head, *names])}):", *body]) + "\n"
        self.source = source
        self.failures = tuple(kernel.writer.failures)
        made = set(kernel.made)
        others = [name for _, _, outputs in self._before for name in outputs.inputs]
        others += [name for test in kernel.tests for name in (test.column, *test.columns)]
        self.inputs = tuple(dict.fromkeys([*(n for n in kernel.inputs if n not in made), *others]))
        empty = {name: nothing(self._type_of(name)) for name in kernel.inputs}
        self._compiled = compiled(source, kernel.functions, (*arguments, *self._flat(empty)))

    def _type_of(self, name: str) -> ColumnType:
        return self._kernel.made.get(name) or self._columns[name]

    def _argument_names(self, column: str, argument: str) -> list[str]:
        scalar = self._type_of(column).kind == "scalar"
        return [argument] if scalar else [f"{argument}_v", f"{argument}_o"]

    def _flat(self, inputs: Inputs) -> list[Array]:
        arrays: list[Array] = []
        for name in self._kernel.inputs:
            value = inputs[name]
            arrays += [value.values, value.offsets] if isinstance(value, Jagged) else [value]
        return arrays

    def _all_inputs(
        self, inputs: Inputs, first_entry: int, first_number: int, take: Array, where: str
    ) -> Inputs:
        """Add what is made beside the kernel: truths about texts, and what functions make."""
        known = dict(inputs)
        for test, key in self._kernel.tests.items():
            known[key] = test.run(inputs, take)
        for step, key, outputs in self._before:
            given = outputs.columns_for(step.needs, inputs, first_entry, first_number, take, where)
            try:
                known[key], lost = vectorized_result(step, given, len(take), self._kernel.made[key])
            except Exception as error:
                raise _failed(error, f"the function for {step.name!r}", where, first_entry) from error
            if lost and key not in self._warned:
                self._warned.add(key)
                warnings.warn(f"{where}: {lost}", PrecisionWarning, stacklevel=2)
        return known

    def _call(self, where: str, first_entry: int, *arguments: Any) -> Any:
        """Call the kernel; what a function of the user's raises names the file."""
        try:
            return self._compiled(*arguments)
        except Exception as error:
            raise _failed(error, "a function", where, first_entry) from error

    def _check(self, status: Array, first_entry: int, where: str) -> None:
        if status[0] == 0:
            return
        text, message = self.failures[int(status[0]) - 1]
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        what = message.format(a=int(status[2]), b=int(status[3]))
        raise EvaluationError(
            f"{where}: {what}, in entry {first_entry + int(status[1])}, evaluating:\n  {shown}\n"
            "Guard it, as in 'n > 0 && v[0] > 3', or give a default: 'at(v, 0, -1)'."
        )


def _failed(error: Exception, what: str, where: str, first_entry: int) -> RootfeedError:
    if isinstance(error, RootfeedError):
        return error
    return EvaluationError(
        f"{where}: {what} failed in the entries from {first_entry} on: {type(error).__name__}: {error}."
    )


class Outputs(Program):
    """Some definitions of a program, compiled.

    Attributes
    ----------
    inputs : tuple of str
        The stored columns that they need.
    types : mapping of str to ColumnType
    """

    def __init__(
        self,
        steps: Sequence[Step],
        names: Sequence[str],
        columns: Types,
        dialect: Dialect,
        stored: Sequence[str] = (),
    ) -> None:
        super().__init__(steps, names, columns, dialect, cuts=False)
        kernel = self._kernel
        writer = kernel.writer
        self.types = {name: self._types[name] for name in names}
        self._scalars = [name for name in names if self.types[name].kind == "scalar"]
        self._vectors = {
            name: type_.dtype
            for name, type_ in self.types.items()
            if type_.kind == "vector" and type_.dtype is not None
        }
        arrays = [f"v_{number_}" for number_ in range(len(self._vectors))]
        writer.leave = f"return ({', '.join([*arrays, '0'])},)"
        with writer.block(""):
            for array, dtype in zip(arrays, self._vectors.values(), strict=True):
                writer.line(f"{array} = np.empty(1024, {type_text(dtype)})")
                writer.line(f"n_{array} = 0")
            with writer.block("for j in range(take.size):"):
                writer.line("i = np.int64(take[j])")
                for step in self._steps:
                    assert isinstance(step, Definition)
                    kernel.keep(step, self._uses[id(step)])
                for number_, name in enumerate(self._scalars):
                    scalar = kernel.values[name]
                    assert isinstance(scalar, Scalar)
                    writer.line(f"s_{number_}[j] = {scalar.text}")
                for number_, name in enumerate(self._vectors):
                    self._write_vector(name, arrays[number_], f"o_{number_}")
            writer.line(f"return ({', '.join([*(f'{a}[:n_{a}]' for a in arrays), '0'])},)")
        outs = [f"s_{number_}" for number_ in range(len(self._scalars))]
        offsets = [f"o_{number_}" for number_ in range(len(self._vectors))]
        empty = (
            np.zeros(STATUS, np.int64),
            0,
            np.empty(0, np.int32),
            *(np.empty(0, self.types[name].dtype) for name in self._scalars),
            *(np.zeros(1, np.int64) for _ in offsets),
        )
        head = ", ".join(["status", "first_number", "take", *outs, *offsets])
        self._finish(head, writer.lines[1:], empty)
        self.inputs = tuple(dict.fromkeys([*self.inputs, *(name for name in stored if name in columns)]))

    def _write_vector(self, name: str, array: str, offsets: str) -> None:
        writer = self._kernel.writer
        vector = self._kernel.values[name]
        assert isinstance(vector, Vector)
        dtype = self._vectors[name]
        with writer.block(f"if n_{array} + {vector.most} > {array}.size:"):
            writer.line(f"{array} = grown({array}, n_{array} + {vector.most})")

        def store(element: str) -> None:
            writer.line(f"{array}[n_{array}] = {type_text(dtype)}({element})")
            writer.line(f"n_{array} += 1")

        vector.each(store)
        writer.line(f"{offsets}[j + 1] = n_{array}")

    def run(
        self,
        inputs: Inputs,
        first_entry: int,
        first_number: int,
        take: npt.NDArray[np.int32],
        where: str,
        outs: Mapping[str, Array],
    ) -> dict[str, Jagged]:
        """Evaluate the definitions for some entries of a block.

        Parameters
        ----------
        inputs : mapping of str to ndarray or Jagged
            For all entries of the block.
        first_entry, first_number : int
            Number of the block's first entry in its file, and in the whole dataset.
        take : ndarray of int32
            The entries wanted, relative to the block's first one.
        where : str
            The file, for messages.
        outs : mapping of str to ndarray
            Receives scalars, each shape (len(take),) and of its column's dtype.

        Returns
        -------
        dict of str to Jagged
            The vectors, in fresh memory.

        Raises
        ------
        EvaluationError
        """
        known = self._all_inputs(inputs, first_entry, first_number, take, where)
        status = np.zeros(STATUS, np.int64)
        offsets = [np.zeros(len(take) + 1, np.int64) for _ in self._vectors]
        scalars = [outs[name] for name in self._scalars]
        arguments = (status, first_number, take, *scalars, *offsets, *self._flat(known))
        found = self._call(where, first_entry, *arguments)
        self._check(status, first_entry, where)
        return {
            name: Jagged(values, ends)
            for name, values, ends in zip(self._vectors, found, offsets, strict=False)
        }

    def columns_for(
        self,
        names: Sequence[str],
        inputs: Inputs,
        first_entry: int,
        first_number: int,
        take: npt.NDArray[np.int32],
        where: str,
    ) -> list[Array | Jagged]:
        """Return stored and defined columns for some entries, in the order of the names."""
        outs = {name: np.empty(len(take), self.types[name].dtype) for name in self._scalars}
        made: dict[str, Array | Jagged] = dict(outs)
        made |= self.run(inputs, first_entry, first_number, take, where, outs)
        return [made[name] if name in made else _taken(inputs[name], take) for name in names]


def _taken(column: Array | Jagged, take: npt.NDArray[np.int32]) -> Array | Jagged:
    taken: Array | Jagged = column.taken(take) if isinstance(column, Jagged) else column[take]
    return taken


def compile_outputs(
    steps: Sequence[Step], names: Sequence[str], columns: Types, dialect: Dialect
) -> Outputs:
    """Compile the definitions of some columns; cuts among the steps are left out."""
    plain = [step for step in steps if isinstance(step, Definition)]
    return Outputs(plain, names, columns, dialect)
