"""Several ranks share an epoch: each entry once, whoever reads it, also when their number changes."""

from __future__ import annotations

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
from rootfeed.errors import ArgumentError, StateError
from rootfeed.loader.position import Position
from rootfeed.loader.schedule import Segment
from rootfeed.plan import Shard
from samples import File, in_a_row, values

FILES = in_a_row(File(500, page=70), File(237, page=40, format="RNTuple"), File(0), File(300, page=100))
ENTRIES = 1037
SIZES: dict[str, dict[str, Any]] = {
    "kept": {},
    "lazy": {"chunk_entries": 150, "block_entries": 30},
    "tiny": {"chunk_entries": 40, "block_entries": 7},
    "large blocks": {"chunk_entries": 60, "block_entries": 130},
}
TAILS = ("drop", "pad", "uneven")


def ranks(frame: rf.Frame, world_size: int, **changes: Any) -> list[rf.Loader]:
    settings: dict[str, Any] = {"features": ["id", "root"], "batch_size": 20, "seed": 5, "threads": 2}
    settings["dtype"] = "float64"
    return [
        rf.Loader(frame, **(settings | changes), rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


def ids_of(batch: Any) -> list[int]:
    ids = batch[:, 0].astype(np.int64)
    assert np.array_equal(batch[:, 1], values("root", ids))  # rows are whole
    found: list[int] = ids.tolist()
    return found


def read(loader: Any, batches: int | None = None) -> list[list[int]]:
    return [ids_of(batch) for batch in itertools.islice(iter(loader), batches)]


def joined(batches: Sequence[Sequence[int]]) -> list[int]:
    return [id_ for batch in batches for id_ in batch]


@pytest.mark.thorough(
    but=[
        "pad-lazy-shuffled",
        "uneven-kept-shuffled",
        "uneven-tiny-in order",
        "drop-large blocks-shuffled",
        "drop-lazy-in order",
    ]
)
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("tail", TAILS)
def test_each_entry_once_but_for_the_tail(frame: rf.Frame, tail: str, sizes: str, shuffle: bool) -> None:
    for world_size in range(1, 9) if shuffle else (1, 3, 8):
        loaders = ranks(frame, world_size, tail=tail, shuffle=shuffle, **SIZES[sizes])
        parts = [read(loader) for loader in loaders]
        assert [len(part) for part in parts] == [len(loader) for loader in loaders]
        assert all(len(batch) == 20 for part in parts for batch in part[:-1])
        own = []
        for loader, part in zip(loaders, parts, strict=True):
            rows = joined(part)
            own.append(rows[: len(rows) - loader.repeats])
            # What is repeated is at the end, and the rank's own.
            assert set(rows[len(own[-1]) :]) <= set(own[-1])
        seen = Counter(joined(own))
        assert set(seen.values()) == {1}
        repeats = [loader.repeats for loader in loaders]
        left_out = ENTRIES % world_size if tail == "drop" else 0
        assert len(seen) == ENTRIES - left_out
        assert sum(repeats) == (-ENTRIES % world_size if tail == "pad" else 0)
        assert repeats == sorted(repeats)
        if tail == "uneven":
            lengths = [len(rows) for rows in own]
            assert max(lengths) - min(lengths) <= 1
            assert lengths == sorted(lengths, reverse=True)
        else:
            assert len({tuple(map(len, part)) for part in parts}) == 1  # equal batches


@pytest.mark.parametrize("sizes", ["kept", "lazy"])
def test_a_last_batch_of_a_repeated_row_only(frame: rf.Frame, sizes: str) -> None:
    # 1001 entries on two ranks, in batches of 20: one rank has a row more than 25 batches.
    some = frame.range(1001)
    for loader in ranks(some, 2, tail="pad", **SIZES[sizes]):
        part = read(loader)
        assert [len(batch) for batch in part] == [20] * 25 + [1]
        assert (part[-1][0] in joined(part[:-1])) == bool(loader.repeats)
    first, second = ranks(some, 2, tail="uneven", **SIZES[sizes])
    iterator = iter(second)
    for number in range(25):
        next(iterator)
        state = second.state_dict()
        assert (state["epoch"], state["batches"]) == (0, number + 1)  # as the first one's
    assert next(iterator, None) is None
    assert second.state_dict()["epoch"] == 1
    second.set_epoch(0)
    assert (len(first), len(second)) == (26, 25) == (len(read(first)), len(read(second)))


@pytest.mark.thorough(but=["kept", "lazy"])
@pytest.mark.parametrize("sizes", SIZES)
def test_drop_last_gives_whole_batches(frame: rf.Frame, sizes: str) -> None:
    for world_size, tail in itertools.product((1, 3, 8), TAILS):
        loaders = ranks(frame, world_size, tail=tail, drop_last=True, **SIZES[sizes])
        parts = [read(loader) for loader in loaders]
        assert {len(batch) for part in parts for batch in part} == {20}
        assert {len(part) for part in parts} == {ENTRIES // world_size // 20}
        assert set(Counter(joined([joined(part) for part in parts])).values()) == {1}
        assert not any(loader.repeats for loader in loaders)


def test_epochs_differ_and_repeat(frame: rf.Frame) -> None:
    for sizes in ("kept", "lazy"):
        one, two = (ranks(frame, 3, **SIZES[sizes])[1] for _ in range(2))
        epochs = [read(one) for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        # A rank does not get the same entries in each of them.
        assert len(set(joined(epochs[0])) & set(joined(epochs[1]))) < 0.6 * ENTRIES / 3
        two.set_epoch(2)
        assert read(two) == epochs[2]


def test_threads_change_nothing(frame: rf.Frame) -> None:
    for sizes in SIZES:
        found = [read(ranks(frame, 3, threads=threads, **SIZES[sizes])[2]) for threads in (1, 2, 4)]
        assert found[0] == found[1] == found[2]


def test_a_rank_reads_its_own_blocks(frame: rf.Frame) -> None:
    # Entries of a rank come in blocks, so that no page is decompressed on every rank.
    # It takes a range of each region's order of blocks: only those at its ends are another rank's too.
    readers: Counter[int] = Counter()
    for loader in ranks(frame, 4, chunk_entries=100, block_entries=25):
        blocks, regions = (
            loader._pipeline.schedule.dataset.blocks,
            loader._pipeline.schedule.sizes.regions,
        )
        first_ids = np.array([FILES[block.file].first + block.start for block in blocks])
        mine = set((np.searchsorted(first_ids, joined(read(loader)), "right") - 1).tolist())
        assert len(mine) == loader.plan().blocks
        readers.update(mine)
    assert set(readers) == set(range(len(blocks)))
    assert set(readers.values()) <= {1, 2}
    assert sum(count == 2 for count in readers.values()) <= 4 * len(regions)


def test_parts_are_shared_too(frame: rf.Frame) -> None:
    for sizes in ("kept", "lazy"):
        loaders = ranks(frame, 3, tail="uneven", **SIZES[sizes])
        splits = [loader.split(0.3) for loader in loaders]
        train, test = (joined([joined(read(split[side])) for split in splits]) for side in (0, 1))
        assert sorted(train + test) == list(range(ENTRIES))
        assert len(set(train)) == len(train) == splits[0].train.num_rows


# --- other numbers of ranks -----------------------------------------------------------------------


def chain(
    frame: rf.Frame, worlds: Sequence[int], batches: Sequence[int], **changes: Any
) -> tuple[list[int], list[list[rf.Loader]]]:
    """Read some batches on one number of ranks, some on the next; on the last one, all that is left."""
    seen: list[int] = []
    every = []
    state: Any = None
    for number, world_size in enumerate(worlds):
        loaders = ranks(frame, world_size, **changes)
        every.append(loaders)
        count = batches[number] if number < len(worlds) - 1 else None
        states = []
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
            rows = joined(read(loader, count))
            seen += rows
            states.append(loader.state_dict())
        if count is not None:
            # Any rank's state will do, but where the epoch is over for some.
            if states[0]["epoch"] == 1:
                break
            number = len(states) // 2 if states[-1]["epoch"] == 0 else 0
            state = json.loads(json.dumps(states[number]))
            assert len(json.dumps(state)) < 4096
    return seen, every


@pytest.mark.thorough(
    but=[
        "worlds0-batches0-tiny-True",
        "worlds1-batches1-large blocks-True",
        "worlds2-batches2-kept-True",
        "worlds3-batches3-lazy-False",
        "worlds4-batches4-lazy-True",
    ]
)
@pytest.mark.parametrize(
    ("sizes", "shuffle"),
    [*((sizes, True) for sizes in SIZES), ("kept", False), ("lazy", False)],
)
@pytest.mark.parametrize(
    ("worlds", "batches"),
    [
        ((8, 2), (3,)),
        ((1, 8, 2), (10, 3)),
        ((3, 2, 3, 1), (2, 3, 5)),
        ((5, 4, 5), (1, 1)),
        ((2, 1), (25,)),
    ],
)
def test_the_rest_is_dealt_anew(
    frame: rf.Frame, worlds: tuple[int, ...], batches: tuple[int, ...], sizes: str, shuffle: bool
) -> None:
    seen, every = chain(frame, worlds, batches, tail="uneven", shuffle=shuffle, **SIZES[sizes])
    assert sorted(seen) == list(range(ENTRIES))
    # The epoch after it is everybody's, from the beginning.
    following = [joined(read(loader)) for loader in every[-1]]
    assert sorted(joined(following)) == list(range(ENTRIES))
    fresh = ranks(frame, worlds[-1], tail="uneven", shuffle=shuffle, **SIZES[sizes])
    for loader, rows in zip(fresh, following, strict=True):
        loader.set_epoch(1)
        assert joined(read(loader)) == rows


@settings(max_examples=settings.default.max_examples // 6)
@given(
    worlds=st.lists(st.integers(1, 8), min_size=2, max_size=4),
    batches=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    tail=st.sampled_from(TAILS),
    sizes=st.sampled_from(sorted(SIZES)),
    drop_last=st.booleans(),
)
def test_any_chain_of_ranks(
    frame: rf.Frame, worlds: list[int], batches: list[int], tail: str, sizes: str, drop_last: bool
) -> None:
    seen, every = chain(frame, worlds, batches, tail=tail, drop_last=drop_last, **SIZES[sizes])
    counts = Counter(seen)
    last = len(every[-1])  # ranks that have finished the epoch
    if drop_last:
        assert set(counts.values()) == {1}
        assert len(seen) > ENTRIES - 20 * last
    elif tail == "drop":
        assert set(counts.values()) == {1}
        assert len(seen) > ENTRIES - last
    elif tail == "pad":
        assert set(counts) == set(range(ENTRIES))
        assert len(seen) < ENTRIES + last
    else:
        assert sorted(seen) == list(range(ENTRIES))


@pytest.mark.thorough(but=["kept"])
@pytest.mark.parametrize("sizes", ["kept", "lazy"])
def test_after_a_chain_every_step_can_be_resumed(frame: rf.Frame, sizes: str) -> None:
    settings_: dict[str, Any] = {"tail": "uneven", **SIZES[sizes]}
    first = ranks(frame, 3, **settings_)[0]
    read(first, 4)
    state = first.state_dict()
    for rank in (0, 1):
        whole = ranks(frame, 2, **settings_)[rank]
        whole.load_state_dict(state)
        expected = read(whole)
        for step in range(1, len(expected) + 1):
            loader = ranks(frame, 2, **settings_)[rank]
            loader.load_state_dict(state)
            assert read(loader, step) == expected[:step]
            other = ranks(frame, 2, **settings_)[rank]
            other.load_state_dict(loader.state_dict())
            if step < len(expected):
                assert read(other) == expected[step:]
            else:
                assert loader.state_dict()["epoch"] == 1


@pytest.mark.thorough(but=["kept-drop", "lazy-pad", "kept-uneven"])
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("sizes", ["kept", "lazy"])
def test_more_ranks_than_rows_are_left(frame: rf.Frame, tail: str, sizes: str) -> None:
    # 1037 entries: behind 51 batches of 20 there are 17; of 1023, there are 3.
    for entries in (1037, 1023):
        some = frame.range(entries)
        single = ranks(some, 1, tail=tail, **SIZES[sizes])[0]
        seen = joined(read(single, 51))
        state = single.state_dict()
        assert state["epoch"] == 0
        loaders = ranks(some, 8, tail=tail, **SIZES[sizes])
        for loader in loaders:
            loader.load_state_dict(state)
        rest = [read(loader) for loader in loaders]
        counts = Counter(seen + joined([joined(part) for part in rest]))
        if tail == "drop":
            assert set(counts.values()) == {1}
            assert len(counts) == 51 * 20 + (entries - 51 * 20) // 8 * 8
        elif tail == "uneven":
            assert sorted(counts.elements()) == list(range(entries))
        if tail != "uneven":
            assert len({tuple(map(len, part)) for part in rest}) == 1
        # The next epoch is whole.
        for loader in loaders:
            assert loader.state_dict()["epoch"] == 1
        again = joined([joined(read(loader)) for loader in loaders])
        assert len(set(again)) >= entries - 7


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 1}, "rank and world_size belong together: give both, or neither."),
        ({"world_size": 2}, "rank and world_size belong together: give both, or neither."),
        ({"rank": 2, "world_size": 2}, "rank must be below world_size (2), got 2."),
        ({"rank": -1, "world_size": 2}, "rank must be at least 0, got -1."),
        ({"rank": 0, "world_size": 0}, "world_size must be at least 1, got 0."),
        ({"rank": 0.0, "world_size": 2}, "rank must be an integer, got 0.0."),
        ({"rank": 0, "world_size": True}, "world_size must be an integer, got True."),
        ({"tail": "wrap"}, 'tail must be "drop", "pad" or "uneven", got \'wrap\'.'),
    ],
)
def test_wrong_ranks(frame: rf.Frame, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        rf.Loader(frame, 20, ["id"], seed=1, **arguments)
    assert str(caught.value) == message


def test_ranks_need_a_seed(frame: rf.Frame) -> None:
    with pytest.raises(ArgumentError) as caught:
        ranks(frame, 2, seed=None)
    assert str(caught.value) == (
        "2 ranks must agree on the order of the entries: give the loader a seed."
    )
    in_order = ranks(frame, 2, seed=None, shuffle=False, tail="uneven", **SIZES["lazy"])
    rows = joined([joined(read(loader)) for loader in in_order])
    assert sorted(rows) == list(range(ENTRIES))
    assert len(read(ranks(frame, 1, seed=None)[0]))


def test_ranks_do_not_measure_their_memory(frame: rf.Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(bytes_: int) -> None:
        monkeypatch.setattr("rootfeed.dataset.budget.free_bytes", lambda: bytes_)

    # What is kept is in one order, whoever has more room.
    kept = []
    for rank, megabytes in enumerate((500, 900)):
        free(megabytes * 1_000_000)
        kept += joined(read(ranks(frame, 2, tail="uneven")[rank]))
    assert sorted(kept) == list(range(ENTRIES))
    # Of what is not, windows and blocks follow from the memory.
    free(100_000)
    with pytest.raises(ArgumentError) as caught:
        ranks(frame, 2)
    assert str(caught.value) == (
        "2 ranks must agree on the sizes of window and blocks, which follow from memory: "
        '"auto" is a share of what is free, 25000 bytes here, and may differ. '
        'Say how much each rank may take, such as memory="1 GB" (the loaders of rootfeed.root '
        "take none: use rootfeed.Loader)."
    )
    with pytest.raises(ArgumentError, match="2 ranks must agree on the sizes"):
        ranks(frame, 2, shuffle=False)
    alone = ranks(frame, 1)[0]
    assert not alone.in_memory
    assert read(alone)
    for part in alone.split(0.5):
        assert read(part)
    told = [ranks(frame, 2, **options)[0] for options in (SIZES["lazy"], {"memory": 25_000})]
    assert all(map(read, told))


@pytest.mark.parametrize("sizes", ["kept", "lazy"])
def test_too_few_rows(frame: rf.Frame, sizes: str) -> None:
    message = "5 rows are too few for 8 ranks. Choose fewer ranks."
    for tail in ("drop", "pad"):
        with pytest.raises(ArgumentError) as caught:
            ranks(frame.range(5), 8, tail=tail, **SIZES[sizes])
        assert str(caught.value) == message
    loaders = ranks(frame.range(5), 8, tail="uneven", **SIZES[sizes])
    assert sorted(joined([joined(read(loader)) for loader in loaders])) == list(range(5))
    assert [len(loader) for loader in loaders] == [1] * 5 + [0] * 3
    with pytest.raises(ArgumentError):
        ranks(frame.range(150), 8, drop_last=True, **SIZES[sizes])


def test_numpy_integers_are_integers(frame: rf.Frame) -> None:
    loader = rf.Loader(
        frame, 20, ["id", "root"], dtype="f8", seed=5, rank=np.int64(1), world_size=np.int32(3)
    )
    assert read(loader) == read(ranks(frame, 3)[1])


def test_the_state_of_one_worker_goes_on_with_that_worker() -> None:
    def at(shard: Shard, segments: tuple[Segment, ...] = (Segment(4, 3),), batches: int = 5) -> Position:
        return Position(2, 2, segments, batches, done=8, shard=shard)

    mine = at(Shard(1, 3, 1, 2))
    assert mine.seen_by(Shard(0, 3, 1, 2)) == at(Shard(0, 3, 1, 2))
    for shard in (Shard(1, 3, 0, 2), Shard(1, 3, 1, 3), Shard(1, 2, 1, 2), Shard(1, 3)):
        with pytest.raises(StateError, match="worker"):
            mine.seen_by(shard)
    # Before the first batch of a pass it is nobody's.
    assert Position(2).seen_by(Shard(1, 3, 0, 2)) == Position(2, shard=Shard(1, 3, 0, 2))
    # A rank's state is every rank's: what other numbers of ranks have done is told.
    whole = at(Shard(1, 3))
    assert whole.seen_by(Shard(2, 3)) == at(Shard(2, 3))
    assert whole.seen_by(Shard(6, 7)) == at(Shard(6, 7), (Segment(4, 3), Segment(3, 5)), 0)
    assert whole.seen_by(Shard(0, 3, 1, 2)).segments == (Segment(4, 3), Segment(3, 5))


@pytest.mark.thorough(but=["uneven-tiny", "drop-lazy", "pad-large blocks", "drop-kept"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("tail", TAILS)
def test_workers_of_a_rank_get_each_batch_once_in_turn(frame: rf.Frame, tail: str, sizes: str) -> None:
    # Without a DataLoader, whose worker processes do just this.
    for world_size, workers in ((1, 2), (2, 3), (3, 1)):
        seen: Counter[int] = Counter()
        repeats = 0
        for rank, loader in enumerate(ranks(frame, world_size, tail=tail, **SIZES[sizes])):
            parts = []
            for worker in range(workers):
                work = loader._pipeline.schedule.work(0, (), Shard(rank, world_size, worker, workers))
                parts.append([ids_of(x) for (x,) in loader._pipeline.reader.read(work)])
                assert len(parts[-1]) == work.batches
            collected = [batch for group in itertools.zip_longest(*parts) for batch in group]
            batches = [batch for batch in collected if batch is not None]
            assert collected[: len(batches)] == batches  # in turn
            assert len(batches) == len(loader)
            repeats += loader.repeats
            seen.update(joined(batches))
        assert sum(seen.values()) - len(seen) == repeats
        assert len(seen) == ENTRIES - (ENTRIES % world_size if tail == "drop" else 0)
