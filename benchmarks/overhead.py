"""What streaming costs a training: epochs from files over epochs from shuffled tensors in memory.

    python benchmarks/overhead.py

The network of the talk on ROOT's loader, three hidden layers of 60 on twenty float32 features in batches
of 1024, on one thread of PyTorch; the loader has one thread of its own, and less memory than the rows
take. The tensors lie in memory, shuffled, and a batch is a slice of them: no loader costs less. Epochs
of both come in turns, and each pair gives a ratio.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

import rootfeed as rf
from datasets import DEFAULT_FOLDER, FEATURES, TARGET, TREE, VARIANTS, ensure
from gpu import Classifier, sliced, train


def main(
    entries: Annotated[int, typer.Option(min=1024)] = 2_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Pairs of epochs.")] = 5,
    memory: Annotated[str, typer.Option(help="Of the loader.")] = "100 MB",
    file: Annotated[
        list[str] | None, typer.Option(help="Variants of datasets.py; all if left out.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where files are, or are written.")] = DEFAULT_FOLDER,
) -> None:
    """Time training epochs in both ways."""
    torch.set_num_threads(1)
    table = Table(title=f"training epochs of {entries} rows, PyTorch on one thread, the loader on one")
    for column in ["file", "from files, s", "from tensors, s", "ratio", "least", "most"]:
        table.add_column(column, justify="left" if column == "file" else "right")
    for name in file or VARIANTS:
        path = ensure(name, data, entries)

        def loader(memory: str, path: Path = path) -> rf.Loader:
            source = f"{path}:{TREE}"
            return rf.Loader(source, 1024, FEATURES, TARGET, seed=1, memory=memory, threads=1)

        torch.manual_seed(0)
        network = Classifier()
        streamed, tensors = loader(memory).torch(), sliced(loader("4 GB"), "cpu")
        pairs = [
            (train(network, streamed, "cpu"), train(network, tensors(), "cpu"))
            for _ in range(repeat + 1)
        ][1:]
        ratios = [ours / best for ours, best in pairs]
        seconds = [f"{statistics.median(each):.2f}" for each in zip(*pairs, strict=True)]
        found = [statistics.median(ratios), min(ratios), max(ratios)]
        table.add_row(name, *seconds, *(f"{ratio:.3f}" for ratio in found))
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
