"""Options together: whatever a user combines, an epoch is what plain NumPy says of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rootfeed as rf
from rootfeed.errors import ArgumentError, EmptyDatasetError
from samples import File, in_a_row, open_events, values, write_all

Batches = list[tuple[np.ndarray, ...]]

FEATURES = ["id", "half", "root", "flag", "label"]
SHAPES: dict[str, list[File]] = {
    "one row": [File(1)],
    "three rows": in_a_row(File(1), File(2, format="RNTuple")),
    "unequal": in_a_row(File(900, page=110), File(0), File(2), File(47, page=9, format="RNTuple")),
    "long pages": in_a_row(File(400, page=400), File(500, page=500, format="RNTuple")),
}
CUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda id_: id_ >= 0,
    "flag": lambda id_: id_ % 3 == 0,
    "id == 0 || id > 890": lambda id_: (id_ == 0) | (id_ > 890),
}

OPTIONS = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([1, 7, 64, 5000]),
        "seed": st.integers(0, 2**40),
        "tail": st.sampled_from(["drop", "pad", "uneven"]),
        "drop_last": st.booleans(),
    },
    optional={
        "shuffle": st.just(False),
        "memory": st.sampled_from(["32 kB", "100 kB", "10 MB"]),
        "weights": st.sampled_from(["weight", "2 * half"]),
        "sampling": st.one_of(
            st.builds(rf.balanced, st.just("label"), epoch=st.sampled_from(["shortest", "longest", 5])),
            st.none(),
        ),
    },
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, rf.Frame]:
    folder: Path = tmp_path_factory.mktemp("combinations")
    return {name: open_events(write_all(folder / name, files)) for name, files in SHAPES.items()}


def ids_of(batches: Batches) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(batch[0][:, 0] for batch in batches)]).astype(np.int64)


def alike(some: Batches, others: Batches) -> bool:
    return len(some) == len(others) and all(
        all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
        for one, other in zip(some, others, strict=True)
    )


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    shape=st.sampled_from(list(SHAPES)),
    cut=st.sampled_from(list(CUTS)),
    world_size=st.integers(1, 3),
    options=OPTIONS,
    place=st.integers(0, 2**20),
)
def test_epochs_are_what_numpy_says(
    frames: dict[str, rf.Frame],
    shape: str,
    cut: str,
    world_size: int,
    options: dict[str, Any],
    place: int,
) -> None:
    frame = frames[shape].filter(cut) if cut else frames[shape]
    every = np.concatenate([file.ids for file in SHAPES[shape]])
    kept = every[CUTS[cut](every)]
    if options.get("sampling") is not None:
        options = {name: each for name, each in options.items() if name != "shuffle"}

    def make(rank: int, threads: int) -> rf.Loader:
        return rf.Loader(
            frame, features=FEATURES, target="label", dtype="float64", nonfinite="error",
            rank=rank, world_size=world_size, threads=threads, **options,
        )  # fmt: skip

    if is_too_much(len(kept), world_size, options):
        with suppress(ArgumentError, EmptyDatasetError):
            make(0, 1)
        return
    loaders = [make(rank, 2) for rank in range(world_size)]
    epochs = [[list(loader) for loader in loaders] for _ in range(2)]
    for number, ranks in enumerate(epochs):
        check_rows(ranks, kept, options)
        check_counts(ranks, kept, options)
        for loader, batches in zip(loaders, ranks, strict=True):
            assert len(batches) == len(loader) == loader.plan(number).batches
            assert loader.plan(number).batch_rows == len(ids_of(batches))
    # The rest of an epoch, after any batch, with another number of threads.
    rank = place % world_size
    batches = epochs[0][rank]
    stop = place % len(batches)
    loader = make(rank, 1)
    begun = [batch for _, batch in zip(range(stop), loader, strict=False)]
    assert alike(begun, batches[:stop])
    again = make(rank, 3)
    again.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert alike(list(again), batches[stop:])
    assert alike(list(again), epochs[1][rank])


def check_rows(ranks: Sequence[Batches], kept: np.ndarray, options: dict[str, Any]) -> None:
    """Each row is one that passes, with its own values, in batches of the size that was asked for."""
    for batches in ranks:
        ids = ids_of(batches)
        assert np.isin(ids, kept).all()
        for place, name in enumerate(FEATURES):
            column = np.concatenate([x[:, place] for x, *_ in batches])
            assert np.array_equal(column, values(name, ids).astype(np.float64))
        assert np.array_equal(np.concatenate([y[:, 0] for _, y, *_ in batches]), values("label", ids))
        if weight := options.get("weights"):
            expected = values("weight", ids) if weight == "weight" else 2 * values("half", ids)
            assert np.array_equal(np.concatenate([w[:, 0] for *_, w in batches]), expected)
        sizes = [len(x) for x, *_ in batches]
        assert set(sizes[:-1]) <= {options["batch_size"]}
        assert 0 < sizes[-1] <= options["batch_size"]
        assert sizes[-1] == options["batch_size"] or not options["drop_last"]
    if options["tail"] != "uneven":
        assert len({tuple(len(x) for x, *_ in batches) for batches in ranks}) == 1


def check_counts(ranks: Sequence[Batches], kept: np.ndarray, options: dict[str, Any]) -> None:
    """Each row comes once, but for what tails and short batches leave out, or as often as its class."""
    ids = ids_of([batch for batches in ranks for batch in batches])
    counts = np.bincount(ids, minlength=kept.max() + 1)[kept]
    if options.get("sampling") is not None:
        for label in np.unique(values("label", kept)):
            mine = counts[values("label", kept) == label]
            assert mine.max() - mine.min() <= 1
        return
    repeated = len(ranks) - 1 if options["tail"] == "pad" else 0
    assert np.maximum(counts - 1, 0).sum() <= repeated
    lost = options["batch_size"] * len(ranks) if options["drop_last"] else 0
    lost += len(ranks) - 1 if options["tail"] == "drop" else 0
    assert (counts == 0).sum() <= lost
    if not options.get("shuffle", True) and len(ranks) == 1:
        assert np.array_equal(ids, kept[: len(ids)])


def is_too_much(rows: int, world_size: int, options: dict[str, Any]) -> bool:
    """Whether this may be refused: of few rows, or in little memory."""
    least = options["batch_size"]
    if rows < world_size * (least if options["drop_last"] else 1):
        return True
    sampling = options.get("sampling")
    if sampling is not None and sampling.epoch == "shortest" and rows < 10 * world_size * least:
        return True
    return least == 5000 and options.get("memory") in ("32 kB", "100 kB")
