"""The files that the benchmarks read: one dataset, written by ROOT in several formats.

Twenty float32 features `f0` to `f19` and an int32 `label` of 0 or 1. Fourteen features are
exponentials and gaussians at full float32 precision, which hardly compress; three keep 10 bits of
mantissa, as reduced-precision analysis formats do; three are counts. Half of the entries are of
either class and every feature depends on it.

Run as a script to write the files ahead of a benchmark: `python benchmarks/datasets.py [FOLDER]`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

ENTRIES = 3_000_000
TREE = "events"
FEATURES = [f"f{i}" for i in range(20)]
TARGET = "label"
DEFAULT_FOLDER = Path(__file__).parent / "data"

# Raised whenever the columns change, so that no cached file of another recipe is taken for this
# one.
RECIPE = 1


@dataclass(frozen=True)
class Variant:
    """How one file is written: ROOT's own enumerators and its default level of each algorithm."""

    output_format: str
    algorithm: str
    level: int


VARIANTS = {
    "rntuple_zstd": Variant("kRNTuple", "kZSTD", 5),
    "ttree_zstd": Variant("kTTree", "kZSTD", 5),
    "ttree_lz4": Variant("kTTree", "kLZ4", 4),
    "ttree_zlib": Variant("kTTree", "kZLIB", 1),
}


@dataclass
class Tally:
    """What an epoch must contain, whatever its order.

    `digest` is the sum modulo 2^64 of a hash of every row's (f0, f19, label): equal digests mean
    the same rows, each as often, with their columns still side by side. The sums say in plain
    numbers what differs.
    """

    entries: int = 0
    label_sum: float = 0.0
    f0_sum: float = 0.0
    digest: int = 0

    def add(self, features: np.ndarray, target: np.ndarray) -> None:
        """Count a batch: `features` of shape `(n, 20)`, `n` labels in any shape and type."""
        first, last = (np.ascontiguousarray(features[:, i], np.float32) for i in (0, -1))
        label = target.reshape(-1)
        self.entries += len(features)
        self.label_sum += float(label.sum(dtype=np.float64))
        self.f0_sum += float(first.sum(dtype=np.float64))
        rows = first.view(np.uint32).astype(np.uint64) << np.uint64(32) | last.view(np.uint32)
        hashes = mix(mix(rows) + label.astype(np.uint64))
        self.digest = (self.digest + int(hashes.sum(dtype=np.uint64))) % 2**64

    def verdict(self, expected: Tally) -> str:
        """Return "ok", or what is wrong with this epoch."""
        if self.entries != expected.entries:
            difference = self.entries - expected.entries
            return f"{'repeats' if difference > 0 else 'loses'} {abs(difference)} entries"
        if self.digest == expected.digest:
            return "ok"
        if self.label_sum != expected.label_sum:
            return f"wrong rows: labels sum to {self.label_sum:.0f}, not {expected.label_sum:.0f}"
        if not np.isclose(self.f0_sum, expected.f0_sum, rtol=1e-9):
            return f"wrong rows: f0 sums to {self.f0_sum:.1f}, not {expected.f0_sum:.1f}"
        return "wrong rows: the sums agree, the rows do not"


def mix(values: np.ndarray) -> np.ndarray:
    """Hash uint64 values one by one (the finalizer of splitmix64, Steele et al., OOPSLA 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def columns(entries: int) -> dict[str, np.ndarray]:
    """Return the columns, each of shape `(entries,)` and from a random stream of its own."""
    label = np.random.default_rng([RECIPE, 99]).integers(0, 2, entries, dtype=np.int32)
    result = {}
    for i, name in enumerate(FEATURES):
        generator = np.random.default_rng([RECIPE, i])
        if i >= 17:
            values = generator.poisson(4 + 2 * label).astype(np.float32)
        elif i % 2:
            values = generator.normal(0.3 * label, 1 + 0.1 * i).astype(np.float32)
        else:
            values = (generator.exponential(20.0 + 2 * i, entries) * (1 + 0.3 * label)).astype(
                np.float32
            )
        if 14 <= i < 17:
            values = (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
        result[name] = values
    result[TARGET] = label
    return result


def path_of(name: str, folder: Path, entries: int = ENTRIES) -> Path:
    """Where the file of a variant lies; an unusual number of entries is part of its name."""
    return folder / (f"{name}.root" if entries == ENTRIES else f"{name}_{entries}.root")


def expected(path: Path) -> Tally:
    """Return what an epoch over a file must contain, as found when the file was written."""
    return Tally(**json.loads(path.with_suffix(".json").read_text())["tally"])


def is_cached(path: Path, entries: int) -> bool:
    """Whether a complete file of the present recipe lies at `path`."""
    record = path.with_suffix(".json")
    if not (path.is_file() and record.is_file()):
        return False
    description = json.loads(record.read_text())
    return (
        description["recipe"] == RECIPE
        and description["tally"]["entries"] == entries
        and description["bytes"] == path.stat().st_size
    )


def ensure(name: str, folder: Path, entries: int = ENTRIES) -> Path:
    """Return the file of a variant, written first if it is not there.

    ROOT writes it in a process of its own, so that neither its memory nor its libraries stay
    behind.
    """
    path = path_of(name, folder, entries)
    if not is_cached(path, entries):
        folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            str(folder),
            "--only",
            name,
            "--entries",
            str(entries),
        ]
        subprocess.run(command, check=True)
    return path


def write(name: str, folder: Path, entries: int = ENTRIES) -> Path:
    """Write the file of a variant with ROOT's Snapshot, with its default pages and clusters."""
    import ROOT

    variant = VARIANTS[name]
    data = columns(entries)
    tally = Tally()
    tally.add(np.stack([data["f0"], data["f19"]], axis=1), data[TARGET])

    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, variant.output_format)
    options.fCompressionAlgorithm = getattr(ROOT.RCompressionSetting.EAlgorithm, variant.algorithm)
    options.fCompressionLevel = variant.level

    path = path_of(name, folder, entries)
    partial = path.with_suffix(".partial.root")
    ROOT.RDF.FromNumpy(data).Snapshot(TREE, str(partial), list(data), options)
    os.replace(partial, path)
    description = {"recipe": RECIPE, "bytes": path.stat().st_size, "tally": asdict(tally)}
    path.with_suffix(".json").write_text(json.dumps(description))
    return path


def main(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")] = DEFAULT_FOLDER,
    only: Annotated[
        list[str] | None, typer.Option(help="Write this variant (repeatable); all if left out.")
    ] = None,
    entries: Annotated[int, typer.Option(min=1, help="Entries in each file.")] = ENTRIES,
) -> None:
    """Write the benchmark files that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in only or VARIANTS:
        path = path_of(name, folder, entries)
        if not is_cached(path, entries):
            write(name, folder, entries)
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
