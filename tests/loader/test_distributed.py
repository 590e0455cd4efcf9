"""Several processes of torch.distributed: who reads what, and a training that is killed and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samples import File, in_a_row, write_all, write_columns

torch = pytest.importorskip("torch")
if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)

FILES = in_a_row(File(400, page=50), File(177, page=30, format="RNTuple"), File(150, page=60))
ENTRIES = 727
LIMIT_SECONDS = 50

JOIN = """
    import json, os, sys, time
    import torch
    import torch.distributed as dist
    import rootfeed as rf

    torch.set_num_threads(1)

    def join(rank, world_size, folder):
        store = dist.FileStore(os.path.join(folder, "store"), world_size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size)

    # Gloo's threads outlive destroy_process_group() where a model in DistributedDataParallel refers to
    # the group. One that lets go of its last tensors while the interpreter ends asks for the
    # interpreter's lock (ProcessGroupGloo::runLoop, TensorImpl::decref_pyobject, PyEval_RestoreThread),
    # which ends the thread within a destructor, and with it the process: "terminate called without an
    # active exception". So the interpreter does not end.
    def leave(said):
        dist.barrier()
        dist.destroy_process_group()
        print(json.dumps(said), flush=True)
        os._exit(0)
"""


@contextmanager
def processes(script: str, world_size: int, folder: Path, *arguments: Any) -> Iterator[Any]:
    """Run a script on each rank, which is in `sys.argv[1:4]` with the world size and a folder."""
    folder.mkdir(exist_ok=True)
    text = textwrap.dedent(JOIN) + textwrap.dedent(script)
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
    environment |= {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}
    started: list[subprocess.Popen[str]] = []
    try:
        for rank in range(world_size):
            command = [sys.executable, "-W", "ignore", "-c", text, rank, world_size, folder, *arguments]
            with (folder / f"error-{rank}").open("w") as errors:
                started.append(
                    subprocess.Popen(
                        list(map(str, command)),
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        text=True,
                        env=environment,
                    )
                )
        yield started
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.communicate()


def answers(script: str, world_size: int, folder: Path, *arguments: Any) -> list[Any]:
    """Return what each rank prints as JSON in its last line."""
    deadline = time.monotonic() + LIMIT_SECONDS
    with processes(script, world_size, folder, *arguments) as started:
        outs = [each.communicate(timeout=deadline - time.monotonic())[0] for each in started]
        errors = [(folder / f"error-{rank}").read_text() for rank in range(world_size)]
        assert [each.returncode for each in started] == [0] * world_size, "\n".join(errors)
    return [json.loads(out.splitlines()[-1]) for out in outs]


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_all(tmp_path_factory.mktemp("distributed") / "files", FILES)


ASKED = """
    import multiprocessing, pickle
    from torch.utils.data import DataLoader

    def epoch(batches):
        return [[int(each) for each in x[:, 0]] for x in batches]

    def refusal(action):
        try:
            action()
        except ValueError as error:
            return str(error)

    rank, world_size, folder, paths = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    frame = rf.open(dict.fromkeys(json.loads(paths), "events"))
    before = rf.Loader(frame, 16, ["id"], seed=5, threads=1, tail="uneven")
    unseeded = rf.Loader(frame, 16, ["id"], threads=1)
    said = {"alone": len(before), "unseeded alone": len(epoch(unseeded))}
    pickled = pickle.dumps(before)
    join(rank, world_size, folder)
    said["unseeded"] = [refusal(lambda: len(unseeded)), refusal(lambda: next(iter(unseeded)))]
    # Whoever was made, or pickled, before takes part too.
    said["batches"] = [len(before), epoch(before)]
    said["pickled"] = epoch(pickle.loads(pickled))
    loader = rf.Loader(frame, 16, ["id"], seed=5, threads=1, tail="uneven")
    said["split"] = [epoch(part) for part in loader.split(0.3)]
    # Where it is said what the rank is, that counts.
    said["given"] = len(rf.Loader(frame, 16, ["id"], rank=0, world_size=1))
    # Its workers belong to their rank; which epoch it is they cannot agree on.
    plain = DataLoader(
        loader.torch(), batch_size=None, num_workers=1, multiprocessing_context="fork", timeout=40
    )
    said["not chosen"] = refusal(lambda: next(iter(plain)))
    for number, how in enumerate(("fork", "spawn")):
        loader.set_epoch(number)
        workers = DataLoader(
            loader.torch(), batch_size=None, num_workers=1, multiprocessing_context=how, timeout=40
        ) if how == "fork" or rank == 1 else loader.torch()
        said[how] = epoch(workers)
    # A loader that comes from another rank is that of this one.
    sent = [loader if rank == 0 else None]
    dist.broadcast_object_list(sent)
    sent[0].set_epoch(0)
    said["sent"] = epoch(sent[0])
    leave(said)
"""


def once(parts: Sequence[list[list[int]]], expected: Sequence[int] = range(ENTRIES)) -> bool:
    """Whether the batches of all ranks hold each entry once."""
    return sorted(each for part in parts for batch in part for each in batch) == list(expected)


def test_ranks_are_those_of_torch(paths: list[str], tmp_path: Path) -> None:
    # Spawned workers import the script of their parent: here, none.
    said = answers(ASKED, 2, tmp_path / "ranks", json.dumps(paths))
    for each in said:
        assert (each["alone"], each["unseeded alone"], each["given"]) == (46, 46, 46)
        for text in each["unseeded"]:
            assert text == "2 ranks must agree on the order of the entries: give the loader a seed."
        length, batches = each["batches"]
        assert length == len(batches) == 23
        assert each["pickled"] == batches
        assert "call set_epoch(epoch) before each epoch, on every rank" in each["not chosen"]
        assert each["sent"] == batches
    assert once([each["batches"][1] for each in said])
    parts = [batches for each in said for batches in each["split"]]
    assert once(parts)
    tests = [entry for each in said for batch in each["split"][1] for entry in batch]
    assert abs(len(tests) - 0.3 * ENTRIES) <= 2
    for how in ("fork", "spawn"):
        assert once([each[how] for each in said])
    assert said[0]["fork"] != said[0]["spawn"]  # the next epoch


UNLIKE = """
    import multiprocessing, shutil

    rank, world_size, folder, paths = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    paths = json.loads(paths)
    join(rank, world_size, folder)
    if rank:
        dist.barrier()  # each of the others comes after the first one, who waits for nobody

    def open_(paths, **options):
        return rf.open(dict.fromkeys(paths, "events"), **options)

    def said(frame, **options):
        try:
            return len(rf.Loader(frame, **({"batch_size": 16, "features": "id", "seed": 5} | options)))
        except ValueError as error:
            return str(error)

    mine, lazy = open_(paths), {"chunk_entries": 100, "block_entries": 20 + rank}
    answers = {"alike": said(mine), "again": said(mine)}
    # Each in a name of its own: the first one of that name is what the others compare with.
    answers["files"] = said(open_(paths[: len(paths) - rank]).define("a", "id"), features="a")
    answers["seed"] = said(mine.define("b", "id"), features="b", seed=rank)
    answers["memory"] = said(mine.define("c", "id"), features="c", **lazy)
    answers["once more"] = said(mine.define("c", "id"), features="c", **lazy)
    broken = [*paths[:2], os.path.join(folder, f"{rank}.root")]
    if rank == 0:
        shutil.copy(paths[2], broken[-1])
    answers["skipped"] = said(open_(broken, on_error="skip").define("d", "id"), features="d")
    answers["alone"] = said(mine.range(100), rank=0, world_size=1)
    # Two of a kind, in the same order on all ranks; and one more of a rank that has it already.
    answers["two"] = [said(mine.define("e", "id"), features="e")]
    if rank == 0:
        answers["two"] += [said(mine.define("e", "id"), features="e")]
    answers["two"] += [said(open_(paths[:1]).define("e", "id"), features="e")]
    # A forked process has not connected itself.
    with multiprocessing.get_context("fork").Pool(1) as pool:
        options = {"features": "b", "seed": 7 + rank}
        answers["forked"] = pool.apply(said, (mine.define("b", "id"),), options)
    if rank == 0:
        dist.barrier()
    leave(answers)
"""


def test_ranks_that_differ_are_refused(paths: list[str], tmp_path: Path) -> None:
    first, second = answers(UNLIKE, 2, tmp_path / "ranks", json.dumps(paths))
    begins = (
        "rank 1 of 2 has another dataset than another rank: rows would be lost, and others repeated. "
        "What differs:\n  "
    )
    ends = "\nGive all ranks the same; a loader that this rank alone has takes rank=0, world_size=1."
    refused = {"files", "seed", "memory", "once more", "skipped"}
    for name, text in second.items():
        assert isinstance(first[name], int | list), (name, first[name])
        if name not in refused:
            assert isinstance(text, int | list), (name, text)
            continue
        assert text.startswith(begins)
        assert text.endswith(ends)
    assert first["two"] == [first["two"][0], *second["two"]]

    def line(name: str) -> str:
        return second[name].removeprefix(begins).removesuffix(ends)

    assert re.fullmatch(
        r"the files, or their order: '\w{16} of 150 entries' on another rank, and not here",
        line("files"),
    )
    assert line("seed") == "the seed: 0 on another rank, 1 here"
    assert line("memory") == line("once more")
    assert re.fullmatch(
        r"sizes, which follow from memory=: a window of (\d+) bytes and blocks of 20 entries on another "
        r"rank, a window of \1 bytes and blocks of 21 entries here",
        line("memory"),
    )
    files, skipped = line("skipped").split("\n  ")
    assert files == line("files")
    assert skipped.startswith('files that on_error="skip" leaves out here: ')
    assert skipped.endswith("/1.root")


# --- a training that is killed --------------------------------------------------------------------

ROWS = 6000
BATCH = 25
TRAINING = """
    import torch.nn.functional as F

    rank, world_size, folder, paths, log, epochs = sys.argv[1:]
    rank, world_size, epochs = int(rank), int(world_size), int(epochs)
    join(rank, world_size, folder)
    frame = rf.open(dict.fromkeys(json.loads(paths), "events"))
    loader = rf.Loader(
        frame, 25, ["id", "a", "b"], "label", seed=11, threads=1, tail="uneven",
        chunk_entries=1500, block_entries=100, dtype="float64",
    )
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    step, checkpoint = 0, os.path.join(os.path.dirname(folder), "checkpoint.pt")
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(json.loads(saved["loader"]))
        step = saved["step"]
    model = torch.nn.parallel.DistributedDataParallel(model)
    consumed = open(os.path.join(os.path.dirname(folder), f"{log}-{rank}"), "a")
    print("READY", flush=True)

    def save():
        text = json.dumps(loader.state_dict())
        assert len(text) < 4096
        torch.save(
            {"model": model.module.state_dict(), "optimizer": optimizer.state_dict(),
             "loader": text, "step": step},
            checkpoint + ".partial",
        )
        os.replace(checkpoint + ".partial", checkpoint)

    while (epoch := loader.state_dict()["epoch"]) < epochs:
        # Ranks may have unequal numbers of batches: `join` is made for that.
        with model.join():
            for x, y in loader.torch():
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(model(x[:, 1:]), y.double())
                loss.backward()
                optimizer.step()
                ids = [int(each) for each in x[:, 0]]
                consumed.write(json.dumps([step, epoch, loss.item(), ids]) + "\\n")
                consumed.flush()
                step += 1
                if rank == 0 and step % 7 == 0:
                    save()
                if log == "before":
                    time.sleep(0.01)
        dist.barrier()
    leave(step)
"""


def read(folder: Path, log: str, world_size: int) -> list[list[Any]]:
    """Return what ranks have consumed: step, epoch, loss, entries; a torn last line is none."""
    rows = []
    for rank in range(world_size):
        lines = (folder / f"{log}-{rank}").read_text().splitlines(keepends=True)
        rows += [json.loads(line) for line in lines if line.endswith("\n")]
    return sorted(rows, key=lambda row: row[0])


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two classes that a small network can tell, stored one after the other."""
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1], ROWS // 2)
    columns = {
        "id": np.arange(ROWS),
        "a": random.normal(labels * 1.5, 1),
        "b": random.normal(labels * -1.5, 1),
        "label": labels.astype("i4"),
    }
    folder = tmp_path_factory.mktemp("training")
    return [
        write_columns(folder / f"{number}.root", {key: each[part] for key, each in columns.items()})
        for number, part in enumerate(np.split(np.arange(ROWS), [1100, 2500, 4300]))
    ]


@pytest.mark.thorough
def test_a_training_that_is_killed_goes_on_with_fewer_ranks(events: list[str], tmp_path: Path) -> None:
    paths = json.dumps(events)
    checkpoint = tmp_path / "checkpoint.pt"
    each_epoch = ROWS // BATCH // 3  # steps
    deadline = time.monotonic() + LIMIT_SECONDS
    with processes(TRAINING, 3, tmp_path / "three", paths, "before", 3) as started:
        # In the middle of the second epoch, a few steps after a checkpoint.
        while True:
            assert time.monotonic() < deadline, (tmp_path / "three" / "error-0").read_text()
            assert all(each.poll() is None for each in started)
            logs = [tmp_path / f"before-{rank}" for rank in range(3)]
            if all(log.exists() for log in logs):
                last = min(log.read_text().count("\n") for log in logs)
                if last >= each_epoch * 1.4 and last % 7 >= 2:
                    break
            time.sleep(0.005)
        for each in started:
            each.send_signal(signal.SIGKILL)
        assert [each.wait(10) for each in started] == [-signal.SIGKILL] * 3
    saved = torch.load(checkpoint, weights_only=True)
    state = json.loads(saved["loader"])
    assert (state["epoch"], state["world_size"]) == (1, 3)
    assert state["batches"] == saved["step"] - each_epoch
    steps = answers(TRAINING, 2, tmp_path / "two", paths, "after", 3)

    before, after = read(tmp_path, "before", 3), read(tmp_path, "after", 2)
    lost = [row for row in before if row[0] >= saved["step"]]
    kept = [row for row in before if row[0] < saved["step"]]
    assert lost  # the kill came between two checkpoints
    assert 0.3 * ROWS < sum(len(row[3]) for row in kept if row[1] == 1) < 0.9 * ROWS
    for number in range(3):
        entries = [entry for row in kept + after if row[1] == number for entry in row[3]]
        assert sorted(entries) == list(range(ROWS)), number
    assert {row[1] for row in after} == {1, 2}
    # What was lost came again, to the others.
    again = {entry for row in after if row[1] == 1 for entry in row[3]}
    assert {entry for row in lost for entry in row[3]} <= again

    # The loss goes on where it was.
    first = np.mean([row[2] for row in kept if row[0] < 3])
    end = np.mean([row[2] for row in kept if row[0] >= saved["step"] - 20])
    begin = np.mean([row[2] for row in after if row[0] < saved["step"] + 20])
    assert min(row[0] for row in after) == saved["step"]
    assert max(steps) == max(row[0] for row in after) + 1
    assert end < 0.6 * first
    assert abs(begin - end) < 0.2 * (first - end)
    assert np.mean([row[2] for row in after[-60:]]) < 0.6 * first
