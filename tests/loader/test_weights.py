"""Weights: columns and expressions, and sums that are made equal or given."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import (
    ArgumentError,
    EvaluationError,
    MissingColumnError,
    UnsupportedColumnError,
    WeightWarning,
)
from samples import open_events, write_columns

ENTRIES = 600
SIZES = (250, 70, 0, 280)
LAZY = {"chunk_entries": 150, "block_entries": 20}

Array = np.ndarray
Columns = dict[str, Array]


def contents() -> Columns:
    random = np.random.default_rng(5)
    flag = random.random(ENTRIES) < 0.3
    return {
        "id": np.arange(ENTRIES),
        "w": random.normal(2, 0.5, ENTRIES),  # float64, all positive
        "signed": random.normal(1, 1, ENTRIES).astype("f4"),
        "flag": flag,
        "kind": random.choice(np.array([-(2**60) - 1, 0, 2**60], np.int64), ENTRIES),
        "huge": random.choice(np.array([1, 2**63 + 5], np.uint64), ENTRIES),
        "real": random.choice(np.array([0.1, -0.5, 1e-7, 3e20], np.float32), ENTRIES),
        "third": random.choice([1 / 3, 0.1, -0.0, 0.0], ENTRIES),
        "none": np.where(np.arange(ENTRIES) == 417, np.nan, 1.0),
        "endless": np.where(np.arange(ENTRIES) == 417, np.inf, 1.0),
        "some": (np.arange(ENTRIES) % 3 > 0).astype("f8"),  # zeros
        "many": np.arange(ENTRIES) % 100,
    }


COLUMNS = contents()


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("weights")
    paths, start = [], 0
    for number, size in enumerate(SIZES):
        part = {name: values[start : start + size] for name, values in COLUMNS.items()}
        kind = "RNTuple" if number == 1 else "TTree"
        paths.append(write_columns(folder / f"{number}.root", part, 60, kind))
        start += size
    return paths


@pytest.fixture(scope="session")
def frame(paths: list[str]) -> rf.Frame:
    return open_events(paths)


def make(frames: Any, weights: Any, **options: Any) -> rf.Loader:
    settings_: dict[str, Any] = {"batch_size": 32, "seed": 1, "dtype": "f8", "features": ["id"]}
    return rf.Loader(frames, target="id", weights=weights, **(settings_ | options))


def given_out(loader: rf.Loader) -> Array:
    """Return the weight of each entry, NaN where it did not come; each comes once."""
    found = np.full(ENTRIES, np.nan)
    for x, _, w in loader:
        ids = x[:, 0].astype(int)
        assert w.shape == (len(x), 1)
        assert np.isnan(found[ids]).all()
        found[ids] = w[:, 0]
    return found


def scaled(
    weights: Array, labels: Array | None, to: float | Mapping[Any, float] | None, here: Array
) -> Array:
    """Return in NumPy what the weights of the entries `here` become; NaN elsewhere."""
    found = np.full(ENTRIES, np.nan)
    if labels is None:
        goal = to if to is not None else here.sum()
        found[here] = weights[here] * (goal / math.fsum(weights[here]))
        return found
    values = np.unique(labels[here])
    for value in values:
        mine = here & (labels == value)
        goal = to
        if to is None:
            goal = math.fsum(weights[here]) / len(values)
        elif isinstance(to, Mapping):
            goal = to[value.item()]
        found[mine] = weights[mine] * (goal / math.fsum(weights[mine]))
    return found


def equal(found: Array, expected: Array, tolerance: float = 1e-12) -> bool:
    return np.allclose(found, expected, rtol=tolerance, atol=0, equal_nan=True)


EVERY = np.ones(ENTRIES, bool)

# --- a column, an expression ----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["in memory", "lazy"])
@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("w", COLUMNS["w"]),
        ("signed", COLUMNS["signed"].astype("f8")),
        ("flag", COLUMNS["flag"].astype("f8")),
        ("w * 2 + flag", COLUMNS["w"] * 2 + COLUMNS["flag"]),
        ("signed > 0 ? w : 0", np.where(COLUMNS["signed"] > 0, COLUMNS["w"], 0)),
    ],
)
def test_weights_are_a_column_or_an_expression(
    frame: rf.Frame, sizes: dict[str, int], weights: str, expected: Array
) -> None:
    loader = make(frame, weights, **sizes)
    assert np.array_equal(given_out(loader), expected)  # bit for bit, in float64
    _, _, w = next(iter(make(frame, weights, dtype="f4", **sizes)))
    assert w.dtype == np.float32


def test_names_of_weights(frame: rf.Frame) -> None:
    assert make(frame, "w").weights == "w"
    assert make(frame, "w + 0").weights == "weight_"
    taken = frame.define("weight_", "w * 4")
    loader = make(taken, "w * 2", features=["weight_"])
    assert (loader.weights, loader.features) == ("weight__", ("weight_",))
    x, _, w = next(iter(loader))
    assert np.array_equal(w * 2, x)


def test_weights_are_no_features_where_those_are_left_out(frame: rf.Frame) -> None:
    others = [name for name in COLUMNS if name not in ("id", "w")]
    for weights in ("w", rf.normalized("w"), rf.normalized("w", "flag")):
        assert list(make(frame, weights, features=None).features) == others
    assert "w" in make(frame, "w * 2", features=None).features  # which are others than these
    assert make(frame, rf.normalized("w"), features=["w"]).features == ("w",)


# --- sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["in memory", "lazy"])
@pytest.mark.parametrize("per", [None, "flag", "kind", "huge", "real", "third"])
def test_sums_are_equal(frame: rf.Frame, per: str | None, sizes: dict[str, int]) -> None:
    labels = None if per is None else COLUMNS[per]
    found = given_out(make(frame, rf.normalized("w", per), **sizes))
    assert equal(found, scaled(COLUMNS["w"], labels, None, EVERY))
    if labels is None:
        assert found.mean() == pytest.approx(1, rel=1e-12)
        return
    sums = [found[labels == value].sum() for value in np.unique(labels)]
    assert sums == pytest.approx([COLUMNS["w"].sum() / len(sums)] * len(sums), rel=1e-12)


@pytest.mark.parametrize(
    ("per", "to"),
    [
        (None, 7.5),
        (None, 1),
        ("flag", 10),
        ("flag", {False: 3.0, True: 0.25}),
        ("flag", {0: 3.0, 1: 0.25}),  # which are equal to them
        ("kind", {0: 1, 2**60: 2, -(2**60) - 1: 3}),
        ("huge", {1: 1e-6, 2**63 + 5: 1e6}),
        ("third", {0.1: 1.0, 1 / 3: 2.0, 0.0: 3.0}),
    ],
)
def test_sums_are_as_given(frame: rf.Frame, per: str | None, to: Any) -> None:
    found = given_out(make(frame, rf.normalized("w", per, to)))
    if per is None:
        assert found.sum() == pytest.approx(to, rel=1e-12)
        return
    for value in np.unique(COLUMNS[per]):
        goal = to[value.item()] if isinstance(to, dict) else to
        assert found[COLUMNS[per] == value].sum() == pytest.approx(goal, rel=1e-12)
    assert equal(found, scaled(COLUMNS["w"], COLUMNS[per], to, EVERY))


def test_float32_batches_have_the_sums_too(frame: rf.Frame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rounding a factor is no loss of precision to warn of
        found = given_out(make(frame, rf.normalized("w", "flag", 1.0), dtype="f4"))
    assert found[COLUMNS["flag"]].sum() == pytest.approx(1, rel=1e-6)


def test_weights_that_are_an_expression_are_normalized(frame: rf.Frame) -> None:
    found = given_out(make(frame, rf.normalized("w * w + some", "flag")))
    weights = COLUMNS["w"] ** 2 + COLUMNS["some"]
    assert equal(found, scaled(weights, COLUMNS["flag"], None, EVERY))


def test_integer_weights_are_real_numbers(frame: rf.Frame) -> None:
    found = given_out(make(frame, rf.normalized("many + 1", "flag", 1)))
    assert equal(found, scaled(COLUMNS["many"] + 1.0, COLUMNS["flag"], 1, EVERY))


def test_sums_are_those_of_entries_that_pass(frame: rf.Frame) -> None:
    cut = frame.filter("signed > 1 && kind != 0")
    found = given_out(make(cut, rf.normalized("w", "kind", 5), **LAZY))
    here = (COLUMNS["signed"] > 1) & (COLUMNS["kind"] != 0)
    assert equal(found, scaled(COLUMNS["w"], COLUMNS["kind"], 5, here))
    # A class that no entry has any more is none.
    only = frame.filter("flag")
    found = given_out(make(only, rf.normalized("w", "flag")))
    assert equal(found, scaled(COLUMNS["w"], COLUMNS["flag"], None, COLUMNS["flag"]))


def test_a_label_may_be_defined(frame: rf.Frame) -> None:
    defined = frame.define("class_", "2 * flag + (w > 2)").filter("id % 2 == 0")
    found = given_out(make(defined, rf.normalized("w", "class_")))
    labels = 2 * COLUMNS["flag"] + (COLUMNS["w"] > 2)
    assert equal(found, scaled(COLUMNS["w"], labels, None, COLUMNS["id"] % 2 == 0))


def test_sums_over_several_frames(paths: list[str]) -> None:
    one, two = open_events(paths[:2]), open_events(paths[2:])
    expected = scaled(COLUMNS["w"], COLUMNS["kind"], {0: 1, 2**60: 2, -(2**60) - 1: 3}, EVERY)
    asked = rf.normalized("w", "kind", {0: 1, 2**60: 2, -(2**60) - 1: 3})
    assert equal(given_out(make([one, two], asked, **LAZY)), expected)
    # A definition of each frame's own is the label of all.
    signal, background = one.define("y", "1"), two.define("y", "0.0")
    found = given_out(make([signal, background], rf.normalized("w", "y", {1: 1.0, 0: 2.0})))
    assert found[:320].sum() == pytest.approx(1, rel=1e-12)
    assert found[320:].sum() == pytest.approx(2, rel=1e-12)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per=st.sampled_from([None, "flag", "kind", "real"]),
    cut=st.integers(0, 400),
    to=st.none() | st.floats(1e-6, 1e9),
    negative=st.sampled_from(["keep", "abs"]),
    lazy=st.booleans(),
)
def test_sums_are_right_whatever_is_asked(
    frame: rf.Frame, per: str | None, cut: int, to: float | None, negative: Any, lazy: bool
) -> None:
    asked = rf.normalized("signed", per, to, negative=negative)
    weights = COLUMNS["signed"].astype("f8")
    weights = np.abs(weights) if negative == "abs" else weights
    here = COLUMNS["id"] >= cut
    found = given_out(make(frame.filter(f"id >= {cut}"), asked, **(LAZY if lazy else {})))
    labels = None if per is None else COLUMNS[per]
    assert equal(found, scaled(weights, labels, to, here), 1e-10)


# --- negative weights, zeros, and what is no weight -----------------------------------------------


def test_negative_weights_are_kept(frame: rf.Frame) -> None:
    found = given_out(make(frame, rf.normalized("signed", "flag")))
    assert equal(found, scaled(COLUMNS["signed"].astype("f8"), COLUMNS["flag"], None, EVERY))
    assert np.array_equal(found < 0, COLUMNS["signed"] < 0)
    assert (found < 0).any()


def test_negative_weights_become_positive(frame: rf.Frame) -> None:
    found = given_out(make(frame, rf.normalized("signed", "flag", 2, negative="abs")))
    weights = np.abs(COLUMNS["signed"].astype("f8"))
    assert equal(found, scaled(weights, COLUMNS["flag"], 2, EVERY))
    assert (found > 0).all()


def test_negative_weights_are_an_error(frame: rf.Frame, paths: list[str]) -> None:
    negatives = (COLUMNS["signed"] < 0).sum()
    with pytest.raises(EvaluationError) as caught:
        make(frame, rf.normalized("signed", negative="error"))
    text = str(caught.value)
    assert f"{negatives} of {ENTRIES} weights 'signed' are negative" in text
    assert text.startswith(f"{paths[0]}:events and 3 more: ")
    assert 'Cut them, or choose negative="keep" or "abs"' in text
    make(frame.filter("signed >= 0"), rf.normalized("signed", negative="error"))
    make(frame, rf.normalized("w", negative="error"))


def test_zero_weights_are_reported(frame: rf.Frame) -> None:
    with pytest.warns(WeightWarning, match="200 of 600 weights 'some' are zero") as caught:
        loader = make(frame, rf.normalized("some", "flag"))
    assert [Path(each.filename).name for each in caught] == ["test_weights.py"]
    found = given_out(loader)
    assert equal(found, scaled(COLUMNS["some"], COLUMNS["flag"], None, EVERY))
    make(frame.filter("some > 0"), rf.normalized("some"))  # warnings are errors


@pytest.mark.parametrize("column", ["none", "endless"])
@pytest.mark.parametrize("sizes", [{}, {"chunk_entries": 64}])
def test_a_column_of_weights_that_are_no_numbers_is_reported(
    frame: rf.Frame, column: str, sizes: dict[str, int]
) -> None:
    loader = make(frame, column, **sizes)
    text = f"1 .so far. of the weights '{column}' are NaN or infinite"
    with pytest.warns(WeightWarning, match=text) as caught:
        given_out(loader)
    assert [Path(each.filename).name for each in caught] == ["test_weights.py"]
    given_out(loader)  # once; warnings are errors
    given_out(make(frame.filter("id != 417"), column, **sizes))  # what is cut does not count


@pytest.mark.parametrize("column", ["none", "endless"])
@pytest.mark.parametrize("per", [None, "flag"])
def test_weights_that_are_no_numbers(
    frame: rf.Frame, paths: list[str], column: str, per: str | None
) -> None:
    with pytest.raises(EvaluationError) as caught:
        make(frame, rf.normalized(column, per))
    text = str(caught.value)
    assert text.startswith(f"{paths[3]}:events: 1 of the weights {column!r} in entries [")
    assert "NaN or infinite. Cut these entries, or define other weights." in text
    make(frame.filter("id != 417"), rf.normalized(column, per))


@pytest.mark.parametrize(
    ("weights", "per", "what"),
    [
        ("signed - 5", None, "the weights 'signed - 5' have the sum -"),
        ("-w", None, "the weights '-w' have the sum -"),
        ("flag ? 1 : -1", "flag", "the weights 'flag ? 1 : -1' of flag == False have the sum -"),
    ],
)
def test_sums_that_cannot_be_normalized(
    frame: rf.Frame, paths: list[str], weights: str, per: str | None, what: str
) -> None:
    with pytest.raises(EvaluationError) as caught:
        make(frame, rf.normalized(weights, per))
    text = str(caught.value)
    assert what in text
    assert text.startswith(paths[0])
    assert 'Cut entries, choose negative="abs", or define other weights.' in text
    make(frame, rf.normalized(weights, per, negative="abs"))


def test_weights_that_are_all_zero(frame: rf.Frame) -> None:
    with pytest.warns(WeightWarning), pytest.raises(EvaluationError, match="the sum 0,"):
        make(frame, rf.normalized("w * 0"))


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("w",), {"negative": "drop"}, 'negative must be "keep", "abs" or "error", got \'drop\'.'),
        ((3,), {}, "normalized takes a column or an expression, got 3."),
        (("",), {}, "normalized takes a column or an expression, got ''."),
        (("w", ""), {}, "per must be the name of a column, got ''."),
        (("w", ["flag"]), {}, "per must be the name of a column, got ['flag']."),
        (("w",), {"to": {0: 1}}, "sums of several classes need a label: normalized(..., per=...)."),
        *(
            (("w", per), {"to": to}, f"to must be positive: a sum of weights, got {sum_!r}.")
            for per, to, sum_ in (
                (None, 0, 0),
                (None, -1.5, -1.5),
                (None, "1 GB", "1 GB"),
                ("flag", math.inf, math.inf),
                ("flag", {0: 1, 1: -2}, -2),
                ("flag", {0: 1, 1: None}, None),
            )
        ),
    ],
)
def test_arguments_that_cannot_be_meant(
    arguments: tuple[Any, ...], options: dict[str, Any], text: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        rf.normalized(*arguments, **options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        (rf.normalized("w", "flag", {0: 1}), ArgumentError, "has the value True, for which to= has no"),
        (rf.normalized("w", "flag", {0: 1, 1: 1, 2: 1}), ArgumentError, "to= names the class 2, which"),
        (rf.normalized("w", "many"), ArgumentError, "'many' has more than 64 values"),
        (rf.normalized("w", "none"), ArgumentError, "column 'none' is NaN in entries"),
        (rf.normalized("w", "endless"), ArgumentError, "'endless' is infinite in some entries"),
        (rf.normalized("ww"), MissingColumnError, "no column 'ww'"),
        (rf.normalized("w", "flags"), MissingColumnError, "Did you mean 'flag'?"),
        ("ww", MissingColumnError, "'ww'"),
        ("ww * 2", MissingColumnError, "no column 'ww'"),
        (2.0, (ArgumentError, MissingColumnError, UnsupportedColumnError), "2.0"),
    ],
)
def test_weights_that_do_not_fit(frame: rf.Frame, asked: Any, error: Any, text: str) -> None:
    with pytest.raises(error) as caught:
        make(frame, asked)
    assert text in str(caught.value)


# --- together with others -------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["in memory", "lazy"])
def test_parts_have_the_weights_of_the_whole(frame: rf.Frame, sizes: dict[str, int]) -> None:
    loader = make(frame, rf.normalized("w", "flag", 100), **sizes)
    whole = given_out(loader)
    for parts in (loader.split(0.3), loader.split(0.3, stratify="flag"), loader.split(where="flag")):
        found = [given_out(part) for part in parts]
        assert np.array_equal(np.where(np.isnan(found[0]), found[1], found[0]), whole)
    assert whole.sum() == pytest.approx(200, rel=1e-12)


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["in memory", "lazy"])
def test_ranks_have_the_weights_of_the_whole(frame: rf.Frame, sizes: dict[str, int]) -> None:
    asked = rf.normalized("w", "flag", 100)
    ranks = [
        given_out(make(frame, asked, rank=rank, world_size=3, tail="uneven", **sizes))
        for rank in range(3)
    ]
    assert np.array_equal((~np.isnan(ranks)).sum(0), np.ones(ENTRIES))
    assert np.array_equal(np.nansum(ranks, 0), given_out(make(frame, asked)))


@pytest.mark.parametrize("sizes", [{}, LAZY], ids=["in memory", "lazy"])
def test_drawing_does_not_change_weights(frame: rf.Frame, sizes: dict[str, int]) -> None:
    asked = rf.normalized("w", "flag", 100)
    whole = given_out(make(frame, asked))
    balanced = make(frame, asked, sampling=rf.balanced("flag", epoch="longest"), **sizes)
    seen = np.zeros(ENTRIES, int)
    for x, _, w in balanced:
        ids = x[:, 0].astype(int)
        assert np.array_equal(w[:, 0], whole[ids])
        assert COLUMNS["flag"][ids].sum() == len(ids) / 2
        np.add.at(seen, ids, 1)
    assert seen.min() >= 1  # though the epoch uses some again


@pytest.mark.parametrize("batch_size", [1, 7, 600, 1000])
def test_batching_does_not_change_weights(frame: rf.Frame, batch_size: int) -> None:
    asked = rf.normalized("w", "kind")
    for shuffle in (True, False):
        sizes = LAZY if batch_size < 100 else {}
        loader = make(frame, asked, batch_size=batch_size, shuffle=shuffle, **sizes)
        assert np.array_equal(given_out(loader), given_out(make(frame, asked)))


def test_the_user_may_change_weights(frame: rf.Frame) -> None:
    loader = make(frame, rf.normalized("w", "flag"))
    first = given_out(loader)
    for _, _, w in loader:
        w *= 0
    assert np.array_equal(given_out(loader), first)
