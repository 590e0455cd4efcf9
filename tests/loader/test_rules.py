"""Splits by values, by an expression, by blocks, of classes alike; named parts, folds."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed import sources
from rootfeed.errors import (
    ArgumentError,
    EmptyDatasetError,
    ExpressionError,
    MissingColumnError,
    RootfeedError,
    UnsupportedColumnError,
)
from samples import File, epoch_ids, in_a_row, open_events, values, write_columns

FILES = in_a_row(File(900, page=100), File(477, page=70, format="RNTuple"), File(0), File(600, page=150))
ENTRIES = 1977
SIZES: dict[str, dict[str, Any]] = {
    "kept": {},
    "lazy": {"chunk_entries": 400, "block_entries": 60},
    "a budget": {"memory": "60 kB"},
}


def make(frame: Any, **changes: Any) -> rf.Loader:
    settings_: dict[str, Any] = {"features": ["id", "half"], "batch_size": 32, "seed": 5}
    return rf.Loader(frame, **(settings_ | changes))


def members(loader: Any) -> set[int]:
    ids = epoch_ids(loader)
    found = set(ids.tolist())
    assert len(found) == len(ids) == loader.num_rows
    return found


def check_parts(parts: Any, whole: set[int]) -> list[set[int]]:
    """Assert that parts are disjoint and complete."""
    found = [members(part) for part in parts]
    assert sum(map(len, found)) == len(whole)
    assert set().union(*found) == whole
    return found


ALL = set(range(ENTRIES))

RULES: dict[str, dict[str, Any]] = {
    "entries": {},
    "by a value": {"by": "event"},
    "by two values": {"by": ["code", "id"]},
    "blocks": {"unit": "block"},
    "stratified": {"stratify": "label"},
}


# --- parts ----------------------------------------------------------------------------------------


@pytest.mark.thorough(
    but=["blocks-a budget", "by a value-kept", "by two values-lazy", "stratified-a budget"]
)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rule", RULES)
def test_named_parts_are_disjoint_and_complete(frame: rf.Frame, rule: str, sizes: str) -> None:
    fractions = {"train": 0.6, "val 1": 0.2, "_class": 0.2}  # whatever they are called
    parts = make(frame, **SIZES[sizes]).split(fractions, **RULES[rule])
    assert list(parts) == list(fractions)
    found = check_parts(list(parts.values()), ALL)
    if rule in ("entries", "stratified"):
        tolerance = 2.0 * 7 * 3 if rule == "stratified" else 2.0 * 3
    else:
        tolerance = 5 * math.sqrt(ENTRIES / 4) if "value" in rule else 300
    for part, share in zip(found, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) - share * ENTRIES) <= tolerance
    # What an epoch is read as does not matter.
    again = make(frame, batch_size=7, shuffle=False).split(fractions, **RULES[rule])
    assert [members(part) for part in again.values()] == found


@pytest.mark.parametrize("rule", RULES)
def test_a_file_of_several_frames_is_divided_once(frame: rf.Frame, rule: str) -> None:
    cut = frame.filter("half > 100").redefine("half", "half + 0.25")
    for fraction in (0.2, 0.35, 0.5, 0.65):
        train, test = make([frame, cut, frame]).split(fraction, **RULES[rule])
        found = [set(epoch_ids(part).tolist()) for part in (train, test)]
        assert not found[0] & found[1]
        assert found[0] | found[1] == ALL


@pytest.mark.parametrize("rule", RULES)
def test_parts_of_parts(frame: rf.Frame, rule: str) -> None:
    loader = make(frame, **SIZES["lazy"])
    for first, second in ((RULES[rule], {}), ({}, RULES[rule]), (RULES[rule], RULES[rule])):
        rest, test = loader.split(0.3, **first)
        train, validation = rest.split(0.5, **second)
        found = check_parts((train, validation, test), ALL)
        # A half of what is left: not all of it, nor nothing.
        assert 0.3 < len(found[1]) / len(found[0] | found[1]) < 0.7


@pytest.mark.parametrize("rule", RULES)
def test_seeds_differ(frame: rf.Frame, rule: str) -> None:
    loader = make(frame)
    sides = [members(loader.split(0.5, seed=seed, **RULES[rule]).test) for seed in range(1, 9)]
    assert len(set(map(frozenset, sides))) > 1
    again = loader.split({"train": 0.5, "test": 0.5}, seed=1, **RULES[rule])["test"]
    assert members(again) == sides[0]
    # They share a half of their entries, as independent choices do: of blocks there are too few.
    if rule != "blocks":
        assert 0.4 < len(sides[0] & sides[1]) / len(sides[0]) < 0.6


@pytest.mark.thorough("entries", "by two values")
@pytest.mark.parametrize("rule", RULES)
def test_the_loader_s_seed_divides_nothing(frame: rf.Frame, rule: str) -> None:
    # So that ensembles, and loaders without a seed, have the same events to test on.
    for seed in (0, 7):
        sides = [
            members(make(frame, seed=each).split(0.3, seed=seed, **RULES[rule]).test)
            for each in (None, None, 1, 2)
        ]
        folds = [
            [members(pair.test) for pair in make(frame, seed=each).folds(3, seed=seed, **RULES[rule])]
            for each in (None, 1)
        ]
        assert all(side == sides[0] for side in sides)
        assert folds[0] == folds[1]
    first = [members(pair.test) for pair in make(frame).folds(3, **RULES[rule])]
    assert first != folds[0]


@settings(max_examples=15)
@given(shares=st.lists(st.integers(1, 20), min_size=2, max_size=5), seed=st.integers(0, 2**40))
def test_each_file_gives_its_fractions(frame: rf.Frame, shares: list[int], seed: int) -> None:
    names = [f"part{number}" for number in range(len(shares))]
    fractions = dict(zip(names, (share / sum(shares) for share in shares), strict=True))
    try:
        parts = make(frame).split(fractions, seed=seed)
    except EmptyDatasetError:
        assert min(fractions.values()) * ENTRIES < 10
        return
    found = check_parts(list(parts.values()), ALL)
    for part, share in zip(found, fractions.values(), strict=True):
        for file in FILES:
            count = len([id_ for id_ in part if file.first <= id_ < file.first + file.entries])
            # To one entry; the first part gets what rounding the others leaves.
            assert abs(count - share * file.entries) < len(shares)


@pytest.mark.parametrize("rule", ["entries", "by a value", "stratified"])
def test_cuts_move_nothing(frame: rf.Frame, rule: str) -> None:
    reference = members(make(frame).split(0.3, **RULES[rule]).test)
    for cut in ("flag", "code > 0 && half < 500"):
        passing = frame.filter(cut)
        ids = np.arange(ENTRIES)
        passed = values("flag", ids) if cut == "flag" else (values("code", ids) > 0) & (ids < 1000)
        found = members(make(passing, **SIZES["lazy"]).split(0.3, **RULES[rule]).test)
        assert found == reference & set(np.flatnonzero(passed).tolist())


# --- by value -------------------------------------------------------------------------------------


def numbered(path: Path, numbers: np.ndarray, dtype: str = "i8", kind: str = "TTree") -> str:
    """Write events whose numbers are not those of the entries."""
    columns = {
        "id": np.asarray(numbers, np.int64),
        "eventNumber": np.asarray(numbers).astype(dtype),
        "run": (np.asarray(numbers) // 100).astype("u4"),
        "half": np.asarray(numbers) * 0.5,
    }
    return write_columns(path, columns, 64, kind)


@pytest.mark.parametrize("by", ["eventNumber", ["run", "eventNumber"], ("eventNumber",)])
def test_events_keep_their_side_through_skims_and_merges(folder: Path, by: Any) -> None:
    random = np.random.default_rng(1)
    numbers = random.permutation(3000)
    name = "-".join(by) + str(type(by).__name__)
    halves = [
        numbered(folder / f"{name}-half{number}.root", part)
        for number, part in enumerate(np.array_split(numbers, 2))
    ]
    reference = members(make(open_events(halves)).split(0.3, by=by).test)
    assert abs(len(reference) - 900) < 5 * math.sqrt(3000 * 0.21)
    # In one file, in another order, format and type of integer.
    merged = numbered(folder / f"{name}-merged.root", np.sort(numbers), "u4", "RNTuple")
    assert members(make(open_events(merged), **SIZES["lazy"]).split(0.3, by=by).test) == reference
    assert members(make(open_events(halves[::-1])).split(0.3, by=by).test) == reference
    # Skimmed: by a program that wrote another file, or by a cut.
    some = random.permutation(numbers)[:700]
    skimmed = numbered(folder / f"{name}-skimmed.root", some, "u8")
    expected = reference & set(some.tolist())
    assert members(make(open_events(skimmed)).split(0.3, by=by).test) == expected
    cut = open_events(halves).filter("half > 400")
    assert members(make(cut).split(0.3, by=by).test) == {i for i in reference if i > 800}
    # Named parts, too, keep their events where others become smaller.
    parts, same = (
        make(open_events(paths)).split({"a": 0.5, "b": 0.5}, by=by) for paths in (halves, merged)
    )
    assert [members(parts[name]) for name in parts] == [members(same[name]) for name in same]


def test_equal_values_stay_together(folder: Path) -> None:
    # Several entries of an event, as after a skim into candidates.
    numbers = np.repeat(np.arange(400), 5)
    path = write_columns(
        folder / "candidates.root", {"id": np.arange(2000), "event": numbers, "half": numbers * 0.5}
    )
    train, test = make(open_events(path)).split(0.4, by="event")
    events = [{id_ // 5 for id_ in part} for part in check_parts((train, test), set(range(2000)))]
    assert not events[0] & events[1]
    assert abs(len(events[1]) - 160) < 5 * math.sqrt(400 * 0.24)


def test_values_of_all_integers(folder: Path) -> None:
    for dtype in ("?", "i1", "u2", "i8", "u8"):
        info = (0, 1) if dtype == "?" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        numbers = np.array([*info, 0, 1] * 100, dtype="O").astype(dtype)
        columns = {"id": np.arange(400), "n": numbers, "half": np.zeros(400)}
        path = write_columns(folder / f"integers-{np.dtype(dtype).name}.root", columns)
        for seed in itertools.count():
            try:
                parts = make(open_events(path)).split(0.5, by="n", seed=seed)
                break
            except EmptyDatasetError:  # by chance, all of a few values
                assert seed < 20
        check_parts(parts, set(range(400)))


def test_definitions_decide_too(frame: rf.Frame) -> None:
    with_group = frame.define("group", "id / 10 - (id % 10) / 10.0").define("ten", "int(id / 10)")
    train, test = make(with_group, features=["id", "half"]).split(0.3, by="ten")
    tens = [{id_ // 10 for id_ in part} for part in check_parts((train, test), ALL)]
    assert not tens[0] & tens[1]


# --- by an expression -----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_an_expression_decides(frame: rf.Frame, sizes: str) -> None:
    train, test = make(frame, **SIZES[sizes]).split(where="id % 10 == 3")
    assert members(test) == {id_ for id_ in ALL if id_ % 10 == 3}
    assert members(train) == {id_ for id_ in ALL if id_ % 10 != 3}
    # Within a part of it, and with cuts and definitions.
    a, b = train.split(where="half < 100.25")
    assert members(b) == {id_ for id_ in ALL if id_ % 10 != 3 and id_ * 0.5 < 100.25}
    assert members(a) | members(b) == members(train)
    cut = frame.define("side_", "code + 1").filter("flag")
    train, test = make(cut, **SIZES[sizes]).split(where="side_ > 1")
    ids = np.arange(ENTRIES)
    flag, code = values("flag", ids), values("code", ids)
    assert members(test) == set(np.flatnonzero(flag & (code > 0)).tolist())
    assert members(train) == set(np.flatnonzero(flag & (code <= 0)).tolist())


def test_what_is_not_zero_is_true(frame: rf.Frame) -> None:
    test = make(frame).split(where="id % 3").test
    assert members(test) == {id_ for id_ in ALL if id_ % 3}


# --- blocks ---------------------------------------------------------------------------------------


LONG = {"chunk_entries": 2000, "block_entries": 800}  # blocks that are longer than pages


@pytest.mark.parametrize("fraction", [0.4, 0.6])
@pytest.mark.parametrize("sizes", [*SIZES.values(), LONG], ids=[*SIZES, "long blocks"])
def test_no_page_is_read_for_two_parts(
    frame: rf.Frame, sizes: dict[str, Any], fraction: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = make(frame, threads=1, **sizes).split(
        {"a": 1 - fraction, "b": fraction / 2, "c": fraction / 2}, unit="block"
    )
    touched: list[set[tuple[int, int]]] = []
    pages = {0: 100, 1: 70, 3: 150}
    read = sources.read

    def spy(index: Any, columns: Any, start: int, stop: int, *rest: Any, **more: Any) -> Any:
        number = next(n for n, file in enumerate(FILES) if f"/{n:03}.root" in index.where)
        first, last = start // pages[number], (stop - 1) // pages[number]
        touched[-1].update((number, page) for page in range(first, last + 1))
        return read(index, columns, start, stop, *rest, **more)

    monkeypatch.setattr(sources, "read", spy)
    for part in parts.values():
        touched.append(set())
        epoch_ids(part)
        assert touched[-1]
    for one, two in itertools.combinations(touched, 2):
        assert not one & two
    every = {(n, page) for n, length in pages.items() for page in range(-(-FILES[n].entries // length))}
    assert set().union(*touched) == every


def test_blocks_stay_whole(frame: rf.Frame) -> None:
    train, test = make(frame).split(0.3, unit="block")
    found = check_parts((train, test), ALL)
    for file in FILES:
        for start in range(file.first, file.first + file.entries, file.page):
            page = set(range(start, min(start + file.page, file.first + file.entries)))
            assert sum(bool(page & part) for part in found) == 1
    # To one stretch, which is two pages here.
    assert abs(len(found[1]) - 0.3 * ENTRIES) <= 300


def test_blocks_do_not_depend_on_the_order_of_files(paths: list[str]) -> None:
    one = members(make(open_events(paths)).split(0.4, unit="block").test)
    assert members(make(open_events(paths[::-1])).split(0.4, unit="block").test) == one


# --- classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_classes_keep_their_fractions(folder: Path, sizes: str) -> None:
    random = np.random.default_rng(2)
    labels = random.choice(4, 1200, p=[0.8, 0.15, 0.04, 0.01]).astype(np.int32)
    paths = [
        write_columns(
            folder / f"classes-{sizes}-{number}.root",
            {"id": ids.astype(np.int64), "label": labels[ids], "half": ids * 0.5},
            80,
        )
        for number, ids in enumerate(np.array_split(np.arange(1200), 2))
    ]
    loader = make(open_events(paths), **SIZES[sizes])
    parts = loader.split({"a": 0.5, "b": 0.3, "c": 0.2}, stratify="label")
    found = check_parts(list(parts.values()), set(range(1200)))
    for part, share in zip(found, (0.5, 0.3, 0.2), strict=True):
        for file in (range(600), range(600, 1200)):
            for label in range(4):
                whole = int((labels[file.start : file.stop] == label).sum())
                count = len([id_ for id_ in part if id_ in file and labels[id_] == label])
                assert abs(count - share * whole) < 2  # one for each of two cuts
    test = loader.split(0.25, stratify="label").test
    for label in range(4):
        whole = int((labels == label).sum())
        count = sum(labels[id_] == label for id_ in members(test))
        assert abs(count - 0.25 * whole) <= 2  # one for each file


# --- folds ----------------------------------------------------------------------------------------


@pytest.mark.thorough(
    but=["entries-lazy", "by two values-a budget", "by a value-kept", "stratified-lazy", "blocks-kept"]
)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rule", RULES)
def test_folds(frame: rf.Frame, rule: str, sizes: str) -> None:
    pairs = make(frame, **SIZES[sizes]).folds(5, **RULES[rule])
    assert len(pairs) == 5
    tests = []
    for pair in pairs:
        tests.append(check_parts(pair, ALL)[1])
        assert pair._fields == ("train", "test")
        assert (pair.train, pair.test) == tuple(pair)
        pair.train.close()
        pair.test.close()
    assert sum(map(len, tests)) == ENTRIES
    assert set().union(*tests) == ALL
    tolerance = {"entries": 15, "stratified": 4 * 7 * 3, "blocks": 300}.get(rule, 100)
    assert all(abs(len(test) - ENTRIES / 5) <= tolerance for test in tests)


def test_folds_of_a_part(frame: rf.Frame) -> None:
    rest, test = make(frame).split(0.2)
    found = [members(pair.test) for pair in rest.folds(4, by="id")]
    assert sum(map(len, found)) == rest.num_rows
    assert set().union(*found) == ALL - members(test)


# --- errors ---------------------------------------------------------------------------------------


def refused(kind: type[RootfeedError], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, 'split needs a fraction: split(0.2), or split({"train": 0.8, "test": 0.2}).'),
        (
            {"train": 0.7, "test": 0.3},
            "parts are named in a mapping: split({'train': 0.7, 'test': 0.3}).",
        ),
        ({"fractions": {"train": 1.0}}, "a split has at least two parts, got {'train': 1.0}: "),
        ({"fractions": {"a": 0.5, "b": 0.6}}, "the fractions of a split must add up to 1, got 1.1."),
        ({"fractions": {"a": 0.5, "b": 0.4}}, "the fractions of a split must add up to 1, got 0.9."),
        ({"fractions": [0.7, 0.3]}, "parts of a split have names, got [0.7, 0.3]: split({"),
        ({"fractions": {"a": 1.5, "b": -0.5}}, "the fraction a must lie between 0 and 1, got 1.5."),
        ({"fractions": {"a": "x", "b": 0.5}}, "the fraction a must lie between 0 and 1, got 'x'."),
        ({"fractions": {"a": math.nan, "b": 0.5}}, "the fraction a must lie between 0 and 1, got nan."),
        ({"fractions": {"": 0.5, "b": 0.5}}, "a part of a split is called by a text, got ''."),
        ({"fractions": dict.fromkeys(map(str, range(257)), 1 / 257)}, "a split has at most 256 parts"),
        ({"fractions": {1: 0.5, "b": 0.5}}, "a part of a split is called by a text, got 1."),
        (
            {"fractions": 0.2, "by": "id", "where": "flag"},
            "a split is made by one rule, got by and where.",
        ),
        (
            {"fractions": 0.2, "unit": "block", "stratify": "label"},
            'a split is made by one rule, got unit="block" and stratify.',
        ),
        ({"fractions": 0.2, "unit": "file"}, 'unit must be "entry" or "block", got \'file\'.'),
        (
            {"fractions": 0.2, "where": "flag"},
            "split(where=...) takes no fractions: the expression decides.",
        ),
        ({"fractions": 0.2, "resample": "valid"}, "resample names 'valid', which is no part."),
        ({"fractions": 0.2, "seed": 1.5}, "seed must be an integer, got 1.5."),
        ({"fractions": 0.2, "seed": None}, "seed must be an integer, got None."),
        ({"where": "flag", "seed": 1}, "split(where=...) takes no seed: the expression decides."),
    ],
)
def test_wrong_arguments(frame: rf.Frame, arguments: dict[str, Any], message: str) -> None:
    assert refused(ArgumentError, lambda: make(frame).split(**arguments)).startswith(message)


def test_wrong_columns(frame: rf.Frame) -> None:
    loader = make(frame)
    message = refused(MissingColumnError, lambda: loader.split(0.2, by="evnt"))
    assert "has no column 'evnt'. Did you mean 'event'?" in message
    message = refused(UnsupportedColumnError, lambda: loader.split(0.2, by="half"))
    assert "column 'half' (float32) cannot decide a split. Its values must be integers" in message
    message = refused(MissingColumnError, lambda: loader.split(0.2, stratify="lable"))
    assert "has no column 'lable'. Did you mean 'label'?" in message
    assert "more than 255 values" in refused(ArgumentError, lambda: loader.split(0.2, stratify="id"))
    refused(ExpressionError, lambda: loader.split(where="id %% 2"))
    refused(MissingColumnError, lambda: loader.split(where="idd > 2"))


def test_wrong_folds(frame: rf.Frame) -> None:
    loader = make(frame)
    assert refused(ArgumentError, lambda: loader.folds(1)) == "count must be at least 2, got 1."
    for count in (2.0, True, "5", None):
        assert "count must be an integer" in refused(
            ArgumentError, lambda count=count: loader.folds(count)
        )
    assert "a split is made by one rule" in refused(
        ArgumentError, lambda: loader.folds(3, by="id", stratify="label")
    )
    assert "leaves a part empty" in refused(
        EmptyDatasetError, lambda: make(frame.range(3)).folds(5, by="id")
    )


@pytest.mark.parametrize("where", ["id < 0", "id >= 0"])
def test_a_side_that_would_be_empty(frame: rf.Frame, where: str) -> None:
    message = refused(EmptyDatasetError, lambda: make(frame).split(where=where))
    side = "test" if where == "id < 0" else "train"
    assert message.startswith(f"split(where={where!r}) of 1977 entries leaves a part empty: {side}.")


def test_a_vector_decides_nothing(folder: Path) -> None:
    import uproot

    path = folder / "vector.root"
    with uproot.recreate(path) as file:
        file["events"] = {"id": np.arange(20), "v": np.zeros((20, 3), np.int32)}
    loader = rf.Loader(open_events(str(path)), 2, ["id"], seed=1)
    for arguments in ({"by": "v"}, {"stratify": "v"}):
        message = refused(
            UnsupportedColumnError, lambda arguments=arguments: loader.split(0.5, **arguments)
        )
        assert "column 'v'" in message
