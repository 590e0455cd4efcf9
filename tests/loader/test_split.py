"""Which entries belong to a side, and what does not change that."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import ArgumentError, EmptyDatasetError, RootfeedError
from rootfeed.loader import split_exactly
from rootfeed.plan.budget import ORDER_BYTES, SCRATCH_SHARE
from samples import File, epoch_ids, in_a_row, open_events, values, write_columns

FILES = in_a_row(
    File(1000, page=130), File(477, page=70, format="RNTuple"), File(0), File(900, page=300)
)
ENTRIES = 2377
LAZY = {"chunk_entries": 500, "block_entries": 60}


def make(frame: Any, **changes: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["id", "half"], "batch_size": 64, "seed": 5}
    return rf.Loader(frame, **(settings | changes))


def members(loader: Any) -> set[int]:
    ids = epoch_ids(loader)
    found = set(ids.tolist())
    assert len(found) == len(ids)
    return found


def test_sides_are_disjoint_and_complete(frame: rf.Frame) -> None:
    for sizes in ({}, LAZY, {"memory": "100 kB"}):
        train, test = make(frame, **sizes).split(0.3)
        for _ in range(2):
            kept, chosen = members(train), members(test)
            assert not kept & chosen
            assert kept | chosen == set(range(ENTRIES))
        assert (train.num_rows, test.num_rows) == (len(kept), len(chosen))
        assert len(train) == math.ceil(len(kept) / 64)
        assert len(test) == math.ceil(len(chosen) / 64)


@settings(max_examples=40)
@given(fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**63))
def test_each_file_gives_its_fraction(frame: rf.Frame, fraction: float, seed: int) -> None:
    train, test = make(frame, chunk_entries=10_000).split(fraction, seed=seed)
    ids = epoch_ids(test)
    for file in FILES:
        count = int(((ids >= file.first) & (ids < file.first + file.entries)).sum())
        assert abs(count - fraction * file.entries) < 1 + 1e-9
    assert train.num_rows + test.num_rows == ENTRIES


def test_rows_of_a_side_are_whole(frame: rf.Frame) -> None:
    loader = rf.Loader(
        frame, 64, ["id", "root", "code"], ["label", "flag"], "weight", dtype="f8", seed=5, **LAZY
    )
    for side in loader.split(0.4):
        for x, y, w in side:
            ids = x[:, 0].astype(int)
            assert np.array_equal(x[:, 1], values("root", ids))
            assert np.array_equal(x[:, 2], values("code", ids))
            assert np.array_equal(y[:, 0], values("label", ids))
            assert np.array_equal(y[:, 1], values("flag", ids))
            assert np.array_equal(w[:, 0], values("weight", ids))


# --- what membership depends on -------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"features": ["id"]},
        {"features": ["id", "root", "label"], "target": "code", "weights": "weight"},
        {"batch_size": 17},
        {"batch_size": 500, "drop_last": False},
        {"shuffle": False},
        {"dtype": "int64", "features": ["id", "code"]},
        {"threads": 1},
        {"seed": None},
        {"seed": 6},
        LAZY,
        {"chunk_entries": 100},
        {"memory": "100 kB"},
        {"memory": "30 kB"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_membership_does_not_depend_on(frame: rf.Frame, changes: dict[str, Any]) -> None:
    reference = members(make(frame).split(0.25)[1])
    place = 0 if "target" in changes else None
    ids = epoch_ids(make(frame, **changes).split(0.25)[1], place)
    assert set(ids.tolist()) == reference


def test_membership_does_not_depend_on_the_order_of_files(paths: list[str]) -> None:
    reference = members(make(open_events(paths)).split(0.25)[1])
    assert members(make(open_events(paths[::-1])).split(0.25)[1]) == reference
    several = [open_events(path) for path in (paths[3], paths[0], paths[1])]
    assert members(make(several).split(0.25)[1]) == reference


def test_membership_does_not_depend_on_other_files(paths: list[str]) -> None:
    reference = members(make(open_events(paths)).split(0.25)[1])
    alone = members(make(open_events(paths[1])).split(0.25)[1])
    assert alone == {id_ for id_ in reference if 1000 <= id_ < 1477}


def test_membership_does_not_depend_on_names(paths: list[str], folder: Path) -> None:
    reference = members(make(open_events(paths)).split(0.25)[1])
    moved = folder / "moved"
    moved.mkdir(exist_ok=True)
    copies = [shutil.copy(path, moved / f"renamed-{number}.root") for number, path in enumerate(paths)]
    assert members(make(open_events([str(copy) for copy in copies])).split(0.25)[1]) == reference


def test_membership_depends_on_the_seed_of_the_split(frame: rf.Frame) -> None:
    loader = make(frame)
    one, two = (members(loader.split(0.5, seed=seed)[1]) for seed in (1, 2))
    assert abs(len(one & two) - ENTRIES / 4) < 5 * math.sqrt(ENTRIES * 3 / 16)
    assert members(loader.split(0.5)[1]) == members(loader.split(0.5, seed=0)[1])


def test_a_part_of_a_part_is_chosen_anew(frame: rf.Frame) -> None:
    # By the same seed: of what the first division has put first, the second one takes a half.
    train, _ = make(frame).split(0.5)
    a, b = map(members, train.split(0.5))
    assert 0.4 < len(b) / len(a | b) < 0.6


def test_files_do_not_share_one_pattern(frame: rf.Frame) -> None:
    chosen = members(make(frame).split(0.5)[1])
    first = {id_ for id_ in chosen if id_ < 400}
    second = {id_ - 1000 for id_ in chosen if 1000 <= id_ < 1400}
    assert abs(len(first & second) - 100) < 5 * math.sqrt(75)


def test_a_side_is_a_random_sample(frame: rf.Frame) -> None:
    chosen = np.array(sorted(members(make(frame).split(0.5)[1])))
    # Every second entry would be no sample: gaps are geometric.
    assert abs((np.diff(chosen) == 1).mean() - 0.5) < 0.1


def test_epochs_of_a_side_differ_and_repeat(frame: rf.Frame) -> None:
    for sizes in ({}, LAZY):
        one, _ = make(frame, **sizes).split(0.25)
        two, _ = make(frame, **sizes).split(0.25)
        orders = [epoch_ids(one) for _ in range(2)]
        assert not np.array_equal(*orders)
        assert np.array_equal(orders[0], epoch_ids(two))
        two.set_epoch(1)
        assert np.array_equal(orders[1], epoch_ids(two))
        # The loader that was divided is still whole, and counts epochs of its own.
        whole = make(frame, **sizes)
        whole.split(0.25)
        assert members(whole) == set(range(ENTRIES))


# --- splits of splits -----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["kept", "lazy"])
def test_three_ways(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    rest, test = make(frame, **sizes).split(0.2)
    train, validation = rest.split(0.25)
    sides = [members(side) for side in (train, validation, test)]
    assert set().union(*sides) == set(range(ENTRIES))
    assert sum(len(side) for side in sides) == ENTRIES
    assert abs(len(sides[1]) - 0.2 * ENTRIES) < 5 * math.sqrt(0.16 * ENTRIES)
    # Both sides can be divided further.
    a, b = test.split(0.5)
    assert members(a) | members(b) == sides[2]
    assert a.num_rows + b.num_rows == test.num_rows


def test_the_same_split_twice_is_the_same(frame: rf.Frame) -> None:
    loader = make(frame)
    assert members(loader.split(0.3)[1]) == members(loader.split(0.3)[1])


def test_sides_keep_the_settings(frame: rf.Frame) -> None:
    loader = rf.Loader(frame, 50, ["id", "code"], "label", dtype="f8", drop_last=True, seed=3)
    for side in loader.split(0.3):
        assert (side.batch_size, side.seed) == (50, 3)
        assert (side.features, side.target) == (loader.features, loader.target)
        batches = list(side)
        assert len(batches) == len(side) == side.num_rows // 50
        assert all(x.shape == (50, 2) and x.dtype == np.float64 for x, _ in batches)


# --- both sides in use ----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["kept", "lazy"])
def test_sides_in_turns_and_interleaved(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    train, test = make(frame, **sizes).split(0.4)
    expected = [epoch_ids(side) for side in (train, test)]
    # In turns, as a training does.
    train, test = make(frame, **sizes).split(0.4)
    for _ in range(3):
        train.set_epoch(0)
        test.set_epoch(0)
        assert np.array_equal(epoch_ids(train), expected[0])
        assert np.array_equal(epoch_ids(test), expected[1])
    # Interleaved, one ending before the other.
    train.set_epoch(0)
    test.set_epoch(0)
    seen: list[list[np.ndarray]] = [[], []]
    for pair in itertools.zip_longest(train, test):
        for batches, batch in zip(seen, pair, strict=True):
            if batch is not None:
                batches.append(batch[:, 0])
    for batches, ids in zip(seen, expected, strict=True):
        assert np.array_equal(np.concatenate(batches), ids)


# --- splits in order ------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY, {"memory": "60 kB"}], ids=["kept", "by hand", "lazy"])
@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.5, 0.6, 0.9, 0.9995])
def test_a_split_exactly(frame: rf.Frame, sizes: dict[str, Any], fraction: float) -> None:
    train, test = split_exactly(make(frame, batch_size=16, shuffle=False, **sizes), fraction)
    last = int(fraction * ENTRIES)
    assert epoch_ids(train).tolist() == list(range(ENTRIES - last))
    assert epoch_ids(test).tolist() == list(range(ENTRIES - last, ENTRIES))


def test_a_split_exactly_can_be_shuffled_and_divided(frame: rf.Frame) -> None:
    for sizes in ({}, LAZY):
        train, test = split_exactly(make(frame, **sizes), 0.3)
        first = ENTRIES - int(0.3 * ENTRIES)
        assert members(train) == set(range(first))
        order = epoch_ids(test)
        assert not np.array_equal(order, np.sort(order))
        a, b = train.split(0.5)
        assert members(a) | members(b) == set(range(first))
        assert not members(a) & members(b)
        c, d = split_exactly(train, 0.5)
        assert members(c) == set(range(first - int(0.5 * first)))
        assert members(d) == set(range(first)) - members(c)


@given(
    fraction=st.floats(0.01, 0.99),
    seed=st.none() | st.integers(0, 2**63),
    each_frame=st.booleans(),
    down=st.sampled_from(["train", "test"]),
)
def test_exact_sizes_of_what_passes_the_cuts(
    frame: rf.Frame, fraction: float, seed: int | None, each_frame: bool, down: Any
) -> None:
    frames = [frame.filter("id % 3 != 0"), frame.filter("id % 7 == 0")]
    loader = make(frames, chunk_entries=10_000)
    options: dict[str, Any] = {"seed": seed, "each_frame": each_frame, "down": down}
    sides = split_exactly(loader, fraction, **options)
    passing = [[id_ for id_ in range(ENTRIES) if id_ % 3], list(range(0, ENTRIES, 7))]
    groups = passing if each_frame else [passing[0] + passing[1]]
    share = fraction if down == "test" else 1 - fraction
    rounded = [int(round(share * len(group), 6)) for group in groups]
    sizes = [a if down == "test" else len(b) - a for a, b in zip(rounded, groups, strict=True)]
    kept, chosen = (epoch_ids(side).tolist() for side in sides)
    assert len(chosen) == sum(sizes)
    assert sorted(kept + chosen) == sorted(passing[0] + passing[1])
    if seed is None:
        last = [id_ for group, n in zip(groups, sizes, strict=True) for id_ in group[len(group) - n :]]
        assert sorted(chosen) == sorted(last)
    else:
        again = split_exactly(make(frames, memory="100 kB"), fraction, **options)
        assert sorted(epoch_ids(again.test)) == sorted(chosen)


def test_an_exact_random_division_takes_its_share_of_each_file(frame: rf.Frame) -> None:
    for seed in range(5):
        ids = epoch_ids(split_exactly(make(frame), 0.3, seed=seed).test)
        for file in FILES:
            count = int(((ids >= file.first) & (ids < file.first + file.entries)).sum())
            assert abs(count - 0.3 * file.entries) <= 1


def test_parts_of_exact_parts(frame: rf.Frame) -> None:
    rest, test = split_exactly(make(frame), 0.2, seed=3)
    train, validation = split_exactly(rest, 0.25, seed=3)
    sides = [members(side) for side in (train, validation, test)]
    assert [len(side) for side in sides] == [1427, 475, 475]
    assert len(sides[0] | sides[1] | sides[2]) == ENTRIES
    state = train.state_dict()
    with pytest.raises(RootfeedError):
        validation.load_state_dict(state)


def test_a_whole_number_of_rows_is_not_rounded_down(folder: Path) -> None:
    frame = rf.open(write_columns(folder / "hundred.root", {"id": np.arange(100)}))
    for fraction in np.arange(1, 100) / 100:  # 0.29 * 100 is 28.999999999999996
        for down in ("train", "test"):
            test = split_exactly(rf.Loader(frame, 4, seed=1), float(fraction), down=down).test
            assert test.num_rows == round(100 * fraction)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, 20, True, "0.2", math.nan])
@pytest.mark.parametrize("method", [rf.Loader.split, split_exactly])
def test_wrong_fractions(frame: rf.Frame, method: Any, fraction: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        method(make(frame), fraction)
    assert str(caught.value) == f"fraction must lie between 0 and 1, got {fraction!r}."


def test_fractions_of_any_real_type(frame: rf.Frame) -> None:
    for fraction in (np.float64(0.25), np.float32(0.25)):
        assert members(make(frame).split(fraction)[1]) == members(make(frame).split(0.25)[1])


@pytest.mark.parametrize("method", [rf.Loader.split, split_exactly])
def test_a_side_that_would_be_empty(folder: Path, method: Any) -> None:
    # A random split rounds up or down at random, by the file's identity: here hardly ever up.
    path = write_columns(folder / "three.root", {"id": np.arange(3)})
    with pytest.raises(EmptyDatasetError) as caught:
        method(rf.Loader(rf.open(path), 2, seed=1), 1e-12)
    assert f"{method.__name__}(1e-12) of 3 entries leaves a part empty" in str(caught.value)


def test_a_random_split_can_be_split_exactly(frame: rf.Frame) -> None:
    train, _ = make(frame).split(0.2)
    first, last = map(members, split_exactly(train, 0.25))
    assert max(first) < min(last)
    assert first | last == members(train)
    assert len(last) == int(0.25 * train.num_rows)


def test_a_small_side_fits_where_the_whole_does(folder: Path) -> None:
    # The sides share the memory in proportion; a side's share may be less than a few batches.
    path = write_columns(
        folder / "long.root", {"id": np.arange(60_000), "x": np.arange(60_000) * 0.5}, 5000
    )
    loader = rf.Loader(rf.open(path), 128, seed=1, memory="60 kB")
    try:
        train, test = loader.split(0.2)
    except RootfeedError as error:
        # Then the message has to be about what the user wrote.
        assert "split" in str(error)  # noqa: PT017  # no error is good, too
        assert "60" in str(error)  # noqa: PT017  # no error is good, too
    else:
        assert members(train) | members(test) == set(range(60_000))


@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.25, 0.5, 0.8])
def test_sides_of_a_kept_dataset_are_kept(frame: rf.Frame, fraction: float) -> None:
    # Even where it fits only just, and a side has an entry more than its fraction.
    enough = ENTRIES * (2 * 4 + ORDER_BYTES) / (1 - SCRATCH_SHARE)
    for seed in range(5):
        loader = make(frame, batch_size=512, memory=math.ceil(enough) + 1)
        assert loader.in_memory
        sides = loader.split(fraction, seed=seed)
        assert all(side.in_memory for side in sides)
        assert sorted(members(sides[0]) | members(sides[1])) == list(range(ENTRIES))
