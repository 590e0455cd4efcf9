"""Minutes of everything that a loop can do to a loader, in a random order: does anything grow?

Epochs, early breaks, exceptions in the loop, iterators that are dropped, states that are restored,
splits, forked children that iterate, workers of PyTorch's DataLoader that are joined or left, over
loaders that are lazy and in memory, plain and balanced, all in one process. Each epoch and each rest of
one is counted. Every ten seconds resident memory, threads, open descriptors and child processes are
printed, at a moment when nothing iterates. The exit status is 1 if any of them has grown.

    python benchmarks/soak.py                     # ten minutes; Linux only
    python benchmarks/soak.py --minutes 1 --seed 7
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import uproot
from torch.utils.data import DataLoader

import rootfeed as rf

ENTRIES = 120_000
BATCH = 256
WARM_UP = 0.3
"""Of the time: kernels are compiled, pools filled, and the allocator finds its size."""

MEMORY_ALLOWANCE = 24
"""MB that the median resident memory of the last third may exceed that after warming up. Blocks that the
allocator keeps for threads that have ended vary by as much from one moment to the next."""

CHILD_SECONDS = 60


@dataclass(frozen=True)
class Sample:
    """What the process holds at a quiet moment."""

    seconds: float
    resident: float  # MB
    threads: int
    descriptors: int
    children: int


class ExpectedError(Exception):
    """Raised in the user's loop, on purpose."""


def write(folder: Path) -> list[str]:
    """Write a TTree and an RNTuple of ids, four numbers and a label that is rarely 1."""
    generator = np.random.default_rng(1)
    paths = []
    for number, kind in enumerate(("mktree", "mkrntuple")):
        ids = np.arange(number * ENTRIES // 2, (number + 1) * ENTRIES // 2)
        columns: dict[str, Any] = {"id": ids, "label": (generator.random(len(ids)) < 0.04).astype("i4")}
        columns |= {f"f{each}": generator.normal(size=len(ids)).astype("f4") for each in range(4)}
        path = str(folder / f"{kind}.root")
        with uproot.recreate(path) as file:
            events = getattr(file, kind)("events", {key: each.dtype for key, each in columns.items()})
            for start in range(0, len(ids), 4000):
                events.extend({key: each[start : start + 4000] for key, each in columns.items()})
        paths.append(path)
    return paths


def make_loaders(frame: rf.Frame) -> dict[str, Callable[[], rf.Loader]]:
    """Return functions that make the loaders under test."""
    lazy = {"chunk_entries": 20_000, "block_entries": 1000}
    features = ["id", "f0", "f1", "f2", "f3"]

    def maker(sizes: dict[str, Any], sampling: Any) -> Callable[[], rf.Loader]:
        return lambda: rf.Loader(
            frame, BATCH, features, "label", seed=3, dtype="f8", sampling=sampling, threads=3, **sizes
        )

    return {
        f"{where}, {how}": maker(sizes, sampling)
        for where, sizes in (("lazy", lazy), ("in memory", {"memory": "100 MB"}))
        for how, sampling in (
            ("plain", None),
            ("balanced", rf.balanced("label")),
            ("longest", rf.balanced("label", {0: 0.8, 1: 0.2}, epoch="longest")),
        )
    }


def count(batches: Any, expected: int) -> None:
    """Go through all batches, and count them."""
    found = sum(1 for _ in batches)
    if found != expected:
        raise AssertionError(f"{found} batches where {expected} were expected")


class Soak:
    """The things that can be done to a loader.

    Parameters
    ----------
    chance : random.Random
    makers : mapping of str to function
    """

    def __init__(self, chance: random.Random, makers: dict[str, Callable[[], rf.Loader]]) -> None:
        self.chance = chance
        self.makers = makers
        self.loaders = {name: make() for name, make in makers.items()}
        self.done: Counter[str] = Counter()
        self.actions = (
            (self.epoch, 4),
            (self.break_early, 6),
            (self.fail, 4),
            (self.drop, 4),
            (self.restore, 4),
            (self.divide, 2),
            (self.fork, 2),
            (self.work, 1),
            (self.leave_workers, 1),
            (self.renew, 1),
        )

    def step(self) -> None:
        """Do one of them to one of the loaders."""
        (action,) = self.chance.choices(*zip(*self.actions, strict=True))
        name = self.chance.choice(list(self.loaders))
        self.done[action.__name__] += 1
        try:
            action(name, self.loaders[name])
        except Exception as error:
            error.add_note(f"in {action.__name__} of the loader {name!r}")
            raise

    def some(self, loader: rf.Loader) -> int:
        return self.chance.randrange(1, len(loader) - 1)

    def epoch(self, name: str, loader: rf.Loader) -> None:
        batches = loader.torch() if self.chance.random() < 0.5 else loader
        ids = []
        for x, _ in batches:
            ids.append(np.asarray(x)[:, 0].astype(np.int64))
        if len(ids) != len(loader):
            raise AssertionError(f"{len(ids)} batches of {len(loader)}")
        found = np.concatenate(ids)
        if "longest" not in name and len(np.unique(found)) != len(found):
            raise AssertionError("an entry came twice")
        if "plain" in name and len(found) != ENTRIES:
            raise AssertionError(f"{len(found)} entries of {ENTRIES}")

    def break_early(self, _: str, loader: rf.Loader) -> None:
        stop = self.chance.choice([0, self.some(loader)])
        for number, _batch in enumerate(loader):
            if number == stop:
                break

    def fail(self, _: str, loader: rf.Loader) -> None:
        stop = self.some(loader)
        try:
            for number, _batch in enumerate(loader.torch()):
                if number == stop:
                    raise ExpectedError
        except ExpectedError:
            pass

    def drop(self, _: str, loader: rf.Loader) -> None:
        iterators: list[Iterator[Any]] = [iter(loader) for _ in range(self.chance.randrange(1, 4))]
        for iterator in iterators:
            next(iterator)
        iterators.append(iter(loader))  # which never starts

    def restore(self, name: str, loader: rf.Loader) -> None:
        done = self.some(loader)
        iterator = iter(loader)
        for _ in itertools.islice(iterator, done):
            pass
        del iterator
        state = json.loads(json.dumps(loader.state_dict()))
        other = loader if self.chance.random() < 0.5 else self.makers[name]()
        other.load_state_dict(state)
        count(other, len(loader) - done)

    def divide(self, _: str, loader: rf.Loader) -> None:
        fraction = self.chance.choice([0.2, 0.5])
        train, test = loader.split(fraction, stratify=self.chance.choice([None, "label"]))
        count(train, len(train))
        for _ in itertools.islice(test, 5):
            pass

    def fork(self, _: str, loader: rf.Loader) -> None:
        # With threads in the parent: an iterator is in the middle of its epoch.
        iterator = iter(loader)
        next(iterator)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                count(loader, len(loader))
                status = 0
            finally:
                os._exit(status)
        next(iterator)
        ended = wait(child)
        if ended != 0:
            raise AssertionError(f"a forked child ended with {ended}")

    def work(self, _: str, loader: rf.Loader) -> None:
        count(self.workers(loader), len(loader))

    def leave_workers(self, _: str, loader: rf.Loader) -> None:
        for _batch in itertools.islice(self.workers(loader), self.some(loader) // 4 + 1):
            pass

    def workers(self, loader: rf.Loader) -> Any:
        workers = self.chance.randrange(1, 3)
        return DataLoader(
            loader.torch(),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context="fork",
            persistent_workers=self.chance.random() < 0.5,
        )

    def renew(self, name: str, loader: rf.Loader) -> None:
        loader.close()
        if self.chance.random() < 0.5:
            self.loaders[name] = self.makers[name]()


def wait(child: int) -> int:
    """Wait for a process that this one has forked; kill it if it hangs."""
    deadline = time.monotonic() + CHILD_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"a forked child has not ended within {CHILD_SECONDS} s")


def sample(begun: float) -> Sample:
    """Look at this process, when everything that was dropped is gone."""
    gc.collect()
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    me, children = os.getpid(), 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            children += int(path.read_text().rpartition(")")[2].split()[1]) == me
        except OSError:
            continue  # which has ended
    return Sample(
        time.monotonic() - begun,
        int(status["VmRSS"].split()[0]) / 1024,
        int(status["Threads"]),
        len(os.listdir("/proc/self/fd")) - 1,  # that of the listing itself
        children,
    )


def verdict(samples: list[Sample], seconds: float) -> list[str]:
    """Return what has grown."""
    warm = [each for each in samples if each.seconds >= WARM_UP * seconds]
    third = max(len(warm) // 3, 1)
    before, after = warm[:third], warm[-third:]
    grown = []
    for name, allowance in (
        ("resident", MEMORY_ALLOWANCE),
        ("threads", 0),
        ("descriptors", 0),
        ("children", 0),
    ):
        first, last = (
            statistics.median(getattr(each, name) for each in part) for part in (before, after)
        )
        unit = " MB" if name == "resident" else ""
        text = f"{name}: {first:.0f}{unit} after warming up, {last:.0f}{unit} at the end"
        text += f" (median of {third} samples; {allowance}{unit} more are allowed)"
        print(text)
        if last > first + allowance:
            grown.append(name)
    return grown


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 10.0,
    seed: Annotated[int | None, typer.Option(help="Of the order of things; drawn if left out.")] = None,
    every: Annotated[float, typer.Option(help="Seconds between two lines.")] = 10.0,
) -> None:
    """Do random things to loaders for some minutes, and see whether anything grows."""
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    print(f"seed {seed}, {minutes:g} minutes, process {os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        frame = rf.open(dict.fromkeys(write(Path(folder)), "events"))
        soak = Soak(random.Random(seed), make_loaders(frame))
        seconds, begun = minutes * 60, time.monotonic()
        samples: list[Sample] = []
        print(f"{'seconds':>8}{'actions':>9}{'RSS/MB':>9}{'threads':>9}{'open':>7}{'children':>10}")
        while (now := time.monotonic() - begun) < seconds or not samples:
            if now >= every * (len(samples) + 1):
                samples.append(found := sample(begun))
                print(
                    f"{found.seconds:8.0f}{soak.done.total():9}{found.resident:9.1f}"
                    f"{found.threads:9}{found.descriptors:7}{found.children:10}",
                    flush=True,
                )
            soak.step()
    print(", ".join(f"{name} {number}" for name, number in soak.done.most_common()))
    grown = verdict(samples, seconds)
    print(f"GROWN: {', '.join(grown)}" if grown else "nothing has grown")
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    typer.run(main)
