"""Thousands of random epochs and chains of restarts: does each plan hold what it promises?

Random blocks, classes, regions, ranks, workers, batches, tails, samplings and memory; no file is read.
Each epoch is gone through as a reader goes through it, on all ranks, some batches at a time, and again
from a random batch on; every fourth time an epoch is stopped on some ranks and goes on on others, up to
three times (`tests/plans.py`). A table tells how often each property was looked at. The exit status is 1
if one did not hold; the numbers that are printed then make the same epoch again.

A second table compares the entropy that labels lack in batches, of entries stored one kind after
another, with the formula by which blocks are chosen (`rootfeed.plan.lacking_bits`).

    python benchmarks/topologies.py                       # ten thousand: a quarter of an hour
    python benchmarks/topologies.py --count 300 --seed 7
"""

from __future__ import annotations

import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import plans
from rootfeed.plan import lacking_bits

CHAINS_EVERY = 4
KINDS = (2, 5, 10)
ROOMS = (4, 8, 16, 32, 64)
"""Blocks that memory has room for."""

SPARE = 1.3
"""That room must exceed a block of each region by, or there are no regions."""


def checked(count: int, seed: int, console: Console) -> tuple[Counter[str], int]:
    """Look at random epochs; return how often each property was looked at, and how many failed."""
    done: Counter[str] = Counter()
    failed = 0
    with Progress(console=console) as progress:
        for number in progress.track(range(count), description="Epochs"):
            random = np.random.default_rng([seed, number])
            try:
                if number % CHAINS_EVERY == CHAINS_EVERY - 1:
                    done += plans.check_chain(random)
                else:
                    done += plans.check(plans.topology(random), random)
            except Exception:
                failed += 1
                console.print(f"[red]Number {number} of seed {seed}:")
                console.print(traceback.format_exc(limit=-3), markup=False)
    return done, failed


def entropy(epochs: int, console: Console) -> Table:
    """Return what labels lack beside what the formula tells, in bits."""
    table = Table("kinds", "room for", "in a step", "lacking", "told", "sigma", "lacking, a region each")
    table.title = "Entropy of batches of 100, in bits, of kinds stored one after another"
    with Progress(console=console) as progress:
        for kinds, room in progress.track(
            [(kinds, room) for kinds in KINDS for room in ROOMS], description="Entropy"
        ):
            some = [plans.mixing(kinds, room, seed=seed) for seed in range(epochs)]
            blocks = float(np.mean([each.blocks for each in some]))
            lacking = float(np.mean([each.lacking_bits for each in some]))
            regions = "does not fit"
            if room >= SPARE * kinds:
                each = [plans.mixing(kinds, room, in_regions=True, seed=s) for s in range(epochs)]
                regions = f"{np.mean([one.lacking_bits for one in each]):.4f}"
            table.add_row(
                str(kinds),
                str(room),
                f"{blocks:.1f}",
                f"{lacking:.4f}",
                f"{lacking_bits(kinds, blocks):.4f}",
                f"{np.mean([one.rows_sigma for one in some]):+.1f}",
                regions,
            )
    return table


def main(
    count: Annotated[int, typer.Option(help="Random epochs.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of all random numbers.")] = 0,
    epochs: Annotated[int, typer.Option(help="Epochs for each line of the table of entropies.")] = 5,
) -> None:
    console = Console()
    done, failed = checked(count, seed, console)
    table = Table("property", "looked at", title=f"{count} random epochs, {failed} failures")
    for name, often in done.most_common():
        table.add_row(name, str(often))
    console.print(table)
    console.print(entropy(epochs, console))
    raise typer.Exit(failed > 0)


if __name__ == "__main__":
    typer.run(main)
