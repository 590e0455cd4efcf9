"""Lightning: a loader's epochs are the trainer's, in jobs that resume one another too."""

from __future__ import annotations

import functools
import itertools
import logging
import multiprocessing
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
import rootfeed_lightning
from rootfeed.errors import RootfeedWarning
from samples import File, in_a_row, open_events, write_all

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("lightning")
StatefulDataLoader = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.utilities import CombinedLoader  # noqa: E402
from torch.utils.data import DataLoader, IterableDataset  # noqa: E402

from rootfeed.integrations.lightning import DataModule  # noqa: E402

FILES = in_a_row(File(200, page=40), File(127, page=30, format="RNTuple"))
BATCH, STEPS = 16, 4  # an epoch has 21 batches; jobs take a few of them
SECONDS = 60
multiprocessing.set_forkserver_preload(["rootfeed", "torch"])  # once, not in each worker

Rows = list[int]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    return open_events(write_all(tmp_path_factory.mktemp("events"), FILES))


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)  # where Lightning writes what nobody asked for
    for name in ("lightning.pytorch", "lightning.fabric"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RootfeedWarning)
        yield


class Model(lightning.LightningModule):
    """Keeps the rows that it has seen, by the trainer's epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[int, Rows] = {}

    def training_step(self, batch: Any, _: int) -> Any:
        if isinstance(batch, dict | list | tuple):
            batch = next(iter(batch.values())) if isinstance(batch, dict) else batch[0]
        x = torch.as_tensor(batch)
        self.seen.setdefault(self.current_epoch, []).extend(x[:, 0].long().tolist())
        return self.layer(x * 0).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


class SetEpoch(lightning.Callback):
    """What users write who know of `set_epoch`."""

    def __init__(self, batches: Any, first: int = 0, step: int = 1) -> None:
        self.batches, self.first, self.step = batches, first, step

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.batches.set_epoch(self.first + trainer.current_epoch * self.step)


class Around(IterableDataset):
    """A dataset of the user's around the batches."""

    def __init__(self, batches: Any) -> None:
        self.whatever = batches

    def __iter__(self) -> Iterator[Any]:
        for batch in self.whatever:
            yield batch + 0


def with_workers(kind: Any, **options: Any) -> Callable[[Any], Any]:
    more = {"multiprocessing_context": "fork", "timeout": SECONDS, "num_workers": 2}
    return lambda batches: kind(batches, batch_size=None, **(more | options))


HOW: dict[str, Callable[[Any], Any]] = {
    "direct": lambda batches: batches,
    "DataLoader": lambda batches: DataLoader(batches, batch_size=None),
    "workers": with_workers(DataLoader),
    "workers of a server": with_workers(DataLoader, num_workers=1, multiprocessing_context="forkserver"),
    "persistent workers": with_workers(DataLoader, persistent_workers=True),
    "StatefulDataLoader": lambda batches: StatefulDataLoader(batches, batch_size=None),
    "StatefulDataLoader, workers": with_workers(StatefulDataLoader),
    "StatefulDataLoader, persistent workers": with_workers(StatefulDataLoader, persistent_workers=True),
    "in a dict": lambda batches: {"a": with_workers(DataLoader)(batches)},
    "in a CombinedLoader": lambda batches: CombinedLoader([batches], "max_size"),
    "in a dataset": lambda batches: with_workers(DataLoader)(Around(batches)),
    "beside data without a length": lambda batches: [batches, (torch.zeros(1) for _ in range(999))],
}


def make(frame: rf.Frame, sampling: rf.Sampler | None = None) -> rf.Loader:
    return rf.Loader(frame, BATCH, ["id"], seed=5, threads=1, sampling=sampling)


def order(frame: rf.Frame, how: str, epoch: int, start: int = 0, stop: int = STEPS) -> Rows:
    """Return the rows of some batches of an epoch, as the same DataLoader gives them."""
    two = ("workers", "persistent workers", "in a dict", "in a dataset")
    in_workers = how.removeprefix("StatefulDataLoader, ") in two
    return list(in_order(frame, in_workers, epoch, start, stop))


@functools.cache  # many tests ask for the same ones, for which workers have to be started
def in_order(frame: rf.Frame, in_workers: bool, epoch: int, start: int, stop: int) -> Rows:
    batches = make(frame).torch()
    batches.set_epoch(epoch)
    data = HOW["workers"](batches) if in_workers else batches
    found = itertools.islice(iter(data), start, stop)
    return [int(each) for batch in found for each in np.asarray(batch)[:, 0]]


def fit(data: Any, epochs: int, *callbacks: Any, resume: bool = False, **options: Any) -> Model:
    model = options.pop("model", None) or Model()
    settings: dict[str, Any] = {
        "max_epochs": epochs,
        "limit_train_batches": STEPS,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [ModelCheckpoint(dirpath="kept", save_last=True), *callbacks],
    }
    trainer = options.pop("trainer", None) or lightning.Trainer(**(settings | options))
    trainer.fit_loop.max_epochs = epochs
    given = {"datamodule": data} if isinstance(data, lightning.LightningDataModule) else {}
    trainer.fit(
        model,
        **(given or {"train_dataloaders": data}),
        ckpt_path="kept/last.ckpt" if resume else None,
    )
    return model


@pytest.mark.thorough(
    but=[
        "direct-",
        "direct-with set_epoch",
        "DataLoader-",
        "workers-",
        "workers of a server-with set_epoch",
        "persistent workers-with set_epoch",
        "StatefulDataLoader-with set_epoch",
        "StatefulDataLoader, workers-with set_epoch",
        "in a CombinedLoader-",
        "in a dataset-",
        "beside data without a length-with set_epoch",
    ]
)
@pytest.mark.parametrize("hook", [False, True], ids=["", "with set_epoch"])
@pytest.mark.parametrize("how", HOW)
def test_jobs_in_a_chain_go_on(frame: rf.Frame, how: str, hook: bool) -> None:
    for job in range(3):
        batches = make(frame).torch()
        callbacks = [SetEpoch(batches)] if hook else []
        seen = fit(HOW[how](batches), job + 1, *callbacks, resume=job > 0).seen
        assert seen == {job: order(frame, how, job)}


@pytest.mark.thorough("persistent workers")
@pytest.mark.parametrize("how", ["direct", "workers", "persistent workers"])
def test_a_job_of_several_epochs_is_the_same(frame: rf.Frame, how: str) -> None:
    batches = make(frame).torch()
    seen = fit(HOW[how](batches), 2).seen
    seen |= fit(HOW[how](make(frame).torch()), 4, resume=True).seen
    assert seen == {epoch: order(frame, how, epoch) for epoch in range(4)}
    assert seen == fit(HOW[how](batches), 4).seen  # from the start, with a loader that was used


class MoreAndMore(rf.Sampler):
    """Offers more rows in each epoch."""

    def offers(self, entries: Any) -> Any:
        return entries.random() < 0.2 * (1 + entries.epoch)


def test_epochs_that_differ_in_length(frame: rf.Frame) -> None:
    options: dict[str, Any] = {"limit_train_batches": 1.0}
    loader = make(frame, MoreAndMore())
    expected = {epoch: [int(row) for x in loader for row in x[:, 0]] for epoch in range(3)}
    assert len(expected[0]) < len(expected[1]) - BATCH < len(expected[2]) - 2 * BATCH
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "epochs of ")
        seen = fit(DataModule({"train": make(frame, MoreAndMore())}), 2, **options).seen
        data = DataModule({"train": make(frame, MoreAndMore())})
        assert seen | fit(data, 3, resume=True, **options).seen == expected
        asked = options | {"reload_dataloaders_every_n_epochs": 1}
        assert fit(make(frame, MoreAndMore()).torch(), 3, **asked).seen == expected
        fit(make(frame, MoreAndMore()).torch(), 1)  # of a few batches that were asked for
    with pytest.warns(UserWarning, match=r"epochs of MoreAndMore\(\) differ in length, and Lightning "):
        fit(make(frame, MoreAndMore()).torch(), 1, **options)


@pytest.mark.thorough("workers")
@pytest.mark.parametrize("how", ["direct", "workers"])
def test_batches_to_overfit_are_the_same_in_each_epoch(frame: rf.Frame, how: str) -> None:
    options: dict[str, Any] = {"limit_train_batches": None, "overfit_batches": STEPS}
    seen = fit(HOW[how](make(frame).torch()), 3, **options).seen
    assert seen == dict.fromkeys(range(3), order(frame, how, 0))


@pytest.mark.thorough("workers", "StatefulDataLoader, workers")
@pytest.mark.parametrize("how", ["direct", "workers", "StatefulDataLoader, workers"])
def test_fit_goes_on_with_the_same_trainer(frame: rf.Frame, how: str) -> None:
    model = Model()
    fit(HOW[how](make(frame).torch()), 1, model=model)
    trainer = model.trainer
    data = HOW[how](make(frame).torch())
    fit(data, 2, model=model, trainer=trainer)
    fit(data, 4, model=model, trainer=trainer)
    assert model.seen == {epoch: order(frame, how, epoch) for epoch in range(4)}


@pytest.mark.thorough("workers", "StatefulDataLoader, workers")
@pytest.mark.parametrize(
    "how", ["direct", "workers", "workers of a server", "StatefulDataLoader, workers"]
)
def test_loaders_that_are_made_in_each_epoch(frame: rf.Frame, how: str) -> None:
    class Data(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            return HOW[how](make(frame).torch())

    model = fit(Data(), 3, reload_dataloaders_every_n_epochs=1)
    assert model.seen == {epoch: order(frame, how, epoch) for epoch in range(3)}


@pytest.mark.thorough(but=["direct-steps", "direct-validated", "StatefulDataLoader, workers-steps"])
@pytest.mark.parametrize("kept", ["steps", "epochs", "validated"])
@pytest.mark.parametrize("how", ["direct", "StatefulDataLoader", "StatefulDataLoader, workers"])
def test_an_epoch_that_its_limit_has_ended_is_over(frame: rf.Frame, how: str, kept: str) -> None:
    # Lightning hands over states of its middle, and begins the next one. Where it counts epochs, its
    # own count is wrong in a third job.
    class Validated(Model):
        def validation_step(self, *_: Any) -> None:
            pass

    class Both(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            return HOW[how](make(frame).torch())

        def val_dataloader(self) -> Any:
            return [torch.zeros(1)]

    every = {} if kept == "validated" else {"every_n_train_steps": STEPS}
    for job in range(2 if kept == "epochs" else 3):
        options: dict[str, Any] = {"model": Validated() if kept == "validated" else Model()}
        options["callbacks"] = [ModelCheckpoint(dirpath="kept", save_last=True, **every)]
        if kept != "epochs":
            options["max_steps"] = (job + 1) * STEPS
        seen = fit(Both(), job + 1 if kept == "epochs" else -1, resume=job > 0, **options).seen
        assert list(seen.values()) == [order(frame, how, job)]


@pytest.mark.thorough("StatefulDataLoader, workers")
@pytest.mark.parametrize("how", ["direct", "StatefulDataLoader", "StatefulDataLoader, workers"])
def test_the_middle_of_an_epoch_is_exact(frame: rf.Frame, how: str) -> None:
    kept = {"dirpath": "kept", "save_last": True, "every_n_train_steps": 5, "save_top_k": -1}
    whole = {"callbacks": [ModelCheckpoint(**kept)], "limit_train_batches": 1.0}
    model = fit(HOW[how](make(frame).torch()), 3, **whole)
    whole = model.seen
    assert [len(rows) for rows in whole.values()] == [327] * 3
    paths = sorted(Path("kept").glob("*step=*.ckpt"))
    assert len(paths) == 12
    for path in paths:
        step = int(path.stem.partition("step=")[2].partition("-")[0])
        path.replace("kept/last.ckpt")
        again = fit(HOW[how](make(frame).torch()), 3, resume=True, limit_train_batches=1.0).seen
        rows = [each for epoch in sorted(again) for each in again[epoch]]
        expected = [each for epoch in range(3) for each in whole[epoch]]
        epoch, batches = divmod(step, 21)
        assert rows == expected[epoch * 327 + batches * BATCH :]


@pytest.mark.parametrize("how", ["direct", "StatefulDataLoader", "StatefulDataLoader, workers"])
def test_the_middle_of_an_epoch_that_was_chosen_is_exact(frame: rf.Frame, how: str) -> None:
    batches = make(frame).torch()
    batches.set_epoch(7)
    kept = ModelCheckpoint(dirpath="kept", save_last=True, every_n_train_steps=5)
    fit(HOW[how](batches), 1, callbacks=[kept], limit_train_batches=7)
    seen = fit(HOW[how](make(frame).torch()), 1, resume=True, limit_train_batches=1.0).seen
    assert seen == {0: order(frame, how, 7, 5, 21)}


@pytest.mark.thorough(but=["direct"])
@pytest.mark.parametrize("how", ["direct", "workers"])
def test_an_epoch_that_was_chosen_stays(frame: rf.Frame, how: str) -> None:
    # Before fit: the loader counts on from there.
    batches = make(frame).torch()
    batches.set_epoch(7)
    seen = fit(HOW[how](batches), 2).seen
    assert seen == {0: order(frame, how, 7), 1: order(frame, how, 8)}
    # In each epoch: by the first one, the workers have begun.
    batches = make(frame).torch()
    seen = fit(HOW[how](batches), 3, SetEpoch(batches, 50)).seen
    assert [seen[1], seen[2]] == [order(frame, how, 51), order(frame, how, 52)]
    # The same one in each.
    batches = make(frame).torch()
    batches.set_epoch(9)
    seen = fit(HOW[how](batches), 3, SetEpoch(batches, 9, 0)).seen
    assert list(seen.values()) == 3 * [order(frame, how, 9)]


@pytest.mark.parametrize("how", ["direct", "workers of a server"])
def test_a_state_that_was_loaded_stays(frame: rf.Frame, how: str) -> None:
    loader = make(frame)
    loader.set_epoch(3)
    next(iter(loader))
    batches = make(frame).torch()
    batches.load_state_dict(loader.state_dict())
    seen = fit(HOW[how](batches), 2).seen
    assert seen == {0: order(frame, how, 3, 1, 1 + STEPS), 1: order(frame, how, 4)}


def test_numpy_batches(frame: rf.Frame) -> None:
    fit(make(frame), 1)
    assert fit(make(frame), 2, resume=True).seen == {1: order(frame, "direct", 1)}


@pytest.mark.parametrize("how", ["direct", "workers"])
def test_shorter_data_goes_round(frame: rf.Frame, how: str) -> None:
    # Workers begin each round with the trainer's epoch: they know of no other.
    batches = make(frame).torch()
    model = fit([HOW[how](batches), range(50)], 1, limit_train_batches=50)
    epochs = (0, 0, 0) if how == "workers" else (0, 1, 2)
    rounds = [order(frame, how, epoch, 0, 21) for epoch in epochs]
    assert model.seen == {0: list(itertools.chain(*rounds))[: len(model.seen[0])]}
    assert len(model.seen[0]) > 2 * 327


@pytest.mark.parametrize("how", ["direct", "workers"])
def test_after_a_fit_that_fails_the_loader_counts_on(frame: rf.Frame, how: str) -> None:
    class Fails(lightning.Callback):
        def on_train_epoch_start(self, *_: Any) -> None:
            raise ZeroDivisionError

    batches = make(frame).torch()
    with pytest.raises(ZeroDivisionError):
        fit(HOW[how](batches), 1, Fails())
    found = [[int(each) for batch in HOW[how](batches) for each in batch[:, 0]] for _ in range(2)]
    assert found[0] != found[1]


def test_workers_begin_again_once(frame: rf.Frame) -> None:
    begun = []

    class Counted(DataLoader):
        def __iter__(self) -> Any:
            begun.append(self)
            return super().__iter__()

    batches = make(frame).torch()
    fit(with_workers(Counted)(batches), 2)
    assert len(begun) == 3  # before anybody knows the first epoch, with it, and with the second one
    begun.clear()
    batches.set_epoch(0)
    fit(with_workers(Counted)(batches), 2)
    assert len(begun) == 2  # what was chosen is known


def test_a_trainer_that_cannot_begin_again_says_what_to_do(frame: rf.Frame) -> None:
    batches = make(frame).torch()
    begun = iter(batches)
    next(begun)  # as workers do before anybody says which epoch it is
    trainer = SimpleNamespace(fit_loop=object(), current_epoch=4, train_dataloader=[batches])
    callback = rootfeed_lightning.callbacks()
    with pytest.warns(UserWarning, match=r"Call batches\.set_epoch\(4\) before fit\(\)"):
        callback.on_train_epoch_start(trainer, None)


@pytest.mark.thorough("pytorch_lightning")
@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_every_trainer_gets_the_callback(package: str) -> None:
    pytest.importorskip(package)
    script = f"""
import {package}.demos.boring_classes
import sys, warnings
warnings.simplefilter("ignore")
import {package} as package
trainer = package.Trainer(accelerator="cpu", logger=False)
found = [each for each in trainer.callbacks if type(each).__name__ == "RootfeedEpochs"]
assert len(found) == 1 and isinstance(found[0], package.Callback), found
model = package.demos.boring_classes.BoringModel()
options = dict(limit_train_batches=2, limit_val_batches=0, enable_checkpointing=False)
package.Trainer(max_epochs=1, accelerator="cpu", logger=False, **options).fit(model)
assert "rootfeed" not in sys.modules, "loaded for a trainer that does not need it"
"""
    outcome = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_the_callback_can_be_pickled(package: str) -> None:
    pytest.importorskip(package)
    callback = rootfeed_lightning.callbacks_of(package)
    again = pickle.loads(pickle.dumps(callback))
    assert type(again).__mro__[1] is type(callback).__mro__[1]


def test_other_data_is_left_alone() -> None:
    class Odd:
        """Says that it is everything."""

        def __iter__(self) -> Iterator[int]:
            raise AssertionError("nobody asks it")

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    ring: list[Any] = [Odd(), "text", 1, None, {"a": np.zeros(3)}, torch.zeros(3)]
    ring.append(ring)
    assert list(rootfeed_lightning.loaders(ring)) == []
