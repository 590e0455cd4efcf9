"""How well a lazy loader mixes a file whose entries are sorted by class: the labels of each batch.

Ideal batches are drawn from the whole dataset: their label fractions spread binomially. A loader
that holds n blocks at a time spreads more, and each batch's label entropy falls short of ideal by
an expected (K - 1) / (2 ln 2) * [1/n + (1 - 1/f)/m] bits for K classes, batches of m and windows of
f*m rows; the 1/m in it is what even ideal batches lack. Peers can be measured beside rootfeed with
`--peer`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from contestants import BATCH_SIZE, CONTESTANTS, Job
from datasets import DEFAULT_FOLDER, ENTRIES, FEATURES, TARGET, TREE, ensure, expected

CLASSES = 2


@dataclass(frozen=True)
class Window:
    """What a loader holds: `blocks` of the dataset's `all_blocks`, and `rows` that mix fully."""

    blocks: float
    all_blocks: int
    rows: float

    def excess(self, batch_size: int) -> float:
        """Return 1/n + (1 - 1/f)/m, the relative variance of a batch's label fraction."""
        return 1 / self.blocks + (1 - batch_size / self.rows) / batch_size


def window_of(loader: Any) -> Window:
    """Ask a rootfeed loader for its window: means over the chunks of its first epoch."""
    chunks = loader._reader.chunks(0)
    blocks = [len(chunk.blocks) for chunk in chunks]
    rows = [chunk.rows for chunk in chunks]
    return Window(float(np.mean(blocks)), sum(blocks), float(np.mean(rows)))


def label_fractions(batches: Iterable[Any]) -> np.ndarray:
    """Return the share of label 1 in every full batch."""
    return np.array([float(y.mean()) for _, y in batches if len(y) == BATCH_SIZE])


def entropy_bits(fraction: np.ndarray) -> np.ndarray:
    """Return the entropy of a two-valued label, in bits."""
    share = np.stack([fraction, 1 - fraction])
    return -np.sum(share * np.log2(share, out=np.zeros_like(share), where=share > 0), axis=0)


def row(label: str, fractions: np.ndarray, overall: float, window: Window | None) -> list[str]:
    """Return a line of the table: measured spread and shortfall, and what the formula expects."""
    spread = math.sqrt(float(np.mean((fractions - overall) ** 2)))
    binomial = math.sqrt(overall * (1 - overall) / BATCH_SIZE)
    ideal_bits = float(entropy_bits(np.array([overall]))[0])
    shortfall = ideal_bits - float(entropy_bits(fractions).mean())
    unit = (CLASSES - 1) / (2 * math.log(2))
    formula, held, rows = "", "", ""
    expected_spread = ""
    if window:
        excess = window.excess(BATCH_SIZE)
        expected_spread = f"{math.sqrt(overall * (1 - overall) * excess):.4f}"
        formula = f"{1000 * unit * excess:.2f}"
        held, rows = f"{window.blocks:.1f} of {window.all_blocks}", f"{window.rows:.0f}"
    return [
        label,
        held,
        rows,
        str(len(fractions)),
        f"{fractions.min():.3f}–{fractions.max():.3f}",
        f"{spread:.4f}",
        f"{binomial:.4f}",
        expected_spread,
        f"{1000 * shortfall:.2f}",
        f"{1000 * unit / BATCH_SIZE:.2f}",
        formula,
    ]


HEADINGS = [
    "loader",
    "blocks in memory",
    "window, rows",
    "batches",
    "label fractions",
    "spread",
    "binomial spread",
    "formula's spread",
    "entropy lacking, mbit",
    "ideal batches, mbit",
    "formula, mbit",
]


def rootfeed_rows(path: Path, memory: str, epochs: int) -> tuple[np.ndarray, Window]:
    """Return the label fractions of `epochs` epochs of rootfeed, and its window."""
    import rootfeed

    frame = rootfeed.open(f"{path}:{TREE}")
    loader = rootfeed.Loader(
        frame,
        batch_size=BATCH_SIZE,
        features=FEATURES,
        target=TARGET,
        shuffle=True,
        seed=1,
        memory=memory,
    )
    window = window_of(loader)
    fractions = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        fractions.append(label_fractions(loader))
    return np.concatenate(fractions), window


def peer_rows(contestant: str, path: Path, epochs: int) -> np.ndarray:
    """Return the label fractions of `epochs` epochs of another loader."""
    job = Job(contestant, str(path), epochs, threads=2, memory="")
    peer = CONTESTANTS[contestant]
    peer.load(job)
    epoch: Callable[[], Iterable[Any]] = peer.prepare(job)
    return np.concatenate([label_fractions(epoch()) for _ in range(epochs)])


def main(
    memory: Annotated[list[str] | None, typer.Option(help="rootfeed's memory (repeatable).")] = None,
    peer: Annotated[
        list[str] | None, typer.Option(help="Measure this contestant of epoch.py too.")
    ] = None,
    file: Annotated[
        str, typer.Option(help="Which of the files sorted by label.")
    ] = "rntuple_zstd_sorted",
    entries: Annotated[int, typer.Option(min=1, help="Entries in the file.")] = ENTRIES,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to take batches from.")] = 4,
    data: Annotated[
        Path, typer.Option(help="Where the files are, or are written once.")
    ] = DEFAULT_FOLDER,
) -> None:
    """Print how the label fraction of batches spreads, against ideal batches and the formula."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    path = ensure(file, data, entries)
    whole = expected(path)
    overall = whole.label_sum / whole.entries
    table = Table(
        *HEADINGS,
        title=f"{path.name}: entries sorted by label, batches of {BATCH_SIZE}, {epochs} epochs",
    )
    measured: list[tuple[str, np.ndarray, Window | None]] = []
    for budget in memory or ["30 MB", "125 MB"]:
        with console.status(f"rootfeed in {budget}"):
            measured.append((f"rootfeed, {budget}", *rootfeed_rows(path, budget, epochs)))
    for name in peer or []:
        with console.status(name):
            measured.append((name, peer_rows(name, path, epochs), None))
    for label, fractions, window in measured:
        table.add_row(*row(label, fractions, overall, window))
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
