"""What every format of batches keeps to. A new format adds one row to `FORMATS`."""

from __future__ import annotations

import itertools
import json
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from chosen import in_turns
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
    writable : bool
        Whether a batch may be changed.
    plain : bool
        Whether it is a dataset of the framework's alone, which has no method of ours.
    """

    name: str
    module: str
    wrap: Callable[[rf.Loader], Any]
    kind: Callable[[], type]
    writable: bool = True
    plain: bool = False

    def __str__(self) -> str:
        return self.name


def torch_tensor() -> type:
    import torch

    return torch.Tensor


def tensorflow_tensor() -> type:
    import tensorflow

    return type(tensorflow.constant(0))


def jax_array() -> type:
    import jax

    return type(jax.numpy.zeros(1))


FORMATS = [
    Format("numpy", "numpy", lambda loader: loader, lambda: np.ndarray),
    Format("torch", "torch", lambda loader: loader.torch(), torch_tensor),
    Format("torch on a device", "torch", lambda loader: loader.torch(device="cpu"), torch_tensor),
    Format(
        "tensorflow", "tensorflow", lambda loader: loader.tensorflow(), tensorflow_tensor, False, True
    ),
    Format("keras", "keras", lambda loader: loader.keras(), lambda: np.ndarray),
    Format("jax", "jax", lambda loader: loader.jax(), jax_array, False),
]

ENTRIES = 1300
SIZES = [{}, {"chunk_entries": 300, "block_entries": 40}]


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    files = in_a_row(File(800, page=90), File(500, page=170, format="RNTuple"))
    return open_events(write_all(tmp_path_factory.mktemp("formats"), files))


@pytest.fixture(params=FORMATS, ids=str)
def format_(request: pytest.FixtureRequest) -> Iterator[Format]:
    framework = pytest.importorskip(request.param.module)
    if request.param.name != "jax":
        yield request.param
        return
    framework.config.update("jax_enable_x64", True)
    yield request.param
    framework.config.update("jax_enable_x64", False)


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


DTYPES = [
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
]
#: Of each pair a few, with formats and memory in turns.
ALWAYS = [
    f"{format_}-{('kept', 'lazy')[number % 2]}-{dtype}-{target_dtype}"
    for number, (dtype, target_dtype) in enumerate(DTYPES)
    for place, format_ in enumerate(FORMATS)
    if (number + place) % 3 == 0
]


@pytest.mark.thorough(but=ALWAYS)
@pytest.mark.parametrize(("dtype", "target_dtype"), DTYPES)
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
                assert str(getattr(part.dtype, "name", part.dtype)).rpartition(".")[2] == str(
                    array.dtype
                )
                assert np.array_equal(found, array)
            ids = np.asarray(batch[0])[:, 0].astype(int)
            assert np.array_equal(np.asarray(batch[0])[:, 2], values("code", ids))
            assert np.array_equal(np.asarray(batch[1])[:, 0], values("label", ids))


def test_batches_are_contiguous_and_writable(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any]
) -> None:
    # And begin where frameworks, and vector instructions, like it.
    for batch in format_.wrap(make(frame, sizes, target="label", weights="weight")):
        for part in batch:
            array = np.asarray(part)
            assert array.flags.c_contiguous
            assert array.flags.writeable or not format_.writable


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

    gathered: list[np.ndarray] = []
    gather = kernels.gather

    def remembered(rows: Any, order: Any, offsets: Any, outs: Any) -> None:
        gathered.extend(outs)
        gather(rows, order, offsets, outs)

    monkeypatch.setattr(kernels, "gather", remembered)
    # Of a size that suits the alignment, and of others: there may be gaps between batches.
    for size in (64, 50, 7):
        gathered.clear()
        seen = 0
        for batch in format_.wrap(make(frame, sizes, batch_size=size, target="label", weights="weight")):
            seen += 1
            for part in map(np.asarray, batch):
                assert part.ctypes.data % 64 == 0
                if not (format_.plain and size != 64):  # TensorFlow's slices of these are copies
                    assert any(np.shares_memory(part, array) for array in gathered)
        assert seen == -(-ENTRIES // size)


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
    if format_.plain:
        return
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
    loaders = make(frame, sizes).split(0.25)
    sides = [format_.wrap(side) for side in loaders]
    if not format_.plain:
        sides = format_.wrap(make(frame, sizes)).split(0.25)
        loaders = [side if format_.name == "numpy" else side.loader for side in sides]
    found = [ids_of(side) for side in sides]
    assert sorted(np.concatenate(found).tolist()) == list(range(ENTRIES))
    for side, mine, expected in zip(sides, loaders, make(frame, sizes).split(0.25), strict=True):
        mine.set_epoch(0)
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
    assert altered.filename == __file__ or format_.plain  # where a thread of the framework's asks


def test_pickling(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    # What a spawned worker gets.
    if format_.plain:
        pytest.skip("no dataset of this framework can be pickled")
    formatted = format_.wrap(make(frame, sizes))
    ids_of(formatted)
    copy = pickle.loads(pickle.dumps(formatted))
    batches = list(copy)
    assert type(parts(batches[0])[0]) is format_.kind()
    assert np.array_equal(ids_of(batches), ids_of(formatted))


def test_repr(frame: rf.Frame, format_: Format) -> None:
    assert f"{ENTRIES} rows" in repr(format_.wrap(make(frame, {}))) or format_.plain


# --- vectors, and dicts of inputs -----------------------------------------------------------------


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    random = np.random.default_rng(4)
    count = random.integers(0, 9, ENTRIES)
    path = tmp_path_factory.mktemp("vectors") / "vectors.root"
    with uproot.recreate(path) as file:
        file["events"] = {
            "id": np.arange(ENTRIES),
            "met": random.normal(size=ENTRIES),
            "label": random.integers(0, 3, ENTRIES),
            "weight": random.uniform(0.5, 2, ENTRIES),
            "pt": ak.unflatten(random.exponential(30, count.sum()).astype("f4"), count),
        }
    return rf.open(f"{path}:events")


def leaves(batch: Any) -> dict[str, Any]:
    """The arrays of a batch by their names; of a ragged tensor its values and offsets."""
    found = {}
    for name, part in zip(("x", "y", "w"), parts(batch), strict=False):
        for key, array in part.items() if isinstance(part, dict) else [(name, part)]:
            if hasattr(array, "row_splits"):
                found |= {key: array.values, f"{key}_offsets": array.row_splits}
            else:
                found[key] = array
    return {key: np.asarray(array) for key, array in found.items()}


@pytest.mark.thorough(but=in_turns(FORMATS, ["kept", "lazy"], ["padded", "ragged", "both"], [64, 50]))
@pytest.mark.parametrize("batch_size", [64, 50])
@pytest.mark.parametrize("kind", ["padded", "ragged", "both"])
def test_dicts_of_inputs_with_vectors(
    vectors: rf.Frame, format_: Format, sizes: dict[str, Any], kind: str, batch_size: int
) -> None:
    features: dict[str, Any] = {"event": ["id", "met"]}
    if kind != "ragged":
        features["jets"] = rf.padded(["pt"], 5)
    if kind != "padded":
        features["tracks"] = rf.ragged(["pt"])
    options = {
        "features": features,
        "target": "label",
        "weights": "weight",
        "target_dtype": "int64",
        "batch_size": batch_size,
    }
    reference = make(vectors, sizes, **options)
    formatted = format_.wrap(make(vectors, sizes, **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vectors are cut
        for _ in range(2):
            for batch, expected in zip(formatted, reference, strict=True):
                found, wanted = leaves(batch), leaves(expected)
                assert list(found) == list(wanted)
                for key, array in wanted.items():
                    assert found[key].dtype == array.dtype
                    assert np.array_equal(found[key], array), key
                    assert found[key].ctypes.data % 64 == array.ctypes.data % 64 == 0, key


# --- sides without batches, and states ------------------------------------------------------------


def test_a_rank_without_batches(frame: rf.Frame, format_: Format) -> None:
    loader = make(frame.range(3), {}, rank=4, world_size=5, tail="uneven")
    formatted = format_.wrap(loader)
    assert len(formatted) == len(loader) == 0
    assert list(formatted) == []


@pytest.mark.thorough(but=in_turns(FORMATS, ["kept", "lazy"], [0, 1, 7, 20]))
@pytest.mark.parametrize("done", [0, 1, 7, 20])
def test_a_state_in_the_middle_of_an_epoch(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any], done: int
) -> None:
    reference = make(frame, sizes)
    whole = [ids_of([batch]) for _ in range(3) for batch in reference]
    loader = make(frame, sizes)
    iterator = iter(format_.wrap(loader))
    for batch, expected in zip(itertools.islice(iterator, done), whole, strict=False):
        assert np.array_equal(ids_of([batch]), expected)
    # TensorFlow asks for some batches ahead.
    state = json.loads(json.dumps(loader.state_dict(used=done if done and format_.plain else None)))
    del iterator
    other = make(frame, sizes)
    other.load_state_dict(state)
    formatted = format_.wrap(other)
    rest = [ids_of([batch]) for batch in formatted]
    # A dataset whose length is asked for once has always as many batches.
    assert len(rest) == (21 if format_.plain else 21 - done)
    rest += [ids_of([batch]) for batch in formatted]
    for found, expected in zip(rest, whole[done:], strict=False):
        assert np.array_equal(found, expected)


def test_a_state_at_the_end_of_an_epoch(frame: rf.Frame, format_: Format, sizes: dict[str, Any]) -> None:
    reference = make(frame, sizes)
    epochs = [ids_of(reference) for _ in range(2)]
    loader = make(frame, sizes)
    assert np.array_equal(ids_of(format_.wrap(loader)), epochs[0])
    other = make(frame, sizes)
    other.load_state_dict(loader.state_dict())
    assert np.array_equal(ids_of(format_.wrap(other)), epochs[1])


@pytest.mark.thorough(but=in_turns(FORMATS, ["kept", "lazy"], [5, 30]))
@pytest.mark.parametrize("batches", [5, 30])
def test_epochs_of_a_number_of_batches(
    frame: rf.Frame, format_: Format, sizes: dict[str, Any], batches: int
) -> None:
    reference = make(frame, sizes, epoch=batches)
    formatted = format_.wrap(make(frame, sizes, epoch=batches))
    assert len(formatted) == batches
    for _ in range(3):
        assert np.array_equal(ids_of(formatted), ids_of(reference))


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


@pytest.mark.parametrize(
    ("framework", "name"),
    [("torch", "PyTorch"), ("tensorflow", "TensorFlow"), ("jax", "JAX"), ("keras", "Keras")],
)
def test_a_framework_that_is_not_installed(
    frame: rf.Frame, monkeypatch: pytest.MonkeyPatch, framework: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(ArgumentError) as caught:
        getattr(make(frame, {}), framework)()
    assert f"need {name}, which is not installed: pip install 'rootfeed[{framework}]'" in str(
        caught.value
    )
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_framework_that_cannot_be_imported_says_why(
    frame: rf.Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Keras without its backend, for example.
    (tmp_path / "keras.py").write_text("import nothing_of_this_name")
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
        make(frame, {}).keras()


def test_pages_are_not_read_by_wrapping(frame: rf.Frame, tmp_path: Path, format_: Format) -> None:
    # Only iterating costs anything, and one that never starts leaves no thread.
    loader = make(frame, {})
    formatted = format_.wrap(loader)
    iter(formatted)
    assert loader._pipeline.reader._whole is None
