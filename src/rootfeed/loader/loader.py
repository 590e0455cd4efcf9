"""Batches of a dataset, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, EmptyDatasetError, RootfeedError, nearest
from rootfeed.formats import Batch, Use, distributed_ranks, mapped, to_numpy, to_torch
from rootfeed.frame import Frame
from rootfeed.loader.batches import names
from rootfeed.loader.dataset import Dataset, build
from rootfeed.loader.iteration import Iteration
from rootfeed.loader.mixing import Mixing
from rootfeed.loader.options import NotFinite, as_tuple, integer, options
from rootfeed.loader.outlook import EpochPlan, explained, outlook
from rootfeed.loader.place import Place
from rootfeed.loader.reader import Reader
from rootfeed.loader.sampling import Balanced, Mixed
from rootfeed.loader.schedule import Schedule
from rootfeed.loader.sides import (
    Rule,
    Unit,
    as_columns,
    as_parts,
    checked,
    divide,
    fractions_of,
    in_order,
)
from rootfeed.loader.state import Fingerprint, Position, fingerprint, loaded, saved
from rootfeed.loader.strata import Strata, by_frame, by_label
from rootfeed.loader.structure import Columns, Features, layout
from rootfeed.loader.weights import Normalized, weighted
from rootfeed.plan import Shard, Sizes, Tail, Words, needed_bytes

if TYPE_CHECKING:
    from rootfeed.loader.torch import TorchBatches

__all__ = ["Loader"]


class Loader:
    """Shuffled batches straight from ROOT files.

    Iterating gives an epoch: each entry once, in a new order each time. A batch is ``x``, ``(x, y)``
    with a target, ``(x, y, w)`` with a target and weights: NumPy arrays of shape (n, columns),
    C-contiguous, which belong to the caller. `torch` gives tensors instead.

    Parameters
    ----------
    frames : Frame, sequence of Frame, or what `rootfeed.mixed` returns
        Several frames are one dataset; columns are matched by name.
    batch_size : int
        Rows of a batch. Only an epoch's last batch can be shorter.
    features : str, sequence of str, or mapping, optional
        Columns of ``x``. None means every numeric column that is neither target nor weight. A mapping
        such as ``{"event": ["met", "ht"], "jets": rootfeed.padded(["Jet_pt", "Jet_eta"], length=16)}``
        makes ``x`` a dict of arrays: see `rootfeed.padded`, `ragged`, `flat` and `array`.
    target : str, what `rootfeed.flat` returns, or sequence of these, optional
        Columns of ``y``.
    weights : str or what `rootfeed.normalized` returns, optional
        Column of ``w``, or an expression; the name of a column is that column, whatever it may mean as
        an expression. For weights that are NaN or infinite see `nonfinite`.
    sampling : what `rootfeed.balanced` returns, optional
        Fixed shares of classes in every batch. None uses each entry once in an epoch.
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
    rank, world_size : int, optional
        This process, and how many share an epoch: each reads its own blocks, and gets as many batches
        as the others. Taken from torch.distributed where that is initialised; else 0 and 1.
    tail : "drop", "pad" or "uneven"
        What becomes of rows that do not go evenly into the ranks, fewer than there are ranks: left out,
        made up for by repeated ones (the last rows of a rank's last batch: see `repeats`), or more
        rows, and perhaps a batch more, for the first ranks.
    nonfinite : "warn", "error" or "keep"
        What becomes of values that are NaN or infinite: they are counted and reported once, by column,
        as a `rootfeed.errors.NotFiniteWarning`, or as a `rootfeed.errors.WeightWarning` where they are
        weights; they raise `rootfeed.errors.NotFiniteError` in the place of the first batch near them;
        or nothing is said. What fills up shorter vectors does not count.

    Raises
    ------
    ArgumentError
        Where an argument cannot be meant, or an epoch would have no batch.
    MissingColumnError, UnsupportedColumnError
        Where a column is missing in a file, or is no number per entry.
    EmptyDatasetError
        Where there are no entries, or too few of a class.
    DamagedFileError
        Where a file's metadata cannot be read; while iterating, where a page is damaged.

    Notes
    -----
    Making a loader reads each file's metadata once (kept by the frame). Pages are read only for cuts,
    for ragged inputs, and for the labels of `sampling` and of `rootfeed.normalized`: once.

    Examples
    --------
    >>> import rootfeed as rf
    >>> loader = rf.Loader(
    ...     rf.open("data/*.root:events"), batch_size=1024, features=["pt", "eta"], target="label"
    ... )  # doctest: +SKIP
    >>> for x, y in loader:
    ...     ...  # doctest: +SKIP
    """

    _ranks_elsewhere = (0, 1)

    def __init__(
        self,
        frames: Frame | Sequence[Frame] | Mixed,
        batch_size: int = 1024,
        features: Features | None = None,
        target: Columns | None = None,
        weights: str | Normalized | None = None,
        *,
        sampling: Balanced | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        memory: int | float | str = "auto",
        drop_last: bool = False,
        dtype: npt.DTypeLike = "float32",
        target_dtype: npt.DTypeLike = "float32",
        threads: int | None = None,
        chunk_entries: int | None = None,
        block_entries: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        tail: Tail = "drop",
        nonfinite: NotFinite = "warn",
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
            rank=rank,
            world_size=world_size,
            tail=tail,
            nonfinite=nonfinite,
        )
        self._frames, self._sampling = _frames(frames, sampling)
        self._frames, weight, made_from = weighted(self._frames, weights)
        self._layout = layout(
            self._frames, features, target, weight, dtype, target_dtype, others=made_from
        )
        self._strata = self._classes()
        self._settle(None, (), self._options.budget_bytes)
        self._told = self._mixing.warn()

    def _classes(self) -> Strata | None:
        if self._sampling is None:
            return None
        if self._sampling.label is not None:
            return by_label(self._frames, self._sampling.label)
        entries = [index.entries for frame in self._frames for index in frame.index(())]
        return by_frame([len(frame.files) for frame in self._frames], entries)

    def _settle(
        self,
        side: Sequence[Words] | None,
        history: tuple[str, ...],
        budget_bytes: int,
        keep: bool = False,
        fixed: Sizes | None = None,
    ) -> None:
        """Fix the rows of this loader, and everything that follows from them."""
        self._side = side
        self._history = history
        self._budget_bytes = budget_bytes
        self._keep = keep
        self._place = Place()
        self._prints: Fingerprint | None = None
        dataset, sizes, threads, stock = build(
            self._frames, self._layout, side, self._strata, self._options, budget_bytes, keep, fixed
        )
        self._schedule = Schedule(dataset, sizes, self._options, self._sampling)
        self._schedule.batches(self._shard())  # an epoch of no batches is an error, and now
        self._mixing = Mixing(stock, dataset, sizes, self._options, budget_bytes)
        self._threads = threads
        self._reader = Reader(self._schedule, self._options, threads)

    def __getstate__(self) -> dict[str, Any]:
        state = {
            name: value
            for name, value in vars(self).items()
            if name not in ("_schedule", "_mixing", "_reader")
        }
        state["_sizes"] = self._schedule.sizes
        state["_place"] = copy(self._place)
        # A worker of this rank has no torch.distributed; another rank has its own.
        state["_ranks_elsewhere"] = distributed_ranks() or self._ranks_elsewhere
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        sizes = state.pop("_sizes")
        self.__dict__.update(state)
        self._settle(self._side, self._history, self._budget_bytes, self._keep, sizes)
        self._place = state["_place"]

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
        """Entries of this side that pass the cuts, on all ranks together.

        An epoch without `sampling` has as many rows, those that `drop_last` leaves out included. With
        `sampling` it has fewer, or repeats some: `plan` tells its rows.
        """
        return self._schedule.dataset.rows

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
    def sampling(self) -> Balanced | None:
        """What `rootfeed.balanced` or `rootfeed.mixed` asked for; None uses each entry once."""
        return self._sampling

    @property
    def in_memory(self) -> bool:
        """Whether the dataset is read once and kept."""
        return self._schedule.sizes.whole

    @property
    def blocks_per_chunk(self) -> float:
        """Blocks that share a chunk, as an average row sees them: what mixing depends on."""
        return self._mixing.blocks

    @property
    def repeats(self) -> int:
        """Rows at the end of this rank's last batch that repeat others: see `tail`."""
        shard = self._shard()
        return self._schedule.stage(0, (), shard.world_size).demand.repeats(shard)

    def plan(self, epoch: int = 0) -> EpochPlan:
        """Return what an epoch will be on this rank, before it runs: it reads nothing.

        Printed, it is a table of batches, chunks, blocks, how well they mix, reads and expected memory.
        """
        number = integer("epoch", epoch, least=0)
        return outlook(self._schedule, self._mixing, self._threads, number, self._shard())

    def explain(self) -> str:
        """Return why chunks and blocks have their sizes, and how well rows mix in them."""
        return explained(self._schedule, self._mixing, self._threads)

    def __len__(self) -> int:
        """Return the number of batches of an epoch, on this rank."""
        return self._schedule.batches(self._shard())

    def __repr__(self) -> str:
        held = "in memory" if self.in_memory else f"{self.blocks_per_chunk:.1f} blocks a chunk"
        resampled = "" if self.sampling is None else f"{self.plan().rows} rows in "
        return (
            f"<Loader {self.entries} entries, {resampled}{len(self)} batches of {self.batch_size}, "
            f"{held}, seed {self.seed}>"
        )

    # --- what it does -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Start the next epoch, or go on where a loaded state ends; batches are NumPy arrays."""
        return self.start(mapped(to_numpy(names(self._layout))))

    def torch(self, device: Any = None, *, pin_memory: bool = False, prefetch: int = 2) -> TorchBatches:
        """Return the same batches as torch tensors.

        Parameters
        ----------
        device : torch.device or str, optional
            None gives CPU tensors that share memory with the gathered arrays.
        pin_memory : bool
            Give CPU tensors in page-locked memory, which costs a copy.
        prefetch : int
            On a CUDA device, batches that are copied ahead, on a stream of their own, while the
            ones before are used. 0 copies each when it is asked for.

        Returns
        -------
        TorchBatches
            A `torch.utils.data.IterableDataset` over this loader: both count the same epochs. Inside
            a DataLoader it takes ``batch_size=None``; its workers share the batches.
        """
        return self.torch_with(to_torch(names(self._layout), device, pin_memory, prefetch))

    def torch_with(self, use: Use) -> TorchBatches:
        """Return the batches that a function of `rootfeed.formats` makes."""
        from rootfeed.loader.torch import TorchBatches  # which imports torch

        self._place.share()
        return TorchBatches(self, use)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch to be started; the ones after it follow on.

        Where a loaded state is in the middle of that epoch, it goes on there.

        Parameters
        ----------
        epoch : int
            Not negative; a new loader starts with 0.
        """
        self._place.choose(_epoch(epoch))

    def follow(self, epoch: int) -> bool:
        """Take a trainer's epoch for the next one, unless somebody has chosen another.

        For trainers that resume at an epoch's beginning, and do not say so to what they train on. Where
        `set_epoch` or `load_state_dict` was called, nothing changes. Until `count_on` is called, each
        iterator of workers of a DataLoader begins with this epoch: a trainer may make several.

        Parameters
        ----------
        epoch : int
            Not negative.

        Returns
        -------
        bool
            False where workers may have begun with another epoch before: they go on with it, so that
            the trainer must make a new iterator.
        """
        return self._place.follow(_epoch(epoch))

    def count_on(self) -> None:
        """Have the next iterator begin the epoch after the one that `follow` gave."""
        self._place.count_on()

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is, behind the last batch that was received, as plain data.

        A kilobyte or two that JSON can hold; see `load_state_dict`. After an epoch's last batch
        it is the beginning of the next epoch.

        Raises
        ------
        StateError
            Where workers of a DataLoader have gone on since: what they were given, and what was
            received of it, is not known here.
        """
        return saved(self._place.now(), self._schedule.sizes, self._fingerprint())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state ends: the next iteration gives the rest of that epoch.

        Its batches are the same to the last bit, whatever the number of threads. With another number
        of ranks, the rest of the epoch is dealt anew: every entry once. The sizes of chunks and blocks
        are those of the state.

        Parameters
        ----------
        state : mapping
            What `state_dict` of an equal loader returned, on any rank.

        Raises
        ------
        StateError
            Where files, columns, cuts, seed, batch size or other options differ; it says which.

        Notes
        -----
        Costs the reading of what shares a chunk with the next batch, and with rows that are
        carried into it. With another number of ranks, the plan of the epoch so far is gone through
        again, without reading.
        """
        found = loaded(state, self._fingerprint())
        sizes = self._schedule.sizes
        fixed = replace(
            sizes,
            whole=found.whole,
            chunk_rows=found.chunk_rows,
            block_entries=found.block_entries,
            exact=found.exact,
            regions=found.regions,
        )
        if fixed != sizes:
            place = self._place
            self._reader.close()
            self._settle(self._side, self._history, self._budget_bytes, self._keep, fixed)
            self._place = place
        self._place.go_to(found.position)

    def _fingerprint(self) -> Fingerprint:
        if self._prints is None:
            steps = [frame.steps for frame in self._frames]
            self._prints = fingerprint(
                self._schedule.dataset, self._options, self._history, self._sampling, steps
            )
        return self._prints

    # --- splits -------------------------------------------------------------------------------

    def split(
        self,
        fraction: float | None = None,
        *,
        by: str | Iterable[str] | None = None,
        where: str | None = None,
        unit: Unit = "entry",
        stratify: str | None = None,
        resample: str | Iterable[str] | None = None,
        **fractions: float,
    ) -> Any:
        """Divide the entries into parts: ``split(0.2)``, or ``split(train=0.7, val=0.15, test=0.15)``.

        An entry's part depends on the seed, its file's identity and its number in the file: not on
        columns, cuts, batch size, or the order of files. Parts are disjoint and cover everything, also
        the parts of a part; each file gives its fractions to within one entry.

        Parameters
        ----------
        fraction : float, optional
            Share of the second of two parts, between 0 and 1.
        by : str or iterable of str, optional
            Columns of integers, such as event numbers, or of text, whose values decide instead of file
            and number: so that an event stays on its side after skimming and merging. Reads these
            columns once.
        where : str, optional
            An expression: the second of two parts is where it holds. Reads its columns once.
        unit : "entry" or "block"
            ``"block"`` divides stretches of entries between which pages of all columns end: no page is
            read for two parts. Exact to one stretch.
        stratify : str, optional
            A label whose values have the same fractions in all parts: exactly, to within one entry of
            each file and value. Reads the column once.
        resample : str or iterable of str, optional
            Parts that keep this loader's `sampling`; the first one if left out. The others use each of
            their rows once.
        **fractions : float
            Shares of named parts; their sum is 1.

        Returns
        -------
        named tuple of Loader
            ``train`` and ``test``, or the parts as they were named. They share the memory of this
            loader in proportion.

        Raises
        ------
        ArgumentError
            Where fractions are out of range, several rules are given, or a part is too small for a
            batch.
        EmptyDatasetError
            Where a part would be empty, or have too few rows of a class.
        """
        rule = Rule(as_columns(by), where, unit, stratify)
        rule.check()
        if where is not None:
            if fraction is not None or fractions:
                raise ArgumentError("split(where=...) takes no fractions: the expression decides.")
            shares = {"train": 0.5, "test": 0.5}
        else:
            shares = fractions_of(fraction, fractions)
        parts = divide(
            self._frames,
            self._schedule.dataset,
            self._side,
            list(shares.values()),
            rule,
            self.seed,
            len(self._history),
        )
        kept = {next(iter(shares))} if resample is None else set(as_columns(resample))
        for name in kept - set(shares):
            raise ArgumentError(f"resample names {name!r}, which is no part. {nearest(name, shares)}")
        named = ", ".join(f"{name}={share!r}" for name, share in fractions.items())
        asked = f"where={where!r}" if where is not None else named or repr(fraction)
        text = f"split({asked})"
        found = self._parts(dict(zip(shares, parts, strict=True)), shares, text, kept, rule)
        return as_parts(found)

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
        shares = {"train": 1 - checked(fraction), "test": checked(fraction)}
        parts = in_order(self._schedule.dataset, self._side, float(fraction))
        text = f"split_in_order({fraction!r})"
        train, test = self._parts(
            dict(zip(shares, parts, strict=True)), shares, text, {"train"}
        ).values()
        return train, test

    def folds(
        self,
        count: int,
        *,
        by: str | Iterable[str] | None = None,
        unit: Unit = "entry",
        stratify: str | None = None,
    ) -> list[Any]:
        """Divide the entries into equal parts, each of which is the test side once.

        Parameters
        ----------
        count : int
            Of folds, at least 2.
        by, unit, stratify
            See `split`.

        Returns
        -------
        list of named tuple (train, test) of Loader
            The test sides are disjoint and cover everything. Each pair has the memory of this loader:
            use one after the other, and `close` it.
        """
        number = integer("count", count, least=2)
        rule = Rule(as_columns(by), None, unit, stratify)
        rule.check()
        shares = [1 / number] * number
        dataset = self._schedule.dataset
        parts = divide(self._frames, dataset, self._side, shares, rule, self.seed, len(self._history))
        pairs = []
        for fold, test in enumerate(parts):
            others = [part for number, part in enumerate(parts) if number != fold]
            train = [np.bitwise_or.reduce(words) for words in zip(*others, strict=True)]
            sides = {"train": train, "test": test}
            fractions = {"train": 1 - shares[fold], "test": shares[fold]}
            made = self._parts(sides, fractions, f"folds({number}), {fold}", {"train"}, rule)
            pairs.append(as_parts(made))
        return pairs

    def _parts(
        self,
        parts: Mapping[str, Sequence[Words]],
        shares: Mapping[str, float],
        text: str,
        resampled: Iterable[str],
        rule: Rule | None = None,
    ) -> dict[str, Loader]:
        """Return loaders of some parts of this one."""
        made = {}
        for name, words in parts.items():
            share = shares[name]
            part = object.__new__(type(self))
            part._options, part._frames, part._layout = self._options, self._frames, self._layout
            part._ranks_elsewhere = self._ranks_elsewhere
            part._sampling = self._sampling if name in resampled else None
            part._strata = self._strata if part._sampling is not None else None
            budget = math.ceil(self._budget_bytes * share)
            if not self.in_memory:
                # Small parts get what they cannot do without, at the cost of the others.
                needed = needed_bytes(self._layout.row_bytes, self.batch_size)
                least = min(needed, self._budget_bytes // len(parts))
                budget = min(max(budget, least), self._budget_bytes - least * (len(parts) - 1))
            of = f"{text} of {self.entries} entries"
            if not _any_row(self._schedule.dataset, words):
                another = "fraction" if rule is None or rule.where is None else "expression"
                raise EmptyDatasetError(f"{of} leaves a side empty: {name}. Choose another {another}.")
            try:
                history = (*self._history, f"{text} {rule}: {name}")
                part._settle(words, history, budget, keep=self.in_memory)
            except (ArgumentError, EmptyDatasetError) as error:
                raise type(error)(f"{of}, {name}: {error}") from None
            made[name] = part
        # Those that lose their sampling are for looking at each row once, in whatever order.
        alike = [(name, part) for name, part in made.items() if part._sampling is self._sampling]
        for name, part in sorted(alike, key=lambda each: -(each[1]._mixing.lacking_bits or 0.0)):
            self._told = part._mixing.warn(self._told, f"{text}, {name}: ")
        for part in made.values():
            part._told = self._told
        return made

    def close(self) -> None:
        """Give the memory back. Iterating again reads the files again."""
        self._reader.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ranks(self) -> tuple[int, int]:
        """Return rank and world size: as given, or as torch.distributed says, here or where it was."""
        if self._options.ranks is not None:
            return self._options.ranks
        found = distributed_ranks() or self._ranks_elsewhere
        if found[1] > 1 and not self._options.seed_given:
            raise ArgumentError(
                f"{found[1]} ranks must agree on the order of the entries: give the loader a seed."
            )
        return found

    def _shard(self, worker: int = 0, workers: int = 1) -> Shard:
        rank, world_size = self._ranks()
        return Shard(rank, world_size, worker, workers)

    def start(
        self, use: Use, worker: int = 0, workers: int = 1, iteration: Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """Return the batches of the next epoch; in a worker of a DataLoader, its part of them.

        The epoch counts as begun when its first batch is asked for; in a worker, at once.

        Parameters
        ----------
        use : function
            Of `rootfeed.formats`: makes batches of arrays.
        worker, workers : int
        iteration : sequence of int, optional
            Same numbers in all workers that iterate together; None outside of workers.
        """
        if iteration is None:
            return Iteration(self._start(use, None))
        try:
            position = self._place.take_part(self._shard(worker, workers), iteration)
            return Iteration(self._start(use, position))
        except RootfeedError as error:
            return map(_refuse, (error,))  # PyTorch tells of what happens while it asks for a batch

    def _start(self, use: Use, position: Position | None) -> Generator[Batch, None, None]:
        position = self._place.take(self._shard()) if position is None else position
        run = self._schedule.run(position.epoch, position.legs, position.shard, position.batches)
        done = position.batches
        # A worker's part may be over while the others' are not, and that of a rank with a batch less.
        alone, total = position.shard.workers == 1, len(run.stage.demand.quotas)
        with closing(self._reader.read(run)) as arrays:
            for batch in use(arrays):
                done += 1
                over = alone and done >= total
                here = Position(run.epoch + 1) if over else replace(position, batches=done)
                self._place.last = here
                yield batch
        if alone and self._place.last == replace(position, batches=done):
            self._place.last = Position(run.epoch + 1)


def _epoch(epoch: Any) -> int:
    if isinstance(epoch, bool) or not isinstance(epoch, int | np.integer) or epoch < 0:
        raise ArgumentError(f"epoch must be a non-negative integer, got {epoch!r}.")
    if epoch >= 2**31:
        raise ArgumentError(f"epoch must be below 2^31, got {epoch}.")
    return int(epoch)


def _any_row(dataset: Dataset, words: Sequence[Words]) -> bool:
    """Whether a part of a dataset, which has a bit for each entry of each file, has a row."""
    return any(
        bool((bits if file.taken is None else bits & file.taken).any())
        for file, bits in zip(dataset.files, words, strict=True)
    )


def _refuse(error: Exception) -> Batch:
    raise error


def _frames(
    frames: Frame | Sequence[Frame] | Mixed, sampling: Balanced | None
) -> tuple[tuple[Frame, ...], Balanced | None]:
    if sampling is not None and not isinstance(sampling, Balanced):
        raise ArgumentError(f"sampling must be rootfeed.balanced(...) or None, got {sampling!r}.")
    if isinstance(frames, Mixed):
        if sampling is not None:
            raise ArgumentError("rootfeed.mixed fixes the sampling: leave sampling= out.")
        sampling = frames.sampling
    chosen = frames.frames if isinstance(frames, Mixed) else as_tuple(frames)
    for frame in chosen:
        if not isinstance(frame, Frame):
            raise ArgumentError(
                f"a loader takes frames, got {frame!r}. Make one: rootfeed.open({frame!r})."
            )
    if not chosen:
        raise ArgumentError("a loader needs at least one frame, got none.")
    return chosen, sampling
