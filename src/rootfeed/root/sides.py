"""One side of a dataset: its rows, what ROOT tells of them, and how it is divided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from rootfeed.loader import Loader, split_exactly, varied
from rootfeed.properties import cached_property
from rootfeed.root.columns import Chosen, choose
from rootfeed.root.frame import RDataFrame
from rootfeed.root.resampling import Resampled, resampled

__all__ = ["Rows", "Side", "rows_of"]

_EVERYTHING = 1 << 50


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a side.

    Attributes
    ----------
    plain : Loader
        Of each row once, and with a short last batch.
    chosen : Chosen
        The columns.
    drop_remainder : bool
    sampling : Resampled or None
        How the rows of two frames are resampled.
    by_frame : bool
        Each frame is divided for itself, not all together.
    shuffle : bool
    """

    plain: Loader
    chosen: Chosen
    drop_remainder: bool
    sampling: Resampled | None
    by_frame: bool
    shuffle: bool

    @cached_property
    def loader(self) -> Loader:
        """The batches. What cannot be asked for is told here: before, it may be meant to be divided."""
        return varied(self.plain, self.sampling, drop_last=self.drop_remainder)

    @cached_property
    def count(self) -> int:
        """Rows of an epoch, with those of a short last batch, dropped or not."""
        if self.sampling is None:
            return self.plain.num_rows
        return varied(self.plain, self.sampling).plan().batch_rows

    def divided(self, test_size: float) -> tuple[Rows, Rows]:
        """Return the rows of two sides, of which the second is not resampled."""
        parts = split_exactly(
            self.plain,
            test_size,
            seed=self.plain.seed if self.shuffle else None,
            each_frame=self.by_frame,
            down="train" if self.shuffle and not self.by_frame else "test",
        )
        return replace(self, plain=parts.train), replace(self, plain=parts.test, sampling=None)


def rows_of(
    rdataframes: RDataFrame | Iterable[RDataFrame],
    batch_size: int,
    columns: str | Iterable[str] | None,
    max_vec_sizes: Mapping[str, int] | None,
    vec_padding: float,
    target: str | Iterable[str] | None,
    weights: str | None,
    shuffle: bool,
    drop_remainder: bool,
    set_seed: int,
    load_eager: bool,
    sampling_type: str,
    sampling_ratio: float,
    replacement: bool,
    *,
    chunk_size: int | None = None,
    block_size: int | None = None,
) -> Rows:
    """Return the rows of data frames: see `rootfeed.root.RDataLoader` for the arguments."""
    chosen = choose(rdataframes, columns, max_vec_sizes, vec_padding, target, weights)
    frames = [frame.frame for frame in chosen.frames]
    sampling = resampled(frames, sampling_type, sampling_ratio, replacement, bool(shuffle))
    plain = Loader(
        frames,
        batch_size,
        features=chosen.features,
        target=chosen.target or None,
        weights=chosen.weights or None,
        shuffle=shuffle,
        seed=set_seed or None,
        memory=_EVERYTHING if load_eager else "auto",
        chunk_entries=None if load_eager else chunk_size,
        block_entries=None if load_eager else block_size,
    )
    by_frame = bool(load_eager or sampling)
    return Rows(plain, chosen, bool(drop_remainder), sampling, by_frame, bool(shuffle))


class Side:
    """What ROOT tells of one side of a dataset."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which they were given; of vectors, each element's."""
        return list(self._rows.chosen.columns)

    @property
    def train_columns(self) -> list[str]:
        """Names of the columns of ``x``, in order."""
        return list(self._rows.plain.features)

    @property
    def feature_columns(self) -> list[str]:
        """The same: later releases of ROOT call them so."""
        return self.train_columns

    @property
    def target_columns(self) -> list[str]:
        """Names of the columns of ``y``, in order; empty without a target."""
        return list(self._rows.plain.target)

    @property
    def weights_column(self) -> str:
        """Name of the column of ``w``; empty without weights."""
        return self._rows.chosen.weights

    @property
    def num_batches(self) -> int:
        """Number of batches of an epoch."""
        return len(self._rows.loader)

    @property
    def last_batch_no_of_rows(self) -> int:
        """Rows that whole batches leave over, whether they are dropped or not."""
        return self._rows.count % self._rows.plain.batch_size
