"""Batches for torch: alone, in PyTorch's DataLoader and in torchdata's, and copied ahead to a GPU."""

from __future__ import annotations

import copy
import itertools
import json
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from processes import run
from rootfeed.errors import ArgumentError, StateError
from samples import File, in_a_row, open_events, write_all

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402  # torch may be missing

from rootfeed.formats.torch import CopiedAhead, _stream  # noqa: E402

FILES = in_a_row(File(400, page=50), File(177, page=30, format="RNTuple"), File(0), File(150, page=60))
ENTRIES = 727
BATCH = 16  # 46 batches, the last of 7 rows
LAZY = {"chunk_entries": 200, "block_entries": 20}
SIZES = {"in memory": {}, "lazy": LAZY}
SECONDS = 60  # a worker that says nothing for so long is an error
FAILING = "forkserver"
"""How workers begin that will fail: PyTorch's forked ones hang then, now and then."""

multiprocessing.set_forkserver_preload(["rootfeed", "torch"])  # once, not in each worker

Batches = list[list[int]]

pytestmark = pytest.mark.usefixtures("quiet_workers")


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    return SIZES[request.param]


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    settings: dict[str, Any] = {"batch_size": BATCH, "features": ["id"], "seed": 5, "threads": 2}
    return rf.Loader(frame, **(settings | options))


def workers(dataset: Any, number: int, how: str = "fork", **options: Any) -> Any:
    more: dict[str, Any] = {}
    if number:
        more = {"multiprocessing_context": how, "timeout": SECONDS}
    return DataLoader(dataset, batch_size=None, num_workers=number, **more, **options)


def stateful(dataset: Any, number: int, how: str = "fork", **options: Any) -> Any:
    module = pytest.importorskip("torchdata.stateful_dataloader")
    more = {"multiprocessing_context": how, "timeout": SECONDS} if number else {}
    return module.StatefulDataLoader(dataset, batch_size=None, num_workers=number, **more, **options)


def ids(batch: Any) -> list[int]:
    x = batch[0] if isinstance(batch, tuple | list) else batch
    return [int(each) for each in np.asarray(x)[:, 0]]


def epoch(batches: Any) -> Batches:
    return [ids(batch) for batch in batches]


def flat(nested: Iterable[list[Any]]) -> list[Any]:
    return list(itertools.chain.from_iterable(nested))


def take(batches: Any, count: int) -> Batches:
    return epoch(itertools.islice(iter(batches), count))


def refused(loader: Any, error: type[Exception], match: str) -> None:
    """Expect an error; and end the workers now: those of an iterator in a cycle take ten seconds."""
    iterator = iter(loader)
    try:
        with pytest.raises(error, match=match):
            epoch(iterator)
    finally:
        iterator._shutdown_workers()


def complete(batches: Batches, entries: int = ENTRIES, batch_size: int = BATCH) -> bool:
    """Whether each entry comes once, in full batches but for the last."""
    sizes = [len(batch) for batch in batches]
    full, rest = divmod(entries, batch_size)
    return sorted(flat(batches)) == list(range(entries)) and sizes == (
        [batch_size] * full + [rest] * (rest > 0)
    )


def epochs(frame: rf.Frame, count: int, **options: Any) -> list[Batches]:
    """Return what a loader gives without torch."""
    loader = make(frame, **options)
    return [epoch(loader) for _ in range(count)]


# --- alone ----------------------------------------------------------------------------------------


def test_it_is_a_dataset_of_torch(frame: rf.Frame, sizes: dict[str, int]) -> None:
    loader = make(frame, **sizes)
    dataset = loader.torch()
    assert isinstance(dataset, IterableDataset)
    assert len(dataset) == len(loader) == 46
    expected = epochs(frame, 3, **sizes)
    assert [epoch(dataset) for _ in range(3)] == expected
    assert len({str(each) for each in expected}) == 3
    assert isinstance(next(iter(dataset)), torch.Tensor)
    assert repr(loader) in repr(dataset)


def test_it_counts_the_epochs_of_its_loader(frame: rf.Frame) -> None:
    expected = epochs(frame, 5)
    loader = make(frame)
    one, two = loader.torch(), loader.torch()
    assert [epoch(one), epoch(loader), epoch(two)] == expected[:3]
    one.set_epoch(1)
    assert [epoch(loader), epoch(two)] == expected[1:3]
    loader.set_epoch(4)
    assert epoch(two) == expected[4]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("world_size", [1, 3])
def test_length_is_exact(frame: rf.Frame, drop_last: bool, world_size: int) -> None:
    for rank in range(world_size):
        loader = make(frame, drop_last=drop_last, rank=rank, world_size=world_size, tail="uneven")
        dataset = loader.torch()
        dataset.set_epoch(0)
        assert len(dataset) == len(epoch(workers(dataset, 2))) == len(epoch(dataset))


def test_parts_and_folds_are_datasets_too(frame: rf.Frame) -> None:
    dataset = make(frame, **LAZY).torch()
    train, test = dataset.split(0.25)
    assert isinstance(train, IterableDataset)
    assert sorted(flat(epoch(workers(train, 2)) + epoch(test))) == list(range(ENTRIES))
    tests = [pair.test for pair in dataset.folds(3)]
    assert sorted(flat(flat(map(epoch, tests)))) == list(range(ENTRIES))
    one, two = (sorted(flat(epoch(dataset.split(0.25, seed=seed).test))) for seed in (0, 1))
    assert sorted(flat(epoch(test))) == one != two
    assert sorted(flat(epoch(dataset.folds(3, seed=1)[0].test))) != sorted(flat(epoch(tests[0])))


# --- in a DataLoader ------------------------------------------------------------------------------


@pytest.mark.thorough(but=["in memory-2", "lazy-1"])
@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_workers_share_the_epoch_that_was_chosen(
    frame: rf.Frame, sizes: dict[str, int], number: int
) -> None:
    dataset = make(frame, **sizes).torch()
    loader = workers(dataset, number)
    found = []
    for chosen in (0, 1, 2):
        dataset.set_epoch(chosen)
        found.append(epoch(loader))
    assert all(complete(each) for each in found)  # and the short batch is the last
    assert len(loader) == len(dataset) == len(found[0])
    assert len({str(each) for each in found}) == 3
    if number < 2:
        assert found == epochs(frame, 3, **sizes)
    # It is the same again, and stays until another is chosen: workers are copies of this process.
    dataset.loader.set_epoch(1)
    assert epoch(loader) == found[1]
    assert epoch(loader) == found[1 if number else 2]


@pytest.mark.thorough(but=["in memory-2"])
@pytest.mark.parametrize("number", [1, 2])
def test_without_set_epoch_the_seed_of_torch_decides(
    frame: rf.Frame, sizes: dict[str, int], number: int
) -> None:
    def found(seed: int, dataset: Any) -> list[Batches]:
        torch.manual_seed(seed)
        loader = workers(dataset, number)
        return [epoch(loader) for _ in range(3)]

    dataset = make(frame, **sizes).torch()
    one, two = found(1, dataset), found(2, dataset)
    assert distinct(one + two)
    assert found(1, dataset) == one
    assert found(1, make(frame, **sizes).torch()) == one  # however often it was iterated
    assert distinct(one + found(1, make(frame, seed=6, **sizes).torch()))
    # A generator of the DataLoader's own does, too.
    own = [
        epoch(workers(dataset, number, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    ]
    assert own[0] == own[1] != own[2]
    assert own[0] == one[0]
    # The main process does not see any of it.
    assert epoch(dataset) == epochs(frame, 1, **sizes)[0]


@pytest.mark.thorough(but=["lazy-None"])
@pytest.mark.parametrize("chosen", [None, 5])
def test_workers_that_live_on_count(frame: rf.Frame, sizes: dict[str, int], chosen: int | None) -> None:
    def found(seed: int) -> list[Batches]:
        torch.manual_seed(seed)
        dataset = make(frame, **sizes).torch()
        if chosen is not None:
            dataset.set_epoch(chosen)
        loader = workers(dataset, 2, persistent_workers=True)
        first = [epoch(loader) for _ in range(3)]
        dataset.set_epoch(0)  # which they cannot hear of
        return [*first, epoch(loader)]

    one, two = found(1), found(2)
    assert distinct(one)
    assert one == found(1)
    if chosen is None:
        assert distinct(one + two)
        return
    assert one == two
    dataset = make(frame, **sizes).torch()
    for number, each in enumerate(one, chosen):
        dataset.set_epoch(number)
        assert epoch(workers(dataset, 2)) == each


SPAWNED = """
    import multiprocessing, sys
    import rootfeed as rf
    import torch
    from torch.utils.data import DataLoader

    def main():
        paths, sizes, persistent, how = map(eval, sys.argv[1:])
        multiprocessing.set_forkserver_preload(["rootfeed", "torch"])  # once, not in each worker
        frame = rf.open(dict.fromkeys(paths, "events")).define("same", "id + 0")
        dataset = rf.Loader(frame, 16, ["same"], seed=5, threads=1, **sizes).torch()
        def epochs(count):
            loader = DataLoader(
                dataset, batch_size=None, num_workers=2, multiprocessing_context=how,
                persistent_workers=persistent, timeout=50,
            )
            return [[[int(each) for each in x[:, 0]] for x in loader] for _ in range(count)]
        torch.manual_seed(3)
        found = epochs(2)
        dataset.set_epoch(1)
        print(found + epochs(1))

    if __name__ == "__main__":
        main()
"""


@pytest.mark.thorough("spawn-True")
@pytest.mark.parametrize(("how", "persistent"), [("spawn", True), ("forkserver", False)])
def test_workers_that_are_not_forked(
    paths: list[str], frame: rf.Frame, tmp_path: Path, how: str, persistent: bool
) -> None:
    # A script of its own, which spawned processes can import: those of pytest they would run.
    sizes = LAZY if persistent else {}
    script = tmp_path / "spawned.py"
    script.write_text("\n".join(line[4:] for line in SPAWNED.splitlines()))
    outcome = run(
        "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
        script,
        paths,
        sizes,
        persistent,
        repr(how),
    )
    # Not that nothing was said: a worker of a loop that is left may abort as it exits, in a thread of
    # multiprocessing that pickles torch's tensors.
    assert outcome.code == 0, outcome.err
    found = eval(outcome.lines[-1])
    # The same as those of workers that are forked.
    dataset = make(frame, threads=1, **sizes).torch()
    torch.manual_seed(3)
    loader = workers(dataset, 2, persistent_workers=persistent)
    expected = [epoch(loader) for _ in range(2)]
    dataset.set_epoch(1)
    expected.append(epoch(workers(dataset, 2)))
    assert distinct(expected)
    assert found == expected


def test_more_workers_than_batches(frame: rf.Frame) -> None:
    dataset = make(frame, batch_size=400).torch()
    loader = workers(dataset, 3)
    found = [epoch(loader) for _ in range(2)]
    assert all(complete(each, batch_size=400) for each in found)
    assert found[0] != found[1]


def slow(worker: int) -> None:
    if worker == 1:
        time.sleep(0.4)


@pytest.mark.thorough(but=["persistent"])
@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
def test_a_loop_that_was_left_before_all_workers_had_begun(frame: rf.Frame, persistent: bool) -> None:
    # A worker that is late ends without a batch; it is in the epoch of the others all the same.
    dataset = make(frame, **LAZY).torch()
    loader = workers(dataset, 3, worker_init_fn=slow, persistent_workers=persistent)
    found = []
    for _ in range(2):
        for _ in loader:
            break
        found.append(epoch(loader))
        take(loader, 20)
    assert distinct(found)


@pytest.mark.thorough(but=["slow"])
@pytest.mark.parametrize("init", [None, slow], ids=["", "slow"])
def test_two_iterations_at_the_same_time(frame: rf.Frame, init: Callable[[int], None] | None) -> None:
    # Workers of both come in any order: those of one iteration have their seed in common.
    loader = workers(make(frame, **LAZY).torch(), 3, worker_init_fn=init)
    pairs = [
        ([int(x) for x in a[:, 0]], [int(x) for x in b[:, 0]])
        for a, b in zip(loader, loader, strict=True)
    ]
    assert distinct([[a for a, _ in pairs], [b for _, b in pairs]])


def distinct(found: Sequence[Batches]) -> bool:
    """Whether these are whole epochs, each another one."""
    return all(map(complete, found)) and len(set(map(str, found))) == len(found)


def test_the_number_of_workers_may_change(frame: rf.Frame) -> None:
    dataset = make(frame, **LAZY).torch()
    found = []
    for chosen, number in enumerate((3, 1, 0, 2, 0)):
        dataset.set_epoch(chosen)
        found.append(epoch(workers(dataset, number)))
    assert distinct(found)
    expected = epochs(frame, 5, **LAZY)
    assert [found[1], found[2], found[4]] == [expected[1], expected[2], expected[4]]


@pytest.mark.thorough(but=["torch-2", "torchdata-1"])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("kind", ["torch", "torchdata"])
def test_ranks_cannot_agree_without_set_epoch(frame: rf.Frame, number: int, kind: str) -> None:
    # Each rank's DataLoader draws seeds of its own.
    dataset = make(frame, rank=1, world_size=2).torch()
    of = workers if kind == "torch" else stateful
    message = r"2 ranks must agree on the order of the entries(.|\n)*call set_epoch\(epoch\) before each"
    refused(of(dataset, number, FAILING), ArgumentError, message)
    dataset.set_epoch(0)
    assert len(epoch(of(dataset, number))) == len(dataset)
    assert len(epoch(make(frame, rank=1, world_size=2))) == len(dataset)  # without workers, as ever


@pytest.mark.thorough(but=["lazy"])
def test_ranks_and_workers(frame: rf.Frame, sizes: dict[str, int]) -> None:
    ranks = [make(frame, rank=rank, world_size=3, tail="uneven", **sizes).torch() for rank in range(3)]
    orders = set()
    for chosen in range(2):
        for dataset in ranks:
            dataset.set_epoch(chosen)
        found = [epoch(workers(dataset, 2)) for dataset in ranks]
        assert [len(each) for each in found] == [len(dataset) for dataset in ranks]
        assert sorted(flat(flat(found))) == list(range(ENTRIES))
        orders.add(str(found))
    assert len(orders) == 2


@pytest.mark.parametrize("number", [0, 3])
def test_shares_are_exact_in_workers(frame: rf.Frame, sizes: dict[str, int], number: int) -> None:
    loader = make(
        frame,
        target="flag",
        features=["id"],
        sampling=rf.balanced("flag", {False: 0.75, True: 0.25}),
        **sizes,
    )
    found = []
    for x, y in workers(loader.torch(), number):
        assert y.sum() == 4
        assert np.array_equal(np.asarray(x)[:, 0] % 3 == 0, np.asarray(y)[:, 0] == 1)
        found += ids(x)
    assert len(found) == len(set(found)) == len(loader) * BATCH
    for class_, rows in ((True, (ENTRIES + 2) // 3), (False, ENTRIES - (ENTRIES + 2) // 3)):
        used = sum((each % 3 == 0) is class_ for each in found)
        assert rows - used < BATCH or class_ is True  # one class is used up


def test_dicts_and_weights_come_through_workers(frame: rf.Frame) -> None:
    loader = make(
        frame,
        features={"a": ["id", "half"], "b": ["root"]},
        target="label",
        weights=rf.normalized("half + 1", "label"),
        **LAZY,
    )
    seen = []
    for x, y, w in workers(loader.torch(), 2):
        assert sorted(x) == ["a", "b"]
        each = np.asarray(x["a"])[:, 0].astype(int)
        assert np.array_equal(np.asarray(x["a"])[:, 1], (each * 0.5).astype("f4"))
        assert np.allclose(np.asarray(x["b"])[:, 0], np.sqrt(each))
        assert np.array_equal(np.asarray(y)[:, 0], each // 3 % 7)
        assert w.shape == (len(each), 1)
        assert w.dtype == torch.float32
        seen += each.tolist()
    assert sorted(seen) == list(range(ENTRIES))


def test_batches_of_workers_belong_to_the_user(frame: rf.Frame) -> None:
    found = list(workers(make(frame, **LAZY).torch(), 2))
    before = [batch.clone() for batch in found]
    for batch in found:
        batch += 1
    assert all(torch.equal(one, two + 1) for one, two in zip(found, before, strict=True))


def test_an_error_in_a_worker_names_the_file(frame: rf.Frame, tmp_path: Path) -> None:
    copies = write_all(tmp_path / "files", FILES)
    dataset = make(open_events(copies), **LAZY).torch()
    os.unlink(copies[1])
    refused(workers(dataset, 2, FAILING), Exception, r"001\.root")


@pytest.mark.parametrize(
    ("number", "options"),
    [(0, {}), (0, {"batch_size": 4}), (0, {"batch_size": 4, "drop_last": True}), (2, {"batch_size": 4})],
)
@pytest.mark.parametrize("kind", ["torch", "torchdata"])
def test_batches_of_batches_are_refused(
    frame: rf.Frame, number: int, options: dict[str, Any], kind: str
) -> None:
    of = DataLoader
    if kind == "torchdata":
        of = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    more: dict[str, Any] = {}
    if number:
        more = {"multiprocessing_context": FAILING, "timeout": SECONDS}
    loader = make(frame)
    for dataset in (loader.torch(), *loader.split(0.5)[:1]):
        dataset = dataset if isinstance(dataset, IterableDataset) else dataset.torch()
        with pytest.raises(ArgumentError) as caught:
            list(of(dataset, num_workers=number, **more, **options))
        assert "write DataLoader(batches, batch_size=None)" in str(caught.value)
        assert "with a dimension more" in str(caught.value)
    if not number:
        assert loader.state_dict()["epoch"] == 0  # none was begun


@pytest.mark.parametrize("options", [{}, {"batch_size": None}, {"batch_size": 4, "shuffle": True}])
def test_a_loader_itself_is_refused(frame: rf.Frame, options: dict[str, Any]) -> None:
    loader = make(frame)
    with pytest.raises(ArgumentError, match=r"write DataLoader\(loader\.torch\(\), batch_size=None\)"):
        next(iter(DataLoader(loader, **options)))
    assert loader.state_dict()["epoch"] == 0


def joined(batches: list[Any]) -> Any:
    return torch.cat(batches)


def test_batches_are_joined_by_a_function_of_the_user(frame: rf.Frame) -> None:
    whole = epoch(make(frame))
    expected = [flat(whole[start : start + 4]) for start in range(0, len(whole), 4)]
    for number in (0, 1):
        more = {"multiprocessing_context": "fork", "timeout": SECONDS} if number else {}
        dataset = make(frame).torch()
        dataset.set_epoch(0)
        batches = DataLoader(dataset, batch_size=4, collate_fn=joined, num_workers=number, **more)
        assert epoch(batches) == expected


def test_batches_are_asked_for_by_a_dataset_of_the_user(frame: rf.Frame) -> None:
    class Rows(IterableDataset[Any]):
        auto_collation = True  # which is nobody's business

        def __init__(self, batches: Any) -> None:
            self.batches = batches

        def __iter__(self) -> Iterator[Any]:
            for batch in self.batches:
                yield from batch

    whole = flat(epoch(make(frame)))
    found = [int(row) for rows in DataLoader(Rows(make(frame).torch()), batch_size=5) for row in rows]
    assert found == whole


# --- states ---------------------------------------------------------------------------------------


def test_states_of_a_dataset_are_those_of_its_loader(frame: rf.Frame, sizes: dict[str, int]) -> None:
    expected = epochs(frame, 2, **sizes)
    dataset = make(frame, **sizes).torch()
    assert take(dataset, 11) == expected[0][:11]
    state = json.loads(json.dumps(dataset.state_dict()))
    assert state == dataset.loader.state_dict()
    other = make(frame, **sizes)
    other.torch().load_state_dict(state)
    assert epoch(other) == expected[0][11:]
    assert epoch(other.torch()) == expected[1]


@pytest.mark.thorough(but=["lazy-3"])
@pytest.mark.parametrize("number", [1, 3])
def test_a_loaded_state_goes_on_in_workers(frame: rf.Frame, sizes: dict[str, int], number: int) -> None:
    dataset = make(frame, **sizes).torch()
    done = take(dataset, 13)
    other = make(frame, **sizes).torch()
    other.load_state_dict(dataset.state_dict())
    loader = workers(other, number)
    rest = epoch(loader)
    assert sorted(flat(done + rest)) == list(range(ENTRIES))
    assert epoch(loader) == rest  # until another epoch is chosen
    other.set_epoch(1)
    expected = make(frame, **sizes).torch()
    expected.set_epoch(1)
    assert epoch(loader) == epoch(workers(expected, number))
    # Workers that live on count on behind it.
    other.load_state_dict(dataset.state_dict())
    loader = workers(other, number, persistent_workers=True)
    assert epoch(loader) == rest
    assert epoch(loader) == epoch(workers(expected, number))


def test_the_main_process_does_not_see_its_workers(frame: rf.Frame) -> None:
    dataset = make(frame).torch()
    before = dataset.state_dict()
    dataset.set_epoch(2)
    chosen = dataset.state_dict()
    assert (chosen["epoch"], chosen["batches"]) == (2, 0)
    epoch(workers(dataset, 2))
    assert dataset.state_dict() == chosen
    dataset.load_state_dict(before)
    epoch(workers(dataset, 2))
    assert [epoch(dataset) for _ in range(2)] == epochs(frame, 2)
    assert dataset.state_dict()["epoch"] == 2


@pytest.mark.thorough(but=["in memory-2", "lazy-0"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_stateful_dataloader(frame: rf.Frame, sizes: dict[str, int], number: int) -> None:
    def new(chosen: int = 0) -> Any:
        dataset = make(frame, **sizes).torch()
        dataset.set_epoch(chosen)
        return stateful(dataset, number)

    expected = [epoch(new(chosen)) for chosen in range(3)]
    assert distinct(expected)
    for done in (0, 1, 30, 45, 46):
        loader = new()
        iterator = iter(loader)
        assert take(iterator, done) == expected[0][:done]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        other = new(1)
        other.load_state_dict(state)
        rest = epoch(other)
        if done == 46 and number < 2:
            assert rest == expected[1]  # nothing is left, and that is known
        else:
            assert rest == expected[0][done:], done
        other.dataset.set_epoch(1)
        assert epoch(other) == expected[1], done
        if done == 30:
            assert epoch(iterator) == rest  # saving a state changes nothing
            # In the middle of the second epoch, after that of a state; and again, in the same loader.
            other.dataset.set_epoch(2)
            assert take(other, 7) == expected[2][:7]
            state = other.state_dict()
            third = new()
            for each in (third, other):
                each.load_state_dict(state)
                assert epoch(each) == expected[2][7:]


@pytest.mark.thorough(but=["persistent-1"])
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("persistent", [False, True], ids=["", "persistent"])
def test_stateful_dataloader_without_set_epoch(frame: rf.Frame, persistent: bool, number: int) -> None:
    def new() -> Any:
        return stateful(make(frame, **LAZY).torch(), 2, persistent_workers=persistent)

    torch.manual_seed(1)
    loader = new()
    expected = [epoch(loader) for _ in range(3)]
    assert distinct(expected)
    for done in (0, 1, 20, 45):
        torch.manual_seed(1)
        loader = new()
        assert [epoch(loader) for _ in range(number)] == expected[:number]
        assert take(loader, done) == expected[number][:done]
        state = pickle.loads(pickle.dumps(loader.state_dict()))
        torch.manual_seed(2)  # in another process
        other = new()
        other.load_state_dict(state)
        assert epoch(other) == expected[number][done:]
        if persistent:
            assert epoch(other) == expected[number + 1]  # they count on
        epoch_of_state = state["_snapshot"]["_worker_snapshots"]["worker_0"]["dataset_state"]["epoch"]
        with pytest.raises(ArgumentError, match=r"epoch must be below 2\^31"):
            make(frame).set_epoch(epoch_of_state)


@pytest.mark.thorough(but=["2"])
@pytest.mark.parametrize("number", [0, 2])
def test_stateful_dataloader_at_the_end(frame: rf.Frame, number: int) -> None:
    loader = stateful(make(frame, **LAZY).torch(), number)
    for chosen in range(2):
        loader.dataset.set_epoch(chosen)
        assert len(epoch(loader)) == 46
    state = loader.state_dict()  # of an epoch that is over
    other = stateful(make(frame, **LAZY).torch(), number)
    other.load_state_dict(state)
    other.dataset.set_epoch(2)
    loader.dataset.set_epoch(2)
    assert epoch(other) == epoch(loader)


def test_stateful_dataloader_with_persistent_workers(frame: rf.Frame) -> None:
    def new() -> Any:
        dataset = make(frame, **LAZY).torch()
        dataset.set_epoch(0)
        return stateful(dataset, 2, persistent_workers=True)

    loader = new()
    expected = [epoch(loader) for _ in range(3)]
    loader = new()
    assert epoch(loader) == expected[0]
    assert take(loader, 21) == expected[1][:21]
    other = new()
    other.load_state_dict(loader.state_dict())
    assert epoch(other) == expected[1][21:]
    assert epoch(other) == expected[2]


def test_the_state_of_a_worker_is_its_own(frame: rf.Frame) -> None:
    loader = stateful(make(frame).torch(), 2)
    take(loader, 10)
    snapshots = loader.state_dict()["_snapshot"]["_worker_snapshots"]
    del loader  # before an error refers to this frame: see `refused`
    states = [each["dataset_state"] for each in snapshots.values()]
    assert sorted(state["worker"] for state in states) == [0, 1]
    for state in states:
        other = make(frame)
        other.load_state_dict(state)
        with pytest.raises(StateError, match="the state of one of 2 workers of a rank") as caught:
            next(iter(other))
        assert "Save a loader's state in the main process (num_workers=0)" in str(caught.value)
        # Of two workers, one has the other's state.
        other = make(frame)
        other.load_state_dict(state)
        refused(workers(other.torch(), 2, FAILING), StateError, r"state of worker \d, not of worker \d")


def test_a_loop_as_lightning_has_it(frame: rf.Frame, sizes: dict[str, int]) -> None:
    # It calls set_epoch before each epoch, and saves whatever has a state.
    expected = epochs(frame, 4, **sizes)
    found: Batches = []
    saved: Any = None
    for attempt in range(3):
        loader = make(frame, **sizes)
        start = 0
        if saved is not None:
            loader.load_state_dict(saved["loader"])
            start, found = saved["epoch"], found[: saved["batches"]]
        for number in range(start, 4):
            loader.set_epoch(number)
            for step, batch in enumerate(loader.torch()):
                found.append(ids(batch))
                if step % 10 == 9:
                    saved = {"loader": loader.state_dict(), "epoch": number, "batches": len(found)}
                if (attempt, number, step) in ((0, 1, 25), (1, 2, 3)):
                    break  # as if it were killed
            else:
                continue
            break
    assert found == flat(expected)


def test_a_loop_as_lightning_has_it_with_workers(frame: rf.Frame) -> None:
    dataset = make(frame, **LAZY).torch()
    loader, found = workers(dataset, 2), []
    for number in (0, 1, 2, 1):
        loader.dataset.set_epoch(number)
        take(loader, 3)  # a sanity check, which is left early
        found.append(epoch(loader))
        assert complete(found[-1])
    assert found[1] == found[3] != found[2]
    # Workers that live on count from the epoch that was chosen before they began.
    dataset.set_epoch(0)
    loader = workers(dataset, 2, persistent_workers=True)
    for number in (0, 1, 2):
        loader.dataset.set_epoch(number)
        assert epoch(loader) == found[number]


# --- copies and pickles ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
)
def test_copies_of_a_loader_count_for_themselves(
    frame: rf.Frame, duplicate: Callable[[Any], Any]
) -> None:
    expected = epochs(frame, 4)
    loader = make(frame)
    dataset = loader.torch()
    assert epoch(dataset) == expected[0]
    twin = duplicate(loader)
    assert [epoch(twin), epoch(twin.torch()), epoch(dataset)] == [expected[1], expected[2], expected[1]]
    assert complete(epoch(workers(twin.torch(), 2)))
    assert epoch(twin) == expected[3]
    assert epoch(loader) == expected[2]


def test_copies_of_a_dataset(frame: rf.Frame) -> None:
    dataset = make(frame, **LAZY).torch()
    dataset.set_epoch(1)
    found = epoch(workers(dataset, 2))
    for twin in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):
        assert twin.loader is not dataset.loader
        assert epoch(workers(twin, 2)) == found  # what was chosen is copied
        twin.set_epoch(2)
        assert epoch(workers(twin, 2)) != found
    assert epoch(workers(dataset, 2)) == found


def test_a_copy_goes_on_in_the_middle(frame: rf.Frame) -> None:
    expected = epochs(frame, 1, **LAZY)[0]
    loader = make(frame, **LAZY)
    other = make(frame, **LAZY)
    take(other, 17)
    loader.load_state_dict(other.state_dict())
    for twin in (copy.copy(loader), copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert epoch(twin) == expected[17:]
    assert sorted(flat(epoch(workers(copy.deepcopy(loader.torch()), 2)))) == sorted(flat(expected[17:]))


CHILDREN = """
    import sys, warnings
    import rootfeed as rf
    from multiprocessing import get_context
    from torch.utils.data import DataLoader

    warnings.simplefilter("ignore")

    def train(dataset, chosen, answers):
        if chosen is not None:
            dataset.set_epoch(chosen)
        loader = DataLoader(dataset, batch_size=None, num_workers=2, timeout=50)
        found = [[int(each) for x in loader for each in x[:, 0]] for _ in range(2)]
        answers.put((all(sorted(each) == list(range(727)) for each in found), found[0] == found[1]))

    def main():
        context = get_context("fork")
        answers = context.SimpleQueue()
        frame = rf.open(dict.fromkeys(eval(sys.argv[1]), "events"))
        loader = rf.Loader(frame, 16, ["id"], seed=5, threads=1)
        for _ in loader:  # so that others need not compile
            pass
        dataset = loader.torch()
        for chosen in (None, 3):
            arguments = (dataset, chosen, answers)
            processes = [context.Process(target=train, args=arguments) for _ in range(2)]
            for process in processes:
                process.start()
            for _ in processes:
                print(chosen, *answers.get())
            for process in processes:
                process.join()

    main()
"""


@pytest.mark.thorough
def test_processes_that_got_the_same_dataset_have_workers_of_their_own(paths: list[str]) -> None:
    outcome = run(CHILDREN, paths)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.lines == ["None True False"] * 2 + ["3 True True"] * 2


# --- copies to a device, with an accelerator that is made up ---------------------------------------


class Pretence:
    """Streams that note what is asked of them; what is copied to a device stays on the CPU."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.events = 0
        self.streams = 0
        self.now = "the user's"

    def new_stream(self, device: Any) -> Any:
        self.streams += 1
        return self.stream(f"copies to {device}")

    def stream(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            record_event=lambda: self.event(name),
            wait_event=lambda event: self.notes.append(("wait", event.number, name)),
        )

    def event(self, stream: str) -> Any:
        self.events += 1
        number = self.events
        self.notes.append(("event", number, stream))
        return SimpleNamespace(
            number=number, synchronize=lambda: self.notes.append(("synchronize", number))
        )

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        before, self.now = self.now, stream.name
        yield
        self.now = before


@pytest.fixture
def pretence(monkeypatch: pytest.MonkeyPatch) -> Pretence:
    found = Pretence()
    cuda = SimpleNamespace(
        Stream=found.new_stream,
        stream=found.on,
        current_stream=lambda device: found.stream(found.now),
        current_device=lambda: 0,
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(
        torch.Tensor,
        "record_stream",
        lambda self, stream: found.notes.append(("keep", int(self[0, 0]), stream.name)),
    )
    monkeypatch.setattr(
        "rootfeed.formats.torch._page_locked_bytes", lambda count: torch.empty(count, dtype=torch.uint8)
    )
    monkeypatch.setattr("rootfeed.formats.torch._COPY_BYTES", 1)
    _stream.cache_clear()
    return found


DEVICE = torch.device("cpu")  # stands for one


def numbered(count: int, drawn: list[int]) -> Iterator[tuple[np.ndarray, ...]]:
    for number in range(count):
        drawn.append(number)
        yield (np.full((2, 1), number), np.full((3, 1), number + 100, np.int16))


@pytest.mark.parametrize("prefetch", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 9])
def test_batches_are_copied_ahead(pretence: Pretence, prefetch: int, count: int) -> None:
    drawn: list[int] = []
    copied = CopiedAhead(None, DEVICE, prefetch)(numbered(count, drawn))
    assert drawn == []  # nothing happens before the first batch is asked for
    for number in range(count):
        pretence.notes.clear()
        x, y = next(copied)
        assert torch.equal(x, torch.full((2, 1), number))
        assert torch.equal(y, torch.full((3, 1), number + 100, dtype=torch.int16))
        assert len(drawn) == min(number + 1 + prefetch, count)
        # The user's stream waits for just these copies, and the memory for the user's stream.
        waited, *kept = pretence.notes[-3:]
        assert (waited[0], waited[2]) == ("wait", "the user's")
        assert kept == [("keep", number, "the user's"), ("keep", number + 100, "the user's")]
        copies = [note for note in pretence.notes if note[-1] == "copies to cpu:0"]
        first = 0 if number == 0 else number + prefetch
        assert len(copies) == max(min(number + 1 + prefetch, count) - first, 0)
        assert pretence.now == "the user's"
    assert list(copied) == []


@pytest.mark.parametrize("together", [1, 2, 3, 10])
def test_small_batches_are_copied_together(
    pretence: Pretence, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr("rootfeed.formats.torch._COPY_BYTES", 22 * together)
    drawn: list[int] = []
    copied = CopiedAhead(None, DEVICE, 2)(numbered(9, drawn))
    for number in range(9):
        x, y = next(copied)
        assert (x[1, 0], y[2, 0], x.dtype, y.dtype) == (number, number + 100, torch.int64, torch.int16)
        assert len(drawn) >= min(number + 3, 9)
        assert len(drawn) <= number + 2 + 2 * together
        x += 1000  # it belongs to the caller
    assert list(copied) == []
    assert [note[-1] for note in pretence.notes].count("copies to cpu:0") == -(-9 // together)


def test_epochs_copy_on_the_same_stream(pretence: Pretence) -> None:
    for _ in range(3):
        list(CopiedAhead(None, DEVICE, 2)(numbered(3, [])))
    assert pretence.streams == 1


def test_a_device_that_is_behind_is_waited_for(pretence: Pretence) -> None:
    copied = CopiedAhead(None, DEVICE, 1)(numbered(9, []))
    list(copied)
    begun = [note[1] for note in pretence.notes if note[::2] == ("event", "the user's")]
    waited = [note[1] for note in pretence.notes if note[0] == "synchronize"]
    assert waited == begun[: len(waited)]
    assert len(waited) == 6


def test_batches_wait_on_the_stream_of_whoever_asks(pretence: Pretence) -> None:
    copied = CopiedAhead(None, DEVICE, 2)(numbered(4, []))
    next(copied)
    pretence.now = "another"
    next(copied)
    assert pretence.notes[-2:] == [("keep", 1, "another"), ("keep", 101, "another")]
    assert pretence.notes[-3][::2] == ("wait", "another")


def test_a_change_of_one_batch_is_none_of_another(pretence: Pretence) -> None:
    weight = torch.ones(2, requires_grad=True)
    source = iter([(np.ones((4, 2), np.float32),)] * 3)
    one, two, _ = CopiedAhead(None, DEVICE, 2)(source)
    loss = (one @ weight).sum()
    two += 1  # PyTorch tells who has changed what a gradient needs
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [4, 4]


def test_an_iterator_that_copies_ahead_is_dropped(pretence: Pretence) -> None:
    ended = []

    def source() -> Iterator[tuple[np.ndarray, ...]]:
        try:
            yield from numbered(9, [])
        finally:
            ended.append(True)

    copied = CopiedAhead(None, DEVICE, 2)(source())
    next(copied)
    del copied
    assert ended == [True]


@pytest.mark.parametrize("together", [1, 2, 5])
def test_an_error_comes_after_the_batches_before_it(
    pretence: Pretence, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr("rootfeed.formats.torch._COPY_BYTES", 22 * together)

    def source() -> Iterator[tuple[np.ndarray, ...]]:
        yield from numbered(3, [])
        raise OSError("a damaged page")

    copied = CopiedAhead(None, DEVICE, 2)(source())
    assert [int(next(copied)[0][0, 0]) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="a damaged page"):
        next(copied)


@pytest.mark.parametrize("prefetch", [1, 2, 7])
def test_a_state_does_not_count_what_was_only_copied_ahead(
    frame: rf.Frame, pretence: Pretence, sizes: dict[str, int], prefetch: int
) -> None:
    expected = epochs(frame, 2, **sizes)
    format = CopiedAhead(None, DEVICE, prefetch)
    loader = make(frame, **sizes)

    for done in (0, 1, 2, 20, 45, 46):
        loader.set_epoch(0)
        iterator = loader._pipeline.start(format)
        for number in range(done):
            assert ids(next(iterator)) == expected[0][number]
            state = loader.state_dict()
            at_end = number == 45
            assert (state["epoch"], state["batches"]) == ((1, 0) if at_end else (0, number + 1))
        state = json.loads(json.dumps(loader.state_dict()))
        iterator.close()
        loader.load_state_dict(state)
        rest = epoch(loader._pipeline.start(format))
        assert rest == (expected[0][done:] if done < 46 else expected[1])


def test_a_format_for_a_device_can_be_pickled() -> None:
    twin = pickle.loads(pickle.dumps(CopiedAhead(("a",), torch.device("cuda", 0), 3)))
    assert (twin.names, twin.device, twin.prefetch) == (("a",), torch.device("cuda", 0), 3)


@pytest.mark.parametrize(
    "options", [{"device": "cuda"}, {"device": "cuda", "prefetch": 0}, {"pin_memory": True}]
)
def test_workers_have_no_device(frame: rf.Frame, options: dict[str, Any]) -> None:
    batches = make(frame).torch(**options)
    refused(workers(batches, 1, FAILING), ArgumentError, "num_workers=2, pin_memory=True")


# --- with a GPU -----------------------------------------------------------------------------------

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@cuda
@pytest.mark.parametrize("prefetch", [0, 1, 2, 5])
def test_batches_on_a_gpu_are_the_same(frame: rf.Frame, sizes: dict[str, int], prefetch: int) -> None:
    names = ["id", "half", "root"]
    plain = make(frame, features=names, target="label", **sizes)
    copied = make(frame, features=names, target="label", **sizes)
    spin = torch.zeros(1000, 1000, device="cuda")
    for _ in range(3):
        found = []
        for x, y in copied.torch("cuda", prefetch=prefetch):
            assert x.is_cuda
            assert y.is_cuda
            spin = spin @ spin  # work that the copies overlap with
            found.append(torch.cat([x, y], 1) + spin[0, 0])
        torch.cuda.synchronize()
        for (x, y), both in zip(plain.torch(), found, strict=True):
            assert torch.equal(torch.cat([x, y], 1), both.cpu())


@cuda
def test_memory_is_that_of_the_first_epochs(frame: rf.Frame) -> None:
    batches = make(frame, batch_size=4).torch("cuda")
    taken = []
    for _ in range(40):  # PyTorch has 32 streams, each with memory of its own
        for x in batches:
            x.add_(1)
        torch.cuda.synchronize()
        taken.append(torch.cuda.memory_reserved())
    assert taken[-1] == taken[2]


@cuda
def test_copies_do_not_pile_up() -> None:
    image = {"image": np.zeros((300, 512, 512), np.float32)}  # of a megabyte each
    loader = rf.Loader(image, 1, {"image": rf.array("image")}, memory="1 GB", shuffle=False)
    before = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    for _ in loader.torch("cuda"):
        torch.cuda._sleep(10_000_000)  # some milliseconds, of which nobody waits for the end
    assert torch.cuda.max_memory_reserved() - before < 100e6
    torch.cuda.synchronize()


@cuda
def test_a_graph_is_captured_meanwhile(frame: rf.Frame, sizes: dict[str, int]) -> None:
    for resident in (False, True):
        for x in make(frame, **sizes).torch("cuda", resident=resident):
            graph, into = torch.cuda.CUDAGraph(), torch.zeros_like(x)
            with torch.cuda.graph(graph):  # which other threads disturb, too
                time.sleep(0.002)
                twice = 2 * into
            into.copy_(x)
            graph.replay()
            assert torch.equal(twice, 2 * x)


@cuda
def test_memory_is_page_locked(frame: rf.Frame) -> None:
    for x in make(frame).torch(pin_memory=True):
        assert x.is_pinned()
        assert not x.is_cuda


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("options", [{"device": "cuda"}, {"pin_memory": True}])
def test_without_a_gpu_torch_says_so(frame: rf.Frame, options: dict[str, Any]) -> None:
    with pytest.raises((RuntimeError, AssertionError, ArgumentError)):
        next(iter(make(frame).torch(**options)))
