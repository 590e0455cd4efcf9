"""Training epochs on a GPU: batches streamed from files, gathered on the device, or there already.

    python benchmarks/gpu.py

Two networks: a classifier of events with three hidden layers of 60, on twenty float32 features and
batches of 1024; and a transformer of jets, on up to 128 particles of 8 variables with their mask, in
batches of 256. Three ways to the same batches: `torch("cuda")` copies each ahead, `torch("cuda",
resident=True)` gathers them from rows that are on the device, and at best they are slices of tensors
that are there and shuffled already. The first epoch, in which rows are copied and everything compiles,
has its own column; epochs of the three then come in turns. Without a GPU, `--device cpu` runs the same.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

import frameworks
import jagged
import rootfeed as rf
from datasets import DEFAULT_FOLDER, FEATURES, TARGET, TREE

Batches = Iterable[tuple[Any, Any]]
WAYS = ["streamed", "resident", "tensors"]


class Classifier(torch.nn.Module):
    """Three hidden layers of 60."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [len(FEATURES), 60, 60, 60]
        hidden = [
            layer for pair in pairwise(sizes) for layer in (torch.nn.Linear(*pair), torch.nn.ReLU())
        ]
        self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(60, 1))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


class Transformer(torch.nn.Module):
    """Two layers of attention among a jet's particles, of width 64."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Linear(len(jagged.VARIABLES), 64)
        layer = torch.nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.encode = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = torch.nn.Linear(64, 1)

    def forward(self, x: Any) -> Any:
        particles, mask = x["particles"], x["particles_mask"]
        found = self.encode(self.embed(particles), src_key_padding_mask=~mask)
        return self.out((found * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1))


def sliced(loader: rf.Loader, device: str) -> Callable[[], Batches]:
    """Return what gives an epoch of slices of tensors on the device."""
    size, every = loader.batch_size, loader.arrays()

    def moved(array: Any) -> Any:
        return torch.from_numpy(array).to(device).split(size)

    x, y = every["x"], moved(every["y"][:, None])
    if not isinstance(x, dict):
        parts = moved(x)
        return lambda: zip(parts, y, strict=True)
    named = [moved(array) for array in x.values()]
    parts = [dict(zip(x, some, strict=True)) for some in zip(*named, strict=True)]
    return lambda: zip(parts, y, strict=True)


def train(network: torch.nn.Module, batches: Batches, device: str) -> float:
    """Train for an epoch; return its seconds."""
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    loss_of = torch.nn.BCEWithLogitsLoss()
    start = time.perf_counter()
    for x, y in batches:
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(x), y).backward()
        optimizer.step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(
    name: str, network: Any, make: Callable[[], rf.Loader], device: str, repeat: int
) -> list[Any]:
    torch.manual_seed(0)
    network = network().to(device)
    streamed, resident = make().torch(device), make().torch(device, resident=True)
    epochs: dict[str, Callable[[], Batches]] = {
        "streamed": lambda: streamed,
        "resident": lambda: resident,
        "tensors": sliced(make(), device),
    }
    train(network, epochs["tensors"](), device)  # kernels are chosen and compiled
    first = {way: train(network, epochs[way](), device) for way in WAYS}
    later: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeat):
        for way in WAYS:
            later[way].append(train(network, epochs[way](), device))
    found = {way: statistics.median(seconds) for way, seconds in later.items()}
    rows = make().num_rows
    table = []
    for way in WAYS:
        seconds = found[way]
        speed, ratio = rows / seconds / 1e3, seconds / found["tensors"]
        table.append([name, way, f"{first[way]:.2f}", f"{seconds:.3f}", f"{speed:.0f}", f"{ratio:.2f}"])
    return table


def main(
    entries: Annotated[int, typer.Option(min=1024, help="Events of the first network.")] = 2_000_000,
    jets: Annotated[int, typer.Option(min=1024, help="Jets of the second one.")] = 200_000,
    repeat: Annotated[int, typer.Option(min=1, help="Timed epochs after the first.")] = 3,
    device: Annotated[str, typer.Option(help="Of PyTorch.")] = "cuda",
    memory: Annotated[str, typer.Option(help="Of the loader.")] = "1 GB",
    data: Annotated[Path, typer.Option(help="Where files are, or are written.")] = DEFAULT_FOLDER,
) -> None:
    """Time training epochs in three ways."""
    warnings.simplefilter("ignore", rf.errors.CutVectorWarning)
    events = frameworks.write(data, entries)
    particles = jagged.write(data / f"jets_{jets}.root", jets)

    def of_events() -> rf.Loader:
        return rf.Loader(f"{events}:{TREE}", 1024, FEATURES, TARGET, seed=1, memory=memory)

    def of_jets() -> rf.Loader:
        frame = rf.open(f"{particles}:tree").define("first", "part_px[0] > 0")
        features = {"particles": rf.padded(jagged.VARIABLES, length=jagged.LENGTH)}
        return rf.Loader(frame, 256, features, "first", seed=1, memory=memory)

    where = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    table = Table(title=f"training epochs on {where}")
    for column in ["network", "batches", "first, s", "epoch, s", "thousand rows/s", "÷ tensors"]:
        table.add_column(column, justify="left" if column in ("network", "batches") else "right")
    for name, network, make in (
        ("classifier", Classifier, of_events),
        ("transformer", Transformer, of_jets),
    ):
        for row in measure(name, network, make, device, repeat):
            table.add_row(*row)
        table.add_section()
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
