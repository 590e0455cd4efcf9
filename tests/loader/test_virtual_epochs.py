"""Epochs of a number of batches: each goes on where the last one ended, pass after pass."""

from __future__ import annotations

import functools
import itertools
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rootfeed as rf
from chosen import in_turns
from rootfeed.errors import ArgumentError, StateError
from rootfeed.loader.position import Course, Position
from rootfeed.loader.schedule import Segment
from rootfeed.plan import Shard
from samples import File, in_a_row

FILES = in_a_row(File(200, page=50), File(67, page=30, format="RNTuple"), File(0), File(60, page=60))
ENTRIES = 327
BATCH = 16  # a pass has 21 batches, the last of 7 rows
LAZY = {"chunk_entries": 100, "block_entries": 10}
SIZES: dict[str, dict[str, Any]] = {"in memory": {}, "lazy": LAZY}
SAMPLINGS: dict[str, Any] = {
    "each once": None,
    "shortest": rf.balanced("flag"),
    "longest": rf.balanced("flag", epoch="longest"),
    "of 13 batches": rf.balanced("flag", epoch=13),
    "drawn": rf.balanced("flag", epoch=13, replacement=True),
}
COUNTS = (1, 8, 21, 22, 50)
SECONDS = 60

Batches = list[list[int]]

pytestmark = pytest.mark.usefixtures("quiet_workers")


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def sizes(size: str) -> dict[str, Any]:
    return SIZES[size]


def make(frame: rf.Frame, epoch: int | None = None, **options: Any) -> rf.Loader:
    settings_: dict[str, Any] = {"batch_size": BATCH, "features": ["id"], "seed": 5, "threads": 2}
    return rf.Loader(frame, epoch=epoch, **(settings_ | options))


def read(batches: Any, count: int | None = None) -> Batches:
    return [[int(id_) for id_ in x[:, 0]] for x in itertools.islice(iter(batches), count)]


def joined(epochs: Sequence[Batches]) -> Batches:
    return list(itertools.chain.from_iterable(epochs))


def passes(frame: rf.Frame, count: int, **options: Any) -> Batches:
    """Return the batches of some passes over the data, one after another."""
    loader = make(frame, **options)
    return joined([read(loader) for _ in range(count)])


@functools.cache
def passes_of(frame: rf.Frame, sampling: str, size: str) -> Batches:
    """Return the batches of as many passes as any test needs."""
    return passes(frame, 200 // 13, sampling=SAMPLINGS[sampling], **SIZES[size])


@functools.cache
def passes_in_workers(frame: rf.Frame, size: str, number: int) -> Batches:
    """Return the batches of four passes, as workers deal them."""
    whole = make(frame, **SIZES[size]).torch()
    found = []
    for epoch in range(4):
        whole.set_epoch(epoch)
        found += read(workers(whole, number))
    return found


# --- the sequence ---------------------------------------------------------------------------------


@pytest.mark.thorough(but=in_turns(SIZES, SAMPLINGS, COUNTS))
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_epochs_go_on_where_the_last_one_ended(
    frame: rf.Frame, size: str, sampling: str, count: int
) -> None:
    expected = passes_of(frame, sampling, size)
    loader = make(frame, count, sampling=SAMPLINGS[sampling], **SIZES[size])
    assert len(loader) == count
    epochs = [read(loader) for _ in range(min(150 // count, 12))]
    assert {len(epoch) for epoch in epochs} == {count}
    assert joined(epochs) == expected[: len(joined(epochs))]


def test_a_pass_may_end_with_a_shorter_batch_anywhere(frame: rf.Frame) -> None:
    loader = make(frame, 30)
    assert [len(batch) for batch in read(loader)] == [16] * 20 + [7] + [16] * 9
    whole = make(frame, 30, drop_last=True)
    found = read(whole)
    assert {len(batch) for batch in found} == {16}
    assert found == passes(frame, 2, drop_last=True)[:30]
    in_order = make(frame, 30, shuffle=False)
    assert joined(read(in_order, 21)) == list(range(ENTRIES))


def test_any_epoch_can_be_chosen(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    expected = passes(frame, 6, **sizes)
    loader = make(frame, 25, **sizes)
    for epoch in (3, 0, 2, 2, 1, 4):
        loader.set_epoch(epoch)
        assert read(loader) == expected[25 * epoch : 25 * (epoch + 1)]
    # An epoch that was left counts as one.
    loader.set_epoch(1)
    read(loader, 3)
    assert read(loader) == expected[50:75]


def test_an_epoch_goes_on_with_what_was_read_ahead(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = make(frame, 5, **sizes)
    begun = []
    reading = loader._pipeline.reader.read
    loader._pipeline.reader.read = lambda run: begun.append(run) or reading(run)  # type: ignore
    expected = passes(frame, 3, **sizes)
    found = joined([read(loader) for _ in range(8)])
    assert found == expected[:40]
    assert len(begun) == 2  # of two passes
    loader.set_epoch(9)
    assert read(loader) == expected[45:50]
    assert len(begun) == 3
    ((_, _, waiting),) = loader._pipeline.passes._left
    loader.set_epoch(8)  # what waits is of epoch 10
    assert waiting.gi_frame is not None
    assert read(loader) == expected[40:45]
    assert waiting.gi_frame is None
    ((_, _, waiting),) = loader._pipeline.passes._left
    loader.close()
    assert waiting.gi_frame is None
    assert read(loader) == expected[45:50]


# --- states ---------------------------------------------------------------------------------------


@pytest.mark.thorough(
    but=["in memory-8-each once", "in memory-8-shortest", "in memory-8-longest", "lazy-30-drawn"]
)
@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("count", [8, 30])
def test_the_rest_is_the_same_from_every_step(
    frame: rf.Frame, size: str, sampling: str, count: int
) -> None:
    options = {"sampling": SAMPLINGS[sampling], **SIZES[size]}
    expected = passes_of(frame, sampling, size)
    loader, other = make(frame, count, threads=1, **options), make(frame, count, threads=3, **options)
    for epoch in range(60 // count):
        for step in range(0, count + 1, 1 if count < 10 else 7):
            loader.set_epoch(epoch)
            read(loader, step)
            state = json.loads(json.dumps(loader.state_dict()))
            assert len(json.dumps(state)) < 4096
            at_end = step == count
            assert (state["epoch"], state["done"]) == ((epoch + 1, 0) if at_end else (epoch, step))
            other.load_state_dict(state)
            start = epoch * count + step
            assert read(other) == expected[start : (epoch + 1 + at_end) * count]
            following = (epoch + 1 + at_end) * count
            assert read(other, 3) == expected[following : following + 3]


def test_a_state_of_another_epoch_is_refused(frame: rf.Frame) -> None:
    state = make(frame, 8).state_dict()
    for count in (None, 9):
        with pytest.raises(StateError, match=f"epoch=, the batches of an epoch: 8 before, {count} now"):
            make(frame, count).load_state_dict(state)


# --- ranks ----------------------------------------------------------------------------------------


def ranks(frame: rf.Frame, world_size: int, epoch: int | None, **options: Any) -> list[rf.Loader]:
    return [
        make(frame, epoch, rank=rank, world_size=world_size, **options) for rank in range(world_size)
    ]


@pytest.mark.parametrize("tail", ["drop", "pad"])
def test_ranks_go_through_the_same_passes(frame: rf.Frame, sizes: dict[str, Any], tail: str) -> None:
    for loader, whole in zip(
        ranks(frame, 4, 8, tail=tail, **sizes), ranks(frame, 4, None, tail=tail, **sizes), strict=True
    ):
        assert len(loader) == 8
        found = joined([read(loader) for _ in range(3)])
        assert found == joined([read(whole) for _ in range(4)])[:24]


@settings(max_examples=settings.default.max_examples // 6)
@given(
    worlds=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    steps=st.lists(st.integers(1, 12), min_size=4, max_size=4),
    count=st.integers(1, 30),
    size=st.sampled_from(sorted(SIZES)),
    choose=st.booleans(),
)
def test_other_numbers_of_ranks_deal_the_rest_of_a_pass_anew(
    frame: rf.Frame, worlds: list[int], steps: list[int], count: int, size: str, choose: bool
) -> None:
    seen: dict[int, Counter[int]] = {}
    state: Any = None
    for world_size, number in zip([*worlds, 1], [*steps[: len(worlds)], 40], strict=True):
        states = []
        for loader in ranks(frame, world_size, count, **SIZES[size]):
            if state is not None:
                loader.load_state_dict(state)
            batches = iter(loader)
            for _ in range(number):
                before = loader.state_dict()
                if (batch := next(batches, None)) is None:
                    if choose:
                        loader.set_epoch(loader.state_dict()["epoch"])
                    batches = iter(loader)
                    before = loader.state_dict()
                    batch = next(batches)
                seen.setdefault(before["passes"], Counter()).update(map(int, batch[:, 0]))
            states.append(json.loads(json.dumps(loader.state_dict())))
        told = [{k: v for k, v in each.items() if k not in ("rank", "check")} for each in states]
        assert all(each == told[0] for each in told)  # any rank's state will do
        state = states[-1]
    done = sum([*steps[: len(worlds)], 40])
    assert (state["epoch"], state["done"]) == divmod(done, count)
    lost = sum(world_size - 1 for world_size in worlds)
    for number, rows in seen.items():
        assert set(rows.values()) == {1}  # none twice
        if number < max(seen):
            assert ENTRIES - lost <= len(rows) <= ENTRIES


def test_an_epoch_that_is_chosen_counts_from_a_loaded_state(frame: rf.Frame) -> None:
    old = ranks(frame, 3, 10)[0]
    old.set_epoch(1)
    read(old, 4)
    loader, chosen, jumped = (make(frame, 10) for _ in range(3))
    for each in (loader, chosen, jumped):
        each.load_state_dict(old.state_dict())
    expected = [read(loader) for _ in range(4)]
    for number in range(1, 5):
        chosen.set_epoch(number)
        assert read(chosen) == expected[number - 1]
    jumped.set_epoch(4)
    state = jumped.state_dict()
    assert read(jumped) == expected[3]
    other = make(frame, 10)
    other.load_state_dict(state)
    assert read(other) == expected[3]
    jumped.set_epoch(0)  # before what is known: as if this rank had made all of it
    assert read(jumped) == passes(frame, 1)[:10]


# --- workers --------------------------------------------------------------------------------------


def workers(dataset: Any, number: int, kind: str = "torch", **options: Any) -> Any:
    data = pytest.importorskip("torch.utils.data")
    of = data.DataLoader
    if kind == "torchdata":
        of = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    more = {"multiprocessing_context": "fork", "timeout": SECONDS}
    return of(dataset, batch_size=None, num_workers=number, **more, **options)


@pytest.mark.thorough(but=["lazy-25-3"])
@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("count", [8, 25])
def test_workers_take_the_batches_in_turn(frame: rf.Frame, size: str, number: int, count: int) -> None:
    expected = passes_in_workers(frame, size, number)
    if number == 1:
        assert expected == passes(frame, 4, **SIZES[size])
    dataset = make(frame, count, **SIZES[size]).torch()
    loader = workers(dataset, number)
    assert len(loader) == count
    for epoch in (0, 1, 2, 1):
        dataset.set_epoch(epoch)
        assert read(loader) == expected[count * epoch : count * (epoch + 1)]
    dataset.set_epoch(0)
    loader = workers(dataset, number, persistent_workers=True)
    assert joined([read(loader) for _ in range(3)]) == expected[: 3 * count]


def test_more_workers_than_batches(frame: rf.Frame) -> None:
    whole = make(frame, batch_size=150).torch()  # a pass has three batches
    expected = []
    for epoch in range(4):
        whole.set_epoch(epoch)
        expected += read(workers(whole, 4))
    dataset = make(frame, 2, batch_size=150).torch()
    for epoch in range(6):
        dataset.set_epoch(epoch)
        assert read(workers(dataset, 4)) == expected[2 * epoch : 2 * (epoch + 1)]
    dataset.set_epoch(0)
    loader = workers(dataset, 4, persistent_workers=True)
    assert joined([read(loader) for _ in range(5)]) == expected[:10]


@pytest.mark.thorough(but=["lazy-1-5-", "in memory-1-17-persistent"])
@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (1, 0), (1, 5), (1, 16), (1, 17), (2, 9)])
def test_states_of_workers(
    frame: rf.Frame, sizes: dict[str, Any], epoch: int, step: int, persistent: bool
) -> None:
    def new(chosen: int) -> Any:
        dataset = make(frame, 17, **sizes).torch()
        dataset.set_epoch(chosen)
        return workers(dataset, 3, "torchdata", persistent_workers=persistent)

    expected, following = read(new(epoch)), read(new(epoch + 1))
    loader = new(epoch)
    iterator = iter(loader)
    assert read(iterator, step) == expected[:step]
    other = new(0)
    other.load_state_dict(loader.state_dict())
    assert read(other) == expected[step:]
    other.dataset.set_epoch(epoch + 1)
    assert read(other) == following
    iterator._shutdown_workers()


def test_the_state_of_a_rank_goes_on_in_workers(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    loader = make(frame, 8, **sizes)
    loader.set_epoch(1)
    done = [*passes(frame, 1, **sizes)[:8], *read(loader, 5)]
    dataset = make(frame, 8, **sizes).torch()
    dataset.load_state_dict(loader.state_dict())
    rest = read(workers(dataset, 2))
    assert len(rest) == 3
    dataset.set_epoch(2)
    rest += read(workers(dataset, 2))
    assert sorted(joined(done + rest[:8])) == list(range(ENTRIES))


def test_workers_do_not_touch_what_waits_in_their_parent(frame: rf.Frame) -> None:
    dataset = make(frame, 8, **LAZY).torch()
    expected = passes(frame, 2, **LAZY)
    assert read(dataset) == expected[:8]
    dataset.set_epoch(1)
    assert len(read(workers(dataset, 1))) == len(read(workers(dataset, 2))) == 8
    assert len(dataset.loader._pipeline.passes._left) == 1
    assert read(dataset) == expected[8:16]


@pytest.mark.parametrize("kind", ["torch", "torchdata"])
def test_workers_do_not_know_where_the_last_epoch_ended(frame: rf.Frame, kind: str) -> None:
    dataset = make(frame, 8).torch()
    with pytest.raises(ArgumentError, match=r"call set_epoch\(epoch\) before each epoch"):
        next(iter(workers(dataset, 2, kind)))
    dataset.set_epoch(0)
    assert len(read(workers(dataset, 2, kind))) == 8


# --- what is said of them -------------------------------------------------------------------------


def test_what_is_said_of_them(frame: rf.Frame) -> None:
    loader = make(frame, 1000)
    assert "21 batches of 16, 1000 batches an epoch, in memory" in repr(loader)
    plan = loader.plan()
    assert (plan.epoch_batches, plan.batches, plan.epoch) == (1000, 21, 0)
    assert "1,000, a pass has 21" in " ".join(str(plan).split())
    assert make(frame).plan().epoch_batches is None
    lazy = make(frame, 21, **LAZY)
    assert lazy.plan(3).window_rows == make(frame, **LAZY).plan(3).window_rows


def test_parts_of_which_each_row_is_wanted_once(frame: rf.Frame) -> None:
    train, test = make(frame, 40).split(0.25)
    assert (len(train), len(test)) == (40, 6)
    assert len(joined(read(test))) == test.num_rows
    train, test = make(frame, 40).split(0.25, resample=["train", "test"])
    assert (len(train), len(test)) == (40, 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epoch": 0}, "epoch must be positive and below 2^31, got 0."),
        ({"epoch": 2.0}, "epoch must be an integer, got 2.0."),
        ({"epoch": "shortest"}, "epoch must be an integer, got 'shortest'."),
        ({"epoch": 5, "tail": "uneven"}, "epoch= gives each rank as many batches as the others, which"),
    ],
)
def test_wrong_arguments(frame: rf.Frame, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make(frame, **arguments)
    assert str(caught.value).startswith(message)


# --- the arithmetic -------------------------------------------------------------------------------


@settings(max_examples=300)
@given(
    count=st.integers(1, 40),
    length=st.integers(1, 15),
    rest=st.integers(0, 15),
    workers=st.integers(1, 5),
    epochs=st.integers(1, 4),
    begun=st.booleans(),
)
def test_workers_walk_through_the_sequence_of_a_rank(
    count: int, length: int, rest: int, workers: int, epochs: int, begun: bool
) -> None:
    # Passes of `length` batches; but of the first one, `rest` are left, where it was begun.
    course = Course(count, lambda passes, segments, world_size: rest if segments else length)
    first = [(0, number) for number in range(rest if begun else length)]
    later = [(passes, number) for passes in range(1, 400) for number in range(length)]
    expected = [*first, *later]
    start = Position(0, segments=(Segment(7, 3),)) if begun else Position(0)
    for worker in range(workers):
        shard = Shard(1, 2, worker, workers)
        position = course.begin(start, shard)
        for epoch in range(epochs):
            left = course.left(position)
            assert left == len(range(worker, count, workers))
            following, origin = course.after(position), position
            for step in range(left):
                place = epoch * count + worker + step * workers
                assert (position.passes, position.batches) == expected[place]
                assert position.done == worker + step * workers
                assert course.after(position) == following
                assert bool(position.segments) == (begun and position.passes == 0)
                position = course.behind(position, 1)
                assert position == course.behind(origin, step + 1)
            if workers > 1:
                assert course.left(position) == 0
                assert course.after(position) == following
            position = following
            if not begun and worker < count:  # what is chosen in a worker, too
                chosen = course.begin(course.choose(position, epoch + 3), shard)
                assert (chosen.passes, chosen.batches) == expected[(epoch + 3) * count + worker]
                assert (chosen.epoch, chosen.done) == (epoch + 3, worker)
        assert position.epoch == epochs


def test_numpy_integers_are_integers(frame: rf.Frame) -> None:
    assert len(make(frame, np.int64(5))) == 5  # type: ignore[arg-type]
