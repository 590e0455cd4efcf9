"""Under- and oversampling of two data frames, in the numbers of rows that ROOT gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from rootfeed.dataset import Batching, Sampler, by_frame
from rootfeed.dataset.strata import Strata
from rootfeed.errors import ArgumentError
from rootfeed.frame import Frame, view_of

__all__ = ["Resampled", "resampled"]

Counts = npt.NDArray[np.int64]
Kind = Literal["undersampling", "oversampling"]


@dataclass(frozen=True)
class Resampled(Sampler):
    """Two data frames, of which one is drawn from, so much that they have a given ratio.

    Each row of the other one comes once in an epoch. The rows that are drawn differ from epoch to epoch;
    none comes twice before all have come, unless they are drawn with replacement. A batch has as many
    rows of each frame as is its share of the epoch; unshuffled, what is drawn comes first, as in ROOT.

    Attributes
    ----------
    kind : "undersampling" or "oversampling"
        Draw fewer rows of the larger frame, or more of the smaller one, than there are.
    ratio : float
        Rows of the smaller frame to those of the larger one in an epoch.
    drawn : int
        Number of the frame that is drawn from.
    shuffle : bool
    repeats : bool
        More rows of the larger frame may be drawn than there are.
    replacement : tuple of int
        The frame, if it is drawn from with replacement.
    """

    kind: Kind
    ratio: float
    drawn: int
    shuffle: bool
    repeats: bool
    replacement: tuple[int, ...]

    def classes(self, frames: Sequence[Frame]) -> Strata:
        """Return which frame each entry belongs to; what is drawn is the first class."""
        entries = [index.entries for frame in frames for index in view_of(frame).index(())]
        order = (self.drawn, 1 - self.drawn)
        return by_frame([len(frame.files) for frame in frames], entries, order)

    def quotas(self, rows: Counts, asked: Batching) -> Counts:
        """Return how many rows of each frame each batch of a rank has.

        Raises
        ------
        ArgumentError
            Where the larger frame has fewer rows than are to be drawn.
        """
        (there, kept), size, ranks = rows.tolist(), asked.batch_size, asked.world_size
        # In single precision, as in ROOT, which gives so many rows.
        ratio = np.float32(self.ratio)
        drawn = int(
            np.float32(kept) / ratio if self.kind == "undersampling" else ratio * np.float32(kept)
        )
        if asked.left is not None:
            drawn = min(drawn, max(asked.left * size * ranks - kept, 0))
        elif self.kind == "undersampling" and not self.repeats and drawn > there:
            raise ArgumentError(
                f"sampling_ratio is too low: {drawn} rows of the larger frame go with {kept} of the "
                f"smaller one, and it has {there}. Choose sampling_ratio > {kept / max(there, 1):.3g}, "
                "or replacement=True."
            )
        drawn, total = drawn // ranks, drawn // ranks + kept // ranks
        batches = total // size if asked.drop_last else -(-total // size)
        ends = np.minimum(np.arange(batches + 1) * size, total)
        if self.shuffle:
            of_drawn = (ends * drawn + total // 2) // max(total, 1)
        else:
            of_drawn = np.minimum(ends, drawn)
        return np.diff(np.stack([of_drawn, ends - of_drawn], 1), axis=0)


def resampled(
    frames: Sequence[Frame], kind: str, ratio: Any, replacement: bool, shuffle: bool
) -> Resampled | None:
    """Return how two frames are resampled; None if they are not.

    Raises
    ------
    ArgumentError
    """
    if not kind:
        return None
    if kind not in ("undersampling", "oversampling"):
        raise ArgumentError(
            f'sampling_type must be "", "undersampling" or "oversampling", got {kind!r}.'
        )
    if len(frames) != 2:
        raise ArgumentError(f"{kind} takes two frames, got {len(frames)}. Use rootfeed.mixed.")
    if not 0 < ratio < float("inf"):
        raise ArgumentError(f"sampling_ratio must be a positive number, got {ratio!r}.")
    major = 0 if frames[0].count() > frames[1].count() else 1
    drawn = major if kind == "undersampling" else 1 - major
    repeats = bool(replacement) and kind == "undersampling"
    # Unshuffled, rows are taken in turn, also with replacement.
    draws = (drawn,) if repeats and shuffle else ()
    return Resampled(cast(Kind, kind), float(ratio), drawn, shuffle, repeats, draws)
