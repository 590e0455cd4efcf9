"""A loader as `tf.data.Dataset`: its specification, in graphs, in `fit`, and under strategies."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

import rootfeed as rf
from rootfeed.errors import ArgumentError, StateError
from samples import File, in_a_row, open_events, write_all

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

BATCH = 64  # 21 batches, the last of 20 rows
ENTRIES = 1300
SIZES = {"in memory": {}, "lazy": {"chunk_entries": 300, "block_entries": 40}}

fits = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Keras has another backend: KERAS_BACKEND=tensorflow"
)


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    return SIZES[request.param]


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    settings: dict[str, Any] = {"batch_size": BATCH, "features": ["id"], "target": "label", "seed": 3}
    return rf.Loader(frame, **(settings | options))


def ids(batch: Any) -> list[int]:
    return np.asarray(batch[0])[:, 0].astype(int).tolist()


def epochs(frame: rf.Frame, count: int, **options: Any) -> list[list[list[int]]]:
    loader = make(frame, **options)
    return [list(map(ids, loader)) for _ in range(count)]


class Growing(rf.Sampler):
    """Offers half of the entries in the first epoch, and all of them later."""

    def offers(self, entries: Any) -> Any:
        return entries.random() < (0.5 if entries.epoch == 0 else 2)


def test_epochs_of_different_lengths(frame: rf.Frame, sizes: dict[str, int]) -> None:
    dataset = make(frame, sampling=Growing(), **sizes).tensorflow()
    found = [list(map(ids, dataset)) for _ in range(3)]
    assert found == epochs(frame, 3, sampling=Growing(), **sizes)
    assert len(found[0]) < len(found[1]) == len(found[2]) == 21
    assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY


def test_specification(frame: rf.Frame, tmp_path: Path) -> None:
    spec = tf.TensorSpec
    dataset = make(frame).tensorflow()
    assert isinstance(dataset, tf.data.Dataset)
    assert dataset.element_spec == (spec((None, 1), tf.float32), spec((None, 1), tf.float32))
    assert len(dataset) == dataset.cardinality() == 21
    assert make(frame, target=None).tensorflow().element_spec == spec((None, 1), tf.float32)
    for size in (64, 50):
        dataset = make(frame, batch_size=size, drop_last=True).tensorflow()
        assert dataset.element_spec == (spec((size, 1), tf.float32), spec((size, 1), tf.float32))
        assert len(list(dataset)) == len(dataset) == ENTRIES // size
    counts = np.arange(100) % 7
    with uproot.recreate(tmp_path / "v.root") as file:
        file["events"] = {
            "met": np.arange(100),
            "pt": ak.unflatten(np.arange(counts.sum(), dtype="f4"), counts),
        }
    features = {
        "event": ["met"],
        "jets": rf.padded(["pt"], 4),
        "tracks": rf.ragged(["pt"]),
    }
    loader = rf.Loader(f"{tmp_path}/v.root:events", 32, features, "met", seed=1, target_dtype="int64")
    dataset = loader.tensorflow()
    x, y = dataset.element_spec
    assert y == spec((None, 1), tf.int64)
    assert x == {
        "event": spec((None, 1), tf.float32),
        "jets": spec((None, 4, 1), tf.float32),
        "jets_mask": spec((None, 4), tf.bool),
        "tracks": tf.RaggedTensorSpec((None, None, 1), tf.float32, ragged_rank=1),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # vectors are cut
        fulls = rf.Loader(
            f"{tmp_path}/v.root:events", 32, features, "met", seed=1, drop_last=True
        ).tensorflow()
        assert fulls.element_spec[0]["jets_mask"] == spec((32, 4), tf.bool)
        assert [batch["tracks"].shape[0] for batch, _ in fulls] == [32, 32, 32]
        for batch, y in dataset:
            assert dataset.element_spec[0]["tracks"].is_compatible_with(batch["tracks"])
            rows = y.numpy()[:, 0]
            assert batch["tracks"].row_lengths().numpy().tolist() == (rows % 7).tolist()
            assert batch["jets_mask"].numpy().sum(1).tolist() == np.minimum(rows % 7, 4).tolist()


def test_graphs(frame: rf.Frame, sizes: dict[str, int]) -> None:
    @tf.function
    def total(dataset: Any) -> Any:
        rows, sums = tf.constant(0), tf.constant(0.0)
        for x, _ in dataset:
            rows, sums = rows + tf.shape(x)[0], sums + tf.reduce_sum(x)
        return rows, sums

    dataset = make(frame, **sizes).tensorflow()
    for _ in range(2):
        assert [each.numpy() for each in total(dataset)] == [ENTRIES, ENTRIES * (ENTRIES - 1) / 2]


def test_what_users_do_with_datasets(frame: rf.Frame) -> None:
    expected = epochs(frame, 3)
    dataset = make(frame).tensorflow()
    twice = dataset.map(lambda x, y: (2 * x, y), num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)
    assert [ids((x / 2,)) for x, _ in twice] == expected[0]
    assert [ids(batch) for batch in dataset.unbatch().batch(BATCH)] == expected[1]
    assert [ids(batch) for batch in dataset.repeat(1)] == expected[2]
    assert len(list(make(frame).tensorflow().repeat(3))) == 63


def test_looking_at_a_batch_begins_no_epoch(frame: rf.Frame, sizes: dict[str, int]) -> None:
    expected = epochs(frame, 3, **sizes)
    loader = make(frame, **sizes)
    dataset = loader.tensorflow()
    for _ in range(3):
        assert list(map(ids, dataset.take(1))) == expected[0][:1]
    assert list(map(ids, dataset)) == expected[0]
    # An epoch that was left is over.
    assert list(map(ids, dataset.take(5))) == expected[1][:5]
    assert list(map(ids, dataset)) == expected[2]


def test_an_epoch_that_is_chosen(frame: rf.Frame) -> None:
    expected = epochs(frame, 4)
    loader = make(frame)
    dataset = loader.tensorflow()
    iterator = iter(dataset)
    next(iterator)
    loader.set_epoch(3)
    del iterator
    assert list(map(ids, dataset)) == expected[3]


def test_states_in_the_middle_must_be_told_how_far_it_is(frame: rf.Frame) -> None:
    expected = epochs(frame, 2)
    loader = make(frame)
    for number, _ in enumerate(loader.tensorflow(), 1):
        if number == 4:
            with pytest.raises(StateError, match=r"state_dict\(used=\.\.\.\)"):
                loader.state_dict()
            state = json.loads(json.dumps(loader.state_dict(used=number)))
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 0)
    with pytest.raises(ArgumentError, match="used=22, but only 21 batches were received"):
        loader.state_dict(used=22)
    other = make(frame)
    other.load_state_dict(state)
    assert list(map(ids, other)) == expected[0][4:]  # in another format, to the epoch's end


def test_an_error_says_what_was_wrong(frame: rf.Frame, tmp_path: Path) -> None:
    files = in_a_row(File(400, page=50))
    paths = write_all(tmp_path / "files", files)
    dataset = make(open_events(paths), chunk_entries=100, block_entries=20).tensorflow()
    Path(paths[0]).unlink()
    with pytest.raises(tf.errors.OpError, match=r"000\.root"):
        list(dataset)


def model_of(built: bool = True) -> Any:
    layers = [keras.Input((1,))] * built + [keras.layers.Rescaling(1e-3), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    return model


class Counting(keras.callbacks.Callback):
    """Counts steps, and rows by a metric."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1


@fits
@pytest.mark.parametrize("built", [True, False], ids=["built", "not built"])
def test_fit(frame: rf.Frame, sizes: dict[str, int], built: bool) -> None:
    train, test = make(frame, weights="weight", **sizes).split(0.25, seed=1)
    model, counting = model_of(built), Counting()
    dataset = train.tensorflow()
    history = model.fit(
        dataset,
        validation_data=test.tensorflow(),
        epochs=3,
        verbose=0,
        shuffle=False,
        callbacks=[counting],
    )
    assert counting.steps == 3 * len(train)
    assert np.isfinite(history.history["val_loss"]).all()
    # Three epochs were begun, and no other by looking at a batch.
    assert train.state_dict()["epoch"] == 3
    assert len(model.predict(test.tensorflow(), verbose=0)) == test.num_rows


@fits
def test_fit_goes_on_with_a_state(frame: rf.Frame, sizes: dict[str, int]) -> None:
    loader = make(frame, **sizes)
    for _ in zip(range(8), loader, strict=False):
        pass
    other = make(frame, **sizes)
    other.load_state_dict(loader.state_dict())
    model, counting = model_of(False), Counting()
    model.fit(other.tensorflow(), epochs=2, verbose=0, shuffle=False, callbacks=[counting])
    assert counting.steps == 42
    assert (other.state_dict()["epoch"], other.state_dict()["batches"]) == (2, 8)


STRATEGIES = """
    import sys
    import numpy as np
    import tensorflow as tf
    import keras
    import rootfeed as rf
    (paths,) = map(eval, sys.argv[1:])
    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    frame = rf.open(dict.fromkeys(paths, "events"))
    def make():
        return rf.Loader(frame, 64, ["id"], "label", seed=3)
    # Halves of each batch on each of two devices.
    parts = strategy.experimental_distribute_dataset(make().tensorflow())
    found = []
    for x, y in parts:
        halves = strategy.experimental_local_results(x)
        assert len(halves) == 2, halves
        found.append(np.concatenate([half.numpy()[:, 0] for half in halves]).astype(int).tolist())
    assert found == [x[:, 0].astype(int).tolist() for x, _ in make()], found
    with strategy.scope():
        layers = [keras.Input((1,)), keras.layers.Rescaling(1e-3), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse")
    train, test = make().split(0.25)
    history = model.fit(
        train.tensorflow(), validation_data=test.tensorflow(), epochs=2, verbose=0, shuffle=False
    )
    assert np.isfinite(history.history["val_loss"]).all()
    print("done")
"""


@fits
def test_strategies(frame: rf.Frame) -> None:
    from processes import run

    outcome = run(STRATEGIES, list(frame.files))
    assert outcome.code == 0, outcome.err
    assert outcome.lines[-1] == "done"


@pytest.mark.parametrize("size", [64, 130, 1300])
def test_states_in_mid_epoch_are_refused_until_the_last_batch(frame: rf.Frame, size: int) -> None:
    # Also where all batches are full, so that the last group is known to be the last.
    loader = make(frame, batch_size=size, drop_last=True)
    for number, _ in enumerate(loader.tensorflow(), 1):
        if number < len(loader):
            with pytest.raises(StateError, match="used"):
                loader.state_dict()
    assert (loader.state_dict()["epoch"], loader.state_dict()["batches"]) == (1, 0)


@fits
@pytest.mark.parametrize("eagerly", [False, True])
def test_epochs_of_one_batch_are_different_ones(frame: rf.Frame, eagerly: bool) -> None:
    loader = make(frame, batch_size=700, drop_last=True)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=eagerly)
    model.fit(loader.tensorflow(), epochs=5, shuffle=False, verbose=0)
    assert loader.state_dict()["epoch"] == 5


def test_an_old_iterator_that_goes_takes_nothing_back(frame: rf.Frame) -> None:
    expected = epochs(frame, 5)
    dataset = make(frame).tensorflow()
    looked = iter(dataset)
    next(looked)
    found = [list(map(ids, dataset)) for _ in range(2)]
    del looked
    found += [list(map(ids, dataset)) for _ in range(2)]
    assert found == expected[1:5]
