"""From a block's pages to rows in memory, and vectors beside them: read, cast, evaluate, pack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Event, Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from rootfeed import kernels, sources
from rootfeed.compiling import compile_declared
from rootfeed.dataset import MADE_BYTES, Dataset, NotFinite, Taken
from rootfeed.engine import Task
from rootfeed.errors import ArgumentError, EvaluationError, NotFiniteError, UnequalLengthsError
from rootfeed.layout import Vectors
from rootfeed.loader.batches import gathered
from rootfeed.loader.casting import CUT, NOT_FINITE, Alterations, altered, cast, is_exact
from rootfeed.loader.memory import Pool
from rootfeed.loader.staging import Staging, staged, stride
from rootfeed.schema import Array, Block, Jagged
from rootfeed.sources import Scratch, Storage

__all__ = ["fill_tasks", "prepare"]

Positions = npt.NDArray[np.int32]

Used = Callable[[], tuple[Array, Array]]
"""Which of a column's values come into rows, and the entries of the block that they belong to."""

_ALL = np.empty(0, np.int32)

_PIECE_BYTES = 4_000_000
"""What a task reads: a few milliseconds of work."""

_FIRST_ROWS = 256
"""For which vectors are made at first, to see how long they are."""


def fill_tasks(
    dataset: Dataset,
    part: Taken,
    rows: Sequence[Array],
    elements: list[Array],
    pool: Pool,
    alterations: Alterations,
    nonfinite: NotFinite,
    fetched: Storage | None = None,
) -> list[Task]:
    """Return the tasks that fill a block's rows: each reads some columns, and the last one packs all.

    Parameters
    ----------
    dataset : Dataset
    part : Taken
    rows : sequence of ndarray of uint8, each of shape (some rows, layout.row_bytes)
        Where the rows come to lie: part.rows together, one matrix after another. When the tasks are told
        to stop, they may stay incomplete.
    elements : list of ndarray of uint8
        Gets the memory, taken from the pool, in which the vectors lie that these rows refer to. It can
        be given back as soon as nobody gathers them any more.
    pool : Pool
    alterations : Alterations
    nonfinite : "warn", "error" or "keep"
        What becomes of values that are NaN or infinite: they are counted, raised or left alone.
    fetched : Storage, optional
        What was fetched of the block from a server.

    Notes
    -----
    Few blocks may be in memory, and batches wait for the next one: so all threads share a block.
    """
    pieces = _pieces(dataset, part.block)
    filling = _Filling(
        dataset, part, rows, elements, pool, alterations, nonfinite, fetched, unread=len(pieces)
    )
    return [partial(filling.read, names) for names in pieces]


def _pieces(dataset: Dataset, block: Block) -> list[tuple[str, ...]]:
    """Divide the stored columns among the tasks of a block: some megabytes for each."""
    file = dataset.files[block.file]
    sizes = {name: int(len(block) * each) for name, each in file.read_bytes.items()}
    total, done = max(sum(sizes.values()), 1), 0
    pieces = total // _PIECE_BYTES
    if pieces < 2 or sources.is_fetched(file.index):  # whose pages were fetched together
        return [tuple(sizes)]
    divided: list[list[str]] = [[] for _ in range(pieces)]
    for name, size in sizes.items():
        divided[min(done * pieces // total, pieces - 1)].append(name)
        done += size
    return [tuple(names) for names in divided if names]


class _Filling:
    """A block on its way from pages to rows, shared by its tasks."""

    def __init__(
        self,
        dataset: Dataset,
        part: Taken,
        rows: Sequence[Array],
        elements: list[Array],
        pool: Pool,
        alterations: Alterations,
        nonfinite: NotFinite,
        fetched: Storage | None,
        unread: int,
    ) -> None:
        self._dataset = dataset
        self._block = part.block
        self._take = part.take
        self._file = dataset.files[self._block.file]
        self._rows = rows
        self._elements = elements
        self._pool = pool
        self._alterations = alterations
        self._nonfinite = nonfinite
        self._fetched = fetched
        self._unread = unread
        self._lock = Lock()
        self._scratch: Scratch | None = None
        self._held: list[tuple[str, Scratch]] = []
        self._staging: list[Staging] = []
        self._inputs: dict[str, Array | Jagged] = {}

    def read(self, names: Sequence[str], stopped: Event) -> None:
        """Read some columns; after the last of them, evaluate the definitions and pack all."""
        with self._lock:
            if self._scratch is None:
                self._scratch = self._pool.take_scratch("columns")
                self._staging = staged(self._dataset, self._file, len(self._block), self._scratch)
            columns = self._scratch
        purpose = f"pages {names[:1]}"  # buffers of vectors are those of the same columns again
        scratch = self._pool.take_scratch(purpose)
        try:
            self._read(names, columns, scratch, stopped)
        finally:
            with self._lock:
                self._held.append((purpose, scratch))  # in which vectors lie until they are used
        with self._lock:
            self._unread -= 1
            if self._unread:
                return
        if not stopped.is_set():
            take, start = self._take, 0
            if take is None and len(self._rows) > 1:
                take = np.arange(len(self._block), dtype=np.int32)
            for rows in self._rows:
                some = None if take is None else take[start : start + len(rows)]
                self._make_rows(columns, some, rows)
                start += len(rows)
        for purpose, scratch in self._held:
            self._pool.give_scratch(purpose, scratch)
        self._pool.give_scratch("columns", columns)

    def _read(self, names: Sequence[str], columns: Scratch, scratch: Scratch, stopped: Event) -> None:
        block, index, inputs = self._block, self._file.index, self._file.projection.inputs
        stored = self._staging[0].columns

        def out_for(name: str) -> Array:
            native = index.dtype(name)
            if name in inputs:
                return columns.array(f"input {name}", len(block), native)
            for slot in stored[name]:
                if slot.dtype == native:
                    return slot
            return scratch.array("native", len(block), native)

        for name, values in sources.read(
            index, names, block.start, block.stop, out_for, scratch, stopped, self._fetched
        ):
            if name in inputs or isinstance(values, Jagged):
                self._inputs[name] = values
            if not isinstance(values, Jagged):
                self._cast(name, values, stored.get(name, ()), self._taken)

    def _make_rows(self, columns: Scratch, take: Positions | None, rows: Array) -> None:
        stored, defined = self._staging
        stored.pack(take, rows)
        names = set(self._file.projection.defined)
        every = self._dataset.layout.vectors
        later = [each for each in every if not names.isdisjoint({*each.columns, each.sort_by})]
        for each in every:
            if each not in later:
                self._write(each, {}, columns, take, rows)
        if not names:
            return
        if take is None:
            take = np.arange(len(self._block), dtype=np.int32)
        types = self._file.projection.types(self._file.index)
        vectors = any(types[name].kind == "vector" for name in self._file.projection.defined)
        start, step = 0, _FIRST_ROWS if vectors else len(take)
        while start < len(take):
            # How long the vectors are that definitions make shows when they are made.
            some, part = take[start : start + step], rows[start : start + step]
            made = self._evaluate(defined, columns, some)
            defined.pack(None, part)
            for each in later:
                self._write(each, made, columns, some, part)
            start += step
            row_bytes = sum(each.values.nbytes for each in made.values()) / len(some)
            step = max(int(MADE_BYTES / max(row_bytes, 1)), 1) if vectors else step

    def _evaluate(self, staging: Staging, columns: Scratch, take: Positions) -> Mapping[str, Jagged]:
        """Evaluate the definitions for some entries; return those that are vectors."""
        file, block = self._file, self._block
        outs: dict[str, Array] = {}
        for name, places in staging.columns.items():
            native = file.projection.types(file.index)[name].dtype
            same = [slot[: len(take)] for slot in places if slot.dtype == native]
            outs[name] = same[0] if same else columns.array(f"made {name}", len(take), native)
        number = file.first_number + block.start
        made = file.projection.evaluate(file.index, self._inputs, block, number, take, outs)
        for name, places in staging.columns.items():
            whole = [slot[: len(take)] for slot in places]
            same = [outs[name] if np.may_share_memory(slot, outs[name]) else slot for slot in whole]
            self._cast(name, outs[name], same, lambda: (np.arange(len(take)), take))
        return made

    def _write(
        self,
        wanted: Vectors,
        made: Mapping[str, Jagged],
        columns: Scratch,
        take: Positions | None,
        rows: Array,
    ) -> None:
        """Write vectors, sorted and cut as is wanted, into the rows or beside them."""
        part = self._dataset.layout.parts[wanted.part]
        lengths = columns.array("lengths", len(rows), np.int32)
        first = wanted.columns[0]
        vectors, chosen = self._vectors(first, made, take)
        kernels.lengths_of(vectors.offsets, chosen, lengths)
        total = int(lengths.sum(dtype=np.int64))
        kept = columns.array("kept lengths", len(rows), np.int32)
        np.minimum(lengths, wanted.length, out=kept)
        cut = int(np.count_nonzero(lengths > kept))
        if cut and part.ragged:
            raise EvaluationError(
                f"{self._file.index.where}: column {first!r} has vectors of more than {wanted.length} "
                "elements, the most that were found before: it differs each time it is evaluated. "
                "Use rootfeed.padded for it."
            )
        if cut:
            self._alterations.add(first, CUT + str(wanted.length), cut)
        order = chosen = _ALL
        if wanted.sort_by is not None:
            keys = self._read_elements(wanted.sort_by, first, made, take, lengths, total, columns)
            order = columns.array("element order", total, np.int32)
            kernels.sort_descending(keys, lengths, order)
        if cut or wanted.sort_by is not None:
            chosen = columns.array("kept elements", int(kept.sum(dtype=np.int64)), np.int32)
            kernels.kept_elements(lengths, order, wanted.length, chosen)
        matrix = columns.array("elements", (len(wanted.columns), stride(total)), part.dtype)
        used = partial(_elements_used, chosen, kept, take)
        for name, out in zip(wanted.columns, matrix, strict=True):
            elements = self._read_elements(name, first, made, take, lengths, total, columns)
            self._cast(name, elements, [out[:total]], used)
        words = matrix.view(f"u{part.dtype.itemsize}")
        if part.is_beside:
            self._lay_beside(wanted, words, chosen, kept, rows)
        else:
            self._pad(wanted, words, chosen, kept, rows)

    def _pad(
        self, wanted: Vectors, matrix: Array, chosen: Positions, lengths: Positions, rows: Array
    ) -> None:
        """Write what takes the same room in each row into the rows."""
        layout = self._dataset.layout
        part, word = layout.parts[wanted.part], matrix.dtype
        fill = np.array(wanted.value, part.dtype).view(word)[()]
        position = layout.offsets[wanted.part] // word.itemsize + wanted.position
        kernels.pad(matrix, chosen, lengths, wanted.length, fill, position, rows.view(word))

    def _lay_beside(
        self, wanted: Vectors, matrix: Array, chosen: Positions, lengths: Positions, rows: Array
    ) -> None:
        """Write vectors into memory of their own, and into the rows where they lie."""
        layout, count = self._dataset.layout, len(matrix)
        number, element_bytes = layout.beside.index(wanted), count * matrix.itemsize
        ends = np.cumsum(lengths, dtype=np.int64)
        total = int(lengths.sum(dtype=np.int64))
        memory = self._pool.take_memory(total * element_bytes)
        self._elements.append(memory)
        out = memory[: total * element_bytes].view(matrix.dtype).reshape(total, count)
        kernels.pack(matrix, chosen, np.arange(count), out)
        addresses = memory.ctypes.data + (ends - lengths) * element_bytes
        rows.view(np.uint64)[:, layout.offsets[-2] // 8 + number] = addresses
        rows.view(np.int32)[:, layout.offsets[-1] // 4 + number] = lengths

    def _vectors(
        self, name: str, made: Mapping[str, Jagged], take: Positions | None
    ) -> tuple[Jagged, Positions]:
        """Return a vector column, and which of its entries make rows (empty for all)."""
        if name in made:
            return made[name], _ALL
        vectors = self._inputs[name]
        assert isinstance(vectors, Jagged)
        return vectors, _ALL if take is None else take

    def _read_elements(
        self,
        name: str,
        first: str,
        made: Mapping[str, Jagged],
        take: Positions | None,
        lengths: Positions,
        total: int,
        columns: Scratch,
    ) -> Array:
        """Return the elements of a vector column in the rows, one row after another."""
        vectors, chosen = self._vectors(name, made, take)
        wrong = kernels.first_unequal(vectors.offsets, chosen, lengths)
        if wrong >= 0:
            entry = self._block.start + (wrong if take is None else int(take[wrong]))
            raise UnequalLengthsError(
                f"{self._file.index.where}: columns {first!r} and {name!r} of one input have "
                f"different lengths in entry {entry}. Give each an input of its own."
            )
        if not chosen.size:
            return vectors.values[:total]
        out = columns.array("taken elements", total, vectors.values.dtype)
        word = f"u{out.dtype.itemsize}"
        kernels.take_elements(vectors.values.view(word), vectors.offsets, chosen, out.view(word))
        return out

    def _cast(self, name: str, values: Array, outs: Sequence[Array], used: Used) -> None:
        """Cast a column to its places; count what is altered, or no number, in rows."""
        try:
            suspects = {out.dtype: out for out in outs if cast(values, out)}
        except ArgumentError as error:
            block, where = self._block, self._file.index.where
            raise ArgumentError(
                f"{where}: column {name!r}, entries [{block.start}, {block.stop}): {error}"
            ) from None
        if not suspects or not any(self._heeds(name, values.dtype, dtype) for dtype in suspects):
            return
        positions, entries = used()
        some = values[positions]
        for dtype, out in suspects.items():
            chosen = out[positions]
            if self._nonfinite == "error":
                self._refuse(name, some, chosen, entries)
            if count := altered(some, chosen):
                self._alterations.add(name, dtype, count)
        if some.dtype.kind == "f" and self._nonfinite == "warn":
            wrong = np.flatnonzero(~np.isfinite(some))
            if len(wrong):
                entry, where = self._block.start + entries[wrong[0]], self._file.index.where
                example = f"{some[wrong[0]]} in entry {entry} of {where}"
                self._alterations.add(name, NOT_FINITE, len(wrong), example)

    def _heeds(self, name: str, stored: np.dtype[Any], wanted: np.dtype[Any]) -> bool:
        """Whether it matters what becomes of values that are looked at closer."""
        if self._nonfinite == "error":
            return True
        tells = self._nonfinite == "warn" and self._alterations.wants(name, NOT_FINITE)
        alters = not is_exact(stored, wanted) and self._alterations.wants(name, wanted)
        return alters or (tells and stored.kind == "f")

    def _refuse(self, name: str, values: Array, cast_: Array, entries: Array) -> None:
        """Refuse values that are NaN or infinite in a batch."""
        wrong = np.flatnonzero(~np.isfinite(cast_))
        if not len(wrong):
            return
        block, first = self._block, int(wrong[0])
        became = f", which {cast_.dtype} cannot hold" if np.isfinite(values[first]) else ""
        raise NotFiniteError(
            f"{self._file.index.where}: column {name!r} has {len(wrong)} values that are NaN or "
            f"infinite in entries [{block.start}, {block.stop}), the first in entry "
            f"{block.start + entries[first]}: {values[first]}{became}. Cut such entries, "
            'or define another column, with isfinite(...) in an expression; nonfinite="warn" or "keep" '
            "lets them pass."
        )

    def _taken(self) -> tuple[Positions, Positions]:
        """Return the entries that make rows, as `Used`."""
        take = np.arange(len(self._block), dtype=np.int32) if self._take is None else self._take
        return take, take


def _elements_used(
    chosen: Positions, kept: Positions, take: Positions | None
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return which elements of vectors come into rows, and whose they are: see `Used`."""
    rows = np.repeat(np.arange(len(kept)), kept)
    elements = chosen.view(np.uint32) if chosen.size else np.arange(len(rows))
    return elements, rows if take is None else take[rows].astype(np.int64)


def prepare(dataset: Dataset) -> None:
    """Compile every kernel that this dataset needs, before threads start."""
    indexes = [file.index for file in dataset.files]
    sources.prepare(indexes)
    dtypes = {column.type.dtype for index in indexes for column in index.columns.values()}
    # Files whose columns have the same types need the same kernels.
    for file in {file.projection.signature(file.index): file for file in dataset.files}.values():
        dtypes |= {type_.dtype for type_ in file.projection.types(file.index).values()}
        for staging in staged(dataset, file, 0, Scratch()):
            for matrix, place in zip(staging.matrices, staging.places, strict=True):
                rows = np.empty((0, dataset.layout.row_bytes), np.uint8).view(matrix.dtype)
                kernels.pack(matrix, _ALL, place, rows)
    for dtype in dtypes:
        if dtype is not None and dtype.kind in "iu":
            kernels.count_inexact(np.empty(0, dtype), 2)
    for part in dataset.layout.parts:
        if part.dtype.kind == "f" and part.dtype.itemsize > 2:
            kernels.all_finite(np.empty(0, part.dtype))
    _prepare_vectors(dataset)
    compile_declared()
    layout = dataset.layout
    rows = np.empty((0, layout.row_bytes), np.uint8)
    gathered(layout, np.empty(0, np.uint8), rows, np.empty(0, np.uint32), (), 1)


def _prepare_vectors(dataset: Dataset) -> None:
    """Compile the kernels of vectors: a call for each type that they will meet."""
    layout = dataset.layout
    offsets, lengths, order = np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.int32)
    types = {
        (name, str(type_.dtype)): type_
        for file in dataset.files
        for name, type_ in file.projection.types(file.index).items()
    }
    for each in layout.vectors:
        part = layout.parts[each.part]
        word = np.dtype(f"u{part.dtype.itemsize}")
        matrix, count = np.empty((len(each.columns), 16), word), len(each.columns)
        kernels.lengths_of(offsets, _ALL, lengths)
        kernels.first_unequal(offsets, _ALL, lengths)
        if part.is_beside:
            kernels.pack(matrix, _ALL, np.arange(count), np.empty((0, count), word))
        else:
            rows = np.empty((0, layout.row_bytes), np.uint8).view(word)
            kernels.pad(matrix, _ALL, lengths, each.length, word.type(0), each.position, rows)
        for (name, _), type_ in types.items():
            if name in each.columns or name == each.sort_by:
                assert type_.dtype is not None
                values = np.empty(0, f"u{type_.dtype.itemsize}")
                kernels.take_elements(values, offsets, _ALL, values)
                if name == each.sort_by:
                    kernels.sort_descending(np.empty(0, type_.dtype), lengths, order)
