"""Which entries of a file pass some cuts, as other processes have found: kept on disk with indexes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rootfeed import sources
from rootfeed.expression import NUMBERS, Cut, Definition, Dialect, Expression, needed_steps
from rootfeed.plan import BitMask
from rootfeed.schema import FileIndex

__all__ = ["KeptMasks", "Passed"]


class Passed(NamedTuple):
    """The entries of a file that pass some cuts.

    Attributes
    ----------
    bits : ndarray of uint64
        A mask of them.
    counts : ndarray of int64
        How many pass each cut and those before it.
    """

    bits: BitMask
    counts: npt.NDArray[np.int64]


class KeptMasks:
    """Masks by file, for some cuts; none where what the cuts compute is not all in their text.

    Parameters
    ----------
    steps : sequence of Definition or Cut
    inputs : sequence of str
        The stored columns that the cuts need.
    dialect : str
    """

    def __init__(
        self, steps: Sequence[Definition | Cut], inputs: Sequence[str], dialect: Dialect
    ) -> None:
        needed = needed_steps(steps)
        self._cuts = sum(isinstance(each, Cut) for each in needed)
        self._inputs = tuple(inputs)
        self._is_text = all(isinstance(each.how, Expression) for each in needed)
        self._counts_entries = any(
            name in NUMBERS and name not in inputs for each in needed for name in each.needs
        )
        made = ((each.name if isinstance(each, Definition) else None, each.how) for each in needed)
        self._meaning = (dialect, repr(tuple(made)) if self._is_text else "")

    def get(self, index: FileIndex, first_number: int) -> Passed | None:
        """Return what is known of a file, whose first entry has a number in the whole dataset."""
        if not self._is_text:
            return None
        return sources.kept(
            index.stamp, self._key(index, first_number), lambda data: self._read(index, data)
        )

    def put(self, index: FileIndex, first_number: int, passed: Passed) -> None:
        """Keep what was found of a file."""
        if self._is_text:
            data = sources.packed(passed.counts.tolist(), [passed.bits])
            sources.keep(index.stamp, self._key(index, first_number), data)

    def _key(self, index: FileIndex, first_number: int) -> tuple[object, ...]:
        types = [(name, index.columns[name].type) for name in self._inputs]
        return (
            "mask",
            index.object_path,
            index.entries,
            index.joined,
            self._meaning,
            [(name, type_.kind, str(type_.dtype), type_.shape) for name, type_ in types],
            first_number if self._counts_entries else None,
        )

    def _read(self, index: FileIndex, data: bytes) -> Passed:
        told, (bits,) = sources.unpacked(data)
        counts = np.array(told, np.int64)
        flow = [index.entries, *counts.tolist()]
        last = index.entries % 64
        if (
            bits.dtype != np.uint64
            or bits.shape != (-(-index.entries // 64),)
            or counts.shape != (self._cuts,)
            or flow != sorted(flow, reverse=True)
            or int(np.bitwise_count(bits).sum()) != flow[-1]
            or (last and int(bits[-1]) >> last)
        ):
            raise ValueError("another mask")
        return Passed(bits, counts)
