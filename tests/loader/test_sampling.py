"""Fixed shares of classes in every batch."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
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
    EmptyDatasetError,
    MissingColumnError,
    RootfeedError,
    UnsupportedColumnError,
)
from samples import open_events, write_columns

SIZES: dict[str, dict[str, Any]] = {
    "kept": {},
    "lazy": {"chunk_entries": 300, "block_entries": 25},
    "small": {"chunk_entries": 80, "block_entries": 10},
}
ENTRIES = 1500
MIXED = np.random.default_rng(3).choice(3, ENTRIES, p=[0.7, 0.25, 0.05]).astype(np.int32)
LABELS = {"mixed": MIXED, "sorted": np.sort(MIXED)}
COUNTS = np.bincount(MIXED)


def write_labels(
    folder: Path, name: str, labels: np.ndarray, files: int = 3, page: int = 50
) -> rf.Frame:
    """Write the labels one after another into some files."""
    paths = []
    for number, ids in enumerate(np.array_split(np.arange(len(labels)), files)):
        columns = {"id": ids.astype(np.int64), "label": labels[ids], "x": ids * 0.5}
        kind = "RNTuple" if number % 2 else "TTree"
        path = write_columns(folder / f"{name}-{number}.root", columns, page, kind)
        paths.append(path)
    return open_events(paths)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sampling")


@pytest.fixture(scope="session")
def frames(folder: Path) -> dict[str, rf.Frame]:
    return {name: write_labels(folder, name, labels) for name, labels in LABELS.items()}


@pytest.fixture(params=LABELS)
def stored(request: Any, frames: dict[str, rf.Frame]) -> tuple[rf.Frame, np.ndarray]:
    return frames[request.param], LABELS[request.param]


Read = list[tuple[np.ndarray, np.ndarray]]


def read(loader: Any, batches: int | None = None) -> Read:
    return [(x[:, 0].astype(np.int64), y[:, 0]) for x, y in itertools.islice(iter(loader), batches)]


def balanced(frame: rf.Frame, sampling: Any, batch_size: int = 30, **changes: Any) -> rf.Loader:
    settings_: dict[str, Any] = {"seed": 3, "threads": 2}
    return rf.Loader(frame, batch_size, ["id"], "label", sampling=sampling, **(settings_ | changes))


def check_shares(batches: Read, labels: np.ndarray, shares: Sequence[float], size: int) -> None:
    """Assert that each batch is full, its rows are whole, and every class has its share so far."""
    wanted = np.array(shares) / np.sum(shares)
    so_far = np.zeros(len(wanted))
    for number, (ids, y) in enumerate(batches, 1):
        assert len(ids) == size
        assert np.array_equal(labels[ids], y)
        found = np.bincount(labels[ids], minlength=len(wanted))
        so_far += found
        assert (np.abs(so_far - wanted * size * number) < 2).all()
        assert (np.abs(found - wanted * size) < 2).all()
        assert not found[wanted == 0].any()


def check_even(seen: Counter[int], labels: np.ndarray, within: int = 2) -> None:
    for value in np.unique(labels).tolist():
        often = [seen[id_] for id_ in np.flatnonzero(labels == value).tolist()]
        assert max(often) - min(often) <= within, (value, min(often), max(often))


def count(parts: Sequence[Read]) -> Counter[int]:
    return Counter(id_ for part in parts for ids, _ in part for id_ in ids.tolist())


SHARES = {
    "equal": (1, 1, 1),
    "given": (0.2, 0.3, 0.5),
    "natural": (0.7, 0.25, 0.05),
    "rare": (0.6, 0.39, 0.01),
    "one left out": (0.5, 0, 0.5),
}


@pytest.mark.thorough(but=in_turns(LABELS, ["shortest", "longest", 17], SHARES, SIZES))
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("epoch", ["shortest", "longest", 17])
def test_every_batch_has_its_shares(
    stored: tuple[rf.Frame, np.ndarray], epoch: Any, shares: str, sizes: str
) -> None:
    frame, labels = stored
    wanted = SHARES[shares]
    given_ = None if shares == "equal" else dict(enumerate(wanted))
    loader = balanced(frame, rf.balanced("label", given_, epoch=epoch), **SIZES[sizes])
    batches = read(loader)
    assert len(batches) == len(loader)
    check_shares(batches, labels, wanted, 30)
    used = np.flatnonzero(wanted)
    seen = count([batches])
    check_even(seen, labels, within=1)
    taken = np.array([sum(seen[i] for i in np.flatnonzero(labels == k).tolist()) for k in range(3)])
    if epoch == "shortest":
        assert max(seen.values()) == 1
        # The next batch would not have had enough of some class.
        ideal = (np.array(wanted) / np.sum(wanted) * 30)[used]
        assert (COUNTS[used] - taken[used] < np.ceil(ideal) + 2).any()
    elif epoch == "longest":
        assert all(seen[id_] for k in used for id_ in np.flatnonzero(labels == k).tolist())
        # ... and not one batch more than it takes.
        before = seen - count([[batches[-1]]])
        assert not all(before[id_] for k in used for id_ in np.flatnonzero(labels == k).tolist())
    else:
        assert len(batches) == 17


@pytest.mark.parametrize("sizes", SIZES)
def test_epochs_differ_and_repeat(frames: dict[str, rf.Frame], sizes: str) -> None:
    one, two = (
        balanced(frames["mixed"], rf.balanced("label"), threads=threads, **SIZES[sizes])
        for threads in (1, 4)
    )
    epochs = [read(one) for _ in range(3)]
    ids = [np.concatenate([ids for ids, _ in epoch]) for epoch in epochs]
    assert not np.array_equal(ids[0], ids[1])
    # What one epoch leaves out, others use.
    assert len(np.union1d(ids[0], ids[1])) > 1.3 * len(ids[0])
    two.set_epoch(2)
    assert np.array_equal(np.concatenate([ids for ids, _ in read(two)]), ids[2])


@pytest.mark.parametrize("sizes", SIZES)
def test_classes_are_mixed_within_a_batch(stored: tuple[rf.Frame, np.ndarray], sizes: str) -> None:
    frame, _ = stored
    loader = balanced(frame, rf.balanced("label", {0: 1, 1: 1, 2: 0}), **SIZES[sizes])
    places = np.array([np.flatnonzero(y == 0).mean() for _, y in read(loader)])
    # The first class does not come first: its mean place is the middle, within five sigma.
    assert abs(places.mean() - 14.5) < 5 * np.sqrt(30**2 / 12 / 15 / len(places))


@pytest.mark.parametrize("sizes", SIZES)
def test_in_order(stored: tuple[rf.Frame, np.ndarray], sizes: str) -> None:
    frame, labels = stored
    loader = balanced(frame, rf.balanced("label"), shuffle=False, **SIZES[sizes])
    batches = read(loader)
    check_shares(batches, labels, (1, 1, 1), 30)
    ids = np.concatenate([ids for ids, _ in batches])
    for value in range(3):  # each class in the order of the files, from its first entry on
        mine = ids[labels[ids] == value]
        if sizes == "kept":
            assert set(mine.tolist()) == set(np.flatnonzero(labels == value)[: len(mine)].tolist())
        assert len(set(mine.tolist())) == len(mine)
    for _, found in batches:  # within a batch, one class after another
        assert np.array_equal(found, np.sort(found))


# --- drawn with replacement -----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_rows_are_drawn_with_replacement(stored: tuple[rf.Frame, np.ndarray], sizes: str) -> None:
    frame, labels = stored
    sampling = rf.balanced("label", epoch=40, replacement=True)
    loader = balanced(frame, sampling, **SIZES[sizes])
    batches = read(loader)
    assert len(batches) == 40
    check_shares(batches, labels, (1, 1, 1), 30)
    seen = count([batches])
    rare = [seen[id_] for id_ in np.flatnonzero(labels == 2).tolist()]
    assert sum(rare) == 400
    if sizes == "kept":
        # Independent draws: as many are left out, and come often, as chance has it.
        expected = len(rare) * np.exp(-400 / len(rare))
        assert rare.count(0) < expected + 5 * np.sqrt(expected) + 1
        assert max(rare) > 400 / len(rare) + 2
    assert max(seen.values()) > 1


# --- ranks and states -----------------------------------------------------------------------------


@pytest.mark.thorough(but=in_turns(LABELS, ["equal", "rare"], ["shortest", "longest", 12], SIZES))
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("epoch", ["shortest", "longest", 12])
@pytest.mark.parametrize("shares", ["equal", "rare"])
def test_ranks_share_an_epoch(
    stored: tuple[rf.Frame, np.ndarray], epoch: Any, shares: str, sizes: str
) -> None:
    frame, labels = stored
    for world_size in (2, 5) if sizes == "kept" else (3,):
        sampling = rf.balanced("label", dict(enumerate(SHARES[shares])), epoch=epoch)
        loaders = [
            balanced(frame, sampling, 12, rank=rank, world_size=world_size, **SIZES[sizes])
            for rank in range(world_size)
        ]
        parts = [read(loader) for loader in loaders]
        assert {len(part) for part in parts} == {len(loaders[0])}
        for part in parts:
            check_shares(part, labels, SHARES[shares], 12)
        seen = count(parts)
        check_even(seen, labels, within=1)
        if epoch == "shortest":
            assert max(seen.values()) == 1
        if epoch == "longest":
            assert set(seen) == set(range(ENTRIES))


@settings(max_examples=settings.default.max_examples // 6)
@given(
    worlds=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    done=st.lists(st.integers(1, 6), min_size=3, max_size=3),
    epoch=st.sampled_from(["shortest", "longest", 20]),
    shares=st.sampled_from(["equal", "given", "natural", "rare"]),
    sizes=st.sampled_from(sorted(SIZES)),
    name=st.sampled_from(sorted(LABELS)),
    replacement=st.booleans(),
)
@example(  # fewer ranks have more batches left than an epoch had for each
    worlds=[2, 1],
    done=[1, 1, 1],
    epoch=20,
    shares="equal",
    sizes="kept",
    name="mixed",
    replacement=False,
)
def test_the_rest_is_dealt_anew(
    frames: dict[str, rf.Frame],
    worlds: list[int],
    done: list[int],
    epoch: Any,
    shares: str,
    sizes: str,
    name: str,
    replacement: bool,
) -> None:
    labels = LABELS[name]
    sampling = rf.balanced(
        "label", dict(enumerate(SHARES[shares])), epoch=epoch, replacement=replacement
    )
    state: Any = None
    seen: Counter[int] = Counter()
    total = 0
    for segment, world_size in enumerate(worlds):
        last = segment == len(worlds) - 1
        parts = []
        for rank in range(world_size):
            loader = balanced(
                frames[name], sampling, 12, rank=rank, world_size=world_size, **SIZES[sizes]
            )
            if state is not None:
                loader.load_state_dict(state)
            parts.append(read(loader, None if last else done[segment]))
            check_shares(parts[-1], labels, SHARES[shares], 12)
        assert len({len(part) for part in parts}) == 1  # equal batches
        if segment == 0:
            planned = len(loader) * world_size
        total += sum(map(len, parts))
        seen += count(parts)
        state = json.loads(json.dumps(loader.state_dict()))
        if state["epoch"] == 1:
            break
    assert state["epoch"] == 1
    if epoch != "shortest":
        # Each change of the ranks rounds the batches left. To use each row, the ranks that one more row
        # of a class falls to, up to two, need batches with its share for it: the first plan as the rest.
        rounding = 6 * len(worlds)
        rarest = min(share for share in SHARES[shares] if share)
        more = rounding * (2 + 2 / (12 * rarest)) if epoch == "longest" else 0
        assert planned - rounding - more < total <= planned + more
    if replacement:
        return
    if epoch == "shortest":
        assert max(seen.values()) == 1
    if epoch == "longest":
        assert len(seen) == sum(share > 0 for share in np.array(SHARES[shares])[labels])
    if sizes == "kept":
        check_even(seen, labels, within=2 + segment)  # one more after each change of the ranks


@pytest.mark.thorough(but=["10-kept", "longest-lazy", "shortest-small"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("epoch", ["shortest", "longest", 10])
def test_a_rare_class_that_is_used_up_when_ranks_change(folder: Path, epoch: Any, sizes: str) -> None:
    # Eight ranks round a hundredth of ten rows up at the same time.
    labels = np.zeros(1000, np.int32)
    labels[7::125] = 1
    frame = write_labels(folder, f"rare-{epoch}-{sizes}", labels)
    sampling = rf.balanced("label", {0: 0.99, 1: 0.01}, epoch=epoch)
    seen: Counter[int] = Counter()
    for rank in range(8):
        loader = balanced(frame, sampling, 10, rank=rank, world_size=8, **SIZES[sizes])
        seen += count([read(loader, 6)])
    assert sum(seen[id_] for id_ in range(7, 1000, 125)) == 8
    rest = balanced(frame, sampling, 10, rank=0, world_size=1, **SIZES[sizes])
    rest.load_state_dict(loader.state_dict())
    batches = read(rest)
    check_shares(batches, labels, (0.99, 0.01), 10)
    seen += count([batches])
    check_even(seen, labels, within=1 if epoch == "shortest" else 2)
    if epoch == 10:
        assert len(batches) == 8 * 4


# --- mixed frames ---------------------------------------------------------------------------------


def test_mixed_takes_paths(frames: dict[str, rf.Frame]) -> None:
    paths = [f"{file}:events" for file in frames["mixed"].files]
    of_paths = rf.mixed([paths[0], paths[1:]], [1, 3])
    of_frames = rf.mixed([rf.open(paths[0]), rf.open(paths[1:])], [1, 3])
    found, expected = (list(rf.Loader(each, 12, ["id"], seed=3)) for each in (of_paths, of_frames))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("sizes", SIZES)
def test_mixed_frames(folder: Path, sizes: str) -> None:
    labels = np.repeat(np.arange(3, dtype=np.int32), [200, 700, 400])
    parts = []
    for value in range(3):
        ids = np.flatnonzero(labels == value)
        columns = {"id": ids.astype(np.int64), "label": labels[ids]}
        parts.append(open_events(write_columns(folder / f"{sizes}-{value}.root", columns, 60)))
    mixed = rf.mixed(parts, shares=[0.5, 0.3, 0.2])
    loader = rf.Loader(mixed, 20, ["id"], "label", seed=1, **SIZES[sizes])
    batches = read(loader)
    check_shares(batches, labels, (0.5, 0.3, 0.2), 20)
    assert len(batches) == len(loader) == 20
    assert max(count([batches]).values()) == 1
    loader = rf.Loader(rf.mixed(parts, epoch="longest"), 20, ["id"], "label", seed=1, **SIZES[sizes])
    batches = read(loader)
    check_shares(batches, labels, (1, 1, 1), 20)
    seen = count([batches])
    assert set(seen) == set(range(1300))
    check_even(seen, labels)
    # A cut of one frame belongs to that frame.
    cut = [parts[0].filter("id % 2 == 0"), parts[1], parts[2]]
    loader = rf.Loader(rf.mixed(cut), 20, ["id"], "label", seed=1, **SIZES[sizes])
    seen = count([read(loader)])
    assert not any(id_ % 2 for id_ in seen if id_ < 200)


def test_one_file_can_be_two_frames(frames: dict[str, rf.Frame]) -> None:
    frame = frames["mixed"]
    for sizes in SIZES.values():
        mixed = rf.mixed([frame.filter("label == 2"), frame.filter("label < 2")], [1, 9])
        batches = read(rf.Loader(mixed, 20, ["id"], "label", seed=1, **sizes))
        assert all((y == 2).sum() == 2 for _, y in batches)
        assert max(count([batches]).values()) == 1


# --- sides of a split -----------------------------------------------------------------------------


@pytest.mark.thorough(but=["mixed-lazy", "sorted-kept"])
@pytest.mark.parametrize("sizes", SIZES)
def test_test_sides_are_not_resampled(stored: tuple[rf.Frame, np.ndarray], sizes: str) -> None:
    frame, labels = stored
    train, test = balanced(frame, rf.balanced("label"), **SIZES[sizes]).split(0.3, stratify="label")
    batches = read(train)
    check_shares(batches, labels, (1, 1, 1), 30)
    all_of_it = count([read(test)])
    assert set(all_of_it.values()) == {1}
    assert len(all_of_it) == test.num_rows
    assert not set(all_of_it) & set(count([batches]))
    # Named parts: the first one, unless others are asked for.
    loader = balanced(frame, rf.balanced("label", epoch="longest"), **SIZES[sizes])
    parts = loader.split({"a": 0.4, "b": 0.4, "c": 0.2}, stratify="label", resample=["b", "c"])
    assert set(count([read(parts["a"])]).values()) == {1}
    for part in (parts["b"], parts["c"]):
        check_shares(read(part), labels, (1, 1, 1), 30)
    nothing = loader.split(0.3, stratify="label", resample=())
    assert set(count([read(nothing.train)]).values()) == {1}
    for pair in loader.folds(3, stratify="label"):
        check_shares(read(pair.train), labels, (1, 1, 1), 30)
        assert set(count([read(pair.test)]).values()) == {1}


def test_a_part_that_lacks_a_class(folder: Path) -> None:
    labels = np.zeros(400, np.int32)
    labels[7] = 1
    loader = balanced(write_labels(folder, "single", labels), rf.balanced("label", epoch="longest"))
    with pytest.raises(EmptyDatasetError) as caught:
        loader.split(0.5, where=None, resample=["train", "test"])
    assert re.fullmatch(
        r"split\(0\.5\) of 400 entries, (train|test): class 1 is to be 0\.5 of every batch, and has no "
        r"rows here\. Loosen the cuts, or set its share to 0\.",
        str(caught.value),
    )
    with pytest.raises(ArgumentError) as caught:
        loader.split(0.5, resample="valid")
    assert str(caught.value).startswith("resample names 'valid', which is no part.")


# --- labels of any kind ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("?", [False, True]),
        ("u1", [0, 255]),
        ("i8", [-(2**62), 0, 2**62]),
        ("u8", [0, 2**64 - 1]),
        ("f4", [-1.5, 0.0, np.inf]),
        ("f8", [0.1, 0.2]),
    ],
)
@pytest.mark.parametrize("kind", ["TTree", "RNTuple"])
def test_labels_of_any_kind(folder: Path, dtype: str, values: list[Any], kind: str) -> None:
    labels = np.array(values, dtype)[np.random.default_rng(1).integers(0, len(values), 300)]
    path = write_columns(
        folder / f"{kind}-{np.dtype(dtype).name}.root",
        {"id": np.arange(300), "label": labels},
        40,
        kind,
    )
    shares = {value: number + 1 for number, value in enumerate(np.array(values, dtype).tolist())}
    loader = rf.Loader(
        open_events(path),
        12,
        ["id"],
        seed=1,
        sampling=rf.balanced("label", shares),
        chunk_entries=60,
        block_entries=10,
    )
    total = sum(shares.values())
    assert len(loader) > 5
    for x in loader:
        found = Counter(labels[x[:, 0].astype(int)].tolist())
        assert found == {value: 12 * share / total for value, share in shares.items()}


def test_labels_of_different_kinds_in_different_files(folder: Path) -> None:
    paths = []
    for number, dtype in enumerate(("?", "i4", "f8")):
        columns = {"id": np.arange(100) + 100 * number, "label": (np.arange(100) % 2).astype(dtype)}
        paths.append(write_columns(folder / f"kinds-{number}.root", columns))
    frames_ = [open_events(path) for path in paths]
    loader = rf.Loader(frames_, 10, ["id"], seed=1, sampling=rf.balanced("label", {0: 1, 1: 4}))
    assert all(sorted(x[:, 0] % 2).count(1) == 8 for x in loader)


def test_a_definition_is_a_label(frames: dict[str, rf.Frame]) -> None:
    frame = frames["mixed"].define("odd", "id % 2 == 1").filter("id > 100")
    for sizes in SIZES.values():
        loader = rf.Loader(frame, 10, ["id"], seed=1, sampling=rf.balanced("odd"), **sizes)
        assert all(int((x[:, 0] % 2).sum()) == 5 for x in loader)


def test_cuts_decide_which_classes_there_are(frames: dict[str, rf.Frame]) -> None:
    frame = frames["sorted"]
    for sizes in SIZES.values():
        loader = balanced(frame.filter("label != 1"), rf.balanced("label"), **sizes)
        assert all(sorted(set(y.tolist())) == [0, 2] for _, y in read(loader))
        with pytest.raises(ArgumentError, match="shares names the class 1"):
            balanced(frame.filter("label != 1"), rf.balanced("label", {0: 1, 1: 1, 2: 1}), **sizes)


@pytest.mark.parametrize("sizes", ["kept", "small"])
def test_255_classes(folder: Path, sizes: str) -> None:
    labels = np.arange(255 * 6, dtype=np.int32) % 255
    frame = write_labels(folder, f"many-{sizes}", labels)
    loader = balanced(frame, rf.balanced("label"), 51, **SIZES[sizes] and {"chunk_entries": 400})
    batches = read(loader)
    check_shares(batches, labels, [1] * 255, 51)
    assert max(count([batches]).values()) == 1
    # Each class comes once in five batches.
    assert len(batches) >= 25


@settings(max_examples=25)
@given(
    data=st.data(),
    classes=st.integers(2, 6),
    size=st.integers(1, 40),
    name=st.sampled_from(sorted(SIZES)),
)
def test_any_shares(
    frames: dict[str, rf.Frame], data: st.DataObject, classes: int, size: int, name: str
) -> None:
    shares = data.draw(st.lists(st.integers(0, 100), min_size=classes, max_size=classes).filter(any))
    frame = frames["mixed"].define("kind", f"id % {classes}")
    sampling = rf.balanced("kind", dict(enumerate(shares)), epoch=9)
    loader = rf.Loader(frame, size, ["id"], "kind", seed=1, sampling=sampling, **SIZES[name])
    batches = read(loader)
    assert len(batches) == 9
    check_shares(batches, np.arange(ENTRIES) % classes, shares, size)


# --- errors ---------------------------------------------------------------------------------------


def refused(kind: type[RootfeedError], make: Any) -> str:
    with pytest.raises(kind) as caught:
        make()
    return str(caught.value)


def test_wrong_labels(folder: Path, frames: dict[str, rf.Frame]) -> None:
    import uproot

    frame = frames["mixed"]
    message = refused(MissingColumnError, lambda: balanced(frame, rf.balanced("lable")))
    assert "has no column 'lable'. Did you mean 'label'?" in message
    message = refused(ArgumentError, lambda: balanced(frame.define("y", "x / 0 * 0"), rf.balanced("y")))
    assert "column 'y' is NaN in entries [0, " in message
    message = refused(ArgumentError, lambda: balanced(frame, rf.balanced("id")))
    assert "column 'id' has more than 255 values" in message
    path = folder / "other.root"
    with uproot.recreate(path) as file:
        file["events"] = {
            "n": np.arange(5),
            "v": np.zeros((5, 3)),
            "s": np.array(["a", "b", "a", "b", "b"]),
        }
    other = open_events(str(path))
    message = refused(
        UnsupportedColumnError, lambda: rf.Loader(other, 2, ["n"], sampling=rf.balanced("v"))
    )
    assert "column 'v'" in message
    assert (
        rf.Loader(other, 2, ["n"], sampling=rf.balanced("s")).plan().batch_rows == 4
    )  # text is a label


def test_wrong_shares(frames: dict[str, rf.Frame]) -> None:
    frame = frames["mixed"]

    def message(shares: Any) -> str:
        return refused(ArgumentError, lambda: balanced(frame, rf.balanced("label", shares)))

    assert message({0: 1, 1: 1}) == (
        "'label' has the value 2, for which shares has none. Give one for each of [0, 1, 2]; "
        "0 leaves a class out."
    )
    assert message({0: 1, 1: 1, 2: 1, 3: 1}).startswith(
        "shares names the class 3, which 'label' never is here."
    )
    assert message({0: 1, 1: -1, 2: 1}) == "the share of class 1 must be at least 0, got -1.0."
    assert message({0: 1, 1: np.nan, 2: 1}) == "the share of class 1 must be at least 0, got nan."
    assert message({0: 1, 1: np.inf, 2: 1}) == "the share of class 1 must be at least 0, got inf."
    assert message({0: 0, 1: 0, 2: 0}) == "shares must not all be 0."
    assert message({0: "a", 1: 1, 2: 1}) == "the share of 0 must be a number, got 'a'."
    assert message([0.5, 0.5, 0]) == (
        "shares must be a mapping such as {0: 0.9, 1: 0.1}, got [0.5, 0.5, 0]."
    )


def test_wrong_arguments(frames: dict[str, rf.Frame]) -> None:
    frame = frames["mixed"]
    for epoch in ("short", 0, -1, 1.5, None, True):
        message = refused(ArgumentError, lambda epoch=epoch: rf.balanced("label", epoch=epoch))
        assert message == (f'epoch must be "shortest", "longest" or a number of batches, got {epoch!r}.')
    for label in ("", None, 3):
        assert "takes the name of a column" in refused(
            ArgumentError,
            lambda label=label: rf.balanced(label),
        )
    message = refused(ArgumentError, lambda: rf.mixed([frame, frame], [1]))
    assert message == "mixed got 2 frames and 1 shares: give one for each."
    message = refused(ArgumentError, lambda: rf.mixed([frame, frame], [1, "b"]))
    assert message == "the share of 1 must be a number, got 'b'."
    assert "at least 0" in refused(
        ArgumentError, lambda: rf.Loader(rf.mixed([frame, frame], [1, -1]), 10, ["id"])
    )
    assert "at least one frame" in refused(ArgumentError, lambda: rf.Loader(rf.mixed([]), 10, ["id"]))
    assert "must be a path" in refused(ArgumentError, lambda: rf.mixed([frame, 3]))
    assert "sampling must be rootfeed.balanced" in refused(
        ArgumentError, lambda: balanced(frame, "label")
    )
    assert "leave sampling= out" in refused(
        ArgumentError,
        lambda: rf.Loader(rf.mixed([frame]), 10, ["id"], sampling=rf.balanced("label")),
    )


def test_too_few_rows_of_a_class(frames: dict[str, rf.Frame]) -> None:
    for sizes in SIZES.values():
        few = frames["mixed"].range(30)
        message = refused(
            EmptyDatasetError,
            lambda few=few, sizes=sizes: balanced(
                few, rf.balanced("label"), 29, rank=0, world_size=8, **sizes
            ),
        )
        assert message.startswith(
            "the rows of a class do not suffice for one batch of 29 on each of 8 ranks: class 0 has "
        )
        assert message.endswith('Choose smaller batches, other shares, or epoch="longest".')


@pytest.mark.parametrize("sizes", ["kept", "lazy"])
def test_endless_epochs_are_refused(frames: dict[str, rf.Frame], sizes: str) -> None:
    frame = frames["mixed"]
    shares = {0: 1, 1: 1, 2: 1e-12}
    for sampling in (rf.balanced("label", shares, epoch="longest"), rf.balanced("label", epoch=10**12)):
        message = refused(
            ArgumentError, lambda sampling=sampling: balanced(frame, sampling, **SIZES[sizes]).__len__()
        )
        assert "batches" in message


class Mine(rf.Sampler):
    """Returns what it is given."""

    def __init__(self, returned: Any) -> None:
        self.returned = returned

    def __repr__(self) -> str:
        return "Mine()"


class Offers(Mine):
    columns = "id"  # one name is as good as a tuple of one

    def offers(self, entries: Any) -> Any:
        assert set(entries.values) == {"id"}
        return self.returned(entries.numbers)


class Quotas(Mine):
    label = "label"

    def quotas(self, rows: Any, asked: Any) -> Any:
        return self.returned


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ([[1.0, 2.0, 3.0]], "of shape (1, 3) and float64; expected integers of shape (batches, 3)"),
        ([[1, 2]], "of shape (1, 2) and int64; expected integers of shape (batches, 3)"),
        ([[1, 2, 3], [1, 2]], "of shape (2,) and object; expected integers of shape (batches, 3)"),
        (None, "of shape () and object; expected integers of shape (batches, 3)"),
        (np.zeros((0, 3), int), "Mine() gives quotas of no batch; expected at least one."),
        ([[1, 2, 3], [4, 4, 4]], "gives batch 1 the quotas [4, 4, 4]; expected numbers from 0 on, of"),
        ([[-1, 2, 3]], "gives batch 0 the quotas [-1, 2, 3]"),
        ([[0, 0, 0]], "which 1 to 10 (batch_size) are the sum."),
    ],
)
def test_wrong_quotas_are_shown(frames: dict[str, rf.Frame], quotas: Any, expected: str) -> None:
    message = refused(
        ArgumentError, lambda: rf.Loader(frames["mixed"], 10, ["id"], sampling=Quotas(quotas))
    )
    assert message.startswith("Mine() gives ")
    assert expected in message


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        (lambda numbers: numbers, "offers an array of shape (500,) and int64 of"),
        (lambda numbers: numbers[:3] > 1, "offers an array of shape (3,) and bool of"),
        (lambda _: True, "expected bool of shape (500,): whether each of the entries is offered."),
        (lambda numbers: numbers < 0, "Mine() offers no row: an epoch would have no batch."),
    ],
)
def test_wrong_offers_are_shown(frames: dict[str, rf.Frame], offers: Any, expected: str) -> None:
    message = refused(
        RootfeedError, lambda: rf.Loader(frames["mixed"], 10, ["id"], sampling=Offers(offers))
    )
    assert expected in message
