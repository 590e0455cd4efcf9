"""Entries per second of an epoch after the first: rootfeed, its peers and the floor.

Every contestant runs in a process of its own (`contestants.py`). See `README.md` for what each of
them does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from contestants import BATCH_SIZE, CONTESTANTS, Job, Measurement
from datasets import DEFAULT_FOLDER, ENTRIES, VARIANTS, ensure

LABELS = {
    "rootfeed-lazy": "rootfeed, lazy",
    "rootfeed-long": "rootfeed, lazy, long blocks",
    "rootfeed-memory": "rootfeed, in memory",
    "root-lazy": "ROOT RDataLoader, lazy",
    "root-lazy-mt": "ROOT RDataLoader, lazy, implicit threads",
    "root-eager": "ROOT RDataLoader, eager",
    "uproot": "uproot.iterate + NumPy",
    "uproot-tuned": "the same, threads and libdeflate",
    "floor": "decompression alone (floor)",
}
COLUMNS = [
    "contestant",
    "million entries/s",
    "÷ ROOT lazy",
    "÷ uproot",
    "÷ floor",
    "first epoch, s",
    "peak over import, MB",
    "import, MB",
    "rows of an epoch",
    "epochs, s",
    "cores used / elsewhere",
]
NARROW_COLUMNS = 7  # those that a terminal of 80 characters has room for
WIDE_CHARACTERS = 150
TIMEOUT_SECONDS = 1800

# Up to so many cores busy elsewhere, a measurement counts as undisturbed.
QUIET_CORES = 0.1


@dataclass(frozen=True)
class Result:
    """A contestant's measurement on one file, or the last words of its process."""

    contestant: str
    measurement: Measurement | None
    failure: str = ""


def run(job: Job) -> Result:
    """Measure one contestant on one file in a fresh process limited to the job's threads."""
    environment = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        environment[name] = str(job.threads)
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(Path(__file__).with_name("contestants.py")),
        json.dumps(asdict(job)),
    ]
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Result(job.contestant, None, f"not done within {TIMEOUT_SECONDS} s")
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        return Result(job.contestant, None, lines[-1])
    return Result(job.contestant, Measurement(**json.loads(process.stdout.splitlines()[-1])))


def run_undisturbed(job: Job, patience_seconds: float) -> Result:
    """Measure again while others kept the cores busy and patience lasts; return the quietest."""
    deadline = time.monotonic() + patience_seconds
    quietest = run(job)
    while (
        quietest.measurement
        and quietest.measurement.cores_elsewhere > QUIET_CORES
        and time.monotonic() < deadline
    ):
        time.sleep(5)
        again = run(job).measurement
        if again and again.cores_elsewhere < quietest.measurement.cores_elsewhere:
            quietest = Result(job.contestant, again)
    return quietest


def speeds(results: list[Result]) -> dict[str, float]:
    """Return entries per second of each contestant whose epochs are complete."""
    return {
        result.contestant: result.measurement.entries_per_second
        for result in results
        if result.measurement and result.measurement.verdict in ("ok", "")
    }


def rows(results: list[Result]) -> list[list[str]]:
    """Return the table of one file, as text, in the order of `COLUMNS`."""
    known = speeds(results)
    table = []
    for result in results:
        label, measured = LABELS[result.contestant], result.measurement
        if measured is None:
            table.append([label, "failed", *[""] * 6, result.failure, "", ""])
            continue
        speed = measured.entries_per_second
        ratios = [
            f"{speed / known[peer]:.2f}" if peer in known else ""
            for peer in ("root-lazy", "uproot", "floor")
        ]
        table.append(
            [
                label,
                f"{speed / 1e6:.2f}",
                *ratios,
                f"{measured.first_seconds + measured.setup_seconds:.1f}",
                f"{measured.peak_over_import_bytes / 1e6:.0f}",
                f"{measured.import_bytes / 1e6:.0f}",
                measured.verdict or "–",
                f"{min(measured.seconds):.2f}–{max(measured.seconds):.2f}",
                f"{measured.cpu_cores:.1f} / {measured.cores_elsewhere:.1f}",
            ]
        )
    return table


def title(name: str, path: Path) -> str:
    variant = VARIANTS[name]
    form = "RNTuple" if variant.output_format == "kRNTuple" else "TTree"
    algorithm = {"kZSTD": "zstd", "kLZ4": "LZ4", "kZLIB": "zlib"}[variant.algorithm]
    return f"{form}, {algorithm} level {variant.level}: {path.stat().st_size / 1e6:.0f} MB"


def markdown(heading: str, table: list[list[str]]) -> str:
    """Return one file's table as markdown."""
    cells = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *table]
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
    return f"### {heading}\n\n" + "\n".join(lines) + "\n"


def processor() -> str:
    """Return the processor's name as the kernel gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        "unknown processor",
    )


def known(names: list[str], accepted: list[str], what: str) -> list[str]:
    """Return the names if all are accepted, in the order of `accepted`."""
    for name in names:
        if name not in accepted:
            raise typer.BadParameter(f"expected a {what} among {', '.join(accepted)}, got {name!r}")
    return [name for name in accepted if name in names]


def main(
    entries: Annotated[int, typer.Option(min=1, help="Entries in each file.")] = ENTRIES,
    repeat: Annotated[
        int, typer.Option(min=1, help="Timed epochs after the first; their median counts.")
    ] = 5,
    only: Annotated[
        list[str] | None, typer.Option(help="Run this contestant (repeatable); all if left out.")
    ] = None,
    file: Annotated[
        list[str] | None, typer.Option(help="Read this file (repeatable); all four if left out.")
    ] = None,
    data: Annotated[
        Path, typer.Option(help="Where the files are, or are written once.")
    ] = DEFAULT_FOLDER,
    memory: Annotated[str, typer.Option(help="rootfeed's memory when lazy.")] = "300 MB",
    in_memory: Annotated[
        str, typer.Option(help="rootfeed's memory when it holds the dataset.")
    ] = "1 GB",
    threads: Annotated[int, typer.Option(min=1, help="Cores that every contestant is confined to.")] = 2,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to measure a contestant again if disturbed.")
    ] = 0,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write the tables here too.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write every measurement here.")
    ] = None,
) -> None:
    """Time epochs of rootfeed, its peers and the floor over the same files."""
    contestants = known(only or list(CONTESTANTS), list(CONTESTANTS), "contestant")
    files = known(file or list(VARIANTS), list(VARIANTS), "file")
    threads = min(threads, len(os.sched_getaffinity(0)))
    console = Console(width=None if sys.stdout.isatty() else WIDE_CHARACTERS)
    head = (
        f"{entries} entries, 20 float32 features and a label: {entries * 84 / 1e6:.0f} MB decoded; "
        f"batches of {BATCH_SIZE}; {threads} cores ({processor()}); median of {repeat} epochs "
        f"after the first; rootfeed lazy in {memory}, in memory in {in_memory}."
    )
    console.print(head)
    document, record = [head + "\n"], {}
    for name in files:
        with console.status(f"writing {name}"):
            path = ensure(name, data, entries)
        results = []
        for contestant in contestants:
            budget = in_memory if contestant == "rootfeed-memory" else memory
            with console.status(f"{LABELS[contestant]} on {path.name}"):
                job = Job(contestant, str(path.resolve()), repeat, threads, budget)
                results.append(run_undisturbed(job, patience))
        heading, lines = title(name, path), rows(results)
        table = Table(title=heading, title_justify="left")
        shown = len(COLUMNS) if console.width >= WIDE_CHARACTERS else NARROW_COLUMNS
        for i, column in enumerate(COLUMNS[:shown]):
            table.add_column(column, justify="right" if i else "left")
        for line in lines:
            table.add_row(*map(escape, line[:shown]))
        console.print(table)
        document.append(markdown(heading, lines))
        record[name] = {result.contestant: asdict(result) for result in results}
        # After every file, so that an interrupted run leaves what it measured.
        if markdown_file:
            markdown_file.write_text("\n".join(document))
        if json_file:
            json_file.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    typer.run(main)
