"""Padded, ragged and flat inputs, against awkward on the same entries."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import (
    ArgumentError,
    CutVectorWarning,
    MissingColumnError,
    PrecisionWarning,
    UnequalLengthsError,
    UnsupportedColumnError,
)
from rootfeed.frame import view_of
from rootfeed.loader import fill
from rootfeed.view import Projection, scan

ENTRIES = 900
FORMATS = ["TTree", "RNTuple"]
SIZES: dict[str, dict[str, Any]] = {"kept": {}, "lazy": {"chunk_entries": 200, "block_entries": 37}}


@dataclass(frozen=True)
class Sample:
    """A frame, and its contents by entry."""

    frame: rf.Frame
    array: Any


def contents(entries: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 9, entries)
    lengths[random.random(entries) < 0.2] = 0
    total = int(lengths.sum())

    def vector(values: np.ndarray) -> Any:
        return ak.unflatten(values, lengths)

    pt = random.exponential(30, total).astype(np.float32).round(0)  # with equal ones
    pt[random.random(total) < 0.02] = np.nan
    others = random.integers(0, 4, entries)
    return {
        "id": np.arange(entries, dtype=np.int64),
        "met": random.normal(size=entries).astype(np.float32),
        "label": random.integers(0, 3, entries).astype(np.int32),
        "pt": vector(pt),
        "eta": vector(random.normal(size=total)),
        "charge": vector(random.choice([-1, 1], total).astype(np.int32)),
        "other": ak.unflatten(random.normal(size=int(others.sum())).astype(np.float32), others),
    }


def write(path: Path, columns: dict[str, Any], format: str, page: int) -> str:
    with uproot.recreate(path) as file:
        if format == "TTree":
            types = {
                name: f"var * {ak.type(values).content.content.primitive}"
                if isinstance(values, ak.Array)
                else values.dtype
                for name, values in columns.items()
            }
            events: Any = file.mktree("events", types)
        else:
            events = file.mkrntuple("events", {name: values[:0] for name, values in columns.items()})
        for start in range(0, len(columns["id"]), page):
            events.extend({name: values[start : start + page] for name, values in columns.items()})
    return str(path)


@pytest.fixture(scope="session", params=FORMATS)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    folder = tmp_path_factory.mktemp("collections")
    columns = contents(ENTRIES, 1)
    half = {name: values[: ENTRIES // 3] for name, values in columns.items()}
    rest = {name: values[ENTRIES // 3 :] for name, values in columns.items()}
    paths = [
        write(folder / "a.root", half, request.param, 70),
        write(folder / "b.root", rest, request.param, 110),
    ]
    return Sample(rf.open(dict.fromkeys(paths, "events")), ak.Array(columns))


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SIZES[request.param]


@pytest.fixture(autouse=True)
def _vectors_may_be_cut() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CutVectorWarning)
        yield


def padded(vectors: Any, length: int, value: float) -> np.ndarray:
    filled = ak.fill_none(ak.pad_none(vectors, length, clip=True), value)
    return np.asarray(ak.to_numpy(filled), np.float32)


def in_order(batches: list[tuple[Any, Any]], name: str) -> np.ndarray:
    """Return an input of all batches, sorted by id."""
    ids = np.concatenate([y[:, 0] for _, y in batches])
    return np.concatenate([x[name] for x, _ in batches])[np.argsort(ids)]


def make(frame: rf.Frame, features: Any, **options: Any) -> rf.Loader:
    settings_: dict[str, Any] = {"batch_size": 32, "seed": 4, "target": "id", "target_dtype": "int64"}
    settings_["nonfinite"] = "keep"  # some elements are NaN
    return rf.Loader(frame, features=features, **(settings_ | options))


def test_padded(sample: Sample, sizes: dict[str, Any]) -> None:
    features = {
        "event": ["met", "label"],
        "jets": rf.padded(["pt", "eta", "charge"], length=5, value=-7.0),
    }
    batches = list(make(sample.frame, features, **sizes))
    x, _ = batches[0]
    assert list(x) == ["event", "jets", "jets_mask"]
    assert (x["jets"].shape, x["jets"].dtype) == ((32, 5, 3), np.float32)
    assert (x["jets_mask"].shape, x["jets_mask"].dtype) == ((32, 5), np.bool_)
    assert x["jets"].flags.c_contiguous
    array = sample.array
    jets = in_order(batches, "jets")
    for number, name in enumerate(("pt", "eta", "charge")):
        assert np.array_equal(jets[:, :, number], padded(array[name], 5, -7.0), equal_nan=True)
    lengths = np.asarray(ak.num(array.pt))
    assert np.array_equal(in_order(batches, "jets_mask"), np.arange(5) < lengths[:, None])
    assert np.array_equal(in_order(batches, "event")[:, 0], np.asarray(array.met))


def test_ragged(sample: Sample, sizes: dict[str, Any]) -> None:
    loader = make(sample.frame, {"jets": rf.ragged(["pt", "eta"])}, **sizes)
    seen = 0
    for x, y in loader:
        values, offsets = x["jets"], x["jets_offsets"]
        assert (values.dtype, offsets.dtype) == (np.float32, np.int64)
        expected = sample.array[y[:, 0]]
        assert offsets.tolist() == [0, *np.cumsum(np.asarray(ak.num(expected.pt))).tolist()]
        assert values.shape == (offsets[-1], 2)
        assert np.array_equal(values[:, 0], np.asarray(ak.flatten(expected.pt)), equal_nan=True)
        eta = np.asarray(ak.flatten(expected.eta)).astype(np.float32)
        assert np.array_equal(values[:, 1], eta)
        seen += len(y)
    assert seen == ENTRIES


def test_flat(sample: Sample, sizes: dict[str, Any]) -> None:
    features = ["met", rf.flat("charge", length=3, value=9.0), "label", rf.flat("other", length=1)]
    loader = make(sample.frame, features, **sizes)
    assert loader.features == ("met", "charge_0", "charge_1", "charge_2", "label", "other_0")
    batches = [({"x": x}, y) for x, y in loader]
    rows = in_order(batches, "x")
    array = sample.array
    assert np.array_equal(rows[:, 0], np.asarray(array.met))
    assert np.array_equal(rows[:, 1:4], padded(array.charge, 3, 9.0))
    assert np.array_equal(rows[:, 4], np.asarray(array.label))
    assert np.array_equal(rows[:, 5:], padded(array.other, 1, 0.0))


@pytest.mark.parametrize("ragged", [False, True])
def test_sorted(sample: Sample, sizes: dict[str, Any], ragged: bool) -> None:
    columns = ["eta", "pt"]
    asked = rf.ragged(columns, sort_by="pt") if ragged else rf.padded(columns, 4, sort_by="pt")
    # One array for each entry: awkward needs longer to pick one than the loader to read the file.
    pts = [np.asarray(pt, np.float32) for pt in sample.array.pt.tolist()]
    etas = [np.asarray(eta, np.float32) for eta in sample.array.eta.tolist()]
    for x, y in make(sample.frame, {"jets": asked}, **sizes):
        for row, entry in enumerate(y[:, 0]):
            pt, eta = pts[entry], etas[entry]
            keys = np.where(np.isnan(pt), np.inf, -pt)
            order = np.argsort(keys, kind="stable")
            if ragged:
                start, stop = x["jets_offsets"][row : row + 2]
                found = x["jets"][start:stop]
            else:
                order = order[:4]
                found = x["jets"][row][x["jets_mask"][row]]
            assert np.array_equal(found[:, 0], eta[order])
            assert np.array_equal(found[:, 1], pt[order], equal_nan=True)


@settings(max_examples=settings.default.max_examples // 6, deadline=None)
@given(
    length=st.integers(1, 12),
    batch_size=st.integers(1, 200),
    chunk=st.one_of(st.none(), st.integers(200, 500)),
    block=st.integers(1, 100),
    threads=st.integers(1, 4),
    cut=st.sampled_from(["", "Sum(pt > 20) >= 2", "pt.size() > 0 && eta[0] > 0", "label == 1"]),
    fraction=st.sampled_from([None, 0.3]),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_every_entry_once_and_rows_stay_together(
    sample: Sample,
    length: int,
    batch_size: int,
    chunk: int | None,
    block: int,
    threads: int,
    cut: str,
    fraction: float | None,
    dtype: str,
) -> None:
    frame = sample.frame.define("hard", "pt[pt > 20]").define("ht", "Sum(hard)")
    if cut:
        frame = frame.filter(cut)
    features = {
        "all": rf.padded(["pt", "charge"], length, value=-1),
        "hard": rf.padded("hard", length),
        "event": ["ht", rf.flat("eta", 2)],
        "other": rf.ragged("other"),
    }
    options: dict[str, Any] = {"threads": threads, "dtype": dtype, "batch_size": batch_size}
    if chunk is not None:
        options |= {"chunk_entries": chunk, "block_entries": block}
    loader = make(frame, features, **options)
    sides = [loader] if fraction is None else list(loader.split(fraction))
    batches = [batch for side in sides for batch in side]
    assert len(batches) == sum(len(side) for side in sides)
    ids = frame.arrays("id")["id"]
    assert np.array_equal(np.sort(np.concatenate([y[:, 0] for _, y in batches])), ids)
    array = sample.array[ids]
    pt = padded(array.pt, length, -1)
    assert np.array_equal(in_order(batches, "all")[:, :, 0], pt, equal_nan=True)
    assert np.array_equal(in_order(batches, "all")[:, :, 1], padded(array.charge, length, -1))
    hard = array.pt[array.pt > 20]
    assert np.array_equal(in_order(batches, "hard")[:, :, 0], padded(hard, length, 0))
    event = in_order(batches, "event")
    assert np.allclose(event[:, 0], np.asarray(ak.sum(hard, axis=1)), rtol=1e-5)
    assert np.allclose(event[:, 1:], padded(array.eta, 2, 0), rtol=1e-6)
    for x, y in batches:
        expected = np.asarray(ak.flatten(sample.array.other[y[:, 0]]))
        assert np.array_equal(x["other"][:, 0], expected)


def test_torch(sample: Sample) -> None:
    torch = pytest.importorskip("torch")
    loader = make(sample.frame, {"a": rf.padded("pt", 4), "b": rf.ragged("eta")})
    reference = make(sample.frame, {"a": rf.padded("pt", 4), "b": rf.ragged("eta")})
    for (x, y), (expected, ids) in zip(loader.torch(), reference, strict=True):
        assert list(x) == ["a", "a_mask", "b", "b_offsets"]
        assert all(isinstance(tensor, torch.Tensor) for tensor in x.values())
        assert x["a_mask"].dtype == torch.bool
        for name, tensor in x.items():
            assert np.array_equal(tensor.numpy(), expected[name], equal_nan=True)
        assert np.array_equal(y.numpy(), ids)


def test_what_was_cut_is_reported(sample: Sample) -> None:
    longer = int(ak.sum(ak.num(sample.array.pt) > 3))
    loader = make(sample.frame, {"a": rf.padded(["pt", "eta"], 3)})
    with pytest.warns(CutVectorWarning, match=f"'pt' has {longer} vectors .* cut to 3 elements"):
        list(loader)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(make(sample.frame, {"a": rf.padded(["pt", "eta"], 8)}))
        list(make(sample.frame, {"a": rf.ragged(["pt", "eta"])}))


def test_altered_elements_are_reported(tmp_path: Path) -> None:
    columns = {"id": np.arange(2), "n": ak.Array([[2**24 + 1, 5], [2**53 + 1]])}
    frame = rf.open(write(tmp_path / "big.root", columns, "TTree", 10))
    with pytest.warns(PrecisionWarning, match="column 'n' has 2 values"):
        list(make(frame, {"n": rf.padded("n", 2)}))
    exact = list(make(frame, {"n": rf.padded("n", 2)}, dtype="int64", batch_size=2, shuffle=False))
    assert exact[0][0]["n"][:, :, 0].tolist() == [[2**24 + 1, 5], [2**53 + 1, 0]]


def test_columns_that_disagree_in_length(sample: Sample, sizes: dict[str, Any]) -> None:
    lengths = np.asarray(ak.num(sample.array.pt)) != np.asarray(ak.num(sample.array.other))
    loader = make(sample.frame, {"a": rf.padded(["pt", "other"], 3)}, shuffle=False, threads=1, **sizes)
    with pytest.raises(UnequalLengthsError) as caught:
        list(loader)
    text = str(caught.value)
    assert "a.root" in text
    assert (
        f"columns 'pt' and 'other' of one input have different lengths in entry {lengths.argmax()}."
        in text
    )


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        ({"a": rf.padded("met", 3)}, UnsupportedColumnError, "'met' .* holds one number per entry"),
        ({"a": ["pt"]}, UnsupportedColumnError, "holds several numbers per entry; it cannot be"),
        ({"a": rf.padded("ptt", 3)}, MissingColumnError, "Did you mean 'pt'"),
        ({"a": rf.padded("pt", 3, sort_by="et")}, MissingColumnError, "Did you mean 'met' or 'eta'"),
        ({"a": rf.ragged("met")}, UnsupportedColumnError, "holds one number per entry"),
        ([rf.flat("met", 2)], UnsupportedColumnError, "holds one number per entry"),
        ({}, ArgumentError, "features must name at least one"),
        ({"a": []}, ArgumentError, r"features\['a'\] must name at least one column"),
        ({"": ["met"]}, ArgumentError, "must map names to inputs"),
        ([rf.flat("pt", 2), rf.flat("pt", 2)], ArgumentError, "names 'pt_0' more than once"),
        ({"a": rf.padded("pt", 3), "a_mask": ["met"]}, ArgumentError, "'a_mask' stands for two"),
    ],
)
def test_mistakes(sample: Sample, features: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(sample.frame, features)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: rf.padded("pt", 0),
        lambda: rf.padded([], 3),
        lambda: rf.padded([3], 3),
        lambda: rf.flat("pt", True),
        lambda: rf.ragged([]),
    ],
)
def test_wrong_arguments(ask: Any) -> None:
    with pytest.raises(ArgumentError):
        ask()


def test_sides_of_a_split_share_what_is_known(sample: Sample) -> None:
    train, test = make(sample.frame, {"a": rf.ragged("pt")}).split(0.25)
    assert train.num_rows + test.num_rows == ENTRIES
    ids = np.concatenate([y[:, 0] for side in (train, test) for _, y in side])
    assert np.array_equal(np.sort(ids), np.arange(ENTRIES))


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_made_vectors_lie_in_rows_however_they_are_cut_up(
    sample: Sample, sizes: dict[str, Any], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    evaluate = Projection.evaluate

    def noted(self: Projection, *arguments: Any) -> Any:
        made.append(len(arguments[4]))
        return evaluate(self, *arguments)

    monkeypatch.setattr(Projection, "evaluate", noted)
    monkeypatch.setattr(fill, "_FIRST_ROWS", step)
    monkeypatch.setattr(fill, "MADE_BYTES", 40 * step)
    frame = (
        sample.frame.define("far", "pt[abs(eta) > 0.5]").define("twice", "2 * met").filter("id % 5 != 0")
    )
    features = {"event": ["twice"], "far": rf.padded("far", length=4, value=-1.0), "pt": rf.ragged("pt")}
    batches = list(make(frame, features, **sizes))
    kept = sample.array[np.asarray(sample.array["id"]) % 5 != 0]
    assert np.array_equal(
        in_order(batches, "far")[:, :, 0],
        padded(kept["pt"][abs(kept["eta"]) > 0.5], 4, -1.0),
        equal_nan=True,
    )
    assert np.array_equal(in_order(batches, "event")[:, 0], 2 * np.asarray(kept["met"], np.float32))
    assert max(made) <= 40 * step  # so many where all vectors before were empty


def test_lengths_of_all_ragged_inputs_are_found_in_one_pass(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[Any] = []
    read_blocks = scan.read_blocks
    monkeypatch.setattr(
        scan, "read_blocks", lambda *arguments: passes.append(arguments[1]) or read_blocks(*arguments)
    )
    frame = sample.frame.define("near", "pt[abs(eta) < 1]")
    features = {name: rf.ragged(name) for name in ("pt", "other", "near")}
    for _ in range(2):
        make(frame, features)
    assert len(passes) == 1
    longest = view_of(frame).longest(features)
    assert longest["pt"] == int(ak.max(ak.num(sample.array["pt"])))
    assert longest["near"] <= longest["pt"]
