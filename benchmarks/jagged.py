"""Padded batches of jets with up to 128 particles: rootfeed, awkward's own way, weaver-core's padding.

    python benchmarks/jagged.py

Jets like those of JetClass: 8 variables a particle, 40 particles on average. An epoch gives shuffled
batches of shape (256, 128, 8) and their mask: 820 MB in all. weaver-core takes part where it is
installed (`pip install --no-deps weaver-core`): its padding, which is compiled, in the same loop as
awkward's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import awkward as ak
import numpy as np
import typer
import uproot
from rich.console import Console
from rich.table import Table

from datasets import DEFAULT_FOLDER

VARIABLES = [f"part_{name}" for name in ("px", "py", "pz", "energy", "deta", "dphi", "d0val", "dzval")]
LENGTH, BATCH_SIZE = 128, 256
Batch = tuple[np.ndarray, np.ndarray]
Epoch = Callable[[], Iterable[Batch]]


def write(path: Path, jets: int) -> Path:
    """Write the jets, unless they are there."""
    if path.exists():
        return path
    random = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with uproot.recreate(partial, compression=uproot.ZSTD(5)) as file:
        types = dict.fromkeys(VARIABLES, "var * float32")
        tree = file.mktree("tree", {**types, "label": "int32"})
        for start in range(0, jets, 20_000):
            count = min(20_000, jets - start)
            lengths = np.clip(random.poisson(random.gamma(4, 10, count)), 1, 200)
            total = int(lengths.sum())
            columns: dict[str, Any] = {
                name: ak.unflatten(random.normal(size=total).astype(np.float32), lengths)
                for name in VARIABLES
            }
            columns["label"] = random.integers(0, 10, count).astype(np.int32)
            tree.extend(columns)
    partial.rename(path)
    return path


def rootfeed_epoch(path: str, memory: str) -> Epoch:
    import warnings

    import rootfeed as rf

    warnings.simplefilter("ignore", rf.errors.CutVectorWarning)
    loader = rf.Loader(
        rf.open(path),
        BATCH_SIZE,
        {"particles": rf.padded(VARIABLES, LENGTH)},
        "label",
        memory=memory,
        seed=1,
        threads=2,
    )
    return lambda: ((x["particles"], x["particles_mask"]) for x, _ in loader)


def iterated(path: str, pad: Callable[[Any], np.ndarray]) -> Epoch:
    """uproot.iterate, some way to pad, and a shuffle within the step."""
    generator = np.random.default_rng(1)

    def batches() -> Iterator[Batch]:
        for step in uproot.iterate(path, [*VARIABLES, "label"], step_size="100 MB"):
            rows = np.stack([pad(step[name]) for name in VARIABLES], axis=2)
            mask = np.arange(LENGTH) < np.asarray(ak.num(step[VARIABLES[0]]))[:, None]
            order = generator.permutation(len(rows))
            for start in range(0, len(rows), BATCH_SIZE):
                picked = order[start : start + BATCH_SIZE]
                yield rows.take(picked, axis=0), mask.take(picked, axis=0)

    return batches


def awkward_epoch(path: str) -> Epoch:
    return iterated(
        path, lambda v: np.asarray(ak.to_numpy(ak.fill_none(ak.pad_none(v, LENGTH, clip=True), 0.0)))
    )


def weaver_epoch(path: str) -> Epoch:
    from weaver.utils.data.tools import _pad

    return iterated(path, lambda v: _pad(v, LENGTH))


CONTESTANTS: dict[str, Callable[[str], Epoch]] = {
    "rootfeed, in memory": lambda path: rootfeed_epoch(path, "2 GB"),
    "rootfeed, lazy": lambda path: rootfeed_epoch(path, "300 MB"),
    "awkward": awkward_epoch,
    "weaver-core's padding": weaver_epoch,
}


def measure(name: str, path: str, repeat: int) -> dict[str, Any]:
    epoch = CONTESTANTS[name](path)
    seconds, total = [], 0.0
    for number in range(repeat + 1):
        begun = time.perf_counter()
        jets = 0
        for rows, _ in epoch():
            jets += len(rows)
        if number:
            seconds.append(time.perf_counter() - begun)
    particles = 0
    for rows, mask in epoch():
        total += float(rows.sum(dtype=np.float64))
        particles += int(mask.sum())
        assert rows.shape[1:] == (LENGTH, len(VARIABLES))
    return {"seconds": statistics.median(seconds), "jets": jets, "sum": total, "particles": particles}


def main(
    jets: Annotated[int, typer.Option(min=1, help="Jets in the file.")] = 200_000,
    repeat: Annotated[int, typer.Option(min=1, help="Timed epochs; their median counts.")] = 3,
    data: Annotated[Path, typer.Option(help="Where the file is, or is written.")] = DEFAULT_FOLDER,
    only: Annotated[str, typer.Option(help="Measure one, and print JSON.", hidden=True)] = "",
) -> None:
    """Time epochs of padded batches."""
    path = write(data / f"jets_{jets}.root", jets)
    if only:
        print(json.dumps(measure(only, f"{path}:tree", repeat)))
        return
    found = {}
    for name in CONTESTANTS:
        command = [sys.executable, "-W", "ignore", __file__, "--only", name]
        command += ["--jets", str(jets), "--repeat", str(repeat), "--data", str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            Console(stderr=True).print(f"{name}: {done.stderr.strip().splitlines()[-1]}")
            continue
        found[name] = json.loads(done.stdout.splitlines()[-1])
    table = Table(
        "contestant", "thousand jets/s", "÷ awkward", "÷ weaver-core", "particles", "sum of all"
    )
    for name, result in found.items():
        peers = [found.get(peer) for peer in ("awkward", "weaver-core's padding")]
        table.add_row(
            name,
            f"{result['jets'] / result['seconds'] / 1e3:.0f}",
            *(f"{peer['seconds'] / result['seconds']:.1f}" if peer else "" for peer in peers),
            str(result["particles"]),
            f"{result['sum']:.3f}",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


if __name__ == "__main__":
    typer.run(main)
