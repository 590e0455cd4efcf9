"""Samplers of a user's own: which rows an epoch offers, and how many of which class a batch takes."""

from __future__ import annotations

import doctest
import itertools
import json
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.dataset import sampling
from rootfeed.errors import ArgumentError, EmptyDatasetError, MissingColumnError, StateError
from samples import File, in_a_row, open_events, values

FILES = in_a_row(File(900, page=70), File(437, page=60, format="RNTuple"), File(0), File(1100, page=200))
ENTRIES = 2437
SIZES: dict[str, dict[str, Any]] = {
    "kept": {},
    "streamed": {"chunk_entries": 300, "block_entries": 25},
    "tiny": {"chunk_entries": 60, "block_entries": 7},
}

# --- samplers of a few lines ----------------------------------------------------------------------


class OneDrawn(rf.Sampler):
    """Ten batches of 30 rows of the first class, drawn with replacement, and 30 of the second one."""

    label = "flag"
    replacement = (False,)

    def quotas(self, rows: Any, asked: Any) -> Any:
        return np.full((10, 2), 30)


class AtMost(rf.Sampler):
    """At most so many rows of each file in an epoch, others in each."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def offers(self, entries: Any) -> Any:
        return np.argsort(np.argsort(entries.random())) < self.rows


class Accept(rf.Sampler):
    """Each row with a probability of its own, drawn anew in each epoch."""

    columns = ("half", "weight")

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def offers(self, entries: Any) -> Any:
        return entries.random() < probability(entries.values["weight"]) * self.scale


class AtMostBalanced(AtMost):
    """Equal shares of classes, of the rows that are offered."""

    label = "label"

    def quotas(self, rows: Any, asked: Any) -> Any:
        return rf.balanced("label", epoch="longest").quotas(rows, asked)


class Alternating(rf.Sampler):
    """All of a batch from one class, in turn: quotas of a user's own."""

    label = "flag"

    def quotas(self, rows: Any, asked: Any) -> Any:
        each = int(rows.min()) // asked.batch_size // asked.world_size
        if asked.left is not None:
            each = min(each, asked.left // 2)
        return np.tile(np.eye(len(rows), dtype=np.int64) * asked.batch_size, (each, 1))


def probability(weight: Any) -> Any:
    """Weights go from -1 to 1.5."""
    return (np.asarray(weight, np.float64) + 1) / 2.5


def make(frame: rf.Frame, sampler: Any, **changes: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["id", "root"], "batch_size": 20, "seed": 5, "threads": 2}
    return rf.Loader(frame, sampling=sampler, dtype="float64", **(settings | changes))


def ids_of(batch: Any) -> list[int]:
    ids = batch[:, 0].astype(np.int64)
    assert np.array_equal(batch[:, 1], values("root", ids))  # rows are whole
    found: list[int] = ids.tolist()
    return found


def read(loader: rf.Loader, batches: int | None = None) -> list[list[int]]:
    return [ids_of(batch) for batch in itertools.islice(iter(loader), batches)]


def joined(several: Sequence[Any]) -> list[Any]:
    return list(itertools.chain.from_iterable(several))


def file_of(ids: Sequence[int]) -> Any:
    return np.searchsorted([0, 900, 1337], ids, "right") - 1


def expected_sizes(rows: int) -> list[int]:
    return [20] * (rows // 20) + ([rows % 20] if rows % 20 else [])


# --- which rows an epoch offers -------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_at_most_so_many_rows_of_each_file(frame: rf.Frame, sizes: str) -> None:
    loader = make(frame, AtMost(500), **SIZES[sizes])
    assert len(loader) == 72  # 500 + 437 + 500 rows
    assert loader.num_rows == ENTRIES
    assert loader.plan().batch_rows == 1437
    epochs = []
    for _ in range(3):
        batches = read(loader)
        assert list(map(len, batches)) == expected_sizes(1437)
        rows = joined(batches)
        assert len(set(rows)) == len(rows)
        assert np.bincount(file_of(rows)).tolist() == [500, 437, 500]
        epochs.append(set(rows))
    # Others each time, drawn evenly: of 500 among 900, 278 are expected to be drawn again.
    for one, two in itertools.combinations(epochs, 2):
        again = np.bincount(file_of(sorted(one & two)), minlength=3)
        assert 220 < again[0] < 335
        assert again[1] == 437
        assert 175 < again[2] < 280
    assert np.mean([id_ for id_ in joined(epochs) if id_ < 900]) == pytest.approx(450, abs=30)


@pytest.mark.parametrize("sizes", SIZES)
def test_one_class_is_drawn_with_replacement(frame: rf.Frame, sizes: str) -> None:
    # A third of the rows have the flag, 812; of the others 300 are taken, and some of them again.
    rows = joined(read(make(frame, OneDrawn(), batch_size=60, **SIZES[sizes])))
    flagged = [id_ for id_ in rows if id_ % 3 == 0]
    others = [id_ for id_ in rows if id_ % 3]
    assert (len(flagged), len(others)) == (300, 300)
    assert len(set(flagged)) == 300
    assert len(set(others)) < 300
    # Another class is another sampler.
    state = make(frame, OneDrawn(), batch_size=60).state_dict()
    sampler = OneDrawn()
    sampler.replacement = (True,)
    with pytest.raises(StateError, match="sampling"):
        make(frame, sampler, batch_size=60).load_state_dict(state)


@pytest.mark.thorough(but=["streamed"])
@pytest.mark.parametrize("sizes", SIZES)
def test_rows_that_are_accepted_with_a_probability(frame: rf.Frame, sizes: str) -> None:
    loader = make(frame, Accept(), **SIZES[sizes])
    seen: Counter[int] = Counter()
    lengths = set()
    for epoch in range(12):
        plan = loader.plan(epoch)
        batches = read(loader)
        rows = joined(batches)
        assert len(set(rows)) == len(rows) == plan.batch_rows
        assert len(batches) == plan.batches
        assert list(map(len, batches)) == expected_sizes(len(rows))
        lengths.add(len(batches))
        seen.update(rows)
    # Epochs differ in length; `len` is that of the next one.
    assert len(lengths) > 1
    assert len(loader) == loader.plan(12).batches
    chance = probability(values("weight", np.arange(ENTRIES)))
    often = np.array([seen[id_] for id_ in range(ENTRIES)])
    assert not often[chance == 0].any()
    assert (often[chance == 1] == 12).all()
    for value in np.unique(chance):
        mine = often[chance == value]
        assert mine.mean() / 12 == pytest.approx(value, abs=0.05)
        # Each row by itself, and each epoch.
        if 0 < value < 1:
            assert mine.var() == pytest.approx(12 * value * (1 - value), rel=0.45)


@pytest.mark.thorough(but=["sampler1", "sampler2"])
@pytest.mark.parametrize("sampler", [AtMost(300), Accept(), AtMostBalanced(200), Alternating()])
def test_neither_threads_nor_sizes_nor_ranks_decide_which_rows(frame: rf.Frame, sampler: Any) -> None:
    orders = [read(make(frame, sampler, threads=n, **SIZES["streamed"])) for n in (1, 2, 4)]
    assert orders[0] == orders[1] == orders[2]
    if isinstance(sampler, AtMostBalanced | Alternating):
        return  # rows that are used depend on which come first
    offered = sorted(joined(orders[0]))
    for sizes in SIZES:
        assert sorted(joined(read(make(frame, sampler, **SIZES[sizes])))) == offered
    for world_size in (2, 5):
        parts = [
            read(
                make(
                    frame, sampler, rank=rank, world_size=world_size, tail="uneven", **SIZES["streamed"]
                )
            )
            for rank in range(world_size)
        ]
        assert sorted(joined(joined(parts))) == offered


@pytest.mark.thorough(but=["sampler1-streamed", "sampler2-kept", "sampler3-kept"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("sampler", [AtMost(300), Accept(), AtMostBalanced(200), Alternating()])
def test_an_epoch_goes_on_from_every_batch(frame: rf.Frame, sampler: Any, sizes: str) -> None:
    loader = make(frame, sampler, **SIZES[sizes])
    loader.set_epoch(1)
    whole = read(loader)
    following = read(loader)
    loader.set_epoch(1)
    batches = iter(loader)
    for done in range(1, len(whole)):
        assert ids_of(next(batches)) == whole[done - 1]
        state = json.loads(json.dumps(loader.state_dict()))
        assert len(json.dumps(state)) < 4096
        if done % 9 and done < len(whole) - 1:
            continue
        again = make(frame, sampler, **SIZES[sizes])
        again.load_state_dict(state)
        assert read(again) == whole[done:]
        assert read(again) == following


@pytest.mark.thorough(
    but=["sampler0-worlds0-tiny", "sampler1-worlds1-streamed", "sampler0-worlds2-kept"]
)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("worlds", [(1, 3), (3, 1), (2, 5, 2), (4, 3, 1)])
@pytest.mark.parametrize("sampler", [AtMost(300), Accept()])
def test_each_row_that_is_offered_once_when_ranks_change(
    frame: rf.Frame, sampler: Any, worlds: tuple[int, ...], sizes: str
) -> None:
    offered = sorted(joined(read(make(frame, sampler, **SIZES[sizes]))))
    seen: list[int] = []
    state: Any = None
    for segment, world_size in enumerate(worlds):
        count = None if segment == len(worlds) - 1 else 5
        for rank in range(world_size):
            loader = make(
                frame, sampler, rank=rank, world_size=world_size, tail="uneven", **SIZES[sizes]
            )
            if state is not None:
                loader.load_state_dict(state)
            seen += joined(read(loader, count))
        state = json.loads(json.dumps(loader.state_dict()))
    assert sorted(seen) == offered


def test_parts_of_a_split_offer_their_own_rows(frame: rf.Frame) -> None:
    for sizes in SIZES.values():
        loader = make(frame, AtMost(100), **sizes)
        train, test = loader.split(0.5, by="id")
        rows = joined(read(train))
        assert np.bincount(file_of(rows)).tolist() == [100, 100, 100]
        # The other part is for looking at each row once.
        assert sorted({*rows, *joined(read(test))}) != list(range(ENTRIES))
        assert not set(rows) & set(joined(read(test)))
        assert test.sampling is None
        assert len(joined(read(test))) == test.num_rows


def test_cuts_leave_fewer_rows_to_offer(frame: rf.Frame) -> None:
    seen = []

    class Look(AtMost):
        def offers(self, entries: Any) -> Any:
            seen.append((entries.epoch, entries.file, entries.numbers.copy(), entries.path))
            return super().offers(entries)

    rows = joined(read(make(frame.filter("code > 0"), Look(100), **SIZES["streamed"])))
    passing = np.flatnonzero(values("code", np.arange(ENTRIES)) > 0)
    assert set(rows) <= set(passing.tolist())
    assert len(rows) == 300
    for epoch, file, numbers, path in seen:
        assert epoch == 0
        first = FILES[file].first
        mine = passing[(passing >= first) & (passing < first + FILES[file].entries)]
        assert np.array_equal(numbers, mine - first)
        assert path.endswith(f"{file:03}.root")


def test_random_numbers_are_of_an_entry_an_epoch_and_a_seed(frame: rf.Frame) -> None:
    seen: list[dict[int, float]] = []

    class Look(rf.Sampler):
        def offers(self, entries: Any) -> Any:
            if entries.file == 0:
                random = entries.random()
                assert np.array_equal(random, entries.random())
                seen.append(dict(zip(entries.numbers.tolist(), random.tolist(), strict=True)))

    def look(some: rf.Frame, epoch: int = 0, **changes: Any) -> dict[int, float]:
        del seen[:]
        make(some, Look(), **changes).plan(epoch)
        return seen[-1]

    whole = look(frame)
    assert len(whole) == 900
    assert 0 <= min(whole.values()) < 0.01
    assert 0.99 < max(whole.values()) < 1
    cut = look(frame.filter("flag"))
    assert len(cut) == 300
    assert all(whole[entry] == number for entry, number in cut.items())
    assert look(frame, epoch=1) != whole
    assert look(frame, seed=6) != whole
    assert look(frame, **SIZES["tiny"]) == whole


# --- how many of which class a batch takes --------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES)
def test_offers_and_quotas_together(frame: rf.Frame, sizes: str) -> None:
    loader = make(frame, AtMostBalanced(200), batch_size=21, **SIZES[sizes])
    for _ in range(2):
        batches = read(loader)
        rows = joined(batches)
        labels = values("label", np.array(batches))
        assert (np.apply_along_axis(np.bincount, 1, labels) == 3).all()
        used = Counter(rows)
        # Each that is offered at least once; others of their class as often, to within two times.
        assert np.bincount(file_of(sorted(used))).tolist() == [200, 200, 200]
        of = values("label", np.array(sorted(used)))
        for label in range(7):
            often = [count for id_, count in used.items() if id_ // 3 % 7 == label]
            assert max(often) - min(often) <= 2
        assert len(rows) >= 7 * np.bincount(of).max()


@pytest.mark.parametrize("sizes", SIZES)
def test_quotas_of_a_users_own(frame: rf.Frame, sizes: str) -> None:
    loader = make(frame, Alternating(), **SIZES[sizes])
    batches = read(loader)
    assert len(batches) == len(loader) == 2 * (813 // 20)
    for number, batch in enumerate(batches):
        assert {id_ % 3 == 0 for id_ in batch} == {bool(number % 2)}
    rows = joined(batches)
    assert len(set(rows)) == len(rows)
    ranks = [make(frame, Alternating(), rank=rank, world_size=3, **SIZES[sizes]) for rank in range(3)]
    parts = [read(loader) for loader in ranks]
    assert all(len(part) == 2 * (813 // 60) for part in parts)
    every = joined(joined(parts))
    assert len(set(every)) == len(every)


# --- what goes wrong ------------------------------------------------------------------------------


class Wrong(rf.Sampler):
    def __init__(self, quotas: Any = None, offers: Any = None, label: str | None = None) -> None:
        self.gives = quotas, offers
        self.label = label

    def quotas(self, rows: Any, asked: Any) -> Any:
        found = self.gives[0]
        return super().quotas(rows, asked) if found is None else np.array(found)

    def offers(self, entries: Any) -> Any:
        found = self.gives[1]
        return found(entries) if callable(found) else found


@pytest.mark.parametrize(
    "quotas",
    [
        [20, 20],  # no axis of classes
        [[10, 10], [10, 10]],  # more classes than there are
        [[20.0], [20.0]],
        [[True]],
        [[21]],  # more than a batch
        [[-1]],
        [[20], [0]],
    ],
)
def test_wrong_quotas(frame: rf.Frame, quotas: Any) -> None:
    with pytest.raises(ArgumentError, match=r"Wrong\(.* gives .*expected") as caught:
        make(frame, Wrong(quotas=quotas))
    assert len(str(caught.value)) < 400


def test_quotas_of_a_class_without_rows(frame: rf.Frame) -> None:
    class First(AtMost):
        label = "flag"

        def quotas(self, rows: Any, asked: Any) -> Any:
            return np.full((5, len(rows)), asked.batch_size // len(rows))

        def offers(self, entries: Any) -> Any:
            return entries.numbers % 3 == 0 if entries.epoch == self.rows else None

    for sizes in SIZES.values():
        loader = make(frame.range(900), First(1), **sizes)
        assert len(read(loader)) == 5
        with pytest.raises(EmptyDatasetError, match="class False, which has no rows in epoch 1"):
            read(loader)


def test_no_quotas_at_all(frame: rf.Frame) -> None:
    with pytest.raises(ArgumentError, match="an epoch would have no batch"):
        make(frame, Wrong(quotas=np.empty((0, 1), np.int64)))


@pytest.mark.parametrize(
    "offers",
    [
        lambda entries: np.ones(3, bool),
        lambda entries: np.ones(len(entries.numbers)),
        lambda entries: entries.numbers[:5],
        lambda entries: True,
        lambda entries: np.ones((len(entries.numbers), 1), bool),
    ],
)
def test_wrong_offers(frame: rf.Frame, offers: Any) -> None:
    with pytest.raises(ArgumentError, match=r"offers .*000\.root.*expected bool of shape") as caught:
        make(frame, Wrong(offers=offers))
    assert "(900,)" in str(caught.value)


def test_nothing_is_offered(frame: rf.Frame) -> None:
    with pytest.raises(EmptyDatasetError, match="offers no row"):
        make(frame, Wrong(offers=lambda entries: np.zeros(len(entries.numbers), bool)))


def test_columns_that_do_not_exist(frame: rf.Frame) -> None:
    class Misspelt(Accept):
        columns = ("wieght",)

    with pytest.raises(MissingColumnError, match="wieght"):
        make(frame, Misspelt())


def test_what_is_no_sampler(frame: rf.Frame) -> None:
    for wrong in (AtMost, "AtMost", object()):
        with pytest.raises(ArgumentError, match="sampling must be"):
            make(frame, wrong)


# --- states, processes, words ---------------------------------------------------------------------


def test_a_state_knows_the_sampler_and_its_attributes(frame: rf.Frame) -> None:
    loader = make(frame, AtMost(300))
    read(loader, 3)
    state = loader.state_dict()
    make(frame, AtMost(300)).load_state_dict(state)
    for other in (AtMost(301), Accept(), None, rf.balanced("label")):
        with pytest.raises(StateError) as caught:
            make(frame, other).load_state_dict(state)
        assert "the sampling: " in str(caught.value)
    with pytest.raises(StateError, match=r"the sampling: 'rows=300' before, 'rows=301' now"):
        make(frame, AtMost(301)).load_state_dict(state)


def test_a_state_knows_long_arrays_functions_and_attributes_of_the_class(frame: rf.Frame) -> None:
    class Given(rf.Sampler):
        def __init__(self, given: Any) -> None:
            self.given = given

        def offers(self, entries: Any) -> Any:
            given = next(iter(self.given.values()))[0] if isinstance(self.given, dict) else self.given
            chosen = given(entries.numbers) if callable(given) else given[entries.numbers]
            return chosen.astype(bool)

    class ByRoot(Accept):
        columns = ("root", "weight")

    ByRoot.__name__ = "Accept"
    every = np.ones(2000, bool)
    other = every.copy()
    other[1000] = False  # which NumPy does not print

    def small() -> Any:
        return lambda numbers: numbers < 100

    def odd() -> Any:
        return lambda numbers: numbers % 2

    for one, alike, another in (
        (Given(every), Given(every.copy()), Given(other)),
        (Given({"a": [every]}), Given({"a": [every.copy()]}), Given({"a": [other]})),
        (Given(small()), Given(small()), Given(odd())),
        (Accept(), Accept(), ByRoot()),
    ):
        loader = make(frame, one)
        read(loader, 2)
        state = json.loads(json.dumps(loader.state_dict()))
        make(frame, alike).load_state_dict(state)
        with pytest.raises(StateError, match="the sampling: "):
            make(frame, another).load_state_dict(state)


@dataclass(slots=True)
class Slotted(rf.Sampler):
    most: int

    def offers(self, entries: Any) -> Any:
        return entries.numbers < self.most


class OneSlot(rf.Sampler):
    __slots__ = "most"  # a text is one name

    def __init__(self, most: int) -> None:
        self.most = most


class Below(rf.Sampler):
    most = 300

    def offers(self, entries: Any) -> Any:
        return entries.numbers < self.most


class BelowAnother(Below):
    most = 200


class UpTo(Below):
    def offers(self, entries: Any) -> Any:
        return entries.numbers <= self.most


BelowAnother.__name__ = UpTo.__name__ = "Below"


@pytest.mark.parametrize(
    ("one", "alike", "another", "what"),
    [
        (Slotted(300), Slotted(300), Slotted(200), "most=300"),
        (OneSlot(300), OneSlot(300), OneSlot(200), "most=300"),
        (Below(), Below(), BelowAnother(), "most=300"),
        (Below(), Below(), UpTo(), "offers=function offers"),
    ],
)
def test_a_state_knows_slots_and_what_classes_say(
    frame: rf.Frame, one: Any, alike: Any, another: Any, what: str
) -> None:
    state = json.loads(json.dumps(make(frame, one).state_dict()))
    make(frame, alike).load_state_dict(state)
    with pytest.raises(StateError, match=f"the sampling: .*{what}"):
        make(frame, another).load_state_dict(state)


@pytest.mark.parametrize("sampler", [AtMost(300), Accept(), AtMostBalanced(200), Alternating()])
def test_a_loader_with_a_sampler_is_pickled(frame: rf.Frame, sampler: Any) -> None:
    loader = make(frame, sampler, **SIZES["streamed"])
    copy = pickle.loads(pickle.dumps(loader))
    assert read(copy) == read(loader)
    assert repr(copy.sampling) == repr(sampler)


def test_workers_of_a_data_loader(frame: rf.Frame) -> None:
    torch_data = pytest.importorskip("torch.utils.data")
    for sampler in (AtMost(300), Accept()):
        loader = make(frame, sampler, **SIZES["streamed"])
        expected = [sorted(joined(read(make(frame, sampler))))]
        loader.set_epoch(0)
        workers = torch_data.DataLoader(loader.torch(), batch_size=None, num_workers=2)
        found = [batch.numpy() for batch in workers]
        assert sorted(joined(ids_of(batch) for batch in found)) == expected[0]
        assert len(found) == loader.plan(0).batches


def test_a_sampler_tells_its_attributes() -> None:
    assert repr(AtMost(7)) == "AtMost(rows=7)"
    assert repr(rf.Sampler()) == "Sampler()"


def test_the_example_in_the_documentation(frame: rf.Frame) -> None:
    tests = doctest.DocTestFinder(recurse=False).find(
        rf.Sampler, "Sampler", sampling, {"Sampler": rf.Sampler, "np": np}
    )
    assert [len(test.examples) for test in tests] == [1]
    scope: dict[str, Any] = {"Sampler": rf.Sampler, "np": np}
    exec(tests[0].examples[0].source, scope)
    assert len(joined(read(make(frame, scope["AtMost"](10))))) == 30


def test_the_same_rows_wherever_the_files_lie(paths: list[str], tmp_path: Any) -> None:
    moved = [tmp_path / f"{number}.root" for number in range(len(paths))]
    for link, path in zip(moved, paths, strict=True):
        link.symlink_to(path)
    for sampler in (AtMost(300), Accept()):
        here = make(open_events(paths), sampler)
        there = make(open_events([str(path) for path in moved]), sampler)
        assert read(here) == read(there)
