"""How often rows are drawn, if not each of them once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from rootfeed.errors import ArgumentError, nearest
from rootfeed.frame import Frame
from rootfeed.loader.options import as_tuple, integer

__all__ = ["Balanced", "Mixed", "balanced", "mixed", "shares_of"]

Epoch = str | int


@dataclass(frozen=True)
class Balanced:
    """Fixed shares of the values of a label in every batch: see `balanced`."""

    label: str | None
    shares: tuple[tuple[Any, float], ...] | None
    epoch: Epoch
    replacement: bool


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
        the chunk that is.
    """
    if not isinstance(label, str) or not label:
        raise ArgumentError(f"balanced takes the name of a column, got {label!r}.")
    if shares is not None and not isinstance(shares, Mapping):
        raise ArgumentError(f"shares must be a mapping such as {{0: 0.9, 1: 0.1}}, got {shares!r}.")
    chosen = None if shares is None else tuple((key, _share(key, each)) for key, each in shares.items())
    return Balanced(label, chosen, _epoch(epoch), bool(replacement))


def mixed(
    frames: Sequence[Frame],
    shares: Sequence[float] | None = None,
    *,
    epoch: Epoch = "shortest",
    replacement: bool = False,
) -> Mixed:
    """Ask for fixed shares of several frames in every batch.

    ``rf.Loader(rf.mixed([signal, ttbar, zjets], shares=[0.5, 0.3, 0.2]), ...)``.

    Parameters
    ----------
    frames : sequence of Frame
    shares : sequence of float, optional
        One for each frame; they are divided by their sum. Equal ones if left out.
    epoch, replacement
        See `balanced`.
    """
    chosen = as_tuple(frames)
    wanted = as_tuple([1.0] * len(chosen) if shares is None else shares)
    given = [_share(number, share) for number, share in enumerate(wanted)]
    if len(given) != len(chosen):
        raise ArgumentError(
            f"mixed got {len(chosen)} frames and {len(given)} shares: give one for each."
        )
    sampling = Balanced(None, tuple(enumerate(given)), _epoch(epoch), bool(replacement))
    return Mixed(chosen, sampling)


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
