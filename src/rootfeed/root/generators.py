"""ROOT's functions that make generators of batches, up to ROOT 6.38."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rootfeed.arguments import as_tuple
from rootfeed.dataset import Flat, Mixed, flat, mixed
from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch
from rootfeed.frame import Frame
from rootfeed.loader import Loader, split_in_order
from rootfeed.root.frame import RDataFrame, names_of

__all__ = ["CreateNumPyGenerators", "CreatePyTorchGenerators", "Generator"]

_EVERYTHING = 1 << 50


class Generator:
    """Re-iterable batches of one side of a dataset, in ROOT's words.

    Attributes
    ----------
    columns : list of str
        Features, target and weights, in the order in which they were given.
    train_columns, target_columns : list of str
    weights_column : str
        Empty without weights.
    number_of_batches : int
    last_batch_no_of_rows : int
        Rows left over by whole batches, whether they are dropped or not; 0 where entries are resampled.
    """

    def __init__(self, loader: Loader, batches: Iterable[Batch], given: Sequence[str]) -> None:
        self._batches = batches
        self.train_columns = list(loader.features)
        self.target_columns = list(loader.target)
        self.weights_column = loader.weights or ""
        used = [*self.train_columns, *self.target_columns, *filter(None, [self.weights_column])]
        in_order = [name for name in given if name in used]
        self.columns = [*in_order, *(name for name in used if name not in in_order)]
        self.number_of_batches = len(loader)
        rows = loader.num_rows if loader.sampling is None else 0
        self.last_batch_no_of_rows = rows % loader.batch_size

    def __iter__(self) -> Iterator[Batch]:
        """Start the next epoch."""
        return iter(self._batches)

    def __len__(self) -> int:
        """Return the number of batches."""
        return self.number_of_batches


def CreateNumPyGenerators(
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
) -> tuple[Generator, Generator | None]:
    """Return generators of NumPy batches for training and validation.

    Parameters
    ----------
    rdataframes : RDataFrame or sequence of RDataFrame
    batch_size : int
    chunk_size, block_size : int
        Entries that are mixed in memory, and consecutive entries that are read together: as many as
        suit the files, if left out.
    columns : sequence of str
        Features, target and weights; all numeric columns if empty.
    max_vec_sizes, vec_padding
        For each vector column the number of elements that become features (``name_0``, ``name_1``,
        ...), and what shorter vectors are filled up with.
    target : str or sequence of str
    weights : str
        Needs a target.
    validation_split : float
        Share of the validation side; unshuffled, that side is the last entries.
    max_chunks : int
        Not supported: must be 0, all chunks.
    shuffle : bool
    drop_remainder : bool
        Leave out a short last batch.
    set_seed : int
        Of the orders and of the division into sides, as in ROOT. 0 draws one.
    load_eager : bool
        Keep the whole dataset in memory; `chunk_size` and `block_size` have no effect then.
    sampling_type, sampling_ratio, replacement
        ``"undersampling"`` or ``"oversampling"`` of two frames: every batch has entries of both, the
        smaller one `sampling_ratio` times as many as the other. An epoch ends when the first of them
        is used up, or when all of both was used. Validation entries are not resampled.

    Returns
    -------
    tuple of Generator
        The second is None without a validation split.

    Raises
    ------
    ArgumentError
        Also a ValueError, for the arguments that ROOT refuses, and for `max_chunks`.
    """
    return _generators(**_arguments(locals()))


def CreatePyTorchGenerators(
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
) -> Generator | tuple[Generator, Generator]:
    """Return generators of torch batches: see `CreateNumPyGenerators`.

    Returns
    -------
    Generator or tuple of Generator
        Training and validation; training alone without a validation split.
    """
    train, validation = _generators(**_arguments(locals()), torch=True)
    return train if validation is None else (train, validation)


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is not supported; return the rest."""
    if given.pop("max_chunks") != 0:
        raise ArgumentError("max_chunks must be left at 0: an epoch has all its chunks.")
    return given


def _sampled(
    frames: Sequence[RDataFrame], sampling_type: str, sampling_ratio: float, replacement: bool
) -> Sequence[Frame] | Mixed:
    """Return the frames, or their mixture in which minority / majority is a given ratio."""
    chosen = [frame.frame for frame in frames]
    if not sampling_type:
        return chosen
    if sampling_type not in ("undersampling", "oversampling"):
        raise ArgumentError(
            f'sampling_type must be "", "undersampling" or "oversampling", got {sampling_type!r}.'
        )
    if len(chosen) != 2:
        raise ArgumentError(f"{sampling_type} takes two frames, got {len(chosen)}. Use rootfeed.mixed.")
    if not 0 < sampling_ratio <= 1:
        raise ArgumentError(f"sampling_ratio must lie in (0, 1], got {sampling_ratio!r}.")
    minority = 0 if chosen[0].count() <= chosen[1].count() else 1
    shares = [1.0, 1.0]
    shares[minority] = sampling_ratio
    epoch = "shortest" if sampling_type == "undersampling" else "longest"
    return mixed(chosen, shares, epoch=epoch, replacement=replacement)


def _generators(
    *,
    rdataframes: RDataFrame | Sequence[RDataFrame],
    batch_size: int,
    chunk_size: int,
    block_size: int | None,
    columns: Sequence[str],
    max_vec_sizes: Mapping[str, int] | None,
    vec_padding: float,
    target: str | Sequence[str],
    weights: str,
    validation_split: float,
    shuffle: bool,
    drop_remainder: bool,
    set_seed: int,
    load_eager: bool,
    sampling_type: str,
    sampling_ratio: float,
    replacement: bool,
    torch: bool = False,
) -> tuple[Generator, Generator | None]:
    frames = as_tuple(rdataframes)
    for frame in frames:
        if not isinstance(frame, RDataFrame):
            raise ArgumentError(
                f"rdataframes must be RDataFrame objects of rootfeed.root, got {frame!r}."
            )
    targets = names_of(target)
    if weights and not targets:
        raise ArgumentError("weights need a target: give target=...")
    if not 0.0 <= validation_split < 1.0:
        raise ArgumentError(f"validation_split must lie in [0, 1), got {validation_split!r}.")
    if chunk_size < batch_size:
        raise ArgumentError(
            f"chunk_size must not be smaller than batch_size, got {chunk_size} and {batch_size}."
        )
    sizes = dict(max_vec_sizes or {})
    given = names_of(columns) or [*_numeric(frames[0]), *sizes]

    def used(name: str) -> str | Flat:
        return flat(name, sizes[name], vec_padding) if name in sizes else name

    features = [used(name) for name in given if name not in targets and name != weights]
    if not features:
        raise ArgumentError(f"columns={given} leave no feature beside target and weights.")
    if unused := set(sizes) - set(given):
        raise ArgumentError(f"max_vec_sizes names {sorted(unused)}, which are not among the columns.")
    types = frames[0].frame.columns
    for name in given:
        if name in types and types[name].kind == "vector" and name == weights:
            raise ArgumentError(
                f"column {name!r} holds vectors, which are no weights. Define a number from it: "
                f"Define('weight', 'Sum({name})')."
            )
        if name in types and types[name].kind == "vector" and name not in sizes:
            raise ArgumentError(
                f"column {name!r} holds vectors: give their length, max_vec_sizes={{{name!r}: n}}."
            )
    loader = Loader(
        _sampled(frames, sampling_type, sampling_ratio, replacement),
        batch_size,
        features=features,
        target=[used(name) for name in targets] or None,
        weights=weights or None,
        shuffle=shuffle,
        seed=set_seed or None,
        drop_last=drop_remainder,
        memory=_EVERYTHING if load_eager else "auto",
        chunk_entries=None if load_eager else chunk_size,
        block_entries=None if load_eager else block_size,
    )
    sides = [loader]
    if validation_split > 0:
        if shuffle:
            sides = list(loader.split(validation_split, seed=loader.seed))
        else:
            sides = list(split_in_order(loader, validation_split))
    generators = [Generator(side, side.torch() if torch else side, given) for side in sides]
    return generators[0], generators[1] if len(generators) > 1 else None


def _numeric(frame: RDataFrame) -> list[str]:
    """Return the columns that can be used, in ROOT's order."""
    columns = frame.frame.columns
    return [name for name in frame.GetColumnNames() if columns[name].kind == "scalar"]
