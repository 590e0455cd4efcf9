"""Batches of a dataset, epoch after epoch: what users see."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

import numpy.typing as npt

from rootfeed.arguments import as_tuple, in_order, integer, one_of
from rootfeed.dataset import (
    Columns,
    Features,
    Frames,
    Normalized,
    NotFinite,
    Rule,
    Sampler,
    Unit,
    checked_spec,
)
from rootfeed.errors import ArgumentError
from rootfeed.formats import Batch, installed, load, numpy_format
from rootfeed.loader import parts
from rootfeed.loader.epoch_plan import EpochPlan
from rootfeed.loader.memory import Pool
from rootfeed.loader.parts import Split
from rootfeed.loader.pipeline import Pipeline
from rootfeed.loader.saving import save
from rootfeed.loader.whole import joined
from rootfeed.plan import Tail
from rootfeed.sources import PathLike

if TYPE_CHECKING:
    from rootfeed.loader.jax import JaxBatches
    from rootfeed.loader.keras import KerasBatches
    from rootfeed.loader.torch import TorchBatches

__all__ = ["Loader", "Split", "split_exactly", "varied"]


class Loader:
    """Shuffled batches straight from ROOT files.

    Iterating gives an epoch: each entry once, in a new order each time. A batch is ``x``, ``(x, y)``
    with a target, ``(x, y, w)`` with a target and weights: NumPy arrays of shape (n, columns),
    C-contiguous, which belong to the caller. `torch` gives tensors instead.

    Parameters
    ----------
    frames : Frame, sequence of Frame, what `rootfeed.mixed` returns, or what `rootfeed.open` takes
        Several frames are one dataset; columns are matched by name. A path, such as
        ``"data/*.root:events"``, and data frames of pandas or polars are opened.
    batch_size : int
        Rows of a batch. Only an epoch's last batch can be shorter.
    features : str, sequence of str, or mapping, optional
        Columns of ``x``. None means every numeric column that is neither target nor weight, nor another
        name of these: those that target or weights are made from, and event numbers, are among them.
        A mapping such as
        ``{"event": ["met", "ht"], "jets": rootfeed.padded(["Jet_pt", "Jet_eta"], length=16)}``
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
        (``LOCAL_WORLD_SIZE``, as torchrun sets it). Several ranks must have the same, on which their
        order depends: where less than 4 GB is shared and rows do not fit, they ask for a number.
        Iterators that run at the same time each hold as much. A third of it is for decoding: of a page
        that takes more, as it is stored and decompressed, one comes on top, as `plan` tells. How long
        the vectors are that definitions make is not known beforehand: long ones may exceed the budget.
    drop_last : bool
        Leave out the last batch of an epoch if it is shorter than the others.
    dtype, target_dtype : dtype-like
        Of ``x`` and ``w``, and of ``y``. Values that a dtype cannot hold are counted and reported as a
        `rootfeed.errors.PrecisionWarning`. With an integer `dtype`, ``w`` is float32.
    threads : int, optional
        Threads that read and decode; the number of available processors, 8 at most. Where files have
        a few thousand entries each, one is faster, unless they are packed by zlib or LZMA.
    chunk_entries, block_entries : int, optional
        Fix by hand how many rows are in memory together, and how many consecutive entries are read
        together. `chunk_entries` takes the place of `memory`.
    rank, world_size : int, optional
        This process, and how many share an epoch: each reads its own blocks, and gets as many batches
        as the others. Taken from torch.distributed where that is initialised; else 0 and 1. Its ranks
        compare files, rows, seed and sizes: one that differs is refused.
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
    fill_null, storage_options, timeout, cache, cache_size : optional
        How files are opened, where a path is given: see `rootfeed.open`.

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
    ...     "data/*.root:events", batch_size=1024, features=["pt", "eta"], target="label"
    ... )  # doctest: +SKIP
    >>> for x, y in loader:
    ...     ...  # doctest: +SKIP
    """

    def __init__(
        self,
        frames: Frames,
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
        fill_null: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        cache: PathLike | None = None,
        cache_size: int | float | str | None = None,
    ) -> None:
        spec = checked_spec(
            frames,
            features,
            target,
            weights,
            sampling,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            memory=memory,
            drop_last=drop_last,
            dtype=dtype,
            target_dtype=target_dtype,
            threads=threads,
            chunk_entries=chunk_entries,
            block_entries=block_entries,
            rank=rank,
            world_size=world_size,
            tail=tail,
            nonfinite=nonfinite,
            epoch=epoch,
            fill_null=fill_null,
            storage_options=storage_options,
            timeout=timeout,
            cache=cache,
            cache_size=cache_size,
        )
        self._pipeline = Pipeline(spec, Pool())
        self._pipeline.warn_of_mixing()
        self._pipeline.warn_of_memory()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pipeline": self._pipeline.sent()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _pipeline=Pipeline(pool=Pool(), **state["_pipeline"]))

    def _part(self, pipeline: Pipeline) -> Self:
        """Return a loader of the same class and attributes for a part of a split."""
        made = type(self).__new__(type(self))
        vars(made).update(vars(self), _pipeline=pipeline)
        return made

    # --- what it is ---------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The seed, drawn if none was given."""
        return self._pipeline.spec.seed

    @property
    def batch_size(self) -> int:
        """Rows of a batch."""
        return self._pipeline.spec.batch_size

    @property
    def num_rows(self) -> int:
        """Entries of this part of all splits that pass the cuts, on all ranks together.

        An epoch without `sampling` has as many rows, those that `drop_last` leaves out included. With
        `sampling` it has fewer, or repeats some: `plan` tells its rows.
        """
        return self._pipeline.num_rows

    @property
    def features(self) -> tuple[str, ...]:
        """Columns of ``x``, of all its inputs."""
        layout = self._pipeline.spec.layout
        return tuple(name for part in layout.parts[: layout.inputs] for name in part.columns)

    @property
    def target(self) -> tuple[str, ...]:
        """Columns of ``y``; empty without a target."""
        layout = self._pipeline.spec.layout
        others = layout.parts[layout.inputs :]
        return others[0].columns if others else ()

    @property
    def weights(self) -> str | None:
        """Column of ``w``."""
        layout = self._pipeline.spec.layout
        others = layout.parts[layout.inputs :]
        return others[1].columns[0] if len(others) > 1 else None

    @property
    def sampling(self) -> Sampler | None:
        """What was given as `sampling`, or `rootfeed.mixed` asked for; None uses each entry once."""
        return self._pipeline.sampler

    @property
    def in_memory(self) -> bool:
        """Whether the dataset is read once and kept."""
        return self._pipeline.schedule.sizes.in_memory

    @property
    def window_blocks(self) -> float:
        """Blocks that are in memory together, as an average row sees them: what mixing depends on."""
        return self._pipeline.mixing.blocks

    @property
    def repeats(self) -> int:
        """Rows at the end of this rank's last batch of a pass that repeat others: see `tail`."""
        return self._pipeline.repeats

    def plan(self, epoch: int = 0) -> EpochPlan:
        """Return what an epoch will be on this rank, before it runs: it reads nothing.

        Printed, it is a table of batches, blocks, how well they mix, reads and expected memory.
        Where an epoch has a number of batches of its own, what is told is that of the pass over the data
        in which it begins.
        """
        return self._pipeline.plan(epoch)

    def explain(self) -> str:
        """Return why window and blocks have their sizes, and how well rows mix in them."""
        return self._pipeline.explain()

    def __len__(self) -> int:
        """Return the number of batches of the next epoch, on this rank."""
        return self._pipeline.num_batches

    def __repr__(self) -> str:
        held = "in memory" if self.in_memory else f"{self.window_blocks:.1f} blocks in memory"
        resampled = "" if self.sampling is None else f"{self.plan().batch_rows} rows in "
        pipeline = self._pipeline
        batches = f"{pipeline.schedule.batches(pipeline.shard())} batches of {self.batch_size}"
        epoch = f", {len(self)} batches an epoch" if pipeline.spec.epoch_batches else ""
        return f"<Loader {self.num_rows} rows, {resampled}{batches}{epoch}, {held}, seed {self.seed}>"

    # --- what it does -------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Start the next epoch, or go on where a loaded state ends; batches are NumPy arrays."""
        return self._pipeline.start(numpy_format(self._pipeline.spec.layout.names))

    def __getitem__(self, index: Any) -> NoReturn:
        """Refuse: batches have no numbers. A DataLoader that is given a loader asks for some.

        Raises
        ------
        ArgumentError
        """
        raise ArgumentError(
            "batches come one after another, and have no numbers: iterate over the loader. For a "
            "DataLoader of PyTorch, write DataLoader(loader.torch(), batch_size=None)."
        )

    def arrays(self) -> dict[str, Any]:
        """Return the next epoch in one piece, for what fits into memory.

        Returns
        -------
        dict of str to ndarray
            ``x``, an array or a dict of them as in a batch, with a target ``y`` and with weights ``w``:
            of shape (n,) where they are one column.

        Raises
        ------
        ArgumentError
            Where memory for the rows, twice, is not free.
        """
        return joined(self, self.plan().batch_rows, self._pipeline.spec.layout)

    def save(
        self,
        file: str | os.PathLike[str],
        columns: str | Iterable[str] | None = None,
        *,
        format: Literal["ttree", "rntuple"] = "ttree",
        overwrite: bool = False,
    ) -> None:
        """Write the rows of this loader, or of this part of a split, into a file.

        Each row once, in the order of the files, whatever the loader's order, sampling and rank are; as
        they are stored or defined, not in the types and lengths of batches.

        Parameters
        ----------
        file : str or Path
            ``"train.parquet"``, ``"train.root:events"``, ``"train.h5"``, ...: see `rootfeed.Frame.save`.
        columns : str or iterable of str, optional
            Those of features, target and weights if left out. Weights that are an expression, or
            normalized, are called ``weight_``. Other columns of the frames may be named, too.
        format, overwrite, raises
            See `rootfeed.Frame.save`.

        Notes
        -----
        Reads these columns once, block by block.
        """
        save(self._pipeline.spec, file, columns, format, overwrite)

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse to be an array: NumPy would read an epoch for it.

        Raises
        ------
        ArgumentError
        """
        raise ArgumentError("a loader is no array: `arrays` returns an epoch in one piece.")

    def torch(
        self,
        device: Any = None,
        *,
        pin_memory: bool = False,
        prefetch: int = 2,
        resident: bool | int | str = False,
    ) -> TorchBatches:
        """Return the same batches as torch tensors.

        Parameters
        ----------
        device : torch.device or str, optional
            None gives CPU tensors that share memory with the gathered arrays.
        pin_memory : bool
            Give CPU tensors in page-locked memory, which costs a copy.
        prefetch : int
            On a CUDA device, batches that are copied ahead, on a stream of their own, while the
            ones before are used. Small ones are copied together, 2 MB, and share that memory. 0 copies
            each when it is asked for.
        resident : bool, int or str
            True copies all rows to the device, once, before the first batch; batches are gathered there:
            the same rows in the same batches. They may take what is free there, less a tenth, or as much
            as is said, such as ``"20 GB"``. On `memory` the order of rows depends as it always does; at
            most 500 MB of it are taken, while rows are copied. Each rank's device has the rows of all
            ranks. They stay there until what this returns is dropped; `close` does not free them.
            `pin_memory` and `prefetch` change nothing then.

        Returns
        -------
        TorchBatches
            A `torch.utils.data.IterableDataset` over this loader: both count the same epochs. Inside
            a DataLoader it takes ``batch_size=None``; its workers share the batches. Their order is
            that of `set_epoch`; where it was not called, it follows from the loader's seed and
            PyTorch's, which `torch.manual_seed` fixes.

        Raises
        ------
        ArgumentError
            Where PyTorch is not installed; while iterating, where resident rows take more than they may,
            or a worker of a DataLoader would use a device or page-locked memory.
        """
        formats = load("torch")
        from rootfeed.loader.torch import TorchBatches  # which imports torch

        names = self._pipeline.spec.layout.names
        if resident is not False:
            from rootfeed.loader.resident import ResidentBatches

            return ResidentBatches(self, device, resident)
        format = formats.torch_format(names, device, pin_memory, prefetch)
        return TorchBatches(self, format)

    def tensorflow(self) -> Any:
        """Return the same batches as a TensorFlow dataset, for loops and ``model.fit``.

        Returns
        -------
        tf.data.Dataset
            Each iteration is the loader's next epoch, `len` its number of batches. Ragged inputs are
            ``tf.RaggedTensor``, without offsets. Tensors share memory with what was gathered, where
            `batch_size` is a multiple of 64; of 16 for float32. In `tf.distribute` strategies each
            process has the batches of its rank.

        Raises
        ------
        ArgumentError
            Where TensorFlow is not installed.

        Notes
        -----
        What was used is not known here in the middle of an epoch: see ``state_dict(used=...)``. After
        `load_state_dict` in the middle of an epoch, each iteration has as many batches as an epoch: the
        first one has the rest, and the beginning of the next epoch. An iteration that is left before its
        second batch counts as none: Keras looks at a batch to build a model. In ``fit``, say
        ``shuffle=False``, or Keras warns that it does not shuffle this.

        An error while reading is one of TensorFlow, whose text holds ours.
        """
        load("tensorflow")
        from rootfeed.loader.tensorflow import dataset  # which imports tensorflow

        return dataset(self._pipeline)

    def keras(self) -> KerasBatches:
        """Return the same batches as a Keras dataset, for ``model.fit`` with any backend.

        Returns
        -------
        KerasBatches
            A `keras.utils.PyDataset` over this loader, with `set_epoch`, `state_dict`,
            `load_state_dict`, `split` and `folds`: each epoch of Keras is the loader's next one. Weights
            are Keras' sample weights. Batches are NumPy arrays; what ``shuffle`` says in ``fit`` changes
            nothing.

        Raises
        ------
        ArgumentError
            Where Keras is not installed.

        Notes
        -----
        In the middle of an epoch, ``state_dict(used=...)`` must be told the batches that Keras has used.
        After `load_state_dict` in the middle of an epoch, each epoch of Keras has as many batches as one
        of the loader: the first one has the rest, and the beginning of the next.
        """
        installed("keras")
        from rootfeed.loader.keras import KerasBatches  # which imports keras

        return KerasBatches(self, numpy_format(self._pipeline.spec.layout.names))

    def jax(
        self,
        device: Any = None,
        *,
        sharding: Any = None,
        remainder: Literal["keep", "pad"] = "keep",
        prefetch: int = 2,
    ) -> JaxBatches:
        """Return the same batches as JAX arrays.

        Parameters
        ----------
        device : jax.Device, optional
            None is JAX's default device. On a CPU arrays share memory with those that were gathered.
        sharding : jax.sharding.Sharding, optional
            Of the rows of all processes, such as ``NamedSharding(mesh, PartitionSpec("data"))``: each
            process has the batches of its rank, which make global arrays together
            (`jax.make_array_from_process_local_data`).
        remainder : "keep" or "pad"
            ``"pad"`` gives all batches the same shape, so that nothing is compiled twice: a shorter one
            is filled up with zeros, and each batch has a mask more, ``(x, y, mask)``, of shape
            (batch_size,): True where a row is real. Full batches share one mask, which must not be
            donated.
        prefetch : int
            On an accelerator, batches that are copied ahead while the ones before are used.

        Returns
        -------
        JaxBatches
            Iterating it gives an epoch; it has `set_epoch`, `state_dict`, `load_state_dict`, `split` and
            `folds`, too. Offsets of ragged inputs are int32, unless JAX keeps 64 bits.

        Raises
        ------
        ArgumentError
            Where ragged inputs are asked for in one shape, or shards of unequal sizes; when iterating,
            before the first batch, where JAX would make 32 bits of numbers of 64 (it does unless
            ``jax_enable_x64`` is set), or where the loader's ranks are not JAX's processes.
        """
        formats = load("jax")
        from rootfeed.loader.jax import JaxBatches  # which imports jax

        one_of("remainder", remainder, ("keep", "pad"))
        spec, pad = self._pipeline.spec, remainder == "pad"
        if device is not None and sharding is not None:
            raise ArgumentError("give a device or a sharding, not both: a sharding names its devices.")
        if (pad or sharding is not None) and any(part.ragged for part in spec.layout.parts):
            raise ArgumentError(
                "ragged inputs have another shape in each batch, and no even parts: "
                "ask for rootfeed.padded instead."
            )
        if sharding is not None and not (pad or spec.drop_last):
            raise ArgumentError(
                "a shorter last batch cannot be divided evenly among devices: choose remainder='pad' "
                "here, or drop_last=True where the loader is made."
            )
        if sharding is not None and spec.tail == "uneven" and self._pipeline.shard().world_size > 1:
            raise ArgumentError(
                'tail="uneven" gives some processes a batch more, for which they would wait for the '
                'others: choose tail="pad" or tail="drop" where the loader is made.'
            )
        format = formats.jax_format(spec.layout, spec.batch_size, device, sharding, pad, prefetch)
        return JaxBatches(self, format)

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
        self._pipeline.set_epoch(epoch)

    def follow(self, epoch: int | None, is_new: bool = False) -> bool:
        """Take a trainer's epoch for the next one, unless somebody has chosen another.

        For trainers that resume at an epoch's beginning, and do not say so to what they train on.
        Workers of a DataLoader that begin from now on begin with this epoch. Where `set_epoch` or
        `load_state_dict` was called, that counts instead; and counts on, with the trainer's epochs.

        Parameters
        ----------
        epoch : int or None
            Not negative. None, at a training's end: workers are not told any more.
        is_new : bool
            Whether the trainer has ended the epoch in whose middle a loaded state is, after as many
            batches as it was limited to: then the next one begins.

        Returns
        -------
        bool
            Whether the next iteration begins elsewhere than was chosen: workers that have begun before
            do not know of it, so that the trainer must make a new iterator.
        """
        return self._pipeline.follow(epoch, is_new)

    def state_dict(self, used: int | None = None) -> dict[str, Any]:
        """Return where the iteration is, behind the last batch that was received, as plain data.

        A kilobyte or two that JSON can hold; see `load_state_dict`. After an epoch's last batch
        it is the beginning of the next epoch.

        Parameters
        ----------
        used : int, optional
            Batches of the iteration in progress behind which the state is, counted from where it began.
            None counts all that were received; TensorFlow and Keras ask for some before they use them,
            so that this must be said in the middle of an epoch: ``used=batch + 1`` in a callback's
            ``on_train_batch_end(batch, logs)``.

        Raises
        ------
        StateError
            Where it must be said.

        Notes
        -----
        What workers of a DataLoader have made is not known here, where the state stays what it was
        before: the beginning of the epoch that was chosen. Use torchdata's ``StatefulDataLoader`` and
        its ``state_dict()``, or ``num_workers=0``, for states in the middle of an epoch.
        """
        return self._pipeline.state_dict(used)

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
        self._pipeline.load_state_dict(state)

    def close(self) -> None:
        """Give the memory back. Iterating again reads the files again."""
        self._pipeline.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- splits -------------------------------------------------------------------------------

    @overload
    def split(
        self,
        fractions: float | None = None,
        *,
        by: str | Iterable[str] | None = None,
        where: str | None = None,
        unit: Unit = "entry",
        stratify: str | None = None,
        seed: int = 0,
        resample: str | Iterable[str] | None = None,
    ) -> Split[Loader]: ...

    @overload
    def split(
        self,
        fractions: Mapping[str, float],
        *,
        by: str | Iterable[str] | None = None,
        where: None = None,
        unit: Unit = "entry",
        stratify: str | None = None,
        seed: int = 0,
        resample: str | Iterable[str] | None = None,
    ) -> dict[str, Loader]: ...

    def split(
        self,
        fractions: float | Mapping[str, float] | None = None,
        *,
        by: str | Iterable[str] | None = None,
        where: str | None = None,
        unit: Unit = "entry",
        stratify: str | None = None,
        seed: int = 0,
        resample: str | Iterable[str] | None = None,
        **named: float,
    ) -> Split[Loader] | dict[str, Loader]:
        """Divide the entries into parts: ``split(0.2)``, or ``split({"train": 0.7, "test": 0.3})``.

        An entry's part depends on `seed`, its file's identity and its number in the file: not on the
        loader's seed, columns, cuts, batch size, or the order of files. So each loader of the same
        files, with whatever seed or none, has the same parts. They are disjoint and cover everything,
        also the parts of a part; each file gives its fractions to within one entry.

        Parameters
        ----------
        fractions : float or mapping of str to float, optional
            Share of the second of two parts, between 0 and 1; or those of any number of parts, which
            may be called anything, and whose sum is 1.
        by : str or iterable of str, optional
            Columns of integers, such as event numbers, or of text, whose values decide instead of file
            and number: so that an event stays in its part after skimming and merging. Reads these
            columns once.
        where : str, optional
            An expression: the second of two parts is where it holds. Reads its columns once.
        unit : "entry" or "block"
            ``"block"`` divides stretches of entries between which pages of all columns end: no page is
            read for two parts. Exact to one stretch. Depends on the columns that this loader reads, and
            on all files: with others, parts are others.
        stratify : str, optional
            A label whose values have the same fractions in all parts: exactly, to within one entry of
            each file and value. Reads the column once. Where the label is a definition, entries that do
            not pass have none, so that parts depend on the cuts.
        seed : int
            Of this division: another one divides anew. Not the loader's, which orders the entries.
        resample : str or iterable of str, optional
            Parts that keep this loader's `sampling`, and the number of batches of its epochs; the first
            one if left out. The others use each of their rows once in an epoch.

        Returns
        -------
        Split or dict of str to Loader
            A named tuple ``(train, test)``, or the parts by their names. Each has this loader's memory
            in proportion, and what it cannot do without; iterated in turns, they use the same.

        Raises
        ------
        ArgumentError
            Where fractions are out of range, several rules are given, or a part is too small for a
            batch; where `seed` is given beside `where`.
        EmptyDatasetError
            Where a part would be empty, or have too few rows of a class.
        """
        if named:
            raise ArgumentError(f"parts are named in a mapping: split({named!r}).")
        rule = Rule(_names(in_order("by", by)), where, unit, stratify, integer("seed", seed))
        kept = None if resample is None else _names(resample)
        made = parts.split(self._pipeline, fractions, rule, kept)
        loaders = {name: self._part(part) for name, part in made.items()}
        return loaders if isinstance(fractions, Mapping) else Split(**loaders)

    def folds(
        self,
        count: int,
        *,
        by: str | Iterable[str] | None = None,
        unit: Unit = "entry",
        stratify: str | None = None,
        seed: int = 0,
    ) -> list[Split[Loader]]:
        """Divide the entries into equal parts, each of which is the test part once.

        Parameters
        ----------
        count : int
            Of folds, at least 2.
        by, unit, stratify, seed
            See `split`.

        Returns
        -------
        list of Split
            The test parts are disjoint and cover everything. Each pair has the memory of this loader:
            use one after the other, and `close` it.
        """
        rule = Rule(_names(in_order("by", by)), None, unit, stratify, integer("seed", seed))
        pairs = parts.folds(self._pipeline, count, rule)
        return [Split(self._part(pair["train"]), self._part(pair["test"])) for pair in pairs]


def split_exactly(
    loader: Loader,
    fraction: float,
    *,
    seed: int | None = None,
    each_frame: bool = False,
    down: Literal["train", "test"] = "test",
) -> Split[Loader]:
    """Divide the rows that pass the cuts into two parts whose sizes are exact.

    Parameters
    ----------
    loader : Loader
    fraction : float
        Share of the test part.
    seed : int, optional
        Of a random division, of which each file gives its share to within one row. If left out, the
        last rows, in the order of the files, are the test part.
    each_frame : bool
        Divide each frame's rows for themselves, not all together.
    down : "train" or "test"
        Which part has its share rounded down to whole rows.
    """
    made = parts.split_exactly(loader._pipeline, fraction, seed, each_frame, down)
    return Split(loader._part(made["train"]), loader._part(made["test"]))


def varied(loader: Loader, sampling: Sampler | None, **options: Any) -> Loader:
    """Return a loader of the same rows with another sampling, and with other options.

    Parameters
    ----------
    loader : Loader
    sampling : Sampler or None
    **options
        ``drop_last``, ``shuffle``, ``tail``, ``epoch_batches``, or the ``dtype`` of all arrays; those of
        the loader, if left out.
    """
    return loader._part(loader._pipeline.varied(sampling, **options))


def _names(names: str | Iterable[str] | None) -> tuple[str, ...]:
    found = () if names is None else as_tuple(names)
    for name in found:
        if not isinstance(name, str):
            raise ArgumentError(f"a column or a part is named by a text, got {name!r}.")
    return found
