"""Cuts, compiled: which entries pass all of them, and how many pass each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rootfeed.expression.body import Types
from rootfeed.expression.builder import Dialect
from rootfeed.expression.program import STATUS, Inputs, Program
from rootfeed.expression.steps import Definition, Step
from rootfeed.expression.values import BOOL, Scalar

__all__ = ["Cuts", "compile_cuts"]


class Cuts(Program):
    """All cuts of a program, compiled.

    Attributes
    ----------
    inputs : tuple of str
        The stored columns that they need.
    """

    def __init__(self, steps: Sequence[Step], columns: Types, dialect: Dialect) -> None:
        super().__init__(steps, (), columns, dialect, cuts=True)
        kernel = self._kernel
        writer = kernel.writer
        cut = 0
        with writer.block(""), writer.block("for j in range(take.size):"):
            writer.line("i = np.int64(take[j])")
            for step in self._steps:
                if isinstance(step, Definition):
                    kernel.keep(step, self._uses[id(step)])
                    continue
                value = kernel.written(step)
                assert isinstance(value, Scalar)
                with writer.block(
                    f"if not {value.text}:" if value.dtype == BOOL else f"if {value.text} == 0:"
                ):
                    writer.line("continue")
                writer.line(f"passing[{cut}] += 1")
                cut += 1
            writer.line("passed[i] = 1")
        arguments = (
            np.zeros(STATUS, np.int64),
            0,
            np.empty(0, np.int32),
            np.empty(0, np.uint8),
            np.zeros(cut, np.int64),
        )
        self._finish("status, first_number, take, passed, passing", writer.lines[1:], arguments)

    def run(
        self,
        inputs: Inputs,
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
        known = self._all_inputs(inputs, first_entry, first_number, take, where)
        status = np.zeros(STATUS, np.int64)
        flat = self._flat(known)
        self._call(where, first_entry, status, first_number, take, passed[:count], passing, *flat)
        self._check(status, first_entry, where)


def compile_cuts(steps: Sequence[Step], columns: Types, dialect: Dialect) -> Cuts:
    """Compile all cuts of some steps, and the definitions that they need."""
    return Cuts(steps, columns, dialect)
