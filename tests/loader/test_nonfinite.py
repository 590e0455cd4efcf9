"""Values that are NaN or infinite: counted and reported once, refused, or kept."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from processes import run
from rootfeed.errors import (
    ArgumentError,
    NotFiniteError,
    NotFiniteWarning,
    PrecisionWarning,
    RootfeedWarning,
    WeightWarning,
)

ENTRIES = 400
FORMATS = ("TTree", "RNTuple")
SIZES: dict[str, dict[str, Any]] = {"kept": {}, "lazy": {"chunk_entries": 100, "block_entries": 25}}

#: Entries in which a column is NaN, infinite, or infinite as float32.
NANS, INFINITE, LARGE = (3, 77, 301), (10, 399), (200,)


def numbers(dtype: str) -> np.ndarray:
    values = np.arange(ENTRIES, dtype=dtype) % 50
    values[list(NANS)] = np.nan
    values[list(INFINITE)] = [np.inf, -np.inf]
    return values


def vectors() -> ak.Array:
    """Three elements in each entry, of which the last one is NaN in entries that divide by 100."""
    found = np.tile(np.arange(3.0, dtype="f4"), (ENTRIES, 1))
    found[::100, 2] = np.nan
    return ak.Array([row[: entry % 4] for entry, row in enumerate(found.tolist(), 3)])


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, rf.Frame]:
    folder = tmp_path_factory.mktemp("nonfinite")
    large = np.arange(ENTRIES, dtype="f8")
    large[list(LARGE)] = 1e300
    columns = {
        "entry": np.arange(ENTRIES, dtype="i4"),
        "long": np.arange(ENTRIES, dtype="i8"),
        "narrow": numbers("f4"),
        "wide": numbers("f8"),
        "large": large,
        "clean": np.arange(ENTRIES, dtype="f4"),
        "v": ak.values_astype(vectors(), np.float32),
    }
    found = {}
    for format in FORMATS:
        path = folder / f"{format}.root"
        with uproot.recreate(path) as file:
            if format == "TTree":
                types = {
                    name: "var * float32" if name == "v" else columns[name].dtype for name in columns
                }
                file.mktree("events", types).extend(columns)
            else:
                file.mkrntuple("events", columns)
        found[format] = rf.open(path)
    return found


@pytest.fixture(params=FORMATS)
def frame(request: pytest.FixtureRequest, frames: dict[str, rf.Frame]) -> rf.Frame:
    return frames[request.param]


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SIZES[request.param]


def make(frame: rf.Frame, features: Any, *more: Any, **options: Any) -> rf.Loader:
    return rf.Loader(frame, 20, features, *more, **{"seed": 5, "threads": 2} | options)


def said(loader: Any, category: type[Warning] = NotFiniteWarning) -> dict[str, str]:
    """Return what one epoch says of each column, and that it says nothing twice."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(loader)
        list(loader)
    own = [each for each in caught if issubclass(each.category, RootfeedWarning)]
    assert [each.filename for each in own] == [__file__] * len(own)
    found = {}
    for each in own:
        if each.category is category:
            name = re.findall(r"'(\w+)'", str(each.message))[0]
            assert name not in found, "said twice"
            found[name] = str(each.message)
    return found


def count(text: str) -> int:
    return int(re.findall(r"(\d+) (?:values )?\(so far\)", text)[0])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("column", ["narrow", "wide"])
def test_features_are_counted_by_column(
    frame: rf.Frame, sizes: dict[str, Any], column: str, dtype: str
) -> None:
    found = said(make(frame, [column, "clean", "entry"], dtype=dtype, **sizes))
    assert list(found) == [column]
    text = found[column]
    assert (count(text) == 5) if not sizes else (1 <= count(text) <= 5)
    value, entry = re.findall(r"such as (\S+) in entry (\d+) of ", text)[0]
    assert int(entry) in (NANS if value == "nan" else INFINITE)
    assert f"{frame.files[0]}:events" in text
    assert 'nonfinite="error" refuses them, and "keep" says nothing' in text


@pytest.mark.parametrize(
    "define",
    [
        lambda frame: frame.define("z", "narrow * 2"),
        lambda frame: frame.define("z", "entry > 5 ? 1.0 : log(-1.0)").filter("entry < 11"),
        lambda frame: frame.define("z", "double(narrow)").filter("entry >= 10"),
    ],
)
def test_definitions_are_features_too(frame: rf.Frame, sizes: dict[str, Any], define: Any) -> None:
    if not sizes:
        expected = (~np.isfinite(define(frame).arrays("z")["z"])).sum()
        assert count(said(make(define(frame), ["z"]))["z"]) == expected > 0
    assert list(said(make(define(frame), ["z", "clean"], **sizes))) == ["z"]


def test_targets_are_counted_and_weights_warn_as_weights(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    assert list(said(make(frame, ["clean"], "wide", target_dtype="f8", **sizes))) == ["wide"]
    loader = make(frame, ["clean"], ["clean", "wide"], "narrow", **sizes)
    assert list(said(loader)) == ["wide"]
    loader = make(frame, ["clean"], ["clean", "wide"], "narrow", **sizes)
    assert list(said(loader, WeightWarning)) == ["narrow"]


def test_a_column_in_several_arrays_counts_once(frame: rf.Frame) -> None:
    features = {"a": ["narrow", "clean"], "b": ["narrow"]}
    loader = make(frame, features, "narrow", "narrow", target_dtype="f8")
    assert count(said(loader)["narrow"]) == 5
    loader = make(frame, features, "narrow", "narrow", target_dtype="f8")
    assert count(said(loader, WeightWarning)["narrow"]) == 5


def test_what_makes_no_row_does_not_count(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    clean = frame.filter("isfinite(narrow) and isfinite(wide)").define("z", "narrow / 2")
    assert said(make(clean, ["narrow", "wide", "z"], **sizes)) == {}
    list(make(clean, ["narrow", "wide", "z"], nonfinite="error", **sizes))
    some = make(frame, ["narrow"], **sizes).split(where="entry < 50")
    assert sum(count(said(part)["narrow"]) for part in some) == 5 or sizes


def test_integers_and_whole_numbers_say_nothing(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    for dtype in ("f4", "f8", "i8"):
        list(make(frame, ["entry", "long"], dtype=dtype, nonfinite="error", **sizes))


# --- vectors --------------------------------------------------------------------------------------


@pytest.mark.thorough(
    but=[
        "RNTuple-kept-features0-4",
        "RNTuple-kept-features5-4",
        "RNTuple-lazy-features1-4",
        "RNTuple-lazy-features6-4",
        "TTree-kept-features2-0",
        "TTree-kept-features7-4",
        "TTree-lazy-features3-0",
        "TTree-lazy-features8-0",
    ]
)
@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"v": rf.padded("v", 3)}, 4),
        ({"v": rf.padded("v", 3, value=math.nan)}, 4),  # what fills up is meant
        ({"v": rf.padded("v", 2, value=math.inf)}, 0),  # which are cut off
        ({"v": rf.padded("v", 2, sort_by="v")}, 0),  # NaN comes last
        ({"v": rf.padded("w", 1, sort_by="w")}, 0),
        ({"v": rf.padded("w", 3)}, 4),
        ({"v": rf.ragged("v")}, 4),
        ([rf.flat("v", 3, value=math.nan), "clean"], 4),
        ([rf.flat("v", 2, value=math.nan), "clean"], 0),
    ],
)
def test_elements_are_counted(
    frame: rf.Frame, sizes: dict[str, Any], features: Any, expected: int
) -> None:
    lengths = 3 + np.arange(ENTRIES)
    assert sum(lengths[::100] % 4 == 3) == 4
    frame = frame.define("w", "v + 1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = said(make(frame, features, **sizes))
    assert len(found) == (expected > 0)
    if expected and not sizes:
        assert count(*found.values()) == expected
    options = {"nonfinite": "error", **sizes}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not expected:
            list(make(frame, features, **options))
            return
        with pytest.raises(NotFiniteError) as caught:
            list(make(frame, features, shuffle=False, **options))
    assert "the first in entry 0: nan" in str(caught.value)


def test_elements_of_entries_that_do_not_pass(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    some = frame.filter("entry % 100 != 0")
    list(make(some, {"v": rf.padded("v", 3)}, nonfinite="error", **sizes))
    some = frame.filter("entry > 0 and (entry % 100 == 0 or entry % 7 == 0)")
    with pytest.raises(NotFiniteError, match="the first in entry 100: nan"):
        list(make(some, {"v": rf.padded("v", 3)}, nonfinite="error", shuffle=False, threads=1, **sizes))


# --- what was asked for ---------------------------------------------------------------------------


def test_error_names_file_column_and_entries(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    for use in (
        {"features": ["clean", "narrow"]},
        {"features": ["clean"], "more": ("narrow",)},
        {"features": ["clean"], "more": ("entry", "narrow")},
    ):
        more = use.get("more", ())
        loader = make(frame, use["features"], *more, shuffle=False, nonfinite="error", **sizes)
        for _ in range(2):
            with pytest.raises(NotFiniteError) as caught:
                list(loader)
            text = str(caught.value)
            assert text.startswith(f"{frame.files[0]}:events: column 'narrow' has ")
            start, stop = map(int, re.findall(r"entries \[(\d+), (\d+)\)", text)[0])
            wrong = [entry for entry in sorted(NANS + INFINITE) if start <= entry < stop]
            assert f"has {len(wrong)} values" in text
            assert f"the first in entry {wrong[0]}: nan" in text
            loader.set_epoch(0)


def test_batches_before_the_error_come(frame: rf.Frame) -> None:
    late = frame.filter("entry > 77")
    loader = make(late, ["narrow"], shuffle=False, nonfinite="error", **SIZES["lazy"])
    received = []
    with pytest.raises(NotFiniteError, match="entry 301"):
        received.extend(batch.copy() for batch in loader)
    assert len(received) >= 5
    assert np.isfinite(received).all()


def test_keep_says_nothing(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = make(frame, ["narrow", "wide"], "wide", "narrow", nonfinite="keep", **sizes)
    batches = list(loader)  # warnings are errors
    values = np.concatenate([x[:, 0] for x, _, _ in batches])
    assert (~np.isfinite(values)).sum() == 5


def test_what_a_dtype_cannot_hold_is_said_once(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    for nonfinite in ("warn", "keep"):
        loader = make(frame, ["large"], nonfinite=nonfinite, **sizes)
        assert list(said(loader, PrecisionWarning)) == ["large"]
        loader = make(frame, ["large"], nonfinite=nonfinite, **sizes)
        assert said(loader) == {}
    with pytest.raises(NotFiniteError, match=r"entry 200: 1e\+300, which float32 cannot hold"):
        list(make(frame, ["large"], nonfinite="error", **sizes))
    list(make(frame, ["large"], dtype="f8", nonfinite="error", **sizes))
    list(make(frame.filter("entry != 200"), ["large"], **sizes))  # what is cut is not altered either


@pytest.mark.parametrize("asked", ["", "ignore", None, True, "ERROR"])
def test_what_cannot_be_meant(frame: rf.Frame, asked: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        make(frame, ["clean"], nonfinite=asked)
    assert str(caught.value) == f'nonfinite must be "warn", "error" or "keep", got {asked!r}.'


def test_sides_and_ranks_speak_for_themselves(frame: rf.Frame) -> None:
    train, test = make(frame, ["narrow"]).split(0.5)
    told = [said(side).get("narrow") for side in (train, test)]  # a side may have none of them
    assert sum(count(text) for text in told if text is not None) == 5
    refused = 0
    for rank in range(2):  # one of which may have none of them, too
        try:
            list(make(frame, ["narrow"], rank=rank, world_size=2, nonfinite="error"))
        except NotFiniteError:
            refused += 1
    assert refused
    for side, text in zip(make(frame, ["narrow"], nonfinite="error").split(0.5), told, strict=True):
        if text is None:
            list(side)
            continue
        with pytest.raises(NotFiniteError):
            list(side)


def test_a_state_goes_on_whatever_was_asked_for(frame: rf.Frame) -> None:
    state = make(frame, ["clean"]).state_dict()
    make(frame, ["clean"], nonfinite="error").load_state_dict(state)


@pytest.mark.thorough(but=["warn"])
@pytest.mark.parametrize("asked", ["keep", "warn", "error"])
def test_workers_of_a_data_loader(frames: dict[str, rf.Frame], asked: str) -> None:
    pytest.importorskip("torch")
    outcome = run(
        """
        import sys, rootfeed as rf, torch
        path, asked = sys.argv[1:]
        loader = rf.Loader(rf.open(path), 20, ["narrow"], seed=1, nonfinite=asked)
        # PyTorch's forked workers that fail may hang.
        how = "forkserver" if asked == "error" else "fork"
        batches = torch.utils.data.DataLoader(
            loader.torch(), batch_size=None, num_workers=2, multiprocessing_context=how
        )
        try:
            print(len(list(batches)))
        except rf.errors.NotFiniteError as error:
            print(type(error).__name__)
        """,
        frames["RNTuple"].files[0],
        asked,
    )
    assert outcome.lines == ["NotFiniteError" if asked == "error" else "20"], outcome
    assert ("NotFiniteWarning" in outcome.err) == (asked == "warn")
