"""Epochs over a node of ROOT's own RDataFrame: rootfeed, and ROOT's RDataLoader.

A cut and five definitions over 20 float32 features and a label. Each contestant has a process of its
own; processor time counts from the node to the end of an epoch, what compiles and what is read once
included. In the end all rows are compared with those of the node's `AsNumpy`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from datasets import DEFAULT_FOLDER, FEATURES, TARGET, TREE, VARIANTS, ensure

DEFINED = {
    "product": "f0 * f1",
    "length": "std::sqrt(f2 * f2 + f3 * f3)",
    "total": "f4 + f5",
    "twice": "2 * f7",
    "difference": "f8 - f9",
}
CUT = "f1 > -0.5"
COLUMNS = [*FEATURES, *DEFINED]
ASKED = {1: 0.7, 4: 1 / 3, 10: 1 / 5}
CONTESTANTS = {
    "ROOT RDataLoader": None,
    "rootfeed, in memory": "1 GB",
    "rootfeed, 60 MB": "60 MB",
}


def main(
    entries: Annotated[int, typer.Option(help="Entries of the file.")] = 2_000_000,
    file: Annotated[str, typer.Option(help=f"One of {', '.join(VARIANTS)}.")] = "rntuple_zstd",
    data: Annotated[Path, typer.Option(help="Where files are kept.")] = DEFAULT_FOLDER,
    repeat: Annotated[int, typer.Option(help="Processes of each contestant, in turns.")] = 3,
    contestant: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure the contestants in turns and show the medians."""
    path = ensure(file, data, entries)
    if contestant:
        print(json.dumps(measured(contestant, path)))
        return
    found: dict[str, list[Any]] = {name: [] for name in CONTESTANTS}
    for _ in range(repeat):
        for name in CONTESTANTS:
            command = [sys.executable, __file__, "--contestant", name, "--entries", str(entries)]
            command += ["--file", file, "--data", str(data)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    show(found, f"{file}, {entries:,} entries")


def node(path: Path) -> Any:
    """Return the node."""
    warnings.simplefilter("ignore")  # ROOT's wheel is an alpha version, and says so
    import ROOT

    made = ROOT.RDataFrame(TREE, str(path)).Filter(CUT)
    for name, expression in DEFINED.items():
        made = made.Define(name, expression)
    return made


def measured(contestant: str, path: Path) -> dict[str, Any]:
    """Return the processor time up to the end of each epoch, the memory and what the rows add up to."""
    import ROOT

    import rootfeed

    made = node(path)
    before, begun = processor_seconds(), time.perf_counter()
    memory = CONTESTANTS[contestant]
    seconds, wall, first = [], [], 0.0
    if memory is None:
        options = {"batch_size": 1024, "target": TARGET, "columns": [*COLUMNS, TARGET]}
        batches = ROOT.Experimental.ML.RDataLoader(made, drop_remainder=False, **options).as_numpy()
    else:
        batches = rootfeed.Loader(made, 1024, COLUMNS, TARGET, memory=memory, threads=2)
    for number in range(max(ASKED)):
        rows = 0
        for x, _ in batches:
            if not number and not rows:
                first = time.perf_counter() - begun
            rows += len(x)
        seconds.append(processor_seconds() - before)
        wall.append(time.perf_counter() - begun)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    expected = node(path).AsNumpy([*COLUMNS, TARGET])
    same = rows == len(expected[TARGET]) and all(
        np.array_equal(found, np.sort(expected[name].astype(np.float32)))
        for name, found in sorted_columns(batches)
    )
    return {"seconds": seconds, "wall": wall, "first": first, "peak": peak, "rows": rows, "same": same}


def sorted_columns(batches: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each column of all batches, sorted."""
    parts = [np.column_stack([np.asarray(x), np.asarray(y).reshape(len(x), -1)]) for x, y in batches]
    rows = np.concatenate(parts)
    for number, name in enumerate([*COLUMNS, TARGET]):
        yield name, np.sort(rows[:, number])


def processor_seconds() -> float:
    """Return the processor time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def show(found: dict[str, list[Any]], title: str) -> None:
    """Print the medians, and their ratio to ROOT's loader."""
    table = Table(title=title)
    table.add_column("contestant")
    for epochs, asked in ASKED.items():
        table.add_column(f"{epochs} epochs, s (÷ ROOT; asked {asked:.2f})", justify="right")
    for text in ("first batch, s", "peak MB", "rows", "as AsNumpy"):
        table.add_column(text, justify="right")
    theirs = next(iter(found.values()))
    for name, runs in found.items():
        cells = []
        for epochs in ASKED:
            ours = np.median([run["seconds"][epochs - 1] for run in runs])
            of = np.median([run["seconds"][epochs - 1] for run in theirs])
            cells.append(f"{ours:.2f} ({ours / of:.2f})")
        first = np.median([run["first"] for run in runs])
        peak = np.median([run["peak"] for run in runs])
        same = "yes" if all(run["same"] for run in runs) else "no"
        table.add_row(name, *cells, f"{first:.2f}", f"{peak:.0f}", f"{runs[0]['rows']:,}", same)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
