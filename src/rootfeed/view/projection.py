"""Which stored columns are read, and which definitions evaluated, for the columns that are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.expression import Definition, Dialect, Outputs, compile_outputs
from rootfeed.schema import Array, Block, ColumnType, FileIndex, Jagged
from rootfeed.view.compiled import Compiled
from rootfeed.view.transformations import Transformation

__all__ = ["Projection"]


class Projection:
    """Some columns of a view, as they are after all of its transformations.

    Parameters
    ----------
    names : iterable of str
    transformations : sequence of Transformation
    types : mapping of str to ColumnType
        Of the stored columns, in the first file.
    dialect : str

    Attributes
    ----------
    names : tuple of str
        All of them, each once.
    stored : tuple of str
        Those that are stored in the files.
    defined : tuple of str
        Those that definitions make.
    inputs : tuple of str
        The stored columns that the definitions need.
    """

    def __init__(
        self,
        names: Iterable[str],
        transformations: Sequence[Transformation],
        types: Mapping[str, ColumnType],
        dialect: Dialect,
    ) -> None:
        made = {each.name for each in transformations if isinstance(each, Definition)}
        self.names = tuple(dict.fromkeys(names))
        self.stored = tuple(name for name in self.names if name not in made)
        self.defined = tuple(name for name in self.names if name in made)
        self.inputs: tuple[str, ...] = ()
        self._compiled: Compiled[Outputs] | None = None
        if self.defined:
            definitions = [each for each in transformations if isinstance(each, Definition)]
            compile_types = partial(compile_outputs, definitions, self.defined, dialect=dialect)
            self._compiled = Compiled(compile_types, types)
            self.inputs = self._compiled.inputs

    @property
    def columns(self) -> tuple[str, ...]:
        """The stored columns that have to be read."""
        return tuple(dict.fromkeys((*self.stored, *self.inputs)))

    def types(self, index: FileIndex) -> dict[str, ColumnType]:
        """Return the types of these columns in a file."""
        return {name: index.columns[name].type for name in self.stored} | self.defined_types(index)

    def defined_types(self, index: FileIndex) -> dict[str, ColumnType]:
        """Return the types of the columns that definitions make, in a file."""
        return {} if self._compiled is None else dict(self._compiled.of(index).types)

    def signature(self, index: FileIndex) -> tuple[Any, ...]:
        """Return something that is equal for files whose columns have the same types."""
        types = (index.columns[name].type for name in self.columns)
        return (self, *((type_.kind, str(type_.dtype)) for type_ in types))

    def evaluate(
        self,
        index: FileIndex,
        inputs: Mapping[str, Array | Jagged],
        block: Block,
        first_number: int,
        take: npt.NDArray[np.int32],
        outs: Any,
    ) -> Mapping[str, Jagged]:
        """Evaluate the definitions for some entries of a block.

        Parameters
        ----------
        index : FileIndex
        inputs : mapping of str to ndarray or Jagged
            The stored columns `inputs`, for all entries of the block.
        block : Block
        first_number : int
            Number of the block's first entry in the whole dataset.
        take : ndarray of int32
            Entries of the block, all of which pass the cuts.
        outs : mapping of str to ndarray
            Receives scalars, shape (len(take),).

        Returns
        -------
        mapping of str to Jagged
            The vectors.
        """
        if self._compiled is None:
            return {}
        outputs = self._compiled.of(index)
        return outputs.run(inputs, block.start, first_number, take, index.where, outs)
