"""Accelerate: each row once, on one process and on two, also in jobs that resume."""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import rootfeed as rf
from rootfeed.errors import ArgumentError
from samples import File, open_events, write_all

torch = pytest.importorskip("torch")
accelerate = pytest.importorskip("accelerate")
from torch.utils.data import DataLoader  # noqa: E402

from rootfeed.integrations.accelerate import prepare  # noqa: E402

BATCH, ROWS = 16, 327
BATCHES = -(-ROWS // BATCH)
Rows = list[int]


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> rf.Frame:
    return open_events(write_all(tmp_path_factory.mktemp("events"), [File(ROWS, page=40)]))


@pytest.fixture
def accelerator() -> Iterator[Any]:
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()
    yield accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    accelerate.state.AcceleratorState._reset_state(True)
    accelerate.state.GradientState._reset_state()


def make(frame: rf.Frame, **options: Any) -> rf.Loader:
    return rf.Loader(frame, BATCH, ["id"], **({"seed": 5, "threads": 1} | options))


def rows_of(batches: Any) -> Rows:
    return [int(row) for x in batches for row in x[:, 0]]


def test_epochs_follow_one_another(frame: rf.Frame, accelerator: Any) -> None:
    batches = prepare(accelerator, make(frame))
    assert accelerator.prepare(batches) is batches
    assert len(batches) == BATCHES
    plain = make(frame)
    for _ in range(3):
        assert rows_of(batches) == rows_of(plain)


@pytest.mark.parametrize("step", [0, 1, 7, BATCHES - 1, BATCHES, BATCHES + 3])
def test_a_job_goes_on(frame: rf.Frame, accelerator: Any, step: int, tmp_path: Path) -> None:
    batches, taken = prepare(accelerator, make(frame)), 0
    while taken < step:
        taken += sum(1 for _ in itertools.islice(batches, step - taken))
    accelerator.save_state(str(tmp_path / "kept"))
    accelerator._custom_objects.clear()
    again = prepare(accelerator, make(frame))
    accelerator.load_state(str(tmp_path / "kept"))
    rest = rows_of(again) + rows_of(again)
    plain = make(frame)
    whole = rows_of(plain) + rows_of(plain) + rows_of(plain)
    epoch, over = divmod(step, BATCHES)
    start = epoch * ROWS + over * BATCH
    assert rest == whole[start : (epoch + 2) * ROWS]
    with pytest.raises(ArgumentError, match="without skip_first_batches"):
        accelerator.skip_first_batches(again, 3)


def test_gradients_are_accumulated_to_the_end_of_an_epoch(frame: rf.Frame, accelerator: Any) -> None:
    model = torch.nn.Linear(1, 1)
    batches = prepare(accelerator, make(frame))
    model = accelerator.prepare(model)
    for _ in range(2):
        synchronized = []
        for _ in batches:
            with accelerator.accumulate(model):
                synchronized.append(accelerator.sync_gradients)
        assert [step for step, now in enumerate(synchronized, 1) if now] == [4, 8, 12, 16, 20, 21]
    state = batches.state_dict()
    for _ in itertools.islice(batches, 5):
        state = batches.state_dict()
    assert not accelerator.gradient_state.in_dataloader  # also where an epoch was left
    batches.load_state_dict(state)
    ends = [accelerator.gradient_state.end_of_dataloader for _ in batches]
    assert ends == [False] * (BATCHES - 6) + [True]


@pytest.mark.parametrize("device", [True, False], ids=["placed", "not placed"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_prepared_dataloader_is_refused(
    frame: rf.Frame, accelerator: Any, workers: int, device: bool
) -> None:
    data = DataLoader(make(frame).torch(), batch_size=None, num_workers=workers)
    prepared = accelerator.prepare_data_loader(data, device_placement=device)
    with pytest.raises(ArgumentError, match=r"rootfeed\.integrations\.accelerate\.prepare\(accelerator"):
        next(iter(prepared))


def test_what_cannot_be_prepared(frame: rf.Frame, accelerator: Any) -> None:
    with pytest.raises(ArgumentError, match=r"takes a rootfeed\.Loader"):
        prepare(accelerator, make(frame).torch())
    uneven = make(frame, rank=0, world_size=2, tail="uneven")
    with pytest.raises(ArgumentError, match="a batch more"):
        prepare(accelerator, uneven)
    assert prepare(accelerator, uneven, register=False) is not None
    unknown = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    with pytest.raises(ArgumentError, match=r"rank=accelerator\.process_index"):
        prepare(unknown, make(frame))


RANKS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import accelerate, torch
import rootfeed as rf
from rootfeed.errors import ArgumentError
from rootfeed.integrations.accelerate import prepare
from torch.utils.data import DataLoader

job, epochs = sys.argv[1], 2
accelerator = accelerate.Accelerator(cpu=True)
loader = rf.Loader("events.root:events", 16, ["id"], seed=5, threads=1)
batches = prepare(accelerator, loader)
model, optimizer, batches = accelerator.prepare(
    torch.nn.Linear(1, 1), torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1), batches
)
if job != "first":
    accelerator.load_state("kept")
seen = []
while batches.state_dict()["epoch"] < epochs:
    seen.append([])
    for step, x in enumerate(batches, 1):
        seen[-1] += x[:, 0].long().tolist()
        accelerator.backward(model(x * 0).sum())
        if job == "first" and step == 4 and len(seen) == 1:
            accelerator.save_state("kept")
refused = 0
for dispatch in (True, False):
    accelerator.dataloader_config.dispatch_batches = dispatch
    try:
        next(iter(accelerator.prepare(DataLoader(loader.torch(), batch_size=None))))
    except ArgumentError as error:
        refused += "rootfeed.integrations.accelerate.prepare" in str(error)
assert refused == 2
with open(f"{job}{accelerator.process_index}.json", "w") as file:
    json.dump(seen, file)
if accelerator.num_processes > 1:
    torch.distributed.destroy_process_group()
"""


def ranks(job: str, count: int) -> list[list[Rows]]:
    Path("script.py").write_text(RANKS)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    shared = os.environ | {"OMP_NUM_THREADS": "1"}
    if count > 1:
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
        shared |= {"ACCELERATE_USE_CPU": "true"}
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "script.py", job],
            env=shared | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        for process in started:
            _, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors[-3000:]
    finally:
        for process in started:
            process.kill()
    return [json.loads(Path(f"{job}{rank}.json").read_text()) for rank in range(count)]


def test_processes_share_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_all(tmp_path / "files", [File(ROWS, page=40)])
    (tmp_path / "files/000.root").rename("events.root")
    first = ranks("first", 2)
    for epoch in range(2):
        rows = first[0][epoch] + first[1][epoch]
        assert len(rows) == len(set(rows)) == ROWS - 1  # one does not go evenly into two
    before = {row for rank in first for row in rank[0][: 4 * BATCH]}
    resumed = ranks("resumed", 2)
    assert [rank[0] for rank in resumed] == [rank[0][4 * BATCH :] for rank in first]
    assert [rank[1] for rank in resumed] == [rank[1] for rank in first]
    alone = ranks("alone", 1)[0]
    assert sorted(alone[0]) == sorted({*range(ROWS)} - before)
    assert sorted(alone[1]) == list(range(ROWS))
