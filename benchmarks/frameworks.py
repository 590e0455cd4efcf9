"""Rows a second in each framework, in memory and within a budget, against NumPy's.

    python benchmarks/frameworks.py

Twenty float32 features and a label, batches of 1024, and a loop that does nothing with them. Epochs of
all frameworks come in turns. Whatever is not installed is left out: `scripts/test-frameworks` makes
environments that have it. For TensorFlow and JAX there is what their own part takes at the least: one
batch, which is in memory already, again and again.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import uproot
from rich.console import Console
from rich.table import Table

import rootfeed as rf
from datasets import DEFAULT_FOLDER, FEATURES, TARGET, TREE, columns

BATCH_SIZE = 1024
CHUNK = 250_000

Epoch = Callable[[], int]
"""Goes through an epoch, and returns its batches."""


def write(folder: Path, entries: int) -> Path:
    """Write the file, unless it is there."""
    path = folder / f"frameworks_{entries}.root"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        every = columns(entries)
        with uproot.recreate(partial, compression=uproot.ZSTD(5)) as file:
            tree = file.mktree(TREE, {name: array.dtype for name, array in every.items()})
            for start in range(0, entries, CHUNK):
                tree.extend({name: array[start : start + CHUNK] for name, array in every.items()})
        partial.rename(path)
    return path


def counted(batches: Any) -> int:
    count = 0
    for _ in batches:
        count += 1
    return count


def by_number(batches: Any) -> int:
    """As Keras asks for them."""
    count = batches.num_batches
    for number in range(count):
        batches[number]
    batches.on_epoch_end()
    return count


def in_a_graph(dataset: Any) -> Epoch:
    """As `model.fit` of TensorFlow asks for them: no line of Python for each batch."""
    import tensorflow as tf

    @tf.function
    def run(batches: Any) -> Any:
        count = tf.constant(0)
        for _ in batches:
            count += 1
        return count

    return lambda: int(run(dataset))


def contestants(make: Callable[[], rf.Loader]) -> dict[str, Epoch]:
    """Return what goes through an epoch, by the framework's name."""
    loaders = {name: make() for name in ("numpy", "torch", "tensorflow", "graph", "keras", "jax")}
    batch = tuple(map(np.copy, next(iter(make()))))
    count = len(loaders["numpy"])
    found: dict[str, Epoch] = {"NumPy": lambda: counted(loaders["numpy"])}
    if importlib.util.find_spec("torch"):
        torch_batches = loaders["torch"].torch()
        found["torch"] = lambda: counted(torch_batches)
    if importlib.util.find_spec("tensorflow"):
        import tensorflow as tf

        dataset = loaders["tensorflow"].tensorflow()
        least = tf.data.Dataset.from_tensors(batch).repeat(count)
        found["TensorFlow, a loop"] = lambda: counted(dataset)
        found["  one batch again and again"] = lambda: counted(least)
        found["TensorFlow, a graph"] = in_a_graph(loaders["graph"].tensorflow())
        found["  one batch again and again, a graph"] = in_a_graph(least)
    if importlib.util.find_spec("keras"):
        keras_batches = loaders["keras"].keras()
        found["Keras, any backend"] = lambda: by_number(keras_batches)
    if importlib.util.find_spec("jax"):
        import jax

        jax_batches = loaders["jax"].jax()
        aligned = [jax.device_put(array) for array in batch]
        host = [np.asarray(array) for array in aligned]
        found["JAX"] = lambda: counted(jax_batches)
        found["  one batch again and again, by JAX"] = lambda: counted(
            jax.device_put(host) for _ in range(count)
        )
    return found


def main(
    entries: Annotated[int, typer.Option(min=10_000, help="Entries of the dataset.")] = 1_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Timed epochs; their median counts.")] = 5,
    memory: Annotated[str, typer.Option(help="The budget of the lazy loaders.")] = "60 MB",
    data: Annotated[Path, typer.Option(help="Where the file is, or is written.")] = DEFAULT_FOLDER,
) -> None:
    """Time epochs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    frame = rf.open(f"{write(data, entries)}:{TREE}")
    table = Table("framework", "data", "million rows/s", "÷ NumPy's", "processor µs a batch")
    for column in table.columns[2:]:
        column.justify = "right"
    for where, budget in (("in memory", "2 GB"), (f"within {memory}", memory)):

        def make(budget: str = budget) -> rf.Loader:
            return rf.Loader(frame, BATCH_SIZE, FEATURES, TARGET, seed=1, memory=budget, threads=2)

        epochs = contestants(make)
        seconds: dict[str, list[float]] = {name: [] for name in epochs}
        processor: dict[str, list[float]] = {name: [] for name in epochs}
        for number in range(repeat + 1):
            for name, epoch in epochs.items():
                begun, used = time.perf_counter(), time.process_time()
                count = epoch()
                if number:  # the first one loads, compiles, traces
                    seconds[name].append(time.perf_counter() - begun)
                    processor[name].append((time.process_time() - used) / count)
        usual = statistics.median(seconds["NumPy"])
        for name in epochs:
            taken = statistics.median(seconds[name])
            cost = f"{1e6 * statistics.median(processor[name]):.0f}"
            table.add_row(name, where, f"{entries / taken / 1e6:.1f}", f"{usual / taken:.2f}", cost)
        table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
