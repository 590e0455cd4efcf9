"""The loaders of the epoch benchmark, and the process that one of them is measured in.

`epoch.py` starts this file once per contestant and data file, with the job as JSON in its only
argument, and reads the measurement as JSON from the last line of its output.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets import FEATURES, TARGET, TREE, Tally, expected
from pages import Floor

BATCH_SIZE = 1024
Batches = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Job:
    """One measurement: who reads which file, how often, on how many threads, in what memory."""

    contestant: str
    path: str
    repeat: int
    threads: int
    memory: str


@dataclass
class Measurement:
    """What the process reports; seconds are wall time, bytes are resident memory."""

    entries: int = 0
    setup_seconds: float = 0.0
    first_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    import_bytes: int = 0
    peak_bytes: int = 0
    cpu_cores: float = 0.0
    cores_elsewhere: float = 0.0
    verdict: str = ""

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)

    @property
    def entries_per_second(self) -> float:
        return self.entries / self.median_seconds

    @property
    def peak_over_import_bytes(self) -> int:
        return self.peak_bytes - self.import_bytes


class Rootfeed:
    """rootfeed within the job's memory: lazy where the dataset does not fit twice."""

    reads_rows = True

    def __init__(self, block_entries: int | None = None) -> None:
        self.block_entries = block_entries

    def load(self, job: Job) -> None:
        import numba  # noqa: F401  (rootfeed imports it on first use: its memory is an import's too)

        import rootfeed

        self.module = rootfeed

    def prepare(self, job: Job) -> Callable[[], Batches]:
        frame = self.module.open(f"{job.path}:{TREE}")
        loader = self.module.Loader(
            frame,
            batch_size=BATCH_SIZE,
            features=FEATURES,
            target=TARGET,
            shuffle=True,
            seed=1,
            memory=job.memory,
            threads=job.threads,
            block_entries=self.block_entries,
        )
        return lambda: loader


class RootLoader:
    """ROOT's RDataLoader with its defaults, except that the remainder is kept: a complete epoch."""

    reads_rows = True

    def __init__(self, *, eager: bool, implicit_threads: bool = False) -> None:
        self.eager = eager
        self.implicit_threads = implicit_threads

    def load(self, job: Job) -> None:
        import ROOT

        self.module = ROOT
        if self.implicit_threads:
            ROOT.EnableImplicitMT(job.threads)
        _ = ROOT.RDataFrame, ROOT.Experimental.ML.RDataLoader  # their libraries load on first use

    def prepare(self, job: Job) -> Callable[[], Batches]:
        frame = self.module.RDataFrame(TREE, job.path)
        loader = self.module.Experimental.ML.RDataLoader(
            frame,
            batch_size=BATCH_SIZE,
            columns=[*FEATURES, TARGET],
            target=TARGET,
            shuffle=True,
            drop_remainder=False,
            set_seed=1,
            load_eager=self.eager,
        )
        return loader.as_numpy


class Uproot:
    """uproot.iterate and NumPy, by the fastest of the usual ways to write it.

    `tuned` adds what few users know of: threads for decompression, and libdeflate. Measured: awkward
    arrays reach NumPy without a copy and are read as fast as `library="np"` or faster; the transposed
    copy takes 140 ns an entry where `np.stack(axis=1)` takes 250; `take` beats `rows[picked]`.
    """

    reads_rows = True

    def __init__(self, tuned: bool) -> None:
        self.tuned = tuned

    def load(self, job: Job) -> None:
        import awkward  # noqa: F401  (uproot imports it on first use)
        import uproot

        if self.tuned:
            uproot.ZLIB.library = "deflate"  # the fastest that it knows; its default is Python's zlib
        self.module = uproot

    def prepare(self, job: Job) -> Callable[[], Batches]:
        executor = self.module.ThreadPoolExecutor(job.threads) if self.tuned else None
        generator = np.random.default_rng(1)

        def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            steps = self.module.iterate(
                f"{job.path}:{TREE}",
                [*FEATURES, TARGET],
                step_size="100 MB",
                decompression_executor=executor,
            )
            for step in steps:
                rows = np.ascontiguousarray(np.stack([np.asarray(step[name]) for name in FEATURES]).T)
                target = np.asarray(step[TARGET]).astype(np.float32)
                order = generator.permutation(len(rows))
                for start in range(0, len(rows), BATCH_SIZE):
                    picked = order[start : start + BATCH_SIZE]
                    yield rows.take(picked, axis=0), target.take(picked)

        return batches


class FloorContestant:
    """Decompression of the file's pages and nothing else: see `pages.Floor`."""

    reads_rows = False

    def load(self, job: Job) -> None:
        """Nothing is left to import."""

    def prepare(self, job: Job) -> Callable[[], Batches]:
        floor = Floor(Path(job.path), TREE, [*FEATURES, TARGET], job.threads)

        def batches() -> Batches:
            floor.run()
            return ()

        return batches


CONTESTANTS: dict[str, Any] = {
    "rootfeed-lazy": Rootfeed(),
    "rootfeed-long": Rootfeed(block_entries=262_144),
    "rootfeed-memory": Rootfeed(),
    "root-lazy": RootLoader(eager=False),
    "root-eager": RootLoader(eager=True),
    "root-lazy-mt": RootLoader(eager=False, implicit_threads=True),
    "uproot": Uproot(tuned=False),
    "uproot-tuned": Uproot(tuned=True),
    "floor": FloorContestant(),
}


def resident_bytes(key: str) -> int:
    """Return VmRSS or VmHWM, the resident memory of this process now or at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def forget_peak() -> None:
    """Set VmHWM back to the present VmRSS: a peak during import does not count (Linux, proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


class Occupancy:
    """How many cores this process, and everything else on the machine, kept busy."""

    def __init__(self) -> None:
        self.started = self.read()

    @staticmethod
    def read() -> tuple[float, float, float]:
        """Return (wall, this process's CPU, the machine's busy CPU) in seconds."""
        total = Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, total.split()[1:9])
        busy = user + nice + system + irq + softirq + steal
        own = os.times()
        return time.perf_counter(), own.user + own.system, busy / os.sysconf("SC_CLK_TCK")

    def cores(self) -> tuple[float, float]:
        """Return the cores used by this process and those used elsewhere."""
        wall, own, busy = (now - then for now, then in zip(self.read(), self.started, strict=True))
        return own / wall, max(0.0, (busy - own) / wall)


def epoch_seconds(epoch: Callable[[], Batches]) -> tuple[float, int]:
    """Run an epoch, doing nothing with its batches; return its seconds and its entries."""
    entries = 0
    start = time.perf_counter()
    for x, _ in epoch():
        entries += len(x)
    return time.perf_counter() - start, entries


def measure(job: Job) -> Measurement:
    """Import the contestant, time its epochs, take its peak memory; only then check an epoch."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    contestant = CONTESTANTS[job.contestant]
    wanted = expected(Path(job.path))
    result = Measurement(entries=wanted.entries)

    contestant.load(job)
    result.import_bytes = resident_bytes("VmRSS")
    forget_peak()

    start = time.perf_counter()
    epoch = contestant.prepare(job)
    result.setup_seconds = time.perf_counter() - start

    result.first_seconds, _ = epoch_seconds(epoch)
    counts = set()
    occupancy = Occupancy()
    for _ in range(job.repeat):
        seconds, entries = epoch_seconds(epoch)
        result.seconds.append(seconds)
        counts.add(entries)
    result.cpu_cores, result.cores_elsewhere = occupancy.cores()
    result.peak_bytes = resident_bytes("VmHWM")

    if contestant.reads_rows:
        found = Tally()
        for x, y in epoch():
            found.add(x, y)
        result.verdict = found.verdict(wanted)
        if result.verdict == "ok" and counts != {wanted.entries}:
            result.verdict = f"timed epochs of {sorted(counts)} entries, expected {wanted.entries}"
    return result


def main() -> None:
    measurement = measure(Job(**json.loads(sys.argv[1])))
    print("\n" + json.dumps(asdict(measurement)), flush=True)


if __name__ == "__main__":
    main()
