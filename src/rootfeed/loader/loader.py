"""Batches of a dataset, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.formats import Batch, Convert, to_numpy, to_torch
from rootfeed.frame import Frame
from rootfeed.loader.batches import names
from rootfeed.loader.dataset import build
from rootfeed.loader.options import as_tuple, options
from rootfeed.loader.reader import Reader
from rootfeed.loader.structure import Features, layout
from rootfeed.plan import Sieve, needed_bytes

__all__ = ["Batches", "Loader"]


class Loader:
    """Shuffled batches straight from ROOT files.

    Iterating gives an epoch: each entry once, in a new order each time. A batch is ``x``, ``(x, y)``
    with a target, ``(x, y, w)`` with a target and weights: NumPy arrays of shape (n, columns),
    C-contiguous, which belong to the caller. `torch` gives tensors instead.

    Parameters
    ----------
    frames : Frame or sequence of Frame
        Several frames are one dataset; columns are matched by name.
    batch_size : int
        Rows of a batch. Only an epoch's last batch can be shorter.
    features : str, sequence of str, or mapping, optional
        Columns of ``x``. None means every numeric column that is neither target nor weight. A mapping
        such as ``{"event": ["met", "ht"], "jets": rootfeed.padded(["Jet_pt", "Jet_eta"], length=16)}``
        makes ``x`` a dict of arrays: see `rootfeed.padded`, `ragged` and `flat`.
    target : str or sequence of str, optional
        Columns of ``y``.
    weights : str, optional
        Column of ``w``.
    shuffle : bool
        False gives the order of the files.
    seed : int, optional
        Same seed, same batches, whatever the number of threads; the sizes of chunks and blocks, which
        follow from `memory`, must be the same too. None draws one, readable as `seed`.
    memory : str or int
        Bytes that the loader may hold, such as ``"1 GB"``. A dataset that fits is read once and
        kept. ``"auto"`` is a quarter of the free memory, 4 GB at most. Iterators that run at the
        same time each hold as much; of a page that exceeds the budget, one comes on top. How long the
        vectors are that definitions make is not known beforehand: long ones may exceed the budget.
    drop_last : bool
        Leave out the last batch of an epoch if it is shorter than the others.
    dtype, target_dtype : dtype-like
        Of ``x`` and ``w``, and of ``y``. Values that a dtype cannot hold are counted and reported as a
        `rootfeed.errors.PrecisionWarning`. With an integer `dtype`, ``w`` is float32.
    threads : int, optional
        Threads that read and decode; the number of available processors, 8 at most.
    chunk_entries, block_entries : int, optional
        Fix by hand how many rows are mixed in memory, and how many consecutive entries are read
        together. `chunk_entries` takes the place of `memory`.

    Raises
    ------
    ArgumentError
        Where an argument cannot be meant.
    MissingColumnError, UnsupportedColumnError
        Where a column is missing in a file, or is no number per entry.
    EmptyDatasetError
        Where there are no entries.
    DamagedFileError
        Where a file's metadata cannot be read; while iterating, where a page is damaged.

    Notes
    -----
    Making a loader reads each file's metadata once (kept by the frame) and no page.

    Examples
    --------
    >>> import rootfeed as rf
    >>> loader = rf.Loader(
    ...     rf.open("data/*.root:events"), batch_size=1024, features=["pt", "eta"], target="label"
    ... )  # doctest: +SKIP
    >>> for x, y in loader:
    ...     ...  # doctest: +SKIP
    """

    def __init__(
        self,
        frames: Frame | Sequence[Frame],
        batch_size: int = 1024,
        features: Features | None = None,
        target: str | Iterable[str] | None = None,
        weights: str | None = None,
        *,
        shuffle: bool = True,
        seed: int | None = None,
        memory: int | float | str = "auto",
        drop_last: bool = False,
        dtype: npt.DTypeLike = "float32",
        target_dtype: npt.DTypeLike = "float32",
        threads: int | None = None,
        chunk_entries: int | None = None,
        block_entries: int | None = None,
    ) -> None:
        self._options = options(
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            memory=memory,
            drop_last=drop_last,
            threads=threads,
            chunk_entries=chunk_entries,
            block_entries=block_entries,
        )
        self._frames = _frames(frames)
        self._layout = layout(self._frames, features, target, weights, dtype, target_dtype)
        self._settle(Sieve(), None, self._options.budget_bytes)

    def _settle(
        self,
        sieve: Sieve,
        spans: Sequence[tuple[int, int, int]] | None,
        budget_bytes: int,
        keep: bool = False,
    ) -> None:
        """Fix the rows of this loader, and everything that follows from them."""
        self._sieve = sieve
        self._spans = spans
        self._budget_bytes = budget_bytes
        self._keep = keep
        self._epoch = 0
        dataset, sizes, threads = build(
            self._frames, self._layout, sieve, spans, self._options, budget_bytes, keep
        )
        self._reader = Reader(dataset, sizes, self._options, threads)

    def __getstate__(self) -> dict[str, Any]:
        names = (
            "_options",
            "_frames",
            "_layout",
            "_sieve",
            "_spans",
            "_budget_bytes",
            "_keep",
            "_epoch",
        )
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._settle(self._sieve, self._spans, self._budget_bytes, self._keep)
        self._epoch = state["_epoch"]

    # --- what it is ---------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The seed, drawn if none was given."""
        return self._options.seed

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._options.batch_size

    @property
    def entries(self) -> int:
        """Rows of an epoch, those that `drop_last` leaves out included."""
        return int(self._reader.dataset.rows.sum())

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of ``x``, of all its inputs."""
        inputs = self._layout.parts[: self._layout.inputs]
        return tuple(name for part in inputs for name in part.columns)

    @property
    def target(self) -> tuple[str, ...]:
        """Columns of ``y``; empty without a target."""
        others = self._layout.parts[self._layout.inputs :]
        return others[0].columns if others else ()

    @property
    def weights(self) -> str | None:
        """Column of ``w``."""
        others = self._layout.parts[self._layout.inputs :]
        return others[1].columns[0] if len(others) > 1 else None

    @property
    def in_memory(self) -> bool:
        """Whether the dataset is read once and kept."""
        return self._reader.sizes.whole

    @property
    def blocks_per_chunk(self) -> float:
        """Blocks that share a chunk, on average: what mixing depends on."""
        chunks = self._reader.chunks(0)
        return len(self._reader.dataset.blocks) / max(len(chunks), 1)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        whole, rest = divmod(self.entries, self.batch_size)
        return whole + (rest > 0 and not self._options.drop_last)

    def __repr__(self) -> str:
        held = "in memory" if self.in_memory else f"{self.blocks_per_chunk:.1f} blocks a chunk"
        return (
            f"<Loader {self.entries} entries, {len(self)} batches of {self.batch_size}, {held}, "
            f"seed {self.seed}>"
        )

    # --- what it does -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Start the next epoch; batches are NumPy arrays."""
        return self._iterate(to_numpy(names(self._layout)))

    def torch(self, device: Any = None) -> Batches:
        """Return the same batches as torch tensors.

        Parameters
        ----------
        device : torch.device or str, optional
            None gives CPU tensors that share memory with the gathered arrays.

        Returns
        -------
        Batches
            Iterates over this loader: both count the same epochs.
        """
        return Batches(self, to_torch(names(self._layout), device))

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch to be started; the ones after it follow on.

        Parameters
        ----------
        epoch : int
            Not negative; a new loader starts with 0.
        """
        if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch < 0:
            raise ArgumentError(f"epoch must be a non-negative integer, got {epoch!r}.")
        self._epoch = int(epoch)

    def split(self, fraction: float) -> tuple[Loader, Loader]:
        """Divide the entries at random into a training and a test side.

        An entry's side depends on the seed, its file's identity and its number in the file: not on
        columns, batch size, or the order of files. The sides are disjoint and cover everything; of an
        unsplit dataset each file gives its fraction to the test side, to within one entry.

        Parameters
        ----------
        fraction : float
            Share of the test side, between 0 and 1.

        Returns
        -------
        tuple of Loader
            Training side, test side. They share the memory of this loader in proportion.

        Raises
        ------
        ArgumentError
            Where the fraction is out of range.
        EmptyDatasetError
            Where a side would be empty.
        """
        if not isinstance(fraction, int | float | np.floating) or not 0 < fraction < 1:
            raise ArgumentError(f"fraction must lie between 0 and 1, got {fraction!r}.")
        remaining, chosen = self._sieve.divide(self.seed, float(fraction))
        try:
            return (
                self._part(remaining, self._spans, 1 - fraction),
                self._part(chosen, self._spans, fraction),
            )
        except EmptyDatasetError:
            raise EmptyDatasetError(
                f"split({fraction}) of {self.entries} entries leaves a side empty. "
                "Choose another fraction."
            ) from None

    def split_in_order(self, fraction: float) -> tuple[Loader, Loader]:
        """Divide the entries at one place: the last ones, in the order of the files, are the test side.

        Parameters
        ----------
        fraction : float
            Share of the test side: ``int(fraction * entries)`` entries.

        Returns
        -------
        tuple of Loader
        """
        if not isinstance(fraction, int | float | np.floating) or not 0 < fraction < 1:
            raise ArgumentError(f"fraction must lie between 0 and 1, got {fraction!r}.")
        if self._sieve:
            raise ArgumentError("a random split cannot be split in order.")
        rest = self.entries - int(fraction * self.entries)
        train: list[tuple[int, int, int]] = []
        test: list[tuple[int, int, int]] = []
        dataset = self._reader.dataset
        for block, rows in zip(dataset.blocks, dataset.rows.tolist(), strict=True):
            middle = block.stop
            if rest < rows:
                positions = dataset.positions(block)
                middle = block.start + (rest if positions is None else int(positions[rest]))
            rest = max(rest - rows, 0)
            train += [(block.file, block.start, middle)] if block.start < middle else []
            test += [(block.file, middle, block.stop)] if middle < block.stop else []
        if not train or not test:
            raise EmptyDatasetError(
                f"split_in_order({fraction}) of {self.entries} entries leaves a side empty. "
                "Choose another fraction."
            )
        return (
            self._part(self._sieve, train, 1 - fraction),
            self._part(self._sieve, test, fraction),
        )

    def _part(self, sieve: Sieve, spans: Sequence[tuple[int, int, int]] | None, share: float) -> Loader:
        part = object.__new__(type(self))
        part._options, part._frames, part._layout = self._options, self._frames, self._layout
        budget = math.ceil(self._budget_bytes * share)
        if not self.in_memory:
            # The smaller side gets what it cannot do without, at the cost of the other one.
            needed = needed_bytes(self._layout.row_bytes, self.batch_size)
            least = min(needed, self._budget_bytes // 2)
            budget = min(max(budget, least), self._budget_bytes - least)
        part._settle(sieve, spans, budget, keep=self.in_memory)
        return part

    def close(self) -> None:
        """Give the memory back. Iterating again reads the files again."""
        self._reader.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _iterate(self, convert: Convert) -> Iterator[Batch]:
        epoch = self._epoch
        self._epoch += 1
        return self._converted(epoch, convert)

    def _converted(self, epoch: int, convert: Convert) -> Iterator[Batch]:
        with closing(self._reader.epoch(epoch)) as batches:
            for arrays in batches:
                yield convert(arrays)


def _frames(frames: Frame | Sequence[Frame]) -> tuple[Frame, ...]:
    chosen = as_tuple(frames)
    for frame in chosen:
        if not isinstance(frame, Frame):
            raise ArgumentError(
                f"a loader takes frames, got {frame!r}. Make one: rootfeed.open({frame!r})."
            )
    if not chosen:
        raise ArgumentError("a loader needs at least one frame, got none.")
    return chosen


class Batches:
    """A loader whose batches are made for a framework; it counts the loader's own epochs."""

    def __init__(self, loader: Loader, convert: Convert) -> None:
        self.loader = loader
        self._convert = convert

    def __iter__(self) -> Iterator[Batch]:
        """Start the loader's next epoch."""
        return self.loader._iterate(self._convert)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch: see `Loader.set_epoch`."""
        self.loader.set_epoch(epoch)

    def split(self, fraction: float) -> tuple[Batches, Batches]:
        """Divide the entries: see `Loader.split`."""
        train, test = self.loader.split(fraction)
        return Batches(train, self._convert), Batches(test, self._convert)

    def __repr__(self) -> str:
        return f"<Batches of {self.loader!r}>"
