"""What every format of batches keeps to. A new format adds one row to `FORMATS`."""

from __future__ import annotations

import builtins
import itertools
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError, PrecisionWarning
from samples import File, in_a_row, open_events, values, write_all


@dataclass(frozen=True)
class Format:
    """How a format is asked for, and what is expected of it.

    Attributes
    ----------
    name : str
    module : str
        What has to be installed.
    wrap : function of a loader
        Returns what is iterated over.
    kind : function
        Returns the type of the arrays.
    shares : bool
        Whether the arrays share memory with those that were gathered.
    """

    name: str
    module: str
    wrap: Callable[[rf.Loader], Any]
    kind: Callable[[], type]
    shares: bool = True

    def __str__(self) -> str:
        return self.name


def torch_tensor() -> type:
    import torch

    return torch.Tensor


FORMATS = [
    Format("numpy", "numpy", lambda loader: loader, lambda: np.ndarray),
    Format("torch", "torch", lambda loader: loader.torch(), torch_tensor),
    Format("torch on a device", "torch", lambda loader: loader.torch(device="cpu"), torch_tensor),
]

ENTRIES = 1300
SIZES = [{}, {"chunk_entries": 300, "block_entries": 40}]


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    files = in_a_row(File(800, page=90), File(500, page=170, format="RNTuple"))
    return open_events(write_all(tmp_path_factory.mktemp("formats"), files))


@pytest.fixture(params=FORMATS, ids=str)
def format_(request: pytest.FixtureRequest) -> Format:
    pytest.importorskip(request.param.module)
    return request.param


@pytest.fixture(params=SIZES, ids=["kept", "lazy"])
def sizes(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def make(frame: rf.Frame, sizes: dict[str, Any], **changes: Any) -> rf.Loader:
    settings: dict[str, Any] = {"batch_size": 64, "features": ["id", "half", "code"], "seed": 3}
    return rf.Loader(frame, **(settings | sizes | changes))


def parts(batch: Any) -> tuple[Any, ...]:
    return batch if isinstance(batch, tuple) else (batch,)


def ids_of(batches: Any) -> np.ndarray:
    return np.concatenate([np.asarray(parts(batch)[0])[:, 0] for batch in batches]).astype(int)


STRUCTURES = [
    ({}, [3]),
    ({"target": "label"}, [3, 1]),
    ({"target": ["label", "flag"]}, [3, 2]),
    ({"target": ["label", "flag"], "weights": "weight"}, [3, 2, 1]),
]


@pytest.mark.parametrize(("options", "widths"), STRUCTURES)
def test_structure(
    frame: rf.Frame,
    format_: Format,
    sizes: dict[str, Any],
    options: dict[str, Any],
    widths: list[int],
) -> None:
    batches = list(format_.wrap(make(frame, sizes, **options)))
    assert len(batches) == 21
    for batch in batches:
        assert isinstance(batch, tuple) == (len(widths) > 1)
        assert len({len(part) for part in parts(batch)}) == 1
        assert [part.shape[1] for part in parts(batch)] == widths
        assert all(type(part) is format_.kind() for part in parts(batch))
    assert [len(parts(batch)[0]) for batch in batches] == [64] * 20 + [20]


@pytest.mark.parametrize(
    ("dtype", "target_dtype"),
    [
        ("float32", "float32"),
        ("float64", "int64"),
        ("float32", "int32"),
        ("float64", "int16"),
        ("float32", "uint8"),
        ("float64", "float16"),
        ("float32", "int8"),
        ("float32", "uint16"),
        ("float32", "uint32"),
        ("float32", "uint64"),
    ],
)
def test_dtypes_and_values_are_those_of_numpy(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any], dtype: str, target_dtype: str
) -> None:
    options = {
        "target": ["label", "flag"],
        "weights": "weight",
        "dtype": dtype,
        "target_dtype": target_dtype,
    }
    reference = make(frame, sizes, **options)
    formatted = format_.wrap(make(frame, sizes, **options))
    for _ in range(2):
        for batch, expected in zip(formatted, reference, strict=True):
            for part, array in zip(batch, expected, strict=True):
                found = np.asarray(part)
                assert found.dtype == array.dtype
                assert str(part.dtype).rpartition(".")[2] == str(array.dtype)
                assert np.array_equal(found, array)
            ids = np.asarray(batch[0])[:, 0].astype(int)
            assert np.array_equal(np.asarray(batch[0])[:, 2], values("code", ids))
            assert np.array_equal(np.asarray(batch[1])[:, 0], values("label", ids))


def test_batches_are_contiguous_and_writable(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any]
) -> None:
    for batch in format_.wrap(make(frame, sizes, target="label", weights="weight")):
        for part in batch:
            array = np.asarray(part)
            assert array.flags.c_contiguous
            assert array.flags.writeable


def test_batches_are_independent(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    formatted = format_.wrap(make(frame, sizes, target="label", weights="weight"))
    batches, copies = [], []
    for batch in formatted:
        batches.append(batch)
        copies.append([np.asarray(part).copy() for part in batch])
    for _ in formatted:
        pass
    arrays = [np.asarray(part) for batch in batches for part in batch]
    kept = [part for copied in copies for part in copied]
    for array, copy in zip(arrays, kept, strict=True):
        assert np.array_equal(array, copy)
    for a, b in itertools.combinations(arrays, 2):
        assert not np.may_share_memory(a, b)


def test_gathered_arrays_are_not_copied(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootfeed import kernels

    if not format_.shares:
        pytest.skip("this format copies")
    gathered: list[np.ndarray] = []
    gather = kernels.gather

    def remembered(rows: Any, order: Any, offsets: Any, outs: Any) -> None:
        gathered.extend(outs)
        gather(rows, order, offsets, outs)

    monkeypatch.setattr(kernels, "gather", remembered)
    for batch in format_.wrap(make(frame, sizes, target="label", weights="weight")):
        for part in batch:
            assert any(np.shares_memory(np.asarray(part), array) for array in gathered)


def test_every_loop_is_a_new_epoch(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    reference = make(frame, sizes)
    epochs = [ids_of(reference) for _ in range(3)]
    loader = make(frame, sizes)
    for epoch in range(3):
        # Asked for anew each time, as a loop over epochs does.
        assert np.array_equal(ids_of(format_.wrap(loader)), epochs[epoch])
    for a, b in itertools.combinations(epochs, 2):
        assert not np.array_equal(a, b)
        assert np.array_equal(np.sort(a), np.sort(b))
    kept = format_.wrap(make(frame, sizes))
    for epoch in range(3):
        assert np.array_equal(ids_of(kept), epochs[epoch])
    kept.set_epoch(1)
    assert np.array_equal(ids_of(kept), epochs[1])
    with pytest.raises(ArgumentError):
        kept.set_epoch(-1)


def test_formats_of_one_loader_count_the_same_epochs(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any]
) -> None:
    reference = make(frame, sizes)
    epochs = [ids_of(reference) for _ in range(3)]
    loader = make(frame, sizes)
    one, two = format_.wrap(loader), format_.wrap(loader)
    assert np.array_equal(ids_of(one), epochs[0])
    assert np.array_equal(ids_of(two), epochs[1])
    assert np.array_equal(ids_of(loader), epochs[2])


@pytest.mark.parametrize("drop_last", [True, False])
def test_length(frame: rf.Frame, format_: Format, sizes: dict[str, Any], drop_last: bool) -> None:
    formatted = format_.wrap(make(frame, sizes, drop_last=drop_last))
    assert len(formatted) == len(list(formatted)) == 20 + (not drop_last)


def test_split(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    sides = format_.wrap(make(frame, sizes)).split(0.25)
    found = [ids_of(side) for side in sides]
    assert sorted(np.concatenate(found).tolist()) == list(range(ENTRIES))
    for side, expected in zip(sides, make(frame, sizes).split(0.25), strict=True):
        side.set_epoch(0)
        assert np.array_equal(ids_of(side), ids_of(expected))
        first = parts(next(iter(side)))[0]
        assert type(first) is format_.kind()


def test_several_iterators_at_once(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    reference = make(frame, sizes)
    epochs = [ids_of(reference) for _ in range(2)]
    formatted = format_.wrap(make(frame, sizes))
    pairs = list(zip(formatted, formatted, strict=True))
    assert np.array_equal(ids_of(pair[0] for pair in pairs), epochs[0])
    assert np.array_equal(ids_of(pair[1] for pair in pairs), epochs[1])


def test_altered_values_are_reported(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    with pytest.warns(PrecisionWarning, match="column 'event'") as caught:
        for _ in format_.wrap(make(frame, sizes, features=["event"])):
            pass
    (altered,) = (each for each in caught if each.category is PrecisionWarning)
    assert altered.filename == __file__


def test_pickling(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    # What a spawned worker gets.
    formatted = format_.wrap(make(frame, sizes))
    ids_of(formatted)
    copy = pickle.loads(pickle.dumps(formatted))
    batches = list(copy)
    assert type(parts(batches[0])[0]) is format_.kind()
    assert np.array_equal(ids_of(batches), ids_of(formatted))


def test_repr(frame: rf.Frame, format_: Format) -> None:
    assert f"{ENTRIES} rows" in repr(format_.wrap(make(frame, {})))


# --- torch alone ----------------------------------------------------------------------------------


def test_a_gradient_step(frame: rf.Frame, sizes: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    loader = make(frame, sizes, features=["half", "code"], target="label", weights="weight")
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-12)
    losses = []
    for _ in range(3):
        for x, y, w in loader.torch():
            optimizer.zero_grad()
            loss = (w.abs() * (model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item() * len(x))
            # The batch is the caller's own, in-place changes included.
            x.mul_(0)
    assert len(losses) == 3 * len(loader)
    assert np.isfinite(losses).all()
    assert np.mean(losses[-21:]) < np.mean(losses[:21])


def test_torch_devices(frame: rf.Frame) -> None:
    torch = pytest.importorskip("torch")
    loader = make(frame, {}, target="label")
    x, y = next(iter(loader.torch(device=torch.device("meta"))))
    assert (x.device.type, y.device.type) == ("meta", "meta")
    x, y = next(iter(loader.torch(device=torch.device("cpu"))))
    assert (x.device.type, y.device.type) == ("cpu", "cpu")
    assert next(iter(loader.torch()))[0].is_contiguous()


def test_a_framework_that_is_not_installed(frame: rf.Frame, monkeypatch: pytest.MonkeyPatch) -> None:
    import_ = builtins.__import__

    def without_torch(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return import_(name, *arguments, **options)

    # As if nobody had asked for it before.
    monkeypatch.delitem(sys.modules, "rootfeed.formats.torch", raising=False)
    monkeypatch.delattr("rootfeed.formats.torch", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(ArgumentError) as caught:
        make(frame, {}).torch()
    assert "pip install 'rootfeed[torch]'" in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)


def test_pages_are_not_read_by_wrapping(frame: rf.Frame, tmp_path: Path, format_: Format) -> None:
    # Only iterating costs anything, and one that never starts leaves no thread.
    loader = make(frame, {})
    formatted = format_.wrap(loader)
    iter(formatted)
    assert loader._pipeline.reader._whole is None
