"""What an epoch consists of, and what batches look like."""

from __future__ import annotations

import itertools
import pickle
import sys
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from chosen import in_turns
from rootfeed.errors import (
    ArgumentError,
    ChangedFileError,
    EmptyDatasetError,
    PrecisionWarning,
    UnsupportedColumnError,
)
from rootfeed.plan.budget import WINDOW_SHARE
from samples import File, epoch_ids, in_a_row, open_events, values, write_all, write_columns

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the real ROOT exists for Linux only")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batches")


MIXED = in_a_row(
    File(700, page=90),
    File(0),
    File(333, page=50, format="RNTuple"),
    File(1, format="RNTuple"),
    File(0, format="RNTuple"),
    File(1466, page=400, dtypes=(("half", "f8"), ("code", "i8"), ("label", "i4"))),
)
ENTRIES = 2500


@pytest.fixture(scope="session")
def paths(folder: Path) -> list[str]:
    return write_all(folder / "mixed", MIXED)


@pytest.fixture(scope="session")
def frame(paths: list[str]) -> rf.Frame:
    return open_events(paths)


def whole_epoch(loader: rf.Loader) -> list[np.ndarray]:
    """Join an epoch's batches, each part on its own."""
    batches = [batch if isinstance(batch, tuple) else (batch,) for batch in loader]
    return [np.concatenate(part) for part in zip(*batches, strict=True)]


# --- every entry once -----------------------------------------------------------------------------


@st.composite
def layouts(draw: st.DrawFn) -> list[File]:
    files = st.builds(
        File,
        entries=st.one_of(st.just(0), st.integers(1, 40), st.integers(100, 400)),
        page=st.integers(20, 150),
        format=st.sampled_from(["TTree", "RNTuple"]),
        dtypes=st.sampled_from(
            [(), (("half", "f8"),), (("id", "i4"), ("label", "i2")), (("code", "i8"), ("flag", "u1"))]
        ),
    )
    drawn = draw(st.lists(files, min_size=1, max_size=4))
    if not sum(file.entries for file in drawn):
        drawn.append(File(draw(st.integers(1, 50))))
    return in_a_row(*drawn)


SIZES = st.one_of(
    st.just({}),
    st.just({"memory": "10 MB", "block_entries": 37}),
    st.builds(lambda room: {"room": room}, st.floats(1.01, 3.0)),
    st.builds(
        lambda chunk, block: {"chunk_entries": chunk, "block_entries": block},
        st.integers(100, 300),
        st.integers(1, 300),
    ),
    st.builds(lambda chunk: {"chunk_entries": chunk}, st.integers(100, 2000)),
)


@settings(max_examples=settings.default.max_examples // 2)
@given(
    files=layouts(),
    batch_size=st.one_of(st.integers(1, 100), st.just(100)),
    sizes=SIZES,
    threads=st.integers(1, 4),
    seed=st.integers(0, 2**40),
    drop_last=st.booleans(),
    shuffle=st.booleans(),
)
@example(
    files=in_a_row(File(30), File(100)),
    batch_size=10,
    sizes={"chunk_entries": 100, "block_entries": 100},
    threads=1,
    seed=0,
    drop_last=False,
    shuffle=True,
)
@example(
    files=in_a_row(File(30), File(100)),
    batch_size=10,
    sizes={"chunk_entries": 100, "block_entries": 100},
    threads=2,
    seed=0,
    drop_last=False,
    shuffle=False,
)
def test_every_entry_once(
    folder: Path,
    files: list[File],
    batch_size: int,
    sizes: dict[str, Any],
    threads: int,
    seed: int,
    drop_last: bool,
    shuffle: bool,
) -> None:
    names = ["id", "half", "root", "code", "label", "flag", "weight"]
    written = open_events(write_all(folder / uuid.uuid4().hex, files, names))
    total = sum(file.entries for file in files)
    if "room" in sizes:
        # Rows of 48 bytes: as little as is allowed, or somewhat more.
        sizes = {"memory": int(sizes["room"] * 4 * (batch_size + 1) * 52 / WINDOW_SHARE)}

    def loader(threads: int) -> rf.Loader:
        return rf.Loader(
            written,
            batch_size,
            features=["id", "half", "root", "code"],
            target=["label", "flag"],
            weights="weight",
            dtype="float64",
            target_dtype="int16",
            threads=threads,
            seed=seed,
            drop_last=drop_last,
            shuffle=shuffle,
            **sizes,
        )

    if drop_last and total < batch_size:
        with pytest.raises(ArgumentError, match=f"{total} rows are too few for a batch of {batch_size}"):
            loader(1)
        return
    used = loader(threads)
    expected_sizes = [batch_size] * (total // batch_size)
    if total % batch_size and not drop_last:
        expected_sizes.append(total % batch_size)
    orders = []
    for _ in range(2):
        batches = list(used)
        assert [len(x) for x, _, _ in batches] == expected_sizes
        assert len(used) == len(expected_sizes)
        for x, y, w in batches:
            ids = x[:, 0].astype(np.int64)
            for column, name in enumerate(["id", "half", "root", "code"]):
                assert np.array_equal(x[:, column], values(name, ids).astype("f8")), name
            assert np.array_equal(y[:, 0], values("label", ids))
            assert np.array_equal(y[:, 1], values("flag", ids))
            assert np.array_equal(w[:, 0], values("weight", ids))
        orders.append(np.concatenate([x[:, 0] for x, _, _ in batches] or [np.zeros(0)]))
    for order in orders:
        assert len(np.unique(order)) == len(order) == sum(expected_sizes)
        if not shuffle:
            assert np.array_equal(order, np.arange(len(order)))
    if shuffle and len(orders[0]) > 20:
        assert not np.array_equal(orders[0], orders[1])
    # Threads decide nothing.
    again = [x[:, 0] for x, _, _ in loader(5 - threads)]
    assert np.array_equal(np.concatenate(again or [np.zeros(0)]), orders[0])


@on_linux
@pytest.mark.timeout(100)
def test_columns_whose_pages_end_in_different_places(folder: Path) -> None:
    # Small baskets written by ROOT hold 64 entries of one type and 512 of another.
    from rootfiles.ttree import Tree, write_leaves

    names = {"id": "L", "half": "F", "root": "D", "code": "I", "label": "b"}
    path = folder / "baskets.root"
    columns = {name: values(name, np.arange(3000)) for name in names}
    leaves = {name: f"{name}/{code}" for name, code in names.items()}
    write_leaves(path, leaves, columns, "zstd", Tree("events", 1000, 512))
    for sizes in ({}, {"memory": "60 kB"}, {"chunk_entries": 500, "block_entries": 33}):
        loader = rf.Loader(
            rf.open(path), 64, ["id", "half", "root", "code"], "label", dtype="f8", seed=1, **sizes
        )
        x, y = whole_epoch(loader)
        ids = x[:, 0].astype(np.int64)
        assert np.array_equal(np.sort(ids), np.arange(3000))
        for column, name in enumerate(["id", "half", "root", "code"]):
            assert np.array_equal(x[:, column], values(name, ids).astype("f8"))
        assert np.array_equal(y[:, 0], values("label", ids))


@pytest.mark.parametrize("sizes", [{}, {"memory": "40 kB"}], ids=["kept", "lazy"])
def test_integers_are_exact(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = rf.Loader(frame, 100, ["event", "id"], dtype="int64", **sizes)
    (x,) = whole_epoch(loader)
    assert x.dtype == np.int64
    assert sorted(x[:, 0].tolist()) == [id_ + 2**53 + 1 for id_ in range(ENTRIES)]
    assert np.array_equal(x[:, 0] - x[:, 1], np.full(ENTRIES, 2**53 + 1))


LAZY = {"memory": "25 kB"}
BY_HAND = {"chunk_entries": 400, "block_entries": 50}


@pytest.mark.parametrize("sizes", [{}, LAZY, BY_HAND], ids=["kept", "lazy", "by hand"])
class TestOrder:
    def make(self, frame: rf.Frame, sizes: dict[str, Any], **changes: Any) -> rf.Loader:
        settings: dict[str, Any] = {"features": ["id", "half"], "batch_size": 64, "seed": 7}
        return rf.Loader(frame, **(settings | sizes | changes))

    def test_sizes_are_what_this_class_assumes(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        assert self.make(frame, sizes).in_memory == (not sizes)

    def test_same_seed_same_batches(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        first, second = self.make(frame, sizes), self.make(frame, sizes)
        for _ in range(3):
            assert np.array_equal(epoch_ids(first), epoch_ids(second))

    def test_another_seed_gives_another_order(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        one, two = self.make(frame, sizes), self.make(frame, sizes, seed=8)
        assert not np.array_equal(epoch_ids(one), epoch_ids(two))

    def test_epochs_differ_and_can_be_chosen(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        loader = self.make(frame, sizes)
        orders = [epoch_ids(loader) for _ in range(4)]
        for a, b in itertools.combinations(orders, 2):
            assert not np.array_equal(a, b)
        loader.set_epoch(2)
        assert np.array_equal(epoch_ids(loader), orders[2])
        assert np.array_equal(epoch_ids(loader), orders[3])
        fresh = self.make(frame, sizes)
        fresh.set_epoch(3)
        assert np.array_equal(epoch_ids(fresh), orders[3])

    def test_no_order_is_the_order_of_the_files(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        loader = self.make(frame, sizes, shuffle=False)
        for _ in range(2):
            assert np.array_equal(epoch_ids(loader), np.arange(ENTRIES))

    def test_a_drawn_seed_can_be_used_again(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        drawn = self.make(frame, sizes, seed=None)
        again = self.make(frame, sizes, seed=drawn.seed)
        assert np.array_equal(epoch_ids(drawn), epoch_ids(again))
        assert self.make(frame, sizes, seed=None).seed != drawn.seed

    def test_the_global_generator_is_left_alone(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        np.random.seed(1)  # noqa: NPY002  # the global state is meant
        before = np.random.get_state()[1].copy()  # noqa: NPY002  # the global state is meant
        first = epoch_ids(self.make(frame, sizes))
        assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002  # the global state is meant
        np.random.seed(2)  # noqa: NPY002  # the global state is meant
        assert np.array_equal(first, epoch_ids(self.make(frame, sizes)))

    def test_iterators_at_once(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        orders = [epoch_ids(loader) for loader in [self.make(frame, sizes)] for _ in range(2)]
        loader = self.make(frame, sizes)
        first, second = iter(loader), iter(loader)
        a, b = [], []
        for x, z in itertools.zip_longest(first, second):
            a.append(x[:, 0])
            b.append(z[:, 0])
        assert np.array_equal(np.concatenate(a), orders[0])
        assert np.array_equal(np.concatenate(b), orders[1])

    def test_a_dropped_iterator_costs_only_its_epoch(
        self, frame: rf.Frame, sizes: dict[str, Any]
    ) -> None:
        orders = [epoch_ids(loader) for loader in [self.make(frame, sizes)] for _ in range(3)]
        loader = self.make(frame, sizes)
        for _, _batch in zip(range(3), loader, strict=False):
            pass
        assert np.array_equal(epoch_ids(loader), orders[1])
        loader.close()
        assert np.array_equal(epoch_ids(loader), orders[2])

    def test_a_pickled_loader_goes_on(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        orders = [epoch_ids(loader) for loader in [self.make(frame, sizes)] for _ in range(3)]
        loader = self.make(frame, sizes)
        epoch_ids(loader)
        copy = pickle.loads(pickle.dumps(loader))
        assert copy.seed == loader.seed
        assert len(copy) == len(loader)
        assert np.array_equal(epoch_ids(copy), orders[1])
        assert np.array_equal(epoch_ids(loader), orders[1])
        assert np.array_equal(epoch_ids(copy), orders[2])

    def test_repeats_do_not_add_up(self, frame: rf.Frame, sizes: dict[str, Any]) -> None:
        with self.make(frame, sizes) as loader:
            for _ in range(20):
                assert len(np.unique(epoch_ids(loader))) == ENTRIES

    def test_what_other_loaders_read_does_not_matter(
        self, paths: list[str], sizes: dict[str, Any]
    ) -> None:
        # A frame remembers the pages of columns that someone else asked for.
        fresh, used = open_events(paths), open_events(paths)
        rf.Loader(used, 64)
        one, two = self.make(fresh, sizes), self.make(used, sizes)
        assert np.array_equal(epoch_ids(one), epoch_ids(two))


@on_linux
def test_what_other_loaders_read_does_not_move_blocks(folder: Path) -> None:
    from rootfiles.ttree import Tree, write_leaves

    path = folder / "history.root"
    columns = {name: values(name, np.arange(4000)) for name in ("id", "label")}
    # Baskets of 64 and of 512 entries.
    write_leaves(path, {"id": "id/L", "label": "label/b"}, columns, "zstd", Tree("events", 2000, 512))

    def order(frame: rf.Frame) -> np.ndarray:
        return epoch_ids(rf.Loader(frame, 32, ["label"], seed=1, chunk_entries=600, dtype="i8"))

    used = rf.open(path)
    rf.Loader(used, 32, ["id", "label"])
    assert np.array_equal(order(rf.open(path)), order(used))


# --- several frames -------------------------------------------------------------------------------


def test_several_frames_are_one_dataset(paths: list[str]) -> None:
    parts = [open_events(paths[:1]), open_events(paths[1:4]), open_events(paths[4:])]
    for sizes in ({}, LAZY, BY_HAND):
        one = rf.Loader(open_events(paths), 64, ["id", "half"], seed=3, **sizes)
        several = rf.Loader(parts, 64, ["id", "half"], seed=3, **sizes)
        assert several.num_rows == ENTRIES
        assert np.array_equal(epoch_ids(one), epoch_ids(several))
    straight = rf.Loader(iter(parts), 64, ["id"], shuffle=False)
    assert np.array_equal(epoch_ids(straight), np.arange(ENTRIES))


def test_one_frame_twice_repeats_its_entries(paths: list[str]) -> None:
    frame = open_events(paths[:1])
    loader = rf.Loader([frame, frame], 64, ["id"])
    assert np.array_equal(np.sort(epoch_ids(loader)), np.repeat(np.arange(700), 2))


def test_columns_of_frames_are_matched_by_name(folder: Path) -> None:
    ids = np.arange(200)
    first = write_columns(folder / "ab.root", {"id": ids, "a": ids * 2.0, "b": ids * 3.0})
    second = write_columns(
        folder / "ba.root",
        {
            "b": ((ids + 200) * 3).astype("i4"),
            "more": ids * 0.1,
            "a": (ids + 200) * 2.0,
            "id": ids + 200,
        },
        format="RNTuple",
    )
    (x,) = whole_epoch(rf.Loader([rf.open(first), rf.open(second)], 64, dtype="f8"))
    assert x.shape == (400, 3)
    assert np.array_equal(np.sort(x[:, 0]), np.arange(400))
    assert np.array_equal(x[:, 1], x[:, 0] * 2)
    assert np.array_equal(x[:, 2], x[:, 0] * 3)


# --- the look of a batch --------------------------------------------------------------------------


def test_features_target_and_weights(frame: rf.Frame) -> None:
    x = next(iter(rf.Loader(frame, 10, ["half", "code"])))
    assert isinstance(x, np.ndarray)
    assert (x.shape, x.dtype) == ((10, 2), np.float32)
    batch = next(iter(rf.Loader(frame, 10, ["half", "code"], "label")))
    assert isinstance(batch, tuple)
    assert [part.shape for part in batch] == [(10, 2), (10, 1)]
    batch = next(iter(rf.Loader(frame, 10, "half", ["label", "flag", "code"], "weight")))
    assert [part.shape for part in batch] == [(10, 1), (10, 3), (10, 1)]
    assert all(part.dtype == np.float32 for part in batch)


def test_all_numeric_columns_are_features(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 10, target="label", weights="weight", dtype="f8")
    assert loader.features == ("id", "half", "root", "code", "flag", "event")
    assert loader.target == ("label",)
    assert loader.weights == "weight"
    with pytest.warns(PrecisionWarning, match="event"):
        x, y, w = next(iter(loader))
    assert (x.shape, y.shape, w.shape) == ((10, 6), (10, 1), (10, 1))
    alone = rf.Loader(frame, 10, "id")
    assert (alone.target, alone.weights) == ((), None)


def test_columns_come_in_the_order_asked_for(frame: rf.Frame) -> None:
    names = ["flag", "code", "id", "half"]
    (x,) = whole_epoch(rf.Loader(frame, 100, names, dtype="f8"))
    ids = x[:, 2].astype(int)
    for column, name in enumerate(names):
        assert np.array_equal(x[:, column], values(name, ids).astype("f8"))


def test_a_column_can_be_feature_target_and_weight(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, ["id", "weight"], ["weight", "id"], "weight", target_dtype="f8")
    x, y, w = whole_epoch(loader)
    assert np.array_equal(x[:, 1], y[:, 0].astype("f4"))
    assert np.array_equal(x[:, 0], y[:, 1])
    assert np.array_equal(w[:, 0], x[:, 1])
    assert np.array_equal(x[:, 1], values("weight", x[:, 0].astype(int)))


@pytest.mark.parametrize("sizes", [{}, BY_HAND], ids=["kept", "lazy"])
@pytest.mark.parametrize(
    ("dtype", "target_dtype", "weight_dtype"),
    [
        ("float32", "float32", "float32"),
        ("float64", "int64", "float64"),
        ("float16", "uint8", "float16"),
        ("float32", "int8", "float32"),
        (np.float64, np.uint16, "float64"),
        (">f8", "<i4", "float64"),
    ],
)
def test_dtypes(
    folder: Path, sizes: dict[str, Any], dtype: Any, target_dtype: Any, weight_dtype: str
) -> None:
    ids = np.arange(1000)
    path = folder / "dtypes.root"
    if not path.exists():
        columns = {
            "small": (ids % 100).astype("i2"),
            "real": ids % 64 * 0.25,
            "label": (ids % 7).astype("i4"),
            "kind": (ids % 5).astype("u1"),
            "id": ids.astype("i8"),
            "w": (ids % 16 * 0.125).astype("f4"),
        }
        write_columns(path, columns)
    frame = rf.open(path)
    loader = rf.Loader(
        frame,
        90,
        ["small", "real", "kind"],
        ["label", "kind", "small"],
        "w",
        dtype=dtype,
        target_dtype=target_dtype,
        seed=5,
        **sizes,
    )
    reference = rf.Loader(frame, 90, ["id"], seed=5, chunk_entries=400, block_entries=50)
    reference = reference if sizes else rf.Loader(frame, 90, ["id"], seed=5)
    batches = list(loader)
    for x, y, w in batches:
        assert x.dtype == np.dtype(dtype).newbyteorder("=")
        assert y.dtype == np.dtype(target_dtype)
        assert w.dtype == np.dtype(weight_dtype)
        assert (x.dtype.isnative, y.dtype.isnative) == (True, True)
        for part in (x, y, w):
            assert part.flags.c_contiguous
            assert part.flags.writeable
            assert part.flags.aligned
    order = epoch_ids(reference)
    x, y, w = (np.concatenate(part) for part in zip(*batches, strict=True))
    assert np.array_equal(x, np.stack([order % 100, order % 64 * 0.25, order % 5], 1))
    assert np.array_equal(y, np.stack([order % 7, order % 5, order % 100], 1))
    assert np.array_equal(w[:, 0], order % 16 * 0.125)


def test_integer_features(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, ["event", "id", "label", "flag"], "half", "weight", dtype="uint64")
    x, y, w = whole_epoch(loader)
    assert (x.dtype, y.dtype, w.dtype) == (np.uint64, np.float32, np.float32)
    ids = x[:, 1].astype(int)
    assert np.array_equal(x[:, 0], values("event", ids))
    assert np.array_equal(x[:, 2], values("label", ids))
    assert np.array_equal(x[:, 3], values("flag", ids))
    assert np.array_equal(y[:, 0], values("half", ids))
    assert np.array_equal(w[:, 0], values("weight", ids))


@pytest.mark.thorough(but=in_turns(range(1, 5), range(1, 8)))
@pytest.mark.parametrize("columns", range(1, 8))
@pytest.mark.parametrize("targets", range(1, 5))
def test_rows_of_any_width(folder: Path, columns: int, targets: int) -> None:
    # Parts of odd widths are padded inside a chunk's rows; no padding may be seen.
    path = folder / "widths.root"
    if not path.exists():
        write_columns(path, {f"c{n}": (np.arange(100) * 8 + n) % 128 for n in range(8)})
    frame = rf.open(path)
    names = [f"c{n}" for n in range(8)]
    for dtype, target_dtype in [("f2", "f8"), ("f4", "u1"), ("f8", "i2"), ("u1", "i4")]:
        loader = rf.Loader(
            frame, 7, names[:columns], names[-targets:], dtype=dtype, target_dtype=target_dtype
        )
        x, y = whole_epoch(loader)
        first = x[:, 0].astype(int)
        assert np.array_equal(x, np.stack([first + n for n in range(columns)], 1))
        assert np.array_equal(y, np.stack([first + n for n in range(8 - targets, 8)], 1))


# --- batches belong to the user -------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY, BY_HAND], ids=["kept", "lazy", "by hand"])
def test_batches_belong_to_the_user(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = rf.Loader(frame, 50, ["id", "half"], "label", "weight", seed=2, **sizes)
    batches, copies = [], []
    for batch in loader:
        batches.append(batch)
        copies.append([part.copy() for part in batch])
    for _ in loader:  # the memory of the blocks is filled again
        pass
    for batch, copy in zip(batches, copies, strict=True):
        for part, kept in zip(batch, copy, strict=True):
            assert np.array_equal(part, kept)
    arrays = [part for batch in batches for part in batch]
    for a, b in itertools.combinations(arrays, 2):
        assert not np.shares_memory(a, b)
    reader = loader._pipeline.reader
    arena = reader._whole or reader._pool._arena
    assert arena is not None
    for array in arrays:
        assert not np.may_share_memory(array, arena.rows)
    # Nor does writing to them reach the loader.
    loader.set_epoch(0)
    for part in arrays:
        part[...] = 99
    for batch, copy in zip(loader, copies, strict=True):
        assert all(np.array_equal(part, kept) for part, kept in zip(batch, copy, strict=True))


def test_a_list_of_batches_is_an_epoch(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 64, ["id"], seed=1, **BY_HAND)
    one_by_one = [x.copy() for x in loader]
    loader.set_epoch(0)
    assert all(np.array_equal(a, b) for a, b in zip(list(loader), one_by_one, strict=True))


# --- lengths --------------------------------------------------------------------------------------


@pytest.mark.thorough(but=in_turns([True, False], [1, 99, 100, 250, 399, 400], ["kept", "lazy"]))
@pytest.mark.parametrize("sizes", [{}, BY_HAND], ids=["kept", "lazy"])
@pytest.mark.parametrize("batch_size", [1, 99, 100, 250, 399, 400])
@pytest.mark.parametrize("drop_last", [True, False])
def test_the_length_is_exact(
    frame: rf.Frame, sizes: dict[str, Any], batch_size: int, drop_last: bool
) -> None:
    loader = rf.Loader(frame, batch_size, ["id"], drop_last=drop_last, **sizes)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(x) == batch_size for x in batches[:-1])
    assert len(batches[-1]) == (batch_size if drop_last else ENTRIES % batch_size or batch_size)
    assert loader.num_rows == ENTRIES


def test_a_dataset_shorter_than_a_batch(folder: Path) -> None:
    path = write_columns(folder / "short.root", {"id": np.arange(5)})
    kept = rf.Loader(rf.open(path), 10)
    assert [len(x) for x in kept] == [5]
    for sizes in ({}, {"chunk_entries": 10}):
        with pytest.raises(ArgumentError, match="5 rows are too few for a batch of 10"):
            rf.Loader(rf.open(path), 10, drop_last=True, **sizes)


def test_no_entries_at_all(folder: Path) -> None:
    for format in ("TTree", "RNTuple"):
        path = write_columns(folder / f"none-{format}.root", {"id": np.arange(0)}, format=format)
        with pytest.raises(EmptyDatasetError, match=r"there are no entries in .*none-.*:events\.$"):
            rf.Loader(rf.open(path), 10)
    paths = [str(folder / f"none-{format}.root") for format in ("TTree", "RNTuple")]
    with pytest.raises(EmptyDatasetError, match="and 1 more files"):
        rf.Loader(rf.open(paths), 10)


def test_properties(frame: rf.Frame) -> None:
    kept = rf.Loader(frame, 64, ["id"], seed=12)
    assert (kept.batch_size, kept.seed, kept.num_rows) == (64, 12, ENTRIES)
    assert kept.in_memory
    assert repr(kept).startswith("<Loader 2500 rows, 40 batches of 64, in memory, ")
    lazy = rf.Loader(frame, 64, ["id"], seed=12, **BY_HAND)
    assert not lazy.in_memory
    assert lazy.window_blocks >= 5
    assert f"{lazy.window_blocks:.1f} blocks in memory" in repr(lazy)
    assert "seed 12" in repr(lazy)


@pytest.mark.parametrize("epoch", [-1, 1.5, True, "1", None])
def test_wrong_epochs(frame: rf.Frame, epoch: Any) -> None:
    with pytest.raises(ArgumentError, match="epoch must be a non-negative integer, got"):
        rf.Loader(frame, 64, ["id"]).set_epoch(epoch)


# --- mixing ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def classes(folder: Path) -> list[str]:
    """Three classes, one file after another, in pages of different lengths."""
    written = []
    for number, page in enumerate([500, 130, 1000]):
        columns = {
            "id": np.arange(8000) + 8000 * number,
            "kind": np.full(8000, number, "u1"),
        }
        written.append(write_columns(folder / f"class{number}.root", columns, page))
    return written


@pytest.mark.parametrize("seed", [1, 2])
def test_classes_in_files_of_their_own_are_mixed_in_every_batch(classes: list[str], seed: int) -> None:
    loader = rf.Loader(
        open_events(classes), 120, ["id"], "kind", seed=seed, chunk_entries=4000, block_entries=50
    )
    assert loader.window_blocks >= 60
    shares = np.array([np.bincount(y[:, 0].astype(int), minlength=3) / 120 for _, y in loader])
    # The binomial spread of a batch is 0.043; 80 blocks of 50 in memory together add little to it.
    assert np.abs(shares - 1 / 3).max() < 0.2
    assert 0.033 < shares.std() < 0.053


def test_neighbours_in_a_file_meet_by_chance(classes: list[str]) -> None:
    # Kept in memory, batches are samples of the whole.
    loader = rf.Loader(open_events(classes), 240, ["id"], seed=4)
    assert loader.in_memory
    together = 0
    for x in loader:
        ids = set(x[:, 0].astype(int).tolist())
        together += sum(id_ + 1 in ids for id_ in ids)
    # Each of 24 000 pairs shares one of 100 batches with a chance of 1 in 100.
    assert abs(together - 240) < 5 * np.sqrt(240)


def test_rows_travel_between_chunks_without_loss(classes: list[str]) -> None:
    # A batch that no chunk is a multiple of.
    loader = rf.Loader(
        open_events(classes), 317, ["id"], seed=4, chunk_entries=500, block_entries=70, dtype="f8"
    )
    for _ in range(3):
        batches = list(loader)
        assert [len(x) for x in batches[:-1]] == [317] * 75
        ids = np.concatenate(batches)[:, 0]
        assert np.array_equal(np.sort(ids), np.arange(24_000))


# --- values that a dtype cannot hold --------------------------------------------------------------


@pytest.fixture
def warned() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def number_file(folder: Path, values: list[Any], dtype: str, page: int = 100) -> rf.Frame:
    path = folder / f"{uuid.uuid4().hex}.root"
    return rf.open(write_columns(path, {"value": np.array(values, dtype)}, page))


PRECISION = [
    # stored as, asked for, values, how many are altered
    ("i4", "f4", [2**24, -(2**24), 2**24 + 2, -(2**31), 2**30], 0),
    ("i4", "f4", [2**24 + 1, -(2**24) - 1, 5, 2**31 - 1], 3),
    ("u4", "f4", [2**32 - 1, 2**31, 2**32 - 256], 1),
    ("i8", "f4", [2**62, 2**63 - 1, -(2**63), 2**40 + 1], 2),
    ("i8", "f8", [2**53, 2**53 + 1, -(2**53) - 1, 2**60], 2),
    ("u8", "f8", [2**64 - 1, 2**63, 2**53 + 2], 1),
    ("i2", "f2", [2048, 2049, -2049, 4096, 2050], 2),
    ("i4", "f2", [65504, 65536, 131072, -(2**30), 3], 3),
    ("u2", "f2", [65535, 65520, 65504, 65519], 3),
    ("f8", "f4", [0.1, 1 / 3, 1e-50, np.nan, np.inf, -np.inf], 0),
    ("f8", "f4", [1e39, -1e300, 3.4e38, np.inf], 2),
    ("f8", "f2", [65504.0, 70000.0, np.nan, -1e9, 65519.0, 65520.0], 3),
    ("f4", "f2", [65504.0, 70000.0], 1),
    ("f4", "f8", [3.4e38, 1e-40, np.nan], 0),
    ("i2", "f4", [-32768, 32767], 0),
    ("u1", "f2", [0, 255], 0),
    ("i8", "i8", [2**63 - 1, -(2**63)], 0),
    ("u1", "i2", [0, 255], 0),
]


@pytest.mark.parametrize("sizes", [{}, {"chunk_entries": 4}], ids=["kept", "lazy"])
@pytest.mark.parametrize(("stored", "asked", "numbers", "altered"), PRECISION)
def test_altered_values_are_reported(
    folder: Path,
    warned: list[warnings.WarningMessage],
    sizes: dict[str, Any],
    stored: str,
    asked: str,
    numbers: list[Any],
    altered: int,
) -> None:
    loader = rf.Loader(
        number_file(folder, numbers, stored),
        4,
        ["value"],
        dtype=asked,
        shuffle=False,
        nonfinite="keep",  # what is no number in the file is no matter of the dtype
        **sizes,
    )
    (x,) = whole_epoch(loader)
    with np.errstate(over="ignore"):
        expected = np.array(numbers, stored).astype(asked)
    assert np.array_equal(x[:, 0], expected, equal_nan=True)
    assert len(warned) == (altered > 0), [str(each.message) for each in warned]
    if altered:
        (warning,) = warned
        assert warning.category is PrecisionWarning
        assert warning.filename == __file__  # the user's loop, not the loader's inside
        text = str(warning.message)
        assert "column 'value'" in text
        assert str(np.dtype(asked)) in text
        assert "dtype='float64'" in text
        if not sizes:
            assert f"has {altered} values" in text
    whole_epoch(loader)
    assert len(warned) == (altered > 0)  # once


def test_targets_and_weights_are_reported_too(
    frame: rf.Frame, warned: list[warnings.WarningMessage]
) -> None:
    whole_epoch(rf.Loader(frame, 100, ["half"], ["event", "id"], "event", target_dtype="f8"))
    found = sorted(str(each.message).split(" has ")[0] + str(each.message)[-120:] for each in warned)
    assert len(found) == 2  # for float64 and for float32
    texts = " ".join(str(each.message) for each in warned)
    assert "float64" in texts
    assert "float32" in texts


def test_a_warning_as_an_error_ends_the_loop(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 100, ["event"], **BY_HAND)
    with pytest.raises(PrecisionWarning, match="column 'event'"):
        list(loader)


@pytest.mark.parametrize("sizes", [{}, {"chunk_entries": 50, "block_entries": 10}])
@pytest.mark.parametrize(
    ("stored", "asked", "bad"),
    [
        ("i4", "u1", -1),
        ("i4", "u1", 256),
        ("i8", "i4", 2**31),
        ("u8", "i8", 2**63),
        ("i8", "u8", -5),
        ("u2", "i2", 40000),
    ],
)
def test_integers_out_of_range_are_errors(
    folder: Path, sizes: dict[str, Any], stored: str, asked: str, bad: int
) -> None:
    numbers = [0] * 100
    numbers[77] = bad
    frame = number_file(folder, numbers, stored, 50)
    loader = rf.Loader(frame, 10, ["value"], dtype=asked, **sizes)
    with pytest.raises(ArgumentError) as caught:
        list(loader)
    text = str(caught.value)
    assert f"the value {bad} does not fit into {np.dtype(asked)}" in text
    assert "column 'value'" in text
    assert f"{frame.files[0]}:events" in text
    assert "Choose a wider dtype" in text
    low, high = (int(part) for part in text.split("entries [")[1].split(")")[0].split(", "))
    assert low <= 77 < high


def test_a_column_that_is_real_in_one_file_only(frame: rf.Frame, folder: Path) -> None:
    ids = np.arange(100)
    first = write_columns(folder / "whole.root", {"n": ids})
    second = write_columns(folder / "real.root", {"n": ids * 0.5})
    both = open_events([first, second])
    with pytest.raises(UnsupportedColumnError, match=r"real\.root:events: column 'n' is float64"):
        rf.Loader(both, 10, dtype="int64")
    (x,) = whole_epoch(rf.Loader(both, 10))
    assert np.array_equal(np.sort(x[:, 0]), np.sort(np.r_[ids, ids * 0.5]))


def test_a_file_that_vanishes_or_changes(folder: Path) -> None:
    path = write_columns(folder / "vanishes.root", {"id": np.arange(1000)})
    loader = rf.Loader(rf.open(path), 10, chunk_entries=100)
    write_columns(path, {"id": np.arange(5000)})
    with pytest.raises(ChangedFileError, match=r"vanishes\.root was changed"):
        list(loader)
    Path(path).unlink()
    with pytest.raises(FileNotFoundError, match=r"vanishes\.root does not exist"):
        list(loader)
