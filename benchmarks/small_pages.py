"""What a small page costs beside its decompression: pages of a few thousand floats, as NanoAOD's.

The rows of `datasets.py`, in an RNTuple and a TTree with small pages, are read by `rootfeed.sources`,
block by block: as it reads them, and page by page, as it reads unusual ones. The floor is decompression
alone (`pages.Floor`). Times are processor time, on one thread, the best of some repeats.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Annotated
from unittest import mock

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from datasets import DEFAULT_FOLDER, FEATURES, TARGET, TREE, columns
from pages import Floor, locate

ENTRIES = 1_000_000
FORMATS = ("RNTuple", "TTree")


def write(path: Path, format: str, page_entries: int) -> None:
    """Write the file, with pages of so many floats, or baskets of about as many."""
    import ROOT

    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, f"k{format}")
    options.fCompressionAlgorithm = ROOT.RCompressionSetting.EAlgorithm.kZSTD
    options.fCompressionLevel = 5
    if format == "TTree":
        options.fBasketSize = 4 * page_entries
        options.fAutoFlush = page_entries
    else:
        options.fMaxUnzippedPageSize = 4 * page_entries
        options.fInitialUnzippedPageSize = page_entries
    partial = path.with_suffix(".partial.root")
    data = columns(ENTRIES)
    ROOT.RDF.FromNumpy(data).Snapshot(TREE, str(partial), list(data), options)
    os.replace(partial, path)


def ensure(folder: Path, format: str, page_entries: int) -> Path:
    """Return the file, written first, in a process of its own, if it is not there."""
    path = folder / f"small_{format.lower()}_{page_entries}.root"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        call = f"write(Path({str(path)!r}), {format!r}, {page_entries})"
        code = f"from pathlib import Path; from small_pages import write; {call}"
        command = [sys.executable, "-W", "ignore", "-c", code]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)
    return path


def reading(path: Path, block_entries: int) -> Callable[[], None]:
    """Return what reads all columns of a file, block by block."""
    from rootfeed import sources

    names = [*FEATURES, TARGET]
    [location] = sources.expand({f"{path}": TREE})
    index = sources.index(location, names)
    scratch = sources.Scratch()
    out = np.zeros((len(names), block_entries), np.uint32)

    def read() -> None:
        for start in range(0, index.entries, block_entries):
            stop = min(start + block_entries, index.entries)

            def out_for(name: str) -> np.ndarray:
                return out[names.index(name), : stop - start].view(index.dtype(name))  # noqa: B023

            for _ in sources.read(index, names, start, stop, out_for, scratch, Event()):
                pass

    return read


def seconds(work: Callable[[], None], repeats: int) -> float:
    """Return the least processor time of some runs, after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return min(found)


def main(
    data: Annotated[Path, typer.Option(help="Where the files go.")] = DEFAULT_FOLDER,
    page_entries: Annotated[int, typer.Option(min=100, help="Entries of a page, about.")] = 4000,
    block_entries: Annotated[int, typer.Option(min=100, help="Entries of a block.")] = 64_000,
    repeat: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Compare both ways to read small pages with the floor."""
    from rootfeed.sources.lots import Lots

    table = Table(title="Processor time a page, µs: decompression, and what comes on top of it")
    for name in ("file", "pages", "decompression alone", "in lots", "page by page"):
        table.add_column(name, justify="left" if name == "file" else "right")
    for format in FORMATS:
        path = ensure(data, format, page_entries)
        where = locate(path, TREE)
        pages = sum(len(where[name]) for name in (*FEATURES, TARGET))
        floor = Floor(path, TREE, [*FEATURES, TARGET], 1)
        read = reading(path, block_entries)
        alone = seconds(floor.run, repeat)
        together = seconds(read, repeat)
        with mock.patch.object(Lots, "fill", return_value=False):
            single = seconds(read, repeat)
        costs = [alone, together - alone, single - alone]
        table.add_row(format, f"{pages}", *(f"{1e6 * cost / pages:.1f}" for cost in costs))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
