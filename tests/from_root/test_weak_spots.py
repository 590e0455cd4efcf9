"""Where ROOT's loader is wrong, `rootfeed.root` is right: each test is seen to fail in ROOT, if it can.

That ROOT handles a row at a time, and that no throughput of it is published, is in `benchmarks/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.errors import PrecisionWarning
from samples import write_columns
from ways import FIRST, SECOND, Way, arrays, ids, root_cannot, root_is_wrong

EVERY = list(range(FIRST))
COLUMNS: dict[str, Any] = {"columns": ["half", "id"], "drop_remainder": False}
OVERSAMPLED: dict[str, Any] = {"load_eager": True, "sampling_type": "oversampling", **COLUMNS}


@root_is_wrong("draws one event again and again where a seed is given")
def test_oversampling_with_a_seed_draws_all_events(way: Way) -> None:
    epoch = ids(way.loader(way.both(), set_seed=1, **OVERSAMPLED).as_numpy())
    assert len({id_ for id_ in epoch if id_ >= 1000}) == SECOND


@root_is_wrong("repeats one order in every epoch where a seed is given")
@pytest.mark.parametrize("load_eager", [False, True])
def test_each_epoch_has_a_new_order_with_a_seed(way: Way, load_eager: bool) -> None:
    loader = way.loader(way.frame(), set_seed=1, load_eager=load_eager, **COLUMNS)
    first, second = (ids(loader.as_numpy()) for _ in range(2))
    assert first != second


@root_is_wrong("gives the sides of the first split again: test and validation are the same rows")
def test_a_side_can_be_divided_again(way: Way) -> None:
    rest, test = way.loader(way.frame(), **COLUMNS).train_test_split(0.2)
    train, validation = rest.train_test_split(0.25)
    sides = [ids(side.as_numpy()) for side in (train, validation, test)]
    assert [len(side) for side in sides] == [60, 20, 20]
    assert sorted([*sides[0], *sides[1], *sides[2]]) == EVERY


@root_is_wrong("does not know the length of an epoch with cuts before it was gone through")
def test_lengths_are_known_with_cuts(way: Way) -> None:
    loader = way.loader(way.frame().Filter("id % 2 == 0", "even"), **COLUMNS)
    loader.as_numpy()
    assert loader.num_batches == 4


@root_cannot("holds a cluster whole, whatever its size; its memory cannot be chosen")
def test_memory_does_not_follow_the_clusters(way: Way, tmp_path: Path) -> None:
    columns = {f"x{number}": np.arange(100_000.0) for number in range(40)}
    path = write_columns(tmp_path / "one.root", columns, 100_000, "RNTuple")
    plan = rf.Loader(rf.open(path), 64, seed=1, memory="10 MB").plan()
    assert plan.memory_bytes <= plan.budget_bytes < 100_000 * 40 * 4
    assert plan.window_rows < 50_000


@root_is_wrong("rounds integers to float32, and says nothing")
def test_integers_that_do_not_fit_are_reported(way: Way, tmp_path: Path) -> None:
    path = write_columns(tmp_path / "large.root", {"event": np.arange(20) + 2**24})
    frame = way.frames.RDataFrame("events", path)
    with pytest.warns(PrecisionWarning):
        list(way.loader(frame, columns=["event"]).as_numpy())


@root_is_wrong("gives rows of several frames with cuts in another order")
def test_lists_of_frames_with_cuts_keep_their_order(way: Way) -> None:
    frames = [frame.Filter("id % 2 == 0", "even") for frame in way.both()]
    loader = way.loader(frames, 8, shuffle=False, **COLUMNS)
    assert ids(loader.as_numpy()) == [*range(0, FIRST, 2), *range(1000, 1000 + SECOND, 2)]


@root_is_wrong("puts rows that were left over behind those read after them")
def test_the_order_does_not_depend_on_what_is_in_memory(way: Way) -> None:
    loader = way.loader(way.both(), batches_in_memory=2, shuffle=False, **COLUMNS)
    assert ids(loader.as_numpy()) == [*EVERY, *range(1000, 1000 + SECOND)]


def test_frames_with_cuts_lose_nothing(way: Way) -> None:
    frame = way.frame().Filter("id % 7 != 3", "some")
    loader = way.loader(frame, target="label", weights="weight", drop_remainder=False)
    for _ in range(2):
        batches = [(x, np.array(w)) for x, _, w in loader.as_numpy()]
        found = np.array(ids(batches, 0))
        assert sorted(found) == [id_ for id_ in EVERY if id_ % 7 != 3]
        assert np.array_equal(arrays(batches, 1)[:, 0], found % 5 + 0.5)


@root_is_wrong("uses the memory of weights again while they are held")
def test_batches_stay_what_they_are(way: Way) -> None:
    options = {"target": "label", "weights": "weight", "shuffle": False, "drop_remainder": False}
    loader = way.loader(way.frame(), **options)
    batches = list(loader.as_numpy())
    assert arrays(batches, 2)[:, 0].tolist() == [id_ % 5 + 0.5 for id_ in EVERY]


@root_cannot("waits for ever with one batch in memory")
def test_one_batch_in_memory(way: Way) -> None:
    loader = way.loader(way.frame(), batches_in_memory=1, **COLUMNS)
    assert sorted(ids(loader.as_numpy())) == EVERY


@root_is_wrong("has no length, and cannot be resumed")
def test_batches_have_a_length_and_a_state(way: Way) -> None:
    loader = way.loader(way.frame(), set_seed=1, **COLUMNS)
    batches = loader.as_numpy()
    assert len(batches) == loader.num_batches == 7
    epoch = iter(batches)
    next(epoch)
    state = batches.state_dict()
    rest = ids(epoch)
    again = way.loader(way.frame(), set_seed=1, **COLUMNS).as_numpy()
    again.load_state_dict(state)
    assert ids(again) == rest
    folds = batches.folds(5)
    assert sorted(id_ for _, test in folds for id_ in ids(test)) == EVERY


@root_is_wrong("resamples the validation rows, too")
@pytest.mark.parametrize("kind", ["undersampling", "oversampling"])
def test_validation_is_not_resampled(way: Way, kind: str) -> None:
    loader = way.loader(way.both(), **{**OVERSAMPLED, "sampling_type": kind})
    train, test = loader.train_test_split(0.4)
    found = ids(test.as_numpy())
    assert len(set(found)) == len(found) == 40 + 12
    assert not set(found) & set(ids(train.as_numpy()))


# --- seen in runs of it ---------------------------------------------------------------------------


@root_is_wrong("gives validation rows in the first training epoch")
def test_sides_are_disjoint_with_cuts(way: Way) -> None:
    frame = way.frame().Filter("id < 90", "low")
    for seed in range(1, 7):
        sides = way.loader(frame, set_seed=seed, **COLUMNS).train_test_split(0.3)
        for _ in range(2):
            train, test = (ids(side.as_numpy()) for side in sides)
            assert sorted(train + test) == EVERY[:90]
            assert len(test) == 27


@root_is_wrong("repeats what a range leaves of a frame")
def test_ranges(way: Way) -> None:
    assert ids(way.loader(way.frame().Range(40), shuffle=False, **COLUMNS).as_numpy()) == EVERY[:40]


@root_cannot("waits for ever where validation with cuts is iterated first")
def test_validation_with_cuts_first(way: Way) -> None:
    frame = way.frame().Filter("id < 90", "low")
    train, test = way.loader(frame, **COLUMNS).train_test_split(0.3)
    assert sorted(ids(test.as_numpy()) + ids(train.as_numpy())) == EVERY[:90]


@root_cannot("fails on texts, and so do all loaders of the process after that")
def test_texts_are_refused(way: Way, tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "texts.root") as file:
        file["events"] = {"id": np.arange(3), "name": np.array(["a", "b", "c"])}
    frame = way.frames.RDataFrame("events", str(tmp_path / "texts.root"))
    with pytest.raises(TypeError, match=r"column 'name' .* holds text"):
        way.loader(frame)
