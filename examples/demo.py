"""Write a toy dataset of ROOT files, train a network straight from the files, show the result.

    python examples/demo.py --events 400000 --epochs 10

The dataset is the TOY of `toy.py`: TTrees and RNTuples side by side. Everything is written into the
folder given by `--output`: `data/*.root`, `roc.png`, `scores.png`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

import rootfeed as rf
import toy
from train import Clock, Curve, Network, Scores, Survey, Training, drain, fit, roc, score, survey

mpl.use("Agg")

FEATURES = [*toy.KINEMATICS.split(), *toy.MASSES.split()]
TEST_SHARE = 0.2
BATCH_SIZE = 1024
FEWEST = 10

# Okabe and Ito's colours, which people of every colour vision tell apart.
COLOURS = {
    "signal": "#000000",
    "background_ww": "#0072B2",
    "background_tt": "#D55E00",
    "background_z": "#009E73",
}
PAIR_COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2")

STYLE = {
    "figure.figsize": (8.0, 5.5),
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
}

console = Console()


def loader_of(specs: Sequence[str], seed: int, memory: str) -> rf.Loader:
    """The loader over some of the dataset's files: `specs` are `file:tree`."""
    return rf.Loader(
        rf.open(list(specs)),
        batch_size=BATCH_SIZE,
        features=FEATURES,
        target="label",
        weights="weight",
        shuffle=True,
        seed=seed,
        memory=memory,
    )


def progress_bar(*columns: str) -> Progress:
    """A progress bar with the task's fields named in `columns` behind it."""
    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in columns]
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *fields,
        TimeRemainingColumn(),
        console=console,
    )


def write_dataset(folder: Path, events: int, seed: int) -> list[toy.ToyFile]:
    """Write the toy's files, or find them written, with a progress bar."""
    files = []
    with progress_bar("file") as bar:
        task = bar.add_task("toy dataset", total=len(toy.processes()), file="")
        for file in toy.write(folder, events, seed):
            files.append(file)
            bar.update(task, advance=1, file=f"{file.path.name} ({file.format})")
    return files


def fit_shown(network: Network, loader: rf.Loader, found: Survey, epochs: int) -> Training:
    """Train with a progress bar of batches, loss and entries per second."""
    with progress_bar("loss", "rate") as bar:
        task = bar.add_task("training", total=epochs * len(loader), loss="", rate="")

        def show(epoch: int, loss: float, clock: Clock) -> None:
            bar.update(
                task,
                advance=1,
                description=f"epoch {epoch + 1}/{epochs}",
                loss=f"loss {loss:.4f}",
                rate=f"{clock.rate / 1e3:.0f} k events/s",
            )

        return fit(network, loader, found.class_scale, epochs, show)


def score_files(
    network: Network, files: Sequence[toy.ToyFile], seed: int, memory: str
) -> dict[str, tuple[Scores, Scores]]:
    """Scores of every process, those of the training and those of the test side.

    An entry's side depends on its file, its number and the seed alone, so that a loader over one
    file splits it as the loader over all of them did.
    """
    out = {}
    for file in files:
        seen, unseen = loader_of([file.spec], seed, memory).split(TEST_SHARE)
        out[file.process] = (score(network, seen), score(network, unseen))
    return out


def with_masses(scores: Scores, masses: tuple[int, int]) -> Scores:
    """The entries that were scored under the hypothesis of these two masses (GeV)."""
    given = scores.features[:, -2:]
    return scores[(given == np.array(masses, dtype=np.float32)).all(axis=1)]


def curve_of(signal: Scores, background: Scores, *, weighted: bool = True) -> Curve:
    """The receiver operating characteristic of a signal among a background."""
    both = Scores.join([signal, background])
    return roc(both.score, both.label, both.weight if weighted else None)


def auc_table(whole: Scores, test: Mapping[str, Scores]) -> tuple[Table, dict[str, Curve]]:
    """The table of areas under the ROC curve, and the curves: all signals, and one by one.

    `whole` is the test side of the whole dataset, `test` that of every process. A signal of given
    masses is compared with the background that was scored under the same hypothesis.
    """
    signals = {process.name: process.masses for process in toy.processes() if process.label == 1}
    backgrounds = [name for name in test if name not in signals]
    table = Table(title="ROC AUC of the test events (toy)", title_justify="left")
    table.add_column("signal (GeV)")
    for title in ("all, weighted", "unweighted", "WW", "tt", "Z"):
        table.add_column(title, justify="right")

    curves = {}
    for name, masses in [("all", None), *signals.items()]:
        given = whole if masses is None else with_masses(whole, masses)
        signal, every = given[given.label], given[~given.label]
        curves[name] = curve_of(signal, every)
        areas = [curves[name], curve_of(signal, every, weighted=False)]
        for key in backgrounds:
            scores = test[key] if masses is None else with_masses(test[key], masses)
            areas.append(curve_of(signal, scores))
        title = "all" if masses is None else "{} → {}".format(*masses)
        table.add_row(title, *(f"{curve.area:.4f}" for curve in areas), end_section=masses is None)
    return table, curves


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG and let go of it."""
    figure.savefig(path)
    plt.close(figure)
    return path


def plot_roc(curves: Mapping[str, Curve], path: Path) -> Path:
    """Background rejection against signal efficiency, all signals together and one by one.

    A curve begins where at least `FEWEST` background entries pass.
    """
    by_name = {process.name: process for process in toy.processes()}
    colours = iter(PAIR_COLOURS)
    figure, axes = plt.subplots()
    for name, curve in curves.items():
        cut = curve.background_entries >= FEWEST
        if name == "all":
            style: dict[str, Any] = {"color": "black", "linewidth": 2.4, "zorder": 3}
            title = f"all signals: {curve.area:.4f}"
        else:
            style = {"color": next(colours), "linewidth": 1.6}
            title = f"{by_name[name].title}: {curve.area:.4f}"
        axes.plot(curve.signal[cut], 1.0 / curve.background[cut], label=title, **style)
    efficiency = np.linspace(0.01, 1.0, 200)
    axes.plot(efficiency, 1.0 / efficiency, color="grey", linestyle=":", label="guessing: 0.5")
    axes.set(
        xlabel="signal efficiency",
        ylabel="background rejection, 1 / background efficiency",
        yscale="log",
        xlim=(0.0, 1.0),
        ylim=(1.0, 1e6),
        title="TOY collisions: parametrized network, test events",
    )
    axes.legend(title="AUC, masses in GeV", ncols=2, loc="upper right")
    return save(figure, path)


def plot_scores(scored: Mapping[str, tuple[Scores, Scores]], path: Path) -> Path:
    """Distributions of the score: test events as lines, training events as points with errors."""
    by_name = {process.name: process for process in toy.processes()}
    signals = [scored[name] for name in scored if by_name[name].label == 1]
    groups = {"signal": tuple(Scores.join(sides) for sides in zip(*signals, strict=True))}
    groups |= {name: scored[name] for name in scored if by_name[name].label == 0}
    edges = np.linspace(0.0, 1.0, 41)
    centres, width = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]

    figure, axes = plt.subplots()
    for name, (seen, unseen) in groups.items():
        colour = COLOURS[name]
        title = "signal, all masses" if name == "signal" else by_name[name].title
        heights, _ = np.histogram(unseen.score, edges, weights=unseen.weight, density=True)
        if name == "signal":
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.12)
        axes.stairs(heights, edges, color=colour, linewidth=1.8, baseline=None, label=title)
        sums, _ = np.histogram(seen.score, edges, weights=seen.weight)
        squares, _ = np.histogram(seen.score, edges, weights=seen.weight**2)
        norm = sums.sum() * width
        some = sums > 0.0
        axes.errorbar(
            centres[some],
            sums[some] / norm,
            yerr=np.sqrt(squares[some]) / norm,
            color=colour,
            fmt="o",
            markersize=3.5,
            linewidth=1.0,
        )
    axes.stairs([], [0.0], color="grey", linewidth=1.8, label="line: test events")
    axes.errorbar(
        [], [], yerr=[], color="grey", fmt="o", markersize=3.5, label="points: training events"
    )
    axes.set(
        xlabel="network score",
        ylabel="density of events, each process normalised to 1",
        yscale="log",
        xlim=(0.0, 1.0),
        title="TOY collisions: score of signal and backgrounds",
    )
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 1e-4), high * 6.0)
    axes.legend(ncols=2)
    return save(figure, path)


def facts_table(
    files: Sequence[toy.ToyFile], settings: str, found: Survey, alone: Clock, training: Training
) -> Table:
    """What was read, with which settings, and how fast."""
    try:
        release = version("rootfeed")
    except PackageNotFoundError:
        release = "source tree"
    formats = [file.format for file in files]
    size = sum(file.path.stat().st_size for file in files)
    entries = sum(file.entries for file in files)
    clock, epochs = training.clock, len(training.losses)
    rows = {
        "dataset": f"{entries:,} events, {len(FEATURES)} features, {size / 1e6:.1f} MB on disk",
        "files": f"{formats.count('TTree')} TTree, {formats.count('RNTuple')} RNTuple",
        "split": f"{found.entries:,} training events, {entries - found.entries:,} test events",
        "rootfeed": f"{release}: {settings}",
        "first pass": f"{found.seconds:.2f} s: standardisation, sums of weights",
        "reading alone": f"{alone.seconds:.2f} s an epoch, {alone.rate:,.0f} events/s",
        "training": f"{clock.seconds:.1f} s for {epochs} epochs, {clock.rate:,.0f} events/s",
        "waiting for data": f"{clock.waited_share:.1%} of the training's time",
        "loss": " → ".join(f"{loss:.4f}" for loss in (training.losses[0], training.losses[-1])),
    }
    table = Table(title="Data and time", title_justify="left", show_header=False)
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def main(
    events: Annotated[int, typer.Option(min=2_000, help="Events in the toy dataset.")] = 400_000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training events.")] = 10,
    output: Annotated[Path, typer.Option(help="Folder for data and plots.")] = Path("demo-output"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of toy, batches and network.")] = 42,
    memory: Annotated[str, typer.Option(help="What rootfeed may hold in memory.")] = "32 MB",
) -> None:
    """Train a network on toy collisions straight from ROOT files, without ROOT."""
    start = time.perf_counter()
    torch.manual_seed(seed)
    # Layers of 60 units are too small to share: on two shared cores one thread was 5 to 15 times
    # faster than two.
    torch.set_num_threads(1)
    files = write_dataset(output / "data", events, seed)

    loader = loader_of([file.spec for file in files], seed, memory)
    train, test = loader.split(TEST_SHARE)
    found = survey(train)
    alone = drain(train)
    network = Network(found.mean, found.std)
    training = fit_shown(network, train, found, epochs)

    scored = score_files(network, files, seed, memory)
    unseen = {name: sides[1] for name, sides in scored.items()}
    table, curves = auc_table(score(network, test), unseen)
    console.print(table)
    kept = "kept in memory" if train.in_memory else "read anew every epoch"
    settings = f"batch_size={BATCH_SIZE}, memory={memory!r}, seed={seed}: {kept}"
    console.print(facts_table(files, settings, found, alone, training))
    plt.style.use(STYLE)
    plots = [plot_roc(curves, output / "roc.png"), plot_scores(scored, output / "scores.png")]
    for path in plots:
        console.print(f"wrote {path}")
    console.print(f"done in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    typer.run(main)
