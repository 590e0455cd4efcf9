"""What reaches a network: the contestants of `shuffle.py`, and the process that measures one of them.

`shuffle.py` starts this file once per contestant and layout, with the job as JSON in its only
argument, and reads what was found as JSON from the last line of its output.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from classes import FEATURES, FILE, LABELS, ROW_BYTES, SHARES, TARGET, auc, held_out, lengths
from datasets import TREE

BATCH_SIZE = 1024
TARGETS = [TARGET, FILE]
HIDDEN = 64

Batches = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Job:
    """Who reads which files in what memory (in bytes; 0 is the default), and how often."""

    contestant: str
    paths: tuple[str, ...]
    entries: int
    memory: int
    seeds: int
    epochs: int
    train: bool


@dataclass
class Order:
    """How a quantity of entries, label or file, is distributed over the batches of an epoch.

    `lacking` is the entropy of all entries less that of a batch, on average, in bits; `rows` and
    `batches` are lag-1 autocorrelations of the entries' values and of the batches' means.
    """

    lacking: float
    rows: float
    batches: float


@dataclass
class Findings:
    """What the process reports."""

    label: list[Order] = field(default_factory=list)
    file: list[Order] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    aucs: list[float] = field(default_factory=list)
    complete: bool = True
    in_memory: bool = False
    window_blocks: float = 0.0

    @classmethod
    def of(cls, record: dict[str, Any]) -> Findings:
        """Return what `dataclasses.asdict` made a dictionary of."""
        for name in ("label", "file"):
            record[name] = [Order(**order) for order in record[name]]
        return cls(**record)


# --- the contestants: each turns a job and a seed into a function that starts an epoch ------------


def rootfeed_epochs(job: Job, seed: int, findings: Findings) -> Callable[[], Batches]:
    import rootfeed as rf

    loader = rf.Loader(
        rf.open([f"{path}:{TREE}" for path in job.paths]),
        BATCH_SIZE,
        FEATURES,
        TARGETS,
        memory=job.memory or "auto",
        seed=seed,
        threads=2,
    )
    findings.in_memory = loader.in_memory
    findings.window_blocks = loader.window_blocks
    return lambda: loader


def memory_epochs(job: Job, seed: int, findings: Findings) -> Callable[[], Batches]:
    """Everything in memory, and a NumPy permutation of it: what the others are compared with."""
    import uproot

    generator = np.random.default_rng(seed)
    data = uproot.concatenate([f"{path}:{TREE}" for path in job.paths], library="np")
    rows = np.stack([data[name] for name in FEATURES], axis=1)
    targets = np.stack([data[name] for name in TARGETS], axis=1).astype(np.float32)

    def epoch() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = generator.permutation(len(rows))
        for start in range(0, len(rows), BATCH_SIZE):
            picked = order[start : start + BATCH_SIZE]
            yield rows[picked], targets[picked]

    return epoch


def root_epochs(job: Job, seed: int, findings: Findings) -> Callable[[], Batches]:
    """ROOT's RDataLoader with its defaults, except that the remainder is kept.

    Without a seed, as is its default: with one, it repeats its permutations in every epoch.
    """
    import ROOT

    frame = ROOT.RDataFrame(TREE, list(job.paths))
    # A budget becomes the documented size of its buffer.
    buffer = {"batches_in_memory": job.memory // (ROW_BYTES * BATCH_SIZE)} if job.memory else {}
    loader = ROOT.Experimental.ML.RDataLoader(
        frame,
        batch_size=BATCH_SIZE,
        columns=[*FEATURES, *TARGETS],
        target=TARGETS,
        drop_remainder=False,
        **buffer,
    )
    return loader.as_numpy


def uproot_epochs(job: Job, seed: int, findings: Findings) -> Callable[[], Batches]:
    """uproot.iterate, whose steps end where files end, and a NumPy permutation of each step."""
    import uproot

    generator = np.random.default_rng(seed)

    def epoch() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        # Kept from step to step, so that a batch that a step cuts in two is whole.
        x, y = np.empty((0, len(FEATURES)), np.float32), np.empty((0, len(TARGETS)), np.float32)
        files = [f"{path}:{TREE}" for path in job.paths]
        for step in uproot.iterate(files, [*FEATURES, *TARGETS], step_size="100 MB", library="np"):
            order = generator.permutation(len(step[TARGET]))
            x = np.concatenate([x, np.stack([step[name][order] for name in FEATURES], axis=1)])
            new = np.stack([step[name][order] for name in TARGETS], axis=1)
            y = np.concatenate([y, new.astype(np.float32)])
            whole = len(x) - len(x) % BATCH_SIZE
            for start in range(0, whole, BATCH_SIZE):
                yield x[start : start + BATCH_SIZE], y[start : start + BATCH_SIZE]
            x, y = x[whole:], y[whole:]
        if len(x):
            yield x, y

    return epoch


CONTESTANTS = {
    "rootfeed": rootfeed_epochs,
    "memory": memory_epochs,
    "root": root_epochs,
    "uproot": uproot_epochs,
}


# --- what is measured -----------------------------------------------------------------------------


def entropy_bits(counts: np.ndarray) -> np.ndarray:
    """Return the entropy of each row of counts."""
    share = counts / counts.sum(axis=-1, keepdims=True)
    return -np.sum(share * np.log2(share, out=np.zeros_like(share), where=share > 0), axis=-1)


def ideal_lacking(shares: np.ndarray) -> float:
    """Return the bits that batches drawn at random lack: a sum over binomial distributions."""
    k = np.arange(1, BATCH_SIZE + 1)
    log_factorial = np.concatenate([[0], np.cumsum(np.log(k))])
    entropy = 0.0
    for p in shares:
        log_choices = log_factorial[-1] - log_factorial[k] - log_factorial[BATCH_SIZE - k]
        chance = np.exp(log_choices + k * math.log(p) + (BATCH_SIZE - k) * math.log1p(-p))
        entropy -= float(np.sum(chance * k / BATCH_SIZE * np.log2(k / BATCH_SIZE)))
    return float(entropy_bits(shares)) - entropy


def lag_one(values: np.ndarray) -> float:
    """Return the correlation of each value with the next."""
    apart = values - values.mean()
    return float(np.mean(apart[1:] * apart[:-1]) / np.mean(apart**2))


def order_of(values: np.ndarray, kinds: int) -> Order:
    """Measure one epoch: `values` are those of its entries, in the order in which they came."""
    full = values[: len(values) // BATCH_SIZE * BATCH_SIZE].reshape(-1, BATCH_SIZE)
    counts = np.stack([(full == kind).sum(axis=1) for kind in range(kinds)], axis=1)
    everything = np.bincount(values, minlength=kinds)
    return Order(
        lacking=float(entropy_bits(everything) - entropy_bits(counts).mean()),
        rows=lag_one(values.astype(np.float64)),
        batches=lag_one(full.mean(axis=1)),
    )


class Network:
    """Two hidden layers, trained by Adam at a constant rate on every batch that comes."""

    def __init__(self, seed: int) -> None:
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(seed)
        self.torch = torch
        self.module = torch.nn.Sequential(
            torch.nn.Linear(len(FEATURES), HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, 1),
        )
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-3)
        self.loss = torch.nn.BCEWithLogitsLoss()

    def learn(self, x: np.ndarray, y: np.ndarray) -> None:
        self.optimizer.zero_grad()
        label = self.torch.from_numpy(y)[:, :1]
        self.loss(self.module(self.torch.from_numpy(x)), label).backward()
        self.optimizer.step()

    def score(self, x: np.ndarray) -> np.ndarray:
        with self.torch.no_grad():
            return self.module(self.torch.from_numpy(x))[:, 0].numpy()


def measure(job: Job) -> Findings:
    """Run the epochs of every seed; where wanted, train a network on just these batches."""
    findings = Findings()
    start = CONTESTANTS[job.contestant]
    wanted = lengths(job.entries)
    test_x, test_label = held_out() if job.train else (np.empty(0), np.empty(0))
    for seed in range(1, job.seeds + 1):
        epoch = start(job, seed, findings)
        network = Network(seed) if job.train else None
        for _ in range(job.epochs):
            parts = []
            for x, y in epoch():
                parts.append(y.astype(np.uint8))
                if network:
                    network.learn(x, y)
            label, file = np.concatenate(parts).T
            if not np.array_equal(np.bincount(file, minlength=len(SHARES)), wanted):
                findings.complete = False
            findings.label.append(order_of(label, 2))
            findings.file.append(order_of(file, len(SHARES)))
            if not findings.means:
                full = [part[:, 0].mean() for part in parts if len(part) == BATCH_SIZE]
                findings.means = [float(mean) for mean in full]
            if not np.array_equal(LABELS[file], label):
                raise ValueError("labels and files of a batch do not belong together")
        if network:
            findings.aucs.append(auc(network.score(test_x), test_label))
    return findings


def main() -> None:
    warnings.simplefilter("ignore")
    findings = measure(Job(**json.loads(sys.argv[1])))
    print("\n" + json.dumps(asdict(findings)), flush=True)


if __name__ == "__main__":
    main()
