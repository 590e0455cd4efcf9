"""Batches for Keras, with the backend that KERAS_BACKEND names."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError, StateError

keras = pytest.importorskip("keras")

BATCH = 64  # 21 batches, the last of 20 rows
ENTRIES = 1300
EAGER = keras.backend.backend() != "jax"  # whether models can be run line by line
SIZES = {"in memory": {}, "lazy": {"chunk_entries": 300, "block_entries": 40}}

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras", "ignore::UserWarning:torch")


@pytest.fixture(params=SIZES)
def sizes(request: pytest.FixtureRequest) -> dict[str, int]:
    return SIZES[request.param]


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    settings: dict[str, Any] = {"features": ["id"], "target": "label", "seed": 3}
    return rf.Loader(frame, BATCH, **(settings | options))


def epochs(frame: rf.Frame, count: int, **options: Any) -> list[list[list[int]]]:
    loader = make(frame, **options)
    return [[x[:, 0].astype(int).tolist() for x, *_ in loader] for _ in range(count)]


class Seen(keras.layers.Layer):
    """Remembers the batches that a model is trained on, and those it is tested on."""

    def __init__(self) -> None:
        super().__init__()
        self.train: list[list[int]] = []
        self.test: list[list[int]] = []

    def call(self, x: Any, training: bool = False) -> Any:
        if EAGER and not isinstance(x, keras.KerasTensor):
            ids = np.asarray(keras.ops.convert_to_numpy(x))[:, 0].astype(int).tolist()
            (self.train if training else self.test).append(ids)
        return x


def model_of(built: bool = True) -> tuple[Any, Seen]:
    """Return a model that is run line by line, and what it has seen."""
    seen = Seen()
    layers = [keras.Input((1,))] * built + [seen, keras.layers.Rescaling(1e-3), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse", run_eagerly=EAGER, jit_compile=False)
    return model, seen


class Watched(keras.utils.PyDataset):
    """Hands on what Keras asks for, and remembers it."""

    def __init__(self, batches: Any) -> None:
        super().__init__()
        self.batches = batches
        self.given: list[list[int]] = []

    @property
    def num_batches(self) -> int:
        return self.batches.num_batches

    def __getitem__(self, index: int) -> Any:
        batch = self.batches[index]
        self.given.append(batch[0][:, 0].astype(int).tolist())
        return batch

    def on_epoch_begin(self) -> None:
        self.batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()


def trained(model: Any, seen: Seen, batches: Any, **options: Any) -> list[list[int]]:
    """Train, and return the batches that were used, in their order."""
    if EAGER:
        seen.train.clear()
        model.fit(batches, verbose=0, **options)
        return list(seen.train)
    watched = Watched(batches)
    used: list[list[int]] = []
    # On a CPU Keras asks JAX's way for one batch after another.
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: used.append(watched.given[-1])
    )
    model.fit(watched, verbose=0, **(options | {"callbacks": [note, *options.get("callbacks", [])]}))
    return used


@pytest.mark.parametrize("built", [True, False], ids=["built", "not built"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_an_epoch_of_keras_is_one_of_the_loader(
    frame: rf.Frame, sizes: dict[str, int], built: bool, shuffle: bool
) -> None:
    # A model that is not built is built by what its first batch looks like; that batch comes again.
    expected = epochs(frame, 4, **sizes)
    loader = make(frame, **sizes)
    model, seen = model_of(built)
    found = trained(model, seen, loader.keras(), epochs=3, shuffle=shuffle)
    assert found == [batch for epoch in expected[:3] for batch in epoch]
    assert [x[:, 0].astype(int).tolist() for x, _ in loader] == expected[3]


def test_training_with_validation(frame: rf.Frame, sizes: dict[str, int]) -> None:
    def sides() -> Any:
        return make(frame, weights="weight", **sizes).split(0.25, seed=1)

    reference = sides().train
    expected = [x[:, 0].astype(int).tolist() for _ in range(2) for x, *_ in reference]
    train, test = sides()
    model, seen = model_of()
    model.compile("sgd", "mse", weighted_metrics=["mae"], run_eagerly=EAGER, jit_compile=False)
    validation = test.keras()
    assert trained(model, seen, train.keras(), epochs=2, validation_data=validation) == expected
    # All rows of the test side, with their weights.
    _, error = model.evaluate(validation, verbose=0)
    x, y, w = (np.concatenate(each) for each in zip(*test, strict=True))
    predicted = model.predict(x, verbose=0, batch_size=4096)
    assert np.isclose(error, np.average(abs(predicted - y), weights=w), rtol=1e-4)
    assert len(model.predict(validation, verbose=0)) == len(x) == test.num_rows


def test_weights_are_those_of_samples(frame: rf.Frame) -> None:
    # A model of one number: its gradient is the weighted mean of residuals.
    def fitted(batches: Any, **options: Any) -> float:
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
        model.layers[0].kernel.trainable = False
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(batches, verbose=0, shuffle=False, **options)
        return float(np.asarray(keras.ops.convert_to_numpy(model.layers[0].bias))[0])

    loader = rf.Loader(frame, ENTRIES, ["half"], "label", "weight", seed=3)
    ((x, y, w),) = list(loader)
    mean = float((w * y).sum() / len(y))
    assert np.isclose(fitted(loader.keras()), 0.1 * 2 * mean, rtol=1e-3)
    assert not np.isclose(mean, y.mean(), rtol=1e-2)
    assert np.isclose(fitted(x, y=y, sample_weight=w[:, 0], batch_size=ENTRIES), 0.2 * mean, rtol=1e-3)


def test_dicts_of_inputs(frame: rf.Frame) -> None:
    loader = make(frame, features={"a": ["id", "half"], "b": ["code"]})
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    joined = keras.layers.Concatenate()(
        [keras.layers.Rescaling(1e-4)(a), keras.layers.Rescaling(1e-4)(b)]
    )
    model = keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(joined))
    model.compile("sgd", "mse")
    history = model.fit(loader.keras(), epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    assert model.predict(loader.keras(), verbose=0).shape == (ENTRIES, 1)


@pytest.mark.parametrize("done", [1, 8, 20, 21])
def test_a_job_goes_on_where_a_callback_has_saved(
    frame: rf.Frame, sizes: dict[str, int], done: int
) -> None:
    whole = [batch for epoch in epochs(frame, 4, **sizes) for batch in epoch]
    loader = make(frame, **sizes)
    batches = loader.keras()
    states: list[str] = []

    class Saving(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch + 1 == done:
                states.append(json.dumps(batches.state_dict(used=batch + 1)))

    model, seen = model_of()
    trained(model, seen, batches, epochs=2, callbacks=[Saving()])
    for number, state in enumerate(states):
        for built in (True, False):
            other = make(frame, **sizes)
            other.load_state_dict(json.loads(state))
            model, seen = model_of(built)
            again = other.keras()
            found = trained(model, seen, again, initial_epoch=number, epochs=number + 2)
            start = number * 21 + done
            # Each epoch of Keras has as many batches: none is lost, none comes twice.
            assert found == whole[start : start + 42]
            assert again.state_dict()["batches"] == done % 21


def test_states_in_the_middle_must_be_told_how_far_keras_is(frame: rf.Frame) -> None:
    batches = make(frame).keras()
    for number in range(batches.num_batches):
        batches[number]
        if number == 3:
            with pytest.raises(StateError, match=r"say how many of this epoch it has used"):
                batches.state_dict()
            with pytest.raises(ArgumentError, match="used=5, but only 4 batches were received"):
                batches.state_dict(used=5)
            with pytest.raises(ArgumentError, match="used"):
                batches.state_dict(used=-1)
            assert batches.state_dict(used=0)["batches"] == 0
            assert batches.state_dict(used=4)["batches"] == 4
    with pytest.raises(StateError):
        batches.state_dict()
    with pytest.raises(IndexError, match="an epoch has 21 batches"):
        batches[21]
    batches.on_epoch_end()
    assert (batches.state_dict()["epoch"], batches.state_dict()["batches"]) == (1, 0)
    assert batches.state_dict(used=20)["batches"] == 20


def test_epochs_of_a_number_of_steps(frame: rf.Frame, sizes: dict[str, int]) -> None:
    whole = [batch for epoch in epochs(frame, 2, **sizes) for batch in epoch]
    model, seen = model_of()
    batches = make(frame, **sizes).keras()
    assert trained(model, seen, batches, epochs=2, steps_per_epoch=5) == whole[:10]
    # It was used: the next training begins the next epoch.
    assert trained(model, seen, batches, epochs=1, steps_per_epoch=5) == whole[21:26]
    numbered = make(frame, epoch=5, **sizes).keras()
    assert len(numbered) == 5
    assert trained(model, seen, numbered, epochs=3) == whole[:15]


def test_an_epoch_that_is_chosen_in_a_callback(frame: rf.Frame) -> None:
    expected = epochs(frame, 8)
    batches = make(frame).keras()
    choose = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: batches.set_epoch(2 * epoch + 1)
    )
    model, seen = model_of(False)
    found = trained(model, seen, batches, epochs=3, callbacks=[choose])
    assert found == expected[1] + expected[3] + expected[5]


def test_an_epoch_that_is_stopped_is_begun_again(frame: rf.Frame) -> None:
    expected = epochs(frame, 1)[0]
    model, seen = model_of()
    batches = make(frame).keras()

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == 3

    assert trained(model, seen, batches, epochs=2, callbacks=[Stop()]) == expected[:4]
    assert trained(model, seen, batches, epochs=1) == expected


def test_a_backend_that_is_tested() -> None:
    assert keras.backend.backend() in ("jax", "tensorflow", "torch")
