"""Entries of any length in HDF5 files: read by rootfeed, and by the HDF5 library through h5py.

The files are what `Frame.save` writes. Each is read block by block, as a loader reads it, once by our
reading of its heaps, and once by the library, whose objects become the same arrays.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import awkward as ak
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

import rootfeed as rf
from datasets import DEFAULT_FOLDER
from rootfeed.sources import Location, Scratch, hdf5

BLOCK = 16_384  # entries


def vectors(mean: int, entries: int) -> ak.Array:
    random = np.random.default_rng(mean)
    lengths = random.poisson(mean, entries)
    return ak.unflatten(random.normal(size=lengths.sum()).astype(np.float32), lengths)


COLUMNS: dict[str, Callable[[int], Any]] = {
    "vectors of about 3 float32": lambda entries: vectors(3, entries),
    "vectors of about 30 float32": lambda entries: vectors(30, entries),
    "vectors of about 3000 float32": lambda entries: vectors(3000, max(1, entries // 100)),
    "texts of about 10 bytes": lambda entries: [f"text {number}" for number in range(entries)],
}


def ensure_file(number: int, make: Callable[[int], Any], folder: Path, entries: int) -> Path:
    path = folder / f"heaps_{number}_{entries}.h5"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rf.from_arrays({"x": make(entries)}).save(path)
    return path


def read(index: Any) -> tuple[float, int]:
    """Return the processor time that all blocks take, in seconds, and a checksum of what was read."""
    scratch, stopped, total = Scratch(), Event(), 0
    begun = time.process_time()
    for start in range(0, index.entries, BLOCK):
        stop = min(start + BLOCK, index.entries)
        for _, got in hdf5.read(index, ["x"], start, stop, lambda _: np.empty(0), scratch, stopped):
            assert isinstance(got, rf.schema.Jagged)
            total += int(got.values.view("u1" if got.values.itemsize == 1 else "u4").sum())
            total += int(got.offsets.sum())
    return time.process_time() - begun, total


def main(
    entries: Annotated[
        int, typer.Option(min=1, help="Entries of short vectors and of texts.")
    ] = 200_000,
    rounds: Annotated[int, typer.Option(min=1, help="The fastest of so many counts.")] = 3,
    data: Annotated[Path, typer.Option(help="Folder of the files.")] = DEFAULT_FOLDER,
) -> None:
    """Print processor time per entry, of files that the system holds in memory."""
    table = Table("column", "rootfeed, µs/entry", "HDF5 library, µs/entry", "ratio")
    for number, (name, make) in enumerate(COLUMNS.items()):
        path = ensure_file(number, make, data, entries)
        index = hdf5.index(Location(str(path), None), ["x"])
        part = index.parts["x"]
        assert part.data.is_plain
        library = replace(part, data=replace(part.data, is_plain=False))
        ways = (index, replace(index, parts={"x": library}))
        found = [[read(way) for way in ways] for _ in range(rounds)]
        assert len({total for each in found for _, total in each}) == 1
        ours, theirs = (min(each[way][0] for each in found) / index.entries for way in (0, 1))
        table.add_row(name, f"{ours * 1e6:.2f}", f"{theirs * 1e6:.2f}", f"{theirs / ours:.1f}")
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    typer.run(main)
