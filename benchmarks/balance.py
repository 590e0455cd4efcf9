"""Balanced batches of an imbalanced dataset, against an epoch without balance.

    python benchmarks/balance.py

Four classes, 1 : 10 : 100 : 1000, ten float32 features and a label; batches of 256 in equal shares,
within a budget of a fifth of the rows' bytes and within one of a half. Once each class has files of its
own, once every page holds all classes. Every batch is checked to hold its shares.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import uproot
from rich.console import Console
from rich.table import Table

import rootfeed as rf
from datasets import DEFAULT_FOLDER

CLASSES = np.array([1, 10, 100, 1000])
FEATURES = [f"f{number}" for number in range(10)]
ROW_BYTES = 4 * (len(FEATURES) + 1) + 4  # with a place in the order
BATCH_SIZE = 256


def write(folder: Path, layout: str, entries: int) -> list[Path]:
    """Write four files, unless they are there."""
    paths = [folder / f"balance_{layout}_{entries}_{number}.root" for number in range(4)]
    random = np.random.default_rng(0)
    labels = random.choice(4, entries, p=CLASSES / CLASSES.sum()).astype(np.int32)
    parts = [labels[labels == number] for number in range(4)]
    if layout == "mixed":
        parts = np.array_split(labels, 4)
    folder.mkdir(parents=True, exist_ok=True)
    for path, part in zip(paths, parts, strict=True):
        if path.exists():
            continue
        partial = path.with_suffix(".partial")
        with uproot.recreate(partial, compression=uproot.ZSTD(5)) as file:
            types = dict.fromkeys(FEATURES, "float32")
            tree = file.mktree("events", {**types, "label": "int32"})
            for start in range(0, len(part), 50_000):
                some = part[start : start + 50_000]
                columns = {name: random.normal(size=len(some)).astype("f4") for name in FEATURES}
                tree.extend({**columns, "label": some})
        partial.rename(path)
    return paths


def rate(loader: rf.Loader, repeat: int) -> float:
    """Return millions of rows a second: the median of some epochs after the first."""
    rates = []
    for _ in range(repeat + 1):
        begun, rows = time.perf_counter(), 0
        for x, _ in loader:
            rows += len(x)
        rates.append(rows / (time.perf_counter() - begun) / 1e6)
    return statistics.median(rates[1:])


def check(loader: rf.Loader) -> None:
    """Assert that the first batches hold equal shares."""
    for number, (_, y) in enumerate(loader):
        assert np.bincount(y[:, 0].astype(int), minlength=4).tolist() == [BATCH_SIZE // 4] * 4
        if number == 1000:
            break


def main(
    entries: Annotated[int, typer.Option(min=10_000, help="Entries of each dataset.")] = 5_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Timed epochs; their median counts.")] = 3,
    data: Annotated[Path, typer.Option(help="Where the files are, or are written.")] = DEFAULT_FOLDER,
) -> None:
    """Time epochs with and without balance."""
    table = Table("classes", "memory", "epoch", "batches", "million rows/s", "÷ unbalanced")
    for column in table.columns[1:]:
        column.justify = "right"
    for layout in ("sorted", "mixed"):
        frame = rf.open([f"{path}:events" for path in write(data, layout, entries)])
        for share in (0.2, 0.5):
            memory = int(entries * ROW_BYTES * share)
            options = {"target": "label", "seed": 1, "memory": memory}
            plain = rf.Loader(frame, BATCH_SIZE, FEATURES, **options)
            usual = rate(plain, repeat)
            shown = f"{memory / 1e6:.0f} MB"
            table.add_row(layout, shown, "each entry once", str(len(plain)), f"{usual:.2f}", "1")
            for epoch in ("longest", len(plain)):
                sampling = rf.balanced("label", epoch=epoch)
                loader = rf.Loader(frame, BATCH_SIZE, FEATURES, sampling=sampling, **options)
                check(loader)
                found = rate(loader, repeat)
                table.add_row(
                    layout, shown, str(epoch), str(len(loader)), f"{found:.2f}", f"{found / usual:.2f}"
                )
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
