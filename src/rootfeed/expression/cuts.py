"""Cuts, compiled: which entries pass all of them, and how many pass each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rootfeed.expression.body import Types
from rootfeed.expression.builder import Dialect
from rootfeed.expression.parts import Entries, Known
from rootfeed.expression.program import Program
from rootfeed.expression.steps import Step

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


def compile_cuts(steps: Sequence[Step], columns: Types, dialect: Dialect) -> Cuts:
    """Compile all cuts of some steps, and the definitions that they need."""
    return Cuts(steps, columns, dialect)
