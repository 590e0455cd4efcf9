"""Rows that stay on a device: the same rows in the same batches as from files."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.errors import ArgumentError, MixingWarning, NotFiniteError, NotFiniteWarning
from samples import write_columns

torch = pytest.importorskip("torch")
from torch.utils.data import DataLoader  # noqa: E402  # torch may be missing

ENTRIES = 6000
SIZES: dict[str, dict[str, Any]] = {
    "in memory": {"memory": "100 MB"},
    "window": {"chunk_entries": 1500, "block_entries": 90},
}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
    ),
]
CASES: dict[str, dict[str, Any]] = {
    "columns": {"features": ["a", "id"], "target": "label", "weights": "w"},
    "integers": {"features": ["id"], "dtype": "int64", "target": "label", "target_dtype": "uint32"},
    "vectors": {
        "features": {
            "all": rf.ragged(["v", "u"]),
            "first": rf.padded(["v"], length=3),
            "event": ["a"],
            "fixed": rf.array("m"),
        },
        "target": "label",
    },
    "ragged alone": {"features": {"all": rf.ragged(["v"])}},
    "balanced": {"features": ["id"], "target": "label", "sampling": rf.balanced("label")},
    "longest": {
        "features": ["id"],
        "target": "label",
        "sampling": rf.balanced("label", epoch="longest"),
    },
    "in order": {"features": ["id"], "shuffle": False},
    "virtual": {"features": ["id"], "epoch": 13},
    "of many": {"features": ["id"], "rank": 1, "world_size": 3, "tail": "pad"},
    "dropped": {"features": ["id"], "drop_last": True},
}

pytestmark = pytest.mark.filterwarnings("ignore:.*that were cut to 3 elements:UserWarning")


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    folder, random = tmp_path_factory.mktemp("resident"), np.random.default_rng(1)
    for number in range(3):
        size = ENTRIES // 3
        lengths = random.integers(0, 6, size)
        columns = {
            "a": random.normal(size=size).astype("f4"),
            "w": random.uniform(0, 2, size),
            "id": np.arange(size) + number * size,
            "label": random.choice(3, size, p=[0.1, 0.3, 0.6]).astype("i4"),
            "v": ak.unflatten(random.normal(size=lengths.sum()).astype("f4"), lengths),
            "u": ak.unflatten(random.normal(size=lengths.sum()), lengths),
            "m": random.normal(size=(size, 2, 2)).astype("f4"),
        }
        with uproot.recreate(folder / f"{number}.root") as file:
            types: dict[str, Any] = {
                name: "var * " + str(column.type.content.content)
                if isinstance(column, ak.Array)
                else (column.dtype, column.shape[1:])
                for name, column in columns.items()
            }
            file.mktree("events", types)
            for start in range(0, size, 100):
                file["events"].extend(
                    {name: column[start : start + 100] for name, column in columns.items()}
                )
    return rf.open(f"{folder}/*.root:events").filter("a > -1.5")


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    return rf.Loader(frame, **{"batch_size": 64, "seed": 5, "threads": 2} | options)


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return list(ours) == list(theirs) and all(same(ours[name], theirs[name]) for name in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    ours = ours.cpu()
    return (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape) and torch.equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("case", CASES)
def test_batches_are_those_from_files(frame: rf.Frame, case: str, sizes: str, device: str) -> None:
    options = CASES[case] | SIZES[sizes]
    plain = make(frame, **options)
    assert plain.in_memory == (sizes == "in memory")
    batches, resident = plain.torch(), make(frame, **options).torch(device, resident=True)
    assert len(resident) == len(batches)
    for _ in range(2):
        assert same(list(resident), list(batches))
    if case == "of many":
        return
    for ours, theirs in zip(resident.split(0.3), batches.split(0.3), strict=True):
        assert same(list(ours), list(theirs))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("case", ["vectors", "longest", "virtual"])
def test_states_are_those_of_the_loader(frame: rf.Frame, case: str, sizes: str) -> None:
    options = CASES[case] | SIZES[sizes]
    resident = make(frame, **options).torch(resident=True)
    list(resident)
    batches = iter(resident)
    for _ in range(5):
        next(batches)
    state = resident.state_dict()
    rest = [list(batches), list(resident)]
    for again in (make(frame, **options).torch(), make(frame, **options).torch(resident=True)):
        again.load_state_dict(state)
        assert same([list(again), list(again)], rest)


@pytest.mark.parametrize("sizes", SIZES)
def test_another_number_of_ranks_goes_on(frame: rf.Frame, sizes: str) -> None:
    def loader(rank: int, world_size: int) -> rf.Loader:
        return make(
            frame, features=["id"], dtype="int64", rank=rank, world_size=world_size, **SIZES[sizes]
        )

    first = loader(0, 1).torch(resident=True)
    batches = iter(first)
    begun = [next(batches) for _ in range(20)]
    state = first.state_dict()
    rest: list[Any] = []
    for rank in range(2):
        plain, resident = loader(rank, 2).torch(), loader(rank, 2).torch(resident=True)
        for each in (plain, resident):
            each.load_state_dict(state)
        mine = list(resident)
        assert same(mine, list(plain))
        rest += mine
    seen = torch.cat([*begun, *rest])[:, 0].tolist()
    assert len(seen) == len(set(seen)) >= frame.num_entries - ENTRIES // 10


class Halves(rf.Sampler):
    """Offers every second entry, another half in each epoch."""

    def offers(self, entries: Any) -> Any:
        return (entries.numbers + entries.epoch) % 2 == 0


@pytest.mark.parametrize("sizes", SIZES)
def test_what_a_sampler_offers(frame: rf.Frame, sizes: str) -> None:
    options = {"features": ["id"], "sampling": Halves(), **SIZES[sizes]}
    plain, resident = make(frame, **options).torch(), make(frame, **options).torch(resident=True)
    for _ in range(3):
        assert same(list(resident), list(plain))


def test_each_batch_belongs_to_the_caller(frame: rf.Frame) -> None:
    resident = make(frame, features=["id"]).torch(resident=True)
    first = [x.clone() for x in resident]
    resident.set_epoch(0)
    for x, before in zip(resident, first, strict=True):
        assert torch.equal(x, before)
        x += 1
    resident.set_epoch(0)
    assert same(list(resident), first)


def test_a_change_of_one_batch_is_none_of_another(frame: rf.Frame) -> None:
    weight = torch.ones(1, requires_grad=True)
    one, two, *_ = make(frame, features=["id"]).torch(resident=True)
    loss = (one @ weight).sum()
    two += 1  # PyTorch tells who has changed what a gradient needs
    loss.backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, one.sum(0))


@pytest.mark.parametrize("case", ["columns", "vectors"])
def test_batches_of_one_epoch_are_evaluated_and_trained_with(frame: rf.Frame, case: str) -> None:
    weight = torch.ones(1, requires_grad=True)
    batches = iter(make(frame, **CASES[case]).torch(resident=True))
    with torch.inference_mode():
        next(batches)
    for batch in batches:
        (_arrays(batch)[-1] * weight).sum().backward()


def test_rows_go_with_what_holds_them(frame: rf.Frame) -> None:
    gc.collect()
    gc.disable()  # it knows nothing of how full a device is
    try:
        for case in ("columns", "virtual"):
            loader = make(frame, **CASES[case])
            resident = loader.torch(resident=True)
            list(resident)
            rows = weakref.ref(resident._reader._rows)
            del resident
            assert rows() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_are_for_the_stream_of_whoever_asks(frame: rf.Frame) -> None:
    plain = iter(make(frame, features=["id"]).torch())
    resident = make(frame, features=["id"]).torch("cuda", resident=True)
    list(resident)
    resident.set_epoch(0)
    batches = iter(resident)
    streams = [torch.cuda.Stream() for _ in range(2)]
    with torch.cuda.stream(streams[0]):
        torch.cuda._sleep(500_000_000)  # so that nothing is gathered before others ask
        next(batches)
    next(plain)
    with torch.cuda.stream(streams[1]):
        found = [x.clone() for x in batches]
    torch.cuda.synchronize()
    assert same(found, list(plain))


def test_files_are_read_once(frame: rf.Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    from rootfeed import sources

    resident = make(frame, features=["id"], **SIZES["window"]).torch(resident=True)
    read, count = sources.read, [0]

    def counting(*arguments: Any) -> Any:
        count[0] += 1
        return read(*arguments)

    monkeypatch.setattr(sources, "read", counting)
    list(resident)
    assert count[0] > 0
    before = count[0]
    list(resident)
    assert count[0] == before


@pytest.mark.parametrize("case", ["columns", "vectors"])
def test_rows_take_no_more_than_they_may(frame: rf.Frame, case: str) -> None:
    loader = make(frame, **CASES[case])
    fits = sum(x.nbytes for x in _arrays(next(iter(make(frame, **CASES[case], shuffle=False)))))
    many = f"{fits * ENTRIES // 64 * 2}"
    assert len(list(loader.torch(resident=int(many)))) == len(loader)
    few = fits * loader.num_rows // 64 * 3 // 4
    with pytest.raises(ArgumentError, match=r"rows take .* on cpu.* are allowed\. Leave resident= out"):
        next(iter(loader.torch(resident=few)))
    with pytest.raises(ArgumentError, match="resident must look like"):
        loader.torch(resident="much")


def _arrays(batch: Any) -> Sequence[Any]:
    if isinstance(batch, dict):
        batch = tuple(batch.values())
    if not isinstance(batch, tuple):
        return [batch]
    return [array for each in batch for array in _arrays(each)]


def test_workers_are_refused(frame: rf.Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = make(frame, features=["id"]).torch(resident=True)
    assert same(list(DataLoader(resident, batch_size=None)), list(make(frame, features=["id"]).torch()))
    monkeypatch.setattr("rootfeed.loader.resident.get_worker_info", lambda: SimpleNamespace(id=0))
    with pytest.raises(ArgumentError, match="need no workers"):
        iter(resident)


def test_it_can_be_sent(frame: rf.Frame) -> None:
    resident = make(frame, features=["id"]).torch(resident=True)
    first = list(resident)
    twin = pickle.loads(pickle.dumps(resident))
    twin.set_epoch(0)
    assert same(list(twin), first)


def test_values_that_are_no_numbers_are_told(tmp_path: Path) -> None:
    columns = {"x": np.where(np.arange(500) == 7, np.nan, np.arange(500)).astype("f4")}
    write_columns(tmp_path / "data.root", columns, 100, "TTree")
    path = f"{tmp_path}/data.root:events"
    with pytest.warns(NotFiniteWarning, match="1 values"):
        list(rf.Loader(path, 50, seed=1).torch(resident=True))
    resident = rf.Loader(path, 50, seed=1, nonfinite="error").torch(resident=True)
    for _ in range(2):  # also the second time: nothing that was copied in part is believed
        with pytest.raises(NotFiniteError):
            list(resident)


def test_labels_in_an_order_are_told_of(tmp_path: Path) -> None:
    size = 60_000
    columns = {
        "x": np.random.default_rng(0).normal(size=size).astype("f4"),
        "label": (np.arange(size) * 4 // size).astype("i4"),
    }
    write_columns(tmp_path / "data.root", columns, 500, "TTree")
    options: dict[str, Any] = {"target": "label", "seed": 1, "memory": "100 kB"}
    texts = []
    for resident in (False, True):
        loader = rf.Loader(f"{tmp_path}/data.root:events", 64, ["x"], **options)
        with pytest.warns(MixingWarning) as told:
            next(iter(loader.torch(resident=resident)))
        texts.append([str(each.message) for each in told])
    assert texts[0] == texts[1]
