"""ROOT's functions that make generators of batches, up to ROOT 6.38."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from rootfeed.arguments import as_tuple
from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch
from rootfeed.root.frame import RDataFrame
from rootfeed.root.sides import Rows, Side, rows_of

__all__ = ["CreateNumPyGenerators", "CreatePyTorchGenerators", "CreateTFDatasets", "Generator"]

Given = ParamSpec("Given")
Made = TypeVar("Made")


class Generator(Side):
    """Re-iterable batches of one side of a dataset, in ROOT's words.

    Besides ``for batch in generator``, as in ROOT, ``generator()`` starts an epoch, and
    ``next(generator)`` goes through epochs of its own, each of which ends with a StopIteration.
    """

    def __init__(self, rows: Rows, batches: Iterable[Batch]) -> None:
        super().__init__(rows)
        self._batches = batches
        self._current: Iterator[Batch] | None = None

    @property
    def number_of_batches(self) -> int:
        """Number of batches of an epoch."""
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Start the next epoch."""
        return iter(self._batches)

    def __call__(self) -> Iterator[Batch]:
        """Start the next epoch."""
        return iter(self)

    def __next__(self) -> Batch:
        if self._current is None:
            self._current = iter(self)
        try:
            return next(self._current)
        except StopIteration:
            self._current = None
            raise

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.num_batches


def _sides(
    rdataframes: RDataFrame | Sequence[RDataFrame],
    batch_size: int,
    chunk_size: int,
    block_size: int | None = None,
    columns: Sequence[str] = (),
    max_vec_sizes: Mapping[str, int] | None = None,
    vec_padding: float = 0,
    target: str | Sequence[str] = "",
    weights: str = "",
    validation_split: float = 0.0,
    max_chunks: int = 0,
    shuffle: bool = True,
    drop_remainder: bool = True,
    set_seed: int = 0,
    load_eager: bool = False,
    sampling_type: str = "",
    sampling_ratio: float = 1.0,
    replacement: bool = False,
) -> tuple[Rows, Rows | None]:
    """Return the rows of training and validation: see `CreateNumPyGenerators`."""
    if max_chunks != 0:
        raise ArgumentError("max_chunks must be left at 0: an epoch has all its chunks.")
    if not 0.0 <= validation_split < 1.0:
        raise ArgumentError(f"validation_split must lie in [0, 1), got {validation_split!r}.")
    if chunk_size < batch_size:
        raise ArgumentError(
            f"chunk_size must not be smaller than batch_size, got {chunk_size} and {batch_size}."
        )
    rows = rows_of(
        rdataframes,
        batch_size,
        columns,
        max_vec_sizes,
        vec_padding,
        target,
        weights,
        shuffle,
        drop_remainder,
        set_seed,
        load_eager,
        sampling_type,
        sampling_ratio,
        replacement,
        chunk_size=chunk_size,
        block_size=block_size,
    )
    return (rows, None) if validation_split == 0 else rows.divided(validation_split)


_FRAMES = ("rdataframes", "batch_size", "chunk_size")
_TREE = ("tree_name", "file_name", "batch_size", "chunk_size", "columns", "filters")
_OTHERS = (
    "max_vec_sizes",
    "vec_padding",
    "target",
    "weights",
    "validation_split",
    "max_chunks",
    "shuffle",
    "drop_remainder",
)
_LATER = ("set_seed", "load_eager", "sampling_type", "sampling_ratio", "replacement")


def _renamed(function: str, given: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call, in whichever release's order, by today's names."""
    first, second = (*given, None, None)[:2]
    order: tuple[str, ...]
    if isinstance(first, str) and not isinstance(second, int):
        order = (*_TREE, *_OTHERS)  # 6.30
    elif isinstance(first, int):
        order = ("batch_size", "chunk_size", "tree_name", "file_name")
    elif len(given) > 3 and not isinstance(given[3], int | None):
        order = (*_FRAMES, "columns", *_OTHERS)  # 6.34 and 6.36
    else:
        order = (*_FRAMES, "block_size", "columns", *_OTHERS, *_LATER)  # 6.38
    if len(given) > len(order):
        raise TypeError(f"{function}() takes {len(order)} positional arguments, got {len(given)}")
    found = dict(zip(order, given, strict=False))
    if "rdataframe" in named:
        named = {("rdataframes" if key == "rdataframe" else key): named[key] for key in named}
    if twice := found.keys() & named.keys():
        raise TypeError(f"{function}() got multiple values for argument {min(twice)!r}")
    found |= named
    if "tree_name" in found or "file_name" in found:
        if "rdataframes" in found or not {"tree_name", "file_name"} <= found.keys():
            raise TypeError(f"{function}() takes data frames, or a tree_name and a file_name")
        found["rdataframes"] = RDataFrame(found.pop("tree_name"), found.pop("file_name"))
    filters = as_tuple(found.pop("filters", None) or ())
    if filters:
        frames = []
        for frame in as_tuple(found["rdataframes"]):
            for text in filters:
                frame = frame.Filter(text)
            frames.append(frame)
        found["rdataframes"] = frames
    return found


def _with_arguments_of(
    sides: Callable[Given, tuple[Rows, Rows | None]],
) -> Callable[[Callable[[Rows, Rows | None], Made]], Callable[Given, Made]]:
    """Make functions of arguments from functions of the two sides that follow from these."""

    def decorated(create: Callable[[Rows, Rows | None], Made]) -> Callable[Given, Made]:
        returned = inspect.signature(create).return_annotation
        signature = inspect.signature(sides).replace(return_annotation=returned)

        @wraps(create)
        def called(*given: Given.args, **named: Given.kwargs) -> Made:
            arguments = _renamed(create.__name__, given, named)
            try:
                bound = signature.bind(**arguments)
            except TypeError as error:
                raise TypeError(f"{create.__name__}(): {error}") from None
            return create(*sides(*bound.args, **bound.kwargs))

        called.__signature__ = signature  # type: ignore[attr-defined]
        return called

    return decorated


@_with_arguments_of(_sides)
def CreateNumPyGenerators(train: Rows, validation: Rows | None) -> tuple[Generator, Generator | None]:
    """Return generators of NumPy batches for training and validation.

    Calls of earlier releases work as well: ``(rdataframe, batch_size, chunk_size, columns, ...)`` and
    ``(tree_name, file_name, batch_size, chunk_size, columns, filters, ...)``, each argument by its place
    or its name; `filters` are expressions of cuts.

    Parameters
    ----------
    chunk_size, block_size : int
        Entries that are mixed in memory, and consecutive entries that are read together: as many as
        suit the files, if left out. They change nothing with `load_eager`.
    validation_split : float
        Share of the validation side: see `RDataLoader.train_test_split`.
    max_chunks : int
        Not supported: must be 0, all chunks.
    rdataframes, batch_size, columns, max_vec_sizes, vec_padding, target, weights, shuffle, \
drop_remainder, set_seed, load_eager, sampling_type, sampling_ratio, replacement
        See `RDataLoader`.

    Returns
    -------
    tuple of Generator
        The second is None without a validation split.

    Raises
    ------
    ArgumentError
        Also a ValueError, for the arguments that ROOT refuses, and for `max_chunks`.
    """
    made = Generator(train, train.loader)
    return made, None if validation is None else Generator(validation, validation.loader)


@_with_arguments_of(_sides)
def CreatePyTorchGenerators(
    train: Rows, validation: Rows | None
) -> Generator | tuple[Generator, Generator]:
    """Return generators of torch batches: see `CreateNumPyGenerators`.

    Returns
    -------
    Generator or tuple of Generator
        Training and validation; training alone without a validation split.
    """
    made = Generator(train, train.loader.torch())
    return made if validation is None else (made, Generator(validation, validation.loader.torch()))


@_with_arguments_of(_sides)
def CreateTFDatasets(train: Rows, validation: Rows | None) -> Any:
    """Return data sets of TensorFlow: see `CreateNumPyGenerators`.

    Returns
    -------
    tf.data.Dataset or tuple of tf.data.Dataset
        Training and validation; training alone without a validation split. Each has `columns`,
        `train_columns`, `target_column`, `weights_column` and `number_of_batches` as attributes.
    """
    made = _dataset(train)
    return made if validation is None else (made, _dataset(validation))


def _dataset(rows: Rows) -> Any:
    side, loader = Side(rows), rows.loader
    dataset = loader.tensorflow()
    dataset.columns = side.columns
    dataset.train_columns = side.train_columns
    dataset.target_column = side.target_columns
    dataset.weights_column = side.weights_column
    dataset.number_of_batches = side.num_batches
    return dataset
