"""Lightning's DataModule of loaders: parts, and jobs that go on where another one was."""

from __future__ import annotations

import itertools
import json
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError, RootfeedWarning, StateError
from samples import File, epoch_ids, in_a_row, open_events, write_all

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402

from rootfeed.integrations.lightning import DataModule  # noqa: E402

BATCH, ROWS = 16, 327
BATCHES = -(-ROWS // BATCH)
WORKERS = {"multiprocessing_context": "fork", "timeout": 60}
Rows = list[int]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    files = in_a_row(File(200, page=40), File(127, page=30, format="RNTuple"))
    return open_events(write_all(tmp_path_factory.mktemp("events"), files))


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
    """Keeps the rows that it has seen: of training by the trainer's epoch, of others by their turn."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[int, Rows] = {}
        self.validated: list[Rows] = []
        self.tested: Rows = []

    def rows(self, batch: Any) -> Rows:
        x = batch[0] if isinstance(batch, tuple | list) else batch
        return [int(row) for row in torch.as_tensor(x)[:, 0]]

    def training_step(self, batch: Any, _: int) -> Any:
        self.seen.setdefault(self.current_epoch, []).extend(self.rows(batch))
        return self.layer(torch.zeros(1, 1)).sum()

    def on_validation_start(self) -> None:
        self.validated.append([])

    def validation_step(self, batch: Any, _: int) -> None:
        self.validated[-1] += self.rows(batch)

    def test_step(self, batch: Any, index: int) -> None:
        self.tested += self.rows(batch)

    def predict_step(self, batch: Any, _: int) -> Any:
        return torch.as_tensor(batch)[:, 0]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.0)


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    return rf.Loader(
        frame, options.pop("batch_size", BATCH), ["id"], **({"seed": 5, "threads": 1} | options)
    )


def trainer_of(*callbacks: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [ModelCheckpoint(dirpath="kept", save_last=True), *callbacks],
    }
    return lightning.Trainer(**(settings | options))


def fit(data: Any, epochs: int, *, resume: str | bool = False, **options: Any) -> Model:
    model = Model()
    path = "kept/last.ckpt" if resume is True else resume or None
    trainer_of(max_epochs=epochs, **options).fit(model, datamodule=data, ckpt_path=path)
    return model


def order(frame: rf.Frame, epoch: int, start: int = 0, stop: int | None = None, **options: Any) -> Rows:
    loader = make(frame, **options)
    loader.set_epoch(epoch)
    return [int(row) for x in itertools.islice(loader, start, stop) for row in x[:, 0]]


# --- parts ----------------------------------------------------------------------------------------


def test_parts_go_where_they_belong(frame: rf.Frame) -> None:
    parts = make(frame).split({"train": 0.5, "val": 0.2, "test": 0.3})
    expected = {name: sorted(epoch_ids(part)) for name, part in parts.items()}
    data = DataModule(parts | {"predict": make(frame, drop_last=True, sampling=rf.balanced("flag"))})
    model = fit(data, 2)
    assert {epoch: sorted(rows) for epoch, rows in model.seen.items()} == dict.fromkeys(
        (0, 1), expected["train"]
    )
    assert model.seen[0] != model.seen[1]
    sanity, first, second = model.validated
    assert first == second  # the same rows in the same order, also after Lightning has looked at some
    assert first[: len(sanity)] == sanity
    assert sorted(first) == expected["val"]
    trainer = trainer_of()
    trainer.test(model, datamodule=data)
    assert sorted(model.tested) == expected["test"]
    found = torch.cat(trainer.predict(model, datamodule=data)).tolist()
    assert found == list(range(ROWS))


def test_a_split_trains_and_validates(frame: rf.Frame) -> None:
    train, test = make(frame).split(0.2)
    model = fit(data := DataModule(make(frame).split(0.2)), 1)
    assert sorted(model.seen[0]) == sorted(epoch_ids(train))
    assert sorted(model.validated[-1]) == sorted(epoch_ids(test))
    trainer_of().test(model, datamodule=data)
    assert sorted(model.tested) == sorted(epoch_ids(test))


def test_batches_to_overfit_are_the_same_in_each_epoch(frame: rf.Frame) -> None:
    seen = fit(DataModule({"train": make(frame)}), 3, overfit_batches=2).seen
    assert seen == dict.fromkeys(range(3), order(frame, 0, stop=2))


def test_only_training(frame: rf.Frame) -> None:
    data = DataModule({"train": make(frame)})
    model = fit(data, 1)
    assert sorted(model.seen[0]) == list(range(ROWS))
    assert model.validated == []
    for ask in ("validate", "test", "predict"):
        with pytest.raises(ArgumentError, match="has no part"):
            getattr(trainer_of(), ask)(model, datamodule=data)


def test_parts_that_cannot_be_meant(frame: rf.Frame) -> None:
    loader = make(frame)
    for parts in (loader, {}, None, [loader]):
        with pytest.raises(ArgumentError, match=r"takes what loader\.split returns"):
            DataModule(parts)
    with pytest.raises(ArgumentError, match=r"'valid'\. Did you mean 'val'"):
        DataModule({"train": loader, "valid": make(frame)})
    with pytest.raises(ArgumentError, match=r"'train' must be a rootfeed\.Loader"):
        DataModule({"train": loader.torch()})
    with pytest.raises(ArgumentError, match=r'"train" and \'val\' are the same loader'):
        DataModule({"train": loader, "val": loader})
    with pytest.raises(ArgumentError, match="persistent_workers: of workers"):
        DataModule({"train": loader}, persistent_workers=True)


def test_jagged_columns_masks_and_weights() -> None:
    import awkward as ak

    lengths = np.arange(100) % 4
    values = np.arange(lengths.sum(), dtype=np.float32)
    columns = {"id": np.arange(100), "pt": ak.unflatten(values, lengths), "label": np.arange(100) % 2}
    frame = rf.from_arrays({**columns, "weight": np.arange(100) + 0.5})
    features = {"event": ["id"], "jets": rf.padded(["pt"], length=3)}
    found: list[Any] = []

    class Keeps(Model):
        def training_step(self, batch: Any, _: int) -> Any:
            found.append(batch)
            return self.layer(torch.zeros(1, 1)).sum()

    loader = rf.Loader(frame, 16, features, "label", "weight", seed=1)
    expected = list(rf.Loader(frame, 16, features, "label", "weight", seed=1).torch())
    trainer_of(max_epochs=1).fit(Keeps(), datamodule=DataModule({"train": loader}))
    for (x, y, w), (x0, y0, w0) in zip(found, expected, strict=True):
        assert list(x) == list(x0) == ["event", "jets", "jets_mask"]
        assert all(x[name].equal(x0[name]) for name in x)
        assert y.equal(y0)
        assert w.equal(w0)


# --- jobs that go on ------------------------------------------------------------------------------

HOW = {"threads": {}, "workers": {"num_workers": 2, **WORKERS}}


def module(frame: rf.Frame, how: str = "threads", validate: bool = False, **options: Any) -> DataModule:
    parts = {"train": make(frame, **options)}
    return DataModule(parts | ({"val": make(frame, seed=1)} if validate else {}), **HOW[how])


@pytest.mark.parametrize("validate", [False, True], ids=["", "validated"])
@pytest.mark.parametrize("limit", [None, 4], ids=["whole", "limited"])
@pytest.mark.parametrize("how", HOW)
def test_jobs_in_a_chain_go_on(frame: rf.Frame, how: str, limit: int | None, validate: bool) -> None:
    options = {"limit_train_batches": limit}
    seen: dict[int, Rows] = {}
    for job in range(3):
        model = fit(module(frame, how, validate), job + 1, resume=job > 0, **options)
        assert list(model.seen) == [job]
        assert all(sorted(rows) == list(range(ROWS)) for rows in model.validated[1:])
        seen |= model.seen
    assert seen == fit(module(frame, how, validate), 3, **options).seen
    assert len({tuple(rows) for rows in seen.values()}) == 3
    if how == "threads":
        assert seen == {epoch: order(frame, epoch, 0, limit) for epoch in range(3)}


@pytest.mark.parametrize("how", HOW)
def test_an_epoch_that_was_chosen_counts_on(frame: rf.Frame, how: str) -> None:
    data = module(frame, how)
    data.parts["train"].set_epoch(7)
    seen = fit(data, 2).seen | fit(module(frame, how), 4, resume=True).seen
    data = module(frame, how)
    data.parts["train"].set_epoch(7)
    assert seen == fit(data, 4).seen
    if how == "threads":
        assert seen == {epoch: order(frame, 7 + epoch) for epoch in range(4)}


@pytest.mark.parametrize("how", HOW)
def test_the_middle_of_an_epoch_is_exact(frame: rf.Frame, how: str) -> None:
    kept = ModelCheckpoint(dirpath="kept", every_n_train_steps=5, save_top_k=-1)
    whole = fit(module(frame, how), 3, callbacks=[kept]).seen
    expected = [row for epoch in range(3) for row in whole[epoch]]
    paths = sorted(Path("kept").glob("*.ckpt"))
    assert len(paths) == 12
    for path in paths if how == "threads" else paths[::4]:
        step = int(path.stem.partition("step=")[2])
        again = fit(module(frame, how), 3, resume=str(path), callbacks=[]).seen
        epoch, batches = divmod(step, BATCHES)
        rows = [row for epoch in sorted(again) for row in again[epoch]]
        assert rows == expected[epoch * ROWS + batches * BATCH :]


def test_saved_while_validating(frame: rf.Frame) -> None:
    kept = ModelCheckpoint(
        dirpath="kept", save_top_k=-1, save_on_train_epoch_end=False, filename="{epoch}-{step}"
    )
    options = {"val_check_interval": 0.5}
    whole = fit(module(frame, validate=True), 2, callbacks=[kept], **options)
    expected = [row for epoch in range(2) for row in whole.seen[epoch]]
    paths = sorted(Path("kept").glob("*.ckpt"))
    assert len(paths) == 4
    for path in paths:
        step = int(path.stem.partition("step=")[2])
        again = fit(module(frame, validate=True), 2, resume=str(path), callbacks=[], **options)
        epoch, batches = divmod(step, BATCHES)
        rows = [row for epoch in sorted(again.seen) for row in again.seen[epoch]]
        assert rows == expected[epoch * ROWS + batches * BATCH :]
        assert all(rows == whole.validated[-1] for rows in again.validated if len(rows) > 2 * BATCH)


def test_epochs_of_a_number_of_batches(frame: rf.Frame) -> None:
    seen: dict[int, Rows] = {}
    for job in range(5):
        seen |= fit(module(frame, epoch=8), job + 1, resume=job > 0).seen
    whole = fit(module(frame, epoch=8), 5).seen
    assert seen == whole
    rows = [row for epoch in range(5) for row in whole[epoch]]
    assert sorted(rows[:ROWS]) == list(range(ROWS))


@pytest.mark.parametrize("limit", [None, 4], ids=["whole", "limited"])
@pytest.mark.parametrize("how", HOW)
def test_counted_by_steps(frame: rf.Frame, how: str, limit: int | None) -> None:
    # Lightning takes every job that counts steps for one that was interrupted.
    options = {"limit_train_batches": limit, "max_steps": 3 * (limit or BATCHES) - 1}
    first = options | {"max_steps": limit or BATCHES}
    validate = limit is not None  # else it takes a batch more than the limit
    seen = fit(module(frame, how, validate), -1, **first).seen
    seen |= fit(module(frame, how, validate), -1, resume=True, **options).seen
    assert seen == fit(module(frame, how, validate), -1, **options).seen


def test_fit_goes_on_with_the_same_module(frame: rf.Frame) -> None:
    data, model = module(frame), Model()
    trainer = trainer_of(max_epochs=1)
    trainer.fit(model, datamodule=data)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(model, datamodule=data)
    assert model.seen == {epoch: order(frame, epoch) for epoch in range(3)}
    assert fit(data, 2).seen == {epoch: order(frame, epoch) for epoch in range(2)}  # from the start


@pytest.mark.parametrize("middle", [False, True], ids=["end", "middle"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 6}, "the seed: 5 before, 6 now"),
        ({"batch_size": 15}, "batch_size: 16 before, 15 now"),
        ({"files": True}, "the files"),
        ({"cut": "id > 3"}, "the definitions and cuts"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_other_data_are_refused(
    frame: rf.Frame, changed: dict[str, Any], message: str, middle: bool, tmp_path: Path
) -> None:
    changed = dict(changed)
    kept = ModelCheckpoint(dirpath="kept", save_last=True, every_n_train_steps=5 if middle else None)
    fit(module(frame), 1, callbacks=[kept], limit_train_batches=7 if middle else None)
    if changed.pop("files", None):
        frame = open_events(write_all(tmp_path / "others", [File(ROWS)]))
    if cut := changed.pop("cut", None):
        frame = frame.filter(cut)
    with pytest.raises(StateError, match=message) as refused:
        fit(module(frame, **changed), 2, resume=True)
    assert "call fit without ckpt_path" in str(refused.value)
    # Weights may be looked at with whatever data.
    data = DataModule({"train": make(frame, **changed), "val": make(frame), "test": make(frame)})
    model = Model()
    trainer_of().test(model, datamodule=data, ckpt_path="kept/last.ckpt")
    trainer_of().validate(model, datamodule=data, ckpt_path="kept/last.ckpt")


def test_the_other_package(frame: rf.Frame) -> None:
    package = pytest.importorskip("pytorch_lightning")
    demos = pytest.importorskip("pytorch_lightning.demos.boring_classes")
    from rootfeed.integrations.pytorch_lightning import DataModule as Other

    class Kept(demos.BoringModel):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Rows] = []

        def on_train_epoch_start(self) -> None:
            self.seen.append([])

        def training_step(self, batch: Any, _: int) -> Any:
            self.seen[-1] += batch[:, 0].long().tolist()
            return self.layer(torch.zeros(1, 32)).sum()

    found = []
    for job in range(2):
        model = Kept()
        trainer = package.Trainer(
            max_epochs=job + 1, accelerator="cpu", logger=False, enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[package.callbacks.ModelCheckpoint(dirpath="kept", save_last=True)],
        )  # fmt: skip
        trainer.fit(
            model, datamodule=Other({"train": make(frame)}), ckpt_path="kept/last.ckpt" if job else None
        )
        found += model.seen
    assert found == [order(frame, 0), order(frame, 1)]
    with pytest.raises(StateError, match="the seed"):
        trainer.fit(Kept(), datamodule=Other({"train": make(frame, seed=9)}), ckpt_path="kept/last.ckpt")


# --- ranks ----------------------------------------------------------------------------------------

RANKS = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import lightning, torch
import rootfeed as rf
from lightning.pytorch.callbacks import ModelCheckpoint
from rootfeed.integrations.lightning import DataModule

devices, epochs, path, every = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen, self.validated = torch.nn.Linear(1, 1), {}, []

    def training_step(self, batch, index):
        self.seen.setdefault(self.current_epoch, []).append(batch[:, 0].long().tolist())
        return self.layer(torch.zeros(1, 1)).sum()

    def validation_step(self, batch, index):
        self.validated += batch[:, 0].long().tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)

if __name__ == "__main__":
    frame = rf.open({"events.root": "events"})
    make = lambda tail: rf.Loader(frame, 16, ["id"], seed=5, threads=1, tail=tail)
    model, kept = Model(), ModelCheckpoint(dirpath="kept", every_n_train_steps=every, save_top_k=-1,
                                           filename="{epoch}-{step}")
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=devices, strategy="ddp", logger=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0, callbacks=[kept],
    )
    tail = sys.argv[5]
    data = DataModule({"train": make(tail), "val": make("uneven")})
    trainer.fit(model, datamodule=data, ckpt_path=None if path == "-" else path)
    with open(f"seen{trainer.global_rank}.json", "w") as file:
        json.dump([model.seen, model.validated], file)
"""


def ranks(
    devices: int,
    epochs: int,
    path: str = "-",
    every: int = 100,
    tail: str = "drop",
    folder: Path = Path(),
) -> Any:
    """Return what each rank has trained on, by epoch and batch, and validated on."""
    (folder / "script.py").write_text(RANKS)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_PORT": str(free_port())}
    arguments = map(str, (devices, epochs, path, every, tail))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "script.py", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((folder / f"seen{rank}.json").read_text()) for rank in range(devices)]
    trained = [{int(epoch): batches for epoch, batches in seen.items()} for seen, _ in found]
    return trained, [rows for _, rows in found]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def rows_of(seen: Any, epoch: int, start: int = 0, stop: int | None = None) -> Rows:
    return [row for rank in seen for batch in rank.get(epoch, [])[start:stop] for row in batch]


def write_events(folder: Path) -> None:
    write_all(folder / "files", [File(ROWS, page=40)])
    (folder / "files/000.root").rename(folder / "events.root")


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, Any]:
    """Return the folder of two epochs on two ranks, and what these have seen."""
    folder = tmp_path_factory.mktemp("ranks")
    write_events(folder)
    return folder, *ranks(2, 2, every=4, folder=folder)


def test_ranks_share_each_row(two_ranks: tuple[Path, Any, Any]) -> None:
    _, seen, validated = two_ranks
    for epoch in range(2):
        assert len(seen[0][epoch]) == len(seen[1][epoch]) == 11
        rows = rows_of(seen, epoch)
        assert len(rows) == len(set(rows)) == ROWS - 1  # one does not go evenly into two
    assert sorted(validated[0] + validated[1]) == sorted(2 * [*range(ROWS)])


@pytest.mark.parametrize(
    ("path", "devices"), [("epoch=0-step=4", 2), ("epoch=0-step=8", 1), ("epoch=1-step=12", 1)]
)
def test_as_many_ranks_go_on_or_fewer(two_ranks: tuple[Path, Any, Any], path: str, devices: int) -> None:
    folder, seen, _ = two_ranks
    epoch, step = int(path[6]), int(path.partition("step=")[2])
    again, _ = ranks(devices, 2, f"kept/{path}.ckpt", folder=folder)
    before, rest = rows_of(seen, epoch, 0, step - 11 * epoch), rows_of(again, epoch)
    assert len(rest) == len(set(rest))
    assert not set(rest) & set(before)
    assert len(rest) + len(before) >= ROWS - 1
    if devices == 2:
        assert rest == rows_of(seen, epoch, step)
        assert rows_of(again, 1) == rows_of(seen, 1)
    elif epoch == 0:
        assert sorted(rows_of(again, 1)) == list(range(ROWS))


def test_more_ranks_go_on() -> None:
    write_events(Path())
    seen, _ = ranks(1, 1, every=12)
    before = rows_of(seen, 0, 0, 12)
    again, _ = ranks(2, 2, "kept/epoch=0-step=12.ckpt")
    rest = rows_of(again, 0)
    assert len(rest) == len(set(rest)) >= ROWS - len(before) - 1
    assert not set(rest) & set(before)
    assert len(set(rows_of(again, 1))) == len(rows_of(again, 1)) == ROWS - 1


def test_ranks_of_unequal_length_are_refused() -> None:
    write_events(Path())
    with pytest.raises(AssertionError, match='tail="uneven" gives some ranks a batch more'):
        ranks(2, 1, tail="uneven")
