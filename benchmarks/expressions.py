"""A cut and five definitions, flat and jagged: rootfeed, RDataFrame, awkward, numexpr.

    python benchmarks/expressions.py

Each contestant reads the same file and gives the same columns of the entries that pass, as arrays in
memory, in a process of its own. The first run, in which everything compiles, has its own column; the
figure is the median of those after it. RDataFrame books a new graph each time, as a user's program does.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from datasets import DEFAULT_FOLDER, TREE, ensure

FLAT_CUT = "f0 > 0.5 && abs(f1) < 1.5"
FLAT = {
    "d0": "sqrt(f0*f0 + f1*f1)",
    "d1": "f2 / (1 + f3*f3)",
    "d2": "atan2(f4, f5)",
    "d3": "f6 > f7 ? f6 : f7",
    "d4": "exp(-f8*f8) + log(1 + f9*f9)",
}
JAGGED_CUT = "nJet >= 2 && Sum(Jet_pt > 30) >= 2"
JAGGED = {
    "ht": "Sum(Jet_pt[Jet_pt > 30 && abs(Jet_eta) < 2.4])",
    "central": "Sum(abs(Jet_eta) < 1.5)",
    "dr": "ROOT::VecOps::DeltaR(Jet_eta[0], Jet_eta[1], Jet_phi[0], Jet_phi[1])",
    "mass": "InvariantMass(Take(Jet_pt, 2), Take(Jet_eta, 2), Take(Jet_phi, 2), Take(Jet_mass, 2))",
    "spread": "Max(Jet_pt) - Min(Jet_pt)",
}
CASES = {"flat": (FLAT_CUT, FLAT), "jagged": (JAGGED_CUT, JAGGED)}

WRITE_JAGGED = """
ROOT.gInterpreter.ProcessLine("gRandom->SetSeed(1);")
frame = ROOT.RDataFrame({entries}).Define("nJet", "(int) gRandom->Poisson(5)")
for name, draw in (
    ("pt", "gRandom->Exp(40)"),
    ("eta", "gRandom->Gaus(0, 1.5)"),
    ("phi", "gRandom->Uniform(-3.14, 3.14)"),
    ("mass", "gRandom->Exp(8)"),
):
    code = f"ROOT::RVecF v(nJet); for (auto &x : v) x = {{draw}}; return v;"
    frame = frame.Define(f"Jet_{{name}}", code)
options = ROOT.RDF.RSnapshotOptions()
options.fCompressionAlgorithm = ROOT.RCompressionSetting.EAlgorithm.kZSTD
options.fCompressionLevel = 5
options.fOutputFormat = ROOT.RDF.ESnapshotOutputFormat.kRNTuple
names = ["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"]
frame.Snapshot("{tree}", "{path}", names, options)
"""


def jagged_file(folder: Path, entries: int) -> Path:
    """Write events with jets, in an RNTuple, unless they are there."""
    path = folder / f"events_{entries}.root"
    if not path.exists():
        partial = path.with_suffix(".partial.root")
        script = "import ROOT\n" + WRITE_JAGGED.format(entries=entries, tree=TREE, path=partial)
        subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
        partial.rename(path)
    return path


Run = Callable[[], Mapping[str, Any]]


def with_rootfeed(path: str, cut: str, definitions: Mapping[str, str]) -> Run:
    import rootfeed as rf

    def run() -> Mapping[str, Any]:
        frame = rf.open(f"{path}:{TREE}").filter(cut)
        for name, text in definitions.items():
            frame = frame.define(name, text)
        return frame.arrays(list(definitions))

    return run


def with_root(path: str, cut: str, definitions: Mapping[str, str], threads: int) -> Run:
    import ROOT

    if threads > 1:
        ROOT.EnableImplicitMT(threads)

    def run() -> Mapping[str, Any]:
        frame = ROOT.RDataFrame(TREE, path).Filter(cut)
        for name, text in definitions.items():
            frame = frame.Define(name, text)
        return frame.AsNumpy(list(definitions))

    return run


def with_awkward(path: str, case: str) -> Run:
    import awkward as ak
    import uproot

    def flat() -> Mapping[str, Any]:
        a = uproot.open(f"{path}:{TREE}").arrays([f"f{i}" for i in range(10)])
        a = a[(a.f0 > 0.5) & (abs(a.f1) < 1.5)]
        return {
            "d0": np.sqrt(a.f0 * a.f0 + a.f1 * a.f1),
            "d1": a.f2 / (1 + a.f3 * a.f3),
            "d2": np.arctan2(a.f4, a.f5),
            "d3": ak.where(a.f6 > a.f7, a.f6, a.f7),
            "d4": np.exp(-a.f8 * a.f8) + np.log(1 + a.f9 * a.f9),
        }

    def jagged() -> Mapping[str, Any]:
        a = uproot.open(f"{path}:{TREE}").arrays(["nJet", "Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass"])
        a = a[(a.nJet >= 2) & (ak.sum(a.Jet_pt > 30, axis=1) >= 2)]
        pt, eta, phi = a.Jet_pt, a.Jet_eta, a.Jet_phi
        dphi = (phi[:, 1] - phi[:, 0] + np.pi) % (2 * np.pi) - np.pi
        pt2, eta2, phi2, mass2 = (a[f"Jet_{name}"][:, :2] for name in ("pt", "eta", "phi", "mass"))
        x, y, z = pt2 * np.cos(phi2), pt2 * np.sin(phi2), pt2 * np.sinh(eta2)
        e = np.sqrt(x * x + y * y + z * z + mass2 * mass2)
        sums = [ak.sum(each, axis=1) for each in (e, x, y, z)]
        return {
            "ht": ak.sum(pt[(pt > 30) & (abs(eta) < 2.4)], axis=1),
            "central": ak.sum(abs(eta) < 1.5, axis=1),
            "dr": np.sqrt((eta[:, 0] - eta[:, 1]) ** 2 + dphi**2),
            "mass": np.sqrt(sums[0] ** 2 - sums[1] ** 2 - sums[2] ** 2 - sums[3] ** 2),
            "spread": ak.max(pt, axis=1) - ak.min(pt, axis=1),
        }

    return {"flat": flat, "jagged": jagged}[case]


def with_numexpr(path: str, case: str) -> Run:
    import numexpr
    import uproot

    if case != "flat":
        raise ValueError("numexpr knows no vectors")

    def run() -> Mapping[str, Any]:
        a = uproot.open(f"{path}:{TREE}").arrays([f"f{i}" for i in range(10)], library="np")
        kept = numexpr.evaluate("(f0 > 0.5) & (abs(f1) < 1.5)", a)
        a = {name: values[kept] for name, values in a.items()}
        texts = dict(FLAT, d2="arctan2(f4, f5)", d3="where(f6 > f7, f6, f7)")
        return {name: numexpr.evaluate(text, a) for name, text in texts.items()}

    return run


def runner(contestant: str, case: str, path: str, threads: int) -> Run:
    cut, definitions = CASES[case]
    if contestant == "rootfeed":
        return with_rootfeed(path, cut, definitions)
    if contestant.startswith("RDataFrame"):
        return with_root(path, cut, definitions, threads if "implicit" in contestant else 1)
    return with_awkward(path, case) if contestant == "awkward" else with_numexpr(path, case)


CONTESTANTS = ["rootfeed", "RDataFrame", "RDataFrame, implicit threads", "awkward", "numexpr"]


def measure(contestant: str, case: str, path: str, repeat: int, threads: int) -> dict[str, Any]:
    run = runner(contestant, case, path, threads)
    seconds = []
    for _ in range(repeat + 1):
        begun = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - begun)
    arrays = {name: np.asarray(values, np.float64) for name, values in found.items()}
    return {
        "first": seconds[0],
        "seconds": statistics.median(seconds[1:]),
        "passed": len(next(iter(arrays.values()))),
        "means": {name: float(values.mean()) for name, values in arrays.items()},
    }


def main(
    entries: Annotated[int, typer.Option(min=1, help="Entries in each file.")] = 3_000_000,
    repeat: Annotated[int, typer.Option(min=1, help="Timed runs after the first.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Of RDataFrame's implicit threads.")] = 2,
    data: Annotated[Path, typer.Option(help="Where the files are, or are written.")] = DEFAULT_FOLDER,
    only: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Time a cut and five definitions."""
    if only:
        contestant, case, path = only.split("|")
        print(json.dumps(measure(contestant, case, path, repeat, threads)))
        return
    console = Console(width=None if sys.stdout.isatty() else 140)
    files = {"flat": ensure("rntuple_zstd", data, entries), "jagged": jagged_file(data, entries)}
    for case, path in files.items():
        found: dict[str, dict[str, Any]] = {}
        for contestant in CONTESTANTS:
            if case == "jagged" and contestant == "numexpr":
                continue
            command = [sys.executable, "-W", "ignore", __file__, "--repeat", str(repeat)]
            command += ["--threads", str(threads), "--only", f"{contestant}|{case}|{path}"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                console.print(f"{contestant}: {done.stderr.strip().splitlines()[-1]}")
                continue
            found[contestant] = json.loads(done.stdout.splitlines()[-1])
        table = Table(title=f"{case}: {entries} entries, {CASES[case][0]}", title_justify="left")
        for column in (
            "contestant",
            "million entries/s",
            "rootfeed is faster by",
            "first run, s",
            "passed",
        ):
            table.add_column(column, justify="left" if column == "contestant" else "right")
        for name in CASES[case][1]:
            table.add_column(f"mean {name}", justify="right")
        for contestant, result in found.items():
            table.add_row(
                contestant,
                f"{entries / result['seconds'] / 1e6:.2f}",
                f"{result['seconds'] / found['rootfeed']['seconds']:.1f}",
                f"{result['first']:.1f}",
                str(result["passed"]),
                *(f"{result['means'][name]:.5g}" for name in CASES[case][1]),
            )
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
