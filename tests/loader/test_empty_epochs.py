"""An epoch of no batches is an error where the loader, the side or the fold is made."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import rootfeed as rf
import rootfeed.root as ROOT
from rootfeed.errors import ArgumentError, EmptyDatasetError
from rootfeed.loader import split_exactly
from samples import File, in_a_row

FILES = in_a_row(File(400, page=50), File(200, page=30, format="RNTuple"))
ENTRIES = 600
SIZES: dict[str, dict[str, int]] = {"kept": {}, "lazy": {"chunk_entries": 450, "block_entries": 50}}


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    return SIZES[request.param]


def make(frame: rf.Frame, batch_size: int, **options: Any) -> rf.Loader:
    return rf.Loader(frame, **{"batch_size": batch_size, "features": ["id"], "seed": 5} | options)


def refused(error: type[Exception], use: Callable[[], Any]) -> str:
    with pytest.raises(error) as caught:
        use()
    return str(caught.value)


TOO_FEW = (
    "{rows} rows are too few for a batch of {size}, and drop_last leaves shorter ones out: an epoch "
    "would have no batch. Choose smaller batches, or drop_last=False "
    "(in rootfeed.root: drop_remainder=False)."
)


def test_fewer_rows_than_a_batch(frame: rf.Frame, sizes: dict[str, int]) -> None:
    few = frame.range(300)
    message = refused(ArgumentError, lambda: make(few, 301, drop_last=True, **sizes))
    assert message == TOO_FEW.format(rows=300, size=301)
    assert len(list(make(few, 300, drop_last=True, **sizes))) == 1
    assert len(list(make(few, 301, **sizes))) == 1


@pytest.mark.parametrize(
    ("divide", "where"),
    [
        (lambda loader: loader.split(0.2), "split(0.2) of 600 entries, test: "),
        (
            lambda loader: loader.split({"a": 0.8, "b": 0.2}),
            "split({'a': 0.8, 'b': 0.2}) of 600 entries, b: ",
        ),
        (lambda loader: loader.split(0.2, unit="block"), "split(0.2) of 600 entries, test: "),
        (lambda loader: loader.split(0.2, stratify="label"), "split(0.2) of 600 entries, test: "),
        (
            lambda loader: loader.split(where="id < 130"),
            "split(where='id < 130') of 600 entries, test: ",
        ),
        (lambda loader: split_exactly(loader, 0.2), "split_exactly(0.2) of 600 entries, test: "),
        (lambda loader: loader.folds(5), "folds(5), 0 of 600 entries, test: "),
        (lambda loader: loader.torch().split(0.2), "split(0.2) of 600 entries, test: "),
        (lambda loader: loader.split(0.4).train.split(0.4), "split(0.4) of 360 entries, test: "),
    ],
)
def test_a_side_that_has_no_batch(
    frame: rf.Frame, sizes: dict[str, int], divide: Any, where: str
) -> None:
    if "torch" in divide.__code__.co_names:
        pytest.importorskip("torch")
    message = refused(ArgumentError, lambda: divide(make(frame, 200, drop_last=True, **sizes)))
    assert message.startswith(where)
    rows = int(re.findall(r": (\d+) rows", message)[0])
    assert message == where + TOO_FEW.format(rows=rows, size=200)
    assert 0 < rows < 200
    divide(make(frame, 200, **sizes))  # short batches are batches
    divide(make(frame, 10, drop_last=True, **sizes))


def test_a_side_without_a_row(frame: rf.Frame, sizes: dict[str, int]) -> None:
    loader = make(frame, 10, **sizes)
    for use, remedy in (
        (lambda: loader.split(1e-9), "Choose another fraction."),
        (lambda: split_exactly(loader, 1e-9), "Choose another fraction."),
        (lambda: make(frame.range(3), 10).folds(5), "Choose fewer folds."),
        (lambda: loader.split(where="id < 0"), "Choose another expression."),
    ):
        message = refused(EmptyDatasetError, use)
        assert re.search(r" of \d+ entries leaves a part empty: test\. ", message)
        assert message.endswith(remedy)


def test_nothing_to_read(frame: rf.Frame, sizes: dict[str, int]) -> None:
    for nothing in (frame.range(0), frame.range(600, 700), frame.filter("id < 0")):
        assert "passes the cuts" in refused(
            EmptyDatasetError, lambda nothing=nothing: make(nothing, 10, **sizes)
        )


@pytest.mark.parametrize("tail", ["drop", "pad", "uneven"])
def test_fewer_rows_than_ranks_need(frame: rf.Frame, sizes: dict[str, int], tail: str) -> None:
    ranks = {"rank": 7, "world_size": 8, "tail": tail, **sizes}
    found = refused(ArgumentError, lambda: make(frame, 100, drop_last=True, **ranks))
    assert found == (
        "600 rows are too few for 8 ranks with batches of 100. Choose fewer ranks, smaller batches, "
        "or drop_last=False."
    )
    if tail != "uneven":
        found = refused(ArgumentError, lambda: make(frame.range(7), 100, **ranks))
        assert found == "7 rows are too few for 8 ranks. Choose fewer ranks."  # nothing else would help


# --- classes --------------------------------------------------------------------------------------


def balanced(frame: rf.Frame, batch_size: int, sampling: Any, **options: Any) -> rf.Loader:
    return make(frame, batch_size, sampling=sampling, **options)


@pytest.fixture
def uneven(frame: rf.Frame) -> rf.Frame:
    """20 rows of class 0, 60 of class 1, 520 of class 2."""
    return frame.define("kind", "id < 20 ? 0 : id < 80 ? 1 : 2")


LACKING = (
    "the rows of a class do not suffice for one batch of {size}{ranks}: {classes}. "
    'Choose smaller batches, other shares, or epoch="longest".'
)


@pytest.mark.parametrize("replacement", [False, True])
def test_classes_that_do_not_suffice(uneven: rf.Frame, sizes: dict[str, int], replacement: bool) -> None:
    sampling = rf.balanced("kind", replacement=replacement)
    message = refused(EmptyDatasetError, lambda: balanced(uneven, 90, sampling, **sizes))
    assert message == LACKING.format(size=90, ranks="", classes="class 0 has 20 rows, and 30 are needed")
    message = refused(EmptyDatasetError, lambda: balanced(uneven, 240, sampling, **sizes))
    classes = "class 0 has 20 rows, and 80 are needed; class 1 has 60 rows, and 80 are needed"
    assert message == LACKING.format(size=240, ranks="", classes=classes)
    assert len(balanced(uneven, 60, sampling, **sizes)) == 1
    for epoch in ("longest", 3):
        other = rf.balanced("kind", epoch=epoch, replacement=replacement)
        assert len(balanced(uneven, 240, other, **sizes)) > 0


def test_classes_that_do_not_suffice_for_all_ranks(uneven: rf.Frame, sizes: dict[str, int]) -> None:
    ranks = {"rank": 0, "world_size": 4, **sizes}
    message = refused(EmptyDatasetError, lambda: balanced(uneven, 30, rf.balanced("kind"), **ranks))
    classes = "class 0 has 20 rows, and 40 are needed"
    assert message == LACKING.format(size=30, ranks=" on each of 4 ranks", classes=classes)
    assert len(balanced(uneven, 15, rf.balanced("kind"), **ranks)) == 1


def test_classes_of_a_side_and_of_mixed_frames(
    uneven: rf.Frame, frame: rf.Frame, sizes: dict[str, int]
) -> None:
    loader = balanced(uneven, 60, rf.balanced("kind"), **sizes)
    message = refused(EmptyDatasetError, lambda: loader.split(0.5, stratify="kind"))
    assert message.startswith("split(0.5) of 600 entries, train: the rows of a class do not suffice")
    assert "class 0 has 1" in message
    message = refused(EmptyDatasetError, lambda: make(rf.mixed([frame.range(3), frame]), 10, **sizes))
    assert "frame 0 has 3 rows, and 5 are needed" in message


# --- ROOT's names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make_generators", [ROOT.CreateNumPyGenerators, ROOT.CreatePyTorchGenerators])
@pytest.mark.parametrize("shuffle", [True, False])
def test_generators_drop_remainders(paths: list[str], make_generators: Any, shuffle: bool) -> None:
    pytest.importorskip("torch")
    data = ROOT.RDataFrame("events", paths)

    def generators(size: int, **options: Any) -> Any:
        options = {"columns": ["id", "label"], "target": "label", "shuffle": shuffle} | options
        return make_generators(data, size, max(size, 100), 20, **options)

    message = refused(ArgumentError, lambda: generators(200, validation_split=0.2))
    assert "120 rows are too few for a batch of 200" in message
    assert "drop_remainder=False" in message
    assert "too few" in refused(ArgumentError, lambda: generators(601))
    train, validation = generators(200, validation_split=0.2, drop_remainder=False)
    assert (len(list(train)), len(list(validation))) == (3, 1)


# --- workers --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_worker_without_a_batch_is_none_of_it(frame: rf.Frame, sizes: dict[str, int]) -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = make(frame, 300, drop_last=True, **sizes).torch()
    batches = data.DataLoader(
        loader, batch_size=None, num_workers=3, multiprocessing_context="fork", timeout=60
    )
    assert [len(batch) for batch in batches] == [300, 300]
