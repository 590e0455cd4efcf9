"""What batches look like: their arrays, and how a row of them lies in memory.

Frozen dataclasses over plain values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from rootfeed.properties import cached_property

__all__ = ["LINE_BYTES", "Layout", "Part", "Role", "Vectors"]

Role = Literal["values", "mask", "offsets"]
"""What an array of a batch is: values, or of vectors which of them are there, or where each begins."""

LINE_BYTES = 64
"""To whose multiples the arrays of batches are aligned: a line of the processor's cache."""


@dataclass(frozen=True)
class Part:
    """Neighbouring words of a row, which become one array of a batch.

    Attributes
    ----------
    columns : tuple of str
        Of a matrix the columns' names; of vectors those that lie side by side in each element.
    dtype : numpy.dtype
    name : str
        Where features are a mapping, the name of this input.
    length : int or None
        Elements of a row; None for a matrix.
    ragged : bool
        Of the elements, a batch gets those that are there, not the padding.
    scalars : tuple of (str, int)
        The columns that hold one number per entry, and their positions in a row of the part.
    shape : tuple of int or None
        Of arrays of fixed dimensions those of a row in a batch; None for everything else.
    """

    columns: tuple[str, ...]
    dtype: np.dtype[Any]
    name: str = ""
    length: int | None = None
    ragged: bool = False
    scalars: tuple[tuple[str, int], ...] = ()
    shape: tuple[int, ...] | None = None

    @property
    def is_beside(self) -> bool:
        """Whether these are vectors of different lengths, whose elements lie beside the rows."""
        return self.length is not None and self.shape is None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of this part in a batch."""
        elements = 1 if self.length is None else self.length
        return elements * len(self.columns) * self.dtype.itemsize


@dataclass(frozen=True)
class Vectors:
    """Vector columns that are cut or padded to one length in a batch.

    Attributes
    ----------
    columns : tuple of str
        They agree in length in each entry.
    part : int
        The part that they belong to.
    position : int
        Word of the part at which the first element of the first column lies.
    length : int
        Elements in a row of a batch, at most where it is ragged.
    value : float
        What missing elements are filled up with.
    sort_by : str or None
        Elements are in descending order of this column, NaN last; None keeps their order.
    """

    columns: tuple[str, ...]
    part: int
    position: int
    length: int
    value: float
    sort_by: str | None = None


@dataclass(frozen=True)
class Layout:
    """How the parts of a batch lie side by side in rows.

    Each part starts at a multiple of the widest item, so that rows can be viewed as words of any part's
    size. Vectors of different lengths lie beside the rows. At the end of a row stand, for each of them,
    the address of its first element (uint64), and then the numbers of elements (int32): element j of
    column c lies at word ``j * columns + c`` from the address.

    Attributes
    ----------
    parts : tuple of Part
    vectors : tuple of Vectors
    inputs : int
        Parts that belong to ``x``; one of ``y`` and one of ``w`` may follow.
    mapping : bool
        Whether ``x`` is a mapping of its parts' names.
    """

    parts: tuple[Part, ...]
    vectors: tuple[Vectors, ...] = ()
    inputs: int = 1
    mapping: bool = False

    @cached_property
    def alignment(self) -> int:
        """Bytes to whose multiple each part is padded inside a row."""
        return max([part.dtype.itemsize for part in self.parts] + [8] * bool(self.beside))

    @cached_property
    def beside(self) -> tuple[Vectors, ...]:
        """The vectors whose elements lie beside the rows, in the order of their addresses."""
        return tuple(each for each in self.vectors if self.parts[each.part].is_beside)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Position in bytes of each part inside a row, and of addresses and lengths if there are any."""
        positions, position = [], 0
        for row_bytes in self.sizes:
            positions.append(position)
            position += -(-row_bytes // self.alignment) * self.alignment
        return tuple(positions)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each part inside a row, and of addresses and lengths if there are any."""
        sizes = [0 if part.is_beside else part.row_bytes for part in self.parts]
        count = len(self.beside)
        return tuple(sizes + [8 * count, 4 * count] * bool(count))

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory, without what lies beside it."""
        return self.offsets[-1] + -(-self.sizes[-1] // self.alignment) * self.alignment

    @cached_property
    def batch_sizes(self) -> tuple[int, ...]:
        """Bytes of a row in each array that is gathered, at most.

        Of the parts, addresses and lengths, and then, for what lies beside the rows, of the mask or of
        the offset.
        """
        parts = [part.row_bytes for part in self.parts]
        ends = [8 if self.parts[each.part].ragged else each.length for each in self.beside]
        return (*parts, *self.sizes[len(parts) :], *ends)

    def pitch(self, batch_size: int) -> int:
        """Return how many rows behind a batch's first one, in memory, that of the next batch comes.

        So many that all arrays of fixed size begin at multiples of 64 bytes: some lie between batches
        where `batch_size` is odd, or small.
        """
        fixed = [size for part, size in zip(self.parts, self.sizes, strict=False) if not part.is_beside]
        step = LINE_BYTES // math.gcd(LINE_BYTES, *fixed)
        return -(-batch_size // step) * step

    def places(self, batches: int, batch_size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return where the arrays of some batches lie in memory: each at a multiple of 64 bytes.

        Frameworks take such arrays as they are.

        Returns
        -------
        places : tuple of int
            For each array, where that of the first batch begins; and where the last one ends.
        pitches : tuple of int
            How far behind the array of one batch that of the next one begins.
        """
        pitch, beside = self.pitch(batch_size), len(self.batch_sizes) - len(self.beside)
        places, pitches = [0], []
        for number, size in enumerate(self.batch_sizes):
            if number < len(self.sizes) and self.sizes[number]:
                pitches.append(pitch * size)
            else:
                # Offsets are one more than there are rows.
                more = 8 * (number >= beside and self.parts[self.beside[number - beside].part].ragged)
                pitches.append(_whole_lines(batch_size * size + more))
            places.append(_whole_lines(places[-1] + batches * pitches[-1]))
        return tuple(places), tuple(pitches)

    def batch_row_bytes(self, batch_size: int) -> int:
        """Bytes of one row among batches of so many rows, at most, with what lies between batches."""
        _, pitches = self.places(1, batch_size)
        return -(-sum(pitches) // batch_size)

    def columns_of(self, part: int) -> tuple[str, ...]:
        """Names of the columns that a part is made of."""
        scalars = [name for name, _ in self.parts[part].scalars]
        vectors = [name for each in self.vectors if each.part == part for name in each.columns]
        return tuple(dict.fromkeys(scalars + vectors))

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that are needed, each once."""
        keys = [each.sort_by for each in self.vectors if each.sort_by]
        return tuple(dict.fromkeys([*self.features_and_targets, *self.weights, *keys]))

    @property
    def features_and_targets(self) -> tuple[str, ...]:
        """Names of the columns of ``x`` and ``y``, each once."""
        scalars = [name for part in self.parts[: self.inputs + 1] for name, _ in part.scalars]
        vectors = [name for each in self.vectors for name in each.columns]
        return tuple(dict.fromkeys(scalars + vectors))

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the columns of ``w``: one, or none."""
        return tuple(name for part in self.parts[self.inputs + 1 :] for name, _ in part.scalars)

    @cached_property
    def arrays(self) -> tuple[tuple[int, Role], ...]:
        """The arrays of a batch, in their order: of which part, and what of it."""
        found: list[tuple[int, Role]] = []
        for number, part in enumerate(self.parts):
            found.append((number, "values"))
            if part.is_beside:
                found.append((number, "offsets" if part.ragged else "mask"))
        return tuple(found)

    def row_shape(self, number: int, role: Role) -> tuple[int, ...]:
        """Return the shape of a row in an array of a batch; of ragged values that of an element."""
        part = self.parts[number]
        if role == "offsets":
            return ()
        if part.shape is not None:
            return part.shape
        if part.ragged or not part.is_beside:
            return (len(part.columns),)
        length = next(each.length for each in self.beside if each.part == number)
        return (length,) if role == "mask" else (length, len(part.columns))

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of the arrays of ``x``; None where it is one array."""
        if not self.mapping:
            return None
        return tuple(
            self.parts[number].name + ("" if role == "values" else f"_{role}")
            for number, role in self.arrays
            if number < self.inputs
        )


def _whole_lines(size: int) -> int:
    return -(-size // LINE_BYTES) * LINE_BYTES
