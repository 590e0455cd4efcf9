"""Files stored in the worst order for training: one class after another. What `shuffle.py` reads.

Eight files, of unequal length: five of background, then three of signal; or all of it in one file.
Each holds ten float32 features, an int32 `label` (0 or 1) and the int32 number of the `file`. The
features of a file are gaussians of unit width around means of its own, as those of different
processes are: the classes overlap, and the best boundary between them is no plane.

Run as a script to write the files ahead of a benchmark: `python benchmarks/classes.py [FOLDER]`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from datasets import DEFAULT_FOLDER, TREE

ENTRIES = 1_000_000
FEATURES = [f"f{i}" for i in range(10)]
TARGET = "label"
FILE = "file"
ROW_BYTES = 4 * (len(FEATURES) + 2)

# Signal is no simple fraction of all, which few blocks in memory could happen to have exactly.
SHARES = np.array([25, 9, 15, 6, 7, 19, 8, 11]) / 100
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1])
MEANS = np.random.default_rng(5).normal(0, 0.45, (len(SHARES), len(FEATURES))) + 0.27 * LABELS[:, None]

# Raised whenever the files change, so that no cached ones of another recipe are taken for these.
RECIPE = 1


@dataclass(frozen=True)
class Layout:
    """How ROOT lays out a file; without a number of `clusters`, pages and clusters are left to ROOT."""

    output_format: str
    what: str
    clusters: int | None = None
    files: int = len(SHARES)  # of one class each, or one of all


# 4 GB is the most that rootfeed takes by itself. Of five times as much data in rows of 48 bytes, ROOT's
# longest pages (262 144 entries in an RNTuple, some 500 000 in a TTree, as its clusters) are 1/1600 to
# 1/800. The layout "scaled" keeps that proportion with a dataset of any size.
LAYOUTS = {
    "ttree": Layout("kTTree", "ttree: ROOT's defaults, baskets of 8000 entries, a cluster to a file"),
    "rntuple": Layout("kRNTuple", "rntuple: ROOT's defaults, pages of up to 262 144 entries or a file"),
    "scaled": Layout("kTTree", "scaled: TTree, 750 clusters of one basket, as in a 20 GB dataset", 750),
    "one": Layout("kTTree", "one: a single TTree, classes one after another, ROOT's defaults", None, 1),
}


def lengths(entries: int) -> np.ndarray:
    """Return the entries of each file."""
    return np.diff(np.rint(np.cumsum([0, *SHARES]) * entries).astype(np.int64))


def sample(file: int, entries: int, purpose: int) -> np.ndarray:
    """Return features as a file has them, of shape (entries, features)."""
    generator = np.random.default_rng([RECIPE, file, purpose])
    normal = generator.standard_normal((entries, len(FEATURES)), np.float32)
    return normal + MEANS[file].astype(np.float32)


def held_out(entries: int = 200_000) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of entries that no file holds, in the files' proportions."""
    counts = lengths(entries)
    x = np.concatenate([sample(file, count, 1) for file, count in enumerate(counts.tolist())])
    return x, np.repeat(LABELS, counts)


def likelihood_ratio(x: np.ndarray) -> np.ndarray:
    """Return what the best of all classifiers would: signal's density over background's, as log."""
    distance = np.square(x[:, None, :].astype(np.float64) - MEANS).sum(axis=2)
    density = np.exp(-distance / 2) * SHARES
    return np.log(density[:, LABELS == 1].sum(axis=1) / density[:, LABELS == 0].sum(axis=1))


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Return the area under the ROC curve: how often signal scores above background."""
    signal, background = score[label == 1], np.sort(score[label == 0])
    below = sum(np.searchsorted(background, signal, side).mean() for side in ("left", "right"))
    return float(below / 2 / len(background))


def paths_of(layout: str, folder: Path, entries: int) -> list[Path]:
    """Return where the files lie, in the order of their classes."""
    return [folder / f"classes_{layout}_{entries}_{file}.root" for file in range(LAYOUTS[layout].files)]


def record_of(paths: list[Path]) -> Path:
    return paths[0].with_name(paths[0].stem.rsplit("_", 1)[0] + ".json")


def description(paths: list[Path]) -> dict[str, object]:
    return {"recipe": RECIPE, "bytes": [path.stat().st_size for path in paths]}


def ensure(layout: str, folder: Path, entries: int) -> list[Path]:
    """Return the files of a layout, written first if they are not there.

    ROOT writes them in a process of its own, so that neither its memory nor its libraries stay
    behind.
    """
    paths = paths_of(layout, folder, entries)
    record = record_of(paths)
    complete = record.is_file() and all(path.is_file() for path in paths)
    if not complete or json.loads(record.read_text()) != description(paths):
        command = [sys.executable, "-W", "ignore", __file__, str(folder)]
        subprocess.run([*command, "--only", layout, "--entries", str(entries)], check=True)
    return paths


def write(layout: str, folder: Path, entries: int) -> None:
    """Write the files of a layout with ROOT's Snapshot, compressed by zstd."""
    import ROOT

    chosen = LAYOUTS[layout]
    options = ROOT.RDF.RSnapshotOptions()
    options.fOutputFormat = getattr(ROOT.RDF.ESnapshotOutputFormat, chosen.output_format)
    options.fCompressionAlgorithm = ROOT.RCompressionSetting.EAlgorithm.kZSTD
    options.fCompressionLevel = 5
    if chosen.clusters:
        options.fAutoFlush = max(entries // chosen.clusters, 1)

    folder.mkdir(parents=True, exist_ok=True)
    paths = paths_of(layout, folder, entries)
    counts = lengths(entries)
    kinds = np.repeat(np.arange(len(counts)), counts)
    x = np.concatenate([sample(kind, count, 0) for kind, count in enumerate(counts.tolist())])
    # A file for each kind, or one for all.
    bounds = np.append(0, counts.cumsum()) if chosen.files > 1 else np.array([0, len(x)])
    for path, start, stop in zip(paths, bounds[:-1], bounds[1:], strict=True):
        some = slice(start, stop)
        columns = {name: np.ascontiguousarray(x[some, i]) for i, name in enumerate(FEATURES)}
        columns[TARGET] = LABELS[kinds[some]].astype(np.int32)
        columns[FILE] = kinds[some].astype(np.int32)
        partial = path.with_suffix(".partial.root")
        ROOT.RDF.FromNumpy(columns).Snapshot(TREE, str(partial), list(columns), options)
        os.replace(partial, path)
    record_of(paths).write_text(json.dumps(description(paths)))


def main(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")] = DEFAULT_FOLDER,
    only: Annotated[
        list[str] | None, typer.Option(help="Write this layout (repeatable); all if left out.")
    ] = None,
    entries: Annotated[int, typer.Option(min=1, help="Entries in all files together.")] = ENTRIES,
) -> None:
    """Write the files."""
    for layout in only or LAYOUTS:
        write(layout, folder, entries)


if __name__ == "__main__":
    typer.run(main)
