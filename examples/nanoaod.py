"""From a NanoAOD file to batches: the selection of a four-lepton tutorial, and jets as padded arrays.

    python examples/nanoaod.py nano.root

Events with two electrons and two muons are kept; their leading and subleading transverse momenta, the
invariant mass of the two leading muons, and up to 8 jets in the order of their momenta are what a
network would get. Nothing is converted and nothing is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import rootfeed as rf

LEPTONS = {
    "electron_pt": "Electron_pt[0]",
    "electron_pt_2": "Electron_pt[1]",
    "muon_pt": "Muon_pt[0]",
    "muon_pt_2": "Muon_pt[1]",
    "dimuon_mass": (
        "InvariantMass(Take(Muon_pt, 2), Take(Muon_eta, 2), Take(Muon_phi, 2), Take(Muon_mass, 2))"
    ),
}


def select(frame: rf.Frame) -> rf.Frame:
    """The cuts, and what is defined of the events that pass."""
    frame = frame.filter("nElectron >= 2", "two electrons").filter("nMuon >= 2", "two muons")
    for name, expression in LEPTONS.items():
        frame = frame.define(name, expression)
    return frame


def make_loader(frame: rf.Frame, batch_size: int = 64) -> rf.Loader:
    return rf.Loader(
        frame,
        batch_size=batch_size,
        features={
            "leptons": list(LEPTONS),
            "jets": rf.padded(["Jet_pt", "Jet_eta", "Jet_phi"], length=8, sort_by="Jet_pt"),
        },
        seed=1,
    )


def main(
    file: Annotated[Path, typer.Argument(help="A NanoAOD file.")],
    tree: Annotated[str, typer.Option(help="The tree or ntuple in it.")] = "Events",
) -> None:
    """Show the cut flow, what was defined, and the first batch."""
    console = Console()
    frame = select(rf.open(f"{file}:{tree}"))
    print(frame.report())
    print(frame.describe(LEPTONS))
    loader = make_loader(frame)
    console.print(loader)
    for x in loader:
        for name, array in x.items():
            console.print(f"x[{name!r}]: {array.dtype}, shape {array.shape}")
        break


if __name__ == "__main__":
    typer.run(main)
