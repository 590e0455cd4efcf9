"""Epochs over the same rows in six formats: rootfeed, and the usual way to read each.

Every contestant runs in a process of its own. The usual ways are `uproot.iterate`, batches of
`pyarrow.dataset` and of `pyarrow.csv.open_csv`, each shuffled by NumPy on their own; h5py with
shuffled indices; and PyTorch's DataLoader over tensors into which the file was read as a whole.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from datasets import DEFAULT_FOLDER, FEATURES, RECIPE, TARGET, TREE, Tally, columns, ensure

BATCH_SIZE = 1024
GROUP = 100_000  # entries of a row group, a record batch
CHUNK = 16_384  # rows of a chunk of HDF5
SUFFIXES = {
    "RNTuple": ".root",
    "TTree": ".root",
    "Parquet": ".parquet",
    "Feather": ".feather",
    "HDF5": ".h5",
    "CSV": ".csv",
}
Batches = Iterable[tuple[Any, Any]]


@dataclass
class Measurement:
    """Wall time of the first epoch with all that comes before, and of a later one; processor time."""

    entries: int
    first_seconds: float
    seconds: float
    processor_seconds: float
    verdict: str


def write_file(format: str, path: Path, entries: int) -> None:
    """Write the rows of `datasets` in a format."""
    import pyarrow as pa

    data = columns(entries)
    if format == "HDF5":
        import h5py

        table = np.zeros(entries, [(name, values.dtype) for name, values in data.items()])
        for name, values in data.items():
            table[name] = values
        with h5py.File(path, "w") as file:
            file.create_dataset(TREE, data=table, chunks=(CHUNK,), compression="gzip")
    elif format == "Parquet":
        import pyarrow.parquet as pq

        pq.write_table(pa.table(data), path, row_group_size=GROUP, compression="zstd")
    elif format == "Feather":
        import pyarrow.feather as feather

        feather.write_feather(pa.table(data), path, chunksize=GROUP)
    else:
        from pyarrow import csv

        csv.write_csv(pa.table(data), path)


def ensure_file(format: str, folder: Path, entries: int) -> Path:
    """Return the file of a format, written first if it is not there."""
    if SUFFIXES[format] == ".root":
        return ensure(f"{format.lower()}_zstd", folder, entries)
    path = folder / f"formats_{RECIPE}_{entries}{SUFFIXES[format]}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"partial{path.suffix}")
        write_file(format, partial, entries)
        os.replace(partial, path)
    return path


# --- contestants: each turns a file into a function that starts an epoch ---------------------------


def rootfeed_epochs(format: str, path: Path, memory: str, threads: int) -> Callable[[], Batches]:
    import rootfeed as rf

    name = f"{path}:{TREE}" if format in ("RNTuple", "TTree", "HDF5") else str(path)
    loader = rf.Loader(
        rf.open(name), BATCH_SIZE, FEATURES, TARGET, memory=memory, seed=1, threads=threads
    )
    return lambda: loader


def usual_epochs(format: str, path: Path, memory: str, threads: int) -> Callable[[], Batches]:
    generator = np.random.default_rng(1)
    if format == "HDF5":
        return lambda: _fancy(path, generator)

    def epoch() -> Batches:
        for part in _parts(format, path):
            x = np.ascontiguousarray(np.stack([part[name] for name in FEATURES]).T, np.float32)
            y = part[TARGET].astype(np.float32)
            order = generator.permutation(len(x))
            for start in range(0, len(x), BATCH_SIZE):
                picked = order[start : start + BATCH_SIZE]
                yield x.take(picked, axis=0), y.take(picked)

    return epoch


def _fancy(path: Path, generator: np.random.Generator) -> Batches:
    """Read each batch by its shuffled indices, which h5py wants in order."""
    import h5py

    with h5py.File(path) as file:
        table = file[TREE]
        order = generator.permutation(len(table))
        for start in range(0, len(table), BATCH_SIZE):
            rows = table[np.sort(order[start : start + BATCH_SIZE])]
            yield np.stack([rows[name] for name in FEATURES], axis=1), rows[TARGET].astype(np.float32)


def _parts(format: str, path: Path) -> Iterator[dict[str, np.ndarray]]:
    """Yield columns of a part of the file after another."""
    if format in ("RNTuple", "TTree"):
        import uproot

        names = [*FEATURES, TARGET]
        for step in uproot.iterate(f"{path}:{TREE}", names, step_size="100 MB"):
            yield {name: np.asarray(step[name]) for name in names}
        return
    import pyarrow.dataset as dataset
    from pyarrow import csv

    if format == "CSV":
        batches: Iterable[Any] = csv.open_csv(path, csv.ReadOptions(block_size=16 << 20))
    else:
        batches = dataset.dataset(path, format=format.lower()).to_batches(batch_size=GROUP)
    for batch in batches:
        yield dict(zip(batch.schema.names, (each.to_numpy() for each in batch.columns), strict=True))


def torch_epochs(format: str, path: Path, memory: str, threads: int) -> Callable[[], Batches]:
    import torch
    from torch.utils import data

    if format == "HDF5":
        import h5py

        with h5py.File(path) as file:
            rows = file[TREE][()]
        parts = [{name: rows[name] for name in (*FEATURES, TARGET)}]
    else:
        parts = [*_parts(format, path)]
    x, y = (
        torch.from_numpy(np.concatenate([np.stack([part[n] for n in names], 1) for part in parts]))
        for names in (FEATURES, [TARGET])
    )
    tensors = data.TensorDataset(x.float(), y.float())
    return lambda: data.DataLoader(tensors, BATCH_SIZE, shuffle=True)


CONTESTANTS = {
    "rootfeed": rootfeed_epochs,
    "usual": usual_epochs,
    "DataLoader": torch_epochs,
}


def measure(
    contestant: str, format: str, path: Path, entries: int, memory: str, threads: int, patience: float
) -> Measurement:
    """Run two epochs, the second one against the clock, and check what came; in this process."""
    wanted = Tally()
    data = columns(entries)
    wanted.add(np.stack([data["f0"], data["f19"]], axis=1), data[TARGET])
    del data
    begun = time.perf_counter()
    epoch = CONTESTANTS[contestant](format, path, memory, threads)
    tally = Tally()
    for x, y in epoch():
        tally.add(np.asarray(x), np.asarray(y))
        if time.perf_counter() - begun > patience:
            break
    first = time.perf_counter() - begun
    verdict = tally.verdict(wanted) if tally.entries == entries else "in part"
    begun, used, seen = time.perf_counter(), _processor_seconds(), 0
    for x, _ in epoch():
        seen += len(x)
        if time.perf_counter() - begun > patience:
            break
    seconds = time.perf_counter() - begun
    return Measurement(seen, first, seconds, _processor_seconds() - used, verdict)


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main(
    entries: Annotated[int, typer.Option(min=1, help="Entries in each file.")] = 1_000_000,
    only: Annotated[
        list[str] | None,
        typer.Option("--format", help="Read this format (repeatable); all if left out."),
    ] = None,
    memory: Annotated[str, typer.Option(help="rootfeed's budget: less than the rows take.")] = "60 MB",
    threads: Annotated[int, typer.Option(min=1, help="rootfeed's threads.")] = 2,
    patience: Annotated[
        float, typer.Option(help="Seconds after which an epoch is broken off; its pace counts.")
    ] = 20.0,
    data: Annotated[Path, typer.Option(help="Folder of the files.")] = DEFAULT_FOLDER,
    job: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print entries per second and processor time per entry of an epoch after the first."""
    if job:
        contestant, format = job.split()
        found = measure(
            contestant, format, ensure_file(format, data, entries), entries, memory, threads, patience
        )
        print(json.dumps(asdict(found)))
        return
    headings = ("format", "reader", "million entries/s", "÷ rootfeed", "processor, µs/entry")
    table = Table(*headings, "first epoch, s", "rows of an epoch")
    for format in only or SUFFIXES:
        path = ensure_file(format, data, entries)
        best = 0.0
        for contestant in CONTESTANTS:
            command = [sys.executable, "-W", "ignore", __file__, f"--job={contestant} {format}"]
            command += [f"--entries={entries}", f"--memory={memory}", f"--threads={threads}"]
            command += [f"--patience={patience}", f"--data={data}"]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found = Measurement(**json.loads(output.splitlines()[-1]))
            pace = found.entries / found.seconds
            best = best or pace
            table.add_row(
                f"{format}, {path.stat().st_size / 1e6:.0f} MB" if contestant == "rootfeed" else "",
                contestant,
                f"{pace / 1e6:.3g}",
                f"{pace / best:.2g}",
                f"{found.processor_seconds / found.entries * 1e6:.2f}",
                f"{found.first_seconds:.1f}",
                found.verdict,
            )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    typer.run(main)
