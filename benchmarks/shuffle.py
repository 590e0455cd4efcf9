"""How good the shuffling is, on files stored one class after another: the worst order there is.

    python benchmarks/shuffle.py --plot shuffle.png

Each contestant (`streams.py`) gives a few epochs of batches of the files of `classes.py`, and a small
network is trained on just these batches, once per seed. The tables tell

- what the labels (and file numbers) of a batch lack in entropy, beyond what batches drawn at random
  lack: 0 is ideal;
- whether an entry tells the label of the next one, or a batch the mean of the next: lag-1
  autocorrelations, and z, their distance from 0 in standard deviations of a random order;
- the network's AUC on entries that were held out, against that after a full shuffle in memory;
- how the first two depend on rootfeed's memory, and on the pages of the files.

    python benchmarks/shuffle.py --jets 100000

measures wide rows instead: ten classes of so many jets, in files of one class each (`jets.py`).
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

import jets as wide
from classes import ENTRIES, LABELS, LAYOUTS, ROW_BYTES, SHARES, auc, ensure, held_out, likelihood_ratio
from datasets import DEFAULT_FOLDER
from streams import BATCH_SIZE, Findings, Job, ideal_lacking

FULL_SHUFFLE = "full shuffle in memory (NumPy)"
SIGNAL = float(SHARES[LABELS == 1].sum())
LABEL_SHARES = np.array([1 - SIGNAL, SIGNAL])
WIDE_CHARACTERS = 150
TIMEOUT_SECONDS = 1800

# What is required of rootfeed, within its default memory.
MOST_LACKING_BITS = 0.01
MOST_SIGMA = 3


@dataclass(frozen=True)
class Contestant:
    """A line of the table: what `streams.py` calls it, and its memory as a share of the rows' bytes."""

    stream: str
    share: float = 0.0
    any_layout: bool = False  # knows only whole files: the layout makes no difference


@dataclass(frozen=True)
class Result:
    """What was found, or the last words of the process."""

    findings: Findings | None
    failure: str = ""


def contestants(small: float) -> dict[str, Contestant]:
    """Return them by the name that the table shows."""
    few = f"{small:.0%} of the rows"
    return {
        FULL_SHUFFLE: Contestant("memory", any_layout=True),
        "rootfeed, memory='auto'": Contestant("rootfeed", any_layout=True),
        f"rootfeed, memory for {few}": Contestant("rootfeed", small),
        f"ROOT RDataLoader, buffer of {few}": Contestant("root", small),
        "ROOT RDataLoader, defaults": Contestant("root"),
        "uproot.iterate, shuffled steps": Contestant("uproot", any_layout=True),
    }


def run(job: Job) -> Result:
    """Measure in a fresh process: ROOT, torch and their threads do not meet."""
    script = str(Path(__file__).with_name("streams.py"))
    command = [sys.executable, "-W", "ignore", script, json.dumps(asdict(job))]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Result(None, f"not done within {TIMEOUT_SECONDS} s")
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        return Result(None, lines[-1])
    return Result(Findings.of(json.loads(process.stdout.splitlines()[-1])))


def run_all(jobs: list[Job], console: Console) -> dict[Job, Result]:
    """Run the jobs two at a time, the slowest first: their results do not depend on the clock."""
    jobs = sorted(dict.fromkeys(jobs), key=lambda job: (job.contestant != "root", not job.train))
    with (
        Progress(console=console, transient=True) as progress,
        ThreadPoolExecutor(2) as pool,
    ):
        bar = progress.add_task("measuring", total=len(jobs))

        def counted(job: Job) -> Result:
            result = run(job)
            progress.advance(bar)
            return result

        return dict(zip(jobs, pool.map(counted, jobs), strict=True))


# --- tables ---------------------------------------------------------------------------------------


def lacking(findings: Findings, what: str) -> float:
    """Return the bits that batches lack beyond what ideal ones do."""
    shares = SHARES if what == "file" else LABEL_SHARES
    orders = findings.file if what == "file" else findings.label
    return float(np.mean([order.lacking for order in orders])) - ideal_lacking(shares)


def deviation(findings: Findings, what: str, of: str, entries: int) -> tuple[float, float]:
    """Return a lag-1 autocorrelation, the mean of the epochs, and its z.

    Of n values in random order it is -1/n on average, with a variance of 1/n (to within 1/n²).
    """
    orders = findings.file if what == "file" else findings.label
    n = entries if of == "rows" else entries // BATCH_SIZE
    found = float(np.mean([getattr(order, of) for order in orders]))
    return found, (found + 1 / n) * math.sqrt(n * len(orders))


def correlation(findings: Findings, what: str, of: str, entries: int) -> str:
    found, z = deviation(findings, what, of, entries)
    return f"{found:+.4f} ({z:+.1f})" if abs(z) < 100 else f"{found:+.4f} ({z:+.0f})"


CORRELATIONS = [("label", "rows"), ("file", "rows"), ("label", "batches"), ("file", "batches")]


def without_sign(text: str) -> str:
    """Return a number's text without the sign of zero."""
    return text.removeprefix("-") if float(text) == 0 else text


def table_of(title: str, *headings: str, caption: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=i == 0)
    return table


def mixing_line(findings: Findings, entries: int) -> list[str]:
    return [
        *(without_sign(f"{1000 * lacking(findings, what):.2f}") for what in ("label", "file")),
        *(correlation(findings, what, of, entries) for what, of in CORRELATIONS),
    ]


def training_line(findings: Findings, ideal: Findings | None) -> list[str]:
    """Return AUC and spread; the difference to the full shuffle, over the spread and its own error."""
    aucs = np.array(findings.aucs)
    if len(aucs) < 2:
        return [f"{aucs.mean():.4f}", "", "", ""]
    line = [f"{aucs.mean():.4f} ± {aucs.std(ddof=1):.4f}"]
    if ideal is None or ideal is findings:
        return [*line, "", "", ""]
    other = np.array(ideal.aucs)
    difference = float(aucs.mean() - other.mean())
    spread = math.sqrt(aucs.var(ddof=1) + other.var(ddof=1))
    error = spread / math.sqrt(len(aucs))
    return [
        *line,
        f"{1000 * difference:+.2f}",
        f"{difference / spread:+.1f}",
        f"{difference / error:+.1f}",
    ]


def formula(blocks: float, kinds: int) -> float:
    """Return the bits that rootfeed expects to lack where all files go through one window."""
    from rootfeed.plan import lacking_bits

    return lacking_bits(kinds, blocks)


# --- picture --------------------------------------------------------------------------------------


def draw(
    path: Path, results: dict[tuple[str, str], Findings], names: list[str], layouts: list[str]
) -> None:
    """Draw each batch's share of signal along an epoch: contestants below each other."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(names),
        len(layouts),
        figsize=(5.8 * len(layouts) + 0.6, 1.25 * len(names) + 1.0),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    sigma = math.sqrt(SIGNAL * (1 - SIGNAL) / BATCH_SIZE)
    for row, name in enumerate(names):
        for column, layout in enumerate(layouts):
            axis = axes[row, column]
            axis.axhspan(SIGNAL - 3 * sigma, SIGNAL + 3 * sigma, color="0.8", lw=0)
            axis.set_title(name, loc="left", fontsize=8.5, pad=3)
            findings = results.get((name, layout))
            if findings is None:
                axis.text(0.5, 0.5, "failed", ha="center", va="center", transform=axis.transAxes)
                continue
            color = "tab:blue" if name.startswith("rootfeed") else "0.25"
            color = "tab:red" if name.startswith(("ROOT", "uproot")) else color
            place = (np.arange(len(findings.means)) + 0.5) / len(findings.means)
            axis.plot(place, findings.means, ".", ms=2.2, mew=0, color=color)
            note = without_sign(f"{1000 * lacking(findings, 'label'):.1f}") + " mbit lacking"
            if findings.aucs:
                note += f", AUC {np.mean(findings.aucs):.4f}"
            axis.set_title(note, loc="right", fontsize=8, pad=3)
    for column, layout in enumerate(layouts):
        axes[0, column].annotate(
            LAYOUTS[layout].what,
            (0, 1),
            xytext=(0, 20),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            weight="bold",
        )
        axes[-1, column].set_xlabel("part of the epoch")
    axes[0, 0].set(xlim=(0, 1), ylim=(-0.06, 1.06), yticks=[0, 0.5, 1])
    figure.supylabel(
        "share of signal in a batch (grey: 3 standard deviations of ideal ones)", fontsize=10
    )
    figure.savefig(path, dpi=150)
    plt.close(figure)


# --- wide rows ------------------------------------------------------------------------------------


def measure_jets(jets: int, memories: list[str], batches: int, folder: Path, console: Console) -> None:
    """Print how the labels of jets mix, and what a row takes, by format and memory."""
    found = table_of(
        f"{wide.CLASSES} files of {jets} jets of one class each, batches of {wide.BATCH_SIZE}",
        "format",
        "memory",
        "blocks in\nmemory",
        "pages\ndecompressed",
        "label entropy,\nbit",
        "lacking,\nbit",
        "may lack\n(formula), bit",
        "processor time\na row, µs",
        caption=f"A full shuffle's batches have {wide.ideal_bits():.3f} bit.",
    )
    for form in wide.FORMATS:
        with console.status(f"writing {form}"):
            paths = wide.ensure(folder, form, jets)
        for memory in memories:
            with console.status(f"{form}, {memory}"):
                line = wide.process(wide.Job(paths, form, jets, memory, batches))
            found.add_row(
                form,
                memory,
                "all" if line["in_memory"] else f"{line['blocks']:.1f}",
                f"{line['decompressed']:.1f} times",
                f"{line['bits']:.3f}",
                f"{wide.ideal_bits() - line['bits']:.3f}",
                f"{line['lacking']:.3f}",
                f"{line['microseconds']:.1f}",
            )
    console.print(found)


# --- command line ---------------------------------------------------------------------------------


def main(
    entries: Annotated[int, typer.Option(min=20_000, help="Entries in all files together.")] = ENTRIES,
    seeds: Annotated[int, typer.Option(min=1, help="Networks per contestant.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs that each is trained for.")] = 2,
    layout: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(LAYOUTS)} (repeatable).")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Contestants whose name contains this (repeatable).")
    ] = None,
    small: Annotated[float, typer.Option(help="The small memory: its share of the rows' bytes.")] = 0.2,
    share: Annotated[
        list[float] | None, typer.Option(help="rootfeed's memory in the last table (repeatable).")
    ] = None,
    train: Annotated[bool, typer.Option(help="Train networks, or only look at the order.")] = True,
    data: Annotated[
        Path, typer.Option(help="Where the files are, or are written once.")
    ] = DEFAULT_FOLDER,
    plot: Annotated[Path | None, typer.Option(help="Draw the batches' share of signal here.")] = None,
    jets: Annotated[
        int, typer.Option(min=0, help="Measure wide rows instead: so many jets of each of ten classes.")
    ] = 0,
    jets_memory: Annotated[
        list[str] | None, typer.Option(help="rootfeed's memory for the jets (repeatable).")
    ] = None,
    jets_batches: Annotated[
        int, typer.Option(min=0, help="Batches of jets that are measured; 0 for an epoch.")
    ] = 0,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything that was found here.")
    ] = None,
) -> None:
    """Measure how good the shuffling of rootfeed and its peers is on files sorted by class."""
    console = Console(width=None if sys.stdout.isatty() else WIDE_CHARACTERS)
    if jets:
        memories = jets_memory or ["500 MB", "2 GB", "auto"]
        measure_jets(jets, memories, jets_batches, data, console)
        return
    for name in layout or []:
        if name not in LAYOUTS:
            raise typer.BadParameter(f"expected a layout among {', '.join(LAYOUTS)}, got {name!r}")
    layouts = layout or ["ttree", "scaled"]
    shares = share or [1.0, 0.5, 0.2, 0.1, 0.05]
    chosen = {
        name: contestant
        for name, contestant in contestants(small).items()
        if not only or any(part in name for part in only)
    }

    paths = {}
    for name in LAYOUTS:
        with console.status(f"writing {name}"):
            paths[name] = tuple(str(path) for path in ensure(name, data, entries))

    def job(stream: str, of: str, memory_share: float, training: bool) -> Job:
        memory = int(memory_share * entries * ROW_BYTES)
        return Job(stream, paths[of], entries, memory, seeds, epochs, training)

    asked = {
        (name, of): job(who.stream, layouts[0] if who.any_layout else of, who.share, train)
        for of in layouts
        for name, who in chosen.items()
    }
    budgets = {(of, part): job("rootfeed", of, part, False) for of in LAYOUTS for part in shares}
    results = run_all([*asked.values(), *budgets.values()], console)

    x, label = held_out()
    rows, batches = (n * seeds * epochs for n in (entries, entries // BATCH_SIZE))
    head = (
        f"{entries} entries in {len(SHARES)} files, {sum(LABELS == 0)} of background, then "
        f"{sum(LABELS == 1)} of signal ({SIGNAL:.0%} of the entries): rows of "
        f"{entries * ROW_BYTES / 1e6:.0f} MB. Batches of {BATCH_SIZE}; {seeds} seeds × {epochs} epochs. "
        f"Ideal batches lack {1000 * ideal_lacking(LABEL_SHARES):.2f} mbit of the label's entropy and "
        f"{1000 * ideal_lacking(SHARES):.2f} of the file number's: taken off below. r is the lag-1 "
        f"autocorrelation; its standard deviation in a random order is {1 / math.sqrt(rows):.5f} for "
        f"rows, {1 / math.sqrt(batches):.4f} for batches. Required of rootfeed: "
        f"{1000 * MOST_LACKING_BITS:.0f} mbit of the label at most, |z| at most {MOST_SIGMA}, AUC as "
        "after a full shuffle within the spread of seeds."
    )
    console.print(head)
    mixing_headings = [
        "label lacks,\nmbit",
        "file lacks,\nmbit",
        "label, rows:\nr (z)",
        "file, rows:\nr (z)",
        "label, batches:\nr (z)",
        "file, batches:\nr (z)",
    ]
    found: dict[tuple[str, str], Findings] = {}
    for of in layouts:
        mixing = table_of(LAYOUTS[of].what, "contestant", *mixing_headings)
        training = table_of(
            f"{LAYOUTS[of].what}: network after {epochs} epochs",
            "contestant",
            "AUC, spread of seeds",
            "to full shuffle, 10⁻³",
            "÷ spread of both",
            "÷ its error",
            caption=f"The best possible classifier has {auc(likelihood_ratio(x), label):.4f}.",
        )
        ideal = results[asked[FULL_SHUFFLE, of]].findings if FULL_SHUFFLE in chosen else None
        for name in chosen:
            result = results[asked[name, of]]
            shown, findings = name, result.findings
            if findings is None:
                console.print(f"{name}, {of}: {escape(result.failure)}")
                mixing.add_row(name, "failed")
                continue
            found[name, of] = findings
            shown += ": in memory" if findings.in_memory else ""
            shown += "" if findings.complete else " (loses or repeats entries)"
            mixing.add_row(shown, *mixing_line(findings, entries))
            if train:
                training.add_row(shown, *training_line(findings, ideal))
        console.print(mixing)
        if train:
            console.print(training)

    budget_table = table_of(
        "rootfeed by its memory, as a share of the rows' bytes",
        "layout",
        "memory",
        "blocks in\nmemory",
        *(heading.replace("mbit", "mbit (formula)") for heading in mixing_headings),
        caption="Formula: 0.5 K(K−1)/n² for K kinds and n blocks in a window; files may have one each.",
    )
    for (of, part), wanted in budgets.items():
        result = results[wanted]
        if (findings := result.findings) is None:
            console.print(f"rootfeed, {part:.0%}, {of}: {escape(result.failure)}")
            budget_table.add_row(of, f"{part:.0%}", "failed")
            continue
        line = mixing_line(findings, entries)
        for i, kinds in enumerate([2, len(SHARES)]):
            line[i] += f" ({1000 * formula(findings.window_blocks, kinds):.1f})"
        budget_table.add_row(of, f"{part:.0%}", f"{findings.window_blocks:.1f}", *line)
    console.print(budget_table)

    if plot:
        draw(plot, found, list(chosen), layouts)
    if json_file:
        record = [
            {"job": asdict(wanted), "findings": asdict(result.findings) if result.findings else None}
            for wanted, result in results.items()
        ]
        json_file.write_text(json.dumps(record))


if __name__ == "__main__":
    typer.run(main)
