"""Batches of a dataset, epoch after epoch."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from copy import deepcopy
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rootfeed.errors import ArgumentError, EmptyDatasetError, RootfeedError, nearest
from rootfeed.formats import Batch, Use, distributed_ranks, mapped, to_numpy, to_torch
from rootfeed.frame import Frame
from rootfeed.loader.batches import names
from rootfeed.loader.dataset import Dataset, build
from rootfeed.loader.iteration import Iteration, Passes
from rootfeed.loader.mixing import Mixing
from rootfeed.loader.options import NotFinite, as_tuple, integer, options
from rootfeed.loader.outlook import EpochPlan, explained, outlook
from rootfeed.loader.pool import Pool
from rootfeed.loader.position import Course, Place, Received
from rootfeed.loader.reader import Reader
from rootfeed.loader.sampling import Mixed, Sampler
from rootfeed.loader.schedule import Leg, Schedule
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
from rootfeed.loader.state import Fingerprint, fingerprint, loaded, saved
from rootfeed.loader.strata import columns_of
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
    sampling : what `rootfeed.balanced` returns, or another `rootfeed.Sampler`, optional
        Fixed shares of classes in every batch, for example. None uses each entry once in an epoch.
    shuffle : bool
        False gives the order of the files.
    seed : int, optional
        Same seed, same batches, whatever the number of threads; the sizes of window and blocks, which
        follow from `memory`, must be the same too. None draws one, readable as `seed`.
    memory : str or int
        Bytes that the loader may hold, such as ``"1 GB"``. A dataset that fits is read once and
        kept. ``"auto"`` is a quarter of the free memory, 4 GB at most, which ranks on one machine share
        (``LOCAL_WORLD_SIZE``, as torchrun sets it). Iterators that run at the
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
        Fix by hand how many rows are in memory together, and how many consecutive entries are read
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
    epoch : int, optional
        Batches of an epoch, on each rank. The first one begins with a pass over the data, each next one
        goes on where the last one ended, pass after pass: in a new order in each. The last batch of a
        pass may be shorter, wherever in an epoch it is. What was read ahead stays in memory for the next
        epoch, until `close`. None makes each epoch one pass.

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

    Warns
    -----
    MixingWarning
        Where rows cannot mix well in `memory`: when the loader is made, or before the first batch.

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
        sampling: Sampler | None = None,
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
        epoch: int | None = None,
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
            epoch=epoch,
        )
        self._frames, self._sampling = _frames(frames, sampling)
        self._frames, weight, made_from = weighted(self._frames, weights)
        self._layout = layout(
            self._frames, features, target, weight, dtype, target_dtype, others=made_from
        )
        self._strata = self._sampling.classes(self._frames)
        self._values = columns_of(self._frames, as_tuple(self._sampling.columns))
        if self._sampling.selects and epoch is not None:
            raise ArgumentError(
                f"{self._sampling!r} offers other rows in each epoch, which epoch= does not know where "
                "to end. Leave epoch= out."
            )
        self._pool = Pool()
        self._settle(None, (), self._options.budget_bytes)
        self._told = self._mixing.warn()

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
        self._prints: Fingerprint | None = None
        dataset, sizes, threads, stock = build(
            self._frames, self._layout, side, self._strata, self._options, budget_bytes, keep, fixed
        )
        self._schedule = Schedule(dataset, sizes, self._options, self._sampling, self._values)
        self._schedule.batches(self._shard())  # an epoch of no batches is an error, and now
        batches = partial(_pass_batches, self._schedule)
        self._course = Course(self._options.epoch, batches, not self._sampling.selects)
        self._place = Place(self._course)
        offered = self._schedule.offered
        self._mixing = Mixing(stock, dataset, offered, sizes, self._options, budget_bytes)
        self._threads = threads
        self._reader = Reader(self._schedule, self._options, threads, self._pool, self._mixing)
        self._passes = Passes(self._reader, self._course)

    def __getstate__(self) -> dict[str, Any]:
        state = {
            name: value
            for name, value in vars(self).items()
            if name not in ("_schedule", "_mixing", "_reader", "_course", "_passes", "_pool")
        }
        state["_sizes"] = self._schedule.sizes
        state["_place"] = deepcopy(self._place)
        # A worker of this rank has no torch.distributed; another rank has its own.
        state["_ranks_elsewhere"] = distributed_ranks() or self._ranks_elsewhere
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        sizes = state.pop("_sizes")
        self.__dict__.update(state)
        self._pool = Pool()
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
    def sampling(self) -> Sampler | None:
        """What was given as `sampling`, or `rootfeed.mixed` asked for; None uses each entry once."""
        return None if type(self._sampling) is Sampler else self._sampling

    @property
    def in_memory(self) -> bool:
        """Whether the dataset is read once and kept."""
        return self._schedule.sizes.whole

    @property
    def window_blocks(self) -> float:
        """Blocks that are in memory together, as an average row sees them: what mixing depends on."""
        return self._mixing.blocks

    @property
    def repeats(self) -> int:
        """Rows at the end of this rank's last batch of a pass that repeat others: see `tail`."""
        shard = self._shard()
        return self._schedule.stage(0, (), shard.world_size).demand.repeats(shard)

    def plan(self, epoch: int = 0) -> EpochPlan:
        """Return what an epoch will be on this rank, before it runs: it reads nothing.

        Printed, it is a table of batches, blocks, how well they mix, reads and expected memory.
        Where an epoch has a number of batches of its own, what is told is that of the pass over the data
        in which it begins.
        """
        number = integer("epoch", epoch, least=0)
        shard = self._shard()
        passes = self._course.begin(self._course.start(number), shard).passes
        plan = outlook(self._schedule, self._mixing, self._threads, passes, shard)
        return replace(plan, epoch=number, epoch_batches=self._options.epoch)

    def explain(self) -> str:
        """Return why window and blocks have their sizes, and how well rows mix in them."""
        return explained(self._schedule, self._mixing, self._threads)

    def __len__(self) -> int:
        """Return the number of batches of the next epoch, on this rank."""
        return self._options.epoch or self._schedule.batches(self._shard(), self._place.next.passes)

    def __repr__(self) -> str:
        held = "in memory" if self.in_memory else f"{self.window_blocks:.1f} blocks in memory"
        resampled = "" if self.sampling is None else f"{self.plan().rows} rows in "
        batches = f"{self._schedule.batches(self._shard())} batches of {self.batch_size}"
        epoch = f", {len(self)} batches an epoch" if self._options.epoch else ""
        return f"<Loader {self.entries} entries, {resampled}{batches}{epoch}, {held}, seed {self.seed}>"

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
            a DataLoader it takes ``batch_size=None``; its workers share the batches. Their order is
            that of `set_epoch`; where it was not called, it follows from the loader's seed and
            PyTorch's, which `torch.manual_seed` fixes.
        """
        return self.torch_with(to_torch(names(self._layout), device, pin_memory, prefetch))

    def torch_with(self, use: Use) -> TorchBatches:
        """Return the batches that a function of `rootfeed.formats` makes."""
        from rootfeed.loader.torch import TorchBatches  # which imports torch

        return TorchBatches(self, use)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next epoch to be started; the ones after it follow on.

        Where a loaded state is in the middle of that epoch, it goes on there.

        Parameters
        ----------
        epoch : int
            Not negative; a new loader starts with 0.

        Notes
        -----
        Where epochs have a number of batches of their own, this one begins where it would if these
        ranks and workers had gone through all epochs before it, from the first one or a loaded state.

        Workers of a DataLoader are copies of this process, made for each iteration: each iteration
        gives this epoch, until another is chosen. Persistent workers are made once, and count on from
        what was chosen before; they do not hear of what is chosen later.
        """
        self._place.choose(_epoch(epoch), self._course)

    def follow(self, epoch: int | None) -> bool:
        """Take a trainer's epoch for the next one, unless somebody has chosen another.

        For trainers that resume at an epoch's beginning, and do not say so to what they train on.
        Workers of a DataLoader that begin from now on begin with this epoch. Where `set_epoch` or
        `load_state_dict` was called, that counts instead; and counts on, with the trainer's epochs.

        Parameters
        ----------
        epoch : int or None
            Not negative. None, at a training's end: workers are not told any more.

        Returns
        -------
        bool
            Whether the trainer's epoch counts: workers that have begun before do not know of it, so that
            the trainer must make a new iterator.
        """
        return self._place.follow(None if epoch is None else _epoch(epoch), self._course)

    def state_dict(self) -> dict[str, Any]:
        """Return where the iteration is, behind the last batch that was received, as plain data.

        A kilobyte or two that JSON can hold; see `load_state_dict`. After an epoch's last batch
        it is the beginning of the next epoch.

        Notes
        -----
        What workers of a DataLoader have made is not known here, where the state stays what it was
        before: the beginning of the epoch that was chosen. Use torchdata's ``StatefulDataLoader`` and
        its ``state_dict()``, or ``num_workers=0``, for states in the middle of an epoch.
        """
        return saved(self._place.now(self._course), self._schedule.sizes, self._fingerprint())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state ends: the next iteration gives the rest of that epoch.

        Its batches are the same to the last bit, whatever the number of threads. With another number
        of ranks, the rest of the epoch is dealt anew: every entry once; classes that repeat begin anew.
        The sizes of window and blocks are those of the state.

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
        Workers of a DataLoader go on with the state in each iteration, until `set_epoch` chooses an
        epoch; persistent ones that have begun do not hear of it.

        Costs the reading of the blocks that the next batch needs: a window of them, at most. With
        another number of ranks, the plan of the epoch so far is gone through again, without reading.
        """
        position, fixed = loaded(state, self._fingerprint(), self._schedule.sizes)
        if fixed != self._schedule.sizes:
            place = self._place
            self.close()
            self._settle(self._side, self._history, self._budget_bytes, self._keep, fixed)
            self._place = place
        self._place.go_to(position)

    def _fingerprint(self) -> Fingerprint:
        if self._prints is None:
            steps = [frame.steps for frame in self._frames]
            self._prints = fingerprint(
                self._schedule.dataset, self._options, self._history, self.sampling, steps
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
        seed: int = 0,
        resample: str | Iterable[str] | None = None,
        **fractions: float,
    ) -> Any:
        """Divide the entries into parts: ``split(0.2)``, or ``split(train=0.7, val=0.15, test=0.15)``.

        An entry's part depends on `seed`, its file's identity and its number in the file: not on the
        loader's seed, columns, cuts, batch size, or the order of files. So each loader of the same
        files, with whatever seed or none, has the same parts. They are disjoint and cover everything,
        also the parts of a part; each file gives its fractions to within one entry.

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
        seed : int
            Of this division: another one divides anew. Not the loader's, which orders the entries.
        resample : str or iterable of str, optional
            Parts that keep this loader's `sampling`, and the number of batches of its epochs; the first
            one if left out. The others use each of their rows once in an epoch.
        **fractions : float
            Shares of named parts; their sum is 1.

        Returns
        -------
        named tuple of Loader
            ``train`` and ``test``, or the parts as they were named. Each has this loader's memory in
            proportion, and what it cannot do without; iterated in turns, they use the same.

        Raises
        ------
        ArgumentError
            Where fractions are out of range, several rules are given, or a part is too small for a
            batch; where `seed` is given beside `where`.
        EmptyDatasetError
            Where a part would be empty, or have too few rows of a class.
        """
        rule = Rule(as_columns(by), where, unit, stratify, integer("seed", seed))
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
            len(self._history),
        )
        kept = {next(iter(shares))} if resample is None else set(as_columns(resample))
        for name in kept - set(shares):
            raise ArgumentError(f"resample names {name!r}, which is no part. {nearest(name, shares)}")
        named = ", ".join(f"{name}={share!r}" for name, share in fractions.items())
        asked = f"where={where!r}" if where is not None else named or repr(fraction)
        text = f"split({asked}{rule.seeded})"
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
        seed: int = 0,
    ) -> list[Any]:
        """Divide the entries into equal parts, each of which is the test side once.

        Parameters
        ----------
        count : int
            Of folds, at least 2.
        by, unit, stratify, seed
            See `split`.

        Returns
        -------
        list of named tuple (train, test) of Loader
            The test sides are disjoint and cover everything. Each pair has the memory of this loader:
            use one after the other, and `close` it.
        """
        number = integer("count", count, least=2)
        rule = Rule(as_columns(by), None, unit, stratify, integer("seed", seed))
        rule.check()
        shares = [1 / number] * number
        dataset = self._schedule.dataset
        parts = divide(self._frames, dataset, self._side, shares, rule, len(self._history))
        pairs = []
        for fold, test in enumerate(parts):
            others = [part for number, part in enumerate(parts) if number != fold]
            train = [np.bitwise_or.reduce(words) for words in zip(*others, strict=True)]
            sides = {"train": train, "test": test}
            fractions = {"train": 1 - shares[fold], "test": shares[fold]}
            text = f"folds({number}{rule.seeded}), {fold}"
            made = self._parts(sides, fractions, text, {"train"}, rule)
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
            part._frames, part._layout = self._frames, self._layout
            whole = name not in resampled
            part._options = replace(self._options, epoch=None) if whole else self._options
            part._ranks_elsewhere = self._ranks_elsewhere
            part._sampling = self._sampling if name in resampled else Sampler()
            part._strata = self._strata if name in resampled else None
            part._values = self._values if name in resampled else []
            part._pool = self._pool  # they are iterated in turns
            budget = math.ceil(self._budget_bytes * share)
            if not self.in_memory:
                # Small parts get what they cannot do without: parts that are iterated in turns use the
                # same memory again.
                rows = max(4 * self.batch_size, self._options.block_entries or 0)
                needed = needed_bytes(self._schedule.dataset.mean_row_bytes, rows)
                budget = max(budget, min(needed, self._budget_bytes))
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
        alike = [(name, made[name]) for name in made if name in resampled]
        for name, part in sorted(alike, key=lambda each: -(each[1]._mixing.lacking_bits or 0.0)):
            self._told = part._mixing.warn(self._told, f"{text}, {name}: ")
        for part in made.values():
            part._told = self._told
        return made

    def close(self) -> None:
        """Give the memory back. Iterating again reads the files again."""
        self._passes.close()
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
        self, use: Use, worker: int = 0, workers: int = 1, base_seed: int | None = None
    ) -> Iterator[Batch]:
        """Return the batches of the next epoch; in a worker of a DataLoader, its part of them.

        The epoch counts as begun when its first batch is asked for; in a worker, at once.

        Parameters
        ----------
        use : function
            Of `rootfeed.formats`: makes batches of arrays.
        worker, workers : int
        base_seed : int, optional
            What a DataLoader has drawn for all workers that iterate together; None outside of workers.
        """
        if base_seed is None:
            return Iteration(self._start(use, None))
        try:
            begun = self._place.take(self._shard(worker, workers), self._course, base_seed)
            return Iteration(self._start(use, begun))
        except RootfeedError as error:
            return map(_refuse, (error,))  # PyTorch tells of what happens while it asks for a batch

    def _start(self, use: Use, begun: Received | None) -> Generator[Batch, None, None]:
        course, place = self._course, self._place
        begun = place.take(self._shard(), course) if begun is None else begun
        position, alone = begun.position, begun.position.shard.workers == 1
        with ExitStack() as stack:
            arrays = stack.enter_context(closing(self._passes.begin(position)))
            for batch in use(islice(arrays, course.left(position))):
                begun.batches += 1
                place.last = begun
                yield batch
            if alone and course.epoch_batches is not None:
                stack.pop_all()  # the next epoch goes on with them
                self._passes.leave(course.after(position), arrays)
        begun.over = alone  # also of a rank with a batch less than others


def _pass_batches(schedule: Schedule, passes: int, legs: tuple[Leg, ...], world_size: int) -> int:
    """Return the batches that are left of a pass after some legs, of the rank that has most."""
    first = Shard(0, world_size)
    return schedule.run(passes, legs, first).batches if legs else schedule.batches(first, passes)


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
    frames: Frame | Sequence[Frame] | Mixed, sampling: Sampler | None
) -> tuple[tuple[Frame, ...], Sampler]:
    if sampling is not None and not isinstance(sampling, Sampler):
        raise ArgumentError(
            f"sampling must be rootfeed.balanced(...), another Sampler or None, got {sampling!r}."
        )
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
    return chosen, Sampler() if sampling is None else sampling
