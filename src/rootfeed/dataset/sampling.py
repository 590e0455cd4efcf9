"""Samplers: how many rows of which class each batch has, and which rows an epoch offers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed import kernels
from rootfeed.arguments import as_tuple, integer
from rootfeed.dataset.strata import Strata, by_frame, by_label
from rootfeed.errors import ArgumentError, EmptyDatasetError, nearest
from rootfeed.frame import Frame, open, view_of
from rootfeed.plan import BatchQuotas, Tail, balanced_quotas, plain_quotas
from rootfeed.schema import Array
from rootfeed.sources import Named, PathLike

__all__ = [
    "Balanced",
    "Batching",
    "Entries",
    "Mixed",
    "Sampler",
    "access_given",
    "balanced",
    "mixed",
    "shares_of",
]

Counts = npt.NDArray[np.int64]
Epoch = str | int


@dataclass(frozen=True)
class Batching:
    """What a loader asks of an epoch.

    Attributes
    ----------
    values : tuple
        Of the classes: those of the sampler's label, in ascending order; one None without a label.
    batch_size : int
    world_size : int
        Ranks, which all have the same quotas.
    tail : "drop", "pad" or "uneven"
    drop_last : bool
    left : int or None
        Batches of each rank that are left of an epoch which other ranks have begun. `rows` are then
        what was not used yet. None for a whole epoch.
    """

    values: tuple[Any, ...]
    batch_size: int
    world_size: int = 1
    tail: Tail = "drop"
    drop_last: bool = False
    left: int | None = None


@dataclass(frozen=True, eq=False)
class Entries:
    """The entries of a file that could make rows in an epoch.

    Attributes
    ----------
    epoch : int
    file : int
        Number of the file.
    path : str
    numbers : ndarray of int64, shape (n,)
        Their numbers in the file.
    values : dict of str to ndarray, each of shape (n,)
        The sampler's `columns`.
    key : numpy.uint64
        Of random numbers for this epoch and file.
    """

    epoch: int
    file: int
    path: str
    numbers: Counts
    values: Mapping[str, Array]
    key: np.uint64

    def random(self) -> npt.NDArray[np.float64]:
        """Return a random number in [0, 1) for each entry: the same each time, and on every machine."""
        words = np.empty(int(self.numbers[-1]) + 1 if len(self.numbers) else 0, np.uint64)
        kernels.words(self.key, words)
        found: npt.NDArray[np.float64] = (words[self.numbers] >> np.uint64(11)) / 2.0**53
        return found


class Sampler:
    """Which rows make an epoch: each row once, unless a method of a subclass says otherwise.

    ``rf.Loader(..., sampling=MySampler())``. All decisions depend on the arguments alone, so that ranks,
    workers and saved states agree; its attributes tell one sampler from another in states.

    Attributes
    ----------
    label : str or None
        Column whose values are classes, 255 at most; None for one class of all rows.
    columns : tuple of str
        Columns of one number per entry that `offers` needs. They are read once, when the loader is made.
    replacement : bool or tuple
        Draw rows with replacement, from those that are used in about the same batches; of all classes,
        or of those with the values in a tuple.

    Examples
    --------
    At most so many rows of each file in an epoch, others in each:

    >>> class AtMost(Sampler):
    ...     def __init__(self, rows):
    ...         self.rows = rows
    ...
    ...     def offers(self, entries):
    ...         return np.argsort(np.argsort(entries.random())) < self.rows
    """

    label: str | None = None
    columns: tuple[str, ...] = ()
    replacement: bool | tuple[Any, ...] = False

    def quotas(self, rows: Counts, asked: Batching) -> Counts | BatchQuotas:
        """Return how many rows of each class each batch of a rank has, shape (batches, classes).

        Rows of a class are used in turn: each once before any is used again.

        Parameters
        ----------
        rows : ndarray of int64, shape (classes,)
            That there are, for all ranks together.
        asked : Batching
            `batch_size`, `world_size`, `tail` and `drop_last`; the `values` of the classes; and `left`:
            None, or how many batches are left of an epoch that another number of ranks has begun.
        """
        rest = asked.left is not None
        return plain_quotas(
            int(rows.sum()), asked.batch_size, asked.world_size, asked.tail, asked.drop_last, rest
        )

    def offers(self, entries: Entries) -> npt.NDArray[np.bool_] | None:
        """Return which entries of a file an epoch offers, shape (n,); None for all.

        Parameters
        ----------
        entries : Entries
            `numbers` of the entries in the file, `values`, which maps `columns` to arrays, and
            `random()`, a number in [0, 1) for each; of the file its number, `file`, and `path`; `epoch`.
        """
        return None

    @property
    def selects(self) -> bool:
        """Whether epochs offer different rows, so that they may differ in length."""
        return type(self).offers is not Sampler.offers

    def classes(self, frames: Sequence[Frame]) -> Strata | None:
        """Return which class each entry belongs to; None for one class."""
        return None if self.label is None else by_label(frames, self.label)

    def __repr__(self) -> str:
        told = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(self).items()))
        return f"{type(self).__name__}({told})"


@dataclass(frozen=True)
class Balanced(Sampler):
    """Fixed shares of the values of a label in every batch: see `balanced`."""

    label: str | None = None
    shares: tuple[tuple[Any, float], ...] | None = None
    epoch: Epoch = "shortest"
    replacement: bool = False

    def quotas(self, rows: Counts, asked: Batching) -> BatchQuotas:
        """Return the shares of each batch in rows."""
        shares = shares_of(self, asked.values)
        if asked.left is None:
            self._check(shares, rows, asked.values)
        epoch = self.epoch
        if not isinstance(epoch, str) and asked.left is not None:
            epoch = asked.left
        quotas = balanced_quotas(rows, shares, asked.batch_size, asked.world_size, epoch)
        if len(quotas.counts) == 0 and asked.left is None:
            one = balanced_quotas(rows, shares, asked.batch_size, asked.world_size, 1)
            raise EmptyDatasetError(self._too_few(rows, one.taken(1, asked.world_size), asked))
        return quotas

    def classes(self, frames: Sequence[Frame]) -> Strata:
        """Return the values of the label, or frames."""
        if self.label is not None:
            return by_label(frames, self.label)
        entries = [index.entries for frame in frames for index in view_of(frame).index(())]
        return by_frame([len(frame.files) for frame in frames], entries)

    def _check(self, shares: Sequence[float], rows: Counts, values: Sequence[Any]) -> None:
        for value, share, count in zip(values, shares, rows.tolist(), strict=True):
            if share > 0 and count == 0:
                raise EmptyDatasetError(
                    f"{self._class(value)} is to be {share:.3g} of every batch, and has no rows here. "
                    "Loosen the cuts, or set its share to 0."
                )

    def _too_few(self, rows: Counts, needed: Counts, asked: Batching) -> str:
        """Return which classes have too few rows for the first batch of each rank."""
        lacking = [
            f"{self._class(value)} has {have} rows, and {need} are needed"
            for value, have, need in zip(asked.values, rows, needed, strict=True)
            if have < need
        ]
        ranks = f" on each of {asked.world_size} ranks" if asked.world_size > 1 else ""
        return (
            f"the rows of a class do not suffice for one batch of {asked.batch_size}{ranks}: "
            f'{"; ".join(lacking)}. Choose smaller batches, other shares, or epoch="longest".'
        )

    def _class(self, value: Any) -> str:
        return f"frame {value}" if self.label is None else f"class {value!r}"


@dataclass(frozen=True)
class Mixed:
    """Fixed shares of several frames in every batch: see `mixed`."""

    frames: tuple[Frame, ...]
    sampling: Balanced


def balanced(
    label: str,
    shares: Mapping[Any, float] | None = None,
    *,
    epoch: Epoch = "shortest",
    replacement: bool = False,
) -> Balanced:
    """Ask for the same number of rows of each class in every batch, or for given shares of them.

    ``rf.Loader(frame, ..., sampling=rf.balanced("label"))``. A share of a batch that is no whole number
    of rows is rounded, so that after any number of batches each class has its share to within two rows.

    Parameters
    ----------
    label : str
        Column whose values are the classes, 255 at most: numbers, or text. It is read once, when the
        loader is made.
    shares : mapping of value to float, optional
        Share of each class, ``{0: 0.9, 1: 0.1}``; they are divided by their sum. Equal ones if left
        out.
    epoch : "shortest", "longest" or int
        An epoch ends when the first class is used up (each row is used at most once, other rows in
        the next epoch), or when the last one is (rows of the others are used again, each as often as
        any other to within two times), or after so many batches.
    replacement : bool
        Draw each row independently of those before it. Rows that are not kept in memory are drawn from
        those that are used in about the same batches.
    """
    if not isinstance(label, str) or not label:
        raise ArgumentError(f"balanced takes the name of a column, got {label!r}.")
    if shares is not None and not isinstance(shares, Mapping):
        raise ArgumentError(f"shares must be a mapping such as {{0: 0.9, 1: 0.1}}, got {shares!r}.")
    chosen = None if shares is None else tuple((key, _share(key, each)) for key, each in shares.items())
    return Balanced(label, chosen, _epoch(epoch), bool(replacement))


def mixed(
    frames: Sequence[Frame | Named],
    shares: Sequence[float] | None = None,
    *,
    epoch: Epoch = "shortest",
    replacement: bool = False,
    fill_null: Any = None,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    cache: PathLike | None = None,
    cache_size: int | float | str | None = None,
) -> Mixed:
    """Ask for fixed shares of several frames in every batch.

    ``rf.Loader(rf.mixed([signal, ttbar, zjets], shares=[0.5, 0.3, 0.2]), ...)``.

    Parameters
    ----------
    frames : sequence of Frame, or of what `rootfeed.open` takes
        ``["signal/*.root:events", "ttbar/*.root:events"]``, for example.
    shares : sequence of float, optional
        One for each frame; they are divided by their sum. Equal ones if left out.
    epoch, replacement
        See `balanced`.
    fill_null, storage_options, timeout, cache, cache_size : optional
        How files are opened, where paths are given: see `rootfeed.open`.
    """
    chosen = as_tuple(frames)
    access = access_given(
        chosen,
        fill_null=fill_null,
        storage_options=storage_options,
        timeout=timeout,
        cache=cache,
        cache_size=cache_size,
    )
    wanted = as_tuple([1.0] * len(chosen) if shares is None else shares)
    given = [_share(number, share) for number, share in enumerate(wanted)]
    if len(given) != len(chosen):
        raise ArgumentError(
            f"mixed got {len(chosen)} frames and {len(given)} shares: give one for each."
        )
    sampling = Balanced(None, tuple(enumerate(given)), _epoch(epoch), bool(replacement))
    return Mixed(
        tuple(frame if isinstance(frame, Frame) else open(frame, **access) for frame in chosen), sampling
    )


def access_given(frames: Iterable[Any], **access: Any) -> dict[str, Any]:
    """Return those options of `rootfeed.open` that are given.

    Raises
    ------
    ArgumentError
        Where all frames are open already.
    """
    given = {name: value for name, value in access.items() if value is not None}
    if given and all(isinstance(frame, Frame) for frame in frames):
        raise ArgumentError(
            f"{' and '.join(given)} tell how files are opened, and these frames are open already: give "
            "them to rootfeed.open."
        )
    return given


def _share(value: Any, share: Any) -> float:
    if isinstance(share, bool) or not isinstance(share, Real):
        raise ArgumentError(f"the share of {value!r} must be a number, got {share!r}.")
    return float(share)


def _epoch(epoch: Epoch) -> Epoch:
    if epoch in ("shortest", "longest"):
        return epoch
    try:
        return integer("epoch", epoch, least=1)
    except ArgumentError:
        raise ArgumentError(
            f'epoch must be "shortest", "longest" or a number of batches, got {epoch!r}.'
        ) from None


def shares_of(sampling: Balanced, values: Sequence[Any]) -> list[float]:
    """Return the share of each class, in the order of its values; their sum is 1.

    Raises
    ------
    ArgumentError
        Where classes and shares do not match, or a share is no number of at least 0.
    """
    given = dict(sampling.shares) if sampling.shares is not None else dict.fromkeys(values, 1.0)
    for value in values:
        if value not in given:
            raise ArgumentError(
                f"{sampling.label!r} has the value {value!r}, for which shares has none. "
                f"Give one for each of {list(values)}; 0 leaves a class out."
            )
    for value, share in given.items():
        if value not in values:
            raise ArgumentError(
                f"shares names the class {value!r}, which {sampling.label!r} never is here. "
                f"{nearest(str(value), list(map(str, values)))}"
            )
        if not (share >= 0 and math.isfinite(share)):
            raise ArgumentError(f"the share of class {value!r} must be at least 0, got {share}.")
    total = sum(given.values())
    if total <= 0:
        raise ArgumentError("shares must not all be 0.")
    return [given[value] / total for value in values]
